/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * epoll.c - level, edge and oneshot; modify and delete; pipes in the same set
 *
 * ring: yes
 */
#include <sys/epoll.h>
#include "sock.h"

static struct epoll_event got[8];

static int wait_events(int ep, int ms)
{
	memset(got, 0, sizeof(got));
	return epoll_wait(ep, got, 8, ms);
}

static void ctl(int ep, int op, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };

	t_ok(!epoll_ctl(ep, op, fd, &ev), "%s: epoll_ctl %d", s_case, op);
}

static void level(struct peer *p, int fd)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), pi[2];

	ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN, 0x1122334455667788);
	t_ok(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &(struct epoll_event){ .events = EPOLLIN }) == -1 && errno == EEXIST, "added twice");
	t_eq(wait_events(ep, 0), 0, "%s: nothing", s_case);
	t_eq(wait_events(ep, 10), 0, "%s: timeout", s_case);
	p_later(p, S_SEND_LATER, 10, 1, 0, 100);
	for (int i = 0; i < 3; i++) {
		t_eq(wait_events(ep, 5000), 1, "%s: level %d", s_case, i);
		t_ok(got[0].events == EPOLLIN && got[0].data.u64 == 0x1122334455667788, "%s: event %x", s_case, got[0].events);
	}
	t_must(s_recv_stream(fd, 1, 0, 99), "most");
	t_eq(wait_events(ep, 0), 1, "%s: one byte left", s_case);
	t_must(s_recv_stream(fd, 1, 99, 1), "all");
	t_eq(wait_events(ep, 0), 0, "%s: taken", s_case);

	ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT, 7);
	t_eq(wait_events(ep, 1000), 1, "%s: room", s_case);
	t_ok(got[0].events == EPOLLOUT && got[0].data.u64 == 7, "%s: modified: %x", s_case, got[0].events);

	/* among pipes */
	t_must(!pipe(pi), "pipe");
	ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN, 7);
	ctl(ep, EPOLL_CTL_ADD, pi[0], EPOLLIN, 8);
	t_eq(wait_events(ep, 0), 0, "%s: neither", s_case);
	t_must(write(pi[1], "x", 1) == 1, "pipe");
	t_eq(wait_events(ep, 5000), 1, "%s: pipe", s_case);
	t_eq(got[0].data.u64, 8, "%s: pipe", s_case);
	p_send(p, 1, 100, 3);
	t_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 5000), 1, "%s: there", s_case);
	/* both are there; that one call shows both is nobody's promise */
	uint64_t seen = 0;
	for (int i = 0; i < 100000 && seen != 3; i++)
		for (int k = wait_events(ep, 5000); k-- > 0;)
			seen |= got[k].data.u64 == 7 ? 1 : got[k].data.u64 == 8 ? 2 : 4;
	t_eq(seen, 3, "%s: both", s_case);
	t_eq(epoll_wait(ep, got, 1, 0), 1, "%s: one at a time", s_case);
	ctl(ep, EPOLL_CTL_DEL, fd, 0, 0);
	t_eq(wait_events(ep, 0), 1, "%s: deleted", s_case);
	t_eq(got[0].data.u64, 8, "%s: the pipe is left", s_case);
	t_ok(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL) == -1 && errno == ENOENT, "deleted twice");
	t_ok(epoll_ctl(ep, EPOLL_CTL_MOD, fd, got) == -1 && errno == ENOENT, "modified after deletion");
	close(pi[0]);
	close(pi[1]);
	t_must(s_recv_stream(fd, 1, 100, 3), "rest");

	/* registered when it is ready already; end of stream */
	p_send(p, 1, 103, 1);
	t_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 5000), 1, "%s: there", s_case);
	ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP, 9);
	t_eq(wait_events(ep, 1000), 1, "%s: added ready", s_case);
	t_eq(got[0].events, EPOLLIN, "%s: added ready", s_case);
	t_must(s_recv_stream(fd, 1, 103, 1), "rest");
	p_later(p, S_SHUTDOWN_LATER, 10, 0, 0, SHUT_WR);
	t_eq(wait_events(ep, 5000), 1, "%s: EOF", s_case);
	t_eq(got[0].events, EPOLLIN | EPOLLRDHUP, "%s: EOF", s_case);

	/* closing takes it out of the set */
	close(fd);
	t_eq(wait_events(ep, 0), 0, "%s: closed", s_case);
	close(ep);
}

static void edge(struct peer *p, int fd)
{
	int ep = epoll_create1(0), others = 0;
	char buf[100];

	s_nonblock(fd, true);
	ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLET, 1);
	t_eq(wait_events(ep, 1000), 1, "%s: first edge", s_case);
	t_eq(got[0].events, EPOLLOUT, "%s: first edge", s_case);
	t_eq(wait_events(ep, 0), 0, "%s: once", s_case);
	for (unsigned int i = 0; i < 20; i++) {
		p_later(p, S_SEND_LATER, i % 3, 1, i * 10, 10);
		/* an edge of room may come between, as it may on TCP; never without end */
		do
			t_eq(wait_events(ep, 5000), 1, "%s: edge %u", s_case, i);
		while (got[0].events == EPOLLOUT && ++others < 10);
		t_must(got[0].events & EPOLLIN, "%s: edge %u is %x", s_case, i, got[0].events);
		if (i % 2) {
			/* what stays unread makes no edge of its own, the next arrival does */
			t_must(s_recv_stream(fd, 1, (i - 1) * 10, 20), "two");
			t_ok(read(fd, buf, 1) == -1 && errno == EAGAIN, "%s: drained", s_case);
		}
	}
	p_later(p, S_SHUTDOWN_LATER, 5, 0, 0, SHUT_WR);
	do
		t_eq(wait_events(ep, 5000), 1, "%s: EOF edge", s_case);
	while (got[0].events == EPOLLOUT && ++others < 10);
	t_eq(read(fd, buf, 1), 0, "%s: EOF", s_case);
	close(fd);
	close(ep);
}

static void edge_room(struct peer *p, int fd)
{
	int ep = epoll_create1(0);
	uint64_t out = 0, taken = 0;
	char buf[16384];
	ssize_t n;

	s_nonblock(fd, true);
	ctl(ep, EPOLL_CTL_ADD, fd, EPOLLOUT | EPOLLET, 1);
	t_eq(wait_events(ep, 1000), 1, "%s: first edge", s_case);
	for (;;) {
		t_fill(buf, sizeof(buf), 1, out);
		n = write(fd, buf, sizeof(buf));
		if (n < 0)
			break;
		out += (uint64_t)n;
	}
	t_ok(errno == EAGAIN, "%s: full", s_case);
	while (wait_events(ep, 20) == 1)
		;	/* kernel TCP gives spurious edges while it moves segments on */
	while (taken < out) {
		uint64_t part = out - taken < 1 << 20 ? out - taken : 1 << 20;

		t_must(p_recv(p, 1, taken, part) == (int64_t)part, "%s: peer takes", s_case);
		taken += part;
	}
	t_eq(wait_events(ep, 5000), 1, "%s: edge of room", s_case);
	t_eq(got[0].events, EPOLLOUT, "%s: edge of room", s_case);
	close(fd);
	close(ep);
}

static void oneshot(struct peer *p, int fd)
{
	int ep = epoll_create1(0);

	ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT, 1);
	p_send(p, 1, 0, 10);
	t_eq(wait_events(ep, 5000), 1, "%s: oneshot", s_case);
	t_eq(wait_events(ep, 5), 0, "%s: once only", s_case);
	t_must(s_recv_stream(fd, 1, 0, 5), "half");
	p_send(p, 1, 10, 10);
	t_eq(wait_events(ep, 5), 0, "%s: still disabled", s_case);
	ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, 2);
	t_eq(wait_events(ep, 5000), 1, "%s: armed again", s_case);
	t_eq(got[0].data.u64, 2, "%s: armed again", s_case);
	t_must(s_recv_stream(fd, 1, 5, 15), "rest");
	ctl(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, 3);
	t_eq(wait_events(ep, 5), 0, "%s: nothing", s_case);
	p_later(p, S_SEND_LATER, 10, 1, 20, 10);
	t_eq(wait_events(ep, 5000), 1, "%s: woken", s_case);
	t_eq(epoll_pwait(ep, got, 8, 5, NULL), 0, "%s: disabled again", s_case);
	t_must(s_recv_stream(fd, 1, 20, 10), "rest");
	close(fd);
	close(ep);
}

int main(void)
{
	s_each(level);
	s_each(edge);
	s_each(edge_room);
	s_each(oneshot);
	return t_done();
}
