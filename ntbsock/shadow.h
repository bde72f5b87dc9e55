/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shadow.h - the kernel TCP connection behind a stream: counts, bytes, FIN, RST
 *
 * How many bytes a direction has carried over TCP is always the kernel's word, never our own count, so that a write or
 * read by anybody else is not missed.
 */
#ifndef NTBSOCK_SHADOW_H
#define NTBSOCK_SHADOW_H

#include <stdbool.h>
#include <stdint.h>
#include "iter.h"
#include "sleep.h"

struct ntbs_shadow_info {
	uint8_t state;			/* TCP_ESTABLISHED ... */
	uint64_t bytes_acked, bytes_received;
	bool heard;			/* segments have come; always, if the kernel does not say (before Linux 4.2) */
};

int ntbs_shadow_info(int fd, struct ntbs_shadow_info *info);

/* W: bytes that this end has handed to TCP so far.  @connected: connect() made the socket.  0 or -errno. */
int ntbs_shadow_sent(int fd, bool connected, uint64_t *bytes);
/*
 * Bytes that have been read from TCP so far, FIN not counted.  0 or -errno.  @closed: TCP is through with the socket, by
 * FINs or by a reset, and does not say which: a FIN may be counted.
 */
int ntbs_shadow_read(int fd, uint64_t *bytes, bool *closed);
/* Bytes that have come from TCP so far, FIN not counted.  0 or -errno. */
int ntbs_shadow_came(int fd, uint64_t *bytes);
/* connect() to AF_UNSPEC has ended it, in whatever process. */
bool ntbs_shadow_dissolved(int fd);
/* All is over, both ways. */
bool ntbs_shadow_closed(int fd);
/* A reset has ended it, and no FIN came before that. */
bool ntbs_shadow_was_reset(int fd);
/* The peer has ended, by a FIN or a reset.  Behind an end of our own neither poll() nor a read tells that. */
bool ntbs_shadow_peer_ended(int fd);
/* What went either way since the beginning, in whatever state, for the counters.  0 or -errno. */
int ntbs_shadow_count(int fd, bool connected, uint64_t *sent, uint64_t *received);
/* Bytes that can be read now. */
void ntbs_shadow_inq(int fd, int *bytes);
/*
 * Bytes between what has been read and what has come.  SIOCINQ stops at an urgent mark, read or not; the hint that comes
 * with TCP_ZEROCOPY_RECEIVE does not, and is there while less than a page waits (the call has nothing to map, then).  A FIN
 * behind them counts as one.
 */
int ntbs_shadow_unread(int fd, int *bytes);
/* Bytes that can be read now; an urgent one that is next does not hide those behind it. */
int ntbs_shadow_arrived(int fd);
/* The next byte of TCP is an urgent one: no read goes past it that has got something. */
bool ntbs_shadow_at_mark(int fd);
/* There is an urgent byte to be read apart. */
bool ntbs_shadow_has_urgent(int fd);
/* SO_COOKIE; 0 if it is no socket. */
uint64_t ntbs_shadow_cookie(int fd);
/* Of @unread bytes, does a look end behind the first @bytes?  At an urgent byte that is in the stream (SO_OOBINLINE). */
bool ntbs_shadow_look_ends(int fd, size_t bytes, int unread);
/* It is, and behind it nothing comes any more: who is told of the end passes it. */
void ntbs_shadow_pass_urgent(int fd);
/*
 * Bytes that who has got something already can read now.  The kernel knows only what its own call has got (tcp_recvmsg_locked()),
 * and passes an urgent byte that is next for who takes more than these.
 */
size_t ntbs_shadow_before_mark(int fd);
/* What waits in the kernel for Nagle or a cork goes out now; the program's options are as before. */
void ntbs_shadow_push(int fd);

/* Never blocks, no signal; count or -errno.  recv: at most @max bytes, up to an urgent one that is not the first. */
ssize_t ntbs_shadow_send(int fd, struct ntbs_iter *it, int flags);
/* The rest, and the kernel waits for room; as ntbs_sleep(). */
ssize_t ntbs_shadow_send_rest(int fd, struct ntbs_iter *it, int flags, const struct ntbs_sig_mark *mark);
ssize_t ntbs_shadow_recv(int fd, struct ntbs_iter *it, size_t max, int flags);
bool ntbs_shadow_async(int fd);		/* O_ASYNC */
/* The rest, with MSG_WAITALL: the kernel waits for it, as ntbs_sleep().  @whole: it has come, as far as one call can ask for it. */
ssize_t ntbs_shadow_recv_rest(int fd, struct ntbs_iter *it, int flags, const struct ntbs_sig_mark *mark, bool *whole);

/* MSG_PEEK from @skip bytes behind the first one on; -EAGAIN: nothing there. */
ssize_t ntbs_shadow_peek(int fd, struct ntbs_iter *it, size_t skip, int flags);

/* POLL* bits that hold now. */
short ntbs_shadow_poll(int fd, short events);
/* The connection has ended with an error that the kernel still has to tell. */
bool ntbs_shadow_broken(int fd);
/* The kernel's view of the end: 0 FIN, -EAGAIN open and nothing there, 1 bytes are there, -errno. */
int ntbs_shadow_end(int fd);

#endif
