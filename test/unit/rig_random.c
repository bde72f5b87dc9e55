// SPDX-License-Identifier: BSD-2-Clause
/*
 * rig_random.c - whatever hosts do to the model, it stays within its arrays and within the memory that is mapped
 *
 * Accesses, faults, resets and time in any order, drawn by T_SEED.  The sanitizers say what is wrong; without them the
 * bytes around the mapped memory do.
 *
 * links: test/rig/inproc.c test/rig/pair.c test/rig/fn.c test/rig/cfg.c test/rig/ntb_intel.c test/rig/ntb_amd.c test/rig/ioat.c
 */
#include "rig/inproc.h"
#include "t.h"

#ifdef NTBS_SANITIZED
enum { ROUNDS = 8000 };
#else
enum { ROUNDS = 40000 };
#endif
enum { WINDOW = 1 << 14, GUARD = 4096 };

static struct inproc ip;
static uint8_t *room[2];	/* GUARD, mapped memory of WINDOW bytes, GUARD */
static const uint64_t mem_at = 0x10000;
static uint64_t seq, lines, landed;

static unsigned pick(unsigned n)
{
	return (unsigned)(t_rand() % n);
}

/* Values that registers care about more often than chance would have it. */
static uint64_t value(int host)
{
	const struct rig_fn *port = ip.port[host];

	switch (pick(12)) {
	case 0: return 0;
	case 1: return ~0ull;
	case 2: return mem_at;
	case 3: return mem_at + (t_rand() & 0xffff);
	case 4: return rig_fn_bar_base(port, 2) + pick(WINDOW + 9);
	case 5: return rig_fn_bar_base(port, 4) + WINDOW;
	case 6: return 1ull << pick(64);
	case 7: return pick(40);
	case 8: return 14;
	case 9: return 0x20000000000000ffull + pick(WINDOW);
	case 10: return t_rand() & 0xffff;
	default: return t_rand();
	}
}

static uint64_t reg(bool ioat)
{
	static const uint16_t at[] = {
		0, 0x10, 0x18, 0x20, 0x28, 0x40, 0x48, 0x50, 0x70, 0x74, 0x76, 0x80, 0xbc, 0xd0, 0xf0, 0x100, 0x17c, 0x180, 0x200, 0x210,
		0x24c, 0x408, 0x418, 0x420, 0x438, 0x440, 0x454, 0x45c, 0x460, 0x470, 0x474, 0x4a0, 0x808, 0x818, 0x838, 0x840, 0x4018, 0x4028,
		0x4504, 0x4518, 0x8080, 0x80bc, 0xb050, 0xb052, 0xb05a, 0xb0d4, 0xb4c0, 0xc000, 0xd000,
	};
	static const uint16_t ioat_at[] = {
		0, 3, 4, 8, 0x10, 0x80, 0x84, 0x86, 0x88, 0x90, 0x94, 0x98, 0x9c, 0xa8, 0x100, 0x104, 0x106, 0x110, 0x118, 0x128,
	};

	if (pick(8) == 0)
		return t_rand() & 0xffff;
	return ioat ? ioat_at[pick(sizeof(ioat_at) / sizeof(*ioat_at))] : at[pick(sizeof(at) / sizeof(*at))];
}

static void access_one(int host)
{
	uint8_t buf[5000];
	bool ioat = pick(4) == 0;
	struct rig_fn *fn = ioat ? ip.ioat[host] : ip.port[host];
	int space = pick(6) ? 0 : pick(3) ? 2 + 2 * (int)pick(2) : pick(2) ? RIG_CFG : (int)pick(9) - 1;
	uint64_t off = space == 0 ? reg(ioat) : space == RIG_CFG ? (pick(4) ? pick(4100) : 4080 + pick(20)) : pick(WINDOW + 16), v = value(host);
	size_t len = 1u << pick(4);

	if (space >= 2 && pick(3) == 0)
		len = pick(sizeof(buf));
	t_fill(buf, sizeof(buf), 9, t_rand() & 0xffff);
	memcpy(buf, &v, 8);
	if (pick(3))
		rig_write(fn, space, off, buf, len);
	else
		rig_read(fn, space, off, buf, len);
}

/* Descriptors for the engine, good, bad and leading in circles. */
static void descriptor(int host)
{
	uint64_t d[8] = { pick(5000) | (uint64_t)(pick(6) ? pick(64) : pick(1u << 31)) << 32, value(host), value(host), mem_at + 64 * pick(64) };

	memcpy(room[host] + GUARD + 64 * pick(64), d, sizeof(d));
}

/* A register that the family may not have. */
static void set(int host, uint64_t off, uint64_t v, size_t len)
{
	rig_write(ip.port[host], 0, off, &v, len);
}

static void enable(int host)
{
	inproc_enable(ip.port[host]);
	inproc_enable(ip.ioat[host]);
	inproc_write(ip.port[host], RIG_CFG, 0x10, 0xd0000000, 4);
	rig_fn_place(ip.port[host], 0x380000000000 + ((uint64_t)host << 40));
}

static void step(void)
{
	int host = (int)pick(2);
	unsigned what = pick(100);

	if (what < 85)
		access_one(host);
	else if (what < 92)
		descriptor(host);
	else if (what < 95)
		inproc_advance(&ip, t_rand() % (2 * RIG_TRAIN_NS));
	else if (what < 97)
		rig_fault(ip.pair, (enum rig_fault)pick(RIG_FAULT_ENGINE_HALT + 2), (int)pick(3), pick(8));
	else if (what < 98)
		rig_fn_reset(pick(2) ? ip.port[host] : ip.ioat[host], (enum rig_reset)pick(3));
	else
		enable(host);
	/* what a driver would do, or hardly anything would ever cross */
	if (pick(50) == 0) {
		rig_fn_reset(ip.port[host], RIG_RESET_BACK);
		enable(host);
		set(host, 0, 0x154, 4);
		set(host, 0xb050, 0, 2);
		set(host, 0xb0d4, 8, 4);
		set(host, 0x10, mem_at, 8);
		set(host, 0x18, rig_fn_bar_base(ip.port[host], 2) + WINDOW, 8);
		set(host, 0x4018, 0x4000000000000000 + WINDOW, 8);
		set(host, 0x74, 14, 2);
		set(host, 0x838, mem_at, 8);
		set(host, 0x818, WINDOW, 8);
		rig_fault(ip.pair, RIG_FAULT_LINK_UP, 0, 0);
		inproc_advance(&ip, RIG_TRAIN_NS);
	}
}

static void one(enum rig_family family)
{
	t_must(inproc_open(&ip, family, WINDOW), "open");
	for (int h = 0; h < 2; h++) {
		memset(room[h], 0xa5, 2 * GUARD + WINDOW);
		t_must(inproc_map(&ip, h, mem_at, room[h] + GUARD, WINDOW), "map");
		t_must(inproc_ioat(&ip, h), "engine");
		enable(h);
	}
	ip.keep_trace = true;
	for (unsigned i = 0; i < ROUNDS; i++) {
		step();
		for (size_t k = 0; k < ip.traced; k++) {
			const struct rig_event *ev = &ip.trace[k];

			t_ok(!seq || ev->seq == seq + 1, "numbers without gaps");
			seq = ev->seq;
			lines++;
			landed += ev->kind == RIG_EV_WRITE && (ev->space == 2 || ev->space == 4) && !ev->lost;
		}
		ip.traced = 0;
	}
	for (int h = 0; h < 2; h++) {
		for (unsigned i = 0; i < GUARD; i++)
			t_must(room[h][i] == 0xa5 && room[h][GUARD + WINDOW + i] == 0xa5, "bytes outside of what is mapped, host %d", h);
	}
	seq = 0;
	inproc_close(&ip);
}

int main(void)
{
	t_seed();
	for (int h = 0; h < 2; h++) {
		room[h] = malloc(2 * GUARD + WINDOW);
		t_must(room[h], "memory");
	}
	one(RIG_INTEL_GEN3);
	one(RIG_INTEL_ICX);
	one(RIG_INTEL_SPR);
	one(RIG_AMD);
	t_ok(lines > ROUNDS && landed > ROUNDS / 40, "enough happened: %lu events, %lu window writes arrived", (unsigned long)lines,
	     (unsigned long)landed);
	for (int h = 0; h < 2; h++)
		free(room[h]);
	return t_done();
}
