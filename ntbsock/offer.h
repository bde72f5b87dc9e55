/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * offer.h - offers made, claimed, confirmed, withdrawn: how a connection may leave TCP
 *
 * abi_broker.h draws the moves of an offer's word.  The claim binds; before it every byte is on TCP, so that whatever
 * goes wrong - no library there, no broker, a listener in a foreign program, a fork, a late answer - leaves plain TCP.
 */
#ifndef NTBSOCK_OFFER_H
#define NTBSOCK_OFFER_H

#include "sock.h"

/* connect() has succeeded, or a connecting socket is seen to be connected: offer. */
void ntbs_offer_connected(struct ntbs_sock *sk, int fd);
/*
 * A connection of ours that has come back to TCP, in an object that no descriptor means yet (again.c).  prepare: may it be
 * offered?  again: an entry is taken, the stage is OFFER, and nobody can claim; then either seen, or not_again.  The last
 * three under the object's ctl lock.
 */
bool ntbs_offer_again_prepare(struct ntbs_sock *sk, int fd);
bool ntbs_offer_again(struct ntbs_sock *sk);
void ntbs_offer_again_seen(struct ntbs_sock *sk);
void ntbs_offer_not_again(struct ntbs_sock *sk);
/* Is a CONNECTING socket connected by now?  Then offer. */
void ntbs_offer_look_connected(struct ntbs_sock *sk, int fd);
/* accept() has returned it: claim if the offer is there. */
void ntbs_offer_accepted(struct ntbs_sock *sk, int fd);
/* Stage OFFER: has the other side moved?  May make it LIVE or PLAIN.  Cheap: a line or a few. */
void ntbs_offer_step(struct ntbs_sock *sk, int fd);
/*
 * An accepted socket that has come to us by exec: as accepted now, and not claimed before it is used.  @again: it was on the
 * ring before, and its offer comes when the connector's reader has come to the end of that.
 */
void ntbs_offer_inherited(struct ntbs_sock *sk, int fd, bool again);
/* Stage OFFER: bytes of the peer have come by TCP (its offer, if it makes one, is older than they are). */
void ntbs_offer_bytes_came(struct ntbs_sock *sk, int fd);
/*
 * Before a send.  Until the connection is claimed and confirmed bytes go by TCP; while the other side, its service thread
 * and the broker wait for a CPU that the transfer keeps busy, that would be megabytes.  So a bulk sender lets others run
 * now and then, and once it has asked for the connection stands back for a few milliseconds at most, or more often and
 * longer if it may block: then there is a library at the other end, and it wants the connection.
 */
void ntbs_offer_hold(struct ntbs_sock *sk, int fd, bool may_wait);
/*
 * offer_held.c: connected to another host, and not told as connected yet.  Who asks whether there is room is told that there is
 * none; await: a blocking call sleeps until it is claimed or has waited long enough; let_go: it is held back no longer.
 */
static inline bool ntbs_offer_held(const struct ntbs_sock *sk)
{
	return __builtin_expect(atomic_load_explicit(&sk->shm->held_until_ns, memory_order_relaxed), 0) &&
	       ntbs_sock_stage(sk) == NTBS_OFFER;
}
void ntbs_offer_await(struct ntbs_sock *sk, int fd);
void ntbs_offer_let_go(struct ntbs_sock *sk);
/* Of the service thread, on every turn: lets go whose time is over.  ms until the next at the latest, -1: none is held. */
int ntbs_offer_tick(void);
/* A FIN was the connector's word and not its death, though it had taken no note of our claim and so stated no end. */
bool ntbs_offer_unnoticed(const struct ntbs_sock *sk);
/* Before the kernel's FIN: the other side may be LIVE before we are, and takes one without a word for our death. */
void ntbs_offer_before_shut_wr(struct ntbs_sock *sk);
/* We are about to sleep, on mbox 0: the claimer shall ring, or the thread of ours that claims. */
void ntbs_offer_sleepy(struct ntbs_sock *sk);
/* Take it back, or go LIVE if it was claimed first. */
void ntbs_offer_withdraw(struct ntbs_sock *sk, enum ntbs_reason why);
/* NEW -> PLAIN, unless another thread has just offered it: true if it is PLAIN. */
bool ntbs_offer_never(struct ntbs_sock *sk, enum ntbs_reason why);
/* We have closed it and another process holds it, which may sleep and is now the one to claim it. */
void ntbs_offer_left_to_others(struct ntbs_sock *sk);
/* Every socket that a child is about to inherit. */
void ntbs_offer_before_fork(struct ntbs_sock *sk);
/* Is a LIVE socket of this process on it? */
bool ntbs_chan_in_use(struct ntbs_chan *c);

#endif
