// SPDX-License-Identifier: BSD-2-Clause
/*
 * limit.c - what two CPUs and the memory between them can do, without any socket
 *
 * Two processes, pinned, on shared memory as a transport would map it; written as tightly as can be, because
 * this is the yardstick.  Ping-pong figures are medians of batches, halved; bandwidth is the median of runs.
 * Each run says beforehand how many rounds it has, so that nothing but the measured words is shared.
 */
#include "limit.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAMPLES_MAX 100000u


static void stuck(int sig)
{
	static const char text[] = "limit: one of the two processes has not answered for 60 s; "
				   "do both CPUs run, and is nothing of higher priority on them?\n";

	if (write(2, text, sizeof(text) - 1) < 0)
		_exit(2);
	_exit(1);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		limit_die(1, "cannot pin to CPU %d: %s", cpu, strerror(errno));
}

/* Both sides are on their CPUs, with their memory mapped, before either begins. */
static void meet(const struct limit *l)
{
	__atomic_fetch_add(&l->go->v, 1, __ATOMIC_SEQ_CST);
	while (ntbs_le32_read_acquire(l->go) != 2)
		ntbs_spin_pause();
}

static void run_once(struct limit *l, limit_fn fn)
{
	pid_t pid;
	int status;

	memset(l->run.mem, 0, LIMIT_WORDS_BYTES);
	ntbs_le32_write(l->go, 0);
	pid = fork();
	if (pid < 0)
		limit_die(1, "cannot fork: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pin(l->cpu[1]);
		for (size_t i = 0; i < LIMIT_MEM_BYTES; i += 4096)
			(void)*(volatile uint8_t *)(l->run.mem + i);
		memset(l->run.user, 1, LIMIT_USER_BYTES);
		meet(l);
		fn(&l->run, 1);
		_exit(0);
	}
	alarm(60);
	meet(l);
	fn(&l->run, 0);
	alarm(0);
	if (waitpid(pid, &status, 0) < 0 || status)
		limit_die(1, "the second process ended badly (wait status %#x)", (unsigned)status);
}

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
	qsort(v, n, sizeof(*v), compare_double);
	return v[n / 2];
}

/* Median over batches, one way. */
static double pingpong(struct limit *l, limit_fn fn)
{
	struct limit_run *r = &l->run;
	double ns;

	r->batch = 100;
	r->count = 1000;
	run_once(l, fn);
	ns = median(r->samples, 10);
	r->batch = ns * 1000 > l->seconds * 1e9 / 20 ? 20 : 1000;
	r->count = (uint64_t)(l->seconds * 1e9 / (ns > 1 ? ns : 1));
	r->count = r->count / r->batch * r->batch;
	if (r->count < 10 * r->batch)
		r->count = 10 * r->batch;
	if (r->count > SAMPLES_MAX * r->batch)
		r->count = SAMPLES_MAX * r->batch;
	run_once(l, fn);
	return median(r->samples, r->count / r->batch) / 2;
}

/* Median over five runs of a function that times itself as a whole. */
static double whole(struct limit *l, limit_fn fn, uint64_t first_count)
{
	struct limit_run *r = &l->run;
	double runs[5];

	r->count = first_count;
	run_once(l, fn);
	r->count = (uint64_t)(l->seconds / 5 * 1e9 / r->samples[0]);
	if (r->count < first_count)
		r->count = first_count;
	for (int i = 0; i < 5; i++) {
		run_once(l, fn);
		runs[i] = r->samples[0];
	}
	return median(runs, 5);
}

static void result(struct limit *l, json_t *r, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void result(struct limit *l, json_t *r, const char *fmt, ...)
{
	va_list ap;

	json_array_append_new(l->results, r);
	if (l->json)
		return;
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

/* ------------------------------------------------------------------- tests */

static void test_line(struct limit *l)
{
	for (unsigned lines = 1; lines <= 2; lines++) {
		double ns;

		l->run.lines = lines;
		ns = pingpong(l, limit_line);
		result(l, json_pack("{s:s, s:i, s:f}", "test", "line", "lines", (int)lines, "oneway_ns", ns),
		       "%-48s %8.1f ns", lines == 1 ? "one cache line bounced, one way" : "two lines", ns);
	}
}

static void test_slots(struct limit *l)
{
	for (unsigned i = 0; i < l->nr_slots; i++)
		for (unsigned lines = 1; lines <= 2; lines++) {
			double ns;

			l->run.slots = l->slots[i];
			l->run.lines = lines;
			ns = pingpong(l, limit_slots);
			result(l, json_pack("{s:s, s:i, s:i, s:f}", "test", "slots", "slots", (int)l->slots[i],
					    "lines", (int)lines, "oneway_ns", ns),
			       "ring of %4u slots, message in %s, one way %8.1f ns", l->slots[i],
			       lines == 1 ? "one line " : "two lines", ns);
		}
}

static void test_sustained(struct limit *l)
{
	for (unsigned i = 0; i < l->nr_slots; i++) {
		double ns;

		l->run.slots = l->slots[i];
		ns = whole(l, limit_sustained, 20000);
		result(l, json_pack("{s:s, s:i, s:f}", "test", "sustained", "slots", (int)l->slots[i],
				    "ns_per_message", ns),
		       "ring of %4u slots, 8-byte messages one direction  %8.1f ns each", l->slots[i], ns);
	}
}

static void test_ladder(struct limit *l)
{
	l->run.slots = l->slots[l->nr_slots - 1];
	l->run.ring = l->rings[0];
	for (unsigned i = 0; i < l->nr_sizes; i++) {
		l->run.size = l->sizes[i];
		for (int nt = 0; nt <= (l->sizes[i] > NTBS_INLINE_MAX); nt++) {
			double ns;

			l->run.nt_in = nt;
			ns = pingpong(l, limit_ladder);
			result(l, json_pack("{s:s, s:I, s:s, s:f}", "test", "ladder", "size",
					    (json_int_t)l->sizes[i], "copy", nt ? "nt" : "plain", "oneway_ns", ns),
			       "message of %7zu bytes, %-23s %8.1f ns", l->sizes[i],
			       nt ? "non-temporal, one way" : "one way", ns);
		}
	}
}

static void test_stream(struct limit *l)
{
	static const char *const kind[] = { "memcpy", "nt-producer", "nt-both" };

	for (unsigned i = 0; i < l->nr_rings; i++)
		for (unsigned j = 0; j < l->nr_chunks; j++)
			for (int k = 0; k < 3; k++) {
				double rate;

				l->run.ring = l->rings[i];
				l->run.size = l->chunks[j];
				l->run.nt_in = k > 0;
				l->run.nt_out = k > 1;
				rate = (double)l->chunks[j] / whole(l, limit_stream, (4u << 20) / l->chunks[j] + 1);
				result(l, json_pack("{s:s, s:I, s:I, s:s, s:f}", "test", "stream", "ring",
						    (json_int_t)l->rings[i], "chunk", (json_int_t)l->chunks[j],
						    "copy", kind[k], "bytes_per_second", rate * 1e9),
				       "stream, ring %8zu, chunks of %6zu, %-12s %8.2f GB/s", l->rings[i],
				       l->chunks[j], kind[k], rate);
			}
}

/* One process alone: a descriptor that no library has anything to do with. */
static void test_fd(struct limit *l)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	char byte = 0;

	if (fd < 0)
		limit_die(1, "cannot open /dev/null: %s", strerror(errno));
	for (int writing = 0; writing <= 1; writing++) {
		uint64_t t0, t1, end = ticks_clock_ns() + (uint64_t)(l->seconds * 1e9);
		unsigned n = 0;
		double mid;

		while (n < SAMPLES_MAX && ticks_clock_ns() < end) {
			ssize_t sum = 0;

			t0 = ticks_now(&l->run.ticks);
			for (int i = 0; i < 100; i++)
				sum += writing ? write(fd, &byte, 1) : read(fd, &byte, 1);
			t1 = ticks_now(&l->run.ticks);
			if (sum != (writing ? 100 : 0))
				limit_die(1, "/dev/null did not behave like /dev/null");
			l->run.samples[n++] = ticks_to_ns(&l->run.ticks, t1 - t0) / 100;
		}
		mid = median(l->run.samples, n);
		result(l, json_pack("{s:s, s:s, s:f, s:f}", "test", "fd", "call", writing ? "write" : "read", "ns",
				    mid, "min_ns", l->run.samples[0]),
		       "%-5s on /dev/null: median %8.1f ns, least %8.1f ns", writing ? "write" : "read", mid,
		       l->run.samples[0]);
	}
	close(fd);
}

static const struct {
	const char *name;
	void (*fn)(struct limit *l);
} tests[] = {
	{ "line", test_line },	   { "slots", test_slots },   { "sustained", test_sustained },
	{ "ladder", test_ladder }, { "stream", test_stream }, { "fd", test_fd },
};

/* Is @name among the words of @text? */
static int among(const char *text, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = text; (p = strstr(p, name)); p += len)
		if ((p == text || p[-1] == ',') && (p[len] == ',' || !p[len]))
			return 1;
	return 0;
}

static const char *line_store_name(enum ntbs_line_store how)
{
	return how == NTBS_LINE_MOVDIR64B ? "movdir64b" :
	       how == NTBS_LINE_NT64	  ? "nt64" :
	       how == NTBS_LINE_NT16	  ? "nt16" :
					    "plain";
}

int main(int argc, char **argv)
{
	struct limit l = { .seconds = 0.1, .tests = "line,slots,sustained,ladder,stream" };
	struct ntbs_port port;

	limit_parse(&l, argc, argv);
	if (l.cpu[1] < 0 && strcmp(l.tests, "fd"))
		limit_die(1, "this process may run on one CPU only; the limit between two CPUs cannot be measured");
	ticks_init(&l.run.ticks);
	ntbs_port_attach(&port, NULL, NTBS_MEM_CACHED);
	l.run.line_store = port.line_store;
	l.results = json_array();
	l.run.samples = calloc(SAMPLES_MAX, sizeof(double));
	l.run.mem = mmap(NULL, LIMIT_MEM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	l.go = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!l.run.samples || l.run.mem == MAP_FAILED || l.go == MAP_FAILED ||
	    posix_memalign((void **)&l.run.user, 4096, LIMIT_USER_BYTES))
		limit_die(1, "no memory");
	memset(l.run.mem, 0, LIMIT_MEM_BYTES);
	memset(l.run.user, 1, LIMIT_USER_BYTES);
	signal(SIGALRM, stuck);
	if (l.cpu[0] >= 0)
		pin(l.cpu[0]);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		if (among(l.tests, tests[i].name))
			tests[i].fn(&l);
	if (l.json) {
		json_t *all = json_pack("{s:s, s:[i,i], s:s, s:f, s:o}", "program", "limit", "cpus", l.cpu[0],
					l.cpu[1], "line_store", line_store_name(port.line_store), "tsc_per_ns",
					l.run.ticks.per_ns, "results", l.results);

		json_dumpf(all, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(8));
		putchar('\n');
		json_decref(all);
	} else {
		json_decref(l.results);
	}
	free(l.run.samples);
	free(l.run.user);
	return fflush(stdout) ? 1 : 0;
}
