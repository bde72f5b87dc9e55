/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * service.h - the service thread: what cannot wait for the program's next call
 *
 * One thread in a process that takes part; all signals blocked, asleep in epoll_wait(), no CPU.  It takes the broker's
 * messages, answers peers that ask for TCP while the program is elsewhere, goes on with a replay when the shadow has
 * room, and wakes whoever sleeps on a futex when the shadow shows an end.  Never on the data path.  fork does not copy
 * it: the child of fork() starts its own if it has inherited a connection that is on the ring, others at the first need.
 */
#ifndef NTBSOCK_SERVICE_H
#define NTBSOCK_SERVICE_H

#include "sock.h"

bool ntbs_service_start(void);		/* it runs, or runs now */
bool ntbs_service_runs(void);
/* It has ended, and makes no system call any more. */
void ntbs_service_stop(void);

/* For one system call that wants a process of one thread.  pause: was there a thread?  Then go_on() afterwards. */
bool ntbs_service_pause(void);
void ntbs_service_go_on(void);
void ntbs_service_new_broker(void);
/* What the service thread does at messages of the broker: after this all that it has sent so far counts.  No locks held. */
void ntbs_service_take_news(void);
/* Offers of ours that were claimed, and nobody has noticed yet.  The runtime's lock is not held. */
void ntbs_service_step(void);
/* Watch the shadow for the end, for sleepers on the futex.  False: it cannot be watched. */
bool ntbs_service_watch(struct ntbs_sock *sk, int fd);
/*
 * Before the last close() of @fd in this process, although that ends the registration too: a look of the service thread,
 * in the kernel, holds the file (Linux 6.9 on, fs/eventpoll.c, epi_fget()).  If the close comes meanwhile, the last
 * reference is the look's, and goes only when the thread leaves the kernel, whenever that is: no FIN until then.
 */
void ntbs_service_unwatch(struct ntbs_sock *sk, int fd);
/* The connection is another object's from now on, which has the shadow watched when it needs it. */
void ntbs_service_let_go(struct ntbs_sock *sk);
/* A replay waits for room in the shadow. */
void ntbs_service_want_room(struct ntbs_sock *sk, int fd);
/* A thread of ours as the service thread is: no signal comes to it.  False: none can be had. */
bool ntbs_service_thread(void *(*fn)(void *), void *arg);
void ntbs_service_fork_child(void);
/* The child of a fork() needs one at once if peers may ask it for TCP. */
void ntbs_service_serve_child(void);

/* ntbs_far_life() is there: what it shows is heard of. */
void ntbs_service_watch_life(int old);

#endif
