/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * exec_again.c - a connection moves to the ring of each image that a server execs
 *
 * ring: most
 */
#include "again.h"

#define PART 1000
#define ROUNDS 3000			/* by each image */
#define TURNS 4

/* One round after the other. */
static void rounds(int family, bool nonblock)
{
	struct s_addr a;
	int lfd = s_listen(family, &a), fd;
	pid_t pid, child;
	char c;

	snprintf(s_case, sizeof(s_case), "rounds, family %d, nonblock %d", family, nonblock);
	pid = start("--rounds", TURNS, &a, lfd, &fd);
	s_nonblock(fd, nonblock);
	for (int i = 0; i < ROUNDS * (TURNS + 1); i++) {
		t_must(s_send_stream(fd, 2, (uint64_t)i * PART, PART), "send");
		t_must(s_recv_stream(fd, 2, (uint64_t)i * PART, PART), "receive");
	}
	s_nonblock(fd, false);
	/* a child that has it too */
	child = t_fork();
	if (!child) {
		t_must(s_send_stream(fd, 2, 0, PART), "send");
		t_must(s_recv_stream(fd, 2, 0, PART), "receive");
		t_child_exit();
	}
	t_reap(child);
	t_must(s_send_stream(fd, 2, 0, PART), "send");
	t_must(s_recv_stream(fd, 2, 0, PART), "receive");
	t_ok(!shutdown(fd, SHUT_WR), "shutdown");
	t_eq(recv(fd, &c, 1, 0), 0, "%s: EOF", s_case);
	close(fd);
	t_reap(pid);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return echo(argv[1], atoi(argv[2]), (size_t)ROUNDS * PART);
	for (int i = 0; i < 4; i++)
		rounds(i & 1 ? AF_INET6 : AF_INET, i & 2);
	return t_done();
}
