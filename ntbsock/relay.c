// SPDX-License-Identifier: BSD-2-Clause
/*
 * relay.c - see relay.h
 *
 * The relay is a grandchild, so that nobody waits for it and no SIGCHLD tells of it; a session of its own, so that no
 * terminal ends it; all signals blocked, all other descriptors closed.  It has the memory of the program as it was and
 * touches nothing of it but its own frame and the mapping with the bytes: after the clone there are system calls alone,
 * no libc, since other threads may have held any lock.
 *
 * What the other end of the loopback connection cannot tell: the names of the socket (getsockname, getpeername), and
 * urgent bytes, which come as ordinary ones.
 */
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "epoll.h"
#include "fdtab.h"
#include "log.h"
#include "preload.h"
#include "runtime.h"
#include "sys.h"

#define FIRST_BYTES (1u << 20)
#define MOST_BYTES (1u << 30)
#define PUMP_BYTES (64u << 10)		/* one way at a time; at the start of the mapping */
#define MOST_SETS 64			/* epoll sets that one number is in */

/* What goes one way before anything else. */
struct first {
	char *bytes;
	size_t len;
};

/* From one socket to another. */
struct way {
	int from, to;
	char *bytes;		/* [@done, @have) is on its way */
	size_t done, have;
	bool ended, told;	/* @from has; and @to has been told */
};

static void __attribute__((noreturn)) leave(void)
{
	for (;;)
		ntbs_sys1(SYS_exit_group, 0);
}

/* One side is gone: the other one hears it as a reset. */
static void __attribute__((noreturn)) reset(int fd)
{
	const struct linger now = { 1, 0 };

	ntbs_sys5(SYS_setsockopt, fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	leave();
}

static void step(struct way *w, char *buf)
{
	long n;

	if (w->done == w->have && !w->ended) {
		n = ntbs_sys6(SYS_recvfrom, w->from, (long)buf, PUMP_BYTES, MSG_DONTWAIT, 0, 0);
		if (n < 0 && n != -EAGAIN && n != -EINTR)
			reset(w->to);
		w->ended = !n;
		w->bytes = buf;
		w->done = 0;
		w->have = n > 0 ? n : 0;
	}
	if (w->done < w->have) {
		n = ntbs_sys6(SYS_sendto, w->to, (long)w->bytes + w->done, w->have - w->done, MSG_DONTWAIT | MSG_NOSIGNAL,
			      0, 0);
		if (n < 0 && n != -EAGAIN && n != -EINTR)
			reset(w->from);
		w->done += n > 0 ? n : 0;
	}
	if (w->done == w->have && w->ended && !w->told) {
		ntbs_sys2(SYS_shutdown, w->to, SHUT_WR);
		w->told = true;
	}
}

static void __attribute__((noreturn)) pump(int program, int peer, char *buf, const struct first *in_first,
					   const struct first *out_first)
{
	struct way in = { .from = peer, .to = program, .bytes = in_first->bytes, .have = in_first->len };
	struct way out = { .from = program, .to = peer, .bytes = out_first->bytes, .have = out_first->len };

	while (!in.told || !out.told) {
		struct pollfd p[2] = { { .fd = program }, { .fd = peer } };

		step(&in, buf);
		step(&out, buf + PUMP_BYTES);
		p[0].events = (in.done < in.have ? POLLOUT : 0) | (out.done == out.have && !out.ended ? POLLIN : 0);
		p[1].events = (out.done < out.have ? POLLOUT : 0) | (in.done == in.have && !in.ended ? POLLIN : 0);
		for (int i = 0; i < 2; i++)
			if (!p[i].events)
				p[i].fd = -1;	/* a hang-up is told unasked */
		if (p[0].events || p[1].events)
			ntbs_sys5(SYS_ppoll, p, 2, NULL, NULL, 0);
	}
	leave();
}

static bool close_span(unsigned from, unsigned to)
{
	return from > to || !ntbs_sys3(SYS_close_range, from, to, 0);
}

static void close_others(int program, int peer)
{
	struct rlimit lim = { 65536, 65536 };
	unsigned lo = program < peer ? program : peer, hi = program < peer ? peer : program;

	if (close_span(0, lo - 1) && close_span(lo + 1, hi - 1) && close_span(hi + 1, ~0u))
		return;
	ntbs_sys4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &lim);		/* before Linux 5.9 */
	for (unsigned fd = 0; fd < lim.rlim_cur && fd < 1u << 20; fd++)
		if (fd != lo && fd != hi)
			ntbs_sys1(SYS_close, fd);
}

static void become_relay(int program, int peer)
{
	ntbs_sys0(SYS_setsid);
	ntbs_sys2(SYS_prctl, PR_SET_NAME, "ntbsock-relay");
	ntbs_sys1(SYS_chdir, "/");
	close_others(program, peer);
}

/* In the child: never comes back. */
static void __attribute__((noreturn)) relay(int program, int peer, char *buf, const struct first *in, const struct first *out)
{
	if (ntbs_sys5(SYS_clone, 0, 0, 0, 0, 0))
		leave();		/* its parent waits for us alone */
	become_relay(program, peer);
	pump(program, peer, buf, in, out);
}

/* Neither end below 3, so that no standard descriptor of the program, closed now, is taken. */
static int away(int fd)
{
	int high = fd < 0 ? fd : ntbs_sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 16);

	if (fd >= 0)
		ntbs_sys1(SYS_close, fd);
	return high;
}

/* A loopback connection: @end[0] is the program's, with its family. */
static int loopback(int family, int end[2])
{
	struct sockaddr_in6 at6 = { .sin6_family = AF_INET6, .sin6_addr = { { { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1 } } } };
	struct sockaddr_in at4 = { .sin_family = AF_INET, .sin_addr.s_addr = __builtin_bswap32(INADDR_LOOPBACK) };
	struct sockaddr_storage name, who;
	socklen_t len = family == AF_INET6 ? sizeof(at6) : sizeof(at4), n;
	const void *at = family == AF_INET6 ? (void *)&at6 : (void *)&at4;
	int listener = away(ntbs_sys3(SYS_socket, family, SOCK_STREAM | SOCK_CLOEXEC, 0));
	const int on = 1;
	long ret;

	end[0] = away(ntbs_sys3(SYS_socket, family, SOCK_STREAM | SOCK_CLOEXEC, 0));
	end[1] = -1;
	ret = listener < 0 ? listener : end[0] < 0 ? end[0] : ntbs_sys3(SYS_bind, listener, at, len);
	if (!ret)
		ret = ntbs_sys2(SYS_listen, listener, 16);
	n = sizeof(name);
	if (!ret)
		ret = ntbs_sys3(SYS_getsockname, listener, &name, &n);
	if (!ret)
		ret = ntbs_sys3(SYS_connect, end[0], &name, len);
	n = sizeof(name);
	if (!ret)
		ret = ntbs_sys3(SYS_getsockname, end[0], &name, &n);
	while (!ret) {		/* anybody on this host may have been faster */
		n = sizeof(who);
		end[1] = away(ntbs_sys4(SYS_accept4, listener, &who, &n, SOCK_CLOEXEC));
		if (end[1] < 0)
			ret = end[1];
		else if (n == len && !memcmp(&who, &name, len))
			break;
		else
			ntbs_sys1(SYS_close, end[1]);
	}
	if (listener >= 0)
		ntbs_sys1(SYS_close, listener);
	if (ret) {
		if (end[0] >= 0)
			ntbs_sys1(SYS_close, end[0]);
		return ret;
	}
	ntbs_sys5(SYS_setsockopt, end[1], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return 0;
}

/* What of @fd a program would miss on the descriptor that takes its place. */
static void like(const struct ntbs_sock *sk, int fd, int next)
{
	static const struct {
		int level, name;
	} opts[] = {
		{ SOL_SOCKET, SO_RCVTIMEO }, { SOL_SOCKET, SO_SNDTIMEO }, { SOL_SOCKET, SO_RCVLOWAT }, { SOL_SOCKET, SO_OOBINLINE },
		{ SOL_SOCKET, SO_KEEPALIVE }, { SOL_SOCKET, SO_LINGER }, { IPPROTO_TCP, TCP_NODELAY },
	};

	for (size_t i = 0; i < sizeof(opts) / sizeof(*opts); i++) {
		char val[32];
		socklen_t len = sizeof(val);

		if (!ntbs_sys5(SYS_getsockopt, fd, opts[i].level, opts[i].name, val, &len))
			ntbs_sys5(SYS_setsockopt, next, opts[i].level, opts[i].name, val, len);
	}
	ntbs_sys3(SYS_fcntl, next, F_SETFL, ntbs_sys2(SYS_fcntl, fd, F_GETFL) & (O_NONBLOCK | O_ASYNC));
	if (ntbs_sock_flags(sk) & NTBS_SK_SHUT_WR)
		ntbs_sys2(SYS_shutdown, next, SHUT_WR);
}

/* All that is there to be read, behind the room that the pump needs.  Return: the mapping, or NULL. */
static char *take(struct ntbs_sock *sk, int fd, size_t *size, size_t *bytes)
{
	const size_t room = 2 * PUMP_BYTES;
	char *map = mmap(NULL, FIRST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *more;
	struct iovec iov;
	ssize_t n;

	*size = FIRST_BYTES;
	*bytes = 0;
	if (map == MAP_FAILED)
		return NULL;
	while (ntbs_sock_rx_state(sk) != NTBS_DIR_BACK) {
		if (room + *bytes == *size) {
			more = *size < MOST_BYTES ? mremap(map, *size, 2 * *size, MREMAP_MAYMOVE) : MAP_FAILED;
			if (more == MAP_FAILED)
				break;
			map = more;
			*size *= 2;
		}
		iov.iov_base = map + room + *bytes;
		iov.iov_len = *size - room - *bytes;
		n = ntbs_sock_recv(sk, fd, &iov, 1, MSG_DONTWAIT);
		if (n <= 0)
			break;
		*bytes += n;
	}
	return map;
}

/* The kernel's descriptor @fd is @next's from here on, for the sets that it is in too. */
static void put(struct ntbs_sock *sk, int fd, int next)
{
	long flags = ntbs_sys2(SYS_fcntl, fd, F_GETFD);
	struct ntbs_ep_left left[MOST_SETS];
	int n = 0;

	if (!ntbs_fdtab_foreign()) {
		n = ntbs_epoll_sock_leaves(sk, fd, left, MOST_SETS);
		ntbs_fd_forget(fd);
	}
	ntbs_sys3(SYS_dup3, next, fd, flags & FD_CLOEXEC ? O_CLOEXEC : 0);
	ntbs_epoll_number_is_back(fd, left, n);
}

/* In the child, as relay(). */
static void __attribute__((noreturn)) send_rest(int peer, const char *bytes, size_t len)
{
	struct pollfd p = { .fd = peer, .events = POLLOUT };
	size_t done = 0;
	long n;

	if (ntbs_sys5(SYS_clone, 0, 0, 0, 0, 0))
		leave();
	become_relay(peer, peer);
	while (done < len) {
		ntbs_sys5(SYS_ppoll, &p, 1, NULL, NULL, 0);
		n = ntbs_sys6(SYS_sendto, peer, (long)bytes + done, len - done, MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
		if (n < 0 && n != -EAGAIN && n != -EINTR)
			leave();
		done += n > 0 ? n : 0;
	}
	ntbs_sys2(SYS_shutdown, peer, SHUT_WR);
	leave();
}

static void lost(const struct ntbs_sock *sk, size_t bytes, int err)
{
	ntbs_log(NTBS_LOG_ERR, "connection of port %u with port %u: the last %zu bytes are lost: %s", sk->shm->conn.tuple.lport,
		 sk->shm->conn.tuple.rport, bytes, strerror(err));
}

/* What is left to replay, which nobody else sends then.  tx lock held; NULL: nothing. */
static char *take_rest(struct ntbs_sock *sk, int fd, size_t *len)
{
	struct ntbs_dir_tx_shm *tx = &sk->shm->tx;
	size_t done = 0, left;
	ssize_t n = 1;
	char *map;

	if (!tx->replay || !ntbs_stream_replay(sk, fd))
		return NULL;
	left = tx->replay;
	ntbs_write_once(tx->replay, 0);
	map = mmap(NULL, left, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED) {
		lost(sk, left, errno);
		return NULL;
	}
	while (done < left && n > 0) {
		n = ntbs_msgq_unread(&sk->q, left - done, map + done, left - done);
		done += n > 0 ? n : 0;
	}
	if (done < left)		/* it is no longer as we have left it */
		lost(sk, left - done, EBADMSG);
	*len = done;
	if (done)
		return map;
	munmap(map, left);
	return NULL;
}

void ntbs_relay_rest(struct ntbs_sock *sk, int fd)
{
	const uint64_t all = ~0ull;
	long child = -ENOMEM;
	size_t len = 0;
	uint64_t was;
	char *map;
	int peer;

	ntbs_sock_lock_tx(sk);
	map = take_rest(sk, fd, &len);
	ntbs_unlock(&sk->shm->tx.lock);
	if (!map)
		return;
	peer = ntbs_sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 16);
	ntbs_sys4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &was, sizeof(all));
	if (peer >= 0)
		child = ntbs_sys5(SYS_clone, 0, 0, 0, 0, 0);
	if (!child)
		send_rest(peer, map, len);
	if (child > 0)
		ntbs_sys4(SYS_wait4, child, NULL, __WALL, NULL);
	else
		lost(sk, len, -child);
	ntbs_sys4(SYS_rt_sigprocmask, SIG_SETMASK, &was, NULL, sizeof(was));
	munmap(map, len);
	if (peer >= 0)
		ntbs_sys1(SYS_close, peer);
}

void ntbs_relay_lost_rest(struct ntbs_sock *sk, int err)
{
	if (ntbs_read_once(sk->shm->tx.replay))		/* if not, that has been said */
		lost(sk, ntbs_read_once(sk->shm->tx.replay), err);
}

bool ntbs_relay_has_rest(const struct ntbs_sock *sk)
{
	return ntbs_read_once(sk->shm->tx.replay) && atomic_load(&sk->shm->holders) == 1 && !ntbs_fdtab_foreign();
}

int ntbs_relay(struct ntbs_sock *sk, int fd)
{
	const uint64_t all = ~0ull;
	uint64_t was;
	struct sockaddr_storage name;
	socklen_t len = sizeof(name);
	int end[2], peer, ret;
	struct first in = { 0 }, out = { 0 };
	size_t size;
	char *map;
	long child;

	ret = ntbs_sys3(SYS_getsockname, fd, &name, &len);
	if (!ret)
		ret = loopback(name.ss_family, end);
	if (ret)
		return ret;
	peer = ntbs_sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 16);
	map = peer < 0 ? NULL : take(sk, fd, &size, &in.len);
	ret = peer < 0 ? peer : -ENOMEM;
	if (!map)
		goto out;
	in.bytes = map + 2 * PUMP_BYTES;
	if (ntbs_relay_has_rest(sk)) {
		ntbs_sock_lock_tx(sk);
		out.bytes = take_rest(sk, fd, &out.len);
		ntbs_unlock(&sk->shm->tx.lock);
	}
	ntbs_sys4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &was, sizeof(all));
	child = ntbs_sys5(SYS_clone, 0, 0, 0, 0, 0);
	if (!child)
		relay(end[1], peer, map, &in, &out);
	if (child > 0)
		ntbs_sys4(SYS_wait4, child, NULL, __WALL, NULL);
	ntbs_sys4(SYS_rt_sigprocmask, SIG_SETMASK, &was, NULL, sizeof(was));
	munmap(map, size);
	ret = child < 0 ? child : 0;
	if (ret && out.len)
		lost(sk, out.len, -ret);
	if (out.len)
		munmap(out.bytes, out.len);
	if (ret)
		goto out;
	like(sk, fd, end[0]);
	ntbs_sock_get(sk);
	if (ntbs_fdtab_foreign()) {
		put(sk, fd, end[0]);
	} else {
		for (int other = 0; other < ntbs_fdtab_highest(); other++)
			if (ntbs_fdtab_sock(other) == sk)
				put(sk, other, end[0]);
		/* who sleeps on the number sleeps on what it meant */
		if (atomic_load(&sk->calls))
			ntbs_bell_ring(ntbs_rt.mbox[ntbs_rt.mbox_self]);
	}
	ntbs_sock_put(sk);
out:
	ntbs_sys1(SYS_close, end[0]);
	ntbs_sys1(SYS_close, end[1]);
	if (peer >= 0)
		ntbs_sys1(SYS_close, peer);
	return ret;
}
