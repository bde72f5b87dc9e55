// SPDX-License-Identifier: BSD-2-Clause
/*
 * rig_amd.c - the model of AMD's ports takes the steps of Linux's ntb_hw_amd and does what they are for
 *
 * links: test/rig/inproc.c test/rig/pair.c test/rig/fn.c test/rig/cfg.c test/rig/ntb_intel.c test/rig/ntb_amd.c test/rig/ioat.c
 */
#include "rig/inproc.h"
#include "t.h"

enum { WINDOW = 1 << 20, UP = 21, DOWN = 22 };	/* vectors of the link events */

static struct inproc ip;
static uint8_t *mem[2];
static const uint64_t mem_at[2] = { 0x100003000, 0x240005000 };	/* a page is enough of alignment */

static uint64_t rd(int host, uint64_t off, size_t len)
{
	return inproc_read(ip.port[host], 0, off, len);
}

static void wr(int host, uint64_t off, uint64_t v, size_t len)
{
	inproc_write(ip.port[host], 0, off, v, len);
}

static void open_pair(void)
{
	t_must(inproc_open(&ip, RIG_AMD, WINDOW), "open");
	for (int i = 0; i < 2; i++) {
		memset(mem[i], 0, WINDOW);
		t_must(inproc_map(&ip, i, mem_at[i], mem[i], WINDOW), "map");
	}
}

static void close_pair(void)
{
	t_eq(ip.unknown, 0, "accesses that the model does not know");
	inproc_close(&ip);
}

/* Probe and link_enable of the driver. */
static void probe(int host)
{
	inproc_enable(ip.port[host]);
	t_eq(rd(host, 0x408, 4) & 1, host, "side of host %d", host);
	wr(host, 0x470, 0x7f, 4);
	wr(host, 0x45c, 0x7fff, 2);
	wr(host, 0x470, 0x1f, 4);
	wr(host, 0x408, rd(host, 0x408, 4) | 2, 4);
	wr(host, 0x200, rd(host, 0x200, 4) | 0x300000, 4);
	wr(host, 0x470, 0, 4);
}

/* One event, as the driver takes it: the only bit that INTSTAT shows. */
static unsigned event(int host)
{
	uint64_t sta = rd(host, 0x474, 4);

	t_ok(!(sta & (sta - 1)), "INTSTAT 0x%x shows one event at a time", (unsigned)sta);
	wr(host, 0x4a0, rd(host, 0x4a0, 4) | sta, 4);
	wr(host, 0x474, sta, 4);
	return (unsigned)sta;
}

static void bring_up(void)
{
	open_pair();
	inproc_advance(&ip, RIG_TRAIN_NS);
	for (int h = 0; h < 2; h++) {
		probe(h);
		t_eq(event(h), 0x20, "link-up event of host %d", h);
	}
	memset(ip.irq, 0, sizeof(ip.irq));
}

static bool set_trans(int host, unsigned i, uint64_t addr, uint64_t size)
{
	wr(host, 0x838 + 8 * i, addr, 8);
	if (rd(host, 0x838 + 8 * i, 8) != addr)
		return false;
	wr(host, 0x818 + 8 * i, size, 8);
	return rd(host, 0x818 + 8 * i, 8) == size;
}

static void poke(int host, int bar, uint64_t off, uint64_t v, size_t len)
{
	inproc_write(ip.port[host], bar, off, v, len);
}

static void link_and_events(void)
{
	open_pair();
	inproc_advance(&ip, RIG_TRAIN_NS);
	inproc_enable(ip.port[0]);
	t_eq(rd(0, 0x808, 4), 1, "peer is the secondary and not ready");
	t_eq(rd(0, 0x474, 4), 0x20, "the link is up without anybody's word");
	t_eq(ip.irq[0][UP], 0, "masked");
	probe(0);
	t_eq(ip.irq[0][UP], 1, "unmasking it fires");
	t_eq(event(0), 0x20, "link up");
	t_eq(rd(0, 0x474, 4), 0, "acknowledged");
	probe(1);
	t_eq(rd(0, 0x808, 4), 3, "peer is ready");
	t_eq(rd(1, 0x808, 4), 2, "so is the primary");
	t_eq(inproc_read(ip.port[0], RIG_CFG, 0x64 + 0x10, 4) >> 16 & 0x3ff, 0x104, "speed 4, 16 lanes");
	/* going unseen through down and up leaves up */
	event(1);
	memset(ip.irq, 0, sizeof(ip.irq));
	rig_fault(ip.pair, RIG_FAULT_LINK_DOWN, 0, 0);
	t_eq(ip.irq[0][DOWN], 1, "down event of the primary");
	t_eq(ip.irq[1][DOWN], 1, "down event of the secondary");
	t_eq(rd(0, 0x808, 4), 3, "READY of the peer outlives the link");
	wr(0, 0x808, rd(0, 0x808, 4) & ~2ull, 4);
	t_eq(rd(0, 0x808, 4), 1, "until the driver clears it");
	t_eq(rd(1, 0x408, 4), 1, "which is the peer's own bit");
	rig_fault(ip.pair, RIG_FAULT_LINK_UP, 0, 0);
	inproc_advance(&ip, RIG_TRAIN_NS);
	t_eq(event(1), 0x20, "up replaced down");
	t_eq(rd(1, 0x474, 4), 0, "nothing behind it");
	/* a host without power */
	wr(1, 0x408, 3, 4);
	rig_fn_reset(ip.port[1], RIG_RESET_GONE);
	t_eq(event(0), 0x40, "peer without power");
	t_eq(rd(0, 0x808, 4), 3, "its READY is there as if nothing had happened");
	t_eq(inproc_read(ip.port[1], 0, 0x408, 4), 0xffffffff, "not for itself");
	rig_fn_reset(ip.port[1], RIG_RESET_BACK);
	inproc_advance(&ip, RIG_TRAIN_NS);
	t_eq(event(0), 0x20, "peer is back");
	t_eq(rd(0, 0x808, 4), 1, "and not ready");
	close_pair();
}

static void windows(void)
{
	bring_up();
	for (int h = 0; h < 2; h++) {
		int peer = !h;

		for (unsigned i = 0; i < 2; i++) {
			int bar = 2 + 2 * (int)i;

			poke(h, bar, 0, 0x1111, 8);
			t_eq(mem[peer][0], 0, "closed after reset");
			t_ok(set_trans(peer, i, mem_at[peer], 0x9000), "translation");
			t_eq(rd(h, 0x438 + 8 * i, 8), mem_at[peer], "in the writer's bank");
			poke(h, bar, 0x10, 0x1234, 2);
			t_eq(mem[peer][0x11], 0x12, "window");
			t_eq(inproc_read(ip.port[h], bar, 0x10, 2), 0x1234, "read");
			poke(h, bar, 0x8fff, 0x56, 1);
			poke(h, bar, 0x9000, 0x56, 1);
			t_eq(mem[peer][0x8fff], 0x56, "below the limit");
			t_eq(mem[peer][0x9000], 0, "at the limit");
			t_ok(set_trans(peer, i, mem_at[peer], WINDOW), "whole");
			poke(h, bar, WINDOW - 8, 0x78, 8);
			t_eq(mem[peer][WINDOW - 8], 0x78, "end of the window");
			t_ok(set_trans(peer, i, 0, 0), "cleared");
			poke(h, bar, 0x10, 0x9999, 2);
			t_eq(mem[peer][0x11], 0x12, "cleared");
			memset(mem[peer], 0, WINDOW);
		}
	}
	t_ok(!set_trans(1, 0, mem_at[1] + 0x800, WINDOW), "half a page shows in the read-back");
	/* the two windows have registers of their own */
	t_ok(set_trans(1, 0, mem_at[1], 0x1000) && set_trans(1, 1, mem_at[1] + 0x1000, 0x1000), "two windows");
	poke(0, 2, 0, 0xaa, 1);
	poke(0, 4, 0, 0xbb, 1);
	t_eq(mem[1][0], 0xaa, "BAR2");
	t_eq(mem[1][0x1000], 0xbb, "BAR4");
	close_pair();
}

static void doorbells(void)
{
	bring_up();
	wr(1, 0x45c, 0x7ffe & ~4u, 2);
	wr(0, 0x454, 0x0005, 2);
	t_eq(ip.irq[1][0], 1, "doorbell 0");
	t_eq(ip.irq[1][2], 1, "doorbell 2");
	t_eq(rd(1, 0x460, 2), 5, "their bits");
	wr(0, 0x454, 1, 2);
	t_eq(ip.irq[1][0], 1, "pending already");
	wr(1, 0x460, 1, 2);
	t_eq(rd(1, 0x460, 2), 4, "one cleared");
	wr(0, 0x454, 1 | 1 << 7, 2);
	t_eq(ip.irq[1][0], 2, "again");
	t_eq(ip.irq[1][7], 0, "masked");
	t_eq(rd(1, 0x460, 2), 0x85, "but pending");
	wr(1, 0x45c, 0x7f7a, 2);
	t_eq(ip.irq[1][7], 1, "unmasked");
	t_eq(ip.irq[1][0] + ip.irq[1][2], 3, "and no other");
	wr(0, 0x454, 0x8000, 2);
	t_eq(ip.irq[1][15], 1, "the bit of a driver that leaves");
	close_pair();
}

static void scratchpads(void)
{
	bring_up();
	for (unsigned i = 0; i < 16; i++)
		wr(i & 1, 0x210 + 4 * i, 0xbb0 + i, 4);
	for (unsigned i = 0; i < 16; i++) {
		t_eq(rd(0, 0x210 + 4 * i, 4), 0xbb0 + i, "scratchpad %u", i);
		t_eq(rd(1, 0x210 + 4 * i, 4), 0xbb0 + i, "one bank for both: %u", i);
	}
	rig_fn_reset(ip.port[1], RIG_RESET_FLR);
	t_eq(rd(0, 0x210, 4), 0xbb0, "reset of the secondary leaves them");
	t_eq(rd(0, 0x808, 4), 1, "and takes its READY");
	inproc_advance(&ip, RIG_TRAIN_NS);
	t_eq(event(0), 0x20, "link back");
	rig_fn_reset(ip.port[0], RIG_RESET_FLR);
	inproc_enable(ip.port[0]);
	t_eq(rd(0, 0x210, 4), 0, "reset of the primary clears them");
	close_pair();
}

int main(void)
{
	for (int i = 0; i < 2; i++) {
		mem[i] = malloc(WINDOW);
		t_must(mem[i], "memory");
	}
	link_and_events();
	windows();
	doorbells();
	scratchpads();
	for (int i = 0; i < 2; i++)
		free(mem[i]);
	return t_done();
}
