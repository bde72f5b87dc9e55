// SPDX-License-Identifier: BSD-2-Clause
/*
 * pair.c - two ports back to back: the link between them, what crosses it, and what may go wrong
 *
 * The link is up when the cable is in, both hosts have power, both sides want it (their registers say so) and it has
 * trained for conf.train_ns since.  Losing any of that takes it down at once.  While it is down writes to the other side
 * vanish and reads give all-ones.
 *
 * Posted writes of one host (window writes, doorbells, scratchpads) stay in order.  If a fault delays window writes they
 * wait in a list of that host; whatever the host posts or reads across the link afterwards pushes the list out first.
 * So does the answer to a read of the other host, which goes the same way as they (PCIe 2.4.1, ordering rules: a completion
 * passes no posted write).  Link loss empties it: those writes are lost.
 */
#include <errno.h>
#include <stdlib.h>
#include "impl.h"

enum { LATE_MAX = 16384 };	/* window writes under way; more push the list out, which order permits */

struct rig_fn *rig_peer(const struct rig_fn *fn)
{
	return fn->pair->side[!fn->info.host].port;
}

static struct rig_side *side_of(const struct rig_fn *fn)
{
	return &fn->pair->side[fn->info.host];
}

static uint64_t now(struct rig_pair *pair)
{
	return pair->env.now_ns(pair->env.arg);
}

void rig_event(struct rig_fn *fn, enum rig_event_kind kind, int space, uint64_t off, uint32_t len, uint64_t value, bool unknown, bool lost)
{
	struct rig_pair *pair = fn->pair;
	struct rig_event ev = {
		.seq = ++pair->seq, .time_ns = now(pair), .kind = kind, .fn = fn, .host = fn->info.host,
		.space = space, .off = off, .len = len, .value = value, .unknown = unknown, .lost = lost,
	};

	if (pair->env.event)
		pair->env.event(pair->env.arg, &ev);
}

void rig_interrupt(struct rig_fn *fn, unsigned vector)
{
	if (vector >= fn->info.vectors || !rig_cfg_masters(fn)) {
		rig_event(fn, RIG_EV_INTERRUPT, 0, vector, 0, 0, false, true);
		return;
	}
	if (fn->port)
		side_of(fn)->count.interrupt++;
	rig_event(fn, RIG_EV_INTERRUPT, 0, vector, 0, 0, false, false);
	fn->pair->env.interrupt(fn->pair->env.arg, fn, vector);
}

void rig_window_moved(struct rig_fn *fn)
{
	if (fn->pair->env.window_moved)
		fn->pair->env.window_moved(fn->pair->env.arg, fn);
}

/* ---- windows ---- */

int rig_window_target(const struct rig_fn *fn, int bar, uint64_t off, uint64_t *addr, uint64_t *len)
{
	const struct rig_side *side = side_of(fn);

	if (!fn->port || bar < 0 || bar >= RIG_BARS || !fn->info.bar[bar].window || off >= fn->info.bar[bar].size)
		return -EINVAL;
	if (!fn->pair->up || side->cut[bar] || !rig_cfg_decodes(fn) || !rig_cfg_masters(rig_peer(fn)))
		return -ENXIO;
	return fn->ops->window(fn, bar, off, addr, len);
}

/* One burst, now.  All of it must be inside of the translated part; what memory is missing behind it is lost. */
static bool land(struct rig_fn *fn, int bar, uint64_t off, void *data, size_t len, bool write)
{
	uint64_t addr, room;

	if (rig_window_target(fn, bar, off, &addr, &room) || len > room)
		return false;
	return rig_memory_copy(rig_peer(fn), addr, data, len, write);
}

static void late_land(struct rig_fn *fn, uint64_t until)
{
	struct rig_side *side = side_of(fn);

	while (side->late && side->late->due_ns <= until) {
		struct rig_late *l = side->late;

		side->late = l->next;
		if (!side->late)
			side->late_end = &side->late;
		side->late_count--;
		if (!land(fn, l->bar, l->off, l->data, l->len, true))
			side->count.lost++;
		free(l);
	}
}

static void late_drop(struct rig_side *side)
{
	while (side->late) {
		struct rig_late *l = side->late;

		side->late = l->next;
		side->count.lost++;
		free(l);
	}
	side->late_end = &side->late;
	side->late_count = 0;
}

/* False: not put into the list, for want of memory. */
static bool late_add(struct rig_fn *fn, int bar, uint64_t off, const void *data, size_t len)
{
	struct rig_side *side = side_of(fn);
	struct rig_late *l = malloc(sizeof(*l) + len);

	if (!l)
		return false;
	if (side->late_count >= LATE_MAX)
		late_land(fn, UINT64_MAX);
	*l = (struct rig_late){ .due_ns = now(fn->pair) + side->delay_ns, .bar = bar, .off = off, .len = len };
	memcpy(l->data, data, len);
	*side->late_end = l;
	side->late_end = &l->next;
	side->late_count++;
	return true;
}

static void count_write(struct rig_count *c, size_t len)
{
	unsigned slot = 7;

	for (unsigned i = 0; i < 7; i++) {
		if (len == 1u << i)
			slot = i;
	}
	c->write[slot]++;
	c->write_bytes += len;
}

static void link_down(struct rig_pair *pair);

bool rig_window_write(struct rig_fn *fn, int bar, uint64_t off, const void *data, size_t len)
{
	struct rig_side *side = side_of(fn);
	bool arrived = true;

	count_write(&side->count, len);
	if (side->flap && !side->flap_at--) {
		side->flap = false;
		link_down(fn->pair);
		rig_link_check(fn->pair);
	}
	if (side->drop_writes) {
		side->drop_writes--;
		arrived = false;
	} else if (side->delay_ns && fn->pair->up && late_add(fn, bar, off, data, len)) {
		return true;
	} else {
		late_land(fn, UINT64_MAX);
		arrived = land(fn, bar, off, (void *)data, len, true);
	}
	if (!arrived)
		side->count.lost++;
	return arrived;
}

/* What was posted before it, and on its way back what the other host has posted. */
static void read_pushes(struct rig_fn *fn)
{
	late_land(fn, UINT64_MAX);
	late_land(rig_peer(fn), UINT64_MAX);
}

bool rig_window_read(struct rig_fn *fn, int bar, uint64_t off, void *data, size_t len)
{
	struct rig_side *side = side_of(fn);

	side->count.read++;
	side->count.read_bytes += len;
	read_pushes(fn);
	if (land(fn, bar, off, data, len, false))
		return true;
	memset(data, 0xff, len);
	return false;
}

bool rig_peer_write(struct rig_fn *fn)
{
	side_of(fn)->count.peer_reg_write++;
	late_land(fn, UINT64_MAX);
	return fn->pair->up;
}

bool rig_peer_read(struct rig_fn *fn)
{
	side_of(fn)->count.peer_reg_read++;
	read_pushes(fn);
	return fn->pair->up;
}

bool rig_bell_passes(struct rig_fn *fn, bool *twice)
{
	struct rig_side *side = side_of(fn);

	*twice = false;
	side->count.bell++;
	if (side->bell_drop) {
		side->bell_drop--;
		return false;
	}
	if (side->bell_early)
		side->bell_early--;
	else
		late_land(fn, UINT64_MAX);
	if (!fn->pair->up)
		return false;
	if (side->bell_dup) {
		side->bell_dup--;
		*twice = true;
	}
	return true;
}

bool rig_memory_copy(struct rig_fn *fn, uint64_t addr, void *buf, size_t len, bool write)
{
	const struct rig_env *env = &fn->pair->env;
	uint8_t *at = buf;

	if (addr + len < addr)
		return false;
	while (len) {
		size_t n = len;
		uint8_t *mem = env->memory(env->arg, fn, addr, &n, write);

		if (!mem || !n || n > len)
			return false;
		if (write)
			memcpy(mem, at, n);
		else
			memcpy(at, mem, n);
		at += n;
		addr += n;
		len -= n;
	}
	return true;
}

/* ---- link ---- */

static void link_told(struct rig_pair *pair)
{
	rig_event(pair->side[0].port, RIG_EV_LINK, 0, 0, 0, pair->up, false, false);
	for (int i = 0; i < 2; i++) {
		struct rig_fn *fn = pair->side[i].port;

		rig_window_moved(fn);
		if (fn->on)
			fn->ops->link_changed(fn, pair->up);
	}
}

static void link_down(struct rig_pair *pair)
{
	pair->training = false;
	if (!pair->up)
		return;
	pair->up = false;
	for (int i = 0; i < 2; i++)
		late_drop(&pair->side[i]);
	link_told(pair);
}

void rig_link_check(struct rig_pair *pair)
{
	bool wanted = pair->cable;

	for (int i = 0; i < 2; i++) {
		const struct rig_fn *fn = pair->side[i].port;

		wanted &= fn->on && fn->ops->wants_link(fn);
	}
	if (!wanted) {
		link_down(pair);
	} else if (!pair->up && !pair->training) {
		pair->training = true;
		pair->train_due = now(pair) + pair->conf.train_ns;
	}
}

bool rig_pair_link_is_up(const struct rig_pair *pair)
{
	return pair->up;
}

uint64_t rig_pair_run(struct rig_pair *pair)
{
	uint64_t t = now(pair), next = UINT64_MAX;

	if (pair->training && pair->train_due <= t) {
		pair->training = false;
		pair->up = true;
		link_told(pair);
	}
	if (pair->training)
		next = pair->train_due;
	for (int i = 0; i < 2; i++) {
		struct rig_side *side = &pair->side[i];

		late_land(side->port, t);
		if (side->late && side->late->due_ns < next)
			next = side->late->due_ns;
		if (side->ioat) {
			uint64_t due = side->ioat->ops->run(side->ioat);

			if (due < next)
				next = due;
		}
	}
	return next;
}

void rig_fn_reset(struct rig_fn *fn, enum rig_reset how)
{
	rig_event(fn, RIG_EV_RESET, 0, 0, 0, how, false, false);
	if (how != RIG_RESET_FLR)
		fn->on = how == RIG_RESET_BACK;
	rig_cfg_reset(fn);
	if (!fn->port) {
		rig_fn_registers_reset(fn);
		return;
	}
	/* the link first: the other side learns of it while this one can no longer be written to */
	link_down(fn->pair);
	if (!fn->ops->keeps || !fn->ops->keeps(fn, how))
		rig_fn_registers_reset(fn);
	rig_window_moved(fn);
	rig_window_moved(rig_peer(fn));
	rig_link_check(fn->pair);
}

/* ---- open, close, faults ---- */

static bool window_size_ok(uint64_t size)
{
	return size >= 4096 && size <= 1ull << 40 && !(size & (size - 1));
}

struct rig_pair *rig_pair_open(const struct rig_pair_conf *conf, const struct rig_env *env)
{
	struct rig_pair *pair;

	if (!window_size_ok(conf->window_size[0]) || !window_size_ok(conf->window_size[1]) || conf->family > RIG_AMD ||
	    !env->memory || !env->interrupt || !env->now_ns) {
		errno = EINVAL;
		return NULL;
	}
	pair = calloc(1, sizeof(*pair));
	if (!pair)
		return NULL;
	pair->conf = *conf;
	pair->env = *env;
	pair->cable = true;
	for (int i = 0; i < 2; i++) {
		pair->side[i].late_end = &pair->side[i].late;
		pair->side[i].port = conf->family == RIG_AMD ? rig_amd_new(pair, i) : rig_intel_new(pair, i);
	}
	if (!pair->side[0].port || !pair->side[1].port) {
		rig_pair_close(pair);
		errno = ENOMEM;
		return NULL;
	}
	for (int i = 0; i < 2; i++)
		rig_fn_registers_reset(pair->side[i].port);
	rig_link_check(pair);
	return pair;
}

void rig_pair_close(struct rig_pair *pair)
{
	if (!pair)
		return;
	for (int i = 0; i < 2; i++) {
		late_drop(&pair->side[i]);
		rig_fn_free(pair->side[i].port);
		rig_fn_free(pair->side[i].ioat);
	}
	free(pair);
}

struct rig_fn *rig_pair_port(struct rig_pair *pair, int host)
{
	return pair->side[!!host].port;
}

struct rig_fn *rig_ioat_open(struct rig_pair *pair, int host)
{
	struct rig_side *side = &pair->side[!!host];

	if (!side->ioat)
		side->ioat = rig_ioat_new(pair, !!host);
	return side->ioat;
}

const struct rig_count *rig_pair_count(const struct rig_pair *pair, int host)
{
	return &pair->side[!!host].count;
}

int rig_fault(struct rig_pair *pair, enum rig_fault what, int host, uint64_t n)
{
	struct rig_side *side = &pair->side[!!host];

	if (host < 0 || host > 1)
		return -EINVAL;
	switch (what) {
	case RIG_FAULT_LINK_DOWN:
	case RIG_FAULT_LINK_UP:
		pair->cable = what == RIG_FAULT_LINK_UP;
		rig_link_check(pair);
		return 0;
	case RIG_FAULT_FLAP_AT:
		side->flap = true;
		side->flap_at = n;
		return 0;
	case RIG_FAULT_DROP_WRITES:
		side->drop_writes = n;
		return 0;
	case RIG_FAULT_DELAY_WRITES:
		side->delay_ns = n;
		return 0;
	case RIG_FAULT_BELL_DROP:
		side->bell_drop = n;
		return 0;
	case RIG_FAULT_BELL_DUP:
		side->bell_dup = n;
		return 0;
	case RIG_FAULT_BELL_EARLY:
		side->bell_early = n;
		return 0;
	case RIG_FAULT_PEER_RESET:
		rig_fn_reset(side->port, RIG_RESET_FLR);
		return 0;
	case RIG_FAULT_CUT_WINDOW:
	case RIG_FAULT_MEND_WINDOW:
		if (n >= RIG_BARS || !side->port->info.bar[n].window)
			return -EINVAL;
		side->cut[n] = what == RIG_FAULT_CUT_WINDOW;
		rig_window_moved(side->port);
		return 0;
	case RIG_FAULT_ENGINE_EAGER:
		side->engine_eager = n;
		return 0;
	case RIG_FAULT_ENGINE_HALT:
		side->engine_halt = true;
		side->engine_halt_at = n;
		return 0;
	}
	return -EINVAL;
}
