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
#include <stdlib.h>
#include <unistd.h>

#include "conf.h"
#include "runtime.h"
#include "stats.h"
#include "spin.h"
#include "sys.h"

struct ntbs_libc ntbs_libc;
bool ntbs_on;
static int initialised;

__attribute__((constructor(101))) void ntbs_init(void)
{
	if (__atomic_exchange_n(&initialised, 1, __ATOMIC_ACQ_REL))
		return;
#define NTBS_CALL(ret, name, args) *(void **)&ntbs_libc.name = dlsym(RTLD_NEXT, #name);
#define NTBS_ALIAS(name)
#include "preload_libc.def"
#undef NTBS_CALL
#undef NTBS_ALIAS
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

static void close_one(struct ntbs_sock *sk, void *arg)
{
	if (sk->file.fds <= 0)
		return;
	ntbs_sock_last_close(sk, sk->fd);
	if (atomic_load(&sk->shm->holders) <= 0) {
		if (sk->chan)
			ntbs_chan_release(sk);
		ntbs_le32_write_release(&sk->shm->conn.used, 0);
	}
}

/* The process ends: what close() would have stated of every socket is stated now, the kernel closes them next. */
void ntbs_at_exit(void)
{
	static _Atomic int once;

	/* in a section: the handler of a fault of our own calls exit(), and the kernel says the rest */
	if (!ntbs_on || ntbs_sig.depth || ntbs_fdtab_foreign() || atomic_exchange(&once, 1))
		return;
	ntbs_sock_for_each(close_one, NULL);
	ntbs_stats_write();
}

/* Runs after the program's atexit handlers and other libraries' destructors of higher priority. */
__attribute__((destructor(101))) static void fini(void)
{
	ntbs_stdio_flush();
	ntbs_at_exit();
}
