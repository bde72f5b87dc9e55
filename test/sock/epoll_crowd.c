/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * epoll_crowd.c - many connections in one set, all readable, each read in small bits: level-triggered, none is forgotten
 *
 * ring: yes
 */
#include <sys/epoll.h>
#include "sock.h"

#define CONNS 200
#define BYTES 1000
#define BIT 100

static int ours[CONNS], theirs[CONNS];

/* All that was sent comes, with room for @max events a turn. */
static void read_bits(int ep, int max, uint64_t stream)
{
	struct epoll_event ev[CONNS];
	size_t left = CONNS * BYTES, pos[CONNS] = { 0 };

	for (int i = 0; i < CONNS; i++)
		s_send_stream(theirs[i], stream, 0, BYTES);
	while (left) {
		/* everything is there: a set that says nothing has forgotten somebody */
		int n = epoll_wait(ep, ev, max, 3000);

		t_must(n > 0, "%d events a turn: epoll_wait says %d with %zu bytes unread", max, n, left);
		for (int k = 0; k < n; k++) {
			uint32_t i = ev[k].data.u32;

			t_eq(ev[k].events, EPOLLIN, "connection %u", i);
			t_must(s_recv_stream(ours[i], stream, pos[i], BIT), "connection %u", i);
			pos[i] += BIT;
			left -= BIT;
		}
	}
	t_eq(epoll_wait(ep, ev, max, 0), 0, "nothing is left");
}

int main(void)
{
	int ep = epoll_create1(EPOLL_CLOEXEC);

	s_crowd(ours, theirs, CONNS);
	for (uint32_t i = 0; i < CONNS; i++)
		t_must(!epoll_ctl(ep, EPOLL_CTL_ADD, ours[i], &(struct epoll_event){ EPOLLIN, { .u32 = i } }), "epoll_ctl");
	read_bits(ep, CONNS, 1);
	read_bits(ep, 90, 2);
	read_bits(ep, 7, 3);
	read_bits(ep, CONNS, 4);
	return t_done();
}
