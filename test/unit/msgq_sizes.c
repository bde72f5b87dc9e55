// SPDX-License-Identifier: BSD-2-Clause
/* msgq_sizes.c - messages of every size arrive whole, on shared memory and over the hostile fabric */
#include "simpair.h"

static void sizes(struct simpair *p, const char *what)
{
	static const uint32_t around[] = { 512, 1000, 4096, 16384, 20000, 32768, 65000 };
	int before = t_failures_;

	for (size_t len = 0; len <= 200; len++) {
		struct iovec none = { p->buf, 0 };
		struct ntbs_iter it;

		if (!len) {
			ntbs_iter_init(&it, &none, 0);
			t_eq(ntbs_msgq_send(&p->s[0].q, &it, 0), -EAGAIN, "%s: nothing to send publishes nothing", what);
			continue;
		}
		for (int i = 0; i < 2; i++)
			t_eq(simpair_send(p, i, len), (long long)len, "%s: send of %zu", what, len);
		simpair_settle(p);
	}
	for (unsigned a = 0; a < sizeof(around) / sizeof(*around); a++) {
		for (int d = -2; d <= 2; d++) {
			size_t len = (size_t)((int)around[a] + d);

			t_eq(simpair_send(p, (int)(a & 1), len), (long long)len, "%s: send of %zu", what, len);
			simpair_settle(p);
		}
	}
	t_eq(p->s[0].rx.inline_msgs + p->s[1].rx.inline_msgs, p->s[0].tx.inline_msgs + p->s[1].tx.inline_msgs,
	     "%s: INLINE messages counted at both ends", what);
	if (t_failures_ != before)
		fprintf(stderr, "failures above: %s\n", what);
}

int main(void)
{
	struct simpair *p = simpair_open(.nr_slots = 64, .bulk_bytes = 1 << 18);

	sizes(p, "shared memory");
	simpair_close(p);
	p = simpair_open(.nr_slots = 64, .bulk_bytes = 1 << 18, .long_min = 200);
	sizes(p, "shared memory, LONG from 200 bytes on");
	simpair_close(p);
	for (unsigned i = 0; i < 3; i++) {
		p = simpair_open(.nr_slots = 64, .bulk_bytes = 1 << 18, .first_seq = (uint32_t)t_rand(), .chaos = t_rand() | 1);
		sizes(p, "wcsim");
		simpair_close(p);
	}
	return t_done();
}
