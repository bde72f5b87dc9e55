// SPDX-License-Identifier: BSD-2-Clause
/*
 * ops.c - what the operations of calls.def are in a worker, and all that can be seen of them
 *
 * The same code runs in both worlds and knows nothing of ntbsock.  Bytes that are sent follow from the step, so that they
 * are the same in both; of bytes that come the hash is told.
 */
#include "diff.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define SEND_MAX (32u << 20)
#define RECV_MAX (1u << 20)
#define FLOOD_CHUNK 65536
#define PARTS 8

const struct option_info options[] = {
#define OPTION(level, opt, shape, set, how) { level, opt, #opt, #level, shape, set, how },
#include "options.def"
#undef OPTION
};
const int nr_options = sizeof(options) / sizeof(options[0]);

static int fds[SLOTS];
static int file = -1;			/* what sendfile() reads */
static __thread unsigned char *out, *in;

__thread volatile int sigpipe_here;
volatile int sigpipe_seen;
static volatile uint32_t signals;	/* bit 0 SIGIO, 1 SIGURG, 2 SIGUSR1, 3 SIGUSR2 */

static void on_signal(int sig)
{
	if (sig == SIGPIPE)
		sigpipe_here = sigpipe_seen = 1;
	else
		__atomic_fetch_or(&signals, sig == SIGIO ? 1 : sig == SIGURG ? 2 : sig == SIGUSR1 ? 4 : 8, __ATOMIC_RELAXED);
}

static void pattern(unsigned char *buf, size_t len, uint64_t seed)
{
	uint64_t x = seed * 0xd1342543de82ef95ull + 1;

	for (size_t i = 0; i + 8 <= len; i += 8) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		memcpy(buf + i, &x, 8);
	}
	for (size_t i = len & ~7ul; i < len; i++)
		buf[i] = (unsigned char)(x >> 8 * (i & 7)) + (unsigned char)i;
}

void op_init(void)
{
	static const int sigs[] = { SIGPIPE, SIGIO, SIGURG, SIGUSR1, SIGUSR2 };
	unsigned char *buf = malloc(RECV_MAX);

	for (int i = 0; i < SLOTS; i++)
		fds[i] = -1;
	for (size_t i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++) {
		struct sigaction sa = { .sa_handler = on_signal, .sa_flags = sigs[i] == SIGUSR1 ? 0 : SA_RESTART };

		sigaction(sigs[i], &sa, NULL);
	}
	file = memfd_create("file", MFD_CLOEXEC);
	dup2(file, CHANNEL_FD - 1);
	close(file);
	file = CHANNEL_FD - 1;
	pattern(buf, RECV_MAX, 77);
	if (write(file, buf, RECV_MAX) != RECV_MAX)
		abort();
	free(buf);
}

static void buffers(void)
{
	if (!out) {
		out = mmap(NULL, SEND_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		in = mmap(NULL, RECV_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	}
}

static int pieces(struct iovec *iov, unsigned char *buf, size_t len, int n)
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
static void sent(struct answer *a, int64_t n)
{
	a->ret = n;
	if (n > 0) {
		a->bytes = n;
		a->hash = hash_bytes(0, out, n);
	}
}

static void got(struct answer *a, int64_t n, size_t room)
{
	a->ret = n;
	if (n > 0) {
		a->bytes = n;
		a->hash = hash_bytes(0, in, (size_t)n < room ? (size_t)n : room);
	}
}

static socklen_t loopback(struct sockaddr_storage *ss, int family, uint16_t port)
{
	struct sockaddr_in *v4 = (void *)ss;
	struct sockaddr_in6 *v6 = (void *)ss;

	memset(ss, 0, sizeof(*ss));
	if (family == 6) {
		*v6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_loopback };
		return sizeof(*v6);
	}
	*v4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
	return sizeof(*v4);
}

/* What can be compared of an address goes into @v, its port is returned. */
static uint16_t tell_address(struct answer *a, const struct sockaddr_storage *ss, socklen_t len)
{
	const struct sockaddr_in *v4 = (const void *)ss;
	const struct sockaddr_in6 *v6 = (const void *)ss;
	uint16_t port = len ? ntohs(v4->sin_port) : 0;

	a->v[a->nr++] = len;
	a->v[a->nr++] = len ? ss->ss_family : -1;
	a->v[a->nr++] = len && ss->ss_family == AF_INET ? ntohl(v4->sin_addr.s_addr) : 0;
	a->v[a->nr++] = len && ss->ss_family == AF_INET6 ? IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) : 0;
	a->v[a->nr++] = port != 0;
	return port;
}

static uint16_t port_of(int fd, bool peer, int32_t *family)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);

	if (peer ? getpeername(fd, (void *)&ss, &len) : getsockname(fd, (void *)&ss, &len))
		return 0;
	*family = ss.ss_family == AF_INET6 ? 6 : 4;
	return ntohs(((struct sockaddr_in *)&ss)->sin_port);
}

/* Nothing of this changes errno for the answer. */
static void tell_ports(struct answer *a, int fd)
{
	int saved = errno;

	a->lport = port_of(fd, false, &a->family);
	a->rport = port_of(fd, true, &a->family);
	errno = saved;
}

static int64_t do_connect(const struct order *o, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = loopback(&ss, o->family, o->op.a == 2 ? 1 : o->port);

	if (o->op.a == 1)
		ss.ss_family = AF_UNSPEC;
	return connect(fd, (void *)&ss, len);
}

static void do_accept(const struct order *o, struct answer *a, int fd)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
	int flags = o->op.a;
	int ret;

	if (flags < 0)
		ret = accept(fd, (void *)&ss, &len);
	else
		ret = accept4(fd, (void *)&ss, &len, (flags & 1 ? SOCK_NONBLOCK : 0) | (flags & 2 ? SOCK_CLOEXEC : 0));
	a->ret = ret;
	if (ret >= 0) {
		tell_address(a, &ss, len);
		tell_ports(a, ret);
	}
}

static void do_recvmsg(const struct order *o, struct answer *a, int fd, bool many)
{
	const size_t len = o->op.b;
	struct sockaddr_storage ss[2];
	char control[2][128];
	struct mmsghdr m[2];
	struct iovec iov[2][3];
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
		n = recvmmsg(fd, m, 2, o->op.a, NULL);
		a->ret = n;
		for (int i = 0; i < n; i++) {
			a->hash = hash_join(a->hash, hash_bytes(0, in + i * len, m[i].msg_len), m[i].msg_len);
			a->bytes += m[i].msg_len;
		}
	}
	for (int i = 0; i < n; i++) {
		a->v[a->nr++] = m[i].msg_hdr.msg_namelen;
		a->v[a->nr++] = m[i].msg_hdr.msg_controllen;
		a->v[a->nr++] = m[i].msg_hdr.msg_flags;
	}
}

static void do_recvfrom(const struct order *o, struct answer *a, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	memset(&ss, 0x55, sizeof(ss));
	got(a, recvfrom(fd, in, o->op.b, o->op.a, (void *)&ss, &len), o->op.b);
	a->v[a->nr++] = len;
	a->v[a->nr++] = ss.ss_family;
}

static void do_sendmsg(const struct order *o, struct answer *a, int fd, bool many)
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

static void do_sendfile(const struct order *o, struct answer *a, int fd)
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

static void do_splice(const struct order *o, struct answer *a, int fd)
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
static void flood(const struct order *o, struct answer *a, int fd)
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

static void drain(struct answer *a, int fd)
{
	ssize_t n;

	while ((n = recv(fd, in, RECV_MAX, MSG_DONTWAIT)) > 0) {
		a->hash = hash_join(a->hash, hash_bytes(0, in, n), n);
		a->bytes += n;
	}
	a->ret = n;
}

static void do_poll(const struct order *o, struct answer *a, int fd, int fd2)
{
	const struct op *op = &o->op;
	struct timespec ts = { op->b / 1000, op->b % 1000 * 1000000l };
	struct pollfd p[2] = { { fd, op->a, 0x7fff }, { fd2, op->a, 0x7fff } };
	sigset_t none;

	sigemptyset(&none);
	if (op->call == C_ppoll)
		a->ret = ppoll(p, 1, op->b < 0 ? NULL : &ts, &none);
	else
		a->ret = poll(p, op->call == C_poll2 ? 2 : 1, op->b);
	if (a->ret < 0)
		return;
	a->v[a->nr++] = p[0].revents;
	if (op->call == C_poll2)
		a->v[a->nr++] = p[1].revents;
}

static void do_select(const struct order *o, struct answer *a, int fd)
{
	const struct op *op = &o->op;
	struct timespec ts = { op->b / 1000, op->b % 1000 * 1000000l };
	struct timeval tv = { op->b / 1000, op->b % 1000 * 1000l };
	fd_set set[3];

	if (fd < 0 || fd >= FD_SETSIZE) {
		a->ret = -1;
		errno = EBADF;
		return;
	}
	for (int i = 0; i < 3; i++) {
		FD_ZERO(&set[i]);
		if (op->a & 1 << i)
			FD_SET(fd, &set[i]);
	}
	if (op->call == C_pselect)
		a->ret = pselect(fd + 1, &set[0], &set[1], &set[2], op->b < 0 ? NULL : &ts, NULL);
	else
		a->ret = select(fd + 1, &set[0], &set[1], &set[2], op->b < 0 ? NULL : &tv);
	if (a->ret >= 0)
		a->v[a->nr++] = (FD_ISSET(fd, &set[0]) ? 1 : 0) | (FD_ISSET(fd, &set[1]) ? 2 : 0) | (FD_ISSET(fd, &set[2]) ? 4 : 0);
}

static int by_value(const void *x, const void *y)
{
	int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;

	return a < b ? -1 : a > b;
}

static void do_epoll_wait(const struct order *o, struct answer *a, int fd)
{
	struct epoll_event ev[VALUES];

	a->ret = epoll_wait(fd, ev, o->op.a < VALUES ? o->op.a : VALUES, o->op.b);
	for (int i = 0; i < a->ret; i++)
		a->v[a->nr++] = (int64_t)ev[i].data.u64 << 32 | ev[i].events;
	qsort(a->v, a->nr, sizeof(a->v[0]), by_value);
}

static void get_option(const struct order *o, struct answer *a, int fd)
{
	const struct option_info *opt = &options[o->op.a];
	char val[256] = { 0 };
	socklen_t len = opt->shape == INT ? sizeof(int) : sizeof(val);

	a->ret = getsockopt(fd, opt->level, opt->opt, val, &len);
	if (a->ret)
		return;
	a->v[0] = len;
	for (a->nr = 1; a->nr < VALUES && (a->nr - 1) * 8 < (int)len; a->nr++)
		memcpy(&a->v[a->nr], val + (a->nr - 1) * 8, 8);
}

static int set_option(const struct order *o, int fd)
{
	const struct option_info *opt = &options[o->op.a];
	struct linger l = { o->op.b >= 0, o->op.b > 0 ? o->op.b : 0 };
	struct timeval tv = { o->op.b / 1000, o->op.b % 1000 * 1000 };

	if (opt->shape == LINGER)
		return setsockopt(fd, opt->level, opt->opt, &l, sizeof(l));
	if (opt->shape == TIMEVAL)
		return setsockopt(fd, opt->level, opt->opt, &tv, sizeof(tv));
	return setsockopt(fd, opt->level, opt->opt, &o->op.b, sizeof(int));
}

static void names(const struct order *o, struct answer *a, int fd)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
	uint16_t port;

	a->ret = o->op.call == C_peername ? getpeername(fd, (void *)&ss, &len) : getsockname(fd, (void *)&ss, &len);
	if (a->ret)
		return;
	port = tell_address(a, &ss, len);
	*(o->op.call == C_peername ? &a->rport : &a->lport) = port;
}

static int64_t number(const struct order *o, struct answer *a, int fd, unsigned long cmd)
{
	int v = -1, ret = ioctl(fd, cmd, &v);

	a->v[a->nr++] = v;
	return ret;
}

static int do_async(int fd, bool on)
{
	int fl = fcntl(fd, F_GETFL);

	if (fl < 0 || fcntl(fd, F_SETOWN, getpid()))
		return -1;
	return fcntl(fd, F_SETFL, on ? fl | O_ASYNC : fl & ~O_ASYNC);
}

static int nonblock(int fd, bool on)
{
	int fl = fcntl(fd, F_GETFL);

	return fl < 0 ? -1 : fcntl(fd, F_SETFL, on ? fl | O_NONBLOCK : fl & ~O_NONBLOCK);
}

/* The descriptors of the program itself are not taken away from it. */
static int dup_target(int slot)
{
	return fds[slot] >= 0 ? fds[slot] : 60 + slot;
}

void op_run(const struct order *o, struct answer *a)
{
	const struct op *op = &o->op;
	int fd = op->s >= 0 && op->s < SLOTS ? fds[op->s] : -1;
	int fd2 = op->t >= 0 && op->t < SLOTS ? fds[op->t] : -1;
	struct sockaddr_storage ss;
	struct iovec iov[PARTS];
	socklen_t len;
	int target;

	buffers();
	if (calls[op->call].class == SEND)
		pattern(out, op->call == C_flood ? FLOOD_CHUNK : op->call == C_sendmmsg ? 2 * (size_t)op->b : (size_t)op->b, o->step);
	if (op->call >= C_recv && op->call <= C_recvmmsg && (op->a & MSG_TRUNC))
		memset(in, 0xee, 2 * (size_t)op->b);	/* thrown away means that the buffer stays as it was */
	sigpipe_here = 0;
	sigpipe_seen = 0;
	errno = 0;
	switch ((enum call)op->call) {
	case C_socket:
		a->ret = socket(op->a == 6 ? AF_INET6 : AF_INET,
				SOCK_STREAM | (op->b & 1 ? SOCK_NONBLOCK : 0) | (op->b & 2 ? SOCK_CLOEXEC : 0), 0);
		fds[op->s] = a->ret;
		break;
	case C_bind:
		a->family = o->family;
		len = sizeof(ss);
		if (fd >= 0 && !getsockname(fd, (void *)&ss, &len))
			a->family = ss.ss_family == AF_INET6 ? 6 : 4;
		errno = 0;
		len = loopback(&ss, a->family, op->a ? o->port : 0);
		a->ret = bind(fd, (void *)&ss, len);
		if (!a->ret)
			tell_ports(a, fd);
		break;
	case C_listen: a->ret = listen(fd, op->b); break;
	case C_connect:
		a->ret = do_connect(o, fd);
		tell_ports(a, fd);
		break;
	case C_accept:
		do_accept(o, a, fd);
		fds[op->t] = a->ret;
		break;
	case C_read: got(a, read(fd, in, op->b), op->b); break;
	case C_readv: got(a, readv(fd, iov, pieces(iov, in, op->b, op->a)), op->b); break;
	case C_recv: got(a, recv(fd, in, op->b, op->a), op->b); break;
	case C_recvfrom: do_recvfrom(o, a, fd); break;
	case C_recvmsg: do_recvmsg(o, a, fd, false); break;
	case C_recvmmsg: do_recvmsg(o, a, fd, true); break;
	case C_write: sent(a, write(fd, out, op->b)); break;
	case C_writev: sent(a, writev(fd, iov, pieces(iov, out, op->b, op->a))); break;
	case C_send: sent(a, send(fd, out, op->b, op->a)); break;
	case C_sendto:
		len = loopback(&ss, 4, 9);
		sent(a, sendto(fd, out, op->b, op->a, (void *)&ss, len));
		break;
	case C_sendmsg: do_sendmsg(o, a, fd, false); break;
	case C_sendmmsg: do_sendmsg(o, a, fd, true); break;
	case C_sendfile: do_sendfile(o, a, fd); break;
	case C_splice_to:
	case C_splice_from: do_splice(o, a, fd); break;
	case C_flood: flood(o, a, fd); break;
	case C_drain: drain(a, fd); break;
	case C_shutdown: a->ret = shutdown(fd, op->a); break;
	case C_close:
		fds[op->s] = -1;
		a->ret = close(fd);
		break;
	case C_dup: a->ret = fds[op->t] = dup(fd); break;
	case C_dup2:
	case C_dup3:
		target = dup_target(op->t);
		a->ret = op->call == C_dup2 ? dup2(fd, target) : dup3(fd, target, op->a ? O_CLOEXEC : 0);
		if (a->ret >= 0)
			fds[op->t] = a->ret;
		break;
	case C_dupfd: a->ret = fds[op->t] = fcntl(fd, op->b ? F_DUPFD_CLOEXEC : F_DUPFD, op->a); break;
	case C_nonblock: a->ret = nonblock(fd, op->a); break;
	case C_fionbio: a->ret = ioctl(fd, FIONBIO, &(int){ op->a }); break;
	case C_getfl: a->ret = fcntl(fd, F_GETFL); break;
	case C_getfd: a->ret = fcntl(fd, F_GETFD); break;
	case C_cloexec: a->ret = fcntl(fd, F_SETFD, op->a); break;
	case C_async: a->ret = do_async(fd, op->a); break;
	case C_signals:
		a->v[a->nr++] = op->a ? __atomic_exchange_n(&signals, 0, __ATOMIC_RELAXED) : signals;
		break;
	case C_fionread: a->ret = number(o, a, fd, FIONREAD); break;
	case C_atmark: a->ret = number(o, a, fd, SIOCATMARK); break;
	case C_unsent: a->ret = number(o, a, fd, SIOCOUTQNSD); break;
	case C_outq: a->ret = number(o, a, fd, SIOCOUTQ); break;
	case C_getopt: get_option(o, a, fd); break;
	case C_setopt: a->ret = set_option(o, fd); break;
	case C_sockname:
	case C_peername: names(o, a, fd); break;
	case C_poll:
	case C_ppoll:
	case C_poll2: do_poll(o, a, fd, fd2); break;
	case C_select:
	case C_pselect: do_select(o, a, fd); break;
	case C_epoll_create: a->ret = fds[op->s] = epoll_create1(0); break;
	case C_epoll_add:
	case C_epoll_mod:
	case C_epoll_del:
		a->ret = epoll_ctl(fd, op->call == C_epoll_add ? EPOLL_CTL_ADD : op->call == C_epoll_mod ? EPOLL_CTL_MOD :
				   EPOLL_CTL_DEL, fd2, &(struct epoll_event){ op->a, { .u64 = op->t } });
		break;
	case C_epoll_wait: do_epoll_wait(o, a, fd); break;
	case C_fork:
		a->pid = fork();
		if (!a->pid)
			worker_after_fork(op->a);
		a->ret = a->pid < 0 ? -1 : 0;
		break;
	case C_exit: exit(0);
	case C_interrupt:
	case C_kill:
	case C_warm:
	case CALLS: break;
	}
	a->err = a->ret < 0 ? errno : 0;
	a->sigs = (sigpipe_here ? 1 : 0) | (sigpipe_seen && !sigpipe_here ? 2 : 0);
}
