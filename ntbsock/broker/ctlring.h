/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ctlring.h - messages to the other broker through the window (struct ntbs_ctl_shm in abi_port.h)
 *
 * Each side writes slots into the other's arena and counts there what it has taken out of its own.  Nothing is sent twice:
 * a link that loses a write ends the session, and the next one begins at sequence 1 with another epoch.  What lies in the
 * arena from earlier, arrives torn, or is written by an enemy, is not there: only a slot with the expected sequence and
 * the right CRC is taken.
 *
 * One thread.  Nothing here sleeps or allocates; the caller rings.
 */
#ifndef NTBSOCK_BROKER_CTLRING_H
#define NTBSOCK_BROKER_CTLRING_H

#include <stdbool.h>
#include <ntbsock/abi_port.h>
#include "port.h"

struct ntbs_ctl {
	struct ntbs_port *port;
	const struct ntbs_ctl_shm *in;	/* in our arena */
	struct ntbs_ctl_shm *out;	/* in the window */
	uint32_t epoch;
	uint32_t sent, taken, told;	/* free-running; told: of @taken, to the peer */
};

void ntbs_ctl_open(struct ntbs_ctl *c, struct ntbs_port *port, const struct ntbs_ctl_shm *in, struct ntbs_ctl_shm *out,
		   uint32_t epoch);

/* Return: 0; -EAGAIN the other side has not taken enough; -EMSGSIZE.  Ring afterwards. */
int ntbs_ctl_send(struct ntbs_ctl *c, const void *msg, size_t len_bytes);

/* Return: length of the message put into @buf (of NTBS_CTL_BYTES); -EAGAIN none is there. */
int ntbs_ctl_recv(struct ntbs_ctl *c, void *buf);

/* The next message is there in part, or missing, and the one behind it is there; for a moment that is how it lands. */
bool ntbs_ctl_torn(const struct ntbs_ctl *c);

/* Tell what has been taken, if it is due.  True: it was; ring, since the peer may wait for room. */
bool ntbs_ctl_tell(struct ntbs_ctl *c);

#endif
