/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pool.h - read the state pools of other processes (abi_state.h)
 *
 * A pool is written by a program of somebody else while we look.  Its sizes are checked against the size of the
 * memfd, which must be sealed against shrinking (else a look could end in SIGBUS); a connection is copied word by
 * word and counts only if it is still the same one afterwards.
 */
#ifndef NTBSOCK_CTL_POOL_H
#define NTBSOCK_CTL_POOL_H

#include <netinet/in.h>
#include <sys/types.h>
#include <ntbsock/abi_state.h>
#include "ctl.h"

struct ntbs_pool_conn {
	uint32_t pid;		/* process that handed over the pool */
	char program[17];	/* printable */
	struct ntbs_conn_shm c;	/* a copy; numbers in it can be anything */
};

struct ntbs_pool_list {
	struct ntbs_pool_conn *conn;
	size_t nr, room;
	unsigned pools;		/* read */
	unsigned pools_bad;	/* left out: not a pool, or sizes that cannot be */
	unsigned torn;		/* connections left out: they changed under our eyes */
	struct { dev_t dev; ino_t ino; } *seen; /* a pool that two processes share is read once */
};

/**
 * ntbs_pool_read_all() - Every connection of every pool that the broker shows us; sockets without a peer are none
 * @broker_dir: --broker-dir or NULL
 *
 * Sorted by process, then by age.  Return: 0 or exit code; what failed has been said.
 */
int ntbs_pool_read_all(const char *broker_dir, struct ntbs_pool_list *list);
void ntbs_pool_free(struct ntbs_pool_list *list);

/* At least one direction is, or is just moving, on the ring. */
static inline bool ntbs_pool_on_ring(const struct ntbs_conn_shm *c)
{
	return c->tx_state == NTBS_DIR_RING || c->rx_state == NTBS_DIR_RING || c->rx_state == NTBS_DIR_DRAIN;
}

/* Names of enums in a copy, "?" for a number that means nothing. */
const char *ntbs_pool_reason(uint32_t reason);
const char *ntbs_pool_reason_text(uint32_t reason);
const char *ntbs_pool_dir(uint32_t state);

/* IPv4 addresses are v4-mapped in the pool, whatever the family of the socket.  Return: @text. */
#define NTBS_POOL_END (INET6_ADDRSTRLEN + 10)
const char *ntbs_pool_address(char text[INET6_ADDRSTRLEN], const uint8_t addr[16]);
const char *ntbs_pool_end(char text[NTBS_POOL_END], const uint8_t addr[16], uint16_t port);

#endif
