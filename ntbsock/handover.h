/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handover.h - a direction goes back to TCP: every case that the ring cannot serve
 *
 * The sender of a direction moves it by stating Q; a receiver that must leave asks, stating what it has consumed, and
 * stands still until the peer - its program or its service thread - has answered.
 */
#ifndef NTBSOCK_HANDOVER_H
#define NTBSOCK_HANDOVER_H

#include "sock.h"

/* What we send goes over TCP from here on. */
void ntbs_handover_tx(struct ntbs_sock *sk, int fd, enum ntbs_reason why);
/* Both directions; afterwards the descriptor is good for code that knows nothing of us.  False: bytes of the peer could
 * not be brought back (it is gone, or does not answer). */
bool ntbs_handover_both(struct ntbs_sock *sk, int fd, enum ntbs_reason why);
/* For code that sends without us: what must go by TCP once more goes first.  A while is waited for it. */
void ntbs_handover_await_sent(struct ntbs_sock *sk, int fd);
/*
 * The same for a holder that is not us, or not for long: what could not be brought back a relay has (relay.h), and the
 * descriptor is no longer the socket.
 */
void ntbs_handover_pass(struct ntbs_sock *sk, int fd, enum ntbs_reason why);
/* The same for one that another process has taken, and reads as it is: where bytes cannot be brought back they stay with us. */
void ntbs_handover_taken(struct ntbs_sock *sk, int fd);
/*
 * Both directions of a connection, at their senders' tails: ours now, the other one when its side has taken note.  Nobody
 * stands still: a reader takes what is left in the ring, then TCP.
 */
void ntbs_handover_at_tails(struct ntbs_sock *sk, int fd, enum ntbs_reason why);
void ntbs_handover_drain(const struct ntbs_tuple *tuple);
/*
 * The same for one that the kernel closes at exec, if that succeeds: then there is nobody to state its end.  True: bytes of
 * the ring are unread, and the end is to be a reset.
 */
bool ntbs_handover_to_end(struct ntbs_sock *sk, int fd);
/*
 * Both directions are back on TCP, and nothing that was sent is elsewhere: the socket is the kernel's again, as if it had
 * never been ours.  For who has seen NTBS_DIR_BACK on both sides; takes ctl, tx and the epoll pool's lock.
 */
void ntbs_handover_settle(struct ntbs_sock *sk);
/* Until when an answer is waited for, from now on. */
uint64_t ntbs_handover_until(void);
/* Both directions, for an image that will claim the connection anew if it can.  False: the other side did not let go. */
bool ntbs_handover_for_exec(struct ntbs_sock *sk, int fd, uint64_t until_ns);
/*
 * The broker says that process @proc has gone.  Who had sent his FIN before says nothing more by that: what we send goes by
 * TCP from now on, which knows if another process has the socket or nobody.  The service thread, no lock held.
 */
void ntbs_handover_peer_gone(uint32_t proc);
/* See where the peer's direction is, and settle.  No lock held. */
void ntbs_handover_look(struct ntbs_sock *sk);
/*
 * Before the end is stated of one that nobody else holds, while other threads may be sending: what they have sent until the
 * process is gone goes by TCP, and lies before the kernel's FIN.
 */
void ntbs_handover_before_exit(struct ntbs_sock *sk, int fd);
/*
 * Every socket that an image started now would inherit; @dupped says which it gets although they are close-on-exec.  @stays:
 * this one goes on beside it.
 */
void ntbs_handover_before_exec(bool stays, bool (*dupped)(int fd));
/*
 * A seccomp filter is about to take effect: everything goes back to the kernel, and the library does nothing any more in
 * this process, since it cannot know which of its system calls the filter punishes with death.
 */
void ntbs_handover_before_sandbox(void);

#endif
