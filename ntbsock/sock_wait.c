// SPDX-License-Identifier: BSD-2-Clause
/*
 * sock_wait.c - between two tries of a call: wait for bytes or for room
 *
 * Without any lock.  Where the next byte can only come from the ring a waiter spins and then sleeps on a futex; where it
 * may come from TCP too it sleeps in ppoll() on the shadow and the mbox.
 */
#include "sock.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>

#include "mbox.h"
#include "offer.h"
#include "runtime.h"
#include "service.h"
#include "shadow.h"
#include "spin.h"
#include "wait.h"

#define PEEK_AGAIN_NS 1000000

static bool stirred(const struct ntbs_sock *sk, const struct ntbs_wait *w)
{
	return atomic_load(&sk->shm->stirred) != w->stirred;
}

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
	       (ntbs_sock_flags(sk) & (NTBS_SK_RESET | NTBS_SK_SHUT_RD)) || ntbs_sock_stage(sk) != NTBS_LIVE || stirred(sk, w);
}

/* NTBS_SK_USER_TIMEOUT, set since the last try: it leaves the ring. */
static bool tx_news(struct ntbs_sock *sk)
{
	const struct ntbs_inbox_shm *in = sk->q.in;

	return ntbs_msgq_writable(&sk->q) || ntbs_le64_read_acquire(&in->asked) || ntbs_le32_read_acquire(&in->rstate) ||
	       (atomic_load(&sk->shm->shadow_ev) & NTBS_SHADOW_END) || ntbs_sock_tx_state(sk) != NTBS_DIR_RING ||
	       (ntbs_sock_flags(sk) & (NTBS_SK_RESET | NTBS_SK_SHUT_WR | NTBS_SK_USER_TIMEOUT)) || ntbs_sock_stage(sk) != NTBS_LIVE;
}

static bool news(struct ntbs_sock *sk, bool rx, const struct ntbs_wait *w)
{
	bool n;

	if (rx)
		return rx_news(sk, w);
	/* credit is read under the lock that guards it */
	ntbs_sock_lock_tx(sk);
	n = tx_news(sk);
	ntbs_unlock(&sk->shm->tx.lock);
	return n;
}

static void slept(void *sk)
{
	ntbs_mbox_slept(sk);
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
	if (!ntbs_service_watch(sk, fd)) {	/* nobody would tell us of the peer's death: sleep on the shadow too */
		const bool half_closed = ntbs_le64_read_acquire(&sk->q.in->final);

		ntbs_mbox_arm_set(sk);
		return news(sk, rx, w) ? 0 : ntbs_wait_shadow(fd, rx ? POLLIN | POLLRDHUP : half_closed ? 0 : POLLRDHUP, w);
	}
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

/* For what the kernel cannot wait, or is not to: look every millisecond. */
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

static void reads_no_more(void *sk)
{
	atomic_fetch_sub(&((struct ntbs_sock *)sk)->shm->tcp_readers, 1);
}

static int wait_shadow_stirred(struct ntbs_sock *sk, int fd, const struct ntbs_wait *w)
{
	struct ntbs_undo undo;
	int ret = 0;

	ntbs_section_enter();
	atomic_fetch_add(&sk->shm->tcp_readers, 1);	/* then the look: pairs with ntbs_sock_stir() */
	ntbs_undo_push(&undo, reads_no_more, sk);
	ntbs_section_leave();
	/* or another reader has taken the last of TCP's bytes (ntbs_stream_recv()), and the next ones come by the ring */
	if (!stirred(sk, w) && !(ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_rx_state(sk) == NTBS_DIR_RING))
		ret = ntbs_wait_shadow(fd, POLLIN | POLLRDHUP | (w->urgent ? POLLPRI : 0), w);
	ntbs_undo_pop(&undo);
	return ret;
}

void ntbs_sock_stir(struct ntbs_sock *sk)
{
	atomic_fetch_add(&sk->shm->stirred, 1);
	if (ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk))
		ntbs_mbox_wake_all(sk);
	if (atomic_load(&sk->shm->tcp_readers))
		ntbs_bell_ring(ntbs_rt.mbox[ntbs_rt.mbox_self]);
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
	/* while it goes over to TCP for good nobody asks the kernel for room, but for ntbs_sock_send_rest() when it has gone */
	if (w->peeks || (!rx && (ntbs_sock_flags(sk) & NTBS_SK_WANT_TCP)))
		return wait_for_more(fd, w);
	return rx ? wait_shadow_stirred(sk, fd, w) : ntbs_wait_shadow(fd, POLLOUT, w);
}

/* Where the ring decides; of what lies on TCP behind it, as a look may see it, it tells nothing. */
static bool waits_on_ring(const struct ntbs_sock *sk, bool rx, const struct ntbs_wait *w)
{
	if (ntbs_sock_stage(sk) != NTBS_LIVE || (rx ? ntbs_sock_rx_state(sk) : ntbs_sock_tx_state(sk)) != NTBS_DIR_RING)
		return false;
	return !w->peeks || !ntbs_le64_read_acquire(&sk->q.in->q);
}

int ntbs_sock_wait(struct ntbs_sock *sk, int fd, bool rx, const struct ntbs_wait *w)
{
	pthread_testcancel();
	return waits_on_ring(sk, rx, w) ? wait_ring(sk, fd, rx, w) : wait_tcp(sk, fd, rx, w);
}

ssize_t ntbs_sock_send_rest(struct ntbs_sock *sk, int fd, struct ntbs_iter *it, int flags, const struct ntbs_wait *w)
{
	ssize_t n = ntbs_shadow_send_rest(fd, it, flags & (MSG_MORE | MSG_DONTROUTE | MSG_CONFIRM), &w->mark);

	return n == -EINTR ? ntbs_wait_handled(w) : n;
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
