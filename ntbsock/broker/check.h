/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * check.h - what clients hand over, judged
 *
 * A descriptor from a client may be anything.  Before it goes to another client it is shown to be what the contract
 * says, since others will map it or write to it without a second thought.
 */
#ifndef NTBSOCK_BROKER_CHECK_H
#define NTBSOCK_BROKER_CHECK_H

#include <stdbool.h>
#include <sys/types.h>
#include <ntbsock/abi_broker.h>

/* An eventfd.  It is also made non-blocking: a bell at its limit must not stop who rings it. */
bool ntbs_check_bell(int fd);

/* A memfd whose size cannot change any more, of ordinary pages: huge ones may be none when they are touched, a SIGBUS. */
bool ntbs_check_memfd(int fd);

/**
 * ntbs_check_proof() - Is this the accepted socket of the offered connection?
 * @fd: from the acceptor
 * @tuple: of the offer, as the connector sees it
 * @netns: SO_NETNS_COOKIE that the socket must have
 *
 * Who holds a TCP socket with the mirrored addresses is the other end, if it is in that network namespace.
 * Return: 0; -EPERM it is not; other negative errno.
 */
int ntbs_check_proof(int fd, const struct ntbs_tuple *tuple, uint64_t netns);

/**
 * ntbs_check_owner() - Does the connecting socket belong to that user?
 * @vouched: or is it one of these @nr, by SO_COOKIE, that a process of that user has shown to have?
 *
 * By inet_diag, so in the broker's own network namespace alone: sockets elsewhere cannot be looked up.
 * Return: 0; -EPERM it does not; -EXDEV @netns is another one; other negative errno.
 */
int ntbs_check_owner(const struct ntbs_tuple *tuple, uint64_t netns, uint32_t uid, const uint64_t *vouched,
		     unsigned nr);

/* The process of a pidfd; 0 if it is none, or of one that has ended or that we cannot see. */
pid_t ntbs_check_pidfd(int fd);

/* A pipe: whoever closes it is not kept. */
bool ntbs_check_pipe(int fd);

/* SO_COOKIE of a socket; 0 if it is none. */
uint64_t ntbs_check_cookie(int fd);

/* SO_NETNS_COOKIE of the broker, 0 if the kernel has none (before Linux 5.14). */
uint64_t ntbs_check_own_netns(void);

/* Ring a client's bell without being stopped by it.  Return: 0 or a negative errno. */
int ntbs_check_ring(int bell_fd);

#endif
