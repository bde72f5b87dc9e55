/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * own_table.c - a thread gets descriptors of its own, by unshare() or close_range(): what it closes is open for the others
 *
 * ring: any
 */
#include <linux/close_range.h>
#include <sched.h>
#include <sys/syscall.h>
#include "sock.h"

static int the_fd;
static bool by_range;

static void *apart(void *arg)
{
	char c;

	if (by_range) {
		t_must(!close_range((unsigned)the_fd, (unsigned)the_fd, CLOSE_RANGE_UNSHARE), "%s: close_range", s_case);
	} else {
		t_must(!unshare(CLONE_FILES), "%s: unshare", s_case);
		t_ok(!close(the_fd), "%s: close", s_case);
	}
	t_ok(recv(the_fd, &c, 1, MSG_DONTWAIT) == -1 && errno == EBADF, "%s: closed here", s_case);
	return NULL;
}

static void talk(struct peer *p, int fd, uint64_t pos, size_t len)
{
	p_send(p, 2, pos, len);
	t_must(s_recv_stream(fd, 2, pos, len) && s_send_stream(fd, 1, pos, len), "%s: at %llu", s_case, (unsigned long long)pos);
	t_eq(p_recv(p, 1, pos, len), len, "%s: at %llu", s_case, (unsigned long long)pos);
}

/* Each in a process of its own: from then on it is one with threads that are apart. */
static void with_threads(bool range)
{
	for (int i = 0; i < 4; i++) {
		pid_t pid = t_fork();
		struct peer p;
		pthread_t t;
		char c;

		if (pid) {
			t_reap(pid);
			continue;
		}
		snprintf(s_case, sizeof(s_case), "%s, peer %s, we %s", range ? "close_range" : "unshare",
			 i & 1 ? "forked" : "in-process", i & 2 ? "accepted" : "connected");
		the_fd = s_peer(&p, AF_INET, i & 1, !(i & 2));
		by_range = range;
		s_warm(&p, the_fd);
		talk(&p, the_fd, 0, 10000);
		p_send(&p, 2, 10000, 500);	/* not read yet */
		t_must(!pthread_create(&t, NULL, apart, NULL), "thread");
		pthread_join(t, NULL);
		t_ok(s_recv_stream(the_fd, 2, 10000, 500), "%s: what was there", s_case);
		t_ok(s_send_stream(the_fd, 1, 10000, 500) && p_recv(&p, 1, 10000, 500) == 500, "%s: after it", s_case);
		talk(&p, the_fd, 10500, 30000);
		p_shutdown(&p, SHUT_WR);
		t_eq(recv(the_fd, &c, 1, 0), 0, "%s: end", s_case);
		close(the_fd);
		t_eq(p_recv(&p, 1, 40500, 1), 0, "%s: its end", s_case);
		p_end(&p);
		t_child_exit();
	}
}

/* There is no other thread that the program knows of: nothing changes. */
static void alone(struct peer *p, int fd)
{
	struct pollfd pfd = { .events = POLLIN };
	int one[2], two[2];

	talk(p, fd, 0, 10000);
	t_must(!pipe(one) && !pipe(two), "pipes");
	t_must(!unshare(CLONE_FILES), "%s: unshare", s_case);
	close(one[1]);
	pfd.fd = one[0];
	t_ok(poll(&pfd, 1, 1000) == 1 && (pfd.revents & POLLHUP), "%s: a pipe has ended", s_case);
	talk(p, fd, 10000, 10000);
	t_must(!syscall(SYS_close_range, two[1], two[1], CLOSE_RANGE_UNSHARE), "%s: close_range", s_case);
	pfd.fd = two[0];
	t_ok(poll(&pfd, 1, 1000) == 1 && (pfd.revents & POLLHUP), "%s: another has ended", s_case);
	talk(p, fd, 20000, 10000);
	close(one[0]);
	close(two[0]);
	close(fd);
	t_eq(p_recv(p, 1, 30000, 1), 0, "%s: end", s_case);
}

int main(void)
{
#if defined(__SANITIZE_THREAD__)
	t_skip("the sanitizer has a thread of its own");
#endif
	s_each(alone);
	with_threads(false);
	with_threads(true);
	return t_done();
}
