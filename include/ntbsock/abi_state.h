/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * abi_state.h - what a process shows of itself: its connections and their counters
 *
 * A *state pool* is a memfd that a process maps and hands to the broker, which hands it, read-only, to
 * ntbsock-ctl (of the same user or root).  It is an array of entries; the first part of an entry is the
 * struct below, the rest is the library's own.  Counters are plain stores by whoever holds the lock of the
 * direction; a reader may see a sum that is a few messages old, never half a counter.
 */
#ifndef NTBSOCK_ABI_STATE_H
#define NTBSOCK_ABI_STATE_H

#include <assert.h>
#include <stdalign.h>
#include <ntbsock/types.h>
#include <ntbsock/abi_broker.h>

#define NTBS_POOL_MAGIC 0x4c4f4f50u	/* "POOL" */
#define NTBS_STATE_ABI 1

/*
 * Why a connection is on TCP, or where it stands on its way to the ring.  X(constant, name in JSON, text).
 */
#define NTBS_REASONS(X)                                                                                  \
	X(NONE, "accelerated", "on the ring")                                                           \
	X(OFFERED, "offered", "offered, not claimed by the other side (yet)")                           \
	X(NO_OFFER, "no-offer", "the other side made no offer: it has no library")                      \
	X(UNCLAIMED, "unclaimed", "the other side never claimed: it has no library")                    \
	X(NO_BROKER, "no-broker", "no broker runs")                                                     \
	X(RULE, "rule", "ports.conf denies it")                                                         \
	X(NODE, "node", "the address is neither of this host nor in nodes.conf")                        \
	X(FORKED, "forked", "forked before the other side had claimed")                                 \
	X(EXEC, "exec", "handed to another program image")                                              \
	X(SANDBOX, "sandbox", "the program has gone into a seccomp sandbox")                            \
	X(PASSED, "passed", "handed to another process by descriptor passing")                          \
	X(STDIO, "stdio", "used through stdio")                                                         \
	X(OPTION, "option", "a call or option that only TCP has")                                       \
	X(NO_MEMORY, "no-memory", "no memory, mapping, thread or descriptor could be had")                      \
	X(BOARD_FULL, "board-full", "the table of offers was full")                                     \
	X(PEER_GONE, "peer-gone", "the other side has closed")                                          \
	X(PEER_ASKED, "peer-asked", "the other side asked for TCP")                                     \
	X(CORRUPT, "corrupt", "the other side wrote nonsense into the inbox; reset")                    \
	X(DISABLED, "disabled", "switched off by NTBSOCK_DISABLE")                                      \
	X(NOT_USED, "not-used", "ended before it could move")                                           \
	X(DRAINED, "drained", "moved to TCP by ntbsock-ctl drain")                                       \
	X(LINK, "link", "the link to the other host, or our broker, was lost")

enum ntbs_reason {
#define NTBS_REASON_ENUM(c, json, text) NTBS_WHY_##c,
	NTBS_REASONS(NTBS_REASON_ENUM)
#undef NTBS_REASON_ENUM
	NTBS_WHY_MAX
};

/* Where a direction is. */
enum ntbs_dir_state {
	NTBS_DIR_TCP,		/* not switched */
	NTBS_DIR_DRAIN,		/* receiving: the switch has been seen, bytes before it are still on TCP */
	NTBS_DIR_RING,
	NTBS_DIR_BACK,		/* on TCP again, for good */
};

struct ntbs_counters {
	uint64_t ring_bytes, tcp_bytes;		/* payload by way */
	uint64_t inline_msgs, short_msgs, long_msgs;
	uint64_t stalls;			/* no credit (tx), nothing there (rx) when called */
	uint64_t sleeps, wakes;			/* went to sleep (this side); rang the other side (tx) */
	uint64_t poll_hits;			/* polling found something before sleep */
};

#define NTBS_ENTRY_GOING 0xfffffffeu	/* nobody holds it any more, and what it had is being given back */

struct ntbs_conn_shm {
	ntbs_le32 used;			/* 0 free; NTBS_ENTRY_GOING; else an odd number that differs for each use */
	ntbs_le32 pid;			/* process that made it */
	uint32_t inode_dev, accepted;	/* 1: by accept() */
	struct ntbs_tuple tuple;	/* local and remote as this side sees them */
	uint32_t family;		/* AF_INET, AF_INET6 */
	uint32_t stage;			/* enum ntbs_stage of the library; 0 plain, 1 offered or waiting, 2 live */
	uint32_t reason;		/* enum ntbs_reason */
	uint32_t tx_state, rx_state;	/* enum ntbs_dir_state */
	uint64_t since_s;		/* CLOCK_REALTIME seconds */
	uint64_t chan;			/* channel id and lease, 0 if none */
	uint32_t lease, holders;	/* processes that hold the description */
	struct ntbs_counters tx, rx;
};

struct ntbs_pool_shm {
	ntbs_le32 magic;		/* NTBS_POOL_MAGIC */
	ntbs_le32 abi;			/* NTBS_STATE_ABI */
	ntbs_le32 nr_entries;
	ntbs_le32 entry_bytes;		/* distance of entries */
	ntbs_le32 first_offset;		/* of entry 0 from the start of the pool */
	ntbs_le32 pid;
	ntbs_le32 strangers;		/* the processes that share it are in more than one PID namespace */
};

#endif
