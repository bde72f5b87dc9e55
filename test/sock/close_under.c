/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * close_under.c - a descriptor is closed while another thread waits in a call on it: the number is free at once, the call goes
 * on, and the connection ends with it
 *
 * limit: 60
 * ring: yes
 */
#include <linux/close_range.h>
#include <setjmp.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "sock.h"

#define BIG (12u << 20)	/* more than a ring and the buffers of TCP hold */

struct call {
	int fd;
	pthread_t thread;
	pid_t tid;
	ssize_t (*make)(int fd);
	ssize_t ret;
	int err;
	char got[16];
};

static __thread struct call *me;
static const char *what;	/* for messages */
#define EACH(fn) (what = #fn, s_each(fn))

static void *run(void *arg)
{
	struct call *c = me = arg;

	__atomic_store_n(&c->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
	c->ret = c->make(c->fd);
	c->err = c->ret < 0 ? errno : 0;
	return NULL;
}

static bool asleep(pid_t tid)
{
	char path[64], line[256] = "", *state;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
	f = fopen(path, "r");
	t_must(f && fgets(line, sizeof(line), f), "%s, %s: the call has come back", s_case, what);
	fclose(f);
	state = strrchr(line, ')');
	return state && state[2] == 'S';
}

/* Until it sleeps in its call, and not for a moment on the way there. */
static void await_asleep(struct call *c)
{
	int looks = 0;

	while (!__atomic_load_n(&c->tid, __ATOMIC_ACQUIRE))
		usleep(100);
	while (looks < 5) {
		usleep(1000);
		looks = asleep(c->tid) ? looks + 1 : 0;
	}
}

static void begin(struct call *c, int fd, ssize_t (*make)(int fd))
{
	*c = (struct call){ .fd = fd, .make = make };
	t_must(!pthread_create(&c->thread, NULL, run, c), "thread");
	await_asleep(c);
}

static void end(struct call *c, ssize_t ret, int err)
{
	t_must(!pthread_join(c->thread, NULL), "join");
	t_eq(c->ret, ret, "%s, %s: the call", s_case, what);
	t_eq(c->err, err, "%s, %s: its error", s_case, what);
}

static ssize_t recv8(int fd)
{
	return recv(fd, me->got, 8, 0);
}

static ssize_t recv8_all(int fd)
{
	return recv(fd, me->got, 8, MSG_WAITALL);
}

static ssize_t send_big(int fd)
{
	char *big = malloc(BIG);
	ssize_t n;

	t_fill(big, BIG, 1, 0);
	n = send(fd, big, BIG, MSG_NOSIGNAL);
	free(big);
	return n;
}

static bool is_free(int fd)
{
	return fcntl(fd, F_GETFD) < 0 && errno == EBADF;
}

static void received(struct peer *p, int fd)
{
	struct call c;

	begin(&c, fd, recv8);
	t_ok(!close(fd), "%s: close", s_case);
	t_ok(is_free(fd), "%s: the number is free", s_case);
	t_ok(close(fd) < 0 && errno == EBADF, "%s: closed", s_case);
	p_send(p, 2, 0, 8);
	end(&c, 8, 0);
	t_eq(t_wrong(c.got, 8, 2, 0), -1, "%s: what was sent", s_case);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s, %s: then the end", s_case, what);
}

static void bytes_left(struct peer *p, int fd)
{
	struct call c;

	begin(&c, fd, recv8);
	t_ok(!close_range((unsigned int)fd, (unsigned int)fd, 0), "%s: close_range", s_case);
	t_ok(is_free(fd), "%s: the number is free", s_case);
	p_send(p, 2, 0, 10);
	end(&c, 8, 0);
	t_eq(p_recv(p, 1, 0, 1), -ECONNRESET, "%s: with bytes unread it is a reset", s_case);
}

/* Another file has the number meanwhile, with bytes that nobody is to take. */
static void number_used(struct peer *p, int fd)
{
	struct call c;
	char buf[8];
	int pipes[2];

	t_must(!pipe(pipes) && write(pipes[1], "not this", 8) == 8, "pipe");
	begin(&c, fd, recv8_all);
	t_eq(dup2(pipes[0], fd), fd, "%s: dup2", s_case);
	p_send(p, 2, 0, 5);
	p_send(p, 2, 5, 3);
	end(&c, 8, 0);
	t_eq(t_wrong(c.got, 8, 2, 0), -1, "%s: what was sent", s_case);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s, %s: then the end", s_case, what);
	t_ok(read(fd, buf, 8) == 8 && !memcmp(buf, "not this", 8), "%s: the other file", s_case);
	close(fd);
	close(pipes[0]);
	close(pipes[1]);
}

/* The connection ends with the last of them. */
static void both_ways(struct peer *p, int fd)
{
	struct call in, out;

	begin(&in, fd, recv8);
	begin(&out, fd, send_big);
	t_ok(!close(fd), "%s: close", s_case);
	t_ok(is_free(fd), "%s: the number is free", s_case);
	p_send(p, 2, 0, 8);
	end(&in, 8, 0);
	t_eq(p_recv(p, 1, 0, BIG), BIG, "%s: all comes", s_case);
	end(&out, BIG, 0);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s, %s: then the end", s_case, what);
}

/* The one that waits is not on the last descriptor. */
static void other_number(struct peer *p, int fd)
{
	int other = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	struct call c;

	t_must(other >= 0, "dup");
	begin(&c, fd, recv8);
	t_ok(!close(fd), "%s: close", s_case);
	p_send(p, 2, 0, 8);
	end(&c, 8, 0);
	begin(&c, other, recv8);
	t_ok(!close(other), "%s: close of the other", s_case);
	p_send(p, 2, 8, 8);
	end(&c, 8, 0);
	t_eq(t_wrong(c.got, 8, 2, 8), -1, "%s: what was sent", s_case);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s, %s: then the end", s_case, what);
}

static void peer_ends(struct peer *p, int fd)
{
	struct call c;

	begin(&c, fd, recv8);
	t_ok(!close(fd), "%s: close", s_case);
	p_shutdown(p, SHUT_WR);
	end(&c, 0, 0);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s, %s: then the end", s_case, what);
}

static void time_limit(struct peer *p, int fd)
{
	struct call c;

	t_ok(!setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ .tv_usec = 200000 }, sizeof(struct timeval)), "RCVTIMEO");
	begin(&c, fd, recv8);
	t_ok(!close(fd), "%s: close", s_case);
	end(&c, -1, EAGAIN);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s, %s: then the end", s_case, what);
}

/* A child has no part in it. */
static void forked(struct peer *p, int fd)
{
	struct call c;
	int pipes[2];
	pid_t pid;
	char b;

	t_must(!pipe(pipes), "pipe");
	begin(&c, fd, recv8);
	t_ok(!close(fd), "%s: close", s_case);
	pid = t_fork();
	if (!pid) {
		if (p->fd >= 0)
			close(p->fd);
		close(pipes[1]);
		t_ok(is_free(fd), "%s: in the child", s_case);
		t_ok(!read(pipes[0], &b, 1), "%s: lives until then", s_case);
		t_child_exit();
	}
	close(pipes[0]);
	p_send(p, 2, 0, 8);
	end(&c, 8, 0);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s, %s: then the end", s_case, what);
	close(pipes[1]);
	t_reap(pid);
}

static void cancelled(struct peer *p, int fd)
{
	struct call c;
	void *ret;

	begin(&c, fd, recv8);
	t_ok(!close(fd), "%s: close", s_case);
	t_must(!pthread_cancel(c.thread) && !pthread_join(c.thread, &ret) && ret == PTHREAD_CANCELED, "%s: cancelled", s_case);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s, %s: then the end", s_case, what);
}

/* ---------------------------------------------------------------- handlers */

static int to_close;

static void handler(int flags, void (*fn)(int sig))
{
	struct sigaction sa = { .sa_handler = fn, .sa_flags = flags };

	t_must(!sigaction(SIGUSR1, &sa, NULL), "sigaction");
}

static void nothing(int sig)
{
}

static void closes(int sig)
{
	int saved = errno;

	close(to_close);
	errno = saved;
}

/* Begun again by the kernel, a call finds that its descriptor is gone, whoever has closed it and when. */
static void begins_again(struct peer *p, int fd)
{
	struct call c;

	handler(SA_RESTART, nothing);
	begin(&c, fd, recv8);
	t_ok(!close(fd), "%s: close", s_case);
	pthread_kill(c.thread, SIGUSR1);
	end(&c, -1, EBADF);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s, %s: then the end", s_case, what);
}

static void closed_by_handler(struct peer *p, int fd)
{
	struct call c;

	handler(SA_RESTART, closes);
	begin(&c, fd, recv8);
	to_close = fd;
	pthread_kill(c.thread, SIGUSR1);
	end(&c, -1, EBADF);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s, %s: then the end", s_case, what);
}

static void interrupted(struct peer *p, int fd)
{
	struct call c;

	handler(0, nothing);
	begin(&c, fd, recv8);
	t_ok(!close(fd), "%s: close", s_case);
	pthread_kill(c.thread, SIGUSR1);
	end(&c, -1, EINTR);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s, %s: then the end", s_case, what);
}

static __thread sigjmp_buf out;

static void leave(int sig)
{
	siglongjmp(out, 1);
}

static __attribute__((noinline)) ssize_t recv_and_leave(int fd)
{
	if (sigsetjmp(out, 1))
		return 77;
	return recv8(fd);
}

static void left(struct peer *p, int fd)
{
	struct call c;

	handler(0, leave);
	begin(&c, fd, recv_and_leave);
	t_ok(!close(fd), "%s: close", s_case);
	pthread_kill(c.thread, SIGUSR1);
	end(&c, 77, 0);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s, %s: then the end", s_case, what);
}

/* -------------------------------------------------------- not connected yet */

static ssize_t accept_one(int fd)
{
	return accept4(fd, NULL, NULL, SOCK_CLOEXEC);
}

static void accepting(int family)
{
	struct s_addr a;
	struct call c;
	int lfd, fd;

	what = "accepting";
	snprintf(s_case, sizeof(s_case), "family %d", family);
	lfd = s_listen(family, &a);
	begin(&c, lfd, accept_one);
	t_ok(!close(lfd), "%s: close", s_case);
	fd = s_connect(&a);
	t_must(!pthread_join(c.thread, NULL) && c.ret >= 0, "%s: goes on", s_case);
	t_must(s_send_stream(fd, 1, 0, 1000) && s_recv_stream((int)c.ret, 1, 0, 1000), "%s: connected", s_case);
	close((int)c.ret);
	close(fd);
	fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	t_ok(connect(fd, (struct sockaddr *)&a.ss, a.len) < 0 && errno == ECONNREFUSED, "%s: nobody listens", s_case);
	close(fd);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	EACH(received);
	EACH(bytes_left);
	EACH(number_used);
	EACH(both_ways);
	EACH(other_number);
	EACH(peer_ends);
	EACH(time_limit);
	EACH(forked);
	accepting(AF_INET);
	accepting(AF_INET6);
#ifndef __SANITIZE_ADDRESS__	/* fails itself (__asan_handle_no_return) where a thread is cancelled asynchronously */
	EACH(cancelled);
#endif
#ifndef __SANITIZE_THREAD__	/* calls handlers itself, when it likes */
	EACH(begins_again);
	EACH(closed_by_handler);
	EACH(interrupted);
	EACH(left);
#endif
	return t_done();
}
