/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * holders.h - which processes hold a socket
 *
 * A process that is killed tells nobody that it holds nothing any more.  So those who hold a socket put their names down,
 * and before a fork the family that shares the pool looks, once a second, who is there no more.
 */
#ifndef NTBSOCK_HOLDERS_H
#define NTBSOCK_HOLDERS_H

#include "sock.h"

void ntbs_holders_count_in(struct ntbs_sock *sk);
/* How many are left.  @but_one: the only one is not counted out, and the answer is -1. */
int32_t ntbs_holders_count_out(struct ntbs_sock *sk, bool but_one);
/* Who has been killed is counted out, by somebody who holds it: before it is asked whether he is the last. */
void ntbs_holders_bury(struct ntbs_sock *sk);
/* Does nobody else who lives hold it? */
bool ntbs_holders_alone(const struct ntbs_sock *sk);
/* The child of a fork, which its parent has counted: fork_child() first. */
void ntbs_holders_sign(struct ntbs_sock *sk);
void ntbs_holders_fork_child(void);
/* Counts out who has been killed, and gives back what nobody holds.  The pool's lock is held. */
void ntbs_holders_take_back(void);

#endif
