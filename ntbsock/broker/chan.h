/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * chan.h - who has a channel with whom
 *
 * The acceptor makes the memory; the broker passes it to the connector and the bells both ways, and keeps neither:
 * a record here only says which two processes to tell of each other's new mboxes and of each other's end.  One end
 * may be a process of the other host; its side of the record lies with the broker there.
 *
 * Over a port there is no memory to pass: each broker leases a region of its own arena, and both ends are told of both
 * (region.h says when they are free again).
 *
 * A record ends with the first of its two processes, or when the channel could not be opened.
 */
#ifndef NTBSOCK_BROKER_CHAN_H
#define NTBSOCK_BROKER_CHAN_H

#include <stdbool.h>
#include <sys/queue.h>
#include <ntbsock/abi_broker.h>
#include <ntbsock/abi_peer.h>

struct ntbs_client;
struct ntbs_chan;

struct ntbs_chan_end {
	LIST_ENTRY(ntbs_chan_end) link;	/* of its client, if that is here */
	struct ntbs_chan *chan;
	struct ntbs_client *client;	/* NULL: on the other host */
	uint32_t proc;
};

enum { NTBS_ACCEPTOR, NTBS_CONNECTOR };
struct ntbs_chan {
	LIST_ENTRY(ntbs_chan) hash_link;
	uint64_t id;
	uint32_t cookie;		/* of the acceptor's request, while @pending */
	bool pending;			/* the other host has not answered yet */
	struct ntbs_chan_end end[2];
};

/* Messages of clients. */
void ntbs_chan_open(struct ntbs_client *c, const void *packet, int *fds);
void ntbs_chan_open_port(struct ntbs_client *c, const void *packet, int *fds);
void ntbs_chan_drop(struct ntbs_client *c, const void *packet, int *fds);
void ntbs_chan_state_end(struct ntbs_client *c, const void *packet, int *fds);
void ntbs_chan_new_mbox(struct ntbs_client *c, unsigned mbox);

/* Between these two?  NULL: there is no such channel. */
struct ntbs_chan *ntbs_chan_find(uint64_t id, uint32_t acceptor, uint32_t connector);

void ntbs_chan_client_gone(struct ntbs_client *c);

/* Messages of the other broker.  Descriptors stay the caller's. */
void ntbs_chan_peer_open(const struct ntbs_peer_chan *m, const int *fds);
void ntbs_chan_peer_bells(const struct ntbs_peer_chan *m, const int *fds);
void ntbs_chan_peer_fail(const struct ntbs_peer_chan *m);
void ntbs_chan_peer_mbox(const struct ntbs_peer_mbox *m, const int *fds);
/* Nobody of ours uses that side's region any more: to whoever has the other one. */
void ntbs_chan_tell_done(uint64_t chan, bool of_connector);
void ntbs_chan_peer_done(const struct ntbs_peer_end *m);
void ntbs_chan_peer_state_end(const struct ntbs_peer_end *m);
void ntbs_chan_peer_gone(uint32_t proc);

/* The cable is gone: what waits for an answer fails.  It is back: ask for the processes at its other end, or, if they
 * are all @new ones, take the old ones for gone. */
void ntbs_chan_cable_lost(void);
void ntbs_chan_cable_back(bool all_new);

#endif
