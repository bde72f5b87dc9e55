/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * epoll_sets.c - one socket in several sets, sets in sets, dup'd members, sets made before the connection, threads on one set,
 * an exec that fails
 *
 * ring: yes
 */
#include <sys/epoll.h>
#include "sock.h"

static void add(int ep, int fd, uint32_t events, uint64_t data)
{
	t_must(!epoll_ctl(ep, EPOLL_CTL_ADD, fd, &(struct epoll_event){ .events = events, .data.u64 = data }), "%s: add", s_case);
}

/* The number of the one event, 0 if there is none. */
static uint64_t next(int ep, int ms)
{
	struct epoll_event ev[4];
	int n = epoll_wait(ep, ev, 4, ms);

	t_ok(n >= 0 && n <= 1, "%s: %d events", s_case, n);
	return n == 1 ? ev[0].data.u64 : 0;
}

static void sets(struct peer *p, int fd)
{
	int a = epoll_create1(0), b = epoll_create1(0), outer = epoll_create1(0), d;

	add(a, fd, EPOLLIN, 1);
	add(b, fd, EPOLLIN | EPOLLET, 2);
	add(outer, a, EPOLLIN, 3);
	t_eq(next(outer, 5), 0, "%s: outer, nothing", s_case);
	t_eq(poll(&(struct pollfd){ .fd = a, .events = POLLIN }, 1, 5), 0, "%s: poll on a set, nothing", s_case);

	p_later(p, S_SEND_LATER, 10, 1, 0, 10);
	t_eq(next(outer, 5000), 3, "%s: outer set", s_case);
	t_eq(next(a, 1000), 1, "%s: inner set", s_case);
	t_eq(next(b, 1000), 2, "%s: the other set", s_case);
	/* once; a second time at most if the connection changed to the ring just now */
	t_ok(!next(b, 5) || !next(b, 5), "%s: edge once", s_case);
	t_eq(next(a, 0), 1, "%s: level again", s_case);
	t_eq(poll(&(struct pollfd){ .fd = a, .events = POLLIN }, 1, 1000), 1, "%s: poll on a set", s_case);
	t_must(s_recv_stream(fd, 1, 0, 10), "take");
	t_eq(next(a, 0), 0, "%s: taken", s_case);
	t_eq(next(outer, 0), 0, "%s: taken, outer", s_case);

	/* a dup in the set: registered on its own, and it stays when the first is closed */
	d = dup(fd);
	add(a, d, EPOLLIN, 4);
	t_ok(!epoll_ctl(a, EPOLL_CTL_DEL, fd, NULL), "delete the first");
	t_ok(!epoll_ctl(b, EPOLL_CTL_DEL, fd, NULL), "delete the first");
	p_later(p, S_SEND_LATER, 10, 1, 10, 10);
	t_eq(next(outer, 5000), 3, "%s: dup, outer set", s_case);
	t_eq(next(a, 1000), 4, "%s: dup", s_case);
	close(fd);
	t_eq(next(a, 1000), 4, "%s: dup alone", s_case);
	t_must(s_recv_stream(d, 1, 10, 10), "take");
	t_eq(next(a, 0), 0, "%s: taken", s_case);

	/* the set itself dup'd */
	int a2 = dup(a);
	p_later(p, S_SEND_LATER, 5, 1, 20, 10);
	t_eq(next(a2, 5000), 4, "%s: dup of the set", s_case);
	t_must(s_recv_stream(d, 1, 20, 10), "take");
	close(a);
	p_later(p, S_SEND_LATER, 5, 1, 30, 10);
	t_eq(next(a2, 5000), 4, "%s: the set's dup after close", s_case);
	t_must(s_recv_stream(d, 1, 30, 10), "take");
	close(d);
	t_eq(next(a2, 5), 0, "%s: closed while registered", s_case);
	close(a2);
	close(b);
	close(outer);
}

/* In the set before connect(): the connection's own events, then its data. */
static void before_connect(int family)
{
	struct s_addr a;
	int lfd = s_listen(family, &a), ep = epoll_create1(0), fd, s;
	struct epoll_event ev;

	snprintf(s_case, sizeof(s_case), "before connect, family %d", family);
	fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	add(ep, fd, EPOLLIN | EPOLLOUT | EPOLLET, 1);
	add(ep, lfd, EPOLLIN, 2);
	int ret = connect(fd, (struct sockaddr *)&a.ss, a.len);
	t_must(!ret || errno == EINPROGRESS, "connect");
	s = s_accept(lfd);
	bool writable = false;
	double end = t_now() + 5;
	while (!writable && t_now() < end) {
		if (epoll_wait(ep, &ev, 1, 1000) == 1 && ev.data.u64 == 1)
			writable = ev.events & EPOLLOUT;
	}
	t_ok(writable, "%s: connected", s_case);
	for (unsigned int i = 0; i < 200; i++) {
		t_must(s_send_stream(s, 1, i * 10, 10), "send");
		bool readable = false;
		while (!readable) {
			t_must(epoll_wait(ep, &ev, 1, 5000) == 1, "%s: no edge for message %u", s_case, i);
			readable = ev.data.u64 == 1 && ev.events & EPOLLIN;
		}
		t_must(s_recv_stream(fd, 1, i * 10, 10), "receive");
		t_must(s_send_stream(fd, 2, i * 10, 10) && s_recv_stream(s, 2, i * 10, 10), "back");
	}
	close(fd);
	close(s);
	close(lfd);
	close(ep);
}

/* Threads wait on one set; each message wakes somebody, none is lost. */
#define WAITERS 3
#define MESSAGES 300
static int pool_ep;
static uint32_t taken;

static void *waiter(void *arg)
{
	struct epoll_event ev;
	char c;

	for (;;) {
		if (epoll_wait(pool_ep, &ev, 1, -1) != 1)
			continue;
		ssize_t n = recv(ev.data.fd, &c, 1, MSG_DONTWAIT);
		if (n == 0)
			return NULL;
		if (n == 1)
			__atomic_add_fetch(&taken, 1, __ATOMIC_RELAXED);
		else
			t_must(errno == EAGAIN, "recv");
		t_must(!epoll_ctl(pool_ep, EPOLL_CTL_MOD, ev.data.fd, &(struct epoll_event){ .events = EPOLLIN | EPOLLONESHOT, .data.fd = ev.data.fd }), "mod");
	}
}

static void pool(void)
{
	int sv[WAITERS][2];
	pthread_t t[WAITERS];

	taken = 0;
	pool_ep = epoll_create1(0);
	for (int i = 0; i < WAITERS; i++) {
		s_pair(AF_INET, sv[i]);
		add(pool_ep, sv[i][1], EPOLLIN | EPOLLONESHOT, 0);
		t_must(!epoll_ctl(pool_ep, EPOLL_CTL_MOD, sv[i][1], &(struct epoll_event){ .events = EPOLLIN | EPOLLONESHOT, .data.fd = sv[i][1] }), "mod");
		pthread_create(&t[i], NULL, waiter, NULL);
	}
	for (int i = 0; i < MESSAGES; i++)
		t_must(send(sv[i % WAITERS][0], "x", 1, 0) == 1, "send");
	double end = t_now() + 10;
	while (__atomic_load_n(&taken, __ATOMIC_RELAXED) < MESSAGES && t_now() < end)
		usleep(1000);
	t_eq(__atomic_load_n(&taken, __ATOMIC_RELAXED), MESSAGES, "messages taken by the pool");
	for (int i = 0; i < WAITERS; i++)
		shutdown(sv[i][0], SHUT_WR);
	for (int i = 0; i < WAITERS; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < WAITERS; i++) {
		close(sv[i][0]);
		close(sv[i][1]);
	}
	close(pool_ep);
}

/* What another image was to inherit goes on here. */
static void exec_fails(struct peer *p, int fd)
{
	int a = epoll_create1(0), outer = epoll_create1(0);
	char *argv[] = { "nothing", NULL };

	add(a, fd, EPOLLIN | EPOLLET, 7);
	add(outer, a, EPOLLIN, 3);
	p_later(p, S_SEND_LATER, 10, 1, 0, 10);
	t_eq(next(outer, 5000), 3, "%s: outer set", s_case);
	t_eq(next(a, 1000), 7, "%s: inner set", s_case);
	t_ok(!next(a, 5) || !next(a, 5), "%s: edge once", s_case);
	t_eq(execv("/nowhere/nothing", argv), -1, "%s: exec", s_case);
	t_eq(next(a, 5), 0, "%s: told before exec", s_case);
	t_eq(next(outer, 0), 0, "%s: told before exec, outer", s_case);
	p_later(p, S_SEND_LATER, 10, 1, 10, 10);
	t_eq(next(outer, 5000), 3, "%s: outer set after exec", s_case);
	t_eq(next(a, 1000), 7, "%s: inner set after exec", s_case);
	t_must(s_recv_stream(fd, 1, 0, 20), "take");
	t_ok(!epoll_ctl(a, EPOLL_CTL_DEL, fd, NULL), "%s: delete", s_case);
	close(a);
	close(outer);
	close(fd);
}

int main(void)
{
	s_each(sets);
	s_each(exec_fails);
	before_connect(AF_INET);
	before_connect(AF_INET6);
	pool();
	return t_done();
}
