// SPDX-License-Identifier: BSD-2-Clause
/*
 * rig_ioat.c - the model of an I/OAT engine takes the steps of Linux's ioatdma, copies, completes, interrupts and halts
 *
 * links: test/rig/inproc.c test/rig/pair.c test/rig/fn.c test/rig/cfg.c test/rig/ntb_intel.c test/rig/ntb_amd.c test/rig/ioat.c
 */
#include "rig/inproc.h"
#include "t.h"

enum {
	WINDOW = 1 << 20, MEM = 4 << 20, CH = 0x80, RUN = 0x1d,
	INT = 1, WRITE_BACK = 8, NULL_DESC = 0x20,
	ACTIVE = 0, DONE = 1, SUSPENDED = 2, HALTED = 3,
	RING = 0x1000, CMP = 0x800,	/* in the engine's memory */
};

static struct inproc ip;
static struct rig_fn *fn;
static uint8_t *mem[2];
static const uint64_t mem_at[2] = { 0x100000000, 0x240000000 };
static unsigned made;		/* descriptors of the present chain */

static uint64_t rd(uint64_t off, size_t len)
{
	return inproc_read(fn, 0, off, len);
}

static void wr(uint64_t off, uint64_t v, size_t len)
{
	inproc_write(fn, 0, off, v, len);
}

static void put(uint64_t at, uint64_t v, size_t len)
{
	memcpy(mem[0] + at, &v, len);
}

static uint64_t completion(void)
{
	uint64_t v;

	memcpy(&v, mem[0] + CMP, 8);
	return v;
}

static uint64_t desc_at(unsigned n)
{
	return mem_at[0] + RING + 64ull * n;
}

/* The next descriptor of the chain. */
static void desc(uint32_t size, uint32_t ctl, uint64_t src, uint64_t dst)
{
	uint64_t at = RING + 64ull * made;

	put(at, size, 4);
	put(at + 4, ctl, 4);
	put(at + 8, src, 8);
	put(at + 16, dst, 8);
	put(at + 24, desc_at(++made), 8);
}

static void go(void)
{
	wr(CH + 6, made, 2);
}

/* As the driver starts a channel: arm, completion address and chain in halves, a null descriptor. */
static void start(void)
{
	made = 0;
	wr(CH + 4, 0x20, 1);
	t_eq(rd(CH + 4, 1) & 0x20, 0, "reset is over at once");
	t_eq(rd(CH + 8, 8) & 7, HALTED, "halted after reset");
	wr(CH + 0, RUN, 2);
	wr(CH + 0x18, (uint32_t)(mem_at[0] + CMP), 4);
	wr(CH + 0x1c, (mem_at[0] + CMP) >> 32, 4);
	memset(mem[0] + CMP, 0, 8);
	wr(CH + 0x10, (uint32_t)desc_at(0), 4);
	wr(CH + 0x14, desc_at(0) >> 32, 4);
	desc(1, NULL_DESC | INT | WRITE_BACK, 0, 0);
	go();
	t_eq(rd(CH + 8, 8) & 7, ACTIVE, "under way");
	inproc_advance(&ip, 1000);
	t_eq(rd(CH + 8, 8), desc_at(0) | DONE, "null descriptor done");
	t_eq(completion(), desc_at(0) | DONE, "and written back");
}

static void open_engine(void)
{
	t_must(inproc_open(&ip, RIG_AMD, WINDOW), "open");
	fn = inproc_ioat(&ip, 0);
	t_must(fn, "engine");
	for (int i = 0; i < 2; i++) {
		memset(mem[i], 0, MEM);
		t_must(inproc_map(&ip, i, mem_at[i], mem[i], MEM), "map");
		inproc_enable(ip.port[i]);
	}
	inproc_enable(fn);
	t_eq(inproc_read(fn, RIG_CFG, 0, 4), 0x0b008086, "ids");
	t_eq(rd(0x08, 1), 0x34, "version");
	t_eq(rd(0x10, 4), 0, "copies only");
	t_eq(rd(0, 1), 2, "channels");
	wr(3, 0x09, 1);
	start();
}

static void close_engine(void)
{
	t_eq(ip.unknown, 0, "accesses that the model does not know");
	inproc_close(&ip);
}

static void copies(void)
{
	uint64_t src = 0x100000, dst = 0x200123, before;

	open_engine();
	t_eq(ip.ioat_irq[0][0], 1, "interrupt of the null descriptor");
	t_fill(mem[0] + src, 900000, 1, 0);
	desc(900000, WRITE_BACK | INT, mem_at[0] + src, mem_at[0] + dst);
	go();
	before = rd(CH + 8, 8);
	t_eq(before, desc_at(0) | ACTIVE, "active, the last one done is still the first");
	inproc_advance(&ip, 1000);
	t_eq(t_wrong(mem[0] + dst, 900000, 1, 0), -1, "bytes");
	t_eq(mem[0][dst + 900000], 0, "and no more");
	t_eq(completion(), desc_at(1) | DONE, "written back");
	t_eq(ip.ioat_irq[0][0], 1, "not armed: no interrupt yet");
	wr(CH + 0, RUN, 2);
	t_eq(ip.ioat_irq[0][0], 2, "arming lets it go");
	/* several, of which only the last says so */
	for (unsigned i = 0; i < 10; i++)
		desc(64, i == 9 ? WRITE_BACK : 0, mem_at[0] + src + 64 * i, mem_at[0] + 0x300000 + 4096 * i);
	go();
	inproc_advance(&ip, 1000);
	for (unsigned i = 0; i < 10; i++)
		t_eq(t_wrong(mem[0] + 0x300000 + 4096 * i, 64, 1, 64 * i), -1, "copy %u", i);
	t_eq(completion(), desc_at(11) | DONE, "the last of them");
	/* suspended and resumed */
	desc(64, WRITE_BACK, mem_at[0] + src, mem_at[0] + dst);
	wr(CH + 4, 4, 1);
	t_eq(rd(CH + 8, 8) & 7, SUSPENDED, "suspended");
	wr(CH + 4, 0x10, 1);
	t_eq(rd(CH + 8, 8) & 7, DONE, "resumed, with nothing to do");
	go();
	inproc_advance(&ip, 1000);
	t_eq(completion(), desc_at(12) | DONE, "went on");
	/* the other channel is another */
	t_eq(rd(2 * CH + 8, 8), HALTED, "second channel");
	t_eq(rd(4, 4), 1, "attention of the first");
	close_engine();
}

/* A chain that is long enough to be seen halfway. */
static void long_chain(void)
{
	open_engine();
	for (unsigned i = 0; i < 1000; i++)
		desc(4096, WRITE_BACK, mem_at[0] + 0x100000, mem_at[0] + 0x200000);
	go();
	rig_pair_run(ip.pair);
	t_eq(rd(CH + 8, 8) & 7, ACTIVE, "active");
	t_ok(completion() > desc_at(0) && completion() < desc_at(1000), "halfway");
	t_eq(completion() & 7, ACTIVE, "and says so");
	inproc_advance(&ip, 1000);
	t_eq(completion(), desc_at(1000) | DONE, "done");
	close_engine();
}

static void into_the_window(void)
{
	uint64_t bar2;

	open_engine();
	bar2 = rig_fn_bar_base(ip.port[0], 2);
	inproc_advance(&ip, RIG_TRAIN_NS);
	inproc_write(ip.port[1], 0, 0x838, mem_at[1], 8);
	inproc_write(ip.port[1], 0, 0x818, WINDOW, 8);
	t_fill(mem[0] + 0x100000, 100000, 2, 0);
	desc(100000, WRITE_BACK, mem_at[0] + 0x100000, bar2 + 0x10);
	go();
	inproc_advance(&ip, 1000);
	t_eq(t_wrong(mem[1] + 0x10, 100000, 2, 0), -1, "bytes in the peer's memory");
	t_eq(rig_pair_count(ip.pair, 0)->write_bytes, 100000, "counted as window writes");
	/* the link is down: the engine does not notice */
	rig_fault(ip.pair, RIG_FAULT_LINK_DOWN, 0, 0);
	memset(mem[1], 0, MEM);
	desc(64, WRITE_BACK, mem_at[0] + 0x100000, bar2);
	go();
	inproc_advance(&ip, 1000);
	t_eq(completion(), desc_at(2) | DONE, "done, as far as it knows");
	t_eq(mem[1][0] | mem[1][63], 0, "nothing arrived");
	/* and from the window: all-ones now */
	desc(64, WRITE_BACK, bar2, mem_at[0] + 0x200000);
	go();
	inproc_advance(&ip, 1000);
	t_eq(mem[0][0x200000], 0xff, "read across a link that is down");
	close_engine();
}

/* A broken descriptor behind a good one: the channel halts on it and says which was the last good one. */
static void halts(const char *what, uint32_t size, uint32_t ctl, uint64_t src, uint64_t dst, uint32_t error)
{
	unsigned irqs;

	open_engine();
	wr(CH + 0, RUN, 2);
	desc(64, 0, mem_at[0] + 0x100000, mem_at[0] + 0x200000);
	desc(size, ctl, src, dst);
	desc(64, WRITE_BACK, mem_at[0] + 0x100000, mem_at[0] + 0x200000);
	irqs = ip.ioat_irq[0][0];
	go();
	inproc_advance(&ip, 1000);
	t_eq(rd(CH + 0x28, 4), error, "%s: error", what);
	t_eq(rd(CH + 8, 8), desc_at(1) | HALTED, "%s: status", what);
	t_eq(completion(), desc_at(1) | HALTED, "%s: written back", what);
	t_eq(ip.ioat_irq[0][0], irqs + 1, "%s: interrupt", what);
	wr(CH + 6, made, 2);
	inproc_advance(&ip, 1000);
	t_eq(rd(CH + 8, 8) & 7, HALTED, "%s: stays halted until the error is cleared", what);
	wr(CH + 0x28, error, 4);
	t_eq(rd(CH + 0x28, 4), 0, "%s: cleared", what);
	start();
	desc(64, WRITE_BACK, mem_at[0] + 0x100000, mem_at[0] + 0x200000);
	go();
	inproc_advance(&ip, 1000);
	t_eq(completion(), desc_at(1) | DONE, "%s: works again", what);
	close_engine();
}

static void bad_addresses(void)
{
	open_engine();
	desc(64, 0, mem_at[0] + 0x100000, mem_at[0] + 0x200000);
	put(RING + 64 + 24, 0x123456789000, 8);	/* its next */
	made++;
	go();
	inproc_advance(&ip, 1000);
	t_eq(rd(CH + 0x28, 4), 4, "next descriptor is not mapped");
	close_engine();
	open_engine();
	desc(64, 0, mem_at[0] + 0x100000, mem_at[0] + 0x200000);
	put(RING + 64 + 24, desc_at(2) + 8, 8);
	made++;
	go();
	inproc_advance(&ip, 1000);
	t_eq(rd(CH + 0x28, 4), 8, "next descriptor is not aligned");
	close_engine();
	open_engine();
	wr(CH + 0x1c, 0x7777, 4);
	desc(64, WRITE_BACK, mem_at[0] + 0x100000, mem_at[0] + 0x200000);
	go();
	inproc_advance(&ip, 1000);
	t_eq(rd(CH + 0x28, 4), 0x1000, "completion address is not mapped");
	close_engine();
}

int main(void)
{
	for (int i = 0; i < 2; i++) {
		mem[i] = malloc(MEM);
		t_must(mem[i], "memory");
	}
	copies();
	long_chain();
	into_the_window();
	halts("length 0", 0, 0, mem_at[0], mem_at[0], 0x800);
	halts("too long", (1 << 20) + 1, 0, mem_at[0], mem_at[0], 0x800);
	halts("XOR", 64, 0x87u << 24, mem_at[0], mem_at[0], 0x400);
	halts("source", 64, 0, 0x5000, mem_at[0] + 0x200000, 0x100);
	halts("destination", 64, 0, mem_at[0], 0x5000, 0x200);
	bad_addresses();
	for (int i = 0; i < 2; i++)
		free(mem[i]);
	return t_done();
}
