/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * relay.h - a small process between a connection and a program that cannot read its ring
 *
 * For bytes that lie in the ring, that the next holder of the socket is to have, and that their sender cannot bring back to
 * TCP: it has shut down, is gone, or has put later ones there.  And for those of ours that the other side wants by TCP once
 * more, and for which TCP has no room yet: what the next holder sends comes behind them.  The descriptor becomes one end of a
 * loopback connection; the process holds the other end and the socket, puts the bytes first, and passes on what comes either
 * way until both sides have ended.
 */
#ifndef NTBSOCK_RELAY_H
#define NTBSOCK_RELAY_H

#include "sock.h"

/*
 * All descriptors of @sk in this process, of which @fd is one (a vfork child: @fd alone), become the relay's and are plain.
 * Return: 0 or a negative errno, and nothing has changed but that bytes of the ring may have been taken.
 */
int ntbs_relay(struct ntbs_sock *sk, int fd);
/* It has failed with @err: they get there only if nobody sends before them. */
void ntbs_relay_lost_rest(struct ntbs_sock *sk, int err);
/* Of such bytes of ours: are there any, and nobody but us to send them? */
bool ntbs_relay_has_rest(const struct ntbs_sock *sk);

/*
 * @sk is about to be closed for good, by its last descriptor @fd, with bytes left to replay for which TCP has no room: such a
 * process sends them, as the kernel does with what it has of a socket that is closed, and ends.
 */
void ntbs_relay_rest(struct ntbs_sock *sk, int fd);

#endif
