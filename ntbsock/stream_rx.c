// SPDX-License-Identifier: BSD-2-Clause
/*
 * stream_rx.c - bytes of one direction from TCP, then the ring, then TCP again: one stream to the program
 *
 * rx lock held throughout; nothing here waits.
 *   TCP    nothing but TCP has been seen.  A SWITCH in the ring says that TCP ends at W.
 *   DRAIN  @tcp_left bytes of TCP before W are still to come
 *   RING   the ring, up to Q if Q is stated
 *   BACK   TCP from Q on
 * The end of the stream is the stated final position, or the kernel's FIN once the ring is empty; a FIN that came
 * without a stated end is the death of the peer's processes.
 */
#include "sock.h"

#include <errno.h>
#include <poll.h>

#include "far.h"
#include "log.h"
#include "mbox.h"
#include "offer.h"
#include "service.h"
#include "shadow.h"
#include "stats.h"
#include "sys.h"
#include "wait.h"

#define TORN_NS 200000000ull		/* lines of one message land within that, or not at all */
#define ANSWER_NS 2000000000ull		/* a sender that is there has begun again on TCP by then */
#define RESET_WAIT_NS 50000000ull	/* a peer's kernel has answered by then, whose FIN has just come */
#define EMPTY_LOOKS 8			/* looks at an empty ring, and at the shadow, after which the service thread shall tell us of the end */

void ntbs_stream_rx_back(struct ntbs_sock *sk)
{
	struct ntbs_dir_rx_shm *rx = &sk->shm->rx;

	ntbs_sock_set_rx_state(sk, NTBS_DIR_BACK);
	if (rx->torn_wants) {
		rx->torn_wants = 0;
		ntbs_sock_clear_flag(sk, NTBS_SK_WANT_TCP);
	}
}

static int reset(struct ntbs_sock *sk, enum ntbs_reason why, const char *what)
{
	if (!(ntbs_sock_flags(sk) & NTBS_SK_RESET)) {
		ntbs_sock_set_flag(sk, NTBS_SK_RESET);
		ntbs_write_once(sk->shm->conn.reason, why);
		ntbs_log(NTBS_LOG_ERR, "connection from port %u to port %u reset: %s", sk->shm->conn.tuple.lport,
			 sk->shm->conn.tuple.rport, what);
		ntbs_mbox_wake_all(sk);
	}
	return -ECONNRESET;
}

static int corrupt(struct ntbs_sock *sk, const char *what)
{
	return reset(sk, NTBS_WHY_CORRUPT, what);
}

/*
 * The ring's next message is there in part (ntbs_msgq_torn()).  Lines land in pieces, so that is nothing for a moment.  Then
 * stores have been lost, although the link says that it is up.  The sender has a copy, and is asked to go on from our position on
 * TCP, as by any reader that must leave.  Where it cannot (it has shut down, or is gone, or its switch is what was lost, behind
 * which nobody knows where TCP ends) it is a reset.
 */
static int torn(struct ntbs_sock *sk)
{
	struct ntbs_dir_rx_shm *rx = &sk->shm->rx;
	uint64_t now = ntbs_now_ns();

	if (rx->torn_seq != rx->mq.head + 1) {
		rx->torn_seq = rx->mq.head + 1;
		rx->torn_ns = now;
		rx->torn_asked_ns = 0;
	}
	if (now - rx->torn_ns <= TORN_NS) {
		ntbs_sys0(SYS_sched_yield);
		return -EAGAIN;
	}
	if (rx->state == NTBS_DIR_TCP || (rx->torn_asked_ns && now - rx->torn_asked_ns > ANSWER_NS))
		return reset(sk, NTBS_WHY_LINK, "a message on the ring has not come whole, and does not come again");
	if (!rx->torn_asked_ns) {
		rx->torn_asked_ns = now;
		if (!ntbs_le64_read_acquire(&sk->q.in->q) && !ntbs_le64_read_acquire(&sk->q.in->final) &&
		    !(ntbs_sock_flags(sk) & NTBS_SK_WANT_TCP)) {
			ntbs_log(NTBS_LOG_WARN, "connection from port %u to port %u goes on on TCP: a message on the ring has not come whole",
				 sk->shm->conn.tuple.lport, sk->shm->conn.tuple.rport);
			rx->torn_wants = 1;
			ntbs_sock_set_flag(sk, NTBS_SK_WANT_TCP);
			ntbs_write_once(sk->shm->conn.reason, NTBS_WHY_LINK);
			ntbs_window_store64(sk->q.port, &sk->q.out->asked, rx->mq.pos + 1);
			ntbs_peer_ring_service(sk->chan);
		}
	}
	ntbs_sys0(SYS_sched_yield);
	return -EAGAIN;
}

/* The end that TCP shows is our own, not the peer's: it takes nothing more from us, and what comes can be read. */
static bool our_end(const struct ntbs_sock *sk, int fd)
{
	return (ntbs_sock_flags(sk) & NTBS_SK_SHUT_RD) && !ntbs_shadow_peer_ended(fd);
}

/*
 * Bytes of TCP that the ring has brought.  1: none are left; 0 and -EAGAIN: they are on their way, at an end of our own or not.
 * If their sender has gone there are none, and the error of that is not for who reads past them.
 */
static int drop_twice(struct ntbs_sock *sk, int fd)
{
	struct ntbs_dir_rx_shm *rx = &sk->shm->rx;
	uint64_t drop[512];
	long n = 1;

	while (rx->twice && n > 0) {
		n = ntbs_sys6(SYS_recvfrom, fd, (long)drop, rx->twice < sizeof(drop) ? rx->twice : sizeof(drop), MSG_DONTWAIT, 0, 0);
		if (n > 0)
			ntbs_write_once(rx->twice, rx->twice - n);
	}
	if (n == -EAGAIN || n == -EBADF || n == -ENOTSOCK)	/* @fd has just been closed */
		return -EAGAIN;
	if (!n && our_end(sk, fd))
		return 0;
	if (n < 0)
		atomic_store(&sk->shm->owed, -(int)n);
	ntbs_write_once(rx->twice, 0);
	return 1;
}

int ntbs_stream_rx_look(struct ntbs_sock *sk, int fd)
{
	struct ntbs_dir_rx_shm *rx = &sk->shm->rx;
	uint64_t w, got, q;
	bool closed;
	int ret;

	if (rx->state == NTBS_DIR_TCP) {
		q = ntbs_le64_read_acquire(&sk->q.in->q);
		ret = ntbs_msgq_peek_switch(&sk->q, &w);
		if (!ret) {
			/* stated without a switch before it: the direction never leaves TCP; or a link has lost the switch */
			if (q && (q == 1 || !ntbs_sock_far(sk)))
				ntbs_stream_rx_back(sk);
			else if (ntbs_msgq_torn(&sk->q) && torn(sk) != -EAGAIN)
				return -ECONNRESET;
			return 0;
		}
		if (ret < 0)
			return corrupt(sk, "the first message of the ring is no switch");
		ret = ntbs_shadow_read(fd, &got, &closed);
		if (ret)
			return 0;	/* the kernel's counts move, or @fd has just been closed: look again at the next call */
		if (closed && got == w + 1)
			got = w;	/* the FIN */
		else if (closed && got == ntbs_read_once(sk->shm->conn.rx.tcp_bytes) + 1)
			got--;		/* the same, before the last of them has been read */
		if (q && got > w)
			got = w;	/* of what follows at Q the kernel throws an urgent byte away when the next one comes */
		if (w < got)
			return corrupt(sk, "the switch lies before bytes that TCP has delivered");
		ntbs_write_once(rx->mq.pos, w);
		ntbs_write_once(rx->w, w + 1);
		ntbs_write_once(rx->tcp_left, w - got);
		ntbs_msgq_pass_switch(&sk->q);
		ntbs_sock_set_rx_state(sk, rx->tcp_left ? NTBS_DIR_DRAIN : NTBS_DIR_RING);
	}
	if (rx->state == NTBS_DIR_DRAIN && ntbs_le64_read_acquire(&sk->q.in->q) == rx->mq.pos + 1) {
		ntbs_write_once(rx->tcp_left, 0);	/* it has left again without a byte on the ring */
		ntbs_stream_rx_back(sk);
	}
	if (rx->state == NTBS_DIR_RING) {
		q = ntbs_le64_read_acquire(&sk->q.in->q);
		/* It can lie before: ntbs_stream_leave_tx(), and the answer to who had asked and waited for it no longer. */
		if (q && rx->mq.pos >= q - 1) {
			if (q < rx->w || rx->mq.pos - (q - 1) > UINT32_MAX)
				return corrupt(sk, "TCP is said to go on before the ring began");
			ntbs_write_once(rx->twice, rx->mq.pos - (q - 1));
			ntbs_stream_rx_back(sk);
		}
	}
	if (__builtin_expect(rx->twice, 0))
		drop_twice(sk, fd);
	return 0;
}

/*
 * Over a port the end can be stated before the last slots are here, where a copy engine carries them.  Its broker says when
 * they are.
 */
static bool slots_under_way(const struct ntbs_sock *sk)
{
	uint64_t final = ntbs_le64_read_acquire(&sk->q.in->final);

	return ntbs_sock_far(sk) && ntbs_sock_rx_state(sk) == NTBS_DIR_RING && final && final != NTBS_POS_ON_TCP &&
	       !ntbs_le64_read(&sk->q.in->q) && ntbs_read_once(sk->shm->rx.mq.pos) < final - 1 && !ntbs_msgq_readable(&sk->q);
}

/* Or nothing depends on it: what comes is on TCP, and nothing of ours lies in the ring. */
static bool end_stated(const struct ntbs_sock *sk)
{
	if (slots_under_way(sk))
		return false;
	return ntbs_le64_read_acquire(&sk->q.in->final) || ntbs_le32_read_acquire(&sk->q.in->rstate) ||
	       (ntbs_sock_rx_state(sk) == NTBS_DIR_BACK &&
		(ntbs_sock_tx_state(sk) != NTBS_DIR_RING || ntbs_read_once(sk->shm->tx.mq.pos) == sk->shm->tx.w));
}

static bool end_unknown(struct ntbs_sock *sk)
{
	int ret;

	if (ntbs_sock_stage(sk) != NTBS_LIVE || !ntbs_sock_far(sk) || end_stated(sk) ||
	    (ntbs_sock_flags(sk) & (NTBS_SK_RESET | NTBS_SK_DIED | NTBS_SK_PASSED)))
		return false;
	ret = ntbs_far_ended(sk);
	if (ret == -ETIMEDOUT && !end_stated(sk)) {	/* never taken for an end of file */
		ntbs_stats_timer_ran_out();
		ntbs_sock_set_flag(sk, NTBS_SK_RESET);
		ntbs_write_once(sk->shm->conn.reason, NTBS_WHY_PEER_GONE);
		return false;
	}
	return ret && !end_stated(sk);
}

/* Behind an end of our own there is nothing to be known. */
bool ntbs_stream_end_unknown(struct ntbs_sock *sk)
{
	return !(ntbs_sock_flags(sk) & NTBS_SK_SHUT_RD) && end_unknown(sk);
}

/*
 * Behind its own FIN the peer has closed with bytes of ours unread, and one of the rings was full: on TCP that FIN, or ours, would
 * not have come yet, and the reset before it.
 */
static bool reset_unheard(struct ntbs_sock *sk)
{
	uint32_t r = ntbs_le32_read_acquire(&sk->q.in->rstate);

	return r == NTBS_R_ABORT || (r == NTBS_R_RESET && (ntbs_sock_flags(sk) & NTBS_SK_SHUT_WR) && ntbs_msgq_full(&sk->q));
}

/*
 * FIN without a stated end: the peer was killed, perhaps before it knew that there is a ring.  TCP resets if it left bytes of
 * ours unread: a byte to its kernel, where nobody is any more, brings the reset, and with it all that the kernel says of such
 * a socket.  With our FIN in the same segment, since behind a FIN that is alone the kernel calls a reset EPIPE (tcp_reset()).
 * It is a round trip away, and the kernel's error has to be there when ours is told and it is taken for that (ntbs_sock_owed()):
 * it would be a second one.
 */
static bool reset_as_tcp(struct ntbs_sock *sk, int fd, int owe)
{
	uint64_t until;
	char c = 0;

	if (ntbs_sock_flags(sk) & NTBS_SK_DIED)
		return false;
	if (our_end(sk, fd))
		return false;
	if (end_unknown(sk))
		return false;
	if ((ntbs_le64_read_acquire(&sk->q.in->final) || ntbs_le32_read_acquire(&sk->q.in->rstate)) && !reset_unheard(sk))
		return false;
	if (ntbs_le32_read_acquire(&sk->q.in->rstate) != NTBS_R_ABORT &&
	    (ntbs_offer_unnoticed(sk) || ntbs_sock_tx_state(sk) != NTBS_DIR_RING ||
	     ntbs_read_once(sk->shm->tx.mq.pos) == sk->shm->tx.w || ntbs_msgq_peer_had_all(&sk->q)))
		return false;
	if (atomic_fetch_or(&sk->shm->flags, NTBS_SK_DIED) & NTBS_SK_DIED)
		return false;
	if (ntbs_shadow_was_reset(fd))		/* bytes of TCP were left unread as well: the kernel tells it */
		return false;
	if (owe)
		atomic_store(&sk->shm->owed, owe);
	ntbs_sys6(SYS_sendto, fd, (long)&c, 1, MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE, 0, 0);
	ntbs_sys2(SYS_shutdown, fd, SHUT_WR);
	for (until = ntbs_now_ns() + RESET_WAIT_NS; !ntbs_shadow_closed(fd); ntbs_sys0(SYS_sched_yield)) {
		if (ntbs_now_ns() < until)
			continue;
		ntbs_stats_timer_ran_out();
		break;
	}
	return true;
}

/* A read finds no error behind a FIN (tcp_recvmsg_locked(), SOCK_DONE): we tell it. */
bool ntbs_stream_died(struct ntbs_sock *sk, int fd)
{
	int err;
	socklen_t len = sizeof(err);

	if (!reset_as_tcp(sk, fd, ECONNRESET))
		return false;
	ntbs_sys5(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, &err, &len);
	return true;
}

void ntbs_stream_died_for_others(struct ntbs_sock *sk, int fd, bool tell)
{
	reset_as_tcp(sk, fd, tell ? -ECONNRESET : 0);
}

/* The ring is empty: has the stream ended?  -EAGAIN no, 0 end of file, -errno. */
static int stream_end(struct ntbs_sock *sk, int fd)
{
	struct ntbs_dir_rx_shm *rx = &sk->shm->rx;
	uint64_t final = ntbs_le64_read_acquire(&sk->q.in->final);
	uint32_t rstate = ntbs_le32_read_acquire(&sk->q.in->rstate), ev;
	int end;

	if (ntbs_msgq_readable(&sk->q))
		return -EAGAIN;		/* published before the end was stated */
	if (final && rx->mq.pos > final - 1)
		return corrupt(sk, "more bytes than the peer says it has sent");
	if (final && rx->mq.pos == final - 1 && !ntbs_r_is_reset(rstate))
		return 0;
	if (ntbs_sock_flags(sk) & NTBS_SK_SHUT_RD) {		/* our own end; an error of the connection comes before it */
		end = ntbs_shadow_end(fd);
		if (end > 0)
			return -EAGAIN;
		ntbs_stream_died(sk, fd);
		return end == -EAGAIN ? 0 : end;
	}
	if (!rstate && !atomic_load(&sk->shm->shadow_ev)) {
		if (atomic_load_explicit(&sk->watched, memory_order_relaxed))
			return -EAGAIN;
		if (rx->empty_looks++ >= EMPTY_LOOKS && ntbs_service_watch(sk, fd))
			return -EAGAIN;
	}
	ev = atomic_load(&sk->shm->shadow_ev);
	end = ntbs_shadow_end(fd);
	if (end == -EAGAIN)		/* unless something has come since */
		atomic_compare_exchange_strong(&sk->shm->shadow_ev, &ev, 0);
	if (end < 0)
		return end;
	if (!end && ntbs_stream_end_unknown(sk)) {
		ntbs_sys0(SYS_sched_yield);
		return -EAGAIN;
	}
	if (ntbs_sock_flags(sk) & NTBS_SK_RESET)
		return -ECONNRESET;
	if (ntbs_msgq_readable(&sk->q) || ntbs_le64_read_acquire(&sk->q.in->q))
		return -EAGAIN;
	if (end > 0)
		return -EAGAIN;		/* bytes after W: Q is on its way */
	if (final && ntbs_le64_read_acquire(&sk->q.in->final) != rx->mq.pos + 1)
		return corrupt(sk, "TCP has ended and bytes of the ring are missing");
	ntbs_stream_died(sk, fd);
	return 0;
}

static void count(struct ntbs_sock *sk, ssize_t n, bool ring)
{
	struct ntbs_counters *c = &sk->shm->conn.rx;

	if (ring) {
		const struct ntbs_msgq_rx_shm *mq = &sk->shm->rx.mq;

		ntbs_bump(c->ring_bytes, n);
		ntbs_bump(sk->rx.ring_bytes, n);
		ntbs_count(&c->inline_msgs, &sk->rx.inline_msgs, mq->inline_msgs);
		ntbs_count(&c->short_msgs, &sk->rx.short_msgs, mq->short_msgs);
		ntbs_count(&c->long_msgs, &sk->rx.long_msgs, mq->long_msgs);
	} else {
		ntbs_bump(c->tcp_bytes, n);
		ntbs_bump(sk->rx.tcp_bytes, n);
	}
}

/* Up to Q, and no further. */
static ssize_t recv_ring(struct ntbs_sock *sk, struct ntbs_iter *it, int flags, bool *acked)
{
	struct ntbs_dir_rx_shm *rx = &sk->shm->rx;
	int how = (flags & MSG_PEEK ? NTBS_RECV_PEEK : 0) | (flags & MSG_TRUNC ? NTBS_RECV_DROP : 0);
	uint64_t q = ntbs_le64_read_acquire(&sk->q.in->q);
	size_t beyond = 0;
	ssize_t n;

	if (__builtin_expect(q != 0, 0)) {
		uint64_t room = q - 1 - rx->mq.pos;

		if (it->left > room) {
			beyond = it->left - room;
			it->left = room;
		}
	}
	n = it->left ? ntbs_msgq_recv(&sk->q, it, how, acked) : -EAGAIN;
	it->left += beyond;
	if (n == -EPROTO)
		return corrupt(sk, "the peer wrote a message that cannot be");
	if (n > 0 && !(flags & MSG_PEEK))
		count(sk, n, true);
	return n;
}

/*
 * A look moves nothing: if it has come to Q, what TCP has from there on is part of it.  Without a byte there the kernel would
 * tell its error, which is the next call's.
 */
static ssize_t peek_beyond(struct ntbs_sock *sk, int fd, struct ntbs_iter *it, int flags, ssize_t tcp, ssize_t ring, uint64_t q)
{
	int there = 0;
	ssize_t n;

	if (sk->shm->rx.mq.pos + ring != q - 1 || (!tcp && ntbs_shadow_at_mark(fd)))
		return 0;
	ntbs_shadow_inq(fd, &there);
	if (there <= tcp)
		return 0;
	n = ntbs_shadow_peek(fd, it, tcp, flags & MSG_TRUNC);
	return n > 0 ? n : 0;
}

/* So it is of a read, up to an urgent byte. */
static ssize_t read_beyond(struct ntbs_sock *sk, int fd, struct ntbs_iter *it, int flags)
{
	ssize_t n;

	if (ntbs_stream_rx_look(sk, fd) || sk->shm->rx.state != NTBS_DIR_BACK || sk->shm->rx.twice)
		return 0;
	n = ntbs_shadow_recv(fd, it, ntbs_shadow_before_mark(fd), flags & MSG_TRUNC);
	if (n <= 0)
		return 0;
	count(sk, n, false);
	return n;
}

/* A call has taken or seen @ring bytes of the ring, and @tcp before them: what does it find behind the ring? */
static ssize_t beyond(struct ntbs_sock *sk, int fd, struct ntbs_iter *it, int flags, ssize_t tcp, ssize_t ring)
{
	uint64_t q = ntbs_le64_read_acquire(&sk->q.in->q);

	if (__builtin_expect(!q, 1) || !it->left)
		return 0;
	return flags & MSG_PEEK ? peek_beyond(sk, fd, it, flags, tcp, ring, q) : read_beyond(sk, fd, it, flags);
}

/*
 * With bytes in hand a read ends at an urgent byte, whenever that comes: be they of the ring, and the byte the reason why TCP goes
 * on.  The kernel has not given this call any of them, so nothing is asked of it that might begin there.
 */
static ssize_t more_of_tcp(int fd, struct ntbs_iter *it, int flags, size_t limit)
{
	size_t before_mark = ntbs_shadow_before_mark(fd);
	int end;

	if (limit > before_mark)
		limit = before_mark;
	if (limit)
		return ntbs_shadow_recv(fd, it, limit, flags);
	if (before_mark || ntbs_shadow_at_mark(fd))
		return -EAGAIN;
	end = ntbs_shadow_end(fd);
	return end > 0 ? -EAGAIN : end;		/* come just now: the next look's */
}

ssize_t ntbs_stream_recv(struct ntbs_sock *sk, int fd, struct ntbs_iter *it, int flags, size_t limit, bool *acked)
{
	struct ntbs_dir_rx_shm *rx = &sk->shm->rx;
	const int kflags = flags & (MSG_PEEK | MSG_TRUNC);
	ssize_t sum = 0, n;
	int ret;

	if (__builtin_expect(ntbs_sock_flags(sk) & NTBS_SK_RESET, 0))
		return -ECONNRESET;
	if (ntbs_sock_stage(sk) == NTBS_LIVE && (rx->state == NTBS_DIR_TCP || ntbs_le64_read(&sk->q.in->q))) {
		ret = ntbs_stream_rx_look(sk, fd);
		if (ret)
			return ret;
	}
	if (rx->state == NTBS_DIR_BACK) {
		limit = it->left;
		if (rx->twice && (ret = drop_twice(sk, fd)) <= 0)
			return ret;
	}
	if (rx->state == NTBS_DIR_DRAIN) {
		n = ntbs_shadow_recv(fd, it, rx->tcp_left, kflags);
		if (n == 0 && !our_end(sk, fd) && !ntbs_shadow_was_reset(fd))
			return corrupt(sk, "TCP has ended before the switch");
		if (n <= 0)
			return n;
		if (!(flags & MSG_PEEK)) {
			ntbs_write_once(rx->tcp_left, rx->tcp_left - n);
			count(sk, n, false);
			if (rx->tcp_left)
				return n;
			ntbs_sock_set_rx_state(sk, NTBS_DIR_RING);
			atomic_thread_fence(memory_order_seq_cst);	/* pairs with wait_shadow_stirred() */
			if (atomic_load(&sk->shm->tcp_readers))
				ntbs_bell_ring(ntbs_rt.mbox[ntbs_rt.mbox_self]);
		} else if ((uint64_t)n < rx->tcp_left) {
			return n;
		}
		sum = n;
		if (!it->left)
			return sum;
	}
	if (rx->state == NTBS_DIR_RING || (sum && rx->state == NTBS_DIR_DRAIN)) {
		if (ntbs_sock_flags(sk) & NTBS_SK_WANT_TCP)
			return sum ? sum : rx->torn_wants ? torn(sk) : -EAGAIN;
		n = recv_ring(sk, it, flags, acked);
		if (n > 0)
			return sum + n + beyond(sk, fd, it, flags, sum, n);
		if (n != -EAGAIN)
			return sum ? sum : n;
		if (sum)
			return sum + beyond(sk, fd, it, flags, sum, 0);
		ret = ntbs_stream_rx_look(sk, fd);
		if (ret)
			return ret;
		if (rx->state == NTBS_DIR_RING)
			return ntbs_msgq_torn(&sk->q) ? torn(sk) : stream_end(sk, fd);
		if (rx->twice)
			return -EAGAIN;
		limit = it->left;	/* BACK: TCP from here on */
	}
	if (flags & NTBS_MSG_IN_HAND) {
		n = more_of_tcp(fd, it, kflags, limit);
	} else if (!limit) {		/* nothing was there when the look for a switch began */
		n = ntbs_shadow_end(fd);
		if (n > 0) {
			limit = ntbs_shadow_arrived(fd);	/* before this look for a switch */
			if (rx->state == NTBS_DIR_TCP && ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_msgq_readable(&sk->q))
				return -EAGAIN;
			if (limit && ntbs_sock_stage(sk) == NTBS_OFFER)
				return -EAGAIN;		/* nor was a claim: they can lie behind it, and the ring's bytes before them */
			n = ntbs_shadow_recv(fd, it, limit ? limit : 1, kflags);
		} else if (!n && !(flags & MSG_PEEK)) {
			n = ntbs_shadow_recv(fd, it, 1, 0);	/* passes an urgent byte before the end */
		} else if (n != -EAGAIN && !(flags & MSG_PEEK)) {
			ntbs_shadow_pass_urgent(fd);
		}
	} else {
		n = ntbs_shadow_recv(fd, it, limit, kflags);
	}
	if (n > 0 && !(flags & MSG_PEEK))
		count(sk, n, false);
	if (n == 0 && ntbs_stream_end_unknown(sk)) {
		ntbs_sys0(SYS_sched_yield);
		return -EAGAIN;
	}
	if (n == 0 && rx->state == NTBS_DIR_TCP && ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_msgq_readable(&sk->q))
		return -EAGAIN;		/* the end came between our look and TCP's: the ring's bytes are older */
	if (n == 0 && ntbs_sock_stage(sk) == NTBS_LIVE)
		ntbs_stream_died(sk, fd);
	return n;
}

bool ntbs_stream_error_next(struct ntbs_sock *sk, int fd)
{
	bool ring = ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_rx_state(sk) == NTBS_DIR_RING;
	int inq = 0;

	if (ring && ntbs_msgq_readable(&sk->q))
		return false;
	if (ring && !atomic_load(&sk->shm->shadow_ev) && !ntbs_le32_read(&sk->q.in->rstate))
		return false;		/* TCP is not asked then */
	ntbs_shadow_inq(fd, &inq);
	return !inq && ntbs_shadow_broken(fd);
}

ssize_t ntbs_stream_avail(struct ntbs_sock *sk, int fd)
{
	struct ntbs_dir_rx_shm *rx = &sk->shm->rx;
	uint64_t before, q, end;
	ssize_t ring;
	int inq = 0;

	if (ntbs_stream_rx_look(sk, fd))
		return 0;
	if (rx->state != NTBS_DIR_RING && rx->state != NTBS_DIR_DRAIN)
		return -ENTBS_PASS;
	before = rx->state == NTBS_DIR_DRAIN ? rx->tcp_left : 0;
	q = ntbs_le64_read_acquire(&sk->q.in->q);
	if (before || q) {
		ntbs_shadow_inq(fd, &inq);
		if ((uint64_t)inq < before)
			return inq;
	}
	ring = ntbs_msgq_avail(&sk->q);
	if (ring < 0)
		ring = 0;
	if (q && (uint64_t)ring > q - 1 - rx->mq.pos)	/* those beyond Q come once more by TCP */
		ring = q - 1 - rx->mq.pos;
	/* what lies on TCP behind the ring's bytes counts if nothing is missing between */
	end = rx->mq.pos + ring;
	return before + ring + (q && end == q - 1 ? inq - before : 0);
}
