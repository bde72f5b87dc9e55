/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * seteuid.c - sockets that a program makes as one user and connects as another, which a server does for a reserved port
 *
 * ring: most
 */
#include "sock.h"

#define ROUNDS 300
#define PART 10000
#define SOMEBODY 65534

static void talk(int fd, uint64_t mine, uint64_t theirs)
{
	for (unsigned int i = 0; i < ROUNDS; i++) {
		t_must(s_send_stream(fd, mine, i * PART, PART), "send");
		t_must(s_recv_stream(fd, theirs, i * PART, PART), "receive");
	}
	close(fd);
}

/* The first connection tells under which user the process is known; the second socket is another's. */
static void one(int family, uid_t first, uid_t maker, uid_t connector)
{
	struct s_addr a;
	int lfd = s_listen(family, &a), fd;
	pid_t pid = t_fork();

	snprintf(s_case, sizeof(s_case), "family %d, users %u %u %u", family, first, maker, connector);
	if (!pid) {
		t_must(!seteuid(first), "seteuid");
		talk(s_connect(&a), 1, 2);
		t_must(!seteuid(0) && !seteuid(maker), "seteuid");
		fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		t_must(fd >= 0 && !seteuid(0) && !seteuid(connector), "seteuid");
		t_must(!connect(fd, (const struct sockaddr *)&a.ss, a.len), "connect");
		talk(fd, 3, 4);
		t_must(!seteuid(0), "seteuid");
		t_child_exit();
	}
	talk(s_accept(lfd), 2, 1);
	talk(s_accept(lfd), 4, 3);
	close(lfd);
	t_reap(pid);
}

int main(void)
{
	if (geteuid())
		t_skip("needs root, to be somebody else");
	one(AF_INET, SOMEBODY, 0, SOMEBODY);
	one(AF_INET6, SOMEBODY, 0, SOMEBODY);
	one(AF_INET, 0, SOMEBODY, SOMEBODY);
	one(AF_INET6, 0, SOMEBODY, 0);
	return t_done();
}
