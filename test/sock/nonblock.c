/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nonblock.c - EAGAIN both ways, however O_NONBLOCK was set; room and readiness after it; messages without room for all
 *
 * ring: yes
 */
#include <sys/ioctl.h>
#include "sock.h"

static void nonblock(struct peer *p, int fd)
{
	char buf[32768];
	uint64_t out = 0, taken = 0;
	ssize_t n;
	int on = 1, pending = -1;

	t_ok(!(fcntl(fd, F_GETFL) & O_NONBLOCK), "%s: starts blocking", s_case);
	t_must(!ioctl(fd, FIONBIO, &on), "FIONBIO");
	t_ok(fcntl(fd, F_GETFL) & O_NONBLOCK, "%s: FIONBIO shows in F_GETFL", s_case);
	t_ok(read(fd, buf, 1) == -1 && errno == EAGAIN, "%s: nothing to read", s_case);
	on = 0;
	t_must(!ioctl(fd, FIONBIO, &on), "FIONBIO");
	t_ok(!(fcntl(fd, F_GETFL) & O_NONBLOCK), "%s: FIONBIO off", s_case);
	s_nonblock(fd, true);

	/* fill it; one call takes less than everything, and then there is no room */
	for (;;) {
		t_fill(buf, sizeof(buf), 1, out);
		n = send(fd, buf, sizeof(buf), 0);
		if (n < 0)
			break;
		t_must(n > 0, "%s: send gives %zd", s_case, n);
		out += (uint64_t)n;
		t_must(out < 1u << 30, "%s: no end to the room", s_case);
	}
	t_ok(errno == EAGAIN, "%s: full", s_case);
	t_ok(out >= 65536, "%s: room for %llu only", s_case, (unsigned long long)out);
	t_ok(write(fd, buf, 1) == -1 && errno == EAGAIN, "%s: full for write, too", s_case);
	t_ok(send(fd, buf, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN, "%s: full with DONTWAIT", s_case);
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	t_eq(poll(&pfd, 1, 0), 0, "%s: not writable", s_case);

	/* the peer takes everything: writable again, and blocking sends work */
	while (taken < out) {
		uint64_t part = out - taken < 1 << 20 ? out - taken : 1 << 20;

		t_must(t_eq(p_recv(p, 1, taken, part), (int64_t)part, "%s: peer takes", s_case), "it");
		taken += part;
	}
	t_eq(poll(&pfd, 1, 5000), 1, "%s: writable again", s_case);
	t_eq(pfd.revents, POLLOUT, "%s: writable", s_case);
	t_must(s_send_stream(fd, 1, out, 1000), "again");
	t_eq(p_recv(p, 1, out, 1000), 1000, "%s: after the flood", s_case);

	/* the other way */
	p_send(p, 2, 0, 20000);
	t_must(s_recv_stream(fd, 2, 0, 20000), "received");
	t_ok(read(fd, buf, 1) == -1 && errno == EAGAIN, "%s: drained", s_case);
	t_ok(!ioctl(fd, FIONREAD, &pending) && !pending, "%s: FIONREAD 0", s_case);
	close(fd);
}

/* A message without room for all of it: the one behind it, for which there is room anyhow, is not sent (__sys_sendmmsg()). */
static void messages(struct peer *p, int fd)
{
	enum { LEN = 24000000 };
	struct mmsghdr m[2] = { 0 };
	struct iovec iov[2];
	char *buf = malloc(LEN + 8);

	t_must(buf != NULL, "malloc");
	t_fill(buf, LEN + 8, 1, 0);
	iov[0] = (struct iovec){ buf, LEN };
	iov[1] = (struct iovec){ buf + LEN, 8 };
	for (int i = 0; i < 2; i++) {
		m[i].msg_hdr.msg_iov = &iov[i];
		m[i].msg_hdr.msg_iovlen = 1;
	}
	t_eq(sendmmsg(fd, m, 2, MSG_DONTWAIT), 1, "%s: messages", s_case);
	t_ok(m[0].msg_len && m[0].msg_len < LEN, "%s: of the first %u bytes", s_case, m[0].msg_len);
	t_eq(p_recv(p, 1, 0, m[0].msg_len), (int64_t)m[0].msg_len, "%s: what was sent", s_case);
	close(fd);
	free(buf);
}

int main(void)
{
	struct s_addr a;
	int lfd, fd, c;

	s_each(nonblock);
	s_each(messages);

	/* SOCK_NONBLOCK of socket() and accept4(); connect() in progress; nothing inherited from the listener */
	lfd = s_listen(AF_INET, &a);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int ret = connect(fd, (struct sockaddr *)&a.ss, a.len);
	t_ok(!ret || errno == EINPROGRESS, "connect in progress");
	t_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, 5000), 1, "connected");
	int err = -1;
	t_ok(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &(socklen_t){ sizeof(err) }) && !err, "SO_ERROR 0");
	t_ok(fcntl(fd, F_GETFL) & O_NONBLOCK && fcntl(fd, F_GETFD) & FD_CLOEXEC, "flags of socket()");
	c = accept4(lfd, NULL, NULL, SOCK_NONBLOCK);
	t_ok(c >= 0 && fcntl(c, F_GETFL) & O_NONBLOCK && !(fcntl(c, F_GETFD) & FD_CLOEXEC), "flags of accept4()");
	s_nonblock(lfd, true);
	t_ok(accept(lfd, NULL, NULL) == -1 && errno == EAGAIN, "nobody to accept");
	ret = connect(fd, (struct sockaddr *)&a.ss, a.len);
	t_ok(!ret || errno == EISCONN, "connected already");
	t_ok(read(c, &ret, 1) == -1 && errno == EAGAIN, "accepted one does not block");
	close(fd);
	close(c);
	close(lfd);
	return t_done();
}
