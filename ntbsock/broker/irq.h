/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * irq.h - a doorbell of the port -> the right eventfd
 *
 * One bell for all: which process it is for is said by the pending bytes (abi_port.h).  A byte is cleared first, then its
 * eventfd is signalled, so that whoever rings in between rings again.
 *
 * Children of a process go on with its bells when it is gone, and with its place in the arena.  So both are kept, and its
 * number is not given to another, until the last of them has ended: a pipe tells (NTBS_MSG_PORT, @life).
 */
#ifndef NTBSOCK_BROKER_IRQ_H
#define NTBSOCK_BROKER_IRQ_H

#include <stdbool.h>
#include <stdint.h>

struct ntbs_client;

/* Bells of the client from now on.  Return: the pipe's writing end, the caller's; or a negative errno. */
int ntbs_irq_add(struct ntbs_client *c);
bool ntbs_irq_taken(uint32_t nr);	/* this process number */
void ntbs_irq_scan(uint8_t *pending);
void ntbs_irq_all(void);			/* both bells of everybody */
void ntbs_irq_close(void);

#endif
