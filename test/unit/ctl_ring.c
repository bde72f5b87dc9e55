// SPDX-License-Identifier: BSD-2-Clause
/*
 * ctl_ring.c - control messages through a hostile window: in order, once, whole; nothing stale, torn or scribbled
 *
 * links: ntbsock/broker/ctlring.c
 */
#include "broker/ctlring.h"

#include "sim/wcsim.h"
#include "t.h"

struct side {
	struct wcsim sim;
	struct ntbs_ctl ctl;
	struct ntbs_ctl_shm *in;
	uint64_t sent, got;
};
static struct side s[2];

static void open_pair(uint64_t chaos, uint32_t epoch)
{
	for (int i = 0; i < 2; i++) {
		wcsim_open(&s[i].sim, chaos ? chaos * 2 + (uint64_t)i + 1 : 0);
		if (!s[i].in)
			s[i].in = aligned_alloc(4096, sizeof(*s[i].in));
		t_must(s[i].in, "no memory");
		s[i].sent = s[i].got = 0;
	}
	for (int i = 0; i < 2; i++)
		ntbs_ctl_open(&s[i].ctl, &s[i].sim.port, s[i].in, s[1 - i].in, epoch);
}

static void close_pair(void)
{
	wcsim_close(&s[0].sim);
	wcsim_close(&s[1].sim);
}

static size_t length(uint64_t n)
{
	return 1 + n * 37 % NTBS_CTL_BYTES;
}

static int send_next(int i)
{
	uint8_t msg[NTBS_CTL_BYTES];
	size_t len = length(s[i].sent);
	int ret;

	t_fill(msg, len, (uint64_t)i, s[i].sent * 1000);
	ret = ntbs_ctl_send(&s[i].ctl, msg, len);
	if (!ret)
		s[i].sent++;
	return ret;
}

/* One message of the other side, if it is there; it must be the next. */
static bool take(int i)
{
	uint8_t msg[NTBS_CTL_BYTES];
	int len = ntbs_ctl_recv(&s[i].ctl, msg);

	if (len == -EAGAIN)
		return false;
	t_must(len == (int)length(s[i].got), "side %d, message %llu: length %d", i, (unsigned long long)s[i].got, len);
	t_must(t_wrong(msg, (size_t)len, (uint64_t)(1 - i), s[i].got * 1000) < 0, "side %d, message %llu: wrong byte", i,
	       (unsigned long long)s[i].got);
	s[i].got++;
	ntbs_ctl_tell(&s[i].ctl);
	return true;
}

static void traffic(uint64_t chaos)
{
	memset(s[0].in ? (void *)s[0].in : (void *)s, 0, s[0].in ? sizeof(*s[0].in) : 0);
	open_pair(chaos, 7);
	for (int i = 0; i < 2; i++)
		memset(s[i].in, 0, sizeof(*s[i].in));
	for (unsigned n = 0; n < 20000; n++) {
		int i = (int)(t_rand() & 1);

		switch (t_rand() % 3) {
		case 0:
			send_next(i);
			break;
		case 1:
			take(i);
			break;
		default:
			wcsim_step(&s[i].sim);
		}
	}
	for (unsigned n = 0; n < 4; n++) {
		for (int i = 0; i < 2; i++)
			wcsim_drain(&s[i].sim);
		while (take(0) || take(1))
			;
	}
	for (int i = 0; i < 2; i++) {
		t_eq(s[i].got, s[1 - i].sent, "messages that side %d got", i);
		t_ok(s[i].sent > 2 * NTBS_CTL_SLOTS, "%llu messages: not once around", (unsigned long long)s[i].sent);
	}
	close_pair();
}

/* No more than there are slots, however long nobody reads; then as many as have been told. */
static void full(void)
{
	open_pair(0, 9);
	for (int i = 0; i < 2; i++)
		memset(s[i].in, 0, sizeof(*s[i].in));
	for (unsigned n = 0; n < NTBS_CTL_SLOTS; n++)
		t_eq(send_next(0), 0, "message %u", n);
	t_eq(send_next(0), -EAGAIN, "one more");
	for (unsigned n = 0; n < NTBS_CTL_SLOTS / 4 - 1; n++)
		t_ok(take(1), "message %u", n);
	t_eq(send_next(0), -EAGAIN, "a quarter has not been taken");
	t_ok(take(1), "a quarter");
	for (unsigned n = 0; n < NTBS_CTL_SLOTS / 4; n++)
		t_eq(send_next(0), 0, "room for message %u", n);
	t_eq(send_next(0), -EAGAIN, "full again");
	t_eq(ntbs_ctl_send(&s[0].ctl, s, 0), -EMSGSIZE, "an empty one");
	t_eq(ntbs_ctl_send(&s[0].ctl, s, NTBS_CTL_BYTES + 1), -EMSGSIZE, "one that is too long");
	/* a word that cannot be says nothing: neither more than was sent, nor another session's */
	ntbs_le64_write(&s[0].in->consumed, 9ull << 32 | (s[0].sent + 1));
	t_eq(send_next(0), -EAGAIN, "more taken than sent");
	ntbs_le64_write(&s[0].in->consumed, 8ull << 32 | s[0].sent);
	t_eq(send_next(0), -EAGAIN, "taken in another session");
	close_pair();
}

/* The slot that comes next, with one bit of it wrong, is not there; restored, it is. */
static void corrupt(void)
{
	open_pair(0, 11);
	for (int i = 0; i < 2; i++)
		memset(s[i].in, 0, sizeof(*s[i].in));
	for (unsigned n = 0; n < 3; n++) {
		t_eq(send_next(0), 0, "send");
		for (unsigned bit = 0; bit < 8 * sizeof(struct ntbs_ctl_slot); bit++) {
			uint8_t *byte = (uint8_t *)&s[1].in->slot[n] + bit / 8;

			*byte ^= 1u << bit % 8;
			t_ok(!take(1), "message %u with bit %u wrong", n, bit);
			*byte ^= 1u << bit % 8;
		}
		t_ok(take(1), "message %u", n);
	}
	t_ok(!ntbs_ctl_torn(&s[1].ctl), "nothing is said to be torn");
	t_eq(send_next(0), 0, "send");
	s[1].in->slot[3].bytes[100] ^= 1;
	t_ok(!take(1) && ntbs_ctl_torn(&s[1].ctl), "a message that is not whole is not said to be torn");
	s[1].in->slot[3].bytes[100] ^= 1;
	s[1].in->slot[3].seq.v = 0;
	t_ok(!take(1) && !ntbs_ctl_torn(&s[1].ctl), "a message that has not come is said to be torn");
	t_eq(send_next(0), 0, "send");
	t_ok(!take(1) && ntbs_ctl_torn(&s[1].ctl), "a message that the next has overtaken is not said to be torn");
	s[1].in->slot[3].seq.v = 4;
	t_ok(take(1) && take(1), "both");
	close_pair();
}

/* Slots of an earlier time: a lap ago, another session, the same one seen twice. */
static void stale(void)
{
	struct ntbs_ctl_slot old;

	open_pair(0, 13);
	for (int i = 0; i < 2; i++)
		memset(s[i].in, 0, sizeof(*s[i].in));
	for (unsigned n = 0; n < NTBS_CTL_SLOTS; n++) {
		t_eq(send_next(0), 0, "send");
		t_ok(take(1), "take");
	}
	t_ok(!take(1), "a slot of the lap before");
	old = s[1].in->slot[0];
	t_eq(send_next(0), 0, "send");
	s[1].in->slot[0] = old;
	t_ok(!take(1), "an old slot over a new one");
	close_pair();
	open_pair(0, 14);	/* the same arenas, the next session */
	t_ok(!take(0) && !take(1), "what lies there from before");
	t_ok(!ntbs_ctl_torn(&s[0].ctl) && !ntbs_ctl_torn(&s[1].ctl), "what lies there from before is no torn message");
	t_eq(send_next(0), 0, "send");
	t_ok(take(1) && !take(1), "one, and not the next of the session before");
	close_pair();
}

int main(void)
{
	traffic(0);
	for (unsigned i = 0; i < 5; i++)
		traffic(t_rand() | 1);
	full();
	corrupt();
	stale();
	return t_done();
}
