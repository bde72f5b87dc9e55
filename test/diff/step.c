// SPDX-License-Identifier: BSD-2-Clause
/*
 * step.c - a sequence, step by step in both worlds
 *
 * A step is given to the same thread of both worlds.  It ends in both, or is blocked in both: then the sequence goes
 * on, and when the call returns in one world it must in the other.  After each step a calm sequence lets both worlds come
 * to rest; a hasty one does not.
 */
#include "diff.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DESCS 64
double late_s = 1.5;			/* one world has answered: how long the other may take */
#define STUCK (5 * late_s)	/* neither answers, and not both sleep */
#define RESTS 3			/* looks at a sleeping world, a millisecond apart, after which a call blocks */
#define WARM_ROUNDS 60

struct pending {
	bool busy;
	int step;
	struct op op;
	uint32_t ask;
	bool done[WORLDS];
	struct answer a[WORLDS];
};

struct traced traced[TRACED];
int nr_traced;
static struct world world[WORLDS];
static struct pending pending[PROCS][THREADS];
static struct desc desc[DESCS];
static int nr_desc, slot_desc[PROCS][SLOTS];
static struct difference *diff;
static bool calm, verbose;
static uint32_t asks;
static int running;		/* step */
unsigned long again_count[CALLS], topped_up[CALLS];

static void found(int step, enum call call, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void found(int step, enum call call, const char *fmt, ...)
{
	va_list ap;

	if (diff->step >= 0)
		return;
	diff->step = step;
	diff->at = running;
	diff->call = call;
	va_start(ap, fmt);
	vsnprintf(diff->what, sizeof(diff->what), fmt, ap);
	va_end(ap);
}

/* ------------------------------------------------------------ who names what */

static struct desc *desc_of(int proc, int slot)
{
	int i = slot >= 0 && slot < SLOTS ? slot_desc[proc][slot] : -1;

	return i < 0 ? NULL : &desc[i];
}

static struct desc *peer_of(const struct desc *d)
{
	return d && d->peer >= 0 ? &desc[d->peer] : NULL;
}

static void set_slot(int proc, int slot, int to)
{
	int was;

	if (slot < 0 || slot >= SLOTS)
		return;
	was = slot_desc[proc][slot];
	if (to >= 0)
		desc[to].refs++;
	slot_desc[proc][slot] = to;
	if (was >= 0)
		desc[was].refs--;
}

static int new_desc(void)
{
	if (nr_desc == DESCS)
		return -1;
	desc[nr_desc] = (struct desc){ .used = true, .peer = -1 };
	return nr_desc++;
}

static void learn_ports(struct desc *d, const struct answer a[WORLDS])
{
	for (int w = 0; w < WORLDS; w++) {
		if (a[w].lport)
			d->w[w].lport = a[w].lport;
		if (a[w].rport)
			d->w[w].rport = a[w].rport;
	}
}

static void find_peer(int me)
{
	for (int i = 0; i < nr_desc; i++) {
		bool both = i != me || desc[i].connected;

		for (int w = 0; w < WORLDS; w++)
			both = both && desc[i].w[w].rport && desc[i].w[w].rport == desc[me].w[w].lport && desc[i].w[w].lport == desc[me].w[w].rport;
		if (both) {
			desc[i].peer = me;
			desc[me].peer = i;
			desc[i].connected = desc[me].connected = true;
		}
	}
}

/* A step has returned the same in both worlds: what the driver knows of descriptors follows. */
static void learn(const struct op *op, struct answer a[WORLDS])
{
	struct desc *d = desc_of(op->proc, op->s);
	bool ok = a[TCP].ret >= 0;
	int i;

	switch (op->call) {
	case C_socket:
		i = ok ? new_desc() : -1;
		set_slot(op->proc, op->s, i);
		for (int w = 0; w < WORLDS; w++)
			world[w].family[op->s] = op->a;
		break;
	case C_epoll_create: set_slot(op->proc, op->s, -1); break;
	case C_bind:
		if (ok && d) {
			for (int w = 0; w < WORLDS; w++) {
				world[w].port[op->s] = a[w].lport;
				world[w].family[op->s] = a[w].family;
			}
		}
		break;
	case C_listen:
		if (ok && d)
			d->listening = true;
		break;
	case C_connect:
		if (d && op->a == 0 && (ok || a[TCP].err == EINPROGRESS)) {
			learn_ports(d, a);
			for (int w = 0; w < WORLDS; w++)
				if (!d->w[w].rport && op->t >= 0)
					d->w[w].rport = world[w].port[op->t];
			d->connected = ok;
			find_peer(slot_desc[op->proc][op->s]);
		}
		break;
	case C_accept:
		i = ok ? new_desc() : -1;
		if (i >= 0) {
			learn_ports(&desc[i], a);
			desc[i].connected = true;
			if (d)
				desc[i].timeo = d->timeo;
			find_peer(i);
		}
		set_slot(op->proc, op->t, i);
		break;
	case C_close: set_slot(op->proc, op->s, -1); break;
	case C_dup:
	case C_dupfd: set_slot(op->proc, op->t, ok ? slot_desc[op->proc][op->s] : -1); break;
	case C_dup2:
	case C_dup3:
		if (ok)
			set_slot(op->proc, op->t, op->s >= 0 ? slot_desc[op->proc][op->s] : -1);
		break;
	case C_setopt:
		if (ok && d && options[op->a].shape == TIMEVAL && op->b > 0)
			d->timeo = true;
		break;
	case C_shutdown:
		if (ok && d) {
			d->shut_wr |= op->a != SHUT_RD;
			d->shut_rd |= op->a != SHUT_WR;
		}
		break;
	case C_fork:
		for (int s = 0; s < SLOTS && ok; s++)
			set_slot(op->a, s, slot_desc[op->proc][s]);
		break;
	}
}

static void bury(int proc)
{
	for (int s = 0; s < SLOTS; s++)
		set_slot(proc, s, -1);
	memset(pending[proc], 0, sizeof(pending[proc]));
	for (int w = 0; w < WORLDS; w++)
		world_buried(&world[w], proc);
}

static enum life life_of(const struct desc *d)
{
	const struct desc *p = peer_of(d);

	if (!d)
		return L_NONE;
	if (!d->connected)
		return L_FRESH;
	if (p && !p->refs)
		return L_GONE;
	if (d->shut_wr && p && p->shut_wr)
		return L_BOTH_SHUT;
	return d->shut_wr ? L_SHUT_WR : p && p->shut_wr ? L_PEER_SHUT : d->shut_rd ? L_SHUT_RD : L_OPEN;
}

/* ------------------------------------------------------------ asking */

static void collect(int ms)
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

static void give(int w, const struct op *op, int step, struct pending *e)
{
	struct order o = { .op = *op, .step = step, .ask = e->ask };

	o.port = op->t >= 0 && op->t < SLOTS ? world[w].port[op->t] : 0;
	o.family = op->t >= 0 && op->t < SLOTS && world[w].family[op->t] == 6 ? 6 : 4;
	e->done[w] = false;
	world_send(&world[w], &o);
}

/* Does the call end by itself, whatever happens? */
static bool ends_alone(const struct op *op)
{
	const struct desc *d = desc_of(op->proc, op->s);

	if (op->call == C_poll || op->call == C_ppoll || op->call == C_poll2 || op->call == C_select || op->call == C_pselect ||
	    op->call == C_epoll_wait)
		return op->b >= 0;
	return d && d->timeo;
}

enum wait { BOTH, BLOCKED, ONE_ONLY, RESTLESS, DEAD };

static enum wait await(struct pending *e)
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
			if (!e->done[w] && world_died(&world[w], e->op.proc))
				return DEAD;
	}
}

static const char *one_only(const struct pending *e, char *buf, size_t size)
{
	int w = e->done[TCP] ? TCP : NTBS;
	char text[200];

	answer_text(&e->op, &e->a[w], text, sizeof(text));
	snprintf(buf, size, "%s %s; %s blocks", world_name[w], text, world_name[!w]);
	return buf;
}

/* Ask one world for something more; the thread is idle there. */
static bool ask_one(int w, const struct op *op, int step, struct answer *a)
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

static void account(const struct op *op, struct desc *d, int w, const struct answer *a)
{
	bool peek = op->call >= C_recv && op->call <= C_recvmmsg && (op->a & (MSG_PEEK | MSG_OOB));
	enum class class = calls[op->call].class;

	if (!d || !a->bytes)
		return;
	if (class == SEND) {
		d->w[w].tx_hash = hash_join(d->w[w].tx_hash, a->hash, a->bytes);
		d->w[w].tx += a->bytes;
		if (op->a & MSG_OOB && op->call >= C_send && op->call <= C_sendmmsg)
			d->oob = true;
	} else if ((class == RECV || class == DRAIN) && !peek) {
		d->w[w].rx_hash = hash_join(d->w[w].rx_hash, a->hash, a->bytes);
		d->w[w].rx += a->bytes;
		if (op->call >= C_recv && op->call <= C_recvmmsg && op->a & MSG_TRUNC)
			d->unhashed = true;
	}
}

/* A blocked send towards @d. */
static struct pending *sender(const struct desc *d)
{
	for (int i = 0; i < PROCS * THREADS; i++) {
		struct pending *e = &pending[i / THREADS][i % THREADS];

		if (e->busy && calls[e->op.call].class == SEND && d->peer >= 0 && desc_of(e->op.proc, e->op.s) == &desc[d->peer])
			return e;
	}
	return NULL;
}

/* Bytes of the world's own stream that the driver knows to be on their way, or more that are still being sent. */
static bool unread(const struct desc *d, int w)
{
	const struct desc *p = peer_of(d);
	struct pending *e = sender(d);

	if (!p || p->oob)
		return false;
	if (e && !e->done[w])
		return true;
	return p->w[w].tx + (e ? e->a[w].bytes : 0) > d->w[w].rx;
}

/* A read got less in one world: the rest must come. */
static void top_up(const struct op *op, int step, struct desc *d, struct answer a[WORLDS])
{
	bool thrown = op->call >= C_recv && op->call <= C_recvmmsg && (op->a & MSG_TRUNC);
	double end = now() + late_s;
	int rounds = 0;

	while (d->w[TCP].rx != d->w[NTBS].rx && now() < end) {
		int w = d->w[TCP].rx < d->w[NTBS].rx ? TCP : NTBS;
		struct op more = { op->proc, op->thr, C_recv, op->s, -1, MSG_DONTWAIT, 0 };
		struct answer m;

		more.b = d->w[!w].rx - d->w[w].rx;
		if (!ask_one(w, &more, step, &m) || m.ret == 0 || (m.ret < 0 && m.err != EAGAIN))
			return;
		account(&more, d, w, &m);
		a[w].hash = hash_join(a[w].hash, m.hash, m.bytes);
		a[w].bytes += m.bytes;
		if (a[w].bytes && calls[op->call].class != DRAIN) {
			a[w] = (struct answer){ .bytes = a[w].bytes, .hash = a[w].hash, .sigs = a[w].sigs };
			a[w].ret = op->call == C_recvmmsg ? a[!w].ret : (int64_t)a[w].bytes;
			a[w].nr = a[!w].nr;
			if (thrown)
				a[w].hash = a[!w].hash;
			memcpy(a[w].v, a[!w].v, sizeof(a[w].v));
		}
		if (m.ret < 0)
			usleep(500);
		if (!rounds++)
			topped_up[op->call]++;
	}
}

static void drain_on(const struct op *op, int step, struct desc *d, struct answer a[WORLDS])
{
	double end = now() + late_s;

	for (int w = 0; w < WORLDS; w++)
		while (unread(d, w) && a[w].ret < 0 && a[w].err == EAGAIN && now() < end) {
			struct answer m;

			if (!ask_one(w, op, step, &m))
				break;
			account(op, d, w, &m);
			a[w] = m;
			if (m.bytes)
				end = now() + late_s;
			else
				usleep(200);
			collect(0);
		}
}

/* The streams as far as both worlds, or each for itself, have them. */
static void check_streams(const struct op *op, int step, struct desc *d)
{
	struct desc *p = peer_of(d);
	bool all = p && d->w[TCP].rx == p->w[TCP].tx && d->w[NTBS].rx == p->w[NTBS].tx;

	if (d->unhashed)
		return;
	if (d->w[TCP].rx == d->w[NTBS].rx && !d->uneven && d->w[TCP].rx_hash != d->w[NTBS].rx_hash)
		found(step, op->call, "other bytes: streams of %llu bytes differ", (unsigned long long)d->w[TCP].rx);
	for (int w = 0; w < WORLDS && all && !p->oob; w++)
		if (d->w[w].rx_hash != p->w[w].tx_hash)
			found(step, op->call, "%s: what came is not what was sent, somewhere in %llu bytes", world_name[w],
			      (unsigned long long)d->w[w].rx);
	if (all) {		/* the amounts may have been different ones: count anew */
		d->uneven = d->full = false;
		for (int w = 0; w < WORLDS; w++)
			d->w[w].rx = d->w[w].rx_hash = p->w[w].tx = p->w[w].tx_hash = 0;
	} else if (calls[op->call].class == DRAIN || calls[op->call].class == RECV)
		d->full = false;
}

/* Questions that change nothing are asked again until both worlds agree. */
static enum verdict ask_again(struct op op, int step, struct pending *e, struct desc *d, struct desc *p, char *why, size_t size)
{
	double end = now() + late_s;
	enum verdict v = V_AGAIN;

	again_count[op.call]++;
	if (op.call == C_poll || op.call == C_ppoll || op.call == C_poll2 || op.call == C_select || op.call == C_pselect ||
	    op.call == C_epoll_wait)
		op.b = 0;
	if (calls[op.call].class == RECV)
		op.a |= MSG_DONTWAIT;
	while (v == V_AGAIN && now() < end) {
		struct answer a[WORLDS];

		usleep(1000);
		for (int w = 0; w < WORLDS; w++)
			if (!ask_one(w, &op, step, &a[w]))
				return V_DIFFERENT;
		if (calls[op.call].class == EPOLL)		/* an edge is told once: what came first counts too */
			for (int w = 0; w < WORLDS; w++)
				if (a[w].ret == 0)
					a[w] = e->a[w];
		e->a[TCP] = a[TCP];
		e->a[NTBS] = a[NTBS];
		v = compare(&op, a, d, p, why, size);
	}
	return v == V_AGAIN ? V_DIFFERENT : v;
}

/* Both worlds have answered: compare, and take it in. */
static void finish(struct pending *e, bool first)
{
	struct op op = e->op;
	struct desc *d = desc_of(op.proc, op.s), *p = peer_of(d), *t = desc_of(op.proc, op.t);
	enum class class = calls[op.call].class;
	char why[400] = "", text[200];
	enum verdict v;

	e->busy = false;
	if (p && class == SEND)
		p->coming = false;
	if (op.call == C_epoll_wait || op.call == C_poll2)
		for (int i = 0; i < nr_desc; i++)	/* any member may have room or not */
			if (desc[i].uneven && !(d && d->uneven))
				d = &desc[i], p = peer_of(d);
	for (int w = 0; w < WORLDS; w++)
		account(&op, d, w, &e->a[w]);
	if (class == DRAIN && d)
		drain_on(&op, e->step, d, e->a);
	if ((class == RECV || class == DRAIN) && d && !d->uneven && d->w[TCP].rx != d->w[NTBS].rx &&
	    (class == DRAIN || ((e->a[TCP].ret > 0 || e->a[TCP].err == EAGAIN) && (e->a[NTBS].ret > 0 || e->a[NTBS].err == EAGAIN))))
		top_up(&op, e->step, d, e->a);
	v = compare(&op, e->a, d, p, why, sizeof(why));
	if (v == V_AGAIN && class == DRAIN)
		v = V_DIFFERENT;
	if (v == V_AGAIN)
		v = ask_again(op, e->step, e, d, p, why, sizeof(why));
	if (v == V_DIFFERENT)
		found(e->step, op.call, "%s%s", why, first ? "" : " (the call had blocked)");
	if (op.call == C_flood && p && (e->a[TCP].bytes || p->uneven))
		p->full = true;
	if (d && (class == RECV || class == DRAIN))
		check_streams(&op, e->step, d);
	if (verbose) {
		answer_text(&op, &e->a[TCP], text, sizeof(text));
		fprintf(stderr, "      %s%s\n", first ? "" : "now returns: ", text);
	}
	(void)t;
	learn(&op, e->a);
}

/* Calls that have blocked and do no more. */
static void finish_blocked(void)
{
	for (int i = 0; i < PROCS * THREADS && diff->step < 0; i++) {
		struct pending *e = &pending[i / THREADS][i % THREADS];
		char why[400];

		if (!e->busy || !(e->done[TCP] || e->done[NTBS]))
			continue;
		if (await(e) == BOTH)
			finish(e, false);
		else
			found(e->step, e->op.call, "%s (the call had blocked)", one_only(e, why, sizeof(why)));
	}
}

static bool any_pending(void)
{
	for (int i = 0; i < PROCS * THREADS; i++)
		if (pending[i / THREADS][i % THREADS].busy)
			return true;
	return false;
}

static void come_to_rest(int looks)
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

/* ------------------------------------------------------------ steps */

/* A read of no bytes cannot be topped up: what Nagle holds back in the TCP world is waited for. */
static void wait_for_bytes(const struct op *op, int step)
{
	const struct op ask = { op->proc, op->thr, C_fionread, op->s, -1, 0, 0 };
	const struct desc *d = desc_of(op->proc, op->s);
	double end = now() + late_s / 5;
	struct answer a;

	while (d && unread(d, TCP) && now() < end) {
		if (!ask_one(TCP, &ask, step, &a) || a.ret || a.v[0])
			return;
		usleep(1000);
	}
}

/* What was sent is on its way, also where Nagle holds it back on TCP until the peer's kernel acknowledges. */
static void wait_until_sent(const struct op *op, int step)
{
	const struct op ask = { op->proc, op->thr, C_unsent, op->s, -1, 0, 0 };
	const struct desc *p = peer_of(desc_of(op->proc, op->s));
	double end = now() + late_s / 5;
	struct answer a;

	for (int w = 0; w < WORLDS && p && !p->uneven; w++)
		while (now() < end && ask_one(w, &ask, step, &a) && !a.ret && a.v[0] > 0)
			usleep(1000);
}

static void trace(const struct op *op, int step)
{
	if (nr_traced < TRACED)
		traced[nr_traced++] = (struct traced){ *op, step, false };
}

static void exec_step(const struct op *op, int step)
{
	struct pending *e = &pending[op->proc][op->thr];
	char why[400];

	if (calls[op->call].class == RECV && (!op->b || (desc_of(op->proc, op->s) && desc_of(op->proc, op->s)->shut_rd)))
		wait_for_bytes(op, step);
	trace(op, step);
	*e = (struct pending){ .busy = true, .step = step, .op = *op, .ask = ++asks };
	for (int w = 0; w < WORLDS; w++)
		give(w, op, step, e);
	switch (await(e)) {
	case BOTH: finish(e, true); break;
	case BLOCKED:
		traced[nr_traced - 1].blocked = true;
		if (calls[op->call].class == SEND && peer_of(desc_of(op->proc, op->s)))
			peer_of(desc_of(op->proc, op->s))->uneven = peer_of(desc_of(op->proc, op->s))->coming = true;
		if (verbose)
			fprintf(stderr, "      blocks\n");
		break;
	case ONE_ONLY: found(step, op->call, "%s", one_only(e, why, sizeof(why))); break;
	case RESTLESS:
		found(step, op->call, "blocks in both worlds, and %s does not sleep", world_name[world_quiet(&world[TCP]) ? NTBS : TCP]);
		break;
	case DEAD: found(step, op->call, "a process has died"); break;
	}
	if (diff->step < 0 && any_pending()) {
		come_to_rest(2);
		finish_blocked();
	} else if (calm && diff->step < 0) {
		come_to_rest(1);
	}
	if (calm && diff->step < 0 && !e->busy && calls[op->call].class == SEND && e->a[TCP].bytes)
		wait_until_sent(op, step);
}

static bool closes(const struct op *op, const struct op *waits)
{
	int slot = op->call == C_close ? op->s : op->call == C_dup2 || op->call == C_dup3 ? op->t : -1;

	return slot >= 0 && (slot == waits->s || slot == waits->t);
}

/* Does another blocked call compete for the same bytes, connections or room?  Who wins is chance. */
static bool competes(const struct op *op)
{
	int d = op->s >= 0 ? slot_desc[op->proc][op->s] : -1;
	enum class class = calls[op->call].class;

	/* is there room in a stream of which each world has taken what it could?  Sizes of buffers, and chance */
	if (class == SEND && op->call != C_flood && d >= 0 && peer_of(&desc[d]) && peer_of(&desc[d])->uneven)
		return true;

	/* LIMITATIONS: a descriptor that is closed under a call that waits on it */
	for (int i = 0; i < THREADS; i++)
		if (pending[op->proc][i].busy && closes(op, &pending[op->proc][i].op))
			return true;
	for (int i = 0; i < PROCS * THREADS; i++) {
		const struct pending *e = &pending[i / THREADS][i % THREADS];
		enum class c = calls[e->op.call].class;

		if (!e->busy || d < 0 || e->op.s < 0 || slot_desc[e->op.proc][e->op.s] != d)
			continue;
		/* nor how much a reader has taken that still waits for more */
		if (((class == RECV || class == DRAIN || op->call == C_fionread) && (c == RECV || c == DRAIN)) || (class == SEND && c == SEND) ||
		    (op->call == C_accept && e->op.call == C_accept) || (op->call == C_connect && e->op.call == C_connect))
			return true;
	}
	return false;
}

static void warm(const struct op *op, int step)
{
	struct op there = { op->proc, op->thr, C_send, op->s, -1, MSG_DONTWAIT | MSG_NOSIGNAL, 1 };
	struct op back = there;
	struct desc *d = desc_of(op->proc, op->s);

	back.proc = op->a;
	back.thr = 0;
	back.s = op->t;
	if (pending[op->a][0].busy || !world[TCP].alive[op->a] || !d || d->peer < 0 || d->peer != slot_desc[op->a][op->t])
		return;
	for (int i = 0; i < WARM_ROUNDS && diff->step < 0; i++) {
		struct op take = { back.proc, back.thr, C_recv, back.s, -1, MSG_DONTWAIT, 1 };
		uint64_t bytes;
		enum where where;

		exec_step(&there, step);
		exec_step(&take, step);
		if (op->b != 1 && diff->step < 0) {
			take.proc = there.proc;
			take.thr = there.thr;
			take.s = there.s;
			exec_step(&back, step);
			exec_step(&take, step);
		}
		ring_look();
		where = ring_where(d->w[NTBS].lport, d->w[NTBS].rport, &bytes);
		if (i >= 3 && (where == W_BOTH || (op->b == 1 && where == W_ONE_WAY) || where == W_PLAIN || where == W_BACK))
			return;
		usleep(i < 3 ? 100 : 1000);
	}
}

static void to_process(const struct op *op, int step)
{
	switch (op->call) {
	case C_warm: warm(op, step); break;
	case C_kill:
	case C_exit:
		trace(op, step);
		for (int w = 0; w < WORLDS; w++) {
			struct order o = { .op = *op, .step = step };

			if (op->call == C_kill)
				kill(world[w].pid[op->proc], SIGKILL);
			else
				world_send(&world[w], &o);
		}
		bury(op->proc);
		come_to_rest(2);
		finish_blocked();
		break;
	case C_interrupt:
		if (op->b < 0 || op->b >= THREADS || !pending[op->a][op->b].busy)
			return;
		trace(op, step);
		for (int w = 0; w < WORLDS; w++)
			syscall(SYS_tgkill, world[w].pid[op->a], world[w].tid[op->a][op->b], op->t == 1 ? SIGUSR2 : SIGUSR1);
		come_to_rest(2);
		finish_blocked();
		break;
	}
}

static void adopt(const struct op *op)
{
	for (int w = 0; w < WORLDS; w++) {
		world[w].pid[op->a] = pending[op->proc][op->thr].a[w].pid;
		if (!world_adopt(&world[w], op->a))
			found(pending[op->proc][op->thr].step, C_fork, "%s: the child does not come up", world_name[w]);
	}
}

/* The thread that is meant, or one that is free; -1: all are blocked. */
static int free_thread(const struct op *op)
{
	for (int i = 0; i < THREADS; i++)
		if (!pending[op->proc][(op->thr + i) % THREADS].busy)
			return (op->thr + i) % THREADS;
	return op->call == C_kill ? 0 : -1;
}

static void step(const struct op *wanted, int nr)
{
	struct op here = *wanted, *op = &here;
	int thr = free_thread(op);
	struct desc *d = desc_of(op->proc, op->s);
	struct pending *e = &pending[op->proc][thr < 0 ? 0 : thr];
	enum life life = life_of(d);
	enum where where = W_NONE;
	uint64_t bytes;
	char line[200];

	if (thr < 0 || !world[TCP].alive[op->proc] || competes(op))
		return;
	op->thr = thr;
	if (op->call == C_fork && (op->a < FIRST_PROCS || op->a >= PROCS || world[TCP].pid[op->a]))
		return;
	if (verbose) {
		op_text(op, line, sizeof(line));
		fprintf(stderr, "%4d  %s\n", nr, line);
	}
	ring_look();
	if (d)
		where = d->listening ? W_LISTEN : !d->connected ? W_NEW : ring_where(d->w[NTBS].lport, d->w[NTBS].rport, &bytes);
	if (verbose)
		fprintf(stderr, "      [%s]\n", where_name[where]);
	if (calls[op->call].class == DRIVER)
		to_process(op, nr);
	else
		exec_step(op, nr);
	cover_count(op, e->busy ? NULL : &e->a[TCP], where, life);
	if (op->call == C_fork && diff->step < 0 && e->a[TCP].ret == 0)
		adopt(op);
}

/* Whatever is left open must look the same, and hold the same bytes. */
static void last_look(int nr)
{
	for (int p = 0; p < PROCS; p++)
		for (int s = 0; s < SLOTS && world[TCP].alive[p]; s++) {
			struct desc *d = desc_of(p, s);
			struct op op = { p, 0, C_poll, s, -1, POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLWRNORM, 0 };

			for (op.thr = 0; op.thr < THREADS - 1 && pending[p][op.thr].busy; op.thr++)
				;
			if (!d || pending[p][op.thr].busy || diff->step >= 0)
				continue;
			exec_step(&op, nr);
			op.call = C_fionread;
			if (diff->step < 0 && !competes(&op))
				exec_step(&op, nr);
			op.call = C_drain;
			if (diff->step < 0 && d->connected && !competes(&op))
				exec_step(&op, nr);
		}
}

enum outcome run_sequence(const struct seq *s, struct difference *d, bool say)
{
	enum outcome out = RUN_BROKEN;

	memset(pending, 0, sizeof(pending));
	memset(slot_desc, 0xff, sizeof(slot_desc));
	nr_desc = nr_traced = 0;
	diff = d;
	*d = (struct difference){ .step = -1 };
	calm = s->calm;
	verbose = say;
	if (world_start(&world[TCP], TCP) && world_start(&world[NTBS], NTBS)) {
		for (running = 0; running < s->nr && d->step < 0; running++)
			step(&s->op[running], running);
		if (d->step < 0)
			last_look(s->nr);
		out = d->step < 0 ? RUN_SAME : RUN_DIFFERS;
	}
	for (int w = 0; w < WORLDS; w++)
		world_stop(&world[w]);
	return out;
}
