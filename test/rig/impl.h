/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * impl.h - inside of the model: what pair.c, cfg.c and the families share
 *
 * A family (ntb_intel.c, ntb_amd.c, ioat.c) is a table of registers and a few functions.  pair.c owns everything that is
 * the same for all: dispatch, trace, the link, windows, faults, counters.  cfg.c owns config space.
 *
 * Register values live as bytes in fn->bar0, little-endian, at their own offsets.  A write changes the stored value by
 * the table's masks first; then the family's wrote() does what else it does.  A read gives the stored value unless the
 * family's get() says otherwise.
 */
#ifndef NTBSOCK_RIG_IMPL_H
#define NTBSOCK_RIG_IMPL_H

#include <string.h>
#include "model.h"

enum {
	CMD_MEMORY = 2, CMD_MASTER = 4,		/* PCI_COMMAND */
	WINDOW_BURST = 4096,			/* longest window access */
};

/* @count registers of @len bytes (1, 2, 4, 8), one behind the other, from @off on. */
struct rig_reg {
	uint32_t off;
	uint8_t len, count;
	uint8_t id;		/* the family's; 0: plain storage */
	uint64_t reset;
	uint64_t rw;		/* bits that keep what is written */
	uint64_t w1c;		/* bits that a 1 clears */
};

struct rig_fn_ops {
	void (*reset)(struct rig_fn *fn);	/* after all registers got their reset values */
	uint64_t (*get)(struct rig_fn *fn, const struct rig_reg *reg, unsigned idx, uint64_t stored);
	/* @written: what was written, 0 in bytes that were not; @old: stored before */
	void (*wrote)(struct rig_fn *fn, const struct rig_reg *reg, unsigned idx, uint64_t written, uint64_t old);
	bool (*wants_link)(const struct rig_fn *fn);
	void (*link_changed)(struct rig_fn *fn, bool up);
	/* where the window of @fn leads, faults, link and bus mastering aside; -ENXIO: nowhere */
	int (*window)(const struct rig_fn *fn, int bar, uint64_t off, uint64_t *addr, uint64_t *len);
	/* registers stay as they are through this reset; NULL: never */
	bool (*keeps)(const struct rig_fn *fn, enum rig_reset how);
	/* work that is due; returns when the next is */
	uint64_t (*run)(struct rig_fn *fn);
};

struct rig_cfg {
	uint8_t val[RIG_CFG_SIZE], reset[RIG_CFG_SIZE];
	uint8_t rw[RIG_CFG_SIZE], w1c[RIG_CFG_SIZE];
	unsigned pm, exp, msix;		/* capabilities */
};

struct rig_fn {
	struct rig_fn_info info;
	char name[24];
	const struct rig_fn_ops *ops;
	const struct rig_reg *regs;
	unsigned nregs;
	struct rig_pair *pair;
	struct rig_cfg cfg;
	uint8_t *bar0;
	bool on;			/* its host has power */
	bool port;			/* of the pair; else a copy engine */
};

/* A window write on its way. */
struct rig_late {
	struct rig_late *next;
	uint64_t due_ns;
	int bar;
	uint64_t off;
	size_t len;
	uint8_t data[];
};

struct rig_side {
	struct rig_fn *port, *ioat;
	struct rig_count count;
	/* faults on what this host sends */
	uint64_t flap_at, drop_writes, delay_ns, bell_drop, bell_dup, bell_early;
	bool flap, cut[RIG_BARS];
	bool engine_eager, engine_halt;
	uint64_t engine_halt_at;
	struct rig_late *late, **late_end;
	unsigned late_count;
};

struct rig_pair {
	struct rig_pair_conf conf;
	struct rig_env env;
	struct rig_side side[2];
	uint64_t seq;
	bool cable, up, training;
	uint64_t train_due;
};

/* pair.c */
uint64_t rig_load(const struct rig_fn *fn, uint64_t off, unsigned len);
void rig_store(struct rig_fn *fn, uint64_t off, unsigned len, uint64_t value);
struct rig_fn *rig_peer(const struct rig_fn *fn);
void rig_event(struct rig_fn *fn, enum rig_event_kind kind, int space, uint64_t off, uint32_t len, uint64_t value, bool unknown, bool lost);
void rig_interrupt(struct rig_fn *fn, unsigned vector);
void rig_link_check(struct rig_pair *pair);	/* a side may want the link now, or no longer */
void rig_window_moved(struct rig_fn *fn);
/* A write over the link that is no window write: lands behind all window writes.  False: it does not arrive. */
bool rig_peer_write(struct rig_fn *fn);
bool rig_peer_read(struct rig_fn *fn);
/* The same for a doorbell; *twice: ring once more. */
bool rig_bell_passes(struct rig_fn *fn, bool *twice);
/* Copy into or out of a window of @fn, at most WINDOW_BURST bytes.  False: did not arrive. */
bool rig_window_write(struct rig_fn *fn, int bar, uint64_t off, const void *data, size_t len);
bool rig_window_read(struct rig_fn *fn, int bar, uint64_t off, void *data, size_t len);
/* What @fn does to its host's memory.  False: nothing is mapped there. */
bool rig_memory_copy(struct rig_fn *fn, uint64_t addr, void *buf, size_t len, bool write);

/* fn.c */
struct rig_fn *rig_fn_new(struct rig_pair *pair, size_t size, const struct rig_fn_info *info, const struct rig_fn_ops *ops,
			  const struct rig_reg *regs, unsigned nregs);
void rig_fn_free(struct rig_fn *fn);
const struct rig_reg *rig_fn_find(const struct rig_fn *fn, uint64_t off, size_t len, unsigned *idx);
void rig_fn_registers_reset(struct rig_fn *fn);

/* cfg.c */
struct rig_cfg_layout {
	unsigned exp, pm, msix;		/* where the capabilities lie */
	uint32_t class_code;
	unsigned speed, width;		/* of the link, for the PCIe capability */
};
void rig_cfg_init(struct rig_fn *fn, const struct rig_cfg_layout *l);
void rig_cfg_reset(struct rig_fn *fn);
uint64_t rig_cfg_load(const struct rig_fn *fn, unsigned off, unsigned len);
void rig_cfg_set(struct rig_fn *fn, unsigned off, unsigned len, uint64_t value, uint64_t rw);	/* value also after reset */
void rig_cfg_write(struct rig_fn *fn, unsigned off, const uint8_t *data, unsigned len);
bool rig_cfg_decodes(const struct rig_fn *fn);	/* BARs answer */
bool rig_cfg_masters(const struct rig_fn *fn);

/* families */
struct rig_fn *rig_intel_new(struct rig_pair *pair, int host);
struct rig_fn *rig_amd_new(struct rig_pair *pair, int host);
struct rig_fn *rig_ioat_new(struct rig_pair *pair, int host);

#endif
