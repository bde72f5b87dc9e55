/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * half_done.c - a process ends in the middle of a call, by its own exit or by SIGKILL
 *
 * Its threads may be sending while it exits; others may have the socket that it was killed with.  Whoever goes on finds the stream
 * where it was left, and the peer gets an end of file.  A killed process is not waited for before the others have gone on.
 *
 * ring: yes
 */
#include "sock.h"

#include <sys/prctl.h>
#include <sys/syscall.h>

#define MARK 0xff		/* no other byte of these streams */
#define MARKS 64

static void soon(unsigned most_us)
{
	struct timespec ts = { 0, (long)(t_rand() % most_us) * 1000 };

	nanosleep(&ts, NULL);
}

/* Bytes 0..250 in turn, in sends of many sizes, as long as there is somebody to take them. */
static void *sends(void *arg)
{
	static unsigned char buf[251 + 100000];
	int fd = *(int *)arg;
	uint64_t r = fd + getpid();
	size_t at = 0;
	ssize_t n;

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = i % 251;
	do {
		size_t len = t_rand_r(&r) % 4 ? 1 + t_rand_r(&r) % 200 : 1 + t_rand_r(&r) % 100000;

		n = send(fd, buf + at, len, MSG_NOSIGNAL);
		at = (at + n) % 251;
	} while (n > 0);
	return NULL;
}

/* Up to the end: does each byte follow the one before it, but for the marks at the end, and are these whole? */
static void reads_all(int fd, bool from_start, int marks)
{
	static unsigned char buf[65536];
	int next = from_start ? 0 : -1, seen = 0;
	size_t all = 0;
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0) {
		for (ssize_t i = 0; i < n; i++, all++) {
			if (buf[i] == MARK) {
				seen++;
				continue;
			}
			if (seen || (next >= 0 && buf[i] != next)) {
				t_ok(false, "%s: byte %zu is %d and not %d", s_case, all, buf[i], next);
				return;
			}
			next = (buf[i] + 1) % 251;
		}
	}
	t_eq(n, 0, "%s: the end", s_case);
	t_eq(seen, marks, "%s: marks", s_case);
}

static void warm(int fd, bool first)
{
	char c = 0;

	for (int i = 0; i < 6; i++) {
		t_must(!first || send(fd, &c, 1, MSG_NOSIGNAL) == 1, "warm");
		t_must(recv(fd, &c, 1, 0) == 1, "warm");
		t_must(first || send(fd, &c, 1, MSG_NOSIGNAL) == 1, "warm");
		usleep(1000);
	}
}

static int peers_end(const struct s_addr *a, int lfd)
{
	int fd = s_connect(a);

	close(lfd);
	warm(fd, true);
	return fd;
}

enum end { EXIT, EXIT_NOW, ENDS };

static void exits(int lfd, const struct s_addr *a, enum end end, unsigned most_us)
{
	pid_t pid = t_fork();
	int fd;

	snprintf(s_case, sizeof(s_case), "exit %d within %u us", end, most_us);
	if (!pid) {
		pthread_t t;

		fd = peers_end(a, lfd);
		t_must(!pthread_create(&t, NULL, sends, &fd), "thread");
		soon(most_us);
		if (end == EXIT)
			exit(0);
		_exit(0);
	}
	fd = s_accept(lfd);
	warm(fd, false);
	reads_all(fd, true, 0);
	t_reap(pid);
	close(fd);
}

/* The sender is killed; who has the socket as well sends the marks, and that is the end. */
static void sender_killed(int lfd, const struct s_addr *a, unsigned most_us)
{
	pid_t pid = t_fork();
	int fd;

	snprintf(s_case, sizeof(s_case), "sender killed within %u us", most_us);
	if (!pid) {
		unsigned char marks[MARKS];
		pid_t other;

		fd = peers_end(a, lfd);
		other = t_fork();
		if (!other) {
			sends(&fd);
			_exit(0);
		}
		soon(most_us);
		kill(other, SIGKILL);
		/* until there is no thread of it that might yet send */
		t_must(!waitid(P_PID, other, &(siginfo_t){ 0 }, WEXITED | WNOWAIT), "waitid");
		memset(marks, MARK, sizeof(marks));
		t_eq(s_send_all(fd, marks, sizeof(marks)), sizeof(marks), "%s: marks", s_case);
		waitpid(other, NULL, 0);
		t_child_exit();
	}
	fd = s_accept(lfd);
	warm(fd, false);
	reads_all(fd, true, MARKS);
	t_reap(pid);
	close(fd);
}

static void reader_killed(int lfd, const struct s_addr *a, unsigned most_us)
{
	pid_t pid = t_fork();
	pthread_t t;
	int fd;

	snprintf(s_case, sizeof(s_case), "reader killed within %u us", most_us);
	if (!pid) {
		pid_t other;

		fd = peers_end(a, lfd);
		other = t_fork();
		if (!other) {
			char buf[30000];

			while (recv(fd, buf, 1 + t_rand() % sizeof(buf), 0) > 0)
				;
			_exit(0);
		}
		soon(most_us);
		kill(other, SIGKILL);
		t_must(!waitid(P_PID, other, &(siginfo_t){ 0 }, WEXITED | WNOWAIT), "waitid");
		t_must(!shutdown(fd, SHUT_WR), "shutdown");
		reads_all(fd, false, 0);
		waitpid(other, NULL, 0);
		t_child_exit();
	}
	fd = s_accept(lfd);
	warm(fd, false);
	t_must(!pthread_create(&t, NULL, sends, &fd), "thread");
	t_eq(recv(fd, &(char){ 0 }, 1, 0), 0, "%s: the other side is alone", s_case);
	t_must(!shutdown(fd, SHUT_WR), "shutdown");
	pthread_join(t, NULL);
	t_reap(pid);
	close(fd);
}

int main(void)
{
	struct s_addr a;
	int lfd = s_listen(AF_INET, &a);

	for (int i = 0; i < 40; i++) {
		unsigned us = i & 1 ? 300 : 3000;

		exits(lfd, &a, i / 2 % ENDS, us);
		sender_killed(lfd, &a, us);
		reader_killed(lfd, &a, us);
	}
	return t_done();
}
