/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cancel.c - a thread cancelled in a call that waits leaves the socket usable for the others
 *
 * ring: yes
 */
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

int main(void)
{
#ifdef __SANITIZE_ADDRESS__
	t_skip("AddressSanitizer itself fails (__asan_handle_no_return) where a thread is cancelled asynchronously");
#endif
	signal(SIGPIPE, SIG_IGN);
	s_each(cancelled);
	return t_done();
}
