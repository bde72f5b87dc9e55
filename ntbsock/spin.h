/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * spin.h - for how long it pays to poll before sleeping
 *
 * A spin that finds something earns the full NTBSOCK_POLL_US, one that finds nothing halves the next (down to none; every
 * 64th wait tries again).  It never pays while somebody else wants the CPU, and that is known from three things:
 *  - the peer last ran on our CPU: it could not run;
 *  - we were off the CPU in the middle of a spin: some waits do not spin, more of them each time in a row;
 *  - the scheduler has made us wait for a CPU for a good part of the last milliseconds (it counts that per thread):
 *    there are more who want to run than CPUs, until a later look finds that it is over.  A thread that sleeps and is
 *    woken on an idle machine waits for a few thousandths of the time, one of nine on two CPUs for a quarter and more.
 */
#ifndef NTBSOCK_SPIN_H
#define NTBSOCK_SPIN_H

#include <stdbool.h>
#include <stdint.h>
#include "sock.h"

struct ntbs_spin {
	uint64_t start, last, budget;	/* time stamp counter */
	bool cut;			/* we were off the CPU meanwhile */
};

int ntbs_cpu(void);

/* May we spin at all?  @sk: whose peer we wait for, NULL for a set. */
bool ntbs_spin_begin(struct ntbs_spin *s, struct ntbs_sock *sk);
/* Time left?  Cheap enough to call after a look of a few lines. */
bool ntbs_spin_more(struct ntbs_spin *s);
void ntbs_spin_end(struct ntbs_spin *s, bool found);

void ntbs_spin_init(void);
void ntbs_spin_fork_child(void);

#endif
