/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * abi_peer.h - broker <-> broker
 *
 * Two brokers are joined by a cable or by a port.  A cable is a SOCK_SEQPACKET UNIX socket: a packet is one struct
 * below, of exactly its size, and descriptors ride along in the order that the comment lists.  Over a port the packets
 * travel in the control ring (abi_port.h), without descriptors: a channel is then a region in each arena, MBOX is not
 * sent, DONE and STATE_END are.  All numbers are
 * big-endian.  HELLO comes first, both ways, and says version, node id and epoch; a broker closes the cable on a
 * version it does not speak.  The brokers trust each other as two kernels of one cluster do; still each checks what
 * it is told against what it knows, so that an error stays where it was made.
 *
 * "Connector's side" is the broker whose client has called connect() and posted the offer in its own board;
 * "acceptor's side" is the one that shows the offer to its clients in the board of remote offers.
 *
 * What survives the loss of a cable: channels, and the connections in them.  Offers and claims do not.  When the
 * cable is back and the epoch of the other side is the same, each asks (ASK_PROC) for the processes of the other
 * side that it has channels with; those that have ended meanwhile come back as GONE.  With another epoch all of
 * them are gone: their broker has restarted, and they have new ids.
 */
#ifndef NTBSOCK_ABI_PEER_H
#define NTBSOCK_ABI_PEER_H

#include <assert.h>
#include <ntbsock/types.h>

#define NTBS_PEER_VERSION 2
#define NTBS_PEER_MAGIC 0x4e544243u	/* "NTBC" */

typedef struct { uint16_t v; } ntbs_be16;
typedef struct { uint32_t v; } ntbs_be32;
typedef struct { uint64_t v; } ntbs_be64;

/* types.h has made sure that this host is little-endian. */
static inline ntbs_be16 ntbs_be16_from(uint16_t v)
{
	return (ntbs_be16){ __builtin_bswap16(v) };
}
static inline ntbs_be32 ntbs_be32_from(uint32_t v)
{
	return (ntbs_be32){ __builtin_bswap32(v) };
}
static inline ntbs_be64 ntbs_be64_from(uint64_t v)
{
	return (ntbs_be64){ __builtin_bswap64(v) };
}
static inline uint16_t ntbs_be16_value(ntbs_be16 w)
{
	return __builtin_bswap16(w.v);
}
static inline uint32_t ntbs_be32_value(ntbs_be32 w)
{
	return __builtin_bswap32(w.v);
}
static inline uint64_t ntbs_be64_value(ntbs_be64 w)
{
	return __builtin_bswap64(w.v);
}

enum ntbs_peer_type {
	NTBS_PEER_HELLO = 1,
	NTBS_PEER_OFFER,	/* connector's side: a client offers a connection whose other end is yours */
	NTBS_PEER_CLAIM,	/* acceptor's side: this process claims it */
	NTBS_PEER_CLAIM_RESULT,	/* connector's side; the offer is not offered any more, whatever the result */
	NTBS_PEER_CHAN,		/* acceptor's side.  fds: channel memfd, acceptor's mbox 0, its service bell */
	NTBS_PEER_CHAN_BELLS,	/* connector's side.  fds: connector's mbox 0, its service bell */
	NTBS_PEER_CHAN_FAIL,	/* connector's side: no such process, or it has too many channels */
	NTBS_PEER_MBOX,		/* fds: one more mbox (eventfd) of @from, for @to */
	NTBS_PEER_GONE,		/* the process has left its broker, or never was there */
	NTBS_PEER_ASK_PROC,	/* is it still there?  Answered by GONE if not */
	NTBS_PEER_DONE,		/* port: nobody here stores into your region of this channel any more (struct ntbs_peer_end) */
	NTBS_PEER_STATE_END,	/* port: say in our inbox what yours had taken, and that nothing more comes (the same) */
};

struct ntbs_peer_msg {
	ntbs_be16 type;		/* enum ntbs_peer_type */
	ntbs_be16 bytes;	/* of the whole packet */
	ntbs_be32 rsvd;
};
struct ntbs_peer_hello {
	struct ntbs_peer_msg h;
	ntbs_be32 magic;	/* NTBS_PEER_MAGIC */
	ntbs_be32 version;	/* NTBS_PEER_VERSION; layout of these first fields never changes */
	ntbs_be32 node;		/* id of the sender's host, 1..255, not that of the receiver */
	ntbs_be32 rsvd;
	ntbs_be64 epoch;	/* random, one per run of a broker */
};
struct ntbs_peer_offer {
	struct ntbs_peer_msg h;
	ntbs_be64 word;		/* in the connector's board; with @uid and @entry it names the offer */
	ntbs_be32 uid, entry;
	ntbs_be32 proc, hint;	/* as in struct ntbs_offer_shm */
	uint8_t laddr[16], raddr[16];	/* as the connector sees them */
	ntbs_be16 lport, rport;
	ntbs_be32 rsvd;
};
struct ntbs_peer_claim {	/* CLAIM, CLAIM_RESULT */
	struct ntbs_peer_msg h;
	ntbs_be64 word;		/* as in OFFER; in the result as it is now */
	ntbs_be64 chan;
	ntbs_be32 uid, entry;	/* as in OFFER */
	ntbs_be32 lease;
	ntbs_be32 result;	/* 0 asked, else errno */
	ntbs_be32 ref_entry, ref_tag;	/* acceptor's side's own names for the offer, returned */
};
struct ntbs_peer_chan {		/* CHAN, CHAN_BELLS, CHAN_FAIL */
	struct ntbs_peer_msg h;
	ntbs_be64 chan;
	ntbs_be32 acceptor, connector;	/* process ids */
	ntbs_be32 uid;		/* of the sender's process */
	ntbs_be32 reason;	/* CHAN_FAIL: errno */
	/* over a port: CHAN, CHAN_BELLS */
	ntbs_be64 region;	/* the sender's, in its arena */
	ntbs_be32 leases, slots, bulk;
	ntbs_be32 rsvd;
};
struct ntbs_peer_end {		/* DONE, STATE_END */
	struct ntbs_peer_msg h;
	ntbs_be64 chan;
	ntbs_be32 lease, generation;
};
struct ntbs_peer_mbox {
	struct ntbs_peer_msg h;
	ntbs_be32 from, to;	/* process ids */
	ntbs_be32 mbox;		/* 1..15 */
	ntbs_be32 rsvd;
};
struct ntbs_peer_proc {		/* GONE, ASK_PROC */
	struct ntbs_peer_msg h;
	ntbs_be32 proc;
	ntbs_be32 rsvd;
};
static_assert(sizeof(struct ntbs_peer_hello) == 32, "peer version 2");
static_assert(sizeof(struct ntbs_peer_offer) == 72, "peer version 2");
static_assert(sizeof(struct ntbs_peer_claim) == 48, "peer version 2");
static_assert(sizeof(struct ntbs_peer_chan) == 56, "peer version 2");
static_assert(sizeof(struct ntbs_peer_mbox) == 24, "peer version 2");
static_assert(sizeof(struct ntbs_peer_proc) == 16, "peer version 2");
static_assert(sizeof(struct ntbs_peer_end) == 24, "peer version 2");

#endif
