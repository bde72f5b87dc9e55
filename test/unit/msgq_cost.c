// SPDX-License-Identifier: BSD-2-Clause
/* msgq_cost.c - what a message costs at the port: 1 to 54 bytes one line, 55 to 116 two, more bulk bytes and one */
#include "simpair.h"

static void cost(uint64_t chaos)
{
	struct simpair *p = simpair_open(.nr_slots = 64, .bulk_bytes = 1 << 16, .chaos = chaos, .counted = !chaos);

	for (uint32_t len = 1; len <= 400; len++) {
		struct wcsim_counts before = p->s[0].sim.n, after;

		t_eq(simpair_send(p, 0, len), len, "send");
		after = p->s[0].sim.n;
		t_eq(after.lines - before.lines, len <= 54 || len > 116 ? 1 : 2, "lines stored for %u bytes", len);
		t_eq(after.bulk_bytes - before.bulk_bytes, len <= 116 ? 0 : len, "bulk bytes stored for %u bytes", len);
		t_ok(after.flushes - before.flushes <= (len <= 116 ? 1 : 2), "%llu flushes for %u bytes",
		     (unsigned long long)(after.flushes - before.flushes), len);
		t_eq(after.words - before.words, 0, "words stored for %u bytes", len);
		t_eq(after.readbacks - before.readbacks, 0, "reads across the link for %u bytes", len);
		t_eq(after.rings - before.rings, 0, "bells for %u bytes", len);
		simpair_drain(p);
		t_eq(simpair_recv(p, 1, 400, 0), len, "recv");
		simpair_drain(p);
	}
	simpair_settle(p);
	simpair_close(p);
}

int main(void)
{
	cost(0);
	cost(t_rand() | 1);
	return t_done();
}
