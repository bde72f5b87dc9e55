/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * user_timeout.c - TCP_USER_TIMEOUT ends the connection of a sender whose peer does not read, however it waits
 *
 * ring: yes
 * limit: 60
 */
#include <sys/epoll.h>
#include "sock.h"

#define LONG_MS 10000		/* fails the test, and ends no wait of one that passes */

static char block[65536];

static void set_timeout(int fd, int ms)
{
	t_must(!setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms)), "TCP_USER_TIMEOUT");
}

static int error_of(int fd)
{
	int err = -1;

	t_ok(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &(socklen_t){ sizeof(err) }), "SO_ERROR");
	return err;
}

static void blocked(int fd)
{
	ssize_t n;

	do
		n = send(fd, block, sizeof(block), MSG_NOSIGNAL);
	while (n > 0);
	t_ok(n == -1 && errno == ETIMEDOUT, "%s: send gives %zd, %s", s_case, n, strerror(errno));
}

/* Asks for room before each send, so that none ever finds that there is none. */
static void polls_first(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };

	for (;;) {
		t_must(poll(&pfd, 1, LONG_MS) == 1, "%s: neither room nor an end", s_case);
		if (pfd.revents != POLLOUT)
			break;
		t_must(send(fd, block, sizeof(block), MSG_DONTWAIT | MSG_NOSIGNAL) > 0, "%s: room that is none", s_case);
	}
	t_ok(pfd.revents & POLLERR, "%s: poll says %#x", s_case, pfd.revents);
	t_eq(error_of(fd), ETIMEDOUT, "%s: SO_ERROR", s_case);
}

static void fill(int fd)
{
	ssize_t n;

	do
		n = send(fd, block, sizeof(block), MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n > 0);
	t_must(n == -1 && (errno == EAGAIN || errno == ETIMEDOUT), "%s: send gives %zd, %s", s_case, n, strerror(errno));
}

static void waits_in_set(int fd, uint32_t edge)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | edge };
	int ep = epoll_create1(EPOLL_CLOEXEC);

	t_must(ep >= 0 && !epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), "epoll");
	do {
		t_must(epoll_wait(ep, &ev, 1, LONG_MS) == 1, "%s: neither room nor an end", s_case);
		if (!(ev.events & EPOLLERR))
			fill(fd);
	} while (!(ev.events & EPOLLERR));
	t_eq(error_of(fd), ETIMEDOUT, "%s: SO_ERROR", s_case);
	close(ep);
}

static void nobody_reads(struct peer *p, int fd)
{
	static int turn;

	set_timeout(fd, 200);
	switch (turn++ % 4) {
	case 0:
		blocked(fd);
		break;
	case 1:
		polls_first(fd);
		break;
	case 2:
		waits_in_set(fd, 0);
		break;
	case 3:
		waits_in_set(fd, EPOLLET);
		break;
	}
	close(fd);
}

static void *sends(void *arg)
{
	blocked(*(int *)arg);
	return NULL;
}

/* Accepted sockets have the listener's; it is also heeded by a send that waits already when it is set, or is about to. */
static void inherited_and_late(void)
{
	for (int late = 0; late < 3; late++) {
		struct peer p = { .ctl = -1 };
		struct s_addr a;
		int lfd = s_listen(AF_INET, &a), fd;
		pthread_t t;

		snprintf(s_case, sizeof(s_case), late ? "set while a send waits" : "inherited");
		if (!late)
			set_timeout(lfd, 200);
		p.fd = s_connect(&a);
		fd = s_accept(lfd);
		s_nodelay_(p.fd);
		s_warm(&p, fd);
		t_must(!pthread_create(&t, NULL, sends, &fd), "thread");
		if (late) {
			while (poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, 0))
				usleep(late % 2 ? 1000 : 1);
			set_timeout(fd, 200);
		}
		pthread_join(t, NULL);
		close(fd);
		close(lfd);
		p_end(&p);
	}
}

/* Who is read from in time loses nothing. */
static void read_in_time(struct peer *p, int fd)
{
	uint64_t out = 0, got = 0;
	ssize_t n;

	set_timeout(fd, 60000);
	for (;;) {
		t_fill(block, sizeof(block), 1, out);
		n = send(fd, block, sizeof(block), MSG_DONTWAIT);
		if (n < 0)
			break;
		out += (uint64_t)n;
	}
	t_ok(errno == EAGAIN, "%s: full", s_case);
	for (; got < out; got += 65536 < out - got ? 65536 : out - got) {
		uint64_t part = 65536 < out - got ? 65536 : out - got;

		t_must(t_eq(p_recv(p, 1, got, part), (int64_t)part, "%s: every byte", s_case), "it");
	}
	t_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, LONG_MS), 1, "%s: room again", s_case);
	t_must(s_send_stream(fd, 1, out, 1000), "more");
	t_eq(p_recv(p, 1, out, 1000), 1000, "%s: and more", s_case);
	p_send(p, 2, 0, 20000);
	t_must(s_recv_stream(fd, 2, 0, 20000), "the other direction");
	close(fd);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s: EOF", s_case);
}

int main(void)
{
	s_each(nobody_reads);
	inherited_and_late();
	s_each(read_in_time);
	return t_done();
}
