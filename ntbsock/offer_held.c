// SPDX-License-Identifier: BSD-2-Clause
/*
 * offer_held.c - a connection to another host is told of as connected when it has been claimed
 *
 * Between connect() and the claim lie some turns of both brokers and of the acceptor.  What a program sends meanwhile
 * goes by TCP, and its first request is what it waits for.  So the end of connect() is held back until the claim has
 * been confirmed, for HELD_NS at most: a blocking connect() returns later, and poll(), select() and epoll do not say
 * yet that there is room.  To the program it is a longer way to the other host.  Nothing else waits: who sends without
 * having asked sends by TCP, what arrives is shown, an end too.
 *
 * Invariants: @held_until_ns is set in stage OFFER alone, by the connector; whoever takes it away by exchange tells the
 * sets.  Where waiting was in vain the board of our user remembers the listener, and nobody waits for it for VAIN_S:
 * one without a library costs a user HELD_NS a minute.  The board may say anything: at worst somebody waits or does not.
 */
#include "offer_impl.h"

#include <poll.h>

#include "epoll.h"
#include "mbox.h"
#include "service.h"
#include "shadow.h"
#include "stats.h"
#include "wait.h"

#define HELD_NS 300000000ull
#define VAIN_S 60u

static _Atomic uint64_t next_ns;	/* when the service thread looks again; 0: nothing is held back */

static ntbs_le64 *vain_word(const struct ntbs_sock *sk, uint32_t hash)
{
	return &sk->board->shm->vain[hash % NTBS_BOARD_VAIN];
}

static void remember(const struct ntbs_sock *sk, bool vain)
{
	uint32_t hash = ntbs_listener_hash(&sk->shm->conn.tuple);
	ntbs_le64 *word = vain_word(sk, hash);

	if (vain) {
		ntbs_stats_timer_ran_out();
		ntbs_le64_write(word, (uint64_t)hash << 32 | (uint32_t)(ntbs_now_ns() / 1000000000));
	} else if (ntbs_le64_read(word) >> 32 == hash) {
		ntbs_le64_write(word, 0);
	}
}

static bool in_vain(const struct ntbs_sock *sk)
{
	uint32_t hash = ntbs_listener_hash(&sk->shm->conn.tuple), now = ntbs_now_ns() / 1000000000;
	uint64_t word = ntbs_le64_read(vain_word(sk, hash));

	return word >> 32 == hash && now - (uint32_t)word < VAIN_S;
}

static bool look_at(uint64_t when)
{
	uint64_t next = atomic_load(&next_ns);

	while (!next || when < next)
		if (atomic_compare_exchange_strong(&next_ns, &next, when))
			return true;
	return false;
}

void ntbs_offer_hold_back(struct ntbs_sock *sk)
{
	uint64_t until = ntbs_now_ns() + HELD_NS;

	if (in_vain(sk))
		return;
	atomic_store(&sk->shm->held_until_ns, until);
	if (look_at(until))
		ntbs_bell_ring(ntbs_rt.service_bell);
}

static void end(struct ntbs_sock *sk, bool time_is_over)
{
	if (!atomic_load(&sk->shm->held_until_ns) || !atomic_exchange(&sk->shm->held_until_ns, 0))
		return;
	if (ntbs_sock_stage(sk) == NTBS_LIVE) {
		remember(sk, false);
		return;			/* its sets learn of more than this */
	}
	if (time_is_over && ntbs_sock_stage(sk) == NTBS_OFFER)
		remember(sk, true);
	ntbs_epoll_sock_let_go(sk);
	ntbs_bell_ring(ntbs_rt.mbox[ntbs_rt.mbox_self]);
}

void ntbs_offer_let_go(struct ntbs_sock *sk)
{
	end(sk, false);
}

static void look(struct ntbs_sock *sk, void *now)
{
	uint64_t until;

	if (!ntbs_sock_try_get(sk))
		return;
	until = atomic_load(&sk->shm->held_until_ns);
	if (until && until <= *(uint64_t *)now)
		end(sk, true);
	else if (until)
		look_at(until);
	ntbs_sock_put(sk);
}

int ntbs_offer_tick(void)
{
	uint64_t now, next = atomic_load(&next_ns);

	if (!next)
		return -1;
	now = ntbs_now_ns();
	if (now >= next) {
		atomic_store(&next_ns, 0);	/* then the looks: who is held back meanwhile sets it anew */
		ntbs_sock_for_each(look, &now);
		next = atomic_load(&next_ns);
	}
	return !next ? -1 : next <= now ? 0 : (int)((next - now + 999999) / 1000000);
}

void ntbs_offer_await(struct ntbs_sock *sk, int fd)
{
	struct ntbs_wait w = { .restarts = false };

	do {
		w.mark = ntbs_sig_mark();
		w.deadline_ns = atomic_load(&sk->shm->held_until_ns);
		ntbs_offer_step(sk, fd);
	} while (ntbs_offer_held(sk) && w.deadline_ns && !(ntbs_shadow_poll(fd, 0) & (POLLHUP | POLLERR)) &&
		 ntbs_wait_shadow(fd, 0, &w) != -ETIMEDOUT);
	end(sk, ntbs_now_ns() >= w.deadline_ns);
}
