/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * abi_inbox.h - the bytes two processes, or two hosts, share on the data path
 *
 * A *channel* is a run of memory that belongs to one pair of processes: the one that accepts connections
 * (it makes and owns the channel) and the one that connects.  It is cut into *leases*, one a connection.
 * A lease holds two *inboxes*.  An inbox is all that one peer writes for one connection: its owner only
 * reads it (but for @wake, see there), the peer sees the same bytes through its window as its outbox and
 * only writes them.  So no cache line has two writers on the data path, and no load has to cross a link.
 *
 * The reader of anything in this file treats it as written by an enemy: sizes are taken from the local copy
 * made and checked at attach, never from the shared header; a word is read once and bounded before use.
 */
#ifndef NTBSOCK_ABI_INBOX_H
#define NTBSOCK_ABI_INBOX_H

#include <assert.h>
#include <stdalign.h>
#include <stddef.h>
#include <ntbsock/types.h>

#define NTBS_INBOX_ABI 1
#define NTBS_CHAN_MAGIC 0x4e414843u	/* "CHAN" */

/* Slot geometry.  A line is what a CPU or a write-combining buffer stores at once (Intel SDM 3A, 11.3.1). */
#define NTBS_LINE 64
#define NTBS_LINE0_DATA 62
#define NTBS_LINE1_DATA 54
#define NTBS_INLINE_MAX (NTBS_LINE0_DATA + NTBS_LINE1_DATA)	/* 116 bytes: two lines */
#define NTBS_SLOTS_MIN 8
#define NTBS_SLOTS_MAX 4096		/* far below 2^16, so that a 16-bit stamp is never ambiguous */
#define NTBS_BULK_MIN 4096u
#define NTBS_BULK_MAX (1u << 28)

enum ntbs_slot_kind {
	NTBS_SLOT_NONE,
	NTBS_SLOT_INLINE,	/* @len bytes: up to 54 in line 1 alone; else 62 in line 0, the rest in line 1 */
	NTBS_SLOT_BULK,		/* SHORT or LONG: bytes @start..@end of the bulk ring */
	NTBS_SLOT_OPEN,		/* the same, and @end may still move: passed only once the next slot is there */
	NTBS_SLOT_SWITCH,	/* the direction begins here, after @bytes bytes on TCP */
};

struct ntbs_line0_shm {
	uint8_t data[NTBS_LINE0_DATA];
	ntbs_le16 stamp;
};

/* What line 1 carries instead of inline bytes. */
struct ntbs_slot_bulk {
	ntbs_le32 end;		/* free-running position in the bulk ring; published word of an OPEN slot */
	ntbs_le32 start;	/* may jump ahead of the previous end: what lies between is void */
};

struct ntbs_slot_switch {
	ntbs_le64 bytes;	/* W: how many bytes of this direction went over TCP before it */
};

/*
 * Line 1 is always there.  Its last word is one store of its own on memory that cannot tear: release, and the
 * message is published.  Bits 48-63 stamp: low 16 bits of the message's sequence.  Bits 0-47, where the port can neither
 * tear nor lose, ack: how many slots of the reverse direction have been consumed.  It may be read long after it was
 * counted, so it must not come round meanwhile: 48 bits take 300 days at ten million messages a second, 16 take
 * milliseconds.  Elsewhere bits 16-47 are the CRC32C of the message, 0-15 are 0, and only the head word gives credit.
 */
struct ntbs_line1_shm {
	union {
		struct {
			uint8_t data[NTBS_LINE1_DATA];
			uint8_t len;	/* INLINE: bytes in the slot */
			uint8_t kind;	/* enum ntbs_slot_kind */
		};
		struct ntbs_slot_bulk bulk;
		struct ntbs_slot_switch sw;
	};
	ntbs_le64 tail;
};

#define NTBS_ACK_MASK ((1ull << 48) - 1)

static inline uint64_t ntbs_tail_word(uint32_t seq, uint64_t ack)
{
	return (uint64_t)(seq & 0xffff) << 48 | (ack & NTBS_ACK_MASK);
}

static inline uint64_t ntbs_tail_word_crc(uint32_t seq, uint32_t crc)
{
	return ntbs_tail_word(seq, (uint64_t)crc << 16);
}
#define NTBS_TAIL_STAMP(w) ((uint16_t)((w) >> 48))
#define NTBS_TAIL_ACK(w) ((uint64_t)(w) & NTBS_ACK_MASK)

struct ntbs_slot_shm {
	alignas(64) struct ntbs_line0_shm line0;
	alignas(64) struct ntbs_line1_shm line1;
};
static_assert(sizeof(struct ntbs_line0_shm) == NTBS_LINE, "inbox ABI 1");
static_assert(sizeof(struct ntbs_line1_shm) == NTBS_LINE, "inbox ABI 1");
static_assert(offsetof(struct ntbs_line1_shm, tail) == 56, "inbox ABI 1");
static_assert(sizeof(struct ntbs_slot_shm) == 128, "inbox ABI 1");

/* A 64-bit position word says "not stated" with 0 and position p with p + 1. */
#define NTBS_POS_NONE 0
#define NTBS_POS_ON_TCP UINT64_MAX	/* final: the direction ended on TCP, where its FIN says the rest */

#define NTBS_POS_TAIL UINT64_MAX	/* asked: from wherever the sender's tail is, no hurry (drain) */

/* armed: bits 0-15 mboxes of the peer that want a bell, bit 16 somebody waits on @wake, bits 32-63 arm count */
#define NTBS_ARMED_MBOX(word) ((uint16_t)(word))
#define NTBS_ARMED_FUTEX (1ull << 16)
#define NTBS_ARMED_COUNT_ONE (1ull << 32)

/* rstate: what has become of the peer's reading end */
enum ntbs_rstate {
	NTBS_R_OPEN,
	NTBS_R_CLOSED,		/* the last holder has closed, everything had been read */
	NTBS_R_RESET,		/* closed with bytes of ours unread: TCP would have reset */
	NTBS_R_SHUT,		/* shut both ways: what we still send goes to TCP, which answers it with a reset */
	NTBS_R_ABORT,		/* as RESET, with a full ring on its way to us: on TCP the reset overtakes them, and the FIN behind */
};

/**
 * struct ntbs_inbox_shm - all that one peer writes for one connection
 *
 * Line 0 is written once a generation, by the owner of the channel, before the lease is claimed (and @consumed by the
 * owner of the inbox).  Over a port the peer's part of it is one line store.
 * Line 1 is the peer's news about the other direction and about itself.
 */
struct ntbs_inbox_shm {
	ntbs_le32 abi;			/* NTBS_INBOX_ABI */
	ntbs_le32 generation;		/* of the lease: counts its connections */
	ntbs_le32 first_seq;		/* sequence of the first slot of this generation */
	ntbs_le32 epoch;		/* of the link; 0 on one host */
	ntbs_le64 consumed;		/* the owner's own head word, for a peer that outlives it */
	ntbs_le32 out_seq;		/* over a port: sequence of the first slot that the owner publishes */
	ntbs_le32 crc;			/* over a port: CRC32C of @abi to @epoch and @out_seq */
	ntbs_le32 rsvd[8];

	alignas(64) ntbs_le64 head;	/* our slots (16), generation (16), bulk bytes (32) the peer has freed */
	ntbs_le64 armed;		/* NTBS_ARMED_*: rung once a count, never cleared */
	ntbs_le64 asked;		/* the peer's reader wants TCP from this position of our stream on */
	ntbs_le64 q;			/* the peer's stream goes on on TCP from here; the ring may have brought more */
	ntbs_le64 final;		/* end of the peer's stream */
	ntbs_le32 rstate;		/* enum ntbs_rstate */
	ntbs_le32 confirm;		/* its writer is LIVE (the connector: claims bind): the generation */
	ntbs_le32 cpu;			/* CPU the peer last slept or sent on, + 1 */
	ntbs_le32 wake;			/* futex word: counted up by the peer's bell and by our own service thread */
	ntbs_le32 again;		/* 1: the peer leaves for an exec, and its next image looks for a new offer */
	union {
		ntbs_le32 ended;	/* over a port, by the peer's broker: generation of which nothing more is to come */
		ntbs_le32 rcvbuf;	/* on one host: SO_RCVBUF of the peer's socket, if its program has set it, else 0 */
	};

	alignas(128) struct ntbs_slot_shm slot[];
};
static_assert(offsetof(struct ntbs_inbox_shm, head) == 64, "inbox ABI 1");
static_assert(offsetof(struct ntbs_inbox_shm, slot) == 128, "inbox ABI 1");

static inline uint64_t ntbs_head_word(uint32_t slots, uint32_t bulk, uint32_t generation)
{
	return (uint64_t)bulk << 32 | (uint64_t)(generation & 0xffff) << 16 | (slots & 0xffff);
}

/**
 * struct ntbs_chan_shm - first page of a channel
 *
 * Lease i lies at NTBS_CHAN_HDR + i * 2 * inbox_bytes: first the acceptor's inbox, then the connector's.
 * The bulk ring of an inbox starts at @bulk_offset within it.
 */
#define NTBS_CHAN_HDR 4096u
#define NTBS_LEASES_MAX 64

struct ntbs_chan_shm {
	ntbs_le32 magic;		/* NTBS_CHAN_MAGIC */
	ntbs_le32 abi;			/* NTBS_INBOX_ABI */
	ntbs_le32 nr_leases;		/* <= NTBS_LEASES_MAX */
	ntbs_le32 nr_slots;		/* power of two */
	ntbs_le32 bulk_bytes;		/* power of two */
	ntbs_le32 bulk_offset;		/* page aligned */
	ntbs_le32 inbox_bytes;		/* page aligned */
	ntbs_le32 rsvd;

	alignas(64) ntbs_le32 attached;	/* by the connector: it has mapped the channel and holds its bells */
	ntbs_le32 mboxes_known;		/* by the connector: which of the acceptor's mboxes it can ring */
	alignas(64) ntbs_le32 acceptor_mboxes_known;	/* the same the other way round */
	alignas(64) ntbs_le32 released[NTBS_LEASES_MAX]; /* by the connector: generation it has let go */
};
static_assert(sizeof(struct ntbs_chan_shm) <= NTBS_CHAN_HDR, "channel header is one page");

#endif
