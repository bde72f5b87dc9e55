/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * far.h - channels with processes of a host with which no memory is shared (abi_port.h)
 *
 * What differs from a channel in shared memory, and is asked by "c->far" or ntbs_sock_far():
 *  - a channel is not there at once: the other broker leases memory for it first.  Until the answer comes an acceptor's
 *    claim waits (@far_state), and the service thread goes on with it;
 *  - nothing is read where the peer reads: what a side must know of what it has stated itself lies in its copy;
 *  - the peer is rung through its broker, and everybody sleeps on the mbox's eventfd;
 *  - FIN without a stated end: the peer's broker is asked what its side had taken, before anything is believed.
 *
 * Arena and window are mapped once a session of the port.  A session that has ended is marked; its connections go back to TCP,
 * and live on in its memory meanwhile.  Two seconds later its window is severed: where the next session uses the same memory,
 * what they still store would be said of others.  When the next one begins, the channels of old ones that nobody uses any more go, and
 * with the last of them the mappings.  The doorbells of all sessions are one descriptor after the other, of one number.
 */
#ifndef NTBSOCK_FAR_H
#define NTBSOCK_FAR_H

#include <ntbsock/abi_port.h>
#include "runtime.h"
#include "window.h"

/* FAILED: the other process cannot have one.  Where nobody answers there is none, and the next one may be asked for. */
enum ntbs_far_state { NTBS_FAR_ASKED, NTBS_FAR_OPEN, NTBS_FAR_FAILED };

struct ntbs_far {
	struct ntbs_far *next;
	uint32_t session;
	char *arena;			/* NULL: unmapped; then it is @down, and has no channel */
	size_t arena_bytes;
	_Atomic bool down;
	bool severed;			/* nothing that is stored into the window arrives any more */
	struct ntbs_window window;
};

/* NTBS_MSG_PORT; takes over what it keeps of the descriptors.  Runtime's lock held. */
void ntbs_far_port(const struct ntbs_msg_port *m, int *fds);

/*
 * Loss (far_lost.c).  A session is over when its link is down or our broker is gone: then nobody rings for us any more, and
 * what is under way may be lost.  Both directions of each connection leave at their senders' tails; the other side does the
 * same, for it is told as well, or is asked.  Where its answer has not come after two seconds it will not: a reset, and
 * never a gap.  Meanwhile everybody here looks every few milliseconds.
 *
 * All for the service thread, without a lock.
 */
int ntbs_far_life(void);		/* a descriptor that shows EPOLLERR when the broker is gone; -1: none yet */
void ntbs_far_look(void);		/* a service bell */
void ntbs_far_orphaned(void);		/* the broker is gone */
int ntbs_far_tick(void);		/* on every turn; ms until the next at the latest, -1: none is needed */
struct ntbs_far *ntbs_far_sessions(void);
void ntbs_far_sever(struct ntbs_far *f);	/* one that is @down */

/* Runtime's lock held.  Ask for a channel with @peer_proc, of so many leases; NULL: the broker cannot be asked. */
struct ntbs_chan *ntbs_far_chan_ask(uint32_t peer_proc, uint64_t id, uint32_t nr_leases);

/* The answer, or, to a connector, a channel that somebody has opened to it.  Runtime's lock held. */
void ntbs_far_chan_open(const struct ntbs_msg_region *m, struct ntbs_chan *c, struct ntbs_peer *peer);

/* Nobody here uses it any more: so the broker is told, unless a child of ours may. */
void ntbs_far_chan_drop(struct ntbs_chan *c);
void ntbs_far_fork_child(void);

/* Queues of a socket over @c. */
void ntbs_far_fill_queue(struct ntbs_sock *sk, struct ntbs_chan *c);

/*
 * A copy engine (msgq.h) may write to the peer's inbox after a connection has ended: until it has done all that it was asked
 * for, which the broker counts in the region, the lease is not used again.  far_engine.c.  begin: a generation, after its queue was made.
 * release: connector; what is not done yet is let go with a later one.  copied: acceptor.
 */
void ntbs_far_fill_engine(struct ntbs_sock *sk, struct ntbs_chan *c);
void ntbs_far_begin(struct ntbs_sock *sk);
void ntbs_far_release(struct ntbs_sock *sk, struct ntbs_chan *c);
bool ntbs_far_copied(const struct ntbs_chan *c, uint32_t lease);

/* Acceptor: begin a generation, in both inboxes. */
void ntbs_far_prepare(struct ntbs_sock *sk, struct ntbs_chan *c, uint32_t generation, uint32_t seq_in, uint32_t seq_out);

/* Connector: what the acceptor has prepared.  False: it is not there. */
bool ntbs_far_prepared(const struct ntbs_msgq *q, uint32_t *generation, uint32_t *first_in, uint32_t *first_out);

void ntbs_far_ring(struct ntbs_chan *c, bool service);

/*
 * A FIN has come, and no end was stated: what has the peer's broker said?  Asks it, once.
 * Return: 0 nothing more comes, and the head word is the last; -EAGAIN; -ETIMEDOUT it does not answer.
 */
int ntbs_far_ended(struct ntbs_sock *sk);

/* Counts of all sessions, for NTBSOCK_STATS. */
void ntbs_far_counts(struct ntbs_window_counts *sum);

#endif
