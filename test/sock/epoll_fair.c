/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * epoll_fair.c - room for few events, and more members ready than that, all the time: each has its turn
 *
 * As in the kernel, which puts a level-triggered member that it has told of behind the others.  Members of each kind:
 * many on the ring, one that only the kernel knows, a set.
 *
 * ring: yes
 */
#include <sys/epoll.h>
#include "sock.h"

#define CONNS 80
#define PIPE CONNS
#define SET (CONNS + 1)
#define MEMBERS (CONNS + 2)

static int ours[CONNS], theirs[CONNS];

static void add(int ep, int fd, uint32_t member)
{
	t_must(!epoll_ctl(ep, EPOLL_CTL_ADD, fd, &(struct epoll_event){ EPOLLIN, { .u32 = member } }), "epoll_ctl");
}

/* Nothing is read: what is ready stays so. */
static void each_has_its_turn(int ep, int max, int members)
{
	struct epoll_event ev[MEMBERS];
	int turns[MEMBERS] = { 0 }, left = members;
	double end = t_now() + 10;

	while (left && t_now() < end) {
		int n = epoll_wait(ep, ev, max, 0);

		t_must(n > 0 && n <= max, "%d events a turn: epoll_wait says %d", max, n);
		for (int i = 0; i < n; i++) {
			t_must(ev[i].data.u32 < MEMBERS, "member %u", ev[i].data.u32);
			left -= !turns[ev[i].data.u32]++;
		}
	}
	t_eq(left, 0, "%d events a turn: members of %d that had no turn", max, members);
}

int main(void)
{
	int few = epoll_create1(EPOLL_CLOEXEC), many = epoll_create1(EPOLL_CLOEXEC), inner = epoll_create1(EPOLL_CLOEXEC), p[2];

	t_must(few >= 0 && many >= 0 && inner >= 0 && !pipe(p) && write(p[1], "x", 1) == 1, "sets and a pipe");
	s_crowd(ours, theirs, CONNS);
	for (int i = 0; i < CONNS; i++) {
		add(many, ours[i], i);
		s_send_stream(theirs[i], 1, 0, 10);
	}
	add(few, ours[0], 0);
	add(few, ours[1], 1);
	each_has_its_turn(few, 1, 2);
	add(few, p[0], PIPE);
	each_has_its_turn(few, 1, 3);
	each_has_its_turn(few, 2, 3);
	add(inner, ours[2], 0);
	add(few, inner, SET);
	each_has_its_turn(few, 1, 4);
	each_has_its_turn(many, 1, CONNS);
	add(many, p[0], PIPE);
	add(many, inner, SET);
	each_has_its_turn(many, 1, MEMBERS);
	each_has_its_turn(many, 7, MEMBERS);
	return t_done();
}
