/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * eintr.c - a signal that comes once, at any moment of a call that waits, ends it; what SA_RESTART, time limits and bytes
 * that have moved make of that; what is ready against what is pending
 *
 * ring: yes
 */
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include "sock.h"

#define ROUNDS 60

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

enum call { RECV, SEND, POLL, SELECT, EPOLL, RECV_TIMEO, PPOLL, PSELECT, EPOLL_PWAIT, CALLS };
static const char *const names[] = { "recv", "send", "poll", "select", "epoll_wait", "recv with a time limit", "ppoll", "pselect",
				     "epoll_pwait" };

static ssize_t one_call(enum call call, int fd, int ep)
{
	static char big[1 << 20];
	struct epoll_event ev;
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	struct timespec ts = { 10, 0 };
	sigset_t none;
	fd_set set;
	char c;

	sigemptyset(&none);
	FD_ZERO(&set);
	FD_SET(fd, &set);
	switch (call) {
	case RECV:
	case RECV_TIMEO:
		return recv(fd, &c, 1, 0);
	case SEND:
		return send(fd, big, sizeof(big), MSG_NOSIGNAL);
	case POLL:
		return poll(&pfd, 1, 10000);
	case SELECT:
		return select(fd + 1, &set, NULL, NULL, &(struct timeval){ 10, 0 });
	case EPOLL:
		return epoll_wait(ep, &ev, 1, 10000);
	case PPOLL:
		return ppoll(&pfd, 1, &ts, &none);
	case PSELECT:
		return pselect(fd + 1, &set, NULL, NULL, &ts, &none);
	default:
		return epoll_pwait(ep, &ev, 1, 10000, &none);
	}
}

static atomic_int warm_nr, round_nr, done_nr, lost, stop;
static int warm_fd;

/*
 * One signal some microseconds after each call has begun, and if it has not ended the call after a while, another.  Before
 * it a byte that comes soon: who has just been lucky polls longer.
 */
static void *once(void *arg)
{
	uint64_t r = t_seed() + 2;
	int seen = 0, warmed = 0;

	while (!stop) {
		double t = t_now();

		if (warm_nr != warmed) {
			warmed = warm_nr;
			while (t_now() - t < 5e-6)
				;
			t_ok(send(warm_fd, "w", 1, 0) == 1, "send");
		}
		if (round_nr == seen)
			continue;
		seen = round_nr;
		for (double wait = (double)(t_rand_r(&r) % 100) * 1e-6 + 2e-6; t_now() - t < wait;)
			;
		pthread_kill(main_thread, SIGUSR1);
		for (t = t_now(); done_nr != seen && t_now() - t < 0.2;)
			usleep(50);
		if (done_nr != seen)
			lost++;		/* or we have to wait long for the CPU */
		while (done_nr != seen) {
			pthread_kill(main_thread, SIGUSR1);
			usleep(1000);
		}
	}
	return NULL;
}

static void at_any_moment(struct peer *p, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(0);
	sigset_t block;
	pthread_t t;

	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	t_must(ep >= 0 && !epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), "epoll");
	warm_fd = p->fd;
	for (enum call call = 0; call < CALLS; call++) {
		bool masked = call >= PPOLL;

		/* what is never restarted is not restarted whatever SA_RESTART says */
		handler(call == RECV || call == SEND ? 0 : SA_RESTART);
		if (call == RECV_TIMEO)
			setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ 10, 0 }, sizeof(struct timeval));
		if (call == SEND)		/* nobody reads: fill it up */
			while (send(fd, "0123456789abcdef", 16, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
				;
		if (masked)
			pthread_sigmask(SIG_BLOCK, &block, NULL);
		stop = warm_nr = round_nr = done_nr = lost = 0;
		t_must(!pthread_create(&t, NULL, once, NULL), "thread");
		if (call == SEND)	/* the lock of a full kernel socket is taken for long: fewer will do */
			usleep(1000);
		for (int i = 1; i <= (call == SEND ? ROUNDS / 4 : ROUNDS); i++) {
			ssize_t n;
			char c;

			if (warm_fd >= 0) {
				warm_nr = i;
				do
					n = recv(fd, &c, 1, 0);
				while (n < 0 && errno == EINTR);
				t_eq(n, 1, "%s: warmed", s_case);
			}
			round_nr = i;
			n = one_call(call, fd, ep);
			/* a connection that moves to the ring now has room again */
			t_ok((n == -1 && errno == EINTR) || (call == SEND && n > 0), "%s: %s gives %zd", s_case, names[call], n);
			done_nr = i;
		}
		stop = 1;
		pthread_join(t, NULL);
		pthread_sigmask(SIG_UNBLOCK, &block, NULL);
		/* What comes before the call has begun is not its business, and the scheduler may let that be.  With a mask
		 * it is: a signal that is not heard of there waits until the call has ended without it, and the check above
		 * has failed. */
		t_ok(masked || lost <= ROUNDS / 4, "%s: %s has not heard of %d signals of %d", s_case, names[call], lost, ROUNDS);
	}
	close(ep);
	close(fd);
}

struct later {
	unsigned int ms;
	struct peer *p;
};

static void *in_a_moment(void *arg)
{
	struct later *l = arg;

	usleep(l->ms * 1000);
	while (!s_asleep(getpid()))	/* on a busy machine it may not have begun */
		usleep(1000);
	pthread_kill(main_thread, SIGUSR1);
	return NULL;
}

static ssize_t while_signalled(ssize_t (*call)(int fd), int fd)
{
	struct later l = { 15, NULL };
	pthread_t t;
	ssize_t n;
	int saved;

	hits = 0;
	t_must(!pthread_create(&t, NULL, in_a_moment, &l), "thread");
	n = call(fd);
	saved = errno;
	pthread_join(t, NULL);
	errno = saved;
	return n;
}

static char buf[1 << 16];

static ssize_t all_of_10(int fd)
{
	return recv(fd, buf, 10, MSG_WAITALL);
}

static ssize_t peek_all_of_10(int fd)
{
	return recv(fd, buf, 10, MSG_WAITALL | MSG_PEEK);
}

static ssize_t one(int fd)
{
	return recv(fd, buf, 1, 0);
}

static ssize_t much(int fd)
{
	static char b[16 << 20];

	return send(fd, b, sizeof(b), MSG_NOSIGNAL);
}

static void rules(struct peer *p, int fd)
{
	struct timeval limit = { 5, 0 }, none = { 0, 0 };
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	ssize_t n;

	/* bytes that have moved are the result, SA_RESTART or not */
	handler(SA_RESTART);
	p_send(p, 1, 0, 5);
	t_eq(poll(&pfd, 1, 5000), 1, "%s: there", s_case);
	t_eq(while_signalled(all_of_10, fd), 5, "%s: MSG_WAITALL, some there", s_case);
	t_eq(hits, 1, "%s: handler", s_case);
	t_eq(t_wrong(buf, 5, 1, 0), -1, "%s: MSG_WAITALL", s_case);
	p_send(p, 1, 5, 5);
	t_eq(poll(&pfd, 1, 5000), 1, "%s: there", s_case);
	t_eq(while_signalled(peek_all_of_10, fd), 5, "%s: MSG_WAITALL | MSG_PEEK, some there", s_case);
	t_eq(recv(fd, buf, 10, 0), 5, "%s: after the peek", s_case);
	t_eq(t_wrong(buf, 5, 1, 5), -1, "%s: after the peek", s_case);

	/* a time limit: never restarted */
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	n = while_signalled(one, fd);
	t_ok(n == -1 && errno == EINTR, "%s: SO_RCVTIMEO gives %zd", s_case, n);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));

	/* SA_RESTART alone: the wait goes on until there is something to say */
	p_later(p, S_SEND_LATER, 60, 1, 10, 1);
	t_eq(while_signalled(one, fd), 1, "%s: SA_RESTART", s_case);
	t_eq(hits, 1, "%s: handler", s_case);

	/* sending: what has gone is the result, and nothing gone is EINTR under a limit */
	n = while_signalled(much, fd);
	t_ok(n > 0 && n < 16 << 20, "%s: a large send gives %zd", s_case, n);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	while (send(fd, buf, 1, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		;
	n = while_signalled(much, fd);
	t_ok(n == -1 && errno == EINTR, "%s: SO_SNDTIMEO gives %zd", s_case, n);
	close(fd);
}

static void *sets_and_signals(void *arg)
{
	int *set = arg, fd = set[0];

	usleep(15000);
	while (!s_asleep(getpid()))
		usleep(1000);
	if (set[1])
		setsockopt(fd, SOL_SOCKET, set[1], &(struct timeval){ 0, 50000 }, sizeof(struct timeval));
	else
		s_nonblock(fd, true);
	pthread_kill(main_thread, SIGUSR1);
	return NULL;
}

/* What is set while a call waits is for later ones; and for this one, if SA_RESTART begins it anew. */
static void set_under(struct peer *p, int fd)
{
	const int opts[] = { SO_RCVTIMEO, SO_SNDTIMEO, 0, 0 };

	handler(SA_RESTART);
	for (int i = 0; i < 4; i++) {
		int set[] = { fd, opts[i] };
		pthread_t t;
		ssize_t n;
		int saved;

		do {		/* the kernel's probes of a closed window make room for more, a few times */
			while (send(fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
				;
			t_must(!pthread_create(&t, NULL, sets_and_signals, set), "thread");
			n = i % 2 ? much(fd) : one(fd);
			saved = errno;
			pthread_join(t, NULL);
			if (opts[i])
				setsockopt(fd, SOL_SOCKET, opts[i], &(struct timeval){ 0, 0 }, sizeof(struct timeval));
			else
				s_nonblock(fd, false);
		} while (n > 0);
		t_ok(n == -1 && saved == EAGAIN, "%s: %d set under the call gives %zd, %s", s_case, opts[i], n, strerror(saved));
	}
	close(fd);
}

/* A signal that waits and that only the call's mask would let in. */
static void pending(struct peer *p, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	int ep = epoll_create1(0);
	struct timespec zero = { 0, 0 }, ten = { 10, 0 };
	sigset_t block, none;
	fd_set set;
	int n;

	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	t_must(ep >= 0 && !epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), "epoll");
	pthread_sigmask(SIG_BLOCK, &block, NULL);
	handler(SA_RESTART);
	/* nothing ready and no time: poll and select let it in, epoll does not */
	pthread_kill(main_thread, SIGUSR1);
	n = ppoll(&pfd, 1, &zero, &none);
	t_ok(n == -1 && errno == EINTR && hits == 1, "%s: ppoll, no time: %d, %d handled", s_case, n, hits);
	pthread_kill(main_thread, SIGUSR1);
	FD_ZERO(&set);
	FD_SET(fd, &set);
	n = pselect(fd + 1, &set, NULL, NULL, &zero, &none);
	t_ok(n == -1 && errno == EINTR && hits == 2, "%s: pselect, no time: %d, %d handled", s_case, n, hits);
	pthread_kill(main_thread, SIGUSR1);
	n = epoll_pwait(ep, &ev, 1, 0, &none);
	t_ok(n == 0 && hits == 2, "%s: epoll_pwait, no time: %d, %d handled", s_case, n, hits);
	/* what is ready comes first, and the signal stays outside */
	p_send(p, 1, 0, 1);
	t_eq(poll(&pfd, 1, 5000), 1, "%s: there", s_case);
	for (int i = 0; i < 2; i++) {
		n = ppoll(&pfd, 1, i ? &zero : &ten, &none);
		t_ok(n == 1 && hits == 2, "%s: ppoll, ready: %d, %d handled", s_case, n, hits);
		FD_ZERO(&set);
		FD_SET(fd, &set);
		n = pselect(fd + 1, &set, NULL, NULL, i ? &zero : &ten, &none);
		t_ok(n == 1 && hits == 2, "%s: pselect, ready: %d, %d handled", s_case, n, hits);
		n = epoll_pwait(ep, &ev, 1, i ? 0 : 10000, &none);
		t_ok(n == 1 && hits == 2, "%s: epoll_pwait, ready: %d, %d handled", s_case, n, hits);
	}
	s_recv_stream(fd, 1, 0, 1);
	n = epoll_pwait(ep, &ev, 1, 10000, &none);
	t_ok(n == -1 && errno == EINTR && hits == 3, "%s: epoll_pwait, with time: %d, %d handled", s_case, n, hits);
	pthread_sigmask(SIG_UNBLOCK, &block, NULL);
	t_eq(hits, 3, "%s: once each", s_case);
	close(ep);
	close(fd);
}

int main(void)
{
#ifdef __SANITIZE_THREAD__
	t_skip("ThreadSanitizer keeps signals back until a call of libc that it knows");
#endif
	main_thread = pthread_self();
	s_each(at_any_moment);
	s_each(rules);
	s_each(set_under);
	s_each(pending);
	return t_done();
}
