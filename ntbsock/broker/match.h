/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * match.h - offers and claims that processes cannot settle between themselves
 *
 * Two processes of one user settle a claim on their board without us.  An acceptor of another user sees that board
 * read-only, and asks here: it proves with the accepted socket that it is the other end, and the kernel says that
 * the connecting socket belongs to the user whose board the offer is on (or anybody could offer a connection of
 * somebody else's).  Then the offer moves to ASKED, which binds nobody: the connector decides.
 *
 * The same for another host, where each broker checks the end that lives with it: see remote.h.
 */
#ifndef NTBSOCK_BROKER_MATCH_H
#define NTBSOCK_BROKER_MATCH_H

#include <ntbsock/abi_broker.h>
#include <ntbsock/abi_peer.h>

struct ntbs_client;

/* Its mbox 0. */
void ntbs_match_ring(struct ntbs_client *c);

/* Messages of clients. */
void ntbs_match_claim(struct ntbs_client *c, const void *packet, int *fds);
void ntbs_match_offer_remote(struct ntbs_client *c, const void *packet, int *fds);

/* The other broker's client claims an offer of ours; answers. */
void ntbs_match_peer_claim(const struct ntbs_peer_claim *m);

/* The answer to a claim, with @word as it is now. */
void ntbs_match_result(struct ntbs_client *c, const struct ntbs_msg_claim *claim, uint64_t word, int err);

#endif
