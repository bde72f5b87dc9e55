// SPDX-License-Identifier: BSD-2-Clause
/*
 * step.c - a sequence, step by step in both worlds
 *
 * A step is given to the same thread of both worlds.  It ends in both, or is blocked in both: then the sequence goes
 * on, and when the call returns in one world it must in the other.  After each step a calm sequence lets both worlds come
 * to rest; a hasty one does not.
 */
#include "run.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WARM_ROUNDS 60

struct traced traced[TRACED];
int nr_traced;
static struct difference *diff;
static bool calm, verbose, oneshot, edges;
static int running;		/* step */
unsigned long again_count[CALLS];

bool told_once(void)
{
	return oneshot || edges;
}

void found(int step, enum call call, const char *fmt, ...)
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

/* @now and what was told @before: one entry for each member. */
static void told_too(struct answer *now, const struct answer *before)
{
	for (int i = 0, k; i < before->nr; i++) {
		for (k = 0; k < now->nr && now->v[k] >> 32 != before->v[i] >> 32; k++)
			;
		if (k < now->nr)
			now->v[k] |= before->v[i];
		else if (now->nr < VALUES)
			now->v[now->nr++] = before->v[i];
	}
	now->ret = now->nr;
	sort_values(now);
}

/* Questions that change nothing are asked again until both worlds agree. */
static enum verdict ask_again(struct op op, int step, struct pending *e, struct desc *d, struct desc *p, char *why, size_t size)
{
	double end = now() + late_s;
	enum verdict v = V_AGAIN;

	again_count[op.call]++;
	if (waits_for_events(&op))
		op.b = 0;
	if (calls[op.call].class == RECV)
		op.a |= MSG_DONTWAIT;
	while (v == V_AGAIN && now() < end) {
		struct answer a[WORLDS];

		usleep(1000);
		for (int w = 0; w < WORLDS; w++)
			if (!ask_one(w, &op, step, &a[w]))
				return V_DIFFERENT;
		for (int w = 0; w < WORLDS && calls[op.call].class == EPOLL; w++)
			if (!a[w].ret)			/* an edge is told once: what came first counts too */
				a[w] = e->a[w];
			else if (op.call == C_epoll_wait && e->a[w].ret > 0 && e->a[w].ret >= op.a)
				told_too(&a[w], &e->a[w]);
		v = compare(&op, a, d, p, why, size);
		if (v == V_AGAIN && op.call == C_epoll_wait) {	/* edges that one wait has told, or two */
			for (int w = 0; w < WORLDS; w++)
				if (e->a[w].ret > 0)
					told_too(&a[w], &e->a[w]);
			v = compare(&op, a, d, p, why, size);
		}
		e->a[TCP] = a[TCP];
		e->a[NTBS] = a[NTBS];
	}
	if (v == V_SAME)
		accept_as(op.call == C_epoll_wait && e->a[TCP].ret >= op.a ? R_ORDER : R_LATER);
	return v == V_AGAIN ? V_DIFFERENT : v;
}

/* Both worlds have answered: compare, and take it in. */
static void finish(struct pending *e, bool first)
{
	struct op op = e->op;
	struct desc *d = desc_of(op.proc, op.s), *p = peer_of(d);
	enum class class = calls[op.call].class;
	char why[400] = "", text[200];
	enum verdict v;

	e->busy = false;
	if (p && class == SEND)
		p->coming = false;
	if (op.call == C_epoll_wait || op.call == C_poll2)
		for (int i = 0; i < nr_desc; i++)	/* any member may have room or not */
			if (room_unknown(&desc[i]) && !room_unknown(p))
				p = &desc[i], d = peer_of(p);
	if (waits_for_events(&op) && op.call != C_epoll_wait && !d)
		for (int i = 0; i < nr_desc && !p; i++)		/* a set, which is ready when a member is */
			if (undecided(&desc[i]))
				p = &desc[i];
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
	if (op.call == C_recvmmsg && !first && d)
		d->word = true;
	if ((op.call == C_flood || (class == SEND && op.b > BIG)) && !p && d && e->a[TCP].bytes)
		d->crammed = true;
	if (op.call == C_flood && p && (e->a[TCP].bytes || e->a[NTBS].bytes || p->uneven))
		p->full = p->backlog = p->grown = true;
	else if (class == SEND && op.b > BIG && p && e->a[TCP].bytes && e->a[TCP].bytes < (uint64_t)op.b)
		p->uneven = true;	/* what has been taken makes room when it has come */
	if (class == SEND && op.b > BIG && p && e->a[TCP].bytes)
		p->grown = true;
	if (d && (class == RECV || class == DRAIN))
		check_streams(&op, e->step, d);
	if (verbose) {
		answer_text(&op, &e->a[TCP], text, sizeof(text));
		fprintf(stderr, "      %s%s\n", first ? "" : "now returns: ", text);
	}
	learn(&op, e->a);
}

/*
 * How much of a send there is room for sizes of buffers decide: one world has taken all of it, of its own accord, and the other
 * does when it is read.
 */
static bool only_room(const struct pending *e)
{
	const struct op *op = &e->op;

	return calls[op->call].class == SEND && e->a[e->done[TCP] ? TCP : NTBS].ret > 0 &&
	       (op->b > BIG || undecided(peer_of(desc_of(op->proc, op->s))));
}

static bool making_room;

/* Where nobody can read now it stays pending. */
static void make_room(const struct pending *e)
{
	making_room = true;
	read_dry(peer_of(desc_of(e->op.proc, e->op.s)), &e->op, e->step);
	making_room = false;
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
		else if (!only_room(e) || making_room)
			found(e->step, e->op.call, "%s (the call had blocked)", one_only(e, why, sizeof(why)));
		else
			make_room(e);
	}
}

static void trace(const struct op *op, int step)
{
	if (nr_traced < TRACED)
		traced[nr_traced++] = (struct traced){ *op, step, false };
}

/* Does it show at @d when bytes come, which Nagle may hold back? */
static bool when_counts(const struct desc *d)
{
	return shuns(d) || waits_for_messages(d) || (d && (d->async || d->low_mark));
}

/*
 * What Nagle holds back comes before the step: from O_ASYNC on each segment is a signal, to an edge-triggered member an edge,
 * and EPOLLONESHOT tells of room without it, and then of nothing any more.
 */
static void wait_before_telling(const struct op *op, int step)
{
	if (op->call == C_async && desc_of(op->proc, op->s))
		wait_until_came(desc_of(op->proc, op->s), op, step);
	if ((op->call == C_epoll_add || op->call == C_epoll_mod) && (op->a & EPOLLONESHOT))
		oneshot = true;
	if ((op->call == C_epoll_add || op->call == C_epoll_mod) && (op->a & EPOLLET)) {
		edges = true;
		if (desc_of(op->proc, op->t))		/* what has come by now is one edge with it */
			wait_until_came(desc_of(op->proc, op->t), op, step);
		for (int s = 0; s < SLOTS; s++)		/* the acknowledgement of a FIN is one, see exec_step() */
			if (desc_of(op->proc, s) && desc_of(op->proc, s)->shut_wr)
				wait_until_acknowledged(op, s, step);
	}
	for (int i = 0; i < nr_desc && (oneshot || edges) && op->call == C_epoll_wait; i++)
		if (desc[i].refs)
			wait_until_came(&desc[i], op, step);
}

/* What is sent while it waits already is the kernel's in both worlds. */
static bool left_to_kernel(const struct op *op, const struct desc *d)
{
	bool looks = op->call >= C_recv && op->call <= C_recvmmsg && (op->a & MSG_PEEK);

	return calls[op->call].class == RECV && d && d->low_mark && op->b && !looks && op->call != C_splice_from;
}

void exec_step(const struct op *op, int step)
{
	struct pending *e = &pending[op->proc][op->thr];
	const struct desc *d = desc_of(op->proc, op->s);
	char why[400];

	/* what has come when a socket is shut for reading is all that a read gets, and what comes below its mark wakes none */
	if (op->call == C_recvmmsg || (calls[op->call].class == RECV && d && (d->shut_rd || d->low_mark)))
		wait_for_all(op, step);
	if (calls[op->call].class == RECV && (!op->b || (d && d->shut_rd)))
		wait_for_bytes(op, step);
	/* the acknowledgement of a FIN, which may be delayed, is what wakes it */
	if (calls[op->call].class == RECV && desc_of(op->proc, op->s) && desc_of(op->proc, op->s)->shut_wr &&
	    ends_when_woken(op, desc_of(op->proc, op->s)))
		wait_until_acknowledged(op, op->s, step);
	/* Nagle holds the first of two messages back until what was sent before is acknowledged, and with it the reset that the second meets */
	if (op->call == C_sendmmsg && shuns(peer_of(desc_of(op->proc, op->s))))
		wait_until_acknowledged(op, op->s, step);
	wait_before_end(op, step);
	wait_before_telling(op, step);
	trace(op, step);
	*e = (struct pending){ .busy = true, .step = step, .op = *op, .ask = ++asks };
	for (int w = 0; w < WORLDS; w++)
		give(w, op, step, e);
	switch (await(e)) {
	case BOTH: finish(e, true); break;
	case ONE_ONLY:
		if (!only_room(e)) {
			found(step, op->call, "%s", one_only(e, why, sizeof(why)));
			break;
		}
		/* fall through */
	case BLOCKED:
		traced[nr_traced - 1].blocked = true;
		learn_blocked(op);
		e->kernels = left_to_kernel(op, desc_of(op->proc, op->s));
		if (calls[op->call].class == SEND && peer_of(desc_of(op->proc, op->s)))
			peer_of(desc_of(op->proc, op->s))->uneven = peer_of(desc_of(op->proc, op->s))->coming = true;
		if (verbose)
			fprintf(stderr, "      blocks\n");
		break;
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
	if (diff->step < 0 && !e->busy && calls[op->call].class == SEND && e->a[TCP].bytes &&
	    (calm || when_counts(peer_of(desc_of(op->proc, op->s)))))
		wait_until_sent(op, op->s, step);
	/* the acknowledgement of a FIN wakes who reads below his mark (tcp_rcv_state_process()), with whatever it comes, and is an edge */
	if (diff->step < 0 && op->call == C_shutdown && !e->busy && (edges || somebody_reads(desc_of(op->proc, op->s))))
		wait_until_acknowledged(op, op->s, step);
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
		if (i >= 3 && (reference || where == W_BOTH || (op->b == 1 && where == W_ONE_WAY) || where == W_PLAIN || where == W_BACK))
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
		wait_before_end(op, step);
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
		wait_until_came(desc_of(op->a, pending[op->a][op->b].op.s), op, step);	/* a read that has some ends, and else it goes on */
		trace(op, step);
		for (int w = 0; w < WORLDS; w++)
			syscall(SYS_tgkill, world[w].pid[op->a], world[w].tid[op->a][op->b], op->t == 1 ? SIGUSR2 : SIGUSR1);
		come_to_rest(2);
		finish_blocked();
		break;
	}
}

/* A process that is new, or whose program is. */
static void adopt(const struct op *op)
{
	const struct pending *e = &pending[op->proc][op->thr];
	int proc = op->call == C_exec ? op->proc : op->a;

	for (int w = 0; w < WORLDS; w++) {
		if (op->call != C_exec)
			world[w].pid[proc] = e->a[w].pid;
		if (!world_adopt(&world[w], proc))
			found(e->step, op->call, "%s: the process does not come up", world_name[w]);
	}
	if (world[TCP].open[proc] != world[NTBS].open[proc])
		found(e->step, op->call, "TCP has slots %#x open, ntbsock %#x", world[TCP].open[proc], world[NTBS].open[proc]);
	only_open(proc, world[TCP].open[proc]);
}

static bool any_busy(int proc)
{
	for (int i = 0; i < THREADS; i++)
		if (pending[proc][i].busy)
			return true;
	return false;
}

/*
 * Killed between two messages of recvmmsg(), by a signal or by the exit of another thread, it leaves others who have the socket
 * the kernel's inner word for that as an error (do_recvmmsg()): 512, which has no name.  Not ours (ntbsock(7), LIMITATIONS).
 */
static bool leaves_word(int proc)
{
	for (int i = 0; i < THREADS; i++)
		if (pending[proc][i].busy && pending[proc][i].op.call == C_recvmmsg)
			return true;
	return false;
}

/* Of what is unread on the ring then the sender hears with its next bytes (ntbsock(7)). */
static bool dies_shut_both(int proc)
{
	for (int s = 0; s < SLOTS; s++) {
		const struct desc *d = desc_of(proc, s);

		if (d && d->shut_rd && d->shut_wr && (unread(d, TCP) || unread(d, NTBS)))
			return true;
	}
	return false;
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

	if (thr < 0 || !world[TCP].alive[op->proc] || competes(op) || looks_at_marks(op))
		return;
	op->thr = thr;
	if ((op->call == C_fork || op->call == C_spawn) && (op->a < FIRST_PROCS || op->a >= PROCS || world[TCP].pid[op->a]))
		return;
	if ((op->call == C_exec && any_busy(op->proc)) || (op->call == C_kill && dies_shut_both(op->proc)) ||
	    ((op->call == C_kill || op->call == C_exit) && leaves_word(op->proc)))
		return;
	if ((op->call == C_exec || op->call == C_spawn || op->call == C_give) && loses_bytes(op))
		return;
	if (verbose) {
		op_text(op, line, sizeof(line));
		fprintf(stderr, "%4d  %s\n", nr, line);
	}
	if (!settle(op, nr) || diff->step >= 0)
		return;
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
	if ((op->call == C_fork || op->call == C_spawn || op->call == C_exec) && diff->step < 0 && e->a[TCP].ret == 0)
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
			if (!d || pending[p][op.thr].busy || !settle(&op, nr) || diff->step >= 0)
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

	forget_names();
	nr_traced = 0;
	diff = d;
	*d = (struct difference){ .step = -1 };
	calm = s->calm;
	oneshot = edges = false;
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
