/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dup.c - dup, dup2, dup3, F_DUPFD, close_range, closefrom: the connection lives as long as one descriptor
 *
 * ring: yes
 */
#include "sock.h"

static uint64_t in, out;

static void works(struct peer *p, int fd, const char *what)
{
	t_must(s_send_stream(fd, 1, out, 500), "%s", what);
	t_eq(p_recv(p, 1, out, 500), 500, "%s: %s", s_case, what);
	out += 500;
	p_send(p, 2, in, 500);
	t_must(s_recv_stream(fd, 2, in, 500), "%s", what);
	in += 500;
}

static void dups(struct peer *p, int fd)
{
	int a, b, c, un = socket(AF_INET, SOCK_STREAM, 0);
	char ch;

	in = out = 0;
	a = dup(fd);
	t_must(a >= 0 && a != fd, "dup");
	works(p, fd, "first");
	works(p, a, "dup");
	/* flags of the description are shared */
	s_nonblock(a, true);
	t_ok(fcntl(fd, F_GETFL) & O_NONBLOCK, "%s: O_NONBLOCK shared", s_case);
	t_ok(recv(fd, &ch, 1, 0) == -1 && errno == EAGAIN, "%s: does not block", s_case);
	s_nonblock(fd, false);
	close(fd);
	works(p, a, "after close of the first");
	/* the library may just have got a descriptor of its own there, which it is about to move */
	t_ok(recv(fd, &ch, 1, MSG_DONTWAIT) == -1 && (errno == EBADF || errno == ENOTSOCK), "%s: closed", s_case);

	/* over a socket that was something else */
	b = dup2(a, un);
	t_eq(b, un, "dup2");
	works(p, b, "dup2");
	t_eq(dup2(b, b), b, "dup2 to itself");
	works(p, b, "dup2 to itself");
	close(a);
	works(p, b, "only dup2 is left");
	c = fcntl(b, F_DUPFD_CLOEXEC, 200);
	t_must(c >= 200 && fcntl(c, F_GETFD) & FD_CLOEXEC, "F_DUPFD_CLOEXEC");
	close(b);
	works(p, c, "F_DUPFD_CLOEXEC");
	a = dup3(c, 150, O_CLOEXEC);
	t_eq(a, 150, "dup3");
	t_ok(dup3(c, c, 0) == -1 && errno == EINVAL, "dup3 to itself");
	t_ok(!close_range(190, 250, 0), "close_range");
	works(p, a, "after close_range of the other");
	t_ok(fcntl(c, F_GETFD) == -1 && errno == EBADF, "%s: close_range closed it", s_case);
	/* a file takes the place of a dup */
	b = dup(a);
	c = open("/dev/null", O_RDWR);
	t_eq(dup2(c, b), b, "dup2 over a dup");
	t_eq(write(b, "x", 1), 1, "%s: /dev/null now", s_case);
	t_eq(read(b, &ch, 1), 0, "%s: /dev/null now", s_case);
	works(p, a, "the last");
	close(b);
	close(c);
	/* with the last one the peer gets EOF */
	t_must(p->pid == 0 || p->ctl < 150, "numbers of the test");
	if (p->pid)
		closefrom(150);
	else
		close(a);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s: EOF", s_case);
}

/* A number that is reused belongs to the new one. */
static void reuse(struct peer *p, int fd)
{
	int sv[2], n;
	char c;

	close(fd);
	t_must(!socketpair(AF_UNIX, SOCK_STREAM, 0, sv), "socketpair");
	if (sv[0] != fd && sv[1] != fd) {
		t_must(dup2(sv[0], fd) == fd, "dup2");
		close(sv[0]);
		sv[0] = fd;
	}
	t_eq(write(sv[0], "a", 1), 1, "write");
	t_eq(read(sv[1], &c, 1), 1, "read");
	t_eq(send(sv[1], "b", 1, 0), 1, "send");
	t_eq(recv(sv[0], &c, 1, 0), 1, "recv");
	t_eq(c, 'b', "byte");
	close(sv[0]);
	close(sv[1]);
	n = open("/dev/zero", O_RDONLY);
	t_ok(n >= 0, "%s: reused again", s_case);
	t_eq(read(n, &c, 1), 1, "file");
	close(n);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s: EOF", s_case);
}

int main(void)
{
	s_each(dups);
	s_each(reuse);
	return t_done();
}
