// SPDX-License-Identifier: BSD-2-Clause
/*
 * settle.c - what has to come before a step, so that what it does is no question of time or of the size of a buffer
 *
 * Behind bytes for which the reader's kernel has no room lie a FIN, or the reset that throws them away: whether a program
 * meets those depends on how much room there is, and of that each world has its own measure.  So both read all that is on
 * its way before a step that could tell.
 */
#include "run.h"

#include <errno.h>
#include <sys/socket.h>

#define ONE_PIECE 16384		/* bytes: one segment of TCP on loopback, one message of the ring */

/* Each world has its own amount of bytes on the way to it, or its own measure of how much of them there is room for. */
bool undecided(const struct desc *d)
{
	return d && (d->uneven || d->backlog);
}

/* It answers bytes with a reset, as soon as they are there. */
bool shuns(const struct desc *d)
{
	return d && (!d->refs || (d->shut_rd && d->shut_wr));
}

/* A thread that can do @call on @d: @op's, if it can. */
static bool find_thread(const struct desc *d, const struct op *op, enum call call, struct op *found)
{
	for (int i = 0; i < PROCS * THREADS; i++) {
		int proc = (op->proc + i / THREADS) % PROCS, thr = (op->thr + i) % THREADS;

		if (!world[TCP].alive[proc] || pending[proc][thr].busy)
			continue;
		for (int s = 0; s < SLOTS; s++)
			if (desc_of(proc, s) == d) {
				*found = (struct op){ proc, thr, call, s, -1, 0, 0 };
				return true;
			}
	}
	return false;
}

bool read_dry(const struct desc *d, const struct op *op, int step)
{
	struct op read;

	if (!d || !find_thread(d, op, C_drain, &read) || competes(&read))
		return false;
	exec_step(&read, step);
	return !undecided(d);
}

static bool read_all(const struct desc *d, const struct op *op, int step)
{
	return !undecided(d) || read_dry(d, op, step);
}

/* Has the peer ended, with its end behind what is on the way? */
static bool ended(const struct desc *d)
{
	const struct desc *p = peer_of(d);

	return d && p && (!p->refs || p->shut_wr);
}

static bool anybody_waits(const struct desc *d)
{
	for (int i = 0; i < PROCS * THREADS; i++) {
		const struct pending *e = &pending[i / THREADS][i % THREADS];

		if (e->busy && (desc_of(e->op.proc, e->op.s) == d || desc_of(e->op.proc, e->op.t) == d || calls[e->op.call].class == EPOLL))
			return true;
	}
	return false;
}

/* Does what is sent come as one, so that nobody who waits can see a part of it?  No: two messages, more than a segment. */
bool in_pieces(const struct op *op)
{
	return op->b > ONE_PIECE || (op->call == C_sendmmsg && op->b);
}

/* recvmmsg() takes what has come for its first message and waits for the second: of pieces it is chance which go into which. */
bool waits_for_messages(const struct desc *d)
{
	for (int i = 0; i < PROCS * THREADS; i++) {
		const struct pending *e = &pending[i / THREADS][i % THREADS];

		if (d && e->busy && e->op.call == C_recvmmsg && desc_of(e->op.proc, e->op.s) == d)
			return true;
	}
	return false;
}

/* @p ends: does a reset go with it, what it still sends, or is there somebody to see when its FIN comes? */
static bool settle_end(const struct desc *p, const struct op *op, bool one, int step)
{
	const struct desc *d = peer_of(p);
	bool at_once = op->call == C_connect;

	if (!d || (one && op->call != C_connect && op->call != C_shutdown && p->refs > 1))
		return true;
	if (op->call != C_shutdown)
		at_once |= p->linger0 || unread(p, TCP) || unread(p, NTBS) || d->coming;
	return !(at_once || anybody_waits(d)) || read_all(d, op, step);
}

static bool settle_send(const struct desc *d, const struct op *op, int step)
{
	const struct desc *p = peer_of(d);

	return !p || !shuns(p) || read_all(d, op, step);
}

int ends_slot(const struct op *op)
{
	switch (op->call) {
	case C_close:
	case C_socket:
	case C_epoll_create: return op->s;
	case C_connect: return op->a == 1 ? op->s : SLOTS;
	case C_shutdown: return op->a == SHUT_RD ? SLOTS : op->s;
	case C_accept:
	case C_take:
	case C_dup:
	case C_dup2:
	case C_dup3:
	case C_dupfd: return op->t;
	case C_accept_any: return op->b;
	case C_close_range: return op->a ? SLOTS : op->b ? -1 : op->s;
	case C_exec:
	case C_exit:
	case C_kill: return -1;
	}
	return SLOTS;
}

/* Whoever asks sees the end; of its own, how far it has come. */
static bool settle_question(const struct desc *d, const struct op *op, int step)
{
	const struct desc *p = peer_of(d);

	return (!ended(d) || read_all(d, op, step)) && (!ended(p) || op->call != C_getopt || read_all(p, op, step));
}

bool settle(const struct op *op, int step)
{
	const struct desc *d = desc_of(op->proc, op->s);
	enum class class = calls[op->call].class;
	int slot = ends_slot(op);
	bool ok = true;

	for (int s = 0; s < SLOTS && ok; s++)
		if (s == slot || slot < 0)
			ok = settle_end(desc_of(op->proc, s), op, slot >= 0, step);
	if (op->call == C_shutdown && d && (op->a != SHUT_WR || d->shut_rd))	/* the kernel tells nobody of room any more */
		ok = ok && read_all(d, op, step);
	if (op->call == C_shutdown && d && d->shut_wr && ended(d))	/* once more: ENOTCONN if both FINs have come */
		ok = ok && read_all(d, op, step) && read_all(peer_of(d), op, step);
	if (user_timeout(op))
		ok = ok && read_all(peer_of(d), op, step);
	if (class == SEND)
		ok = ok && settle_send(d, op, step);
	if (op->call == C_warm)
		ok = ok && settle_send(d, op, step) && settle_send(desc_of(op->a, op->t), op, step);
	if (op->call == C_getopt || op->call == C_peername || waits_for_events(op))
		ok = ok && settle_question(d, op, step) && settle_question(desc_of(op->proc, op->t), op, step);
	if (waits_for_events(op) && !d)		/* a set: any could be a member */
		for (int i = 0; i < nr_desc && ok; i++)
			ok = !desc[i].refs || settle_question(&desc[i], op, step);
	return ok;
}

/* What @d is sent, and Nagle holds back until its kernel acknowledges, comes before the step and not behind it. */
void wait_until_came(const struct desc *d, const struct op *op, int step)
{
	struct op from;

	if (peer_of(d) && find_thread(peer_of(d), op, C_unsent, &from)) {
		wait_until_sent(&from, from.s, step);
		wait_until_there(&from, from.s, step);
	}
}

/*
 * Who has shut down and then closes forgets that it owes an acknowledgement (tcp_time_wait()), and until that would have
 * come Nagle holds back what the peer sends next: then no reset answers it in time.
 */
static void wait_until_heard(const struct desc *d, const struct op *op, int step)
{
	struct op from;

	if (peer_of(d) && find_thread(peer_of(d), op, C_outq, &from))
		wait_until_acknowledged(&from, from.s, step);
}

/* Shut both ways it answers with a reset what comes later. */
static bool shuts_both(const struct op *op, const struct desc *d)
{
	return (d->shut_rd || op->a != SHUT_WR) && (d->shut_wr || op->a != SHUT_RD);
}

/* A reset takes what is still held back with it: whether it came before that is a question of time. */
void wait_before_end(const struct op *op, int step)
{
	int slot = op->call == C_shutdown ? op->s : ends_slot(op);

	if (pending[op->proc][op->thr].busy)
		return;
	for (int s = 0; s < SLOTS; s++) {
		const struct desc *d = desc_of(op->proc, s);

		if ((slot >= 0 && s != slot) || !d || !d->connected)
			continue;
		if (op->call != C_shutdown)
			wait_until_sent(op, s, step);
		if (op->call != C_shutdown && d->shut_wr)
			wait_until_heard(d, op, step);
		/* and who waits meanwhile gets what has come before he is woken */
		if (op->call != C_shutdown || shuts_both(op, d) || (op->a != SHUT_WR && anybody_waits(d)))
			wait_until_came(d, op, step);
	}
}
