// SPDX-License-Identifier: BSD-2-Clause
/*
 * sock_io.c - flags, blocking, partial results, SIGPIPE
 *
 * One try under the lock of the direction (stream_*.c), and between tries a wait without it (sock_wait.c).
 */
#include "sock.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>

#include "fdtab.h"
#include "handover.h"
#include "mbox.h"
#include "offer.h"
#include "shadow.h"
#include "sys.h"
#include "wait.h"

#define ENDS_LOW (POLLIN | POLLRDHUP | POLLHUP | POLLERR)

/* connect() has ended the connection under a call that waited (sk_wait_event() in net/sock.h, sk_disconnects). */
static bool dissolved(const struct ntbs_sock *sk, const struct ntbs_wait *w)
{
	return __builtin_expect(atomic_load(&sk->shm->dissolved) != w->dissolved, 0);
}

/* Handlers that run after this interrupt the later messages of a call. */
static __thread struct ntbs_sig_mark first_message;

void ntbs_sock_first_message(void)
{
	first_message = ntbs_sig_mark();
}

/* At the beginning of each call, so no more than must be then. */
static inline void may_wait_later(struct ntbs_wait *w)
{
	w->mark = ntbs_sig_mark();
	w->deadline_ns = 0;
	w->urgent = false;
}

/*
 * A call with a time limit (SO_RCVTIMEO, SO_SNDTIMEO) is never restarted, nor one that has moved bytes or messages: that one
 * ends by any handler.  A handler stands for the signal that the kernel would see as long as the call is in it: one that has
 * run counts until the call waits anew with nothing in its hands, which is where the kernel begins it again.
 */
static void how_long(struct ntbs_wait *w, const struct ntbs_sock *sk, uint64_t timeo_ns, bool moved, int flags)
{
	const struct ntbs_sig_mark now = ntbs_sig_mark();

	w->dissolved = atomic_load(&sk->shm->dissolved);
	if (!w->deadline_ns)
		w->deadline_ns = timeo_ns ? ntbs_now_ns() + timeo_ns : NTBS_NO_DEADLINE;
	w->restarts = !ntbs_wait_ends(w) && !moved && !(flags & NTBS_MSG_LATER);
	w->peeks = moved && (flags & MSG_PEEK);
	if (flags & NTBS_MSG_LATER)
		w->mark = first_message;
	else if (w->restarts && now.hard == w->mark.hard)
		w->mark = now;
	if (flags & NTBS_MSG_FIRST)
		first_message = w->mark;
}

static inline bool total(const struct iovec *iov, int cnt, size_t *len)
{
	if (__builtin_expect(cnt == 1, 1)) {
		*len = iov->iov_len;
		return *len <= SSIZE_MAX;
	}
	*len = 0;
	for (int i = 0; i < cnt; i++) {
		if (iov[i].iov_len > SSIZE_MAX - *len)
			return false;
		*len += iov[i].iov_len;
	}
	return true;
}

/* Under the lock: is it still what the caller's descriptor means? */
static bool current(const struct ntbs_sock *sk, int fd)
{
	return ntbs_fdtab_peek(fd) == &sk->file;
}

/* Has somebody woken all who wait, since the last look?  A new look begins. */
static bool stirred(const struct ntbs_sock *sk, struct ntbs_wait *w)
{
	const uint32_t before = w->stirred;

	w->stirred = atomic_load(&sk->shm->stirred);
	return w->stirred != before;
}

/* Before the look, so that what comes meanwhile is news. */
static uint64_t seen_so_far(const struct ntbs_sock *sk)
{
	return ntbs_sock_stage(sk) == NTBS_LIVE ? ntbs_msgq_rx_mark(&sk->q) : 0;
}

/* Bytes that are on TCP now; an urgent one that is next does not hide those behind it. */
static int arrived(int fd)
{
	int n = 0;

	ntbs_shadow_inq(fd, &n);
	if (!n && ntbs_shadow_unread(fd, &n))
		n = 0;
	return n;
}

/* Before anything else: has the connection a part to play? */
static ssize_t enter(struct ntbs_sock *sk, int fd, bool rx)
{
	enum ntbs_stage stage = ntbs_sock_stage(sk);

	if (stage == NTBS_PLAIN)
		return __builtin_expect(atomic_load(&sk->shm->owed), 0) && !(rx && arrived(fd)) ? -ntbs_sock_take_owed(sk) : -ENTBS_PASS;
	if (stage == NTBS_NEW) {
		if (!(ntbs_sock_flags(sk) & NTBS_SK_CONNECTING))
			return -ENTBS_PASS;
		ntbs_offer_look_connected(sk, fd);
		stage = ntbs_sock_stage(sk);
		if (stage == NTBS_NEW || stage == NTBS_PLAIN)
			return -ENTBS_PASS;
	}
	if (stage == NTBS_OFFER) {
		ntbs_offer_step(sk, fd);
		if (ntbs_sock_stage(sk) == NTBS_PLAIN)
			return -ENTBS_PASS;
	}
	return 0;
}

/* A read that wants more than there is ends at an urgent mark all the same; a look has not moved over its @sum bytes. */
static bool urgent_next(const struct ntbs_sock *sk, int fd, int flags, size_t sum)
{
	bool ring = ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_rx_state(sk) == NTBS_DIR_RING;
	int before_mark = 0, all = 0;

	if (ring) {
		uint64_t q = ntbs_le64_read_acquire(&sk->q.in->q);

		if (!q || ntbs_read_once(sk->shm->rx.pos) + (flags & MSG_PEEK ? sum : 0) < q - 1)
			return false;
	}
	if (!(flags & MSG_PEEK))
		return ntbs_shadow_at_mark(fd);
	if (!ring && ntbs_shadow_at_mark(fd))
		return false;				/* where it began: it has looked past it */
	ntbs_shadow_inq(fd, &before_mark);		/* a look has not moved up to the mark */
	return !ntbs_shadow_unread(fd, &all) && all > before_mark;
}

static bool urgent_is_next(const struct ntbs_sock *sk, int fd)
{
	return ntbs_sock_rx_state(sk) != NTBS_DIR_RING && ntbs_shadow_at_mark(fd) && arrived(fd);
}

/* splice() does not go on behind an urgent byte, nor wait there (tcp_splice_read()). */
static bool splice_ends(struct ntbs_sock *sk, int fd)
{
	if (ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk)) {
		ntbs_lock(&sk->shm->rx.lock);
		ntbs_stream_rx_look(sk, fd);
		ntbs_unlock(&sk->shm->rx.lock);
	}
	return urgent_is_next(sk, fd);
}

static ssize_t any(struct ntbs_sock *sk, int fd, int flags)
{
	char c;
	const struct iovec one = { &c, 1 };
	ssize_t n = ntbs_sock_recv(sk, fd, &one, 1, (flags & ~MSG_WAITALL) | MSG_PEEK | MSG_DONTWAIT);

	return n > 0 || (n == -EAGAIN && urgent_is_next(sk, fd)) ? 0 : n;
}

/*
 * recv() of no bytes ends at once if there is one, be it urgent, and otherwise with whatever wakes it, a shutdown() of our
 * own as well (tcp_recvmsg_locked(); read() does not wait: see preload_io.c).  So it waits in the kernel.
 */
static ssize_t recv_nothing(struct ntbs_sock *sk, int fd, int flags)
{
	ssize_t n = any(sk, fd, flags);

	if (n != -EAGAIN || (flags & MSG_DONTWAIT) || (ntbs_sock_flags(sk) & NTBS_SK_NONBLOCK))
		return n;
	ntbs_handover_both(sk, fd, NTBS_WHY_OPTION);
	n = any(sk, fd, flags);
	return n == -EAGAIN ? -ENTBS_PASS : n;
}

/*
 * In our place, from the beginning of the wait on: what is set while a call waits (O_NONBLOCK, a time limit, O_ASYNC) is for
 * later calls.  Nor if a handler has run that ends this one.
 */
static bool kernel_does(struct ntbs_sock *sk, const struct ntbs_wait *w, int flags)
{
	if ((flags & (NTBS_MSG_LATER | NTBS_MSG_FIRST)) || w->deadline_ns || (ntbs_sock_flags(sk) & NTBS_SK_NONBLOCK) || ntbs_sig_since(&w->mark, true))
		return false;
	return ntbs_sock_kernel_alone(sk);
}

/* By itself it would begin again after a handler; one that has run ends the wait, not the look at what is there. */
ssize_t ntbs_sock_later_by_kernel(struct ntbs_sock *sk, int fd, struct msghdr *msg, int flags)
{
	long ret;

	if ((flags & (MSG_DONTWAIT | MSG_OOB | MSG_ERRQUEUE)) || (ntbs_sock_flags(sk) & NTBS_SK_NONBLOCK))
		return -ENTBS_PASS;
	ret = ntbs_sleep(&first_message, SYS_recvmsg, fd, (long)msg, flags, 0, 0, 0);
	if (ret != -EINTR)
		return ret;
	ret = ntbs_sys3(SYS_recvmsg, fd, msg, flags | MSG_DONTWAIT);
	return ret == -EAGAIN ? -EINTR : ret;
}

/* What nearly every call is: on the ring, and enough is there.  -EAGAIN: it is not that simple. */
static inline ssize_t recv_at_once(struct ntbs_sock *sk, int fd, const struct iovec *iov)
{
	ssize_t n = -EAGAIN;
	struct ntbs_iter it;
	bool acked = false;

	ntbs_iter_init(&it, iov, iov->iov_len);
	ntbs_lock(&sk->shm->rx.lock);
	if (__builtin_expect(current(sk, fd), 1))
		n = ntbs_stream_recv(sk, fd, &it, 0, INT_MAX, &acked);
	ntbs_unlock(&sk->shm->rx.lock);
	if (__builtin_expect(ntbs_sock_rx_state(sk) == NTBS_DIR_BACK && ntbs_sock_tx_state(sk) == NTBS_DIR_BACK, 0))
		ntbs_handover_settle(sk);
	if (acked)
		ntbs_mbox_poke(sk);
	return n ? n : -ntbs_sock_take_owed(sk);
}

/* @mark: from the beginning of the call. */
static __attribute__((noinline)) ssize_t recv_any(struct ntbs_sock *sk, int fd, const struct iovec *iov, int cnt, int flags,
						    struct ntbs_sig_mark mark)
{
	struct ntbs_wait w;
	size_t len, sum = 0, target, moved;
	bool ended = false, passed = false, low = false, on_ring = false, may_wait, woken;
	enum ntbs_dir_state state;
	ssize_t held = 1;
	struct ntbs_iter it;
	ssize_t n;

	may_wait_later(&w);
	w.mark = mark;
	w.stirred = 0;
	n = __builtin_expect(ntbs_sock_stage(sk) == NTBS_LIVE, 1) ? 0 : enter(sk, fd, true);
	if (n)
		return n;
	if (flags & (MSG_OOB | MSG_ERRQUEUE))
		return -ENTBS_PASS;
	if (!total(iov, cnt, &len))
		return -EINVAL;
	if (!len)
		return recv_nothing(sk, fd, flags);
	ntbs_iter_init(&it, iov, len);
begin:
	may_wait = !(flags & MSG_DONTWAIT) && !(ntbs_sock_flags(sk) & NTBS_SK_NONBLOCK);	/* now: what is set later is for later calls */
	target = ntbs_read_once(sk->shm->rcvlowat);
	if ((flags & MSG_WAITALL) || target > len)
		target = len;
	for (;;) {
		bool acked = false;
		int on_tcp = INT_MAX;

		woken = stirred(sk, &w);
		if (__builtin_expect(sum != 0, 0) && ntbs_stream_error_next(sk, fd))
			return sum;
		if (__builtin_expect(flags & NTBS_MSG_SPLICE, 0) && splice_ends(sk, fd))
			return may_wait || (ntbs_shadow_poll(fd, POLLRDHUP) & POLLRDHUP) ? 0 : -EAGAIN;
		if (__builtin_expect(low && !woken, 0)) {
			w.seen = seen_so_far(sk);
			if (!(ntbs_sock_ready(sk, fd, 0, true) & (w.urgent || on_ring ? ENDS_LOW | POLLPRI : ENDS_LOW)))
				goto wait;
		}
		state = ntbs_sock_rx_state(sk);
		if (__builtin_expect(state == NTBS_DIR_TCP, 0))
			on_tcp = arrived(fd);
		else if (__builtin_expect(state == NTBS_DIR_BACK, 0) && !sum && may_wait && kernel_does(sk, &w, flags))
			return -ENTBS_PASS;	/* also what waits for more than there is */
		if (ntbs_sock_stage(sk) == NTBS_OFFER)
			ntbs_offer_step(sk, fd);
		ntbs_lock(&sk->shm->rx.lock);
		if (__builtin_expect(!current(sk, fd), 0)) {
			ntbs_unlock(&sk->shm->rx.lock);
			return sum ? (ssize_t)sum : -ENTBS_STALE;
		}
		if (flags & MSG_PEEK)
			w.seen = seen_so_far(sk);
		n = ntbs_stream_recv(sk, fd, &it, flags, on_tcp, &acked);
		ntbs_unlock(&sk->shm->rx.lock);
		if (__builtin_expect(ntbs_sock_rx_state(sk) == NTBS_DIR_BACK && ntbs_sock_tx_state(sk) == NTBS_DIR_BACK, 0))
			ntbs_handover_settle(sk);
		if (acked)
			ntbs_mbox_poke(sk);
		if (n > 0 && ntbs_sock_stage(sk) == NTBS_OFFER)
			ntbs_offer_bytes_came(sk, fd);
		if (n > 0) {
			sum += n;
			if (sum >= target || !it.left || urgent_next(sk, fd, flags, sum))
				return sum;
		} else if (n != -EAGAIN) {
			/* an end that TCP shows while nobody had claimed: a claim and its bytes are older than the end */
			if (!sum && ntbs_sock_stage(sk) == NTBS_OFFER && held == 1) {
				held = n;	/* an error is shown once */
				continue;
			}
			if (!sum && !n && held >= 0)
				n = -ntbs_sock_take_owed(sk);
			if (sum && n < 0 && n != -EFAULT)
				atomic_store(&sk->shm->owed, -(int)n);
			return sum ? (ssize_t)sum : held < 0 ? held : n;
		} else if (ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_rx_state(sk) == NTBS_DIR_TCP && !ntbs_sock_far(sk) &&
			   ntbs_msgq_readable(&sk->q)) {
			continue;	/* the switch has just come; over a port it may be on its way for long */
		}
		if (n == -EAGAIN && atomic_load(&sk->shm->owed))
			return sum ? (ssize_t)sum : -ntbs_sock_take_owed(sk);
		if (!may_wait) {
			if (n > 0 && !(flags & MSG_PEEK))
				continue;	/* perhaps the other way has more */
			return sum ? (ssize_t)sum : -EAGAIN;
		}
		if (n > 0 && !(flags & MSG_PEEK))
			continue;
wait:
		moved = sum;
		if (!moved && kernel_does(sk, &w, flags))
			return -ENTBS_PASS;	/* it does not tell of what it finds a reader waiting for (SIGIO) */
		/* it ends at an urgent byte also when that comes later, or passes it; one that has been passed is shown for ever, and
		 * not waited for */
		w.urgent = false;
		on_ring = ntbs_sock_rx_state(sk) == NTBS_DIR_RING;
		if ((!(flags & MSG_PEEK) || (flags & NTBS_MSG_SPLICE)) && !on_ring) {
			w.urgent = !(ntbs_shadow_poll(fd, POLLPRI) & POLLPRI);
			if (sum && urgent_next(sk, fd, flags, sum))
				return sum;
			if (!sum && !w.urgent && !passed && !(flags & MSG_PEEK) && ntbs_shadow_at_mark(fd)) {
				passed = true;		/* it has just come */
				continue;
			}
		}
		if (flags & MSG_PEEK) {
			if (sum && ended)
				return sum;
			/* an end that shows now lies behind all bytes: these are looked at once more */
			ended = sum && (ntbs_sock_ready(sk, fd, 0, true) & (POLLRDHUP | POLLHUP | POLLERR));
			ntbs_iter_init(&it, iov, len);
			sum = 0;
			if (ended)
				continue;
		}
		how_long(&w, sk, ntbs_read_once(sk->shm->rcvtimeo_ns), moved, flags);
		w.peeks |= low;
		n = ntbs_sock_wait(sk, fd, true, &w);
		low = ntbs_read_once(sk->shm->rcvlowat) > 1;	/* the kernel wakes nobody for less (tcp_data_ready()), whatever he wants */
		if (dissolved(sk, &w)) {
			ntbs_wait_shadow(fd, 0, &w);	/* until the kernel has done it, too */
			n = -EPIPE;
		}
		if (n)
			return moved ? (ssize_t)moved : n == -ETIMEDOUT ? -EAGAIN : n;
		if (!moved && w.restarts && ntbs_sig_since(&w.mark, false) && !ntbs_sig_since(&w.mark, true)) {
			w.deadline_ns = 0;	/* the kernel begins the call anew, and takes what there is */
			low = false;
			goto begin;
		}
		if (moved && w.urgent && urgent_next(sk, fd, flags, moved))	/* before a look passes it */
			return moved;
	}
}

ssize_t ntbs_sock_recv(struct ntbs_sock *sk, int fd, const struct iovec *iov, int cnt, int flags)
{
	struct ntbs_sig_mark mark;
	ssize_t n;

	ntbs_cancel_point();
	mark = ntbs_sig_mark();
	if (__builtin_expect(cnt == 1 && !(flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL)) && ntbs_sock_stage(sk) == NTBS_LIVE &&
			     ntbs_sock_rx_state(sk) == NTBS_DIR_RING && ntbs_read_once(sk->shm->rcvlowat) == 1 &&
			     iov->iov_len - 1 < SSIZE_MAX, 1)) {
		n = recv_at_once(sk, fd, iov);
		if (__builtin_expect(n != -EAGAIN, 1))
			return n;
	}
	return recv_any(sk, fd, iov, cnt, flags, mark);
}

static ssize_t broken_pipe(int flags)
{
	siginfo_t info = { .si_signo = SIGPIPE, .si_code = SI_USER };	/* as the kernel does it: to this thread, from itself */

	if (!(flags & MSG_NOSIGNAL)) {
		info.si_pid = ntbs_sys0(SYS_getpid);
		info.si_uid = ntbs_sys0(SYS_getuid);
		ntbs_sys4(SYS_rt_tgsigqueueinfo, info.si_pid, ntbs_sys0(SYS_gettid), SIGPIPE, &info);
	}
	return -EPIPE;
}

/* sk_stream_error(): an EPIPE that another call has left behind is a broken pipe, too. */
static ssize_t send_error(ssize_t n, int flags)
{
	return n == -EPIPE ? broken_pipe(flags) : n;
}

ssize_t ntbs_sock_send_owed(struct ntbs_sock *sk, int flags)
{
	return send_error(-ntbs_sock_take_owed(sk), flags);
}

/* A send that waits while connect() ends the connection: the kernel has the error, or will in a moment. */
static ssize_t disconnected(int fd, int flags, const struct ntbs_wait *w)
{
	int err = 0;
	socklen_t len = sizeof(err);

	ntbs_wait_shadow(fd, 0, w);
	ntbs_sys5(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, &err, &len);
	return err ? -err : broken_pipe(flags);
}

/* An error that the kernel keeps with the socket (sk_err) and tells once; others are of the call that met them. */
static bool of_the_connection(ssize_t err)
{
	switch (-err) {
	case ECONNRESET:
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EHOSTDOWN:
	case ENETDOWN:
		return true;
	}
	return false;
}

/* The connection has ended, and TCP has told nobody yet: it is for the next call, if this one has sent something. */
static bool error_waits(const struct ntbs_sock *sk, int fd)
{
	return (ntbs_sock_stage(sk) != NTBS_LIVE || ntbs_sock_tx_state(sk) != NTBS_DIR_RING) && ntbs_shadow_broken(fd);
}

ssize_t ntbs_sock_send(struct ntbs_sock *sk, int fd, const struct iovec *iov, int cnt, int flags)
{
	struct ntbs_wait w;
	bool may_wait, soft = true;
	struct ntbs_iter it;
	size_t len;
	ssize_t n;

	ntbs_cancel_point();
	may_wait_later(&w);
	n = __builtin_expect(ntbs_sock_stage(sk) == NTBS_LIVE, 1) ? 0 : enter(sk, fd, false);
	if (n)
		return send_error(n, flags);
	if ((flags & (MSG_OOB | MSG_ZEROCOPY | MSG_FASTOPEN)) && (n = ntbs_sock_send_owed(sk, flags)))
		return n;
	if (flags & (MSG_OOB | MSG_ZEROCOPY | MSG_FASTOPEN)) {
		ntbs_handover_tx(sk, fd, NTBS_WHY_OPTION);
		return -ENTBS_PASS;
	}
	if (!total(iov, cnt, &len))
		return -EINVAL;
	if (!len) {		/* the kernel says if there is anything to be said: an error, a broken pipe */
		n = ntbs_sock_send_owed(sk, flags);
		return n ? n : -ENTBS_PASS;
	}
	ntbs_iter_init(&it, iov, len);
	may_wait = !(flags & MSG_DONTWAIT) && !(ntbs_sock_flags(sk) & NTBS_SK_NONBLOCK);
	if (ntbs_sock_stage(sk) == NTBS_OFFER)
		ntbs_offer_hold(sk, fd, may_wait);
	for (;;) {
		ntbs_lock(&sk->shm->tx.lock);
		if (__builtin_expect(!current(sk, fd), 0)) {
			ntbs_unlock(&sk->shm->tx.lock);
			return len > it.left ? (ssize_t)(len - it.left) : -ENTBS_STALE;
		}
		n = ntbs_stream_send(sk, fd, &it, flags, may_wait && soft);
		ntbs_unlock(&sk->shm->tx.lock);		/* S2 */
		if (ntbs_sock_stage(sk) == NTBS_LIVE)
			ntbs_mbox_poke(sk);
		if (!it.left)
			return len;
		if (n < 0 && n != -EAGAIN) {
			if (len > it.left) {
				if (of_the_connection(n))
					atomic_store(&sk->shm->owed, -(int)n);
				return len - it.left;
			}
			if (n == -EPIPE && atomic_load(&sk->shm->owed))
				return ntbs_sock_send_owed(sk, flags);
			return send_error(n, flags);
		}
		if (!may_wait)
			return len > it.left ? (ssize_t)(len - it.left) : -EAGAIN;
		if (n > 0) {
			if (error_waits(sk, fd))
				return len - it.left;
			continue;
		}
		if (ntbs_sock_stage(sk) == NTBS_OFFER)
			ntbs_offer_step(sk, fd);
		if (soft && ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_tx_state(sk) == NTBS_DIR_RING) {
			soft = ntbs_sock_await_credit(sk);
			continue;
		}
		how_long(&w, sk, ntbs_read_once(sk->shm->sndtimeo_ns), len > it.left, 0);
		n = ntbs_sock_wait(sk, fd, false, &w);
		if (dissolved(sk, &w))
			n = len > it.left ? -EPIPE : disconnected(fd, flags, &w);
		if (n) {
			if (len > it.left)
				return len - it.left;
			return n == -ETIMEDOUT ? -EAGAIN : n;
		}
		if (len > it.left && error_waits(sk, fd))
			return len - it.left;
		soft = true;
	}
}
