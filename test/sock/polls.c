/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * polls.c - corners of poll, select and epoll: as many members as may be, time without end, sets that are short or passed
 * twice, the signal mask of the call, arguments that are refused
 *
 * ring: yes
 */
#include <limits.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include "sock.h"

#define PAGE 4096
#define LIMIT 64		/* RLIMIT_NOFILE of a moment */
#define CROWD 1200		/* members of a select(): more than fd_set has */
#define BEYOND 100000		/* more descriptors than the table has */
#define LONG_BITS ((int)(8 * sizeof(long)))

static uint64_t in;		/* position of the stream to us */
static atomic_int heard;

static void on_signal(int sig)
{
	heard++;
}

static void take(int fd, size_t len)
{
	t_must(s_recv_stream(fd, 1, in, len), "%s: there", s_case);
	in += len;
}

static void long_set(unsigned long *set, int fd)
{
	set[fd / LONG_BITS] |= 1ul << (fd % LONG_BITS);
}

static bool long_isset(const unsigned long *set, int fd)
{
	return set[fd / LONG_BITS] >> (fd % LONG_BITS) & 1;
}

/* As many entries as RLIMIT_NOFILE lets poll() have, and one more. */
static void full(struct peer *p, int fd)
{
	struct pollfd fds[LIMIT + 1];
	struct rlimit was, few;

	t_must(!getrlimit(RLIMIT_NOFILE, &was), "getrlimit");
	few = (struct rlimit){ LIMIT, was.rlim_max };
	for (int i = 0; i <= LIMIT; i++)
		fds[i] = (struct pollfd){ .fd = i == LIMIT / 2 ? fd : -1, .events = POLLIN };
	t_must(!setrlimit(RLIMIT_NOFILE, &few), "setrlimit");
	t_eq(poll(fds, LIMIT, 20), 0, "%s: full, nothing", s_case);
	p_later(p, S_SEND_LATER, 20, 1, in, 10);
	t_eq(poll(fds, LIMIT, 5000), 1, "%s: full, woken", s_case);
	t_eq(fds[LIMIT / 2].revents, POLLIN, "%s: full", s_case);
	t_ok(poll(fds, LIMIT + 1, 0) == -1 && errno == EINVAL, "%s: one more", s_case);
	t_must(!setrlimit(RLIMIT_NOFILE, &was), "setrlimit");
	take(fd, 10);
}

/* The longest time that can be said. */
static void for_ever(struct peer *p, int fd)
{
	const struct timespec ts = { LONG_MAX, 999999999 };
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	t_must(!epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), "EPOLL_CTL_ADD");
	for (int way = 0; way < 5; way++) {
		struct timeval tv = { way == 1 ? LONG_MAX : LONG_MAX / 1000, 1999999 };
		fd_set r;
		int n;

		FD_ZERO(&r);
		FD_SET(fd, &r);
		p_later(p, S_SEND_LATER, 20, 1, in, 10);
		switch (way) {
		case 0: n = ppoll(&pfd, 1, &ts, NULL); break;
		case 1:
		case 2: n = select(fd + 1, &r, NULL, NULL, &tv); break;
		case 3: n = pselect(fd + 1, &r, NULL, NULL, &ts, NULL); break;
#if __GLIBC_PREREQ(2, 35)
		case 4:
			n = epoll_pwait2(ep, &ev, 1, &ts, NULL);
			if (n < 0 && errno == ENOSYS)
				n = epoll_wait(ep, &ev, 1, -1);
			break;
#endif
		default: n = epoll_wait(ep, &ev, 1, -1);
		}
		t_eq(n, 1, "%s: for ever, way %d: %s", s_case, way, n < 0 ? strerror(errno) : "");
		if (way == 1 || way == 2)
			t_ok(tv.tv_sec > LONG_MAX / 1001 && tv.tv_usec >= 0 && tv.tv_usec < 1000000, "%s: %ld s %ld us left", s_case,
			     (long)tv.tv_sec, (long)tv.tv_usec);
		take(fd, 10);
	}
	close(ep);
}

static void *connect_late(void *arg)
{
	int *fd = arg, one;		/* a socket, the listener that it is to be connected to */
	struct s_addr a = { .len = sizeof(a.ss) };

	usleep(10000);
	t_must(!getsockname(fd[1], (struct sockaddr *)&a.ss, &a.len), "getsockname");
	t_must(!connect(fd[0], (struct sockaddr *)&a.ss, a.len), "connect");
	one = s_accept(fd[1]);
	t_eq(send(one, "!", 1, MSG_OOB), 1, "%s: urgent", s_case);
	return (void *)(long)one;
}

/* A socket that is not connected hangs up, which select() does not tell of who asks for urgent data; then it gets some. */
static void hung_up(struct peer *p, int fd)
{
	int two[2], top;
	struct s_addr a;
	fd_set r, e;
	pthread_t t;
	void *one;

	two[1] = s_listen(AF_INET, &a);
	two[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	top = fd > two[0] ? fd : two[0];
	FD_ZERO(&r);
	FD_ZERO(&e);
	FD_SET(fd, &r);
	FD_SET(two[0], &e);
	t_eq(select(top + 1, &r, NULL, &e, &(struct timeval){ 0, 5000 }), 0, "%s: hung up", s_case);
	t_ok(!FD_ISSET(fd, &r) && !FD_ISSET(two[0], &e), "%s: hung up", s_case);
	FD_SET(fd, &r);
	FD_SET(two[0], &e);
	p_later(p, S_SEND_LATER, 100, 1, in, 10);
	t_must(!pthread_create(&t, NULL, connect_late, two), "thread");
	t_ok(select(top + 1, &r, NULL, &e, NULL) >= 1, "%s: hung up, then urgent", s_case);
	t_ok(FD_ISSET(two[0], &e), "%s: urgent data is not told of", s_case);
	t_must(!pthread_join(t, &one), "join");
	take(fd, 10);
	close((int)(long)one);
	close(two[0]);
	close(two[1]);
}

static void crowd(struct peer *p, int fd)
{
	unsigned long r[(CROWD + 200) / (8 * sizeof(long))], w[sizeof(r) / sizeof(long)] = { 0 };
	int pi[2], member[CROWD], top = fd, nr = 0;
	struct rlimit was, many;

	t_must(!getrlimit(RLIMIT_NOFILE, &was), "getrlimit");
	many = was;
	if (many.rlim_cur < CROWD + 200)
		many.rlim_cur = CROWD + 200;
	if (setrlimit(RLIMIT_NOFILE, &many)) {
		printf("# no more than %lu descriptors\n", (unsigned long)was.rlim_cur);
		return;
	}
	t_must(!pipe(pi), "pipe");
	memset(r, 0, sizeof(r));
	while (nr < CROWD) {
		int d = dup(pi[0]);

		t_must(d >= 0 && d < (int)sizeof(r) * 8, "dup: %d", d);
		member[nr++] = d;
		long_set(r, d);
		top = d > top ? d : top;
	}
	long_set(r, fd);
	long_set(w, fd);
	t_eq(select(top + 1, (fd_set *)r, NULL, NULL, &(struct timeval){ 0, 10000 }), 0, "%s: crowd, nothing", s_case);
	t_ok(!long_isset(r, fd) && !long_isset(r, top), "%s: crowd, nothing", s_case);
	for (int i = 0; i < nr; i++)
		long_set(r, member[i]);
	long_set(r, fd);
	p_later(p, S_SEND_LATER, 20, 1, in, 10);
	t_eq(select(top + 1, (fd_set *)r, NULL, NULL, NULL), 1, "%s: crowd, woken", s_case);
	t_ok(long_isset(r, fd) && !long_isset(r, top), "%s: crowd, woken", s_case);
	for (int i = 0; i < nr; i++)
		long_set(r, member[i]);
	t_must(write(pi[1], "x", 1) == 1, "pipe");
	t_eq(select(top + 1, (fd_set *)r, (fd_set *)w, NULL, NULL), CROWD + 2, "%s: crowd, all", s_case);
	take(fd, 10);
	for (int i = 0; i < nr; i++)
		close(member[i]);
	close(pi[0]);
	close(pi[1]);
	t_must(!setrlimit(RLIMIT_NOFILE, &was), "setrlimit");
}

/* Of the process's table of descriptors; 0: not known. */
static int table_size(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	int size = 0;

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "FDSize: %d", &size);
	if (f)
		fclose(f);
	return size;
}

/* More descriptors than there can be: the sets end with the table. */
static void short_sets(struct peer *p, int fd)
{
	int size = table_size();
	size_t bytes = (size_t)size / 8, room = (bytes + PAGE - 1) / PAGE * PAGE;
	char *area = mmap(NULL, room + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned long *r = (unsigned long *)(void *)(area + room - bytes);
	struct timespec ts = { 0, 10000000 };

	t_must(area != MAP_FAILED && !mprotect(area + room, PAGE, PROT_NONE), "mmap");
	if (size) {
		long_set(r, fd);
		t_eq(pselect(BEYOND, (fd_set *)r, NULL, NULL, &ts, NULL), 0, "%s: a set of %d: %s", s_case, size, strerror(errno));
		long_set(r, fd);
		p_later(p, S_SEND_LATER, 10, 1, in, 10);
		t_eq(select(BEYOND, (fd_set *)r, NULL, NULL, NULL), 1, "%s: a set of %d: %s", s_case, size, strerror(errno));
		t_ok(long_isset(r, fd), "%s: a set of %d", s_case, size);
		take(fd, 10);
	}
	munmap(area, room + PAGE);
}

/* One set for two questions: both answers count, the later one is what stays. */
static void twice(struct peer *p, int fd)
{
	struct timeval zero = { 0, 0 };
	fd_set s, *volatile again = &s;

	FD_ZERO(&s);
	FD_SET(fd, &s);
	t_eq(select(fd + 1, &s, again, NULL, &zero), 1, "%s: room", s_case);
	t_ok(FD_ISSET(fd, &s), "%s: room", s_case);
	p_send(p, 1, in, 10);
	t_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 5000), 1, "%s: there", s_case);
	t_eq(select(fd + 1, &s, again, NULL, &zero), 2, "%s: both", s_case);
	t_ok(FD_ISSET(fd, &s), "%s: both", s_case);
	t_eq(select(fd + 1, &s, NULL, again, &zero), 1, "%s: nothing urgent", s_case);
	t_ok(!FD_ISSET(fd, &s), "%s: the later answer", s_case);
	take(fd, 10);
}

enum { PPOLL, PSELECT, EPOLL_PWAIT, NR_WAYS };

static int wait_masked(int way, int ep, int fd, short events, int ms, const sigset_t *mask)
{
	struct pollfd pfd = { .fd = fd, .events = events };
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000l };
	struct epoll_event ev = { .events = (uint32_t)events };
	fd_set r, w;

	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_SET(fd, events & POLLIN ? &r : &w);
	switch (way) {
	case PPOLL: return ppoll(&pfd, 1, &ts, mask);
	case PSELECT: return pselect(fd + 1, &r, &w, NULL, &ts, mask);
	default:
		t_must(!epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev), "EPOLL_CTL_MOD");
		return epoll_pwait(ep, &ev, 1, ms, mask);
	}
}

static void *signal_late(void *thread)
{
	usleep(15000);
	t_must(!pthread_kill(*(pthread_t *)thread, SIGUSR1), "pthread_kill");
	return NULL;
}

static void masks(struct peer *p, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(EPOLL_CLOEXEC);
	pthread_t self = pthread_self(), t;
	sigset_t usr, none, pending, was;

	sigemptyset(&none);
	sigemptyset(&usr);
	sigaddset(&usr, SIGUSR1);
	t_must(!epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), "EPOLL_CTL_ADD");
	for (int way = 0; way < NR_WAYS; way++) {
		double start;
		int n;

		/* it waits already: what is ready comes first */
		pthread_sigmask(SIG_BLOCK, &usr, &was);
		pthread_kill(self, SIGUSR1);
		heard = 0;
		t_eq(wait_masked(way, ep, fd, POLLOUT, 5000, &none), 1, "%s: way %d, room", s_case, way);
		t_ok(!sigpending(&pending) && sigismember(&pending, SIGUSR1) && !heard, "%s: way %d, it waits", s_case, way);
		n = wait_masked(way, ep, fd, POLLIN, 5000, &none);
		t_ok(n == -1 && errno == EINTR && heard == 1, "%s: way %d, waiting: %d, %d heard", s_case, way, n, heard);
		/* comes while the call sleeps */
		t_must(!pthread_create(&t, NULL, signal_late, &self), "thread");
		n = wait_masked(way, ep, fd, POLLIN, 5000, &none);
		t_ok(n == -1 && errno == EINTR && heard == 2, "%s: way %d, let through: %d, %d heard", s_case, way, n, heard);
		pthread_join(t, NULL);
		pthread_sigmask(SIG_SETMASK, &was, NULL);

		/* held back for the length of the call */
		heard = 0;
		start = t_now();
		t_must(!pthread_create(&t, NULL, signal_late, &self), "thread");
		t_eq(wait_masked(way, ep, fd, POLLIN, 40, &usr), 0, "%s: way %d, held back", s_case, way);
		t_ok(t_now() - start >= 0.0399, "%s: way %d came back early", s_case, way);
		pthread_join(t, NULL);
		t_eq(heard, 1, "%s: way %d, held back", s_case, way);
	}
	close(ep);
}

#define REFUSED(call, err) \
	t_ok((call) == -1 && errno == (err), "%s: %s is not " #err ", %s", s_case, #call, strerror(errno))

static void refused(struct peer *p, int fd)
{
	char *area = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *hole = area + PAGE;
	struct epoll_event ev = { .events = EPOLLIN }, *bad = (struct epoll_event *)(void *)hole, *volatile none = NULL;
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	const sigset_t *mask = (const sigset_t *)(void *)(hole - 4);
	int ep = epoll_create1(EPOLL_CLOEXEC), closed = fcntl(fd, F_DUPFD, 900);	/* not where the library gets its own */
	volatile int fewer = -1, more = INT_MAX / (int)sizeof(ev) + 1;
	fd_set w;

	t_must(area != MAP_FAILED && !mprotect(hole, PAGE, PROT_NONE), "mmap");
	close(closed);
	REFUSED(epoll_ctl(ep, 99, fd, &ev), EINVAL);
	REFUSED(epoll_ctl(ep, 99, closed, &ev), EBADF);
	REFUSED(epoll_ctl(ep, EPOLL_CTL_ADD, closed, &ev), EBADF);
	REFUSED(epoll_ctl(ep, EPOLL_CTL_ADD, -1, &ev), EBADF);
	REFUSED(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &ev), EINVAL);
	REFUSED(epoll_ctl(-1, EPOLL_CTL_ADD, fd, &ev), EBADF);
	REFUSED(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev), ENOENT);
	REFUSED(epoll_ctl(ep, EPOLL_CTL_DEL, fd, &ev), ENOENT);
	for (int added = 0; added < 2; added++) {
		REFUSED(epoll_ctl(ep, EPOLL_CTL_ADD, fd, none), EFAULT);
		REFUSED(epoll_ctl(ep, EPOLL_CTL_MOD, fd, none), EFAULT);
		REFUSED(epoll_ctl(ep, 99, fd, none), EFAULT);
		if (!getenv("T_SAN")) {
			REFUSED(epoll_ctl(ep, EPOLL_CTL_ADD, fd, bad), EFAULT);
			REFUSED(epoll_ctl(ep, EPOLL_CTL_MOD, fd, bad), EFAULT);
			REFUSED(epoll_ctl(ep, EPOLL_CTL_ADD, closed, bad), EFAULT);
			REFUSED(epoll_ctl(-1, EPOLL_CTL_ADD, fd, bad), EFAULT);
		}
		if (!added)
			t_ok(!epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), "EPOLL_CTL_ADD");
	}
	REFUSED(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), EEXIST);
	t_ok(!epoll_ctl(ep, EPOLL_CTL_MOD, fd, &(struct epoll_event){ .events = EPOLLOUT, .data.u64 = 7 }), "EPOLL_CTL_MOD");
	REFUSED(epoll_wait(ep, &ev, 0, -1), EINVAL);
	REFUSED(epoll_wait(ep, &ev, fewer, -1), EINVAL);
	REFUSED(epoll_wait(ep, &ev, more, -1), EINVAL);
	if (!getenv("T_SAN")) {
		REFUSED(epoll_wait(ep, bad, 1, -1), EFAULT);
		REFUSED(epoll_wait(ep, (struct epoll_event *)-4096l, 1, 0), EFAULT);
		/* the mask is read first */
		FD_ZERO(&w);
		FD_SET(fd, &w);
		REFUSED(ppoll(&pfd, 1, NULL, mask), EFAULT);
		REFUSED(pselect(fd + 1, NULL, &w, NULL, NULL, mask), EFAULT);
		REFUSED(epoll_pwait(ep, &ev, 1, -1, mask), EFAULT);
	}
	t_ok(epoll_wait(ep, &ev, 1, 1000) == 1 && ev.data.u64 == 7 && ev.events == EPOLLOUT, "%s: what was asked for last", s_case);
	t_ok(!epoll_ctl(ep, EPOLL_CTL_DEL, fd, bad), "%s: EPOLL_CTL_DEL takes no event", s_case);
	close(ep);
	munmap(area, 2 * PAGE);
}

static void corners(struct peer *p, int fd)
{
	in = 0;
	full(p, fd);
	for_ever(p, fd);
	hung_up(p, fd);
	crowd(p, fd);
	short_sets(p, fd);
	twice(p, fd);
	masks(p, fd);
	refused(p, fd);
	close(fd);
}

int main(void)
{
	struct sigaction sa = { .sa_handler = on_signal };

	t_must(!sigaction(SIGUSR1, &sa, NULL), "sigaction");
	s_each(corners);
	return t_done();
}
