// SPDX-License-Identifier: BSD-2-Clause
/*
 * msgq_back.c - what we have published, looked at once more
 *
 * For a replay over TCP, for an engine that cannot be asked, and after the death of a process that was publishing.  Over
 * shared memory it lies in the peer's inbox, where the peer can write: it is bounded like any other input, and what he makes of
 * it is his own stream.
 */
#include "msgq.h"

#include <errno.h>
#include <string.h>

static const struct ntbs_inbox_shm *published(const struct ntbs_msgq *q)
{
	return q->copy ? q->copy : q->out;
}

struct sent {
	uint8_t kind;
	uint32_t start, size;
};

/* A slot of ours as it lies in the outbox, read once: the peer may have written there.  0, or -EINVAL: not ours. */
static int look_back(const struct ntbs_msgq *q, uint32_t seq, struct sent *sent)
{
	const struct ntbs_line1_shm *line1 = &published(q)->slot[seq & (q->geo.nr_slots - 1)].line1;

	sent->kind = __atomic_load_n(&line1->kind, __ATOMIC_RELAXED);
	sent->start = 0;
	switch (sent->kind) {
	case NTBS_SLOT_SWITCH:
		sent->size = 0;
		return 0;
	case NTBS_SLOT_INLINE:
		sent->size = __atomic_load_n(&line1->len, __ATOMIC_RELAXED);
		return sent->size <= NTBS_INLINE_MAX ? 0 : -EINVAL;
	case NTBS_SLOT_BULK:
	case NTBS_SLOT_OPEN:
		sent->start = ntbs_le32_read(&line1->bulk.start);
		sent->size = ntbs_le32_read(&line1->bulk.end) - sent->start;
		return 0;
	default:
		return -EINVAL;
	}
}

/*
 * The outbox is our copy of what the peer has not taken: over shared memory it may be read back; elsewhere there is a copy
 * of its own.  Slots are walked back from the tail.  What the peer may have scribbled over is bounded like any other input.
 */
ssize_t ntbs_msgq_unread(struct ntbs_msgq *q, uint64_t back, void *dst, size_t len)
{
	const uint8_t *bulk = (const uint8_t *)published(q) + q->geo.bulk_offset;
	uint32_t mask = q->geo.bulk_bytes - 1;
	uint64_t covered = 0;
	uint64_t seq = q->tx->tail;
	size_t done = 0;

	while (covered < back) {		/* find the slot that holds the byte */
		struct sent sent;

		if (seq == q->tx->tail - q->geo.nr_slots || look_back(q, --seq, &sent))
			return -EINVAL;
		covered += sent.size;
	}
	for (uint64_t skip = covered - back; seq != q->tx->tail && done < len; seq++) {
		const struct ntbs_slot_shm *slot = &published(q)->slot[seq & (q->geo.nr_slots - 1)];
		uint8_t flat[NTBS_INLINE_MAX];
		struct sent sent;

		if (look_back(q, seq, &sent))
			return -EINVAL;
		if (sent.kind == NTBS_SLOT_INLINE) {
			uint32_t in0 = ntbs_inline_in0(sent.size);

			memcpy(flat, slot->line0.data, in0);
			memcpy(flat + in0, slot->line1.data, sent.size - in0);
		}
		for (uint64_t i = skip; i < sent.size && done < len; i++)
			((uint8_t *)dst)[done++] = sent.kind == NTBS_SLOT_INLINE ? flat[i] : bulk[(sent.start + i) & mask];
		skip = 0;
	}
	return done;
}

uint64_t ntbs_msgq_kept(const struct ntbs_msgq *q)
{
	const struct ntbs_msgq_tx_shm *tx = q->tx;
	uint64_t kept = 0;
	struct sent sent;

	for (uint64_t seq = tx->tail; seq != tx->head && !look_back(q, --seq, &sent); kept += sent.size) {
		uint32_t freed = tx->bulk_head - sent.start;

		if ((sent.kind == NTBS_SLOT_BULK || sent.kind == NTBS_SLOT_OPEN) && (int32_t)freed > 0)
			return kept + (freed < sent.size ? sent.size - freed : 0);	/* it has read into this one */
	}
	return kept;
}

void ntbs_msgq_resend(struct ntbs_msgq *q, uint32_t seq)
{
	uint32_t idx = seq & (q->geo.nr_slots - 1), pos, end, run;
	const struct ntbs_slot_shm *kept = &q->copy->slot[idx];

	if (kept->line1.kind == NTBS_SLOT_BULK) {
		end = kept->line1.bulk.end.v;
		for (pos = kept->line1.bulk.start.v; pos != end; pos += run) {
			uint32_t at = q->geo.bulk_offset + (pos & (q->geo.bulk_bytes - 1));

			run = q->geo.bulk_offset + q->geo.bulk_bytes - at;
			if (run > end - pos)
				run = end - pos;
			q->port->ops->store_bulk(q->port, (char *)q->out + at, (char *)q->copy + at, run);
		}
		q->port->ops->flush(q->port);	/* R1: bulk bytes before the slot */
	} else if (kept->line1.kind == NTBS_SLOT_INLINE && kept->line1.len > NTBS_LINE1_DATA) {
		q->port->ops->store_line(q->port, &q->out->slot[idx].line0, &kept->line0);
	}
	q->port->ops->store_line(q->port, &q->out->slot[idx].line1, &kept->line1);
	q->port->ops->flush(q->port);
}

/* The last slot is OPEN, and ends at bulk_tail: the bytes are there before that says so. */
static void finish_open(struct ntbs_msgq *q)
{
	struct ntbs_msgq_tx_shm *tx = q->tx;
	struct ntbs_slot_shm *slot = &q->out->slot[(tx->tail - 1) & (q->geo.nr_slots - 1)];
	uint32_t more = tx->bulk_tail - ntbs_le32_read(&slot->line1.bulk.end);

	if (__atomic_load_n(&slot->line1.kind, __ATOMIC_RELAXED) != NTBS_SLOT_OPEN)
		ntbs_write_once(tx->open_bytes, 0);
	if (!tx->open_bytes || !more || more > NTBS_MSGQ_CHUNK)
		return;
	ntbs_write_once(tx->open_bytes, tx->bulk_tail - ntbs_le32_read(&slot->line1.bulk.start));
	ntbs_le32_write_release(&slot->line1.bulk.end, tx->bulk_tail);
	ntbs_write_once(tx->pos, tx->pos + more);
}

bool ntbs_msgq_finish(struct ntbs_msgq *q)
{
	struct ntbs_msgq_tx_shm *tx = q->tx;
	uint32_t room = q->geo.nr_slots - (uint32_t)(tx->tail - tx->head);
	bool sw = false;

	if (q->port->whole)
		finish_open(q);
	while (room--) {
		const struct ntbs_slot_shm *slot = &published(q)->slot[tx->tail & (q->geo.nr_slots - 1)];
		struct sent sent;

		if (NTBS_TAIL_STAMP(ntbs_le64_read_acquire(&slot->line1.tail)) != (uint16_t)tx->tail ||
		    look_back(q, tx->tail, &sent) || sent.size > NTBS_MSGQ_CHUNK)
			break;
		if (q->copy) {
			ntbs_msgq_resend(q, tx->tail);
			if (sent.kind == NTBS_SLOT_BULK)
				ntbs_write_once(tx->bulk_tail, sent.start + sent.size);
		}
		sw = sent.kind == NTBS_SLOT_SWITCH;
		ntbs_write_once(tx->open_bytes, sent.kind == NTBS_SLOT_OPEN ? sent.size : 0);
		ntbs_write_once(tx->tail, tx->tail + 1);
		ntbs_write_once(tx->pos, tx->pos + sent.size);
	}
	return sw;
}
