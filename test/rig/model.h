/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * model.h - a software NTB, without its surroundings
 *
 * There is no bridge here to test drivers on.  What stands for it is a register model of a pair of ports, joined
 * back to back, and of a copy engine: config space, register BARs, memory windows, as the drivers of Linux and the
 * manuals say that the hardware behaves.  The same model is put into two kinds of surroundings: the vfio-user server
 * (ntbrig.c), where a guest's kernel finds it as a PCI device, and a test program, which calls it directly with a
 * clock and memory of its own (inproc.h has those ready).
 *
 * Words: a *host* is 0 or 1; a *function* is one PCI function in a host: the host's port, or its copy engine.  A host
 * stores into a *window* (a BAR of its own port); the peer's translation registers say where in the peer's memory
 * that lands.  On AMD it is the writer's bank of registers +0x400 that holds the peer's translation.
 *
 * Invariants:
 *  - single-threaded: all calls come from one thread, one at a time, and callbacks do not call back into the model;
 *    an interrupt is noted by the callback and acted upon after the call that raised it has returned;
 *  - no clock, no thread, no file descriptor inside: time is what now_ns() says, and rig_pair_run() does what is due;
 *  - one total order: every access, interrupt, link change and reset of both hosts gets the next number (rig_event.seq);
 *  - nothing a guest writes makes the model read or write outside its own arrays or outside what memory() returned;
 *  - without memory decoding (COMMAND bit 1) or in D3hot BARs read all-ones and ignore writes; without bus mastering
 *    (COMMAND bit 2) a function raises no interrupt and lets no write of the peer into its host's memory.
 *
 * Values in buffers are little-endian, as on the bus.  Register numbers and their sources: ntb_intel.c, ntb_amd.c, ioat.c.
 */
#ifndef NTBSOCK_RIG_MODEL_H
#define NTBSOCK_RIG_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum rig_family {
	RIG_INTEL_GEN3,		/* 8086:201c, Skylake and Cascade Lake */
	RIG_INTEL_ICX,		/* 8086:347e revision 4, Ice Lake: gen4 */
	RIG_INTEL_SPR,		/* 8086:347e revision 0x11, Sapphire Rapids: gen4 with other PPD bits, 4 KiB alignment */
	RIG_AMD,		/* 1022:148b */
};

/* Where an access goes: a BAR by its number, or config space. */
enum { RIG_BARS = 6, RIG_CFG = 7, RIG_CFG_SIZE = 4096 };

/* One PCI function. */
struct rig_fn;

/* BAR2 and BAR4 are the windows of a port.  64-bit BARs take two numbers; the second has size 0. */
struct rig_bar {
	uint64_t size;		/* bytes, a power of two; 0: there is none */
	bool is64, prefetch;
	bool window;		/* leads into the peer's memory; else registers */
};

struct rig_fn_info {
	const char *name;	/* "ICX port 0" */
	int host;
	uint16_t vendor, device;
	uint8_t revision;
	struct rig_bar bar[RIG_BARS];
	unsigned vectors;	/* of MSI-X; table and pending bits lie in BAR0 and are not the model's business */
	uint32_t msix_table, msix_pba;	/* their offsets in BAR0 */
};

/* What happened, for the trace. */
enum rig_event_kind {
	RIG_EV_READ,		/* space, off, len, value */
	RIG_EV_WRITE,
	RIG_EV_INTERRUPT,	/* off: vector */
	RIG_EV_LINK,		/* value: 1 up, 0 down; once, with host 0 */
	RIG_EV_RESET,		/* value: enum rig_reset */
	RIG_EV_DMA,		/* by a copy engine.  space: channel; off: descriptor; value: destination; len: bytes */
};

struct rig_event {
	uint64_t seq;		/* both hosts together, from 1, without gaps */
	uint64_t time_ns;
	enum rig_event_kind kind;
	const struct rig_fn *fn;
	int host;
	int space;		/* RIG_CFG or number of the BAR */
	uint64_t off;
	uint32_t len;		/* bytes */
	uint64_t value;		/* the first eight bytes */
	bool unknown;		/* no such register is known to the model: reads as 0, writes are ignored */
	bool lost;		/* did not arrive: link down, window closed, address not mapped, fault injected */
};

/**
 * struct rig_env - what the surroundings do for a model
 *
 * @memory: bytes of memory from bus address @addr on, as the IOMMU lets function @fn see it.  Sets *len (on entry the
 *   wish) to how many follow each other, at least 1.  NULL: nothing is mapped there.  Used before the next call only.
 * @foreign: memory() said NULL; the address may be another device's BAR.  Writes, or starts writing, @len bytes there
 *   for @fn; 0, or a negative errno if that is impossible.  May be NULL.
 * @foreign_busy: what foreign() has started for @fn is still under way: a copy engine does not report completion
 *   before.  May be NULL.
 * @interrupt: MSI-X vector of a function fires.
 * @now_ns: any clock that does not run backwards.
 * @event: the trace.  May be NULL.
 * @window_moved: what rig_window_target() says about @fn's windows may have changed; for who has mapped them.  May be NULL.
 */
struct rig_env {
	void *arg;
	void *(*memory)(void *arg, const struct rig_fn *fn, uint64_t addr, size_t *len, bool write);
	int (*foreign)(void *arg, const struct rig_fn *fn, uint64_t addr, const void *data, size_t len);
	bool (*foreign_busy)(void *arg, const struct rig_fn *fn);
	void (*interrupt)(void *arg, const struct rig_fn *fn, unsigned vector);
	uint64_t (*now_ns)(void *arg);
	void (*event)(void *arg, const struct rig_event *ev);
	void (*window_moved)(void *arg, const struct rig_fn *fn);
};

struct rig_pair_conf {
	enum rig_family family;
	uint64_t window_size[2];	/* of BAR2 and BAR4, on both hosts: powers of two, 4 KiB or more */
	uint64_t train_ns;		/* from "both sides want the link" to link up.  RIG_TRAIN_NS, or as you like */
};

/*
 * With a link that is up at once ntb_transport of Linux 6.1 sometimes never gets its carrier: link-up work is cancelled by
 * the link-down work of its probe.  Hardware takes milliseconds too.
 */
#define RIG_TRAIN_NS 100000000ull

struct rig_pair;

/* Two ports after power-on.  NULL: errno says why (EINVAL, ENOMEM).  @env is copied. */
struct rig_pair *rig_pair_open(const struct rig_pair_conf *conf, const struct rig_env *env);
void rig_pair_close(struct rig_pair *pair);
struct rig_fn *rig_pair_port(struct rig_pair *pair, int host);
bool rig_pair_link_is_up(const struct rig_pair *pair);

/* A copy engine (I/OAT 3.4, memory copies only) in one host of the pair.  Freed by rig_pair_close(). */
struct rig_fn *rig_ioat_open(struct rig_pair *pair, int host);

/* Does what is due by now; returns when the next thing will be (ns of now_ns()), or UINT64_MAX. */
uint64_t rig_pair_run(struct rig_pair *pair);

const struct rig_fn_info *rig_fn_info(const struct rig_fn *fn);

/**
 * rig_read(), rig_write() - one access of the host's CPU
 * @space: RIG_CFG or number of a BAR
 *
 * @len is 1 to 8 for registers and config space, as the instruction has it; in a window anything up to 4096 that does not
 * cross the end (a burst counts as one write).  Return: 0; -EINVAL if off and len do not lie in the space.  An access
 * that hardware would answer with an error is none here: it reads all-ones or is dropped.
 */
int rig_read(struct rig_fn *fn, int space, uint64_t off, void *buf, size_t len);
int rig_write(struct rig_fn *fn, int space, uint64_t off, const void *buf, size_t len);

/* What firmware does: BARs at addresses aligned to their size, from @base upwards.  Memory decoding stays off. */
void rig_fn_place(struct rig_fn *fn, uint64_t base);
/* Where the BAR is now, as the function's own config space says. */
uint64_t rig_fn_bar_base(const struct rig_fn *fn, int bar);

/*
 * Where a store of @fn's host to its window lands: address in the *peer's* memory, and how many bytes from there on are
 * as good.  -ENXIO: nowhere (link down, window closed or cut, beyond the limit, peer no bus master).  -EINVAL: no window.
 */
int rig_window_target(const struct rig_fn *fn, int bar, uint64_t off, uint64_t *addr, uint64_t *len);

enum rig_reset {
	RIG_RESET_FLR,		/* of one function, by config space, by vfio-user RESET (a machine reset) or by power */
	RIG_RESET_GONE,		/* the host is off: its port stops training, its memory is not there */
	RIG_RESET_BACK,		/* the host is on again, its registers as after power-on */
};
void rig_fn_reset(struct rig_fn *fn, enum rig_reset how);

/*
 * Faults.  @host is who writes, rings or is struck.  Counts are of accesses from now on; setting one again replaces it.
 * A posted write may be late, but nothing posted or read afterwards in the same direction overtakes it (PCIe ordering)
 * unless BELL_EARLY says so.  Faults on windows and doorbells act on what the model sees: not on windows that the
 * surroundings have mapped.
 */
enum rig_fault {
	RIG_FAULT_LINK_DOWN,	/* cable out (host ignored) */
	RIG_FAULT_LINK_UP,	/* and in again; trains anew */
	RIG_FAULT_FLAP_AT,	/* the link goes down right before window write number @n of @host (0: the next), then trains anew */
	RIG_FAULT_DROP_WRITES,	/* the next @n window writes of @host vanish */
	RIG_FAULT_DELAY_WRITES,	/* window writes of @host land @n ns later, in order; 0: at once again */
	RIG_FAULT_BELL_DROP,	/* the next @n doorbell writes of @host vanish */
	RIG_FAULT_BELL_DUP,	/* the next @n ring twice: a second interrupt without a bit of its own */
	RIG_FAULT_BELL_EARLY,	/* the next @n overtake window writes that are still delayed */
	RIG_FAULT_PEER_RESET,	/* FLR of @host's port, as when its machine resets */
	RIG_FAULT_CUT_WINDOW,	/* BAR @n of @host leads nowhere, whatever the registers say */
	RIG_FAULT_MEND_WINDOW,	/* and again where they say */
	RIG_FAULT_ENGINE_EAGER,	/* @n 1: @host's copy engine does a copy before the one in front of it, if that has no fence; 0: not */
	RIG_FAULT_ENGINE_HALT,	/* and halts in the middle of its copy number @n (0: the next) */
};
/* Return: 0, -EINVAL. */
int rig_fault(struct rig_pair *pair, enum rig_fault what, int host, uint64_t n);

/*
 * What @host sent over the link, and what interrupted it.  Fences are instructions of a CPU and invisible here.  A store
 * of 64 bytes counts as the accesses it arrives as: eight of 8 bytes through QEMU.  Mapped windows are not seen.
 */
struct rig_count {
	uint64_t write[8];	/* window writes of 1, 2, 4, 8, 16, 32, 64 bytes; [7]: any other length */
	uint64_t write_bytes;
	uint64_t read, read_bytes;	/* window reads */
	uint64_t lost;		/* window writes that did not arrive */
	uint64_t peer_reg_write, peer_reg_read;	/* registers on the other side of the link: peer scratchpads, AMD's peer bank */
	uint64_t bell;		/* doorbell writes */
	uint64_t interrupt;	/* interrupts of this host's port */
	uint64_t reg_read, reg_write;	/* BAR registers of its own */
	uint64_t copy, copy_bytes;	/* done by its copy engine */
};
const struct rig_count *rig_pair_count(const struct rig_pair *pair, int host);

#endif
