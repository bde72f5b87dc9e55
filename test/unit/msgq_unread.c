// SPDX-License-Identifier: BSD-2-Clause
/* msgq_unread.c - what the peer has not taken can be read back from the outbox, byte for byte (to replay it over TCP) */
#include "simpair.h"

static void read_back(struct simpair *p, size_t back, size_t len)
{
	size_t want = back < len ? back : len;
	uint8_t *room = malloc(len ? len : 1);
	ssize_t ret, wrong;

	t_must(room, "no memory");
	ret = ntbs_msgq_unread(&p->s[0].q, back, room, len);
	t_eq(ret, (long long)want, "bytes read back from %zu before the end, at most %zu", back, len);
	if (ret > 0) {
		wrong = t_wrong(room, (size_t)ret, 0, p->s[0].sent - back);
		t_ok(wrong < 0, "byte %zd of %zd read back from %zu before the end is wrong", wrong, ret, back);
	}
	free(room);
}

int main(void)
{
	static const uint16_t len[] = { 1, 54, 55, 56, 60, 61, 62, 63, 116, 117, 500 };

	for (unsigned i = 0; i < sizeof(len) / sizeof(*len); i++) {
		struct simpair *p = simpair_open(.nr_slots = 8, .bulk_bytes = 1 << 14);

		t_eq(ntbs_msgq_send_switch(&p->s[0].q, 9), 0, "SWITCH");
		t_eq(simpair_send(p, 0, len[i]), len[i], "send");
		for (size_t back = 0; back <= len[i]; back++)
			read_back(p, back, len[i]);
		t_eq(ntbs_msgq_unread(&p->s[0].q, 20000, p->buf, 10), -EINVAL, "more than was ever sent");
		simpair_close(p);
	}
	for (unsigned i = 0; i < 300; i++) {
		struct simpair *p = simpair_open(.nr_slots = 8u << t_rand() % 4, .bulk_bytes = 1 << 14,
						 .first_seq = UINT32_MAX - 30, .first_bulk = i & 1 ? UINT32_MAX - 4000 : 0);

		for (unsigned n = 0; n < 60; n++) {
			simpair_send(p, 0, simpair_len(400));
			if (t_rand() % 3 == 0)
				simpair_recv(p, 1, simpair_len(400), 0);
			if (t_rand() % 4 == 0) {
				size_t left = (size_t)(p->s[0].sent - p->s[1].got);

				read_back(p, left, left);
				read_back(p, t_rand() % (left + 1), t_rand() % (left + 1));
			}
		}
		simpair_settle(p);
		simpair_close(p);
	}
	return t_done();
}
