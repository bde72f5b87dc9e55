/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * msgq.h - message queue: moves messages between an outbox and an inbox
 *
 * Theory of operation.  Each side has two inboxes' worth of state: it publishes slots into @out (the peer's
 * inbox) and takes slots from @in (its own).  A slot is published by its last word.  Bytes that do not fit into a
 * slot lie in the bulk ring of the same inbox; the slot says where.
 *
 * Credit comes back in the head word, stored once half a ring has been consumed, and, where no CRC takes its place,
 * as a count on every slot of the other direction.  Either may be old when it is looked at, and an old one is told
 * from a new one by its size alone: taken for credit is what lies between head and tail.
 *  - The head word has 16 bits.  It lags what has been consumed by half a ring at most, as no head moves without
 *    the lock that guards its writing; so it lags the head that we know by less than two rings, far below 2^16.
 *  - A slot's count may be of any age: the slot may lie unread, or its sender may have been stopped between taking
 *    the count and storing it, while the other direction goes on.  So it is not put together from its last bits and
 *    what we think its age is: it has 48 bits, which do not come round, and counts here have 64.
 *
 * Sending, by what is to send and how far behind the reader is known to be:
 *   up to 116 bytes             INLINE, one or two lines
 *   more                        BULK slots of up to 16 KiB each, payload first
 *   LONG, over a port that has  the same, left in the copy: the broker's copy engine carries payload and slot.  Nobody
 *   an engine                   waits for it: slots land in any order, and are taken in that of their sequence
 *   reader 3/4 of a ring behind OPEN slots: small sends extend the last one, by its published end, so that a
 *                               slow reader costs bytes and not slots (only on a port that is @whole)
 *
 * How much may lie unread in the bulk ring: all that it holds.  But on one host, where the programs at both ends have set the
 * size of their buffers, no more than these would hold on TCP: its sender knows one of them, and reads the other in its inbox
 * whenever it looks for room.  It may change at any time.  So a reader that states one gives credit for all that it has
 * consumed, and from then on each time that it has consumed half of what it is sure to be allowed to have unread: a sender
 * without room always has something unread in front of it.
 *
 * Invariants:
 *  - tail - head <= nr_slots and bulk_tail - bulk_head <= bulk_bytes: nothing unread is overwritten;
 *  - what the reader acknowledges it has copied out before (ack after consumption);
 *  - only the last slot is OPEN, and it ends at bulk_tail;
 *  - once every slot is consumed the bulk ring is empty, whatever the last head word said.
 *
 * State that must survive fork is in the *_shm structs (shared by the processes that hold the socket), guarded by
 * the lock of its direction.  struct ntbs_msgq itself is private to a process and constant while in use.
 * Nothing here sleeps, allocates or takes a lock; nothing read from @in is trusted.
 */
#ifndef NTBSOCK_MSGQ_H
#define NTBSOCK_MSGQ_H

#include <stdbool.h>
#include <sys/types.h>
#include <ntbsock/abi_inbox.h>
#include "iter.h"
#include "port.h"

#define NTBS_MSGQ_CHUNK 16384u		/* most bytes a BULK slot names: the reader starts early */
#define NTBS_MSGQ_LONG_MIN 16384u
#define NTBS_MSGQ_ENGINE_SLOTS 16u	/* that an engine is told of at once */
#define NTBS_MSGQ_ACK_BULK (1u << 18)	/* most bulk bytes consumed that earn no head word of their own, on one host */
#define NTBS_MSGQ_OPEN_MAX (1u << 30)	/* an OPEN slot stays far below a 32-bit position */
/* TCP takes a packet more than its buffers hold: a program that writes that much before it reads must not wait here. */
#define NTBS_MSGQ_BUFS_SPARE 65536u

struct ntbs_msgq_geo {
	uint32_t nr_slots;		/* power of two */
	uint32_t bulk_bytes;		/* power of two */
	uint32_t bulk_offset;		/* of the bulk ring in an inbox */
};

struct ntbs_msgq_tx_shm {
	uint64_t tail, head;		/* slots published; known to be consumed */
	uint64_t pos;			/* stream bytes sent on TCP before and here since: moves with the tail */
	uint32_t bulk_tail, bulk_head;
	uint32_t open_bytes;		/* length of the last slot if it is OPEN, else 0 */
	uint32_t generation;
	uint32_t engine_slots;		/* that an engine was asked for, comes round; begins at what it has done (@dma_done) */
	uint32_t sndbuf;		/* SO_SNDBUF, if the program has set it, else 0; on one host */
	uint64_t inline_msgs, short_msgs, long_msgs;
};

struct ntbs_msgq_rx_shm {
	uint64_t head;			/* slot being read */
	uint64_t pos;			/* stream bytes delivered, counted from the switch: W + ring; moves with each message */
	uint32_t taken;			/* bytes of an INLINE slot already delivered */
	uint32_t in_bulk;		/* slot @head names bulk bytes and bulk_head stands in it */
	uint32_t bulk_head;
	uint32_t acked_bulk;		/* last told to the peer, with @acked_slots */
	uint64_t acked_slots;
	uint64_t peer_ack;		/* ack last seen on a slot of the peer, 48 bits: read by the sending side */
	uint32_t generation;
	uint32_t bulk_freed;		/* end of the last bulk message passed: a part of one frees nothing where it may be looked at again */
	uint32_t torn;			/* counts calls that found the next message announced and not whole */
	uint32_t ack_bulk;		/* bulk bytes consumed that earn a head word of their own */
	uint64_t inline_msgs, short_msgs, long_msgs;
};

/*
 * A bulk message of a port that is not @whole, in memory of our own: copied once, then its CRC is taken, and programs are given
 * the copy.  What happens to the ring afterwards, they never see.  For one process; another one that goes on in the middle of
 * a message makes a copy of its own, for which the whole message stays in the ring until its last byte is taken.
 */
struct ntbs_msgq_held {
	uint64_t next;			/* sequence of the message, + 1; 0: none */
	uint32_t start, end;
	alignas(64) uint8_t bytes[NTBS_MSGQ_CHUNK];
};

struct ntbs_msgq {
	struct ntbs_port *port;
	struct ntbs_msgq_geo geo;
	const struct ntbs_inbox_shm *in;
	struct ntbs_inbox_shm *out;
	struct ntbs_inbox_shm *copy;	/* where @out cannot be read: what lies in it, in memory of ours; else NULL */
	struct ntbs_msgq_tx_shm *tx;
	struct ntbs_msgq_rx_shm *rx;
	struct ntbs_msgq_held *held;	/* where the port is not whole; NULL: no memory for it, so bulk messages do not arrive */
	uint32_t long_min;		/* messages from this size on are LONG: stored past the cache */
	bool long_cached;		/* or not: through the cache is faster here */
	uint32_t epoch;
	uint32_t engine_min;		/* LONG messages from this size on go by engine, while *@engine_on is not 0 */
	const ntbs_le32 *engine_on;	/* NULL: there is none */
	bool (*engine_copy)(struct ntbs_msgq *q, uint32_t first, uint32_t nr);	/* ask for slots; false: it cannot be asked */
};

/**
 * ntbs_msgq_init() - Begin a generation
 * @q: @port, @geo, @in, @out, @tx, @rx are set; the geometry has been checked with ntbs_msgq_geo_ok()
 * @generation: of the lease
 * @tx_seq: first sequence that we publish
 * @rx_seq: first sequence that the peer publishes
 */
void ntbs_msgq_init(struct ntbs_msgq *q, uint32_t generation, uint32_t tx_seq, uint32_t rx_seq);

bool ntbs_msgq_geo_ok(const struct ntbs_msgq_geo *geo);
static inline size_t ntbs_msgq_inbox_bytes(const struct ntbs_msgq_geo *geo)
{
	return (size_t)geo->bulk_offset + geo->bulk_bytes;
}

/* ---- sending; the caller holds the lock of the direction ---- */

/**
 * ntbs_msgq_send() - Publish bytes, as many as credit allows
 * @bulk_limit: most bulk bytes in flight (0: the whole ring)
 * Return: bytes published (> 0), or -EAGAIN: no credit.
 */
ssize_t ntbs_msgq_send(struct ntbs_msgq *q, struct ntbs_iter *it, uint32_t bulk_limit);

/* Publish SWITCH with W.  0, or -EAGAIN. */
int ntbs_msgq_send_switch(struct ntbs_msgq *q, uint64_t bytes);

/* Would a send of any size be taken, with a third of the ring to spare (what TCP calls writable)? */
bool ntbs_msgq_writable(struct ntbs_msgq *q);

/* Is less than a third of what may lie in the bulk ring free, as far as the peer has told?  Any lock or none. */
bool ntbs_msgq_full(const struct ntbs_msgq *q);

/* Has the peer consumed everything that we published, as far as it has told? */
bool ntbs_msgq_all_acked(struct ntbs_msgq *q);

/* The peer's processes are gone: had they consumed everything?  Over a port: once its broker has said so (@ended). */
bool ntbs_msgq_peer_had_all(const struct ntbs_msgq *q);

/**
 * ntbs_msgq_unread() - Copy back what we have published from @back bytes before the tail on (replay over TCP)
 * The peer has promised to take no more.  Out of the copy, where there is one.  Return: bytes put into @dst (at most @len), or -EINVAL if the ring
 * does not hold that much any more.
 */
ssize_t ntbs_msgq_unread(struct ntbs_msgq *q, uint64_t back, void *dst, size_t len);

/*
 * Bytes from the tail back that the peer has not freed, as far as it has told: what it asks for may lie before, if it has read on
 * since it asked, and something else lies there by now.
 */
uint64_t ntbs_msgq_kept(const struct ntbs_msgq *q);

/*
 * Whoever had the lock is dead: what he has published and not counted is counted, an end that he had not published yet is.  True:
 * the last of it was a SWITCH.
 */
bool ntbs_msgq_finish(struct ntbs_msgq *q);

/* Over a port: once more, out of the copy. */
void ntbs_msgq_resend(struct ntbs_msgq *q, uint32_t seq);

/* ---- receiving; the caller holds the lock of the direction ---- */

#define NTBS_RECV_PEEK 1	/* take nothing */
#define NTBS_RECV_DROP 2	/* copy nothing: MSG_TRUNC */

/**
 * ntbs_msgq_recv() - Take bytes
 * @acked: set to true if credit was returned, so that the caller looks whether the peer sleeps; else untouched
 * Return: bytes taken (> 0); -EAGAIN nothing there; -EPROTO the peer wrote nonsense: reset the connection.
 * A SWITCH slot counts as nonsense here: it is looked for with ntbs_msgq_peek_switch().
 */
ssize_t ntbs_msgq_recv(struct ntbs_msgq *q, struct ntbs_iter *it, int flags, bool *acked);

/* 1 and *@bytes if the next slot is SWITCH; 0 if there is no slot yet; -EPROTO if it is another kind. */
int ntbs_msgq_peek_switch(struct ntbs_msgq *q, uint64_t *bytes);
void ntbs_msgq_pass_switch(struct ntbs_msgq *q);

/* Is the next byte there?  Two cache lines at most, both ours; may be called without the lock as a hint, which
 * includes what is only ntbs_msgq_torn(). */
bool ntbs_msgq_readable(const struct ntbs_msgq *q);

/*
 * After -EAGAIN: is there more than nothing, that cannot be believed?  The next message is stamped and its CRC disagrees, or
 * it is missing and the one behind it is there.  For a moment that is how lines land; who sees it for long has lost something.
 * Only over a port that is not whole.
 */
bool ntbs_msgq_torn(const struct ntbs_msgq *q);

/* Bytes there (FIONREAD); -EPROTO as above. */
ssize_t ntbs_msgq_avail(const struct ntbs_msgq *q);

/* Tell the peer all that has been consumed, if it has not been told.  True if something was stored. */
bool ntbs_msgq_ack(struct ntbs_msgq *q);

/* On one host: SO_RCVBUF of our socket, as the program has set it.  The peer may have got room by it. */
void ntbs_msgq_state_rcvbuf(struct ntbs_msgq *q, uint32_t bytes);

/* A number that moves whenever something new was published for us (for edges); any thread, no lock. */
uint64_t ntbs_msgq_rx_mark(const struct ntbs_msgq *q);

/* Bytes of an INLINE message that lie in line 0; the rest, perhaps none, lies in line 1. */
static inline uint32_t ntbs_inline_in0(uint32_t len)
{
	if (len <= NTBS_LINE1_DATA)
		return 0;
	return len < NTBS_LINE0_DATA ? len : NTBS_LINE0_DATA;
}

#endif
