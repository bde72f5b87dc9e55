/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * opts.c - socket options that programs set and ask for
 *
 * ring: yes
 */
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <linux/sockios.h>
#include "sock.h"

static int get(int fd, int level, int opt)
{
	int v = -1;
	socklen_t len = sizeof(v);

	t_ok(!getsockopt(fd, level, opt, &v, &len), "getsockopt %d %d", level, opt);
	return v;
}

static void set(int fd, int level, int opt, int v)
{
	t_ok(!setsockopt(fd, level, opt, &v, sizeof(v)), "setsockopt %d %d", level, opt);
	t_eq(get(fd, level, opt), v, "%s: option %d %d", s_case, level, opt);
}

/* The kernel counts a time limit in ticks, and those lag where the CPU is taken away: all that is certain is that it slept. */
static long slept(void)
{
	struct rusage u;

	getrusage(RUSAGE_THREAD, &u);
	return u.ru_nvcsw;
}

static void options(struct peer *p, int fd)
{
	struct sockaddr_storage me, other;
	socklen_t ml = sizeof(me), ol = sizeof(other);
	struct timeval tv = { 0, 50000 }, back = { 0, 0 };
	socklen_t len = sizeof(back);
	char buf[100];
	long before;
	double start;
	int n = -1;

	t_ok(!getsockname(fd, (struct sockaddr *)&me, &ml) && !getpeername(fd, (struct sockaddr *)&other, &ol), "names");
	t_ok(me.ss_family == other.ss_family && ml == ol && ml == (me.ss_family == AF_INET ? 16 : 28), "%s: names", s_case);
	t_eq(get(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM, "SO_TYPE");
	t_eq(get(fd, SOL_SOCKET, SO_DOMAIN), me.ss_family, "SO_DOMAIN");
	t_eq(get(fd, SOL_SOCKET, SO_ERROR), 0, "SO_ERROR");
	t_eq(get(fd, SOL_SOCKET, SO_ACCEPTCONN), 0, "SO_ACCEPTCONN");
	t_eq(get(fd, IPPROTO_TCP, TCP_NODELAY), 0, "%s: NODELAY off at first", s_case);
	set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set(fd, IPPROTO_TCP, TCP_NODELAY, 0);
	set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 77);

	/* receive timeout */
	t_ok(!setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)), "RCVTIMEO");
	t_ok(!getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &back, &len) && back.tv_usec >= 50000 && back.tv_usec < 60000, "RCVTIMEO reads back");
	before = slept();
	t_ok(recv(fd, buf, 1, 0) == -1 && errno == EAGAIN, "%s: timeout", s_case);
	t_ok(slept() > before, "%s: EAGAIN at once", s_case);
	p_send(p, 1, 0, 10);
	t_eq(recv(fd, buf, 20, MSG_WAITALL), 10, "%s: WAITALL until timeout", s_case);
	tv = (struct timeval){ 0, 0 };
	t_ok(!setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)), "RCVTIMEO off");

	/* low-water mark */
	set(fd, SOL_SOCKET, SO_RCVLOWAT, 20);
	p_send(p, 1, 10, 10);
	t_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 20), 0, "%s: below the mark", s_case);
	p_later(p, S_SEND_LATER, 10, 1, 20, 10);
	/* by poll: a blocking recv() that has taken a part is not woken by the rest on Linux */
	t_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 5000), 1, "%s: at the mark", s_case);
	t_eq(recv(fd, buf, 100, 0), 20, "%s: at the mark", s_case);
	t_eq(t_wrong(buf, 20, 1, 10), -1, "%s: bytes at the mark", s_case);
	set(fd, SOL_SOCKET, SO_RCVLOWAT, 1);

	/* cork: everything is there once it is pulled */
	set(fd, IPPROTO_TCP, TCP_CORK, 1);
	t_must(s_send_stream(fd, 2, 0, 100), "corked");
	t_must(s_send_stream(fd, 2, 100, 100), "corked");
	set(fd, IPPROTO_TCP, TCP_CORK, 0);
	t_eq(p_recv(p, 2, 0, 200), 200, "%s: uncorked", s_case);

	/* queues */
	p_send(p, 1, 30, 1234);
	start = t_now();
	do
		t_ok(!ioctl(fd, FIONREAD, &n), "FIONREAD");
	while (n < 1234 && t_now() - start < 5);
	t_eq(n, 1234, "%s: FIONREAD", s_case);
	t_must(s_recv_stream(fd, 1, 30, 234), "part");
	t_ok(!ioctl(fd, FIONREAD, &n) && n == 1000, "%s: FIONREAD %d", s_case, n);
	t_must(s_recv_stream(fd, 1, 264, 1000), "rest");
	t_ok(!ioctl(fd, FIONREAD, &n) && n == 0, "%s: FIONREAD %d", s_case, n);
	t_must(s_send_stream(fd, 2, 200, 500), "send");
	t_ok(!ioctl(fd, SIOCOUTQ, &n) && n >= 0 && n <= 500, "%s: SIOCOUTQ %d", s_case, n);
	t_eq(p_recv(p, 2, 200, 500), 500, "peer takes it");
	start = t_now();
	do
		t_ok(!ioctl(fd, SIOCOUTQ, &n), "SIOCOUTQ");
	while (n && t_now() - start < 5);
	t_eq(n, 0, "%s: SIOCOUTQ drains", s_case);

	/* linger as the program set it */
	struct linger lg = { 1, 7 }, lb;
	len = sizeof(lb);
	t_ok(!setsockopt(fd, SOL_SOCKET, SO_LINGER, &lg, sizeof(lg)), "LINGER");
	t_ok(!getsockopt(fd, SOL_SOCKET, SO_LINGER, &lb, &len) && lb.l_onoff == 1 && lb.l_linger == 7, "LINGER reads back");

	struct tcp_info ti;
	len = sizeof(ti);
	t_ok(!getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) && ti.tcpi_state == TCP_ESTABLISHED, "%s: TCP_INFO", s_case);
	t_ok(setsockopt(fd, SOL_SOCKET, 9999, &n, sizeof(n)) == -1 && errno == ENOPROTOOPT, "%s: unknown option", s_case);
	t_ok(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, (void *)8, &len) == -1 && errno == EFAULT, "%s: bad pointer", s_case);
	t_must(s_send_stream(fd, 2, 700, 10), "still works");
	t_eq(p_recv(p, 2, 700, 10), 10, "%s: still works", s_case);
	close(fd);
}

/* A send that finds no room gives up after its timeout, with what it got rid of or EAGAIN. */
static void send_timeout(struct peer *p, int fd)
{
	struct timeval tv = { 0, 30000 };
	static char buf[1 << 20];
	uint64_t out = 0;
	ssize_t n;

	t_ok(!setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)), "SNDTIMEO");
	do {
		t_fill(buf, sizeof(buf), 1, out);
		n = send(fd, buf, sizeof(buf), 0);
		if (n > 0)
			out += (uint64_t)n;
	} while (n > 0 && out < 1u << 30);
	t_ok(n == -1 && errno == EAGAIN, "%s: send gives %zd", s_case, n);
	t_ok(!shutdown(fd, SHUT_WR), "shutdown");
	for (uint64_t got = 0; got < out;) {
		uint64_t part = out - got < 1 << 20 ? out - got : 1 << 20;

		t_must(t_eq(p_recv(p, 1, got, part), (int64_t)part, "%s: every byte that was accepted", s_case), "it");
		got += part;
	}
	t_eq(p_recv(p, 1, out, 1), 0, "%s: and no more", s_case);
	close(fd);
}

/* Looks go on where the last one ended; TCP knows this since Linux 6.9. */
static void peek_offset(struct peer *p, int fd)
{
	char buf[32];

	s_warm(p, fd);
	p_send(p, 1, 0, 100);
	t_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 5000), 1, "%s: there", s_case);
	if (!setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &(int){ 5 }, sizeof(int))) {
		t_eq(recv(fd, buf, 10, MSG_PEEK), 10, "%s: a look", s_case);
		t_eq(t_wrong(buf, 10, 1, 5), -1, "%s: from byte 5", s_case);
		t_eq(recv(fd, buf, 10, MSG_PEEK), 10, "%s: the next look", s_case);
		t_eq(t_wrong(buf, 10, 1, 15), -1, "%s: from byte 15", s_case);
		set(fd, SOL_SOCKET, SO_PEEK_OFF, -1);
	}
	t_must(s_recv_stream(fd, 1, 0, 100), "all");
	p_send(p, 1, 100, 100);
	t_must(s_recv_stream(fd, 1, 100, 100), "and more");
	close(fd);
}

int main(void)
{
	s_each(options);
	s_each(send_timeout);
	s_each(peek_offset);
	return t_done();
}
