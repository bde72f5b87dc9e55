/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stats.h - counters of this process, and their JSON object (NTBSOCK_STATS)
 *
 * A socket counts in its own object, under the locks of its directions; here the sums of sockets that are gone are
 * kept.  What is written at exit is these and the living ones.
 */
#ifndef NTBSOCK_STATS_H
#define NTBSOCK_STATS_H

#include "sock.h"

void ntbs_stats_account(const struct ntbs_sock *sk);	/* the object is about to be used again */
void ntbs_stats_timer_ran_out(void);
void ntbs_stats_write(void);				/* at exit; once */
void ntbs_stats_before_chroot(void);			/* its file will be out of reach by name */
void ntbs_stats_fork_child(void);			/* a child counts from zero */

#endif
