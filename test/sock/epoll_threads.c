/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * epoll_threads.c - a thread waits on a set while another one changes it: what is added or asked for again wakes it, with its own data
 *
 * ring: yes
 */
#include <sys/epoll.h>
#include "sock.h"

#define DATA(i) (0x1234567800000000ull + (unsigned int)(i))

static int set;
static struct epoll_event got[4];

/* One wait, with all of its time: what it says is in got[]. */
static void *waiter(void *arg)
{
	int *n = arg;

	memset(got, 0, sizeof(got));
	*n = epoll_wait(set, got, 4, 5000);
	return NULL;
}

static int nr;
static pthread_t start(void)
{
	pthread_t t;

	t_must(!pthread_create(&t, NULL, waiter, &nr), "thread");
	usleep(700);		/* it is to sleep by then; nothing depends on it */
	return t;
}

static void told(pthread_t t, uint32_t events, uint64_t data, const char *what)
{
	t_must(!pthread_join(t, NULL), "join");
	t_eq(nr, 1, "%s: %s: events", s_case, what);
	t_eq(got[0].events, events, "%s: %s", s_case, what);
	t_ok(got[0].data.u64 == data, "%s: %s: data %llx is not %llx", s_case, what, (unsigned long long)got[0].data.u64,
	     (unsigned long long)data);
}

static void ctl(int op, int fd, uint32_t events, uint64_t data)
{
	t_must(!epoll_ctl(set, op, fd, &(struct epoll_event){ events, { .u64 = data } }), "epoll_ctl");
}

static void changes(struct peer *p, int fd, uint32_t mode)
{
	uint64_t pos = 0;
	pthread_t t;

	set = epoll_create1(EPOLL_CLOEXEC);
	/* into an empty set, with bytes to read; then with bytes that come later */
	p_send(p, 1, 0, 10);
	t = start();
	ctl(EPOLL_CTL_ADD, fd, EPOLLIN | mode, DATA(1));
	told(t, EPOLLIN, DATA(1), "added, readable");
	t_must(s_recv_stream(fd, 1, 0, 10), "receive");
	ctl(EPOLL_CTL_DEL, fd, 0, 0);
	t = start();
	ctl(EPOLL_CTL_ADD, fd, EPOLLIN | mode, DATA(2));
	p_send(p, 1, 10, 10);
	told(t, EPOLLIN, DATA(2), "added, then readable");
	t_must(s_recv_stream(fd, 1, 10, 10), "receive");
	pos = 20;
	/* asked for something else, that holds */
	t = start();
	ctl(EPOLL_CTL_MOD, fd, EPOLLOUT | mode, DATA(3));
	told(t, EPOLLOUT, DATA(3), "modified, writable");
	/* again and again: bytes come before the wait, during it, before the change, after it */
	for (unsigned int i = 0; i < 60; i++) {
		ctl(EPOLL_CTL_MOD, fd, 0, 0);
		if (i % 3 == 0)
			p_send(p, 1, pos, 10);
		t = start();
		if (i % 3 == 1)
			p_send(p, 1, pos, 10);
		ctl(EPOLL_CTL_MOD, fd, EPOLLIN | mode, DATA(10 + i));
		if (i % 3 == 2)
			p_send(p, 1, pos, 10);
		told(t, EPOLLIN, DATA(10 + i), "modified");
		t_must(s_recv_stream(fd, 1, pos, 10), "receive");
		pos += 10;
	}
	close(set);
}

static void level(struct peer *p, int fd)
{
	changes(p, fd, 0);
	close(fd);
}

static void oneshot(struct peer *p, int fd)
{
	changes(p, fd, EPOLLONESHOT);
	close(fd);
}

static void edge(struct peer *p, int fd)
{
	changes(p, fd, EPOLLET);
	close(fd);
}

/* New sockets go into the set of a thread that is always in its wait: each is told once, whatever its stage. */
#define NEW 300

static void *edges(void *arg)
{
	struct epoll_event ev[8];
	static bool seen[NEW + 1];
	int left = NEW, n;

	while (left && (n = epoll_wait(set, ev, 8, 5000)) > 0) {
		for (int i = 0; i < n; i++) {
			uint64_t k = ev[i].data.u64 - DATA(0);

			if (!t_ok(k < NEW, "an event with data %llx", (unsigned long long)ev[i].data.u64) || seen[k])
				continue;
			seen[k] = true;
			left--;
		}
	}
	t_eq(left, 0, "sockets whose first edge was lost");
	return NULL;
}

static void added(void)
{
	static int fds[NEW][2];
	pthread_t t;

	set = epoll_create1(EPOLL_CLOEXEC);
	t_must(!pthread_create(&t, NULL, edges, NULL), "thread");
	for (int i = 0; i < NEW; i++) {
		s_pair(AF_INET, fds[i]);
		ctl(EPOLL_CTL_ADD, fds[i][i & 1], EPOLLIN | EPOLLOUT | EPOLLET, DATA(i));
	}
	t_must(!pthread_join(t, NULL), "join");
	for (int i = 0; i < NEW; i++) {
		close(fds[i][0]);
		close(fds[i][1]);
	}
	close(set);
}

/* A set on which one thread sleeps and that another one has asked and left: what comes next wakes the sleeper. */
static void asked_between(struct peer *p, int fd)
{
	struct epoll_event ev;
	pthread_t t;

	set = epoll_create1(EPOLL_CLOEXEC);
	ctl(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, DATA(1));
	for (unsigned int i = 0; i < 20; i++) {
		int n;

		t = start();
		p_send(p, 1, i * 20, 10);
		/* one of us hears of it; if it is this thread, the other one of what comes next */
		n = epoll_wait(set, &ev, 1, 0);
		if (n == 1) {
			t_must(s_recv_stream(fd, 1, i * 20, 10), "receive");
			p_send(p, 1, i * 20 + 10, 10);
		}
		told(t, EPOLLIN, DATA(1), n ? "after another thread was told" : "after another thread has asked");
		if (n != 1) {
			t_must(s_recv_stream(fd, 1, i * 20, 10), "receive");
			p_send(p, 1, i * 20 + 10, 10);
		}
		t_must(s_recv_stream(fd, 1, i * 20 + 10, 10), "receive");
		ctl(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLET, DATA(1));
	}
	close(set);
	close(fd);
}

int main(void)
{
	s_each(level);
	s_each(oneshot);
	s_each(edge);
	s_each(asked_between);
	added();
	return t_done();
}
