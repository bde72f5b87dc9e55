// SPDX-License-Identifier: BSD-2-Clause
/*
 * pingpong_opts.c - the command line
 *
 * What is wrong is named, with the option it was given to, and nothing is run.
 */
#include "pingpong.h"

#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_PORT 5470

static const char usage_text[] =
	"Usage: pingpong server [-p PORT | -u PATH] [OPTION...]\n"
	"       pingpong client HOST|-u PATH [-p PORT] [TEST] [OPTION...]\n"
	"       pingpong both [-u PATH] [TEST] [OPTION...]\n"
	"Measure stream sockets: TCP, or AF_UNIX with -u.  \"both\" starts its own server.\n"
	"\n"
	"Tests (one; default --latency):\n"
	"  --latency        one-way time (half a round trip) by size of message\n"
	"  --stream         bandwidth by size of write\n"
	"  --rr             requests and responses a second\n"
	"  --connrate       connections a second: connect, accept, a byte each way, close\n"
	"  --hold           open --fds connections, use each a little, let them idle for\n"
	"                   --seconds\n"
	"\n"
	"Where:\n"
	"  -p, --port PORT  TCP port (default 5470; both: any free one)\n"
	"  -u, --unix PATH  AF_UNIX socket instead of TCP\n"
	"  -6               IPv6\n"
	"  --listen ADDR    server: address to listen on (default: all)\n"
	"\n"
	"How:\n"
	"  --sizes LIST     sizes of messages or writes in bytes, K and M allowed, with\n"
	"                   commas (default for --latency 1 to 64K on both sides of where\n"
	"                   transports change their ways, for --stream 64,1K,4K,64K,1M)\n"
	"  --mode MODE      how both sides wait: block (default), spin (non-blocking calls),\n"
	"                   epoll, poll\n"
	"  --fds N          N connections, one of them active; with epoll and poll all are\n"
	"                   in the set, on both sides (default 1)\n"
	"  --request N      --rr: size of a request (default 1)\n"
	"  --response N     --rr: size of a response (default 1)\n"
	"  --depth N        --rr: requests in flight (default 1)\n"
	"\n"
	"How long:\n"
	"  --seconds S      time for each size (default 1)\n"
	"  --count N        that many messages, requests or connections instead\n"
	"  --bytes N        --stream: that many bytes instead\n"
	"\n"
	"Where it runs:\n"
	"  --cpu N          server, client: pin to CPU N\n"
	"  --cpus A,B       both: pin the server to A, the client to B (default: the first\n"
	"                   two CPUs of this process, if it has two)\n"
	"  --one-core       both: pin both sides to one CPU\n"
	"  --no-pin         both: pin neither\n"
	"\n"
	"What it prints:\n"
	"  --histogram      distribution for each size, four classes an octave\n"
	"  --json           one JSON object on standard output\n"
	"  --no-verify      do not compare what comes back with what was sent (the\n"
	"                   comparison is outside of what is timed)\n"
	"  --help, --version\n"
	"\n"
	"Exit status: 0 measured, 1 the measurement failed or bytes were wrong, 2 bad usage.\n";

__attribute__((noreturn, format(printf, 1, 2))) static void bad_usage(const char *fmt, ...)
{
	char line[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fprintf(stderr, "pingpong: %s\nTry 'pingpong --help'.\n", line);
	exit(2);
}

/* A whole number with an optional K, M or G, within bounds. */
static uint64_t number(const char *opt, const char *text, uint64_t min, uint64_t max)
{
	char *end;
	unsigned long long v;
	unsigned shift = 0;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (end == text || *text == '-' || errno)
		bad_usage("%s: '%s' is not a number", opt, text);
	if (*end == 'K' || *end == 'k')
		shift = 10;
	else if (*end == 'M' || *end == 'm')
		shift = 20;
	else if (*end == 'G' || *end == 'g')
		shift = 30;
	if (end[shift ? 1 : 0])
		bad_usage("%s: '%s' is not a number (K, M and G may follow it)", opt, text);
	if (v > UINT64_MAX >> shift || v << shift < min || v << shift > max)
		bad_usage("%s: %s is not between %llu and %llu", opt, text, (unsigned long long)min,
			  (unsigned long long)max);
	return v << shift;
}

static double seconds(const char *text)
{
	char *end;
	double s = strtod(text, &end);

	if (end == text || *end || !(s >= 0.001 && s <= 86400))
		bad_usage("--seconds: '%s' is not a time between 0.001 and 86400", text);
	return s;
}

static void sizes(struct pp_opts *o, const char *list)
{
	char *copy = strdup(list), *save = NULL;

	o->nr_sizes = 0;
	for (char *p = copy ? strtok_r(copy, ",", &save) : NULL; p; p = strtok_r(NULL, ",", &save)) {
		if (o->nr_sizes == PP_SIZES_MAX)
			bad_usage("--sizes: more than %d sizes", PP_SIZES_MAX);
		o->sizes[o->nr_sizes++] = (size_t)number("--sizes", p, 1, PP_SIZE_MAX);
	}
	free(copy);
	if (!o->nr_sizes)
		bad_usage("--sizes: '%s' names no size", list);
}

static enum pp_mode mode(const char *text)
{
	for (int m = 0; m < PP_MODES; m++)
		if (!strcmp(text, pp_mode_name[m]))
			return (enum pp_mode)m;
	bad_usage("--mode: '%s' is none of block, spin, epoll, poll", text);
}

static int cpu_number(const char *opt, const char *text)
{
	int cpu = (int)number(opt, text, 0, CPU_SETSIZE - 1);
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) == 0 && !CPU_ISSET(cpu, &set))
		bad_usage("%s: CPU %d is not one that this process may run on", opt, cpu);
	return cpu;
}

static void cpu_pair(struct pp_opts *o, const char *text)
{
	char first[16];
	const char *comma = strchr(text, ',');

	if (!comma || comma == text || (size_t)(comma - text) >= sizeof(first))
		bad_usage("--cpus: '%s' is not two CPU numbers with a comma", text);
	snprintf(first, sizeof(first), "%.*s", (int)(comma - text), text);
	o->cpu[0] = cpu_number("--cpus", first);
	o->cpu[1] = cpu_number("--cpus", comma + 1);
}

/* The first two CPUs that this process may use; one of them twice with @one_core. */
static void default_cpus(struct pp_opts *o)
{
	cpu_set_t set;
	int n = 0;

	if (sched_getaffinity(0, sizeof(set), &set))
		return;
	for (int cpu = 0; cpu < CPU_SETSIZE && n < 2; cpu++)
		if (CPU_ISSET(cpu, &set))
			o->cpu[n++] = cpu;
	if (n < 2 || o->one_core)
		o->cpu[1] = o->cpu[0];
	if (n < 2 && !o->one_core)
		o->cpu[0] = o->cpu[1] = -1;
}

enum {
	OPT_LATENCY = 256, OPT_STREAM, OPT_RR, OPT_CONNRATE, OPT_HOLD, /* in the order of enum pp_test */
	OPT_LISTEN, OPT_SIZES, OPT_MODE, OPT_FDS, OPT_REQUEST, OPT_RESPONSE, OPT_DEPTH, OPT_SECONDS, OPT_COUNT,
	OPT_BYTES, OPT_CPU, OPT_CPUS, OPT_ONE_CORE, OPT_NO_PIN, OPT_HISTOGRAM, OPT_JSON, OPT_NO_VERIFY, OPT_HELP,
	OPT_VERSION,
};

static const struct option options[] = {
	{ "latency", no_argument, NULL, OPT_LATENCY },
	{ "stream", no_argument, NULL, OPT_STREAM },
	{ "rr", no_argument, NULL, OPT_RR },
	{ "connrate", no_argument, NULL, OPT_CONNRATE },
	{ "hold", no_argument, NULL, OPT_HOLD },
	{ "port", required_argument, NULL, 'p' },
	{ "unix", required_argument, NULL, 'u' },
	{ "listen", required_argument, NULL, OPT_LISTEN },
	{ "sizes", required_argument, NULL, OPT_SIZES },
	{ "mode", required_argument, NULL, OPT_MODE },
	{ "fds", required_argument, NULL, OPT_FDS },
	{ "request", required_argument, NULL, OPT_REQUEST },
	{ "response", required_argument, NULL, OPT_RESPONSE },
	{ "depth", required_argument, NULL, OPT_DEPTH },
	{ "seconds", required_argument, NULL, OPT_SECONDS },
	{ "count", required_argument, NULL, OPT_COUNT },
	{ "bytes", required_argument, NULL, OPT_BYTES },
	{ "cpu", required_argument, NULL, OPT_CPU },
	{ "cpus", required_argument, NULL, OPT_CPUS },
	{ "one-core", no_argument, NULL, OPT_ONE_CORE },
	{ "no-pin", no_argument, NULL, OPT_NO_PIN },
	{ "histogram", no_argument, NULL, OPT_HISTOGRAM },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "no-verify", no_argument, NULL, OPT_NO_VERIFY },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ 0 },
};

static void parse(struct pp_opts *o, enum pp_role role, int argc, char **argv)
{
	bool cpus = false, no_pin = false;
	int c;

	while ((c = getopt_long(argc, argv, "p:u:6h", options, NULL)) != -1) {
		switch (c) {
		case OPT_LATENCY ... OPT_HOLD:
			o->test = (enum pp_test)(c - OPT_LATENCY);
			break;
		case 'p':
			o->port = (uint16_t)number("--port", optarg, 1, 65535);
			break;
		case 'u':
			o->path = optarg;
			break;
		case '6':
			o->ipv6 = true;
			break;
		case OPT_LISTEN:
			if (role != PP_SERVER)
				bad_usage("--listen is for the server");
			o->host = optarg;
			break;
		case OPT_SIZES:
			sizes(o, optarg);
			break;
		case OPT_MODE:
			o->mode = mode(optarg);
			break;
		case OPT_FDS:
			o->fds = (unsigned)number("--fds", optarg, 1, PP_FDS_MAX);
			break;
		case OPT_REQUEST:
			o->request = (size_t)number("--request", optarg, 1, PP_SIZE_MAX);
			break;
		case OPT_RESPONSE:
			o->response = (size_t)number("--response", optarg, 1, PP_SIZE_MAX);
			break;
		case OPT_DEPTH:
			o->depth = (unsigned)number("--depth", optarg, 1, 65536);
			break;
		case OPT_SECONDS:
			o->seconds = seconds(optarg);
			break;
		case OPT_COUNT:
			o->count = number("--count", optarg, 1, 1u << 30);
			break;
		case OPT_BYTES:
			o->bytes = number("--bytes", optarg, 1, 1ull << 50);
			break;
		case OPT_CPU:
			if (role == PP_BOTH)
				bad_usage("--cpu is for server and client; both takes --cpus A,B");
			o->cpu[role == PP_CLIENT] = cpu_number("--cpu", optarg);
			break;
		case OPT_CPUS:
			if (role != PP_BOTH)
				bad_usage("--cpus is for both; server and client take --cpu N");
			cpu_pair(o, optarg);
			cpus = true;
			break;
		case OPT_ONE_CORE:
			if (role != PP_BOTH)
				bad_usage("--one-core is for both; server and client take --cpu N");
			o->one_core = true;
			break;
		case OPT_NO_PIN:
			no_pin = true;
			break;
		case OPT_HISTOGRAM:
			o->histogram = true;
			break;
		case OPT_JSON:
			o->json = true;
			break;
		case OPT_NO_VERIFY:
			o->verify = false;
			break;
		case 'h':
		case OPT_HELP:
			fputs(usage_text, stdout);
			exit(0);
		case OPT_VERSION:
			puts("pingpong " NTBS_VERSION);
			exit(0);
		default:	/* getopt has named it */
			fputs("Try 'pingpong --help'.\n", stderr);
			exit(2);
		}
	}
	if (role == PP_BOTH && !cpus && !no_pin)
		default_cpus(o);
	if (cpus && (no_pin || o->one_core))
		bad_usage("--cpus says where both sides run; leave out %s", no_pin ? "--no-pin" : "--one-core");
	if (role == PP_CLIENT && optind < argc && !o->path)
		o->host = argv[optind++];
	if (optind < argc)
		bad_usage("'%s': nothing is expected there", argv[optind]);
	if (role == PP_CLIENT && !o->host && !o->path)
		bad_usage("client: which server?  Give a HOST or -u PATH");
	if ((uint64_t)o->depth * (o->request + o->response) > 128 << 10 && o->depth > 1)
		bad_usage("--depth: %u requests and responses in flight need more than 128 KiB, "
			  "both sides could wait for each other",
			  o->depth);
}

/* Fills in @o from the command line; ends the program where there is nothing to run. */
enum pp_role pp_parse(struct pp_opts *o, int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	enum pp_role role;

	*o = (struct pp_opts){ .fds = 1, .seconds = 1, .request = 1, .response = 1, .depth = 1,
			       .verify = true, .cpu = { -1, -1 } };
	if (!strcmp(name, "server"))
		role = PP_SERVER;
	else if (!strcmp(name, "client"))
		role = PP_CLIENT;
	else if (!strcmp(name, "both"))
		role = PP_BOTH;
	else if (!strcmp(name, "--help") || !strcmp(name, "-h"))
		exit(fputs(usage_text, stdout) < 0);
	else if (!strcmp(name, "--version"))
		exit(puts("pingpong " NTBS_VERSION) < 0);
	else if (!*name)
		bad_usage("which role?  server, client or both");
	else
		bad_usage("'%s' is none of server, client, both", name);
	o->port = role == PP_BOTH ? 0 : DEFAULT_PORT;
	argv[1] = argv[0];	/* getopt's messages begin with it */
	parse(o, role, argc - 1, argv + 1);
	if (!o->nr_sizes)
		sizes(o, o->test == PP_STREAM ?
				 "64,1K,4K,64K,1M" :
				 "1,8,32,54,55,64,100,116,117,128,256,512,1K,2K,4K,8K,16K,32K,64K");
	return role;
}
