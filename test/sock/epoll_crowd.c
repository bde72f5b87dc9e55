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

/* s_warm() for all of them at once. */
static void warm(void)
{
	double end = t_now() + 0.05;

	for (uint64_t n = 0; getenv("T_WARM") && (n < 10 || t_now() < end); n++) {
		for (int i = 0; i < CONNS; i++) {
			s_send_stream(theirs[i], 99, n, 1);
			t_must(s_recv_stream(ours[i], 99, n, 1), "warming up");
			s_send_stream(ours[i], 98, n, 1);
			t_must(s_recv_stream(theirs[i], 98, n, 1), "warming up");
		}
	}
}

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

	for (int i = 0; i < CONNS; i++) {
		int sv[2];

		s_pair(i & 1 ? AF_INET6 : AF_INET, sv);
		ours[i] = sv[i >> 1 & 1];
		theirs[i] = sv[!(i >> 1 & 1)];
	}
	warm();
	for (uint32_t i = 0; i < CONNS; i++)
		t_must(!epoll_ctl(ep, EPOLL_CTL_ADD, ours[i], &(struct epoll_event){ EPOLLIN, { .u32 = i } }), "epoll_ctl");
	read_bits(ep, CONNS, 1);
	read_bits(ep, 90, 2);
	read_bits(ep, 7, 3);
	read_bits(ep, CONNS, 4);
	return t_done();
}
