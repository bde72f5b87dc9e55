/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * longjmp.c - a handler that leaves a waiting call with siglongjmp(): the socket goes on, and nothing is left behind
 *
 * ring: yes
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>
#include "sock.h"

static sigjmp_buf out;
static char alt[1 << 16];

static void leave(int sig)
{
	siglongjmp(out, 1);
}

static void handler(int flags)
{
	struct sigaction sa = { .sa_handler = leave, .sa_flags = flags };

	sigaction(SIGALRM, &sa, NULL);
}

static void soon(int us)
{
	setitimer(ITIMER_REAL, &(struct itimerval){ .it_value.tv_usec = us }, NULL);
}

enum call { RECV, POLL, MANY, SELECT, EPOLL, SEND, CALLS };
static const char *const names[] = { "recv", "poll", "poll of many", "select", "epoll_wait", "send" };

static __attribute__((noinline)) void wait_in(enum call call, int fd, int ep)
{
	static char big[1 << 20];
	struct epoll_event ev;
	struct pollfd many[400];
	ssize_t n = 0;
	fd_set set;
	char c;

	for (int i = 0; i < 400; i++)
		many[i] = (struct pollfd){ .fd = i ? -1 : fd, .events = POLLIN };
	FD_ZERO(&set);
	FD_SET(fd, &set);
	switch (call) {
	case RECV: n = recv(fd, &c, 1, 0); break;
	case POLL: n = poll(many, 1, -1); break;
	case MANY: n = poll(many, 400, -1); break;
	case SELECT: n = select(fd + 1, &set, NULL, NULL, NULL); break;
	case EPOLL: n = epoll_wait(ep, &ev, 1, -1); break;
	default:
		for (;;)
			t_must(send(fd, big, sizeof(big), MSG_NOSIGNAL) > 0, "send");
	}
	t_ok(false, "%s: %s has come back with %zd", s_case, names[call], n);
}

static int descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	t_must(d, "/proc/self/fd");
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static int mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	int n = 0;

	t_must(f, "/proc/self/maps");
	while (fgets(line, sizeof(line), f))
		n++;
	fclose(f);
	return n;
}

/* In the loop of a function of its own: what lives across sigsetjmp() is not to be in a register. */
static __attribute__((noinline)) void once(enum call call, int fd, int ep, int us)
{
	if (!sigsetjmp(out, 1)) {
		soon(us);
		wait_in(call, fd, ep);
	}
}

static void left(struct peer *p, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof(alt) };
	int ep = epoll_create1(0), fds, maps, type;
	volatile uint64_t pos = 0;

	t_must(ep >= 0 && !epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) && !sigaltstack(&ss, NULL), "set up");
	for (volatile int stack = 0; stack < 2; stack++) {
		handler(SA_RESTART | (stack ? SA_ONSTACK : 0));
		for (volatile int call = RECV; call < CALLS; call++) {
			if (call == SEND && !stack)
				continue;	/* it fills the connection up for good */
			once(call, fd, ep, 3000);
			fds = descriptors();
			maps = mappings();
			for (volatile int i = 0; i < (call == SEND ? 1 : 12); i++)
				once(call, fd, ep, 300 + i * 50);
			/*
			 * One may be kept for the next call, and the connection may move to the ring meanwhile: a channel, and the
			 * service thread, with what a sanitizer has for each thread.  One left by each call would be twelve.
			 */
			t_ok(descriptors() <= fds + 4, "%s: descriptors that %s has left: %d", s_case, names[call], descriptors() - fds);
			t_ok(mappings() <= maps + 8, "%s: mappings that %s has left: %d", s_case, names[call], mappings() - maps);
			p_send(p, 1, pos, 100);
			t_must(s_recv_stream(fd, 1, pos, 100), "%s: received after %s", s_case, names[call]);
			pos += 100;
		}
	}
	if (getenv("T_NTBSOCK")) {	/* the C library itself leaves its own calls with the other type */
		pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
		t_eq(type, PTHREAD_CANCEL_DEFERRED, "%s: cancel type", s_case);
	}
	sigaltstack(&(stack_t){ .ss_flags = SS_DISABLE }, NULL);
	close(ep);
	close(fd);
}

/* Connections that are each left in a call and then closed: a process that lives on such calls does not grow. */
static void grows(void)
{
	struct s_addr a;
	volatile int lfd = s_listen(AF_INET, &a), before = 0;

	handler(0);
	for (volatile int i = 0; i < 900; i++) {
		volatile int c = s_connect(&a), d = s_accept(lfd);

		once(RECV, c, -1, 100);
		close(c);
		close(d);
		if (i == 99)
			before = mappings();
	}
	t_ok(mappings() <= before + 9, "mappings that closed sockets have left: %d", mappings() - before);
	close(lfd);
}

int main(void)
{
#ifdef __SANITIZE_THREAD__
	t_skip("ThreadSanitizer calls handlers itself, when it likes");
#endif
	s_each(left);
	grows();
	return t_done();
}
