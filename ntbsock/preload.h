/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * preload.h - what the wrapped calls share
 *
 * A wrapped call looks the descriptor up and calls the fast path or the next definition.  Only these files set errno.
 */
#ifndef NTBSOCK_PRELOAD_H
#define NTBSOCK_PRELOAD_H

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#include "epoll.h"
#include "fdtab.h"
#include "sock.h"

#define NTBS_EXPORT __attribute__((visibility("default")))

struct aiocb;
struct aiocb64;
struct termios;
struct winsize;
struct ntbs_libc {
#define NTBS_CALL(ret, name, args) ret(*name) args;
#define NTBS_ALIAS(name)
#include "preload_libc.def"
#undef NTBS_CALL
#undef NTBS_ALIAS
};
extern struct ntbs_libc ntbs_libc;
extern bool ntbs_on;			/* false: disabled, everything passes through */
void ntbs_init(void);
void ntbs_at_exit(void);
bool ntbs_fork_init(void);		/* preload_fork.c */
long ntbs_fork_by_number(long nr, long a, long b, long c, long d, long e);

/* The next definition; a call may come before our constructor. */
#define LIBC(name) (*(__builtin_expect(!ntbs_libc.name, 0) ? (ntbs_init(), ntbs_libc.name) : ntbs_libc.name))

static inline ssize_t to_libc(ssize_t ret)
{
	if (__builtin_expect(ret < 0, 0)) {
		errno = -ret;
		return -1;
	}
	return ret;
}

int pidfd_getfd(int pidfd, int target, unsigned int flags);	/* glibc 2.36 has it in <sys/pidfd.h> */

/* rt_sigaction() by number (preload_sig.c); @act and @old are the kernel's structures. */
long ntbs_raw_sigaction(int sig, const void *act, void *old, size_t mask_bytes);

/* Of this process; -1: not known (preload_init.c) */
int ntbs_threads(void);

/* Around what gives this thread a table of descriptors of its own (preload_proc.c) */
bool ntbs_own_table_begin(void);
int ntbs_own_table_end(bool stopped, int ret);

/* The table after a descriptor has gone or come (preload_fd.c). */
void ntbs_fd_forget(int fd);			/* before the kernel closes it */
void ntbs_fd_dupped(int old, int new_fd);
/* close() by whoever must not be cancelled in it. */
int ntbs_fd_close_uncancelled(int fd);
/* The one that calls have had which go on after a close(). */
void ntbs_fd_close_kept(int fd);

void ntbs_fd_install(int fd, struct ntbs_sock *sk);	/* a new object for a descriptor */

/* Connections that go on in another image (preload_inherit.c) */
#define NTBS_INHERITED "NTBSOCK_INHERITED"
#define NTBS_INHERIT_BYTES 1024
/* "NTBSOCK_INHERITED=...", for the environment of the image that is about to start; empty if there is nothing to say. */
void ntbs_inherit_leave(char *list, size_t size);
void ntbs_inherit_let_go(void);			/* right before exec: this image holds nothing any more */
void ntbs_inherit_failed(void);			/* it does */
void ntbs_inherit_take(const char *list);	/* what the variable says, in the new image */

/* stdio on our sockets (preload_stdio.c) */
void ntbs_stdio_init(void);
bool ntbs_stdio_hook(void);			/* from now on FILEs use the ring; false: they cannot */
void ntbs_stdio_fork_child(void);
void ntbs_stdio_leave_ring(int fd);		/* the C library is about to use it without us */
void ntbs_stdio_flush(void);			/* what FILEs on our sockets hold back is sent: the process ends */

#endif
