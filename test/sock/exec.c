/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * exec.c - a socket as standard input and output of another program: preloaded as we are, and foreign
 *
 * ring: yes
 */
#include "sock.h"
#include "hand_on.h"

/*
 * A child turns into cat with the socket as both ends.  Bytes that were there before it started, and after, come
 * back; EOF ends it.
 */
static void cat(struct peer *p, int fd, bool foreign)
{
	char *argv[] = { "cat", NULL };
	pid_t pid;

	/* some exchange first, so that the connection is where it will be */
	p_send(p, 2, 0, 1000);
	t_must(s_recv_stream(fd, 2, 0, 1000), "before");
	t_must(s_send_stream(fd, 1, 0, 1000), "before");
	t_eq(p_recv(p, 1, 0, 1000), 1000, "%s: before", s_case);
	/* and bytes that nobody of us reads: they are cat's */
	p_send(p, 3, 0, 30000);

	pid = t_fork();
	if (!pid) {
		dup2(fd, 0);
		dup2(fd, 1);
		closefrom(3);
		execve("/bin/cat", argv, foreign ? s_foreign_env() : environ);
		_exit(126);
	}
	close(fd);
	t_eq(p_recv(p, 3, 0, 30000), 30000, "%s: what was there before", s_case);
	for (unsigned int i = 0; i < 10; i++) {
		p_send(p, 4, i * 5000, 5000);
		t_eq(p_recv(p, 4, i * 5000, 5000), 5000, "%s: echo %u", s_case, i);
	}
	p_shutdown(p, SHUT_WR);
	t_eq(p_recv(p, 4, 50000, 1), 0, "%s: EOF", s_case);
	t_reap(pid);
}

static void same(struct peer *p, int fd)
{
	cat(p, fd, false);
}

static void foreign(struct peer *p, int fd)
{
	cat(p, fd, true);
}

/* exec without fork: the process itself turns into cat. */
static void itself(int family, bool is_foreign)
{
	struct s_addr a;
	int lfd = s_listen(family, &a), fd;
	pid_t pid = t_fork();
	char c;

	snprintf(s_case, sizeof(s_case), "itself, family %d, foreign %d", family, is_foreign);
	if (!pid) {
		char *argv[] = { "cat", NULL };

		fd = s_accept(lfd);
		s_recv_stream(fd, 1, 0, 20);
		s_send_stream(fd, 2, 0, 20);
		dup2(fd, 0);
		dup2(fd, 1);
		close(fd);
		execve("/bin/cat", argv, is_foreign ? s_foreign_env() : environ);
		_exit(126);
	}
	close(lfd);
	fd = s_connect(&a);
	s_send_stream(fd, 1, 0, 20);
	s_recv_stream(fd, 2, 0, 20);
	for (unsigned int i = 0; i < 20; i++) {
		s_send_stream(fd, 5, i * 1000, 1000);
		s_recv_stream(fd, 5, i * 1000, 1000);
	}
	t_ok(!shutdown(fd, SHUT_WR), "shutdown");
	t_eq(recv(fd, &c, 1, 0), 0, "%s: EOF", s_case);
	close(fd);
	t_reap(pid);
}

/* exec that fails leaves the connection as it was. */
static void fails(struct peer *p, int fd)
{
	char *argv[] = { "nothing", NULL };

	t_ok(execve("/nonexistent/program", argv, s_foreign_env()) == -1 && errno == ENOENT, "%s: no such program", s_case);
	t_must(s_send_stream(fd, 1, 0, 10000), "after");
	t_eq(p_recv(p, 1, 0, 10000), 10000, "%s: after a failed exec", s_case);
	p_send(p, 2, 0, 10000);
	t_must(s_recv_stream(fd, 2, 0, 10000), "after");
	close(fd);
}

int main(void)
{
	s_each(fails);
	s_each(same);
	for (int i = 0; i < 40; i++)		/* the claim comes at every moment of it */
		itself(i & 1 ? AF_INET6 : AF_INET, i & 2);
	s_each(foreign);
	return t_done();
}
