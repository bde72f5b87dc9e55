// SPDX-License-Identifier: BSD-2-Clause
/*
 * pingpong_out.c - percentiles, histogram, text and JSON
 *
 * Text goes out as results come, JSON as one object at the end.  Times are one way (half a round trip) for
 * latency, whole for rates.
 */
#include "pingpong.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *results;
static bool header_done;

void pp_size_text(size_t size, char *text, size_t len)
{
	if (size >= 1u << 20 && size % (1u << 20) == 0)
		snprintf(text, len, "%zuM", size >> 20);
	else if (size >= 1024 && size % 1024 == 0)
		snprintf(text, len, "%zuK", size >> 10);
	else
		snprintf(text, len, "%zu", size);
}

void pp_out_text(const struct pp_opts *o, const char *fmt, ...)
{
	va_list ap;

	if (o->json)
		return;
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	fflush(stdout);
}

void pp_out_begin(const struct pp_opts *o)
{
	results = json_array();
	if (o->path)
		pp_out_text(o, "# %s over AF_UNIX %s", pp_test_name[o->test], o->path);
	else
		pp_out_text(o, "# %s over TCP %s port %u", pp_test_name[o->test], o->host, o->port);
	pp_out_text(o, ", %s", pp_mode_name[o->mode]);
	if (o->fds > 1)
		pp_out_text(o, ", %u connections", o->fds);
	if (o->cpu[0] >= 0 && o->cpu[1] >= 0)
		pp_out_text(o, ", server on CPU %d, client on CPU %d", o->cpu[0], o->cpu[1]);
	pp_out_text(o, "\n");
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Samples are whole round trips in ticks; the summary is in nanoseconds of the same. */
void pp_summarise(uint32_t *samples, uint64_t n, struct pp_summary *s)
{
	double sum = 0;

	memset(s, 0, sizeof(*s));
	s->count = n;
	if (!n)
		return;
	qsort(samples, n, sizeof(*samples), compare_u32);
	for (uint64_t i = 0; i < n; i++)
		sum += samples[i];
	s->min = ticks_to_ns(&pp_ticks, samples[0]);
	s->median = ticks_to_ns(&pp_ticks, samples[n / 2]);
	s->p90 = ticks_to_ns(&pp_ticks, samples[n * 90 / 100]);
	s->p99 = ticks_to_ns(&pp_ticks, samples[n * 99 / 100]);
	s->max = ticks_to_ns(&pp_ticks, samples[n - 1]);
	s->mean = sum / (double)n / pp_ticks.per_ns;
}

static json_t *summary_json(const struct pp_summary *s, double scale)
{
	return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "min", s->min * scale, "median",
			 s->median * scale, "p90", s->p90 * scale, "p99", s->p99 * scale, "max",
			 s->max * scale, "mean", s->mean * scale);
}

/* Four buckets an octave; bucket b holds [2^(b/4), 2^((b+1)/4)) ns. */
#define BUCKETS 160

static void histogram(const struct pp_opts *o, const struct pp_summary *s, const uint32_t *samples,
		      json_t *result)
{
	uint64_t bucket[BUCKETS] = { 0 }, most = 1;
	json_t *array = json_array();
	int first = BUCKETS, last = 0;

	for (uint64_t i = 0; i < s->count; i++) {
		double ns = ticks_to_ns(&pp_ticks, samples[i]) / 2;
		int b = ns <= 1 ? 0 : (int)(4 * log2(ns));

		b = b < BUCKETS ? b : BUCKETS - 1;
		bucket[b]++;
		first = b < first ? b : first;
		last = b > last ? b : last;
		most = bucket[b] > most ? bucket[b] : most;
	}
	for (int b = first; b <= last; b++) {
		char bar[51] = { 0 };
		int len = (int)(50 * bucket[b] / most);

		memset(bar, '#', (size_t)len);
		pp_out_text(o, "    %10.0f ns %10llu %s%s\n", exp2(b / 4.0), (unsigned long long)bucket[b],
			    bar, bucket[b] && !len ? "." : "");
		json_array_append_new(array, json_pack("[f, I]", exp2(b / 4.0), (json_int_t)bucket[b]));
	}
	json_object_set_new(result, "histogram_ns", array);
}

void pp_out_latency(const struct pp_opts *o, size_t size, const struct pp_summary *s, const uint32_t *samples)
{
	json_t *r = json_pack("{s:s, s:I, s:I, s:o}", "test", "latency", "size", (json_int_t)size, "count",
			      (json_int_t)s->count, "oneway_ns", summary_json(s, 0.5));
	char text[24];

	if (!header_done)
		pp_out_text(o, "%8s %9s %10s %10s %10s %10s %10s %10s  one way, us\n", "size", "count", "min",
			    "median", "mean", "p90", "p99", "max");
	header_done = true;
	pp_size_text(size, text, sizeof(text));
	pp_out_text(o, "%8s %9llu %10.3f %10.3f %10.3f %10.3f %10.3f %10.3f\n", text,
		    (unsigned long long)s->count, s->min / 2000, s->median / 2000, s->mean / 2000,
		    s->p90 / 2000, s->p99 / 2000, s->max / 2000);
	if (o->histogram)
		histogram(o, s, samples, r);
	json_array_append_new(results, r);
}

void pp_out_stream(const struct pp_opts *o, size_t size, uint64_t bytes, double seconds)
{
	char text[24];

	if (!header_done)
		pp_out_text(o, "%8s %14s %9s %9s\n", "write", "bytes", "seconds", "GB/s");
	header_done = true;
	pp_size_text(size, text, sizeof(text));
	pp_out_text(o, "%8s %14llu %9.3f %9.3f\n", text, (unsigned long long)bytes, seconds,
		    (double)bytes / seconds / 1e9);
	json_array_append_new(results, json_pack("{s:s, s:I, s:I, s:f, s:f}", "test", "stream", "size",
						 (json_int_t)size, "bytes", (json_int_t)bytes, "seconds",
						 seconds, "bytes_per_second", (double)bytes / seconds));
}

void pp_out_rate(const struct pp_opts *o, const char *what, uint64_t n, double seconds,
		 const struct pp_summary *s)
{
	json_t *r = json_pack("{s:s, s:I, s:f, s:f}", "test", pp_test_name[o->test], "count", (json_int_t)n,
			      "seconds", seconds, "per_second", (double)n / seconds);

	pp_out_text(o, "%llu %s in %.3f s: %.0f a second\n", (unsigned long long)n, what, seconds,
		    (double)n / seconds);
	if (s) {
		pp_out_text(o, "each, us: min %.3f median %.3f p90 %.3f p99 %.3f max %.3f\n", s->min / 1000,
			    s->median / 1000, s->p90 / 1000, s->p99 / 1000, s->max / 1000);
		json_object_set_new(r, "each_ns", summary_json(s, 1));
	}
	json_array_append_new(results, r);
}

int pp_out_end(const struct pp_opts *o)
{
	int err = 0;

	if (o->json && o->test != PP_HOLD) {
		json_t *all = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:b, s:[i,i], s:o}", "program",
					"pingpong", "version", NTBS_VERSION, "test", pp_test_name[o->test],
					"transport", o->path ? "unix" : "tcp", "mode", pp_mode_name[o->mode],
					"fds", (int)o->fds, "verified", o->verify, "cpus", o->cpu[0],
					o->cpu[1], "results", results);

		err = json_dumpf(all, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(8));
		putchar('\n');
		json_decref(all);
	} else {
		json_decref(results);
	}
	if (fflush(stdout) || err) {
		pp_error("cannot write the results to standard output");
		return 1;
	}
	return 0;
}
