/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * chroot.c - a program that has changed its root directory before its first connection, connecting and accepting
 *
 * ring: most
 */
#include "sock.h"

#define ROUNDS 300
#define PART 10000

static void talk(int fd, uint64_t mine, uint64_t theirs)
{
	for (unsigned int i = 0; i < ROUNDS; i++) {
		t_must(s_send_stream(fd, mine, i * PART, PART), "send");
		t_must(s_recv_stream(fd, theirs, i * PART, PART), "receive");
	}
	close(fd);
}

static void one(const char *root, int family, bool connect_inside)
{
	struct s_addr a;
	int lfd = s_listen(family, &a), fd;
	pid_t pid = t_fork();

	snprintf(s_case, sizeof(s_case), "family %d, connect_inside %d", family, connect_inside);
	if (!pid) {
		t_must(!chroot(root) && !chdir("/"), "chroot");
		t_ok(open("/etc", O_RDONLY) == -1 && errno == ENOENT, "another root");
		fd = connect_inside ? s_connect(&a) : s_accept(lfd);
		talk(fd, 1, 2);
		t_child_exit();
	}
	fd = connect_inside ? s_accept(lfd) : s_connect(&a);
	close(lfd);
	talk(fd, 2, 1);
	t_reap(pid);
}

int main(void)
{
	char root[] = "/tmp/ntbsock-root.XXXXXX";

	if (geteuid())
		t_skip("chroot() needs root");
	t_must(mkdtemp(root), "mkdtemp");
	for (int i = 0; i < 4; i++)
		one(root, i & 1 ? AF_INET6 : AF_INET, i & 2);
	rmdir(root);
	return t_done();
}
