/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ntb_link.c - two ends of a link that are killed, restarted, cut off, delayed and robbed of words come up together,
 * never with somebody who is gone, and notice every end
 *
 * links: driver-glue/vfio/link.c
 *
 * The bridge here is the worst one: each write is dropped with some probability or lands late, in order (posted writes
 * do not pass each other), also when who wrote it is long dead; scratchpads and memory keep what they held.  Time is a
 * number.  What must hold is checked whenever something happens:
 *  - an end comes up only with an epoch of the other end that was in use after its own was drawn;
 *  - two ends that are up with each other have the same session, and no session comes up twice at one end;
 *  - up and down alternate;
 *  - once the faults end, both are up soon, and stay so.
 */
#include "vfio/link.h"
#include "t.h"

#define MS 1000000ull
#define FLIGHT 4096
#define LIVES 512

struct flight {
	uint64_t due;
	unsigned kind;		/* 0 scratchpad, 1 memory, 2 bell */
	uint64_t at, value;
};

struct end {
	struct ntbs_link link;
	bool runs;			/* there is a program */
	bool closed;			/* stores to its memory go nowhere until it opens it (again) */
	uint32_t spad[8];
	uint64_t mem[4];
	struct flight flight[FLIGHT];	/* towards this end */
	unsigned head, tail;
	uint64_t last_due;
	bool bell;
	uint32_t drawn[LIVES];		/* epochs, and when they were in use */
	uint64_t from[LIVES], to[LIVES];
	unsigned nr;
	uint64_t session[LIVES];
	unsigned nr_sessions;
	bool up;
	enum ntbs_link_down last_down;
	uint64_t resume_at;
};

static struct world {
	struct end end[2];
	uint64_t now;
	unsigned loss;			/* in 1000 */
	uint64_t delay;			/* up to so long */
	bool wires, cut[2], deaf[2];	/* memory writes, or those to scratchpads, towards that end go nowhere */
} w;

static struct end *of(void *arg)
{
	return arg;
}

static struct end *peer_of(struct end *e)
{
	return e == &w.end[0] ? &w.end[1] : &w.end[0];
}

static void post(struct end *to, unsigned kind, uint64_t at, uint64_t value)
{
	uint64_t due = w.now + (w.delay ? t_rand() % w.delay : 0);

	if (!w.wires || t_rand() % 1000 < w.loss || to->head - to->tail == FLIGHT)
		return;
	if (due < to->last_due)
		due = to->last_due;
	to->last_due = due;
	to->flight[to->head++ % FLIGHT] = (struct flight){ .due = due, .kind = kind, .at = at, .value = value };
}

static void land(struct end *e)
{
	for (; e->tail != e->head; e->tail++) {
		struct flight *f = &e->flight[e->tail % FLIGHT];

		if (f->due > w.now)
			break;
		if (f->kind == 0 && !w.deaf[e == &w.end[1]])
			e->spad[f->at] = f->value;
		else if (f->kind == 0)
			continue;
		else if (f->kind == 2)
			e->bell = true;
		else if (!w.cut[e == &w.end[1]] && !e->closed)
			e->mem[f->at / 8] = f->value;
	}
}

static uint32_t spad_read(void *arg, unsigned i)
{
	return of(arg)->spad[i];
}

static void peer_spad_write(void *arg, unsigned i, uint32_t value)
{
	post(peer_of(of(arg)), 0, i, value);
}

static uint64_t inbound_read(void *arg, uint64_t offset)
{
	return of(arg)->mem[offset / 8];
}

static void inbound_clear(void *arg, uint64_t offset)
{
	of(arg)->mem[offset / 8] = 0;
}

static void window_write(void *arg, uint64_t offset, uint64_t value)
{
	post(peer_of(of(arg)), 1, offset, value);
}

static void ring(void *arg)
{
	post(peer_of(of(arg)), 2, 0, 0);
}

static void retire(struct end *e)
{
	if (e->nr && !e->to[e->nr - 1])
		e->to[e->nr - 1] = w.now;
}

static uint32_t draw(void *arg)
{
	struct end *e = of(arg);
	uint32_t epoch = t_rand();

	retire(e);
	t_must(e->nr < LIVES, "room for epochs");
	e->drawn[e->nr] = epoch;
	e->from[e->nr] = w.now;
	e->to[e->nr++] = 0;
	return epoch;
}

static void open_inbound(void *arg)
{
	of(arg)->closed = false;
}

static const struct ntbs_link_ops ops = {
	spad_read, peer_spad_write, inbound_read, inbound_clear, window_write, ring, draw, open_inbound,
};

static void came_up(struct end *e)
{
	struct end *p = peer_of(e);
	bool known = false;

	t_ok(!e->up, "came up while up");
	e->up = true;
	for (unsigned i = 0; i < p->nr; i++) {
		if (p->drawn[i] != e->link.peer_epoch)
			continue;
		known = true;
		t_ok(!p->to[i] || p->to[i] >= e->from[e->nr - 1], "up with epoch %x, gone before ours was drawn",
		     e->link.peer_epoch);
	}
	t_ok(known, "up with an epoch that nobody ever drew");
	t_ok(ntbs_link_session(&e->link), "a session has a number");
	for (unsigned i = 0; i < e->nr_sessions; i++)
		t_ok(e->session[i] != ntbs_link_session(&e->link), "a session came up twice");
	t_must(e->nr_sessions < LIVES, "room for sessions");
	e->session[e->nr_sessions++] = ntbs_link_session(&e->link);
	t_eq(e->link.window_bytes, 1 << 20, "window as the smaller of both");
	t_eq(e->link.features, 2, "features of both");
}

static void news(struct end *e, unsigned what)
{
	t_ok((what & (NTBS_LINK_CAME_UP | NTBS_LINK_WENT_DOWN)) != (NTBS_LINK_CAME_UP | NTBS_LINK_WENT_DOWN), "both at once");
	if (what & NTBS_LINK_CAME_UP)
		came_up(e);
	if (what & NTBS_LINK_WENT_DOWN) {
		t_ok(e->up && e->link.state == NTBS_LINK_HELD && e->link.down, "went down from up, with a reason");
		t_ok(!ntbs_link_session(&e->link), "no session when down");
		e->up = false;
		e->last_down = e->link.down;
		retire(e);
		e->resume_at = w.now + t_rand() % (30 * MS);
	}
	if (e->up && peer_of(e)->up && e->link.peer_epoch == peer_of(e)->link.epoch &&
	    e->link.epoch == peer_of(e)->link.peer_epoch)
		t_ok(ntbs_link_session(&e->link) == ntbs_link_session(&peer_of(e)->link), "one number for one session");
}

static void start(struct end *e)
{
	bool b = e == &w.end[1];
	struct ntbs_link_conf conf = { .side_b = b, .window_bytes = b ? 4 << 20 : 1 << 20, .features = b ? 3 : 6,
				       .inbound_bytes = b ? 2 << 20 : 1 << 20 };

	ntbs_link_init(&e->link, &conf, &ops, e);
	e->runs = true;
	news(e, ntbs_link_start(&e->link, w.now, w.wires));
}

/* Killed: no word to anybody, what it wrote last is still on its way. */
static void stop(struct end *e, bool politely)
{
	if (!e->runs)
		return;
	if (politely)
		ntbs_link_leave(&e->link);
	retire(e);
	e->runs = e->up = false;
}

static void run_for(uint64_t ns)
{
	for (uint64_t end = w.now + ns; w.now < end; w.now += MS / 2) {
		for (unsigned i = 0; i < 2; i++) {
			struct end *e = &w.end[i];

			land(e);
			if (!e->runs)
				continue;
			if (e->link.state == NTBS_LINK_HELD && w.now >= e->resume_at)
				news(e, ntbs_link_resume(&e->link, w.now));
			if (e->bell || w.now >= ntbs_link_next(&e->link) || t_rand() % 64 == 0)
				news(e, ntbs_link_tick(&e->link, w.now));
			e->bell = false;
		}
	}
}

static void set_wires(bool up)
{
	w.wires = up;
	for (unsigned i = 0; i < 2; i++) {
		if (w.end[i].runs)
			news(&w.end[i], ntbs_link_wires(&w.end[i].link, w.now, up));
	}
}

static void new_world(void)
{
	memset(&w, 0, sizeof(w));
	w.wires = true;
	w.now = 1;
}

static bool both_up(void)
{
	return w.end[0].up && w.end[1].up &&
	       ntbs_link_session(&w.end[0].link) == ntbs_link_session(&w.end[1].link);
}

/* ------------------------------------------------------------------ one thing at a time */

static void quiet_day(void)
{
	new_world();
	start(&w.end[0]);
	run_for(100 * MS);
	t_ok(!w.end[0].up && w.end[0].link.state == NTBS_LINK_HELLO, "alone it waits");
	t_ok(strstr(ntbs_link_say(&w.end[0].link), "nobody speaks"), "and says so: %s", ntbs_link_say(&w.end[0].link));
	start(&w.end[1]);
	run_for(60 * MS);
	t_ok(both_up(), "up within five beats: %s; %s", ntbs_link_say(&w.end[0].link), ntbs_link_say(&w.end[1].link));
	run_for(5000 * MS);
	t_eq(w.end[0].link.sessions + w.end[1].link.sessions, 2, "and stays so");
	stop(&w.end[1], true);
	run_for(20 * MS);
	t_eq(w.end[0].link.down, NTBS_LINK_DOWN_LEFT, "told of a good-bye at once");
	run_for(2000 * MS);
	t_ok(!w.end[0].up, "nobody there");
	start(&w.end[1]);
	run_for(200 * MS);
	t_ok(both_up(), "up again");
	stop(&w.end[0], true);
	run_for(20 * MS);
	w.end[1].closed = true;
	start(&w.end[0]);
	run_for(200 * MS);
	t_ok(both_up(), "up after a reset that closed the window of the other");
	stop(&w.end[0], false);
	run_for(100 * MS);
	t_ok(w.end[1].up && w.end[1].link.suspect, "suspect before it is dead");
	run_for(600 * MS);
	t_eq(w.end[1].link.down, NTBS_LINK_DOWN_SILENT, "no heartbeat");
	start(&w.end[0]);
	run_for(200 * MS);
	t_ok(both_up(), "up with the next program");
	stop(&w.end[0], false);
	start(&w.end[0]);
	run_for(20 * MS);
	t_ok(w.end[1].last_down == NTBS_LINK_DOWN_RESTARTED, "a fast restart is seen before silence");
	run_for(200 * MS);
	t_ok(both_up(), "up once more");
	set_wires(false);
	t_eq(w.end[0].link.down, NTBS_LINK_DOWN_WIRES, "told of the wires");
	run_for(1000 * MS);
	t_eq(w.end[0].link.state, NTBS_LINK_WAIT, "waits for them");
	set_wires(true);
	run_for(200 * MS);
	t_ok(both_up(), "and back");
	/* The program stood still, not the peer. */
	w.now += 60000 * MS;
	news(&w.end[0], ntbs_link_tick(&w.end[0].link, w.now));
	t_ok(w.end[0].up, "an end that was stopped for a minute does not blame the other");
}

static void broken_bridges(void)
{
	struct ntbs_link_conf other = { .window_bytes = 4096, .inbound_bytes = 4096 };

	new_world();
	w.cut[0] = true;
	start(&w.end[0]);
	start(&w.end[1]);
	run_for(1000 * MS);
	t_ok(!w.end[0].up && !w.end[1].up, "a window that leads nowhere is no link");
	t_ok(strstr(ntbs_link_say(&w.end[0].link), "no store of the other side"), "%s", ntbs_link_say(&w.end[0].link));
	t_ok(strstr(ntbs_link_say(&w.end[1].link), "ours do not arrive"), "%s", ntbs_link_say(&w.end[1].link));
	w.cut[0] = false;
	run_for(200 * MS);
	t_ok(both_up(), "mended");

	new_world();
	w.deaf[1] = true;
	start(&w.end[0]);
	start(&w.end[1]);
	run_for(1000 * MS);
	t_ok(w.end[0].link.state == NTBS_LINK_HELLO, "state %d though nobody has heard us", w.end[0].link.state);
	w.deaf[1] = false;
	run_for(200 * MS);
	t_ok(both_up(), "heard");

	/* What lies in memory from before is no answer. */
	new_world();
	w.cut[0] = true;
	start(&w.end[0]);
	start(&w.end[1]);
	run_for(50 * MS);
	for (unsigned i = 0; i < 3; i++) {
		w.end[0].mem[i] = (uint64_t)w.end[1].link.epoch << 32 | (w.end[0].link.epoch + 1);
		run_for(50 * MS);
		t_ok(!w.end[0].up && !w.end[1].up, "up by an old word %u", i);
		w.end[0].mem[i] = (uint64_t)(w.end[1].link.epoch + 1) << 32 | w.end[0].link.epoch;
		run_for(50 * MS);
		t_ok(!w.end[0].up && !w.end[1].up, "up by another's word %u", i);
	}
	t_ok(w.end[0].link.stale > 3, "they were seen and dropped");

	/* Somebody who speaks version 2: its words check, its version does not. */
	new_world();
	ntbs_link_init(&w.end[1].link, &other, &ops, &w.end[1]);
	ntbs_link_start(&w.end[1].link, w.now, true);
	run_for(MS);
	w.end[0].spad[0] ^= 3 << 8;
	start(&w.end[0]);
	t_ok(!w.end[0].link.peer_version, "a word that was changed alone does not check");
	stop(&w.end[0], false);
}

/* Words of a peer that never said them are no peer: anything at all in scratchpads and memory. */
static void nonsense(void)
{
	new_world();
	start(&w.end[0]);
	for (unsigned i = 0; i < 20000; i++) {
		w.end[0].spad[t_rand() % 6] = t_rand() % 4 ? t_rand() : w.end[0].link.epoch;
		w.end[0].mem[t_rand() % 3] = t_rand() % 4 ? t_rand() : w.end[0].link.epoch * 0x100000001ull;
		run_for(MS);
	}
	t_ok(!w.end[0].up, "up with noise");
}

/* ------------------------------------------------------------------------ everything */

static void bad_day(void)
{
	unsigned steps = 60;

	new_world();
	for (unsigned i = 0; i < steps; i++) {
		struct end *e = &w.end[t_rand() % 2];

		w.loss = t_rand() % 3 ? 0 : t_rand() % 400;
		w.delay = t_rand() % 3 ? t_rand() % (5 * MS) : t_rand() % (120 * MS);
		switch (t_rand() % 8) {
		case 0:
		case 1:
			stop(e, t_rand() % 2);
			break;
		case 2:
			set_wires(t_rand() % 2);
			break;
		case 3:
			w.cut[t_rand() % 2] = t_rand() % 2;
			break;
		case 4:
			memset(e->spad, t_rand() % 2 ? 0 : 0xff, sizeof(e->spad));
			peer_of(e)->closed = true;
			break;
		default:
			break;
		}
		run_for(t_rand() % (t_rand() % 4 ? 60 * MS : 900 * MS));
		for (unsigned k = 0; k < 2; k++) {
			if (!w.end[k].runs && t_rand() % 2)
				start(&w.end[k]);
		}
	}
	w.loss = 0;
	w.delay = 2 * MS;
	w.cut[0] = w.cut[1] = false;
	set_wires(true);
	for (unsigned k = 0; k < 2; k++) {
		if (!w.end[k].runs)
			start(&w.end[k]);
	}
	run_for(1500 * MS);
	t_ok(both_up(), "up in the end: %s; %s", ntbs_link_say(&w.end[0].link), ntbs_link_say(&w.end[1].link));
	for (unsigned k = 0; k < 2; k++)
		steps = w.end[k].nr_sessions;
	run_for(3000 * MS);
	t_ok(both_up() && w.end[1].nr_sessions == steps, "and stay so");
}

int main(void)
{
	unsigned long long sessions = 0;

	quiet_day();
	broken_bridges();
	nonsense();
	for (unsigned i = 0; i < 1000; i++) {
		bad_day();
		sessions += w.end[0].nr_sessions;
	}
	t_ok(sessions > 2000, "only %llu sessions: the test tests little", sessions);
	return t_done();
}
