/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * abi_port.h - what lies in an arena, where two hosts share no memory
 *
 * Over a bridge each host has an *arena*: memory of its own that the other one stores into through its *window*.  What
 * is in it at which offset both must agree on; nothing in it is ever read through the window but by S1 (mbox.h).
 * The plan, and what becomes of the structures that two processes of one host share:
 *
 *   one host (or a cable)                      over a port
 *   ---------------------                      -----------
 *   a channel is one memfd with the inboxes    a channel is two *regions*, one in each arena: in the acceptor's the
 *   of both sides (struct ntbs_chan_shm)       acceptor's inboxes, in the connector's the connector's.  The geometry
 *                                              travels in the messages, not in the memory
 *   the outbox is the copy for replay          a copy beside each inbox, of what its owner has sent: the other half of a
 *                                              lease's part of the region
 *   bells are eventfds of the other process    a pending byte for each process, and one doorbell for all: the broker of
 *                                              the sleeper's host clears the byte, then signals the sleeper's eventfd
 *   a sleeper's futex in its inbox             none: nobody over there can wake it.  It sleeps on its eventfd
 *   "released" in the channel's first page     the same in the acceptor's region, stored through the window
 *   cable messages with descriptors            the same messages without, in the *control ring* of each arena
 *
 * An arena:
 *
 *   0        the link's page: who is there, heartbeats (the driver's)
 *   4096     pending bytes
 *   12288    control ring: head, then slots
 *   65536    regions: leased by the arena's broker in pages, zeroed before each use
 *
 * Arenas are made anew with each session of the link, where the port can do that; where it cannot, what comes from an
 * earlier session fails the checks: control messages and data carry its epoch in their CRC.
 */
#ifndef NTBSOCK_ABI_PORT_H
#define NTBSOCK_ABI_PORT_H

#include <assert.h>
#include <stdalign.h>
#include <stddef.h>
#include <ntbsock/types.h>

#define NTBS_ARENA_MIN (1u << 20)
#define NTBS_ARENA_PENDING 4096u
#define NTBS_ARENA_CTL 12288u
#define NTBS_ARENA_REGIONS 65536u

/*
 * Pending bytes: two for each process number of the arena's host (abi_broker.h): its mbox, its service bell.  The sender
 * stores 1 and rings; the broker stores 0 and signals.  Stores of both sides are bytes, so none undoes another's.
 */
#define NTBS_PENDING_BYTES 8192u
#define NTBS_PENDING_MBOX(proc) (2 * ((proc) & 0xfff))
#define NTBS_PENDING_SERVICE(proc) (NTBS_PENDING_MBOX(proc) + 1)

/*
 * Control ring: messages of the other broker.  A slot is two lines, which may land in any order and in pieces; it is
 * there when its sequence is the one expected next and its CRC32C agrees, which covers epoch, sequence, length and all
 * bytes of the message.  The reader tells by @consumed, in the writer's own arena, how many it has taken; at most
 * NTBS_CTL_SLOTS are under way.
 */
#define NTBS_CTL_SLOTS 256u
#define NTBS_CTL_BYTES 112u		/* most of one message */
struct ntbs_ctl_slot {
	alignas(64) ntbs_le32 seq;	/* from 1 on */
	ntbs_le32 crc;
	ntbs_le32 epoch;		/* of the session */
	ntbs_le32 len;
	uint8_t bytes[NTBS_CTL_BYTES];
};
static_assert(sizeof(struct ntbs_ctl_slot) == 128, "port ABI 1");

struct ntbs_ctl_shm {
	alignas(64) ntbs_le64 consumed;	/* of what this arena's broker has sent: count (32), epoch (32) */
	alignas(64) ntbs_le32 down;	/* by this arena's broker, for its processes: the session has ended */
	ntbs_le32 dma_min;		/* the same: it has a copy engine, for messages of so many bytes; 0: not, or no more */
	alignas(4096) struct ntbs_ctl_slot slot[NTBS_CTL_SLOTS];
};
static_assert(NTBS_ARENA_PENDING + NTBS_PENDING_BYTES <= NTBS_ARENA_CTL, "port ABI 1");
static_assert(NTBS_ARENA_CTL + sizeof(struct ntbs_ctl_shm) <= NTBS_ARENA_REGIONS, "port ABI 1");

/*
 * A region: a page (of a connector's, unused), then for each lease the inbox that the peer writes and the copy of what
 * we have sent.  As many bytes as a channel on one host.
 */
struct ntbs_region_shm {
	ntbs_le32 released[64];		/* acceptor's region, by the connector: generation it has let go */
	ntbs_le32 dma_done[64];		/* by this arena's broker: slots of each lease that it has copied, comes round */
};
#define NTBS_REGION_BYTES(leases, inbox_bytes) (4096 + (uint64_t)(leases) * 2 * (inbox_bytes))

#endif
