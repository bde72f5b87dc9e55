// SPDX-License-Identifier: BSD-2-Clause
/*
 * ask.c - a step is given to both worlds, or a question to one; answers are waited for, or the sleep of all threads
 */
#include "run.h"

#include <poll.h>

double late_s = 1.5;			/* one world has answered: how long the other may take */
#define STUCK (5 * late_s)		/* neither answers, and not both sleep */
#define RESTS 3				/* looks at a sleeping world, a millisecond apart, after which a call blocks */

uint32_t asks;

void collect(int ms)
{
	struct pollfd p[WORLDS * PROCS * THREADS];
	int n = 0, at[WORLDS * PROCS * THREADS];

	for (int w = 0; w < WORLDS; w++)
		for (int i = 0; i < PROCS * THREADS; i++)
			if (pending[i / THREADS][i % THREADS].busy && !pending[i / THREADS][i % THREADS].done[w]) {
				at[n] = w * PROCS * THREADS + i;
				p[n++] = (struct pollfd){ world[w].chan[i / THREADS][i % THREADS], POLLIN, 0 };
			}
	if (poll(p, n, ms) <= 0)
		return;
	for (int i = 0; i < n; i++) {
		int w = at[i] / (PROCS * THREADS), k = at[i] % (PROCS * THREADS);
		struct pending *e = &pending[k / THREADS][k % THREADS];
		struct answer a;

		if (p[i].revents && world_receive(&world[w], k / THREADS, k % THREADS, &a) && a.ask == e->ask) {
			e->a[w] = a;
			e->done[w] = true;
		}
	}
}

void give(int w, const struct op *op, int step, struct pending *e)
{
	struct order o = { .op = *op, .step = step, .ask = e->ask };

	o.port = op->t >= 0 && op->t < SLOTS ? world[w].port[op->t] : 0;
	o.family = op->t >= 0 && op->t < SLOTS && world[w].family[op->t] ? world[w].family[op->t] : 4;
	e->done[w] = false;
	world_send(&world[w], &o);
}

bool waits_for_events(const struct op *op)
{
	return op->call == C_poll || op->call == C_ppoll || op->call == C_poll2 || op->call == C_select || op->call == C_pselect ||
	       op->call == C_epoll_wait;
}

/* Does the call end by itself, whatever happens? */
static bool ends_alone(const struct op *op)
{
	const struct desc *d = desc_of(op->proc, op->s);

	if (waits_for_events(op))
		return op->b >= 0;
	return d && (calls[op->call].class == SEND || op->call == C_connect ? d->sndtimeo : d->rcvtimeo);
}

enum wait await(struct pending *e)
{
	double begin = now(), one_since = 0;
	int rests = 0;

	for (;;) {
		int done;

		collect(1);
		done = e->done[TCP] + e->done[NTBS];
		if (done == 2)
			return BOTH;
		if (done == 1) {
			int w = e->done[TCP] ? NTBS : TCP;

			if (!one_since)
				one_since = now();
			if (now() - one_since > late_s && world_asleep(&world[w], e->op.proc, e->op.thr))
				return ONE_ONLY;
		} else if (!ends_alone(&e->op)) {
			bool rest = world_quiet(&world[TCP]) && world_quiet(&world[NTBS]);

			collect(0);
			rests = rest && !e->done[TCP] && !e->done[NTBS] ? rests + 1 : 0;
			if (rests == RESTS)
				return BLOCKED;
		}
		if (now() - begin > STUCK)
			return RESTLESS;
		for (int w = 0; w < WORLDS; w++)
			if (!e->done[w] && e->op.call != C_exec && world_died(&world[w], e->op.proc))
				return DEAD;
	}
}

const char *one_only(const struct pending *e, char *buf, size_t size)
{
	int w = e->done[TCP] ? TCP : NTBS;
	char text[200];

	answer_text(&e->op, &e->a[w], text, sizeof(text));
	snprintf(buf, size, "%s %s; %s blocks", world_name[w], text, world_name[!w]);
	return buf;
}

/* Ask one world for something more; the thread is idle there. */
bool ask_one(int w, const struct op *op, int step, struct answer *a)
{
	struct pending *e = &pending[op->proc][op->thr], saved = *e;
	double end = now() + late_s;

	e->busy = true;
	e->ask = ++asks;
	e->done[!w] = true;
	give(w, op, step, e);
	while (!e->done[w] && now() < end)
		collect(5);
	*a = e->a[w];
	end = e->done[w];
	*e = saved;
	return end;
}

bool any_pending(void)
{
	for (int i = 0; i < PROCS * THREADS; i++)
		if (pending[i / THREADS][i % THREADS].busy)
			return true;
	return false;
}

void come_to_rest(int looks)
{
	double end = now() + 2;
	int rests = 0;

	while (rests < looks && now() < end) {
		rests = world_quiet(&world[TCP]) && world_quiet(&world[NTBS]) ? rests + 1 : 0;
		if (rests < looks)
			collect(any_pending() ? 1 : 0);
	}
	collect(0);
}
