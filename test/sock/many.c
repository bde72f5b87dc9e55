/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * many.c - 1,000 connections between two processes that may have 1,024 descriptors, all in use at once
 *
 * ring: yes
 */
#include <sys/epoll.h>
#include <sys/resource.h>
#include "sock.h"

#define CONNS 1000
#define ROUNDS 3

static void server(int lfd)
{
	static uint64_t pos[1100], echoed[1100];
	int ep = epoll_create1(EPOLL_CLOEXEC), open_fds = 0, accepted = 0;

	t_must(!epoll_ctl(ep, EPOLL_CTL_ADD, lfd, &(struct epoll_event){ .events = EPOLLIN, .data.fd = lfd }), "ctl");
	while (accepted < CONNS || open_fds) {
		struct epoll_event ev[64];
		int n = epoll_wait(ep, ev, 64, -1);

		t_must(n > 0, "epoll_wait");
		for (int i = 0; i < n; i++) {
			int fd = ev[i].data.fd;
			char buf[3000];
			ssize_t got;

			if (fd == lfd) {
				fd = s_accept(lfd);
				t_must(fd < 1024, "descriptor %d", fd);
				t_must(!epoll_ctl(ep, EPOLL_CTL_ADD, fd, &(struct epoll_event){ .events = EPOLLIN, .data.fd = fd }), "ctl");
				accepted++;
				open_fds++;
				continue;
			}
			got = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
			/* nobody else reads here: what is reported readable can be read, or a blocking server hangs */
			t_must(got >= 0, "descriptor %d was reported readable (%x) and is not", fd, ev[i].events);
			if (!got) {
				close(fd);
				open_fds--;
				pos[fd] = echoed[fd] = 0;
				continue;
			}
			pos[fd] += (uint64_t)got;
			t_must(s_send_all(fd, buf, (size_t)got) == got, "echo");
		}
	}
}

int main(void)
{
	static int fd[CONNS];
	struct rlimit rl = { 1024, 1024 };
	struct s_addr a;
	int lfd;
	pid_t pid;

	t_must(!setrlimit(RLIMIT_NOFILE, &rl), "ulimit -n 1024");
	lfd = s_listen(AF_INET, &a);
	pid = t_fork();
	if (!pid) {
		server(lfd);
		t_child_exit();
	}
	close(lfd);
	for (int i = 0; i < CONNS; i++)
		fd[i] = s_connect(&a);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		for (unsigned int i = 0; i < CONNS; i++)
			s_send_stream(fd[i], i + 1000, round * 1000, 1000);
		for (unsigned int i = 0; i < CONNS; i++)
			s_recv_stream(fd[i], i + 1000, round * 1000, 1000);
	}
	/* there is room for files beside them */
	int f = open("/dev/null", O_RDWR);
	t_ok(f >= 0 && f < 1024, "a file beside %d connections", CONNS);
	for (int i = 0; i < CONNS; i++)
		close(fd[i]);
	t_reap(pid);
	return t_done();
}
