/* SPDX-License-Identifier: BSD-2-Clause */
/* sign.h - stamps and CRC of whatever lies in a slot, so that nonsense gets past them: an enemy knows how to compute one */
#ifndef NTBSOCK_TEST_SIGN_H
#define NTBSOCK_TEST_SIGN_H

#include "msgq.h"
#include "msgq_crc.h"

/* For the reader @q.  Bulk bytes as far as there can be that many. */
static inline void sign(const struct ntbs_msgq *q, uint32_t seq, struct ntbs_slot_shm *slot)
{
	const uint8_t *bulk = (const uint8_t *)q->in + q->geo.bulk_offset;
	uint32_t start = slot->line1.bulk.start.v, end = slot->line1.bulk.end.v;
	uint32_t bulk_crc = slot->line1.kind == NTBS_SLOT_BULK && end - start <= q->geo.bulk_bytes ? ntbs_bulk_crc(q, bulk, start, end) : 0;
	bool two = slot->line1.kind == NTBS_SLOT_INLINE && slot->line1.len > NTBS_LINE1_DATA;

	slot->line0.stamp.v = (uint16_t)seq;
	slot->line1.tail.v = ntbs_tail_word_crc(seq, ntbs_msg_crc(q, q->rx->generation, seq, &slot->line1, two ? &slot->line0 : NULL, bulk_crc));
}

#endif
