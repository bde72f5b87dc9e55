/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bell.c - who shares a bell fills it and makes it a blocking one: ringing it neither waits nor fails to wake
 *
 * links: driver-glue/port.c
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "port.h"
#include "t.h"

static int bell, watcher;

static bool edge(void)
{
	struct epoll_event ev;

	return epoll_wait(watcher, &ev, 1, 0) == 1;
}

static void rings(const char *when, int times)
{
	int woken = 0;

	while (edge())
		;
	for (int i = 0; i < times; i++) {
		ntbs_bell_ring(bell);
		woken += edge();
	}
	t_ok(woken == times, "%s: %d of %d rings have woken", when, woken, times);
}

static void fill(void)
{
	uint64_t n = UINT64_MAX - 1;

	t_must(read(bell, &n, 8) == 8, "empty it");
	n = UINT64_MAX - 1;
	t_must(write(bell, &n, 8) == 8, "fill it");
}

int main(void)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	pid_t pid;

	alarm(10);
	bell = eventfd(0, EFD_NONBLOCK);
	watcher = epoll_create1(0);
	t_must(!epoll_ctl(watcher, EPOLL_CTL_ADD, bell, &ev), "watch it");
	rings("as it is", 100);
	t_ok(poll(&(struct pollfd){ .fd = bell, .events = POLLOUT }, 1, 0) == 1, "far from full");
	pid = t_fork();
	if (!pid) {			/* in a process that has not seen it full */
		alarm(10);
		ntbs_bell_wary = true;
		fill();
		t_must(!fcntl(bell, F_SETFL, 0), "blocking");
		rings("full and blocking", 300);
		t_child_exit();
	}
	t_reap(pid);
	t_must(!fcntl(bell, F_SETFL, O_NONBLOCK), "as it was");
	fill();
	rings("full", 300);
	t_must(!fcntl(bell, F_SETFL, 0), "blocking");
	rings("full, then blocking", 300);
	pid = t_fork();
	if (!pid) {
		alarm(10);
		ntbs_bell_fork_child();
		rings("in a child", 300);
		t_child_exit();
	}
	t_reap(pid);
	return t_done();
}
