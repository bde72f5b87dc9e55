// SPDX-License-Identifier: BSD-2-Clause
/*
 * shrink.c - the shortest sequence that still shows a difference of the same call
 *
 * Steps are taken away, many at a time and then one by one, until none can be spared; then what is left is made plain:
 * small sizes, no flags, one thread.  Each try is a run in new worlds, and one that shows nothing is tried twice.
 */
#include "diff.h"

#define SHORT_S 0.45		/* longer than any timer of the kernel that plays a part */

static bool shows(const struct seq *s, const struct difference *want, struct difference *got)
{
	for (int i = 0; i < 2; i++)
		if (run_sequence(s, got, false) == RUN_DIFFERS && got->call == want->call)
			return true;
	return false;
}

static bool without(struct seq *s, int from, int count, struct difference *d)
{
	struct seq less = *s;
	struct difference got;

	less.nr -= count;
	for (int i = from; i < less.nr; i++)
		less.op[i] = s->op[i + count];
	if (!shows(&less, d, &got))
		return false;
	if (got.at + 1 < less.nr)
		less.nr = got.at + 1;
	*s = less;
	*d = got;
	return true;
}

static bool with(struct seq *s, int i, struct op op, struct difference *d)
{
	struct seq plain = *s;
	struct difference got;

	plain.op[i] = op;
	if (!shows(&plain, d, &got))
		return false;
	*s = plain;
	*d = got;
	return true;
}

void shrink(struct seq *s, struct difference *d)
{
	const double normal = late_s;
	bool less = true;

	late_s = SHORT_S;
	if (d->at + 1 < s->nr)
		s->nr = d->at + 1;
	for (int part = s->nr / 2; part > 1; part /= 2)
		for (int i = 0; i + part <= s->nr;)
			if (!without(s, i, part, d))
				i += part;
	while (less) {
		less = false;
		for (int i = s->nr - 1; i >= 0; i--)
			if (i < s->nr && without(s, i, 1, d))
				less = true;
	}
	for (int i = 0; i < s->nr; i++) {
		struct op op = s->op[i];
		enum class class = calls[op.call].class;

		if (op.thr) {
			op.thr = 0;
			if (!with(s, i, op, d))
				op.thr = s->op[i].thr;
		}
		if ((class == SEND || class == RECV) && op.b > 1) {
			op.b = 1;
			if (!with(s, i, op, d))
				op.b = s->op[i].b;
		}
		if (op.a && op.call >= C_recv && op.call <= C_sendmmsg && class != DRAIN) {
			op.a = 0;
			with(s, i, op, d);
		}
	}
	late_s = normal;
}
