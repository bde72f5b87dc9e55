// SPDX-License-Identifier: BSD-2-Clause
/*
 * edit.c - `node` and `port`: list, change and check nodes.conf and ports.conf
 *
 * What is added goes through the parser that the broker uses, so a line that it would refuse is never written.
 * Lines that are wrong already are named and left as they are.
 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/socket.h>

#include "ask.h"
#include "broker/conf_file.h"
#include "conf_text.h"

enum { OPT_CONFIG_DIR = NTBS_OPT_OWN, OPT_NO_RELOAD, OPT_AT };

struct entry {
	unsigned line;
	struct ntbs_conf_node node;
	struct ntbs_rule_port port;
};

struct edit {
	struct ntbs_ctl_opts opts;
	const char *config_dir;
	bool no_reload;
	uint64_t at;		/* --at, 0 at the end */
	bool nodes;		/* nodes.conf, else ports.conf */
	char **arg;
	int nr_args;
	struct ntbs_conf_text conf;
	struct entry *entry;
	unsigned nr, errors;
	json_t *json_errors;
	int err;		/* -ENOMEM */
};

/* ------------------------------------------------------------ reading the file */

static struct entry *new_entry(struct edit *ed, unsigned line)
{
	struct entry *grown = realloc(ed->entry, (ed->nr + 1) * sizeof(*grown));

	if (!grown) {
		ed->err = -ENOMEM;
		return NULL;
	}
	ed->entry = grown;
	grown[ed->nr].line = line;
	return &grown[ed->nr++];
}

static void take_node(void *arg, unsigned line, const struct ntbs_conf_node *node)
{
	struct entry *e = new_entry(arg, line);

	if (e)
		e->node = *node;
}

static void take_port(void *arg, unsigned line, const struct ntbs_rule_port *port)
{
	struct entry *e = new_entry(arg, line);

	if (e)
		e->port = *port;
}

static void take_error(void *arg, unsigned line, const char *what)
{
	struct edit *ed = arg;
	char text[512]; /* what is quoted from the file can be any bytes */

	ntbs_ctl_printable(text, sizeof(text), what, strlen(what));
	ed->errors++;
	json_array_append_new(ed->json_errors, json_pack("{s:i,s:s}", "line", (int)line, "error", text));
	fprintf(stderr, "%s:%u: %s\n", ed->conf.path, line, text);
}

static int open_conf(struct edit *ed, bool edit)
{
	struct ntbs_conf_sink sink = { .node = take_node, .port = take_port, .error = take_error, .arg = ed };
	unsigned max = ed->nodes ? NTBS_RULES_NODES : NTBS_RULES_PORTS;
	int err = ntbs_conf_text_open(&ed->conf, ed->config_dir, ed->nodes ? "nodes.conf" : "ports.conf", edit);

	if (err)
		return err;
	if (ed->nodes)
		ntbs_conf_nodes(ed->conf.text, ed->conf.len, &sink);
	else
		ntbs_conf_ports(ed->conf.text, ed->conf.len, &sink);
	for (unsigned i = max; i < ed->nr; i++)
		take_error(ed, ed->entry[i].line, "there are too many entries; this one is not used");
	if (ed->err)
		ntbs_ctl_say("no memory");
	return ed->err;
}

/* ------------------------------------------------------------------- the broker */

/* Ask a broker that reads this very directory to read it again. */
static int reload(const struct edit *ed)
{
	struct ntbs_msg_status status;
	struct ntbs_msg_reload reply;
	struct stat ours, theirs;
	struct ntbs_ask ask;
	int err;

	if (ed->no_reload || ntbs_ask_find(&ask, ed->opts.broker_dir, false))
		return NTBS_CTL_OK; /* it will read the file when it starts */
	err = ntbs_ask_status(&ask, &status);
	if (!err && (stat(ed->conf.dir, &ours) || stat(status.config_dir, &theirs) ||
		     ours.st_dev != theirs.st_dev || ours.st_ino != theirs.st_ino)) {
		ntbs_ctl_say("%s is written, but the broker in %s reads %s", ed->conf.path, ask.dir,
			     status.config_dir);
		ntbs_ask_close(&ask);
		return NTBS_CTL_OK;
	}
	if (!err)
		err = ntbs_ask_reload(&ask, &reply);
	ntbs_ask_close(&ask);
	if (err) {
		ntbs_ctl_say("%s is written, but the broker has not read it again", ed->conf.path);
		return NTBS_CTL_FAILED;
	}
	if (!strncmp(reply.first_error, "not permitted", 13)) {
		ntbs_ctl_say("%s is written, but the broker has not read it again: %s", ed->conf.path, reply.first_error);
		return NTBS_CTL_FAILED;
	}
	if (reply.errors)
		ntbs_ctl_say("the broker has left out %u wrong line(s): %s", reply.errors, reply.first_error);
	return NTBS_CTL_OK;
}

static int write_conf(struct edit *ed)
{
	if (ntbs_conf_text_write(&ed->conf))
		return NTBS_CTL_FAILED;
	return reload(ed);
}

/* -------------------------------------------------------------------- listing */

static int shown_prefix(const struct ntbs_conf_node *n, bool *whole)
{
	bool v4 = !n->is_name && !strchr(n->host, ':');

	*whole = n->is_name || n->rule.prefix == 128;
	return v4 ? (int)n->rule.prefix - 96 : (int)n->rule.prefix;
}

static int list(struct edit *ed)
{
	json_t *rows = json_array(), *row;
	char path[PATH_MAX], program[sizeof(ed->entry->port.program) + 1];

	for (unsigned i = 0; i < ed->nr; i++) {
		const struct ntbs_conf_node *n = &ed->entry[i].node;
		const struct ntbs_rule_port *p = &ed->entry[i].port;
		bool whole;
		int prefix;

		if (ed->nodes) {
			prefix = shown_prefix(n, &whole);
			row = json_pack("{s:i,s:s,s:o,s:i}", "line", (int)ed->entry[i].line, "address", n->host,
					"prefix", whole ? json_null() : json_integer(prefix), "node",
					(int)n->rule.node);
			if (!ed->opts.json && whole)
				printf("%-40s %u\n", n->host, n->rule.node);
			else if (!ed->opts.json)
				printf("%s/%-*d %u\n", n->host, 39 - (int)strlen(n->host), prefix, n->rule.node);
		} else {
			ntbs_ctl_printable(program, sizeof(program), p->program, sizeof(p->program));
			row = json_pack("{s:i,s:i,s:s,s:i,s:i,s:s}", "number", (int)i + 1, "line",
					(int)ed->entry[i].line, "action", p->allow ? "allow" : "deny", "first",
					p->first, "last", p->last, "program", program);
			if (!ed->opts.json && p->first == p->last)
				printf("%3u  %-5s  %-11u  %s\n", i + 1, p->allow ? "allow" : "deny", p->first,
				       program);
			else if (!ed->opts.json)
				printf("%3u  %-5s  %5u-%-5u  %s\n", i + 1, p->allow ? "allow" : "deny", p->first,
				       p->last, program);
		}
		json_array_append_new(rows, row);
	}
	if (!ed->opts.json) {
		json_decref(rows);
		return NTBS_CTL_OK;
	}
	ntbs_ctl_printable(path, sizeof(path), ed->conf.path, sizeof(ed->conf.path));
	return ntbs_ctl_print_json(json_pack("{s:s,s:o,s:O}", "file", path, ed->nodes ? "nodes" : "rules",
					     rows, "errors", ed->json_errors),
				   NTBS_CTL_OK);
}

/* The parser's mistakes have been named while reading; a name that has no address is one, too. */
static int check(struct edit *ed)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;

	char path[PATH_MAX];

	for (unsigned i = 0; i < ed->nr && ed->nodes; i++) {
		char what[NTBS_CONF_HOST_MAX + 128];
		int err;

		if (!ed->entry[i].node.is_name)
			continue;
		err = getaddrinfo(ed->entry[i].node.host, NULL, &hints, &found);
		if (!err) {
			freeaddrinfo(found);
			continue;
		}
		snprintf(what, sizeof(what), "host name \"%s\" has no address: %s", ed->entry[i].node.host,
			 gai_strerror(err));
		take_error(ed, ed->entry[i].line, what);
	}
	ntbs_ctl_printable(path, sizeof(path), ed->conf.path, sizeof(ed->conf.path));
	if (ed->opts.json)
		return ntbs_ctl_print_json(json_pack("{s:s,s:i,s:O}", "file", path, "entries", (int)ed->nr,
						     "errors", ed->json_errors),
					   ed->errors ? NTBS_CTL_FAILED : NTBS_CTL_OK);
	printf("%s: %u entries, %u wrong lines\n", ed->conf.path, ed->nr, ed->errors);
	return ed->errors ? NTBS_CTL_FAILED : NTBS_CTL_OK;
}

/* -------------------------------------------------------------------- changing */

/* Words become a line; a comment sign or a blank inside one would make it another line than was meant. */
static int join(const struct edit *ed, char *line, size_t bytes, const char *a, const char *b, const char *c)
{
	const char *word[] = { a, b, c };

	for (int i = 0; i < 3; i++) {
		if (word[i] && (!*word[i] || strpbrk(word[i], "# \t\r\n\v\f")))
			return ntbs_ctl_usage(ed->opts.verb, "'%s' is not one word", word[i]);
	}
	if ((size_t)snprintf(line, bytes, "%s %s%s%s", a, b, c ? " " : "", c ? c : "") >= bytes)
		return ntbs_ctl_usage(ed->opts.verb, "'%.40s...' is too long", a);
	return 0;
}

static bool same_address(const struct ntbs_conf_node *a, const struct ntbs_conf_node *b)
{
	if (a->is_name || b->is_name)
		return a->is_name == b->is_name && !strcasecmp(a->host, b->host);
	return a->rule.prefix == b->rule.prefix && !memcmp(a->rule.addr, b->rule.addr, sizeof(a->rule.addr));
}

static int node_add(struct edit *ed)
{
	char line[NTBS_CONF_LINE_MAX], err[256];
	struct ntbs_conf_node node;

	if (join(ed, line, sizeof(line), ed->arg[0], ed->arg[1], NULL))
		return NTBS_CTL_USAGE;
	if (ntbs_conf_node_line(line, strlen(line), &node, err, sizeof(err)) != 1)
		return ntbs_ctl_usage(ed->opts.verb, "%s", err);
	if (open_conf(ed, true))
		return NTBS_CTL_FAILED;
	for (unsigned i = 0; i < ed->nr; i++) {
		if (!same_address(&ed->entry[i].node, &node))
			continue;
		if (ed->entry[i].node.rule.node == node.rule.node)
			return NTBS_CTL_OK;
		ntbs_ctl_say("%s:%u: %s is node %u already; to change it: ntbsock-ctl node del %s, then add it again",
			     ed->conf.path, ed->entry[i].line, ed->arg[0], ed->entry[i].node.rule.node, ed->arg[0]);
		return NTBS_CTL_FAILED;
	}
	if (ed->nr >= NTBS_RULES_NODES) {
		ntbs_ctl_say("%s is full: %u entries", ed->conf.path, NTBS_RULES_NODES);
		return NTBS_CTL_FAILED;
	}
	if (ntbs_conf_text_insert(&ed->conf, 0, line)) {
		ntbs_ctl_say("no memory");
		return NTBS_CTL_FAILED;
	}
	return write_conf(ed);
}

static int node_del(struct edit *ed)
{
	char line[NTBS_CONF_LINE_MAX], err[256];
	struct ntbs_conf_node node;
	unsigned gone = 0;

	if (join(ed, line, sizeof(line), ed->arg[0], "1", NULL))
		return NTBS_CTL_USAGE;
	if (ntbs_conf_node_line(line, strlen(line), &node, err, sizeof(err)) != 1)
		return ntbs_ctl_usage(ed->opts.verb, "%s", err);
	if (open_conf(ed, true))
		return NTBS_CTL_FAILED;
	for (unsigned i = ed->nr; i-- > 0;) { /* from the end, so that the line numbers before stay right */
		if (!same_address(&ed->entry[i].node, &node))
			continue;
		ntbs_conf_text_remove(&ed->conf, ed->entry[i].line);
		gone++;
	}
	if (!gone) {
		ntbs_ctl_say("%s has no entry for %s", ed->conf.path, ed->arg[0]);
		return NTBS_CTL_FAILED;
	}
	return write_conf(ed);
}

static int port_add(struct edit *ed, const char *action)
{
	char line[NTBS_CONF_LINE_MAX], err[256];
	struct ntbs_rule_port port;
	unsigned before = 0;

	if (join(ed, line, sizeof(line), action, ed->arg[0], ed->nr_args > 1 ? ed->arg[1] : NULL))
		return NTBS_CTL_USAGE;
	if (ntbs_conf_port_line(line, strlen(line), &port, err, sizeof(err)) != 1)
		return ntbs_ctl_usage(ed->opts.verb, "%s", err);
	if (open_conf(ed, true))
		return NTBS_CTL_FAILED;
	if (ed->nr >= NTBS_RULES_PORTS) {
		ntbs_ctl_say("%s is full: %u rules", ed->conf.path, NTBS_RULES_PORTS);
		return NTBS_CTL_FAILED;
	}
	if (ed->at > ed->nr + 1u) {
		ntbs_ctl_say("%s has %u rules, so a new one is number %u at most", ed->conf.path, ed->nr, ed->nr + 1);
		return NTBS_CTL_FAILED;
	}
	if (ed->at && ed->at <= ed->nr)
		before = ed->entry[ed->at - 1].line;
	if (ntbs_conf_text_insert(&ed->conf, before, line)) {
		ntbs_ctl_say("no memory");
		return NTBS_CTL_FAILED;
	}
	return write_conf(ed);
}

static int port_allow(struct edit *ed)
{
	return port_add(ed, "allow");
}

static int port_deny(struct edit *ed)
{
	return port_add(ed, "deny");
}

static int port_del(struct edit *ed)
{
	uint64_t nr;

	if (ntbs_ctl_number(ed->arg[0], NTBS_CONF_FILE_MAX, &nr) || !nr)
		return ntbs_ctl_usage(ed->opts.verb, "'%s' is no number of a rule as `port list` shows it", ed->arg[0]);
	if (open_conf(ed, true))
		return NTBS_CTL_FAILED;
	if (nr > ed->nr) {
		ntbs_ctl_say("%s has no rule number %s: there are %u", ed->conf.path, ed->arg[0], ed->nr);
		return NTBS_CTL_FAILED;
	}
	ntbs_conf_text_remove(&ed->conf, ed->entry[nr - 1].line);
	return write_conf(ed);
}

/* -------------------------------------------------------------------- the verbs */

static const struct sub {
	const char *name, *args;
	bool nodes, look; /* look: only reads */
	int min, max;	  /* arguments */
	int (*fn)(struct edit *ed);
} subs[] = {
	{ "list", "", true, true, 0, 0, list },
	{ "add", " ADDR ID", true, false, 2, 2, node_add },
	{ "del", " ADDR", true, false, 1, 1, node_del },
	{ "check", "", true, true, 0, 0, check },
	{ "list", "", false, true, 0, 0, list },
	{ "allow", " RANGE [PROG]", false, false, 1, 2, port_allow },
	{ "deny", " RANGE [PROG]", false, false, 1, 2, port_deny },
	{ "del", " N", false, false, 1, 1, port_del },
	{ "check", "", false, true, 0, 0, check },
};

static int edit_verb(const char *verb, bool nodes, int argc, char **argv)
{
	static const struct option options[] = {
		NTBS_CTL_OPTIONS,
		{ "config-dir", required_argument, NULL, OPT_CONFIG_DIR },
		{ "no-reload", no_argument, NULL, OPT_NO_RELOAD },
		{ "at", required_argument, NULL, OPT_AT },
		{ 0 },
	};
	struct edit ed = { .opts.verb = verb, .nodes = nodes, .conf.dir_fd = -1 };
	const struct sub *sub = NULL;
	int c, code;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (c == OPT_CONFIG_DIR)
			ed.config_dir = optarg;
		else if (c == OPT_NO_RELOAD)
			ed.no_reload = true;
		else if (c == OPT_AT && !nodes) {
			if (ntbs_ctl_number(optarg, NTBS_RULES_PORTS, &ed.at) || !ed.at)
				return ntbs_ctl_usage(verb, "--at takes the number of a rule, not '%s'", optarg);
		} else if (c == OPT_AT)
			return ntbs_ctl_usage(verb, "--at is for port rules; the order of nodes means nothing");
		else if (ntbs_ctl_option(&ed.opts, c, argv))
			return NTBS_CTL_USAGE;
	}
	if (ed.opts.help)
		return ntbs_ctl_help(verb);
	if (optind == argc)
		return ntbs_ctl_usage(verb, "%s", nodes ? "list, add, del or check?" : "list, allow, deny, del or check?");
	for (size_t i = 0; i < sizeof(subs) / sizeof(subs[0]); i++) {
		if (subs[i].nodes == nodes && !strcmp(argv[optind], subs[i].name))
			sub = &subs[i];
	}
	if (!sub)
		return ntbs_ctl_usage(verb, "unknown action '%s'; there are %s", argv[optind],
				      nodes ? "list, add, del and check" : "list, allow, deny, del and check");
	ed.arg = argv + optind + 1;
	ed.nr_args = argc - optind - 1;
	if (ed.nr_args < sub->min || ed.nr_args > sub->max)
		return ntbs_ctl_usage(verb, "so it goes: ntbsock-ctl %s %s%s", verb, sub->name, sub->args);
	if (ed.at && sub->fn != port_allow && sub->fn != port_deny)
		return ntbs_ctl_usage(verb, "--at goes with allow and deny");
	if (ed.opts.json && !sub->look)
		return ntbs_ctl_usage(verb, "--json goes with list and check");

	ed.json_errors = json_array();
	code = sub->look && open_conf(&ed, false) ? NTBS_CTL_FAILED : sub->fn(&ed);
	json_decref(ed.json_errors);
	ntbs_conf_text_close(&ed.conf);
	free(ed.entry);
	return code;
}

int ntbs_edit_node(int argc, char **argv)
{
	return edit_verb("node", true, argc, argv);
}

int ntbs_edit_port(int argc, char **argv)
{
	return edit_verb("port", false, argc, argv);
}
