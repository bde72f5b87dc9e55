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
	close(fd);
}

int main(void)
{
	s_each(checked);
	return t_done();
}
