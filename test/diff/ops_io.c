// SPDX-License-Identifier: BSD-2-Clause
/*
 * ops_io.c - operations that move bytes
 */
#include "ops.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

int pieces(struct iovec *iov, unsigned char *buf, size_t len, int n)
{
	if (n < 1 || n > PARTS)
		n = 1;
	for (int i = 0; i < n; i++) {
		size_t part = i == n - 1 ? len : len / 2;	/* the last may be empty */

		iov[i] = (struct iovec){ buf, part };
		buf += part;
		len -= part;
	}
	return n;
}

/* A number of bytes moved, or not. */
void sent(struct answer *a, int64_t n)
{
	a->ret = n;
	if (n > 0) {
		a->bytes = n;
		a->hash = hash_bytes(0, out, n);
	}
}

void got(struct answer *a, int64_t n, size_t room)
{
	a->ret = n;
	if (n > 0) {
		a->bytes = n;
		a->hash = hash_bytes(0, in, (size_t)n < room ? (size_t)n : room);
	}
}

void do_recvmsg(const struct order *o, struct answer *a, int fd, bool many)
{
	const size_t len = o->op.b;
	struct sockaddr_storage ss[2];
	char control[2][128];
	struct mmsghdr m[2];
	struct iovec iov[2][3];
	struct timespec limit = { .tv_sec = o->op.t == 1 ? 10 : 0, .tv_nsec = o->op.t == 2 ? 2000000000 : 0 };
	int n;

	memset(ss, 0x55, sizeof(ss));
	for (int i = 0; i < 2; i++)
		m[i] = (struct mmsghdr){ .msg_hdr = { .msg_name = &ss[i], .msg_namelen = sizeof(ss[i]), .msg_iov = iov[i],
						      .msg_iovlen = pieces(iov[i], in + i * len, len, 3), .msg_control = control[i],
						      .msg_controllen = sizeof(control[i]), .msg_flags = 0x40000000 } };
	if (!many) {
		n = recvmsg(fd, &m[0].msg_hdr, o->op.a);
		got(a, n, len);
		n = n >= 0;
	} else {
		n = recvmmsg(fd, m, 2, o->op.a, o->op.t < 0 ? NULL : &limit);
		a->ret = n;
		for (int i = 0; i < n; i++) {
			a->hash = hash_join(a->hash, hash_bytes(0, in + i * len, m[i].msg_len), m[i].msg_len);
			a->bytes += m[i].msg_len;
		}
	}
	if (many && o->op.t >= 0)	/* what is left of it */
		a->v[a->nr++] = limit.tv_sec < 10 ? limit.tv_nsec != 0 : -1;
	for (int i = 0; i < n; i++) {
		a->v[a->nr++] = m[i].msg_hdr.msg_namelen;
		a->v[a->nr++] = m[i].msg_hdr.msg_controllen;
		a->v[a->nr++] = m[i].msg_hdr.msg_flags;
	}
}

void do_recvfrom(const struct order *o, struct answer *a, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	memset(&ss, 0x55, sizeof(ss));
	got(a, recvfrom(fd, in, o->op.b, o->op.a, (void *)&ss, &len), o->op.b);
	a->v[a->nr++] = len;
	a->v[a->nr++] = ss.ss_family;
}

void do_sendmsg(const struct order *o, struct answer *a, int fd, bool many)
{
	const size_t len = o->op.b;
	struct iovec iov[2][3];
	struct mmsghdr m[2];
	int n;

	for (int i = 0; i < 2; i++)
		m[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = iov[i], .msg_iovlen = pieces(iov[i], out + i * len, len, 3) } };
	if (!many) {
		sent(a, sendmsg(fd, &m[0].msg_hdr, o->op.a));
		return;
	}
	n = sendmmsg(fd, m, 2, o->op.a);
	a->ret = n;
	for (int i = 0; i < n; i++) {
		a->hash = hash_join(a->hash, hash_bytes(0, out + i * len, m[i].msg_len), m[i].msg_len);
		a->bytes += m[i].msg_len;
		a->v[a->nr++] = m[i].msg_len;
	}
}

void do_sendfile(const struct order *o, struct answer *a, int fd)
{
	off_t off = o->op.a;

	a->ret = sendfile(fd, file, &off, o->op.b);
	a->v[a->nr++] = off - o->op.a;
	if (a->ret > 0) {
		a->bytes = a->ret;
		pread(file, in, a->bytes, o->op.a);
		a->hash = hash_bytes(0, in, a->bytes);
	}
}

void do_splice(const struct order *o, struct answer *a, int fd)
{
	unsigned int flags = o->op.a ? SPLICE_F_NONBLOCK : 0;
	int p[2], saved;

	if (pipe2(p, O_CLOEXEC))
		abort();
	if (o->op.call == C_splice_to) {
		if (write(p[1], out, o->op.b) != o->op.b)
			abort();
		sent(a, splice(p[0], NULL, fd, NULL, o->op.b, flags));
	} else {
		a->ret = splice(fd, NULL, p[1], NULL, o->op.b, flags);
		saved = errno;
		if (a->ret > 0)
			got(a, read(p[0], in, RECV_MAX), RECV_MAX);
		errno = saved;
	}
	saved = errno;
	close(p[0]);
	close(p[1]);
	errno = saved;
}

/* All that finds room, without waiting; what stops it is no news. */
void flood(const struct order *o, struct answer *a, int fd)
{
	ssize_t n;

	for (uint64_t i = 0; a->bytes < (uint64_t)o->op.b; i++) {
		memcpy(out, &i, sizeof(i));
		n = send(fd, out, FLOOD_CHUNK, MSG_DONTWAIT);
		if (n <= 0) {
			a->ret = a->bytes ? 1 : -1;
			return;
		}
		a->hash = hash_join(a->hash, hash_bytes(0, out, n), n);
		a->bytes += n;
	}
	a->ret = 2;		/* no end to it */
}

void drain(struct answer *a, int fd)
{
	ssize_t n;

	while ((n = recv(fd, in, RECV_MAX, MSG_DONTWAIT)) > 0) {
		a->hash = hash_join(a->hash, hash_bytes(0, in, n), n);
		a->bytes += n;
	}
	a->ret = n;
}

int64_t do_fastopen(const struct order *o, struct answer *a, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = listener(&ss, o, fd, o->port);
	int64_t n = sendto(fd, out, o->op.b, o->op.a | MSG_FASTOPEN, (void *)&ss, len);

	tell_ports(a, fd);
	return n;
}

/*
 * How notifications are put together is chance, their sum is not.  Of a send that the kernel had to copy after all it says
 * so, and on loopback it always has to.
 */
void zerocopied(const struct order *o, struct answer *a, int fd)
{
	static uint32_t done[SLOTS], codes[SLOTS], others[SLOTS];
	char control[256];
	struct msghdr m = { 0 };

	for (;;) {
		struct cmsghdr *c;

		m = (struct msghdr){ .msg_control = control, .msg_controllen = sizeof(control) };
		a->ret = recvmsg(fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT);
		if (a->ret < 0)
			break;
		for (c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
			struct sock_extended_err e;

			memcpy(&e, CMSG_DATA(c), sizeof(e));
			if (e.ee_origin != SO_EE_ORIGIN_ZEROCOPY || e.ee_errno || !(m.msg_flags & MSG_ERRQUEUE)) {
				others[o->op.s]++;
				continue;
			}
			done[o->op.s] += e.ee_data - e.ee_info + 1;
			codes[o->op.s] |= 1u << e.ee_code;
		}
	}
	a->v[a->nr++] = done[o->op.s];
	a->v[a->nr++] = codes[o->op.s];
	a->v[a->nr++] = others[o->op.s];
}
