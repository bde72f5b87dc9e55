// SPDX-License-Identifier: BSD-2-Clause
/*
 * msgq_rx.c - peek and consume slots of our inbox
 *
 * Everything read here was written by somebody else.  A slot is looked at through a struct view made once: kind,
 * lengths and positions are read into it, checked against our own geometry, and only the copy is used.  Where a CRC vouches
 * for the bytes, it is taken of the copy that the program is given.  The work of a call is bounded by the caller's buffer and
 * by nr_slots, whatever the peer writes meanwhile.
 *
 * A reader that finds nothing has looked at one line (the next slot's stamp), or two if it stands on an OPEN slot.
 */
#include "msgq.h"

#include <errno.h>

#include "msgq_crc.h"

/* One message as we have read it. */
struct view {
	uint8_t kind, len;
	uint32_t start, end;		/* BULK, OPEN */
	uint64_t bytes;			/* SWITCH */
	const uint8_t *data0, *data1;	/* INLINE: lines 0 and 1 */
	const uint8_t *held;		/* BULK: our copy of bytes @start..@end; NULL: they are in the ring */
	struct ntbs_slot_shm copy;	/* where a CRC vouches for it (not on shm: the lines are stable there) */
};

static const struct ntbs_slot_shm *slot_at(const struct ntbs_msgq *q, uint32_t seq)
{
	return &q->in->slot[seq & (q->geo.nr_slots - 1)];
}

static const uint8_t *in_bulk(const struct ntbs_msgq *q)
{
	return (const uint8_t *)q->in + q->geo.bulk_offset;
}

static bool stamped(const struct ntbs_msgq *q, uint32_t seq)
{
	return NTBS_TAIL_STAMP(ntbs_le64_read_acquire(&slot_at(q, seq)->line1.tail)) == (uint16_t)seq;
}

/* Something of the message @seq has come, or what follows it. */
static bool announced(const struct ntbs_msgq *q, uint32_t seq)
{
	return stamped(q, seq) || (!q->port->whole && stamped(q, seq + 1));
}

static int check(const struct ntbs_msgq *q, const struct view *v)
{
	switch (v->kind) {
	case NTBS_SLOT_INLINE:
		return v->len && v->len <= NTBS_INLINE_MAX ? 0 : -EPROTO;
	case NTBS_SLOT_BULK:
		return v->end - v->start <= q->geo.bulk_bytes && v->end != v->start &&
		       (q->port->whole || v->end - v->start <= NTBS_MSGQ_CHUNK) ? 0 : -EPROTO;
	case NTBS_SLOT_OPEN:
		return q->port->whole && v->end - v->start <= NTBS_MSGQ_OPEN_MAX + NTBS_MSGQ_CHUNK ? 0 : -EPROTO;
	case NTBS_SLOT_SWITCH:
		return 0;
	default:
		return -EPROTO;
	}
}

/* A message's bytes out of the ring, and the CRC of what was copied. */
static uint32_t hold(const struct ntbs_msgq *q, struct ntbs_msgq_held *h, uint32_t start, uint32_t end)
{
	uint32_t idx = start & (q->geo.bulk_bytes - 1), len = end - start, run = q->geo.bulk_bytes - idx;

	h->next = 0;
	if (run > len)
		run = len;
	memcpy(h->bytes, in_bulk(q) + idx, run);
	memcpy(h->bytes + run, in_bulk(q), len - run);
	return ntbs_crc32c(~0u, h->bytes, len);
}

/* Ports that can tear: take both lines, then believe them only if stamps and CRC agree.  @take: bytes will be wanted. */
static int view_checked(const struct ntbs_msgq *q, uint64_t seq, struct view *v, uint64_t tail, bool take)
{
	const struct ntbs_slot_shm *slot = slot_at(q, seq);
	const struct ntbs_line0_shm *line0 = NULL;
	struct ntbs_msgq_held *h = q->held;
	uint32_t bulk_crc = 0;

	v->held = NULL;
	if (h && h->next == seq + 1) {
		v->kind = NTBS_SLOT_BULK;
		v->start = h->start;
		v->end = h->end;
		v->held = h->bytes;
		return 1;
	}
	if (NTBS_TAIL_STAMP(tail) != (uint16_t)seq)
		return 0;
	memcpy(&v->copy.line1, &slot->line1, sizeof(v->copy.line1));
	if (v->copy.line1.tail.v != tail)
		return 0;
	v->kind = v->copy.line1.kind;
	v->len = v->copy.line1.len;
	v->start = v->end = 0;
	if (v->kind == NTBS_SLOT_INLINE && v->len > NTBS_LINE1_DATA) {
		if (ntbs_le16_read(&slot->line0.stamp) != (uint16_t)seq)
			return 0;
		ntbs_from_peer_barrier();	/* A1, line 0 */
		memcpy(&v->copy.line0, &slot->line0, sizeof(v->copy.line0));
		line0 = &v->copy.line0;
	} else if (v->kind == NTBS_SLOT_BULK) {
		v->start = v->copy.line1.bulk.start.v;
		v->end = v->copy.line1.bulk.end.v;
	} else if (v->kind == NTBS_SLOT_SWITCH) {
		v->bytes = v->copy.line1.sw.bytes.v;
	}
	/* A torn line may say anything: not an error before the CRC agrees. */
	if (check(q, v) || (v->kind == NTBS_SLOT_BULK && take && !h))
		return 0;
	if (v->kind == NTBS_SLOT_BULK)
		bulk_crc = take ? hold(q, h, v->start, v->end) : ntbs_bulk_crc(q, in_bulk(q), v->start, v->end);
	if (tail != ntbs_tail_word_crc(seq, ntbs_msg_crc(q, q->rx->generation, seq, &v->copy.line1, line0, bulk_crc)))
		return 0;
	if (v->kind == NTBS_SLOT_BULK && take) {
		h->start = v->start;
		h->end = v->end;
		h->next = seq + 1;
		v->held = h->bytes;
	}
	v->data0 = v->copy.line0.data;
	v->data1 = v->copy.line1.data;
	return 1;
}

/* 1: the message @seq is there and @v is what it says; 0 not there; -EPROTO nonsense. */
static int view_slot(const struct ntbs_msgq *q, uint64_t seq, struct view *v, bool take)
{
	const struct ntbs_slot_shm *slot = slot_at(q, seq);
	uint64_t tail = ntbs_le64_read_acquire(&slot->line1.tail);	/* A1: pairs with R1 in msgq_tx.c */
	int ret;

	if (!q->port->whole)
		return view_checked(q, seq, v, tail, take);
	if (NTBS_TAIL_STAMP(tail) != (uint16_t)seq)
		return 0;
	v->kind = __atomic_load_n(&slot->line1.kind, __ATOMIC_RELAXED);
	v->len = __atomic_load_n(&slot->line1.len, __ATOMIC_RELAXED);
	if (v->kind == NTBS_SLOT_BULK || v->kind == NTBS_SLOT_OPEN) {
		v->start = ntbs_le32_read(&slot->line1.bulk.start);
		v->end = ntbs_le32_read_acquire(&slot->line1.bulk.end);
	} else if (v->kind == NTBS_SLOT_SWITCH) {
		v->bytes = ntbs_le64_read(&slot->line1.sw.bytes);
	}
	v->data0 = slot->line0.data;
	v->data1 = slot->line1.data;
	v->held = NULL;
	ret = check(q, v);
	if (ret)
		return ret;
	/* of any age: a peek comes back to slots that have lain here for long */
	__atomic_store_n(&q->rx->peer_ack, NTBS_TAIL_ACK(tail), __ATOMIC_RELEASE);
	return 1;
}

/* Where we stand, apart from what is shared, so that a peek can walk on without taking. */
struct cursor {
	uint64_t head;
	uint32_t taken, in_bulk, bulk_head;
};

static struct cursor cursor_of(const struct ntbs_msgq *q)
{
	return (struct cursor){ q->rx->head, q->rx->taken, q->rx->in_bulk, q->rx->bulk_head };
}

static void pass(struct cursor *c)
{
	c->head++;
	c->taken = 0;
	c->in_bulk = 0;
}

/*
 * Bytes of the message under the cursor not yet taken.  Moves the cursor over messages that are exhausted; an OPEN
 * one only when the next slot is there and its end, read once more after that, is reached.
 * Return: > 0 and @v; 0 nothing; -EPROTO.
 */
static ssize_t next_bytes(const struct ntbs_msgq *q, struct cursor *c, struct view *v, bool take)
{
	for (uint32_t n = 0; n <= q->geo.nr_slots; n++) {
		uint32_t left;
		int ret = view_slot(q, c->head, v, take);

		if (ret <= 0)
			return ret;
		if (v->kind == NTBS_SLOT_SWITCH)
			return -EPROTO;
		if (v->kind == NTBS_SLOT_INLINE) {
			if (c->in_bulk || c->taken >= v->len)
				return -EPROTO;
			return v->len - c->taken;
		}
		if (!c->in_bulk) {
			c->in_bulk = 1;
			c->bulk_head = v->start;
		}
		left = v->end - c->bulk_head;
		if (left > q->geo.bulk_bytes || (v->held && c->bulk_head - v->start > v->end - v->start))
			return -EPROTO;
		if (left)
			return left;
		if (v->kind != NTBS_SLOT_OPEN || !stamped(q, c->head + 1))
			return v->kind == NTBS_SLOT_OPEN ? 0 : -EPROTO;
		if (ntbs_le32_read_acquire(&slot_at(q, c->head)->line1.bulk.end) == c->bulk_head)
			pass(c);
	}
	return 0;
}

/* Exhausted by what we have just taken?  Then pass it now, so that its slot is free. */
static void pass_if_done(struct cursor *c, const struct view *v)
{
	if (v->kind == NTBS_SLOT_INLINE ? c->taken == v->len : v->kind == NTBS_SLOT_BULK && c->bulk_head == v->end)
		pass(c);
}

/* Both: bytes that found no memory, 0. */
static uint32_t put_inline(const struct view *v, uint32_t from, uint32_t len, struct ntbs_iter *it)
{
	uint32_t n, left;

	if (v->len <= NTBS_LINE1_DATA)
		return ntbs_iter_put(it, v->data1 + from, len, true);
	if (from < NTBS_LINE0_DATA) {
		n = NTBS_LINE0_DATA - from < len ? NTBS_LINE0_DATA - from : len;
		left = ntbs_iter_put(it, v->data0 + from, n, true);
		from += n;
		len -= n;
		if (left)
			return left + len;
	}
	return ntbs_iter_put(it, v->data1 + (from - NTBS_LINE0_DATA), len, true);
}

static uint32_t put_bulk(const struct ntbs_msgq *q, const struct view *v, uint32_t pos, uint32_t len, struct ntbs_iter *it)
{
	if (v->held)
		return ntbs_iter_put(it, v->held + (pos - v->start), len, false);
	while (len) {
		uint32_t idx = pos & (q->geo.bulk_bytes - 1);
		uint32_t run = q->geo.bulk_bytes - idx, left;

		if (run > len)
			run = len;
		left = ntbs_iter_put(it, in_bulk(q) + idx, run, false);
		if (left)
			return left + len - run;
		pos += run;
		len -= run;
	}
	return 0;
}

static void count(struct ntbs_msgq *q, const struct view *v)
{
	if (v->kind == NTBS_SLOT_INLINE)
		q->rx->inline_msgs++;
	else if (v->end - v->start < q->long_min && v->end - v->start < NTBS_MSGQ_CHUNK)
		q->rx->short_msgs++;
	else
		q->rx->long_msgs++;
}

static bool ack_due(const struct ntbs_msgq *q)
{
	return q->rx->head - __atomic_load_n(&q->rx->acked_slots, __ATOMIC_RELAXED) >= q->geo.nr_slots / 2 ||
	       q->rx->bulk_head - q->rx->acked_bulk >= q->rx->ack_bulk;
}

/* Our own line; a peer looks at it when we are dead, or has our broker look. */
static void note_consumed(struct ntbs_msgq *q)
{
	ntbs_le64_write(&((struct ntbs_inbox_shm *)q->in)->consumed,
			ntbs_head_word(q->rx->head, q->rx->bulk_head, q->rx->generation));
}

/*
 * The message that is waited for most, in a third of the instructions: it lies in line 1, nothing of it has been taken, and
 * the first piece of the buffer has room for it.  False: not that one; the general way says what it is.
 */
static bool recv_line1(struct ntbs_msgq *q, struct ntbs_iter *it, bool *acked)
{
	struct ntbs_msgq_rx_shm *rx = q->rx;
	const struct ntbs_line1_shm *line1 = &slot_at(q, rx->head)->line1;
	uint64_t tail = ntbs_le64_read_acquire(&line1->tail);	/* A1: pairs with R1 in msgq_tx.c */
	uint32_t len;

	if (NTBS_TAIL_STAMP(tail) != (uint16_t)rx->head || !q->port->whole || rx->taken || rx->in_bulk)
		return false;
	len = __atomic_load_n(&line1->len, __ATOMIC_RELAXED);
	if (__atomic_load_n(&line1->kind, __ATOMIC_RELAXED) != NTBS_SLOT_INLINE || len - 1 >= NTBS_LINE1_DATA ||
	    len > it->left || len > it->iov->iov_len - it->off ||
	    ntbs_user_copy_small((char *)it->iov->iov_base + it->off, line1->data, len))
		return false;
	ntbs_iter_advance(it, len);
	rx->inline_msgs++;
	__atomic_store_n(&rx->peer_ack, NTBS_TAIL_ACK(tail), __ATOMIC_RELEASE);
	__atomic_store_n(&rx->head, rx->head + 1, __ATOMIC_RELEASE);	/* after the copy */
	ntbs_write_once(rx->pos, rx->pos + len);
	if (ack_due(q))
		*acked |= ntbs_msgq_ack(q);
	return true;
}

ssize_t ntbs_msgq_recv(struct ntbs_msgq *q, struct ntbs_iter *it, int flags, bool *acked)
{
	size_t before = it->left;
	struct cursor c;
	ssize_t have = 0;
	struct view v;

	if (!flags && before && recv_line1(q, it, acked) && !it->left) {
		note_consumed(q);
		return before;
	}
	c = cursor_of(q);
	while (it->left) {
		uint32_t len, left = 0;

		have = next_bytes(q, &c, &v, !(flags & NTBS_RECV_DROP));
		if (have <= 0)
			break;
		len = (size_t)have < it->left ? (size_t)have : it->left;
		if (flags & NTBS_RECV_DROP)
			it->left -= len;
		else if (v.kind == NTBS_SLOT_INLINE)
			left = put_inline(&v, c.taken, len, it);
		else
			left = put_bulk(q, &v, c.bulk_head, len, it);
		if (__builtin_expect(left, 0)) {	/* the message stays, as if nobody had come */
			ntbs_iter_rewind(it, len - left);
			if (before == it->left)
				return -EFAULT;
			break;
		}
		if (v.kind == NTBS_SLOT_INLINE)
			c.taken += len;
		else
			c.bulk_head += len;
		if (!(flags & NTBS_RECV_PEEK)) {
			if (len == have && v.kind != NTBS_SLOT_OPEN)
				count(q, &v);
			pass_if_done(&c, &v);
			q->rx->taken = c.taken;
			ntbs_write_once(q->rx->in_bulk, c.in_bulk);	/* ntbs_msgq_readable() has no lock */
			ntbs_write_once(q->rx->bulk_head, c.bulk_head);
			if (!c.in_bulk)
				q->rx->bulk_freed = c.bulk_head;
			/* after the copy: the sending side acknowledges what it reads here */
			__atomic_store_n(&q->rx->head, c.head, __ATOMIC_RELEASE);
			ntbs_write_once(q->rx->pos, q->rx->pos + len);
			if (ack_due(q))
				*acked |= ntbs_msgq_ack(q);
		} else {
			pass_if_done(&c, &v);
		}
	}
	if (have < 0)
		return have;
	if (__builtin_expect(!q->port->whole, 0) && it->left && (c.in_bulk || announced(q, c.head)))
		ntbs_bump(q->rx->torn, 1);	/* who is told of edges comes back for it */
	if (!(flags & NTBS_RECV_PEEK) && c.head != q->rx->head) {
		/* only passed an OPEN slot on the way to nothing */
		q->rx->taken = c.taken;
		ntbs_write_once(q->rx->in_bulk, c.in_bulk);
		__atomic_store_n(&q->rx->head, c.head, __ATOMIC_RELEASE);
	}
	if (!(flags & NTBS_RECV_PEEK))
		note_consumed(q);
	return before == it->left ? -EAGAIN : (ssize_t)(before - it->left);
}

int ntbs_msgq_peek_switch(struct ntbs_msgq *q, uint64_t *bytes)
{
	struct view v;
	int ret = view_slot(q, q->rx->head, &v, false);

	if (ret <= 0)
		return ret;
	if (v.kind != NTBS_SLOT_SWITCH)
		return -EPROTO;
	*bytes = v.bytes;
	return 1;
}

void ntbs_msgq_pass_switch(struct ntbs_msgq *q)
{
	q->rx->taken = 0;
	ntbs_write_once(q->rx->in_bulk, 0);
	__atomic_store_n(&q->rx->head, q->rx->head + 1, __ATOMIC_RELEASE);
	note_consumed(q);
}

bool ntbs_msgq_torn(const struct ntbs_msgq *q)
{
	return !q->port->whole && ntbs_msgq_readable(q);
}

bool ntbs_msgq_readable(const struct ntbs_msgq *q)
{
	uint32_t head = __atomic_load_n(&q->rx->head, __ATOMIC_RELAXED);

	if (!stamped(q, head))		/* or we hold the rest of a message, whatever has become of it there */
		return !q->port->whole && (ntbs_read_once(q->rx->in_bulk) || stamped(q, head + 1));
	if (!ntbs_read_once(q->rx->in_bulk))
		return true;
	/* standing in a bulk message: more of it, or something behind it */
	return ntbs_le32_read_acquire(&slot_at(q, head)->line1.bulk.end) !=
		       __atomic_load_n(&q->rx->bulk_head, __ATOMIC_RELAXED) ||
	       stamped(q, head + 1);
}

ssize_t ntbs_msgq_avail(const struct ntbs_msgq *q)
{
	struct cursor c = cursor_of(q);
	ssize_t sum = 0, have;
	struct view v;

	for (uint32_t n = 0; n < q->geo.nr_slots; n++) {
		have = next_bytes(q, &c, &v, false);
		if (have <= 0)
			return have < 0 && !sum ? have : sum;
		sum += have;
		if (v.kind == NTBS_SLOT_INLINE)
			c.taken = v.len;
		else
			c.bulk_head = v.end;
		pass_if_done(&c, &v);
	}
	return sum;
}

bool ntbs_msgq_ack(struct ntbs_msgq *q)
{
	struct ntbs_msgq_rx_shm *rx = q->rx;
	uint32_t bulk = q->port->whole ? rx->bulk_head : rx->bulk_freed;

	if (rx->head == __atomic_load_n(&rx->acked_slots, __ATOMIC_RELAXED) && bulk == rx->acked_bulk)
		return false;
	ntbs_window_store64(q->port, &q->out->head, ntbs_head_word(rx->head, bulk, rx->generation));
	__atomic_store_n(&rx->acked_slots, rx->head, __ATOMIC_RELAXED);
	rx->acked_bulk = bulk;
	return true;
}

void ntbs_msgq_state_rcvbuf(struct ntbs_msgq *q, uint32_t bytes)
{
	uint32_t sure = bytes + NTBS_MSGQ_BUFS_SPARE;

	if (sure > q->geo.bulk_bytes)
		sure = q->geo.bulk_bytes;
	q->rx->ack_bulk = sure / 2 < NTBS_MSGQ_ACK_BULK ? sure / 2 : NTBS_MSGQ_ACK_BULK;
	ntbs_window_store32(q->port, &q->out->rcvbuf, bytes);
	ntbs_msgq_ack(q);
}

uint64_t ntbs_msgq_rx_mark(const struct ntbs_msgq *q)
{
	uint32_t head = __atomic_load_n(&q->rx->head, __ATOMIC_RELAXED);

	/* the newest slot published, and how far it reaches; it does not move when we only consume */
	for (uint32_t n = 0; n < q->geo.nr_slots && announced(q, head); n++)
		head++;
	return ((uint64_t)head + (q->port->whole ? 0 : ntbs_read_once(q->rx->torn))) << 32 | ntbs_le32_read(&slot_at(q, head - 1)->line1.bulk.end);
}
