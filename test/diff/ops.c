// SPDX-License-Identifier: BSD-2-Clause
/*
 * ops.c - what the operations of calls.def are in a worker, and all that can be seen of them
 *
 * The same code runs in both worlds and knows nothing of ntbsock.  Bytes that are sent follow from the step, so that they
 * are the same in both; of bytes that come the hash is told.
 */
#include "ops.h"

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
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

const struct option_info options[] = {
#define OPTION(level, opt, shape, set, how) { level, opt, #opt, #level, shape, set, how },
#include "options.def"
#undef OPTION
};
const int nr_options = sizeof(options) / sizeof(options[0]);

int fds[SLOTS];
int file = -1;
__thread unsigned char *out, *in;

/* SIGPIPE came to this thread in its call; to one that makes none, which no call is told of but the next */
static __thread volatile int in_call, sigpipe_here;
static volatile int sigpipe_astray;
static volatile uint32_t signals;	/* bit 0 SIGIO, 1 SIGURG, 2 SIGUSR1, 3 SIGUSR2 */

static void on_signal(int sig)
{
	if (sig == SIGPIPE)
		*(in_call ? &sigpipe_here : &sigpipe_astray) = 1;
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

/* ::ffff:127.0.0.1; 46 is the "family" of an IPv6 socket that speaks IPv4 */
static const struct in6_addr mapped = { .s6_addr = { [10] = 0xff, 0xff, 127, 0, 0, 1 } };

socklen_t loopback(struct sockaddr_storage *ss, int family, uint16_t port)
{
	struct sockaddr_in *v4 = (void *)ss;
	struct sockaddr_in6 *v6 = (void *)ss;

	memset(ss, 0, sizeof(*ss));
	if (family == 6 || family == 46) {
		*v6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_loopback };
		if (family == 46)
			v6->sin6_addr = mapped;
		return sizeof(*v6);
	}
	*v4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
	return sizeof(*v4);
}

/* What can be compared of an address goes into @v, its port is returned. */
uint16_t tell_address(struct answer *a, const struct sockaddr_storage *ss, socklen_t len)
{
	const struct sockaddr_in *v4 = (const void *)ss;
	const struct sockaddr_in6 *v6 = (const void *)ss;
	uint16_t port = len ? ntohs(v4->sin_port) : 0;

	a->v[a->nr++] = len;
	a->v[a->nr++] = len ? ss->ss_family : -1;
	a->v[a->nr++] = len && ss->ss_family == AF_INET ? ntohl(v4->sin_addr.s_addr) : 0;
	a->v[a->nr++] = len && ss->ss_family == AF_INET6 ? 
		   (IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) ? 1 : !memcmp(&v6->sin6_addr, &mapped, sizeof(mapped)) ? 2 : 0) : 0;
	a->v[a->nr++] = port != 0;
	return port;
}

static uint16_t port_of(int fd, bool peer, int32_t *family)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);

	if (peer ? getpeername(fd, (void *)&ss, &len) : getsockname(fd, (void *)&ss, &len))
		return 0;
	*family = ss.ss_family != AF_INET6 ? 4 : IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *)&ss)->sin6_addr) ? 6 : 46;
	return ntohs(((struct sockaddr_in *)&ss)->sin_port);
}

/* Nothing of this changes errno for the answer. */
void tell_ports(struct answer *a, int fd)
{
	int saved = errno;

	a->lport = port_of(fd, false, &a->family);
	a->rport = port_of(fd, true, &a->family);
	errno = saved;
}

/* The address of a listener as a socket of our family says it. */
socklen_t listener(struct sockaddr_storage *ss, const struct order *o, int fd, uint16_t port)
{
	int domain = 0, family = o->family, saved = errno;
	socklen_t len = sizeof(domain);

	if (o->op.a != 3 && !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len))
		family = domain == AF_INET6 ? (family == 6 ? 6 : 46) : family == 46 ? 4 : family;
	errno = saved;
	return loopback(ss, family, port);
}

static void do_bind(const struct order *o, struct answer *a, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int family = o->family;

	if (fd >= 0 && !getsockname(fd, (void *)&ss, &len))
		family = ss.ss_family == AF_INET ? 4 : o->op.b == 1 ? 46 : 6;
	errno = 0;
	len = loopback(&ss, family, o->op.a ? o->port : 0);
	if (o->op.b == 2)
		((struct sockaddr_in6 *)&ss)->sin6_addr = in6addr_any;
	a->ret = bind(fd, (void *)&ss, len);
	if (!a->ret)
		tell_ports(a, fd);
}

static int64_t do_connect(const struct order *o, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = listener(&ss, o, fd, o->op.a == 2 ? 1 : o->port);

	if (o->op.a == 1)
		ss.ss_family = AF_UNSPEC;
	return connect(fd, (void *)&ss, len);
}

void accept_from(int fd, int flags, struct answer *a)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
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

/* Which of two listeners on one port gets a connection is the kernel's choice. */
static void accept_any(int fd, int fd2, int flags, struct answer *a)
{
	struct pollfd p[2] = { { fd, POLLIN, 0 }, { fd2, POLLIN, 0 } };

	a->ret = poll(p, 2, -1);
	if (a->ret > 0)
		accept_from(p[0].revents & POLLIN ? fd : fd2, flags, a);
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
	sigpipe_astray = 0;
	in_call = 1;
	errno = 0;
	switch ((enum call)op->call) {
	case C_socket:
		a->ret = socket(op->a == 6 ? AF_INET6 : AF_INET,
				SOCK_STREAM | (op->b & 1 ? SOCK_NONBLOCK : 0) | (op->b & 2 ? SOCK_CLOEXEC : 0), 0);
		fds[op->s] = a->ret;
		break;
	case C_bind: do_bind(o, a, fd); break;
	case C_listen: a->ret = listen(fd, op->b); break;
	case C_connect:
		a->ret = do_connect(o, fd);
		tell_ports(a, fd);
		break;
	case C_accept:
		accept_from(fd, op->a, a);
		fds[op->t] = a->ret;
		break;
	case C_accept_any:
		accept_any(fd, fd2, op->a, a);
		fds[op->b] = a->ret;
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
	case C_preadv2: got(a, preadv2(fd, iov, pieces(iov, in, op->b, 3), -1, op->a), op->b); break;
	case C_pwritev2: sent(a, pwritev2(fd, iov, pieces(iov, out, op->b, 3), -1, op->a)); break;
	case C_fastopen: sent(a, do_fastopen(o, a, fd)); break;
	case C_zerocopied: zerocopied(o, a, fd); break;
	case C_flood: flood(o, a, fd); break;
	case C_drain: drain(a, fd); break;
	case C_shutdown: a->ret = shutdown(fd, op->a); break;
	case C_close:
		fds[op->s] = -1;
		a->ret = close(fd);
		break;
	case C_close_range:
		a->ret = close_range(op->b ? 3 : fd, op->b ? CHANNEL_FD - 2 : fd, op->a);
		for (int i = 0; i < SLOTS && !a->ret && !op->a; i++)
			if (op->b || i == op->s)
				fds[i] = -1;
		break;
	case C_misfit: a->ret = misfit(fd, op->a); break;
	case C_give: a->ret = do_give(fd, op->a); break;
	case C_take:
		a->ret = do_take(op->proc);
		if (a->ret >= 0)
			fds[op->t] = a->ret;
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
	case C_exec: a->ret = do_exec(o); break;
	case C_spawn: a->ret = do_spawn(o, a); break;
	case C_exit: exit(0);
	case C_interrupt:
	case C_kill:
	case C_warm:
	case CALLS: break;
	}
	a->err = a->ret < 0 ? errno : 0;
	in_call = 0;
	a->sigs = (sigpipe_here ? 1 : 0) | (sigpipe_astray ? 2 : 0);
}
