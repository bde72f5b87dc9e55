// SPDX-License-Identifier: BSD-2-Clause
/*
 * show.c - `status`, `stats` and `reload`: what the broker and the processes say of themselves
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ask.h"
#include "pool.h"

/* Options of a verb that has none of its own.  Return: -1 go on, else exit code. */
static int common_options(struct ntbs_ctl_opts *opts, int argc, char **argv)
{
	static const struct option options[] = { NTBS_CTL_OPTIONS, { 0 } };
	int c;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (ntbs_ctl_option(opts, c, argv))
			return NTBS_CTL_USAGE;
	}
	if (opts->help)
		return ntbs_ctl_help(opts->verb);
	if (optind < argc)
		return ntbs_ctl_usage(opts->verb, "'%s' is one argument too many", argv[optind]);
	return -1;
}

/* ---------------------------------------------------------------------- status */

static json_t *port_json(const struct ntbs_msg_status *st)
{
	char name[sizeof(st->port)], family[sizeof(st->port_family)], state[sizeof(st->port_state)];

	ntbs_ctl_printable(name, sizeof(name), st->port, sizeof(st->port));
	ntbs_ctl_printable(family, sizeof(family), st->port_family, sizeof(st->port_family));
	ntbs_ctl_printable(state, sizeof(state), st->port_state, sizeof(st->port_state));
	if (!name[0] && !family[0])
		return json_null();
	return json_pack("{s:s,s:s,s:s,s:b,s:I,s:I,s:I,s:I,s:I}", "name", name, "family", family, "state", state, "up",
			 (int)!!st->port_session, "session", (json_int_t)st->port_session, "sessions",
			 (json_int_t)st->port_sessions, "bells", (json_int_t)st->port_bells, "arena_bytes",
			 (json_int_t)st->port_arena_bytes, "window_bytes", (json_int_t)st->port_window_bytes);
}

static void print_port(const struct ntbs_msg_status *st)
{
	char name[sizeof(st->port)], family[sizeof(st->port_family)], state[sizeof(st->port_state)];

	ntbs_ctl_printable(name, sizeof(name), st->port, sizeof(st->port));
	ntbs_ctl_printable(family, sizeof(family), st->port_family, sizeof(st->port_family));
	ntbs_ctl_printable(state, sizeof(state), st->port_state, sizeof(st->port_state));
	printf("port            %s%s%s: %s\n", name, name[0] ? ", " : "", family, state);
	if (st->port_session)
		printf("session         %08x, %" PRIu64 " KiB here, a window of %" PRIu64 " KiB\n", st->port_session,
		       st->port_arena_bytes >> 10, st->port_window_bytes >> 10);
	printf("sessions        %" PRIu64 " so far, %" PRIu64 " doorbells heard\n", st->port_sessions, st->port_bells);
}

int ntbs_show_status(int argc, char **argv)
{
	static const char *const cable_text[] = { "none: connections on this host only", "configured, not up", "up" };
	static const char *const cable_name[] = { "none", "configured", "up" };
	struct ntbs_ctl_opts opts = { .verb = "status" };
	struct ntbs_msg_status st;
	struct ntbs_ask ask;
	char run_dir[NTBS_DIR_MAX], config_dir[NTBS_DIR_MAX];
	unsigned cable;
	int err, code = common_options(&opts, argc, argv);

	if (code >= 0)
		return code;
	if (ntbs_ask_find(&ask, opts.broker_dir, true)) {
		if (opts.json)
			ntbs_ctl_print_json(json_pack("{s:n}", "broker"), NTBS_CTL_OK);
		return NTBS_CTL_NO_BROKER;
	}
	err = ntbs_ask_status(&ask, &st);
	ntbs_ask_close(&ask);
	if (err)
		return NTBS_CTL_FAILED;
	ntbs_ctl_printable(run_dir, sizeof(run_dir), st.run_dir, sizeof(st.run_dir));
	ntbs_ctl_printable(config_dir, sizeof(config_dir), st.config_dir, sizeof(st.config_dir));
	cable = st.cable > 2 ? 0 : st.cable;
	if (opts.json)
		return ntbs_ctl_print_json(
			json_pack("{s:{s:i,s:I,s:b,s:s,s:s,s:I,s:i,s:i,s:i,s:i,s:s,s:o,s:I,s:I,s:I,s:I}}", "broker",
				  "pid", (int)ask.pid, "uid", (json_int_t)st.uid, "private", (int)!!st.private_broker,
				  "run_dir", run_dir, "config_dir", config_dir, "uptime_s", (json_int_t)st.uptime_s,
				  "processes", (int)st.nr_procs, "node", (int)st.node, "nodes", (int)st.nr_nodes,
				  "port_rules", (int)st.nr_ports, "cable", cable_name[cable], "port", port_json(&st), "offers_remote",
				  (json_int_t)st.offers_remote, "claims", (json_int_t)st.claims, "claims_refused",
				  (json_int_t)st.claims_refused, "clients_closed_for_error",
				  (json_int_t)st.clients_closed_for_error),
			NTBS_CTL_OK);
	printf("broker          pid %d, user %u%s, up for %" PRIu64 " s\n", (int)ask.pid, st.uid,
	       st.private_broker ? ", started by run (ends when idle)" : "", st.uptime_s);
	printf("run directory   %s\n", run_dir);
	printf("configuration   %s: %u nodes, %u port rules\n", config_dir, st.nr_nodes, st.nr_ports);
	if (st.node)
		printf("this host       node %u\n", st.node);
	if (st.port_family[0])
		print_port(&st);
	printf("%s          %s\n", st.port_family[0] ? "broker" : "cable ", cable_text[cable]);
	printf("processes       %u\n", st.nr_procs);
	printf("claims          %" PRIu64 ", refused %" PRIu64 "; offers from other hosts %" PRIu64 "\n", st.claims,
	       st.claims_refused, st.offers_remote);
	printf("clients closed  %" PRIu64 " for errors\n", st.clients_closed_for_error);
	return NTBS_CTL_OK;
}

/* ---------------------------------------------------------------------- reload */

int ntbs_show_reload(int argc, char **argv)
{
	struct ntbs_ctl_opts opts = { .verb = "reload" };
	struct ntbs_msg_reload reply;
	struct ntbs_ask ask;
	char first[sizeof(reply.first_error)];
	int err, code = common_options(&opts, argc, argv);

	if (code >= 0)
		return code;
	if (ntbs_ask_find(&ask, opts.broker_dir, true))
		return NTBS_CTL_NO_BROKER;
	err = ntbs_ask_reload(&ask, &reply);
	ntbs_ask_close(&ask);
	if (err)
		return NTBS_CTL_FAILED;
	ntbs_ctl_printable(first, sizeof(first), reply.first_error, sizeof(reply.first_error));
	code = reply.errors ? NTBS_CTL_FAILED : NTBS_CTL_OK;
	if (opts.json)
		return ntbs_ctl_print_json(json_pack("{s:i,s:i,s:i,s:s}", "errors", (int)reply.errors, "nodes",
						     (int)reply.nr_nodes, "port_rules", (int)reply.nr_ports,
						     "first_error", first),
					   code);
	if (!strncmp(first, "not permitted", 13)) { /* a refusal has no field of its own */
		ntbs_ctl_say("%s", first);
		return NTBS_CTL_FAILED;
	}
	if (reply.errors)
		ntbs_ctl_say("%u wrong line(s) left out, the first: %s", reply.errors, first);
	printf("%u nodes, %u port rules\n", reply.nr_nodes, reply.nr_ports);
	return code;
}

/* ----------------------------------------------------------------------- stats */

struct totals {
	unsigned conns, on_ring;
	unsigned reason[NTBS_WHY_MAX], reason_unknown;
	struct ntbs_counters tx, rx;
};

static void add_counters(struct ntbs_counters *sum, const struct ntbs_counters *c)
{
	sum->ring_bytes += c->ring_bytes;
	sum->tcp_bytes += c->tcp_bytes;
	sum->inline_msgs += c->inline_msgs;
	sum->short_msgs += c->short_msgs;
	sum->long_msgs += c->long_msgs;
	sum->stalls += c->stalls;
	sum->sleeps += c->sleeps;
	sum->wakes += c->wakes;
	sum->poll_hits += c->poll_hits;
}

static void add_conn(struct totals *t, const struct ntbs_conn_shm *c)
{
	t->conns++;
	t->on_ring += ntbs_pool_on_ring(c);
	if (c->reason < NTBS_WHY_MAX)
		t->reason[c->reason]++;
	else
		t->reason_unknown++;
	add_counters(&t->tx, &c->tx);
	add_counters(&t->rx, &c->rx);
}

static json_t *counters_json(const struct ntbs_counters *c)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "ring_bytes", (json_int_t)c->ring_bytes, "tcp_bytes",
			 (json_int_t)c->tcp_bytes, "inline", (json_int_t)c->inline_msgs, "short",
			 (json_int_t)c->short_msgs, "long", (json_int_t)c->long_msgs, "stalls", (json_int_t)c->stalls,
			 "sleeps", (json_int_t)c->sleeps, "wakes", (json_int_t)c->wakes, "poll_hits",
			 (json_int_t)c->poll_hits);
}

/* Add the totals to an object (whose reference is kept). */
static json_t *totals_json(json_t *obj, const struct totals *t)
{
	json_t *reasons = json_object();

	for (uint32_t r = 0; r < NTBS_WHY_MAX; r++) {
		if (t->reason[r])
			json_object_set_new(reasons, ntbs_pool_reason(r), json_integer(t->reason[r]));
	}
	if (t->reason_unknown)
		json_object_set_new(reasons, "?", json_integer(t->reason_unknown));
	json_object_set_new(obj, "connections", json_integer(t->conns));
	json_object_set_new(obj, "on_ring", json_integer(t->on_ring));
	json_object_set_new(obj, "reasons", reasons);
	json_object_set_new(obj, "tx", counters_json(&t->tx));
	json_object_set_new(obj, "rx", counters_json(&t->rx));
	return obj;
}

static void print_dir(const char *name, const struct ntbs_counters *c)
{
	printf("  %s  ring %" PRIu64 " B, tcp %" PRIu64 " B; inline %" PRIu64 ", short %" PRIu64 ", long %" PRIu64
	       "; stalls %" PRIu64 ", sleeps %" PRIu64 ", wakes %" PRIu64 ", poll hits %" PRIu64 "\n",
	       name, c->ring_bytes, c->tcp_bytes, c->inline_msgs, c->short_msgs, c->long_msgs, c->stalls, c->sleeps,
	       c->wakes, c->poll_hits);
}

static void print_totals(const struct totals *t)
{
	printf("%u connections, %u on the ring\n", t->conns, t->on_ring);
	print_dir("tx", &t->tx);
	print_dir("rx", &t->rx);
	for (uint32_t r = 0; r < NTBS_WHY_MAX; r++) {
		if (t->reason[r])
			printf("  %6u  %s\n", t->reason[r], ntbs_pool_reason_text(r));
	}
	if (t->reason_unknown)
		printf("  %6u  %s\n", t->reason_unknown, ntbs_pool_reason_text(NTBS_WHY_MAX));
}

static int show_totals(const struct ntbs_pool_list *list, uint64_t pid, bool json)
{
	struct totals all = { 0 }, one;
	json_t *processes = json_array();
	size_t i = 0;

	while (i < list->nr) { /* sorted by process */
		const struct ntbs_pool_conn *first = &list->conn[i];

		memset(&one, 0, sizeof(one));
		for (; i < list->nr && list->conn[i].pid == first->pid; i++)
			add_conn(&one, &list->conn[i].c);
		if (pid && first->pid != pid)
			continue;
		for (const struct ntbs_pool_conn *c = first; c < &list->conn[i]; c++)
			add_conn(&all, &c->c);
		if (json) {
			json_array_append_new(processes, totals_json(json_pack("{s:i,s:s}", "pid", (int)first->pid,
									       "program", first->program), &one));
			continue;
		}
		printf("%s[%u]: ", first->program, first->pid);
		print_totals(&one);
	}
	if (json)
		return ntbs_ctl_print_json(totals_json(json_pack("{s:o,s:i,s:i}", "processes", processes,
								 "pools_unreadable", (int)list->pools_bad,
								 "connections_changing", (int)list->torn), &all),
					   NTBS_CTL_OK);
	json_decref(processes);
	printf("all: ");
	print_totals(&all);
	return NTBS_CTL_OK;
}

int ntbs_show_stats(int argc, char **argv)
{
	static const struct option options[] = {
		NTBS_CTL_OPTIONS, { "pid", required_argument, NULL, 'p' }, { 0 },
	};
	struct ntbs_ctl_opts opts = { .verb = "stats" };
	struct ntbs_pool_list list;
	uint64_t pid = 0;
	int c, code;

	while ((c = getopt_long(argc, argv, ":p:", options, NULL)) != -1) {
		if (c != 'p') {
			if (ntbs_ctl_option(&opts, c, argv))
				return NTBS_CTL_USAGE;
		} else if (ntbs_ctl_number(optarg, INT32_MAX, &pid) || !pid) {
			return ntbs_ctl_usage("stats", "'%s' is no process id", optarg);
		}
	}
	if (opts.help)
		return ntbs_ctl_help("stats");
	if (optind < argc)
		return ntbs_ctl_usage("stats", "'%s' is one argument too many", argv[optind]);
	code = ntbs_pool_read_all(opts.broker_dir, &list);
	if (code)
		return code;
	code = show_totals(&list, pid, opts.json);
	ntbs_pool_free(&list);
	return code;
}
