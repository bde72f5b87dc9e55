// SPDX-License-Identifier: BSD-2-Clause
/*
 * fuzz_inbox.c - an enemy at the other end of a message queue
 *
 * The input is a program of the enemy's stores into our inbox, and into our outbox, which he can write as well, and
 * of our calls in between.  Whatever he does: no access outside the inboxes (AddressSanitizer), no undefined
 * behaviour, no call that takes more than it was given room for, no more in flight than the rings hold, and no call
 * that runs long (libFuzzer's -timeout).  One input byte chooses the port: whole, or one that may tear (with CRC).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "msgq.h"
#include "sign.h"
#include "sim/wcsim.h"

#define SLOTS 8u
#define BULK 4096u
#define OFFSET 4096u
#define ROOM 3000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *p;
	size_t left;
};

static uint64_t take(struct input *in, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes && in->left; i++, in->left--)
		v |= (uint64_t)*in->p++ << (8 * i);
	return v;
}

#define must(cond)                                                                                  \
	do {                                                                                        \
		if (!(cond)) {                                                                      \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond);          \
			abort();                                                                    \
		}                                                                                   \
	} while (0)

/* The next slot that we will look at, or one of those behind it. */
static struct ntbs_slot_shm *near_slot(const struct ntbs_msgq *q, struct ntbs_inbox_shm *inbox, unsigned ahead, uint32_t *seq)
{
	*seq = q->rx->head + (ahead & 3);
	return &inbox->slot[*seq & (SLOTS - 1)];
}

static void enemy(struct input *in, struct ntbs_msgq *q, struct ntbs_inbox_shm *inbox)
{
	unsigned op = (unsigned)take(in, 1);
	struct ntbs_slot_shm *slot;
	uint64_t value;
	size_t at;
	uint32_t seq;

	switch (op % 6) {
	case 0:		/* a word anywhere, in either inbox */
		at = take(in, 2) % ((OFFSET + BULK) / 8) * 8;
		value = take(in, 8);
		memcpy((char *)(op & 64 ? q->out : inbox) + at, &value, 8);
		break;
	case 1:		/* a bulk slot that looks right */
		slot = near_slot(q, inbox, op >> 4, &seq);
		slot->line1.bulk.start.v = (uint32_t)take(in, 4);
		slot->line1.bulk.end.v = slot->line1.bulk.start.v + (uint32_t)take(in, 2);
		slot->line1.kind = op & 64 ? NTBS_SLOT_OPEN : NTBS_SLOT_BULK;
		slot->line1.tail.v = ntbs_tail_word(seq, q->tx->head + take(in, 2));
		break;
	case 2:		/* an inline slot that looks right */
		slot = near_slot(q, inbox, op >> 4, &seq);
		slot->line1.len = (uint8_t)take(in, 1);
		slot->line1.kind = NTBS_SLOT_INLINE;
		slot->line0.stamp.v = (uint16_t)seq;
		slot->line1.tail.v = ntbs_tail_word(seq, q->tx->head + take(in, 2));
		break;
	case 3:		/* any kind, any field, the right stamp */
		slot = near_slot(q, inbox, op >> 4, &seq);
		slot->line1.bulk.end.v = (uint32_t)take(in, 4);
		slot->line1.kind = (uint8_t)take(in, 1);
		slot->line1.len = (uint8_t)take(in, 1);
		slot->line1.tail.v = ntbs_tail_word(seq, 0);
		break;
	case 4:		/* credit that looks right */
		value = ntbs_head_word(q->tx->head + (uint32_t)take(in, 1), q->tx->bulk_head + (uint32_t)take(in, 2),
				       q->tx->generation);
		ntbs_le64_write(&inbox->head, value);
		break;
	default:	/* the CRC of what is there */
		slot = near_slot(q, inbox, op >> 4, &seq);
		sign(q, seq, slot);
	}
}

static void ours(struct input *in, struct ntbs_msgq *q)
{
	unsigned op = (unsigned)take(in, 1);
	uint8_t *room = malloc(ROOM);	/* so that a byte too many is seen */
	struct iovec iov = { room, 1 + take(in, 2) % ROOM };
	struct ntbs_iter it;
	bool acked = false;
	uint64_t w = 0;
	ssize_t ret;

	must(room);
	memset(room, 7, ROOM);
	iov.iov_base = room + ROOM - iov.iov_len;
	ntbs_iter_init(&it, &iov, iov.iov_len);
	switch (op % 8) {
	case 0:
	case 1:
		ret = ntbs_msgq_recv(q, &it, op >> 4 & 3, &acked);
		must(ret == -EAGAIN || ret == -EPROTO || (ret > 0 && (size_t)ret <= iov.iov_len));
		break;
	case 2:
	case 3:
		ret = ntbs_msgq_send(q, &it, op >> 4 & 1 ? 1000 : 0);
		must(ret == -EAGAIN || (ret > 0 && (size_t)ret <= iov.iov_len));
		break;
	case 4:
		ret = ntbs_msgq_avail(q);
		must(ret == -EPROTO || (ret >= 0 && ret <= (ssize_t)(SLOTS * (BULK + NTBS_INLINE_MAX))));
		break;
	case 5:
		ret = ntbs_msgq_peek_switch(q, &w);
		must(ret == -EPROTO || ret == 0 || ret == 1);
		if (ret == 1 && op & 16)
			ntbs_msgq_pass_switch(q);
		break;
	case 6:
		ret = ntbs_msgq_unread(q, take(in, 2), iov.iov_base, iov.iov_len);
		must(ret == -EINVAL || (ret >= 0 && (size_t)ret <= iov.iov_len));
		break;
	default:
		ntbs_msgq_ack(q);
		ntbs_msgq_writable(q);
		ntbs_msgq_all_acked(q);
		ntbs_msgq_readable(q);
		ntbs_msgq_rx_mark(q);
		if (op & 16)
			ntbs_msgq_send_switch(q, op);
	}
	must(q->tx->tail - q->tx->head <= SLOTS);
	must(q->tx->bulk_tail - q->tx->bulk_head <= BULK);
	free(room);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	unsigned how = (unsigned)take(&in, 1);
	static const uint32_t first[] = { 0, 0xfffc, UINT32_MAX - 3, UINT32_MAX };
	uint32_t seq = first[how >> 1 & 3];
	struct ntbs_inbox_shm *inbox = aligned_alloc(128, OFFSET + BULK), *outbox = aligned_alloc(128, OFFSET + BULK);
	struct ntbs_msgq_tx_shm tx;
	struct ntbs_msgq_rx_shm rx;
	struct ntbs_port shm;
	struct wcsim sim;
	static struct ntbs_msgq_held held;
	struct ntbs_msgq q = { .geo = { SLOTS, BULK, OFFSET }, .in = inbox, .out = outbox, .tx = &tx, .rx = &rx, .held = &held };

	must(inbox && outbox && ntbs_msgq_geo_ok(&q.geo));
	memset(inbox, 0, OFFSET + BULK);
	memset(outbox, 0, OFFSET + BULK);
	for (uint32_t i = 0; i < SLOTS; i++)
		inbox->slot[i].line1.tail.v = ntbs_tail_word(seq - 1000, 0);
	ntbs_port_attach(&shm, NULL, NTBS_MEM_CACHED);
	wcsim_open(&sim, 0);
	q.port = how & 1 ? &sim.port : &shm;
	held.next = 0;
	ntbs_msgq_init(&q, how >> 3, seq, seq);
	while (in.left) {
		if (take(&in, 1) & 1)
			enemy(&in, &q, inbox);
		else
			ours(&in, &q);
	}
	wcsim_close(&sim);
	free(inbox);
	free(outbox);
	return 0;
}
