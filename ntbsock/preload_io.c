// SPDX-License-Identifier: BSD-2-Clause
/*
 * preload_io.c - send recv read write, their v, msg, mmsg and file forms
 *
 * Each: look up, try ours, else the next definition.  -ENTBS_STALE means that the descriptor has changed its meaning under
 * our hands; the loop looks it up again.
 */
#include "preload.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

#include "handover.h"
#include "offer.h"
#include "shadow.h"
#include "sock_call.h"
#include "sys.h"

#define FILE_CHUNK 32768
#define RESTART_SYS 512			/* ERESTARTSYS of the kernel, which no header shows */

/* r = ours(sk), if the descriptor is ours and has something of ours to do; falls through otherwise. */
#define OURS(fd, call)                                                     \
	do {                                                               \
		struct ntbs_sock *sk_;                                     \
		while ((sk_ = ntbs_fdtab_sock(fd)) != NULL) {              \
			struct ntbs_sock *sk = sk_;                        \
			ssize_t r_ = call;                                 \
			if (r_ == -ENTBS_PASS)                             \
				break;                                     \
			if (r_ != -ENTBS_STALE)                            \
				return to_libc(r_);                        \
		}                                                          \
	} while (0)

static inline ssize_t recv1(struct ntbs_sock *sk, int fd, void *buf, size_t len, int flags)
{
	struct iovec iov = { buf, len };

	return ntbs_sock_recv(sk, fd, &iov, 1, flags);
}

static inline ssize_t send1(struct ntbs_sock *sk, int fd, const void *buf, size_t len, int flags)
{
	struct iovec iov = { (void *)buf, len };

	return ntbs_sock_send(sk, fd, &iov, 1, flags);
}

NTBS_EXPORT ssize_t read(int fd, void *buf, size_t len)
{
	if (len)		/* read() of nothing returns at once, unlike recv() */
		OURS(fd, recv1(sk, fd, buf, len, 0));
	return LIBC(read)(fd, buf, len);
}
NTBS_EXPORT ssize_t __read(int fd, void *buf, size_t len) __attribute__((alias("read")));

NTBS_EXPORT ssize_t write(int fd, const void *buf, size_t len)
{
	OURS(fd, send1(sk, fd, buf, len, 0));
	return LIBC(write)(fd, buf, len);
}
NTBS_EXPORT ssize_t __write(int fd, const void *buf, size_t len) __attribute__((alias("write")));

NTBS_EXPORT ssize_t recv(int fd, void *buf, size_t len, int flags)
{
	OURS(fd, recv1(sk, fd, buf, len, flags));
	if (__builtin_expect(len > SSIZE_MAX, 0))
		return recv(fd, buf, NTBS_MAX_RW, flags);	/* what the kernel makes of it; read() and write() it refuses */
	return LIBC(recv)(fd, buf, len, flags);
}

NTBS_EXPORT ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	OURS(fd, send1(sk, fd, buf, len, flags));
	if (__builtin_expect(len > SSIZE_MAX, 0))
		return send(fd, buf, NTBS_MAX_RW, flags);
	return LIBC(send)(fd, buf, len, flags);
}
NTBS_EXPORT ssize_t __send(int fd, const void *buf, size_t len, int flags) __attribute__((alias("send")));

/* The fortified forms: a length above the buffer's is the program's bug, which the next definition reports. */
NTBS_EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t size);
NTBS_EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t size)
{
	if (len && len <= size)
		OURS(fd, recv1(sk, fd, buf, len, 0));
	return LIBC(__read_chk)(fd, buf, len, size);
}

NTBS_EXPORT ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags);
NTBS_EXPORT ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags)
{
	if (len <= size && len <= SSIZE_MAX)
		OURS(fd, recv1(sk, fd, buf, len, flags));
	else if (len <= size)
		return recv(fd, buf, NTBS_MAX_RW, flags);
	return LIBC(__recv_chk)(fd, buf, len, size, flags);
}

/* A connected stream names no sender; the kernel says so when the bytes have been taken (move_addr_to_user()). */
static int no_sender(socklen_t *alen)
{
	const socklen_t none = 0;
	int room;

	if (ntbs_user_copy_small(&room, alen, sizeof(room)))
		return -EFAULT;
	return room < 0 ? -EINVAL : ntbs_user_copy_small(alen, &none, sizeof(none));
}

static ssize_t recvfrom1(struct ntbs_sock *sk, int fd, void *buf, size_t len, int flags, const void *addr, socklen_t *alen)
{
	ssize_t n = recv1(sk, fd, buf, len, flags);
	int ret = n >= 0 && addr ? no_sender(alen) : 0;

	return ret ? ret : n;
}

NTBS_EXPORT ssize_t recvfrom(int fd, void *restrict buf, size_t len, int flags, struct sockaddr *restrict addr,
			     socklen_t *restrict alen)
{
	OURS(fd, recvfrom1(sk, fd, buf, len, flags, addr, alen));
	if (__builtin_expect(len > SSIZE_MAX, 0))
		return recvfrom(fd, buf, NTBS_MAX_RW, flags, addr, alen);
	return LIBC(recvfrom)(fd, buf, len, flags, addr, alen);
}

NTBS_EXPORT ssize_t __recvfrom_chk(int fd, void *restrict buf, size_t len, size_t size, int flags,
				   struct sockaddr *restrict addr, socklen_t *restrict alen);
NTBS_EXPORT ssize_t __recvfrom_chk(int fd, void *restrict buf, size_t len, size_t size, int flags,
				   struct sockaddr *restrict addr, socklen_t *restrict alen)
{
	if (len <= size && len <= SSIZE_MAX)
		OURS(fd, recvfrom1(sk, fd, buf, len, flags, addr, alen));
	else if (len <= size)
		return recvfrom(fd, buf, NTBS_MAX_RW, flags, addr, alen);
	return LIBC(__recvfrom_chk)(fd, buf, len, size, flags, addr, alen);
}

/* A connected stream sends to no other address, but it has to be one (move_addr_to_kernel()). */
static ssize_t send_to(struct ntbs_sock *sk, int fd, const void *buf, size_t len, int flags, const void *addr, socklen_t alen)
{
	if (alen > sizeof(struct sockaddr_storage))
		return -EINVAL;
	if (!ntbs_user_readable(addr, alen))
		return -EFAULT;
	return send1(sk, fd, buf, len, flags);
}

NTBS_EXPORT ssize_t sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *addr, socklen_t alen)
{
	OURS(fd, addr ? send_to(sk, fd, buf, len, flags, addr, alen) : send1(sk, fd, buf, len, flags));
	if (__builtin_expect(len > SSIZE_MAX, 0))
		return sendto(fd, buf, NTBS_MAX_RW, flags, addr, alen);
	return LIBC(sendto)(fd, buf, len, flags, addr, alen);
}

/* What we do not take the kernel refuses. */
static bool iov_ok(const struct iovec *iov, int cnt)
{
	return cnt >= 0 && cnt <= IOV_MAX && ntbs_user_readable(iov, cnt * sizeof(*iov));
}

/* For none of them the kernel does not even look at the socket. */
static bool any_room(const struct iovec *iov, int cnt)
{
	for (int i = 0; i < cnt; i++)
		if (iov[i].iov_len)
			return true;
	return false;
}

NTBS_EXPORT ssize_t readv(int fd, const struct iovec *iov, int cnt)
{
	OURS(fd, iov_ok(iov, cnt) && any_room(iov, cnt) ? ntbs_sock_recv(sk, fd, iov, cnt, 0) : -ENTBS_PASS);
	return LIBC(readv)(fd, iov, cnt);
}

NTBS_EXPORT ssize_t writev(int fd, const struct iovec *iov, int cnt)
{
	OURS(fd, iov_ok(iov, cnt) && any_room(iov, cnt) ? ntbs_sock_send(sk, fd, iov, cnt, 0) : -ENTBS_PASS);
	return LIBC(writev)(fd, iov, cnt);
}

/* One that has connected meanwhile is not: whoever sees that next offers it, and the kernel's reader would sleep on TCP alone. */
static bool plain(int fd)
{
	struct ntbs_sock *sk = ntbs_fdtab_sock(fd);

	if (sk && ntbs_sock_stage(sk) == NTBS_NEW && (ntbs_sock_flags(sk) & NTBS_SK_CONNECTING))
		ntbs_call_look_connected(sk, fd);
	return !sk || ntbs_sock_stage(sk) == NTBS_PLAIN || ntbs_sock_stage(sk) == NTBS_NEW;
}

/* What the kernel is about to send there lies behind all that was sent before: 0 or -errno. */
static ssize_t out_to_kernel(int fd)
{
	struct ntbs_sock *sk;
	ssize_t ret;

	do {
		sk = ntbs_fdtab_sock(fd);
		ret = sk && !plain(fd) ? ntbs_sock_to_kernel(sk, fd, 0) : 0;
	} while (ret == -ENTBS_STALE);
	return ret;
}

/* Flags that a socket may be given; all but RWF_NOWAIT mean nothing there. */
#define RWF_OURS (RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND)

/* Another offset than -1 the kernel refuses; with other flags the call is its own, and so are the bytes then. */
static bool stream_rw(int fd, off_t off, int flags)
{
	struct ntbs_sock *sk = ntbs_fdtab_sock(fd);

	if (off != -1)
		return false;
	if (!(flags & ~RWF_OURS))
		return true;
	if (sk && ntbs_sock_stage(sk) != NTBS_PLAIN && ntbs_sock_stage(sk) != NTBS_NEW)
		ntbs_handover_both(sk, fd, NTBS_WHY_OPTION);
	return false;
}

static int rwf(int flags)
{
	return flags & RWF_NOWAIT ? MSG_DONTWAIT : 0;
}

NTBS_EXPORT ssize_t preadv2(int fd, const struct iovec *iov, int cnt, off_t off, int flags)
{
	if (stream_rw(fd, off, flags))
		OURS(fd, iov_ok(iov, cnt) && any_room(iov, cnt) ? ntbs_sock_recv(sk, fd, iov, cnt, rwf(flags)) : -ENTBS_PASS);
	return LIBC(preadv2)(fd, iov, cnt, off, flags);
}
NTBS_EXPORT ssize_t preadv64v2(int fd, const struct iovec *iov, int cnt, off64_t off, int flags)
	__attribute__((alias("preadv2")));

NTBS_EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int cnt, off_t off, int flags)
{
	ssize_t ret;

	if (stream_rw(fd, off, flags))
		OURS(fd, iov_ok(iov, cnt) && any_room(iov, cnt) ? ntbs_sock_send(sk, fd, iov, cnt, rwf(flags)) : -ENTBS_PASS);
	else if (off == -1 && (ret = out_to_kernel(fd)))
		return to_libc(ret);
	return LIBC(pwritev2)(fd, iov, cnt, off, flags);
}
NTBS_EXPORT ssize_t pwritev64v2(int fd, const struct iovec *iov, int cnt, off64_t off, int flags)
	__attribute__((alias("pwritev2")));

NTBS_EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	OURS(fd, ntbs_sock_recvmsg(sk, fd, msg, flags));
	return LIBC(recvmsg)(fd, msg, flags);
}

NTBS_EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	OURS(fd, ntbs_sock_sendmsg(sk, fd, msg, flags));
	if (ntbs_on && !ntbs_fdtab_peek(fd))
		ntbs_sock_pass_in(msg);
	return LIBC(sendmsg)(fd, msg, flags);
}

static bool tell_len(struct mmsghdr *m, unsigned int len)
{
	if (!ntbs_user_copy(&m->msg_len, &len, sizeof(len)))
		return true;
	errno = EFAULT;
	return false;
}

NTBS_EXPORT int sendmmsg(int fd, struct mmsghdr *vec, unsigned int n, int flags)
{
	struct ntbs_sock *sk = ntbs_fdtab_sock(fd);
	unsigned int i;
	size_t len;

	if (plain(fd) && (!sk || !atomic_load(&sk->shm->owed))) {
		for (i = 0; ntbs_on && i < n && i < UIO_MAXIOV && !ntbs_fdtab_peek(fd); i++)
			ntbs_sock_pass_in(&vec[i].msg_hdr);
		return LIBC(sendmmsg)(fd, vec, n, flags);
	}
	for (i = 0; i < n && i < UIO_MAXIOV; i++) {
		const struct msghdr *m = &vec[i].msg_hdr;
		ssize_t ret = sendmsg(fd, m, flags);

		if (ret < 0 || !tell_len(&vec[i], ret))
			return i ? (int)i : -1;
		if (ntbs_call_total(m->msg_iov, m->msg_iovlen, &len) && (size_t)ret < len)
			return i + 1;		/* the next would lie behind a hole */
	}
	return i;
}

/* recvmmsg() shows an error before the bytes that came before it (net/socket.c, do_recvmmsg()). */
static bool pending_error(int fd)
{
	struct ntbs_sock *sk = ntbs_fdtab_sock(fd);
	int err = 0;
	socklen_t len = sizeof(err);

	if (sk && ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk) && ntbs_shadow_poll(fd, POLLRDHUP))
		ntbs_stream_died(sk, fd);
	if (ntbs_sys5(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, &err, &len))
		return false;
	if (sk)
		err = ntbs_sock_error(sk, err);
	return err && (errno = err);
}

/* When recvmmsg() is to end; false: a time that the kernel refuses. */
static bool until(const struct timespec *timeout, struct timespec *end)
{
	struct timespec t;

	if (!ntbs_user_readable(timeout, sizeof(*timeout)))
		return false;
	t = *timeout;
	if (t.tv_sec < 0 || t.tv_nsec < 0 || t.tv_nsec >= 1000000000)
		return false;
	clock_gettime(CLOCK_MONOTONIC, end);
	end->tv_sec += t.tv_sec < LONG_MAX / 2 ? t.tv_sec : LONG_MAX / 2;
	end->tv_nsec += t.tv_nsec;
	if (end->tv_nsec >= 1000000000) {
		end->tv_nsec -= 1000000000;
		end->tv_sec++;
	}
	return true;
}

static struct timespec time_left(const struct timespec *end)
{
	struct timespec now, left;

	clock_gettime(CLOCK_MONOTONIC, &now);
	left = (struct timespec){ end->tv_sec - now.tv_sec, end->tv_nsec - now.tv_nsec };
	if (left.tv_nsec < 0) {
		left.tv_nsec += 1000000000;
		left.tv_sec--;
	}
	if (left.tv_sec < 0)
		left = (struct timespec){ 0, 0 };
	return left;
}

/*
 * What ends recvmmsg() behind its first message is the next call's error, whichever that is; a signal that would have begun
 * it again leaves the kernel's inner word for that, 512, which comes out as it is (the same function).
 */
static void owe(int fd, int err)
{
	struct ntbs_sock *sk = ntbs_fdtab_sock(fd);
	int other;
	socklen_t len = sizeof(other);

	if (!sk)
		return;
	ntbs_sys5(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, &other, &len);	/* this one takes its place */
	if (err == EINTR && !ntbs_read_once(sk->shm->rcvtimeo_ns))
		err = RESTART_SYS;
	atomic_store(&sk->shm->owed, err);
	ntbs_sock_set_flag(sk, NTBS_SK_OWED);
}

/* It has its own word for what a signal between two messages leaves behind. */
static bool kernel_receives(int fd)
{
	struct ntbs_sock *sk = ntbs_fdtab_sock(fd);

	return !sk || (!atomic_load(&sk->shm->owed) && (plain(fd) || ntbs_sock_kernel_alone(sk)));
}

static ssize_t receive_first(int fd, struct msghdr *msg, int flags, bool *by_kernel)
{
	flags = (flags & ~MSG_WAITFORONE) | NTBS_MSG_FIRST;
	OURS(fd, ntbs_sock_recvmsg(sk, fd, msg, flags));
	*by_kernel = kernel_receives(fd);
	return *by_kernel ? 0 : LIBC(recvmsg)(fd, msg, flags);
}

/*
 * Up to @n messages, until @end if that is not NULL; *left is then what was left after the last one.  What becomes the kernel's
 * before the first has come the kernel does as a whole: it goes on waiting, begins again, and knows what a handler has met.
 */
static int receive_many(int fd, struct mmsghdr *vec, unsigned int n, int flags, const struct timespec *end, struct timespec *left)
{
	bool by_kernel = false;
	unsigned int i;

	ntbs_sock_first_message();
	for (i = 0; i < n; i++) {
		ssize_t ret = i ? recvmsg(fd, &vec[i].msg_hdr, (flags & ~MSG_WAITFORONE) | NTBS_MSG_LATER) :
				  receive_first(fd, &vec[i].msg_hdr, flags, &by_kernel);

		if (by_kernel) {
			if (end)
				*left = time_left(end);
			return LIBC(recvmmsg)(fd, vec, n, flags, end ? left : NULL);
		}
		if (ret < 0 || !tell_len(&vec[i], ret)) {
			if (i && errno != EAGAIN)
				owe(fd, errno);
			return i ? (int)i : -1;
		}
		if (flags & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
		if (end) {	/* looked at after each message, as in the kernel */
			*left = time_left(end);
			if (!left->tv_sec && !left->tv_nsec)
				return i + 1;
		}
		if (vec[i].msg_hdr.msg_flags & MSG_OOB)		/* as in the kernel: urgent data is returned right away */
			return i + 1;
	}
	return i;
}

NTBS_EXPORT int recvmmsg(int fd, struct mmsghdr *vec, unsigned int n, int flags, struct timespec *timeout)
{
	struct timespec end, left = { 0 };
	int ret;

	if (kernel_receives(fd) || (timeout && !until(timeout, &end)))
		return LIBC(recvmmsg)(fd, vec, n, flags, timeout);
	if (!(flags & MSG_ERRQUEUE) && pending_error(fd))
		return -1;
	ret = receive_many(fd, vec, n, flags, timeout ? &end : NULL, &left);
	if (ret > 0 && timeout && ntbs_user_copy(timeout, &left, sizeof(left))) {	/* the program is told what is left */
		errno = EFAULT;
		return -1;
	}
	return ret;
}

/* An error that is ours to show, before the kernel's call. */
static bool out_error(int fd)
{
	struct ntbs_sock *sk = ntbs_fdtab_sock(fd);
	int err = sk ? -ntbs_sock_send_owed(sk, 0) : 0;

	return err && (errno = err);
}

/* Of a socket that the kernel reads, behind what has come. */
static bool in_error(int fd)
{
	struct ntbs_sock *sk = ntbs_fdtab_sock(fd);
	int n = 0, err;

	if (!sk || !atomic_load(&sk->shm->owed) || (!plain(fd) && ntbs_sock_rx_state(sk) != NTBS_DIR_BACK))
		return false;
	ntbs_shadow_inq(fd, &n);
	err = n ? 0 : ntbs_sock_take_owed(sk);
	return err && (errno = err);
}

/* A file into a socket of ours: by way of a buffer that stays in the cache. */
static ssize_t send_file(int out, int in, off_t *off, size_t count, bool *pass)
{
	char buf[FILE_CHUNK];
	size_t sum = 0;
	off_t pos;

	*pass = false;
	if (!off)
		pos = lseek(in, 0, SEEK_CUR);
	else if (ntbs_user_copy_small(&pos, off, sizeof(pos)))
		return -EFAULT;
	if (pos < 0 || count > (size_t)(LLONG_MAX - pos)) {
		*pass = true;
		return 0;
	}
	if (count > NTBS_MAX_RW)
		count = NTBS_MAX_RW;
	while (sum < count) {
		size_t want = count - sum < sizeof(buf) ? count - sum : sizeof(buf);
		ssize_t got = ntbs_sys4(SYS_pread64, in, buf, want, pos), sent;

		if (got < 0) {
			if (!sum && (got == -ESPIPE || got == -EINVAL)) {
				*pass = true;
				return 0;
			}
			if (sum)
				break;
			return got;
		}
		if (!got)
			break;
		sent = send(out, buf, got, (size_t)got == want && sum + got < count ? MSG_MORE : 0);
		if (sent < 0) {
			if (sum)
				break;
			return -errno;
		}
		sum += sent;
		pos += sent;
		if (sent < got)
			break;
	}
	if (off && ntbs_user_copy_small(off, &pos, sizeof(pos)))
		return -EFAULT;
	if (!off && sum)
		lseek(in, pos, SEEK_SET);
	return sum;
}

/* How much goes out before the reset comes in is for the kernel to say; of a peer that stated no end, if it is more than a chunk. */
static bool nobody_reads(int fd, size_t count)
{
	struct ntbs_sock *sk = ntbs_fdtab_sock(fd);

	if (!sk)
		return false;
	if (ntbs_sock_stage(sk) != NTBS_LIVE)
		return ntbs_shadow_poll(fd, POLLRDHUP);
	if (!ntbs_sock_attach(sk))
		return false;
	return ntbs_le32_read_acquire(&sk->q.in->rstate) != NTBS_R_OPEN ||
	       (count > FILE_CHUNK && !ntbs_le64_read_acquire(&sk->q.in->final) && (ntbs_shadow_poll(fd, POLLRDHUP) & POLLRDHUP));
}

NTBS_EXPORT ssize_t sendfile(int out, int in, off_t *off, size_t count)
{
	int saved = errno;
	ssize_t ret;
	bool pass;

	if (off && (ntbs_fdtab_sock(out) || ntbs_fdtab_sock(in)) && !ntbs_user_readable(off, sizeof(*off)))
		return to_libc(-EFAULT);	/* before it has looked at either */
	if (!plain(in))		/* into a pipe, as splice() */
		ntbs_handover_both(ntbs_fdtab_sock(in), in, NTBS_WHY_OPTION);
	if (count && (out_error(out) || in_error(in)))
		return -1;
	if (plain(out))
		return LIBC(sendfile)(out, in, off, count);
	if (nobody_reads(out, count)) {
		ntbs_handover_tx(ntbs_fdtab_sock(out), out, NTBS_WHY_PEER_GONE);
		return LIBC(sendfile)(out, in, off, count);
	}
	ret = send_file(out, in, off, count, &pass);
	if (!pass) {
		errno = saved;
		return to_libc(ret);
	}
	ret = out_to_kernel(out);
	return ret ? to_libc(ret) : LIBC(sendfile)(out, in, off, count);
}
NTBS_EXPORT ssize_t sendfile64(int out, int in, off64_t *off, size_t count) __attribute__((alias("sendfile")));

/* For good: a connection that may come back to the ring must not have a reader asleep in the kernel (again.c). */
static bool kernel_reads(int fd)
{
	struct ntbs_sock *sk = ntbs_fdtab_sock(fd);

	return ntbs_sock_rx_state(sk) == NTBS_DIR_BACK && !ntbs_read_once(sk->shm->rx.twice) &&
	       !(ntbs_sock_attach(sk) && ntbs_le32_read_acquire(&sk->q.in->again));
}

NTBS_EXPORT ssize_t splice(int in, off64_t *off_in, int out, off64_t *off_out, size_t len, unsigned int flags)
{
	ssize_t ret;

	if (len && (out_error(out) || in_error(in)))
		return -1;
	/* pages of a pipe into a ring cannot be taken back: TCP does it */
	if (len && (ret = out_to_kernel(out)))
		return to_libc(ret);
	ret = -ENTBS_PASS;
	if (!plain(in) && !kernel_reads(in) && !off_in && !off_out && len)
		ret = ntbs_sock_splice(in, out, len, flags & SPLICE_F_NONBLOCK);	/* not about the socket: tcp_splice_read() */
	if (ret != -ENTBS_PASS)
		return to_libc(ret);
	return LIBC(splice)(in, off_in, out, off_out, len, flags);
}
