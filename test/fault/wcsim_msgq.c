// SPDX-License-Identifier: BSD-2-Clause
/*
 * wcsim_msgq.c - the message queue over the hostile fabric, thousands of seeds
 *
 * All that was sent arrives, each byte at its place, while lines land late, torn and in any order; where chunks are
 * lost, or the link goes, what arrives is a true beginning of what was sent: never a wrong byte.
 */
#include "simpair.h"

#ifdef NTBS_SANITIZED
#define SEEDS 400u
#else
#define SEEDS 2000u
#endif

static uint64_t torn, lost;

static struct simpair *any_pair(uint64_t chaos)
{
	static const uint32_t first[] = { 0, 0xfff0, UINT32_MAX - 9, UINT32_MAX };

	return simpair_open(.nr_slots = 8u << t_rand() % 3, .bulk_bytes = 4096u << t_rand() % 3, .chaos = chaos,
			    .first_seq = first[t_rand() % 4], .first_bulk = t_rand() % 2 ? UINT32_MAX - 1000 : 0,
			    .generation = (uint32_t)t_rand(), .epoch = (uint32_t)t_rand(), .long_min = t_rand() % 2 ? 1000 : 0);
}

static void count(struct simpair *p)
{
	torn += p->s[0].sim.n.torn + p->s[1].sim.n.torn;
	lost += p->s[0].sim.n.lost + p->s[1].sim.n.lost;
}

/* Until nothing more comes; wrong bytes are found on the way. */
static void take_what_comes(struct simpair *p)
{
	for (unsigned idle = 0; idle < 2;) {
		bool came = false;

		for (int i = 0; i < 2; i++)
			came |= simpair_recv(p, i, 500, 0) > 0;
		simpair_step(p);
		idle = came || wcsim_pending(&p->s[0].sim) || wcsim_pending(&p->s[1].sim) ? 0 : idle + 1;
	}
}

static void lossy(uint64_t chaos)
{
	struct simpair *p = any_pair(chaos);

	for (int i = 0; i < 2; i++)
		p->s[i].sim.lose_one_in = 20 + t_rand() % 300;
	for (unsigned n = 0; n < 200; n++) {
		int i = t_rand() & 1;

		simpair_send(p, i, simpair_len(300));
		simpair_step(p);
		if (t_rand() % 2)
			simpair_recv(p, 1 - i, simpair_len(300), t_rand() % 4 ? 0 : NTBS_RECV_PEEK);
	}
	take_what_comes(p);
	count(p);
	simpair_close(p);
}

static void link_loss(uint64_t chaos)
{
	struct simpair *p = any_pair(chaos);
	unsigned when = t_rand() % 150;

	for (unsigned n = 0; n < 200; n++) {
		int i = t_rand() & 1;

		if (n == when || n == when + 20) {
			for (int s = 0; s < 2; s++)
				(n == when ? wcsim_link_down : wcsim_link_up)(&p->s[s].sim);
		}
		simpair_send(p, i, simpair_len(300));
		if (t_rand() % 2)
			simpair_recv(p, 1 - i, simpair_len(300), 0);
		simpair_step(p);
	}
	take_what_comes(p);
	count(p);
	simpair_close(p);
}

int main(void)
{
	for (unsigned n = 0; n < SEEDS && !t_failures_; n++) {
		struct simpair *p = any_pair(t_rand() | 1);

		simpair_traffic(p, 120, n % 5 ? 130 : 2000);
		count(p);
		simpair_close(p);
		lossy(t_rand() | 1);
		link_loss(t_rand() | 1);
	}
	t_ok(torn > SEEDS && lost > SEEDS, "the fabric was kind: %llu torn, %llu lost", (unsigned long long)torn,
	     (unsigned long long)lost);
	return t_done();
}
