// SPDX-License-Identifier: BSD-2-Clause
/*
 * preload_fd.c - close dup fcntl ioctl
 *
 * Order: the end of a socket is stated, the table lets go of the descriptor, then the kernel closes it - after that its
 * number may be anything in another thread.  The library's own descriptors look closed to the program.
 */
#include "preload.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "getfd.h"
#include "handover.h"
#include "offer.h"
#include "runtime.h"
#include "sleep.h"
#include "sys.h"

static void put_file(struct ntbs_file *f)
{
	if (f->kind == NTBS_FILE_SOCK)
		ntbs_sock_put((struct ntbs_sock *)f);
	else if (f->kind == NTBS_FILE_EPOLL)
		ntbs_epoll_free((struct ntbs_ep *)f);
}

/* A set tells of it from then on by the kernel's word alone, which knows of no ring. */
static void stays_in_set(struct ntbs_sock *sk, int fd)
{
	if (sk->file.fds == 1 && atomic_load(&sk->shm->holders) > 1 && ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_epoll_outlives(sk, fd))
		ntbs_handover_both(sk, fd, NTBS_WHY_OPTION);
}

/* The library's own: closed, to the program. */
static bool own(const struct ntbs_file *f, int fd)
{
	return f == &ntbs_file_hidden || (f && ntbs_fdtab_kept(f, fd));
}

/*
 * @fd, which is about to be the kernel's to give away, is not @sk's any more.  The service thread may be sending on that number,
 * and a call that has waited be at it in whatever way: they are let out, or about to sleep on it, and are woken.
 */
static void go_on_without(struct ntbs_sock *sk, int fd)
{
	bool waited = atomic_load(&sk->calls);

	if (sk->fd != fd && !waited)
		return;
	ntbs_sock_lock_tx(sk);
	ntbs_sock_lock_rx(sk);
	if (sk->fd == fd)
		sk->fd = ntbs_fdtab_find(&sk->file);
	ntbs_unlock(&sk->shm->rx.lock);
	ntbs_unlock(&sk->shm->tx.lock);
	if (waited && ntbs_rt.mbox[ntbs_rt.mbox_self] >= 0)
		ntbs_bell_ring(ntbs_rt.mbox[ntbs_rt.mbox_self]);
}

/*
 * Takes @fd out of the table; what is to be stated is stated.  Returns what to put after the kernel has closed it.  @calls: those
 * that wait on it go on.
 */
static struct ntbs_file *leave(int fd, bool calls)
{
	struct ntbs_file *f = ntbs_fdtab_peek(fd);
	bool last;
	int kept;

	if (f && f->kind == NTBS_FILE_SOCK)
		stays_in_set((struct ntbs_sock *)f, fd);
	if (calls)
		ntbs_fdtab_leave(fd, &f, &last);
	else
		ntbs_fdtab_set(fd, NULL, &f, &last);
	if (!f || f == &ntbs_file_hidden)
		return NULL;
	if (last) {
		if (f->kind == NTBS_FILE_SOCK)
			ntbs_sock_last_close((struct ntbs_sock *)f, fd);
		return f;
	}
	if (f->kind == NTBS_FILE_SOCK)
		go_on_without((struct ntbs_sock *)f, fd);
	/* P4: kept, then the count; pairs with P3, ntbs_fdtab_unpin() */
	if (f->kind == NTBS_FILE_SOCK && (kept = ntbs_fdtab_unkeep((struct ntbs_sock *)f)) >= 0)
		ntbs_fd_close_kept(kept);
	if (f->kind == NTBS_FILE_EPOLL && ((struct ntbs_ep *)f)->epfd == fd)
		((struct ntbs_ep *)f)->epfd = ntbs_fdtab_find(f);
	return NULL;
}

void ntbs_fd_forget(int fd)
{
	struct ntbs_file *f = leave(fd, false);

	if (f)
		put_file(f);
}

static int close_raw(int fd)
{
	return to_libc(ntbs_sys1(SYS_close, fd));
}

static int leave_and_close(int (*kernel)(int), int fd)
{
	int ret, saved = errno, cancel;
	struct ntbs_file *gone = leave(fd, true);

	errno = saved;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);	/* the end is stated: it must come */
	ret = kernel(fd);
	pthread_setcancelstate(cancel, NULL);
	saved = errno;
	if (gone)
		put_file(gone);
	errno = saved;
	return ret;
}

static int close_by(int (*kernel)(int), int fd)
{
	struct ntbs_file *f = ntbs_fdtab_peek(fd);

	if (!f || ntbs_fdtab_foreign())
		return kernel(fd);
	if (own(f, fd)) {
		errno = EBADF;
		return -1;
	}
	return leave_and_close(kernel, fd);
}

NTBS_EXPORT int close(int fd)
{
	if (ntbs_fdtab_peek(fd))
		ntbs_cancel_point();
	return close_by(&LIBC(close), fd);
}
NTBS_EXPORT int __close(int fd) __attribute__((alias("close")));

int ntbs_fd_close_uncancelled(int fd)
{
	return close_by(close_raw, fd);
}

void ntbs_fd_close_kept(int fd)
{
	leave_and_close(close_raw, fd);
}

/* A vfork child gives a socket another number, to start another image with it. */
static bool foreign_dup(int fd)
{
	struct ntbs_sock *sk;

	if (!ntbs_fdtab_foreign())
		return false;
	sk = ntbs_fdtab_sock(fd);
	if (sk)
		ntbs_handover_pass(sk, fd, NTBS_WHY_EXEC);
	return true;
}

void ntbs_fd_dupped(int old, int new_fd)
{
	struct ntbs_file *f = ntbs_fdtab_peek(old), *was;
	bool last;

	if (new_fd < 0 || !f || f == &ntbs_file_hidden)
		return;
	ntbs_fdtab_set(new_fd, f, &was, &last);
}

NTBS_EXPORT int dup(int fd)
{
	bool ours = ntbs_fdtab_peek(fd) && !foreign_dup(fd);
	int ret = LIBC(dup)(fd);

	if (ret >= 0 && ours)
		ntbs_fd_dupped(fd, ret);
	return ret;
}

/* The kernel looks at the limit first, and leaves one alone that lies above it since it was lowered. */
static bool below_limit(int fd)
{
	struct rlimit lim = { RLIM_INFINITY, RLIM_INFINITY };

	ntbs_sys4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &lim);
	return (unsigned)fd < lim.rlim_cur;
}

static int dup_onto(int old, int new_fd, int flags, bool three)
{
	struct ntbs_file *f = ntbs_fdtab_peek(old), *was = ntbs_fdtab_peek(new_fd), *gone = NULL;
	int ret, saved = errno;

	if ((!f && !was) || old == new_fd)
		return three ? LIBC(dup3)(old, new_fd, flags) : LIBC(dup2)(old, new_fd);
	if (own(was, new_fd)) {
		errno = EBUSY;
		return -1;
	}
	if (f ? foreign_dup(old) : ntbs_fdtab_foreign())
		return three ? LIBC(dup3)(old, new_fd, flags) : LIBC(dup2)(old, new_fd);
	/* the kernel closes new_fd on the way, if it does anything */
	if (was && ntbs_sys2(SYS_fcntl, old, F_GETFD) >= 0 && !(flags & ~O_CLOEXEC) && below_limit(new_fd))
		gone = leave(new_fd, true);
	errno = saved;
	ret = three ? LIBC(dup3)(old, new_fd, flags) : LIBC(dup2)(old, new_fd);
	saved = errno;
	if (ret >= 0)
		ntbs_fd_dupped(old, ret);
	if (gone)
		put_file(gone);
	errno = saved;
	return ret;
}

NTBS_EXPORT int dup2(int old, int new_fd)
{
	return dup_onto(old, new_fd, 0, false);
}
NTBS_EXPORT __attribute__((nothrow, leaf)) int __dup2(int old, int new_fd) __attribute__((alias("dup2")));

NTBS_EXPORT int dup3(int old, int new_fd, int flags)
{
	return dup_onto(old, new_fd, flags, true);
}

static int kernel_close_range(unsigned int first, unsigned int last, int flags)
{
	return to_libc(ntbs_sys3(SYS_close_range, first, last, flags));
}

/* The kernel's call on the runs between our own descriptors. */
static int range_around(unsigned int first, unsigned int last, int flags)
{
	unsigned int from = first, top = ntbs_fdtab_highest();
	int ret = 0;

	for (unsigned int fd = first; fd <= last && fd < top; fd++) {
		if (!own(ntbs_fdtab_peek(fd), fd))
			continue;
		if (fd > from)
			ret = kernel_close_range(from, fd - 1, flags);
		if (ret)
			return ret;
		from = fd + 1;
	}
	return from <= last ? kernel_close_range(from, last, flags) : 0;
}

NTBS_EXPORT int close_range(unsigned int first, unsigned int last, int flags)
{
	unsigned int top = ntbs_fdtab_highest();
	int ret, saved = errno;

	if ((flags & CLOSE_RANGE_UNSHARE) && !(flags & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC)) && first <= last) {
		bool stopped = ntbs_own_table_begin();

		/* first the table, of which nothing is closed */
		if (!ntbs_own_table_end(stopped, kernel_close_range(~0u, ~0u, CLOSE_RANGE_UNSHARE)))
			flags &= ~CLOSE_RANGE_UNSHARE;
		errno = saved;
	}
	if (!ntbs_on || first > last || first >= top)
		return kernel_close_range(first, last, flags);
	if (!flags && !ntbs_fdtab_foreign())
		for (unsigned int fd = first; fd <= last && fd < top; fd++) {
			struct ntbs_file *f = ntbs_fdtab_peek(fd);

			if (f && !own(f, fd))
				close(fd);
		}
	ret = range_around(first, last, flags);
	return ret;
}

NTBS_EXPORT void closefrom(int low)
{
	if (!ntbs_on) {
		LIBC(closefrom)(low);
		return;
	}
	if (close_range(low < 0 ? 0 : low, ~0u, 0))
		for (int fd = low < 0 ? 0 : low, top = sysconf(_SC_OPEN_MAX); fd < top; fd++)
			close(fd);	/* before Linux 5.9 */
}

/* The kernel tells of what comes and goes on TCP: the connection goes there first.  A listener has nothing to move, and
 * those that it accepts do not inherit it. */
static void wants_sigio(struct ntbs_file *f, int fd)
{
	struct ntbs_sock *sk = (struct ntbs_sock *)f;
	int saved = errno;

	if (f->kind != NTBS_FILE_SOCK)
		return;
	if (!ntbs_offer_never(sk, NTBS_WHY_OPTION))
		ntbs_handover_both(sk, fd, NTBS_WHY_OPTION);
	errno = saved;
}

static int do_fcntl(int fd, int cmd, long arg, int (*next)(int, int, ...))
{
	struct ntbs_file *f = ntbs_fdtab_peek(fd);
	bool ours;
	int ret;

	if (!f)
		return next(fd, cmd, arg);
	if (own(f, fd)) {
		errno = EBADF;
		return -1;
	}
	if (cmd == F_SETFL && (arg & O_ASYNC))
		wants_sigio(f, fd);
	ours = (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) && !foreign_dup(fd);
	ret = next(fd, cmd, arg);
	if (ret >= 0 && ours)
		ntbs_fd_dupped(fd, ret);
	if (ret >= 0 && cmd == F_SETFL && f->kind == NTBS_FILE_SOCK)
		ntbs_sock_note_flag((struct ntbs_sock *)f, NTBS_SK_NONBLOCK, arg & O_NONBLOCK);
	return ret;
}

#define LONG_ARG(last, arg)                \
	do {                               \
		va_list ap_;               \
		va_start(ap_, last);       \
		arg = va_arg(ap_, long);   \
		va_end(ap_);               \
	} while (0)

NTBS_EXPORT int fcntl(int fd, int cmd, ...)
{
	long arg;

	LONG_ARG(cmd, arg);
	return do_fcntl(fd, cmd, arg, &LIBC(fcntl));
}

NTBS_EXPORT int __fcntl(int fd, int cmd, ...);
NTBS_EXPORT int __fcntl(int fd, int cmd, ...)
{
	long arg;

	LONG_ARG(cmd, arg);
	return do_fcntl(fd, cmd, arg, &LIBC(fcntl));
}

NTBS_EXPORT int fcntl64(int fd, int cmd, ...)
{
	long arg;

	LONG_ARG(cmd, arg);
	return do_fcntl(fd, cmd, arg, &LIBC(fcntl64));
}

static int unread(struct ntbs_sock *sk, int fd, int *out)
{
	ssize_t n;
	int value;

	if (ntbs_sock_stage(sk) == NTBS_OFFER)		/* if it has been confirmed the peer may be on the ring */
		ntbs_offer_step(sk, fd);
	if (ntbs_sock_stage(sk) != NTBS_LIVE || !ntbs_sock_attach(sk))
		return -ENTBS_PASS;
	ntbs_sock_lock_rx(sk);
	n = ntbs_stream_avail(sk, fd);
	ntbs_unlock(&sk->shm->rx.lock);
	if (n < 0)
		return n;
	value = n > INT32_MAX ? INT32_MAX : n;
	return ntbs_user_copy(out, &value, sizeof(value));
}

/* Urgent data goes by TCP, behind what the ring holds: the kernel's mark is only where we are once that has been read. */
static int at_mark(struct ntbs_sock *sk, int fd, int *out)
{
	const int no = 0;

	if (ntbs_sock_stage(sk) == NTBS_OFFER)
		ntbs_offer_step(sk, fd);
	if (ntbs_sock_stage(sk) != NTBS_LIVE || !ntbs_sock_attach(sk))
		return -ENTBS_PASS;
	ntbs_sock_lock_rx(sk);
	ntbs_stream_rx_look(sk, fd);	/* a byte that has come twice lies before the mark */
	ntbs_unlock(&sk->shm->rx.lock);
	if (ntbs_sock_rx_state(sk) != NTBS_DIR_RING)
		return -ENTBS_PASS;
	return ntbs_user_copy(out, &no, sizeof(no));
}

NTBS_EXPORT int ioctl(int fd, unsigned long cmd, ...)
{
	struct ntbs_sock *sk = ntbs_fdtab_sock(fd);
	long arg;
	int ret;

	LONG_ARG(cmd, arg);
	if (!sk)
		return LIBC(ioctl)(fd, cmd, arg);
	if (cmd == FIONREAD && arg) {	/* SIOCINQ is the same number */
		ret = unread(sk, fd, (int *)arg);
		if (ret != -ENTBS_PASS)
			return to_libc(ret);
	}
	if (cmd == SIOCATMARK && arg) {
		ret = at_mark(sk, fd, (int *)arg);
		if (ret != -ENTBS_PASS)
			return to_libc(ret);
	}
	if (cmd == FIOASYNC && ntbs_user_readable((int *)arg, sizeof(int)) && *(int *)arg)
		wants_sigio(&sk->file, fd);
	ret = LIBC(ioctl)(fd, cmd, arg);
	if (!ret && cmd == FIONBIO && arg)
		ntbs_sock_note_flag(sk, NTBS_SK_NONBLOCK, *(int *)arg);
	return ret;
}

/* The process that has had it until now makes no call: it is told (getfd.h). */
NTBS_EXPORT int pidfd_getfd(int pidfd, int target, unsigned int flags)
{
	int fd = to_libc(ntbs_sys3(SYS_pidfd_getfd, pidfd, target, flags)), saved = errno;

	if (fd >= 0 && ntbs_on && !ntbs_fdtab_foreign())
		ntbs_getfd_took(pidfd, fd);
	errno = saved;
	return fd;
}

NTBS_EXPORT int sockatmark(int fd)
{
	int at;

	return ioctl(fd, SIOCATMARK, &at) == -1 ? -1 : at;
}
