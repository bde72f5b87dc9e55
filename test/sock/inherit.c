/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * inherit.c - a server that gives each accepted connection to another program, as inetd does
 *
 * ring: most
 */
#include "sock.h"

#define ROUNDS 3000
#define PART 1000

extern char **environ;

/* The other program: standard input and output are the connection.  @child: and a program of its own has them, too. */
static int echo(bool child)
{
	char *argv[] = { "echo", "--peek", NULL };
	static char buf[PART];
	pid_t pid = -1;
	size_t n;

	s_nodelay_(1);
	if (child && !(pid = t_fork())) {
		execve("/proc/self/exe", argv, environ);
		_exit(126);
	}
	while ((n = fread(buf, 1, sizeof(buf), stdin)) > 0)
		if (fwrite(buf, 1, n, stdout) != n || fflush(stdout))
			return 1;
	if (child)
		t_reap(pid);
	return ferror(stdin) || t_done();
}

/* A child for each connection; it waits until its parent has closed what is the child's. */
static void serve(int lfd, int connections, bool keep, char *how)
{
	char *argv[] = { "echo", how, NULL };

	while (connections--) {
		int fd = s_accept(lfd), go[2];
		pid_t pid;
		char c;

		t_must(!pipe2(go, O_CLOEXEC), "pipe2");
		pid = t_fork();
		if (!pid) {
			close(go[1]);
			close(lfd);
			t_eq(read(go[0], &c, 1), 0, "closed");
			t_must(dup2(fd, 0) == 0 && dup2(fd, 1) == 1, "dup2");
			close(fd);
			execve("/proc/self/exe", argv, environ);
			_exit(126);
		}
		if (!keep)
			close(fd);
		close(go[0]);
		close(go[1]);
		t_reap(pid);
		if (keep)
			close(fd);
	}
	t_child_exit();
}

static void one(int family, bool keep, char *how, int rounds)
{
	struct s_addr a;
	int lfd = s_listen(family, &a);
	pid_t pid = t_fork();

	snprintf(s_case, sizeof(s_case), "family %d, keep %d, %s", family, keep, how);
	if (!pid)
		serve(lfd, 3, keep, how);
	close(lfd);
	for (int i = 0; i < 3; i++) {
		int fd = s_connect(&a);
		char c;

		s_nodelay_(fd);

		/* the first one may have been claimed before the server was known to give them away */
		for (int k = 0; k < (i ? rounds : 1); k++) {
			t_must(s_send_stream(fd, i, k * PART, PART), "send");
			t_must(s_recv_stream(fd, i, k * PART, PART), "receive");
		}
		t_ok(!shutdown(fd, SHUT_WR), "shutdown");
		t_eq(recv(fd, &c, 1, 0), 0, "%s: EOF", s_case);
		close(fd);
	}
	t_reap(pid);
}

int main(int argc, char **argv)
{
	char c;

	if (argc > 1 && !strcmp(argv[1], "--peek")) {
		recv(0, &c, 1, MSG_PEEK | MSG_DONTWAIT);
		usleep(20000);	/* time for what must not happen: the connection is its parent's */
		return 0;
	}
	if (argc > 1)
		return echo(!strcmp(argv[1], "--echo-and-peek"));
	one(AF_INET, false, "--echo", ROUNDS);
	one(AF_INET6, false, "--echo", ROUNDS);
	/* somebody else holds it too: TCP */
	one(AF_INET, true, "--echo", 10);
	one(AF_INET, false, "--echo-and-peek", ROUNDS / 8);
	return t_done();
}
