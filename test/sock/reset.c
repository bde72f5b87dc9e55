/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reset.c - a connection that ends badly: unread bytes, linger 0, writes to one that is gone, refusal
 *
 * ring: yes
 */
#include "sock.h"

static int so_error(int fd)
{
	int err = -1;
	socklen_t len = sizeof(err);

	t_ok(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len), "SO_ERROR");
	return err;
}

/* The peer closes with bytes of ours unread: a reset, also while bytes of its own were on the way. */
static void unread(struct peer *p, int fd)
{
	char c;
	ssize_t n;

	t_must(s_send_stream(fd, 1, 0, 5000), "send");
	t_eq(p_recv(p, 1, 0, 1000), 1000, "%s: a part", s_case);
	p_close(p);
	n = recv(fd, &c, 1, 0);
	t_ok(n == -1 && errno == ECONNRESET, "%s: recv gives %zd", s_case, n);
	t_eq(recv(fd, &c, 1, 0), 0, "%s: said once, then EOF", s_case);
	t_ok(send(fd, &c, 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "%s: EPIPE after it", s_case);
	close(fd);
}

static void linger0(struct peer *p, int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	char c;

	p_linger0(p);
	p_close(p);
	t_eq(poll(&pfd, 1, 5000), 1, "%s: woken", s_case);
	t_ok(pfd.revents & POLLERR && pfd.revents & POLLHUP && pfd.revents & POLLIN, "%s: revents %x", s_case, pfd.revents);
	t_eq(so_error(fd), ECONNRESET, "%s: SO_ERROR", s_case);
	t_eq(so_error(fd), 0, "%s: SO_ERROR once", s_case);
	t_eq(recv(fd, &c, 1, 0), 0, "%s: EOF after it", s_case);
	close(fd);
}

/* The peer closes cleanly and we go on writing: the first bytes are taken, then it is an error. */
static void write_on(struct peer *p, int fd)
{
	double end = t_now() + 5;
	ssize_t n;
	char c = 1;

	p_close(p);
	t_eq(recv(fd, &c, 1, 0), 0, "%s: EOF", s_case);
	do
		n = send(fd, &c, 1, MSG_NOSIGNAL);
	while (n == 1 && t_now() < end && !usleep(200));
	t_ok(n == -1 && (errno == EPIPE || errno == ECONNRESET), "%s: send gives %zd", s_case, n);
	close(fd);
}

/* A reset wakes a reader that sleeps. */
static void wakes(struct peer *p, int fd)
{
	char c;
	ssize_t n;

	p_linger0(p);
	p_later(p, S_CLOSE_LATER, 15, 0, 0, 0);
	n = recv(fd, &c, 1, 0);
	t_ok(n == -1 && errno == ECONNRESET, "%s: recv gives %zd", s_case, n);
	close(fd);
}

int main(void)
{
	struct s_addr a;
	int fd;

	s_each(unread);
	s_each(linger0);
	s_each(write_on);
	s_each(wakes);

	/* nobody listens */
	for (int nb = 0; nb < 2; nb++) {
		close(s_listen(AF_INET, &a));
		fd = socket(AF_INET, SOCK_STREAM | (nb ? SOCK_NONBLOCK : 0), 0);
		int ret = connect(fd, (struct sockaddr *)&a.ss, a.len);
		if (nb && ret && errno == EINPROGRESS) {
			struct pollfd pfd = { .fd = fd, .events = POLLOUT };

			t_eq(poll(&pfd, 1, 5000), 1, "refused");
			t_ok(pfd.revents & POLLERR, "refused: %x", pfd.revents);
			t_eq(so_error(fd), ECONNREFUSED, "refused");
		} else {
			t_ok(ret == -1 && errno == ECONNREFUSED, "refused");
		}
		close(fd);
	}
	return t_done();
}
