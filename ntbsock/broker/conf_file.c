// SPDX-License-Identifier: BSD-2-Clause
/* conf_file.c - see conf_file.h */
#include "conf_file.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define WORDS_MAX 4 /* one more than any line may have, so that the surplus is seen */

static const uint8_t v4_mapped[12] = { [10] = 0xff, [11] = 0xff };

static int __attribute__((format(printf, 3, 4))) wrong(char *err, size_t err_bytes, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, err_bytes, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

/* Cut a copy of the line into words.  Return: how many, or -EINVAL. */
static int split(const char *line, size_t len, char copy[NTBS_CONF_LINE_MAX + 1], char *word[WORDS_MAX],
		 char *err, size_t err_bytes)
{
	int nr = 0;
	size_t i = 0;

	if (len > NTBS_CONF_LINE_MAX)
		return wrong(err, err_bytes, "line is longer than %u bytes", NTBS_CONF_LINE_MAX);
	for (size_t k = 0; k < len && line[k] != '#'; k++) {
		unsigned char c = (unsigned char)line[k];

		if (!is_blank((char)c) && (c < 0x21 || c == 0x7f))
			return wrong(err, err_bytes, "control character 0x%02x; is this a text file?", c);
	}
	memcpy(copy, line, len);
	copy[len] = '\0';
	copy[strcspn(copy, "#")] = '\0';
	while (copy[i]) {
		while (is_blank(copy[i]))
			copy[i++] = '\0';
		if (!copy[i])
			break;
		if (nr == WORDS_MAX)
			break;
		word[nr++] = &copy[i];
		while (copy[i] && !is_blank(copy[i]))
			i++;
	}
	return nr;
}

/* A decimal number of @from..@to and nothing else. */
static bool number(const char *s, unsigned from, unsigned to, unsigned *value)
{
	unsigned v = 0;
	size_t i;

	for (i = 0; s[i] >= '0' && s[i] <= '9' && i < 6; i++)
		v = v * 10 + (unsigned)(s[i] - '0');
	if (!i || s[i] || v < from || v > to)
		return false;
	*value = v;
	return true;
}

static void mask(uint8_t addr[16], unsigned prefix)
{
	for (unsigned i = 0; i < 16; i++) {
		unsigned keep = prefix > i * 8 ? prefix - i * 8 : 0;

		if (keep < 8)
			addr[i] &= (uint8_t)(0xff00u >> keep);
	}
}

static bool looks_like_name(const char *s)
{
	bool letter = false;

	if (!*s || *s == '-' || *s == '.')
		return false;
	for (; *s; s++) {
		bool alpha = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z');

		if (!alpha && !(*s >= '0' && *s <= '9') && *s != '-' && *s != '.' && *s != '_')
			return false;
		letter |= alpha;
	}
	return letter; /* 10.0.0.300 is a wrong address, not a name */
}

int ntbs_conf_node_line(const char *line, size_t len_bytes, struct ntbs_conf_node *node, char *err,
			size_t err_bytes)
{
	char copy[NTBS_CONF_LINE_MAX + 1], *word[WORDS_MAX], *slash;
	int nr = split(line, len_bytes, copy, word, err, err_bytes);
	unsigned id, prefix, width = 0;

	if (nr <= 0)
		return nr;
	if (nr != 2)
		return wrong(err, err_bytes, "expected ADDRESS[/PREFIX] NODEID, found %s",
			     nr == 1 ? "one word" : "more");
	memset(node, 0, sizeof(*node));
	if (!number(word[1], 1, 255, &id))
		return wrong(err, err_bytes, "node id \"%.40s\" is not a number from 1 to 255", word[1]);
	slash = strchr(word[0], '/');
	if (slash)
		*slash++ = '\0';
	if (strlen(word[0]) >= sizeof(node->host))
		return wrong(err, err_bytes, "host name is longer than %zu characters", sizeof(node->host) - 1);
	strcpy(node->host, word[0]);
	node->rule.node = id;
	node->rule.prefix = 128;
	if (inet_pton(AF_INET, word[0], node->rule.addr + 12) == 1) {
		memcpy(node->rule.addr, v4_mapped, sizeof(v4_mapped));
		width = 32;
	} else if (inet_pton(AF_INET6, word[0], node->rule.addr) == 1) {
		width = 128;
	} else if (!looks_like_name(word[0])) {
		return wrong(err, err_bytes, "\"%.60s\" is neither an IP address nor a host name", word[0]);
	} else if (slash) {
		return wrong(err, err_bytes, "a host name cannot have a prefix (\"/%.20s\")", slash);
	}
	node->is_name = !width;
	if (slash) {
		if (!number(slash, 0, width, &prefix))
			return wrong(err, err_bytes, "prefix \"%.20s\" is not a number from 0 to %u", slash,
				     width);
		node->rule.prefix = 128 - width + prefix;
		mask(node->rule.addr, node->rule.prefix);
	}
	return 1;
}

static bool port_range(char *word, struct ntbs_rule_port *port)
{
	char *dash = strchr(word, '-');
	unsigned first, last;

	if (!strcmp(word, "*")) {
		port->first = 0;
		port->last = 65535;
		return true;
	}
	if (dash)
		*dash++ = '\0';
	if (!number(word, 1, 65535, &first))
		return false;
	last = first;
	if (dash && !number(dash, first, 65535, &last))
		return false;
	port->first = (uint16_t)first;
	port->last = (uint16_t)last;
	return true;
}

int ntbs_conf_port_line(const char *line, size_t len_bytes, struct ntbs_rule_port *port, char *err,
			size_t err_bytes)
{
	char copy[NTBS_CONF_LINE_MAX + 1], *word[WORDS_MAX];
	int nr = split(line, len_bytes, copy, word, err, err_bytes);

	if (nr <= 0)
		return nr;
	memset(port, 0, sizeof(*port));
	if (strcmp(word[0], "allow") && strcmp(word[0], "deny"))
		return wrong(err, err_bytes, "\"%.40s\" is neither \"allow\" nor \"deny\"", word[0]);
	if (nr < 2 || nr > 3)
		return wrong(err, err_bytes, "expected allow|deny PORT[-PORT]|* [PROGRAM], found %d word%s%s",
			     nr, nr == 1 ? "" : "s", nr == WORDS_MAX ? " or more" : "");
	port->allow = word[0][0] == 'a';
	if (!port_range(word[1], port))
		return wrong(err, err_bytes,
			     "ports are a number from 1 to 65535, FIRST-LAST with FIRST <= LAST, or *");
	if (nr == 3) {
		if (strchr(word[2], '/'))
			return wrong(err, err_bytes, "program \"%.60s\" must be a base name, without \"/\"",
				     word[2]);
		if (strlen(word[2]) >= sizeof(port->program))
			return wrong(err, err_bytes, "program name is longer than %zu characters",
				     sizeof(port->program) - 1);
		strcpy(port->program, word[2]);
	}
	return 1;
}

static void walk(const char *text, size_t len, const struct ntbs_conf_sink *sink, bool nodes)
{
	unsigned line_nr = 1;

	for (size_t at = 0; at < len; line_nr++) {
		const char *line = text + at, *end = memchr(line, '\n', len - at);
		size_t bytes = end ? (size_t)(end - line) : len - at;
		struct ntbs_conf_node node;
		struct ntbs_rule_port port;
		char err[160];
		int ret;

		at += bytes + 1;
		ret = nodes ? ntbs_conf_node_line(line, bytes, &node, err, sizeof(err))
			    : ntbs_conf_port_line(line, bytes, &port, err, sizeof(err));
		if (ret < 0)
			sink->error(sink->arg, line_nr, err);
		else if (ret && nodes)
			sink->node(sink->arg, line_nr, &node);
		else if (ret)
			sink->port(sink->arg, line_nr, &port);
	}
}

void ntbs_conf_nodes(const char *text, size_t len_bytes, const struct ntbs_conf_sink *sink)
{
	walk(text, len_bytes, sink, true);
}

void ntbs_conf_ports(const char *text, size_t len_bytes, const struct ntbs_conf_sink *sink)
{
	walk(text, len_bytes, sink, false);
}
