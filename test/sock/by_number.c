/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * by_number.c - calls by number, through syscall(): those that newer programs make, and that have a name in newer libraries only
 *
 * ring: yes
 */
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include "sock.h"
#include "hand_on.h"

#define DATA 0x1122334455667788ull

static void vectors(struct peer *p, int fd, uint64_t *in, uint64_t *out)
{
	char buf[300];
	struct iovec iov[2] = { { buf, 100 }, { buf + 100, 200 } };

	t_fill(buf, sizeof(buf), 1, *out);
	t_eq(syscall(SYS_pwritev2, fd, iov, 2L, -1L, 0L, 0L), 300, "%s: pwritev2", s_case);
	t_eq(p_recv(p, 1, *out, 300), 300, "%s: pwritev2", s_case);
	*out += 300;
	p_send(p, 2, *in, 300);
	t_must(recv(fd, buf, 300, MSG_PEEK | MSG_WAITALL) == 300, "%s: has come", s_case);
	t_eq(syscall(SYS_preadv2, fd, iov, 2L, -1L, 0L, (long)RWF_NOWAIT), 300, "%s: preadv2", s_case);
	t_eq(t_wrong(buf, 300, 2, *in), -1, "%s: preadv2", s_case);
	*in += 300;
	t_ok(syscall(SYS_preadv2, fd, iov, 2L, -1L, 0L, (long)RWF_NOWAIT) == -1 && errno == EAGAIN, "%s: nothing to read", s_case);
	t_ok(syscall(SYS_preadv2, fd, iov, 2L, 0L, 0L, 0L) == -1 && errno == ESPIPE, "%s: preadv2 at an offset", s_case);
}

static void waits(struct peer *p, int fd, uint64_t *in)
{
	const struct timespec some = { 5, 0 }, none = { 0 };
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = DATA }, got[4];
	int ep = epoll_create1(0);
	sigset_t empty;
	struct { const sigset_t *set; size_t size; } mask = { &empty, 8 };
	fd_set r;
	char c;

	sigemptyset(&empty);
	t_must(ep >= 0 && !epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), "set");
	t_eq(syscall(SYS_epoll_pwait2, ep, got, 4L, &none, NULL, 8L), 0, "%s: epoll_pwait2, nothing", s_case);
	FD_ZERO(&r);
	FD_SET(fd, &r);
	t_eq(syscall(SYS_pselect6, (long)fd + 1, &r, NULL, NULL, &none, &mask), 0, "%s: pselect6, nothing", s_case);
	p_later(p, S_SEND_LATER, 20, 2, *in, 1);
	t_eq(syscall(SYS_epoll_pwait2, ep, got, 4L, &some, NULL, 8L), 1, "%s: epoll_pwait2", s_case);
	t_ok(got[0].data.u64 == DATA && got[0].events == EPOLLIN, "%s: epoll_pwait2 tells %x of %llx", s_case, got[0].events,
	     (unsigned long long)got[0].data.u64);
	FD_ZERO(&r);
	FD_SET(fd, &r);
	t_ok(syscall(SYS_pselect6, (long)fd + 1, &r, NULL, NULL, &some, &mask) == 1 && FD_ISSET(fd, &r), "%s: pselect6", s_case);
	t_must(recv(fd, &c, 1, 0) == 1 && c == (char)t_byte(2, *in), "%s: the byte", s_case);
	*in += 1;
	p_later(p, S_SEND_LATER, 20, 2, *in, 1);
	FD_ZERO(&r);
	FD_SET(fd, &r);
	t_ok(syscall(SYS_pselect6, (long)fd + 1, &r, NULL, NULL, &some, NULL) == 1 && FD_ISSET(fd, &r), "%s: pselect6", s_case);
	t_must(recv(fd, &c, 1, 0) == 1 && c == (char)t_byte(2, *in), "%s: the byte", s_case);
	*in += 1;
	close(ep);
}

static void another_image(struct peer *p, int fd, uint64_t in)
{
	char *argv[] = { "cat", NULL };
	pid_t pid;

	p_send(p, 2, in, 1000);
	pid = t_fork();
	if (!pid) {
		dup2(fd, 0);
		dup2(fd, 1);
		closefrom(3);
		syscall(SYS_execveat, (long)AT_FDCWD, "/bin/cat", argv, s_foreign_env(), 0L);
		_exit(126);
	}
	close(fd);
	t_eq(p_recv(p, 2, in, 1000), 1000, "%s: what was there before", s_case);
	p_shutdown(p, SHUT_WR);
	t_reap(pid);
}

static void by_number(struct peer *p, int fd)
{
	struct s_addr one = { .len = sizeof(one.ss) }, other = { .len = sizeof(other.ss) };
	uint64_t in = 0, out = 0;
	struct rlimit limit;

	vectors(p, fd, &in, &out);
	waits(p, fd, &in);
	t_ok(!syscall(SYS_getpeername, fd, &one.ss, &one.len) && !getpeername(fd, (struct sockaddr *)&other.ss, &other.len),
	     "%s: getpeername", s_case);
	t_same_bytes(&one.ss, one.len, &other.ss, other.len);
	t_ok(!syscall(SYS_prlimit64, 0L, (long)RLIMIT_NOFILE, NULL, &limit) && limit.rlim_cur, "%s: prlimit64", s_case);
	another_image(p, fd, in);
}

int main(void)
{
	s_each(by_number);
	return t_done();
}
