/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wait.h - sleep; nothing else blocks
 */
#ifndef NTBSOCK_WAIT_H
#define NTBSOCK_WAIT_H

#include <stdbool.h>
#include <stdint.h>

uint64_t ntbs_now_ns(void);		/* CLOCK_MONOTONIC */

/* An epoll instance of this process that watches its mbox edge-triggered; -1 if no descriptor can be had. */
int ntbs_waiter_get(void);
void ntbs_waiter_put(int waiter);
void ntbs_wait_fork_child(void);

/*
 * A system call in which the program's thread sleeps: a cancellation point, as the call that it stands for.  What is held
 * around it is undone by pthread_cleanup_push().
 */
long ntbs_sleep_sys6(long nr, long a, long b, long c, long d, long e, long f);

/* Sleep until the kernel shows @events on the shadow or the mbox is rung.  0, -EINTR, -ETIMEDOUT. */
int ntbs_wait_shadow(int fd, short events, uint64_t deadline_ns);
/* Would a call that was interrupted now be restarted?  (No handler without SA_RESTART is installed.) */
bool ntbs_wait_restarts(void);

#endif
