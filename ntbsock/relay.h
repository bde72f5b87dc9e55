/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * relay.h - a small process between a connection and a program that cannot read its ring
 *
 * For bytes that lie in the ring, that the next holder of the socket is to have, and that their sender cannot bring back to
 * TCP: it has shut down, is gone, or has put later ones there.  The descriptor becomes one end of a loopback connection;
 * the process holds the other end and the socket, puts the bytes first, and passes on what comes either way until both
 * sides have ended.
 */
#ifndef NTBSOCK_RELAY_H
#define NTBSOCK_RELAY_H

#include "sock.h"

/*
 * All descriptors of @sk in this process, of which @fd is one (a vfork child: @fd alone), become the relay's and are plain.
 * Return: 0 or a negative errno, and nothing has changed but that bytes of the ring may have been taken.
 */
int ntbs_relay(struct ntbs_sock *sk, int fd);

/*
 * @sk is about to be closed for good, by its last descriptor @fd, with bytes left to replay for which TCP has no room: such a
 * process sends them, as the kernel does with what it has of a socket that is closed, and ends.
 */
void ntbs_relay_rest(struct ntbs_sock *sk, int fd);

#endif
