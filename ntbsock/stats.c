// SPDX-License-Identifier: BSD-2-Clause
/* stats.c - see stats.h */
#include "stats.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "conf.h"
#include "far.h"
#include "fdtab.h"
#include "log.h"
#include "sys.h"

static struct totals {
	struct ntbs_counters tx, rx;
	uint64_t accelerated, fallback, reason[NTBS_WHY_MAX], timers;
} gone;
static struct ntbs_lock gone_lock;
static _Atomic int written;
static int directory = AT_FDCWD;		/* what the file's name is relative to */

static const char *const reason_json[NTBS_WHY_MAX] = {
#define X(c, json, text) [NTBS_WHY_##c] = json,
	NTBS_REASONS(X)
#undef X
};

static void add(struct ntbs_counters *sum, const struct ntbs_counters *c)
{
	const uint64_t *from = (const uint64_t *)c;
	uint64_t *to = (uint64_t *)sum;

	for (size_t i = 0; i < sizeof(*c) / sizeof(uint64_t); i++)
		to[i] += ntbs_read_once(from[i]);	/* other threads may be counting */
}

static void account(const struct ntbs_sock *sk, struct totals *t)
{
	uint32_t why = ntbs_read_once(sk->shm->conn.reason);

	add(&t->tx, &sk->tx);
	add(&t->rx, &sk->rx);
	if (!sk->last)
		return;			/* the bytes are ours; the connection is counted once, by who holds it to its end */
	if (ntbs_sock_stage(sk) == NTBS_LIVE || (ntbs_sock_flags(sk) & (NTBS_SK_SETTLED | NTBS_SK_AGAIN))) {
		t->accelerated++;	/* wherever its directions have gone since */
	} else if (ntbs_read_once(sk->shm->conn.tuple.rport)) {	/* a connection, not a listener or an unused socket */
		t->fallback++;
		if (why < NTBS_WHY_MAX)
			t->reason[why]++;
	}
}

void ntbs_stats_account(const struct ntbs_sock *sk)
{
	ntbs_lock(&gone_lock);
	account(sk, &gone);
	ntbs_unlock(&gone_lock);
}

void ntbs_stats_timer_ran_out(void)
{
	__atomic_fetch_add(&gone.timers, 1, __ATOMIC_RELAXED);
}

void ntbs_stats_fork_child(void)
{
	memset(&gone, 0, sizeof(gone));
	ntbs_lock_reset(&gone_lock);
	written = 0;
}

void ntbs_stats_before_chroot(void)
{
	char *slash = strrchr(ntbs_conf.stats, '/');
	long fd;

	if (!ntbs_conf.stats[0] || !strcmp(ntbs_conf.stats, "-") || directory != AT_FDCWD)
		return;
	if (slash)
		*slash = 0;
	fd = ntbs_sys4(SYS_openat, AT_FDCWD, !slash ? "." : slash == ntbs_conf.stats ? "/" : ntbs_conf.stats,
		       O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	if (slash)
		*slash = '/';
	if (fd >= 0)
		fd = ntbs_fd_hide(fd);
	if (fd < 0)
		return;
	directory = fd;
	if (slash)
		memmove(ntbs_conf.stats, slash + 1, strlen(slash));
}

static void each(struct ntbs_sock *sk, void *arg)
{
	account(sk, arg);
}

struct text {
	char buf[4096];
	size_t len;
};

static void put(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->buf + t->len, sizeof(t->buf) - t->len, fmt, ap);
	va_end(ap);
	if (n > 0 && t->len + n < sizeof(t->buf))
		t->len += n;
}

static void put_dir(struct text *t, const char *name, const struct ntbs_counters *c)
{
	put(t,
	    "\"%s\":{\"bytes\":%lu,\"inline\":%lu,\"short\":%lu,\"long\":%lu,\"stalls\":%lu,\"poll_hits\":%lu,"
	    "\"sleeps\":%lu},",
	    name, c->ring_bytes, c->inline_msgs, c->short_msgs, c->long_msgs, c->stalls, c->poll_hits, c->sleeps);
}

/* What the ring's bytes have cost, where they went through a window. */
static void put_window(struct text *t)
{
	struct ntbs_window_counts n;

	if (ntbs_far_sessions()) {
		ntbs_far_counts(&n);
		put(t, ",\"window\":{");
#define PUT(name) put(t, "\"" #name "\":%lu,", n.name);
		NTBS_WINDOW_COUNTS(PUT)
#undef PUT
		t->buf[t->len - 1] = '}';	/* over the last comma */
	}
	put(t, "}\n");
}

/* %p in the name is the process id; %% a percent sign */
static void path_of(char *path, size_t size)
{
	size_t n = 0;

	for (const char *p = ntbs_conf.stats; *p && n + 12 < size; p++) {
		if (p[0] == '%' && p[1] == 'p') {
			n += snprintf(path + n, size - n, "%ld", ntbs_sys0(SYS_getpid));
			p++;
		} else {
			path[n++] = *p;
			p += p[0] == '%' && p[1] == '%';
		}
	}
	path[n] = 0;
}

/* A new file that appears when it is whole: whoever ends us meanwhile leaves none.  False: it is there, or cannot be. */
static bool appear(char *path, const struct text *out)
{
	char *slash = strrchr(path, '/'), link[40];
	long fd;
	bool done;

	if (slash)
		*slash = 0;
	fd = ntbs_sys4(SYS_openat, directory, !slash ? "." : slash == path ? "/" : path, O_WRONLY | O_TMPFILE | O_CLOEXEC, 0666);
	if (slash)
		*slash = '/';
	if (fd < 0)
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%ld", fd);
	done = ntbs_sys3(SYS_write, fd, out->buf, out->len) == (long)out->len &&
	       !ntbs_sys5(SYS_linkat, AT_FDCWD, link, directory, path, AT_SYMLINK_FOLLOW);
	ntbs_sys1(SYS_close, fd);
	return done;
}

void ntbs_stats_write(void)
{
	struct totals t;
	struct text out = { .len = 0 };
	char path[300];
	struct rlimit lim;
	long fd = 2;
	bool first = true;

	if (!ntbs_conf.stats[0] || atomic_exchange(&written, 1))
		return;
	/* a sandbox that forbids files (sshd's) must not make us the reason of a SIGXFSZ */
	if (ntbs_sys4(SYS_prlimit64, 0, RLIMIT_FSIZE, NULL, &lim) || lim.rlim_cur < sizeof(out.buf))
		return;
	ntbs_lock(&gone_lock);
	t = gone;
	ntbs_unlock(&gone_lock);
	ntbs_sock_for_each(each, &t);
	put(&out, "{\"pid\":%ld,\"program\":\"%s\",\"connections\":{\"accelerated\":%lu,\"fallback\":{\"total\":%lu,"
	    "\"reasons\":{", ntbs_sys0(SYS_getpid), ntbs_conf.program, t.accelerated, t.fallback);
	for (int i = 0; i < NTBS_WHY_MAX; i++)
		if (t.reason[i]) {
			put(&out, "%s\"%s\":%lu", first ? "" : ",", reason_json[i], t.reason[i]);
			first = false;
		}
	put(&out, "}}},");
	put_dir(&out, "tx", &t.tx);
	put_dir(&out, "rx", &t.rx);
	put(&out, "\"wakes\":%lu,\"sleeps\":%lu,\"tcp\":{\"tx_bytes\":%lu,\"rx_bytes\":%lu,\"bytes\":%lu},"
	    "\"timers_ran_out\":%lu", t.tx.wakes, t.tx.sleeps + t.rx.sleeps, t.tx.tcp_bytes, t.rx.tcp_bytes,
	    t.tx.tcp_bytes + t.rx.tcp_bytes, t.timers);
	put_window(&out);
	if (strcmp(ntbs_conf.stats, "-")) {
		path_of(path, sizeof(path));
		if (appear(path, &out))
			return;
		fd = ntbs_sys4(SYS_openat, directory, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
		if (fd < 0) {
			ntbs_log(NTBS_LOG_ERR, "NTBSOCK_STATS: cannot write %s: error %ld", path, -fd);
			return;
		}
	}
	if (ntbs_sys3(SYS_write, fd, out.buf, out.len) != (long)out.len)
		ntbs_log(NTBS_LOG_ERR, "NTBSOCK_STATS: %s is not whole", strcmp(ntbs_conf.stats, "-") ? path : "-");
	if (fd != 2)
		ntbs_sys1(SYS_close, fd);
}
