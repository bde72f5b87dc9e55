/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * runtime.h - what a process has once it takes part: the broker's connection, boards, peers, channels, bells
 *
 * Made at the first connect() or listen() of a TCP socket, never before; made anew in a fork child at its first
 * connect() or claim.  Lists of peers, channels and boards are changed under one lock, that of boards is read
 * under RCU; what leaves a list is unmapped by the service thread, once no connection uses it.
 *
 * When the broker goes, established connections do not notice.  New ones stay on TCP until it is back: the next
 * connect() or accept() tries to reach it, at most once a second.  That begins a session, as the first one of a fork child
 * does: processes get new numbers.  Channels and bells of the session before serve the connections that they have, and are
 * never found by a number of this one.
 */
#ifndef NTBSOCK_RUNTIME_H
#define NTBSOCK_RUNTIME_H

#include <stdbool.h>
#include <urcu/list.h>
#include <urcu/rculist.h>
#include "sock.h"

#define NTBS_MBOXES 16

/*
 * cds_list_add_rcu() and cds_list_del_rcu(), with the one store that readers see as the C11 store that it is: theirs is
 * a volatile one, of which the thread sanitizer knows nothing.  The runtime's lock is held.
 */
static inline void ntbs_list_publish(struct cds_list_head *node, struct cds_list_head *list)
{
	node->next = list->next;
	node->prev = list;
	list->next->prev = node;
	__atomic_store_n(&list->next, node, __ATOMIC_RELEASE);
}

static inline void ntbs_list_unlink(struct cds_list_head *node)
{
	node->next->prev = node->prev;
	__atomic_store_n(&node->prev->next, node->next, __ATOMIC_RELEASE);
}

/* A reader's step, within rcu_read_lock(): pairs with the two stores above. */
static inline struct cds_list_head *ntbs_list_next(const struct cds_list_head *node)
{
	return __atomic_load_n(&node->next, __ATOMIC_ACQUIRE);
}

struct ntbs_peer {
	struct cds_list_head node;
	uint32_t proc, uid;
	_Atomic int bell[NTBS_MBOXES];	/* eventfds of its mboxes, -1: not known */
	int service_bell;
	int chans;			/* channels that name it; under the runtime's lock */
	bool gone;			/* or of a session that has ended: its number may be another process's */
};

/* The acceptor's own view of a channel's leases: shared with its fork children. */
struct ntbs_leases_shm {
	struct ntbs_lock lock;
	struct {
		uint32_t busy;		/* 1: held by one of our connections; 2: by the connector alone */
		uint32_t generation;
		uint32_t next_out, next_in;	/* first sequences of the next generation */
		uint32_t engine_slots;	/* far.h: what a copy engine was asked for */
	} lease[NTBS_LEASES_MAX];
};

struct ntbs_chan {
	struct cds_list_head node;
	uint64_t id;
	uint32_t session;		/* in which it was made */
	bool acceptor;			/* we own it */
	bool inherited;			/* made by the process that forked us: no new leases here */
	bool forked;			/* a child of ours may use it */
	struct ntbs_chan_shm *shm;
	size_t bytes;
	struct ntbs_msgq_geo geo;
	uint32_t nr_leases, inbox_bytes;
	struct ntbs_leases_shm *leases;	/* acceptor */
	ntbs_le32 *released;		/* acceptor reads, connector writes: generations it has let go */
	struct ntbs_peer *_Atomic peer;	/* connector: always; acceptor: NULL until its bells have come */
	uint32_t peer_proc;

	bool is_far;			/* far.h: over a port; @shm is NULL, and these are set once it is open */
	_Atomic int far_state;		/* enum ntbs_far_state */
	struct ntbs_far *far;
	char *far_in, *far_out;		/* own region, the peer's */
	struct {			/* connector: leases to be let go, under @owed_lock */
		bool is;
		uint32_t generation, slots;
	} owed[NTBS_LEASES_MAX];
	struct ntbs_lock owed_lock;
};
#define NTBS_FAR_SLOTS 512u		/* more than on one host: acknowledgements cross a link, and nothing is extended */


struct ntbs_board {
	struct cds_list_head node;
	uint32_t uid, session;
	uint32_t proc;			/* our id in that session */
	bool mine;			/* read-write */
	struct ntbs_board_shm *shm;
};

struct ntbs_runtime {
	struct ntbs_port port;		/* shm; one for all */
	_Atomic uint32_t proc;		/* our id with the broker */
	_Atomic uint32_t session;	/* with a broker, counted by us: ids of processes and channels mean something within one */
	_Atomic uint32_t node;
	_Atomic uint32_t uid;
	_Atomic int broker;		/* -1: not connected */
	_Atomic bool limited;		/* the last look at our limits was why we have no channel, or no broker */
	_Atomic bool silent;		/* it is there, and has not answered our greeting in time */
	_Atomic int mbox[NTBS_MBOXES];	/* our eventfds; [0] at the least */
	_Atomic uint32_t port_kind;	/* far.h: 1 processes of other hosts are behind a port, 2 all are */
	int mbox_self;			/* the one that this process sleeps on */
	_Atomic int service_bell;
	struct ntbs_rules_shm *_Atomic rules;
	struct cds_list_head peers, chans, boards;
	struct ntbs_board *_Atomic board;	/* own user's */
	struct ntbs_lock lock;		/* guards the lists, the broker's descriptor, ids */
};
extern struct ntbs_runtime ntbs_rt;

/* Is there a broker to talk to?  Tries to connect, if it has not lately.  May wait for the broker's answer, once. */
bool ntbs_runtime_ready(void);
void ntbs_runtime_fork_prepare(void);
void ntbs_runtime_fork_parent(void);
/* A channel takes 1 GB of addresses, of which hardly any is memory: not where the program's own mappings would fail for it. */
bool ntbs_runtime_limited(void);
void ntbs_runtime_fork_child(void);
void ntbs_runtime_init(void);

/* One packet to the broker, with descriptors; takes the runtime's lock.  False: the broker is gone. */
bool ntbs_broker_send(const void *msg, size_t len, const int *fds, int nr_fds);
/* Take what the broker has sent; what another thread has taken has its effect too when this returns.  Return: how many
 * messages, -EPIPE the broker has just gone. */
int ntbs_broker_receive(void);

/* We take part no more: no broker, now or later. */
void ntbs_broker_leave(void);

/* Wait for the bells of the other end of a channel that we have just opened.  False: they do not come. */
bool ntbs_broker_await_bells(struct ntbs_chan *c);
void ntbs_runtime_add_pool(int fd);

/* What the rules say of a connection. */
enum ntbs_reason ntbs_rules_check(const struct ntbs_tuple *t, bool accepted, uint32_t *remote_node);

/* Channels.  hold: a connector's channel becomes sk->chan, which keeps it from being unmapped; NULL if it is not there. */
bool ntbs_chan_known(uint64_t id, uint32_t session);
bool ntbs_chan_down(const struct ntbs_chan *c);	/* over a port whose link is lost: nothing new goes there */
struct ntbs_chan *ntbs_chan_hold(struct ntbs_sock *sk, uint64_t id);	/* of the session of its offer */
/*
 * Acceptor; makes one if need be.  NULL: @lease is -EAGAIN if it is on its way (far.h), else there is none, nor in a session that
 * is over.
 */
struct ntbs_chan *ntbs_chan_for(uint32_t peer_proc, uint32_t session, int *lease);
/* The same, of a process that was killed: nobody holds what @shm says of it. */
void ntbs_chan_take_back(const struct ntbs_sock_shm *shm);
void ntbs_chan_release(struct ntbs_sock *sk);			/* the last holder has let go */
/* The same at exit: the memory stays, at which other threads, that of the service among them, may still look. */
void ntbs_chan_let_lease_go(struct ntbs_sock *sk);
bool ntbs_chan_drop(struct ntbs_chan *c);	/* unless somebody uses it; the runtime's lock held */
void ntbs_chan_unlease(struct ntbs_chan *c, uint32_t lease);	/* claimed by nobody after all */
static inline struct ntbs_inbox_shm *ntbs_chan_inbox(const struct ntbs_chan *c, uint32_t lease, bool of_acceptor)
{
	return (struct ntbs_inbox_shm *)((char *)c->shm + NTBS_CHAN_HDR +
					 ((size_t)lease * 2 + !of_acceptor) * c->inbox_bytes);
}
void ntbs_peer_ring(struct ntbs_chan *c, unsigned mbox);
void ntbs_peer_ring_service(struct ntbs_chan *c);

#endif
