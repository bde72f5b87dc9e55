// SPDX-License-Identifier: BSD-2-Clause
/*
 * again.c - see again.h
 *
 * A program that execs with a connection on the ring takes it to TCP first, both directions (handover.c).  If it had
 * the connection to itself, and its environment tells the next image of it, it says so in our inbox: @again.  The next
 * image, if it has the library, then looks for an offer as for any connection that it has accepted; one without never
 * does.  So all that is left for us, who connected, is to offer once more.
 *
 * When: once our side has stated Q and sent again by TCP what the old image had not taken, and our reader has come to
 * the peer's Q.  From then on all bytes are on TCP, as behind a fresh connect(), and the old lease is not needed.  W is
 * counted from the kernel's byte counts of the whole connection, which never saw what went over a ring.
 *
 * How: in a new object.  The old one keeps its queue, stage and lease until the connection ends: other threads may be
 * in the middle of a call on it, and look at its memory without a lock.  What they change they change under a lock of
 * it, where they find that it is not the descriptor's any more (-ENTBS_STALE), or in a way that ntbs_sock_after() makes
 * good.  The new one is in stage OFFER before a descriptor means it: in NEW or PLAIN a call might sleep in the kernel
 * on TCP alone, and miss the ring.  Nor does a call on the old one, from @again on.
 *
 * Who: a sole holder, who connected, whose socket is in no epoll set (its members belong to the object).  Any other
 * connection stays on TCP.  As often as MOVES_MAX: each old lease stays mapped, and with it the bells of an image that
 * has gone; only its pages are given back.
 *
 * Generations do not mix: a new image is a new process to the broker, and claims with a channel of its own.  If exec
 * fails the old image is left with TCP, and our offer ends unclaimed.  test/model/again.pml has the proof.
 */
#include "again.h"

#include <sys/mman.h>

#include "epoll_impl.h"
#include "fdtab.h"
#include "holders.h"
#include "mbox.h"
#include "offer.h"
#include "runtime.h"
#include "service.h"
#include "sys.h"

#define MOVES_MAX 8
/* A connection that has come to its end, or is tied to TCP, has nothing to come back for. */
#define TIED (NTBS_SK_SHUT_RD | NTBS_SK_SHUT_WR | NTBS_SK_NO_SWITCH | NTBS_SK_WANT_TCP | NTBS_SK_RESET | NTBS_SK_DIED)
/* What the program sets and clears. */
#define SET (NTBS_SK_NONBLOCK | NTBS_SK_LINGER0 | NTBS_SK_USER_TIMEOUT)
/* What it or handover.c may have set until the last moment. */
#define LATE (SET | NTBS_SK_NO_SWITCH | NTBS_SK_SHUT_RD | NTBS_SK_OWED)

/* A hint without the locks, an answer with them. */
static bool may(struct ntbs_sock *sk)
{
	return ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk) && ntbs_le32_read_acquire(&sk->q.in->again) &&
	       !ntbs_read_once(sk->shm->conn.accepted) && ntbs_sock_tx_state(sk) == NTBS_DIR_BACK &&
	       ntbs_sock_rx_state(sk) == NTBS_DIR_BACK && atomic_load(&sk->shm->holders) == 1 &&
	       !ntbs_read_once(sk->shm->rx.twice) && !(ntbs_sock_flags(sk) & TIED) && !sk->members && sk->moves < MOVES_MAX && !ntbs_sock_after(sk);
}

/* From @old to @next; some are counted by threads without a lock. */
static void move_counters(struct ntbs_counters *next, struct ntbs_counters *old)
{
	uint64_t *from = (uint64_t *)old, *to = (uint64_t *)next;

	for (size_t i = 0; i < sizeof(*old) / sizeof(*from); i++) {
		ntbs_write_once(to[i], ntbs_read_once(from[i]));
		ntbs_write_once(from[i], 0);
	}
}

static void go_on_counting(struct ntbs_sock *sk, struct ntbs_sock *next)
{
	struct ntbs_conn_shm *conn = &next->shm->conn;

	move_counters(&next->tx, &sk->tx);
	move_counters(&next->rx, &sk->rx);
	move_counters(&conn->tx, &sk->shm->conn.tx);
	move_counters(&conn->rx, &sk->shm->conn.rx);
	/* messages are counted by the difference to the queue's own counters, which begin anew */
	conn->tx.inline_msgs = conn->tx.short_msgs = conn->tx.long_msgs = 0;
	conn->rx.inline_msgs = conn->rx.short_msgs = conn->rx.long_msgs = 0;
}

/* The descriptors are @next's: what was set on the old object before they were, or just now. */
static void take_over(struct ntbs_sock *sk, struct ntbs_sock *next)
{
	atomic_thread_fence(memory_order_seq_cst);	/* pairs with ntbs_sock_after() */
	ntbs_sock_set_flag(next, ntbs_sock_flags(sk) & LATE);
	ntbs_sock_clear_flag(next, ~ntbs_sock_flags(sk) & SET);
	ntbs_write_once(next->shm->rcvtimeo_ns, ntbs_read_once(sk->shm->rcvtimeo_ns));
	ntbs_write_once(next->shm->sndtimeo_ns, ntbs_read_once(sk->shm->sndtimeo_ns));
	ntbs_write_once(next->shm->rcvlowat, ntbs_read_once(sk->shm->rcvlowat));
	next->shm->sndbuf = sk->shm->sndbuf;
	next->shm->rcvbuf = sk->shm->rcvbuf;
	atomic_store(&next->shm->owed, atomic_exchange(&sk->shm->owed, 0));
}

/* Pages of bulk rings that nobody reads any more. */
static void give_back(const struct ntbs_msgq *q, const void *box)
{
	ntbs_sys3(SYS_madvise, (char *)box + q->geo.bulk_offset, q->geo.bulk_bytes, MADV_REMOVE);
}

/*
 * All locks: the pool's against fork, the sets' against a new member, those of the directions against every call that
 * moves bytes, the next object's ctl so that it does not become LIVE before it has all that the old one had.
 */
static bool move(struct ntbs_sock *sk, struct ntbs_sock *next)
{
	bool done;

	ntbs_sock_pool_lock();
	ntbs_lock(&sk->shm->ctl);
	ntbs_lock(&next->shm->ctl);
	ntbs_lock(&ntbs_epoll_pool_lock);
	ntbs_sock_lock_tx(sk);
	ntbs_sock_lock_rx(sk);
	next->before = sk;
	next->moves = sk->moves + 1;
	done = may(sk) && !sk->shm->tx.replay && ntbs_offer_again(next);
	if (done && !ntbs_fdtab_go_on(sk, next)) {
		ntbs_offer_not_again(next);
		done = false;
	}
	if (!done) {
		next->before = NULL;
	} else {
		take_over(sk, next);
		go_on_counting(sk, next);
		ntbs_holders_count_out(sk, false);	/* we were the only one */
		ntbs_offer_again_seen(next);
	}
	ntbs_unlock(&sk->shm->rx.lock);
	ntbs_unlock(&sk->shm->tx.lock);
	ntbs_unlock(&ntbs_epoll_pool_lock);
	ntbs_unlock(&next->shm->ctl);
	ntbs_unlock(&sk->shm->ctl);
	ntbs_sock_pool_unlock();
	return done;
}

bool ntbs_again(struct ntbs_sock *sk)
{
	int fd = sk->fd;
	uint32_t flags = ntbs_sock_flags(sk);
	struct ntbs_sock *next;
	bool done;

	if (ntbs_sock_after(sk))
		return true;
	if (!may(sk) || ntbs_fdtab_foreign() || !ntbs_sock_try_get(sk))
		return false;
	next = ntbs_sock_new(fd, NTBS_SK_AGAIN | (flags & (NTBS_SK_CONNECTED | SET)), NTBS_NEW);
	done = next && ntbs_offer_again_prepare(next, fd) && move(sk, next);
	if (done) {
		ntbs_service_let_go(sk);
		if (!ntbs_sock_far(sk))
			give_back(&sk->q, sk->q.in);
		if (sk->before && !ntbs_sock_far(sk->before))		/* the image that may have read there is gone: its next one has claimed */
			give_back(&sk->before->q, sk->before->q.out);
		ntbs_mbox_wake_own(sk);	/* they look their descriptor up again */
	} else if (next) {
		ntbs_holders_count_out(next, false);
		ntbs_sock_put(next);
	}
	done = ntbs_sock_after(sk) != NULL;
	ntbs_sock_put(sk);
	return done;
}
