/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ntb_ivshmem.c - guests that share a memory find sides, lose them, ring each other, and notice who is gone
 *
 * links: driver-glue/vfio/ntb.c driver-glue/vfio/intel.c driver-glue/vfio/amd.c driver-glue/vfio/ivshmem.c
 *
 * The device is simple enough to be here whole: a number, a doorbell register, memory (QEMU,
 * docs/specs/ivshmem-spec.rst).  While one guest waits the others live: they poll.
 */
#include "vfio/ntb.h"
#include "vfio/ivshmem_regs.h"
#include "t.h"

#define MEM (1u << 20)
#define VECTORS 4

struct guest {
	struct ntbs_regs regs;	/* first: the callbacks get this */
	struct ntbs_ntb ntb;
	uint32_t id;
	bool on;		/* probed and polling */
	unsigned rung[VECTORS];
};

static struct guest g[3];
static uint8_t mem[MEM];

static uint64_t cfg_read(struct ntbs_regs *regs, unsigned offset, unsigned len)
{
	return 0;
}

static void cfg_write(struct ntbs_regs *regs, unsigned offset, unsigned len, uint64_t value)
{
}

static uint64_t bar_read(struct ntbs_regs *regs, unsigned bar, uint64_t offset, unsigned len)
{
	struct guest *me = (struct guest *)regs;
	uint64_t v = 0;

	if (bar == 0)
		return offset == 8 ? me->id : UINT32_MAX;
	t_must(bar == 2 && offset + len <= MEM, "inside the memory");
	memcpy(&v, mem + offset, len);
	return v;
}

static void bar_write(struct ntbs_regs *regs, unsigned bar, uint64_t offset, unsigned len, uint64_t value)
{
	if (bar == 0) {
		t_eq(offset, 12, "only the doorbell is written");
		for (int i = 0; i < 3; i++) {
			if (g[i].id == value >> 16 && (value & 0xffff) < VECTORS)
				g[i].rung[value & 0xffff]++;
		}
		return;
	}
	t_must(bar == 2 && offset + len <= MEM, "inside the memory");
	memcpy(mem + offset, &value, len);
}

static void others_live(struct ntbs_regs *regs, unsigned ms)
{
	for (int i = 0; i < 3; i++) {
		if (g[i].on && &g[i].regs != regs)
			ntbs_ntb_poll(&g[i].ntb);
	}
}

static const struct ntbs_regs_ops ops = { cfg_read, cfg_write, bar_read, bar_write, others_live };

static int boot(int i, uint32_t id)
{
	int ret;

	memset(&g[i], 0, sizeof(g[i]));
	g[i].id = id;
	g[i].regs = (struct ntbs_regs){ .ops = &ops, .vendor = 0x1af4, .device = 0x1110, .nr_vectors = VECTORS };
	g[i].regs.bar[0].bytes = 256;
	g[i].regs.bar[2].bytes = MEM;
	ret = ntbs_ntb_probe(&g[i].ntb, &g[i].regs);
	g[i].on = !ret;
	return ret;
}

static void live(unsigned polls)
{
	for (unsigned i = 0; i < polls; i++)
		others_live(NULL, 10);
}

static bool up(int i)
{
	struct ntbs_ntb_link link;

	ntbs_ntb_link_state(&g[i].ntb, &link);
	return link.up;
}

static void two_guests(void)
{
	struct ntbs_ntb_bell bell;
	struct ntbs_ntb_window *a, *b;
	unsigned told[2];

	t_must(!boot(0, 0), "first: %s", g[0].ntb.why);
	t_must(!boot(1, 1), "second: %s", g[1].ntb.why);
	t_eq(g[0].ntb.side, NTBS_NTB_SIDE_A, "first side");
	t_eq(g[1].ntb.side, NTBS_NTB_SIDE_B, "second side");
	a = &g[0].ntb.window[0];
	b = &g[1].ntb.window[0];
	t_ok(a->in_bar && a->bar == 2 && a->offset == b->in_offset && b->offset == a->in_offset,
	     "one stores where the other looks");
	t_ok(a->bytes == b->bytes && a->offset + a->bytes <= MEM && b->offset + b->bytes <= MEM, "of the same size, inside");
	t_ok(a->offset + a->bytes <= b->offset || b->offset + b->bytes <= a->offset, "apart");
	t_ok(b->offset >= 4096, "behind the header");
	t_eq(ntbs_ntb_set_window(&g[0].ntb, 0, 0, 4096), -ENOTSUP, "nothing to translate");
	live(3);
	t_ok(!up(0) && !up(1), "down until both want it");
	ntbs_ntb_link_enable(&g[0].ntb);
	live(3);
	t_ok(!up(0) && !up(1), "one is not enough");
	ntbs_ntb_link_enable(&g[1].ntb);
	for (int i = 0; i < 2; i++) {
		told[i] = 0;
		for (unsigned k = 0; k < 3; k++) {
			told[i] += (ntbs_ntb_poll(&g[i].ntb) & NTBS_NTB_EVENT_LINK) != 0;
			ntbs_ntb_poll(&g[!i].ntb);
		}
	}
	t_ok(told[0] == 1, "told once that it is up, not %u times", told[0]);
	t_ok(up(0) && up(1), "up");

	for (unsigned i = 0; i < 16; i++) {
		ntbs_ntb_peer_spad_write(&g[0].ntb, i, 100 + i);
		ntbs_ntb_peer_spad_write(&g[1].ntb, i, 200 + i);
	}
	for (unsigned i = 0; i < 16; i++) {
		t_eq(ntbs_ntb_spad_read(&g[0].ntb, i), 200 + i, "scratchpad");
		t_eq(ntbs_ntb_spad_read(&g[1].ntb, i), 100 + i, "scratchpad");
		t_eq(ntbs_ntb_peer_spad_read(&g[1].ntb, i), 200 + i, "scratchpad");
	}
	t_eq(g[0].ntb.bells, 15, "a bell a vector");
	t_must(!ntbs_ntb_db_register(&g[0].ntb, 8, &bell), "a register: %s", g[0].ntb.why);
	t_ok(bell.offset == 12 && bell.bytes == 4 && bell.value == (g[1].id << 16 | 3), "the doorbell: %#x", bell.value);
	ntbs_ntb_db_ring(&g[0].ntb, 5);
	t_ok(g[1].rung[0] == 1 && g[1].rung[2] == 1 && !g[1].rung[1] && !g[0].rung[0], "rung where they should");
	t_eq(ntbs_ntb_irq(&g[1].ntb, 2), 0, "masked");
	ntbs_ntb_db_unmask(&g[1].ntb, 15);
	t_eq(ntbs_ntb_irq(&g[1].ntb, 2), 4, "vector 2 is bell 2");
	t_eq(ntbs_ntb_irq(&g[1].ntb, 7), 0, "no such vector");
}

static void deaths(void)
{
	unsigned polls;

	/* A third finds no room. */
	t_eq(boot(2, 2), -EBUSY, "both sides are taken");
	t_ok(strstr(g[2].ntb.why, "peers 0 and 1"), "by: %s", g[2].ntb.why);

	/* The second is killed; the first notices; another gets its side, whatever its number. */
	g[1].on = false;
	for (polls = 0; up(0) && polls < 200; polls++)
		live(1);
	t_ok(polls >= 40 && polls < 70, "noticed after %u polls", polls);
	t_must(!boot(2, 4), "third: %s", g[2].ntb.why);
	t_eq(g[2].ntb.side, NTBS_NTB_SIDE_B, "the free side");
	ntbs_ntb_link_enable(&g[2].ntb);
	live(3);
	t_ok(up(0) && up(2), "up with the new one");
	memset(g[1].rung, 0, sizeof(g[1].rung));
	ntbs_ntb_db_ring(&g[0].ntb, 1);
	t_ok(g[2].rung[0] == 1 && !g[1].rung[0], "which is who is rung");

	/* The dead one was only asleep: it finds its side taken, and can do no harm. */
	g[1].on = true;
	t_ok(ntbs_ntb_poll(&g[1].ntb) & NTBS_NTB_EVENT_LINK, "told");
	t_ok(!up(1), "down for good");
	t_eq(ntbs_ntb_link_enable(&g[1].ntb), -ENODEV, "no way back");
	live(100);
	t_ok(up(0) && up(2), "the others do not care");
	ntbs_ntb_shutdown(&g[1].ntb);
	g[1].on = false;
	live(3);
	t_ok(up(0) && up(2), "nor when it ends");

	/* Good-bye, and both anew. */
	ntbs_ntb_shutdown(&g[2].ntb);
	g[2].on = false;
	live(1);
	t_ok(!up(0), "a shutdown is seen at once");
	t_must(!boot(1, 5), "fourth: %s", g[1].ntb.why);
	ntbs_ntb_link_enable(&g[1].ntb);
	live(3);
	t_ok(up(0) && up(1), "up");
	g[0].on = g[1].on = false;
	t_must(!boot(2, 6), "alone among the dead: %s", g[2].ntb.why);
	t_eq(g[2].ntb.side, NTBS_NTB_SIDE_A, "takes the first");
	ntbs_ntb_link_enable(&g[2].ntb);
	live(100);
	t_ok(!up(2), "and is not up with a dead one");
}

/* Two that start at the same moment: the loser of the last write sees it. */
static struct guest *thief;
static unsigned steal_at;

static void steal(struct ntbs_regs *regs, unsigned ms)
{
	uint32_t id = thief->id + 1;

	if (steal_at && !--steal_at)
		memcpy(mem + offsetof(struct ntbs_ivshmem_shm, side[0].owner), &id, 4);
	if (!steal_at)
		mem[offsetof(struct ntbs_ivshmem_shm, side[0].beat)]++;
}

static void same_moment(void)
{
	struct ntbs_regs_ops slow = ops;

	memset(mem, 0, sizeof(mem));
	memset(g, 0, sizeof(g));
	slow.pause_ms = steal;
	thief = &g[1];
	thief->id = 9;
	steal_at = 3;
	g[0].id = 3;
	g[0].regs = (struct ntbs_regs){ .ops = &slow, .vendor = 0x1af4, .device = 0x1110, .nr_vectors = VECTORS };
	g[0].regs.bar[0].bytes = 256;
	g[0].regs.bar[2].bytes = MEM;
	t_must(!ntbs_ntb_probe(&g[0].ntb, &g[0].regs), "probe: %s", g[0].ntb.why);
	t_eq(g[0].ntb.side, NTBS_NTB_SIDE_B, "the other side");
}

static void refusals(void)
{
	memset(mem, 0, sizeof(mem));
	memset(g, 0, sizeof(g));
	mem[0] = 0x7f;
	t_eq(boot(0, 0), -ENOTSUP, "somebody else's memory");
	t_ok(strstr(g[0].ntb.why, "something else"), "why: %s", g[0].ntb.why);
	memset(mem, 0, sizeof(mem));
	t_eq(boot(0, UINT32_MAX), -ENODEV, "no server");
	t_eq(boot(0, 70000), -ENOTSUP, "a number beyond what can be rung");
	t_must(!boot(0, 0), "well: %s", g[0].ntb.why);
	g[0].regs.bar[2].bytes = 4096;
	memset(&g[0].ntb, 0, sizeof(g[0].ntb));
	t_eq(ntbs_ntb_probe(&g[0].ntb, &g[0].regs), -ENOTSUP, "too small");

	/* Nonsense in the header: numbers that nobody can have are not rung. */
	memset(mem, 0, sizeof(mem));
	t_must(!boot(0, 0) && !boot(1, 1), "two");
	ntbs_ntb_link_enable(&g[0].ntb);
	ntbs_ntb_link_enable(&g[1].ntb);
	live(3);
	memset(mem + offsetof(struct ntbs_ivshmem_shm, side[1].owner), 0xee, 4);
	live(3);
	t_ok(!up(0), "down with nobody");
	memset(g[1].rung, 0, sizeof(g[1].rung));
	ntbs_ntb_db_ring(&g[0].ntb, 1);
	t_ok(!g[1].rung[0], "nobody is rung");
}

/* Who was told that guests stand still for long waits for long. */
static void patience(void)
{
	memset(mem, 0, sizeof(mem));
	t_must(!boot(0, 0) && !boot(1, 1), "two");
	g[0].ntb.dead_ms = 2000;
	ntbs_ntb_link_enable(&g[0].ntb);
	ntbs_ntb_link_enable(&g[1].ntb);
	live(3);
	g[1].on = false;
	live(190);
	t_ok(up(0), "still up");
	live(20);
	t_ok(!up(0), "and then not");
}

int main(void)
{
	two_guests();
	deaths();
	patience();
	same_moment();
	refusals();
	return t_done();
}
