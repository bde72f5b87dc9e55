/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * deadlock.c - programs that write before they read rely on what the kernel buffers: 3 MiB both ways must fit,
 * before anybody has read a byte, in non-blocking turns
 *
 * ring: yes
 */
#include "sock.h"

#define TOTAL (3u << 20)

static void write_first(struct peer *p, int fd)
{
	static char buf[65536];
	uint64_t a = 0, b = 0;
	double end = t_now() + 5;

	if (p->pid) {
		/* the peer blocks in its send until we read, and we do not read until we have sent */
		s_order(p, (struct s_msg){ .order = S_SEND, .stream = 2, .len = TOTAL });
		s_order(p, (struct s_msg){ .order = S_RECV, .stream = 1, .len = TOTAL });
	}
	s_nonblock(fd, true);
	if (!p->pid)
		s_nonblock(p->fd, true);
	while (a < TOTAL || (!p->pid && b < TOTAL)) {
		size_t n = TOTAL - a < sizeof(buf) ? TOTAL - a : sizeof(buf);
		ssize_t ret;

		t_must(t_now() < end, "%s: stuck at %llu and %llu of %u bytes", s_case, (unsigned long long)a,
		       (unsigned long long)b, TOTAL);
		t_fill(buf, n, 1, a);
		ret = send(fd, buf, n, 0);
		t_must(ret >= 0 || errno == EAGAIN, "send");
		if (ret > 0)
			a += (uint64_t)ret;
		if (!p->pid && b < TOTAL) {
			n = TOTAL - b < sizeof(buf) ? TOTAL - b : sizeof(buf);
			t_fill(buf, n, 2, b);
			ret = send(p->fd, buf, n, 0);
			t_must(ret >= 0 || errno == EAGAIN, "send");
			if (ret > 0)
				b += (uint64_t)ret;
		}
		if (ret < 0)
			poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, 10);
	}
	s_recv_stream(fd, 2, 0, TOTAL);
	if (p->pid) {
		t_eq(s_answer(p), TOTAL, "%s: sent", s_case);
		t_eq(s_answer(p), TOTAL, "%s: received", s_case);
	} else {
		t_eq(p_recv(p, 1, 0, TOTAL), TOTAL, "%s: received", s_case);
	}
	close(fd);
}

int main(void)
{
	s_each(write_first);
	return t_done();
}
