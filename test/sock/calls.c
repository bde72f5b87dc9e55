/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * calls.c - every call that sends with every call that receives, at sizes around the message kinds
 *
 * ring: yes
 */
#include "sock.h"

static const char *const send_names[] = { "write", "writev", "pwritev2", "send", "sendto", "sendmsg", "sendmmsg" };
static const char *const recv_names[] = { "read", "readv", "preadv2", "recv", "recvfrom", "recvmsg", "recvmmsg" };
#define NR(a) (sizeof(a) / sizeof((a)[0]))

/* The buffer in three pieces, one of them empty and one odd. */
static int split(struct iovec iov[4], char *buf, size_t len)
{
	size_t a = len / 3, b = (len - a) / 2;

	iov[0] = (struct iovec){ buf, a };
	iov[1] = (struct iovec){ NULL, 0 };
	iov[2] = (struct iovec){ buf + a, b };
	iov[3] = (struct iovec){ buf + a + b, len - a - b };
	return 4;
}

static ssize_t send_by(unsigned int how, int fd, char *buf, size_t len)
{
	struct iovec iov[4];
	int cnt = split(iov, buf, len);
	struct mmsghdr mm[2] = { { .msg_hdr = { .msg_iov = iov, .msg_iovlen = 2 } },
				 { .msg_hdr = { .msg_iov = iov + 2, .msg_iovlen = 2 } } };
	int n;

	switch (how) {
	case 0: return write(fd, buf, len);
	case 1: return writev(fd, iov, cnt);
	case 2: return pwritev2(fd, iov, cnt, -1, 0);
	case 3: return send(fd, buf, len, 0);
	case 4: return sendto(fd, buf, len, 0, NULL, 0);
	case 5: return sendmsg(fd, &(struct msghdr){ .msg_iov = iov, .msg_iovlen = 4 }, 0);
	default:
		n = sendmmsg(fd, mm, 2, 0);
		return n < 0 ? -1 : n == 1 ? (ssize_t)mm[0].msg_len : (ssize_t)(mm[0].msg_len + mm[1].msg_len);
	}
}

static ssize_t recv_by(unsigned int how, int fd, char *buf, size_t len)
{
	struct iovec iov[4];
	int cnt = split(iov, buf, len);
	struct sockaddr_storage ss;
	socklen_t sl = sizeof(ss);
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = 4, .msg_name = &ss, .msg_namelen = sizeof(ss) };
	struct mmsghdr mm = { .msg_hdr = { .msg_iov = iov, .msg_iovlen = 4 } };
	ssize_t ret;

	switch (how) {
	case 0: return read(fd, buf, len);
	case 1: return readv(fd, iov, cnt);
	case 2: return preadv2(fd, iov, cnt, -1, 0);
	case 3: return recv(fd, buf, len, 0);
	case 4:
		ret = recvfrom(fd, buf, len, 0, (struct sockaddr *)&ss, &sl);
		t_eq(sl, 0, "recvfrom gives no address on a stream");
		return ret;
	case 5:
		ret = recvmsg(fd, &mh, 0);
		t_eq(mh.msg_namelen, 0, "recvmsg gives no address on a stream");
		t_eq(mh.msg_controllen, 0, "no control data");
		return ret;
	default: return recvmmsg(fd, &mm, 1, 0, NULL) == 1 ? (ssize_t)mm.msg_len : -1;
	}
}

static void all_calls(struct peer *p, int fd)
{
	static const size_t sizes[] = { 1, 7, 54, 55, 62, 116, 117, 1000, 4096, 16384, 16385, 50000 };
	static char buf[50000];
	uint64_t out = 0, in = 0;
	int one = 1;

	t_ok(!setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), "NODELAY");

	for (unsigned int s = 0; s < NR(sizes); s++) {
		for (unsigned int how = 0; how < NR(send_names); how++) {
			size_t len = sizes[s];

			t_fill(buf, len, 1, out);
			t_eq(send_by(how, fd, buf, len), len, "%s: %s of %zu", s_case, send_names[how], len);
			t_eq(p_recv(p, 1, out, len), len, "%s: after %s of %zu", s_case, send_names[how], len);
			out += len;
		}
		for (unsigned int how = 0; how < NR(recv_names); how++) {
			size_t len = sizes[s], got = 0;

			p_send(p, 2, in, len);
			while (got < len) {
				ssize_t n = recv_by(how, fd, buf, len - got);

				t_must(n > 0, "%s: %s of %zu gives %zd", s_case, recv_names[how], len, n);
				t_eq(t_wrong(buf, (size_t)n, 2, in + got), -1, "%s: %s of %zu", s_case, recv_names[how], len);
				got += (size_t)n;
			}
			in += len;
		}
	}
	/* nothing at all */
	t_eq(send(fd, buf, 0, 0), 0, "send of 0");
	t_eq(write(fd, buf, 0), 0, "write of 0");
	t_eq(read(fd, buf, 0), 0, "read of 0");
	t_eq(recv(fd, buf, 0, MSG_DONTWAIT) < 0 ? 0 : recv(fd, buf, 0, MSG_DONTWAIT), 0, "recv of 0");
	/* memory that is not there */
	t_ok(recv(fd, buf, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN, "nothing left");
	t_ok(pread(fd, buf, 1, 0) == -1 && errno == ESPIPE, "pread on a socket");
	t_ok(pwrite(fd, buf, 1, 0) == -1 && errno == ESPIPE, "pwrite on a socket");
	t_ok(lseek(fd, 0, SEEK_CUR) == -1 && errno == ESPIPE, "lseek on a socket");
	close(fd);
}

int main(void)
{
	s_each(all_calls);
	return t_done();
}
