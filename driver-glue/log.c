// SPDX-License-Identifier: BSD-2-Clause
/* log.c - see log.h.  vsnprintf() with plain integer and string conversions does not allocate in glibc. */
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "sys.h"

#define LOG_LINES_PER_SECOND 8

int ntbs_log_level = NTBS_LOG_WARN;
const char *ntbs_log_name = "ntbsock";

static int64_t window_s;
static unsigned in_window, held_back;

static unsigned admit(void)
{
	struct timespec ts;
	int64_t seen = __atomic_load_n(&window_s, __ATOMIC_RELAXED);

	clock_gettime(CLOCK_MONOTONIC, &ts);
	if (ts.tv_sec != seen &&
	    __atomic_compare_exchange_n(&window_s, &seen, ts.tv_sec, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		__atomic_store_n(&in_window, 0, __ATOMIC_RELAXED);
	if (__atomic_fetch_add(&in_window, 1, __ATOMIC_RELAXED) < LOG_LINES_PER_SECOND)
		return 1;
	__atomic_fetch_add(&held_back, 1, __ATOMIC_RELAXED);
	return 0;
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
	ntbs_sys3(SYS_write, STDERR_FILENO, line, n);
	errno = saved;
}
