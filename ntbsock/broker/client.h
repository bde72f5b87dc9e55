/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * client.h - one connection of an application or of ntbsock-ctl
 *
 * Life: connected (may ask for STATUS, POOLS, RELOAD) -> HELLO (has a process id, a board, bells) -> doomed -> gone.
 * A client owns its descriptors: connection, bells, extra mboxes, pools.  Its end frees its offers, tells those it
 * has channels with, and touches nothing else.
 */
#ifndef NTBSOCK_BROKER_CLIENT_H
#define NTBSOCK_BROKER_CLIENT_H

#include <stdbool.h>
#include <sys/queue.h>
#include <ntbsock/abi_broker.h>
#include "loop.h"
#include "memory.h"
#include "packet.h"

#define NTBS_PROCS 4096u	/* process numbers 1..4095 */
#define NTBS_MBOXES 16		/* 0 from HELLO, 1..15 by MBOX */
#define NTBS_CLIENT_POOLS 64u
#define NTBS_CLIENT_CHANS 4096u
#define NTBS_CLIENT_VOUCHED 8u	/* sockets, the last ones */
#define NTBS_UID_CLIENTS 2048u	/* connections of one user but root */

struct ntbs_chan_end;

struct ntbs_client {
	struct ntbs_watch watch;	/* first: see loop.h */
	LIST_ENTRY(ntbs_client) link;	/* all clients */
	struct ntbs_sendq tx;
	uint32_t uid, pid;
	uint32_t proc;			/* 0 before HELLO */
	uint32_t port_session;		/* that it has been told of; 0: none */
	bool doomed, watching_out;
	struct ntbs_board *board;	/* of its user; NULL before HELLO */
	char program[16];		/* printable, ends in NUL */
	int mbox[NTBS_MBOXES], service_bell;
	uint64_t vouched[NTBS_CLIENT_VOUCHED];	/* SO_COOKIE of sockets that it has shown; 0: none */
	unsigned nr_vouched;
	int pool[NTBS_CLIENT_POOLS];
	uint64_t awaits_until_ms;	/* rung when another host offers: AWAIT; 0 or over: not */
	unsigned nr_pools;
	unsigned nr_chans;
	LIST_HEAD(, ntbs_chan_end) chans;
	uint64_t seen;			/* chan.c: last walk over peers that met this client */

	bool listing;			/* show.c: a POOLS request is being answered, from here on */
	uint32_t list_cookie, list_proc, list_pool;
};

/* An accepted connection.  Return: the client, which now owns @fd; or NULL, with @fd closed and the reason logged. */
struct ntbs_client *ntbs_client_add(int fd);

struct ntbs_client *ntbs_client_by_proc(uint32_t proc);	/* NULL: no such process here, or it is about to end */

/* Walk over all clients after HELLO that are not doomed: start with 0, NULL ends. */
struct ntbs_client *ntbs_client_next(uint32_t *nr);

/* Send or doom.  @fds stay the caller's. */
void ntbs_client_send(struct ntbs_client *c, void *msg, uint16_t type, size_t len_bytes, const int *fds, int nr_fds);

/* To be taken down by ntbs_clients_reap().  @why NULL: nobody's fault; else logged, with the client named. */
void __attribute__((format(printf, 2, 3))) ntbs_client_doom(struct ntbs_client *c, const char *why, ...);

/* One packet of @c.  Closes every descriptor that it does not keep. */
void ntbs_client_message(struct ntbs_client *c, const void *packet, size_t len_bytes, int *fds, int nr_fds);

/* All packets that it has sent, now; not its end. */
void ntbs_client_take(struct ntbs_client *c);

void ntbs_clients_reap(void);	/* after each batch of events */
void ntbs_clients_close(void);	/* all, at the end of the broker */

#endif
