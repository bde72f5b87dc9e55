/* SPDX-License-Identifier: BSD-2-Clause */
/* hand_on.h - a socket for somebody else: an image without the library, another process */
#ifndef NTBSOCK_TEST_HAND_ON_H
#define NTBSOCK_TEST_HAND_ON_H

#include "sock.h"

extern char **environ;

/* The environment without what would preload us into the new image. */
T_UNUSED static char **s_foreign_env(void)
{
	static char *env[1000];
	int n = 0;

	for (char **e = environ; *e && n < 999; e++) {
		if (strncmp(*e, "LD_PRELOAD=", 11) && strncmp(*e, "NTBSOCK_", 8))
			env[n++] = *e;
	}
	env[n] = NULL;
	return env;
}

T_UNUSED static void s_pass(int un, int fd)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} c = { .h = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct msghdr mh = { .msg_iov = &(struct iovec){ "f", 1 }, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c) };

	memcpy(CMSG_DATA(&c.h), &fd, sizeof(fd));
	t_must(sendmsg(un, &mh, 0) == 1, "pass");
}

T_UNUSED static int s_take(int un)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} c;
	char b;
	struct msghdr mh = { .msg_iov = &(struct iovec){ &b, 1 }, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c) };
	int fd = -1;

	t_must(recvmsg(un, &mh, MSG_CMSG_CLOEXEC) == 1 && c.h.cmsg_type == SCM_RIGHTS, "take");
	memcpy(&fd, CMSG_DATA(&c.h), sizeof(fd));
	return fd;
}

#endif
