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

/*
 * Of a peer that was killed after we had shut down, before anybody has noticed, only we know that it has reset: to the kernel
 * both ends are closed.
 */
ssize_t ntbs_sock_send_owed(struct ntbs_sock *sk, int flags)
{
	if ((ntbs_sock_flags(sk) & NTBS_SK_SHUT_WR) && ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk) &&
	    ntbs_shadow_poll(sk->fd, POLLRDHUP))
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

ssize_t ntbs_sock_send(struct ntbs_sock *sk, int fd, const struct iovec *iov, int cnt, int flags)
{
	struct ntbs_wait w;
	bool may_wait, soft = true, waited = false;
	struct ntbs_iter it;
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
		ntbs_handover_tx(sk, fd, NTBS_WHY_OPTION);
		return -ENTBS_PASS;
	}
	if (!ntbs_call_total(iov, cnt, &len))
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
		if (__builtin_expect(waited, 0) && kernels_alone(sk) && !ntbs_wait_ends(&w)) {
			n = ntbs_sock_send_rest(sk, fd, &it, flags, &w);
			if (!it.left)
				return len;
			if (n < 0 && n != -EAGAIN)
				return n == -EINTR && len == it.left ? n : stopped(sk, n, len - it.left, flags);
			if (n > 0 && ntbs_sig_since(&w.mark, false))
				return len - it.left;
			waited = n != -EAGAIN;	/* O_NONBLOCK or a time limit, set since this call began: the kernel heeds it, this call does not */
			ntbs_call_how_long(&w, sk, ntbs_read_once(sk->shm->sndtimeo_ns), len > it.left, 0);
			continue;
		}
		ntbs_lock(&sk->shm->tx.lock);
		if (__builtin_expect(!ntbs_call_current(sk, fd), 0)) {
			ntbs_unlock(&sk->shm->tx.lock);
			return len > it.left ? (ssize_t)(len - it.left) : -ENTBS_STALE;
		}
		n = ntbs_stream_send(sk, fd, &it, flags, may_wait && soft);
		ntbs_unlock(&sk->shm->tx.lock);		/* S2 */
		if (ntbs_sock_stage(sk) == NTBS_LIVE)
			ntbs_mbox_poke(sk);
		if (!it.left)
			return len;
		if (n < 0 && n != -EAGAIN)
			return stopped(sk, n, len - it.left, flags);
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
		ntbs_call_how_long(&w, sk, ntbs_read_once(sk->shm->sndtimeo_ns), len > it.left, 0);
		n = ntbs_sock_wait(sk, fd, false, &w);
		waited = true;
		if (ntbs_call_dissolved(sk, fd, &w))
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
