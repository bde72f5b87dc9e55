/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sock.h - the object behind a descriptor
 *
 * Two halves.  struct ntbs_sock_shm is the open file description: shared by all processes that hold it, in memory that
 * fork inherits (a state pool).  struct ntbs_sock is one process's view of it: mapped addresses, epoll memberships.
 * Both come from pools that are never unmapped, and are used again: whoever looked one up without a reference finds
 * out under the direction's lock whether it is still the one he meant (ntbs_call_current()).  So the fast path takes no
 * reference; whoever sleeps does.
 *
 * Stages, forward only:
 *   PLAIN   kernel TCP, and will stay so; the reason is kept
 *   NEW     a TCP socket of which nothing is known yet (not connected)
 *   OFFER   connected; offered and not claimed, or accepted and not claimed.  All bytes are on TCP, calls do not
 *           block in the kernel on the shadow alone
 *   LIVE    both ends hold the lease; each direction is where its state says
 *   (LIVE, both directions BACK: as PLAIN, but for what is left to read)
 *
 * A connection that comes back to TCP and moves to the ring once more does so in another object, again.c: whoever still
 * holds the one that it has left finds under any of its locks that it is not the descriptor's any more.
 *
 * Locks, in the order in which they nest: ctl (stage, offer, addresses), tx, rx, arm.  All are in shared memory, held
 * for the length of a copy at most, never over a wait.
 */
#ifndef NTBSOCK_SOCK_H
#define NTBSOCK_SOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <ntbsock/abi_broker.h>
#include <ntbsock/abi_state.h>
#include "barrier.h"
#include "lock.h"
#include "msgq.h"

/* What of @shadow_ev concerns a sender: bytes that wait on TCP for a reader are none of its business. */
#define NTBS_SHADOW_END (POLLRDHUP | POLLHUP | POLLERR)

enum ntbs_stage { NTBS_PLAIN, NTBS_OFFER, NTBS_LIVE, NTBS_NEW };

#define NTBS_SK_NONBLOCK (1u << 0)	/* O_NONBLOCK of the description */
#define NTBS_SK_CONNECTED (1u << 1)	/* connect() made it (its SYN counts in tcpi_bytes_acked) */
#define NTBS_SK_CONNECTING (1u << 2)	/* connect() is under way */
#define NTBS_SK_SHUT_WR (1u << 3)
#define NTBS_SK_SHUT_RD (1u << 4)
#define NTBS_SK_NO_SWITCH (1u << 5)	/* something was done that ties it to TCP: no new move to the ring */
#define NTBS_SK_LISTEN (1u << 6)
#define NTBS_SK_WANT_TCP (1u << 7)	/* we have asked for TCP: reading stands still until Q is known */
#define NTBS_SK_RESET (1u << 8)		/* corrupt or lost: every call fails with ECONNRESET */
#define NTBS_SK_LINGER0 (1u << 9)	/* SO_LINGER of zero seconds: close() resets */
#define NTBS_SK_SETTLED (1u << 10)	/* PLAIN, after both directions were on the ring and went back */
#define NTBS_SK_OWED (1u << 11)		/* @owed is a send's as well, though the connection lives */
#define NTBS_SK_DIED (1u << 12)		/* the peer was killed and left bytes of ours unread: seen, told as @owed */
#define NTBS_SK_AGAIN (1u << 13)	/* the connection has been on the ring before, in an object that it has left */
#define NTBS_SK_PASSED (1u << 14)	/* others that we do not know may hold it: its end is what the kernel says */
#define NTBS_SK_STAMPS (1u << 15)	/* time stamps were asked for while bytes were in the ring */
#define NTBS_SK_FIN_LATER (1u << 16)	/* shut for writing; the kernel is told when what is to go once more by TCP has gone */
#define NTBS_SK_USER_TIMEOUT (1u << 17)	/* TCP_USER_TIMEOUT: a wait for room ends, which only the kernel can do */

#define NTBS_SK_WHO 6			/* processes that hold one socket and are known by name (holders.h) */

struct ntbs_dir_tx_shm {
	struct ntbs_lock lock;
	uint32_t state;			/* enum ntbs_dir_state: ntbs_sock_tx_state() */
	uint64_t w;			/* RING: bytes that went over TCP before the switch */
	uint64_t q;			/* what was stated, + 1; 0: nothing was */
	uint64_t rung;			/* armed word that the peer was last rung for */
	uint64_t replay;		/* bytes from the tail back that still have to go over TCP (Q behind the tail) */
	uint32_t sends_checked;		/* while nobody watches the shadow */
	uint32_t shadow_asked;		/* shadow_ev when it was last asked whether the peer lives */
	struct ntbs_msgq_tx_shm mq;
};

struct ntbs_dir_rx_shm {
	struct ntbs_lock lock;
	uint32_t state;			/* ntbs_sock_rx_state() */
	uint64_t tcp_left;		/* DRAIN: bytes still to come from TCP */
	uint64_t w;			/* what the switch said, + 1; 0: there was none */
	uint32_t twice;			/* BACK: so many bytes of TCP were the last ones of the ring, and are still to be dropped */
	uint32_t empty_looks;		/* looks at nothing while nobody watches the shadow */
	uint64_t torn_seq;		/* message that was not whole when it was last looked at, + 1 */
	uint64_t torn_ns;		/* since when */
	uint64_t torn_asked_ns;		/* since when TCP is waited for, in its place; 0: not yet */
	uint32_t torn_wants;		/* NTBS_SK_WANT_TCP is for it */
	struct ntbs_msgq_rx_shm mq;
};

struct ntbs_sock_shm {
	struct ntbs_conn_shm conn;		/* what ntbsock-ctl sees; stage, reason and states are its copies */
	alignas(64) struct ntbs_lock ctl;
	_Atomic uint32_t flags;			/* NTBS_SK_* */
	_Atomic uint32_t stage;			/* enum ntbs_stage */
	_Atomic int32_t holders;		/* processes */
	_Atomic uint32_t who[NTBS_SK_WHO];	/* which, as many as have room; 0: free */
	_Atomic int owed;			/* an error that came to a call that had moved bytes: the next call's;
						 * negative: the kernel has it, and does not tell a read */
	_Atomic uint32_t dissolved;		/* counts connect() to AF_UNSPEC: who waits meanwhile gets EPIPE */
	_Atomic uint32_t stirred;		/* ntbs_sock_stir() */
	_Atomic uint32_t tcp_readers;		/* who wait where TCP has a say: on the process's mbox */
	_Atomic uint32_t shadow_ev;		/* POLL* bits that the shadow has shown and nobody has used up */
	uint64_t rcvtimeo_ns, sndtimeo_ns;	/* 0: none */
	uint32_t rcvlowat;
	uint32_t sndbuf, rcvbuf;		/* 0: the program has not set it; changed under ctl */
	uint32_t generation, lease;
	uint64_t chan;
	uint64_t netns;
	/* OFFER: where it lies (connecting), what we have asked for (accepting) */
	uint32_t entry;
	uint64_t offer_word;
	uint64_t offered_ns;			/* accepting side: since when an offer that is to come is waited for, 0 none is */
	_Atomic uint32_t offer_calls;		/* calls that moved bytes while nobody claimed */
	uint32_t held;				/* where a bulk send stands back next: ntbs_offer_hold(); under the tx lock */
	_Atomic uint64_t held_until_ns;		/* connecting side: offer_held.c; 0: it is not held back */
	_Atomic uint32_t offer_forked;		/* accepting side: the same, while other processes held it too */
	_Atomic uint32_t claim_asked;		/* accepting side: 1 claimed, not confirmed */
	_Atomic uint32_t claim_waits;		/* accepting side: for a channel that the broker has been asked for (far.h) */
	_Atomic uint64_t end_asked_ns;		/* when the peer's broker was asked, ntbs_far_ended(); 0: not yet */
	struct ntbs_lock arm;
	uint32_t arm_count;
	_Atomic uint32_t sleepers;		/* on the futex */
	_Atomic uint32_t mbox_mask;		/* mboxes that sets with this socket sleep on */

	alignas(64) struct ntbs_dir_tx_shm tx;
	alignas(64) struct ntbs_dir_rx_shm rx;
};

struct ntbs_board;
struct ntbs_chan;
struct ntbs_epm;

enum ntbs_file_kind { NTBS_FILE_SOCK = 1, NTBS_FILE_EPOLL };
struct ntbs_file {			/* what the descriptor table points at */
	enum ntbs_file_kind kind;
	_Atomic int32_t refs;		/* descriptors of this process, and calls that sleep */
	_Atomic int32_t fds;		/* descriptors alone; changed under the table's lock */
};

struct ntbs_sock {
	struct ntbs_file file;
	struct ntbs_sock_shm *shm;
	struct ntbs_msgq q;		/* LIVE: filled in by ntbs_sock_attach(), once a process */
	struct ntbs_msgq_held *held;	/* for @q over a port; stays with the object */
	_Atomic uint32_t attached;
	struct ntbs_board *_Atomic board;	/* OFFER: where the entry lies */
	struct ntbs_chan *_Atomic chan;
	_Atomic int fd;			/* one of the descriptors, for the service thread */
	_Atomic int calls;		/* that wait, or have waited: ntbs_call_pin() */
	_Atomic int kept;		/* descriptor that is left for them alone: ntbs_fdtab_leave(); changed under the table's lock */
	_Atomic uint32_t serial;	/* differs for each use of the object */
	_Atomic bool in_use;		/* not taken again before we are done with it, be the entry free: others of the family may be quicker */
	_Atomic bool last;		/* no other process held it when our last descriptor went: we count it */
	bool counted_out;		/* an exec is under way: we are not among the holders */
	bool exits;			/* at exit: its end has been stated, and we are its last holder */
	bool resets_at_exec;		/* the same: SO_LINGER is not the program's, which is @linger */
	struct linger linger;
	uint8_t moves;			/* how many objects the connection has left */
	struct ntbs_sock *_Atomic after;	/* the object that its descriptors mean now, if the connection has left it */
	struct ntbs_sock *before;	/* the one that it was in: goes with us, since others may still look at its memory */
	_Atomic uint32_t awaits;	/* OFFER, accepted from another host: the broker is to be told before somebody sleeps */
	_Atomic uint32_t slept_on;	/* somebody sleeps, or will, who has armed nothing: NEW his thread, or several; OFFER, accepted: 1 */
	_Atomic uint32_t watched;	/* the service thread watches the shadow */
	struct ntbs_epm *_Atomic members;	/* memberships of epoll sets; changed under the epoll lock */
	struct ntbs_counters tx, rx;	/* of this process */
};

/* ---- pool and life (sock.c) ---- */
struct ntbs_sock *ntbs_sock_new(int fd, uint32_t flags, enum ntbs_stage stage);
struct ntbs_sock *ntbs_sock_by_index(uint32_t index);
uint32_t ntbs_sock_index(const struct ntbs_sock *sk);
/* The last descriptor of this process is about to be closed (or the process to end). */
void ntbs_sock_last_close(struct ntbs_sock *sk, int fd);
/* connect() to AF_UNSPEC: the connection ends with a reset, the descriptor goes on as plain TCP. */
void ntbs_sock_dissolve(struct ntbs_sock *sk);
void ntbs_sock_free(struct ntbs_sock *sk);
/*
 * Nobody holds it any more.  Of several who see that at once, one is told to give back what it had: true, and then
 * conn.used is his to set to 0.  @used: what it was as long as somebody held it.
 */
bool ntbs_sock_goes(struct ntbs_sock_shm *shm, uint32_t used);
void ntbs_sock_get(struct ntbs_sock *sk);
/* For who has found it by index: false if it is on its way out. */
bool ntbs_sock_try_get(struct ntbs_sock *sk);
void ntbs_sock_put(struct ntbs_sock *sk);
void ntbs_sock_fork_prepare(void);
void ntbs_sock_fork_parent(void);
void ntbs_sock_fork_child(void);
/* The pool's lock, which fork holds: no socket comes, and no process gets another's. */
void ntbs_sock_pool_lock(void);
void ntbs_sock_pool_unlock(void);
/* Every socket of this process, for exit and the like.  @fn has no reference, only the knowledge that there was one. */
void ntbs_sock_for_each(void (*fn)(struct ntbs_sock *sk, void *arg), void *arg);

/*
 * Where the connection of @sk is now, if it has left it.  Who changes something of a socket changes it first and asks
 * then, and goes on with the answer: what comes too late for the object that the connection leaves is in the next.
 */
static inline struct ntbs_sock *ntbs_sock_after(struct ntbs_sock *sk)
{
	atomic_thread_fence(memory_order_seq_cst);
	return atomic_load(&sk->after);
}

/* Messages of one kind up to @now: what is new goes into the socket's counter and the process's. */
static inline void ntbs_count(uint64_t *shared, uint64_t *own, uint64_t now)
{
	if (now != ntbs_read_once(*shared)) {
		ntbs_bump(*own, now - *shared);
		ntbs_write_once(*shared, now);
	}
}

static inline enum ntbs_stage ntbs_sock_stage(const struct ntbs_sock *sk)
{
	return atomic_load_explicit(&sk->shm->stage, memory_order_acquire);
}
static inline uint32_t ntbs_sock_flags(const struct ntbs_sock *sk)
{
	return atomic_load_explicit(&sk->shm->flags, memory_order_relaxed);
}
/* Its end is stated in the ring, now or as long as others may read there. */
static inline bool ntbs_sock_ends_ours(const struct ntbs_sock *sk)
{
	return ntbs_sock_stage(sk) == NTBS_LIVE || (ntbs_sock_flags(sk) & NTBS_SK_SETTLED);
}
/* Others that get it must find all of it on TCP. */
static inline bool ntbs_sock_to_hand_over(const struct ntbs_sock *sk)
{
	return ntbs_sock_stage(sk) != NTBS_PLAIN || ntbs_sock_ends_ours(sk);
}
static inline bool ntbs_r_is_reset(uint32_t rstate)
{
	return rstate == NTBS_R_RESET || rstate == NTBS_R_ABORT;
}
/* The peer has closed; one that has only shut down is still there. */
static inline bool ntbs_inbox_peer_closed(const struct ntbs_inbox_shm *in)
{
	uint32_t r = ntbs_le32_read_acquire(&in->rstate);

	return r == NTBS_R_CLOSED || ntbs_r_is_reset(r);
}
/* What we say of our reading end. */
static inline void ntbs_sock_state_rstate(struct ntbs_sock *sk, enum ntbs_rstate r)
{
	if (sk->q.copy)
		ntbs_le32_write(&sk->q.copy->rstate, r);
	ntbs_window_store32(sk->q.port, &sk->q.out->rstate, r);
}
static inline uint32_t ntbs_sock_stated_rstate(const struct ntbs_sock *sk)
{
	return ntbs_le32_read(sk->q.copy ? &sk->q.copy->rstate : &sk->q.out->rstate);
}
/* LIVE, and its peer is on a host with which no memory is shared. */
static inline bool ntbs_sock_far(const struct ntbs_sock *sk)
{
	return sk->q.copy;
}
/* Where a direction is; who does not hold its lock learns where it was a moment ago. */
static inline enum ntbs_dir_state ntbs_sock_tx_state(const struct ntbs_sock *sk)
{
	return __atomic_load_n(&sk->shm->tx.state, __ATOMIC_ACQUIRE);
}
static inline enum ntbs_dir_state ntbs_sock_rx_state(const struct ntbs_sock *sk)
{
	return __atomic_load_n(&sk->shm->rx.state, __ATOMIC_ACQUIRE);
}
static inline void ntbs_sock_set_tx_state(struct ntbs_sock *sk, enum ntbs_dir_state state)
{
	__atomic_store_n(&sk->shm->tx.state, state, __ATOMIC_RELEASE);
	ntbs_write_once(sk->shm->conn.tx_state, state);
}
static inline void ntbs_sock_set_rx_state(struct ntbs_sock *sk, enum ntbs_dir_state state)
{
	__atomic_store_n(&sk->shm->rx.state, state, __ATOMIC_RELEASE);
	ntbs_write_once(sk->shm->conn.rx_state, state);
}
/* It stands for what the kernel would keep with the socket (sk_err), where a later error takes the place of an older one. */
int ntbs_sock_owed(struct ntbs_sock *sk);
static inline int ntbs_sock_take_owed(struct ntbs_sock *sk)
{
	return atomic_load_explicit(&sk->shm->owed, memory_order_relaxed) ? ntbs_sock_owed(sk) : 0;
}
/* The kernel has just said @err of SO_ERROR: what is to be told? */
static inline int ntbs_sock_error(struct ntbs_sock *sk, int err)
{
	int owed = ntbs_sock_take_owed(sk);

	return err ? err : owed;
}
static inline void ntbs_sock_set_flag(struct ntbs_sock *sk, uint32_t flag)
{
	atomic_fetch_or_explicit(&sk->shm->flags, flag, memory_order_relaxed);
}
static inline void ntbs_sock_clear_flag(struct ntbs_sock *sk, uint32_t flag)
{
	atomic_fetch_and_explicit(&sk->shm->flags, ~flag, memory_order_relaxed);
}

/* What the program has set or cleared. */
static inline void ntbs_sock_note_flag(struct ntbs_sock *sk, uint32_t flag, bool on)
{
	for (; sk; sk = ntbs_sock_after(sk))
		if (on)
			ntbs_sock_set_flag(sk, flag);
		else
			ntbs_sock_clear_flag(sk, flag);
}

/* The locks of the directions.  half_done.c: what a dead owner was doing is finished first. */
void ntbs_half_done_tx(struct ntbs_sock *sk);
void ntbs_half_done_rx(struct ntbs_sock *sk);
static inline void ntbs_sock_lock_tx(struct ntbs_sock *sk)
{
	if (__builtin_expect(ntbs_lock(&sk->shm->tx.lock), 0))
		ntbs_half_done_tx(sk);
}
static inline void ntbs_sock_lock_rx(struct ntbs_sock *sk)
{
	if (__builtin_expect(ntbs_lock(&sk->shm->rx.lock), 0))
		ntbs_half_done_rx(sk);
}

/* OFFER or NEW -> PLAIN, with the reason; a LIVE one is not touched. */
void ntbs_sock_plain(struct ntbs_sock *sk, enum ntbs_reason why);

/* The stage, and the copy that ntbsock-ctl sees. */
void ntbs_sock_set_stage(struct ntbs_sock *sk, enum ntbs_stage stage, enum ntbs_reason why);

/* ---- between two tries (sock_wait.c); no lock held, but a reference: ntbs_call_pin() ---- */
struct ntbs_wait;
/* Until there may be bytes (@rx) or room, on the ring or on TCP; 0, -EINTR, -ETIMEDOUT. */
int ntbs_sock_wait(struct ntbs_sock *sk, int fd, bool rx, const struct ntbs_wait *w);
bool ntbs_sock_await_credit(struct ntbs_sock *sk);
/*
 * It has become PLAIN under a send: the rest is the kernel's to send and to wait with, who raises no SIGIO for the room that
 * a call of its own waits for (sk_stream_wait_memory()).  Bytes, or -errno.
 */
ssize_t ntbs_sock_send_rest(struct ntbs_sock *sk, int fd, struct ntbs_iter *it, int flags, const struct ntbs_wait *w);
/*
 * What wakes all who wait for bytes in the kernel though none has come: shutdown() (inet_shutdown()), a low-water mark that is
 * reached (tcp_set_rcvlowat()).  Who is awake takes what there is, be it below his mark.
 */
void ntbs_sock_stir(struct ntbs_sock *sk);

/* ---- data path (sock_recv.c, sock_send.c, sock_msg.c); fd is one of sk's descriptors; results: count or -errno ---- */
ssize_t ntbs_sock_recv(struct ntbs_sock *sk, int fd, const struct iovec *iov, int cnt, int flags);
/* What a call that sends finds owed, as it tells it: 0 or -errno. */
ssize_t ntbs_sock_send_owed(struct ntbs_sock *sk, int flags);
ssize_t ntbs_sock_send(struct ntbs_sock *sk, int fd, const struct iovec *iov, int cnt, int flags);
/*
 * The kernel is about to send for the program what we cannot.  Our direction goes to TCP, and what of the ring must go there once
 * more goes first: waited for as the call would wait for room.  0, or -errno for the call, -ENTBS_STALE.
 */
ssize_t ntbs_sock_to_kernel(struct ntbs_sock *sk, int fd, int flags);
/* Nothing comes any more but from TCP, and all that a receiver can be told is the kernel's: it may do the call. */
bool ntbs_sock_kernel_alone(struct ntbs_sock *sk);
ssize_t ntbs_sock_recvmsg(struct ntbs_sock *sk, int fd, struct msghdr *msg, int flags);
ssize_t ntbs_sock_sendmsg(struct ntbs_sock *sk, int fd, const struct msghdr *msg, int flags);
/* @msg is for another socket; a descriptor of ours in it travels to another process: it goes as plain TCP. */
void ntbs_sock_pass_in(const struct msghdr *msg);
/* From @fd into the pipe @out, for whose room it waits unless @nonblock; -ENTBS_PASS. */
ssize_t ntbs_sock_splice(int fd, int out, size_t len, bool nonblock);
/* -ENTBS_PASS: nothing of ours, make the kernel's call. */
#define ENTBS_PASS 4000
/*
 * Flags for ntbs_sock_recvmsg(), of recvmmsg(): no handler lets the call begin again once its first message has been received,
 * and one that has run since the first was waited for ends the wait for a later one.  The kernel has these bits for its own
 * senders; to a receiver of the program's they mean nothing.
 */
#define NTBS_MSG_FIRST 0x20000
#define NTBS_MSG_LATER 0x40000
/* Of splice(), with MSG_PEEK: ends at an urgent byte, with 0 if it would wait. */
#define NTBS_MSG_SPLICE 0x80000
/* For ntbs_stream_recv(): the call has taken bytes before, so it takes none that is urgent, nor any behind it. */
#define NTBS_MSG_IN_HAND 0x100000
/* A later one is the kernel's to receive: what it says, or -ENTBS_PASS. */
ssize_t ntbs_sock_later_by_kernel(struct ntbs_sock *sk, int fd, struct msghdr *msg, int flags);
/* The first message is about to be received. */
void ntbs_sock_first_message(void);
/* sk is no longer what fd means: look it up again. */
#define ENTBS_STALE 4001

/* ---- stream (stream_tx.c, stream_rx.c): one try, lock held, no waiting ---- */
ssize_t ntbs_stream_send(struct ntbs_sock *sk, int fd, struct ntbs_iter *it, int flags, bool may_wait);
/* @limit: most bytes to take from TCP while no switch has been seen - what was there before the look for one, so that
 * bytes of a later return to TCP are not taken for older ones. */
ssize_t ntbs_stream_recv(struct ntbs_sock *sk, int fd, struct ntbs_iter *it, int flags, size_t limit, bool *acked);
/* The queue and the peer learn how large the program wants the socket's buffers; nobody is woken.  ctl lock held. */
void ntbs_stream_state_bufs(struct ntbs_sock *sk);
/* Our direction moves to the ring, if it can: tx lock held. */
void ntbs_stream_switch_tx(struct ntbs_sock *sk, int fd);
/* Say where what we send ends: tx lock held, before the kernel's FIN. */
void ntbs_stream_state_final(struct ntbs_sock *sk);
/* Our direction moves to TCP at the tail, or a byte before it if the peer has not read all: tx lock held. */
void ntbs_stream_leave_tx(struct ntbs_sock *sk, int fd, enum ntbs_reason why);
/* There is no room in the ring.  True: TCP is to decide for how long, and the direction has gone there.  tx lock held. */
bool ntbs_stream_full(struct ntbs_sock *sk, int fd);
/* The peer has asked for TCP from position @from on: tx lock held.  Return 0, or -EAGAIN: bytes are left to replay. */
int ntbs_stream_answer(struct ntbs_sock *sk, int fd, uint64_t from);
int ntbs_stream_replay(struct ntbs_sock *sk, int fd);
/* A call is told that there is no room: whoever is told of edges is told when there is.  tx lock held. */
void ntbs_stream_stalled(struct ntbs_sock *sk);
/* It is shut for writing, and bytes are left to replay: the kernel's FIN is sent behind them.  tx lock held. */
bool ntbs_stream_fin_later(struct ntbs_sock *sk, int fd);
/* See what the other side has stated (SWITCH, Q, final): rx lock held. */
int ntbs_stream_rx_look(struct ntbs_sock *sk, int fd);
/* Is the next thing to be told an error?  Told to who has bytes in his hands it would be lost to the next holder. */
bool ntbs_stream_error_next(struct ntbs_sock *sk, int fd);
/* Nothing of the ring is left, nor will come: from here on it is the kernel's.  rx lock held. */
void ntbs_stream_rx_back(struct ntbs_sock *sk);
ssize_t ntbs_stream_avail(struct ntbs_sock *sk, int fd);
/*
 * The shadow shows a FIN: was the peer killed with bytes of ours unread?  TCP would have shown a reset.  Then the shadow is
 * reset as well, and ECONNRESET is owed.  Any lock or none.
 */
bool ntbs_stream_died(struct ntbs_sock *sk, int fd);
/* The same before others get the socket: the kernel keeps it for the first who asks.  @tell: a read of ours is one. */
void ntbs_stream_died_for_others(struct ntbs_sock *sk, int fd, bool tell);

/*
 * The shadow shows a FIN, and no end was stated.  Over a port that may be because the words are still under way: true as
 * long as nobody can say.  After a while it is a reset.  No lock, or any but ctl.
 */
bool ntbs_stream_end_unknown(struct ntbs_sock *sk);

/* ---- readiness (sock_poll.c) ---- */
/*
 * POLLIN, POLLOUT, POLLRDHUP, POLLHUP, POLLERR, POLLPRI that hold now.  @ask: the kernel may be asked.  @wanted: room in the
 * ring, which takes the sender's lock to see, is looked for only if POLLOUT is among them.
 */
short ntbs_sock_ready(struct ntbs_sock *sk, int fd, uint32_t wanted, bool ask);

/* ---- attach (offer.c) ---- */
/* Fill in q of a LIVE socket in this process; false: its memory is not here. */
bool ntbs_sock_attach(struct ntbs_sock *sk);

#endif
