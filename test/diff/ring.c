// SPDX-License-Identifier: BSD-2-Clause
/*
 * ring.c - where ntbsock says that its connections are: the counters that ntbsock-ctl connections shows
 */
#include "diff.h"

#include <stdarg.h>
#include <stdlib.h>
#include "ctl/pool.h"

const char *const where_name[WHERES] = { "-", "new", "listen", "plain TCP", "offered", "live, on TCP", "ring one way", "ring both ways", "back on TCP" };

static struct ntbs_pool_list pools;

void ring_look(void)
{
	ntbs_pool_free(&pools);
	if (ntbs_pool_read_all(broker_dir, &pools))
		die("the broker does not show its connections");
}

enum where ring_where(uint16_t lport, uint16_t rport, uint64_t *ring_bytes)
{
	for (size_t i = 0; i < pools.nr && rport; i++) {
		const struct ntbs_conn_shm *c = &pools.conn[i].c;
		bool tx = c->tx_state == NTBS_DIR_RING, rx = c->rx_state == NTBS_DIR_RING || c->rx_state == NTBS_DIR_DRAIN;

		if (c->tuple.lport != lport || c->tuple.rport != rport)
			continue;
		*ring_bytes = c->tx.ring_bytes + c->rx.ring_bytes;
		if (c->stage == 0)
			return W_PLAIN;
		if (c->stage == 1)
			return W_OFFER;
		if (tx && rx)
			return W_BOTH;
		if (tx || rx)
			return W_ONE_WAY;
		return c->tx_state == NTBS_DIR_BACK || c->rx_state == NTBS_DIR_BACK ? W_BACK : W_LIVE_TCP;
	}
	return W_NONE;
}

bool ring_sends(uint16_t lport, uint16_t rport)
{
	ring_look();
	for (size_t i = 0; i < pools.nr && rport; i++) {
		const struct ntbs_conn_shm *c = &pools.conn[i].c;

		if (c->tuple.lport == lport && c->tuple.rport == rport && c->stage == 2 && c->tx_state == NTBS_DIR_RING)
			return true;
	}
	return false;
}

/* What pool.c wants of the tool that it is part of. */
void ntbs_ctl_say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

const char *ntbs_ctl_printable(char *dst, size_t dst_bytes, const char *src, size_t len)
{
	snprintf(dst, dst_bytes, "%.*s", (int)len, src);
	return dst;
}
