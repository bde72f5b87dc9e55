/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * servers.c - the shapes of servers: accept then fork, prefork, a thread a connection, descriptors kept by the parent
 *
 * ring: yes
 */
#include <sys/epoll.h>
#include "sock.h"

#define CLIENTS 12

/* Answers every stretch of stream 1 with the same stretch of stream 2 until EOF. */
static void serve(int fd)
{
	uint64_t pos = 0;
	char buf[5000];
	ssize_t n;

	s_nodelay_(fd);
	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0) {
		t_eq(t_wrong(buf, (size_t)n, 1, pos), -1, "%s: request", s_case);
		s_send_stream(fd, 2, pos, (size_t)n);
		pos += (uint64_t)n;
	}
	t_eq(n, 0, "%s: ends with EOF", s_case);
	close(fd);
}

static void client(const struct s_addr *a)
{
	int fd = s_connect(a);
	uint64_t pos = 0;

	s_nodelay_(fd);
	for (size_t len = 1; len <= 20000; len = len * 3 + 1) {
		for (int i = 0; i < 5; i++, pos += len) {
			s_send_stream(fd, 1, pos, len);
			s_recv_stream(fd, 2, pos, len);
		}
	}
	close(fd);
}

/* Clients one after the other in this process, and as many at once in processes of their own. */
static void clients(const struct s_addr *a)
{
	pid_t pid[CLIENTS];

	for (int i = 0; i < CLIENTS; i++)
		client(a);
	for (int i = 0; i < CLIENTS; i++) {
		pid[i] = t_fork();
		if (!pid[i]) {
			client(a);
			t_child_exit();
		}
	}
	for (int i = 0; i < CLIENTS; i++)
		t_reap(pid[i]);
}

static void accept_fork(int lfd)
{
	for (int i = 0; i < 2 * CLIENTS; i++) {
		int fd = s_accept(lfd);
		pid_t pid = t_fork();

		if (!pid) {
			close(lfd);
			serve(fd);
			t_child_exit();
		}
		close(fd);
	}
	for (int i = 0; i < 2 * CLIENTS; i++) {
		int status;

		t_ok(wait(&status) > 0 && !status, "%s: status %x", s_case, status);
	}
}

static void *thread_serve(void *arg)
{
	serve((int)(intptr_t)arg);
	return NULL;
}

static void accept_thread(int lfd)
{
	pthread_t t[2 * CLIENTS];

	for (int i = 0; i < 2 * CLIENTS; i++)
		t_must(!pthread_create(&t[i], NULL, thread_serve, (void *)(intptr_t)s_accept(lfd)), "thread");
	for (int i = 0; i < 2 * CLIENTS; i++)
		pthread_join(t[i], NULL);
}

/* Four processes accept on one listener, each with epoll and EXCLUSIVE, until they are told to stop by EOF on a pipe. */
static void prefork(int lfd)
{
	int done[2];
	pid_t pid[4];

	s_nonblock(lfd, true);
	t_must(!pipe(done), "pipe");
	for (int i = 0; i < 4; i++) {
		pid[i] = t_fork();
		if (pid[i])
			continue;
		close(done[1]);
		int ep = epoll_create1(0);
		t_must(!epoll_ctl(ep, EPOLL_CTL_ADD, lfd, &(struct epoll_event){ .events = EPOLLIN | EPOLLEXCLUSIVE, .data.fd = lfd }), "ctl");
		t_must(!epoll_ctl(ep, EPOLL_CTL_ADD, done[0], &(struct epoll_event){ .events = EPOLLHUP, .data.fd = done[0] }), "ctl");
		for (;;) {
			struct epoll_event ev;

			if (epoll_wait(ep, &ev, 1, -1) != 1)
				continue;
			if (ev.data.fd == done[0])
				t_child_exit();
			int fd = accept(lfd, NULL, NULL);
			if (fd >= 0)
				serve(fd);
		}
	}
	close(done[0]);
	close(lfd);
	/* the clients are done when SIGUSR2 comes; it has been blocked since main(), so it cannot come too early */
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	t_eq(sigwait(&set, &sig), 0, "sigwait");
	close(done[1]);
	for (int i = 0; i < 4; i++)
		t_reap(pid[i]);
}

static void shape(const char *name, void (*server)(int lfd), int family)
{
	struct s_addr a;
	int lfd = s_listen(family, &a);
	pid_t pid;

	snprintf(s_case, sizeof(s_case), "%s, family %d", name, family);
	pid = t_fork();
	if (!pid) {
		server(lfd);
		t_child_exit();
	}
	close(lfd);
	clients(&a);
	kill(pid, SIGUSR2);
	t_reap(pid);
}

int main(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	shape("accept, fork", accept_fork, AF_INET);
	shape("accept, fork", accept_fork, AF_INET6);
	shape("accept, thread", accept_thread, AF_INET);
	shape("prefork", prefork, AF_INET);
	return t_done();
}
