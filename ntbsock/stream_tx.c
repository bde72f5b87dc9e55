// SPDX-License-Identifier: BSD-2-Clause
/*
 * stream_tx.c - bytes of one direction to TCP or to the ring, wherever the direction is
 *
 * tx lock held throughout; nothing here waits.  Only the sender moves a direction:
 *   TCP  -> RING  once the connection is LIVE: SWITCH with W, and from then on not a byte on TCP
 *   RING -> BACK  at the tail (we leave: the peer has closed, or a call needs TCP), or at the position from which the
 *                 peer has asked for TCP: then what lies between is sent once more by TCP, out of the outbox
 */
#include "sock.h"

#include <errno.h>
#include <poll.h>

#include "mbox.h"
#include "runtime.h"
#include "service.h"
#include "shadow.h"
#include "sys.h"

#define CHECKED_SENDS 8		/* sends into a ring that look for the peer's death themselves; then the service thread tells of it */
#define SOFT_WINDOW (1u << 20)

void ntbs_stream_switch_tx(struct ntbs_sock *sk, int fd)
{
	struct ntbs_dir_tx_shm *tx = &sk->shm->tx;
	uint32_t flags = ntbs_sock_flags(sk);
	uint64_t w;

	if (tx->state != NTBS_DIR_TCP || (flags & (NTBS_SK_SHUT_WR | NTBS_SK_NO_SWITCH)) || ntbs_chan_down(sk->chan))
		return;
	if (ntbs_shadow_sent(fd, flags & NTBS_SK_CONNECTED, &w))
		return;
	tx->w = tx->mq.pos = w;
	if (!ntbs_msgq_send_switch(&sk->q, w))
		ntbs_sock_set_tx_state(sk, NTBS_DIR_RING);
}

/* Over a port the ring is small, and what the peer says of itself costs a store across the link. */
void ntbs_stream_state_bufs(struct ntbs_sock *sk)
{
	if (ntbs_sock_far(sk))
		return;
	ntbs_sock_lock_tx(sk);
	ntbs_sock_lock_rx(sk);
	sk->q.tx->sndbuf = sk->shm->sndbuf;
	if (sk->shm->rcvbuf)
		ntbs_msgq_state_rcvbuf(&sk->q, sk->shm->rcvbuf);
	ntbs_unlock(&sk->shm->rx.lock);
	ntbs_unlock(&sk->shm->tx.lock);
}

/* One 8-byte store before the first byte that goes over TCP. */
static void state_q(struct ntbs_sock *sk, uint64_t q, enum ntbs_reason why)
{
	ntbs_write_once(sk->shm->tx.q, q + 1);
	ntbs_window_store64(sk->q.port, &sk->q.out->q, q + 1);
	ntbs_sock_set_tx_state(sk, NTBS_DIR_BACK);
	ntbs_write_once(sk->shm->conn.reason, why);
}

/*
 * What lies unread in the ring counts for the peer's kernel as well: it resets if the peer ends before it has read it, and
 * throws an urgent byte that is next away when another one comes (tcp_check_urg()).  So the last byte of the ring goes by TCP
 * as well, if the peer has not read it.
 */
void ntbs_stream_leave_tx(struct ntbs_sock *sk, int fd, enum ntbs_reason why)
{
	const short half_closed = ntbs_le64_read_acquire(&sk->q.in->final) ? POLLRDHUP : 0;
	struct ntbs_dir_tx_shm *tx = &sk->shm->tx;
	bool ended = (ntbs_sock_flags(sk) & NTBS_SK_SHUT_WR) || ntbs_le32_read_acquire(&sk->q.in->rstate) != NTBS_R_OPEN;

	if (tx->state != NTBS_DIR_RING)
		return;
	/* there must be room for it; and where it would be answered with a reset, or cannot go, it is the next call's to say so */
	if (ended || tx->mq.pos == tx->w || ntbs_msgq_peer_had_all(&sk->q) ||
	    (ntbs_shadow_poll(fd, POLLOUT | POLLRDHUP) & ~half_closed) != POLLOUT) {
		state_q(sk, tx->mq.pos, why);
		return;
	}
	ntbs_write_once(tx->replay, 1);
	state_q(sk, tx->mq.pos - 1, why);
	if (!ntbs_stream_replay(sk, fd))
		ntbs_shadow_push(fd);
	else
		ntbs_service_want_room(sk, fd);
}

void ntbs_stream_state_final(struct ntbs_sock *sk)
{
	ntbs_window_store64(sk->q.port, &sk->q.out->final,
			    ntbs_sock_tx_state(sk) == NTBS_DIR_RING ? sk->shm->tx.mq.pos + 1 : NTBS_POS_ON_TCP);
}

int ntbs_stream_answer(struct ntbs_sock *sk, int fd, uint64_t from)
{
	struct ntbs_dir_tx_shm *tx = &sk->shm->tx;
	uint64_t kept;

	if (tx->state == NTBS_DIR_TCP) {	/* never left; and now it never will */
		state_q(sk, 0, NTBS_WHY_PEER_ASKED);
		return 0;
	}
	if (tx->state == NTBS_DIR_RING && from == NTBS_POS_TAIL - 1) {
		ntbs_stream_leave_tx(sk, fd, NTBS_WHY_PEER_ASKED);
		return 0;
	}
	if (tx->state == NTBS_DIR_BACK)
		return ntbs_stream_replay(sk, fd);
	if (from < tx->w)		/* asked before our switch was seen: what lies before it is on TCP */
		from = tx->w;
	if (from > tx->mq.pos) {		/* more than we have sent: nonsense */
		ntbs_sock_set_flag(sk, NTBS_SK_RESET);
		ntbs_write_once(sk->shm->conn.reason, NTBS_WHY_CORRUPT);
		ntbs_mbox_wake_all(sk);
		return 0;
	}
	if (from < tx->mq.pos && (ntbs_sock_flags(sk) & NTBS_SK_SHUT_WR))
		return 0;		/* the kernel's FIN lies before them: they can only be read where they are */
	kept = ntbs_msgq_kept(&sk->q);
	if (tx->mq.pos - from > kept)	/* asked long ago by who has not waited and has read on: not what has taken its place */
		from = tx->mq.pos - kept;
	ntbs_write_once(tx->replay, tx->mq.pos - from);
	state_q(sk, from, NTBS_WHY_PEER_ASKED);
	return ntbs_stream_replay(sk, fd);
}

int ntbs_stream_replay(struct ntbs_sock *sk, int fd)
{
	struct ntbs_dir_tx_shm *tx = &sk->shm->tx;
	bool done = tx->replay;
	char copy[16384];

	while (tx->replay) {
		ssize_t n = ntbs_msgq_unread(&sk->q, tx->replay, copy, sizeof(copy)), sent;
		struct iovec iov = { copy, n };
		struct ntbs_iter it;

		if (n <= 0) {		/* the peer has scribbled over its own inbox */
			ntbs_sock_set_flag(sk, NTBS_SK_RESET);
			ntbs_write_once(tx->replay, 0);
			break;
		}
		if (ntbs_shadow_broken(fd)) {	/* the peer is gone: so are the bytes, as in TCP; the program is to see why */
			ntbs_write_once(tx->replay, 0);
			break;
		}
		ntbs_iter_init(&it, &iov, n);
		sent = ntbs_shadow_send(fd, &it, 0);
		if (sent == -EAGAIN || sent == -EBADF || sent == -ENOTSOCK)	/* by a number that has just been closed: by the next */
			return -EAGAIN;
		if (sent < 0) {		/* it went just now */
			if (sent == -ECONNRESET)
				atomic_store(&sk->shm->owed, ECONNRESET);
			ntbs_write_once(tx->replay, 0);
			break;
		}
		ntbs_write_once(tx->replay, tx->replay - sent);
		ntbs_bump(sk->shm->conn.tx.tcp_bytes, sent);
		ntbs_bump(sk->tx.tcp_bytes, sent);
	}
	if (done)		/* they were sent long ago: neither TCP_CORK, set since, nor Nagle holds them back */
		ntbs_shadow_push(fd);
	if (ntbs_sock_flags(sk) & NTBS_SK_FIN_LATER) {
		ntbs_sock_clear_flag(sk, NTBS_SK_FIN_LATER);
		ntbs_sys2(SYS_shutdown, fd, SHUT_WR);
	}
	if (done && ntbs_le32_read(&sk->q.in->again) && ntbs_rt.service_bell >= 0)
		ntbs_bell_ring(ntbs_rt.service_bell);	/* the connection may be offered again now, not under our lock */
	return 0;
}

bool ntbs_stream_fin_later(struct ntbs_sock *sk, int fd)
{
	if (!sk->shm->tx.replay || !ntbs_stream_replay(sk, fd))
		return false;
	ntbs_sock_set_flag(sk, NTBS_SK_FIN_LATER);
	ntbs_service_want_room(sk, fd);
	ntbs_mbox_wake_own(sk);		/* who waits for room hears of it, as from the kernel */
	ntbs_bell_ring(ntbs_rt.mbox[ntbs_rt.mbox_self]);
	return true;
}

void ntbs_stream_stalled(struct ntbs_sock *sk)
{
	ntbs_bump(sk->shm->conn.tx.stalls, 1);
	ntbs_bump(sk->tx.stalls, 1);
}

static ssize_t send_tcp(struct ntbs_sock *sk, int fd, struct ntbs_iter *it, int flags)
{
	ssize_t n = ntbs_shadow_send(fd, it, flags & (MSG_MORE | MSG_DONTROUTE | MSG_CONFIRM));

	if (n > 0) {
		ntbs_bump(sk->shm->conn.tx.tcp_bytes, n);
		ntbs_bump(sk->tx.tcp_bytes, n);
	} else if (n == -EAGAIN) {
		ntbs_stream_stalled(sk);
	}
	return n;
}

/* The peer's news that concern a sender.  True: the direction has left the ring. */
static bool look_for_news(struct ntbs_sock *sk, int fd)
{
	uint64_t asked = ntbs_le64_read_acquire(&sk->q.in->asked);

	if (asked) {
		ntbs_stream_answer(sk, fd, asked - 1);
		return true;
	}
	if (ntbs_le32_read_acquire(&sk->q.in->rstate) != NTBS_R_OPEN) {
		ntbs_stream_leave_tx(sk, fd, NTBS_WHY_PEER_GONE);
		return true;
	}
	return false;
}

/*
 * Has the peer gone without a word (kill -9)?  Then TCP shall say what that means.  A half-close that was stated is no
 * death: a living reader goes on taking from the ring.
 */
static bool peer_lost(struct ntbs_sock *sk, int fd)
{
	short ev = ntbs_shadow_poll(fd, POLLRDHUP);
	bool stated = ntbs_le64_read_acquire(&sk->q.in->final);

	if (!(ev & (POLLHUP | POLLERR)) && (!(ev & POLLRDHUP) || stated))
		return false;
	ntbs_stream_died(sk, fd);
	ntbs_stream_leave_tx(sk, fd, NTBS_WHY_PEER_GONE);
	return true;
}

/* Shall the kernel be asked whether the peer lives?  Once for what the shadow has shown, or if nobody watches it. */
static bool peer_unsure(struct ntbs_sock *sk, int fd)
{
	struct ntbs_dir_tx_shm *tx = &sk->shm->tx;
	uint32_t ev = atomic_load(&sk->shm->shadow_ev);

	if (__builtin_expect(ev != tx->shadow_asked, 0)) {
		tx->shadow_asked = ev;
		return ev != 0;
	}
	if (__builtin_expect(atomic_load_explicit(&sk->watched, memory_order_relaxed), 1))
		return false;
	if (++tx->sends_checked >= CHECKED_SENDS && !(tx->sends_checked & (tx->sends_checked - 1)))
		ntbs_service_watch(sk, fd);	/* tells of what happens from now on, if it can */
	return true;
}

static void count_msgs(struct ntbs_sock *sk, ssize_t n)
{
	const struct ntbs_msgq_tx_shm *mq = &sk->shm->tx.mq;
	struct ntbs_counters *c = &sk->shm->conn.tx;

	ntbs_bump(c->ring_bytes, n);
	ntbs_bump(sk->tx.ring_bytes, n);
	/* one at a time: loaded as a pair right after one of them was stored, they wait until the store has left the CPU,
	 * and it stands behind the message's */
	ntbs_count(&c->inline_msgs, &sk->tx.inline_msgs, mq->inline_msgs);
	ntbs_count(&c->short_msgs, &sk->tx.short_msgs, mq->short_msgs);
	ntbs_count(&c->long_msgs, &sk->tx.long_msgs, mq->long_msgs);
}

/*
 * Bulk bytes that a blocking send keeps in flight before it looks for credit.  Stored past the caches they cost nobody's
 * cache anything, and a mebibyte is enough.  Through the caches it has to be more than a core's own cache holds: what the
 * reader finds in the shared cache costs less than what it has to take out of the writer's (a stream of 64 KiB writes on
 * Sapphire Rapids, 2 MiB of L2: 11 GB/s with 1 MiB, 14 with 2, 17 with 4 and more).
 */
static uint32_t soft_window(const struct ntbs_msgq *q)
{
	return q->long_cached && q->geo.bulk_bytes / 2 > SOFT_WINDOW ? q->geo.bulk_bytes / 2 : SOFT_WINDOW;
}

static ssize_t send_ring(struct ntbs_sock *sk, int fd, struct ntbs_iter *it, bool may_wait)
{
	ssize_t n = ntbs_msgq_send(&sk->q, it, may_wait ? soft_window(&sk->q) : 0);

	if (n > 0) {
		count_msgs(sk, n);
	} else {
		ntbs_stream_stalled(sk);
	}
	return n;
}

/* An error that the next call shows, whichever it is: another call may have shown it meanwhile. */
static ssize_t send_owed(struct ntbs_sock *sk)
{
	ntbs_sock_clear_flag(sk, NTBS_SK_OWED);
	return -ntbs_sock_take_owed(sk);
}

/* The timer of TCP_USER_TIMEOUT runs as long as the peer's window is closed (tcp_probe_timer()), and only bytes on TCP close it. */
bool ntbs_stream_full(struct ntbs_sock *sk, int fd)
{
	if (!(ntbs_sock_flags(sk) & NTBS_SK_USER_TIMEOUT))
		return false;
	ntbs_stream_leave_tx(sk, fd, NTBS_WHY_OPTION);
	return true;
}

ssize_t ntbs_stream_send(struct ntbs_sock *sk, int fd, struct ntbs_iter *it, int flags, bool may_wait)
{
	struct ntbs_dir_tx_shm *tx = &sk->shm->tx;

	if (tx->state == NTBS_DIR_TCP && ntbs_sock_stage(sk) == NTBS_LIVE)
		ntbs_stream_switch_tx(sk, fd);
	if (tx->state == NTBS_DIR_RING) {
		bool check = peer_unsure(sk, fd);
		ssize_t n;

		if (__builtin_expect(ntbs_sock_flags(sk) & (NTBS_SK_SHUT_WR | NTBS_SK_RESET | NTBS_SK_OWED), 0)) {
			if ((ntbs_sock_flags(sk) & NTBS_SK_OWED) && (n = send_owed(sk)))
				return n;
			/* the kernel's end is shut as well: it knows if there is another error to show */
			if (ntbs_sock_flags(sk) & NTBS_SK_SHUT_WR)
				return ntbs_shadow_send(fd, it, 0);
			if (ntbs_sock_flags(sk) & NTBS_SK_RESET)
				return -ECONNRESET;
		}
		if (!look_for_news(sk, fd) && !(check && peer_lost(sk, fd))) {
			n = send_ring(sk, fd, it, may_wait);
			if (n != -EAGAIN || may_wait)
				return n;
			/* no room, and the peer's FIN is there: TCP knows if anybody reads */
			if (ntbs_le64_read_acquire(&sk->q.in->final))
				ntbs_stream_leave_tx(sk, fd, NTBS_WHY_PEER_GONE);
			else if (!ntbs_stream_full(sk, fd))
				return n;
		}
	}
	if (__builtin_expect(ntbs_sock_flags(sk) & (NTBS_SK_OWED | NTBS_SK_FIN_LATER | NTBS_SK_RESET), 0)) {
		ssize_t n = send_owed(sk);

		if (n)
			return n;
		if (ntbs_sock_flags(sk) & NTBS_SK_RESET)	/* bytes that were to be sent again are not there: nothing may follow */
			return -ECONNRESET;
		if (ntbs_sock_flags(sk) & NTBS_SK_FIN_LATER)
			return -EPIPE;
	}
	if (tx->replay && ntbs_stream_replay(sk, fd)) {
		ntbs_stream_stalled(sk);
		return -EAGAIN;
	}
	return send_tcp(sk, fd, it, flags);
}
