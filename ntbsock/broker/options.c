// SPDX-License-Identifier: BSD-2-Clause
/* options.c - see options.h */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "broker.h"
#include "log.h"

#define IDLE_SECONDS 3

struct ntbs_options ntbs_options = { .ready_fd = -1, .idle_ms = IDLE_SECONDS * 1000 };

static const char usage[] =
	"Usage: ntbsockd [OPTION]...\n"
	"Broker of ntbsock: introduces the processes of this host, or of two, to each other.\n"
	"\n"
	"  --run-dir DIR       where broker.sock is (default: $NTBSOCK_RUN_DIR, else /run/ntbsock for root,\n"
	"                      else $XDG_RUNTIME_DIR/ntbsock, else /tmp/ntbsock-UID)\n"
	"  --config-dir DIR    where nodes.conf and ports.conf are (default: $NTBSOCK_CONFIG_DIR, else "
	"/etc/ntbsock)\n"
	"  --node ID           node id of this host, 1 to 255\n"
	"  --cable SOCKET      joined to the broker of another, emulated, host there; needs --node\n"
	"  --port PORT         joined to the broker of another host through a bridge; needs --node.  The address of a PCI\n"
	"                      function (ntbsock-ctl ports)[,arena=MIB][,silence=MS][,bell=broker]; or an emulated one,\n"
	"                      emu:PATH[,arena=MIB][,delay=US]; or loop[,...], which leads back to this host\n"
	"  --dma ENGINE        LONG messages go through the port by a copy engine: the address of an I/OAT function bound\n"
	"                      to vfio-pci, or emu[,delay=US][,halt=N]; either with ,min=BYTES (default 64K)\n"
	"  --private           end by itself when idle; not an error if a broker runs already\n"
	"  --idle-seconds N    with --private: idle for so long (default 3)\n"
	"  --ready-fd N        write a newline to this descriptor, and close it, once clients can connect\n"
	"  --log-level LEVEL   error, warning (default), info or debug\n"
	"  --version           print the version and exit\n"
	"  --help              print this and exit\n";

/* A mistake of the caller: said whole, then exit 2, as getopt's own. */
static void __attribute__((format(printf, 1, 2), noreturn)) bad_usage(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "ntbsockd: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nTry 'ntbsockd --help'.\n");
	exit(2);
}

static unsigned long number(const char *option, const char *text, unsigned long from, unsigned long to)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || v < from || v > to)
		bad_usage("%s \"%s\" is not a number from %lu to %lu", option, text, from, to);
	return v;
}

static int log_level(const char *text)
{
	static const struct {
		const char *name;
		int level;
	} names[] = {
		{ "error", NTBS_LOG_ERR },
		{ "warning", NTBS_LOG_WARN },
		{ "info", NTBS_LOG_INFO },
		{ "debug", NTBS_LOG_DEBUG },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(text, names[i].name))
			return names[i].level;
	}
	if (text[0] >= '0' && text[0] <= '7' && !text[1])
		return text[0] - '0';
	bad_usage("--log-level \"%s\" is none of error, warning, info, debug", text);
}

static const char *not_empty(const char *env)
{
	const char *value = getenv(env);

	return value && *value ? value : NULL;
}

static const char *default_run_dir(void)
{
	static char path[256];
	const char *runtime = not_empty("XDG_RUNTIME_DIR");

	if (not_empty("NTBSOCK_RUN_DIR"))
		return getenv("NTBSOCK_RUN_DIR");
	if (!geteuid())
		return "/run/ntbsock";
	if (runtime)
		snprintf(path, sizeof(path), "%s/ntbsock", runtime);
	else
		snprintf(path, sizeof(path), "/tmp/ntbsock-%u", geteuid());
	return path;
}

void ntbs_options_parse(int argc, char **argv)
{
	enum { RUN_DIR = 1, CONFIG_DIR, NODE, CABLE, PORT, DMA, PRIVATE, IDLE, READY_FD, LEVEL, VERSION, HELP };
	static const struct option options[] = {
		{ "run-dir", required_argument, NULL, RUN_DIR },
		{ "config-dir", required_argument, NULL, CONFIG_DIR },
		{ "node", required_argument, NULL, NODE },
		{ "cable", required_argument, NULL, CABLE },
		{ "port", required_argument, NULL, PORT },
		{ "dma", required_argument, NULL, DMA },
		{ "private", no_argument, NULL, PRIVATE },
		{ "idle-seconds", required_argument, NULL, IDLE },
		{ "ready-fd", required_argument, NULL, READY_FD },
		{ "log-level", required_argument, NULL, LEVEL },
		{ "version", no_argument, NULL, VERSION },
		{ "help", no_argument, NULL, HELP },
		{ 0 },
	};
	bool loop;
	int option;

	ntbs_broker.run_dir = default_run_dir();
	ntbs_broker.config_dir = not_empty("NTBSOCK_CONFIG_DIR");
	if (!ntbs_broker.config_dir)
		ntbs_broker.config_dir = "/etc/ntbsock";
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case RUN_DIR:
			ntbs_broker.run_dir = optarg;
			break;
		case CONFIG_DIR:
			ntbs_broker.config_dir = optarg;
			break;
		case NODE:
			ntbs_broker.node = (uint32_t)number("--node", optarg, 1, 255);
			break;
		case CABLE:
			ntbs_options.cable_path = optarg;
			break;
		case PORT:
			ntbs_options.port = optarg;
			break;
		case DMA:
			ntbs_options.dma = optarg;
			break;
		case PRIVATE:
			ntbs_broker.is_private = true;
			break;
		case IDLE:
			ntbs_options.idle_ms = number("--idle-seconds", optarg, 1, 1000000) * 1000;
			break;
		case READY_FD:
			ntbs_options.ready_fd = (int)number("--ready-fd", optarg, 0, 1000000);
			break;
		case LEVEL:
			ntbs_log_level = log_level(optarg);
			break;
		case VERSION:
			puts("ntbsockd " NTBS_VERSION);
			exit(0);
		case HELP:
			fputs(usage, stdout);
			exit(0);
		default: /* getopt has named it */
			fprintf(stderr, "Try 'ntbsockd --help'.\n");
			exit(2);
		}
	}
	if (optind < argc)
		bad_usage("unexpected argument \"%s\"", argv[optind]);
	if (ntbs_options.cable_path && !ntbs_broker.node)
		bad_usage("--cable needs --node, with another id on each of the two hosts");
	loop = ntbs_options.port && !strncmp(ntbs_options.port, "loop", 4);
	if (ntbs_options.port && !loop && !ntbs_broker.node)
		bad_usage("--port needs --node, with another id on each of the two hosts");
	if (ntbs_options.port && ntbs_options.cable_path)
		bad_usage("--port and --cable exclude each other");
	if (ntbs_options.dma && !ntbs_options.port)
		bad_usage("--dma needs --port");
	ntbs_broker.has_cable = ntbs_options.cable_path || (ntbs_options.port && !loop);
	ntbs_broker.has_port = ntbs_options.port;
}
