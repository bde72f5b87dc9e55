/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * early.c - bytes before accept(), connections nobody accepts, short exchanges over and over, a close right behind a send
 *
 * ring: yes
 */
#include "sock.h"

/* The connector sends, and even closes, before the other side accepts. */
static void before_accept(int family)
{
	struct s_addr a;
	int lfd = s_listen(family, &a), c = s_connect(&a), d = s_connect(&a), s;
	char ch;

	snprintf(s_case, sizeof(s_case), "before accept, family %d", family);
	t_must(s_send_stream(c, 1, 0, 50000), "early");
	t_must(s_send_stream(d, 2, 0, 50000), "early");
	close(d);
	s = s_accept(lfd);
	t_must(s_send_stream(s, 3, 0, 1000), "answer");
	t_must(s_recv_stream(s, 1, 0, 50000), "early bytes");
	t_must(s_recv_stream(c, 3, 0, 1000), "answer");
	for (unsigned int i = 0; i < 50; i++) {
		t_must(s_send_stream(c, 1, 50000 + i * 100, 100), "later");
		t_must(s_recv_stream(s, 1, 50000 + i * 100, 100), "later bytes");
	}
	close(c);
	t_eq(recv(s, &ch, 1, 0), 0, "%s: EOF", s_case);
	close(s);
	s = s_accept(lfd);
	t_must(s_recv_stream(s, 2, 0, 50000), "bytes of one that has closed");
	t_eq(recv(s, &ch, 1, 0), 0, "%s: EOF", s_case);
	close(s);

	/* never accepted: the listener's end resets it */
	c = s_connect(&a);
	t_must(s_send_stream(c, 1, 0, 100), "to nobody");
	close(lfd);
	t_ok(recv(c, &ch, 1, 0) == -1 && errno == ECONNRESET, "%s: reset by the end of the listener", s_case);
	close(c);
}

/* Connection after connection between the same two processes: whatever is reused between them must not show. */
static void over_and_over(void)
{
	struct s_addr a;
	int lfd = s_listen(AF_INET, &a);
	pid_t pid = t_fork();

	if (!pid) {
		for (uint64_t i = 0; i < 400; i++) {
			int s = s_accept(lfd);

			s_recv_stream(s, i, 0, 1 + i * 7 % 3000);
			s_send_stream(s, i + 1000, 0, 1 + i * 13 % 70000);
			close(s);
		}
		t_child_exit();
	}
	close(lfd);
	strcpy(s_case, "over and over");
	for (uint64_t i = 0; i < 400; i++) {
		int c = s_connect(&a);
		char ch;

		s_send_stream(c, i, 0, 1 + i * 7 % 3000);
		s_recv_stream(c, i + 1000, 0, 1 + i * 13 % 70000);
		t_must(recv(c, &ch, 1, 0) == 0, "EOF of connection %llu", (unsigned long long)i);
		close(c);
	}
	t_reap(pid);
}

/* A writer that sends and exits at once: the reader, who starts late, gets every byte and then EOF. */
static void gone(int family, bool by_exit)
{
	struct s_addr a;
	int lfd = s_listen(family, &a), s;
	pid_t pid = t_fork();
	char c;

	snprintf(s_case, sizeof(s_case), "gone, family %d, by_exit %d", family, by_exit);
	if (!pid) {
		int fd = s_connect(&a);

		s_recv_stream(fd, 1, 0, 2000);
		s_send_stream(fd, 2, 0, 400000);
		if (!by_exit)
			close(fd);
		t_child_exit();
	}
	s = s_accept(lfd);
	close(lfd);
	for (unsigned int i = 0; i < 2000; i++)
		s_send_stream(s, 1, i, 1);
	t_reap(pid);
	t_must(s_recv_stream(s, 2, 0, 400000), "what it had sent");
	t_eq(recv(s, &c, 1, 0), 0, "%s: EOF", s_case);
	close(s);
}

int main(void)
{
	for (int i = 0; i < 2; i++) {
		int family = i ? AF_INET6 : AF_INET;

		before_accept(family);
		gone(family, false);
		gone(family, true);
	}
	over_and_over();
	return t_done();
}
