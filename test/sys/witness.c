/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * witness.c - preloaded in front of ntbsock: what a program hands to its TCP sockets and what it gets from them
 *
 * For each TCP connection (local and remote address, as the program's own side sees them) two running hashes and
 * lengths, of the bytes that calls took from the program and gave to it.  At the end of the process, and of each
 * connection, one line goes to WITNESS=FILE (%p: process id):
 *
 *	LOCAL REMOTE tx BYTES HASH rx BYTES HASH
 *
 * test/sys/witness.py compares the files of both ends: one's tx must be the other's rx.  WITNESS_FLIP=N alters byte
 * N of each stream that is received, as the program sees it, and must be found out.
 *
 * It sees the calls that the tested programs make and knows nothing of the library behind it.  A descriptor is
 * shared by threads under one lock, which the call itself is not made under: programs whose threads read one
 * socket at once are not for this witness.  sendfile() and splice() are hashed from the file by what they return.
 * The hash is FNV-1a over 64 bits, so that order and every byte count.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_FD 65536
#define EXPORT __attribute__((visibility("default")))

struct flow {
	uint64_t bytes, hash;
};

struct conn {
	bool known, tcp;
	char local[64], remote[64];
	struct flow tx, rx;
};

static struct conn conns[MAX_FD];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long long flip = -1;
static bool init_done;

#define NEXT(name) ((__typeof__(&name))next(#name))

static void *next(const char *name)
{
	void *p = dlsym(RTLD_NEXT, name);

	if (!p)
		abort();
	return p;
}

__attribute__((constructor)) static void init(void)
{
	const char *f = getenv("WITNESS_FLIP");

	if (f)
		flip = atoll(f);
	init_done = true;
}

static void name_of(const struct sockaddr_storage *ss, char *out, size_t len)
{
	char a[INET6_ADDRSTRLEN];
	const struct sockaddr_in *v4 = (const void *)ss;
	const struct sockaddr_in6 *v6 = (const void *)ss;

	if (ss->ss_family == AF_INET) {
		inet_ntop(AF_INET, &v4->sin_addr, a, sizeof(a));
		snprintf(out, len, "%s:%u", a, ntohs(v4->sin_port));
	} else if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
		inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], a, sizeof(a));
		snprintf(out, len, "%s:%u", a, ntohs(v6->sin6_port));
	} else {
		inet_ntop(AF_INET6, &v6->sin6_addr, a, sizeof(a));
		snprintf(out, len, "%s:%u", a, ntohs(v6->sin6_port));
	}
}

/* The connection behind @fd, looked up at its first bytes; NULL if it is none.  Under the lock. */
static struct conn *conn_of(int fd)
{
	struct sockaddr_storage a, b;
	socklen_t al = sizeof(a), bl = sizeof(b), tl = sizeof(int);
	struct conn *c;
	int type = 0, err = errno;

	if (fd < 0 || fd >= MAX_FD || !init_done)
		return NULL;
	c = &conns[fd];
	if (!c->known) {
		memset(c, 0, sizeof(*c));
		c->known = true;
		c->tx.hash = c->rx.hash = 0xcbf29ce484222325ull;
		if (!getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &tl) && type == SOCK_STREAM &&
		    !getpeername(fd, (struct sockaddr *)&b, &bl) && !getsockname(fd, (struct sockaddr *)&a, &al) &&
		    (a.ss_family == AF_INET || a.ss_family == AF_INET6)) {
			c->tcp = true;
			name_of(&a, c->local, sizeof(c->local));
			name_of(&b, c->remote, sizeof(c->remote));
		}
	}
	errno = err;
	return c->tcp ? c : NULL;
}

static void hash(struct flow *f, const void *buf, size_t len)
{
	const uint8_t *p = buf;
	uint64_t h = f->hash;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3ull;
	f->hash = h;
	f->bytes += len;
}

static void hash_iov(struct flow *f, const struct iovec *iov, size_t cnt, size_t len)
{
	for (size_t i = 0; i < cnt && len; i++) {
		size_t n = iov[i].iov_len < len ? iov[i].iov_len : len;

		hash(f, iov[i].iov_base, n);
		len -= n;
	}
}

static void flip_iov(struct flow *f, const struct iovec *iov, size_t cnt, size_t len)
{
	if (flip < 0 || (uint64_t)flip < f->bytes || (uint64_t)flip >= f->bytes + len)
		return;
	size_t at = (size_t)((uint64_t)flip - f->bytes);
	for (size_t i = 0; i < cnt; i++) {
		if (at < iov[i].iov_len) {
			((uint8_t *)iov[i].iov_base)[at] ^= 1;
			return;
		}
		at -= iov[i].iov_len;
	}
}

static void sent(int fd, const struct iovec *iov, size_t cnt, ssize_t n)
{
	struct conn *c;

	if (n <= 0)
		return;
	pthread_mutex_lock(&lock);
	c = conn_of(fd);
	if (c)
		hash_iov(&c->tx, iov, cnt, (size_t)n);
	pthread_mutex_unlock(&lock);
}

static void received(int fd, const struct iovec *iov, size_t cnt, ssize_t n, int flags)
{
	struct conn *c;

	if (n <= 0 || flags & (MSG_PEEK | MSG_TRUNC))
		return;
	pthread_mutex_lock(&lock);
	c = conn_of(fd);
	if (c) {
		flip_iov(&c->rx, iov, cnt, (size_t)n);
		hash_iov(&c->rx, iov, cnt, (size_t)n);
	}
	pthread_mutex_unlock(&lock);
}

/* One line and a fresh start; under the lock. */
static void report(struct conn *c)
{
	const char *pattern = getenv("WITNESS"), *p = pattern ? strstr(pattern, "%p") : NULL;
	char path[4096], line[400];
	int fd, n;

	if (c->tcp && pattern && (c->tx.bytes || c->rx.bytes)) {
		if (p)
			snprintf(path, sizeof(path), "%.*s%d%s", (int)(p - pattern), pattern, (int)getpid(), p + 2);
		else
			snprintf(path, sizeof(path), "%s", pattern);
		n = snprintf(line, sizeof(line), "%s %s tx %llu %016llx rx %llu %016llx\n", c->local, c->remote,
			     (unsigned long long)c->tx.bytes, (unsigned long long)c->tx.hash,
			     (unsigned long long)c->rx.bytes, (unsigned long long)c->rx.hash);
		fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
		if (fd < 0 || NEXT(write)(fd, line, (size_t)n) != n)
			abort();	/* a witness that cannot speak must not pass for one that saw nothing */
		NEXT(close)(fd);
	}
	c->known = c->tcp = false;
}

static void forget(int fd)
{
	int err = errno;

	if (fd < 0 || fd >= MAX_FD)
		return;
	pthread_mutex_lock(&lock);
	if (conns[fd].known)
		report(&conns[fd]);
	pthread_mutex_unlock(&lock);
	errno = err;
}

__attribute__((destructor)) static void at_exit(void)
{
	for (int fd = 0; fd < MAX_FD; fd++) {
		if (conns[fd].known)
			forget(fd);
	}
}

/* ------------------------------------------------------------- the calls */

#define ONE(buf, len) (&(struct iovec){ (void *)(buf), (len) }), 1

EXPORT ssize_t write(int fd, const void *buf, size_t len)
{
	ssize_t n = NEXT(write)(fd, buf, len);

	sent(fd, ONE(buf, len), n);
	return n;
}

EXPORT ssize_t read(int fd, void *buf, size_t len)
{
	ssize_t n = NEXT(read)(fd, buf, len);

	received(fd, ONE(buf, len), n, 0);
	return n;
}

EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t size);
EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t size)
{
	if (len > size)
		abort();
	return read(fd, buf, len);
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int cnt)
{
	ssize_t n = NEXT(writev)(fd, iov, cnt);

	sent(fd, iov, (size_t)cnt, n);
	return n;
}

EXPORT ssize_t readv(int fd, const struct iovec *iov, int cnt)
{
	ssize_t n = NEXT(readv)(fd, iov, cnt);

	received(fd, iov, (size_t)cnt, n, 0);
	return n;
}

EXPORT ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	ssize_t n = NEXT(send)(fd, buf, len, flags);

	sent(fd, ONE(buf, len), n);
	return n;
}

EXPORT ssize_t recv(int fd, void *buf, size_t len, int flags)
{
	ssize_t n = NEXT(recv)(fd, buf, len, flags);

	received(fd, ONE(buf, len), n, flags);
	return n;
}

EXPORT ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags);
EXPORT ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags)
{
	if (len > size)
		abort();
	return recv(fd, buf, len, flags);
}

EXPORT ssize_t sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *a, socklen_t al)
{
	ssize_t n = NEXT(sendto)(fd, buf, len, flags, a, al);

	sent(fd, ONE(buf, len), n);
	return n;
}

EXPORT ssize_t recvfrom(int fd, void *buf, size_t len, int flags, struct sockaddr *a, socklen_t *al)
{
	ssize_t n = NEXT(recvfrom)(fd, buf, len, flags, a, al);

	received(fd, ONE(buf, len), n, flags);
	return n;
}

EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t len, size_t size, int flags, struct sockaddr *a, socklen_t *al);
EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t len, size_t size, int flags, struct sockaddr *a, socklen_t *al)
{
	if (len > size)
		abort();
	return recvfrom(fd, buf, len, flags, a, al);
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	ssize_t n = NEXT(sendmsg)(fd, m, flags);

	sent(fd, m->msg_iov, m->msg_iovlen, n);
	return n;
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
	ssize_t n = NEXT(recvmsg)(fd, m, flags);

	received(fd, m->msg_iov, m->msg_iovlen, n, flags);
	return n;
}

EXPORT int sendmmsg(int fd, struct mmsghdr *m, unsigned int cnt, int flags)
{
	int n = NEXT(sendmmsg)(fd, m, cnt, flags);

	for (int i = 0; i < n; i++)
		sent(fd, m[i].msg_hdr.msg_iov, m[i].msg_hdr.msg_iovlen, m[i].msg_len);
	return n;
}

EXPORT int recvmmsg(int fd, struct mmsghdr *m, unsigned int cnt, int flags, struct timespec *ts)
{
	int n = NEXT(recvmmsg)(fd, m, cnt, flags, ts);

	for (int i = 0; i < n; i++)
		received(fd, m[i].msg_hdr.msg_iov, m[i].msg_hdr.msg_iovlen, m[i].msg_len, flags);
	return n;
}

/* The bytes lie in the file: taken from there by position. */
EXPORT ssize_t sendfile(int out, int in, off_t *off, size_t len)
{
	off_t pos = off ? *off : lseek(in, 0, SEEK_CUR);
	ssize_t n = NEXT(sendfile)(out, in, off, len);
	char buf[65536];

	for (ssize_t done = 0; n > 0 && done < n;) {
		size_t want = (size_t)(n - done) < sizeof(buf) ? (size_t)(n - done) : sizeof(buf);
		ssize_t got = pread(in, buf, want, pos + done);

		if (got <= 0)
			abort();
		sent(out, ONE(buf, (size_t)got), got);
		done += got;
	}
	return n;
}

EXPORT ssize_t sendfile64(int out, int in, off64_t *off, size_t len)
{
	return sendfile(out, in, off, len);
}

EXPORT int close(int fd)
{
	forget(fd);
	return NEXT(close)(fd);
}

EXPORT int dup2(int from, int to)
{
	if (from != to)
		forget(to);
	return NEXT(dup2)(from, to);
}

EXPORT int dup3(int from, int to, int flags)
{
	if (from != to)
		forget(to);
	return NEXT(dup3)(from, to, flags);
}

/* Programs that leave in a hurry. */
EXPORT __attribute__((noreturn)) void _exit(int status)
{
	at_exit();
	NEXT(_exit)(status);
	__builtin_unreachable();
}
