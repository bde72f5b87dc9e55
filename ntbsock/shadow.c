// SPDX-License-Identifier: BSD-2-Clause
/* shadow.c - see shadow.h */
#include "shadow.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#include "sys.h"

#ifndef SOL_TCP
#define SOL_TCP 6
#endif
#define EQUAL_LOOKS 64
#define PEEK_SKIP 16384
#define PIECES 64
enum { ST_ESTABLISHED = 1, ST_FIN_WAIT1 = 4, ST_FIN_WAIT2 = 5, ST_TIME_WAIT = 6, ST_CLOSE = 7, ST_CLOSE_WAIT = 8, ST_LAST_ACK = 9, ST_CLOSING = 11 };

int ntbs_shadow_info(int fd, struct ntbs_shadow_info *info)
{
	struct tcp_info ti;
	socklen_t len = sizeof(ti);
	long ret = ntbs_sys5(SYS_getsockopt, fd, SOL_TCP, TCP_INFO, &ti, &len);

	if (ret < 0)
		return ret;
	if (len < offsetof(struct tcp_info, tcpi_segs_out))
		return -EOPNOTSUPP;	/* before Linux 4.1: no byte counts, so no way to the ring */
	info->state = ti.tcpi_state;
	info->bytes_acked = ti.tcpi_bytes_acked;
	info->bytes_received = ti.tcpi_bytes_received;
	info->heard = len < offsetof(struct tcp_info, tcpi_segs_in) + sizeof(ti.tcpi_segs_in) || ti.tcpi_segs_in;
	return 0;
}

int ntbs_shadow_sent(int fd, bool connected, uint64_t *bytes)
{
	struct ntbs_shadow_info a = { 0 }, b = { 0 };
	int outq, ret;

	for (int i = 0; i < EQUAL_LOOKS; i++) {
		ret = ntbs_shadow_info(fd, &a);
		if (ret)
			return ret;
		if (a.state != ST_ESTABLISHED && a.state != ST_CLOSE_WAIT)
			return -ENOTCONN;
		ret = ntbs_sys3(SYS_ioctl, fd, SIOCOUTQ, &outq);
		if (ret)
			return ret;
		ret = ntbs_shadow_info(fd, &b);
		if (ret)
			return ret;
		if (a.bytes_acked == b.bytes_acked) {
			/* the acknowledged SYN of an active open counts as a byte (RFC 4898, AppHCThruOctetsAcked as
			 * Linux keeps it) */
			*bytes = a.bytes_acked + outq - connected;
			if (outq)
				ntbs_shadow_push(fd);
			return 0;
		}
	}
	return -EAGAIN;
}

int ntbs_shadow_count(int fd, bool connected, uint64_t *sent, uint64_t *received)
{
	struct ntbs_shadow_info a = { 0 }, b = { 0 };
	int outq = 0, ret;
	uint64_t seqs;
	bool fin;

	for (int i = 0; i < EQUAL_LOOKS; i++) {
		ret = ntbs_shadow_info(fd, &a);
		if (ret)
			return ret;
		if (i && a.bytes_acked == b.bytes_acked)
			break;
		b = a;
		if (ntbs_sys3(SYS_ioctl, fd, SIOCOUTQ, &outq) < 0)
			outq = 0;
	}
	fin = a.state == ST_FIN_WAIT1 || a.state == ST_FIN_WAIT2 || a.state == ST_LAST_ACK || a.state == ST_CLOSING;
	seqs = a.bytes_acked + outq;
	*sent = seqs - (seqs && connected) - (seqs > connected && fin);
	*received = a.bytes_received;
	return 0;
}

/* The same hint as a control message, which a socket gives that is asked to. */
static uint32_t inq_by_message(int fd)
{
	static const int on = 1;
	union {
		struct cmsghdr head;
		char room[128];
	} control;
	struct msghdr msg = { .msg_control = &control, .msg_controllen = sizeof(control) };
	struct iovec iov;
	socklen_t len = sizeof(int);
	int was = 0, n = 0;
	long got;
	char c;

	iov = (struct iovec){ &c, 1 };
	msg.msg_iov = &iov;
	msg.msg_iovlen = 1;
	if (ntbs_sys5(SYS_getsockopt, fd, SOL_TCP, TCP_INQ, &was, &len) ||
	    ntbs_sys5(SYS_setsockopt, fd, SOL_TCP, TCP_INQ, &on, sizeof(on)))
		return 0;
	got = ntbs_sys3(SYS_recvmsg, fd, &msg, MSG_PEEK | MSG_DONTWAIT);
	if (got >= 0)
		for (struct cmsghdr *m = CMSG_FIRSTHDR(&msg); m; m = CMSG_NXTHDR(&msg, m))
			if (m->cmsg_level == SOL_TCP && m->cmsg_type == TCP_CM_INQ)
				memcpy(&n, CMSG_DATA(m), sizeof(n));
	if (!got && n > 0)
		n--;		/* the FIN, which it has met behind an urgent byte or at once */
	if (!was)
		ntbs_sys5(SYS_setsockopt, fd, SOL_TCP, TCP_INQ, &was, sizeof(was));
	return n;
}

int ntbs_shadow_unread(int fd, int *bytes)
{
	struct tcp_zerocopy_receive zc = { 0 };
	socklen_t len = offsetof(struct tcp_zerocopy_receive, err);	/* with more it would take the socket's error */
	int ret = ntbs_sys3(SYS_ioctl, fd, SIOCINQ, bytes), asked;

	if (ret)
		return ret;
	asked = ntbs_sys5(SYS_getsockopt, fd, SOL_TCP, TCP_ZEROCOPY_RECEIVE, &zc, &len);
	/* more than a page: that it would map; or an urgent byte is next, and it sees the FIN behind alone */
	if (asked == -EINVAL || asked == -EIO)
		zc.inq = inq_by_message(fd);
	else if (asked || len != offsetof(struct tcp_zerocopy_receive, err))
		return 0;
	if (zc.inq > (uint32_t)*bytes)
		*bytes = zc.inq;
	return 0;
}

int ntbs_shadow_arrived(int fd)
{
	int n = 0;

	ntbs_shadow_inq(fd, &n);
	if (!n && ntbs_shadow_unread(fd, &n))
		n = 0;
	return n;
}

/*
 * SIOCINQ ends at an urgent byte that is not in line, read or unread: what lies on both sides of it (tcp_inq()).  For a moment
 * it is in line, which shows to nobody but a read at the mark just then, when all is over.
 */
static int unread_past_mark(int fd)
{
	static const int on = 1, off = 0;
	socklen_t len = sizeof(int);
	int in_line = 1, n;

	ntbs_sys5(SYS_getsockopt, fd, SOL_SOCKET, SO_OOBINLINE, &in_line, &len);
	if (!in_line)
		ntbs_sys5(SYS_setsockopt, fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(int));
	ntbs_shadow_inq(fd, &n);
	if (!in_line)
		ntbs_sys5(SYS_setsockopt, fd, SOL_SOCKET, SO_OOBINLINE, &off, sizeof(int));
	return n;
}

/*
 * All is over: was there a FIN among what came?  Its hint is what is unread with the FIN, SIOCINQ is without; with nothing
 * unread but a FIN it fails (tcp_zerocopy_receive(), tcp_inq_hint(), tcp_inq()).  -1: nobody can say.  @inq: what SIOCINQ says,
 * and then what is behind an urgent byte as well.
 */
static int ended_by_fin(int fd, int *inq)
{
	struct tcp_zerocopy_receive zc = { 0 };
	socklen_t len = offsetof(struct tcp_zerocopy_receive, err);
	int ret = ntbs_sys5(SYS_getsockopt, fd, SOL_TCP, TCP_ZEROCOPY_RECEIVE, &zc, &len);

	if (ret == -EIO)
		return 1;
	if (ret == -EINVAL) {		/* more than a page is unread */
		zc.inq = inq_by_message(fd);
		ret = zc.inq ? 0 : -1;
	}
	if (ret || len != offsetof(struct tcp_zerocopy_receive, err))
		return -1;
	if (zc.inq > (uint32_t)*inq)
		*inq = unread_past_mark(fd);
	return zc.inq > (uint32_t)*inq;
}

/* tcp_disconnect() begins to count anew, where a reset leaves what was counted. */
bool ntbs_shadow_dissolved(int fd)
{
	struct ntbs_shadow_info info = { 0 };

	return !ntbs_shadow_info(fd, &info) && info.state == ST_CLOSE && !info.heard;
}

bool ntbs_shadow_closed(int fd)
{
	struct ntbs_shadow_info info = { 0 };

	return ntbs_shadow_info(fd, &info) || info.state == ST_CLOSE;
}

bool ntbs_shadow_was_reset(int fd)
{
	struct ntbs_shadow_info info = { 0 };
	int inq = 0;

	if (ntbs_shadow_info(fd, &info))
		return false;
	if (info.state != ST_CLOSE)
		return false;
	ntbs_shadow_inq(fd, &inq);
	return !ended_by_fin(fd, &inq);
}

static bool fin_came(uint8_t state)
{
	return state == ST_CLOSE_WAIT || state == ST_LAST_ACK || state == ST_CLOSING || state == ST_TIME_WAIT;
}

bool ntbs_shadow_peer_ended(int fd)
{
	struct ntbs_shadow_info info = { 0 };

	if (ntbs_shadow_info(fd, &info))
		return false;
	return fin_came(info.state) || info.state == ST_CLOSE;
}

int ntbs_shadow_came(int fd, uint64_t *bytes)
{
	struct ntbs_shadow_info info = { 0 };
	int ret = ntbs_shadow_info(fd, &info);

	if (!ret)
		*bytes = info.bytes_received - (fin_came(info.state) || (info.state == ST_CLOSE && !ntbs_shadow_was_reset(fd)));
	return ret;
}

int ntbs_shadow_read(int fd, uint64_t *bytes, bool *closed)
{
	struct ntbs_shadow_info a = { 0 }, b = { 0 };
	int inq, hint, ret;

	for (int i = 0; i < EQUAL_LOOKS; i++) {
		ret = ntbs_shadow_info(fd, &a);
		if (ret)
			return ret;
		ret = ntbs_sys3(SYS_ioctl, fd, SIOCINQ, &inq);
		if (!ret)
			ret = ntbs_shadow_unread(fd, &hint);
		if (!ret)
			ret = ntbs_shadow_info(fd, &b);
		if (ret)
			return ret;
		if (a.bytes_received == b.bytes_received && a.state == b.state) {
			bool fin = fin_came(a.state);
			int known = a.state == ST_CLOSE ? ended_by_fin(fd, &inq) : fin;

			fin |= known > 0;
			/* the hint counts a FIN; when all is over nobody knows if there is one */
			if (a.state != ST_CLOSE && hint - fin > inq)
				inq = hint - fin;
			*bytes = a.bytes_received - fin - inq;
			*closed = known < 0;
			return 0;
		}
	}
	return -EAGAIN;
}

void ntbs_shadow_inq(int fd, int *bytes)
{
	if (ntbs_sys3(SYS_ioctl, fd, SIOCINQ, bytes) < 0)
		*bytes = 0;
}

bool ntbs_shadow_has_urgent(int fd)
{
	char c;

	return ntbs_sys6(SYS_recvfrom, fd, (long)&c, 1, MSG_OOB | MSG_PEEK | MSG_DONTWAIT, 0, 0) > 0;
}

uint64_t ntbs_shadow_cookie(int fd)
{
	uint64_t cookie;
	socklen_t len = sizeof(cookie);

	return ntbs_sys5(SYS_getsockopt, fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) ? 0 : cookie;
}

bool ntbs_shadow_look_ends(int fd, size_t bytes, int unread)
{
	return (ntbs_shadow_poll(fd, POLLPRI) & POLLPRI) &&
	       ntbs_sys6(SYS_recvfrom, fd, 0, unread, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT, 0, 0) == (long)bytes;
}

bool ntbs_shadow_at_mark(int fd)
{
	int mark = 0;

	return !ntbs_sys3(SYS_ioctl, fd, SIOCATMARK, &mark) && mark;
}

void ntbs_shadow_pass_urgent(int fd)
{
	char c;

	if (ntbs_shadow_at_mark(fd) && (ntbs_shadow_poll(fd, 0) & POLLHUP))
		ntbs_sys6(SYS_recvfrom, fd, (long)&c, 1, MSG_DONTWAIT, 0, 0);
}

size_t ntbs_shadow_before_mark(int fd)
{
	int there = 0;

	ntbs_shadow_inq(fd, &there);	/* first: a mark that comes after this lies behind these, where a read of them ends */
	return there > 0 && !ntbs_shadow_at_mark(fd) ? there : 0;
}

void ntbs_shadow_push(int fd)
{
	static const int on = 1, off = 0;
	int cork = 0, nodelay = 1;
	socklen_t len = sizeof(int);

	ntbs_sys5(SYS_getsockopt, fd, SOL_TCP, TCP_CORK, &cork, &len);
	len = sizeof(int);
	ntbs_sys5(SYS_getsockopt, fd, SOL_TCP, TCP_NODELAY, &nodelay, &len);
	if (cork)
		ntbs_sys5(SYS_setsockopt, fd, SOL_TCP, TCP_CORK, &off, sizeof(int));
	ntbs_sys5(SYS_setsockopt, fd, SOL_TCP, TCP_NODELAY, &on, sizeof(int));
	if (!nodelay)
		ntbs_sys5(SYS_setsockopt, fd, SOL_TCP, TCP_NODELAY, &off, sizeof(int));
	if (cork)
		ntbs_sys5(SYS_setsockopt, fd, SOL_TCP, TCP_CORK, &on, sizeof(int));
}

/* The pieces from @it on, as many as there is room for. */
static size_t pieces(struct ntbs_iter it, struct iovec *iov, size_t room)
{
	size_t n = 0;

	while (it.left && n < room) {
		iov[n].iov_base = ntbs_iter_run(&it, it.left, &iov[n].iov_len);
		ntbs_iter_advance(&it, iov[n++].iov_len);
	}
	return n;
}

static void skip_pieces(struct ntbs_iter *it, size_t len)
{
	while (len) {
		size_t run;

		ntbs_iter_run(it, len, &run);
		ntbs_iter_advance(it, run);
		len -= run;
	}
}

ssize_t ntbs_shadow_send(int fd, struct ntbs_iter *it, int flags)
{
	struct iovec iov[PIECES];
	ssize_t sum = 0, n;

	while (it->left) {	/* in one call, as the program's was: a reset that it provokes comes behind all of it */
		struct msghdr msg = { .msg_iov = iov, .msg_iovlen = pieces(*it, iov, PIECES) };
		size_t len = 0;

		for (size_t i = 0; i < msg.msg_iovlen; i++)
			len += iov[i].iov_len;
		n = ntbs_sys3(SYS_sendmsg, fd, &msg, flags | MSG_DONTWAIT | MSG_NOSIGNAL | (len < it->left ? MSG_MORE : 0));
		if (n < 0)
			return sum ? sum : n;
		skip_pieces(it, n);
		sum += n;
		if ((size_t)n < len)
			break;
	}
	return sum;
}

ssize_t ntbs_shadow_send_rest(int fd, struct ntbs_iter *it, int flags, const struct ntbs_sig_mark *mark)
{
	struct iovec iov[PIECES];
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = pieces(*it, iov, PIECES) };
	ssize_t n;

	n = ntbs_sleep(mark, SYS_sendmsg, fd, (long)&msg, flags | MSG_NOSIGNAL, 0, 0, 0);
	if (n > 0)
		skip_pieces(it, n);
	return n;
}

ssize_t ntbs_shadow_recv(int fd, struct ntbs_iter *it, size_t max, int flags)
{
	struct iovec iov[PIECES];
	ssize_t sum = 0, n;

	if (max > it->left)
		max = it->left;
	while (max) {		/* in one call, as the program's was: it ends at an urgent byte, and the next one passes it */
		struct msghdr msg = { .msg_iov = iov };
		struct ntbs_iter some = *it;
		size_t len = 0, before_mark;

		some.left = max;
		msg.msg_iovlen = pieces(some, iov, PIECES);
		for (size_t i = 0; i < msg.msg_iovlen; i++)
			len += iov[i].iov_len;
		n = ntbs_sys3(SYS_recvmsg, fd, &msg, flags | MSG_DONTWAIT);
		if (n <= 0)
			return sum ? sum : n;
		skip_pieces(it, n);
		sum += n;
		max -= n;
		if ((size_t)n < len || !max || (flags & MSG_PEEK))
			break;
		before_mark = ntbs_shadow_before_mark(fd);
		if (max > before_mark)
			max = before_mark;
	}
	return sum;
}

bool ntbs_shadow_async(int fd)
{
	long flags = ntbs_sys2(SYS_fcntl, fd, F_GETFL);

	return flags >= 0 && (flags & O_ASYNC);
}

ssize_t ntbs_shadow_recv_rest(int fd, struct ntbs_iter *it, int flags, const struct ntbs_sig_mark *mark, bool *whole)
{
	struct iovec iov[PIECES];
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = pieces(*it, iov, PIECES) };
	ssize_t len = 0, n;

	for (size_t i = 0; i < msg.msg_iovlen; i++)
		len += iov[i].iov_len;
	n = ntbs_sleep(mark, SYS_recvmsg, fd, (long)&msg, flags | MSG_WAITALL, 0, 0, 0);
	*whole = n == len;
	if (n > 0)
		skip_pieces(it, n);
	return n;
}

ssize_t ntbs_shadow_peek(int fd, struct ntbs_iter *it, size_t skip, int flags)
{
	static char passed_over[PEEK_SKIP];	/* written by the kernel, read by nobody */
	struct iovec iov[PIECES];
	struct msghdr msg = { .msg_iov = iov };
	size_t left = skip;
	ssize_t n;

	for (; left && msg.msg_iovlen < PIECES - 1; left -= iov[msg.msg_iovlen++].iov_len)
		iov[msg.msg_iovlen] = (struct iovec){ passed_over, left < PEEK_SKIP ? left : PEEK_SKIP };
	if (left)
		return -EAGAIN;
	msg.msg_iovlen += pieces(*it, iov + msg.msg_iovlen, PIECES - msg.msg_iovlen);
	n = ntbs_sys3(SYS_recvmsg, fd, &msg, flags | MSG_PEEK | MSG_DONTWAIT);
	if (n <= 0)
		return n;
	if ((size_t)n <= skip)
		return -EAGAIN;
	skip_pieces(it, n - skip);
	return n - skip;
}

short ntbs_shadow_poll(int fd, short events)
{
	struct pollfd pfd = { fd, events, 0 };
	static const struct timespec now;

	return ntbs_sys5(SYS_ppoll, &pfd, 1, &now, 0, 0) > 0 ? pfd.revents : 0;
}

bool ntbs_shadow_broken(int fd)
{
	const short reset = POLLERR | POLLHUP;		/* POLLERR alone may be news of MSG_ZEROCOPY */

	return (ntbs_shadow_poll(fd, 0) & reset) == reset;
}

int ntbs_shadow_end(int fd)
{
	char c;
	long n = ntbs_sys6(SYS_recvfrom, fd, (long)&c, 1, MSG_PEEK | MSG_DONTWAIT, 0, 0);

	return n;
}
