/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * meet.h - two brokers of one machine find each other at a path
 *
 * Both are given the same path.  Who holds the lock <path>.lock listens there, the other one connects; while they are not
 * connected, each tries again with the clock tick.  The path is open to the broker's own user and root only.
 */
#ifndef NTBSOCK_BROKER_MEET_H
#define NTBSOCK_BROKER_MEET_H

#include <stdbool.h>

/*
 * @what: "cable", "port", for messages.  @met: they are connected; takes over @fd.  @busy: are they already?
 * Return: 0 or a negative errno, logged.
 */
int ntbs_meet_open(const char *what, const char *path, void (*met)(int fd), bool (*busy)(void));
void ntbs_meet_tick(void);		/* about once a second */
void ntbs_meet_close(void);
const char *ntbs_meet_path(void);

#endif
