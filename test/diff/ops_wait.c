// SPDX-License-Identifier: BSD-2-Clause
/*
 * ops_wait.c - operations that wait: poll, select, epoll
 */
#include "ops.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/select.h>

void do_poll(const struct order *o, struct answer *a, int fd, int fd2)
{
	const struct op *op = &o->op;
	struct timespec ts = { op->b / 1000, op->b % 1000 * 1000000l };
	struct pollfd p[2] = { { fd, op->a, 0x7fff }, { fd2, op->a, 0x7fff } };
	sigset_t none;

	sigemptyset(&none);
	if (op->call == C_ppoll)
		a->ret = ppoll(p, 1, op->b < 0 ? NULL : &ts, &none);
	else
		a->ret = poll(p, op->call == C_poll2 ? 2 : 1, op->b);
	if (a->ret < 0)
		return;
	a->v[a->nr++] = p[0].revents;
	if (op->call == C_poll2)
		a->v[a->nr++] = p[1].revents;
}

void do_select(const struct order *o, struct answer *a, int fd)
{
	const struct op *op = &o->op;
	struct timespec ts = { op->b / 1000, op->b % 1000 * 1000000l };
	struct timeval tv = { op->b / 1000, op->b % 1000 * 1000l };
	fd_set set[3];

	if (fd < 0 || fd >= FD_SETSIZE) {
		a->ret = -1;
		errno = EBADF;
		return;
	}
	for (int i = 0; i < 3; i++) {
		FD_ZERO(&set[i]);
		if (op->a & 1 << i)
			FD_SET(fd, &set[i]);
	}
	if (op->call == C_pselect)
		a->ret = pselect(fd + 1, &set[0], &set[1], &set[2], op->b < 0 ? NULL : &ts, NULL);
	else
		a->ret = select(fd + 1, &set[0], &set[1], &set[2], op->b < 0 ? NULL : &tv);
	if (a->ret >= 0)
		a->v[a->nr++] = (FD_ISSET(fd, &set[0]) ? 1 : 0) | (FD_ISSET(fd, &set[1]) ? 2 : 0) | (FD_ISSET(fd, &set[2]) ? 4 : 0);
}

static int by_value(const void *x, const void *y)
{
	int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;

	return a < b ? -1 : a > b;
}

void sort_values(struct answer *a)
{
	qsort(a->v, a->nr, sizeof(a->v[0]), by_value);
}

void do_epoll_wait(const struct order *o, struct answer *a, int fd)
{
	struct epoll_event ev[VALUES];

	a->ret = epoll_wait(fd, ev, o->op.a < VALUES ? o->op.a : VALUES, o->op.b);
	for (int i = 0; i < a->ret; i++)
		a->v[a->nr++] = (int64_t)ev[i].data.u64 << 32 | ev[i].events;
	sort_values(a);
}
