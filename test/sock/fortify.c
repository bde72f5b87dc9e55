/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fortify.c - a program built with _FORTIFY_SOURCE calls other names: __read_chk, __recv_chk, __poll_chk ...
 *
 * ring: yes
 */
#undef _FORTIFY_SOURCE
#define _FORTIFY_SOURCE 2
#include "sock.h"

static void checked(struct peer *p, int fd)
{
	/* a length the compiler cannot know, into a buffer whose size it does */
	volatile size_t len = 100;
	volatile nfds_t one = 1;
	struct pollfd pfd[1] = { { .fd = fd, .events = POLLIN } };
	struct timespec ts = { 5, 0 };
	char buf[128];
	uint64_t pos = 0;

	for (int i = 0; i < 6; i++) {
		ssize_t n;

		p_send(p, 1, pos, 100);
		t_eq(i & 1 ? poll(pfd, one, 5000) : ppoll(pfd, one, &ts, NULL), 1, "%s: call %d", s_case, i);
		switch (i % 3) {
		case 0: n = read(fd, buf, len); break;
		case 1: n = recv(fd, buf, len, 0); break;
		default: n = recvfrom(fd, buf, len, 0, NULL, NULL);
		}
		t_eq(n, 100, "%s: call %d", s_case, i);
		t_eq(t_wrong(buf, 100, 1, pos), -1, "%s: call %d", s_case, i);
		pos += 100;
	}
	if (!p->pid) {		/* dprintf() comes in its place between other bytes */
		t_must(s_send_stream(fd, 2, 0, 50), "before");
		t_eq(dprintf(fd, "%s %d", "printed", (int)len), 11, "%s: dprintf", s_case);
		t_must(s_send_stream(fd, 2, 50, 50), "after");
		t_must(s_recv_stream(p->fd, 2, 0, 50), "before");
		t_must(s_recv_all(p->fd, buf, 11) == 11 && !memcmp(buf, "printed 100", 11), "%s: printed", s_case);
		t_must(s_recv_stream(p->fd, 2, 50, 50), "after");
	}
	close(fd);
}

int main(void)
{
	s_each(checked);
	return t_done();
}
