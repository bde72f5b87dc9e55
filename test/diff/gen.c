// SPDX-License-Identifier: BSD-2-Clause
/*
 * gen.c - a sequence from a seed
 *
 * First connections are made, in one of the ways in which programs make them, and most are moved to the ring; then
 * calls are drawn for their ends, with enough of a model (who is connected to whom, how much is under way) that most of
 * them mean something.  A few are drawn for anything at all.  What is drawn may be nonsense: both worlds must treat it
 * the same.
 *
 * Not drawn: sends between BIG of diff.h and what no buffer holds, where whether a call blocks depends on sizes of buffers;
 * a lingering close with a time, which takes that time; ports and buffer sizes by number; a low-water mark larger than
 * any buffer.
 */
#include "diff.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define ROOM 50000		/* under way in one direction, unless all rooms are to be filled */
#define HUGE_SEND (24 << 20)

struct end {
	int proc, slot, peer;	/* index of the peer's end */
	int listener;
	int under_way;		/* towards it */
	int set;		/* epoll set that it is in */
	bool gone;
};

static struct gen {
	uint64_t r;
	struct seq *s;
	struct end end[8];
	int nr_ends, next_slot, set[PROCS], outer[PROCS];
	bool forked[PROCS], pressure, shy, zerocopy;
	int on_its_way[PROCS];		/* descriptors given to a process */
} g;

static uint32_t rnd(uint32_t n)
{
	return (uint32_t)(rnd_r(&g.r) >> 20) % n;
}

static bool chance(uint32_t percent)
{
	return rnd(100) < percent;
}

static void put(int proc, int thr, enum call c, int s, int t, int a, int b)
{
	if (g.s->nr < STEPS)
		g.s->op[g.s->nr++] = (struct op){ proc, thr, c, s, t, a, b };
}

#define PICK(array) array[rnd(sizeof(array) / sizeof(array[0]))]

static int size_of_io(void)
{
	static const int sizes[] = { 0, 1, 1, 2, 10, 10, 53, 54, 55, 100, 116, 117, 500, 1000, 4096, 10000, 16383, 16384, 20000, 40000 };

	return PICK(sizes);
}

static int events(bool epoll)
{
	static const int polls[] = { POLLIN, POLLOUT, POLLIN | POLLOUT, POLLRDHUP, POLLPRI, 0, POLLIN | POLLRDHUP,
				     POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLWRNORM, POLLRDNORM, POLLWRNORM | POLLRDBAND };
	int ev = PICK(polls);

	if (epoll)
		ev |= chance(30) ? (int)EPOLLET : chance(20) ? EPOLLONESHOT : chance(10) ? (int)EPOLLEXCLUSIVE : 0;
	return ev;
}

static int timeout(void)
{
	return chance(65) ? 0 : chance(70) ? 10 : -1;
}

static void draw_option(int proc, int thr, int slot, bool set)
{
	static const int values[] = { 0, 1, 1, 2, 10, 100, -1, 5000 };
	int a = rnd(nr_options), b = PICK(values);

	if (set) {
		while (!options[a].set)
			a = rnd(nr_options);
		if (options[a].shape == TIMEVAL)
			b = chance(70) ? 30 : 0;
		else if (options[a].shape == LINGER)
			b = chance(60) ? 0 : -1;
		else if (options[a].opt == SO_RCVLOWAT && b < 0)
			b = 54;
		else if (!strcmp(options[a].name, "TCP_LINGER2") && b < 0)	/* a reset when the FIN is acknowledged, which may be delayed */
			b = 10;
	}
	put(proc, thr, set ? C_setopt : C_getopt, slot, -1, a, b);
}

/* ------------------------------------------------------------ a connection */

static void wait_connected(int proc, int slot, int listener)
{
	int set;

	switch (rnd(6)) {
	case 0: put(proc, 0, C_poll, slot, -1, POLLOUT, -1); break;
	case 1: put(proc, 0, C_select, slot, -1, 2, -1); break;
	case 2:
		set = g.next_slot++;
		put(proc, 0, C_epoll_create, set, -1, 0, 0);
		put(proc, 0, C_epoll_add, set, slot, EPOLLOUT | (chance(30) ? (int)EPOLLET : 0), 0);
		put(proc, 0, C_epoll_wait, set, -1, 4, -1);
		break;
	case 3: put(proc, 0, C_connect, slot, listener, 0, 0); break;
	case 4: put(proc, 0, C_nonblock, slot, -1, 0, 0); return;
	case 5: return;			/* at once into the next call */
	}
	if (chance(60))
		for (int i = 0; i < nr_options; i++)
			if (!strcmp(options[i].name, "SO_ERROR"))
				put(proc, 0, C_getopt, slot, -1, i, 0);
	if (chance(60))
		put(proc, 0, C_nonblock, slot, -1, 0, 0);
}

static void connection(void)
{
	int pa = rnd(2), pb = chance(70) ? !pa : pa, family = chance(75) ? 4 : 6;
	int l = g.next_slot++, c = g.next_slot++, a = g.next_slot++, n = g.nr_ends;
	bool early = chance(70), nonblock = chance(30);

	put(pa, 0, C_socket, l, -1, family, 0);
	if (chance(10))
		draw_option(pa, 0, l, true);
	put(pa, 0, C_bind, l, -1, 0, 0);
	put(pa, 0, C_listen, l, -1, 0, chance(90) ? 8 : 0);
	put(pb, 0, C_socket, c, -1, family, nonblock ? 1 : rnd(2) * 2);
	if (chance(15))
		draw_option(pb, 0, c, true);
	put(pb, 0, C_connect, c, l, 0, 0);
	if (nonblock)
		wait_connected(pb, c, l);
	if (!early)
		put(pb, 0, C_send, c, -1, chance(50) ? MSG_NOSIGNAL : 0, 10);
	put(pa, 0, C_accept, l, a, (int)rnd(5) - 1, 0);
	g.end[n] = (struct end){ pb, c, n + 1, l, 0, -1, false };
	g.end[n + 1] = (struct end){ pa, a, n, l, early ? 0 : 10, -1, false };
	g.nr_ends += 2;
	if (chance(80)) {
		if (chance(50))
			put(pb, 0, C_warm, c, a, pa, chance(25) ? 1 : 2);
		else
			put(pa, 0, C_warm, a, c, pb, chance(25) ? 1 : 2);
	}
}

/* ------------------------------------------------------------ a call on one end */

static void draw_send(struct end *e, int thr)
{
	static const enum call how[] = { C_write, C_writev, C_send, C_send, C_send, C_sendto, C_sendmsg, C_sendmmsg, C_sendfile, C_splice_to, C_pwritev2 };
	static const int flags[] = { 0, 0, MSG_DONTWAIT, MSG_NOSIGNAL, MSG_MORE, MSG_OOB, MSG_DONTWAIT | MSG_NOSIGNAL, MSG_EOR, MSG_DONTROUTE };
	static const int rwf[] = { 0, 0, RWF_NOWAIT, RWF_HIPRI, RWF_APPEND, 0x4000 };
	enum call c = PICK(how);
	int len = size_of_io(), a = 0;

	if (c == C_sendmmsg || c == C_writev)
		len /= 2;
	if (g.end[e->peer].under_way + len > ROOM)
		return;
	if (c == C_splice_to && !len)
		len = 1;
	g.end[e->peer].under_way += c == C_sendmmsg ? 2 * len : len;
	if (c == C_writev)
		a = 1 + rnd(6);
	else if (c >= C_send && c <= C_sendmmsg) {
		a = g.zerocopy && chance(40) ? (int)MSG_ZEROCOPY : PICK(flags);
		if (c == C_sendmmsg)		/* which of two marks a waiting reader finds is chance */
			a &= ~MSG_OOB;
	} else if (c == C_pwritev2)
		a = PICK(rwf);
	else if (c == C_sendfile)
		a = chance(50) ? 0 : 1000;
	else if (c == C_splice_to)
		a = rnd(2);
	put(e->proc, thr, c, e->slot, -1, a, len);
}

static void draw_recv(struct end *e, int thr)
{
	static const enum call how[] = { C_read, C_readv, C_recv, C_recv, C_recv, C_recvfrom, C_recvmsg, C_recvmmsg, C_recvmmsg, C_splice_from, C_preadv2 };
	static const int flags[] = { 0, 0, MSG_DONTWAIT, MSG_PEEK, MSG_PEEK | MSG_DONTWAIT, MSG_WAITALL, MSG_TRUNC | MSG_DONTWAIT, MSG_OOB,
				     MSG_WAITALL | MSG_DONTWAIT, MSG_PEEK | MSG_WAITALL, MSG_ERRQUEUE, MSG_OOB | MSG_DONTWAIT };
	static const int rwf[] = { 0, 0, RWF_NOWAIT, RWF_NOWAIT, RWF_HIPRI, RWF_DSYNC };
	enum call c = PICK(how);
	int len = size_of_io(), a = 0, t = -1;

	if (c == C_readv)
		a = 1 + rnd(6);
	else if (c >= C_recv && c <= C_recvmmsg)
		a = PICK(flags);
	else if (c == C_preadv2)
		a = PICK(rwf);
	else if (c == C_splice_from)
		a = rnd(2), len = len > 4096 ? 4096 : len;
	if (c == C_recvmmsg && chance(40)) {
		t = chance(45) ? 0 : chance(80) ? 1 : 2;
		a |= chance(30) ? MSG_WAITFORONE : 0;
	}
	if (!(a & MSG_PEEK) || c == C_readv || c == C_preadv2)
		e->under_way = len < e->under_way ? e->under_way - len : 0;
	put(e->proc, thr, c, e->slot, t, a, len);
}

/* A set in another set, or asked of by poll(). */
static void draw_nested(struct end *e, int thr, int set)
{
	int *outer = &g.outer[e->proc];

	if (chance(40)) {
		put(e->proc, thr, chance(60) ? C_poll : C_select, set, -1, 1, timeout());
		return;
	}
	if (*outer < 0) {
		if (g.next_slot >= SLOTS)
			return;
		*outer = g.next_slot++;
		put(e->proc, thr, C_epoll_create, *outer, -1, 0, 0);
		put(e->proc, thr, C_epoll_add, *outer, set, POLLIN | (chance(30) ? (int)EPOLLET : 0), 0);
	}
	put(e->proc, thr, C_epoll_wait, *outer, -1, 8, timeout());
}

static void draw_epoll(struct end *e, int thr)
{
	int *set = &g.set[e->proc];

	if (*set < 0) {
		if (g.next_slot >= SLOTS)
			return;
		*set = g.next_slot++;
		put(e->proc, thr, C_epoll_create, *set, -1, 0, 0);
	}
	switch (rnd(9)) {
	case 8: draw_nested(e, thr, *set); break;
	case 0: put(e->proc, thr, C_epoll_del, *set, e->slot, 0, 0); break;
	case 1:
	case 2: put(e->proc, thr, C_epoll_mod, *set, e->slot, events(true), 0); break;
	case 3:
	case 4: put(e->proc, thr, C_epoll_add, *set, e->slot, events(true), 0); break;
	default: put(e->proc, thr, C_epoll_wait, *set, -1, chance(80) ? 8 : 1, timeout()); break;
	}
}

static void draw_poll(struct end *e, int thr)
{
	struct end *other = &g.end[rnd(g.nr_ends)];

	switch (rnd(5)) {
	case 0:
	case 1: put(e->proc, thr, C_poll, e->slot, -1, events(false), timeout()); break;
	case 2: put(e->proc, thr, C_ppoll, e->slot, -1, events(false), timeout()); break;
	case 3: put(e->proc, thr, chance(50) ? C_select : C_pselect, e->slot, -1, 1 + rnd(7), timeout()); break;
	case 4: put(e->proc, thr, C_poll2, e->slot, other->slot, events(false), timeout()); break;
	}
}

/* To the other process, this one or a child; he who takes it may be early. */
static void draw_travel(struct end *e, int thr, int to)
{
	int proc = rnd(2);

	if (chance(50) || g.on_its_way[proc]) {
		g.on_its_way[proc] = 0;
		put(proc, thr, C_take, -1, to, 0, 0);
		return;
	}
	put(e->proc, thr, C_give, e->slot, -1, proc, 0);
	if (chance(30))
		put(e->proc, thr, C_close, e->slot, -1, 0, 0);
	if (chance(70)) {
		put(proc, 0, C_take, -1, to, 0, 0);
		if (chance(60))
			e->proc = proc, e->slot = to;
	} else {
		g.on_its_way[proc]++;
	}
}

static void draw_fd(struct end *e, int thr)
{
	int which;
	int to = g.next_slot < SLOTS && chance(70) ? g.next_slot++ : g.end[rnd(g.nr_ends)].slot;

	switch (rnd(12)) {
	case 9:			/* sendfile() from a socket fits and waits, beside other readers by chance: regress/sendfile_from.seq */
		which = rnd(19);
		put(e->proc, thr, C_misfit, e->slot, -1, which == 12 ? 13 : which, 0);
		break;
	case 10: put(e->proc, thr, C_close_range, e->slot, -1, g.shy || chance(50) ? CLOSE_RANGE_CLOEXEC : 0, chance(10)); break;
	case 11: draw_travel(e, thr, to); break;
	case 0: put(e->proc, thr, C_dup, e->slot, to == e->slot ? -1 : to, 0, 0); break;
	case 1: put(e->proc, thr, C_dup2, e->slot, to, 0, 0); break;
	case 2: put(e->proc, thr, C_dup3, e->slot, to, rnd(2), 0); break;
	case 3: put(e->proc, thr, C_dupfd, e->slot, to == e->slot ? SLOTS - 1 : to, 30 + rnd(20), rnd(2)); break;
	case 4: put(e->proc, thr, C_nonblock, e->slot, -1, rnd(2), 0); break;
	case 5: put(e->proc, thr, C_fionbio, e->slot, -1, rnd(2), 0); break;
	case 6: put(e->proc, thr, C_getfl, e->slot, -1, 0, 0); break;
	case 7: put(e->proc, thr, chance(50) ? C_getfd : C_cloexec, e->slot, -1, rnd(2), 0); break;
	case 8: put(e->proc, thr, C_async, e->slot, -1, rnd(4) != 0, 0); break;
	}
}

static void draw_question(struct end *e, int thr)
{
	static const enum call how[] = { C_fionread, C_fionread, C_fionread, C_atmark, C_outq, C_sockname, C_peername, C_signals, C_zerocopied };

	put(e->proc, thr, PICK(how), e->slot, -1, 0, 0);
}

static void draw_pressure(struct end *e, int thr)
{
	struct end *peer = &g.end[e->peer];

	switch (rnd(6)) {
	case 0:
	case 1: put(e->proc, thr, C_flood, e->slot, -1, 0, 256 << 20); break;
	case 2: put(e->proc, THREADS - 1, C_send, e->slot, -1, chance(50) ? MSG_NOSIGNAL : 0, HUGE_SEND); break;
	default: put(peer->proc, thr, C_drain, peer->slot, -1, 0, 0); break;
	}
}

static void draw_end(struct end *e, int thr)
{
	if (g.shy && chance(80))
		return;
	if (chance(60))
		put(e->proc, thr, C_shutdown, e->slot, -1, chance(70) ? SHUT_WR : chance(50) ? SHUT_RD : SHUT_RDWR, 0);
	else if (chance(85))
		put(e->proc, thr, C_close, e->slot, -1, 0, 0);
	else
		put(e->proc, thr, C_connect, e->slot, e->listener, 1, 0);
}

static void draw_process(struct end *e, int thr)
{
	int child = 2 + rnd(2);

	switch (rnd(5)) {
	case 3: put(e->proc, thr, C_exec, -1, -1, 0, chance(50)); break;
	case 4:
	case 0:
		if (!g.forked[child]) {
			g.forked[child] = true;
			put(e->proc, thr, chance(50) ? C_fork : C_spawn, -1, -1, child, rnd(3));
			e->proc = chance(50) ? child : e->proc;
		}
		break;
	case 1: put(chance(50) ? e->proc : child, 0, g.shy ? C_signals : chance(50) ? C_kill : C_exit, -1, -1, 0, 0); break;
	case 2: put(e->proc, 0, C_interrupt, -1, rnd(2), g.end[e->peer].proc, rnd(THREADS)); break;
	}
}

/* A call that need not make sense, on anything. */
static void draw_odd(void)
{
	static const enum call how[] = { C_connect, C_connect, C_listen, C_bind, C_accept, C_send, C_recv, C_shutdown, C_getopt, C_poll, C_socket,
					 C_peername, C_sockname, C_fionread, C_close, C_write, C_read, C_sendfile };
	enum call c = PICK(how);
	int slot = rnd(g.next_slot < SLOTS ? g.next_slot + 1 : SLOTS), other = rnd(g.next_slot), proc = rnd(2), a = 0, b = 1 + rnd(10);

	if (c == C_connect)
		a = rnd(3);
	else if (c == C_shutdown)
		a = rnd(4);
	else if (c == C_getopt)
		a = rnd(nr_options);
	else if (c == C_socket)
		a = 4, b = rnd(4), slot = g.next_slot < SLOTS ? g.next_slot++ : slot;
	else if (c == C_send || c == C_recv)
		a = MSG_DONTWAIT;
	else if (c == C_poll)
		a = events(false), b = 0;
	put(proc, 0, c, slot, other, a, b);
}

static void draw(void)
{
	struct end *e = &g.end[rnd(g.nr_ends)];
	int thr = chance(80) ? 0 : 1 + (int)rnd(THREADS - 1);
	uint32_t r = rnd(100);

	if (g.pressure && chance(25)) {
		draw_pressure(e, thr);
		return;
	}
	if (r < 27)
		draw_send(e, thr);
	else if (r < 50)
		draw_recv(e, thr);
	else if (r < 60)
		draw_poll(e, thr);
	else if (r < 71)
		draw_epoll(e, thr);
	else if (r < 77)
		draw_question(e, thr);
	else if (r < 83)
		draw_fd(e, thr);
	else if (r < 89)
		draw_option(e->proc, thr, e->slot, chance(60));
	else if (r < 95)
		draw_end(e, thr);
	else if (r < 98)
		draw_process(e, thr);
	else
		draw_odd();
}

void gen_sequence(uint64_t seed, struct seq *s)
{
	int n;

	memset(&g, 0, sizeof(g));
	*s = (struct seq){ .seed = seed };
	g.r = seed * 0x2545f4914f6cdd1dull + 99;
	g.s = s;
	for (int p = 0; p < PROCS; p++)
		g.set[p] = g.outer[p] = -1;
	s->calm = chance(80);
	g.pressure = chance(15);
	g.shy = chance(60);
	g.zerocopy = chance(8);
	connection();
	if (chance(20))
		connection();
	for (n = s->nr + 4 + rnd(24); s->nr < n && s->nr < STEPS; n -= chance(2))
		draw();
}
