/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conf_file.h - the text of nodes.conf and ports.conf
 *
 * A parser over a buffer: no files, no name service, no global state, so that the broker, ntbsock-ctl and a
 * fuzzer share it.  A wrong line is reported with its number and left out; the rest is used.
 */
#ifndef NTBSOCK_BROKER_CONF_FILE_H
#define NTBSOCK_BROKER_CONF_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <ntbsock/abi_broker.h>

#define NTBS_CONF_LINE_MAX 1024u	/* longer lines are wrong */
#define NTBS_CONF_FILE_MAX (1u << 20)	/* bytes of a file that are read */
#define NTBS_CONF_HOST_MAX 254u

/* ADDRESS[/PREFIX] NODEID, or HOST NODEID */
struct ntbs_conf_node {
	char host[NTBS_CONF_HOST_MAX];	/* as written, without the prefix */
	bool is_name;			/* @host has to be resolved; @rule.addr is not set */
	struct ntbs_rule_node rule;	/* masked to its prefix */
};

/* One line without its newline.  Return: 1 an entry, 0 nothing on it, -EINVAL with @err set. */
int ntbs_conf_node_line(const char *line, size_t len_bytes, struct ntbs_conf_node *node, char *err, size_t err_bytes);
int ntbs_conf_port_line(const char *line, size_t len_bytes, struct ntbs_rule_port *port, char *err, size_t err_bytes);

/* What a walk over a file calls; @line_nr counts from 1. */
struct ntbs_conf_sink {
	void (*node)(void *arg, unsigned line_nr, const struct ntbs_conf_node *node);
	void (*port)(void *arg, unsigned line_nr, const struct ntbs_rule_port *port);
	void (*error)(void *arg, unsigned line_nr, const char *what);
	void *arg;
};

/* The whole text of one file. */
void ntbs_conf_nodes(const char *text, size_t len_bytes, const struct ntbs_conf_sink *sink);
void ntbs_conf_ports(const char *text, size_t len_bytes, const struct ntbs_conf_sink *sink);

#endif
