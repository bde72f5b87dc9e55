// SPDX-License-Identifier: BSD-2-Clause
/* ctlring.c - see ctlring.h */
#include "ctlring.h"

#include <errno.h>
#include <string.h>
#include "crc32c.h"

void ntbs_ctl_open(struct ntbs_ctl *c, struct ntbs_port *port, const struct ntbs_ctl_shm *in, struct ntbs_ctl_shm *out,
		   uint32_t epoch)
{
	*c = (struct ntbs_ctl){ .port = port, .in = in, .out = out, .epoch = epoch };
}

static uint32_t crc_of(const struct ntbs_ctl_slot *slot)
{
	const uint32_t head[3] = { slot->seq.v, slot->epoch.v, slot->len.v };

	return ~ntbs_crc32c(ntbs_crc32c(~0u, head, sizeof(head)), slot->bytes, sizeof(slot->bytes));
}

/* How many the peer has taken; a word of another session, or one that cannot be, says none. */
static uint32_t under_way(const struct ntbs_ctl *c)
{
	uint64_t word = ntbs_le64_read_acquire(&c->in->consumed);
	uint32_t left = c->sent - (uint32_t)word;

	return (uint32_t)(word >> 32) == c->epoch && left <= c->sent ? left : c->sent;
}

int ntbs_ctl_send(struct ntbs_ctl *c, const void *msg, size_t len_bytes)
{
	struct ntbs_ctl_slot *slot = &c->out->slot[c->sent % NTBS_CTL_SLOTS];
	alignas(64) struct ntbs_ctl_slot copy;

	if (!len_bytes || len_bytes > NTBS_CTL_BYTES)
		return -EMSGSIZE;
	if (under_way(c) >= NTBS_CTL_SLOTS)
		return -EAGAIN;
	memset(&copy, 0, sizeof(copy));
	copy.seq.v = c->sent + 1;
	copy.epoch.v = c->epoch;
	copy.len.v = (uint32_t)len_bytes;
	memcpy(copy.bytes, msg, len_bytes);
	copy.crc.v = crc_of(&copy);
	c->port->ops->store_line(c->port, (char *)slot + NTBS_LINE, (const char *)&copy + NTBS_LINE);
	c->port->ops->store_line(c->port, slot, &copy);
	ntbs_window_flush(c->port);
	c->sent++;
	return 0;
}

int ntbs_ctl_recv(struct ntbs_ctl *c, void *buf)
{
	const struct ntbs_ctl_slot *slot = &c->in->slot[c->taken % NTBS_CTL_SLOTS];
	struct ntbs_ctl_slot copy;

	if (ntbs_le32_read_acquire(&slot->seq) != c->taken + 1)
		return -EAGAIN;
	memcpy(&copy, slot, sizeof(copy));	/* once; judged on the copy */
	if (copy.seq.v != c->taken + 1 || copy.epoch.v != c->epoch || !copy.len.v || copy.len.v > NTBS_CTL_BYTES ||
	    copy.crc.v != crc_of(&copy))
		return -EAGAIN;
	memcpy(buf, copy.bytes, copy.len.v);
	c->taken++;
	return (int)copy.len.v;
}

/* Of this session: what an earlier one has left does not count. */
static bool announced(const struct ntbs_ctl *c, uint32_t n)
{
	const struct ntbs_ctl_slot *slot = &c->in->slot[n % NTBS_CTL_SLOTS];

	return ntbs_le32_read_acquire(&slot->seq) == n + 1 && ntbs_le32_read(&slot->epoch) == c->epoch;
}

bool ntbs_ctl_torn(const struct ntbs_ctl *c)
{
	return announced(c, c->taken) || announced(c, c->taken + 1);
}

bool ntbs_ctl_tell(struct ntbs_ctl *c)
{
	if (c->taken - c->told < NTBS_CTL_SLOTS / 4)
		return false;
	ntbs_window_store64(c->port, &c->out->consumed, (uint64_t)c->epoch << 32 | c->taken);
	c->told = c->taken;
	return true;
}
