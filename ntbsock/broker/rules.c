// SPDX-License-Identifier: BSD-2-Clause
/* rules.c - see rules.h */
#include "rules.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "conf_file.h"
#include "log.h"
#include "memory.h"

#define ERRORS_SHOWN 100u

struct loading {
	const char *dir, *file;
	struct ntbs_rules_shm *fresh;
	struct ntbs_load *load;
};

static void on_error(void *arg, unsigned line_nr, const char *what)
{
	struct loading *l = arg;
	char where[16] = "";

	if (line_nr)
		snprintf(where, sizeof(where), ":%u", line_nr);
	if (!l->load->errors++)
		snprintf(l->load->first_error, sizeof(l->load->first_error), "%s%s: %s", l->file, where, what);
	/* Not by ntbs_log(), which holds lines back: each is for somebody to correct. */
	if (l->load->errors <= ERRORS_SHOWN)
		fprintf(stderr, "%s: %s/%s%s: %s; left out\n", ntbs_log_name, l->dir, l->file, where, what);
	else if (l->load->errors == ERRORS_SHOWN + 1)
		fprintf(stderr, "%s: more than %u errors; the others are not shown\n", ntbs_log_name,
			ERRORS_SHOWN);
}

static bool add_node(struct loading *l, unsigned line_nr, const struct ntbs_rule_node *rule)
{
	char what[80];

	if (l->fresh->nr_nodes == NTBS_RULES_NODES) {
		snprintf(what, sizeof(what), "more than %u addresses", NTBS_RULES_NODES);
		on_error(l, line_nr, what);
		return false;
	}
	l->fresh->node[l->fresh->nr_nodes++] = *rule;
	return true;
}

static void on_node(void *arg, unsigned line_nr, const struct ntbs_conf_node *node)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct ntbs_rule_node rule = node->rule;
	struct addrinfo *list;
	char what[NTBS_CONF_HOST_MAX + 100];
	int ret;

	if (!node->is_name) {
		add_node(arg, line_nr, &rule);
		return;
	}
	ret = getaddrinfo(node->host, NULL, &hints, &list);
	if (ret) {
		snprintf(what, sizeof(what), "cannot resolve \"%s\": %s", node->host, gai_strerror(ret));
		on_error(arg, line_nr, what);
		return;
	}
	for (struct addrinfo *ai = list; ai; ai = ai->ai_next) {
		if (ai->ai_family == AF_INET) {
			memset(rule.addr, 0, 10);
			memset(rule.addr + 10, 0xff, 2);
			memcpy(rule.addr + 12, &((struct sockaddr_in *)ai->ai_addr)->sin_addr, 4);
		} else if (ai->ai_family == AF_INET6) {
			memcpy(rule.addr, &((struct sockaddr_in6 *)ai->ai_addr)->sin6_addr, 16);
		} else {
			continue;
		}
		if (!add_node(arg, line_nr, &rule))
			break;
	}
	freeaddrinfo(list);
}

static void on_port(void *arg, unsigned line_nr, const struct ntbs_rule_port *port)
{
	struct loading *l = arg;
	char what[80];

	if (l->fresh->nr_ports == NTBS_RULES_PORTS) {
		snprintf(what, sizeof(what), "more than %u rules", NTBS_RULES_PORTS);
		on_error(l, line_nr, what);
		return;
	}
	l->fresh->port[l->fresh->nr_ports++] = *port;
}

/* Return: malloc'ed text, NULL if there is no file or it cannot be read (reported). */
static char *read_file(struct loading *l, size_t *len)
{
	char path[PATH_MAX], *text = NULL;
	const char *what = NULL;
	struct stat st;
	int fd;

	*len = 0;
	snprintf(path, sizeof(path), "%s/%s", l->dir, l->file);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); /* a FIFO must not stop us */
	if (fd < 0) {
		if (errno != ENOENT)
			on_error(l, 0, strerror(errno));
		return NULL;
	}
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		what = "not a regular file";
	} else if (!(text = malloc(NTBS_CONF_FILE_MAX + 1))) {
		what = "out of memory";
	} else {
		ssize_t n;

		while ((n = read(fd, text + *len, NTBS_CONF_FILE_MAX + 1 - *len)) > 0)
			*len += (size_t)n;
		if (n < 0)
			what = strerror(errno);
		else if (*len > NTBS_CONF_FILE_MAX)
			what = "larger than 1 MiB";
	}
	close(fd);
	if (!what)
		return text;
	on_error(l, 0, what);
	free(text);
	return NULL;
}

void ntbs_rules_load(const char *config_dir, bool has_cable, struct ntbs_load *load)
{
	static struct ntbs_rules_shm fresh;
	struct loading l = { .dir = config_dir, .fresh = &fresh, .load = load };
	const struct ntbs_conf_sink sink = { .node = on_node, .port = on_port, .error = on_error, .arg = &l };
	size_t len;
	char *text;

	memset(load, 0, sizeof(*load));
	memset(&fresh, 0, sizeof(fresh));
	fresh.local_only_same_netns = !has_cable;
	l.file = "nodes.conf";
	text = read_file(&l, &len);
	if (text)
		ntbs_conf_nodes(text, len, &sink);
	free(text);
	l.file = "ports.conf";
	text = read_file(&l, &len);
	if (text)
		ntbs_conf_ports(text, len, &sink);
	free(text);
	ntbs_rules_publish(&fresh);
	ntbs_log(NTBS_LOG_INFO, "%s: %u addresses of nodes, %u port rules, %u errors", config_dir,
		 fresh.nr_nodes, fresh.nr_ports, load->errors);
}
