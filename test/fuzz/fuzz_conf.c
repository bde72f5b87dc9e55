// SPDX-License-Identifier: BSD-2-Clause
/*
 * fuzz_conf.c - any bytes as nodes.conf and ports.conf
 *
 * The first byte says which.  What the parser takes must keep the promises that the readers of the rules rely on, and
 * each line is reported once at most.
 *
 * links: ntbsock/broker/conf_file.c
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "broker/conf_file.h"

#define promise(cond)            \
	do {                     \
		if (!(cond))     \
			abort(); \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned last_line;

static void line(unsigned line_nr)
{
	promise(line_nr > last_line);
	last_line = line_nr;
}

static void on_node(void *arg, unsigned line_nr, const struct ntbs_conf_node *n)
{
	line(line_nr);
	promise(n->rule.node >= 1 && n->rule.node <= 255 && n->rule.prefix <= 128);
	promise(strnlen(n->host, sizeof(n->host)) < sizeof(n->host) && n->host[0]);
	for (unsigned bit = n->rule.prefix; bit < 128; bit++)	/* masked */
		promise(!(n->rule.addr[bit / 8] & (0x80 >> bit % 8)));
	promise(!n->is_name || n->rule.prefix == 128);
}

static void on_port(void *arg, unsigned line_nr, const struct ntbs_rule_port *p)
{
	line(line_nr);
	promise(p->first <= p->last && p->allow <= 1);
	promise(strnlen(p->program, sizeof(p->program)) < sizeof(p->program) && !strchr(p->program, '/'));
}

static void on_error(void *arg, unsigned line_nr, const char *what)
{
	line(line_nr);
	promise(*what && strlen(what) < 160);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct ntbs_conf_sink sink = { on_node, on_port, on_error, NULL };
	char *text;

	if (!size)
		return 0;
	text = malloc(size - 1 ? size - 1 : 1);	/* of its own, so that a byte too far is seen */
	promise(text);
	memcpy(text, data + 1, size - 1);
	last_line = 0;
	(data[0] & 1 ? ntbs_conf_nodes : ntbs_conf_ports)(text, size - 1, &sink);
	free(text);
	return 0;
}
