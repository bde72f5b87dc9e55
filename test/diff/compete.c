// SPDX-License-Identifier: BSD-2-Clause
/*
 * compete.c - steps that are left out while others are blocked: who wins is chance, or a matter of sizes of buffers
 */
#include "run.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define HALF_WINDOW 16384	/* of the smallest a kernel offers (tcp_bound_to_half_wnd()) */

bool ends_when_woken(const struct op *op, const struct desc *d)
{
	return !op->b || d->low_mark;
}

bool somebody_reads(const struct desc *d)
{
	for (int i = 0; i < PROCS * THREADS; i++) {
		const struct pending *e = &pending[i / THREADS][i % THREADS];

		if (d && e->busy && calls[e->op.call].class == RECV && desc_of(e->op.proc, e->op.s) == d)
			return true;
	}
	return false;
}

static bool ends_if_woken(const struct desc *d)
{
	for (int i = 0; i < PROCS * THREADS; i++) {
		const struct pending *e = &pending[i / THREADS][i % THREADS];

		if (e->busy && calls[e->op.call].class == RECV && desc_of(e->op.proc, e->op.s) == d && !e->kernels &&
		    ends_when_woken(&e->op, d))
			return true;
	}
	return false;
}

/*
 * A descriptor that is closed under a call that waits on it: not drawn, since what is known of a blocked call is looked up by its
 * slot (test/sock/close_under.c has it).  Nor can its slot name another one meanwhile.
 */
static bool closes(const struct op *op, const struct op *waits)
{
	int slot = SLOTS;

	if (op->call != C_connect && op->call != C_shutdown && op->call != C_exit && op->call != C_kill)
		slot = ends_slot(op);
	return slot < 0 || slot == waits->s || slot == waits->t;
}

/* A set: any socket could be in it, or come into it while somebody waits. */
static bool watches_a_set(const struct op *op)
{
	return calls[op->call].class == EPOLL || !desc_of(op->proc, op->s) || (op->call == C_poll2 && !desc_of(op->proc, op->t));
}

/* Two that wait for the same bytes, one to take them, one to be told of them: told of nothing if they are taken first. */
static bool reads_and_watches(const struct op *op, const struct op *blocked)
{
	const struct op *reads = waits_for_events(blocked) ? op : blocked, *watches = waits_for_events(blocked) ? blocked : op;
	const struct desc *d = desc_of(reads->proc, reads->s);

	if (calls[reads->call].class != RECV || !waits_for_events(watches) || !watches->b)
		return false;
	return watches_a_set(watches) || desc_of(watches->proc, watches->s) == d || desc_of(watches->proc, watches->t) == d;
}

/* Two that wait on a set, one to take what is told once, one to be told that there is something: told of nothing if it is taken first. */
static bool takes_and_watches(const struct op *op, const struct op *blocked)
{
	return waits_for_events(op) && waits_for_events(blocked) && op->b && watches_a_set(op) && watches_a_set(blocked) &&
	       (op->call == C_epoll_wait) != (blocked->call == C_epoll_wait);
}

static bool waits_for_room(const struct op *op, int slot)
{
	const int room = op->call == C_select || op->call == C_pselect ? 2 : POLLOUT | POLLWRNORM;

	return op->a & room && undecided(peer_of(desc_of(op->proc, slot)));
}

/* SIGIO, which ends a wait for events, for each segment of a stream of which each world moves what it can at its own pace. */
static bool may_be_signalled(int proc)
{
	for (int s = 0; s < SLOTS; s++) {
		const struct desc *d = desc_of(proc, s);

		if (d && d->async && (undecided(d) || undecided(peer_of(d))))
			return true;
	}
	return false;
}

/* Two who sleep on sets, and what is told once: one of them gets it. */
static bool is_told_to_one(const struct op *op)
{
	bool adds = (op->call == C_epoll_add || op->call == C_epoll_mod) && (op->a & (EPOLLET | EPOLLONESHOT));
	int sleep = op->call == C_epoll_wait && op->b;

	for (int i = 0; i < PROCS * THREADS; i++) {
		const struct pending *e = &pending[i / THREADS][i % THREADS];

		sleep += e->busy && e->op.call == C_epoll_wait;
	}
	return sleep > 1 && (adds || (op->call == C_epoll_wait && told_once()));
}

/* A set may have had it as a member. */
static bool was_member(const struct op *op)
{
	for (int i = 0; i < nr_desc && waits_for_events(op) && watches_a_set(op); i++)
		if (desc[i].refs && desc[i].told_no_more)
			return true;
	return false;
}

static bool closes_member(const struct op *op)
{
	int slot = ends_slot(op);
	const struct desc *d = slot >= 0 && slot < SLOTS ? desc_of(op->proc, slot) : NULL;

	return d && (d->told_in >> op->proc & 1) && d->refs > 1;
}

bool competes(const struct op *op)
{
	int d = op->s >= 0 ? slot_desc[op->proc][op->s] : -1;
	enum class class = calls[op->call].class;

	if (is_told_to_one(op) || was_member(op))
		return true;
	/* what finds no room for long ends the connection: when, is chance */
	if ((op->call == C_flood || (class == SEND && op->b > BIG)) && d >= 0 && desc[d].user_timeout)
		return true;
	/* a kernel that is shut for reading tells nobody of room (tcp_cleanup_rbuf()): more of a flood comes when its sender probes */
	if ((class == RECV || class == DRAIN) && d >= 0 && desc[d].shut_rd && undecided(&desc[d]))
		return true;

	if (class == RECV && d >= 0 && ends_when_woken(op, &desc[d]) && undecided(peer_of(&desc[d])))
		return true;
	if (low_mark(op) && op->b > 1 && d >= 0 && undecided(peer_of(&desc[d])) && somebody_reads(&desc[d]))
		return true;
	/* an urgent byte counts for the mark on TCP (tcp_epollin_ready()), not here (ntbsock(7), LIMITATIONS) */
	if (low_mark(op) && op->b > 1 && d >= 0 && peer_of(&desc[d]) && peer_of(&desc[d])->oob && somebody_reads(&desc[d]))
		return true;
	if ((op->call == C_flood || (class == SEND && op->b > BIG)) && d >= 0 && ends_if_woken(&desc[d]))
		return true;

	/* is the urgent byte in the first segment, which brings the reset?  That is half a window, which grows with what TCP carries */
	if (class == SEND && (op->a & MSG_OOB) && op->b > HALF_WINDOW && d >= 0 && shuns(peer_of(&desc[d])))
		return true;
	/* is there room in a stream of which each world has taken what it could?  Sizes of buffers, and chance */
	if (class == SEND && op->call != C_flood && d >= 0 && undecided(peer_of(&desc[d])))
		return true;
	if (waits_for_events(op) && op->b < 0 && (waits_for_room(op, op->s) || waits_for_room(op, op->t)))
		return true;
	for (int i = 0; i < nr_desc && waits_for_events(op) && op->b < 0 && watches_a_set(op); i++)
		if (desc[i].refs && undecided(peer_of(&desc[i])))
			return true;

	if (waits_for_events(op) && op->b && may_be_signalled(op->proc))
		return true;
	if (class == SEND && d >= 0 && in_pieces(op) && waits_for_messages(peer_of(&desc[d])))
		return true;
	for (int i = 0; i < THREADS; i++)
		if (pending[op->proc][i].busy && closes(op, &pending[op->proc][i].op))
			return true;
	for (int i = 0; i < PROCS * THREADS; i++) {
		const struct pending *e = &pending[i / THREADS][i % THREADS];
		enum class c = calls[e->op.call].class;

		if (e->busy && (reads_and_watches(op, &e->op) || takes_and_watches(op, &e->op)))
			return true;
		if (e->busy && op->proc == e->op.proc && waits_for_events(&e->op) && watches_a_set(&e->op) && closes_member(op))
			return true;
		/* SIGIO of the rest of a stream, which ends it when that comes */
		if (e->busy && op->call == C_async && e->op.proc == op->proc && waits_for_events(&e->op) && d >= 0 &&
		    (undecided(&desc[d]) || undecided(peer_of(&desc[d]))))
			return true;
		if (!e->busy || d < 0 || e->op.s < 0 || slot_desc[e->op.proc][e->op.s] != d)
			continue;
		/* SIGIO spares who sleeps in the kernel since O_ASYNC was set (SOCKWQ_ASYNC_WAITDATA); ours may get there before or after */
		if (op->call == C_async && (c == RECV || c == DRAIN || c == SEND))
			return true;
		/* each wake-up ends a receive of nothing, and shutdown() is two that may come as one: two messages, or the first of them */
		if (op->call == C_shutdown && e->op.call == C_recvmmsg && !e->op.b)
			return true;
		/* nor how much a reader has taken that still waits for more */
		if (((class == RECV || class == DRAIN || op->call == C_fionread) && (c == RECV || c == DRAIN)) || (class == SEND && c == SEND) ||
		    (op->call == C_accept && e->op.call == C_accept) || (op->call == C_connect && e->op.call == C_connect))
			return true;
	}
	return false;
}
