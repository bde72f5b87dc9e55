/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * epoll_fork.c - a set and what forked children do with its sockets: a close or an end there takes nothing out of it here
 *
 * ring: yes
 */
#include <sys/epoll.h>
#include <sys/wait.h>
#include "sock.h"

enum way { CLOSES, EXITS, QUICK, KILLED, WAYS };

static void add(int ep, int fd, uint32_t events)
{
	t_must(!epoll_ctl(ep, EPOLL_CTL_ADD, fd, &(struct epoll_event){ events, { .u64 = (uint64_t)fd } }), "epoll_ctl");
}

/* A child that has all our descriptors, and leaves them in one way or another. */
static void child(enum way way, int ep, int fd, int lfd)
{
	pid_t pid = t_fork();
	int st;

	if (!pid) {
		if (way == CLOSES) {
			close(fd);
			close(lfd);
			close(ep);
		}
		if (way == EXITS)
			t_child_exit();
		if (way == KILLED)
			raise(SIGKILL);
		_exit(0);
	}
	t_must(waitpid(pid, &st, 0) == pid, "waitpid");
	t_eq(st, way == KILLED ? SIGKILL : 0, "%s: the child's status", s_case);
}

/* The set tells of the connection and of the listener as before. */
static void kept(struct peer *p, int fd)
{
	struct epoll_event ev;
	struct s_addr a;
	int ep = epoll_create1(EPOLL_CLOEXEC), lfd = s_listen(AF_INET, &a), c;
	uint64_t pos = 0;

	add(ep, fd, EPOLLIN);
	add(ep, lfd, EPOLLIN);
	for (enum way way = CLOSES; way < WAYS; way++) {
		for (int twice = 0; twice < 2; twice++) {
			child(way, ep, fd, lfd);
			p_send(p, 1, pos, 100);
			t_must(epoll_wait(ep, &ev, 1, 3000) == 1 && ev.data.u64 == (uint64_t)fd,
			       "%s: nothing of the connection after a child's end of kind %d", s_case, way);
			t_must(s_recv_stream(fd, 1, pos, 100), "receive");
			t_must(s_send_stream(fd, 2, pos, 100), "send");
			t_eq(p_recv(p, 2, pos, 100), 100, "%s: back", s_case);
			pos += 100;
			c = s_connect(&a);
			t_must(epoll_wait(ep, &ev, 1, 3000) == 1 && ev.data.u64 == (uint64_t)lfd,
			       "%s: nothing of the listener after a child's end of kind %d", s_case, way);
			close(s_accept(lfd));
			close(c);
		}
	}
	p_shutdown(p, SHUT_WR);
	t_must(epoll_wait(ep, &ev, 1, 3000) == 1 && ev.data.u64 == (uint64_t)fd, "%s: no end", s_case);
	close(lfd);
	close(ep);
	close(fd);
}

int main(void)
{
	s_each(kept);
	return t_done();
}
