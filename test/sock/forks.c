/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * forks.c - the ways to fork that know nothing of pthread_atfork(): _Fork(), clone(), by number
 *
 * ring: yes
 */
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include "sock.h"

enum way { FORK_, CLONE, BY_NUMBER, CLONE3, WAYS };
static const char *const names[] = { "_Fork", "clone", "by number", "clone3" };

static struct peer *the_peer;
static int the_fd, go[2];

static int child(void *arg)
{
	char c;

	close(the_peer->pid ? the_peer->ctl : the_peer->fd);
	t_must(read(go[0], &c, 1) == 1, "go");
	s_recv_stream(the_fd, 2, 10, 30000);
	s_send_stream(the_fd, 1, 10, 30000);
	t_child_exit();
}

static pid_t by(enum way way)
{
	static char *stack;
	pid_t pid;

	t_failures_ = 0;
	fflush(NULL);
	switch (way) {
	case FORK_:
		pid = _Fork();
		break;
	case CLONE:
		if (!stack)
			stack = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
		t_must(stack != MAP_FAILED, "mmap");
		return clone(child, stack + (1 << 20), SIGCHLD, NULL);
	case BY_NUMBER:
		pid = syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
		break;
	default: {
		uint64_t args[8] = { [4] = SIGCHLD };		/* struct clone_args, linux/sched.h */

		pid = syscall(SYS_clone3, args, sizeof(args));
	}
	}
	if (!pid)
		child(NULL);
	return pid;
}

/* Parent and child have it; the parent goes on, then closes; the child goes on, and its exit is the end. */
static void forked(struct peer *p, int fd)
{
	the_peer = p;
	the_fd = fd;
	s_warm(p, fd);
	for (enum way way = 0; way < WAYS; way++) {
		bool last = way == WAYS - 1;
		pid_t pid;

		t_must(!pipe(go), "pipe");
		pid = by(way);
		t_must(pid > 0, "%s: %s", s_case, names[way]);
		p_send(p, 2, 0, 10);
		t_must(s_recv_stream(fd, 2, 0, 10) && s_send_stream(fd, 1, 0, 10), "%s: %s: parent", s_case, names[way]);
		t_eq(p_recv(p, 1, 0, 10), 10, "%s: %s: parent", s_case, names[way]);
		if (last)
			close(fd);
		t_must(write(go[1], "x", 1) == 1, "go");
		p_send(p, 2, 10, 30000);
		t_eq(p_recv(p, 1, 10, last ? 40000 : 30000), 30000, "%s: %s: child", s_case, names[way]);
		t_reap(pid);
		close(go[0]);
		close(go[1]);
	}
}

int main(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	t_skip("the runtimes of sanitizers do not know of these forks, either");
#endif
	s_each(forked);
	return t_done();
}
