/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fork_wait.c - a process forks while its other threads begin to wait and end it: the child has the descriptors that the
 * program has, and no other
 *
 * ring: yes
 */
#include <poll.h>
#include "sock.h"

#define WAITERS 24	/* more than waits that are kept for the next (wait.c) */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ROUNDS 100	/* a fork takes long there */
#else
#define ROUNDS 150
#endif
#define LOW 256		/* the library's own numbers are above */

static _Atomic bool over;

static void *waits(void *arg)
{
	struct pollfd p = { .fd = *(int *)arg, .events = POLLIN };

	while (!over)
		if (ppoll(&p, 1, &(struct timespec){ .tv_nsec = 50000 }, NULL) < 0)
			break;
	return NULL;
}

static int count_low(void)
{
	int n = 0;

	for (int fd = 0; fd < LOW; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void forks(struct peer *p, int fd)
{
	pthread_t thread[WAITERS];
	int had = count_low();

	over = false;
	for (int i = 0; i < WAITERS; i++)
		t_must(!pthread_create(&thread[i], NULL, waits, &fd), "thread");
	for (int i = 0; i < ROUNDS && !t_failures_; i++) {
		pid_t pid = t_fork();

		if (!pid) {
			t_eq(count_low(), had, "%s: in the child", s_case);
			t_child_exit();
		}
		t_reap(pid);
	}
	over = true;
	for (int i = 0; i < WAITERS; i++)
		pthread_join(thread[i], NULL);
}

int main(void)
{
	struct peer p;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	fd = s_peer(&p, AF_INET, true, true);
	t_must(fd >= 0, "a connection");
	s_warm(&p, fd);
	forks(&p, fd);
	close(fd);
	p_end(&p);
	return t_done();
}
