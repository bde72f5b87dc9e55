// SPDX-License-Identifier: BSD-2-Clause
/*
 * preload_proc.c - calls after which somebody else uses our sockets: exec, spawn; sandboxes, chroot, namespaces, limits, exit,
 * raw calls
 *
 * Another image knows nothing of rings: the sockets that it would get go back to TCP first.
 */
#include "preload.h"

#include <alloca.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "conf.h"
#include "handover.h"
#include "runtime.h"
#include "service.h"
#include "stats.h"
#include "sys.h"

/*
 * Numbers that a spawned program has ever been told to get under another number, so that close-on-exec does not matter.
 * What the actions of one call are is libc's secret; one number too many costs a connection its ring.
 */
static uint64_t dupped_to_spawned[1024];

static bool dupped(int fd)
{
	size_t i = fd / 64;

	return i >= sizeof(dupped_to_spawned) / sizeof(*dupped_to_spawned) ||
	       (ntbs_read_once(dupped_to_spawned[i]) & 1ull << fd % 64);
}

NTBS_EXPORT int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *actions, int fd, int new_fd)
{
	if (fd >= 0 && !dupped(fd))
		__atomic_fetch_or(&dupped_to_spawned[fd / 64], 1ull << fd % 64, __ATOMIC_RELAXED);
	return LIBC(posix_spawn_file_actions_adddup2)(actions, fd, new_fd);
}

static void before_exec(bool stays, bool (*gets)(int fd))
{
	int saved = errno;

	if (ntbs_on)
		ntbs_handover_before_exec(stays, gets);
	errno = saved;
}

/*
 * @env, and in front of it what the new image is to know of connections.  The array lies in the caller's frame.  A vfork
 * child shares our memory, and the connections are its parent's too.
 */
#define ENV_FOR_EXEC(env)                                                                 \
	({                                                                                \
		char *list_ = alloca(NTBS_INHERIT_BYTES), *const *env_ = (env), **with_;  \
		size_t n_ = 0;                                                            \
		*list_ = 0;                                                               \
		if (ntbs_on && env_ && !ntbs_fdtab_foreign())                             \
			ntbs_inherit_leave(list_, NTBS_INHERIT_BYTES);                    \
		before_exec(false, NULL);                                                 \
		if (ntbs_on && !ntbs_fdtab_foreign())                                     \
			ntbs_inherit_let_go();                                            \
		if (*list_) {                                                             \
			while (env_[n_])                                                  \
				n_++;                                                     \
			with_ = alloca((n_ + 2) * sizeof(*with_));                        \
			env_ = with_for_exec(with_, env_, list_);                         \
		}                                                                         \
		env_;                                                                     \
	})

static char *const *with_for_exec(char **with, char *const *env, char *list)
{
	char **at = with;

	*at++ = list;
	for (; *env; env++)
		if (strncmp(*env, NTBS_INHERITED "=", sizeof(NTBS_INHERITED "=") - 1))
			*at++ = *env;
	*at = NULL;
	return with;
}

static int failed(int ret)
{
	int saved = errno;

	if (ntbs_on && !ntbs_fdtab_foreign())
		ntbs_inherit_failed();
	errno = saved;
	return ret;
}

NTBS_EXPORT int execve(const char *path, char *const *argv, char *const *env)
{
	return failed(LIBC(execve)(path, argv, ENV_FOR_EXEC(env)));
}

NTBS_EXPORT int execv(const char *path, char *const *argv)
{
	return failed(LIBC(execve)(path, argv, ENV_FOR_EXEC(environ)));
}

NTBS_EXPORT int execvp(const char *file, char *const *argv)
{
	return failed(LIBC(execvpe)(file, argv, ENV_FOR_EXEC(environ)));
}

NTBS_EXPORT int execvpe(const char *file, char *const *argv, char *const *env)
{
	return failed(LIBC(execvpe)(file, argv, ENV_FOR_EXEC(env)));
}

NTBS_EXPORT int fexecve(int fd, char *const *argv, char *const *env)
{
	return failed(LIBC(fexecve)(fd, argv, ENV_FOR_EXEC(env)));
}

NTBS_EXPORT int execveat(int dir, const char *path, char *const *argv, char *const *env, int flags)
{
	return failed(to_libc(ntbs_sys5(SYS_execveat, dir, path, argv, ENV_FOR_EXEC(env), flags)));
}

/* Arguments of the l forms as an array on the stack. */
#define GATHER(first, argv, ap)                                             \
	do {                                                                \
		size_t n_ = 1, i_;                                          \
		va_list count_;                                             \
		va_copy(count_, ap);                                        \
		while (va_arg(count_, char *))                              \
			n_++;                                               \
		va_end(count_);                                             \
		argv = alloca((n_ + 1) * sizeof(char *));                   \
		argv[0] = (char *)(first);                                  \
		for (i_ = 1; i_ <= n_; i_++)                                \
			argv[i_] = va_arg(ap, char *);                      \
	} while (0)

NTBS_EXPORT int execl(const char *path, const char *arg, ...)
{
	char **argv;
	va_list ap;

	va_start(ap, arg);
	GATHER(arg, argv, ap);
	va_end(ap);
	return execv(path, argv);
}

NTBS_EXPORT int execlp(const char *file, const char *arg, ...)
{
	char **argv;
	va_list ap;

	va_start(ap, arg);
	GATHER(arg, argv, ap);
	va_end(ap);
	return execvp(file, argv);
}

NTBS_EXPORT int execle(const char *path, const char *arg, ...)
{
	char **argv, *const *env;
	va_list ap;

	va_start(ap, arg);
	GATHER(arg, argv, ap);
	env = va_arg(ap, char *const *);
	va_end(ap);
	return execve(path, argv, env);
}

NTBS_EXPORT int posix_spawn(pid_t *restrict pid, const char *restrict path,
			    const posix_spawn_file_actions_t *restrict actions,
			    const posix_spawnattr_t *restrict attr, char *const argv[restrict], char *const env[restrict])
{
	before_exec(true, actions ? dupped : NULL);
	return LIBC(posix_spawn)(pid, path, actions, attr, argv, env);
}

NTBS_EXPORT int posix_spawnp(pid_t *restrict pid, const char *restrict file,
			     const posix_spawn_file_actions_t *restrict actions,
			     const posix_spawnattr_t *restrict attr, char *const argv[restrict], char *const env[restrict])
{
	before_exec(true, actions ? dupped : NULL);
	return LIBC(posix_spawnp)(pid, file, actions, attr, argv, env);
}

NTBS_EXPORT int system(const char *command)
{
	if (command)
		before_exec(true, NULL);
	return LIBC(system)(command);
}

NTBS_EXPORT FILE *popen(const char *command, const char *mode)
{
	before_exec(true, NULL);
	return LIBC(popen)(command, mode);
}

/* The counters are written now: afterwards there may be no file to be opened. */
static void before_sandbox(void)
{
	int saved = errno;

	if (ntbs_on && !ntbs_fdtab_foreign()) {
		ntbs_handover_before_sandbox();
		ntbs_stats_write();
		ntbs_conf.stats[0] = 0;
		ntbs_sig_leave();
		ntbs_on = false;
	}
	errno = saved;
}

/* The broker and the file of the counters have names that mean nothing afterwards. */
static void before_chroot(void)
{
	int saved = errno;

	if (ntbs_on && !ntbs_fdtab_foreign()) {
		ntbs_runtime_ready();
		ntbs_stats_before_chroot();
	}
	errno = saved;
}

NTBS_EXPORT int chroot(const char *path)
{
	before_chroot();
	return LIBC(chroot)(path);
}

/* Only a process of one thread may enter some namespaces (unshare(2), setns(2)): then it has one, as without us. */
static bool before_namespace(void)
{
	int saved = errno;
	bool stopped = ntbs_on && !ntbs_fdtab_foreign() && ntbs_service_pause();

	errno = saved;
	return stopped;
}

static int after_namespace(bool stopped, int ret)
{
	int saved = errno;

	if (stopped)
		ntbs_service_go_on();
	errno = saved;
	return ret;
}

/*
 * The service thread goes with the thread that gets descriptors of its own.  If there are others, whose numbers mean something
 * else from now on, all is TCP's and stays so: our table is one.
 */
bool ntbs_own_table_begin(void)
{
	bool stopped = before_namespace();

	if (!ntbs_on || ntbs_fdtab_foreign() || ntbs_threads() == 1)
		return stopped;
	after_namespace(stopped, 0);	/* it may have to answer */
	before_sandbox();
	return false;
}

int ntbs_own_table_end(bool stopped, int ret)
{
	return after_namespace(stopped, ret);
}

NTBS_EXPORT int unshare(int flags)
{
	const int alone = CLONE_NEWUSER | CLONE_VM | CLONE_SIGHAND | CLONE_THREAD;
	bool stopped = flags & CLONE_FILES ? ntbs_own_table_begin() : (flags & alone) && before_namespace();

	return after_namespace(stopped, LIBC(unshare)(flags));
}

NTBS_EXPORT int setns(int fd, int type)
{
	bool stopped = before_namespace();

	return after_namespace(stopped, LIBC(setns)(fd, type));
}

#ifndef NTBS_SANITIZED
/*
 * RLIMIT_NPROC of a process without privilege (haproxy sets it to 0): afterwards there may be no thread to be had.  Only a
 * process that has TCP sockets needs one.
 */
static void before_limit(int resource)
{
	int saved = errno;

	if (resource == RLIMIT_NPROC && ntbs_on && !ntbs_fdtab_foreign() && ntbs_fdtab_highest() && ntbs_runtime_ready())
		ntbs_service_start();
	errno = saved;
}

/* The same to glibc on 64-bit machines as those without 64 (struct rlimit64 is struct rlimit). */
NTBS_EXPORT int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
	before_limit(resource);
	return LIBC(setrlimit)(resource, limit);
}
NTBS_EXPORT int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit) __attribute__((alias("setrlimit")));

NTBS_EXPORT int prlimit(pid_t pid, __rlimit_resource_t resource, const struct rlimit *limit, struct rlimit *old)
{
	if (limit && !pid)
		before_limit(resource);
	return LIBC(prlimit)(pid, resource, limit, old);
}
NTBS_EXPORT int prlimit64(pid_t pid, __rlimit_resource_t resource, const struct rlimit64 *limit, struct rlimit64 *old)
	__attribute__((alias("prlimit")));
#endif

NTBS_EXPORT int prctl(int option, ...)
{
	unsigned long a, b, c, d;
	va_list ap;

	va_start(ap, option);
	a = va_arg(ap, unsigned long);
	b = va_arg(ap, unsigned long);
	c = va_arg(ap, unsigned long);
	d = va_arg(ap, unsigned long);
	va_end(ap);
	if (option == PR_SET_SECCOMP)
		before_sandbox();
	return LIBC(prctl)(option, a, b, c, d);
}

NTBS_EXPORT void _exit(int status)
{
	ntbs_at_exit();
	LIBC(_exit)(status);
	__builtin_unreachable();
}

NTBS_EXPORT void _Exit(int status)
{
	ntbs_at_exit();
	LIBC(_Exit)(status);
	__builtin_unreachable();
}

/*
 * io_uring would move bytes on our descriptors behind our back: it is not there, and programs fall back to readiness.
 * Other socket calls by number go to their wrapped names.
 */
NTBS_EXPORT long syscall(long nr, ...)
{
	long a, b, c, d, e, f;
	va_list ap;

	va_start(ap, nr);
	a = va_arg(ap, long);
	b = va_arg(ap, long);
	c = va_arg(ap, long);
	d = va_arg(ap, long);
	e = va_arg(ap, long);
	f = va_arg(ap, long);
	va_end(ap);
	switch (nr) {
#ifdef SYS_io_uring_setup
	case SYS_io_uring_setup:
		if (ntbs_on && !ntbs_conf.io_uring) {
			errno = ENOSYS;
			return -1;
		}
		break;
#endif
	case SYS_read:
		return read(a, (void *)b, c);
	case SYS_write:
		return write(a, (const void *)b, c);
	case SYS_readv:
		return readv(a, (const struct iovec *)b, c);
	case SYS_writev:
		return writev(a, (const struct iovec *)b, c);
	case SYS_preadv2:		/* the fifth is the upper half of an offset that needs one */
		return preadv2(a, (const struct iovec *)b, c, d, f);
	case SYS_pwritev2:
		return pwritev2(a, (const struct iovec *)b, c, d, f);
	case SYS_sendto:
		return sendto(a, (const void *)b, c, d, (const struct sockaddr *)e, f);
	case SYS_recvfrom:
		return recvfrom(a, (void *)b, c, d, (struct sockaddr *)e, (socklen_t *)f);
	case SYS_sendmsg:
		return sendmsg(a, (const struct msghdr *)b, c);
	case SYS_recvmsg:
		return recvmsg(a, (struct msghdr *)b, c);
	case SYS_socket:
		return socket(a, b, c);
	case SYS_connect:
		return connect(a, (const struct sockaddr *)b, c);
	case SYS_accept4:
		return accept4(a, (struct sockaddr *)b, (socklen_t *)c, d);
	case SYS_getpeername:
		return getpeername(a, (struct sockaddr *)b, (socklen_t *)c);
	case SYS_shutdown:
		return shutdown(a, b);
	case SYS_close:
		return close(a);
	case SYS_close_range:
		return close_range(a, b, c);
	case SYS_dup:
		return dup(a);
	case SYS_dup3:
		return dup3(a, b, c);
	case SYS_accept:
		return accept(a, (struct sockaddr *)b, (socklen_t *)c);
	case SYS_listen:
		return listen(a, b);
	case SYS_setsockopt:
		return setsockopt(a, b, c, (const void *)d, e);
	case SYS_getsockopt:
		return getsockopt(a, b, c, (void *)d, (socklen_t *)e);
	case SYS_sendmmsg:
		return sendmmsg(a, (struct mmsghdr *)b, c, d);
	case SYS_recvmmsg:
		return recvmmsg(a, (struct mmsghdr *)b, c, d, (struct timespec *)e);
	case SYS_sendfile:
		return sendfile(a, b, (off_t *)c, d);
	case SYS_splice:
		return splice(a, (off64_t *)b, c, (off64_t *)d, e, f);
	case SYS_ppoll:
		return ppoll((struct pollfd *)a, b, (const struct timespec *)c, (const sigset_t *)d);
	case SYS_pselect6:		/* the sixth is the mask's address and its size */
		if (f && !ntbs_user_readable((void *)f, sizeof(sigset_t *)))
			break;
		return pselect(a, (fd_set *)b, (fd_set *)c, (fd_set *)d, (const struct timespec *)e, f ? *(const sigset_t **)f : NULL);
	case SYS_epoll_create1:
		return epoll_create1(a);
	case SYS_epoll_ctl:
		return epoll_ctl(a, b, c, (struct epoll_event *)d);
	case SYS_epoll_pwait:
		return epoll_pwait(a, (struct epoll_event *)b, c, d, (const sigset_t *)e);
	case SYS_epoll_pwait2:
		if (!ntbs_epoll_of(a))	/* this libc may not have it */
			break;
		return epoll_pwait2(a, (struct epoll_event *)b, c, (const struct timespec *)d, (const sigset_t *)e);
	case SYS_fcntl:
		return fcntl(a, b, c);
	case SYS_ioctl:
		return ioctl(a, b, c);
#ifdef SYS_poll			/* the old calls, which newer architectures do not have */
	case SYS_poll:
		return poll((struct pollfd *)a, b, c);
	case SYS_select:
		return select(a, (fd_set *)b, (fd_set *)c, (fd_set *)d, (struct timeval *)e);
	case SYS_epoll_create:
		return epoll_create(a);
	case SYS_epoll_wait:
		return epoll_wait(a, (struct epoll_event *)b, c, d);
	case SYS_dup2:
		return dup2(a, b);
#endif
	case SYS_rt_sigaction:
		return ntbs_raw_sigaction(a, (const void *)b, (void *)c, d);
	case SYS_chroot:
		return chroot((const char *)a);
	case SYS_unshare:
		return unshare(a);
	case SYS_setns:
		return setns(a, b);
	case SYS_prlimit64:
		return prlimit(a, b, (const struct rlimit *)c, (struct rlimit *)d);
#ifdef SYS_setrlimit
	case SYS_setrlimit:
		return setrlimit(a, (const struct rlimit *)b);
#endif
	case SYS_prctl:
		return prctl(a, b, c, d, e);
	case SYS_seccomp:
		if (a == SECCOMP_SET_MODE_STRICT || a == SECCOMP_SET_MODE_FILTER)
			before_sandbox();
		break;
	case SYS_clone:
#ifdef SYS_clone3
	case SYS_clone3:
#endif
#ifdef SYS_fork
	case SYS_fork:
#endif
		return ntbs_fork_by_number(nr, a, b, c, d, e);
	case SYS_pidfd_getfd:
		return pidfd_getfd(a, b, c);
	case SYS_execve:
		return execve((const char *)a, (char *const *)b, (char *const *)c);
	case SYS_execveat:
		return execveat(a, (const char *)b, (char *const *)c, (char *const *)d, e);
	case SYS_exit_group:
		ntbs_at_exit();
		break;
	}
	return LIBC(syscall)(nr, a, b, c, d, e, f);
}

/* liburing's own entries, which make the system call inline; -ENOSYS is how they report the kernel's refusal. */
struct io_uring;
struct io_uring_params;

#include <dlfcn.h>

static bool uring_off(void)
{
	return ntbs_on && !ntbs_conf.io_uring;
}

NTBS_EXPORT int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
NTBS_EXPORT int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
	int (*next)(unsigned, struct io_uring *, unsigned);

	if (uring_off())
		return -ENOSYS;
	*(void **)&next = dlsym(RTLD_NEXT, "io_uring_queue_init");
	return next ? next(entries, ring, flags) : -ENOSYS;
}

NTBS_EXPORT int io_uring_queue_init_params(unsigned entries, struct io_uring *ring, struct io_uring_params *p);
NTBS_EXPORT int io_uring_queue_init_params(unsigned entries, struct io_uring *ring, struct io_uring_params *p)
{
	int (*next)(unsigned, struct io_uring *, struct io_uring_params *);

	if (uring_off())
		return -ENOSYS;
	*(void **)&next = dlsym(RTLD_NEXT, "io_uring_queue_init_params");
	return next ? next(entries, ring, p) : -ENOSYS;
}

NTBS_EXPORT int io_uring_queue_init_mem(unsigned entries, struct io_uring *ring, struct io_uring_params *p, void *buf,
					size_t size);
NTBS_EXPORT int io_uring_queue_init_mem(unsigned entries, struct io_uring *ring, struct io_uring_params *p, void *buf,
					size_t size)
{
	int (*next)(unsigned, struct io_uring *, struct io_uring_params *, void *, size_t);

	if (uring_off())
		return -ENOSYS;
	*(void **)&next = dlsym(RTLD_NEXT, "io_uring_queue_init_mem");
	return next ? next(entries, ring, p, buf, size) : -ENOSYS;
}

NTBS_EXPORT int io_uring_setup(unsigned entries, struct io_uring_params *p);
NTBS_EXPORT int io_uring_setup(unsigned entries, struct io_uring_params *p)
{
	int (*next)(unsigned, struct io_uring_params *);

	if (uring_off())
		return -ENOSYS;
	*(void **)&next = dlsym(RTLD_NEXT, "io_uring_setup");
	return next ? next(entries, p) : -ENOSYS;
}
