// SPDX-License-Identifier: BSD-2-Clause
/*
 * rig_intel.c - the model of Intel's ports takes the steps of Linux's ntb_hw_intel and does what they are for
 *
 * links: test/rig/inproc.c test/rig/pair.c test/rig/fn.c test/rig/cfg.c test/rig/ntb_intel.c test/rig/ntb_amd.c test/rig/ioat.c
 */
#include "rig/inproc.h"
#include "t.h"

enum { WINDOW = 1 << 20, VECTORS = 33 };

static struct inproc ip;
static enum rig_family family;
static uint8_t *mem[2];		/* of WINDOW bytes, at mem_at */
static const uint64_t mem_at[2] = { 0x100000000, 0x240000000 };

static bool gen3(void)
{
	return family == RIG_INTEL_GEN3;
}

static uint64_t rd(int host, uint64_t off, size_t len)
{
	return inproc_read(ip.port[host], 0, off, len);
}

static void wr(int host, uint64_t off, uint64_t v, size_t len)
{
	inproc_write(ip.port[host], 0, off, v, len);
}

static void open_pair(enum rig_family f)
{
	family = f;
	t_must(inproc_open(&ip, f, WINDOW), "open");
	for (int i = 0; i < 2; i++) {
		memset(mem[i], 0, WINDOW);
		t_must(inproc_map(&ip, i, mem_at[i], mem[i], WINDOW), "map");
	}
}

/* Probe of the driver, in its order; what it reads back must be what it wants to see. */
static void probe(int host)
{
	struct rig_fn *fn = ip.port[host];
	unsigned intvec = gen3() ? 0xd0 : 0x50;

	inproc_enable(fn);
	if (gen3()) {
		t_eq(inproc_read(fn, RIG_CFG, 0xd4, 1), host ? 0x11 : 0x01, "PPD of host %d", host);
	} else {
		uint64_t mask = family == RIG_INTEL_ICX ? 0x1300 : 0x4700, dsd = family == RIG_INTEL_ICX ? 0x1200 : 0x4200;

		t_eq(rd(host, 0xb4c0, 4) & mask, host ? dsd : 0x0200, "PPD1 of host %d", host);
	}
	for (unsigned i = 0; i < 2; i++) {
		uint64_t limit = 0x2000000000000000ull << i;

		wr(host, 0x18 + 0x10 * i, limit, 8);
		t_eq(rd(host, 0x18 + 0x10 * i, 8), limit, "limit %u", i);
	}
	wr(host, 0x10, 0, 8);
	wr(host, 0x20, 0, 8);
	if (gen3())
		wr(host, 0x4504, 6, 2);
	wr(host, 0x48, 0xffffffff, 8);
	if (!gen3()) {
		t_eq(rd(host, 0xb050, 2), 0x10, "link disabled after reset");
		wr(host, 0xb050, rd(host, 0xb050, 2) | 0x10, 2);
	}
	for (unsigned i = 0; i < VECTORS; i++)
		wr(host, intvec + i, i, 1);
	if (gen3())
		wr(host, intvec + 32, 31, 1);
	wr(host, 0x48, 0xffffffff, 8);
	if (gen3()) {
		wr(host, 0x40, 0x180000000, 8);
		t_eq(inproc_read(fn, RIG_CFG, 0x1a2, 2), 0, "link status");
	} else {
		wr(host, 0xb05a, 0x100, 2);
		wr(host, 0x40, 0x100000000, 8);
		t_eq(rd(host, 0xb052, 2), 0, "link status");
	}
}

static void enable(int host)
{
	if (gen3()) {
		t_eq(rd(host, 0, 4) & 3, 3, "locked and disabled");
		wr(host, 0, (rd(host, 0, 4) & ~3ull) | 0x154, 4);
		return;
	}
	if (family == RIG_INTEL_SPR) {
		wr(host, 0x30f0, 0x88008800, 4);
		wr(host, 0x30f4, 0x8a588a58, 4);
		wr(host, 0x30ec, 0, 1);
	}
	wr(host, 0, 0x154, 4);
	wr(host, 0xb050, rd(host, 0xb050, 2) & ~0x10ull, 2);
	wr(host, 0xb0d4, rd(host, 0xb0d4, 4) | 8, 4);
	t_eq(rd(host, 0xb0d4, 4) & 8, 8, "training");
}

static void disable(int host)
{
	if (gen3())
		wr(host, 0, rd(host, 0, 4) | 3, 4);
	else
		wr(host, 0xb050, rd(host, 0xb050, 2) | 0x10, 2);
}

static bool link_is_up(int host)
{
	uint64_t sts = gen3() ? inproc_read(ip.port[host], RIG_CFG, 0x1a2, 2) : rd(host, 0xb052, 2);

	return sts & 0x2000;
}

/* Acknowledge the link interrupt as the driver does. */
static void link_ack(int host)
{
	if (!gen3())
		wr(host, 0xb05a, 0x100, 2);
	wr(host, 0x40, gen3() ? 0x180000000 : 0x100000000, 8);
}

/* Opens @host's memory, so that the peer's BAR 2+2i leads into it.  False: a read-back differs. */
static bool set_trans(int host, unsigned i, uint64_t addr, uint64_t size)
{
	uint64_t base = rig_fn_bar_base(ip.port[host], 2 + 2 * (int)i);

	wr(host, 0x10 + 0x10 * i, addr, 8);
	if (rd(host, 0x10 + 0x10 * i, 8) != addr)
		return false;
	wr(host, 0x18 + 0x10 * i, base + size, 8);
	if (rd(host, 0x18 + 0x10 * i, 8) != base + size)
		return false;
	if (gen3()) {
		base = rd(host, 0x4518 + 8 * i, 8) & ~0xfull;
		wr(host, 0x4018 + 0x10 * i, base + size, 8);
		return rd(host, 0x4018 + 0x10 * i, 8) == base + size;
	}
	if (family == RIG_INTEL_ICX) {
		unsigned log2 = size ? 63 - (unsigned)__builtin_clzll(size) : 0;

		wr(host, 0x74 + 2 * i, log2, 2);
		return rd(host, 0x74 + 2 * i, 2) == log2;
	}
	return true;
}

static void bring_up(enum rig_family f)
{
	open_pair(f);
	for (int h = 0; h < 2; h++)
		probe(h);
	for (int h = 0; h < 2; h++)
		enable(h);
	inproc_advance(&ip, RIG_TRAIN_NS);
	t_must(link_is_up(0) && link_is_up(1), "link up");
	for (int h = 0; h < 2; h++)
		link_ack(h);
}

static void close_pair(void)
{
	t_eq(ip.unknown, 0, "accesses that the model does not know");
	inproc_close(&ip);
}

static void link_trains(void)
{
	unsigned vector = gen3() ? 31 : 32;

	for (int h = 0; h < 2; h++)
		probe(h);
	enable(0);
	inproc_advance(&ip, 10 * RIG_TRAIN_NS);
	t_ok(!link_is_up(0), "one side alone has no link");
	enable(1);
	inproc_advance(&ip, RIG_TRAIN_NS - 1);
	t_ok(!link_is_up(0) && !link_is_up(1), "training takes its time");
	inproc_advance(&ip, 1);
	for (int h = 0; h < 2; h++) {
		t_ok(link_is_up(h), "up at host %d", h);
		t_eq(ip.irq[h][vector], 1, "link interrupt of host %d", h);
		t_eq(rd(h, 0x40, 8) >> 32, 1, "link bit of host %d", h);
	}
	if (!gen3()) {
		wr(0, 0x40, 0x100000000, 8);
		t_eq(rd(0, 0x40, 8) >> 32, 1, "the link bit stays while SLOTSTS says that it changed");
	}
	for (int h = 0; h < 2; h++) {
		link_ack(h);
		t_eq(rd(h, 0x40, 8), 0, "acknowledged");
	}
	disable(1);
	for (int h = 0; h < 2; h++) {
		t_ok(!link_is_up(h), "down at host %d", h);
		t_eq(ip.irq[h][vector], 2, "told host %d", h);
		link_ack(h);
	}
	if (!gen3()) {
		/* training bits are still set: taking the disable bit away is enough */
		wr(1, 0xb050, rd(1, 0xb050, 2) & ~0x10ull, 2);
		inproc_advance(&ip, RIG_TRAIN_NS);
		t_ok(link_is_up(0), "up again");
	}
}

static void poke(int host, int bar, uint64_t off, uint64_t v, size_t len)
{
	inproc_write(ip.port[host], bar, off, v, len);
}

static void windows(void)
{
	uint64_t page = 0x1000;

	for (int h = 0; h < 2; h++) {
		int peer = !h;

		for (unsigned i = 0; i < 2; i++) {
			int bar = 2 + 2 * (int)i;

			poke(h, bar, 0, 0x1111, 8);
			t_eq(mem[peer][0], 0, "a window that nobody has opened");
			t_ok(set_trans(peer, i, mem_at[peer], WINDOW), "translation of host %d, window %u", peer, i);
			poke(h, bar, 0x40, 0x1122334455667788, 8);
			t_eq(mem[peer][0x40], 0x88, "first byte");
			t_eq(mem[peer][0x47], 0x11, "last byte");
			t_eq(inproc_read(ip.port[h], bar, 0x44, 4), 0x11223344, "read across the link");
			poke(h, bar, WINDOW - 1, 0x5a, 1);
			t_eq(mem[peer][WINDOW - 1], 0x5a, "last byte of the window");
			/* shorter: what is beyond the limit is lost */
			t_ok(set_trans(peer, i, mem_at[peer], 0x8000), "shorter");
			poke(h, bar, 0x7ff8, 0x77, 8);
			poke(h, bar, 0x7ffc, 0x88, 8);
			poke(h, bar, 0x8000, 0x99, 8);
			t_eq(mem[peer][0x7ff8], 0x77, "below the limit");
			t_eq(mem[peer][0x8000], 0, "beyond the limit");
			t_eq(mem[peer][0x7ffc], 0, "across the limit");
			t_eq(inproc_read(ip.port[h], bar, 0x8000, 8), -1, "read beyond the limit");
			t_ok(set_trans(peer, i, 0, 0), "closed");
			poke(h, bar, 0x40, 0, 8);
			t_eq(mem[peer][0x40], 0x88, "closed");
			t_eq(inproc_read(ip.port[h], bar, 0, 4), 0xffffffff, "read of a closed window");
			memset(mem[peer], 0, WINDOW);
		}
	}
	/* a limit that no window of this size has */
	t_ok(set_trans(1, 0, mem_at[1], WINDOW), "translation");
	wr(1, 0x18, rig_fn_bar_base(ip.port[1], 2) + WINDOW + 0x1000, 8);
	poke(0, 2, 0, 1, 8);
	t_eq(mem[1][0], 0, "limit beyond the BAR");
	wr(1, 0x18, rig_fn_bar_base(ip.port[1], 2) - 0x1000, 8);
	poke(0, 2, 0, 1, 8);
	t_eq(mem[1][0], 0, "limit below the BAR");
	/* alignment shows in the read-back */
	t_eq(set_trans(1, 0, mem_at[1] + page, page), family == RIG_INTEL_SPR, "aligned to a page only");
	t_ok(!set_trans(1, 0, mem_at[1] + 0x80, page), "aligned to less than a page");
	if (family == RIG_INTEL_ICX) {
		t_ok(set_trans(1, 0, mem_at[1], WINDOW), "translation");
		wr(1, 0x74, 12, 2);
		poke(0, 2, 0, 1, 8);
		t_eq(mem[1][0], 0, "a base index that does not fit the length");
	}
	if (gen3()) {
		t_ok(set_trans(1, 0, mem_at[1], WINDOW), "translation");
		wr(1, 0x4018, rd(1, 0x4518, 8) & ~0xfull, 8);
		poke(0, 2, 0, 1, 8);
		t_eq(mem[1][0], 0, "external limit");
	}
}

/* An address that the peer's IOMMU does not know, and a map that ends in the window. */
static void unmapped(void)
{
	t_ok(set_trans(1, 0, mem_at[1], WINDOW), "translation");
	inproc_unmap(&ip, 1, mem_at[1]);
	poke(0, 2, 0, 1, 8);
	t_eq(mem[1][0], 0, "not mapped");
	t_eq(inproc_read(ip.port[0], 2, 0, 8), -1, "read of what is not mapped");
	t_must(inproc_map(&ip, 1, mem_at[1], mem[1], 0x1004), "map");
	poke(0, 2, 0x1000, 0x0102030405060708, 8);
	t_eq(mem[1][0x1000], 8, "mapped part");
	t_eq(mem[1][0x1004], 0, "behind the map");
}

static void doorbells(void)
{
	wr(1, 0x48, 0x1ffffffff & ~(1ull << 3 | 1ull << 30), 8);
	wr(0, 0x100 + 4 * 3, 1, 4);
	t_eq(ip.irq[1][3], 1, "doorbell 3");
	t_eq(rd(1, 0x40, 8), 1 << 3, "its bit");
	wr(0, 0x100 + 4 * 3, 1, 4);
	t_eq(ip.irq[1][3], 1, "pending already");
	wr(1, 0x40, 1 << 3, 8);
	t_eq(rd(1, 0x40, 8), 0, "cleared");
	wr(0, 0x100 + 4 * 3, 1, 4);
	t_eq(ip.irq[1][3], 2, "again");
	wr(0, 0x100 + 4 * 5, 1, 4);
	t_eq(ip.irq[1][5], 0, "masked");
	t_eq(rd(1, 0x40, 8), 1 << 3 | 1 << 5, "masked but pending");
	wr(1, 0x48, 0x1ffffffff & ~(1ull << 3 | 1ull << 5), 8);
	t_eq(ip.irq[1][5], 1, "unmasking a pending doorbell fires");
	t_eq(ip.irq[1][3], 2, "and only that");
	wr(0, 0x100 + 4 * 30, 0, 4);
	t_eq(rd(1, 0x40, 8) >> 30, 0, "writing 0 rings nothing");
	/* another vector */
	wr(1, (gen3() ? 0xd0 : 0x50) + 7, 20, 1);
	wr(1, 0x48, 0, 8);
	wr(0, 0x100 + 4 * 7, 1, 4);
	t_eq(ip.irq[1][20], 1, "vector as mapped");
	/* no bus master, no interrupt */
	inproc_write(ip.port[1], RIG_CFG, 4, 2, 2);
	wr(0, 0x100 + 4 * 8, 1, 4);
	t_eq(ip.irq[1][8], 0, "interrupt without bus mastering");
	t_eq(rd(1, 0x40, 8) >> 8 & 1, 1, "but pending");
}

static void scratchpads(void)
{
	unsigned at = gen3() ? 0x180 : 0x8080;

	for (unsigned i = 0; i < 16; i++)
		wr(0, at + 4 * i, 0xabc00000 + i, 4);
	for (unsigned i = 0; i < 16; i++) {
		t_eq(rd(1, 0x80 + 4 * i, 4), 0xabc00000 + i, "scratchpad %u of the peer", i);
		t_eq(rd(0, 0x80 + 4 * i, 4), 0, "own scratchpad %u", i);
		t_eq(rd(0, at + 4 * i, 4), 0xabc00000 + i, "read back over the link");
	}
	wr(1, 0x80, 42, 4);
	t_eq(rd(0, at, 4), 42, "written by their owner");
	disable(0);
	wr(0, at + 4, 1, 4);
	t_eq(rd(0, at, 4), 0xffffffff, "peer's without link");
	t_eq(rd(1, 0x84, 4), 0xabc00001, "kept when the link goes down");
}

static void resets(void)
{
	struct rig_fn *fn = ip.port[1];
	unsigned exp = gen3() ? 0x90 : 0x40, pm = gen3() ? 0xe0 : 0x80;
	uint64_t bar2 = rig_fn_bar_base(fn, 2);

	t_ok(set_trans(1, 0, mem_at[1], WINDOW), "translation");
	wr(1, 0x80, 42, 4);
	poke(0, 2, 0, 1, 8);
	t_eq(mem[1][0], 1, "window");
	/* D3hot: nothing answers, nothing is lost */
	inproc_write(fn, RIG_CFG, pm + 4, 3, 2);
	t_eq(inproc_read(fn, RIG_CFG, pm + 4, 2) & 3, 3, "D3hot reads back");
	t_eq(rd(1, 0x80, 4), 0xffffffff, "register in D3hot");
	poke(0, 2, 0, 2, 8);
	t_eq(mem[1][0], 1, "window into a port in D3hot");
	inproc_write(fn, RIG_CFG, pm + 4, 0, 2);
	t_eq(rd(1, 0x80, 4), 42, "register back in D0");
	/* FLR */
	inproc_write(fn, RIG_CFG, exp + 8, inproc_read(fn, RIG_CFG, exp + 8, 2) | 0x8000, 2);
	t_eq(inproc_read(fn, RIG_CFG, exp + 8, 2) & 0x8000, 0, "the FLR bit reads 0");
	t_eq(inproc_read(fn, RIG_CFG, 4, 2), 0, "COMMAND after FLR");
	t_eq(rig_fn_bar_base(fn, 2), bar2, "BARs are left to whoever resets");
	t_eq(rd(1, 0x80, 4), 0xffffffff, "no decoding after FLR");
	inproc_enable(fn);
	t_eq(rd(1, 0x80, 4), 0, "scratchpad after FLR");
	t_eq(rd(1, 0x10, 8), 0, "translation after FLR");
	t_ok(!link_is_up(0), "the peer lost its link");
	poke(0, 2, 0, 3, 8);
	t_eq(mem[1][0], 1, "window into a port that was reset");
	/* and all over again */
	probe(1);
	enable(1);
	inproc_advance(&ip, RIG_TRAIN_NS);
	t_ok(link_is_up(0) && link_is_up(1), "link up after FLR");
	t_ok(set_trans(1, 0, mem_at[1], WINDOW), "translation");
	poke(0, 2, 0, 4, 8);
	t_eq(mem[1][0], 4, "window after FLR");
}

static void config_space(void)
{
	struct rig_fn *fn = ip.port[0];
	uint64_t base = rig_fn_bar_base(fn, 2), at;
	unsigned seen = 0;

	t_eq(inproc_read(fn, RIG_CFG, 0, 4), gen3() ? 0x201c8086 : 0x347e8086, "ids");
	inproc_write(fn, RIG_CFG, 0x18, 0xffffffff, 4);
	inproc_write(fn, RIG_CFG, 0x1c, 0xffffffff, 4);
	t_eq(inproc_read(fn, RIG_CFG, 0x18, 4), (uint32_t)~(WINDOW - 1) | 0xc, "size and kind of BAR2");
	t_eq(inproc_read(fn, RIG_CFG, 0x1c, 4), 0xffffffff, "its upper half");
	inproc_write(fn, RIG_CFG, 0x18, (uint32_t)base, 4);
	inproc_write(fn, RIG_CFG, 0x1c, base >> 32, 4);
	t_eq(rig_fn_bar_base(fn, 2), base, "placed again");
	for (at = inproc_read(fn, RIG_CFG, 0x34, 1); at; at = inproc_read(fn, RIG_CFG, at + 1, 1)) {
		uint64_t id = inproc_read(fn, RIG_CFG, at, 1);

		seen |= id < 32 ? 1u << id : 0;
		if (id == 0x11)
			t_eq(inproc_read(fn, RIG_CFG, at + 2, 2) & 0x7ff, VECTORS - 1, "vectors");
		t_must(at < 0x100, "capability list");
	}
	t_eq(seen, 1 << 0x01 | 1 << 0x10 | 1 << 0x11, "power management, PCI Express, MSI-X");
	t_eq(rig_read(fn, 0, 0x10000, &at, 4), -EINVAL, "beyond the BAR");
	t_eq(rig_read(fn, 0, 0xfffc, &at, 8), -EINVAL, "across the end of the BAR");
	t_eq(rig_read(fn, 1, 0, &at, 4), -EINVAL, "upper half of a BAR");
	t_eq(rig_read(fn, RIG_CFG, 4095, &at, 2), -EINVAL, "across the end of config space");
	t_eq(rig_write(fn, 2, WINDOW - 8, mem[0], 4096), -EINVAL, "across the end of a window");
	t_eq(rig_fn_info(fn)->bar[4].size, WINDOW, "BAR4");
	t_eq(ip.unknown, 0, "known so far");
	inproc_enable(fn);
	rd(0, 0x3000, 4);
	t_eq(ip.unknown, 1, "an unknown register is reported");
	rd(0, 0x44, 8);
	t_eq(ip.unknown, 2, "so is an access across two registers");
	ip.unknown = 0;
}

int main(void)
{
	static const enum rig_family families[] = { RIG_INTEL_GEN3, RIG_INTEL_ICX, RIG_INTEL_SPR };
	static void (*const with_link[])(void) = { windows, unmapped, doorbells, scratchpads, resets };

	for (int i = 0; i < 2; i++) {
		mem[i] = malloc(WINDOW);
		t_must(mem[i], "memory");
	}
	for (unsigned f = 0; f < sizeof(families) / sizeof(*families); f++) {
		open_pair(families[f]);
		link_trains();
		close_pair();
		open_pair(families[f]);
		config_space();
		close_pair();
		for (unsigned i = 0; i < sizeof(with_link) / sizeof(*with_link); i++) {
			bring_up(families[f]);
			with_link[i]();
			close_pair();
		}
	}
	for (int i = 0; i < 2; i++)
		free(mem[i]);
	return t_done();
}
