// SPDX-License-Identifier: BSD-2-Clause
/*
 * text.c - sequences as text: a line "process.thread call s t a b", '-' for what the call does not use, '#' comments
 */
#include "diff.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

const struct call_info calls[CALLS] = {
#define CALL(n, c, t) { #n, c, t },
#include "calls.def"
#undef CALL
};

static void put_slot(char *buf, size_t size, int slot)
{
	if (slot < 0)
		snprintf(buf, size, "-");
	else
		snprintf(buf, size, "%d", slot);
}

void op_text(const struct op *op, char *buf, size_t size)
{
	char s[8], t[8];

	put_slot(s, sizeof(s), op->s);
	put_slot(t, sizeof(t), op->t);
	snprintf(buf, size, "%d.%d %s %s %s %s%x %d", op->proc, op->thr, calls[op->call].name, s, t, op->a < 0 ? "-0x" : "0x",
		 op->a < 0 ? -op->a : op->a, op->b);
	if (op->call == C_getopt || op->call == C_setopt)
		snprintf(buf + strlen(buf), size - strlen(buf), "\t# %s", options[op->a].name);
}

void seq_print(FILE *f, const struct seq *s)
{
	char line[200];

	fprintf(f, "%s\n", s->calm ? "calm" : "hasty");
	for (int i = 0; i < s->nr; i++) {
		op_text(&s->op[i], line, sizeof(line));
		fprintf(f, "%s\n", line);
	}
}

static int slot_of(const char *text)
{
	int n;

	return sscanf(text, "%d", &n) == 1 ? n : -1;
}

/* An option is found by its name, so that a file stays good when options.def grows. */
static bool find_option(const char *line, struct op *op)
{
	const char *name = strchr(line, '#');
	char word[40];

	if (!name || sscanf(name + 1, "%39s", word) != 1)
		return false;
	for (int i = 0; i < nr_options; i++)
		if (!strcmp(options[i].name, word)) {
			op->a = i;
			return true;
		}
	return false;
}

bool seq_read(const char *path, struct seq *s)
{
	FILE *f = fopen(path, "r");
	char line[300], name[40], st[8], tt[8];

	if (!f)
		return false;
	*s = (struct seq){ .calm = true };
	while (fgets(line, sizeof(line), f)) {
		struct op *op = &s->op[s->nr];
		int proc, thr, a, b, c;

		if (line[0] == '#' || line[strspn(line, " \t\n")] == 0 || !strncmp(line, "calm", 4))
			continue;
		if (!strncmp(line, "hasty", 5)) {
			s->calm = false;
			continue;
		}
		if (s->nr == STEPS || sscanf(line, "%d.%d %39s %7s %7s %i %d", &proc, &thr, name, st, tt, &a, &b) != 7)
			die("%s: cannot read: %s", path, line);
		for (c = 0; c < CALLS && strcmp(calls[c].name, name); c++)
			;
		if (c == CALLS || proc < 0 || proc >= PROCS || thr < 0 || thr >= THREADS)
			die("%s: no such call or thread: %s", path, line);
		*op = (struct op){ proc, thr, c, slot_of(st), slot_of(tt), a, b };
		if ((c == C_getopt || c == C_setopt) && !find_option(line, op))
			die("%s: the option's name is wanted as a comment: %s", path, line);
		s->nr++;
	}
	fclose(f);
	return true;
}
