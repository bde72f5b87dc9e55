/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * connecting.c - who waits on a socket since before it was connected, by another thread, hears of what then comes
 *
 * ring: any
 */
#include <sys/epoll.h>
#include <sys/select.h>
#include "sock.h"

#define LIMIT_S 6		/* of a wait; the kernel's second try to connect comes after one second */

enum how { POLL, SELECT, EPOLL, RECV, HOWS };
static const char *const names[] = { "poll", "select", "epoll_wait", "recv" };

struct target {
	struct s_addr a;
	int fd;
};

struct waiter {
	enum how how;
	int fd;
	double took;
	bool heard;
};

static void *wait_for_byte(void *arg)
{
	struct waiter *w = arg;
	double begin = t_now();
	struct pollfd pfd = { .fd = w->fd, .events = POLLIN };
	struct epoll_event ev = { .events = EPOLLIN };
	struct timeval tv = { LIMIT_S, 0 };
	int ep = epoll_create1(EPOLL_CLOEXEC);
	fd_set r;
	char c;

	FD_ZERO(&r);
	FD_SET(w->fd, &r);
	t_must(ep >= 0 && !epoll_ctl(ep, EPOLL_CTL_ADD, w->fd, &ev), "set");
	switch (w->how) {
	case POLL: w->heard = poll(&pfd, 1, LIMIT_S * 1000) == 1; break;
	case SELECT: w->heard = select(w->fd + 1, &r, NULL, NULL, &tv) == 1; break;
	case EPOLL: w->heard = epoll_wait(ep, &ev, 1, LIMIT_S * 1000) == 1; break;
	default: w->heard = recv(w->fd, &c, 1, MSG_PEEK) == 1; break;
	}
	w->took = t_now() - begin;
	close(ep);
	return NULL;
}

static void *connect_to(void *arg)
{
	struct target *to = arg;

	t_ok(!connect(to->fd, (struct sockaddr *)&to->a.ss, to->a.len), "%s: connect", s_case);
	return NULL;
}

/* To a listener whose queue is full, so that the kernel has to try twice. */
static void one(enum how how)
{
	struct target to;
	struct waiter w = { .how = how };
	pthread_t waiter, connector;
	int lfd = s_listen(AF_INET, &to.a), first, theirs, ours;
	struct timeval limit = { LIMIT_S, 0 };

	snprintf(s_case, sizeof(s_case), "%s", names[how]);
	t_must(!listen(lfd, 0), "listen");
	first = s_connect(&to.a);
	to.fd = ours = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	w.fd = ours;
	t_must(!setsockopt(ours, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), "time limit");
	t_must(!pthread_create(&connector, NULL, connect_to, &to), "thread");
	usleep(100000);		/* it is to be under way; nothing depends on it */
	t_must(!pthread_create(&waiter, NULL, wait_for_byte, &w), "thread");
	usleep(100000);
	theirs = s_accept(lfd);		/* there is room in the queue, and a channel from here to here */
	for (uint64_t i = 0; i < 50; i++) {
		t_must(s_send_stream(first, 1, i, 1) && s_recv_stream(theirs, 1, i, 1), "first connection");
		t_must(s_send_stream(theirs, 2, i, 1) && s_recv_stream(first, 2, i, 1), "first connection");
		usleep(500);
	}
	close(first);
	close(theirs);
	theirs = s_accept(lfd);
	pthread_join(connector, NULL);
	t_must(s_send_stream(ours, 3, 0, 1) && s_recv_stream(theirs, 3, 0, 1), "%s: request", s_case);
	usleep(50000);
	t_must(s_send_stream(theirs, 4, 0, 1), "%s: answer", s_case);
	pthread_join(waiter, NULL);
	t_ok(w.heard && w.took < LIMIT_S - 1, "%s: heard %d after %.1f s", s_case, w.heard, w.took);
	t_ok(s_recv_stream(ours, 4, 0, 1), "%s: the byte", s_case);
	close(ours);
	close(theirs);
	close(lfd);
}

int main(void)
{
	for (enum how how = 0; how < HOWS; how++) {
#if defined(__SANITIZE_THREAD__)
		if (how == RECV)	/* a socket that is read while it is connected is a race to it */
			continue;
#endif
		one(how);
	}
	return t_done();
}
