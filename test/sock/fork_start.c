/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fork_start.c - a process forks while another thread of it does for the first time what is done once a process: the children
 * hold nothing that only that thread would give back, and do the same
 *
 * ring: no
 */
#include "sock.h"

#define ROUNDS 60
#define CHILDREN 6

static pthread_barrier_t start, end;

static void take_part(void)
{
	struct s_addr a;
	int fd = s_listen(AF_INET, &a);
	FILE *f = fdopen(dup(fd), "r+");

	t_ok(f != NULL, "fdopen");
	if (f)
		fclose(f);
	close(fd);
}

static void *first(void *arg)
{
	pthread_barrier_wait(&start);
	take_part();
	pthread_barrier_wait(&end);	/* a lock of a thread that has ended can be taken over */
	return NULL;
}

/* A fresh process each time. */
static void once(void)
{
	pid_t pid[CHILDREN];
	pthread_t thread;

	pthread_barrier_init(&start, NULL, 2);
	pthread_barrier_init(&end, NULL, 2);
	t_must(!pthread_create(&thread, NULL, first, NULL), "thread");
	pthread_barrier_wait(&start);
	for (int i = 0; i < CHILDREN; i++) {
		pid[i] = fork();
		t_must(pid[i] >= 0, "fork");
		if (pid[i])
			continue;
		alarm(5);
		take_part();
		_exit(t_done());
	}
	for (int i = 0; i < CHILDREN; i++)
		t_reap(pid[i]);
	pthread_barrier_wait(&end);
	pthread_join(thread, NULL);
}

int main(void)
{
	if (getenv("T_SAN"))
		t_skip("a sanitizer's own memory may be locked by a thread when another one forks");
	for (int i = 0; i < ROUNDS; i++) {
		pid_t pid = t_fork();

		if (!pid) {
			once();
			t_child_exit();
		}
		t_reap(pid);
	}
	return t_done();
}
