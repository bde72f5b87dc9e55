/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fdtab.h - descriptor -> object, lock-free for readers
 *
 * Two levels, made as descriptors appear, never freed, never sized by RLIMIT_NOFILE.  A descriptor that is not ours
 * costs two loads and a branch.  The table belongs to one process: in a vfork child (which runs in its parent's
 * memory) only the kernel's table may change, which ntbs_fdtab_foreign() tells.
 */
#ifndef NTBSOCK_FDTAB_H
#define NTBSOCK_FDTAB_H

#include <stdbool.h>
#include "sock.h"

#define NTBS_FD_L2 1024u
#define NTBS_FD_L1 1024u

extern struct ntbs_file **ntbs_fdtab_l1[NTBS_FD_L1];
extern struct ntbs_file ntbs_file_hidden;	/* what the library's own descriptors point at */

static inline struct ntbs_file *ntbs_fdtab_peek(int fd)
{
	struct ntbs_file **page;

	if (__builtin_expect((unsigned)fd >= NTBS_FD_L1 * NTBS_FD_L2, 0))
		return NULL;
	page = __atomic_load_n(&ntbs_fdtab_l1[(unsigned)fd / NTBS_FD_L2], __ATOMIC_ACQUIRE);
	return page ? __atomic_load_n(&page[(unsigned)fd % NTBS_FD_L2], __ATOMIC_ACQUIRE) : NULL;
}

static inline struct ntbs_sock *ntbs_fdtab_sock(int fd)
{
	struct ntbs_file *f = ntbs_fdtab_peek(fd);

	return f && f->kind == NTBS_FILE_SOCK ? (struct ntbs_sock *)f : NULL;
}

/* Changes; all take the table's lock.  set: one more descriptor for @f (NULL: take it out); returns what was there,
 * whose count is one less.  The caller then decides if that was the last (@last). */
bool ntbs_fdtab_set(int fd, struct ntbs_file *f, struct ntbs_file **old, bool *last);
/* All descriptors of @old are @next's from now on, at once.  False: it has none. */
bool ntbs_fdtab_go_on(struct ntbs_sock *old, struct ntbs_sock *next);
/* A descriptor that still refers to @f, or -1. */
int ntbs_fdtab_find(const struct ntbs_file *f);
/*
 * Takes @fd out, which the program is about to close.  If it is the last one of a socket on which calls wait, these get one of
 * their own (@kept), which is closed when they have returned: to the kernel they would have the open file.
 */
#define NTBS_KEPT_NONE INT32_MIN	/* else the descriptor; its complement while it is being closed */
void ntbs_fdtab_leave(int fd, struct ntbs_file **old, bool *last);
/* Is @fd it?  Closed, to the program. */
static inline bool ntbs_fdtab_kept(const struct ntbs_file *f, int fd)
{
	int kept = f->kind == NTBS_FILE_SOCK ? atomic_load(&((struct ntbs_sock *)f)->kept) : NTBS_KEPT_NONE;

	return kept == fd || kept == ~fd;
}
/* A call is counted from its first wait on.  False: @fd was not @sk's any more; to be taken back all the same. */
static inline bool ntbs_fdtab_pin(struct ntbs_sock *sk, int fd)
{
	atomic_fetch_add(&sk->calls, 1);	/* P1: counted, then the look; pairs with P2, ntbs_fdtab_leave() */
	return ntbs_fdtab_peek(fd) == &sk->file;
}
/* The last of them has returned: what the caller is to close, if nobody does it yet; else -1. */
int ntbs_fdtab_unkeep(struct ntbs_sock *sk);
static inline int ntbs_fdtab_unpin(struct ntbs_sock *sk)
{
	/* P3: not counted, then the look; pairs with P4, leave() in preload_fd.c */
	return atomic_fetch_sub(&sk->calls, 1) == 1 && atomic_load(&sk->kept) >= 0 ? ntbs_fdtab_unkeep(sk) : -1;
}
/* What such a call goes on with: @fd, or what is left if the program has closed that. */
static inline int ntbs_fdtab_follow(struct ntbs_sock *sk, int fd)
{
	return ntbs_fdtab_peek(fd) == &sk->file ? fd : atomic_load(&sk->fd);
}
bool ntbs_fdtab_foreign(void);			/* this is a vfork child, or a clone that we know nothing of */
void ntbs_fdtab_fork_prepare(void);
void ntbs_fdtab_fork_parent(void);
void ntbs_fdtab_fork_child(void);
void ntbs_fdtab_init(void);
extern int ntbs_fdtab_top;
/* Above every descriptor ever entered. */
static inline int ntbs_fdtab_highest(void)
{
	return __atomic_load_n(&ntbs_fdtab_top, __ATOMIC_RELAXED);
}

/*
 * The kernel gives the lowest number.  A thread that gets a descriptor and hides it does both between these two, or under a
 * lock that fork() takes: a child would keep what it found on the way.
 */
void ntbs_fd_low_begin(void);
void ntbs_fd_low_end(void);
/* Move a descriptor of our own out of the program's way and mark it; returns the new number or -errno. */
int ntbs_fd_hide(int fd);
void ntbs_fd_unhide_close(int fd);

#endif
