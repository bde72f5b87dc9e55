// SPDX-License-Identifier: BSD-2-Clause
/*
 * preload_inherit.c - an accepted connection goes on in the program that is exec'd
 *
 * A server of servers (inetd, socat) accepts, forks and gives the connection to another program; or a server execs itself.
 * The new program may claim the connection as this one could have, if it has the library and nobody else holds it:
 * otherwise two images would use it, one by the ring and one by TCP.  That is known here (holders), and told to the new
 * image in its environment: process id, descriptors and SO_COOKIE.  The image takes the variable away, and a child of one
 * that does not is another process.  An image without the library never claims, which is as if there were none.
 *
 * Whatever becomes of them there, the image that ends holds its connections no more: who else of the family does is the
 * last one when he closes.  If exec fails it holds them again, but for those that nobody else held and the new image would
 * have got: they are plain TCP by then, and go on as if they had never been ours.
 *
 * Nobody has claimed it yet: all bytes are on TCP, the other side's offer stands.  This image lets go of it first.
 * It is on the ring: both directions go to TCP first, and the other side offers anew when it has seen that (again.c).
 * If exec fails the connection stays on TCP.
 *
 * An error that is still to be told, and that the kernel does not have any more, goes along in the same way.
 */
#include "preload.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "handover.h"
#include "holders.h"
#include "offer.h"
#include "shadow.h"
#include "stats.h"
#include "sys.h"
#include "wait.h"

#define SOCKS 8				/* adopted by one image, at most */
#define ERRNO_MAX 4095
#define ANSWER_WAIT_NS 200000000ull

static bool inheritable(int fd)
{
	long flags = ntbs_sys2(SYS_fcntl, fd, F_GETFD);

	return flags >= 0 && !(flags & FD_CLOEXEC);
}

/* Ours alone; and what the kernel does not tell the new image must be as it is at first. */
static bool can_go(struct ntbs_sock *sk)
{
	const struct ntbs_sock_shm *shm = sk->shm;

	return ntbs_read_once(shm->conn.accepted) && atomic_load(&shm->holders) == 1 &&
	       !(ntbs_sock_flags(sk) & ~NTBS_SK_NONBLOCK) && !shm->rcvtimeo_ns && !shm->sndtimeo_ns && shm->rcvlowat == 1 &&
	       !atomic_load(&shm->owed) && !ntbs_epoll_goes_along(sk);	/* the image would wait on the kernel's set alone */
}

static bool let_go(struct ntbs_sock *sk)
{
	struct ntbs_sock_shm *shm = sk->shm;
	bool ours = false;

	ntbs_lock(&shm->ctl);
	if (ntbs_sock_stage(sk) == NTBS_OFFER && !shm->claim_asked && can_go(sk)) {
		ntbs_sock_plain(sk, NTBS_WHY_EXEC);
		ours = true;
	}
	ntbs_unlock(&shm->ctl);
	return ours;
}

/* We have asked for it: the answer is a matter of the other side's service thread, and with it we can come back.  False: none. */
static bool answered(struct ntbs_sock *sk, int fd)
{
	uint64_t until = ntbs_now_ns() + ANSWER_WAIT_NS;

	while (ntbs_sock_stage(sk) == NTBS_OFFER && sk->shm->claim_asked && ntbs_now_ns() < until) {
		ntbs_sys0(SYS_sched_yield);
		ntbs_offer_step(sk, fd);
	}
	if (ntbs_sock_stage(sk) != NTBS_OFFER || !sk->shm->claim_asked)
		return true;
	ntbs_stats_timer_ran_out();
	return false;
}

/* '+': the other side offers anew, or has; ',': its first offer stands; 0: it stays on TCP. */
static char comes_back(struct ntbs_sock *sk, int fd, uint64_t until)
{
	do {		/* the service thread may ask for it at any time */
		if (let_go(sk))
			return sk->shm->offered_ns ? '+' : ',';		/* it has come to us so, and the offer is still to come */
	} while (ntbs_sock_stage(sk) == NTBS_OFFER && can_go(sk) && answered(sk, fd));
	if (ntbs_sock_stage(sk) != NTBS_LIVE || !can_go(sk) || !ntbs_sock_attach(sk) || !ntbs_handover_for_exec(sk, fd, until))
		return 0;
	return '+';
}

/* All of its numbers go, or none: what is true of a connection is found out once. */
static bool is_first(struct ntbs_sock *sk, int fd)
{
	for (int other = 0; other < fd; other++)
		if (ntbs_fdtab_sock(other) == sk && inheritable(other))
			return false;
	return true;
}

static char *put_number(char *at, uint64_t n, char end)
{
	char digits[20];
	int i = 0;

	do
		digits[i++] = '0' + n % 10;
	while (n /= 10);
	while (i)
		*at++ = digits[--i];
	*at++ = end;
	return at;
}

void ntbs_inherit_leave(char *list, size_t size)
{
	char *at = list + sizeof(NTBS_INHERITED "=") - 1;
	uint64_t until = ntbs_handover_until();		/* for all of them */
	char how;
	int owed;

	*list = 0;
	at = put_number(at, ntbs_sys0(SYS_getpid), ';');
	for (int fd = 0; fd < ntbs_fdtab_highest(); fd++) {
		struct ntbs_sock *sk = ntbs_fdtab_sock(fd);

		if (!sk || !inheritable(fd) || !is_first(sk, fd))
			continue;
		/* a death that nobody has noticed is a reset, which the kernel shall have for an image without us */
		if (ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk) && ntbs_shadow_poll(fd, POLLRDHUP))
			ntbs_stream_died_for_others(sk, fd, true);
		owed = atomic_load(&sk->shm->owed);
		how = owed ? '!' : comes_back(sk, fd, until);
		if (!how)
			continue;
		for (int other = fd; other < ntbs_fdtab_highest() && at + 64 < list + size; other++) {
			if (ntbs_fdtab_sock(other) != sk || !inheritable(other))
				continue;
			memcpy(list, NTBS_INHERITED "=", sizeof(NTBS_INHERITED "=") - 1);
			at = put_number(at, other, ':');
			at = put_number(at, ntbs_shadow_cookie(other), how);
			if (owed < 0)
				*at++ = '-';
			if (owed)
				at = put_number(at, labs(owed), ',');
			*at = 0;
		}
	}
}

static void count_out(struct ntbs_sock *sk, void *arg)
{
	if (sk->file.fds > 0 && !sk->counted_out)
		sk->counted_out = ntbs_holders_count_out(sk, true) > 0;
}

/* Closed by the kernel, which does not know of the ring.  Another of its descriptors may be inherited: that is seen to. */
static void end_here(struct ntbs_sock *sk, int fd)
{
	const struct linger reset = { 1, 0 };
	socklen_t len = sizeof(sk->linger);

	if (sk->resets_at_exec || !ntbs_handover_to_end(sk, fd))
		return;
	sk->resets_at_exec = !ntbs_sys5(SYS_getsockopt, fd, SOL_SOCKET, SO_LINGER, &sk->linger, &len) &&
			     !ntbs_sys5(SYS_setsockopt, fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

static void count_in(struct ntbs_sock *sk, void *arg)
{
	if (sk->counted_out)
		ntbs_holders_count_in(sk);
	sk->counted_out = false;
	if (sk->resets_at_exec)
		ntbs_sys5(SYS_setsockopt, sk->fd, SOL_SOCKET, SO_LINGER, &sk->linger, sizeof(sk->linger));
	sk->resets_at_exec = false;
}

void ntbs_inherit_let_go(void)
{
	ntbs_epoll_before_exec();
	ntbs_sock_for_each(count_out, NULL);
	for (int fd = 0; fd < ntbs_fdtab_highest(); fd++) {
		struct ntbs_sock *sk = ntbs_fdtab_sock(fd);

		if (!sk || sk->counted_out)
			continue;
		if (!inheritable(fd)) {
			if (ntbs_le32_read(&sk->shm->conn.pid) == (uint32_t)ntbs_sys0(SYS_getpid)) {
				end_here(sk, fd);
				continue;
			}
			/* of a family that does not end: what it has there must be given back */
			ntbs_handover_both(sk, fd, NTBS_WHY_EXEC);
		}
		ntbs_epoll_sock_closed(sk, fd, false, false);	/* the image gets its registrations as they are */
		for (int other = 0; other < ntbs_fdtab_highest(); other++)
			if (ntbs_fdtab_sock(other) == sk)
				ntbs_fd_forget(other);
	}
}

void ntbs_inherit_failed(void)
{
	ntbs_sock_for_each(count_in, NULL);
	ntbs_epoll_exec_failed();
}

void ntbs_inherit_take(const char *list)
{
	struct {
		uint64_t cookie;
		int fd;
	} seen[SOCKS];
	unsigned nr = 0, i;
	char *pid_end;

	if (strtol(list, &pid_end, 10) != ntbs_sys0(SYS_getpid) || *pid_end != ';')
		return;
	for (list = pid_end + 1; *list;) {
		char *end;
		long fd = strtol(list, &end, 10);
		uint64_t cookie = *end == ':' ? strtoull(end + 1, &end, 10) : 0;
		struct ntbs_sock *sk;
		bool again = *end == '+';
		long owed = *end == '!' ? strtol(end + 1, &end, 10) : 0;

		if ((!again && *end != ',') || owed < -ERRNO_MAX || owed > ERRNO_MAX)
			return;
		list = end + 1;
		if (fd < 0 || fd > INT32_MAX || !cookie || ntbs_shadow_cookie(fd) != cookie || ntbs_fdtab_peek(fd))
			continue;
		for (i = 0; i < nr && seen[i].cookie != cookie; i++)
			;
		if (i < nr) {
			ntbs_fd_dupped(seen[i].fd, fd);
			continue;
		}
		if (nr == SOCKS)
			continue;
		sk = ntbs_sock_new(fd, ntbs_sys2(SYS_fcntl, fd, F_GETFL) & O_NONBLOCK ? NTBS_SK_NONBLOCK : 0,
				  owed ? NTBS_PLAIN : NTBS_NEW);
		if (!sk)
			return;
		seen[nr].cookie = cookie;
		seen[nr++].fd = fd;
		ntbs_fd_install(fd, sk);
		if (owed)
			atomic_store(&sk->shm->owed, owed);
		else
			ntbs_offer_inherited(sk, fd, again);
	}
}
