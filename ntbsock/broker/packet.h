/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * packet.h - packets with descriptors over a SOCK_SEQPACKET socket, never blocking
 *
 * Sending tries at once; what the socket does not take waits in a bounded queue that holds duplicates of the
 * descriptors.  A receiver that does not read fills its queue, and whoever sends to it is told so: -ENOBUFS.
 * Received descriptors are close-on-exec and belong to the caller of ntbs_packet_recv().
 */
#ifndef NTBSOCK_BROKER_PACKET_H
#define NTBSOCK_BROKER_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <ntbsock/abi_broker.h>

#define NTBS_PACKET_QUEUE 512u

struct ntbs_packet;
struct ntbs_sendq {
	struct ntbs_packet *first, **last;
	unsigned nr;
};

void ntbs_sendq_init(struct ntbs_sendq *q);
void ntbs_sendq_drop(struct ntbs_sendq *q);

static inline bool ntbs_sendq_empty(const struct ntbs_sendq *q)
{
	return !q->nr;
}

/**
 * ntbs_packet_send() - Send, or queue behind what is queued
 * @fd: the socket
 * @fds: @nr_fds descriptors that ride along; stay the caller's
 *
 * Return: 0; -ENOBUFS the receiver does not read, other errno: the connection is of no use any more.
 */
int ntbs_packet_send(struct ntbs_sendq *q, int fd, const void *msg, size_t len_bytes, const int *fds, int nr_fds);

/* Send what is queued, as far as the socket takes it.  Return: as above. */
int ntbs_packet_flush(struct ntbs_sendq *q, int fd);

/**
 * ntbs_packet_recv() - Take one packet
 * @fds: room for NTBS_MSG_FDS; filled up with -1
 *
 * Return: its length; 0 end; -EAGAIN nothing there; -EMSGSIZE larger than @max_bytes or with too many
 * descriptors (all closed); other errno.
 */
int ntbs_packet_recv(int fd, void *buf, size_t max_bytes, int fds[NTBS_MSG_FDS], int *nr_fds);

void ntbs_close_fds(int *fds, int nr_fds);	/* and set them to -1 */

#endif
