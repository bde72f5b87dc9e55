// SPDX-License-Identifier: BSD-2-Clause
/*
 * ioat.c - our driver of the copy engine on its model: bytes, laps of the ring, order by fences, interrupts, halts
 *
 * links: driver-glue/vfio/ioat.c driver-glue/vfio/ntb.c driver-glue/vfio/intel.c driver-glue/vfio/amd.c driver-glue/vfio/ivshmem.c test/rig/inproc.c test/rig/pair.c test/rig/fn.c test/rig/cfg.c test/rig/ntb_intel.c test/rig/ntb_amd.c test/rig/ioat.c
 */
#include "ntb_t.h"
#include "vfio/ioat.h"

enum { MEM = 4 << 20, FROM = 1 << 20, TO = 2 << 20 };
#define MEM_AT 0x700000000ull
#define RING_AT 0x600000000ull

static struct inproc ip;
static struct t_port port[2], engine;
static struct ntbs_ioat io;
static uint8_t *mem;
static void *ring;

static void open_engine(void)
{
	const struct rig_fn_info *info;

	t_pair_open(&ip, port, RIG_INTEL_ICX);
	t_pair_up(&ip, port);
	t_must(inproc_ioat(&ip, 0), "an engine");
	memset(mem, 0, MEM);
	t_must(inproc_map(&ip, 0, MEM_AT, mem, MEM) && inproc_map(&ip, 0, RING_AT, ring, NTBS_IOAT_MEMORY), "mappings");
	memset(&engine, 0, sizeof(engine));
	engine.fn = ip.ioat[0];
	engine.ip = &ip;
	info = rig_fn_info(engine.fn);
	engine.regs = (struct ntbs_regs){ .ops = &t_regs_ops, .vendor = info->vendor, .device = info->device, .nr_vectors = info->vectors,
					  .bar[0].bytes = info->bar[0].size };
	inproc_enable(engine.fn);
	inproc_write(engine.fn, RIG_CFG, 0x98, 0x2810, 2);	/* as firmware may leave it: relaxed ordering, no snoop */
	t_must(!ntbs_ioat_probe(&io, &engine.regs), "probe: %s", io.why);
	t_eq(inproc_read(engine.fn, RIG_CFG, 0x98, 2) & 0x810, 0, "relaxed ordering and no-snoop are off");
	t_must(!ntbs_ioat_start(&io, ring, RING_AT), "start: %s", io.why);
}

static void close_engine(void)
{
	ntbs_ioat_stop(&io);
	t_pair_close(&ip, port);
}

static int finish(void)
{
	int ret = 0;

	ntbs_ioat_kick(&io);
	for (unsigned i = 0; i < 100 && !ret && io.done != io.head; i++) {
		inproc_advance(&ip, 1000);
		ret = ntbs_ioat_look(&io);
	}
	return ret;
}

/* Several laps, of all sizes; what is longer than one descriptor takes. */
static void laps(void)
{
	uint32_t size;

	open_engine();
	t_fill(mem + FROM, 1 << 20, 1, 0);
	for (unsigned i = 0; i < 5000; i++) {
		size = 1 + i * 7919u % 900;
		ntbs_ioat_copy(&io, MEM_AT + FROM + i, MEM_AT + TO + i % 3 * 1000, size, IOAT_CTL_WRITE_BACK);
		t_must(!finish(), "finish: %s", io.why);
		t_eq(io.done, io.head, "copy %u is done", i);
		t_eq(t_wrong(mem + TO + i % 3 * 1000, size, 1, i), -1, "bytes of copy %u", i);
	}
	/* as many as there is room for, the doorbell once */
	while (ntbs_ioat_room(&io))
		ntbs_ioat_copy(&io, MEM_AT + FROM, MEM_AT + TO, 64, ntbs_ioat_room(&io) == 1 ? IOAT_CTL_WRITE_BACK : 0);
	t_must(!finish() && io.done == io.head, "a whole lap at once");
	t_eq(ntbs_ioat_room(&io), NTBS_IOAT_RING - 1, "all free");
	io.copy_max = 4096;
	t_eq(ntbs_ioat_need(&io, 10000), 3, "descriptors of a long copy");
	ntbs_ioat_copy(&io, MEM_AT + FROM + 5, MEM_AT + TO, 10000, IOAT_CTL_WRITE_BACK);
	t_eq(NTBS_IOAT_RING - 1 - ntbs_ioat_room(&io), 3, "as many were taken");
	t_must(!finish(), "finish");
	t_eq(t_wrong(mem + TO, 10000, 1, 5), -1, "bytes of a long copy");
	close_engine();
}

/*
 * Payload, of one or two pieces, and a slot into the window, on an engine that does not wait for what has no fence, and with
 * writes that are late: whenever the slot is seen in the peer's memory, the payload is there.  Without the fences it is not.
 */
static bool slot_first(uint32_t fence)
{
	uint64_t bar2 = rig_fn_bar_base(ip.port[0], 2);
	enum { LONG = 400000, AT = 65536, SHORT = 10000 };	/* more than the model does at once */
	uint8_t *there = port[1].mem;
	bool early = false;

	for (unsigned i = 0; i < 50; i++) {
		uint8_t tag = (uint8_t)(i + 1);

		memset(mem + FROM, tag, LONG);
		memset(there + 4096, 0, 64);
		if (i % 2)
			ntbs_ioat_copy(&io, MEM_AT + FROM, bar2 + 8192, SHORT, fence);
		else
			memset(there + 8192, tag, SHORT);
		ntbs_ioat_copy(&io, MEM_AT + FROM, bar2 + AT, LONG, fence);
		ntbs_ioat_copy(&io, MEM_AT + FROM, bar2 + 4096, 64, IOAT_CTL_WRITE_BACK | IOAT_CTL_INT);
		ntbs_ioat_kick(&io);
		for (unsigned k = 1; k < 1000 && !there[4096 + 63]; k++) {
			if (k % 8)
				rig_pair_run(ip.pair);
			else
				inproc_advance(&ip, 1);
			early |= there[4096] && (there[AT] != tag || there[AT + LONG - 1] != tag || there[8192 + SHORT - 1] != tag);
		}
		inproc_advance(&ip, 10000);
		t_must(!ntbs_ioat_look(&io), "look: %s", io.why);
		t_eq(io.done, io.head, "done");
		t_ok(there[4096] == tag && there[4096 + 63] == tag && there[8192 + SHORT - 1] == tag && there[AT + LONG - 1] == tag,
		     "all has landed");
	}
	return early;
}

static void order(void)
{
	open_engine();
	t_ok(!slot_first(IOAT_CTL_FENCE), "fences, in order");
	rig_fault(ip.pair, RIG_FAULT_ENGINE_EAGER, 0, 1);
	t_ok(!slot_first(IOAT_CTL_FENCE), "with fences the slot is never before its payload");
	t_ok(slot_first(0), "without them it is: this engine does not wait");
	rig_fault(ip.pair, RIG_FAULT_DELAY_WRITES, 0, 100);
	t_ok(!slot_first(IOAT_CTL_FENCE), "and with writes that are late");
	t_eq(rig_pair_count(ip.pair, 0)->copy, 500, "copies counted");
	close_engine();
}

static void interrupts(void)
{
	unsigned before;

	open_engine();
	before = ip.ioat_irq[0][0];
	for (unsigned i = 0; i < 3; i++)
		ntbs_ioat_copy(&io, MEM_AT + FROM, MEM_AT + TO, 64, IOAT_CTL_WRITE_BACK | IOAT_CTL_INT);
	t_must(!finish(), "finish");
	t_eq(ip.ioat_irq[0][0], before + 1, "one interrupt until it is taken");
	ntbs_ioat_rearm(&io);	/* the others' is kept and comes now */
	ntbs_ioat_rearm(&io);
	before = ip.ioat_irq[0][0];
	ntbs_ioat_copy(&io, MEM_AT + FROM, MEM_AT + TO, 64, IOAT_CTL_WRITE_BACK | IOAT_CTL_INT);
	t_must(!finish(), "finish");
	t_eq(ip.ioat_irq[0][0], before + 1, "and the next");
	close_engine();
}

/* An unmapped source, and a halt in the middle: which are done is known exactly; it goes on after a new start. */
static void halts(void)
{
	uint32_t before;

	open_engine();
	for (unsigned turn = 0; turn < 2; turn++) {
		before = io.done;
		t_fill(mem + FROM, 4096, turn + 1, 0);
		memset(mem + TO, 0, 65536);
		if (turn)
			rig_fault(ip.pair, RIG_FAULT_ENGINE_HALT, 0, 2);
		for (unsigned i = 0; i < 5; i++)
			ntbs_ioat_copy(&io, i == 2 && !turn ? 0x1234000 : MEM_AT + FROM, MEM_AT + TO + 4096 * i, 4096, IOAT_CTL_FENCE);
		t_eq(finish(), -EIO, "halted");
		t_eq(io.done, before + 2, "two were done: %s", io.why);
		t_ok(strstr(io.why, turn ? "0x200" : "0x100") != NULL, "the error is named: %s", io.why);
		t_eq(t_wrong(mem + TO + 4096, 4096, turn + 1, 0), -1, "the second's bytes");
		t_eq(mem[TO + 2 * 4096 + 4095] | mem[TO + 3 * 4096], 0, "the third's end and the fourth were not written");
		t_eq(ntbs_ioat_look(&io), -EIO, "still");
		ntbs_ioat_stop(&io);
		t_must(!ntbs_ioat_start(&io, ring, RING_AT), "start again: %s", io.why);
		ntbs_ioat_copy(&io, MEM_AT + FROM, MEM_AT + TO, 64, IOAT_CTL_WRITE_BACK);
		t_must(!finish() && io.done == io.head, "and it works");
	}
	/* what it writes is not believed */
	((uint64_t *)ring)[NTBS_IOAT_RING * 8] = RING_AT + 64 * 900 + 1;
	before = io.done;
	t_eq(ntbs_ioat_look(&io), 0, "nonsense is nothing new");
	((uint64_t *)ring)[NTBS_IOAT_RING * 8] = RING_AT + 64 * 900;
	t_eq(ntbs_ioat_look(&io), 0, "nor is a descriptor that is not under way");
	t_eq(io.done, before, "nothing moved");
	ntbs_ioat_copy(&io, MEM_AT + FROM, MEM_AT + TO, 64, IOAT_CTL_WRITE_BACK);
	ntbs_ioat_kick(&io);
	engine.gone = true;
	((uint64_t *)ring)[NTBS_IOAT_RING * 8] = 0;
	t_eq(ntbs_ioat_look(&io), -ENODEV, "unplugged");
	t_eq(ntbs_ioat_start(&io, ring, RING_AT), -ENODEV, "start: %s", io.why);
	engine.gone = false;
	close_engine();
}

static void refuses(void)
{
	open_engine();
	engine.regs.device = 0x1234;
	t_eq(ntbs_ioat_probe(&io, &engine.regs), -ENODEV, "another function: %s", io.why);
	engine.regs.device = 0x0b00;
	engine.gone = true;
	t_eq(ntbs_ioat_probe(&io, &engine.regs), -ENODEV, "nothing there: %s", io.why);
	engine.gone = false;
	t_must(!ntbs_ioat_probe(&io, &engine.regs), "probe");
	close_engine();
}

int main(void)
{
	mem = aligned_alloc(4096, MEM);
	ring = aligned_alloc(4096, NTBS_IOAT_MEMORY);
	t_must(mem && ring, "memory");
	laps();
	order();
	interrupts();
	halts();
	refuses();
	free(mem);
	free(ring);
	return t_done();
}
