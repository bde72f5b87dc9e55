/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * offer_impl.h - what the files behind offer.h share
 *
 *   offer.c          both sides: steps, patience, withdrawal, fork; a connection becomes LIVE
 *   offer_connect.c  the connecting side: makes the offer, confirms a claim, takes the offer back
 *   offer_held.c     the same: what is told of a connection to another host before it is claimed
 *   offer_accept.c   the accepting side: finds the offer, claims it, gives the claim up
 *
 * An offer's word moves under the ctl lock of the socket that moves it, and so does a claimed socket's stage.  In ctl
 * nest the runtime's lock (channels, the broker), the lock of a channel's leases and the locks of epoll sets.
 */
#ifndef NTBSOCK_OFFER_IMPL_H
#define NTBSOCK_OFFER_IMPL_H

#include <string.h>

#include "offer.h"
#include "runtime.h"

/* ---- offer.c ---- */
/* Our own view of the connection, into conn.tuple. */
bool ntbs_offer_learn(struct ntbs_sock *sk, int fd);
/* Connected to itself. */
static inline bool ntbs_offer_same_end(const struct ntbs_tuple *t)
{
	return t->lport == t->rport && !memcmp(t->laddr, t->raddr, 16);
}

/* Our offer, or the one that we have asked for.  Its board may be that of a broker that has gone: boards stay mapped. */
static inline struct ntbs_offer_shm *ntbs_offer_entry(const struct ntbs_sock *sk)
{
	return sk->board ? &sk->board->shm->offer[sk->shm->entry % NTBS_BOARD_OFFERS] : NULL;
}

/* q is that of lease shm->lease in @c. */
void ntbs_offer_fill_queue(struct ntbs_sock *sk, struct ntbs_chan *c);
/* The claim binds, the queue is there: ctl lock held. */
void ntbs_offer_live(struct ntbs_sock *sk);
extern bool ntbs_offer_forks_with_connection;

/* ---- offer_connect.c ---- */
void ntbs_offer_connector_step(struct ntbs_sock *sk);
/* To PLAIN, or LIVE if it was claimed first: ctl lock held. */
void ntbs_offer_connector_withdraw(struct ntbs_sock *sk, enum ntbs_reason why);

/* ---- offer_held.c ---- */
/* Offered to another host: ctl lock held, no set has been told yet. */
void ntbs_offer_hold_back(struct ntbs_sock *sk);

/* ---- offer_accept.c ---- */
/* Somebody is about to sleep on it: the broker shall ring when the offer comes.  Nothing happens if it cannot be told. */
void ntbs_offer_acceptor_awaits(struct ntbs_sock *sk);
/* @ask_broker: where no offer is seen, after a look at what the broker has sent. */
void ntbs_offer_acceptor_step(struct ntbs_sock *sk, int fd, bool ask_broker);
/* To PLAIN, or LIVE if it was confirmed first: ctl lock held, claim_asked. */
void ntbs_offer_acceptor_withdraw(struct ntbs_sock *sk, enum ntbs_reason why);

#endif
