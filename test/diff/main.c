// SPDX-License-Identifier: BSD-2-Clause
/*
 * main.c - the same calls on kernel TCP and on ntbsock
 *
 *	diff --build build --seeds 1-500	these sequences
 *	diff --build build --soak 3600		new ones, for so many seconds
 *	diff --build build --replay FILE...	sequences from files
 *	diff --seeds 77 --show			what seed 77 draws
 *
 * --verbose shows each step; --program prints a replayed sequence as a C program; --seconds N ends a run of seeds after
 * so long; --reference runs kernel TCP in both worlds, which shows what differs by itself.  Exit status 0: no difference,
 * 1: there was one; the first --reports N are shown as the shortest sequence and as a C program.
 */
#include "diff.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONFIRM 5
#define REFERENCE_RUNS 40

extern unsigned long again_count[CALLS], topped_up[CALLS];
static char first_line[20][500];	/* said again at the end, below the table */
static int failed, unsteady, ran, reports = 12;	/* differences that are made short; the rest is only named */

double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

uint64_t rnd_r(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	world_finish();
	exit(2);
}

/* "TCP one; ntbsock other": the same two answers, whichever way round? */
static bool same_answers(const char *a, const char *b)
{
	const char *tcp = world_name[TCP], *ntbs = world_name[NTBS], *a2 = strstr(a, "; "), *b2 = strstr(b, "; ");
	size_t t = strlen(tcp), n = strlen(ntbs), la, lb;

	if (!strcmp(a, b))
		return true;
	if (!a2 || !b2 || strncmp(a, tcp, t) || strncmp(b, tcp, t) || strncmp(a2 + 2, ntbs, n) || strncmp(b2 + 2, ntbs, n))
		return false;
	la = (size_t)(a2 - a) - t;
	lb = (size_t)(b2 - b) - t;
	a2 += 2 + n;
	b2 += 2 + n;
	return la == strlen(b2) && lb == strlen(a2) && !strncmp(a + t, b2, la) && !strncmp(b + t, a2, lb);
}

/* Does kernel TCP, run against itself, give the two answers that differ?  The number of the run in which it did, or 0. */
static int tcp_gives_both(const struct seq *s, const struct difference *d)
{
	struct difference own;
	int run = 0;

	if (reference)
		return 0;
	reference = true;
	for (int i = 1; i <= REFERENCE_RUNS && !run; i++)
		if (run_sequence(s, &own, false) == RUN_DIFFERS && own.call == d->call && same_answers(own.what, d->what))
			run = i;
	reference = false;
	return run;
}

static void report(struct seq *s, struct difference *d, const char *name)
{
	struct difference again = { .step = -1 }, first = *d;
	struct seq whole = *s;
	int seen = 0, run;

	printf("\n%s: step %d, %s: %s\n", name, d->step, calls[d->call].name, d->what);
	fflush(stdout);
	for (int i = 0; i < CONFIRM && !seen; i++)
		seen += run_sequence(s, &again, false) == RUN_DIFFERS;
	if (!seen) {
		unsteady++;
		printf("  seen once, not in %d more runs of the same sequence:\n", CONFIRM);
		seq_print(stdout, s);
		return;
	}
	*d = again;
	if (failed < reports) {
		shrink(s, d);
		run = same_answers(d->what, first.what) ? tcp_gives_both(s, d) : 0;
	} else {
		run = tcp_gives_both(&whole, &first);
	}
	if (run && accept_as(R_BOTH)) {
		printf("  kernel TCP itself gives both answers, seen in run %d of it against itself:\n", run);
		seq_print(stdout, s);
		return;
	}
	if (failed < 20)
		snprintf(first_line[failed], sizeof(first_line[0]), "%s: step %d, %s: %s", name, first.step, calls[first.call].name, first.what);
	failed++;
	if (failed > reports)
		return;
	printf("  shortest sequence, %d steps; step %d, %s: %s\n", s->nr, d->step, calls[d->call].name, d->what);
	seq_print(stdout, s);
	run_sequence(s, &again, false);		/* its trace is what the program does */
	printf("  as a program:\n");
	repro_print(stdout, s, d);
	fflush(stdout);
}

static void one(struct seq *s, const char *name, bool verbose)
{
	struct difference d;
	enum outcome out;

	ran++;
	out = run_sequence(s, &d, verbose);
	if (out == RUN_BROKEN)
		die("%s: a world did not come up", name);
	if (out == RUN_DIFFERS)
		report(s, &d, name);
}

static void seeds(uint64_t from, uint64_t to, double seconds, bool verbose)
{
	double begin = now(), said = begin;
	struct seq s;
	char name[40];

	for (uint64_t i = from; i <= to && now() - begin < seconds; i++) {
		snprintf(name, sizeof(name), "seed %llu", (unsigned long long)i);
		gen_sequence(i, &s);
		if (verbose)
			printf("%s\n", name);
		one(&s, name, verbose);
		if (now() - said > 10) {
			said = now();
			printf("%7.0f s  %d sequences, up to %s, %d differ\n", said - begin, ran, name, failed);
			fflush(stdout);
		}
	}
}

static void summary(bool cover)
{
	if (cover)
		cover_print(stdout);
	printf("\nquestions asked again until both worlds agreed, reads topped up:");
	for (int i = 0; i < CALLS; i++)
		if (again_count[i] + topped_up[i])
			printf(" %s %lu", calls[i].name, again_count[i] + topped_up[i]);
	printf("\n");
	printf("differences that are allowed (compare.c):");
	for (int i = 1; i < RULES; i++)
		if (accepted[i])
			printf("%s %s %lu", i > 1 ? ";" : "", rule_text[i], accepted[i]);
	printf("\n");
	for (int i = 0; i < failed && i < 20; i++)
		printf("%s\n", first_line[i]);
	printf("%d sequences, %d differ, %d differed once and never again\n", ran, failed, unsteady);
}

/*
 * The kernel begins to stamp what arrives some time after the first socket has asked for it (net/core/dev.c,
 * net_enable_timestamp() leaves it to a worker); from then on, as long as one does.
 */
static void stamps_on(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_TIMESTAMP, &(int){ 1 }, sizeof(int)))
		die("SO_TIMESTAMP: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	static const struct option opts[] = { { "worker", 1, NULL, 'w' }, { "build", 1, NULL, 'b' }, { "seeds", 1, NULL, 's' },
					      { "seconds", 1, NULL, 't' }, { "soak", 1, NULL, 'k' }, { "replay", 0, NULL, 'r' },
					      { "show", 0, NULL, 'o' }, { "verbose", 0, NULL, 'v' }, { "program", 0, NULL, 'p' }, { "reports", 1, NULL, 'n' },
					      { "reference", 0, NULL, 'R' }, { 0 } };
	unsigned long long from = 0, to = 0;
	bool replay = false, verbose = false, show = false, program = false;
	double seconds = 1e9, soak = 0;
	const char *build = "build";
	char self[PATH_MAX];
	struct seq s;
	ssize_t n;
	int c;

	while ((c = getopt_long(argc, argv, "", opts, NULL)) != -1) {
		switch (c) {
		case 'w': return worker_main(argc, argv);
		case 'b': build = optarg; break;
		case 's':
			if (sscanf(optarg, "%llu-%llu", &from, &to) == 1)
				to = from;
			break;
		case 't': seconds = atof(optarg); break;
		case 'k': soak = atof(optarg); break;
		case 'r': replay = true; break;
		case 'R': reference = true; break;
		case 'v': verbose = true; break;
		case 'o': show = true; break;
		case 'p': program = true; break;
		case 'n': reports = atoi(optarg); break;
		default: return 2;
		}
	}
	if (show) {
		gen_sequence(from, &s);
		seq_print(stdout, &s);
		return 0;
	}
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0)
		die("/proc/self/exe: %s", strerror(errno));
	self[n] = 0;
	signal(SIGPIPE, SIG_IGN);
	world_prepare(self, build);
	stamps_on();
	for (int i = optind; replay && i < argc; i++) {
		if (!seq_read(argv[i], &s))
			die("%s: %s", argv[i], strerror(errno));
		one(&s, argv[i], verbose);
		if (program)
			repro_print(stdout, &s, &(struct difference){ .step = -1 });
	}
	if (soak > 0)
		seeds((uint64_t)time(NULL) * 1000, UINT64_MAX, soak, verbose);
	else if (to)
		seeds(from, to, seconds, verbose);
	summary(soak > 0 || to);	/* the table hides the report of a replay, and is that of regress/ only by chance */
	world_finish();
	return failed ? 1 : 0;
}
