/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * msgq_crc.h - what a message's CRC covers, said once for both ends
 *
 * Seed: epoch, generation, sequence; then the words of line 1 before the tail, line 0's data if the message has it,
 * the bulk bytes if it names some.  So a stale line, a torn line and a line of another lease all fail, whatever their
 * stamp says.
 */
#ifndef NTBSOCK_MSGQ_CRC_H
#define NTBSOCK_MSGQ_CRC_H

#include "crc32c.h"
#include "msgq.h"

/* Of the bulk bytes alone, as they lie in a ring; the sender has it from its copy. */
static inline uint32_t ntbs_bulk_crc(const struct ntbs_msgq *q, const uint8_t *bulk, uint32_t start, uint32_t end)
{
	uint32_t crc = ~0u;

	while (start != end) {
		uint32_t idx = start & (q->geo.bulk_bytes - 1);
		uint32_t run = q->geo.bulk_bytes - idx;

		if (run > end - start)
			run = end - start;
		crc = ntbs_crc32c(crc, bulk + idx, run);
		start += run;
	}
	return crc;
}

static inline uint32_t ntbs_msg_crc(const struct ntbs_msgq *q, uint32_t generation, uint32_t seq,
				    const struct ntbs_line1_shm *line1, const struct ntbs_line0_shm *line0,
				    uint32_t bulk_crc)
{
	uint32_t seed[4] = { q->epoch, generation, seq, bulk_crc };
	uint32_t crc = ntbs_crc32c(~0u, seed, sizeof(seed));

	crc = ntbs_crc32c(crc, line1, offsetof(struct ntbs_line1_shm, tail));
	if (line0)
		crc = ntbs_crc32c(crc, line0->data, sizeof(line0->data));
	return ~crc;
}

#endif
