/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * again.h - a server that execs itself again and again with the connection
 *
 * Each image echoes, so that whatever is in flight when it is replaced comes back from the next one.
 */
#ifndef NTBSOCK_TEST_AGAIN_H
#define NTBSOCK_TEST_AGAIN_H

#include "sock.h"

extern char **environ;

T_UNUSED static void next_image(const char *how, int left)
{
	char number[12];
	char *argv[] = { "again", (char *)how, number, NULL };

	snprintf(number, sizeof(number), "%d", left);
	execve("/proc/self/exe", argv, environ);
	_exit(126);
}

/* Echo on descriptor 0 until the end, or until @most bytes were echoed and another image shall go on. */
T_UNUSED static int echo(const char *how, int left, size_t most)
{
	static char buf[65536];
	size_t sum = 0;

	for (;;) {
		ssize_t n = read(0, buf, sizeof(buf)), put;

		if (n <= 0)
			return n < 0;
		for (ssize_t done = 0; done < n; done += put) {
			put = write(0, buf + done, n - done);
			if (put < 0)
				return 1;
		}
		sum += n;
		if (left && sum >= most)
			next_image(how, left - 1);
	}
}

/*
 * A server, and our end of a connection to it, which is on the ring in a warm run.  Then the server execs: @turns more images
 * will follow.
 */
T_UNUSED static pid_t start(const char *how, int turns, const struct s_addr *a, int lfd, int *fd)
{
	pid_t pid = t_fork();

	if (!pid) {
		int sfd = s_accept(lfd);

		close(lfd);
		s_nodelay_(sfd);
		t_must(dup2(sfd, 0) == 0, "dup2");
		close(sfd);
		for (int i = 0; i < 100; i++) {
			t_must(s_recv_stream(0, 1, i * 10, 10), "receive");
			t_must(s_send_stream(0, 1, i * 10, 10), "send");
		}
		next_image(how, turns);
	}
	close(lfd);
	*fd = s_connect(a);
	s_nodelay_(*fd);
	for (int i = 0; i < 100; i++) {
		t_must(s_send_stream(*fd, 1, i * 10, 10), "send");
		t_must(s_recv_stream(*fd, 1, i * 10, 10), "receive");
	}
	return pid;
}

#endif
