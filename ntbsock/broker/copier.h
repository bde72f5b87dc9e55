/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * copier.h - LONG messages that the broker's engine carries into the window for its clients (driver-glue/dma.h)
 *
 * A client puts message and slot into the copy beside its inbox, as for any message, and instead of storing both to the
 * window says which slot it is (NTBS_MSG_COPY).  It does not wait: its slots may land in any order, the receiver takes them
 * in that of their sequence, and the copy stays until the receiver has acknowledged it.  So what the engine costs a client
 * is a packet, and what it costs the broker a few stores and an interrupt.
 *
 * Nothing a client says is an address.  Region, lease and slot name both ends of a copy, and both lie in what is its own:
 * the copy in the region that was leased to it, the outbox that it may write to anyway.
 *
 * When a slot is out the peer is rung, if it sleeps: the client looked for that when nothing had landed yet.  What is
 * done is counted in the region (@dma_done): a lease is used again once that is all that was asked for.
 *
 * An engine that halts, or is not done with something after a second, is stopped, and the rest of the session's
 * messages, the halted one first, are stored by this CPU: again from the copies, so nothing is lost, and what had landed of
 * them lands twice with the same contents.  Clients read in the arena that there is none any more.  The next session
 * begins with the engine again.
 *
 * One thread, as all of the broker; attach and detach wait for the hardware.
 */
#ifndef NTBSOCK_BROKER_COPIER_H
#define NTBSOCK_BROKER_COPIER_H

#include <stdbool.h>
#include "bridge.h"

struct ntbs_client;

/* "ADDRESS[,min=BYTES]" or "emu[,min=BYTES][,delay=US][,halt=N]".  Return: 0 or a negative errno, logged. */
int ntbs_copier_open(const char *spec);
void ntbs_copier_close(void);
bool ntbs_copier_pins(void);		/* --dma was given, and what it is attached to must keep its pages */

/* A session begins: the engine is shown arena and window, and clients that there is one; ends: it is stopped, and forgets. */
void ntbs_copier_up(const struct ntbs_bridge_end *end, struct ntbs_window *window);
void ntbs_copier_down(void);
void ntbs_copier_tick(void);		/* about once a second */

/* A message of a client: NTBS_MSG_COPY. */
void ntbs_copier_message(struct ntbs_client *c, const void *packet, int *fds);

/*
 * All that the process has asked for, in packets that were not read yet as well, is out when this returns: before somebody
 * is told that nothing more comes.  0: what was read so far.  Packets are acted upon meanwhile, so regions may go.
 */
void ntbs_copier_settle(uint32_t proc);

#endif
