// SPDX-License-Identifier: BSD-2-Clause
/* filter.c - see filter.h */
#include "filter.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "broker/conf_file.h"

/* ADDRESS[/PREFIX], as nodes.conf has it: the same parser. */
static int take_peer(struct ntbs_filter *f, const char *verb, const char *text)
{
	struct ntbs_conf_node node;
	char line[NTBS_CONF_LINE_MAX], err[200];
	int n = snprintf(line, sizeof(line), "%s 1", text);

	if (n < 0 || (size_t)n >= sizeof(line) || strpbrk(text, " \t#") ||
	    ntbs_conf_node_line(line, n, &node, err, sizeof(err)) != 1 || node.is_name || !node.rule.prefix)
		return ntbs_ctl_usage(verb, "'%s' is no address and no network (10.0.0.1, 10.0.0.0/24, fd00::/64)", text);
	memcpy(f->peer, node.rule.addr, sizeof(f->peer));
	f->peer_bits = node.rule.prefix;
	return 1;
}

int ntbs_filter_option(struct ntbs_filter *f, const char *verb, int c)
{
	switch (c) {
	case 'p':
		if (ntbs_ctl_number(optarg, INT32_MAX, &f->pid) || !f->pid)
			return ntbs_ctl_usage(verb, "'%s' is no process id", optarg);
		return 1;
	case NTBS_FILTER_PORT:
		if (ntbs_ctl_number(optarg, 65535, &f->port))
			return ntbs_ctl_usage(verb, "'%s' is no port (0 to 65535)", optarg);
		f->port_set = true;
		return 1;
	case NTBS_FILTER_PROGRAM:
		f->program = optarg;
		return 1;
	case NTBS_FILTER_PEER:
		return take_peer(f, verb, optarg);
	default:
		return 0;
	}
}

static bool in_network(const uint8_t addr[16], const uint8_t net[16], unsigned bits)
{
	unsigned bytes = bits / 8, rest = bits % 8;

	return !memcmp(addr, net, bytes) && (!rest || !((addr[bytes] ^ net[bytes]) >> (8 - rest)));
}

bool ntbs_filter_wants(const struct ntbs_filter *f, const struct ntbs_pool_conn *conn)
{
	const struct ntbs_tuple *t = &conn->c.tuple;

	return (!f->pid || f->pid == conn->pid) && (!f->port_set || f->port == t->lport || f->port == t->rport) &&
	       (!f->program || !strcmp(f->program, conn->program)) &&
	       (!f->peer_bits || in_network(t->raddr, f->peer, f->peer_bits));
}

bool ntbs_filter_is_set(const struct ntbs_filter *f)
{
	return f->pid || f->port_set || f->program || f->peer_bits;
}
