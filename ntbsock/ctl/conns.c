// SPDX-License-Identifier: BSD-2-Clause
/*
 * conns.c - `connections`: one entry a connection, in the manner of ss(8)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "filter.h"

enum { OPT_REASON = NTBS_FILTER_OPT_OWN, OPT_RING, OPT_TCP };

struct filter {
	struct ntbs_filter which;
	const char *reason;
	bool ring, tcp;
};

static bool wanted(const struct filter *f, const struct ntbs_pool_conn *conn)
{
	const struct ntbs_conn_shm *c = &conn->c;

	return ntbs_filter_wants(&f->which, conn) && (!f->reason || !strcmp(f->reason, ntbs_pool_reason(c->reason))) &&
	       (!f->ring || ntbs_pool_on_ring(c)) && (!f->tcp || !ntbs_pool_on_ring(c));
}

static const char *stage(uint32_t s)
{
	static const char *const names[] = { "plain", "offered", "live", "new" };

	return s < sizeof(names) / sizeof(names[0]) ? names[s] : "?";
}

/* ------------------------------------------------------------------------- JSON */

static json_t *end_json(const uint8_t addr[16], uint16_t port)
{
	char text[INET6_ADDRSTRLEN];

	return json_pack("{s:s,s:i}", "address", ntbs_pool_address(text, addr), "port", port);
}

static json_t *dir_json(uint32_t state, const struct ntbs_counters *c)
{
	return json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "state", ntbs_pool_dir(state), "ring_bytes",
			 (json_int_t)c->ring_bytes, "tcp_bytes", (json_int_t)c->tcp_bytes, "inline",
			 (json_int_t)c->inline_msgs, "short", (json_int_t)c->short_msgs, "long",
			 (json_int_t)c->long_msgs, "stalls", (json_int_t)c->stalls, "sleeps", (json_int_t)c->sleeps,
			 "wakes", (json_int_t)c->wakes, "poll_hits", (json_int_t)c->poll_hits);
}

static json_t *conn_json(const struct ntbs_pool_conn *conn)
{
	const struct ntbs_conn_shm *c = &conn->c;
	char chan[24];

	snprintf(chan, sizeof(chan), "0x%" PRIx64, c->chan);
	return json_pack("{s:i,s:s,s:I,s:i,s:b,s:o,s:o,s:s,s:b,s:s,s:s,s:I,s:s,s:I,s:I,s:o,s:o}", "pid",
			 (int)conn->pid, "program", conn->program, "made_by", (json_int_t)c->pid.v, "ip",
			 c->family == AF_INET6 ? 6 : 4, "accepted", (int)!!c->accepted, "local",
			 end_json(c->tuple.laddr, c->tuple.lport), "remote", end_json(c->tuple.raddr, c->tuple.rport),
			 "stage", stage(c->stage), "on_ring", (int)ntbs_pool_on_ring(c), "reason",
			 ntbs_pool_reason(c->reason), "reason_text", ntbs_pool_reason_text(c->reason), "since",
			 (json_int_t)c->since_s, "channel", chan, "lease", (json_int_t)c->lease, "holders", (json_int_t)c->holders,
			 "tx", dir_json(c->tx_state, &c->tx), "rx", dir_json(c->rx_state, &c->rx));
}

static int print_json(const struct ntbs_pool_list *list, const struct filter *f)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < list->nr; i++) {
		if (wanted(f, &list->conn[i]))
			json_array_append_new(rows, conn_json(&list->conn[i]));
	}
	return ntbs_ctl_print_json(json_pack("{s:o,s:i,s:i}", "connections", rows, "pools_unreadable",
					     (int)list->pools_bad, "connections_changing", (int)list->torn),
				   NTBS_CTL_OK);
}

/* ------------------------------------------------------------------------ table */

/* 5 places: 0 to 99999, then 98K, 1.2G ... */
static const char *short_number(char text[8], uint64_t n)
{
	static const char unit[] = " KMGTPE";
	double v = n;
	int u = 0;

	if (n < 100000) {
		snprintf(text, 8, "%" PRIu64, n);
		return text;
	}
	while (v >= 999.5) {
		v /= 1000;
		u++;
	}
	snprintf(text, 8, v < 9.95 ? "%.1f%c" : "%.0f%c", v, unit[u]);
	return text;
}

static void print_counters(const char *name, const struct ntbs_counters *c)
{
	printf("        %s: ring:%" PRIu64 " tcp:%" PRIu64 " inline:%" PRIu64 " short:%" PRIu64 " long:%" PRIu64
	       " stalls:%" PRIu64 " sleeps:%" PRIu64 " wakes:%" PRIu64 " poll_hits:%" PRIu64 "\n",
	       name, c->ring_bytes, c->tcp_bytes, c->inline_msgs, c->short_msgs, c->long_msgs, c->stalls, c->sleeps,
	       c->wakes, c->poll_hits);
}

static int print_table(const struct ntbs_pool_list *list, const struct filter *f, bool brief)
{
	char local[NTBS_POOL_END], remote[NTBS_POOL_END], tx_bytes[8], rx_bytes[8];
	int wide = 21;

	for (size_t i = 0; i < list->nr; i++) {
		const struct ntbs_conn_shm *c = &list->conn[i].c;
		int len;

		if (!wanted(f, &list->conn[i]))
			continue;
		len = strlen(ntbs_pool_end(local, c->tuple.laddr, c->tuple.lport));
		wide = len > wide ? len : wide;
		len = strlen(ntbs_pool_end(remote, c->tuple.raddr, c->tuple.rport));
		wide = len > wide ? len : wide;
	}
	printf("%-24s %-*s %-*s %-5s %7s %-5s %7s  %s\n", "Program[pid]", wide, "Local", wide, "Peer", "Tx", "bytes",
	       "Rx", "bytes", "Reason");
	for (size_t i = 0; i < list->nr; i++) {
		const struct ntbs_pool_conn *conn = &list->conn[i];
		const struct ntbs_conn_shm *c = &conn->c;
		char who[32];

		if (!wanted(f, conn))
			continue;
		snprintf(who, sizeof(who), "%s[%u]", conn->program, conn->pid);
		printf("%-24s %-*s %-*s %-5s %7s %-5s %7s  %s\n", who, wide,
		       ntbs_pool_end(local, c->tuple.laddr, c->tuple.lport), wide,
		       ntbs_pool_end(remote, c->tuple.raddr, c->tuple.rport), ntbs_pool_dir(c->tx_state),
		       short_number(tx_bytes, c->tx.ring_bytes + c->tx.tcp_bytes), ntbs_pool_dir(c->rx_state),
		       short_number(rx_bytes, c->rx.ring_bytes + c->rx.tcp_bytes), ntbs_pool_reason_text(c->reason));
		if (brief)
			continue;
		print_counters("tx", &c->tx);
		print_counters("rx", &c->rx);
	}
	if (list->torn)
		ntbs_ctl_say("%u connections changed while they were read and are left out", list->torn);
	return NTBS_CTL_OK;
}

/* ------------------------------------------------------------------------- verb */

static bool known_reason(const char *name)
{
	for (uint32_t r = 0; r < NTBS_WHY_MAX; r++) {
		if (!strcmp(name, ntbs_pool_reason(r)))
			return true;
	}
	return false;
}

int ntbs_conns_verb(int argc, char **argv)
{
	static const struct option options[] = {
		NTBS_CTL_OPTIONS,
		NTBS_FILTER_OPTIONS,
		{ "reason", required_argument, NULL, OPT_REASON },
		{ "ring", no_argument, NULL, OPT_RING },
		{ "tcp", no_argument, NULL, OPT_TCP },
		{ "brief", no_argument, NULL, 'b' },
		{ 0 },
	};
	struct ntbs_ctl_opts opts = { .verb = "connections" };
	struct filter f = { 0 };
	struct ntbs_pool_list list;
	bool brief = false;
	int c, code;

	while ((c = getopt_long(argc, argv, ":" NTBS_FILTER_SHORT "b", options, NULL)) != -1) {
		int taken = ntbs_filter_option(&f.which, opts.verb, c);

		if (taken == NTBS_CTL_USAGE)
			return NTBS_CTL_USAGE;
		if (taken)
			continue;
		if (c == OPT_REASON) {
			if (!known_reason(optarg))
				return ntbs_ctl_usage(opts.verb, "there is no reason '%s'; ntbsock(7) lists them",
						      optarg);
			f.reason = optarg;
		} else if (c == OPT_RING) {
			f.ring = true;
		} else if (c == OPT_TCP) {
			f.tcp = true;
		} else if (c == 'b') {
			brief = true;
		} else if (ntbs_ctl_option(&opts, c, argv)) {
			return NTBS_CTL_USAGE;
		}
	}
	if (opts.help)
		return ntbs_ctl_help(opts.verb);
	if (optind < argc)
		return ntbs_ctl_usage(opts.verb, "'%s' is one argument too many", argv[optind]);
	if (f.ring && f.tcp)
		return ntbs_ctl_usage(opts.verb, "--ring and --tcp exclude each other");
	code = ntbs_pool_read_all(opts.broker_dir, &list);
	if (code)
		return code;
	code = opts.json ? print_json(&list, &f) : print_table(&list, &f, brief);
	ntbs_pool_free(&list);
	return code;
}
