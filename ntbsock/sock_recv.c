// SPDX-License-Identifier: BSD-2-Clause
/*
 * sock_recv.c - receiving: flags, blocking, partial results
 *
 * Nearly every call takes what lies on the ring at once; all others go round in recv_any(): look, and wait if that was not
 * enough.
 */
#include "sock_call.h"

#include <errno.h>
#include <poll.h>

#include "handover.h"
#include "mbox.h"
#include "offer.h"
#include "shadow.h"

#define ENDS_LOW (POLLIN | POLLRDHUP | POLLHUP | POLLERR)

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

/* A read that wants more than there is ends at an urgent mark all the same; a look has not moved over its @sum bytes. */
static bool urgent_next(const struct ntbs_sock *sk, int fd, int flags, size_t sum)
{
	enum ntbs_dir_state state = ntbs_sock_stage(sk) == NTBS_LIVE ? ntbs_sock_rx_state(sk) : NTBS_DIR_BACK;
	bool ring = state == NTBS_DIR_RING, drain = state == NTBS_DIR_DRAIN && (flags & MSG_PEEK);
	int before_mark = 0, all = 0;
	size_t on_tcp = sum;

	if (ring || drain) {
		uint64_t q = ntbs_le64_read_acquire(&sk->q.in->q), pos = ntbs_read_once(sk->shm->rx.mq.pos);
		uint64_t tcp = drain ? ntbs_read_once(sk->shm->rx.tcp_left) : 0;	/* before what is on the ring */

		sum = flags & MSG_PEEK ? sum : 0;
		if (!q || pos + sum < q - 1 + tcp)
			return false;
		on_tcp = pos + sum - (q - 1);
	}
	if (!(flags & MSG_PEEK))
		return ntbs_shadow_at_mark(fd);
	if (!ring && ntbs_shadow_at_mark(fd))
		return false;				/* where it began: it has looked past it */
	ntbs_shadow_inq(fd, &before_mark);		/* a look has not moved up to the mark */
	if (ntbs_shadow_unread(fd, &all) || all > before_mark)
		return all > before_mark;
	if (ring && !on_tcp)
		return ntbs_shadow_at_mark(fd);
	return (size_t)all > on_tcp && ntbs_shadow_look_ends(fd, on_tcp, all);
}

static bool urgent_is_next(const struct ntbs_sock *sk, int fd)
{
	return ntbs_sock_rx_state(sk) != NTBS_DIR_RING && ntbs_shadow_at_mark(fd) && ntbs_shadow_arrived(fd);
}

/* splice() does not go on behind an urgent byte, nor wait there (tcp_splice_read()). */
static bool splice_ends(struct ntbs_sock *sk, int fd)
{
	if (ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk)) {
		ntbs_sock_lock_rx(sk);
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

/* The end of the stream: where a FIN has come before the reset, the error is for another call (tcp_recvmsg_locked(), SOCK_DONE). */
static ssize_t end_or_owed(struct ntbs_sock *sk)
{
	uint32_t r;

	if (ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk) && ntbs_le64_read_acquire(&sk->q.in->final)) {
		r = ntbs_le32_read_acquire(&sk->q.in->rstate);
		if (!ntbs_r_is_reset(r) || (r == NTBS_R_RESET && (ntbs_sock_flags(sk) & NTBS_SK_DIED)))
			return 0;
	}
	return -ntbs_sock_take_owed(sk);
}

/* What nearly every call is: on the ring, and enough is there.  -EAGAIN: it is not that simple. */
static inline ssize_t recv_at_once(struct ntbs_sock *sk, int fd, const struct iovec *iov)
{
	ssize_t n = -EAGAIN;
	struct ntbs_iter it;
	bool acked = false;

	ntbs_iter_init(&it, iov, iov->iov_len);
	ntbs_sock_lock_rx(sk);
	if (__builtin_expect(ntbs_call_current(sk, fd), 1))
		n = ntbs_stream_recv(sk, fd, &it, 0, INT_MAX, &acked);
	ntbs_unlock(&sk->shm->rx.lock);
	if (__builtin_expect(ntbs_sock_rx_state(sk) == NTBS_DIR_BACK && ntbs_sock_tx_state(sk) == NTBS_DIR_BACK, 0))
		ntbs_handover_settle(sk);
	if (acked)
		ntbs_mbox_poke(sk);
	return n ? n : end_or_owed(sk);
}

/*
 * A receive that takes more than one simple look.  It goes round: before_look(), look(), after_look(), and where it has to wait
 * before_wait() and wait_for_more().
 */
struct recv_call {
	struct ntbs_sock *sk;
	uint32_t serial;		/* of sk */
	int fd, flags;
	int number;			/* the program's for @fd, which has another one if it was closed under us */
	struct ntbs_pin pin;
	const struct iovec *iov;
	size_t len;
	size_t target;			/* enough, so that nothing more is waited for */
	size_t sum;			/* in hand; of a peek: seen in this look */
	size_t moved;			/* the same when it began to wait */
	bool may_wait;			/* as it was when the call began: what is set later is for later calls */
	bool woken, on_ring;
	bool again;			/* somebody has woken all who wait, while it did */
	bool low;			/* it has waited for a low-water mark: less does not end it */
	bool ended;			/* peek: an end has shown, and this look is the last */
	bool passed;			/* an urgent byte was next once */
	uint32_t ran;			/* handlers that had run when it last began to wait */
	ssize_t held;			/* an end that TCP has shown while nobody had claimed; 1: none */
	ssize_t n;			/* what the last look has found */
	ssize_t ret;
	struct ntbs_iter it;
	struct ntbs_wait w;
};

static enum next done(struct recv_call *r, ssize_t ret)
{
	r->ret = ret;
	return DONE;
}

/* With what is in hand, else @ret. */
static enum next done_with(struct recv_call *r, ssize_t ret)
{
	return done(r, r->sum ? (ssize_t)r->sum : ret);
}

static size_t enough(const struct recv_call *r)
{
	const size_t low = ntbs_read_once(r->sk->shm->rcvlowat);

	return (r->flags & MSG_WAITALL) || low > r->len ? r->len : low;
}

static void begin(struct recv_call *r)
{
	r->may_wait = !(r->flags & MSG_DONTWAIT) && !(ntbs_sock_flags(r->sk) & NTBS_SK_NONBLOCK);
	r->target = enough(r);
}

/*
 * Who is stirred while he sleeps in the kernel sleeps anew, and is waiting when O_ASYNC has been set meanwhile (sk_wait_data()).
 * A time limit, a mark and O_NONBLOCK that are set while a call waits are for later calls all the same.
 */
static bool sleeps_anew(const struct recv_call *r)
{
	return r->again && r->w.deadline_ns == NTBS_NO_DEADLINE && !ntbs_read_once(r->sk->shm->rcvtimeo_ns) && r->target == enough(r);
}

/*
 * In our place, from the beginning of a wait on: what is set while a call waits is for later calls.  Nor if a handler has run
 * that ends this one.
 */
static bool kernel_does(const struct recv_call *r)
{
	struct ntbs_sock *sk = r->sk;

	if ((ntbs_sock_flags(sk) & NTBS_SK_NONBLOCK) || r->fd != r->number || ntbs_sig_since(&r->w.mark, true))
		return false;
	return (r->w.deadline_ns || (r->flags & NTBS_MSG_LATER) ? sleeps_anew(r) : true) && ntbs_sock_kernel_alone(sk);
}

/*
 * recvmmsg() ends at an error behind its first message and leaves it with the socket (do_recvmmsg()).  It is not taken from the
 * kernel, which could not be given it back, and shows it to whoever has the socket next: another image has nothing of ours.
 * A reset behind a FIN comes after the end of file, which is a message.
 */
static bool error_stays(struct ntbs_sock *sk, int fd)
{
	if (ntbs_sock_stage(sk) == NTBS_LIVE && !ntbs_sock_attach(sk))
		return false;
	if (!ntbs_stream_error_next(sk, fd) || !ntbs_shadow_was_reset(fd))
		return false;
	if (ntbs_sock_stage(sk) == NTBS_OFFER)
		ntbs_offer_step(sk, fd);	/* a claim and its bytes are older */
	return ntbs_sock_stage(sk) != NTBS_LIVE || (ntbs_sock_attach(sk) && !ntbs_msgq_readable(&sk->q));
}

/* A handler has run since it began to wait, or to look. */
static bool handled(const struct recv_call *r)
{
	return ntbs_sig.ran.all != r->ran;
}

/* Does something end it, or keep it waiting, before it looks? */
static enum next before_look(struct recv_call *r)
{
	struct ntbs_sock *sk = r->sk;

	r->woken = stirred(sk, &r->w);
	r->again |= r->woken && r->w.deadline_ns;
	if (__builtin_expect(r->sum != 0, 0) && ntbs_stream_error_next(sk, r->fd))
		return done(r, r->sum);
	if (__builtin_expect(r->flags & NTBS_MSG_LATER, 0) && !r->sum && error_stays(sk, r->fd))
		return done(r, -EAGAIN);
	if (__builtin_expect(r->flags & NTBS_MSG_SPLICE, 0) && splice_ends(sk, r->fd)) {
		if (ntbs_shadow_broken(r->fd))
			return done(r, -ENTBS_PASS);	/* nothing more comes, and the kernel has the error */
		return done(r, r->may_wait || (ntbs_shadow_poll(r->fd, POLLRDHUP) & POLLRDHUP) ? 0 : -EAGAIN);
	}
	if (__builtin_expect(r->low && !r->woken, 0)) {
		r->w.seen = seen_so_far(sk);
		if (!(ntbs_sock_ready(sk, r->fd, 0, true) & (r->w.urgent || r->on_ring ? ENDS_LOW | POLLPRI : ENDS_LOW)))
			return WAIT;
	}
	return GO_ON;
}

/* The connection has left the object: a call that has something in hand, or has waited, goes on where it is now. */
static bool follows(struct recv_call *r)
{
	bool begun = r->sum ? !(r->flags & MSG_PEEK) : r->w.deadline_ns != 0;
	struct ntbs_sock *now = begun ? ntbs_call_follow(r->sk, r->serial, r->fd) : NULL;

	if (!now)
		return false;
	if (r->pin.sk)
		ntbs_call_unpin(&r->pin, &r->w);
	r->sk = now;
	r->serial = now->serial;
	r->w.stirred = atomic_load(&now->shm->stirred);
	return true;
}

/* The descriptor was closed while we waited. */
static bool goes_on(struct recv_call *r)
{
	r->fd = ntbs_fdtab_follow(r->sk, r->fd);
	return r->pin.sk && r->sk->file.fds > 0;
}

/* Once, under the lock. */
static enum next look(struct recv_call *r)
{
	struct ntbs_sock *sk = r->sk;
	enum ntbs_dir_state state = ntbs_sock_rx_state(sk);
	int on_tcp = INT_MAX;
	bool acked = false;

	if (__builtin_expect(state == NTBS_DIR_TCP, 0))
		on_tcp = ntbs_shadow_arrived(r->fd);
	else if (__builtin_expect(state == NTBS_DIR_BACK, 0) && !r->sum && r->may_wait && !handled(r) && kernel_does(r))
		return done(r, -ENTBS_PASS);	/* also what waits for more than there is */
	if (ntbs_sock_stage(sk) == NTBS_OFFER)
		ntbs_offer_step(sk, r->fd);
	ntbs_sock_lock_rx(sk);
	if (__builtin_expect(!ntbs_call_current(sk, r->fd), 0)) {
		ntbs_unlock(&sk->shm->rx.lock);
		return follows(r) || goes_on(r) ? AGAIN : done_with(r, -ENTBS_STALE);
	}
	if (r->flags & MSG_PEEK)
		r->w.seen = seen_so_far(sk);
	r->n = ntbs_stream_recv(sk, r->fd, &r->it, r->flags | (r->sum ? NTBS_MSG_IN_HAND : 0), on_tcp, &acked);
	ntbs_unlock(&sk->shm->rx.lock);
	if (__builtin_expect(ntbs_sock_rx_state(sk) == NTBS_DIR_BACK && ntbs_sock_tx_state(sk) == NTBS_DIR_BACK, 0))
		ntbs_handover_settle(sk);
	if (acked)
		ntbs_mbox_poke(sk);
	if (r->n > 0 && ntbs_sock_stage(sk) == NTBS_OFFER)
		ntbs_offer_bytes_came(sk, r->fd);
	return GO_ON;
}

/* An end of file or an error. */
static enum next ended(struct recv_call *r)
{
	ssize_t n = r->n;

	/* an end that TCP shows while nobody had claimed: a claim and its bytes are older than the end */
	if (!r->sum && ntbs_sock_stage(r->sk) == NTBS_OFFER && r->held == 1) {
		r->held = n;		/* an error is shown once */
		return AGAIN;
	}
	if (!r->sum && !n && r->held >= 0)
		n = end_or_owed(r->sk);
	if (r->sum && n < 0 && n != -EFAULT)
		atomic_store(&r->sk->shm->owed, -(int)n);
	return done_with(r, r->held < 0 ? r->held : n);
}

static enum next after_look(struct recv_call *r)
{
	struct ntbs_sock *sk = r->sk;
	bool took = r->n > 0 && !(r->flags & MSG_PEEK);

	if (r->n > 0) {
		r->sum += r->n;
		if (r->sum >= r->target || !r->it.left || urgent_next(sk, r->fd, r->flags, r->sum))
			return done(r, r->sum);
		if (took && handled(r))
			return done(r, r->sum);	/* SA_RESTART or not: whoever has something does not begin anew.  SIGIO comes with the bytes */
	} else if (r->n != -EAGAIN) {
		return ended(r);
	} else if (ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_rx_state(sk) == NTBS_DIR_TCP && !ntbs_sock_far(sk) &&
		   ntbs_msgq_readable(&sk->q)) {
		return AGAIN;		/* the switch has just come; over a port it may be on its way for long */
	} else if (atomic_load(&sk->shm->owed)) {
		int owed = r->sum ? 0 : ntbs_sock_take_owed(sk);

		if (r->sum || owed)
			return done(r, r->sum ? (ssize_t)r->sum : -owed);
	}
	if (took)
		return AGAIN;		/* perhaps the other way has more */
	return r->may_wait ? WAIT : done_with(r, -EAGAIN);
}

/* Takes nothing, and what it has seen it sees again. */
static bool looks_only(const struct recv_call *r)
{
	return (r->flags & MSG_PEEK) && !(r->flags & NTBS_MSG_SPLICE);
}

/*
 * It ends at an urgent byte also when that comes later, or passes it; one that has been passed is shown for ever, and not
 * waited for.
 */
static enum next urgent_before_wait(struct recv_call *r)
{
	r->w.urgent = !(ntbs_shadow_poll(r->fd, POLLPRI) & POLLPRI);
	if (r->sum && urgent_next(r->sk, r->fd, r->flags, r->sum))
		return done(r, r->sum);
	if (!r->sum && !r->w.urgent && !r->passed && !(r->flags & MSG_PEEK) && ntbs_shadow_at_mark(r->fd)) {
		r->passed = true;	/* it has just come */
		return AGAIN;
	}
	return GO_ON;
}

/* A look has taken nothing: the next one sees the same bytes again. */
static enum next peek_before_wait(struct recv_call *r)
{
	if (r->sum && r->ended)
		return done(r, r->sum);
	/* an end that shows now lies behind all bytes: these are looked at once more */
	r->ended = r->sum && (ntbs_sock_ready(r->sk, r->fd, 0, true) & (POLLRDHUP | POLLHUP | POLLERR));
	ntbs_iter_init(&r->it, r->iov, r->len);
	r->sum = 0;
	return r->ended ? AGAIN : GO_ON;
}

/*
 * Of what the kernel finds a reader waiting for it does not tell (SIGIO), which would end a call that has something in hand.  Else
 * that one waits here, since it has to stop before an urgent byte and the kernel does not know what it has.
 */
static bool kernel_waits_for_all(const struct recv_call *r)
{
	return (r->flags & MSG_WAITALL) && !looks_only(r) && !r->w.deadline_ns && r->sum && ntbs_shadow_async(r->fd) &&
	       kernel_does(r) && !urgent_next(r->sk, r->fd, r->flags, r->sum);
}

/* An error that the kernel does not keep with the socket. */
static bool of_this_call(ssize_t err)
{
	return err == -EINTR || err == -EAGAIN || err == -EFAULT || err == -ENOMEM || err == -EBADF || err == -ENOTSOCK;
}

static enum next kernel_reads(struct recv_call *r)
{
	bool whole;
	ssize_t n;

	if (!r->pin.sk && !ntbs_call_pin(&r->pin, &r->w, r->sk, r->fd))
		return AGAIN;
	n = ntbs_shadow_recv_rest(r->fd, &r->it, r->flags & MSG_TRUNC, &r->w.mark, &whole);
	r->fd = ntbs_fdtab_follow(r->sk, r->fd);
	if (n < 0 && !of_this_call(n))
		atomic_store(&r->sk->shm->owed, -(int)n);
	if (n > 0)
		r->sum += n;
	return whole && r->it.left ? AGAIN : done(r, r->sum);
}

static enum next before_wait(struct recv_call *r)
{
	enum next next = GO_ON;

	r->moved = r->sum;
	r->ran = ntbs_sig.ran.all;
	if (!r->moved && kernel_does(r))
		return done(r, -ENTBS_PASS);	/* see kernel_waits_for_all() */
	if (__builtin_expect(r->moved != 0, 0) && kernel_waits_for_all(r))
		return kernel_reads(r);
	r->w.urgent = false;
	r->on_ring = ntbs_sock_rx_state(r->sk) == NTBS_DIR_RING;
	/* a look sees all up to it, but below a low-water mark it is what wakes (tcp_urg()) */
	if (!r->on_ring && (!looks_only(r) || ntbs_read_once(r->sk->shm->rcvlowat) > 1))
		next = urgent_before_wait(r);
	if (next == GO_ON && (r->flags & MSG_PEEK))
		next = peek_before_wait(r);
	return next;
}

/* With whatever its descriptor means by now; and it takes what there is. */
static enum next begins_anew(struct recv_call *r)
{
	r->fd = ntbs_fdtab_follow(r->sk, r->fd);
	if (r->fd != r->number)
		return done(r, -ENTBS_STALE);
	r->w.deadline_ns = 0;
	r->w.mark = ntbs_sig_mark();
	r->low = false;
	begin(r);
	return AGAIN;
}

static enum next wait_for_more(struct recv_call *r)
{
	struct ntbs_sock *sk = r->sk;
	ssize_t n;

	if (!r->pin.sk && !ntbs_call_pin(&r->pin, &r->w, sk, r->fd))
		return AGAIN;
	if (ntbs_call_how_long(&r->w, sk, ntbs_read_once(sk->shm->rcvtimeo_ns), r->moved, r->flags))
		return begins_anew(r);
	r->w.peeks |= r->low;
	n = ntbs_sock_wait(sk, r->fd, true, &r->w);
	r->fd = ntbs_fdtab_follow(sk, r->fd);
	r->low = ntbs_read_once(sk->shm->rcvlowat) > 1;	/* the kernel wakes nobody for less (tcp_data_ready()), whatever he wants */
	if (ntbs_call_dissolved(sk, r->fd, &r->w)) {
		ntbs_call_until_dissolved(r->fd, &r->w);
		n = -EPIPE;
	}
	if (n)
		return done(r, r->moved ? (ssize_t)r->moved : n == -ETIMEDOUT ? -EAGAIN : n);
	if (!r->moved && ntbs_call_restarts(&r->w))
		return begins_anew(r);
	if (r->moved && r->w.urgent && !looks_only(r) && urgent_next(sk, r->fd, r->flags, r->moved))	/* before a look passes it */
		return done(r, r->moved);
	return AGAIN;
}

/*
 * Who sleeps below a low-water mark takes what has come when he is killed (tcp_recvmsg_locked() looks once more before it sees the
 * signal), so that his end is no reset.  Of ours nothing runs then: he sleeps in the kernel.
 */
static bool sleeps_below_mark(const struct recv_call *r)
{
	const int ours = MSG_PEEK | NTBS_MSG_LATER | NTBS_MSG_SPLICE;
	struct ntbs_sock *sk = r->sk;
	ssize_t there = -ENTBS_PASS;
	int on_tcp = 0;

	if (__builtin_expect(ntbs_read_once(sk->shm->rcvlowat) <= 1, 1) || !r->may_wait || (r->flags & ours))
		return false;
	if (ntbs_sock_ready(sk, r->fd, 0, true) & ENDS_LOW)
		return false;
	if (ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk)) {
		ntbs_sock_lock_rx(sk);
		there = ntbs_stream_avail(sk, r->fd);
		ntbs_unlock(&sk->shm->rx.lock);
	}
	if (there == -ENTBS_PASS) {
		ntbs_shadow_inq(r->fd, &on_tcp);
		there = on_tcp;
	}
	return there < (ssize_t)r->target;	/* he wants less than the mark, and it is there */
}

/* The kernel's; but of a peer that was killed with bytes unread TCP has a reset without a FIN, and the byte is gone (tcp_recv_urg()). */
static ssize_t recv_urgent(struct ntbs_sock *sk, int fd)
{
	if (ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk) && ntbs_shadow_poll(fd, POLLRDHUP))
		ntbs_stream_died(sk, fd);
	return (ntbs_sock_flags(sk) & NTBS_SK_DIED) && ntbs_shadow_has_urgent(fd) ? -ENOTCONN : -ENTBS_PASS;
}

/* @mark: from the beginning of the call. */
static __attribute__((noinline)) ssize_t recv_any(struct ntbs_sock *sk, int fd, const struct iovec *iov, int cnt, int flags,
						    struct ntbs_sig_mark mark)
{
	struct recv_call r = { .sk = sk, .serial = sk->serial, .fd = fd, .number = fd, .flags = flags, .iov = iov, .held = 1 };
	enum next next;
	ssize_t n;

	ntbs_call_begin(&r.w);
	r.w.mark = mark;
	r.ran = mark.all;
	if (flags & (MSG_OOB | MSG_ERRQUEUE))
		return flags & MSG_OOB ? recv_urgent(sk, fd) : -ENTBS_PASS;
	n = __builtin_expect(ntbs_sock_stage(sk) == NTBS_LIVE, 1) ? 0 : ntbs_call_enter(sk, fd, true);
	if (n && n != -ENTBS_PASS && !(flags & MSG_PEEK))
		ntbs_shadow_pass_urgent(fd);
	if (n)
		return n;
	if (!ntbs_call_total(iov, cnt, &r.len))
		return -ENTBS_PASS;
	if (!r.len)
		return recv_nothing(sk, fd, flags);
	ntbs_iter_init(&r.it, iov, r.len);
	begin(&r);
	if (sleeps_below_mark(&r)) {
		ntbs_handover_both(sk, fd, NTBS_WHY_OPTION);
		if (ntbs_sock_stage(sk) == NTBS_PLAIN)
			return -ENTBS_PASS;
	}
	do {
		next = before_look(&r);
		if (next == GO_ON)
			next = look(&r);
		if (next == GO_ON)
			next = after_look(&r);
		if (next == WAIT)
			next = before_wait(&r);
		if (next == GO_ON)
			next = wait_for_more(&r);
	} while (next == AGAIN);
	if (r.pin.sk)
		ntbs_call_unpin(&r.pin, &r.w);
	return r.ret;
}

ssize_t ntbs_sock_recv(struct ntbs_sock *sk, int fd, const struct iovec *iov, int cnt, int flags)
{
	struct ntbs_sig_mark mark;
	ssize_t n;

	ntbs_cancel_point();
	mark = ntbs_sig_mark();
	if (__builtin_expect(cnt == 1 && !(flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL)) && ntbs_sock_stage(sk) == NTBS_LIVE &&
			     ntbs_sock_rx_state(sk) == NTBS_DIR_RING && ntbs_read_once(sk->shm->rcvlowat) == 1 &&
			     iov->iov_len - 1 < NTBS_MAX_RW, 1)) {
		n = recv_at_once(sk, fd, iov);
		if (__builtin_expect(n != -EAGAIN, 1))
			return n;
	}
	return recv_any(sk, fd, iov, cnt, flags, mark);
}
