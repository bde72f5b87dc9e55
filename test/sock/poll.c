/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * poll.c - poll, ppoll, select, pselect: ready, not ready, woken, at the end, among other descriptors
 *
 * ring: yes
 */
#include <sys/select.h>
#include "sock.h"

enum { POLL, PPOLL, SELECT, PSELECT, NR_WAYS };

/* Wait for readability (POLLIN) or room (POLLOUT) by one of the calls; what is reported, 0 on timeout. */
static int wait_by(int way, int fd, short events, int ms)
{
	struct pollfd p[3] = { { .fd = -1, .events = POLLIN }, { .fd = fd, .events = events }, { .fd = -1 } };
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000l };
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };
	fd_set r, w;
	int n;

	FD_ZERO(&r);
	FD_ZERO(&w);
	if (events & POLLIN)
		FD_SET(fd, &r);
	if (events & POLLOUT)
		FD_SET(fd, &w);
	switch (way) {
	case POLL: n = poll(p, 3, ms); break;
	case PPOLL: n = ppoll(p, 3, ms < 0 ? NULL : &ts, NULL); break;
	case SELECT: n = select(fd + 1, &r, &w, NULL, ms < 0 ? NULL : &tv); break;
	default: n = pselect(fd + 1, &r, &w, NULL, ms < 0 ? NULL : &ts, NULL);
	}
	if (way <= PPOLL) {
		t_eq(n, p[1].revents != 0, "%s: count of way %d", s_case, way);
		return p[1].revents;
	}
	int got = (FD_ISSET(fd, &r) ? POLLIN : 0) | (FD_ISSET(fd, &w) ? POLLOUT : 0);
	if (n >= 0)
		t_eq(n, FD_ISSET(fd, &r) + FD_ISSET(fd, &w), "%s: count of way %d", s_case, way);
	return n > 0 ? got : 0;
}

static void waits(struct peer *p, int fd)
{
	uint64_t in = 0;
	char buf[100];

	for (int way = 0; way < NR_WAYS; way++) {
		double start = t_now();

		t_eq(wait_by(way, fd, POLLIN, 0), 0, "%s: way %d, nothing", s_case, way);
		t_eq(wait_by(way, fd, POLLIN, 20), 0, "%s: way %d, timeout", s_case, way);
		t_ok(t_now() - start >= 0.0199, "%s: way %d came back early", s_case, way);
		t_eq(wait_by(way, fd, POLLIN | POLLOUT, -1), POLLOUT, "%s: way %d, room", s_case, way);

		p_later(p, S_SEND_LATER, 15, 1, in, 10);
		t_eq(wait_by(way, fd, POLLIN, 5000), POLLIN, "%s: way %d, woken", s_case, way);
		t_eq(wait_by(way, fd, POLLIN, 0), POLLIN, "%s: way %d, still", s_case, way);
		t_eq(wait_by(way, fd, POLLIN | POLLOUT, -1), POLLIN | POLLOUT, "%s: way %d, both", s_case, way);
		t_must(s_recv_stream(fd, 1, in, 4), "part");
		t_eq(wait_by(way, fd, POLLIN, 0), POLLIN, "%s: way %d, rest", s_case, way);
		t_must(s_recv_stream(fd, 1, in + 4, 6), "rest");
		t_eq(wait_by(way, fd, POLLIN, 0), 0, "%s: way %d, taken", s_case, way);
		in += 10;
	}

	/* a pipe and a socket in one wait, each waking it */
	int pi[2];
	t_must(!pipe(pi), "pipe");
	struct pollfd two[2] = { { .fd = pi[0], .events = POLLIN }, { .fd = fd, .events = POLLIN } };
	t_eq(poll(two, 2, 10), 0, "%s: neither", s_case);
	t_must(write(pi[1], "x", 1) == 1, "pipe");
	t_eq(poll(two, 2, 5000), 1, "%s: the pipe", s_case);
	t_ok(two[0].revents == POLLIN && !two[1].revents, "%s: the pipe", s_case);
	p_later(p, S_SEND_LATER, 10, 1, in, 5);
	t_must(read(pi[0], buf, 1) == 1, "pipe");
	t_eq(poll(two, 2, 5000), 1, "%s: the socket", s_case);
	t_ok(two[1].revents == POLLIN && !two[0].revents, "%s: the socket", s_case);
	t_must(write(pi[1], "x", 1) == 1, "pipe");
	t_eq(poll(two, 2, 5000), 2, "%s: both", s_case);
	t_must(s_recv_stream(fd, 1, in, 5), "rest");
	in += 5;
	close(pi[0]);
	close(pi[1]);

	/* the same descriptor twice, asked for different things; one that is closed */
	struct pollfd same[3] = { { .fd = fd, .events = POLLIN }, { .fd = fd, .events = POLLOUT }, { .fd = pi[0], .events = POLLIN } };
	t_eq(poll(same, 3, 1000), 2, "%s: twice and a closed one", s_case);
	t_ok(!same[0].revents && same[1].revents == POLLOUT && same[2].revents == POLLNVAL, "%s: %x %x %x", s_case,
	     same[0].revents, same[1].revents, same[2].revents);

	/* EOF wakes */
	p_later(p, S_SHUTDOWN_LATER, 15, 0, 0, SHUT_WR);
	t_eq(wait_by(POLL, fd, POLLIN | POLLRDHUP, 5000), POLLIN | POLLRDHUP, "%s: EOF", s_case);
	t_eq(wait_by(SELECT, fd, POLLIN, 5000), POLLIN, "%s: EOF by select", s_case);
	t_eq(recv(fd, buf, 1, 0), 0, "%s: EOF", s_case);
	t_eq(wait_by(POLL, fd, POLLIN, 0), POLLIN, "%s: EOF stays", s_case);
	t_ok(!shutdown(fd, SHUT_WR), "shutdown");
	t_eq(p_recv(p, 1, 0, 1), 0, "%s: peer sees EOF", s_case);
	int hup = wait_by(POLL, fd, POLLIN | POLLOUT, 5000);
	t_ok(hup & POLLHUP && hup & POLLIN, "%s: both shut: %x", s_case, hup);
	close(fd);
}

int main(void)
{
	s_each(waits);
	return t_done();
}
