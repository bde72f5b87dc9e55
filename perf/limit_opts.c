// SPDX-License-Identifier: BSD-2-Clause
/*
 * limit_opts.c - the command line of limit
 */
#include "limit.h"

#include <getopt.h>
#include <sched.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const limit_test_names[] = { "line", "slots", "sustained", "ladder", "stream", "fd", NULL };

static const char usage_text[] =
	"Usage: limit [OPTION...]\n"
	"Measure what two CPUs can exchange through shared memory, without any socket.\n"
	"\n"
	"  --tests LIST     of line, slots, sustained, ladder, stream, fd (default all but fd);\n"
	"                   fd: time of read() and write() on /dev/null, to see what a\n"
	"                   preloaded library adds to it\n"
	"  --cpus A,B       default: the first two CPUs of this process\n"
	"  --seconds S      for each figure (default 0.1)\n"
	"  --slots LIST     slots in a ring, powers of two up to 4096 (default 64,512)\n"
	"  --sizes LIST     of messages for ladder (default 1 to 64K)\n"
	"  --rings LIST     bytes of the ring for stream (default 256K,1M,8M); ladder takes the first\n"
	"  --chunks LIST    bytes of a copy for stream (default 16K,64K); they must divide the rings\n"
	"  --json           one JSON object on standard output\n"
	"  --help\n";

void limit_die(int status, const char *fmt, ...)
{
	va_list ap;

	fputs("limit: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(status);
}

static size_t number(const char *opt, const char *text, size_t min, size_t max)
{
	char *end;
	unsigned long long v = strtoull(text, &end, 10);

	if (end != text && (*end == 'K' || *end == 'M'))
		v <<= *end++ == 'K' ? 10 : 20;
	if (end == text || *end || *text == '-' || v < min || v > max)
		limit_die(2, "%s: '%s' is not a number between %zu and %zu; try --help", opt, text, min, max);
	return (size_t)v;
}

static unsigned list(const char *opt, const char *text, size_t *out, size_t min, size_t max)
{
	char *copy = strdup(text), *save = NULL;
	unsigned n = 0;

	for (char *p = copy ? strtok_r(copy, ",", &save) : NULL; p; p = strtok_r(NULL, ",", &save)) {
		if (n == LIMIT_LIST_MAX)
			limit_die(2, "%s: more than %d values", opt, LIMIT_LIST_MAX);
		out[n++] = number(opt, p, min, max);
	}
	free(copy);
	if (!n)
		limit_die(2, "%s: '%s' holds no value", opt, text);
	return n;
}

static void slot_list(struct limit *l, const char *text)
{
	size_t v[LIMIT_LIST_MAX];

	l->nr_slots = list("--slots", text, v, 2, LIMIT_SLOTS_MAX);
	for (unsigned i = 0; i < l->nr_slots; i++) {
		if (v[i] & (v[i] - 1))
			limit_die(2, "--slots: %zu is no power of two", v[i]);
		l->slots[i] = (unsigned)v[i];
	}
}

static void default_cpus(struct limit *l)
{
	cpu_set_t set;
	int n = 0;

	if (sched_getaffinity(0, sizeof(set), &set))
		limit_die(1, "cannot ask which CPUs there are: %s", strerror(errno));
	for (int cpu = 0; cpu < CPU_SETSIZE && n < 2; cpu++)
		if (CPU_ISSET(cpu, &set))
			l->cpu[n++] = cpu;
	if (n < 2)
		l->cpu[1] = -1;
}

/* What the tests assume of each other's lists. */
static void check(const struct limit *l)
{
	for (unsigned i = 0; i < l->nr_rings; i++)
		for (unsigned j = 0; j < l->nr_chunks; j++)
			if (l->rings[i] % l->chunks[j])
				limit_die(2, "--chunks: %zu does not divide the ring of %zu bytes", l->chunks[j],
				    l->rings[i]);
	for (unsigned i = 0; i < l->nr_sizes; i++)
		if (2 * l->sizes[i] > l->rings[0] && l->sizes[i] > NTBS_INLINE_MAX)
			limit_die(2, "--sizes: %zu is more than half of the ring of %zu bytes", l->sizes[i], l->rings[0]);
}

static void check_tests(const char *text)
{
	char *copy = strdup(text), *save = NULL;

	for (char *p = copy ? strtok_r(copy, ",", &save) : NULL; p; p = strtok_r(NULL, ",", &save)) {
		unsigned i = 0;

		while (limit_test_names[i] && strcmp(limit_test_names[i], p))
			i++;
		if (!limit_test_names[i])
			limit_die(2, "--tests: '%s' is no test; try --help", p);
	}
	free(copy);
}

void limit_parse(struct limit *l, int argc, char **argv)
{
	static const struct option options[] = {
		{ "tests", required_argument, NULL, 't' },  { "cpus", required_argument, NULL, 'c' },
		{ "seconds", required_argument, NULL, 's' }, { "slots", required_argument, NULL, 'n' },
		{ "sizes", required_argument, NULL, 'z' },  { "rings", required_argument, NULL, 'r' },
		{ "chunks", required_argument, NULL, 'k' }, { "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },	    { 0 },
	};
	size_t cpus[LIMIT_LIST_MAX];
	char *end;
	int c;

	slot_list(l, "64,512");
	l->nr_sizes = list("", "1,8,32,54,55,64,100,116,117,128,256,512,1K,2K,4K,8K,16K,32K,64K", l->sizes, 1,
			   LIMIT_USER_BYTES);
	l->nr_rings = list("", "256K,1M,8M", l->rings, 1, 8u << 20);
	l->nr_chunks = list("", "16K,64K", l->chunks, 1, LIMIT_USER_BYTES);
	default_cpus(l);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 't':
			l->tests = optarg;
			break;
		case 'c':
			if (list("--cpus", optarg, cpus, 0, CPU_SETSIZE - 1) != 2)
				limit_die(2, "--cpus: '%s' is not two CPU numbers with a comma", optarg);
			l->cpu[0] = (int)cpus[0];
			l->cpu[1] = (int)cpus[1];
			break;
		case 's':
			l->seconds = strtod(optarg, &end);
			if (end == optarg || *end || !(l->seconds >= 0.001 && l->seconds <= 30))
				limit_die(2, "--seconds: '%s' is not between 0.001 and 30", optarg);
			break;
		case 'n':
			slot_list(l, optarg);
			break;
		case 'z':
			l->nr_sizes = list("--sizes", optarg, l->sizes, 1, LIMIT_USER_BYTES);
			break;
		case 'r':
			l->nr_rings = list("--rings", optarg, l->rings, 4096, 8u << 20);
			break;
		case 'k':
			l->nr_chunks = list("--chunks", optarg, l->chunks, 64, LIMIT_USER_BYTES);
			break;
		case 'j':
			l->json = 1;
			break;
		case 'h':
			fputs(usage_text, stdout);
			exit(0);
		default:
			fputs("Try 'limit --help'.\n", stderr);
			exit(2);
		}
	}
	if (optind < argc)
		limit_die(2, "'%s': nothing is expected there; try --help", argv[optind]);
	check(l);
	check_tests(l->tests);
}
