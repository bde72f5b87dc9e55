// SPDX-License-Identifier: BSD-2-Clause
/*
 * sock_send.c - sending: blocking, partial results, errors and their SIGPIPE
 */
#include "sock_call.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>

#include "handover.h"
#include "mbox.h"
#include "offer.h"
#include "shadow.h"
#include "sys.h"

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

/* Of a peer that was killed with bytes of the ring unread, before anybody has noticed, only we know that it has reset. */
ssize_t ntbs_sock_send_owed(struct ntbs_sock *sk, int flags)
{
	if (ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk) && ntbs_shadow_poll(sk->fd, POLLRDHUP))
		ntbs_stream_died(sk, sk->fd);
	return send_error(-ntbs_sock_take_owed(sk), flags);
}

/* A send that waits while connect() ends the connection: the kernel has the error, or will in a moment. */
static ssize_t disconnected(int fd, int flags, const struct ntbs_wait *w)
{
	int err = 0;
	socklen_t len = sizeof(err);

	ntbs_call_until_dissolved(fd, w);
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

/* It has sent @sent bytes: those are told, and what has stopped it is the next call's if the kernel would keep it. */
static ssize_t stopped(struct ntbs_sock *sk, ssize_t n, size_t sent, int flags)
{
	ssize_t owed;

	if (sent) {
		if (of_the_connection(n))
			atomic_store(&sk->shm->owed, -(int)n);
		return sent;
	}
	if (n == -EPIPE && (owed = ntbs_sock_send_owed(sk, flags)))
		return owed;
	return send_error(n, flags);
}

static bool kernels_alone(struct ntbs_sock *sk)
{
	if (ntbs_sock_tx_state(sk) == NTBS_DIR_BACK && ntbs_sock_rx_state(sk) == NTBS_DIR_BACK)
		ntbs_handover_settle(sk);
	return ntbs_sock_stage(sk) == NTBS_PLAIN;
}

ssize_t ntbs_sock_to_kernel(struct ntbs_sock *sk, int fd, int flags)
{
	bool may_wait = !(flags & MSG_DONTWAIT) && !(ntbs_sock_flags(sk) & NTBS_SK_NONBLOCK), current;
	struct ntbs_wait w = { 0 };
	ssize_t ret = 0;

	ntbs_call_begin(&w);
	ntbs_handover_tx(sk, fd, NTBS_WHY_OPTION);
	for (struct ntbs_sock *next; (next = ntbs_sock_after(sk)); sk = next)
		;
	while (!ret && ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_read_once(sk->shm->tx.replay)) {
		if (ntbs_sock_flags(sk) & NTBS_SK_FIN_LATER)
			return broken_pipe(flags);
		ntbs_sock_lock_tx(sk);
		current = ntbs_call_current(sk, fd);
		if (current && ntbs_stream_replay(sk, fd))
			ntbs_stream_stalled(sk);
		ntbs_unlock(&sk->shm->tx.lock);
		if (!current)
			return -ENTBS_STALE;
		if (!ntbs_read_once(sk->shm->tx.replay))
			break;
		if (!may_wait || (ntbs_wait_ends(&w) && ntbs_now_ns() >= w.deadline_ns))
			return -EAGAIN;
		ntbs_call_how_long(&w, sk, ntbs_read_once(sk->shm->sndtimeo_ns), false, 0);
		ret = ntbs_wait_shadow(fd, POLLOUT, &w);
	}
	return ret == -ETIMEDOUT ? -EAGAIN : ret;
}

/*
 * A send that one try was not enough for.  It goes round: after_try(), where it has to wait wait_for_room(), and try_again().
 */
struct send_call {
	struct ntbs_sock *sk;
	uint32_t serial;		/* of sk */
	int fd, flags;
	int number;			/* the program's for @fd, which has another one if it was closed under us */
	struct ntbs_pin pin;
	struct ntbs_iter *it;
	size_t len;
	bool may_wait;
	bool soft;			/* more than the soft window may go into the ring only once a reader was waited for */
	bool waited;
	ssize_t n;			/* what the last try has said */
	ssize_t ret;
	struct ntbs_wait *w;
};

static enum next done(struct send_call *s, ssize_t ret)
{
	s->ret = ret;
	return DONE;
}

static size_t sent(const struct send_call *s)
{
	return s->len - s->it->left;
}

/* With what was sent, else @ret. */
static enum next done_with(struct send_call *s, ssize_t ret)
{
	return done(s, sent(s) ? (ssize_t)sent(s) : ret);
}

/* With whatever its descriptor means by now, and what was set while it waited.  False: it is not @sk's any more. */
static bool begins_anew(struct send_call *s)
{
	s->w->deadline_ns = 0;
	s->w->mark = ntbs_sig_mark();
	s->may_wait = !(ntbs_sock_flags(s->sk) & NTBS_SK_NONBLOCK);
	return ntbs_fdtab_follow(s->sk, s->fd) == s->number;
}

/* Before it waits.  True: it is begun anew. */
static bool restarted(struct send_call *s)
{
	return ntbs_call_how_long(s->w, s->sk, ntbs_read_once(s->sk->shm->sndtimeo_ns), sent(s), 0);
}

static enum next after_try(struct send_call *s)
{
	struct ntbs_sock *sk = s->sk;

	if (!s->it->left)
		return done(s, s->len);
	if (s->n < 0 && s->n != -EAGAIN)
		return done(s, stopped(sk, s->n, sent(s), s->flags));
	if (!s->may_wait)
		return done_with(s, -EAGAIN);
	if (s->n > 0)
		return error_waits(sk, s->fd) ? done(s, sent(s)) : GO_ON;
	if (ntbs_sock_stage(sk) == NTBS_OFFER)
		ntbs_offer_step(sk, s->fd);
	if (s->soft && ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_tx_state(sk) == NTBS_DIR_RING) {
		s->soft = ntbs_sock_await_credit(sk);
		return GO_ON;
	}
	return WAIT;
}

static enum next wait_for_room(struct send_call *s)
{
	struct ntbs_sock *sk = s->sk;
	ssize_t n;

	if (restarted(s))
		return begins_anew(s) ? GO_ON : done(s, -ENTBS_STALE);
	n = ntbs_sock_wait(sk, s->fd, false, s->w);
	s->fd = ntbs_fdtab_follow(sk, s->fd);
	s->waited = true;
	if (ntbs_call_dissolved(sk, s->fd, s->w))
		n = sent(s) ? -EPIPE : disconnected(s->fd, s->flags, s->w);
	if (n)
		return done_with(s, n == -ETIMEDOUT ? -EAGAIN : n);
	if (!sent(s) && ntbs_call_restarts(s->w) && !begins_anew(s))
		return done(s, -ENTBS_STALE);
	if (sent(s) && error_waits(sk, s->fd))
		return done(s, sent(s));
	s->soft = true;
	return GO_ON;
}

/* The rest is the kernel's. */
static enum next kernel_sends(struct send_call *s)
{
	ssize_t n = ntbs_sock_send_rest(s->sk, s->fd, s->it, s->flags, s->w);

	s->fd = ntbs_fdtab_follow(s->sk, s->fd);
	if (!s->it->left)
		return done(s, s->len);
	if (n < 0 && n != -EAGAIN)
		return done(s, n == -EINTR && !sent(s) ? n : stopped(s->sk, n, sent(s), s->flags));
	if (n > 0 && (ntbs_sig_since(&s->w->mark, false) || error_waits(s->sk, s->fd)))
		return done(s, sent(s));
	s->waited = n != -EAGAIN;	/* O_NONBLOCK or a time limit, set since this call began: the kernel heeds it, this call does not */
	return !restarted(s) || begins_anew(s) ? AGAIN : done(s, -ENTBS_STALE);
}

/* Of a call that has just begun anew: not of those that are set since. */
static bool no_limit(const struct send_call *s)
{
	return s->w->deadline_ns ? !ntbs_wait_ends(s->w) : !ntbs_read_once(s->sk->shm->sndtimeo_ns);
}

/* The connection has left the object: the call goes on where it is now. */
static bool follows(struct send_call *s)
{
	struct ntbs_sock *now = ntbs_call_follow(s->sk, s->serial, s->fd);

	if (!now)
		return false;
	if (s->pin.sk)
		ntbs_call_unpin(&s->pin, s->w);
	s->sk = now;
	s->serial = now->serial;
	return !s->may_wait || ntbs_call_pin(&s->pin, s->w, now, s->fd);
}

static enum next try_again(struct send_call *s)
{
	struct ntbs_sock *sk = s->sk;

	if (s->waited && kernels_alone(sk) && no_limit(s))
		return kernel_sends(s);
	ntbs_sock_lock_tx(sk);
	if (__builtin_expect(!ntbs_call_current(sk, s->fd), 0)) {
		ntbs_unlock(&sk->shm->tx.lock);
		if (follows(s))
			return AGAIN;
		s->fd = ntbs_fdtab_follow(s->sk, s->fd);
		sk = s->sk;
		return s->pin.sk && sk->file.fds > 0 ? AGAIN : done_with(s, -ENTBS_STALE);
	}
	s->n = ntbs_stream_send(sk, s->fd, s->it, s->flags, s->may_wait && s->soft);
	ntbs_unlock(&sk->shm->tx.lock);		/* S2 */
	if (ntbs_sock_stage(sk) == NTBS_LIVE)
		ntbs_mbox_poke(sk);
	return GO_ON;
}

static __attribute__((noinline)) ssize_t send_on(struct send_call *s)
{
	enum next next;

	s->w->pinned = NULL;
	if (s->may_wait && (s->n >= 0 || s->n == -EAGAIN) && !ntbs_call_pin(&s->pin, s->w, s->sk, s->fd))
		return sent(s) ? (ssize_t)sent(s) : -ENTBS_STALE;
	do {
		next = after_try(s);
		if (next == WAIT)
			next = wait_for_room(s);
		if (next == GO_ON)
			do
				next = try_again(s);
			while (next == AGAIN);
	} while (next == GO_ON);
	if (s->pin.sk)
		ntbs_call_unpin(&s->pin, s->w);
	return s->ret;
}

ssize_t ntbs_sock_send(struct ntbs_sock *sk, int fd, const struct iovec *iov, int cnt, int flags)
{
	struct ntbs_wait w;
	struct ntbs_iter it;
	bool may_wait;
	size_t len;
	ssize_t n;

	ntbs_cancel_point();
	ntbs_call_begin(&w);
	n = __builtin_expect(ntbs_sock_stage(sk) == NTBS_LIVE, 1) ? 0 : ntbs_call_enter(sk, fd, false);
	if (n)
		return send_error(n, flags);
	if ((flags & (MSG_OOB | MSG_ZEROCOPY | MSG_FASTOPEN)) && (n = ntbs_sock_send_owed(sk, flags)))
		return n;
	if (flags & (MSG_OOB | MSG_ZEROCOPY | MSG_FASTOPEN)) {
		n = ntbs_sock_to_kernel(sk, fd, flags);
		return n ? n : -ENTBS_PASS;
	}
	if (!ntbs_call_total(iov, cnt, &len))
		return -ENTBS_PASS;
	if (!len) {		/* the kernel says if there is anything to be said: an error, a broken pipe */
		n = ntbs_sock_send_owed(sk, flags);
		return n ? n : -ENTBS_PASS;
	}
	ntbs_iter_init(&it, iov, len);
	may_wait = !(flags & MSG_DONTWAIT) && !(ntbs_sock_flags(sk) & NTBS_SK_NONBLOCK);
	if (ntbs_sock_stage(sk) == NTBS_OFFER)
		ntbs_offer_hold(sk, fd, may_wait);
	ntbs_sock_lock_tx(sk);
	if (__builtin_expect(!ntbs_call_current(sk, fd), 0)) {
		ntbs_unlock(&sk->shm->tx.lock);
		return -ENTBS_STALE;
	}
	n = ntbs_stream_send(sk, fd, &it, flags, may_wait);
	ntbs_unlock(&sk->shm->tx.lock);		/* S2 */
	if (ntbs_sock_stage(sk) == NTBS_LIVE)
		ntbs_mbox_poke(sk);
	if (__builtin_expect(!it.left, 1))
		return len;
	return send_on(&(struct send_call){ .sk = sk, .serial = sk->serial, .fd = fd, .flags = flags, .number = fd, .it = &it, .len = len,
					    .may_wait = may_wait, .soft = true, .n = n, .w = &w });
}
