/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ntb_drivers.c - the Intel and AMD drivers on the models: the steps in their order, windows, bells, scratchpads, link,
 * resets, and what they refuse
 *
 * links: driver-glue/vfio/ntb.c driver-glue/vfio/intel.c driver-glue/vfio/amd.c driver-glue/vfio/ivshmem.c test/rig/inproc.c test/rig/pair.c test/rig/fn.c test/rig/cfg.c test/rig/ntb_intel.c test/rig/ntb_amd.c test/rig/ioat.c
 */
#include "ntb_t.h"

static struct inproc ip;
static struct t_port port[2];
static const enum rig_family families[] = { RIG_INTEL_GEN3, RIG_INTEL_ICX, RIG_INTEL_SPR, RIG_AMD };
#define NR_FAMILIES (sizeof(families) / sizeof(families[0]))

static bool is_amd(enum rig_family f)
{
	return f == RIG_AMD;
}

/* --------------------------------------------------------- probe, access by access */

/* One access; for a run of equal ones at rising offsets with rising values, @times of them. */
struct step {
	bool write;
	int space;
	unsigned off, len;
	uint64_t value;
	unsigned times;
};
#define R(off, len) { false, 0, off, len, 0, 1 }
#define C(off, len) { false, RIG_CFG, off, len, 0, 1 }
#define W(off, len, value) { true, 0, off, len, value, 1 }
#define END { 0 }

/* What the Linux driver does in its probe and ntb_link_enable(), traced on the same model. */
static const struct step gen3_probe[] = {
	C(0xd4, 1), W(0x18, 8, 0x2000000000000000), R(0x18, 8), W(0x28, 8, 0x4000000000000000), R(0x28, 8),
	W(0x10, 8, 0), W(0x20, 8, 0), W(0x4504, 2, 6), W(0x48, 8, 0x7fffffff), { true, 0, 0xd0, 1, 0, 33 }, W(0xf0, 1, 31),
	W(0x48, 8, 0x7fffffff), W(0x40, 8, 0x180000000), C(0x1a2, 2), END,
};
static const struct step gen3_enable[] = { R(0, 4), W(0, 4, 0x154), END };
static const struct step gen4_probe[] = {
	R(0xb4c0, 4), W(0x18, 8, 0x2000000000000000), R(0x18, 8), W(0x28, 8, 0x4000000000000000), R(0x28, 8),
	W(0x10, 8, 0), W(0x20, 8, 0), W(0x48, 8, 0xffffffff), R(0xb050, 2), W(0xb050, 2, 0x10), { true, 0, 0x50, 1, 0, 33 },
	W(0x48, 8, 0xffffffff), W(0xb05a, 2, 0x100), W(0x40, 8, 0x100000000), R(0xb052, 2), END,
};
static const struct step icx_enable[] = {
	W(0, 4, 0x154), R(0xb050, 2), W(0xb050, 2, 0), R(0xb0d4, 4), W(0xb0d4, 4, 8), R(0xb0d4, 4), END,
};
static const struct step spr_enable[] = {
	W(0x30f0, 4, 0x88008800), W(0x30f4, 4, 0x8a588a58), W(0x30ec, 1, 0),
	W(0, 4, 0x154), R(0xb050, 2), W(0xb050, 2, 0), R(0xb0d4, 4), W(0xb0d4, 4, 8), R(0xb0d4, 4), END,
};
static const struct step amd_probe[] = {
	R(0x408, 4), W(0x470, 4, 0x7f), W(0x45c, 2, 0x7fff), W(0x470, 4, 0x1f), END,
};
static const struct step amd_enable[] = {
	R(0x408, 4), W(0x408, 4, 2), R(0x200, 4), W(0x200, 4, 0x300000), R(0x808, 4), W(0x470, 4, 0), END,
};

static void same_steps(const struct step *want, const char *what)
{
	size_t at = 0;

	for (; want->len; want++) {
		for (unsigned i = 0; i < want->times; i++) {
			const struct rig_event *ev;

			/* walking the capability list is nobody's step */
			while (at < ip.traced && ((ip.trace[at].space == RIG_CFG && (ip.trace[at].off < 0xd0 || want->space == 0)) ||
						  (ip.trace[at].kind != RIG_EV_READ && ip.trace[at].kind != RIG_EV_WRITE)))
				at++;
			t_must(at < ip.traced, "%s: ends before %#x", what, want->off);
			ev = &ip.trace[at++];
			t_must(ev->kind == (want->write ? RIG_EV_WRITE : RIG_EV_READ) && ev->space == want->space &&
			       ev->off == want->off + i && ev->len == want->len && (!want->write || ev->value == want->value + i),
			       "%s: step %zu is %s of %u at %#llx (%#llx), wanted %s of %u at %#x (%#llx)", what, at,
			       ev->kind == RIG_EV_WRITE ? "a write" : "a read", ev->len, (unsigned long long)ev->off,
			       (unsigned long long)ev->value, want->write ? "a write" : "a read", want->len, want->off + i,
			       (unsigned long long)want->value + i);
		}
	}
	for (; at < ip.traced; at++)
		t_ok(ip.trace[at].space == RIG_CFG || (ip.trace[at].kind != RIG_EV_READ && ip.trace[at].kind != RIG_EV_WRITE),
		     "%s: more than was wanted, at %#llx", what, (unsigned long long)ip.trace[at].off);
	ip.traced = 0;
}

static void probe_order(enum rig_family f)
{
	t_pair_open(&ip, port, f);
	ip.keep_trace = true;
	ip.traced = 0;
	t_must(!ntbs_ntb_probe(&port[0].ntb, &port[0].regs), "probe: %s", port[0].ntb.why);
	same_steps(f == RIG_INTEL_GEN3 ? gen3_probe : is_amd(f) ? amd_probe : gen4_probe, "probe");
	t_must(!ntbs_ntb_link_enable(&port[0].ntb), "enable: %s", port[0].ntb.why);
	same_steps(f == RIG_INTEL_GEN3 ? gen3_enable : f == RIG_INTEL_ICX ? icx_enable : is_amd(f) ? amd_enable : spr_enable,
		   "link enable");
	t_eq(port[0].ntb.side, NTBS_NTB_SIDE_A, "side of host 0");
	t_must(!ntbs_ntb_probe(&port[1].ntb, &port[1].regs), "probe: %s", port[1].ntb.why);
	t_eq(port[1].ntb.side, NTBS_NTB_SIDE_B, "side of host 1");
	t_eq(port[0].ntb.nr_windows, 2, "windows");
	t_eq(port[0].ntb.window[1].bar, 4, "BAR of the second");
	t_eq(port[0].ntb.window[0].addr_align, f == RIG_INTEL_GEN3 || f == RIG_INTEL_ICX ? T_WINDOW : 4096, "alignment");
	t_eq(port[0].ntb.nr_spads, is_amd(f) ? 8 : 16, "scratchpads");
	t_eq(__builtin_popcountll(port[0].ntb.bells), f == RIG_INTEL_GEN3 ? 31 : is_amd(f) ? 15 : 32, "doorbells");
	t_pair_close(&ip, port);
}

/* ------------------------------------------------------------------------- windows */

static void store(int host, unsigned bar, uint64_t off, uint64_t v)
{
	inproc_write(port[host].fn, bar, off, v, 8);
}

static void windows(enum rig_family f)
{
	struct ntbs_ntb *ntb;
	uint64_t at, size;

	t_pair_open(&ip, port, f);
	t_pair_up(&ip, port);
	for (int h = 0; h < 2; h++) {
		uint64_t *mem = (uint64_t *)port[!h].mem;

		ntb = &port[!h].ntb;
		store(h, 2, 0x100, 0x1122334455667788);
		t_ok(mem[0x20] == 0x1122334455667788, "a store lands where the peer said");
		store(h, 2, T_WINDOW - 8, 7);
		t_eq(mem[T_WINDOW / 8 - 1], 7, "up to the end");
		store(h, 4, 0x100, 9);
		t_eq(mem[0x20], 0x1122334455667788, "the other window is closed");

		if (f == RIG_INTEL_ICX)
			t_eq(ntbs_ntb_set_window(ntb, 0, T_IOVA(!h), 0x3000), -EINVAL, "no power of two");
		size = f == RIG_INTEL_ICX ? 0x4000 : 0x3000;
		t_must(!ntbs_ntb_set_window(ntb, 0, T_IOVA(!h), size), "smaller: %s", ntb->why);
		store(h, 2, size - 8, 0x5a);
		t_eq(mem[size / 8 - 1], 0x5a, "below the limit");
		store(h, 2, size, 0x5b);
		t_ok(mem[size / 8] != 0x5b, "beyond the limit nothing lands");

		t_must(!ntbs_ntb_set_window(ntb, 1, T_IOVA(!h), T_WINDOW), "second: %s", ntb->why);
		store(h, 4, 0x200, 0x77);
		t_eq(mem[0x40], 0x77, "through the second window");
		t_must(!ntbs_ntb_clear_window(ntb, 1), "clear: %s", ntb->why);
		store(h, 4, 0x200, 0x78);
		t_eq(mem[0x40], 0x77, "cleared");

		at = T_IOVA(!h) + 4096;
		if (ntb->window[0].addr_align > 4096) {
			t_eq(ntbs_ntb_set_window(ntb, 0, at, 4096), -EINVAL, "not aligned to the BAR");
			t_ok(strstr(ntb->why, "no multiple"), "why: %s", ntb->why);
		} else {
			t_must(!ntbs_ntb_set_window(ntb, 0, at, 4096), "any page: %s", ntb->why);
			store(h, 2, 0, 0x99);
			t_eq(mem[512], 0x99, "lands a page further");
		}
		t_eq(ntbs_ntb_set_window(ntb, 0, T_IOVA(!h), T_WINDOW + 1), -EINVAL, "too big");
		t_eq(ntbs_ntb_set_window(ntb, 0, T_IOVA(!h), 0), -EINVAL, "nothing");
		t_eq(ntbs_ntb_set_window(ntb, 0, -4096ull, 8192), -EINVAL, "round the end");
		t_eq(ntbs_ntb_set_window(ntb, 2, 0, 4096), -EINVAL, "no such window");
		t_eq(ntbs_ntb_clear_window(ntb, 2), -EINVAL, "no such window");
		t_must(!ntbs_ntb_set_window(ntb, 0, T_IOVA(!h), T_WINDOW), "as before: %s", ntb->why);
	}
	t_pair_close(&ip, port);
}

/* A register that does not take what is written is found out. */
static uint64_t stuck_at;

static void stuck_write(struct ntbs_regs *regs, unsigned bar, uint64_t offset, unsigned len, uint64_t value)
{
	if (offset != stuck_at)
		t_bar_write(regs, bar, offset, len, value);
}

static void read_back(enum rig_family f)
{
	struct ntbs_regs_ops ops = t_regs_ops;
	uint64_t xlat = is_amd(f) ? 0x838 : 0x10, lmt = is_amd(f) ? 0x818 : 0x18;

	t_pair_open(&ip, port, f);
	t_must(!ntbs_ntb_probe(&port[0].ntb, &port[0].regs), "probe");
	ops.bar_write = stuck_write;
	port[0].regs.ops = &ops;
	stuck_at = xlat;
	t_eq(ntbs_ntb_set_window(&port[0].ntb, 0, T_IOVA(0), T_WINDOW), -EIO, "address");
	t_ok(strstr(port[0].ntb.why, "reads"), "why: %s", port[0].ntb.why);
	stuck_at = lmt;
	t_eq(ntbs_ntb_set_window(&port[0].ntb, 0, T_IOVA(0), T_WINDOW), -EIO, "limit");
	if (f == RIG_INTEL_ICX) {
		stuck_at = 0x74;
		t_eq(ntbs_ntb_set_window(&port[0].ntb, 0, T_IOVA(0), T_WINDOW), -EIO, "index");
	}
	if (f == RIG_INTEL_GEN3) {
		stuck_at = 0x4018;
		t_eq(ntbs_ntb_set_window(&port[0].ntb, 0, T_IOVA(0), T_WINDOW), -EIO, "outer limit");
	}
	if (f == RIG_INTEL_ICX || f == RIG_INTEL_SPR) {
		stuck_at = 0xb0d4;
		t_eq(ntbs_ntb_link_enable(&port[0].ntb), -EIO, "training");
	}
	stuck_at = -1;
	t_eq(ntbs_ntb_set_window(&port[0].ntb, 0, T_IOVA(0), T_WINDOW), 0, "all well: %s", port[0].ntb.why);
	t_pair_close(&ip, port);
}

/* The first AMD bridges have a third window, in BAR 1, whose limit has 32 bits.  The model has its registers alone. */
static void zen1(void)
{
	struct ntbs_ntb *ntb;

	t_pair_open(&ip, port, RIG_AMD);
	port[0].regs.device = 0x145b;
	port[0].regs.bar[1].bytes = 65536;
	ntb = &port[0].ntb;
	t_must(!ntbs_ntb_probe(ntb, &port[0].regs), "probe: %s", ntb->why);
	t_eq(ntb->nr_windows, 3, "windows");
	t_ok(ntb->window[0].bar == 1 && ntb->window[1].bar == 2 && ntb->window[2].bar == 4, "and their BARs");
	t_must(!ntbs_ntb_set_window(ntb, 0, T_IOVA(0), 8192), "window: %s", ntb->why);
	t_eq(inproc_read(port[1].fn, 0, 0x430, 8), T_IOVA(0), "translation, in the bank of the other side");
	t_eq(inproc_read(port[1].fn, 0, 0x414, 4), 8192, "limit");
	t_must(!ntbs_ntb_set_window(ntb, 2, T_IOVA(0), 4096), "window: %s", ntb->why);
	t_eq(inproc_read(port[1].fn, 0, 0x440, 8), T_IOVA(0), "translation of BAR 4");
	t_eq(inproc_read(port[1].fn, 0, 0x420, 8), 4096, "limit of BAR 4");
	t_pair_close(&ip, port);
}

/* ----------------------------------------------------------------------- doorbells */

static unsigned fired(int host)
{
	unsigned n = 0;

	for (unsigned v = 0; v < INPROC_VECTORS; v++)
		n += ip.irq[host][v];
	return n;
}

static void forget_irqs(void)
{
	memset(ip.irq, 0, sizeof(ip.irq));
}

/* The same by one store, as programs do it. */
static void by_hand(uint64_t bit, unsigned vector)
{
	struct ntbs_ntb_bell b = { 0 };

	forget_irqs();
	t_must(!ntbs_ntb_db_register(&port[0].ntb, bit, &b), "a register: %s", port[0].ntb.why);
	t_ok((b.bytes == 2 || b.bytes == 4) && !(b.offset % b.bytes), "a store that a program can make");
	inproc_write(port[0].fn, 0, b.offset, b.value, b.bytes);
	t_ok(fired(1) == 1 && ip.irq[1][vector] == 1, "rings that bell and no other");
	t_ok((ntbs_ntb_irq(&port[1].ntb, vector) & ~NTBS_NTB_EVENT_LINK) == bit, "and it is that one");
}

static void bells(enum rig_family f, unsigned vectors)
{
	uint64_t all, seen = 0;

	t_pair_open(&ip, port, f);
	if (vectors)
		port[0].regs.nr_vectors = port[1].regs.nr_vectors = vectors;
	t_pair_up(&ip, port);
	forget_irqs();
	all = port[1].ntb.bells;
	t_ok(port[1].ntb.masked == all, "all masked after probe");
	ntbs_ntb_db_ring(&port[0].ntb, all);
	t_eq(fired(1), 0, "masked ones do not interrupt");
	t_ok(ntbs_ntb_db_read(&port[1].ntb) == all, "but are there");
	ntbs_ntb_db_ack(&port[1].ntb, all);
	t_eq(ntbs_ntb_db_read(&port[1].ntb), 0, "until acknowledged");
	ntbs_ntb_db_unmask(&port[1].ntb, all);
	t_eq(fired(1), 0, "nothing pending, nothing fires");
	for (unsigned v = 0; v < port[1].ntb.nr_vectors; v++) {
		t_ok(!(seen & ntbs_ntb_vector_bells(&port[1].ntb, v)), "a bell has one vector");
		seen |= ntbs_ntb_vector_bells(&port[1].ntb, v);
	}
	t_ok(seen == all, "and every bell has one");
	for (unsigned b = 0; b < 64; b++) {
		unsigned vector = 0;

		if (!(all >> b & 1))
			continue;
		forget_irqs();
		ntbs_ntb_db_ring(&port[0].ntb, 1ull << b);
		t_eq(fired(1), 1, "bell %u: one interrupt", b);
		for (unsigned v = 0; v < INPROC_VECTORS; v++) {
			if (ip.irq[1][v])
				vector = v;
		}
		t_ok(ntbs_ntb_vector_bells(&port[1].ntb, vector) >> b & 1, "bell %u came by vector %u", b, vector);
		t_ok((ntbs_ntb_irq(&port[1].ntb, vector) & ~NTBS_NTB_EVENT_LINK) == 1ull << b, "and it is that one");
		t_eq(ntbs_ntb_db_read(&port[1].ntb), 0, "acknowledged");
		t_eq(ntbs_ntb_irq(&port[1].ntb, vector) & ~NTBS_NTB_EVENT_LINK, 0, "a spurious interrupt is nothing");
		by_hand(1ull << b, vector);
	}
	t_eq(ntbs_ntb_db_register(&port[0].ntb, 3, &(struct ntbs_ntb_bell){ 0 }), -EINVAL, "two bells have no one register");
	t_eq(ntbs_ntb_db_register(&port[0].ntb, ~all & -~all, &(struct ntbs_ntb_bell){ 0 }), -EINVAL, "no such bell");
	/* Two at once, one of them masked; the masked one waits and fires when it is unmasked. */
	forget_irqs();
	ntbs_ntb_db_mask(&port[1].ntb, 2);
	ntbs_ntb_db_ring(&port[0].ntb, 3);
	t_eq(ntbs_ntb_poll(&port[1].ntb) & ~NTBS_NTB_EVENT_LINK, 1, "a poll takes what is not masked");
	forget_irqs();
	ntbs_ntb_db_unmask(&port[1].ntb, 2);
	t_eq(fired(1), 1, "unmasking a pending one fires it");
	t_eq(ntbs_ntb_poll(&port[1].ntb) & ~NTBS_NTB_EVENT_LINK, 2, "and it is there");
	ntbs_ntb_db_ring(&port[0].ntb, ~all);
	t_eq(fired(1), 1, "bells that there are none ring nothing");
	t_pair_close(&ip, port);
}

/* --------------------------------------------------------------------- scratchpads */

static void scratchpads(enum rig_family f)
{
	unsigned n;

	t_pair_open(&ip, port, f);
	t_pair_up(&ip, port);
	n = port[0].ntb.nr_spads;
	for (int h = 0; h < 2; h++) {
		for (unsigned i = 0; i < n; i++)
			ntbs_ntb_peer_spad_write(&port[h].ntb, i, 0x1000 * (h + 1) + i);
	}
	for (int h = 0; h < 2; h++) {
		for (unsigned i = 0; i < n; i++) {
			t_eq(ntbs_ntb_spad_read(&port[h].ntb, i), 0x1000 * (2 - h) + i, "own %u of host %d", i, h);
			t_eq(ntbs_ntb_peer_spad_read(&port[h].ntb, i), 0x1000 * (h + 1) + i, "peer's %u of host %d", i, h);
		}
	}
	for (int h = 0; h < 2; h++) {
		ntbs_ntb_spad_write(&port[h].ntb, 3, 0xabc);
		t_eq(ntbs_ntb_peer_spad_read(&port[!h].ntb, 3), 0xabc, "own ones can be written");
		t_eq(ntbs_ntb_spad_read(&port[h].ntb, n), UINT32_MAX, "there is no scratchpad %u", n);
		ntbs_ntb_peer_spad_write(&port[h].ntb, n, 1);
	}
	t_pair_close(&ip, port);
}

/* ---------------------------------------------------------------------------- link */

static bool up(int host)
{
	struct ntbs_ntb_link link;

	t_eq(ntbs_ntb_link_state(&port[host].ntb, &link), 0, "link state: %s", port[host].ntb.why);
	return link.up;
}

/* Serves every interrupt that has come; true if one of them told of the link. */
static bool told_of_link(int host)
{
	uint64_t ev = 0;

	for (unsigned turn = 0; turn < 4; turn++) {
		for (unsigned v = 0; v < INPROC_VECTORS; v++) {
			if (ip.irq[host][v]) {
				ip.irq[host][v] = 0;
				ev |= ntbs_ntb_irq(&port[host].ntb, v);
			}
		}
	}
	ev |= ntbs_ntb_poll(&port[host].ntb);
	return ev & NTBS_NTB_EVENT_LINK;
}

static void link_up_down(enum rig_family f)
{
	struct ntbs_ntb_link link;

	t_pair_open(&ip, port, f);
	for (int h = 0; h < 2; h++)
		t_must(!ntbs_ntb_probe(&port[h].ntb, &port[h].regs), "probe: %s", port[h].ntb.why);
	t_ok(!up(0) && !up(1), "down after probe");
	t_eq(ntbs_ntb_link_enable(&port[0].ntb), 0, "enable: %s", port[0].ntb.why);
	inproc_advance(&ip, 3 * RIG_TRAIN_NS);
	told_of_link(0);
	t_ok(!up(0) && !up(1), "one side alone is no link");
	t_eq(ntbs_ntb_link_enable(&port[1].ntb), 0, "enable: %s", port[1].ntb.why);
	inproc_advance(&ip, 3 * RIG_TRAIN_NS);
	t_ok(told_of_link(0) && told_of_link(1), "both are told");
	t_ok(up(0) && up(1), "up");
	ntbs_ntb_link_state(&port[0].ntb, &link);
	t_ok(link.speed && link.width, "speed and width of the first side");
	t_ok(!told_of_link(0) && !told_of_link(1), "and told once");

	/* The cable. */
	t_eq(rig_fault(ip.pair, RIG_FAULT_LINK_DOWN, 0, 0), 0, "cable");
	t_ok(told_of_link(0) && told_of_link(1), "both are told that it is down");
	t_ok(!up(0) && !up(1), "down");
	t_eq(rig_fault(ip.pair, RIG_FAULT_LINK_UP, 0, 0), 0, "cable");
	inproc_advance(&ip, 3 * RIG_TRAIN_NS);
	t_ok(told_of_link(0) && told_of_link(1), "both are told that it is back");
	t_ok(up(0) && up(1), "up");

	/* Our side says no. */
	t_eq(ntbs_ntb_link_disable(&port[1].ntb), 0, "disable");
	t_ok(!up(1) && (told_of_link(0), !up(0)), "down by us");
	t_eq(ntbs_ntb_link_enable(&port[1].ntb), 0, "enable");
	inproc_advance(&ip, 3 * RIG_TRAIN_NS);
	told_of_link(0);
	told_of_link(1);
	t_ok(up(0) && up(1), "up");

	/* The peer's machine resets: its registers are as after power-on; a probe brings it back. */
	t_eq(rig_fault(ip.pair, RIG_FAULT_PEER_RESET, 1, 0), 0, "reset");
	told_of_link(0);
	t_ok(!up(0), "the peer's reset is seen");
	t_port_join(&port[1], &ip, 1);
	t_must(!ntbs_ntb_probe(&port[1].ntb, &port[1].regs), "probe: %s", port[1].ntb.why);
	t_must(!ntbs_ntb_set_window(&port[1].ntb, 0, T_IOVA(1), T_WINDOW), "window: %s", port[1].ntb.why);
	t_eq(ntbs_ntb_link_enable(&port[1].ntb), 0, "enable");
	inproc_advance(&ip, 3 * RIG_TRAIN_NS);
	told_of_link(0);
	t_ok(up(0) && up(1), "up again");
	store(0, 2, 64, 5);
	t_eq(((uint64_t *)port[1].mem)[8], 5, "and its window open");

	/* A shutdown leaves nothing open and nothing armed. */
	forget_irqs();
	ntbs_ntb_shutdown(&port[1].ntb);
	store(0, 2, 64, 6);
	t_eq(((uint64_t *)port[1].mem)[8], 5, "closed");
	ntbs_ntb_db_ring(&port[0].ntb, 1);
	t_eq(ip.irq[1][0], 0, "masked");
	told_of_link(0);
	t_ok(!up(0), "down");
	t_pair_close(&ip, port);
}

/* ------------------------------------------------------------------------ refusals */

static void refuse(int err, const char *why)
{
	int ret = ntbs_ntb_probe(&port[0].ntb, &port[0].regs);

	t_eq(ret, -err, "probe");
	t_ok(strstr(port[0].ntb.why, why), "why: '%s', wanted '%s'", port[0].ntb.why, why);
	port[0].ntb = (struct ntbs_ntb){ 0 };
}

static uint64_t odd_value;

static uint64_t odd_ppd(struct ntbs_regs *regs, unsigned offset, unsigned len)
{
	return offset == 0xd4 ? odd_value : t_cfg_read(regs, offset, len);
}

static uint64_t odd_ppd1(struct ntbs_regs *regs, unsigned bar, uint64_t offset, unsigned len)
{
	return offset == 0xb4c0 ? odd_value : t_bar_read(regs, bar, offset, len);
}

static void refusals(enum rig_family f)
{
	struct ntbs_regs_ops ops = t_regs_ops;
	struct ntbs_ntb_link link;
	struct ntbs_bar bar;

	t_pair_open(&ip, port, f);
	port[0].gone = true;
	refuse(ENODEV, "all ones");
	port[0].gone = false;
	port[0].regs.nr_vectors = 0;
	refuse(ENOTSUP, "MSI-X");
	port[0].regs.nr_vectors = 24;
	bar = port[0].regs.bar[0];
	port[0].regs.bar[0].bytes = 256;
	refuse(ENOTSUP, "BAR0");
	port[0].regs.bar[0] = bar;
	bar = port[0].regs.bar[4];
	port[0].regs.bar[4].bytes = 0;
	refuse(ENOTSUP, "BAR4");
	port[0].regs.bar[4] = bar;
	port[0].regs.ops = &ops;
	if (f == RIG_INTEL_GEN3) {
		ops.cfg_read = odd_ppd;
		odd_value = 0x02;
		refuse(ENOTSUP, "NTB-to-NTB");
	} else if (!is_amd(f)) {
		ops.bar_read = odd_ppd1;
		odd_value = 0x0100;
		refuse(ENOTSUP, "NTB-to-NTB");
	}
	port[0].regs.ops = &t_regs_ops;
	port[0].regs.device = 0x1234;
	refuse(ENODEV, "no driver");
	port[0].regs.vendor = 0x8086;
	port[0].regs.device = 0x6f0d;
	refuse(ENOTSUP, "generation 1");
	t_pair_close(&ip, port);

	/* It goes while in use. */
	t_pair_open(&ip, port, f);
	t_pair_up(&ip, port);
	port[0].gone = true;
	t_eq(ntbs_ntb_link_state(&port[0].ntb, &link), -ENODEV, "gone");
	t_ok(!link.up, "and not up");
	t_ok(ntbs_ntb_irq(&port[0].ntb, 0) <= NTBS_NTB_EVENT_LINK, "no doorbells from nowhere");
	t_eq(ntbs_ntb_poll(&port[0].ntb) & ~NTBS_NTB_EVENT_LINK, 0, "nor by polling");
	t_ok(ntbs_ntb_set_window(&port[0].ntb, 0, T_IOVA(0), T_WINDOW) == -EIO, "no window");
	ntbs_ntb_shutdown(&port[0].ntb);
	port[0].gone = false;
	t_pair_close(&ip, port);
}

int main(void)
{
	for (size_t i = 0; i < NR_FAMILIES; i++) {
		unsigned before = t_failures_;

		probe_order(families[i]);
		windows(families[i]);
		read_back(families[i]);
		bells(families[i], 0);
		bells(families[i], is_amd(families[i]) ? 5 : 9);
		scratchpads(families[i]);
		link_up_down(families[i]);
		refusals(families[i]);
		if (t_failures_ != (int)before)
			fprintf(stderr, "(family %zu)\n", i);
	}
	zen1();
	return t_done();
}
