// SPDX-License-Identifier: BSD-2-Clause
/*
 * preload_inherit.c - an accepted connection that nobody has claimed yet goes on in the program that is exec'd
 *
 * A server of servers (inetd, socat) accepts, forks and gives the connection to another program.  All of its bytes are
 * on TCP, the other side's offer stands, and the new program may claim it as this one could have, if it has the library
 * and nobody else holds the connection: otherwise two images would use it, one by the ring and one by TCP.  That is
 * known here (holders), and told to the new image in its environment: process id, descriptors and SO_COOKIE.  The image
 * takes the variable away, and a child of one that does not is another process.  An image without the library never
 * claims, which is as if there were none.
 *
 * This image lets go of it first: if exec fails the connection stays on TCP.
 */
#include "preload.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "offer.h"
#include "sys.h"

#define SOCKS 8				/* adopted by one image, at most */

static uint64_t cookie_of(int fd)
{
	uint64_t cookie;
	socklen_t len = sizeof(cookie);

	return ntbs_sys5(SYS_getsockopt, fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) ? 0 : cookie;
}

static bool inheritable(int fd)
{
	long flags = ntbs_sys2(SYS_fcntl, fd, F_GETFD);

	return flags >= 0 && !(flags & FD_CLOEXEC);
}

/* What the kernel does not tell the new image must be as it is at first. */
static bool let_go(struct ntbs_sock *sk)
{
	struct ntbs_sock_shm *shm = sk->shm;
	bool ours = false;

	ntbs_lock(&shm->ctl);
	if (ntbs_sock_stage(sk) == NTBS_OFFER && ntbs_read_once(shm->conn.accepted) && !shm->claim_asked &&
	    atomic_load(&shm->holders) == 1 && !(ntbs_sock_flags(sk) & ~NTBS_SK_NONBLOCK) && !shm->rcvtimeo_ns &&
	    !shm->sndtimeo_ns && shm->rcvlowat == 1) {
		ntbs_sock_plain(sk, NTBS_WHY_EXEC);
		ours = true;
	}
	ntbs_unlock(&shm->ctl);
	return ours;
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

	*list = 0;
	at = put_number(at, ntbs_sys0(SYS_getpid), ';');
	for (int fd = 0; fd < ntbs_fdtab_highest(); fd++) {
		struct ntbs_sock *sk = ntbs_fdtab_sock(fd);

		if (!sk || ntbs_sock_stage(sk) != NTBS_OFFER || !inheritable(fd) || !let_go(sk))
			continue;
		for (int other = fd; other < ntbs_fdtab_highest() && at + 64 < list + size; other++) {
			if (ntbs_fdtab_sock(other) != sk || !inheritable(other))
				continue;
			memcpy(list, NTBS_INHERITED "=", sizeof(NTBS_INHERITED "=") - 1);
			at = put_number(at, other, ':');
			at = put_number(at, cookie_of(other), ',');
			*at = 0;
		}
	}
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

		if (*end != ',')
			return;
		list = end + 1;
		if (fd < 0 || fd > INT32_MAX || !cookie || cookie_of(fd) != cookie || ntbs_fdtab_peek(fd))
			continue;
		for (i = 0; i < nr && seen[i].cookie != cookie; i++)
			;
		if (i < nr) {
			ntbs_fd_dupped(seen[i].fd, fd);
			continue;
		}
		if (nr == SOCKS)
			continue;
		sk = ntbs_sock_new(fd, ntbs_sys2(SYS_fcntl, fd, F_GETFL) & O_NONBLOCK ? NTBS_SK_NONBLOCK : 0, NTBS_NEW);
		if (!sk)
			return;
		seen[nr].cookie = cookie;
		seen[nr++].fd = fd;
		ntbs_fd_install(fd, sk);
		ntbs_offer_inherited(sk, fd);
	}
}
