// SPDX-License-Identifier: BSD-2-Clause
/*
 * cover.c - which calls, flags and options were reached in which states
 */
#include "diff.h"

#include <string.h>
#include <sys/socket.h>

#define FLAGS 12
static const struct { int flag; const char *name; } flags[FLAGS] = {
	{ MSG_PEEK, "PEEK" }, { MSG_DONTWAIT, "DONTWAIT" }, { MSG_WAITALL, "WAITALL" }, { MSG_NOSIGNAL, "NOSIGNAL" }, { MSG_MORE, "MORE" },
	{ MSG_TRUNC, "TRUNC" }, { MSG_OOB, "OOB" }, { MSG_ERRQUEUE, "ERRQUEUE" }, { MSG_DONTROUTE, "DONTROUTE" }, { MSG_EOR, "EOR" },
	{ MSG_WAITFORONE, "WAITFORONE" }, { MSG_CTRUNC, "CTRUNC" } };
static const char *const life_name[LIVES] = { "-", "fresh", "open", "shut wr", "shut rd", "peer shut", "both shut", "peer gone" };

static unsigned by_where[CALLS][WHERES], by_life[CALLS][LIVES], failed[CALLS], blocked[CALLS];
static unsigned by_flag[FLAGS][WHERES], by_option[2][64][WHERES], pairs[CALLS][WHERES][LIVES];
static unsigned long steps, accelerated, connected;

static bool has_flags(enum call c)
{
	return c == C_recv || c == C_recvfrom || c == C_recvmsg || c == C_recvmmsg || c == C_send || c == C_sendto ||
	       c == C_sendmsg || c == C_sendmmsg;
}

void cover_count(const struct op *op, const struct answer *tcp, enum where where, enum life life)
{
	steps++;
	by_where[op->call][where]++;
	by_life[op->call][life]++;
	pairs[op->call][where][life]++;
	if (!tcp)
		blocked[op->call]++;
	else if (tcp->ret < 0)
		failed[op->call]++;
	if (where >= W_PLAIN) {
		connected++;
		accelerated += where >= W_LIVE_TCP;
	}
	if (has_flags(op->call))
		for (int i = 0; i < FLAGS; i++)
			by_flag[i][where] += !!(op->a & flags[i].flag);
	if ((op->call == C_getopt || op->call == C_setopt) && op->a >= 0 && op->a < nr_options && op->a < 64)
		by_option[op->call == C_setopt][op->a][where]++;
}

static void head(FILE *f, const char *what)
{
	fprintf(f, "\n%-28s", what);
	for (int i = 0; i < WHERES; i++)
		fprintf(f, " %9.9s", where_name[i]);
}

static void row(FILE *f, const char *name, const unsigned n[WHERES])
{
	unsigned sum = 0;

	for (int i = 0; i < WHERES; i++)
		sum += n[i];
	if (!sum) {
		fprintf(f, "%-28s not reached\n", name);
		return;
	}
	fprintf(f, "%-28s", name);
	for (int i = 0; i < WHERES; i++)
		fprintf(f, n[i] ? " %9u" : "         .", n[i]);
}

void cover_print(FILE *f)
{
	unsigned reached = 0, ring = 0;

	head(f, "call \\ the connection is");
	fprintf(f, " %8s %8s\n", "failed", "blocked");
	for (int c = 0; c < CALLS; c++) {
		unsigned sum = 0;

		for (int i = 0; i < WHERES; i++)
			sum += by_where[c][i];
		row(f, calls[c].name, by_where[c]);
		if (sum)
			fprintf(f, " %8u %8u\n", failed[c], blocked[c]);
	}
	fprintf(f, "\n%-28s", "call \\ the stream is");
	for (int i = 0; i < LIVES; i++)
		fprintf(f, " %9.9s", life_name[i]);
	for (int c = 0; c < CALLS; c++) {
		fprintf(f, "\n%-28s", calls[c].name);
		for (int i = 0; i < LIVES; i++)
			fprintf(f, by_life[c][i] ? " %9u" : "         .", by_life[c][i]);
	}
	fputc('\n', f);
	head(f, "flag");
	fputc('\n', f);
	for (int i = 0; i < FLAGS; i++) {
		row(f, flags[i].name, by_flag[i]);
		fputc('\n', f);
	}
	for (int set = 0; set < 2; set++) {
		head(f, set ? "setsockopt" : "getsockopt");
		fputc('\n', f);
		for (int i = 0; i < nr_options && i < 64; i++) {
			if (set && !options[i].set)
				continue;
			row(f, options[i].name, by_option[set][i]);
			fputc('\n', f);
		}
	}
	for (int c = 0; c < CALLS; c++)
		for (int w = 0; w < WHERES; w++)
			for (int l = 0; l < LIVES; l++)
				if (pairs[c][w][l]) {
					reached++;
					ring += w >= W_ONE_WAY;
				}
	fprintf(f, "\n%lu steps; %u combinations of call, place and state, %u of them on the ring or after it\n", steps, reached, ring);
	fprintf(f, "%lu steps on connections, %.1f %% of them accelerated\n", connected,
		connected ? 100.0 * accelerated / connected : 0.0);
}
