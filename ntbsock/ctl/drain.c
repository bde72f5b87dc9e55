// SPDX-License-Identifier: BSD-2-Clause
/*
 * drain.c - `drain`: have connections leave the ring, and see that they did
 *
 * The broker passes the word on to the processes; what they make of it is seen in their state pools.  Who is told again
 * has nothing more to do, so all that is left on the ring is told again every quarter of a second: an offer that was
 * claimed meanwhile, a process that came to hold the connection.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ask.h"
#include "filter.h"

#define AGAIN_MS 250

enum { OPT_ALL = NTBS_FILTER_OPT_OWN, OPT_TIMEOUT };

struct drain {
	struct ntbs_ctl_opts opts;
	struct ntbs_filter which;
	uint64_t timeout_s;
	bool all;
	unsigned found;		/* on the ring when we began */
	unsigned left;		/* on the ring at the last look */
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ull + ts.tv_nsec / 1000000;
}

static bool concerned(const struct drain *d, const struct ntbs_pool_conn *conn)
{
	return ntbs_filter_wants(&d->which, conn) && ntbs_pool_on_ring(&conn->c);
}

/* One look, with a word to each connection that is on the ring.  Return: exit code. */
static int turn(struct drain *d, bool tell)
{
	struct ntbs_pool_list list;
	struct ntbs_ask ask = { .fd = -1 };
	unsigned told;
	int code = ntbs_pool_read_all(d->opts.broker_dir, &list), err = 0;

	if (code)
		return code;
	d->left = 0;
	for (size_t i = 0; i < list.nr && !err; i++) {
		if (!concerned(d, &list.conn[i]))
			continue;
		d->left++;
		if (!tell)
			continue;
		if (ask.fd < 0 && ntbs_ask_find(&ask, d->opts.broker_dir, true)) {
			code = NTBS_CTL_NO_BROKER;
			break;
		}
		err = ntbs_ask_drain(&ask, &list.conn[i].c.tuple, &told);
	}
	if (err) {
		ntbs_ctl_say("the broker in %s (pid %d) does not pass it on: %s%s", ask.dir, (int)ask.pid, strerror(-err),
			     err == -EPROTO || err == -ECONNRESET ? "; is it of another version?" : "");
		code = NTBS_CTL_FAILED;
	}
	ntbs_ask_close(&ask);
	ntbs_pool_free(&list);
	return code;
}

static int wait_for_all(struct drain *d)
{
	uint64_t until = now_ms() + d->timeout_s * 1000;
	unsigned shown = 0;
	int code = turn(d, true);

	d->found = d->left;
	while (!code && d->left && now_ms() < until) {
		uint64_t pause = now_ms() + AGAIN_MS;

		if (isatty(STDERR_FILENO) && shown != d->left)
			fprintf(stderr, "\r%u of %u still on the ring ", shown = d->left, d->found);
		while (!code && d->left && now_ms() < pause) {	/* most are through in a millisecond */
			usleep(5000);
			code = turn(d, false);
		}
		if (!code && d->left)
			code = turn(d, true);
	}
	if (shown)
		fputc('\n', stderr);
	return code;
}

static void list_left(const struct drain *d)
{
	char local[NTBS_POOL_END], remote[NTBS_POOL_END];
	struct ntbs_pool_list list;

	if (ntbs_pool_read_all(d->opts.broker_dir, &list))
		return;
	for (size_t i = 0; i < list.nr; i++) {
		const struct ntbs_pool_conn *conn = &list.conn[i];

		if (!concerned(d, conn))
			continue;
		ntbs_ctl_say("still on the ring (tx %s, rx %s): %s[%u] %s with %s", ntbs_pool_dir(conn->c.tx_state),
			     ntbs_pool_dir(conn->c.rx_state), conn->program, conn->pid,
			     ntbs_pool_end(local, conn->c.tuple.laddr, conn->c.tuple.lport),
			     ntbs_pool_end(remote, conn->c.tuple.raddr, conn->c.tuple.rport));
	}
	ntbs_pool_free(&list);
}

int ntbs_drain_verb(int argc, char **argv)
{
	static const struct option options[] = {
		NTBS_CTL_OPTIONS,
		NTBS_FILTER_OPTIONS,
		{ "all", no_argument, NULL, OPT_ALL },
		{ "timeout", required_argument, NULL, OPT_TIMEOUT },
		{ 0 },
	};
	struct drain d = { .opts.verb = "drain", .timeout_s = 10 };
	int c, code;

	while ((c = getopt_long(argc, argv, ":" NTBS_FILTER_SHORT, options, NULL)) != -1) {
		int taken = ntbs_filter_option(&d.which, d.opts.verb, c);

		if (taken == NTBS_CTL_USAGE)
			return NTBS_CTL_USAGE;
		if (taken)
			continue;
		if (c == OPT_ALL) {
			d.all = true;
		} else if (c == OPT_TIMEOUT) {
			if (ntbs_ctl_number(optarg, 86400, &d.timeout_s))
				return ntbs_ctl_usage(d.opts.verb, "'%s' is no number of seconds (0 to 86400)", optarg);
		} else if (ntbs_ctl_option(&d.opts, c, argv)) {
			return NTBS_CTL_USAGE;
		}
	}
	if (d.opts.help)
		return ntbs_ctl_help(d.opts.verb);
	if (optind < argc)
		return ntbs_ctl_usage(d.opts.verb, "'%s' is one argument too many", argv[optind]);
	if (d.all == ntbs_filter_is_set(&d.which))
		return ntbs_ctl_usage(d.opts.verb, d.all ? "--all and a choice exclude each other" :
							   "which connections?  Say --all for all");
	code = wait_for_all(&d);
	if (code)
		return code;
	if (d.left && d.timeout_s)
		list_left(&d);
	if (d.opts.json)
		return ntbs_ctl_print_json(json_pack("{s:i,s:i}", "found", (int)d.found, "left", (int)d.left),
					   d.left && d.timeout_s ? NTBS_CTL_FAILED : NTBS_CTL_OK);
	if (!d.found)
		printf("no connection of these is on the ring\n");
	else
		printf("%u connection end%s moved to TCP, %u left\n", d.found - d.left, d.found - d.left == 1 ? "" : "s", d.left);
	return d.left && d.timeout_s ? NTBS_CTL_FAILED : NTBS_CTL_OK;
}
