// SPDX-License-Identifier: BSD-2-Clause
/*
 * preload_fork.c - a process becomes two: what is done before and after, and for whom
 *
 * fork() calls the three functions by pthread_atfork(), and what may only be done when those of all others have run is done
 * behind it.  _Fork(), clone() and fork by number do not know of them: there they are called here.  vfork() and threads share the memory, so nothing becomes two; what a vfork child may do is
 * small, and ntbs_fdtab_foreign() tells it apart.
 *
 * Invariant: between before_fork() and the functions after it this thread holds every lock under which lists of the
 * process change; so the child's lists are whole, and it has no other thread that could hold one.
 */
#include "preload.h"

#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <urcu-bp.h>

#include "getfd.h"
#include "runtime.h"
#include "service.h"
#include "spin.h"
#include "stats.h"
#include "sys.h"
#include "user.h"
#include "wait.h"

static void before_fork(void)
{
	if (!ntbs_on)
		return;
	ntbs_sock_fork_prepare();
	ntbs_runtime_fork_prepare();
	ntbs_epoll_fork_prepare();
	ntbs_fdtab_fork_prepare();
	urcu_bp_before_fork();
}

static void after_fork_parent(void)
{
	if (!ntbs_on)
		return;
	urcu_bp_after_fork_parent();
	ntbs_fdtab_fork_parent();
	ntbs_epoll_fork_parent();
	ntbs_runtime_fork_parent();
	ntbs_sock_fork_parent();
}

/* Those who waited were threads of our parent. */
static void close_kept(struct ntbs_sock *sk, void *arg)
{
	int kept = atomic_load(&sk->kept);

	atomic_store(&sk->calls, 0);
	if (kept != NTBS_KEPT_NONE)
		ntbs_fd_close_kept(kept < 0 ? ~kept : kept);
}

static void after_fork_child(void)
{
	if (!ntbs_on)
		return;
	urcu_bp_after_fork_child();
	ntbs_tid = 0;
	ntbs_fdtab_fork_child();
	ntbs_runtime_fork_child();
	ntbs_sock_fork_child();
	ntbs_epoll_fork_child();
	ntbs_service_fork_child();
	ntbs_getfd_fork_child();
	ntbs_wait_fork_child();
	ntbs_spin_fork_child();
	ntbs_stats_fork_child();
	ntbs_stdio_fork_child();
	ntbs_sig_fork_child();
	ntbs_sock_for_each(close_kept, NULL);
}

bool ntbs_fork_init(void)
{
	return !pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

/*
 * A child that has done nothing yet with what it has inherited answers a peer that asks for TCP as well, and may be the only
 * one that can: its parent closes.  Not so behind _Fork(), whose child may do nothing that a handler may not.
 */
NTBS_EXPORT pid_t fork(void)
{
	pid_t pid = LIBC(fork)();
	int saved = errno;

	if (!pid && ntbs_on)
		ntbs_service_serve_child();
	errno = saved;
	return pid;
}

/* In both processes; @pid is what the call returned. */
static void after_fork(long pid)
{
	int saved = errno;

	if (pid)
		after_fork_parent();
	else
		after_fork_child();
	errno = saved;
}

/* Memory of its own, and a descriptor table of its own: the child is a process as fork() makes it. */
static bool is_fork(unsigned long flags)
{
	return ntbs_on && !(flags & (CLONE_VM | CLONE_FILES)) && !ntbs_fdtab_foreign();
}

NTBS_EXPORT pid_t _Fork(void)
{
	pid_t pid;

	if (!is_fork(0))
		return LIBC(_Fork)();
	before_fork();
	pid = LIBC(_Fork)();
	after_fork(pid);
	return pid;
}

#ifndef NTBS_SANITIZED		/* their runtimes make threads by it before anything else is there */
struct start {
	int (*fn)(void *arg);
	void *arg;
};

static int start(void *arg)
{
	const struct start s = *(struct start *)arg;	/* the parent's, of which we have a copy */

	after_fork_child();
	return s.fn(s.arg);
}

NTBS_EXPORT int clone(int (*fn)(void *arg), void *stack, int flags, void *arg, ...)
{
	struct start s = { fn, arg };
	pid_t *parent_tid, *child_tid;
	int pid, saved;
	va_list ap;
	void *tls;

	va_start(ap, arg);
	parent_tid = va_arg(ap, pid_t *);
	tls = va_arg(ap, void *);
	child_tid = va_arg(ap, pid_t *);
	va_end(ap);
	if (!is_fork(flags) || !fn || !stack)
		return LIBC(clone)(fn, stack, flags, arg, parent_tid, tls, child_tid);
	before_fork();
	pid = LIBC(clone)(start, stack, flags, &s, parent_tid, tls, child_tid);
	saved = errno;
	after_fork_parent();
	errno = saved;
	return pid;
}

#endif

/* fork, clone and clone3 by number.  With a stack of its own the child does not come back here: that passes. */
long ntbs_fork_by_number(long nr, long a, long b, long c, long d, long e)
{
	unsigned long flags = nr == SYS_clone ? (unsigned long)a : 0, stack = nr == SYS_clone ? (unsigned long)b : 0;
	long pid;

#ifdef SYS_clone3
	/* struct clone_args (linux/sched.h): flags first, the stack sixth */
	if (nr == SYS_clone3 && ntbs_user_readable((void *)a, 6 * sizeof(uint64_t))) {
		flags = *(const uint64_t *)a;
		stack = ((const uint64_t *)a)[5];
	}
#endif
	if (!is_fork(flags) || stack)
		return LIBC(syscall)(nr, a, b, c, d, e);
	before_fork();
	pid = LIBC(syscall)(nr, a, b, c, d, e);
	after_fork(pid);
	return pid;
}
