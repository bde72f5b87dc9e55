/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ntb.h - what one bridge function can do, whoever made it
 *
 * A family (intel.c, amd.c, ivshmem.c) fills in struct ntbs_ntb in probe() and does its steps behind struct
 * ntbs_ntb_ops; callers use the functions below.  The words:
 *
 *  - a *window* is a piece of a BAR of ours; what is stored there lands in the peer's memory, where the peer has
 *    pointed it.  Its other direction, *inbound*, is the memory of ours that the peer's window of that number leads to:
 *    memory that the caller has made reachable for DMA at an IO address and names with set_window(); or, on a function
 *    that brings its memory along (ivshmem), a fixed piece of a BAR.
 *  - a *doorbell* is a bit; several may share an interrupt vector.  Bells coalesce: they say "look", never how often.
 *  - a *scratchpad* is a 32-bit register that both sides reach.  Own ones are those that the peer writes to.
 *
 * What always holds:
 *  - after probe() nothing moves: windows closed as far as the family allows that, all doorbells masked, link disabled
 *    on our side.  (AMD and gen3 keep an earlier link until link_disable(); their files say so.)
 *  - one thread at a time uses a struct ntbs_ntb; nothing here sleeps but probe() of ivshmem and nothing allocates.
 *  - every function that can fail returns 0 or a negative errno and then has left one sentence in @why.
 *  - registers that read all ones mean that the function is gone (link of the slot down, D3, hot-unplugged): -ENODEV.
 */
#ifndef NTBSOCK_VFIO_NTB_H
#define NTBSOCK_VFIO_NTB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "regs.h"

#define NTBS_NTB_WINDOWS 3
#define NTBS_NTB_WHY 240

/* Which end of the bridge this is.  Sides only break ties: who measures first, which half is whose. */
enum ntbs_ntb_side {
	NTBS_NTB_SIDE_A,	/* Intel USD, AMD primary, ivshmem side 0 */
	NTBS_NTB_SIDE_B,	/* Intel DSD, AMD secondary, ivshmem side 1 */
};

struct ntbs_ntb_window {
	/* outbound */
	unsigned bar;
	uint64_t offset, bytes;		/* within that BAR */
	/* inbound, of what the caller names: address a multiple of @addr_align, size of @size_align */
	uint64_t addr_align, size_align;
	bool size_pow2;			/* and sizes must be powers of two */
	/* inbound, where the function brings the memory: */
	bool in_bar;			/* then nothing is to be translated */
	uint64_t in_offset;		/* within @bar; as many bytes as outbound */
};

/* What an interrupt or a poll has brought, beside doorbell bits. */
#define NTBS_NTB_EVENT_LINK (1ull << 63)	/* ask ntbs_ntb_link_state() */

struct ntbs_ntb_link {
	bool up;			/* both sides enabled and trained; says nothing about programs there */
	unsigned speed, width;		/* PCIe generation and lanes; 0: not known */
};

/* How one bell of the peer's is rung by one store, by whoever has that page of BAR 0 mapped. */
struct ntbs_ntb_bell {
	uint64_t offset;		/* in BAR 0 */
	unsigned bytes;			/* 2 or 4; never more than that at once */
	uint32_t value;
};

struct ntbs_ntb;
struct ntbs_ntb_ops {
	const char *name;
	/* Is this one of ours?  Looks at the ids alone. */
	bool (*match)(const struct ntbs_regs *regs);
	int (*probe)(struct ntbs_ntb *ntb);
	int (*set_window)(struct ntbs_ntb *ntb, unsigned i, uint64_t iova, uint64_t bytes);
	int (*clear_window)(struct ntbs_ntb *ntb, unsigned i);
	int (*link_enable)(struct ntbs_ntb *ntb);
	int (*link_disable)(struct ntbs_ntb *ntb);
	int (*link_state)(struct ntbs_ntb *ntb, struct ntbs_ntb_link *link);
	uint64_t (*irq)(struct ntbs_ntb *ntb, unsigned vector);
	uint64_t (*poll)(struct ntbs_ntb *ntb);
	uint64_t (*db_read)(struct ntbs_ntb *ntb);
	void (*db_ack)(struct ntbs_ntb *ntb, uint64_t bits);
	void (*db_mask)(struct ntbs_ntb *ntb, uint64_t masked);
	void (*db_ring)(struct ntbs_ntb *ntb, uint64_t bits);
	int (*db_register)(struct ntbs_ntb *ntb, uint64_t bit, struct ntbs_ntb_bell *bell);
	uint64_t (*vector_bells)(struct ntbs_ntb *ntb, unsigned vector);
	uint32_t (*spad_read)(struct ntbs_ntb *ntb, unsigned i);
	void (*spad_write)(struct ntbs_ntb *ntb, unsigned i, uint32_t value);
	uint32_t (*peer_spad_read)(struct ntbs_ntb *ntb, unsigned i);
	void (*peer_spad_write)(struct ntbs_ntb *ntb, unsigned i, uint32_t value);
	void (*shutdown)(struct ntbs_ntb *ntb);
};

struct ntbs_ntb {
	/* given by the caller */
	struct ntbs_regs *regs;
	unsigned dead_ms;		/* ivshmem: a peer that shows no life for so long is gone; 0: 500 */
	/* filled in by ntbs_ntb_probe() */
	const struct ntbs_ntb_ops *ops;
	const char *family;		/* "Intel gen3", "Intel Ice Lake", ... */
	const char *topology;		/* as the maker calls it: "B2B USD", "primary", "side 0" */
	enum ntbs_ntb_side side;
	unsigned nr_windows, nr_spads, nr_vectors;
	struct ntbs_ntb_window window[NTBS_NTB_WINDOWS];
	uint64_t bells;			/* doorbells that there are */
	uint64_t masked;		/* those that are masked now */
	unsigned poll_ms;		/* call ntbs_ntb_poll() at least so often; 0: interrupts tell everything */
	char why[NTBS_NTB_WHY];		/* of the last failure */
	/* of the families */
	union {
		struct {
			const struct ntbs_intel_gen *gen;
			bool ice_lake;
			uint16_t link_sta;
		} intel;
		struct {
			bool has_bar1;
			bool lost;		/* a link-down event, and no sign of life since */
			uint32_t peer_info;	/* SIDEINFO of the peer as last read */
			unsigned pcie_cap;
		} amd;
		struct {
			uint32_t beat, peer_beat, quiet;
			uint32_t id;
			bool enabled, peer_alive, lost_side, told_up;
		} ivshmem;
	};
};

/**
 * ntbs_ntb_probe() - Find the family of a function and bring it to its known state
 * @ntb: zeroed
 * @regs: its registers, bus mastering and memory decoding on; kept until ntbs_ntb_shutdown()
 *
 * Return: 0; -ENODEV no family drives it, or it reads all ones; -ENOTSUP a mode, generation or BAR that cannot be used;
 * -EBUSY ivshmem with both sides taken; -EIO a register that does not take what was written.
 */
int ntbs_ntb_probe(struct ntbs_ntb *ntb, struct ntbs_regs *regs);

/* The family that would drive such a function, or NULL: for listings, touches nothing. */
const struct ntbs_ntb_ops *ntbs_ntb_family(const struct ntbs_regs *regs);

/**
 * ntbs_ntb_set_window() - Point the peer's window @i to memory of ours
 * @iova: where the function finds that memory; a multiple of the window's addr_align
 * @bytes: how much of it, from 1 to the window's size; see size_align and size_pow2
 *
 * Reads back every register that it writes.  May be called again with the same values while the window is in use, and
 * must be whenever the peer may have been reset: AMD keeps these registers in the peer's bank.
 * Return: 0; -EINVAL no such window, or bad address or size; -EIO read back something else; -ENOTSUP in_bar.
 */
int ntbs_ntb_set_window(struct ntbs_ntb *ntb, unsigned i, uint64_t iova, uint64_t bytes);

/* Close it: what the peer stores there from now on goes nowhere.  Return: as above. */
int ntbs_ntb_clear_window(struct ntbs_ntb *ntb, unsigned i);

/* Both sides must enable the link; then it takes milliseconds to train. */
int ntbs_ntb_link_enable(struct ntbs_ntb *ntb);
int ntbs_ntb_link_disable(struct ntbs_ntb *ntb);

/* Return: 0 and @link filled in; -ENODEV the function is gone (then link->up is false). */
int ntbs_ntb_link_state(struct ntbs_ntb *ntb, struct ntbs_ntb_link *link);

/**
 * ntbs_ntb_irq() - Vector @vector has fired: take what it stands for
 *
 * Doorbells returned are acknowledged already: whoever serves them looks at memory afterwards, so that a bell that is
 * rung meanwhile fires again.  Masked ones are left alone.
 * Return: doorbell bits, and NTBS_NTB_EVENT_LINK if the link may have changed.
 */
uint64_t ntbs_ntb_irq(struct ntbs_ntb *ntb, unsigned vector);

/* The same without an interrupt: all that is pending.  See @poll_ms. */
uint64_t ntbs_ntb_poll(struct ntbs_ntb *ntb);

/* Pending bells, masked or not; acknowledge some.  A family without such a register has none pending, ever. */
uint64_t ntbs_ntb_db_read(struct ntbs_ntb *ntb);
void ntbs_ntb_db_ack(struct ntbs_ntb *ntb, uint64_t bits);

/* Mask or unmask some of @bells.  Unmasking a pending one fires it. */
void ntbs_ntb_db_mask(struct ntbs_ntb *ntb, uint64_t bits);
void ntbs_ntb_db_unmask(struct ntbs_ntb *ntb, uint64_t bits);

/* Ring the peer's.  Whoever has stored to a window flushes these stores first (barrier.h). */
void ntbs_ntb_db_ring(struct ntbs_ntb *ntb, uint64_t bits);

/* The same by a store of others.  Holds while the link is up.  Return: 0; -EINVAL not one bell that there is; -ENOTCONN. */
int ntbs_ntb_db_register(struct ntbs_ntb *ntb, uint64_t bit, struct ntbs_ntb_bell *bell);

/* Doorbells that fire @vector. */
uint64_t ntbs_ntb_vector_bells(struct ntbs_ntb *ntb, unsigned vector);

/* @i below nr_spads; else reads all ones, writes nothing. */
uint32_t ntbs_ntb_spad_read(struct ntbs_ntb *ntb, unsigned i);
void ntbs_ntb_spad_write(struct ntbs_ntb *ntb, unsigned i, uint32_t value);
uint32_t ntbs_ntb_peer_spad_read(struct ntbs_ntb *ntb, unsigned i);
void ntbs_ntb_peer_spad_write(struct ntbs_ntb *ntb, unsigned i, uint32_t value);

/* Mask everything, close the windows, tell the peer if the family can.  No register is touched afterwards. */
void ntbs_ntb_shutdown(struct ntbs_ntb *ntb);

/* Leave the sentence of a failure.  Return: -@err. */
int ntbs_ntb_fail(struct ntbs_ntb *ntb, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

extern const struct ntbs_ntb_ops ntbs_intel_ops, ntbs_amd_ops, ntbs_ivshmem_ops;

#endif
