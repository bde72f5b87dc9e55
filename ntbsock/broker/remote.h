/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * remote.h - offers of the other host's processes
 *
 * They lie in the board of remote offers, which the broker alone writes and every client may read, at the entry
 * where the connector's tuple (netns 0) hashes to.  An acceptor here claims one through us; we check its proof,
 * mark our entry ASKED and pass the claim on to the broker of the connector, which moves the real offer.  Its answer
 * goes back to the acceptor.
 *
 * An entry ends when it has been answered, when the connector's process, the claimer's broker or the cable is gone,
 * when the same addresses are offered anew, and after 30 s.
 */
#ifndef NTBSOCK_BROKER_REMOTE_H
#define NTBSOCK_BROKER_REMOTE_H

#include <ntbsock/abi_broker.h>
#include <ntbsock/abi_peer.h>

struct ntbs_client;

/* Make the board, so that every client is shown it.  Return: 0 or a negative errno. */
int ntbs_remote_open(void);

/*
 * Of a client: it has accepted from another host what it finds no offer of, and is about to sleep or has left it to a child
 * that may.  For a second it is rung for each offer that comes.  All who wait are rung now, too, if there are any offers:
 * one may have come before this, or may be claimed from now on.
 */
void ntbs_remote_await(struct ntbs_client *c, const void *packet, int *fds);
void ntbs_remote_claim(struct ntbs_client *c, const struct ntbs_msg_claim *m, int proof);

/* Messages of the other broker. */
void ntbs_remote_peer_offer(const struct ntbs_peer_offer *m);
void ntbs_remote_peer_result(const struct ntbs_peer_claim *m);

void ntbs_remote_proc_gone(uint32_t proc);	/* of the other host */
void ntbs_remote_cable_lost(void);
void ntbs_remote_tick(void);

#endif
