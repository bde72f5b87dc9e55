/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sock_call.h - what sock_recv.c and sock_send.c have in common: the beginning of a call, and how it waits
 *
 * Each makes one try under the lock of the direction (stream_*.c), and between tries waits without it (sock_wait.c).
 */
#ifndef NTBSOCK_SOCK_CALL_H
#define NTBSOCK_SOCK_CALL_H

#include <limits.h>
#include <sys/uio.h>

#include "fdtab.h"
#include "shadow.h"
#include "sock.h"
#include "wait.h"

/* What a step of a call that goes round says comes next. */
enum next { GO_ON, AGAIN, WAIT, DONE };

/*
 * connect() has ended the connection under a call that waited (sk_wait_event() in net/sock.h, sk_disconnects).  Of a process
 * that was given the socket the kernel tells it.
 */
static inline bool ntbs_call_dissolved(const struct ntbs_sock *sk, int fd, const struct ntbs_wait *w)
{
	if (__builtin_expect(ntbs_sock_flags(sk) & NTBS_SK_PASSED, 0) && ntbs_shadow_dissolved(fd))
		return true;
	return __builtin_expect(atomic_load(&sk->shm->dissolved) != w->dissolved, 0);
}

/*
 * Then the kernel does it in a moment, and only then says what there is to be said.  Not waited for for ever: the socket may be
 * connected anew by then.
 */
void ntbs_call_until_dissolved(int fd, const struct ntbs_wait *w);

/* At the beginning of each call, so no more than must be then. */
static inline void ntbs_call_begin(struct ntbs_wait *w)
{
	w->mark = ntbs_sig_mark();
	w->deadline_ns = 0;
	w->urgent = false;
}

/*
 * A call with a time limit (SO_RCVTIMEO, SO_SNDTIMEO) is never restarted, nor one that has moved bytes or messages: that one
 * ends by any handler.  A handler stands for the signal that the kernel would see as long as the call is in it: one that has
 * run counts until the call waits anew with nothing in its hands, which is where the kernel begins it again: true if it does.
 */
bool ntbs_call_how_long(struct ntbs_wait *w, const struct ntbs_sock *sk, uint64_t timeo_ns, bool moved, int flags);

#define NTBS_MAX_RW ((size_t)0x7ffff000)	/* MAX_RW_COUNT of the kernel, with its pages of 4096 bytes */

/* What one call moves at most, as in the kernel.  False: there is a length that the kernel refuses, or clips by itself. */
static inline bool ntbs_call_total(const struct iovec *iov, int cnt, size_t *len)
{
	if (__builtin_expect(cnt == 1 && iov->iov_len <= NTBS_MAX_RW, 1)) {
		*len = iov->iov_len;
		return true;
	}
	*len = 0;
	for (int i = 0; i < cnt; i++) {
		if (iov[i].iov_len > SSIZE_MAX)
			return false;
		*len += iov[i].iov_len < NTBS_MAX_RW - *len ? iov[i].iov_len : NTBS_MAX_RW - *len;
	}
	return true;
}

/* Under the lock: is it still what the caller's descriptor means? */
static inline bool ntbs_call_current(const struct ntbs_sock *sk, int fd)
{
	return ntbs_fdtab_peek(fd) == &sk->file;
}

/*
 * It is not: where the connection is now, if it has left the object for another (again.c) and not ended.  @serial: of @sk, when it
 * was current.
 */
struct ntbs_sock *ntbs_call_follow(struct ntbs_sock *sk, uint32_t serial, int fd);

/*
 * From its first wait (a send: its second try) to its end a call has what the kernel's call has all along, a reference to the
 * open file: the program may close the descriptor meanwhile, whose number is free then, and the connection ends with the last
 * such call.  It goes on with ntbs_fdtab_follow().
 */
struct ntbs_pin {
	struct ntbs_sock *sk;		/* NULL: it has not waited */
	struct ntbs_undo undo;
};
/* False: @fd is not @sk's any more. */
bool ntbs_call_pin(struct ntbs_pin *pin, struct ntbs_wait *w, struct ntbs_sock *sk, int fd);
void ntbs_call_unpin(struct ntbs_pin *pin, struct ntbs_wait *w);
/* A handler has run in the wait, and the kernel begins the call anew: with whatever @fd means now. */
static inline bool ntbs_call_restarts(const struct ntbs_wait *w)
{
	return w->restarts && ntbs_sig_since(&w->mark, false) && !ntbs_sig_since(&w->mark, true);
}

/*
 * connect() is under way: has it connected?  If not, the call that follows waits in the kernel, which goes on with bytes when
 * another thread has seen it connected, and knows of no ring: it stays on TCP.
 */
void ntbs_call_look_connected(struct ntbs_sock *sk, int fd);
/* Before anything else: has the connection a part to play? */
ssize_t ntbs_call_enter(struct ntbs_sock *sk, int fd, bool rx);

#endif
