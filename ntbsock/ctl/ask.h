/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ask.h - find the broker and ask it something
 *
 * One question at a time over the broker's UNIX socket (abi_broker.h); an answer that does not come within five
 * seconds, has a wrong size, type or cookie, or the wrong number of descriptors, is an error.
 */
#ifndef NTBSOCK_CTL_ASK_H
#define NTBSOCK_CTL_ASK_H

#include <sys/types.h>
#include <ntbsock/abi_broker.h>
#include "ctl.h"

#define NTBS_SHARED_RUN_DIR "/run/ntbsock"
#define NTBS_DIR_MAX 108 /* as in struct ntbs_msg_status; a socket's path is no longer */

struct ntbs_ask {
	int fd;
	pid_t pid; /* of the broker, and its user, from the kernel */
	uid_t uid;
	bool quiet; /* errors of questions are not said; cleared by open */
	char dir[NTBS_DIR_MAX];
};

/**
 * ntbs_ask_open() - Connect to the broker of one run directory
 *
 * Return: 0; -ENOENT or -ECONNREFUSED none runs there, another negative errno otherwise.
 */
int ntbs_ask_open(struct ntbs_ask *ask, const char *dir);
void ntbs_ask_close(struct ntbs_ask *ask);

/**
 * ntbs_ask_find() - Connect to the broker that a program started here would use
 * @dir: --broker-dir or NULL
 * @complain: if there is none, say on standard error where was looked
 *
 * Looks in @dir alone, else in NTBSOCK_RUN_DIR alone, else in the shared and then the user's own directory.
 * Return: 0 or a negative errno.
 */
int ntbs_ask_find(struct ntbs_ask *ask, const char *dir, bool complain);

/* The directory of a broker of the user's own; perhaps below /tmp, where anybody else may have made it. */
void ntbs_ask_user_dir(char dir[NTBS_DIR_MAX]);

int ntbs_ask_status(struct ntbs_ask *ask, struct ntbs_msg_status *status);
/* The same, and the broker stays for as long as this process lives, whatever program it becomes. */
int ntbs_ask_hold(struct ntbs_ask *ask, struct ntbs_msg_status *status);
int ntbs_ask_reload(struct ntbs_ask *ask, struct ntbs_msg_reload *reply);

/* Have a connection moved to TCP; *@told: processes that were told. */
int ntbs_ask_drain(struct ntbs_ask *ask, const struct ntbs_tuple *tuple, unsigned *told);

/**
 * ntbs_ask_pools() - Every state pool that we may see
 * @each: called with the pool's memfd, which it does not own
 *
 * Return: 0, or a negative errno: of the connection or, the walk then ends, of @each.
 */
int ntbs_ask_pools(struct ntbs_ask *ask,
		   int (*each)(const struct ntbs_msg_pool *pool, int fd, void *arg), void *arg);

#endif
