/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cancel.c - a thread cancelled in a call that waits leaves the socket usable for the others
 *
 * ring: yes
 */
#include <sys/epoll.h>
#include <sys/select.h>
#include "sock.h"

static void *reader(void *arg)
{
	char buf[10];

	recv(*(int *)arg, buf, sizeof(buf), 0);
	t_ok(false, "recv came back in a thread that is to be cancelled");
	return NULL;
}

static void *writer(void *arg)
{
	static char buf[1 << 20];

	for (;;)
		t_must(send(*(int *)arg, buf, sizeof(buf), MSG_NOSIGNAL) > 0, "send");
	return NULL;
}

static void cancelled(struct peer *p, int fd)
{
	void *ret;
	pthread_t t;

	t_must(!pthread_create(&t, NULL, reader, &fd), "thread");
	usleep(20000);
	t_must(!pthread_cancel(t) && !pthread_join(t, &ret) && ret == PTHREAD_CANCELED, "%s: cancelled in recv", s_case);
	p_send(p, 1, 0, 1000);
	t_must(s_recv_stream(fd, 1, 0, 1000), "received by another thread");

	t_must(!pthread_create(&t, NULL, writer, &fd), "thread");
	usleep(50000);
	t_must(!pthread_cancel(t) && !pthread_join(t, &ret) && ret == PTHREAD_CANCELED, "%s: cancelled in send", s_case);
	p_send(p, 1, 1000, 1000);
	t_must(s_recv_stream(fd, 1, 1000, 1000), "received after it");
	s_nonblock(fd, true);
	t_ok(send(fd, "x", 1, 0) == 1 || errno == EAGAIN, "%s: the sending side does not hang", s_case);
	close(fd);
}

/* Cancelled already when the call begins: it ends there, though it would not have to wait. */
static int ep;

struct due {
	int fd, call;
};

static void *due(void *arg)
{
	struct due *d = arg;
	struct iovec iov = { &(char[10]){ 0 }, 10 };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct pollfd pfd = { .fd = d->fd, .events = POLLIN };
	struct epoll_event ev;
	fd_set set;

	FD_ZERO(&set);
	FD_SET(d->fd, &set);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	t_must(!pthread_cancel(pthread_self()), "cancel");
	t_eq(recv(d->fd, iov.iov_base, 1, MSG_PEEK), 1, "%s: not while it is disabled", s_case);
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
	switch (d->call) {
	case 0: recv(d->fd, iov.iov_base, 10, 0); break;
	case 1: t_ok(read(d->fd, iov.iov_base, 10) != 10, "read"); break;
	case 2: readv(d->fd, &iov, 1); break;
	case 3: recvmsg(d->fd, &mh, MSG_DONTWAIT); break;
	case 4: send(d->fd, "no", 2, MSG_DONTWAIT | MSG_NOSIGNAL); break;
	case 5: t_ok(write(d->fd, "no", 2) != 2, "write"); break;
	case 6: sendmsg(d->fd, &mh, MSG_NOSIGNAL); break;
	case 7: poll(&pfd, 1, 0); break;
	case 8: select(d->fd + 1, &set, NULL, NULL, NULL); break;
	case 9: epoll_wait(ep, &ev, 1, 0); break;
	default: close(d->fd);
	}
	t_ok(false, "%s: call %d came back", s_case, d->call);
	return NULL;
}

static void at_the_beginning(struct peer *p, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };
	void *ret;
	pthread_t t;

	ep = epoll_create1(0);
	t_must(ep >= 0 && !epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), "epoll");
	p_send(p, 1, 0, 100);
	t_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 5000), 1, "%s: there", s_case);
	for (int call = 0; call <= 10; call++) {
		struct due d = { fd, call };

		t_must(!pthread_create(&t, NULL, due, &d) && !pthread_join(t, &ret), "thread");
		t_ok(ret == PTHREAD_CANCELED, "%s: call %d is cancelled", s_case, call);
	}
	t_ok(fcntl(fd, F_GETFD) >= 0, "%s: not closed", s_case);
	t_must(s_recv_stream(fd, 1, 0, 100), "%s: nothing taken", s_case);
	t_must(s_send_stream(fd, 2, 0, 100), "%s: goes on", s_case);
	t_eq(p_recv(p, 2, 0, 100), 100, "%s: nothing sent by them", s_case);
	close(ep);
	close(fd);
}

int main(void)
{
#ifdef __SANITIZE_ADDRESS__
	t_skip("AddressSanitizer itself fails (__asan_handle_no_return) where a thread is cancelled asynchronously");
#endif
	signal(SIGPIPE, SIG_IGN);
	s_each(cancelled);
	s_each(at_the_beginning);
	return t_done();
}
