/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * oob.c - urgent data in the middle of a stream: only TCP has it, and the stream around it stays whole
 *
 * ring: yes
 */
#include <sys/ioctl.h>
#include "sock.h"

static void urgent(struct peer *p, int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLPRI };
	char c = 0;

	/* ordinary traffic both ways, unread bytes among it */
	t_must(s_send_stream(fd, 1, 0, 5000), "before");
	t_eq(p_recv(p, 1, 0, 5000), 5000, "%s: before", s_case);
	p_send(p, 2, 0, 5000);
	t_must(s_recv_stream(fd, 2, 0, 4000), "before");

	/* ours, seen at the other end if that is here */
	t_eq(send(fd, "!", 1, MSG_OOB), 1, "%s: MSG_OOB", s_case);
	if (!p->pid) {
		pfd.fd = p->fd;
		t_eq(poll(&pfd, 1, 5000), 1, "%s: POLLPRI", s_case);
		t_ok(pfd.revents & POLLPRI, "%s: POLLPRI", s_case);
		t_eq(recv(p->fd, &c, 1, MSG_OOB), 1, "%s: urgent byte", s_case);
		t_eq(c, '!', "%s: urgent byte", s_case);
		t_ok(recv(p->fd, &c, 1, MSG_OOB) == -1 && errno == EINVAL, "%s: once", s_case);
	}
	t_must(s_send_stream(fd, 1, 5000, 5000), "after");
	t_eq(p_recv(p, 1, 5000, 5000), 5000, "%s: after", s_case);
	/* the other direction goes on as it was */
	t_must(s_recv_stream(fd, 2, 4000, 1000), "the rest");
	p_send(p, 2, 5000, 5000);
	t_must(s_recv_stream(fd, 2, 5000, 5000), "other direction");
	t_ok(recv(fd, &c, 1, MSG_OOB) == -1 && errno == EINVAL, "%s: no urgent byte here", s_case);
	if (!p->pid) {		/* behind unread bytes */
		t_must(s_send_stream(p->fd, 2, 10000, 1000), "unread");
		t_eq(send(p->fd, "!", 1, MSG_OOB), 1, "%s: MSG_OOB", s_case);
		pfd.fd = fd;
		t_eq(poll(&pfd, 1, 5000), 1, "%s: POLLPRI", s_case);
		t_eq(sockatmark(fd), 0, "%s: the mark is behind unread bytes", s_case);
		t_must(s_recv_stream(fd, 2, 10000, 1000), "to the mark");
		t_eq(sockatmark(fd), 1, "%s: at the mark", s_case);
		t_must(s_send_stream(p->fd, 2, 11000, 100) && s_recv_stream(fd, 2, 11000, 100), "%s: beyond the mark", s_case);
		t_eq(sockatmark(fd), 0, "%s: beyond the mark", s_case);
	}
	close(fd);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s: EOF", s_case);
}

int main(void)
{
	s_each(urgent);
	return t_done();
}
