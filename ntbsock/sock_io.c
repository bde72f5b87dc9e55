// SPDX-License-Identifier: BSD-2-Clause
/*
 * sock_io.c - flags, blocking, partial results, SIGPIPE
 *
 * One try under the lock of the direction (stream_*.c), and between tries a wait without it.  Where the next byte can
 * only come from the ring a waiter spins and then sleeps on a futex; where it may come from TCP too it sleeps in
 * ppoll() on the shadow and the mbox.
 */
#include "sock.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>

#include "fdtab.h"
#include "handover.h"
#include "mbox.h"
#include "offer.h"
#include "runtime.h"
#include "service.h"
#include "shadow.h"
#include "stats.h"
#include "spin.h"
#include "sys.h"
#include "wait.h"

#define PEEK_AGAIN_NS 1000000

static bool bytes_came(const struct ntbs_sock *sk, const struct ntbs_wait *w)
{
	return __builtin_expect(w->peeks, 0) ? ntbs_msgq_rx_mark(&sk->q) != w->seen : ntbs_msgq_readable(&sk->q);
}

/* Everything that may end a wait for bytes; two lines of ours. */
static bool rx_news(const struct ntbs_sock *sk, const struct ntbs_wait *w)
{
	const struct ntbs_inbox_shm *in = sk->q.in;

	return bytes_came(sk, w) || ntbs_le64_read_acquire(&in->final) || ntbs_le64_read_acquire(&in->q) ||
	       ntbs_le32_read_acquire(&in->rstate) || atomic_load(&sk->shm->shadow_ev) ||
	       (ntbs_sock_flags(sk) & (NTBS_SK_RESET | NTBS_SK_SHUT_RD)) || ntbs_sock_stage(sk) != NTBS_LIVE;
}

static bool tx_news(struct ntbs_sock *sk)
{
	const struct ntbs_inbox_shm *in = sk->q.in;

	return ntbs_msgq_writable(&sk->q) || ntbs_le64_read_acquire(&in->asked) || ntbs_le32_read_acquire(&in->rstate) ||
	       (atomic_load(&sk->shm->shadow_ev) & NTBS_SHADOW_END) || ntbs_sock_tx_state(sk) != NTBS_DIR_RING ||
	       (ntbs_sock_flags(sk) & (NTBS_SK_RESET | NTBS_SK_SHUT_WR)) || ntbs_sock_stage(sk) != NTBS_LIVE;
}

static bool news(struct ntbs_sock *sk, bool rx, const struct ntbs_wait *w)
{
	bool n;

	if (rx)
		return rx_news(sk, w);
	/* credit is read under the lock that guards it */
	ntbs_lock(&sk->shm->tx.lock);
	n = tx_news(sk);
	ntbs_unlock(&sk->shm->tx.lock);
	return n;
}

static void slept(void *sk)
{
	ntbs_mbox_slept(sk);
}

static void put(void *sk)
{
	ntbs_sock_put(sk);
}

/* Wait on the ring: spin, arm, look, sleep. */
static int wait_ring(struct ntbs_sock *sk, int fd, bool rx, const struct ntbs_wait *w)
{
	struct ntbs_counters *shared = rx ? &sk->shm->conn.rx : &sk->shm->conn.tx;
	struct ntbs_counters *own = rx ? &sk->rx : &sk->tx;
	struct ntbs_spin spin;
	uint32_t value;
	struct ntbs_undo undo;
	int ret = 0;

	if (ntbs_spin_begin(&spin, sk)) {
		bool found = false;

		do
			for (int i = 0; i < 8 && !found; i++)
				found = rx ? bytes_came(sk, w) : news(sk, false, w);
		while (!found && !(found = news(sk, rx, w)) && ntbs_spin_more(&spin));
		ntbs_spin_end(&spin, found);
		if (found) {
			ntbs_bump(own->poll_hits, 1);
			ntbs_bump(shared->poll_hits, 1);
			return 0;
		}
	}
	if (!ntbs_service_watch(sk, fd))	/* nobody would tell us of the peer's death: sleep on the shadow too */
		return ntbs_wait_shadow(fd, rx ? POLLIN | POLLRDHUP : POLLRDHUP, w);
	ntbs_section_enter();
	value = ntbs_mbox_arm_futex(sk);
	ntbs_undo_push(&undo, slept, sk);
	ntbs_section_leave();
	if (!news(sk, rx, w)) {
		ntbs_bump(own->sleeps, 1);
		ntbs_bump(shared->sleeps, 1);
		ret = ntbs_mbox_sleep(sk, value, w);
	}
	ntbs_undo_pop(&undo);
	return ret;
}

/* The kernel cannot wait for more than is there: look every millisecond. */
static int wait_for_more(int fd, const struct ntbs_wait *w)
{
	uint64_t soon = ntbs_now_ns() + PEEK_AGAIN_NS;
	struct ntbs_wait slice = *w;
	int ret;

	if (ntbs_wait_ends(w) && w->deadline_ns <= soon)
		return ntbs_wait_shadow(fd, 0, w);
	slice.deadline_ns = soon;
	ret = ntbs_wait_shadow(fd, 0, &slice);
	return ret == -ETIMEDOUT ? 0 : ret;
}

/* Wait where TCP has a say. */
static int wait_tcp(struct ntbs_sock *sk, int fd, bool rx, const struct ntbs_wait *w)
{
	if (ntbs_sock_stage(sk) == NTBS_OFFER) {
		ntbs_offer_sleepy(sk);
		ntbs_offer_step(sk, fd);
		if (ntbs_sock_stage(sk) != NTBS_OFFER)
			return 0;
	} else if (ntbs_sock_stage(sk) == NTBS_LIVE && rx && ntbs_sock_rx_state(sk) == NTBS_DIR_TCP) {
		ntbs_mbox_arm_set(sk);
		if (bytes_came(sk, w))
			return 0;
	}
	if (w->peeks)
		return wait_for_more(fd, w);
	return ntbs_wait_shadow(fd, rx ? POLLIN | POLLRDHUP | (w->urgent ? POLLPRI : 0) : POLLOUT, w);
}

/* Where the ring decides; of what lies on TCP behind it, as a look may see it, it tells nothing. */
static bool waits_on_ring(const struct ntbs_sock *sk, bool rx, const struct ntbs_wait *w)
{
	if (ntbs_sock_stage(sk) != NTBS_LIVE || (rx ? ntbs_sock_rx_state(sk) : ntbs_sock_tx_state(sk)) != NTBS_DIR_RING)
		return false;
	return !w->peeks || !ntbs_le64_read_acquire(&sk->q.in->q);
}

static int wait_dir(struct ntbs_sock *sk, int fd, bool rx, const struct ntbs_wait *w)
{
	struct ntbs_undo undo;
	int ret;

	pthread_testcancel();
	ntbs_section_enter();
	ntbs_sock_get(sk);
	ntbs_undo_push(&undo, put, sk);
	ntbs_section_leave();
	if (waits_on_ring(sk, rx, w))
		ret = wait_ring(sk, fd, rx, w);
	else
		ret = wait_tcp(sk, fd, rx, w);
	ntbs_undo_pop(&undo);
	return ret;
}

/* connect() has ended the connection under a call that waited (sk_wait_event() in net/sock.h, sk_disconnects). */
static bool dissolved(const struct ntbs_sock *sk, const struct ntbs_wait *w)
{
	return __builtin_expect(atomic_load(&sk->shm->dissolved) != w->dissolved, 0);
}

/* At the beginning of each call, so no more than must be then. */
static inline void may_wait_later(struct ntbs_wait *w)
{
	w->mark = ntbs_sig_mark();
	w->deadline_ns = 0;
	w->urgent = false;
}

/* A call with a time limit (SO_RCVTIMEO, SO_SNDTIMEO) is never restarted, nor one that has moved bytes or messages. */
static void how_long(struct ntbs_wait *w, const struct ntbs_sock *sk, uint64_t timeo_ns, bool moved, int flags)
{
	w->dissolved = atomic_load(&sk->shm->dissolved);
	if (!w->deadline_ns)
		w->deadline_ns = timeo_ns ? ntbs_now_ns() + timeo_ns : NTBS_NO_DEADLINE;
	w->restarts = !ntbs_wait_ends(w) && !moved && !(flags & NTBS_MSG_LATER);
	w->peeks = moved && (flags & MSG_PEEK);
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
	int before_mark = 0, all = 0;

	if (ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_rx_state(sk) == NTBS_DIR_RING) {
		uint64_t q = ntbs_le64_read_acquire(&sk->q.in->q);

		if (!q || ntbs_read_once(sk->shm->rx.pos) + (flags & MSG_PEEK ? sum : 0) < q - 1)
			return false;
	}
	if (!(flags & MSG_PEEK))
		return ntbs_shadow_at_mark(fd);
	ntbs_shadow_inq(fd, &before_mark);		/* a look has not moved up to the mark */
	return !ntbs_shadow_unread(fd, &all) && all > before_mark;
}

/* recv() of no bytes waits for one, or for the end, as tcp_recvmsg() does (read() does not: see preload_io.c). */
static ssize_t recv_nothing(struct ntbs_sock *sk, int fd, int flags)
{
	char c;
	const struct iovec one = { &c, 1 };
	ssize_t n = ntbs_sock_recv(sk, fd, &one, 1, (flags & ~MSG_WAITALL) | MSG_PEEK);

	return n > 0 ? 0 : n;
}

ssize_t ntbs_sock_recv(struct ntbs_sock *sk, int fd, const struct iovec *iov, int cnt, int flags)
{
	struct ntbs_wait w;
	size_t len, sum = 0, target, moved;
	bool ended = false, passed = false, may_wait;
	ssize_t held = 1;
	struct ntbs_iter it;
	ssize_t n;

	ntbs_cancel_point();
	may_wait_later(&w);
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
	may_wait = !(flags & MSG_DONTWAIT) && !(ntbs_sock_flags(sk) & NTBS_SK_NONBLOCK);	/* now: what is set later is for later calls */
	target = ntbs_read_once(sk->shm->rcvlowat);
	if ((flags & MSG_WAITALL) || target > len)
		target = len;
	for (;;) {
		bool acked = false;
		int on_tcp = INT_MAX;

		if (__builtin_expect(ntbs_sock_rx_state(sk) == NTBS_DIR_TCP, 0))
			on_tcp = arrived(fd);
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
		} else if (ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_rx_state(sk) == NTBS_DIR_TCP &&
			   ntbs_msgq_readable(&sk->q)) {
			continue;	/* the switch has just come */
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
		moved = sum;
		/* it ends at an urgent byte also when that comes later, or passes it; one that has been passed is shown for ever, and
		 * not waited for */
		w.urgent = false;
		if (!(flags & MSG_PEEK) && ntbs_sock_rx_state(sk) != NTBS_DIR_RING) {
			w.urgent = !(ntbs_shadow_poll(fd, POLLPRI) & POLLPRI);
			if (sum && w.urgent && urgent_next(sk, fd, flags, sum))
				return sum;
			if (!sum && !w.urgent && !passed && ntbs_shadow_at_mark(fd)) {
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
		n = wait_dir(sk, fd, true, &w);
		if (dissolved(sk, &w)) {
			ntbs_wait_shadow(fd, 0, &w);	/* until the kernel has done it, too */
			n = -EPIPE;
		}
		if (n)
			return moved ? (ssize_t)moved : n == -ETIMEDOUT ? -EAGAIN : n;
		if (moved && w.urgent && urgent_next(sk, fd, flags, moved))	/* before a look passes it */
			return moved;
	}
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
		return n;
	if ((flags & (MSG_OOB | MSG_ZEROCOPY | MSG_FASTOPEN)) && (n = ntbs_sock_take_owed(sk)))
		return -n;
	if (flags & (MSG_OOB | MSG_ZEROCOPY | MSG_FASTOPEN)) {
		if ((flags & MSG_OOB) && ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk)) {
			ntbs_lock(&sk->shm->tx.lock);
			ntbs_stream_leave_urgent(sk, fd, NTBS_WHY_OPTION);
			ntbs_unlock(&sk->shm->tx.lock);
		}
		ntbs_handover_tx(sk, fd, NTBS_WHY_OPTION);
		return -ENTBS_PASS;
	}
	if (!total(iov, cnt, &len))
		return -EINVAL;
	if (!len) {		/* the kernel says if there is anything to be said: an error, a broken pipe */
		n = ntbs_sock_take_owed(sk);
		return n ? -n : -ENTBS_PASS;
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
				return -ntbs_sock_take_owed(sk);
			return n == -EPIPE ? broken_pipe(flags) : n;
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
		n = wait_dir(sk, fd, false, &w);
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

/* A short spin for an acknowledgement, before the sender lets more than the soft window into the ring. */
bool ntbs_sock_await_credit(struct ntbs_sock *sk)
{
	uint64_t head = ntbs_le64_read(&sk->q.in->head);
	struct ntbs_spin spin;
	bool found = false;

	if (!ntbs_spin_begin(&spin, sk))
		return false;
	do
		found = ntbs_le64_read(&sk->q.in->head) != head;
	while (!found && ntbs_spin_more(&spin));
	return found;
}

/* What we do not take the kernel refuses. */
static bool msg_ok(const struct msghdr *msg)
{
	return ntbs_user_readable(msg, sizeof(*msg)) && msg->msg_iovlen <= IOV_MAX &&
	       ntbs_user_readable(msg->msg_iov, msg->msg_iovlen * sizeof(*msg->msg_iov));
}

ssize_t ntbs_sock_recvmsg(struct ntbs_sock *sk, int fd, struct msghdr *msg, int flags)
{
	ssize_t n;

	if (!msg_ok(msg))
		return -ENTBS_PASS;
	if (msg->msg_control && ntbs_sock_rx_state(sk) == NTBS_DIR_BACK)	/* the kernel may have more to say than bytes */
		ntbs_handover_settle(sk);
	n = ntbs_sock_recv(sk, fd, msg->msg_iov, msg->msg_iovlen, flags);
	if (n >= 0 && (!ntbs_user_writable(&msg->msg_namelen, sizeof(msg->msg_namelen)) ||
		       !ntbs_user_writable(&msg->msg_flags, sizeof(msg->msg_flags))))
		return -EFAULT;
	if (n >= 0) {
		msg->msg_namelen = 0;
		msg->msg_controllen = 0;
		msg->msg_flags = 0;
	}
	return n;
}

ssize_t ntbs_sock_sendmsg(struct ntbs_sock *sk, int fd, const struct msghdr *msg, int flags)
{
	if (!msg_ok(msg))
		return -ENTBS_PASS;
	if (msg->msg_control && msg->msg_controllen) {	/* time stamps and the like: TCP's */
		ntbs_handover_tx(sk, fd, NTBS_WHY_OPTION);
		return -ENTBS_PASS;
	}
	return ntbs_sock_send(sk, fd, msg->msg_iov, msg->msg_iovlen, flags);
}
