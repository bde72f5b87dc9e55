// SPDX-License-Identifier: BSD-2-Clause
/* msgq_switch.c - SWITCH slots: the first of a direction, their number, and who may meet them */
#include "simpair.h"

static void over(uint64_t chaos)
{
	static const uint64_t w[] = { 0, 1, 0xffffffff, 0x100000000, UINT64_MAX - 1 };
	struct simpair *p = simpair_open(.nr_slots = 8, .first_seq = UINT32_MAX - 2, .epoch = 3, .chaos = chaos);
	uint64_t got;

	for (unsigned i = 0; i < sizeof(w) / sizeof(*w); i++) {
		struct iovec iov = { p->buf, 10 };
		struct ntbs_iter it;
		bool acked = false;

		got = 42;
		t_eq(ntbs_msgq_peek_switch(&p->s[1].q, &got), 0, "no slot yet");
		t_eq(got, 42, "number without a slot");
		t_eq(ntbs_msgq_send_switch(&p->s[0].q, w[i]), 0, "SWITCH");
		t_eq(simpair_send(p, 0, 30), 30, "bytes behind SWITCH");
		simpair_drain(p);
		ntbs_iter_init(&it, &iov, 10);
		t_eq(ntbs_msgq_recv(&p->s[1].q, &it, 0, &acked), -EPROTO, "SWITCH read as data");
		for (int twice = 0; twice < 2; twice++) {
			t_eq(ntbs_msgq_peek_switch(&p->s[1].q, &got), 1, "SWITCH is there");
			t_ok(got == w[i], "W is %llu, sent was %llu", (unsigned long long)got, (unsigned long long)w[i]);
		}
		ntbs_msgq_pass_switch(&p->s[1].q);
		t_eq(ntbs_msgq_peek_switch(&p->s[1].q, &got), -EPROTO, "data where SWITCH was looked for");
		simpair_settle(p);
	}

	/* a full ring takes no SWITCH, and one more slot makes room for it */
	for (unsigned n = 0; n < 8; n++)
		t_eq(ntbs_msgq_send_switch(&p->s[0].q, n), 0, "SWITCH %u", n);
	t_eq(ntbs_msgq_send_switch(&p->s[0].q, 8), -EAGAIN, "SWITCH into a full ring");
	simpair_drain(p);
	for (unsigned n = 0; n < 8; n++) {
		t_eq(ntbs_msgq_peek_switch(&p->s[1].q, &got), 1, "SWITCH %u", n);
		t_eq(got, n, "W");
		ntbs_msgq_pass_switch(&p->s[1].q);
	}
	ntbs_msgq_ack(&p->s[1].q);
	simpair_drain(p);
	t_eq(ntbs_msgq_send_switch(&p->s[0].q, 8), 0, "SWITCH after credit");
	simpair_close(p);
}

int main(void)
{
	for (unsigned i = 0; i < 20; i++)
		over(i ? t_rand() | 1 : 0);
	return t_done();
}
