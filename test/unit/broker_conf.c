// SPDX-License-Identifier: BSD-2-Clause
/*
 * broker_conf.c - lines of nodes.conf and ports.conf, right and wrong ones
 *
 * links: ntbsock/broker/conf_file.c
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "broker/conf_file.h"

static unsigned failures;

static void check(bool ok, const char *what, const char *line)
{
	if (ok)
		return;
	failures++;
	fprintf(stderr, "failed: %s: \"%s\"\n", what, line);
}

static void good_node(const char *line, const uint8_t *addr, unsigned from, unsigned nr, unsigned prefix, unsigned node)
{
	struct ntbs_conf_node n;
	uint8_t want[16] = { 0 };
	char err[100] = "";

	if (from == 12)
		want[10] = want[11] = 0xff;
	memcpy(want + from, addr, nr);
	check(ntbs_conf_node_line(line, strlen(line), &n, err, sizeof(err)) == 1, err, line);
	check(!n.is_name && !memcmp(n.rule.addr, want, 16), "address", line);
	check(n.rule.prefix == prefix && n.rule.node == node, "prefix or node", line);
}

static void bad_node(const char *line, const char *says)
{
	struct ntbs_conf_node n;
	char err[200] = "";

	check(ntbs_conf_node_line(line, strlen(line), &n, err, sizeof(err)) < 0, "taken", line);
	check(strstr(err, says), err, line);
}

static void good_port(const char *line, bool allow, unsigned first, unsigned last, const char *program)
{
	struct ntbs_rule_port p;
	char err[200] = "";

	check(ntbs_conf_port_line(line, strlen(line), &p, err, sizeof(err)) == 1, err, line);
	check(p.allow == allow && p.first == first && p.last == last && !strcmp(p.program, program), "rule", line);
}

static void bad_port(const char *line, const char *says)
{
	struct ntbs_rule_port p;
	char err[200] = "";

	check(ntbs_conf_port_line(line, strlen(line), &p, err, sizeof(err)) < 0, "taken", line);
	check(strstr(err, says), err, line);
}

static char seen[1000];

static void on_node(void *arg, unsigned line_nr, const struct ntbs_conf_node *node)
{
	snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%u=%s ", line_nr, node->host);
}

static void on_port(void *arg, unsigned line_nr, const struct ntbs_rule_port *port)
{
	snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%u=%u ", line_nr, port->first);
}

static void on_error(void *arg, unsigned line_nr, const char *what)
{
	snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%u! ", line_nr);
}

static void whole(bool nodes, const char *text, size_t len, const char *want)
{
	const struct ntbs_conf_sink sink = { on_node, on_port, on_error, NULL };

	seen[0] = '\0';
	(nodes ? ntbs_conf_nodes : ntbs_conf_ports)(text, len, &sink);
	check(!strcmp(seen, want), seen, want);
}

int main(void)
{
	struct ntbs_conf_node n;
	char line[3000], err[200];

	good_node("10.1.2.3 7", (uint8_t[]){ 10, 1, 2, 3 }, 12, 4, 128, 7);
	good_node("\t 10.1.2.3\t255 # there\r", (uint8_t[]){ 10, 1, 2, 3 }, 12, 4, 128, 255);
	good_node("10.1.2.3/8 1", (uint8_t[]){ 10, 0, 0, 0 }, 12, 4, 104, 1);
	good_node("10.1.2.255/25 1", (uint8_t[]){ 10, 1, 2, 128 }, 12, 4, 121, 1);
	good_node("0.0.0.0/0 1", (uint8_t[]){ 0, 0, 0, 0 }, 12, 4, 96, 1);
	good_node("10.1.2.3/32 1", (uint8_t[]){ 10, 1, 2, 3 }, 12, 4, 128, 1);
	good_node("fd00::1 2#x", (uint8_t[]){ 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 }, 0, 16, 128, 2);
	good_node("fdff:ffff::1/9 2", (uint8_t[]){ 0xfd, 0x80 }, 0, 2, 9, 2);
	good_node("::/0 2", (uint8_t[]){ 0 }, 0, 1, 0, 2);
	check(ntbs_conf_node_line("node-2.example 2", 16, &n, err, sizeof(err)) == 1 && n.is_name && !strcmp(n.host, "node-2.example"),
	      "host name", "node-2.example 2");
	check(ntbs_conf_node_line("", 0, &n, err, sizeof(err)) == 0, "empty", "");
	check(ntbs_conf_node_line("  # 10.0.0.1 2", 14, &n, err, sizeof(err)) == 0, "comment", "");
	check(ntbs_conf_node_line("10.0.0.1 23", 10, &n, err, sizeof(err)) == 1 && n.rule.node == 2, "read beyond the line", "");
	bad_node("10.0.0.1", "one word");
	bad_node("10.0.0.1 2 3", "more");
	bad_node("10.0.0.1 2 3 4 5 6 7", "more");
	bad_node("10.0.0.1 0", "node id");
	bad_node("10.0.0.1 256", "node id");
	bad_node("10.0.0.1 99999999999999999999", "node id");
	bad_node("10.0.0.1 -1", "node id");
	bad_node("10.0.0.1 2x", "node id");
	bad_node("10.0.0.300 2", "neither");
	bad_node("10.0.0 2", "neither");
	bad_node("fd00:::1 2", "neither");
	bad_node("ho$t 2", "neither");
	bad_node("-host 2", "neither");
	bad_node("10.0.0.1/33 2", "0 to 32");
	bad_node("10.0.0.1/ 2", "0 to 32");
	bad_node("fd00::/129 2", "0 to 128");
	bad_node("host/24 2", "cannot have a prefix");
	bad_node("10.0.0.1\x01 2", "control character");
	memset(line, 'a', sizeof(line));
	strcpy(line + 300, " 2");
	bad_node(line, "longer than 253");
	memset(line, ' ', sizeof(line) - 1);
	line[sizeof(line) - 1] = '\0';
	bad_node(line, "longer than 1024");
	check(ntbs_conf_node_line("10.0.0.1\0 2", 11, &n, err, sizeof(err)) < 0, "NUL taken", "");

	good_port("allow 80", true, 80, 80, "");
	good_port("deny\t1-1023 # system", false, 1, 1023, "");
	good_port("deny * sshd", false, 0, 65535, "sshd");
	good_port("allow 65535-65535 abcdefghijklmnopqrstuvwxyz", true, 65535, 65535, "abcdefghijklmnopqrstuvwxyz");
	bad_port("permit 80", "neither");
	bad_port("Allow 80", "neither");
	bad_port("allow", "1 word");
	bad_port("allow 80 a b", "or more");
	bad_port("allow 0", "1 to 65535");
	bad_port("allow 65536", "1 to 65535");
	bad_port("allow 90-80", "FIRST <= LAST");
	bad_port("allow 80-", "FIRST-LAST");
	bad_port("allow -80", "FIRST-LAST");
	bad_port("allow 1-2-3", "FIRST-LAST");
	bad_port("allow http", "1 to 65535");
	bad_port("allow ** x", "or *");
	bad_port("allow 80 /usr/bin/x", "base name");
	bad_port("allow 80 abcdefghijklmnopqrstuvwxyz0", "longer than 26");

	whole(true, "10.0.0.1 1\n\nbad\n# c\n::1 2", 25, "1=10.0.0.1 3! 5=::1 ");
	whole(true, "", 0, "");
	whole(true, "\n\n\n", 3, "");
	whole(false, "allow 1\nallow 0\ndeny 3\n", 23, "1=1 2! 3=3 ");
	if (!failures)
		puts("broker_conf: passed");
	return failures != 0;
}
