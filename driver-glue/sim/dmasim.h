/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dmasim.h - an engine that is none (dma.h): copies by this CPU, late and as unpleasant as dma.h allows
 *
 * For tests and emulated bridges.  A message is read when it is submitted and done @delay_ns after it was kicked.  Half of
 * its payload is written when half of that has passed, in reverse order of submission, the rest at the end, then its slot;
 * so bytes of messages get mixed, what is written is as old as it can be, and a slot is never before its payload.  Nothing
 * is written but in poll(); the descriptor is a timer.
 */
#ifndef NTBSOCK_DMASIM_H
#define NTBSOCK_DMASIM_H

#include "dma.h"

struct ntbs_dmasim_conf {
	uint64_t delay_ns;
	uint64_t halt_after;	/* messages; then it halts, with half of the payload of the next written.  0: never */
};

/* Return: 0 or a negative errno. */
int ntbs_dmasim_open(struct ntbs_dma **dma, const struct ntbs_dmasim_conf *conf);

#endif
