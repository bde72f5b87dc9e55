/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sigio.c - SIGIO tells of bytes that come, with F_SETOWN and F_SETSIG; SIGPIPE comes once, to the thread that has sent
 *
 * ring: any
 */
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include "sock.h"

static atomic_int hits, last_fd, last_band, last_tid, last_code, last_pid;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	last_fd = info->si_fd;
	last_band = (int)info->si_band;
	last_code = info->si_code;
	last_pid = info->si_pid;
	last_tid = (int)syscall(SYS_gettid);
	hits++;
}

static void handler(int sig)
{
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };

	t_ok(!sigaction(sig, &sa, NULL), "sigaction");
	hits = 0;
}

static bool heard(void)
{
	double end = t_now() + 5;

	while (!hits && t_now() < end)
		usleep(100);
	return hits;
}

static void asynchronous(struct peer *p, int fd, bool by_ioctl)
{
	int fl = fcntl(fd, F_GETFL);

	handler(SIGIO);
	/* unread when it is asked for: nothing is lost */
	p_send(p, 1, 0, 5);
	t_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 5000), 1, "%s: there", s_case);
	t_ok(!fcntl(fd, F_SETOWN, getpid()), "F_SETOWN");
	if (by_ioctl)
		t_ok(!ioctl(fd, FIOASYNC, &(int){ 1 }), "FIOASYNC");
	else
		t_ok(!fcntl(fd, F_SETFL, fl | O_ASYNC), "O_ASYNC");
	hits = 0;
	p_send(p, 1, 5, 10);
	t_ok(heard(), "%s: SIGIO", s_case);
	t_must(s_recv_stream(fd, 1, 0, 15), "%s: what it has told of", s_case);
	/* again and again */
	for (uint64_t i = 0; i < 10; i++) {
		hits = 0;
		p_send(p, 1, 15 + i * 1000, 1000);
		t_ok(heard(), "%s: SIGIO %d", s_case, (int)i);
		t_must(s_recv_stream(fd, 1, 15 + i * 1000, 1000), "%s: what it has told of", s_case);
	}
	handler(SIGRTMIN + 3);
	t_ok(!fcntl(fd, F_SETSIG, SIGRTMIN + 3), "F_SETSIG");
	p_send(p, 1, 10015, 1);
	t_ok(heard() && last_fd == fd && (last_band & POLLIN), "%s: F_SETSIG: descriptor %d, band %x", s_case, last_fd, last_band);
	t_must(s_recv_stream(fd, 1, 10015, 1), "%s: what it has told of", s_case);
	t_ok(!fcntl(fd, F_SETFL, fl), "no more");
	hits = 0;
	p_send(p, 1, 10016, 100);
	t_must(s_recv_stream(fd, 1, 10016, 100), "%s: without", s_case);
	t_eq(hits, 0, "%s: no SIGIO that nobody wants", s_case);
	t_must(s_send_stream(fd, 2, 0, 1000), "%s: the other way", s_case);
	t_eq(p_recv(p, 2, 0, 1000), 1000, "%s: the other way", s_case);
	close(fd);
}

static void by_fcntl(struct peer *p, int fd)
{
	asynchronous(p, fd, false);
}

static void by_ioctl(struct peer *p, int fd)
{
	asynchronous(p, fd, true);
}

static void listener(void)
{
	struct s_addr a;
	int lfd = s_listen(AF_INET, &a), c, d;

	handler(SIGIO);
	t_ok(!fcntl(lfd, F_SETOWN, getpid()) && !fcntl(lfd, F_SETFL, fcntl(lfd, F_GETFL) | O_ASYNC), "O_ASYNC");
	c = s_connect(&a);
	t_ok(heard(), "SIGIO of a listener");
	d = s_accept(lfd);
	for (uint64_t i = 0; i < 100; i++) {
		t_must(s_send_stream(c, 1, i, 1) && s_recv_stream(d, 1, i, 1), "accepted");
		t_must(s_send_stream(d, 2, i, 1) && s_recv_stream(c, 2, i, 1), "accepted");
	}
	close(lfd);
	close(c);
	close(d);
}

/* ------------------------------------------------------------- SIGPIPE */

static ssize_t one_call(int call, int fd)
{
	struct iovec iov = { (void *)"xy", 2 };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct mmsghdr mm = { .msg_hdr = mh };
	char name[] = "/tmp/ntbsock-sigio.XXXXXX";
	ssize_t n;
	int file, saved;

	switch (call) {
	case 0: return send(fd, "xy", 2, 0);
	case 1: return write(fd, "xy", 2);
	case 2: return writev(fd, &iov, 1);
	case 3: return sendmsg(fd, &mh, 0);
	case 4: return sendmmsg(fd, &mm, 1, 0);
	case 5: return sendto(fd, "xy", 2, MSG_DONTWAIT, NULL, 0);
	default:
		file = mkstemp(name);
		t_must(file >= 0 && write(file, "xy", 2) == 2, "file");
		unlink(name);
		n = sendfile(fd, file, &(off_t){ 0 }, 2);
		saved = errno;
		close(file);
		errno = saved;
		return n;
	}
}

static void *elsewhere(void *arg)
{
	int fd = *(int *)arg;

	for (int call = 0; call < 7; call++) {
		hits = 0;
		t_ok(one_call(call, fd) == -1 && errno == EPIPE, "%s: call %d", s_case, call);
		t_eq(hits, 1, "%s: SIGPIPE of call %d", s_case, call);
		t_ok(last_tid == syscall(SYS_gettid), "%s: in the thread that has sent", s_case);
		t_ok(last_code == SI_USER && last_pid == getpid(), "%s: from ourselves: code %d", s_case, last_code);
	}
	hits = 0;
	t_ok(send(fd, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE && !hits, "%s: MSG_NOSIGNAL", s_case);
	return NULL;
}

static void broken(struct peer *p, int fd)
{
	sigset_t pipe_only, old;
	siginfo_t info;
	pthread_t t;

	handler(SIGPIPE);
	t_ok(!shutdown(fd, SHUT_WR), "shutdown");
	t_must(!pthread_create(&t, NULL, elsewhere, &fd), "thread");
	pthread_join(t, NULL);
	elsewhere(&fd);
	/* blocked: it waits */
	sigemptyset(&pipe_only);
	sigaddset(&pipe_only, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe_only, &old);
	hits = 0;
	t_ok(send(fd, "x", 1, 0) == -1 && errno == EPIPE && !hits, "%s: blocked", s_case);
	t_eq(sigtimedwait(&pipe_only, &info, &(struct timespec){ 0, 0 }), SIGPIPE, "%s: it is there", s_case);
	t_eq(sigtimedwait(&pipe_only, &info, &(struct timespec){ 0, 0 }), -1, "%s: once", s_case);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	signal(SIGPIPE, SIG_IGN);
	t_ok(send(fd, "x", 1, 0) == -1 && errno == EPIPE, "%s: ignored", s_case);
	close(fd);
}

/* The peer has gone. */
static void gone(struct peer *p, int fd)
{
	ssize_t n = 0;
	int e = 0;

	handler(SIGPIPE);
	p_close(p);
	for (int i = 0; i < 1000 && e != EPIPE; i++) {
		n = send(fd, "x", 1, 0);
		e = n < 0 ? errno : 0;
		t_ok(!e || e == EPIPE || e == ECONNRESET, "%s: errno %d", s_case, e);
		t_eq(hits, e == EPIPE, "%s: SIGPIPE with EPIPE only", s_case);
		usleep(100);
	}
	t_eq(e, EPIPE, "%s: in the end", s_case);
	close(fd);
}

int main(void)
{
#ifdef __SANITIZE_THREAD__
	t_skip("ThreadSanitizer calls handlers itself, when it likes");
#endif
	s_each(by_fcntl);
	s_each(by_ioctl);
	listener();
	s_each(broken);
	s_each(gone);
	return t_done();
}
