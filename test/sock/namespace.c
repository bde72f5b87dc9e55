/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * namespace.c - calls that only a process of one thread may make, with connections open
 *
 * ring: most
 */
#include "sock.h"

#include <sched.h>
#include <sys/syscall.h>

#define ROUNDS 200
#define PART 5000

static void talk(int fd, uint64_t mine, uint64_t theirs, unsigned from)
{
	for (unsigned int i = from; i < from + ROUNDS; i++) {
		t_must(s_send_stream(fd, mine, i * PART, PART), "send");
		t_must(s_recv_stream(fd, theirs, i * PART, PART), "receive");
	}
}

/* 0, or its errno. */
static int enter(int how)
{
	int self = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC), ret;

	t_must(self >= 0, "a namespace of ours");
	switch (how) {
	case 0: ret = unshare(CLONE_NEWUSER); break;
	case 1: ret = syscall(SYS_unshare, CLONE_NEWUSER); break;
	case 2: ret = setns(self, CLONE_NEWNS); break;		/* EINVAL as well if threads share its root */
	default: ret = unshare(CLONE_NEWNS); break;
	}
	ret = ret ? errno : 0;
	close(self);
	return ret;
}

static void one(int how)
{
	struct s_addr a;
	int lfd = s_listen(AF_INET, &a), fd, expected;
	pid_t pid = t_fork();

	snprintf(s_case, sizeof(s_case), "how %d", how);
	if (!pid) {		/* what the call does here, where there is no connection */
		expected = enter(how);
		_exit(expected);
	}
	t_must(waitpid(pid, &expected, 0) == pid && WIFEXITED(expected), "the first child");
	expected = WEXITSTATUS(expected);
	pid = t_fork();
	if (!pid) {
		fd = s_connect(&a);
		talk(fd, 1, 2, 0);
		t_eq(enter(how), expected, "with a connection open");
		talk(fd, 1, 2, ROUNDS);
		close(fd);
		fd = s_connect(&a);
		talk(fd, 3, 4, 0);
		close(fd);
		t_child_exit();
	}
	fd = s_accept(lfd);
	talk(fd, 2, 1, 0);
	talk(fd, 2, 1, ROUNDS);
	close(fd);
	fd = s_accept(lfd);
	talk(fd, 4, 3, 0);
	close(fd);
	close(lfd);
	t_reap(pid);
}

int main(void)
{
	for (int how = 0; how < 4; how++)
		one(how);
	return t_done();
}
