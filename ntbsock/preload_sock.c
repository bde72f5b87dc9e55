// SPDX-License-Identifier: BSD-2-Clause
/*
 * preload_sock.c - socket listen accept connect shutdown, options
 *
 * The kernel does all of it; we learn what we need and keep its result and timing.
 */
#include "preload.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "handover.h"
#include "mbox.h"
#include "offer.h"
#include "runtime.h"
#include "shadow.h"
#include "sys.h"
#include "user.h"

#ifndef SO_ZEROCOPY
#define SO_ZEROCOPY 60
#endif
#ifndef SO_RCVTIMEO_NEW
#define SO_RCVTIMEO_NEW 66
#define SO_SNDTIMEO_NEW 67
#endif
#ifndef SO_TIMESTAMP_NEW
#define SO_TIMESTAMP_NEW 63
#define SO_TIMESTAMPING_NEW 65
#endif
#ifndef TCP_ULP
#define TCP_ULP 31
#endif

void ntbs_fd_install(int fd, struct ntbs_sock *sk)
{
	struct ntbs_file *old;
	bool last;

	ntbs_stdio_hook();
	ntbs_sig_catch_faults();	/* what the program passes with it is looked at, be there a broker or not */
	if (!ntbs_fdtab_set(fd, &sk->file, &old, &last)) {
		ntbs_sock_last_close(sk, fd);
		ntbs_sock_put(sk);
	}
	/* an entry that was still there belonged to a descriptor that was closed behind our back: its object's end
	 * has been told by the kernel; the object goes */
	if (old && last && old->kind == NTBS_FILE_SOCK) {
		ntbs_sock_last_close((struct ntbs_sock *)old, -1);
		ntbs_sock_put((struct ntbs_sock *)old);
	} else if (old && last && old->kind == NTBS_FILE_EPOLL) {
		ntbs_epoll_free((struct ntbs_ep *)old);
	}
}

NTBS_EXPORT int socket(int domain, int type, int protocol)
{
	int fd = LIBC(socket)(domain, type, protocol);
	struct ntbs_sock *sk;

	if (fd < 0 || !ntbs_on || (domain != AF_INET && domain != AF_INET6) ||
	    (type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != SOCK_STREAM || (protocol && protocol != IPPROTO_TCP) ||
	    ntbs_fdtab_foreign())
		return fd;
	sk = ntbs_sock_new(fd, type & SOCK_NONBLOCK ? NTBS_SK_NONBLOCK : 0, NTBS_NEW);
	if (sk)
		ntbs_fd_install(fd, sk);
	return fd;
}

NTBS_EXPORT int listen(int fd, int backlog)
{
	int ret = LIBC(listen)(fd, backlog);
	struct ntbs_sock *sk = ntbs_fdtab_sock(fd);
	int saved = errno;

	if (!ret && sk) {
		ntbs_sock_set_flag(sk, NTBS_SK_LISTEN);
		ntbs_sock_plain(sk, NTBS_WHY_NOT_USED);
		ntbs_runtime_ready();	/* now, and not when the first client already sends */
	}
	errno = saved;
	return ret;
}

/* The kernel ends the connection; the socket may connect anew, on TCP. */
static void dissolve(struct ntbs_sock *sk)
{
	int saved = errno;

	for (; sk; sk = ntbs_sock_after(sk))
		ntbs_sock_dissolve(sk);
	errno = saved;
}

/* Its readiness is what the kernel says, now that it has done that. */
static void dissolved(struct ntbs_sock *sk)
{
	for (; sk; sk = ntbs_sock_after(sk))
		if (ntbs_sock_stage(sk) == NTBS_PLAIN)
			ntbs_epoll_sock_plain(sk);
}

/* A connection whose connect() nobody has asked for its end: if it has failed meanwhile, who asks now is told, and has a new
 * socket (__inet_stream_connect(), sock_error). */
static bool failed_since(int err)
{
	return err != EISCONN && err != EALREADY && err != EINPROGRESS && err != EINTR && err != EINVAL && err != EFAULT;
}

/* Does the kernel take this address (move_addr_to_kernel()), which ends the connection? */
static bool unspecified(const struct sockaddr *addr, socklen_t len)
{
	return len >= sizeof(addr->sa_family) && len <= sizeof(struct sockaddr_storage) && ntbs_user_readable(addr, len) &&
	       addr->sa_family == AF_UNSPEC;
}

NTBS_EXPORT int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct ntbs_sock *sk = ntbs_fdtab_sock(fd);
	int ret, saved;

	saved = errno;
	if (sk && unspecified(addr, len))
		dissolve(sk);
	if (!sk || ntbs_sock_stage(sk) != NTBS_NEW) {
		ret = LIBC(connect)(fd, addr, len);
		if (ret && sk && ntbs_sock_stage(sk) != NTBS_PLAIN && failed_since(errno))
			dissolve(sk);
		if (sk)
			dissolved(sk);
		return ret;
	}
	ntbs_runtime_ready();		/* the first time: before the kernel's handshake, not between it and us */
	errno = saved;
	ntbs_sock_set_flag(sk, NTBS_SK_CONNECTED | NTBS_SK_CONNECTING);
	ret = LIBC(connect)(fd, addr, len);
	if (ntbs_fdtab_sock(fd) != sk)		/* closed meanwhile, and with it the connection when the kernel's call returned */
		return ret;
	saved = errno;
	if (!ret) {
		ntbs_offer_connected(sk, fd);
		if (ntbs_offer_held(sk) && !(ntbs_sock_flags(sk) & NTBS_SK_NONBLOCK))
			ntbs_offer_await(sk, fd);
		ntbs_offer_let_go(sk);		/* who has not waited knows that it is connected */
	} else if (saved == EISCONN) {
		ntbs_offer_look_connected(sk, fd);
	} else if (saved != EINPROGRESS && saved != EALREADY && saved != EINTR) {
		ntbs_sock_clear_flag(sk, NTBS_SK_CONNECTING);
	}
	errno = saved;
	return ret;
}
NTBS_EXPORT int __connect(int fd, const struct sockaddr *addr, socklen_t len) __attribute__((alias("connect")));

static bool is_tcp(int fd)
{
	int protocol = 0;
	socklen_t len = sizeof(protocol);

	return ntbs_sys5(SYS_getsockopt, fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 && protocol == IPPROTO_TCP;
}

static int accepted(int listener, int fd, int flags)
{
	struct ntbs_sock *from = ntbs_fdtab_sock(listener), *sk;
	int saved = errno;

	if (fd < 0 || !ntbs_on || (!from && !is_tcp(fd)) || ntbs_fdtab_foreign())
		goto out;
	sk = ntbs_sock_new(fd, flags & SOCK_NONBLOCK ? NTBS_SK_NONBLOCK : 0, NTBS_NEW);
	if (!sk)
		goto out;
	if (from) {		/* what the kernel's socket inherits from its listener */
		ntbs_write_once(sk->shm->rcvtimeo_ns, ntbs_read_once(from->shm->rcvtimeo_ns));
		ntbs_write_once(sk->shm->sndtimeo_ns, ntbs_read_once(from->shm->sndtimeo_ns));
		ntbs_write_once(sk->shm->rcvlowat, ntbs_read_once(from->shm->rcvlowat));
		sk->shm->sndbuf = ntbs_read_once(from->shm->sndbuf);
		sk->shm->rcvbuf = ntbs_read_once(from->shm->rcvbuf);
		ntbs_sock_set_flag(sk, ntbs_sock_flags(from) & (NTBS_SK_LINGER0 | NTBS_SK_USER_TIMEOUT));
		if (ntbs_sock_flags(from) & NTBS_SK_NO_SWITCH)
			ntbs_sock_plain(sk, NTBS_WHY_OPTION);
	}
	ntbs_fd_install(fd, sk);
	if (ntbs_sock_stage(sk) == NTBS_NEW)
		ntbs_offer_accepted(sk, fd);
out:
	errno = saved;
	return fd;
}

NTBS_EXPORT int accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	return accepted(fd, LIBC(accept)(fd, addr, len), 0);
}

NTBS_EXPORT int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	return accepted(fd, LIBC(accept4)(fd, addr, len, flags), flags);
}

/* A peer that was killed with bytes of ours unread has reset the connection: who asks the kernel shall find it so. */
static void look_for_death(struct ntbs_sock *sk, int fd)
{
	if (ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk) && ntbs_shadow_poll(fd, POLLRDHUP))
		ntbs_stream_died(sk, fd);
}

/*
 * Both sides have shut down for writing, so the shadow's connection is over.  TCP's is not as long as bytes of ours wait for a
 * reader who has no room for them: our FIN waits behind them.  A full ring is taken for that.
 */
static bool still_sending(struct ntbs_sock *sk)
{
	return (ntbs_sock_flags(sk) & (NTBS_SK_SHUT_WR | NTBS_SK_RESET | NTBS_SK_DIED)) == NTBS_SK_SHUT_WR &&
	       ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk) && ntbs_sock_tx_state(sk) != NTBS_DIR_TCP &&
	       ntbs_le32_read_acquire(&sk->q.in->rstate) == NTBS_R_OPEN && ntbs_msgq_full(&sk->q);
}

/* The peer's name, which the kernel has forgotten: as our own, with its address and port. */
static long remembered_name(struct ntbs_sock *sk, int fd, struct sockaddr *addr, socklen_t *len)
{
	const struct ntbs_tuple *t = &sk->shm->conn.tuple;
	union {
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_storage any;
	} name;
	socklen_t size = sizeof(name), room;
	long ret = ntbs_sys3(SYS_getsockname, fd, &name, &size);

	if (ret)
		return ret;
	if (name.in.sin_family == AF_INET) {
		memcpy(&name.in.sin_addr, t->raddr + 12, 4);
		name.in.sin_port = htons(t->rport);
	} else {
		memcpy(&name.in6.sin6_addr, t->raddr, 16);
		name.in6.sin6_port = htons(t->rport);
	}
	if (ntbs_user_copy_small(&room, len, sizeof(room)))
		return -EFAULT;
	if ((int)room < 0)
		return -EINVAL;
	if (ntbs_user_copy_small(addr, &name, room < size ? room : size) || ntbs_user_copy_small(len, &size, sizeof(size)))
		return -EFAULT;
	return 0;
}

NTBS_EXPORT int getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
	struct ntbs_sock *sk = ntbs_fdtab_sock(fd);
	int ret;

	if (sk)
		look_for_death(sk, fd);
	ret = LIBC(getpeername)(fd, addr, len);
	if (ret && sk && errno == ENOTCONN && still_sending(sk))
		return to_libc(remembered_name(sk, fd, addr, len));
	return ret;
}

NTBS_EXPORT int shutdown(int fd, int how)
{
	const uint32_t both = NTBS_SK_SHUT_RD | NTBS_SK_SHUT_WR;
	struct ntbs_sock *sk = ntbs_fdtab_sock(fd);
	int ret, saved;
	bool had;

	if (sk && ntbs_sock_stage(sk) == NTBS_NEW && (ntbs_sock_flags(sk) & NTBS_SK_CONNECTING))
		ntbs_offer_look_connected(sk, fd);
	if (sk && ntbs_sock_stage(sk) == NTBS_OFFER)	/* a claim that nobody has noticed: the end is stated, then */
		ntbs_offer_step(sk, fd);
	if (sk && ntbs_sock_stage(sk) == NTBS_OFFER && (how == SHUT_WR || how == SHUT_RDWR))
		ntbs_offer_before_shut_wr(sk);
	if (!sk || ntbs_sock_stage(sk) == NTBS_PLAIN || ntbs_sock_stage(sk) == NTBS_NEW) {
		ret = LIBC(shutdown)(fd, how);
		if (!ret && sk && atomic_load(&sk->shm->tcp_readers))	/* from before it was the kernel's */
			ntbs_sock_stir(sk);
		return ret;
	}
	look_for_death(sk, fd);
	had = ntbs_sock_flags(sk) & NTBS_SK_SHUT_RD;
	if (how == SHUT_RD || how == SHUT_RDWR)		/* before the kernel's wakes readers: it is no FIN that they see */
		ntbs_sock_note_flag(sk, NTBS_SK_SHUT_RD, true);
	if (how == SHUT_WR || how == SHUT_RDWR) {
		ntbs_sock_lock_tx(sk);
		if (__builtin_expect(ntbs_sock_after(sk) != NULL, 0)) {	/* the connection has just left this object */
			ntbs_unlock(&sk->shm->tx.lock);
			return shutdown(fd, how);
		}
		ntbs_sock_set_flag(sk, NTBS_SK_SHUT_WR);
		if (ntbs_sock_stage(sk) == NTBS_LIVE)
			ntbs_stream_state_final(sk);	/* before the FIN */
		if (ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk) && ntbs_stream_fin_later(sk, fd))
			ret = how == SHUT_RDWR ? LIBC(shutdown)(fd, SHUT_RD) : 0;
		else
			ret = LIBC(shutdown)(fd, how);
		ntbs_unlock(&sk->shm->tx.lock);
	} else {
		ret = LIBC(shutdown)(fd, how);
	}
	if (ret && errno == ENOTCONN && still_sending(sk))
		ret = 0;
	if (ret && !had)
		ntbs_sock_note_flag(sk, NTBS_SK_SHUT_RD, false);
	if (!ret && ntbs_sock_stage(sk) == NTBS_OFFER && (ntbs_sock_flags(sk) & both) == both)
		ntbs_offer_withdraw(sk, NTBS_WHY_NOT_USED);	/* nothing left for a ring to do */
	saved = errno;
	if (!ret || saved == ENOTCONN)
		ntbs_epoll_sock_woken(sk);	/* inet_shutdown(): of whichever way, and where nothing is left to shut down */
	if (ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk)) {
		if (!ret && (ntbs_sock_flags(sk) & both) == both) {	/* as tcp_rcv_state_process(): a reset for more bytes */
			ntbs_sock_lock_rx(sk);
			if (ntbs_sock_stated_rstate(sk) == NTBS_R_OPEN)
				ntbs_sock_state_rstate(sk, NTBS_R_SHUT);
			ntbs_unlock(&sk->shm->rx.lock);
		}
		ntbs_mbox_poke(sk);
	}
	ntbs_sock_stir(sk);
	errno = saved;
	return ret;
}

static uint64_t timeval_ns(const void *val, socklen_t len)
{
	struct timeval tv;

	if (len < sizeof(tv))
		return 0;
	memcpy(&tv, val, sizeof(tv));
	return tv.tv_sec < 0 ? 1 : tv.tv_sec * 1000000000ull + tv.tv_usec * 1000ull;
}

/* tcp_set_rcvlowat() wakes all who wait if there is as much as is wanted now. */
static void reaches_mark(struct ntbs_sock *sk)
{
	ntbs_epoll_sock_woken(sk);
	ntbs_sock_stir(sk);
}

/* Who waits for room waits on other terms from now on. */
static void look_again(struct ntbs_sock *sk)
{
	if (ntbs_sock_stage(sk) != NTBS_LIVE || !ntbs_sock_attach(sk))
		return;
	ntbs_mbox_wake_all(sk);
}

/* The kernel says what it has made of it, which is what it counts by.  ctl: who makes it LIVE states what is noted by then. */
static void learn_buf(struct ntbs_sock *sk, int fd, int name, uint32_t *noted)
{
	socklen_t len = sizeof(int);
	int bytes = 0;
	bool stated;

	if (ntbs_sock_stage(sk) == NTBS_OFFER)	/* a claim that nobody has noticed: its maker sends on the ring */
		ntbs_offer_step(sk, fd);
	ntbs_lock(&sk->shm->ctl);
	if (!ntbs_sys5(SYS_getsockopt, fd, SOL_SOCKET, name, &bytes, &len))
		ntbs_write_once(*noted, bytes);
	stated = (ntbs_sock_stage(sk) == NTBS_LIVE || ntbs_sock_stage(sk) == NTBS_OFFER) && ntbs_sock_attach(sk);
	if (stated)
		ntbs_stream_state_bufs(sk);
	ntbs_unlock(&sk->shm->ctl);		/* S2 */
	if (stated)
		ntbs_mbox_poke(sk);
	look_again(sk);
}

static void learn_tcp_option(struct ntbs_sock *sk, int name, const void *val)
{
	int timeout_ms;

	if (name != TCP_USER_TIMEOUT)
		return;
	memcpy(&timeout_ms, val, sizeof(timeout_ms));
	ntbs_sock_note_flag(sk, NTBS_SK_USER_TIMEOUT, timeout_ms);
	look_again(sk);
}

static void learn_option(struct ntbs_sock *sk, int fd, int name, const void *val, socklen_t len)
{
	socklen_t mark_len = sizeof(int);
	int mark = 0;

	switch (name) {
	case SO_RCVTIMEO:
	case SO_RCVTIMEO_NEW:
		ntbs_write_once(sk->shm->rcvtimeo_ns, timeval_ns(val, len));
		break;
	case SO_SNDTIMEO:
	case SO_SNDTIMEO_NEW:
		ntbs_write_once(sk->shm->sndtimeo_ns, timeval_ns(val, len));
		break;
	case SO_LINGER:
		if (len >= sizeof(struct linger)) {
			struct linger l;

			memcpy(&l, val, sizeof(l));
			ntbs_sock_note_flag(sk, NTBS_SK_LINGER0, l.l_onoff && !l.l_linger);
		}
		break;
	case SO_SNDBUF:
	case SO_SNDBUFFORCE:
		learn_buf(sk, fd, SO_SNDBUF, &sk->shm->sndbuf);
		break;
	case SO_RCVBUF:
	case SO_RCVBUFFORCE:
		learn_buf(sk, fd, SO_RCVBUF, &sk->shm->rcvbuf);
		break;
	case SO_RCVLOWAT:
		if (!ntbs_sys5(SYS_getsockopt, fd, SOL_SOCKET, SO_RCVLOWAT, &mark, &mark_len) && mark > 0)
			ntbs_write_once(sk->shm->rcvlowat, mark);	/* the kernel keeps it within the buffer */
		if (ntbs_sock_stage(sk) != NTBS_PLAIN && (ntbs_sock_ready(sk, fd, 0, true) & POLLIN))
			reaches_mark(sk);
		break;
	}
}

/* Time stamps of bytes that arrive: the kernel's, so they have to arrive there. */
static bool stamps(int level, int name)
{
	return level == SOL_SOCKET && (name == SO_TIMESTAMP || name == SO_TIMESTAMPNS || name == SO_TIMESTAMPING ||
				       (name >= SO_TIMESTAMP_NEW && name <= SO_TIMESTAMPING_NEW));
}

/* The int at @val, if there is one: without it the kernel refuses the call. */
static bool given(const void *val, socklen_t len, int *value)
{
	if (!val || len < sizeof(*value) || !ntbs_user_readable(val, sizeof(*value)))
		return false;
	memcpy(value, val, sizeof(*value));
	return true;
}

static bool for_the_kernel(int level, int name, const void *val, socklen_t len)
{
	int value;

	if (level == IPPROTO_TCP && name == TCP_INQ)	/* a message about what is unread */
		return given(val, len, &value) && value;
	if (level == IPPROTO_TCP)
		return name == TCP_ULP || name == TCP_REPAIR || name == TCP_FASTOPEN_CONNECT;
	if (stamps(level, name))
		return given(val, len, &value) && value;
	if (level == SOL_SOCKET && name == SO_PEEK_OFF)		/* Linux 6.9 on; before, TCP does not know it */
		return given(val, len, &value) && value >= 0;
	return level == SOL_SOCKET && name == SO_ZEROCOPY;
}

NTBS_EXPORT int setsockopt(int fd, int level, int name, const void *val, socklen_t len)
{
	struct ntbs_sock *sk = ntbs_fdtab_sock(fd);
	int ret;

	if (!sk)
		return LIBC(setsockopt)(fd, level, name, val, len);
	if (for_the_kernel(level, name, val, len)) {
		/* bytes that only the kernel can treat: the connection goes there first */
		if (ntbs_sock_stage(sk) == NTBS_NEW) {
			ntbs_sock_set_flag(sk, NTBS_SK_NO_SWITCH);	/* what its listener accepts, too */
			if (stamps(level, name) && !ntbs_offer_never(sk, NTBS_WHY_OPTION))
				ntbs_handover_both(sk, fd, NTBS_WHY_OPTION);
		} else {
			if (stamps(level, name))
				ntbs_sock_note_flag(sk, NTBS_SK_STAMPS, true);
			ntbs_handover_both(sk, fd, NTBS_WHY_OPTION);
			if (level == IPPROTO_TCP && (name == TCP_ULP || name == TCP_REPAIR))	/* it treats what is sent from then on */
				ntbs_handover_await_sent(sk, fd);
		}
	}
	ret = LIBC(setsockopt)(fd, level, name, val, len);
	for (; !ret && sk; sk = ntbs_sock_after(sk)) {
		if (level == SOL_SOCKET)
			learn_option(sk, fd, name, val, len);
		else if (level == IPPROTO_TCP)
			learn_tcp_option(sk, name, val);
	}
	return ret;
}

NTBS_EXPORT int getsockopt(int fd, int level, int name, void *val, socklen_t *len)
{
	struct ntbs_sock *sk = ntbs_fdtab_sock(fd);
	int ret;

	/* pages of what the kernel has received, into a mapping that may outlive the descriptor */
	if (sk && level == IPPROTO_TCP && name == TCP_ZEROCOPY_RECEIVE && ntbs_sock_stage(sk) != NTBS_NEW)
		ntbs_handover_both(sk, fd, NTBS_WHY_PASSED);
	if (sk && ((level == SOL_SOCKET && name == SO_ERROR) || (level == IPPROTO_TCP && name == TCP_INFO)))
		look_for_death(sk, fd);
	ret = LIBC(getsockopt)(fd, level, name, val, len);
	if (sk && !ret && level == SOL_SOCKET && name == SO_ERROR && *len >= sizeof(int))
		*(int *)val = ntbs_sock_error(sk, *(int *)val);
	if (sk && !ret && level == SOL_SOCKET && name == SO_ERROR && (ntbs_sock_flags(sk) & NTBS_SK_CONNECTING))
		ntbs_offer_look_connected(sk, fd);	/* how a non-blocking connect() is asked for its end */
	return ret;
}
