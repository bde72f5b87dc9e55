// SPDX-License-Identifier: BSD-2-Clause
/*
 * main.c - ntbsock-ctl: a table of verbs, their help, and what they share (ctl.h)
 */
#include "ctl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct verb {
	const char *name, *alias;
	const char *args, *summary;
	int (*fn)(int argc, char **argv);
	const char *help;
} verbs[] = {
	{ "run", NULL, "[--broker-dir DIR] [--quiet] [--] CMD [ARG...]", "run a program over ntbsock",
	  ntbs_run_verb,
	  "Finds or starts a broker, preloads libntbsock.so and executes CMD in this very process: same\n"
	  "process id, signals and exit status.  Without a broker CMD runs all the same, on plain TCP.\n"
	  "\n"
	  "  --broker-dir DIR  run directory of the broker (default: NTBSOCK_RUN_DIR; /run/ntbsock if a\n"
	  "                    broker answers there; else one is started, in /run/ntbsock for root,\n"
	  "                    else in $XDG_RUNTIME_DIR/ntbsock or /tmp/ntbsock-UID)\n"
	  "  -q, --quiet       do not say which broker is used\n"
	  "\n"
	  "Exit status: that of CMD; 125 ntbsock-ctl failed, 126 CMD cannot be executed, 127 CMD not found.\n" },
	{ "status", NULL, "", "is there a broker, and how is it", ntbs_show_status,
	  "Which broker answers, where its files are, how many processes and rules it has.\n" },
	{ "connections", "conns", "[-p PID] [--port N] [--program NAME] [--peer ADDR[/LEN]] [--reason NAME]\n"
	  "                           [--ring|--tcp] [--brief]",
	  "one entry a connection: way, bytes, messages, sleeps", ntbs_conns_verb,
	  "Connections of your processes (root: of all), with the state of each direction, the reason why one\n"
	  "is not on the ring, and its counters.\n"
	  "\n"
	  "  -p, --pid PID     only connections of that process\n"
	  "      --port N      only connections with that port, local or remote\n"
	  "      --program NAME  only connections of programs of that name\n"
	  "      --peer ADDR[/LEN]  only connections with that address, or one of that network\n"
	  "      --reason NAME   only connections with that reason (as --json names it)\n"
	  "      --ring, --tcp   only connections with a direction on the ring; with none\n"
	  "  -b, --brief       one line a connection, no counters\n" },
	{ "stats", NULL, "[-p PID]", "counters added up, per process and over all", ntbs_show_stats,
	  "Counters of the connections that exist now, added up per process and over all, and how many\n"
	  "connections there are for each reason.  NTBSOCK_STATS=FILE gives the counters of a whole run.\n"
	  "\n"
	  "  -p, --pid PID     only that process\n" },
	{ "drain", NULL, "-p PID | --port N | --program NAME | --peer ADDR[/LEN] | --all [--timeout S]",
	  "move connections to plain TCP", ntbs_drain_verb,
	  "Connections of your processes (root: of all) leave the ring, in both directions, and go on over TCP\n"
	  "for as long as they live; no byte is lost.  New ones are not concerned: `port deny` is for them.\n"
	  "\n"
	  "  -p, --pid PID     connections of that process\n"
	  "      --port N      connections with that port, local or remote\n"
	  "      --program NAME  connections of programs of that name\n"
	  "      --peer ADDR[/LEN]  connections with that address, or one of that network\n"
	  "      --all         all; else at least one of the above, and only what all given ones say\n"
	  "      --timeout S   wait that long for the last to be on TCP (default 10; 0: do not wait)\n"
	  "\n"
	  "Exit status 1 if connections are left on the ring: they are listed.\n" },
	{ "node", NULL, "list | add ADDR ID | del ADDR | check", "edit nodes.conf: which addresses are which node",
	  ntbs_edit_node,
	  "  list              the entries, as the broker would read them\n"
	  "  add ADDR ID       address, network (10.0.0.0/24) or host name ADDR is reached through node ID\n"
	  "  del ADDR          remove the entries of ADDR\n"
	  "  check             name every wrong line; exit status 1 if there is one\n"
	  "\n"
	  "  --config-dir DIR  where the file is (default: NTBSOCK_CONFIG_DIR, else /etc/ntbsock)\n"
	  "  --no-reload       do not ask a running broker to read it again\n" },
	{ "port", NULL, "list | allow RANGE [PROG] | deny RANGE [PROG] | del N | check",
	  "edit ports.conf: which connections may leave TCP", ntbs_edit_port,
	  "  list                 the rules, numbered in the order in which they are tried\n"
	  "  allow RANGE [PROG]   connections to ports RANGE (80, 8000-8099) may be accelerated,\n"
	  "  deny RANGE [PROG]    or stay on TCP; with PROG only those of that program.  The first rule that\n"
	  "                       matches decides, none: allowed.  New rules go last, or:\n"
	  "  --at N               ... become rule number N\n"
	  "  del N                remove rule number N\n"
	  "  check                name every wrong line; exit status 1 if there is one\n"
	  "\n"
	  "  --config-dir DIR     where the file is (default: NTBSOCK_CONFIG_DIR, else /etc/ntbsock)\n"
	  "  --no-reload          do not ask a running broker to read it again\n" },
	{ "reload", NULL, "", "have the broker read its configuration again", ntbs_show_reload,
	  "Root, or the user that the broker runs as.  Wrong lines are named and left out (exit status 1).\n" },
	{ "ports", NULL, "", "bridges (NTB) of this host, and what each lacks to be used", ntbs_ports_verb,
	  "The NTB functions on the PCI bus: address, ids, driver, IOMMU group, NUMA node, BARs, and for each\n"
	  "what is missing to use it, with what to do.  Root sees more (interrupts).  Asks no broker.\n" },
	{ "bind", NULL, "ADDRESS [--force]", "give an NTB function to vfio-pci", ntbs_bind_verb,
	  "Takes the function from its driver (say, ntb_hw_intel), whose name is noted, and gives it to vfio-pci,\n"
	  "which must be loaded.  If that fails it gets its driver back.  Root only.  Asks no broker.\n"
	  "\n"
	  "      --force       also a function that is no NTB of a family that ntbsock drives\n" },
	{ "selftest", NULL, "ADDRESS [--wait S] [--window BYTES] [--dma ADDRESS] [--no-link-pull]",
	  "measure a bridge, with the other host's selftest", ntbs_selftest_verb,
	  "Opens the function through VFIO, meets the selftest of the other host, which must be run at the same\n"
	  "time, and prints memory type, windows, latency, bandwidth, doorbells and what became of a link that was\n"
	  "taken down; contents are checked on the way.  Nobody else can use the function meanwhile.\n"
	  "\n"
	  "      --wait S      for the other host, so many seconds (default 60)\n"
	  "      --window BYTES  use so much of the window at most (K, M; default 64M)\n"
	  "      --dma ADDRESS   measure this copy engine beside the CPU, too\n"
	  "      --no-link-pull  do not take the link down\n"
	  "\n"
	  "Exit status 1 if something failed; the report says what.\n" },
	{ "unbind", NULL, "ADDRESS [--force]", "undo bind: the function gets its former driver back", ntbs_unbind_verb,
	  "Refused while a process has the function open, which is named.  Root only.  Asks no broker.\n"
	  "\n"
	  "      --force       also a function that bind has not bound, or that is in use: the kernel then waits\n"
	  "                    until it is not\n" },
};
#define NR_VERBS (sizeof(verbs) / sizeof(verbs[0]))

void ntbs_ctl_say(const char *fmt, ...)
{
	va_list ap;

	fputs("ntbsock-ctl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int ntbs_ctl_usage(const char *verb, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "ntbsock-ctl%s%s: ", verb ? " " : "", verb ? verb : "");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, " (see: ntbsock-ctl help%s%s)\n", verb ? " " : "", verb ? verb : "");
	return NTBS_CTL_USAGE;
}

int ntbs_ctl_option(struct ntbs_ctl_opts *opts, int c, char **argv)
{
	switch (c) {
	case NTBS_OPT_BROKER_DIR:
		opts->broker_dir = optarg;
		return 0;
	case NTBS_OPT_JSON:
		opts->json = true;
		return 0;
	case NTBS_OPT_HELP:
		opts->help = true;
		return 0;
	case ':':
		return ntbs_ctl_usage(opts->verb, "option '%s' needs a value", argv[optind - 1]);
	default:
		if (optopt > 0 && optopt < 256)
			return ntbs_ctl_usage(opts->verb, "unknown option '-%c'", optopt);
		if (optopt)
			return ntbs_ctl_usage(opts->verb, "option '%s' takes no value", argv[optind - 1]);
		return ntbs_ctl_usage(opts->verb, "unknown option '%s'", argv[optind - 1]);
	}
}

int ntbs_ctl_print_json(json_t *root, int code)
{
	int err = !root || json_dumpf(root, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);

	json_decref(root);
	putchar('\n');
	if (!err && !ferror(stdout))
		return code;
	ntbs_ctl_say("cannot write the result: %s", root ? strerror(errno) : "no memory");
	return NTBS_CTL_FAILED;
}

const char *ntbs_ctl_printable(char *dst, size_t dst_bytes, const char *src, size_t len)
{
	size_t i;

	for (i = 0; i < len && i + 1 < dst_bytes && src[i]; i++)
		dst[i] = src[i] >= ' ' && src[i] <= '~' ? src[i] : '?';
	dst[i] = '\0';
	return dst;
}

int ntbs_ctl_number(const char *s, uint64_t max, uint64_t *value)
{
	unsigned long long v;
	char *end;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno || *end || v > max)
		return -EINVAL;
	*value = v;
	return 0;
}

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < NR_VERBS; i++) {
		if (!strcmp(name, verbs[i].name) || (verbs[i].alias && !strcmp(name, verbs[i].alias)))
			return &verbs[i];
	}
	return NULL;
}

/* Edit distance, for "did you mean"; words are short, longer ones are not worth a guess. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[32];
	size_t la = strlen(a), lb = strlen(b);

	if (la > 31 || lb > 30)
		return 99;
	for (size_t j = 0; j <= lb; j++)
		row[j] = j;
	for (size_t i = 1; i <= la; i++) {
		unsigned diag = row[0];

		row[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned best = diag + (a[i - 1] != b[j - 1]);

			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			diag = row[j];
			row[j] = best;
		}
	}
	return row[lb];
}

static int unknown_verb(const char *name)
{
	const char *near = NULL;
	unsigned best = 3;

	for (size_t i = 0; i < NR_VERBS; i++) {
		unsigned d = strlen(name) >= 3 && !strncmp(name, verbs[i].name, strlen(name)) ?
				     0 : distance(name, verbs[i].name);

		if (d < best) {
			best = d;
			near = verbs[i].name;
		}
	}
	if (near)
		return ntbs_ctl_usage(NULL, "unknown verb '%s'; did you mean '%s'?", name, near);
	return ntbs_ctl_usage(NULL, "unknown verb '%s'; to start a program: ntbsock-ctl run -- %s", name, name);
}

/* What concerns bridges comes before there is a broker that uses one. */
static bool asks_broker(const struct verb *v)
{
	return v->fn != ntbs_ports_verb && v->fn != ntbs_bind_verb && v->fn != ntbs_unbind_verb &&
	       v->fn != ntbs_selftest_verb;
}

int ntbs_ctl_help(const char *name)
{
	const struct verb *v = name ? find_verb(name) : NULL;

	if (name && !v)
		return unknown_verb(name);
	if (v) {
		printf("usage: ntbsock-ctl %s %s\n\n%s%s%s\n%s", v->name, v->args, v->summary,
		       v->alias ? ".  Short: " : "", v->alias ? v->alias : "", v->help);
		if (v->fn != ntbs_run_verb)
			printf("\n%s  --json            print JSON\n",
			       asks_broker(v) ? "  --broker-dir DIR  ask the broker of that run directory\n" : "");
		return NTBS_CTL_OK;
	}
	printf("usage: ntbsock-ctl VERB [OPTION...] [ARG...]\n\n");
	for (size_t i = 0; i < NR_VERBS; i++)
		printf("  %-12s %s\n", verbs[i].name, verbs[i].summary);
	printf("  %-12s %s\n", "help VERB", "options and exit status of a verb");
	printf("\nExit status: 0 done, 1 failed, 2 wrong usage, 3 no broker answers.  Manual: ntbsock-ctl(8).\n");
	return NTBS_CTL_OK;
}

int main(int argc, char **argv)
{
	const struct verb *v;
	int code;

	if (argc < 2)
		return ntbs_ctl_usage(NULL, "what shall I do?  A verb is missing");
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		printf("ntbsock-ctl %s\n", NTBS_VERSION);
		code = NTBS_CTL_OK;
	} else if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		code = ntbs_ctl_help(argc > 2 ? argv[2] : NULL);
	} else if (argv[1][0] == '-') {
		return ntbs_ctl_usage(NULL, "unknown option '%s'; options follow the verb", argv[1]);
	} else {
		v = find_verb(argv[1]);
		if (!v)
			return unknown_verb(argv[1]);
		opterr = 0;
		code = v->fn(argc - 1, argv + 1);
	}
	if (fflush(stdout) && code == NTBS_CTL_OK) {
		ntbs_ctl_say("cannot write to standard output: %s", strerror(errno));
		code = NTBS_CTL_FAILED;
	}
	return code;
}
