// SPDX-License-Identifier: BSD-2-Clause
/*
 * trace.c - what happened, one line an event, in the one order that the model gives
 *
 *	SEQ SECONDS HOST NAME write cfg|barN 0xOFFSET LEN 0xVALUE [unknown] [lost]
 *	... read ...
 *	... interrupt VECTOR [lost]		... link up|down
 *	... reset flr|off|on			... dma CHANNEL 0xDESCRIPTOR LEN 0xDESTINATION
 *
 * NAME is port or ioat.  Two drivers are compared by the columns from HOST on, of their read and write lines.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "rig.h"

struct trace {
	FILE *f;
	bool windows;
};

struct trace *trace_open(const char *path, bool windows)
{
	struct trace *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->windows = windows;
	t->f = fopen(path, "we");
	if (!t->f) {
		free(t);
		return NULL;
	}
	return t;
}

void trace_line(const struct rig_event *ev, char *line, size_t room)
{
	static const char *const resets[] = { "flr", "off", "on" };
	const struct rig_fn_info *info = rig_fn_info(ev->fn);
	char what[128] = "", space[8];

	snprintf(space, sizeof(space), ev->space == RIG_CFG ? "cfg" : "bar%d", ev->space);
	switch (ev->kind) {
	case RIG_EV_READ:
	case RIG_EV_WRITE:
		snprintf(what, sizeof(what), "%s %s 0x%" PRIx64 " %u 0x%" PRIx64, ev->kind == RIG_EV_READ ? "read" : "write", space,
			 ev->off, ev->len, ev->value);
		break;
	case RIG_EV_INTERRUPT:
		snprintf(what, sizeof(what), "interrupt %" PRIu64, ev->off);
		break;
	case RIG_EV_LINK:
		snprintf(what, sizeof(what), "link %s", ev->value ? "up" : "down");
		break;
	case RIG_EV_RESET:
		snprintf(what, sizeof(what), "reset %s", ev->value < 3 ? resets[ev->value] : "?");
		break;
	case RIG_EV_DMA:
		snprintf(what, sizeof(what), "dma %d 0x%" PRIx64 " %u 0x%" PRIx64, ev->space, ev->off, ev->len, ev->value);
		break;
	}
	snprintf(line, room, "%" PRIu64 " %" PRIu64 ".%06u %d %s %s%s%s", ev->seq, ev->time_ns / 1000000000,
		 (unsigned)(ev->time_ns / 1000 % 1000000), ev->host, info->bar[2].window ? "port" : "ioat", what,
		 ev->unknown ? " unknown" : "", ev->lost ? " lost" : "");
}

void trace_event(struct trace *t, const struct rig_event *ev)
{
	char line[256];

	if ((ev->kind == RIG_EV_READ || ev->kind == RIG_EV_WRITE) && ev->space != RIG_CFG && !t->windows &&
	    rig_fn_info(ev->fn)->bar[ev->space].window)
		return;
	trace_line(ev, line, sizeof(line));
	fprintf(t->f, "%s\n", line);
}

void trace_flush(struct trace *t)
{
	fflush(t->f);
}

void trace_close(struct trace *t)
{
	if (t)
		fclose(t->f);
	free(t);
}
