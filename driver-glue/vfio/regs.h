/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * regs.h - the registers of one PCI function, wherever they are
 *
 * The drivers beside this file talk to a function through these calls alone, so that the same steps run on real
 * registers (vfio.c) and on a model within the test program (test/unit/ntb_t.h).  A call is one access of exactly the
 * size that its name or @len says, in program order with all others of the function; 8 bytes are one access, not two.
 *
 * Nothing here fails loudly: what is not there reads all ones, and writes to it vanish, as on the bus.  A driver that
 * must know reads back.  Memory windows are not reached this way: who has mapped them stores to them.
 */
#ifndef NTBSOCK_VFIO_REGS_H
#define NTBSOCK_VFIO_REGS_H

#include <stdbool.h>
#include <stdint.h>

#define NTBS_PCI_BARS 6

struct ntbs_bar {
	uint64_t bytes;		/* 0: there is none, or it is the upper half of the one before */
	uint64_t addr;		/* as the CPU sees it; translation limits of Intel's are counted from here */
	bool is_64bit, prefetchable, is_io;
};

struct ntbs_regs;
struct ntbs_regs_ops {
	uint64_t (*cfg_read)(struct ntbs_regs *regs, unsigned offset, unsigned len);
	void (*cfg_write)(struct ntbs_regs *regs, unsigned offset, unsigned len, uint64_t value);
	uint64_t (*bar_read)(struct ntbs_regs *regs, unsigned bar, uint64_t offset, unsigned len);
	void (*bar_write)(struct ntbs_regs *regs, unsigned bar, uint64_t offset, unsigned len, uint64_t value);
	void (*pause_ms)(struct ntbs_regs *regs, unsigned ms);	/* let the function, or its peer, get on */
};

struct ntbs_regs {
	const struct ntbs_regs_ops *ops;
	uint16_t vendor, device;
	uint8_t revision;
	struct ntbs_bar bar[NTBS_PCI_BARS];
	unsigned nr_vectors;	/* MSI-X table entries; 0: no MSI-X */
};

static inline uint64_t ntbs_cfg_read(struct ntbs_regs *regs, unsigned offset, unsigned len)
{
	return regs->ops->cfg_read(regs, offset, len);
}

static inline void ntbs_cfg_write(struct ntbs_regs *regs, unsigned offset, unsigned len, uint64_t value)
{
	regs->ops->cfg_write(regs, offset, len, value);
}

/* All drivers keep their registers in BAR 0. */
static inline uint8_t ntbs_read8(struct ntbs_regs *regs, uint64_t offset)
{
	return regs->ops->bar_read(regs, 0, offset, 1);
}

static inline uint16_t ntbs_read16(struct ntbs_regs *regs, uint64_t offset)
{
	return regs->ops->bar_read(regs, 0, offset, 2);
}

static inline uint32_t ntbs_read32(struct ntbs_regs *regs, uint64_t offset)
{
	return regs->ops->bar_read(regs, 0, offset, 4);
}

static inline uint64_t ntbs_read64(struct ntbs_regs *regs, uint64_t offset)
{
	return regs->ops->bar_read(regs, 0, offset, 8);
}

static inline void ntbs_write8(struct ntbs_regs *regs, uint64_t offset, uint8_t value)
{
	regs->ops->bar_write(regs, 0, offset, 1, value);
}

static inline void ntbs_write16(struct ntbs_regs *regs, uint64_t offset, uint16_t value)
{
	regs->ops->bar_write(regs, 0, offset, 2, value);
}

static inline void ntbs_write32(struct ntbs_regs *regs, uint64_t offset, uint32_t value)
{
	regs->ops->bar_write(regs, 0, offset, 4, value);
}

static inline void ntbs_write64(struct ntbs_regs *regs, uint64_t offset, uint64_t value)
{
	regs->ops->bar_write(regs, 0, offset, 8, value);
}

/**
 * ntbs_cfg_find_cap() - Offset of a PCI capability in configuration space
 * @id: as in PCI 3.0, appendix H (0x05 MSI, 0x10 PCI Express, 0x11 MSI-X)
 *
 * Return: the offset, or 0.  A list that is broken or loops counts as not having it.
 */
unsigned ntbs_cfg_find_cap(struct ntbs_regs *regs, uint8_t id);

#endif
