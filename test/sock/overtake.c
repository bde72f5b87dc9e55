/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * overtake.c - what the kernel itself sends for a program does not overtake what the program has sent before
 *
 * More lies in the ring than TCP has room for, and its reader makes a call that only TCP can do: so all of it goes by TCP once
 * more, in time.  Meanwhile the sender makes such a call as well.
 *
 * ring: any
 */
#include <sys/sendfile.h>
#include "sock.h"

enum way { OOB, SPLICE, CONTROL, WAYS };
static const char *const names[] = { "MSG_OOB", "splice", "control data" };

struct call {
	int fd;
	enum way way;
	ssize_t ret;
};

static void *last_byte(void *arg)
{
	struct call *c = arg;
	char control[CMSG_SPACE(sizeof(uint32_t))] = { 0 };
	struct iovec iov = { "!", 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	int p[2];

	switch (c->way) {
	case OOB:
		c->ret = send(c->fd, "!", 1, MSG_OOB | MSG_NOSIGNAL);
		break;
	case SPLICE:
		t_must(!pipe(p) && write(p[1], "!", 1) == 1, "pipe");
		c->ret = splice(p[0], NULL, c->fd, NULL, 1, 0);
		close(p[0]);
		close(p[1]);
		break;
	default:
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SO_TIMESTAMPING;
		cmsg->cmsg_len = CMSG_LEN(sizeof(uint32_t));
		c->ret = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
	}
	return NULL;
}

static size_t flood(int fd)
{
	static char buf[65536];
	size_t sum = 0;
	ssize_t n;

	s_nonblock(fd, true);
	do {
		t_fill(buf, sizeof(buf), 1, sum);
		n = send(fd, buf, sizeof(buf), MSG_NOSIGNAL);
		if (n > 0)
			sum += n;
	} while (n > 0);
	s_nonblock(fd, false);
	return sum;
}

static void one(enum way way, bool warm)
{
	int sv[2], p[2], on = 1;
	struct call c = { .way = way };
	pthread_t t;
	size_t sum;
	char last;

	snprintf(s_case, sizeof(s_case), "%s, warm %d", names[way], warm);
	s_pair(AF_INET, sv);
	for (int i = 0; warm && i < 10; i++) {
		char b;

		t_must(send(sv[0], "a", 1, 0) == 1 && recv(sv[1], &b, 1, 0) == 1, "warm");
		t_must(send(sv[1], "a", 1, 0) == 1 && recv(sv[0], &b, 1, 0) == 1, "warm");
		usleep(2000);
	}
	c.fd = sv[0];
	t_must(!setsockopt(sv[1], SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)), "SO_OOBINLINE");
	sum = flood(sv[0]);
	t_must(!pipe(p), "pipe");
	t_must(sendfile(p[1], sv[1], NULL, 1) == 1, "%s: sendfile()", s_case);
	close(p[0]);
	close(p[1]);
	t_must(!pthread_create(&t, NULL, last_byte, &c), "thread");
	usleep(20000);
	t_must(s_recv_stream(sv[1], 1, 1, sum - 1), "%s: %zu bytes", s_case, sum);
	t_ok(recv(sv[1], &last, 1, 0) == 1 && last == '!', "%s: the last byte", s_case);
	pthread_join(t, NULL);
	t_eq(c.ret, 1, "%s: sent", s_case);
	close(sv[0]);
	close(sv[1]);
}

int main(void)
{
	for (enum way way = 0; way < WAYS; way++)
		for (int warm = 0; warm < 2; warm++)
			one(way, warm);
	return t_done();
}
