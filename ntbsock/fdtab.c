// SPDX-License-Identifier: BSD-2-Clause
/* fdtab.c - see fdtab.h */
#include "fdtab.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lock.h"
#include "sys.h"

struct ntbs_file **ntbs_fdtab_l1[NTBS_FD_L1];
struct ntbs_file ntbs_file_hidden;
int ntbs_fdtab_top;
static struct ntbs_lock table_lock;	/* guards entries and file->fds; innermost */
static struct ntbs_lock low_lock;	/* outside of that one */
static int table_pid;

void ntbs_fdtab_init(void)
{
	table_pid = ntbs_sys0(SYS_getpid);
}

void ntbs_fdtab_fork_prepare(void)
{
	ntbs_lock(&low_lock);
	ntbs_lock(&table_lock);
}

void ntbs_fdtab_fork_parent(void)
{
	ntbs_unlock(&table_lock);
	ntbs_unlock(&low_lock);
}

void ntbs_fdtab_fork_child(void)
{
	table_pid = ntbs_sys0(SYS_getpid);
	ntbs_lock_reset(&table_lock);
	ntbs_lock_reset(&low_lock);
}

bool ntbs_fdtab_foreign(void)
{
	return ntbs_sys0(SYS_getpid) != table_pid;
}

static struct ntbs_file **page_of(int fd)
{
	struct ntbs_file ***slot = &ntbs_fdtab_l1[(unsigned)fd / NTBS_FD_L2];
	long mem;

	if (*slot)
		return *slot;
	mem = ntbs_sys6(SYS_mmap, 0, NTBS_FD_L2 * sizeof(struct ntbs_file *), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem < 0 && mem > -4096)
		return NULL;
	__atomic_store_n(slot, (struct ntbs_file **)mem, __ATOMIC_RELEASE);
	return *slot;
}

/*
 * High, so that the program's own numbers stay low and dense, but not so high that the kernel's table grows by much:
 * just below the soft limit, or below 4096 where the limit is larger.
 */
static long dup_high(int fd)
{
	struct rlimit lim = { 1024, 1024 };
	long high, min;

	ntbs_sys4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &lim);
	min = lim.rlim_cur < 4096 ? (long)lim.rlim_cur - 64 : 4096 - 64;
	if (min < 3)
		min = 3;
	high = ntbs_sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, min);
	if (high < 0)
		high = ntbs_sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3);
	return high;
}

bool ntbs_fdtab_set(int fd, struct ntbs_file *f, struct ntbs_file **old, bool *last)
{
	struct ntbs_file **page;
	struct ntbs_sock *after;

	*old = NULL;
	*last = false;
	if ((unsigned)fd >= NTBS_FD_L1 * NTBS_FD_L2)
		return !f;
	ntbs_lock(&table_lock);
	/* a duplicate, made while the connection left the object that the caller has seen */
	while (f && f->kind == NTBS_FILE_SOCK && (after = atomic_load(&((struct ntbs_sock *)f)->after)) != NULL)
		f = &after->file;
	page = f ? page_of(fd) : ntbs_fdtab_l1[(unsigned)fd / NTBS_FD_L2];
	if (!page) {
		ntbs_unlock(&table_lock);
		return !f;
	}
	*old = page[(unsigned)fd % NTBS_FD_L2];
	if (f)
		f->fds++;
	if (*old)
		*last = --(*old)->fds == 0;
	__atomic_store_n(&page[(unsigned)fd % NTBS_FD_L2], f, __ATOMIC_RELEASE);
	if (f && fd >= ntbs_fdtab_top)
		__atomic_store_n(&ntbs_fdtab_top, fd + 1, __ATOMIC_RELAXED);
	ntbs_unlock(&table_lock);
	return true;
}

/* Table's lock held.  Where no descriptor can be had the calls find that theirs is gone. */
static void keep(struct ntbs_sock *sk, int fd)
{
	long kept = dup_high(fd);
	struct ntbs_file **page = kept < 0 || kept >= NTBS_FD_L1 * NTBS_FD_L2 ? NULL : page_of(kept);

	if (!page) {
		if (kept >= 0)
			ntbs_sys1(SYS_close, kept);
		return;
	}
	sk->file.fds++;
	__atomic_store_n(&page[kept % NTBS_FD_L2], &sk->file, __ATOMIC_RELEASE);
	if (kept >= ntbs_fdtab_top)
		__atomic_store_n(&ntbs_fdtab_top, kept + 1, __ATOMIC_RELAXED);
	atomic_store(&sk->kept, kept);
}

void ntbs_fdtab_leave(int fd, struct ntbs_file **old, bool *last)
{
	struct ntbs_file **page;
	struct ntbs_sock *sk;

	*old = NULL;
	*last = false;
	if ((unsigned)fd >= NTBS_FD_L1 * NTBS_FD_L2)
		return;
	ntbs_lock(&table_lock);
	page = ntbs_fdtab_l1[(unsigned)fd / NTBS_FD_L2];
	*old = page ? page[(unsigned)fd % NTBS_FD_L2] : NULL;
	if (*old) {
		__atomic_store_n(&page[(unsigned)fd % NTBS_FD_L2], NULL, __ATOMIC_RELEASE);
		atomic_thread_fence(memory_order_seq_cst);	/* P2: gone, then the count; pairs with P1, ntbs_fdtab_pin() */
		sk = (*old)->kind == NTBS_FILE_SOCK ? (struct ntbs_sock *)*old : NULL;
		if (sk && ntbs_fdtab_kept(*old, fd))
			atomic_store(&sk->kept, NTBS_KEPT_NONE);
		else if (sk && (*old)->fds == 1 && atomic_load(&sk->calls))
			keep(sk, fd);
		*last = --(*old)->fds == 0;
	}
	ntbs_unlock(&table_lock);
}

int ntbs_fdtab_unkeep(struct ntbs_sock *sk)
{
	int kept = -1;

	ntbs_lock(&table_lock);
	if (!atomic_load(&sk->calls) && sk->kept >= 0) {
		kept = sk->kept;
		atomic_store(&sk->kept, ~kept);
	}
	ntbs_unlock(&table_lock);
	return kept;
}

bool ntbs_fdtab_go_on(struct ntbs_sock *old, struct ntbs_sock *next)
{
	bool any;

	ntbs_lock(&table_lock);
	any = old->file.fds > 0 && old->kept == NTBS_KEPT_NONE;
	for (int fd = 0; any && fd < ntbs_fdtab_top; fd++) {
		struct ntbs_file **page = ntbs_fdtab_l1[(unsigned)fd / NTBS_FD_L2];

		if (page && page[(unsigned)fd % NTBS_FD_L2] == &old->file)
			__atomic_store_n(&page[(unsigned)fd % NTBS_FD_L2], &next->file, __ATOMIC_RELEASE);
	}
	if (any) {
		atomic_store(&next->file.fds, old->file.fds);
		atomic_store(&old->file.fds, 0);
		atomic_store(&old->after, next);
	}
	ntbs_unlock(&table_lock);
	return any;
}

int ntbs_fdtab_find(const struct ntbs_file *f)
{
	for (int fd = 0; fd < ntbs_fdtab_highest(); fd++)
		if (ntbs_fdtab_peek(fd) == f)
			return fd;
	return -1;
}

void ntbs_fd_low_begin(void)
{
	ntbs_lock(&low_lock);
}

void ntbs_fd_low_end(void)
{
	ntbs_unlock(&low_lock);
}

int ntbs_fd_hide(int fd)
{
	long high = dup_high(fd);
	struct ntbs_file *old;
	bool last;

	/* none is left: it stays where it is, if that is not a number with a meaning */
	if (high < 0 && fd >= 3)
		high = fd;
	else
		ntbs_sys1(SYS_close, fd);
	if (high < 0)
		return high;
	ntbs_fdtab_set(high, &ntbs_file_hidden, &old, &last);
	return high;
}

void ntbs_fd_unhide_close(int fd)
{
	struct ntbs_file *old;
	bool last;

	if (fd < 0)
		return;
	if (ntbs_fdtab_peek(fd) == &ntbs_file_hidden)
		ntbs_fdtab_set(fd, NULL, &old, &last);
	ntbs_sys1(SYS_close, fd);
}
