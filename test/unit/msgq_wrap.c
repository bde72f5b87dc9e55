// SPDX-License-Identifier: BSD-2-Clause
/* msgq_wrap.c - stamps survive the 16-bit wrap, counters and bulk positions the 32-bit wrap, whatever lands first */
#include "simpair.h"

int main(void)
{
	static const uint32_t first[] = { 0, 0xffff - 3, 0x7fffffff - 2, UINT32_MAX - 3, UINT32_MAX };
	static const uint32_t bulk[] = { 0, UINT32_MAX - 5000, 0x80000000u - 64 };

	for (unsigned f = 0; f < sizeof(first) / sizeof(*first); f++) {
		for (unsigned b = 0; b < sizeof(bulk) / sizeof(*bulk); b++) {
			for (unsigned chaos = 0; chaos < 4; chaos++) {
				struct simpair *p = simpair_open(.nr_slots = chaos & 1 ? 8 : 32, .first_seq = first[f],
								 .bulk_bytes = 1 << 13, .first_bulk = bulk[b],
								 .chaos = chaos ? t_rand() | 1 : 0);

				simpair_traffic(p, 3000, 300);
				simpair_traffic(p, 300, 6000);
				simpair_close(p);
			}
		}
	}

	/* more than 2^16 messages through the largest ring: every stamp comes round again */
	struct simpair *p = simpair_open(.nr_slots = 4096, .bulk_bytes = 1 << 16);

	for (unsigned i = 0; i < 150000 && !t_failures_; i++) {
		simpair_send(p, 0, 1 + i % 100);
		if (i % 3000 == 2999)
			simpair_settle(p);
	}
	simpair_settle(p);
	t_ok(p->s[1].rx.head > 0x20000, "only %llu messages", (unsigned long long)p->s[1].rx.head);
	simpair_close(p);
	return t_done();
}
