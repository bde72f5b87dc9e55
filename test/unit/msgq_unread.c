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

/* All that the reader has not taken is kept, and all that is kept can be read back, whatever the reader has told. */
static void read_kept(struct simpair *p, size_t left)
{
	uint64_t kept = ntbs_msgq_kept(&p->s[0].q);

	t_ok(kept >= left && kept <= p->s[0].sent, "%llu bytes kept of %llu, %zu unread", (unsigned long long)kept,
	     (unsigned long long)p->s[0].sent, left);
	read_back(p, (size_t)kept, (size_t)kept);
}

/* Sent on while it reads: a message that is extended, the ring round and round. */
static void read_kept_of_one(void)
{
	struct simpair *p = simpair_open(.nr_slots = 8, .bulk_bytes = 1 << 14);

	for (unsigned n = 0; n < 4000; n++) {
		simpair_send(p, 0, 300);
		if (n > 40)
			simpair_recv(p, 1, 250 + t_rand() % 100, 0);
		if (n % 16 == 0)
			read_kept(p, (size_t)(p->s[0].sent - p->s[1].got));
	}
	t_ok(p->s[0].sent > 1 << 18, "%llu bytes sent", (unsigned long long)p->s[0].sent);
	simpair_settle(p);
	simpair_close(p);
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
				read_kept(p, left);
				read_back(p, t_rand() % (left + 1), t_rand() % (left + 1));
			}
		}
		simpair_settle(p);
		simpair_close(p);
	}
	read_kept_of_one();
	return t_done();
}
