/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ntb_model_link.c - the link over the drivers over the models: up, through every fault that the models know, and up
 * again with a new session
 *
 * links: driver-glue/vfio/link.c driver-glue/vfio/ntb.c driver-glue/vfio/intel.c driver-glue/vfio/amd.c driver-glue/vfio/ivshmem.c test/rig/inproc.c test/rig/pair.c test/rig/fn.c test/rig/cfg.c test/rig/ntb_intel.c test/rig/ntb_amd.c test/rig/ioat.c
 */
#include "ntb_t.h"
#include "vfio/link.h"

#define MS 1000000ull

static struct inproc ip;
static struct t_port port[2];
static struct ntbs_link ln[2];
static uint64_t session[2][256];
static unsigned nr_sessions[2];

static struct t_port *of(void *arg)
{
	return arg;
}

static uint32_t spad_read(void *arg, unsigned i)
{
	return ntbs_ntb_spad_read(&of(arg)->ntb, i);
}

static void peer_spad_write(void *arg, unsigned i, uint32_t value)
{
	ntbs_ntb_peer_spad_write(&of(arg)->ntb, i, value);
}

static uint64_t inbound_read(void *arg, uint64_t offset)
{
	return *(uint64_t *)(of(arg)->mem + offset);
}

static void inbound_clear(void *arg, uint64_t offset)
{
	*(uint64_t *)(of(arg)->mem + offset) = 0;
}

static void window_write(void *arg, uint64_t offset, uint64_t value)
{
	inproc_write(of(arg)->fn, 2, offset, value, 8);
}

static void ring(void *arg)
{
	ntbs_ntb_db_ring(&of(arg)->ntb, 1);
}

static uint32_t draw(void *arg)
{
	return t_rand();
}

static void open_inbound(void *arg)
{
	int h = of(arg) == &port[1];

	t_must(!ntbs_ntb_set_window(&port[h].ntb, 0, T_IOVA(h), T_WINDOW), "window: %s", port[h].ntb.why);
}

static const struct ntbs_link_ops ops = {
	spad_read, peer_spad_write, inbound_read, inbound_clear, window_write, ring, draw, open_inbound,
};

static void news(int h, unsigned what)
{
	if (what & NTBS_LINK_CAME_UP) {
		for (unsigned i = 0; i < nr_sessions[h]; i++)
			t_ok(session[h][i] != ntbs_link_session(&ln[h]), "a session came up twice");
		t_must(nr_sessions[h] < 256, "room");
		session[h][nr_sessions[h]++] = ntbs_link_session(&ln[h]);
	}
	if (what & NTBS_LINK_WENT_DOWN)
		news(h, ntbs_link_resume(&ln[h], ip.now_ns));
}

static void bring(int h)
{
	struct ntbs_link_conf conf = { .side_b = h, .window_bytes = T_WINDOW, .inbound_bytes = T_WINDOW };
	struct ntbs_ntb_link wires;

	t_must(!ntbs_ntb_probe(&port[h].ntb, &port[h].regs), "probe: %s", port[h].ntb.why);
	ntbs_ntb_db_unmask(&port[h].ntb, 1);
	t_must(!ntbs_ntb_link_enable(&port[h].ntb), "link: %s", port[h].ntb.why);
	ntbs_ntb_link_state(&port[h].ntb, &wires);
	ntbs_link_init(&ln[h], &conf, &ops, &port[h]);
	news(h, ntbs_link_start(&ln[h], ip.now_ns, wires.up));
}

/* What a program at the port does: interrupts, then time. */
static void serve(int h)
{
	struct ntbs_ntb_link wires;
	uint64_t ev = 0;

	for (unsigned v = 0; v < INPROC_VECTORS; v++) {
		if (ip.irq[h][v]) {
			ip.irq[h][v] = 0;
			ev |= ntbs_ntb_irq(&port[h].ntb, v);
		}
	}
	if (port[h].ntb.poll_ms && ip.now_ns / MS % port[h].ntb.poll_ms == 0)
		ev |= ntbs_ntb_poll(&port[h].ntb);
	if (ev & NTBS_NTB_EVENT_LINK) {
		ntbs_ntb_link_state(&port[h].ntb, &wires);
		news(h, ntbs_link_wires(&ln[h], ip.now_ns, wires.up));
	}
	if (ev & 1 || ip.now_ns >= ntbs_link_next(&ln[h]))
		news(h, ntbs_link_tick(&ln[h], ip.now_ns));
}

static void run_for(uint64_t ms)
{
	for (uint64_t i = 0; i < ms; i++) {
		inproc_advance(&ip, MS);
		serve(0);
		serve(1);
	}
}

static bool both_up(void)
{
	return ntbs_link_session(&ln[0]) && ntbs_link_session(&ln[0]) == ntbs_link_session(&ln[1]);
}

static void settle(const char *after)
{
	run_for(4000);
	t_ok(both_up(), "%s: not up: %s; %s", after, ntbs_link_say(&ln[0]), ntbs_link_say(&ln[1]));
}

static void faults(enum rig_family f)
{
	static const struct { enum rig_fault what; uint64_t n; const char *name; bool breaks; } fault[] = {
		{ RIG_FAULT_FLAP_AT, 3, "flap", true },
		{ RIG_FAULT_DROP_WRITES, 20, "dropped writes", false },
		{ RIG_FAULT_DELAY_WRITES, 30 * MS, "late writes", false },
		{ RIG_FAULT_DELAY_WRITES, 0, "writes at once", false },
		{ RIG_FAULT_BELL_DROP, 50, "lost bells", false },
		{ RIG_FAULT_BELL_DUP, 50, "double bells", false },
		{ RIG_FAULT_CUT_WINDOW, 2, "cut window", true },
		{ RIG_FAULT_MEND_WINDOW, 2, "mended window", false },
	};
	unsigned before;

	t_pair_open(&ip, port, f);
	memset(nr_sessions, 0, sizeof(nr_sessions));
	bring(0);
	bring(1);
	settle("start");
	for (int h = 0; h < 2; h++) {
		for (unsigned i = 0; i < sizeof(fault) / sizeof(fault[0]); i++) {
			before = nr_sessions[0];
			t_eq(rig_fault(ip.pair, fault[i].what, h, fault[i].n), 0, "%s", fault[i].name);
			if (fault[i].what == RIG_FAULT_CUT_WINDOW) {
				run_for(2000);
				t_ok(!both_up(), "up without a window");
				continue;
			}
			settle(fault[i].name);
			t_ok(nr_sessions[0] > before || !fault[i].breaks, "%s: the same session went on", fault[i].name);
			if (fault[i].what == RIG_FAULT_DELAY_WRITES)
				t_eq(nr_sessions[0], before, "late is not lost");
		}
		before = nr_sessions[!h];
		rig_fault(ip.pair, RIG_FAULT_LINK_DOWN, 0, 0);
		run_for(50);
		t_ok(!ntbs_link_session(&ln[0]) && !ntbs_link_session(&ln[1]), "cable out");
		rig_fault(ip.pair, RIG_FAULT_LINK_UP, 0, 0);
		settle("cable in");
		t_ok(nr_sessions[!h] > before, "a new session");

		/* The machine behind @h resets and its program starts anew. */
		before = nr_sessions[!h];
		rig_fault(ip.pair, RIG_FAULT_PEER_RESET, h, 0);
		run_for(20);
		inproc_unmap(&ip, h, T_IOVA(h));
		t_port_join(&port[h], &ip, h);
		inproc_map(&ip, h, T_IOVA(h), port[h].mem, T_WINDOW);
		memset(ip.irq[h], 0, sizeof(ip.irq[h]));
		bring(h);
		settle("reset");
		t_ok(nr_sessions[!h] > before, "a new session after a reset");

		/* Only the program is killed and starts again at once: nothing but its epoch tells. */
		before = nr_sessions[!h];
		memset(&port[h].ntb, 0, sizeof(port[h].ntb));
		bring(h);
		settle("restart");
		t_ok(nr_sessions[!h] > before, "a new session after a restart");
	}
	t_pair_close(&ip, port);
}

int main(void)
{
	static const enum rig_family families[] = { RIG_INTEL_GEN3, RIG_INTEL_ICX, RIG_INTEL_SPR, RIG_AMD };

	t_seed();
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		faults(families[i]);
	return t_done();
}
