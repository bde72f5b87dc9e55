// SPDX-License-Identifier: BSD-2-Clause
/*
 * msgq_tx.c - reserve, fill and publish slots of the peer's inbox
 *
 * Lines touched by a message over shared memory: INLINE up to 54 bytes stores one line and reads two of ours that
 * stay in the cache (own state; the peer's news in our inbox, which changes once per half ring); 55 to 116 bytes two;
 * BULK the payload's lines and one.  No locked instruction here, no system call.
 */
#include "msgq.h"

#include <errno.h>

#include "msgq_crc.h"

#define PREFETCH_MAX 2048		/* more would push out what the program itself uses */

/* Small sends go into one OPEN slot once the reader is this far behind.  Acknowledgements come every half
 * ring, so up to half a ring unacknowledged says nothing. */
static uint32_t backlog_limit(const struct ntbs_msgq *q)
{
	return q->geo.nr_slots / 2 + q->geo.nr_slots / 4;
}

static uint8_t *out_bulk(const struct ntbs_msgq *q)
{
	return (uint8_t *)q->out + q->geo.bulk_offset;
}

bool ntbs_msgq_geo_ok(const struct ntbs_msgq_geo *geo)
{
	return geo->nr_slots >= NTBS_SLOTS_MIN && geo->nr_slots <= NTBS_SLOTS_MAX &&
	       !(geo->nr_slots & (geo->nr_slots - 1)) && geo->bulk_bytes >= NTBS_BULK_MIN &&
	       geo->bulk_bytes <= NTBS_BULK_MAX && !(geo->bulk_bytes & (geo->bulk_bytes - 1)) &&
	       geo->bulk_offset % 4096 == 0 && geo->bulk_offset <= (1u << 24) &&
	       geo->bulk_offset >= sizeof(struct ntbs_inbox_shm) + (size_t)geo->nr_slots * sizeof(struct ntbs_slot_shm);
}

void ntbs_msgq_init(struct ntbs_msgq *q, uint32_t generation, uint32_t tx_seq, uint32_t rx_seq)
{
	memset(q->tx, 0, sizeof(*q->tx));
	memset(q->rx, 0, sizeof(*q->rx));
	q->tx->tail = q->tx->head = tx_seq;
	q->tx->generation = q->rx->generation = generation;
	q->rx->head = q->rx->acked_slots = rx_seq;
	q->rx->peer_ack = tx_seq;
	q->rx->ack_bulk = q->geo.bulk_bytes / 2;
	if (q->port->whole && q->rx->ack_bulk > NTBS_MSGQ_ACK_BULK)
		q->rx->ack_bulk = NTBS_MSGQ_ACK_BULK;
	if (!q->long_min)
		q->long_min = NTBS_MSGQ_LONG_MIN;
}

/*
 * @step more slots consumed than we knew, by way of either a slot or the head word: forward moves only.  What is older
 * than what we knew makes a step of nearly the word's range (msgq.h says why), and no step leads beyond the tail.
 */
static void merge_slots(struct ntbs_msgq_tx_shm *tx, uint64_t step)
{
	if (step <= tx->tail - tx->head)
		tx->head += step;
}

static void refresh(struct ntbs_msgq *q)
{
	struct ntbs_msgq_tx_shm *tx = q->tx;
	uint64_t word = ntbs_le64_read_acquire(&q->in->head);

	merge_slots(tx, (__atomic_load_n(&q->rx->peer_ack, __ATOMIC_ACQUIRE) - tx->head) & NTBS_ACK_MASK);
	if ((word >> 16 & 0xffff) == (tx->generation & 0xffff)) {
		uint32_t bulk = word >> 32;

		merge_slots(tx, (uint16_t)(word - tx->head));
		if (bulk - tx->bulk_head <= tx->bulk_tail - tx->bulk_head)
			tx->bulk_head = bulk;
	}
	if (tx->head == tx->tail)
		tx->bulk_head = tx->bulk_tail;
}

/* The receiving side looks at it, without our lock. */
static void advance_tail(struct ntbs_msgq_tx_shm *tx, uint32_t bytes)
{
	ntbs_write_once(tx->tail, tx->tail + 1);
	ntbs_write_once(tx->pos, tx->pos + bytes);
}

static uint32_t slots_free(const struct ntbs_msgq *q)
{
	return q->geo.nr_slots - (uint32_t)(q->tx->tail - q->tx->head);
}

/*
 * ack rides along; a racing reader may move on, by any number of messages if we are stopped here; then the next message
 * says so.  It does not count as told: a peer that waits for credit looks at the head word, and may not read its slots
 * before it has got some.
 */
static uint64_t take_ack(struct ntbs_msgq *q)
{
	return __atomic_load_n(&q->rx->head, __ATOMIC_ACQUIRE);
}

/* Make line 1 (and 0) the slot at the tail.  @line1 is complete but for its last word. */
static void publish(struct ntbs_msgq *q, struct ntbs_line1_shm *line1, struct ntbs_line0_shm *line0,
		    uint32_t bulk_crc)
{
	struct ntbs_msgq_tx_shm *tx = q->tx;
	uint32_t idx = tx->tail & (q->geo.nr_slots - 1);
	struct ntbs_slot_shm *slot = &q->out->slot[idx];

	if (q->port->whole)
		line1->tail.v = ntbs_tail_word(tx->tail, take_ack(q));
	else
		line1->tail.v = ntbs_tail_word_crc(tx->tail, ntbs_msg_crc(q, tx->generation, tx->tail, line1, line0, bulk_crc));
	if (line0)
		line0->stamp.v = tx->tail;
	if (q->copy) {
		if (line0)
			memcpy(&q->copy->slot[idx].line0, line0, sizeof(*line0));
		memcpy(&q->copy->slot[idx].line1, line1, sizeof(*line1));
	}
	if (line0)
		q->port->ops->store_line(q->port, &slot->line0, line0);
	q->port->ops->store_line(q->port, &slot->line1, line1);
	q->port->ops->flush(q->port);
}

/*
 * What the next message will be stored into belongs to the reader's cache, which read it a lap ago.  Storing there waits
 * for it (the lock's instructions wait for all stores); asking for it now lets it come while the program does its work.
 * Slots: one beyond the next, at which the reader may be looking.
 */
static void want_slot(const struct ntbs_msgq *q)
{
	const struct ntbs_slot_shm *slot = &q->out->slot[(q->tx->tail + 1) & (q->geo.nr_slots - 1)];

	ntbs_prefetch_store(&slot->line1);
	ntbs_prefetch_store(&slot->line0);
}

static void want_bulk(const struct ntbs_msgq *q, uint32_t pos, uint32_t len)
{
	const uint8_t *bulk = out_bulk(q);

	if (len > PREFETCH_MAX)
		return;
	for (uint32_t i = 0; i < len; i += NTBS_LINE)
		ntbs_prefetch_store(&bulk[(pos + i) & (q->geo.bulk_bytes - 1)]);
}

/* 0, or -EFAULT: nothing is published. */
static int send_inline(struct ntbs_msgq *q, struct ntbs_iter *it, uint32_t len)
{
	struct ntbs_msgq_tx_shm *tx = q->tx;
	struct ntbs_slot_shm *slot = &q->out->slot[tx->tail & (q->geo.nr_slots - 1)];
	uint8_t gather[NTBS_INLINE_MAX];
	const uint8_t *src = gather;
	bool two = len > NTBS_LINE1_DATA;
	size_t run;

	ntbs_write_once(tx->open_bytes, 0);	/* of the last slot, which this one is now: ntbs_msgq_finish() */
	if (len <= it->iov->iov_len - it->off) {	/* one piece: straight from the caller */
		src = (const uint8_t *)ntbs_iter_run(it, len, &run);
		ntbs_iter_advance(it, len);
	} else if (ntbs_iter_get(it, gather, len)) {
		return -EFAULT;
	}
	if (!q->port->ops) {
		if (two) {
			uint32_t in0 = ntbs_inline_in0(len);

			if (ntbs_user_copy_small(slot->line0.data, src, in0) ||
			    ntbs_user_copy_small(slot->line1.data, src + in0, len - in0))
				return -EFAULT;
			ntbs_le16_write_release(&slot->line0.stamp, tx->tail);
		} else if (ntbs_user_copy_small(slot->line1.data, src, len)) {
			return -EFAULT;
		}
		slot->line1.len = len;
		slot->line1.kind = NTBS_SLOT_INLINE;
		/* R1: the message before its stamp; pairs with A1 in msgq_rx.c */
		ntbs_le64_write_release(&slot->line1.tail, ntbs_tail_word(tx->tail, take_ack(q)));
	} else {
		alignas(64) struct ntbs_line0_shm line0 = { { 0 }, { 0 } };
		alignas(64) struct ntbs_line1_shm line1;
		uint32_t in0 = ntbs_inline_in0(len);

		memset(&line1, 0, sizeof(line1));
		if (ntbs_user_copy_small(line0.data, src, in0) || ntbs_user_copy_small(line1.data, src + in0, len - in0))
			return -EFAULT;
		line1.len = len;
		line1.kind = NTBS_SLOT_INLINE;
		publish(q, &line1, two ? &line0 : NULL, 0);
	}
	advance_tail(tx, len);
	tx->inline_msgs++;
	if (!q->port->ops)
		want_slot(q);
	return 0;
}

static void send_pointer(struct ntbs_msgq *q, uint8_t kind, uint32_t start, uint32_t end, uint32_t bulk_crc)
{
	struct ntbs_msgq_tx_shm *tx = q->tx;
	struct ntbs_slot_shm *slot = &q->out->slot[tx->tail & (q->geo.nr_slots - 1)];

	if (!q->port->ops) {
		ntbs_le32_write(&slot->line1.bulk.start, start);
		ntbs_le32_write(&slot->line1.bulk.end, end);
		slot->line1.len = 0;
		slot->line1.kind = kind;
		ntbs_le64_write_release(&slot->line1.tail, ntbs_tail_word(tx->tail, take_ack(q)));	/* R1 */
	} else {
		alignas(64) struct ntbs_line1_shm line1;

		memset(&line1, 0, sizeof(line1));
		line1.bulk.start.v = start;
		line1.bulk.end.v = end;
		line1.kind = kind;
		q->port->ops->flush(q->port);	/* R1: bulk bytes before the slot */
		publish(q, &line1, NULL, bulk_crc);
	}
	advance_tail(tx, end - start);
	ntbs_write_once(tx->open_bytes, kind == NTBS_SLOT_OPEN ? end - start : 0);
}

/* The port's copy that bypasses the cache, out of the program's memory. */
static int copy_nt(const struct ntbs_msgq *q, void *dst, const void *src, size_t len)
{
#ifdef NTBS_USER_GUARDED
	return ntbs_user_guarded(ntbs_copy_nt, q->port->line_store, (long)dst, (long)src, len);
#else
	ntbs_copy_nt(q->port->line_store, dst, src, len);
	return 0;
#endif
}

/*
 * Into the bulk ring; the CRC of what was stored, where there is one.  It is taken of a copy (the one that is kept, if one
 * is): the program may write to its buffer meanwhile, and the window cannot be read.  0 or -EFAULT.
 */
enum bulk_way { BULK_SHORT, BULK_LONG, BULK_KEPT };	/* KEPT: into the copy alone */
static int store_bulk(struct ntbs_msgq *q, struct ntbs_iter *it, uint32_t pos, uint32_t len, enum bulk_way way, uint32_t *crc)
{
	uint8_t *bulk = out_bulk(q), piece[1024];

	*crc = ~0u;

	while (len) {
		uint32_t idx = pos & (q->geo.bulk_bytes - 1);
		uint8_t *kept = q->copy ? (uint8_t *)q->copy + q->geo.bulk_offset + idx : piece;
		size_t max = q->geo.bulk_bytes - idx, run;
		char *src;
		int ret;

		if (max > len)
			max = len;
		if (q->port->ops && !q->copy && max > sizeof(piece))
			max = sizeof(piece);
		src = ntbs_iter_run(it, max, &run);
		if (q->port->ops)
			ret = ntbs_user_copy(kept, src, run);
		else if (way == BULK_LONG && !q->long_cached)
			ret = copy_nt(q, bulk + idx, src, run);
		else
			ret = ntbs_user_copy(bulk + idx, src, run);
		if (ret)
			return ret;
		if (q->port->ops) {
			*crc = ntbs_crc32c(*crc, kept, run);
			if (way != BULK_KEPT)
				q->port->ops->store_bulk(q->port, bulk + idx, kept, run);
		}
		ntbs_iter_advance(it, run);
		pos += run;
		len -= run;
	}
	return 0;
}

/* Of @limit bulk bytes as many as may lie there unread.  What the peer says of its buffer can make them no less than the spare. */
static uint32_t within_bufs(const struct ntbs_msgq *q, uint32_t limit)
{
	uint64_t ours = q->tx->sndbuf, theirs;

	if (!ours || !(theirs = ntbs_le32_read(&q->in->rcvbuf)))
		return limit;
	return ours + theirs + NTBS_MSGQ_BUFS_SPARE < limit ? ours + theirs + NTBS_MSGQ_BUFS_SPARE : limit;
}

/* Bytes that may still go into the bulk ring from @start on. */
static uint32_t bulk_free(const struct ntbs_msgq *q, uint32_t start, uint32_t limit)
{
	uint32_t used = start - q->tx->bulk_head;

	return used >= limit ? 0 : limit - used;
}

/* Who has been told that there is no room, for many bytes, is not to find some for few. */
static bool bulk_room(const struct ntbs_msgq *q, uint32_t limit)
{
	return bulk_free(q, (q->tx->bulk_tail + NTBS_LINE - 1) & ~(NTBS_LINE - 1), limit);
}

/* One chunk by way of the bulk ring; returns its length, 0 for no credit, -EFAULT and nothing is published. */
static int send_bulk(struct ntbs_msgq *q, struct ntbs_iter *it, bool backlog, uint32_t limit, bool is_long)
{
	struct ntbs_msgq_tx_shm *tx = q->tx;
	bool extend = tx->open_bytes && tx->open_bytes < NTBS_MSGQ_OPEN_MAX &&
		      (!slots_free(q) || (backlog && tx->open_bytes < q->geo.bulk_bytes / (q->geo.nr_slots / 4)));
	uint32_t start = tx->bulk_tail, head = tx->bulk_head, len, room, crc;

	if (!extend) {
		if (!slots_free(q))
			return 0;
		if (tx->head == tx->tail && (start & (q->geo.bulk_bytes - 1)) >= q->geo.bulk_bytes / 32)
			/* the ring is empty: begin at its base again, where the cache is warm */
			tx->bulk_head = start = (start | (q->geo.bulk_bytes - 1)) + 1;
		else
			start = (start + NTBS_LINE - 1) & ~(NTBS_LINE - 1);
	}
	room = bulk_free(q, start, limit);
	len = it->left < NTBS_MSGQ_CHUNK ? it->left : NTBS_MSGQ_CHUNK;
	if (len > room)
		len = room;
	if (!len)
		return 0;
	if (store_bulk(q, it, start, len, is_long ? BULK_LONG : BULK_SHORT, &crc)) {
		tx->bulk_head = head;
		return -EFAULT;
	}
	if (!extend)
		ntbs_write_once(tx->open_bytes, 0);	/* then it does not end at bulk_tail any more: ntbs_msgq_finish() */
	ntbs_write_once(tx->bulk_tail, start + len);
	if (extend) {
		struct ntbs_slot_shm *slot = &q->out->slot[(tx->tail - 1) & (q->geo.nr_slots - 1)];

		ntbs_write_once(tx->open_bytes, tx->open_bytes + len);
		ntbs_le32_write_release(&slot->line1.bulk.end, tx->bulk_tail);	/* R1, as a stamp */
		ntbs_write_once(tx->pos, tx->pos + len);
	} else {
		send_pointer(q, backlog && q->port->whole ? NTBS_SLOT_OPEN : NTBS_SLOT_BULK, start, tx->bulk_tail, crc);
	}
	if (is_long) {
		tx->long_msgs++;
	} else {
		tx->short_msgs++;
		if (!q->port->ops)
			want_bulk(q, (tx->bulk_tail + NTBS_LINE - 1) & ~(NTBS_LINE - 1), len);
	}
	return len;
}

/* One chunk and its slot into the copy; 0 for no credit, -EFAULT. */
static int keep(struct ntbs_msgq *q, struct ntbs_iter *it, uint32_t seq, uint32_t *tail, uint32_t limit)
{
	uint32_t start = (*tail + NTBS_LINE - 1) & ~(NTBS_LINE - 1), room = bulk_free(q, start, limit), crc;
	uint32_t len = it->left < NTBS_MSGQ_CHUNK ? it->left : NTBS_MSGQ_CHUNK;
	alignas(64) struct ntbs_line1_shm line1;

	if (len > room)
		len = room;
	if (!len)
		return 0;
	if (store_bulk(q, it, start, len, BULK_KEPT, &crc))
		return -EFAULT;
	*tail = start + len;
	memset(&line1, 0, sizeof(line1));
	line1.bulk.start.v = start;
	line1.bulk.end.v = *tail;
	line1.kind = NTBS_SLOT_BULK;
	line1.tail.v = ntbs_tail_word_crc(seq, ntbs_msg_crc(q, q->tx->generation, seq, &line1, NULL, crc));
	memcpy(&q->copy->slot[seq & (q->geo.nr_slots - 1)].line1, &line1, sizeof(line1));
	return len;
}

/*
 * As send_bulk(), several chunks at once, which the engine carries; the tail moves when it has been asked.  Returns their
 * bytes, 0 for no credit, -EFAULT and nothing is published.
 */
static __attribute__((noinline)) int send_engine(struct ntbs_msgq *q, struct ntbs_iter *it, uint32_t limit)
{
	uint32_t first = q->tx->tail, free = slots_free(q), tail = q->tx->bulk_tail, nr = 0, sum = 0;
	size_t at = it->left;
	int ret = 0;

	while (it->left && nr < free && nr < NTBS_MSGQ_ENGINE_SLOTS && (ret = keep(q, it, first + nr, &tail, limit)) > 0) {
		at = it->left;
		sum += ret;
		nr++;
	}
	if (!nr)
		return ret;
	ntbs_iter_rewind(it, at - it->left);	/* what of a chunk came before a fault */
	if (!q->engine_copy(q, first, nr)) {
		for (uint32_t i = 0; i < nr; i++)
			ntbs_msgq_resend(q, first + i);
	}
	ntbs_write_once(q->tx->bulk_tail, tail);
	ntbs_write_once(q->tx->tail, q->tx->tail + nr);
	ntbs_write_once(q->tx->pos, q->tx->pos + sum);
	q->tx->long_msgs += nr;
	return sum;
}

ssize_t ntbs_msgq_send(struct ntbs_msgq *q, struct ntbs_iter *it, uint32_t bulk_limit)
{
	struct ntbs_msgq_tx_shm *tx = q->tx;
	bool is_long = it->left >= q->long_min;
	size_t before = it->left, at = before;
	int ret = 0;

	if (!bulk_limit || bulk_limit > q->geo.bulk_bytes)
		bulk_limit = q->geo.bulk_bytes;
	while (it->left) {
		bool backlog = tx->tail - tx->head > backlog_limit(q);
		uint32_t most;

		if (backlog || tx->bulk_tail - tx->bulk_head > bulk_limit / 2) {
			refresh(q);
			backlog = tx->tail - tx->head > backlog_limit(q);
		}
		if (it->left <= NTBS_INLINE_MAX && slots_free(q) && (q->port->whole ? !backlog : bulk_room(q, bulk_limit))) {
			ret = send_inline(q, it, it->left);
			break;
		}
		most = within_bufs(q, bulk_limit);
		if (tx->head != tx->tail && ((tx->bulk_tail & (q->geo.bulk_bytes - 1)) >= q->geo.bulk_bytes / 32 ||
					     tx->bulk_tail - tx->bulk_head > most / 2))
			refresh(q);	/* perhaps it is empty by now and may begin at its base */
		if (is_long && q->engine_on && it->left >= q->engine_min && ntbs_le32_read(q->engine_on))
			ret = send_engine(q, it, most);
		else
			ret = send_bulk(q, it, backlog, most, is_long);
		if (ret <= 0)
			break;
		at = it->left;
	}
	if (__builtin_expect(ret < 0, 0))
		ntbs_iter_rewind(it, at - it->left);
	return before == it->left ? (ret < 0 ? ret : -EAGAIN) : (ssize_t)(before - it->left);
}

int ntbs_msgq_send_switch(struct ntbs_msgq *q, uint64_t bytes)
{
	struct ntbs_slot_shm *slot = &q->out->slot[q->tx->tail & (q->geo.nr_slots - 1)];

	refresh(q);
	if (!slots_free(q))
		return -EAGAIN;
	if (!q->port->ops) {
		ntbs_le64_write(&slot->line1.sw.bytes, bytes);
		slot->line1.len = 0;
		slot->line1.kind = NTBS_SLOT_SWITCH;
		ntbs_le64_write_release(&slot->line1.tail, ntbs_tail_word(q->tx->tail, take_ack(q)));
	} else {
		alignas(64) struct ntbs_line1_shm line1;

		memset(&line1, 0, sizeof(line1));
		line1.sw.bytes.v = bytes;
		line1.kind = NTBS_SLOT_SWITCH;
		publish(q, &line1, NULL, 0);
	}
	advance_tail(q->tx, 0);
	ntbs_write_once(q->tx->open_bytes, 0);
	return 0;
}

bool ntbs_msgq_writable(struct ntbs_msgq *q)
{
	uint32_t most = within_bufs(q, q->geo.bulk_bytes);

	if (q->tx->tail - q->tx->head > q->geo.nr_slots / 2 || q->tx->bulk_tail - q->tx->bulk_head > most / 2)
		refresh(q);
	return (slots_free(q) >= q->geo.nr_slots / 4 || q->tx->open_bytes ||
		(q->port->whole && slots_free(q))) &&
	       bulk_free(q, q->tx->bulk_tail, most) >= most / 3;
}

bool ntbs_msgq_all_acked(struct ntbs_msgq *q)
{
	refresh(q);
	return q->tx->head == q->tx->tail;
}

/* Slots and bulk bytes that the peer has consumed, as it has told last: any lock or none. */
static uint64_t told(const struct ntbs_msgq *q)
{
	return ntbs_le64_read_acquire(q->port->whole ? &q->out->consumed : &q->in->head);
}

bool ntbs_msgq_full(const struct ntbs_msgq *q)
{
	uint32_t used = ntbs_read_once(q->tx->bulk_tail) - (uint32_t)(told(q) >> 32), most = within_bufs(q, q->geo.bulk_bytes);

	return used > most - most / 3 && used <= q->geo.bulk_bytes;	/* more: of another generation, or nonsense */
}

bool ntbs_msgq_peer_had_all(const struct ntbs_msgq *q)
{
	uint64_t word = told(q);
	uint32_t left = (ntbs_read_once(q->tx->tail) - (uint32_t)word) & 0xffff;

	return !left || (q->port->whole && left == 1 && ntbs_read_once(q->tx->open_bytes) &&
			 (uint32_t)(word >> 32) == ntbs_read_once(q->tx->bulk_tail));
}
