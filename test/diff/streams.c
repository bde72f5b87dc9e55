// SPDX-License-Identifier: BSD-2-Clause
/*
 * streams.c - the bytes of a stream as far as they have come: counted in each world, topped up, compared
 */
#include "run.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

unsigned long topped_up[CALLS];

void account(const struct op *op, struct desc *d, int w, const struct answer *a)
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

/* To a reader of the rest: also behind an urgent byte, where nobody counts what is unread. */
static bool sends_on(const struct desc *d, int w)
{
	struct pending *e = sender(d);

	return e && !e->done[w];
}

bool unread(const struct desc *d, int w)
{
	const struct desc *p = peer_of(d);
	struct pending *e = sender(d);

	if (!p || p->oob)
		return false;
	if (sends_on(d, w))
		return true;
	return p->w[w].tx + (e ? e->a[w].bytes : 0) > d->w[w].rx;
}

/* A read got less in one world: the rest must come. */
void top_up(const struct op *op, int step, struct desc *d, struct answer a[WORLDS])
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
			topped_up[op->call]++, accept_as(R_SPLIT);
	}
}

static bool says_again(const struct answer *a)
{
	return a->ret < 0 && a->err == EAGAIN;
}

void drain_on(const struct op *op, int step, struct desc *d, struct answer a[WORLDS])
{
	double end = now() + late_s;

	for (int w = 0; w < WORLDS; w++)		/* an end may come some time behind the last byte */
		while ((unread(d, w) || sends_on(d, w) || !says_again(&a[!w])) && says_again(&a[w]) && now() < end) {
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
void check_streams(const struct op *op, int step, struct desc *d)
{
	struct desc *p = peer_of(d);
	bool all = p && !d->coming && d->w[TCP].rx == p->w[TCP].tx && d->w[NTBS].rx == p->w[NTBS].tx;

	if (d->unhashed)
		return;
	if (d->w[TCP].rx == d->w[NTBS].rx && !d->uneven && d->w[TCP].rx_hash != d->w[NTBS].rx_hash)
		found(step, op->call, "other bytes: streams of %llu bytes differ", (unsigned long long)d->w[TCP].rx);
	for (int w = 0; w < WORLDS && all && !p->oob; w++)
		if (d->w[w].rx_hash != p->w[w].tx_hash)
			found(step, op->call, "%s: what came is not what was sent, somewhere in %llu bytes", world_name[w],
			      (unsigned long long)d->w[w].rx);
	if (all) {		/* the amounts may have been different ones: count anew */
		d->uneven = d->full = d->backlog = false;
		for (int w = 0; w < WORLDS; w++)
			d->w[w].rx = d->w[w].rx_hash = p->w[w].tx = p->w[w].tx_hash = 0;
	} else if (calls[op->call].class == DRAIN || calls[op->call].class == RECV)
		d->full = false;
}

/* A read of no bytes cannot be topped up: what Nagle holds back in the TCP world is waited for. */
void wait_for_bytes(const struct op *op, int step)
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

/* How many messages recvmmsg() fills depends on what has come: both worlds have all that was sent. */
void wait_for_all(const struct op *op, int step)
{
	const struct op ask = { op->proc, op->thr, C_fionread, op->s, -1, 0, 0 };
	const struct desc *d = desc_of(op->proc, op->s), *p = peer_of(d);
	double end = now() + late_s / 2;
	struct answer a;

	for (int w = 0; w < WORLDS && p && !p->oob && !d->uneven && !sender(d); w++)
		while (p->w[w].tx > d->w[w].rx && now() < end) {
			if (!ask_one(w, &ask, step, &a) || a.ret || (uint64_t)a.v[0] >= p->w[w].tx - d->w[w].rx)
				break;
			usleep(1000);
		}
}

static void wait_until_none(enum call call, const struct op *op, int slot, int step, double limit_s)
{
	const struct op ask = { op->proc, op->thr, call, slot, -1, 0, 0 };
	const struct desc *p = peer_of(desc_of(op->proc, slot));
	double end = now() + limit_s;
	struct answer a;

	for (int w = 0; w < WORLDS && p && !p->uneven; w++)
		while (now() < end && ask_one(w, &ask, step, &a) && !a.ret && a.v[0] > 0)
			usleep(1000);
}

/* What was sent is on its way, also where Nagle holds it back on TCP until the peer's kernel acknowledges. */
void wait_until_sent(const struct op *op, int slot, int step)
{
	wait_until_none(C_unsent, op, slot, step, late_s);	/* what MSG_MORE holds back goes with the timer of a probe */
}

/*
 * On a busy machine a segment that was sent may wait in a queue of the kernel (ksoftirqd).  When it is acknowledged it has come; a
 * socket that was reset has bytes for ever that are not.
 */
void wait_until_there(const struct op *op, int slot, int step)
{
	wait_until_none(C_outq, op, slot, step, 0.25);
}

void wait_until_acknowledged(const struct op *op, int slot, int step)
{
	wait_until_none(C_outq, op, slot, step, late_s);
}
