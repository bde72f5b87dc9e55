/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * abi_broker.h - library and ntbsock-ctl <-> broker
 *
 * A SOCK_SEQPACKET UNIX socket, <run dir>/broker.sock.  Each packet is one struct below, of exactly its size;
 * descriptors ride along as SCM_RIGHTS in the order that the comment lists.  The broker identifies a client by
 * SO_PEERCRED.  A packet of a wrong length, type or number of descriptors closes that client and nobody else.
 * After HELLO nothing here is on a path that a program waits for: the library sends and goes on; answers are
 * taken by its service thread.
 *
 * Three kinds of memory are shared through the broker, all memfds sealed against shrinking:
 *  - the *board* of a user: offers of connections, written by all library processes of that user
 *    (abi: struct ntbs_board_shm), mapped read-only by processes of other users;
 *  - the *rules*: nodes.conf and ports.conf, compiled (struct ntbs_rules_shm), written by the broker alone;
 *  - *state pools* of processes (abi_state.h), read by ntbsock-ctl.
 */
#ifndef NTBSOCK_ABI_BROKER_H
#define NTBSOCK_ABI_BROKER_H

#include <assert.h>
#include <stdalign.h>
#include <ntbsock/types.h>

#define NTBS_BROKER_ABI 5
#define NTBS_BROKER_SOCK "broker.sock"
#define NTBS_BOARD_MAGIC 0x44524f42u	/* "BORD" */
#define NTBS_RULES_MAGIC 0x454c5552u	/* "RULE" */

/* ------------------------------------------------------------------ offers */

/*
 * An offer is one cache line and lives in the word: everything else in it is written before OFFERED and read
 * after it.  Moves, each a compare-exchange on the whole word:
 *
 *   FREE -> WRITING -> OFFERED            the connector, after connect() has succeeded
 *   OFFERED -> CLAIMED                    an acceptor of the same user whose channel the connector has attached:
 *                                         binds both, each may move its direction at once
 *   OFFERED -> ASKED                      the same, channel not attached yet; or the broker, for an acceptor of
 *                                         another user or on another host: binds nobody
 *   ASKED -> CLAIMED                      the connector, once it has attached the channel and still wants to; it
 *                                         then states the confirmation in the acceptor's inbox
 *   OFFERED, ASKED -> WITHDRAWN           the connector: fork, exec, close, or nobody came
 *   CLAIMED, WITHDRAWN -> FREE            the connector, when it has taken note
 *   any -> FREE                           the broker, when the connector's process is gone
 *   OFFERED -> FREE                       the broker, when it cannot pass the offer on to another host
 */
enum ntbs_offer_state {
	NTBS_OFFER_FREE,
	NTBS_OFFER_WRITING,
	NTBS_OFFER_OFFERED,
	NTBS_OFFER_ASKED,
	NTBS_OFFER_CLAIMED,
	NTBS_OFFER_WITHDRAWN,
};

/* word: state 0-3, tag 4-19 (counts uses of the entry), lease 20-27, channel id 28-63 */
#define NTBS_OFFER_STATE(w) ((unsigned)((w) & 15))
#define NTBS_OFFER_TAG(w) ((unsigned)((w) >> 4 & 0xffff))
#define NTBS_OFFER_LEASE(w) ((unsigned)((w) >> 20 & 0xff))
#define NTBS_OFFER_CHAN(w) ((uint64_t)(w) >> 28)
static inline uint64_t ntbs_offer_word(unsigned state, unsigned tag, unsigned lease, uint64_t chan)
{
	return (uint64_t)(state & 15) | (uint64_t)(tag & 0xffff) << 4 | (uint64_t)(lease & 0xff) << 20 |
	       chan << 28;
}
#define NTBS_OFFER_WHO(w) ((w) & 0xfffff)	/* state and tag */

/*
 * A process id with the broker is the node id of its host (8 bits) and a number (12 bits), so that it means
 * the same on both ends of a cable.  A channel id is the acceptor's process id and a number of its own (16 bits).
 */
#define NTBS_PROC_ID(node, nr) ((uint32_t)((node) & 0xff) << 12 | ((nr) & 0xfff))
#define NTBS_PROC_NODE(proc) ((uint32_t)(proc) >> 12)
#define NTBS_CHAN_ID(proc, nr) ((uint64_t)(proc) << 16 | ((nr) & 0xffff))
#define NTBS_CHAN_PROC(id) ((uint32_t)((id) >> 16))

/* An address as the connector sees it; IPv4 is v4-mapped, so that one form serves both families. */
struct ntbs_tuple {
	uint8_t laddr[16], raddr[16];	/* network order */
	uint16_t lport, rport;		/* host order */
};

struct ntbs_offer_shm {
	alignas(64) ntbs_le64 word;
	uint64_t netns;			/* SO_NETNS_COOKIE of the connector's socket */
	struct ntbs_tuple tuple;
	uint32_t proc;			/* connector's process id with its broker */
	uint32_t hint;			/* 1: the connector may be asleep, ring its mbox 0 after a claim */
	uint32_t shut;			/* 1: it has shut down for writing before it knew of a claim */
};
static_assert(sizeof(struct ntbs_tuple) == 36, "broker ABI 1");
static_assert(sizeof(struct ntbs_offer_shm) == 64, "broker ABI 1");
#define NTBS_BOARD_OFFERS 4096u
#define NTBS_BOARD_REMOTE_UID 0xffffffffu	/* board of offers from another host: written by the broker, netns 0 */
#define NTBS_BOARD_VAIN 64u		/* listeners of other hosts that are remembered; one may take another's place */
#define NTBS_BOARD_PROBE 16u		/* an offer lies in one of that many entries from its hash on, wrapping */
struct ntbs_board_shm {
	ntbs_le32 magic;		/* NTBS_BOARD_MAGIC */
	ntbs_le32 abi;			/* NTBS_BROKER_ABI */
	ntbs_le32 uid;			/* whose */
	ntbs_le64 vain[NTBS_BOARD_VAIN];	/* by ntbs_listener_hash(): which, and the second in which it was waited for in vain */
	alignas(64) struct ntbs_offer_shm offer[NTBS_BOARD_OFFERS];
};

/* FNV-1a, 64 bits */
#define NTBS_FNV_START 0xcbf29ce484222325ull
static inline uint64_t ntbs_fnv(uint64_t h, const void *bytes, unsigned n)
{
	const uint8_t *p = (const uint8_t *)bytes;

	for (unsigned i = 0; i < n; i++)
		h = (h ^ p[i]) * 0x100000001b3ull;
	return h;
}

/* Where an offer lies; both ends and the broker must agree.  Over the connector's tuple, then netns. */
static inline uint32_t ntbs_offer_hash(const struct ntbs_tuple *t, uint64_t netns)
{
	uint64_t h = ntbs_fnv(NTBS_FNV_START, t, sizeof(*t));

	for (unsigned i = 0; i < 8; i++)
		h = (h ^ (netns >> (8 * i) & 0xff)) * 0x100000001b3ull;
	return (uint32_t)(h ^ h >> 32);
}

/* The listener that a connector sees. */
static inline uint32_t ntbs_listener_hash(const struct ntbs_tuple *t)
{
	uint64_t h = ntbs_fnv(ntbs_fnv(NTBS_FNV_START, t->raddr, sizeof(t->raddr)), &t->rport, sizeof(t->rport));

	return (uint32_t)(h ^ h >> 32);
}

/* ------------------------------------------------------------------- rules */

/*
 * nodes.conf and ports.conf, compiled.  The library evaluates them at connect() and accept().  A connection
 * may be offered if its remote address is of this host (LOCAL below) or in @node, and the port rules allow it.
 * Port rules are tried in order, the first whose port range (of the listening side) and program match decides;
 * none: allowed.  @version is odd while the broker writes (seqlock).
 */
#define NTBS_RULES_NODES 256
#define NTBS_RULES_PORTS 256
struct ntbs_rule_node {
	uint8_t addr[16];		/* v4-mapped where it is IPv4 */
	uint32_t prefix;		/* bits of @addr that count; 128: one host */
	uint32_t node;			/* node id */
};
struct ntbs_rule_port {
	uint16_t first, last;
	uint8_t allow;			/* 1 allow, 0 deny */
	char program[27];		/* base name of the executable, "" any; NUL padded */
};
struct ntbs_rules_shm {
	ntbs_le32 magic;		/* NTBS_RULES_MAGIC */
	ntbs_le32 abi;
	ntbs_le32 version;
	uint32_t nr_nodes, nr_ports;
	uint32_t local_only_same_netns;	/* 1: no cable, so only connections inside one network namespace */
	struct ntbs_rule_node node[NTBS_RULES_NODES];
	struct ntbs_rule_port port[NTBS_RULES_PORTS];
};

/* ---------------------------------------------------------------- messages */

enum ntbs_msg_type {
	/* library -> broker */
	NTBS_MSG_HELLO = 1,	/* fds: mbox 0, service bell (eventfds) */
	NTBS_MSG_CHAN_OPEN,	/* fds: channel memfd */
	NTBS_MSG_CLAIM,		/* fds: the accepted socket, as proof */
	NTBS_MSG_OFFER_REMOTE,	/* none: "look at this entry of my board, its node is another host" */
	NTBS_MSG_POOL,		/* fds: memfd of a state pool */
	NTBS_MSG_MBOX,		/* fds: one more mbox (eventfd) */
	NTBS_MSG_VOUCH,		/* fds: a connected socket that we have and another user has made; before its offer */
	NTBS_MSG_CHAN_OPEN_PORT, /* none: a channel with a process behind the port (struct ntbs_msg_region) */
	NTBS_MSG_CHAN_DROP,	/* none: neither we nor our children use the channel any more; port only */
	NTBS_MSG_STATE_END,	/* none: a connection has ended without a word: what had the other side taken? */
	NTBS_MSG_AWAIT,		/* none: "ring my mbox 0 when another host offers, for a second": what we have accepted is not offered yet */
	NTBS_MSG_COPY,		/* none: slots of ours, complete in the copy, are to go by the engine (@dma_min in abi_port.h) */
	NTBS_MSG_TAKE,		/* fds: a pidfd, the writing end of a pipe: "I have taken a socket of that process" (struct ntbs_msg_take) */

	/* broker -> library */
	NTBS_MSG_WELCOME = 32,	/* fds: own user's board (read-write), rules (read-only) */
	NTBS_MSG_BOARD,		/* fds: another user's board (read-only) */
	NTBS_MSG_CHAN,		/* to the connector.  fds: channel memfd, acceptor's mbox 0, its service bell */
	NTBS_MSG_CHAN_BELLS,	/* to the acceptor.  fds: connector's mbox 0, its service bell */
	NTBS_MSG_CHAN_FAIL,	/* to the acceptor: connector is gone or refused */
	NTBS_MSG_CLAIM_RESULT,	/* to the acceptor */
	NTBS_MSG_PEER_MBOX,	/* fds: an mbox that a peer of one of our channels has added */
	NTBS_MSG_PEER_GONE,	/* the process at the other end of channels has left the broker (exited or dropped) */
	NTBS_MSG_LEAVE,		/* move a connection to TCP, if you hold it (struct ntbs_msg_drain) */
	NTBS_MSG_PORT,		/* before the first CHAN_PORT of its session.  fds: arena, window, doorbell, life */
	NTBS_MSG_CHAN_PORT,	/* to both ends: a channel over the port is open (struct ntbs_msg_region) */
	NTBS_MSG_TAKEN,		/* fds: the pipe, to be closed when the socket is on TCP (struct ntbs_msg_take) */

	/* ntbsock-ctl <-> broker */
	NTBS_MSG_STATUS = 64,
	NTBS_MSG_STATUS_REPLY,
	NTBS_MSG_POOLS,		/* "all pools I may see": a POOL_REPLY each, then one with pid 0 and no fd */
	NTBS_MSG_POOL_REPLY,	/* fds: memfd of the pool */
	NTBS_MSG_RELOAD,	/* read the configuration again (root or the broker's user) */
	NTBS_MSG_RELOAD_REPLY,
	NTBS_MSG_HOLD,		/* as STATUS; and a private broker stays until the asking process ends (run) */
	NTBS_MSG_DRAIN,		/* tell LEAVE to all processes of the asker's user (root: all), and answer */
	NTBS_MSG_DRAIN_REPLY,
};

struct ntbs_msg {
	uint16_t type;			/* enum ntbs_msg_type */
	uint16_t bytes;			/* of the whole packet */
	uint32_t cookie;		/* the sender's, returned in the answer */
};

struct ntbs_msg_hello {
	struct ntbs_msg h;
	uint32_t abi;			/* NTBS_BROKER_ABI */
	uint32_t pid;			/* for show; identity is SO_PEERCRED */
	char program[16];		/* for show */
};
struct ntbs_msg_welcome {
	struct ntbs_msg h;
	uint32_t proc;			/* our process id with the broker, 1..2^20-1, never reused soon */
	uint32_t uid;			/* whose board this is */
	uint32_t node;			/* id of this host, 0 if none */
	uint32_t boards;		/* that many BOARD follow: of the users who were here before */
	uint32_t port;			/* processes of other hosts (1), or of this one as well (2), are reached through a port */
	uint32_t rsvd;
};
/*
 * The port, as a process gets it once a session: its arena (abi_port.h) whole, and the window, so processes that use one
 * port trust each other.  Of a real bridge the descriptors of window and doorbell are files of sysfs that map a whole BAR,
 * or, if those cannot be mapped, VFIO's, which gives all of the function.  The descriptors may be closed once they are mapped.  @life is the writing end of a pipe in
 * which nothing is ever written: the broker keeps what it has for the process (its bells, its part of the arena) until
 * the last of it and its children is gone; and they see by it that the broker is.  The end of a session is told in the
 * arena (@down), with a ring of every service bell.
 */
struct ntbs_msg_port {
	struct ntbs_msg h;
	uint32_t session;		/* of the link; the epoch of its channels */
	uint32_t mem;			/* enum ntbs_mem of the window */
	uint64_t arena_offset, arena_bytes;	/* in its descriptor */
	uint64_t window_offset, window_bytes;	/* in its descriptor */
	uint32_t bell;			/* enum ntbs_bell_kind (driver-glue/window.h) */
	uint32_t bell_value;
	uint64_t bell_offset;		/* of a register in the descriptor */
	uint32_t arena_mem;		/* CACHED: a sealed memfd; else it lies in a device */
	uint32_t rsvd;
};
struct ntbs_msg_region {		/* CHAN_OPEN_PORT, CHAN_PORT */
	struct ntbs_msg h;
	uint64_t chan;			/* NTBS_CHAN_ID */
	uint32_t proc, uid;		/* as in struct ntbs_msg_chan */
	uint32_t session;
	uint32_t nr_leases, nr_slots, bulk_bytes;	/* OPEN: wanted; the answer: so many */
	uint32_t bulk_offset, inbox_bytes;		/* answer */
	uint64_t in_offset, out_offset;	/* answer: of the region in the arena, of the peer's in the window */
	uint32_t of_connector;		/* which end is told: a process can be both */
	uint32_t rsvd;
};
struct ntbs_msg_end {			/* STATE_END */
	struct ntbs_msg h;
	uint64_t chan;
	uint32_t lease, generation;
	uint32_t of_connector;		/* which end asks */
	uint32_t rsvd;
};
struct ntbs_msg_copy {			/* COPY */
	struct ntbs_msg h;
	uint64_t chan;
	uint32_t lease;
	uint32_t first, nr;		/* slots from this sequence on */
	uint32_t of_connector;		/* which end we are */
};
struct ntbs_msg_board {
	struct ntbs_msg h;
	uint32_t uid;
	uint32_t rsvd;
};
struct ntbs_msg_chan {			/* CHAN_OPEN, CHAN, CHAN_BELLS, CHAN_FAIL */
	struct ntbs_msg h;
	uint64_t chan;			/* NTBS_CHAN_ID */
	uint32_t proc;			/* the other process; as in struct ntbs_offer_shm */
	uint32_t uid;			/* of the other process (from the broker) */
	uint32_t reason;		/* CHAN_FAIL: errno */
	uint32_t rsvd;
};
struct ntbs_msg_claim {			/* CLAIM, CLAIM_RESULT, OFFER_REMOTE */
	struct ntbs_msg h;
	uint64_t chan;
	uint64_t word;			/* of the offer, as last seen; in CLAIM_RESULT as it is now */
	uint32_t uid;			/* whose board */
	uint32_t entry;			/* index in it */
	uint32_t lease;
	uint32_t result;		/* CLAIM_RESULT: 0 asked, else errno */
};
struct ntbs_msg_mbox {			/* MBOX, PEER_MBOX */
	struct ntbs_msg h;
	uint32_t proc;			/* whose (PEER_MBOX) */
	uint32_t mbox;			/* 1..15 */
};
struct ntbs_msg_gone {
	struct ntbs_msg h;
	uint32_t proc;
	uint32_t rsvd;
};
struct ntbs_msg_drain {			/* DRAIN, DRAIN_REPLY, LEAVE */
	struct ntbs_msg h;
	struct ntbs_tuple tuple;	/* of the connection, as either end sees it */
	uint32_t told;			/* DRAIN_REPLY: processes */
};
struct ntbs_msg_take {			/* TAKE, TAKEN */
	struct ntbs_msg h;
	uint64_t cookie;		/* SO_COOKIE of the socket */
};
struct ntbs_msg_plain {			/* STATUS, POOLS, RELOAD, POOL */
	struct ntbs_msg h;
};
struct ntbs_msg_status {
	struct ntbs_msg h;
	uint32_t pid, uid, node, nr_procs;
	uint32_t nr_nodes, nr_ports;
	uint32_t private_broker;	/* 1: started by run, gone when idle */
	uint32_t cable;			/* 0 none, 1 configured, 2 up */
	uint64_t uptime_s, offers_remote, claims, claims_refused, clients_closed_for_error;
	char run_dir[108], config_dir[108];
	/* of the port, if there is one: how it was named, its family, its state in one sentence */
	char port[24], port_family[40], port_state[104];
	uint32_t port_session;		/* 0: the link is down */
	uint32_t rsvd;
	uint64_t port_sessions, port_bells;	/* that were up; heard */
	uint64_t port_arena_bytes, port_window_bytes;
};
struct ntbs_msg_pool {			/* POOL_REPLY */
	struct ntbs_msg h;
	uint32_t pid, uid;
	char program[16];
};
struct ntbs_msg_reload {		/* RELOAD_REPLY */
	struct ntbs_msg h;
	uint32_t errors;		/* lines that were wrong and left out */
	uint32_t nr_nodes, nr_ports;
	char first_error[196];		/* "ports.conf:3: ..." */
};

#define NTBS_MSG_MAX 512
#define NTBS_MSG_FDS 4
static_assert(sizeof(struct ntbs_msg_status) <= NTBS_MSG_MAX, "the longest one");

#endif
