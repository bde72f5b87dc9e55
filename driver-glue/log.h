/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log.h - one line a fault, never a flood
 *
 * ntbs_log() writes to standard error, with one write(), from a buffer on the stack: no stdio, no malloc, so
 * that it may be called on intercepted paths and in signal handlers.  At most a few lines a second leave; how
 * many were held back is said with the next.  Levels as in syslog: 3 error, 4 warning, 6 info, 7 debug.
 */
#ifndef NTBSOCK_LOG_H
#define NTBSOCK_LOG_H

enum { NTBS_LOG_ERR = 3, NTBS_LOG_WARN = 4, NTBS_LOG_INFO = 6, NTBS_LOG_DEBUG = 7 };

extern int ntbs_log_level;		/* lines above it are not made */
extern const char *ntbs_log_name;	/* in front of each line */
extern unsigned ntbs_log_most;		/* lines a second: few in a program of somebody else's */

/*
 * From now on only what is descriptor 2 now is written to: a program may close it and get a socket or a file of that
 * number, where nothing of ours belongs.
 */
void ntbs_log_guard(void);
void ntbs_log(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
