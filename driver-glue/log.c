// SPDX-License-Identifier: BSD-2-Clause
/* log.c - see log.h.  vsnprintf() with plain integer and string conversions does not allocate in glibc. */
#include "log.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sys.h"

int ntbs_log_level = NTBS_LOG_WARN;
const char *ntbs_log_name = "ntbsock";
unsigned ntbs_log_most = 8;

static int64_t window_s;
static unsigned in_window, held_back;
static int guarded;
static dev_t guard_dev;
static ino_t guard_ino;

static unsigned admit(void)
{
	struct timespec ts;
	int64_t seen = __atomic_load_n(&window_s, __ATOMIC_RELAXED);

	clock_gettime(CLOCK_MONOTONIC, &ts);
	if (ts.tv_sec != seen &&
	    __atomic_compare_exchange_n(&window_s, &seen, ts.tv_sec, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		__atomic_store_n(&in_window, 0, __ATOMIC_RELAXED);
	if (__atomic_fetch_add(&in_window, 1, __ATOMIC_RELAXED) < ntbs_log_most)
		return 1;
	__atomic_fetch_add(&held_back, 1, __ATOMIC_RELAXED);
	return 0;
}

void ntbs_log_guard(void)
{
	struct stat st;

	if (ntbs_sys2(SYS_fstat, STDERR_FILENO, &st) == 0) {
		guard_dev = st.st_dev;
		guard_ino = st.st_ino;
	}
	guarded = 1;
}

/* A line that cannot be written is lost; nobody stops, waits or dies of it (SIGPIPE, SIGXFSZ, SIGTTOU). */
static void put(const char *line, int len)
{
	const uint64_t quiet = 1ull << (SIGPIPE - 1) | 1ull << (SIGXFSZ - 1) | 1ull << (SIGTTOU - 1);
	const struct timespec now = { 0, 0 };
	struct pollfd pfd = { .fd = STDERR_FILENO, .events = POLLOUT };
	uint64_t before = 0, raised, pending = 0;
	struct stat st;
	long ret;

	if (guarded && (ntbs_sys2(SYS_fstat, STDERR_FILENO, &st) < 0 || st.st_dev != guard_dev || st.st_ino != guard_ino))
		return;
	if (ntbs_sys5(SYS_ppoll, &pfd, 1, &now, NULL, 8) <= 0)
		return;
	ntbs_sys4(SYS_rt_sigprocmask, SIG_BLOCK, &quiet, &before, 8);
	ntbs_sys2(SYS_rt_sigpending, &pending, 8);
	ret = ntbs_sys3(SYS_write, STDERR_FILENO, line, len);
	raised = (ret == -EPIPE ? 1ull << (SIGPIPE - 1) : ret == -EFBIG ? 1ull << (SIGXFSZ - 1) : 0) & ~pending;
	if (raised)
		ntbs_sys4(SYS_rt_sigtimedwait, &raised, NULL, &now, 8);
	ntbs_sys4(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, 8);
}

void ntbs_log(int level, const char *fmt, ...)
{
	char line[512];
	int saved = errno, n, k;
	unsigned held;
	va_list ap;

	if (level > ntbs_log_level || !admit())
		return;
	n = snprintf(line, sizeof(line), "%s[%d]: ", ntbs_log_name, (int)getpid());
	held = __atomic_exchange_n(&held_back, 0, __ATOMIC_RELAXED);
	if (held)
		n += snprintf(line + n, sizeof(line) - n, "(%u lines held back) ", held);
	va_start(ap, fmt);
	k = vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	n = k < 0 ? n : n + k;
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	put(line, n);
	errno = saved;
}
