/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hold.h - a private broker lives as long as the programs that `ntbsock-ctl run` started with it
 *
 * `run` says HOLD and then becomes the program, in the same process; the library connects only at the program's
 * first connection, perhaps much later.  So the process that asked is watched (pidfd) and counts until it ends.
 */
#ifndef NTBSOCK_BROKER_HOLD_H
#define NTBSOCK_BROKER_HOLD_H

#include <stdint.h>

void ntbs_hold_process(uint32_t pid);	/* does nothing if it cannot be watched */
unsigned ntbs_hold_nr(void);
void ntbs_hold_close(void);

#endif
