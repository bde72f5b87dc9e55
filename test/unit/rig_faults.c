// SPDX-License-Identifier: BSD-2-Clause
/*
 * rig_faults.c - each fault of the model does what it says, and no more; counters and trace tell what happened
 *
 * links: test/rig/inproc.c test/rig/pair.c test/rig/fn.c test/rig/cfg.c test/rig/ntb_intel.c test/rig/ntb_amd.c test/rig/ioat.c
 */
#include "rig/inproc.h"
#include "t.h"

enum { WINDOW = 1 << 16, MS = 1000000 };

static struct inproc ip;
static uint8_t mem[2][WINDOW];
static const uint64_t mem_at = 0x100000000;
/* what the first eight bytes of host 1 were when its interrupt came */
static uint64_t seen_at_bell;

static void wr(int host, uint64_t off, uint64_t v, size_t len)
{
	inproc_write(ip.port[host], 0, off, v, len);
}

static void store(uint64_t off, uint64_t v)
{
	inproc_write(ip.port[0], 2, off, v, 8);
}

static uint64_t landed(uint64_t off)
{
	uint64_t v;

	memcpy(&v, mem[1] + off, 8);
	return v;
}

static void ring(unsigned bit)
{
	wr(0, 0x100 + 4 * bit, 1, 4);
}

static void look(void *arg, int host, unsigned vector)
{
	if (host == 1)
		seen_at_bell = landed(0);
}

/* SPR ports with both directions open; host 0 writes, host 1 is written to. */
static void bring_up(void)
{
	memset(mem, 0, sizeof(mem));
	t_must(inproc_open(&ip, RIG_INTEL_SPR, WINDOW), "open");
	ip.on_irq = look;
	for (int h = 0; h < 2; h++) {
		t_must(inproc_map(&ip, h, mem_at, mem[h], WINDOW), "map");
		inproc_enable(ip.port[h]);
		for (unsigned i = 0; i < 33; i++)
			wr(h, 0x50 + i, i, 1);
		wr(h, 0x10, mem_at, 8);
		wr(h, 0x18, rig_fn_bar_base(ip.port[h], 2) + WINDOW, 8);
		wr(h, 0x48, 0, 8);
		wr(h, 0xb050, 0, 2);
		wr(h, 0xb0d4, 8, 4);
	}
	inproc_advance(&ip, RIG_TRAIN_NS);
	t_must(rig_pair_link_is_up(ip.pair), "link up");
	for (int h = 0; h < 2; h++) {
		wr(h, 0xb05a, 0x100, 2);
		wr(h, 0x40, 1ull << 32, 8);
	}
	memset(ip.irq, 0, sizeof(ip.irq));
	seen_at_bell = ~0ull;
}

static void close_pair(void)
{
	t_eq(ip.unknown, 0, "accesses that the model does not know");
	inproc_close(&ip);
}

static const struct rig_count *count(int host)
{
	return rig_pair_count(ip.pair, host);
}

static void drop(void)
{
	bring_up();
	rig_fault(ip.pair, RIG_FAULT_DROP_WRITES, 0, 2);
	for (unsigned i = 0; i < 4; i++)
		store(8 * i, 7);
	for (unsigned i = 0; i < 4; i++)
		t_eq(landed(8 * i), i < 2 ? 0 : 7, "write %u", i);
	t_eq(count(0)->lost, 2, "lost");
	t_eq(count(0)->write[3], 4, "of four");
	inproc_write(ip.port[1], 2, 0, 9, 8);
	t_eq(mem[0][0], 9, "the other direction is not struck");
	close_pair();
}

static void flap(void)
{
	bring_up();
	rig_fault(ip.pair, RIG_FAULT_FLAP_AT, 0, 2);
	for (unsigned i = 0; i < 4; i++)
		store(8 * i, 7);
	for (unsigned i = 0; i < 4; i++)
		t_eq(landed(8 * i), i < 2 ? 7 : 0, "write %u", i);
	t_ok(!rig_pair_link_is_up(ip.pair), "down");
	t_eq(ip.irq[0][32] + ip.irq[1][32], 2, "both hosts are told");
	inproc_advance(&ip, RIG_TRAIN_NS);
	t_ok(rig_pair_link_is_up(ip.pair), "up again");
	store(0, 8);
	t_eq(landed(0), 8, "and open: translations have stayed");
	close_pair();
}

static void cable(void)
{
	bring_up();
	rig_fault(ip.pair, RIG_FAULT_LINK_DOWN, 0, 0);
	store(0, 7);
	ring(1);
	t_eq(landed(0), 0, "nothing passes");
	t_eq(ip.irq[1][1], 0, "no doorbell either");
	inproc_advance(&ip, 10 * RIG_TRAIN_NS);
	t_ok(!rig_pair_link_is_up(ip.pair), "stays down");
	rig_fault(ip.pair, RIG_FAULT_LINK_UP, 0, 0);
	inproc_advance(&ip, RIG_TRAIN_NS / 2);
	t_ok(!rig_pair_link_is_up(ip.pair), "trains");
	inproc_advance(&ip, RIG_TRAIN_NS / 2);
	t_ok(rig_pair_link_is_up(ip.pair), "up");
	t_eq(inproc_read(ip.port[1], 0, 0x40, 8) & 2, 0, "a doorbell of then is not rung now");
	close_pair();
}

static void delay(void)
{
	bring_up();
	rig_fault(ip.pair, RIG_FAULT_DELAY_WRITES, 0, 5 * MS);
	store(0, 1);
	inproc_advance(&ip, 2 * MS);
	store(8, 2);
	t_eq(landed(0) | landed(8), 0, "on their way");
	inproc_advance(&ip, 3 * MS);
	t_eq(landed(0), 1, "the first is there");
	t_eq(landed(8), 0, "the second not yet");
	inproc_advance(&ip, 2 * MS);
	t_eq(landed(8), 2, "now it is");
	/* what is posted later pushes */
	store(0, 3);
	ring(4);
	t_eq(seen_at_bell, 3, "a doorbell does not overtake data");
	store(0, 4);
	wr(0, 0x8080, 1, 4);
	t_eq(landed(0), 4, "nor does a scratchpad");
	store(0, 5);
	t_eq(inproc_read(ip.port[0], 2, 0, 8), 5, "nor a read");
	store(0, 6);
	rig_fault(ip.pair, RIG_FAULT_DELAY_WRITES, 0, 0);
	store(0, 7);
	inproc_advance(&ip, 10 * MS);
	t_eq(landed(0), 7, "later writes stay behind earlier ones");
	/* and what is under way when the link goes is lost */
	rig_fault(ip.pair, RIG_FAULT_DELAY_WRITES, 0, 5 * MS);
	store(0, 8);
	rig_fault(ip.pair, RIG_FAULT_LINK_DOWN, 0, 0);
	inproc_advance(&ip, 10 * MS);
	t_eq(landed(0), 7, "lost on the way");
	t_eq(count(0)->lost, 1, "counted");
	rig_fault(ip.pair, RIG_FAULT_LINK_UP, 0, 0);
	inproc_advance(&ip, RIG_TRAIN_NS);
	rig_fault(ip.pair, RIG_FAULT_DELAY_WRITES, 0, 5 * RIG_TRAIN_NS);
	store(0, 9);
	rig_fault(ip.pair, RIG_FAULT_LINK_DOWN, 0, 0);
	rig_fault(ip.pair, RIG_FAULT_LINK_UP, 0, 0);
	inproc_advance(&ip, 10 * RIG_TRAIN_NS);
	t_ok(rig_pair_link_is_up(ip.pair), "up before the write was due");
	t_eq(landed(0), 7, "it does not survive the link");
	close_pair();
}

static void bells(void)
{
	bring_up();
	rig_fault(ip.pair, RIG_FAULT_BELL_DROP, 0, 1);
	ring(1);
	t_eq(ip.irq[1][1], 0, "dropped");
	t_eq(inproc_read(ip.port[1], 0, 0x40, 8) & 2, 0, "no bit either");
	ring(1);
	t_eq(ip.irq[1][1], 1, "the next is not");
	rig_fault(ip.pair, RIG_FAULT_BELL_DUP, 0, 1);
	ring(2);
	t_eq(ip.irq[1][2], 2, "rung twice");
	rig_fault(ip.pair, RIG_FAULT_DELAY_WRITES, 0, 5 * MS);
	rig_fault(ip.pair, RIG_FAULT_BELL_EARLY, 0, 1);
	store(0, 5);
	ring(3);
	t_eq(ip.irq[1][3], 1, "rung");
	t_eq(seen_at_bell, 0, "before its data");
	inproc_advance(&ip, 5 * MS);
	t_eq(landed(0), 5, "which comes");
	store(0, 6);
	ring(4);
	t_eq(seen_at_bell, 6, "the next doorbell is not early");
	t_eq(count(0)->bell, 5, "doorbells");
	close_pair();
}

static void cut_and_reset(void)
{
	bring_up();
	t_eq(rig_fault(ip.pair, RIG_FAULT_CUT_WINDOW, 0, 3), -EINVAL, "no window");
	t_eq(rig_fault(ip.pair, RIG_FAULT_CUT_WINDOW, 2, 2), -EINVAL, "no host");
	rig_fault(ip.pair, RIG_FAULT_CUT_WINDOW, 0, 2);
	store(0, 1);
	t_eq(landed(0), 0, "cut");
	t_eq(inproc_read(ip.port[0], 2, 0, 4), 0xffffffff, "reads all-ones");
	ring(1);
	t_eq(ip.irq[1][1], 1, "doorbells pass");
	rig_fault(ip.pair, RIG_FAULT_MEND_WINDOW, 0, 2);
	store(0, 1);
	t_eq(landed(0), 1, "mended");
	rig_fault(ip.pair, RIG_FAULT_PEER_RESET, 1, 0);
	store(0, 2);
	t_eq(landed(0), 1, "peer was reset");
	t_eq(ip.irq[0][32], 1, "which takes the link down");
	close_pair();
}

static void counts_and_trace(void)
{
	uint8_t line[64];
	uint64_t last = 0, addr, len;
	unsigned writes = 0;

	bring_up();
	ip.keep_trace = true;
	memset(line, 0x42, sizeof(line));
	t_eq(rig_write(ip.port[0], 2, 64, line, 64), 0, "a line at once");
	t_eq(landed(120), 0x4242424242424242, "its last word");
	inproc_write(ip.port[0], 2, 0, 1, 4);
	inproc_write(ip.port[0], 2, 4, 1, 1);
	t_eq(rig_write(ip.port[0], 2, 200, line, 24), 0, "an odd length");
	inproc_read(ip.port[0], 2, 0, 8);
	ring(9);
	wr(0, 0x8080, 5, 4);
	t_eq(count(0)->write[6], 1, "of 64 bytes");
	t_eq(count(0)->write[2], 1, "of 4 bytes");
	t_eq(count(0)->write[0], 1, "of 1 byte");
	t_eq(count(0)->write[7], 1, "of odd length");
	t_eq(count(0)->write_bytes, 64 + 4 + 1 + 24, "bytes");
	t_eq(count(0)->read, 1, "remote reads");
	t_eq(count(0)->bell, 1, "doorbells");
	t_eq(count(0)->peer_reg_write, 1, "registers of the peer");
	t_eq(count(1)->write_bytes + count(1)->read, 0, "nothing the other way");
	t_eq(count(1)->interrupt, 2, "interrupts: link up, doorbell");
	for (size_t i = 0; i < ip.traced; i++) {
		t_ok(!i || ip.trace[i].seq == last + 1, "no gap");
		last = ip.trace[i].seq;
		writes += ip.trace[i].kind == RIG_EV_WRITE && ip.trace[i].space == 2;
	}
	t_eq(writes, 4, "window writes in the trace");
	t_must(ip.traced > 3, "trace");
	/* the end of it: the doorbell, what follows from it, the scratchpad */
	t_eq(ip.trace[ip.traced - 3].off, 0x100 + 4 * 9, "doorbell");
	t_eq(ip.trace[ip.traced - 2].kind, RIG_EV_INTERRUPT, "interrupt");
	t_eq(ip.trace[ip.traced - 2].host, 1, "of the peer");
	t_eq(ip.trace[ip.traced - 1].value, 5, "scratchpad");
	t_eq(rig_window_target(ip.port[0], 2, 0x100, &addr, &len), 0, "target");
	t_eq(addr, mem_at + 0x100, "address in the peer");
	t_eq(len, WINDOW - 0x100, "as long as the window");
	t_eq(rig_window_target(ip.port[0], 4, 0, &addr, &len), -ENXIO, "the window nobody opened");
	t_eq(rig_window_target(ip.port[0], 0, 0, &addr, &len), -EINVAL, "not a window");
	close_pair();
}

int main(void)
{
	drop();
	flap();
	cable();
	delay();
	bells();
	cut_and_reset();
	counts_and_trace();
	return t_done();
}
