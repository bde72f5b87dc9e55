// SPDX-License-Identifier: BSD-2-Clause
/*
 * start.c - see start.h
 *
 * The broker must not notice who started it: it is a grandchild in a session of its own, with no descriptor,
 * signal mask or disposition, working directory, preload or umask of ours.  An exec that fails is reported
 * through a second pipe that closes on exec.
 */
#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define READY_MS 10000 /* a broker that takes longer hangs */
#define OTHER_S 5		/* for a broker that is ending, or that somebody else starts */
#define READY_FD 3
#define EXEC_FD 4

int ntbs_start_exe_dir(char *dir, size_t bytes)
{
	ssize_t n = readlink("/proc/self/exe", dir, bytes - 1);
	char *slash;

	if (n < 0)
		return -errno;
	dir[n] = '\0';
	slash = strrchr(dir, '/');
	if (!slash)
		return -ENOENT;
	*slash = '\0';
	return 0;
}

static bool executable(char *path, size_t bytes, const char *dir, size_t dir_len, const char *rest)
{
	struct stat st;
	int n = snprintf(path, bytes, "%.*s%s", (int)dir_len, dir, rest);

	return n > 0 && (size_t)n < bytes && !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

static int find_ntbsockd(char *path, size_t bytes)
{
	const char *dirs = getenv("PATH");
	char exe_dir[PATH_MAX];

	if (!ntbs_start_exe_dir(exe_dir, sizeof(exe_dir)) &&
	    (executable(path, bytes, exe_dir, strlen(exe_dir), "/ntbsockd") ||
	     executable(path, bytes, exe_dir, strlen(exe_dir), "/../sbin/ntbsockd")))
		return 0;
	for (; dirs && *dirs; dirs += strspn(dirs, ":")) {
		size_t len = strcspn(dirs, ":");

		if (*dirs == '/' && executable(path, bytes, dirs, len, "/ntbsockd"))
			return 0;
		dirs += len;
	}
	if (executable(path, bytes, "", 0, "/usr/local/sbin/ntbsockd") ||
	    executable(path, bytes, "", 0, "/usr/sbin/ntbsockd"))
		return 0;
	return -ENOENT;
}

/*
 * The directory, which nobody but us (or root) may write to.  One below /tmp could have been made by anybody.
 * @dir becomes absolute.
 */
static int make_dir(char dir[NTBS_DIR_MAX], mode_t mode, char *why, size_t why_bytes)
{
	char real[PATH_MAX];
	struct stat st;

	if (mkdir(dir, mode) && errno != EEXIST) {
		snprintf(why, why_bytes, "cannot create the run directory %s: %s", dir, strerror(errno));
		return -errno;
	}
	if (lstat(dir, &st) || !realpath(dir, real)) {
		snprintf(why, why_bytes, "cannot use the run directory %s: %s", dir, strerror(errno));
		return -errno;
	}
	if (strlen(real) + sizeof("/" NTBS_BROKER_SOCK) > NTBS_DIR_MAX) {
		snprintf(why, why_bytes, "the path of the run directory %s is too long for a socket (%d bytes at most)",
			 real, (int)(NTBS_DIR_MAX - sizeof("/" NTBS_BROKER_SOCK)));
		return -ENAMETOOLONG;
	}
	if (!S_ISDIR(st.st_mode) || (st.st_uid && st.st_uid != geteuid()) || (st.st_mode & 022)) {
		snprintf(why, why_bytes,
			 "%s is no directory that only you can write to; remove it, or name another with --broker-dir",
			 dir);
		return -EPERM;
	}
	strcpy(dir, real); /* fits: checked */
	return 0;
}

static void last_log_line(const char *log, char *line, size_t bytes)
{
	char tail[512];
	int fd = open(log, O_RDONLY | O_CLOEXEC);
	ssize_t n = -1;
	off_t end;
	char *nl;

	line[0] = '\0';
	if (fd < 0)
		return;
	end = lseek(fd, 0, SEEK_END);
	if (end > 0)
		n = pread(fd, tail, sizeof(tail) - 1, end < (off_t)sizeof(tail) ? 0 : end - (off_t)sizeof(tail) + 1);
	close(fd);
	if (n <= 0)
		return;
	while (n && tail[n - 1] == '\n')
		n--;
	tail[n] = '\0';
	nl = strrchr(tail, '\n');
	ntbs_ctl_printable(line, bytes, nl ? nl + 1 : tail, sizeof(tail));
}

/* In the grandchild; never returns. */
static void __attribute__((noreturn))
become_broker(const char *path, const char *dir, const char *log, int ready_wr, int exec_wr)
{
	char ready_arg[12];
	const char *argv[] = { "ntbsockd", "--private", "--run-dir", dir, "--ready-fd", ready_arg, NULL };
	const char *config = getenv("NTBSOCK_CONFIG_DIR");
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	char real[PATH_MAX];
	sigset_t none;
	int null, out, err, a, b;

	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	umask(022);
	unsetenv("LD_PRELOAD");
	if (config && config[0] != '/' && realpath(config, real))
		setenv("NTBSOCK_CONFIG_DIR", real, 1);
	snprintf(ready_arg, sizeof(ready_arg), "%d", READY_FD);

	/* first out of the way of 0 to 4, then to their places */
	a = fcntl(ready_wr, F_DUPFD_CLOEXEC, 10);
	b = fcntl(exec_wr, F_DUPFD_CLOEXEC, 10);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	null = null < 0 ? null : fcntl(null, F_DUPFD_CLOEXEC, 10);
	out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0644);
	out = out < 0 ? null : fcntl(out, F_DUPFD_CLOEXEC, 10);
	if (a < 0 || b < 0 || null < 0 || out < 0 || chdir("/") || dup2(null, 0) < 0 || dup2(out, 1) < 0 ||
	    dup2(out, 2) < 0 || dup2(a, READY_FD) < 0 || dup3(b, EXEC_FD, O_CLOEXEC) < 0)
		goto fail;
	if (close_range(EXEC_FD + 1, ~0u, 0) && errno == ENOSYS) {
		for (int fd = EXEC_FD + 1; fd < 1024; fd++)
			close(fd);
	}
	b = EXEC_FD;
	execv(path, (char **)argv);
fail:
	err = errno;
	if (write(b >= 0 ? b : exec_wr, &err, sizeof(err)) != sizeof(err))
		_exit(126);
	_exit(127);
}

/* Under the lock: start ntbsockd in @dir and wait until it listens. */
static int spawn(const char *dir, char *why, size_t why_bytes)
{
	int ready[2] = { -1, -1 }, exec_pipe[2] = { -1, -1 }, exec_err = 0, err = 0, n;
	char path[PATH_MAX], log[NTBS_DIR_MAX + 16], line[256], byte;
	struct pollfd pfd;
	pid_t child;

	if (find_ntbsockd(path, sizeof(path))) {
		snprintf(why, why_bytes,
			 "ntbsockd is neither beside ntbsock-ctl nor in PATH or /usr/sbin: incomplete installation?");
		return -ENOENT;
	}
	snprintf(log, sizeof(log), "%s/broker.log", dir);
	unlink(log); /* of the broker before; that one has it open if it wants it */
	if (pipe2(ready, O_CLOEXEC) || pipe2(exec_pipe, O_CLOEXEC)) {
		err = -errno;
		goto out_errno;
	}
	child = fork();
	if (child < 0) {
		err = -errno;
		goto out_errno;
	}
	if (!child) {
		if (setsid() < 0)
			_exit(1);
		child = fork();
		if (!child)
			become_broker(path, dir, log, ready[1], exec_pipe[1]);
		_exit(child < 0);
	}
	close(ready[1]);
	close(exec_pipe[1]);
	ready[1] = exec_pipe[1] = -1;
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		; /* ECHILD if SIGCHLD is ignored: it has been reaped */

	do { /* closes at exec, or brings the errno of what failed before */
		n = read(exec_pipe[0], &exec_err, sizeof(exec_err));
	} while (n < 0 && errno == EINTR);
	if (n == sizeof(exec_err)) {
		snprintf(why, why_bytes, "cannot execute %s: %s", path, strerror(exec_err));
		err = -exec_err;
		goto out;
	}
	pfd = (struct pollfd){ .fd = ready[0], .events = POLLIN };
	do {
		n = poll(&pfd, 1, READY_MS);
	} while (n < 0 && errno == EINTR);
	if (n == 0) {
		snprintf(why, why_bytes, "%s was started but does not listen after %d s; see %s", path,
			 READY_MS / 1000, log);
		err = -ETIMEDOUT;
		goto out;
	}
	do {
		n = read(ready[0], &byte, 1);
	} while (n < 0 && errno == EINTR);
	if (n != 1) {
		last_log_line(log, line, sizeof(line));
		snprintf(why, why_bytes, "%s ended at its start: %s", path, line[0] ? line : "it gave no reason");
		err = -ECHILD;
	}
	goto out;

out_errno:
	snprintf(why, why_bytes, "cannot start a broker: %s", strerror(-err));
out:
	for (int i = 0; i < 2; i++) {
		if (ready[i] >= 0)
			close(ready[i]);
		if (exec_pipe[i] >= 0)
			close(exec_pipe[i]);
	}
	return err;
}

/*
 * ntbsockd holds broker.lock in its run directory while it lives: from before it listens until after it has ceased
 * to.  Held, and nobody answers: a broker that ends, or one that somebody else is just starting.
 */
static bool broker_lives(const char *dir)
{
	char lock[NTBS_DIR_MAX + 16];
	bool held;
	int fd;

	snprintf(lock, sizeof(lock), "%s/broker.lock", dir);
	fd = open(lock, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return false;
	held = flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK;
	close(fd);
	return held;
}

/* Under start.lock: until a broker answers, whoever has started it. */
static int start_locked(struct ntbs_ask *ask, const char *dir, bool *started, char *why, size_t why_bytes)
{
	const struct timespec step = { .tv_nsec = 2000000 };
	struct timespec now, end;
	int err;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += OTHER_S;
	for (;;) {
		if (!ntbs_ask_open(ask, dir))
			return 0;
		if (!broker_lives(dir)) {
			err = spawn(dir, why, why_bytes);
			*started = !err;
			if (!ntbs_ask_open(ask, dir))
				return 0;
			if (!broker_lives(dir)) {
				if (!err)
					snprintf(why, why_bytes, "a broker was started in %s and has ended again", dir);
				return err ? err : -ECONNREFUSED;
			}
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec > end.tv_sec) {
			snprintf(why, why_bytes,
				 "a broker runs in %s but does not answer for %d s; end it, or name another directory with --broker-dir",
				 dir, OTHER_S);
			return -ETIMEDOUT;
		}
		nanosleep(&step, NULL); /* a lock that is let go, a socket that listens: neither tells us */
	}
}

static int start_in(struct ntbs_ask *ask, char dir[NTBS_DIR_MAX], mode_t mode, bool *started, char *why,
		    size_t why_bytes)
{
	char lock[NTBS_DIR_MAX + 16];
	int fd, err = make_dir(dir, mode, why, why_bytes);

	if (err)
		return err;
	snprintf(lock, sizeof(lock), "%s/start.lock", dir);
	fd = open(lock, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0) {
		err = -errno;
		snprintf(why, why_bytes, "no broker answers in %s, and you may not start one there: %s", dir,
			 strerror(errno));
		return err;
	}
	while (flock(fd, LOCK_EX) && errno == EINTR)
		;
	err = start_locked(ask, dir, started, why, why_bytes);
	close(fd);
	return err;
}

int ntbs_start_broker(struct ntbs_ask *ask, const char *dir, bool *started, char *why, size_t why_bytes)
{
	const char *env = getenv("NTBSOCK_RUN_DIR");
	char chosen[NTBS_DIR_MAX];
	int err;

	*started = false;
	if (!dir && env && *env)
		dir = env;
	if (dir) {
		if (strlen(dir) >= sizeof(chosen)) {
			snprintf(why, why_bytes, "the path of the run directory %s is too long for a socket", dir);
			return -ENAMETOOLONG;
		}
		if (dir[0] == '/' && !ntbs_ask_open(ask, dir))
			return 0;
		strcpy(chosen, dir); /* fits: checked */
		return start_in(ask, chosen, 0755, started, why, why_bytes);
	}
	if (!ntbs_ask_open(ask, NTBS_SHARED_RUN_DIR))
		return 0;
	if (!geteuid()) {
		strcpy(chosen, NTBS_SHARED_RUN_DIR);
		err = start_in(ask, chosen, 0755, started, why, why_bytes);
		if (err != -EROFS && err != -ENOENT)
			return err;
	}
	ntbs_ask_user_dir(chosen); /* looked at before anything in it is believed */
	return start_in(ask, chosen, 0700, started, why, why_bytes);
}
