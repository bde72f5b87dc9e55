/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * signals.c - a signal in a call that waits: EINTR, or on with it under SA_RESTART; masks of ppoll and friends
 *
 * ring: yes
 */
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include "sock.h"

static atomic_int hits;
static pthread_t main_thread;

static void on_signal(int sig)
{
	hits++;
}

static void handler(int flags)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = flags };

	sigaction(SIGUSR1, &sa, NULL);
	hits = 0;
}

struct sender {
	struct peer *p;
	bool data;
	uint64_t pos;
};

/* Signals the main thread, which sleeps in a call, until it has been seen at least once, then lets the data come. */
static void *signaller(void *arg)
{
	struct sender *s = arg;
	int looks = 0;

	while (looks < 5) {		/* in its call, and not for a moment on the way there */
		usleep(1000);
		looks = s_asleep(getpid()) ? looks + 1 : 0;
	}
	do {
		pthread_kill(main_thread, SIGUSR1);
		usleep(2000);
	} while (!hits);
	if (s->data)
		p_send(s->p, 1, s->pos, 1);
	return NULL;
}

static void interrupted(struct peer *p, int fd)
{
	struct sender s = { p, false, 0 };
	int ep = epoll_create1(0);
	struct epoll_event ev = { .events = EPOLLIN };
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	fd_set set;
	pthread_t t;
	char c;
	ssize_t n;

	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
	for (int call = 0; call < 6; call++) {
		/* the multiplexers end with EINTR whatever SA_RESTART says */
		handler(call >= 2 && call % 2 ? SA_RESTART : 0);
		s.data = false;
		pthread_create(&t, NULL, signaller, &s);
		errno = 0;
		switch (call) {
		case 0: n = recv(fd, &c, 1, 0); break;
		case 1: n = read(fd, &c, 1); break;
		case 2:
		case 3: n = poll(&pfd, 1, 10000); break;
		case 4: n = epoll_wait(ep, &ev, 1, 10000); break;
		default:
			FD_ZERO(&set);
			FD_SET(fd, &set);
			n = select(fd + 1, &set, NULL, NULL, &(struct timeval){ 10, 0 });
		}
		t_ok(n == -1 && errno == EINTR, "%s: call %d gives %zd", s_case, call, n);
		t_ok(hits, "%s: handler ran", s_case);
		pthread_join(t, NULL);
	}

	/* SA_RESTART: the call goes on and takes what comes after the signal */
	for (int call = 0; call < 2; call++) {
		handler(SA_RESTART);
		s.data = true;
		pthread_create(&t, NULL, signaller, &s);
		n = call ? read(fd, &c, 1) : recv(fd, &c, 1, 0);
		t_eq(n, 1, "%s: restarted", s_case);
		t_eq((uint8_t)c, t_byte(1, s.pos), "%s: restarted", s_case);
		t_ok(hits, "%s: handler ran", s_case);
		pthread_join(t, NULL);
		s.pos++;
	}

	/* what has been taken is not lost to a signal */
	handler(0);
	p_send(p, 1, s.pos, 5);
	t_eq(poll(&pfd, 1, 5000), 1, "%s: there", s_case);
	s.data = false;
	pthread_create(&t, NULL, signaller, &s);
	char buf[10];
	n = recv(fd, buf, 10, MSG_WAITALL);
	pthread_join(t, NULL);
	t_eq(n, 5, "%s: partial WAITALL", s_case);
	t_eq(t_wrong(buf, 5, 1, s.pos), -1, "%s: partial WAITALL", s_case);

	/* a blocked signal that ppoll, pselect and epoll_pwait let in */
	sigset_t block, none;
	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	for (int call = 0; call < 3; call++) {
		struct timespec ts = { 10, 0 };

		pthread_sigmask(SIG_BLOCK, &block, NULL);
		handler(0);
		pthread_kill(main_thread, SIGUSR1);
		t_eq(poll(&pfd, 1, 5), 0, "%s: blocked", s_case);
		t_eq(hits, 0, "%s: blocked", s_case);
		FD_ZERO(&set);
		FD_SET(fd, &set);
		n = call == 0 ? ppoll(&pfd, 1, &ts, &none) : call == 1 ? pselect(fd + 1, &set, NULL, NULL, &ts, &none) :
							     epoll_pwait(ep, &ev, 1, 10000, &none);
		t_ok(n == -1 && errno == EINTR && hits == 1, "%s: let in by call %d: %zd", s_case, call, n);
		pthread_sigmask(SIG_UNBLOCK, &block, NULL);
		t_eq(hits, 1, "%s: once", s_case);
	}
	close(ep);
	close(fd);
}

/* A storm of handled signals while a stream passes: not a byte lost or twice. */
static atomic_int stop;

static void *storm(void *arg)
{
	while (!stop) {
		pthread_kill(main_thread, SIGUSR1);
		usleep(100);
	}
	return NULL;
}

static void stormy(struct peer *p, int fd)
{
	pthread_t t;

	if (!p->pid) {
		close(fd);
		return;
	}
	handler(0);
	stop = 0;
	pthread_create(&t, NULL, storm, NULL);
	while (!hits)		/* it blows before the first byte */
		usleep(10);
	s_order(p, (struct s_msg){ .order = S_SEND, .stream = 1, .len = 2000000 });
	s_recv_stream(fd, 1, 0, 2000000);
	s_order(p, (struct s_msg){ .order = S_RECV, .stream = 2, .len = 2000000 });
	s_send_stream(fd, 2, 0, 2000000);
	stop = 1;
	pthread_join(t, NULL);
	t_eq(s_answer(p), 2000000, "%s: sent", s_case);
	t_eq(s_answer(p), 2000000, "%s: received", s_case);
	t_ok(hits > 0, "no signal came");
	close(fd);
}

int main(void)
{
#ifdef __SANITIZE_THREAD__
	t_skip("ThreadSanitizer keeps signals back until a call of libc that it knows");
#endif
	main_thread = pthread_self();
	s_each(interrupted);
	s_each(stormy);
	return t_done();
}
