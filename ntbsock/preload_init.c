// SPDX-License-Identifier: BSD-2-Clause
/*
 * preload_init.c - bring-up in order, exit handlers
 *
 * The constructor looks up the next definitions, reads the knobs and registers the fork handlers: no descriptor, no
 * thread, no mapping, so that a program without sockets pays a few microseconds.  A wrapped call that comes before it
 * (another library's constructor) runs it.  If a definition cannot be found it is one that this libc does not have, and
 * nobody can call it.
 */
#include "preload.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf.h"
#include "fdtab.h"
#include "handover.h"
#include "runtime.h"
#include "service.h"
#include "stats.h"
#include "spin.h"
#include "sys.h"

struct ntbs_libc ntbs_libc;
bool ntbs_on;
static int initialised;
static bool resolved;
static __thread bool resolving;		/* dlsym() may call what we wrap */

/*
 * A thread that finds another one at it does the same, and does not wait: who is in a constructor that dlopen() has called holds
 * the lock that the other one's dlsym() needs.  Both find the same.
 */
static void resolve(void)
{
	if (__atomic_load_n(&resolved, __ATOMIC_ACQUIRE))
		return;
	resolving = true;
#define NTBS_CALL(ret, name, args) __atomic_store_n((void **)&ntbs_libc.name, dlsym(RTLD_NEXT, #name), __ATOMIC_RELAXED);
#define NTBS_ALIAS(name)
#include "preload_libc.def"
#undef NTBS_CALL
#undef NTBS_ALIAS
	resolving = false;
	__atomic_store_n(&resolved, true, __ATOMIC_RELEASE);
}

__attribute__((constructor(101))) void ntbs_init(void)
{
	if (resolving)
		return;
	resolve();
	if (__atomic_exchange_n(&initialised, 1, __ATOMIC_ACQ_REL))
		return;
	ntbs_stdio_init();
	ntbs_fdtab_init();
	ntbs_runtime_init();
	ntbs_epoll_init();
	ntbs_spin_init();
	ntbs_conf_init(environ);
	if (ntbs_conf.disable || !ntbs_fork_init())
		return;
	ntbs_on = true;
	if (ntbs_conf.inherited) {
		ntbs_inherit_take(ntbs_conf.inherited);
		unsetenv(NTBS_INHERITED);
	}
}

int ntbs_threads(void)
{
	struct stat st;

	/* two links, and one a thread (proc_task_getattr()) */
	return ntbs_sys4(SYS_newfstatat, AT_FDCWD, "/proc/self/task", &st, 0) ? -1 : (int)st.st_nlink - 2;
}

/* Of the program, as far as can be seen: one too many is in nobody's way. */
static bool other_threads(void)
{
	int n = ntbs_threads();

	return n < 0 || n > 1 + ntbs_service_runs();
}

static void release(struct ntbs_sock *sk)
{
	if (!ntbs_sock_goes(sk->shm, sk->serial))
		return;
	ntbs_chan_let_lease_go(sk);
	ntbs_le32_write_release(&sk->shm->conn.used, 0);
}

static void close_one(struct ntbs_sock *sk, void *arg)
{
	const bool *others = arg;

	if (sk->file.fds <= 0)
		return;
	if (*others)
		ntbs_handover_before_exit(sk, sk->fd);
	ntbs_sock_last_close(sk, sk->fd);
	sk->exits = *others && atomic_load(&sk->shm->holders) <= 0;
	if (!*others && atomic_load(&sk->shm->holders) <= 0)
		release(sk);
}

/* Threads that are in a call on it are let out, and find that the descriptor is the kernel's. */
static void release_one(struct ntbs_sock *sk, void *arg)
{
	if (!sk->exits || atomic_load(&sk->shm->holders) > 0)	/* or forked meanwhile */
		return;
	ntbs_sock_lock_tx(sk);
	ntbs_sock_lock_rx(sk);
	ntbs_unlock(&sk->shm->rx.lock);
	ntbs_unlock(&sk->shm->tx.lock);
	release(sk);
}

/* What they send until the process has ended goes by TCP, as the kernel would send it, and nothing of ours is touched any more. */
static void close_under_threads(void)
{
	struct ntbs_file *old;
	bool last;

	ntbs_sock_pool_lock();		/* no other thread forks */
	for (int fd = 0; fd < ntbs_fdtab_highest(); fd++) {
		struct ntbs_sock *sk = ntbs_fdtab_sock(fd);

		if (sk && sk->exits && atomic_load(&sk->shm->holders) <= 0)
			ntbs_fdtab_set(fd, NULL, &old, &last);
	}
	ntbs_sock_for_each(release_one, NULL);
	ntbs_sock_pool_unlock();
}

/* The process ends: what close() would have stated of every socket is stated now, the kernel closes them next. */
void ntbs_at_exit(void)
{
	static _Atomic int once;
	bool others;

	/* in a section: the handler of a fault of our own calls exit(), and the kernel says the rest */
	if (!ntbs_on || ntbs_sig.depth || ntbs_fdtab_foreign() || atomic_exchange(&once, 1))
		return;
	others = ntbs_list_next(&ntbs_rt.chans) != &ntbs_rt.chans && other_threads();
	ntbs_sock_for_each(close_one, &others);
	if (others)
		close_under_threads();
	ntbs_stats_write();
}

/* Runs after the program's atexit handlers and other libraries' destructors of higher priority. */
__attribute__((destructor(101))) static void fini(void)
{
	ntbs_stdio_flush();
	ntbs_at_exit();
}
