/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * killed.c - kill -9 of the peer is what TCP makes of it: its bytes, then EOF; a reset if it left ours unread
 *
 * ring: yes
 */
#include "sock.h"

static void kill_peer(struct peer *p)
{
	t_must(!kill(p->pid, SIGKILL), "kill");
	t_must(waitpid(p->pid, NULL, 0) == p->pid, "wait");
	close(p->ctl);
}

static void one(int family, bool we_connect, bool unread, bool waiting)
{
	struct peer p;
	int fd = s_peer(&p, family, true, we_connect);
	char c;
	ssize_t n;

	snprintf(s_case, sizeof(s_case), "family %d, we_connect %d, unread %d, waiting %d", family, we_connect, unread, waiting);
	s_warm(&p, fd);
	p_send(&p, 1, 0, 70000);
	if (unread)
		t_must(s_send_stream(fd, 2, 0, 300), "send");
	if (waiting)
		t_must(s_recv_stream(fd, 1, 0, 70000), "first");
	kill_peer(&p);
	if (unread) {
		/* whether its bytes still come is TCP's secret; that it ends in a reset is not */
		char buf[4096];

		do
			n = recv(fd, buf, sizeof(buf), 0);
		while (n > 0);
		t_ok(n == -1 && errno == ECONNRESET, "%s: ends with %zd", s_case, n);
	} else {
		if (!waiting)
			t_must(s_recv_stream(fd, 1, 0, 70000), "all that it had sent");
		t_eq(recv(fd, &c, 1, 0), 0, "%s: EOF", s_case);
		double end = t_now() + 5;
		do
			n = send(fd, &c, 1, MSG_NOSIGNAL);
		while (n == 1 && t_now() < end && !usleep(200));
		t_ok(n == -1 && (errno == EPIPE || errno == ECONNRESET), "%s: send gives %zd", s_case, n);
	}
	close(fd);
}

struct killer {
	struct peer *p;
};

static void *kill_later(void *arg)
{
	usleep(20000);
	kill_peer(((struct killer *)arg)->p);
	return NULL;
}

/* The reader, and a writer that has filled everything, are asleep when it happens. */
static void asleep(bool writer)
{
	struct peer p;
	int fd = s_peer(&p, AF_INET, true, true);
	struct killer k = { &p };
	static char buf[1 << 16];
	pthread_t t;
	ssize_t n;

	snprintf(s_case, sizeof(s_case), "asleep, writer %d", writer);
	s_warm(&p, fd);
	t_must(!pthread_create(&t, NULL, kill_later, &k), "thread");
	if (writer) {
		do
			n = send(fd, buf, sizeof(buf), MSG_NOSIGNAL);
		while (n > 0);
		t_ok(n == -1 && (errno == ECONNRESET || errno == EPIPE), "%s: send gives %zd", s_case, n);
	} else {
		t_eq(recv(fd, buf, 1, 0), 0, "%s: EOF", s_case);
	}
	pthread_join(t, NULL);
	close(fd);
}

static void *kill_soon(void *arg)
{
	usleep(3000);
	t_ok(!kill(*(pid_t *)arg, SIGKILL), "kill");
	return NULL;
}

/* Connected, then stopped, then killed, while a writer sends as much as it can to somebody who never reads. */
static void stopped(int family)
{
	static char buf[1 << 16];
	struct s_addr a;
	int lfd = s_listen(family, &a), fd;
	pid_t pid = t_fork();
	double end;
	pthread_t t;
	ssize_t n;

	snprintf(s_case, sizeof(s_case), "stopped, family %d", family);
	if (!pid) {
		s_connect(&a);
		raise(SIGSTOP);
		_exit(0);
	}
	t_must(waitpid(pid, NULL, WUNTRACED) == pid, "stopped");
	fd = s_accept(lfd);
	close(lfd);
	t_must(!pthread_create(&t, NULL, kill_soon, &pid), "thread");
	end = t_now() + 5;
	do
		n = send(fd, buf, sizeof(buf), MSG_NOSIGNAL);
	while (n > 0 && t_now() < end);
	t_ok(n == -1 && (errno == ECONNRESET || errno == EPIPE), "%s: send gives %zd", s_case, n);
	pthread_join(t, NULL);
	t_must(waitpid(pid, NULL, 0) == pid, "wait");
	close(fd);
}

int main(void)
{
	for (int i = 0; i < 16; i++)
		one(i & 1 ? AF_INET6 : AF_INET, i & 2, i & 4, i & 8);
	asleep(false);
	asleep(true);
	for (int i = 0; i < 6; i++)
		stopped(i & 1 ? AF_INET6 : AF_INET);
	return t_done();
}
