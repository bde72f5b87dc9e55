// SPDX-License-Identifier: BSD-2-Clause
/* ioat.c - see ioat.h */
#include "ioat.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "barrier.h"

#define START_MS 200
#define COUNT_MASK (NTBS_IOAT_RING - 1)

static int __attribute__((format(printf, 3, 4))) fail(struct ntbs_ioat *io, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(io->why, sizeof(io->why), fmt, ap);
	va_end(ap);
	return -err;
}

static bool is_known(const struct ntbs_regs *regs)
{
	return regs->vendor == IOAT_VENDOR &&
	       (regs->device == IOAT_ID_SKX || regs->device == IOAT_ID_ICX ||
		(regs->device >= IOAT_ID_BDX && regs->device <= IOAT_ID_BDX_LAST));
}

int ntbs_ioat_probe(struct ntbs_ioat *io, struct ntbs_regs *regs)
{
	unsigned cap, control;
	uint8_t version, log;

	memset(io, 0, sizeof(*io));
	io->regs = regs;
	if (!is_known(regs))
		return fail(io, ENODEV, "%04x:%04x is no I/OAT engine that is known here", regs->vendor, regs->device);
	version = ntbs_read8(regs, IOAT_CBVER);
	if (version == 0xff)
		return fail(io, ENODEV, "its registers read all ones: powered down or unplugged");
	if (version >> 4 != IOAT_CBVER_MAJOR)
		return fail(io, ENOTSUP, "I/OAT version %u.%u, not 3", version >> 4, version & 15);
	io->version = version;
	io->channels = ntbs_read8(regs, IOAT_CHANCNT) & 0x1f;
	if (!io->channels || regs->bar[0].bytes < IOAT_CHANNEL(1))
		return fail(io, ENODEV, "it has no channel");
	log = ntbs_read8(regs, IOAT_XFERCAP) & 0x1f;
	if (log < 12)
		return fail(io, ENOTSUP, "it copies at most 2^%u bytes at once, less than a page", log);
	io->copy_max = 1u << log;
	io->at = IOAT_CHANNEL(0);
	cap = ntbs_cfg_find_cap(regs, 0x10);
	if (cap) {
		control = ntbs_cfg_read(regs, cap + PCIE_DEVCTL, 2);
		if (control & (PCIE_DEVCTL_RELAX | PCIE_DEVCTL_NO_SNOOP))
			ntbs_cfg_write(regs, cap + PCIE_DEVCTL, 2, control & ~(PCIE_DEVCTL_RELAX | PCIE_DEVCTL_NO_SNOOP));
		if (ntbs_cfg_read(regs, cap + PCIE_DEVCTL, 2) & PCIE_DEVCTL_RELAX)
			return fail(io, ENOTSUP, "relaxed ordering cannot be turned off: a slot could overtake its payload");
	}
	return 0;
}

static uint64_t addr_of(const struct ntbs_ioat *io, uint32_t nr)
{
	return io->iova + 64ull * (nr & COUNT_MASK);
}

static void write_addr(struct ntbs_ioat *io, unsigned reg, uint64_t addr)
{
	ntbs_write32(io->regs, io->at + reg, (uint32_t)addr);
	ntbs_write32(io->regs, io->at + reg + 4, addr >> 32);
}

static void put(struct ntbs_ioat *io, uint64_t src, uint64_t dst, uint32_t bytes, uint32_t ctl)
{
	struct ntbs_ioat_desc *d = &io->ring[io->head & COUNT_MASK];

	d->size = bytes;
	d->ctl = ctl;
	d->src = src;
	d->dst = dst;
	io->head++;
}

/* Errors are what the reset leaves; the channel halts and stays so until CHAINADDR and DMACOUNT are written. */
static int reset(struct ntbs_ioat *io)
{
	unsigned ms = 0;

	ntbs_write8(io->regs, io->at + IOAT_CHANCMD, IOAT_CHANCMD_SUSPEND);
	while (ms < START_MS && (ntbs_read64(io->regs, io->at + IOAT_CHANSTS) & IOAT_CHANSTS_STATE) == IOAT_CHANSTS_ACTIVE) {
		io->regs->ops->pause_ms(io->regs, 1);
		ms++;
	}
	ntbs_write32(io->regs, io->at + IOAT_CHANERR, ntbs_read32(io->regs, io->at + IOAT_CHANERR));
	ntbs_write8(io->regs, io->at + IOAT_CHANCMD, IOAT_CHANCMD_RESET);
	for (ms = 0; ntbs_read8(io->regs, io->at + IOAT_CHANCMD) & IOAT_CHANCMD_RESET; ms++) {
		if (ntbs_read32(io->regs, io->at + IOAT_CHANERR) == UINT32_MAX)
			return fail(io, ENODEV, "its registers read all ones: powered down or unplugged");
		if (ms == START_MS)
			return fail(io, EIO, "a reset of its channel does not end");
		io->regs->ops->pause_ms(io->regs, 1);
	}
	return 0;
}

int ntbs_ioat_start(struct ntbs_ioat *io, void *memory, uint64_t iova)
{
	int ret = reset(io);

	if (ret)
		return ret;
	memset(memory, 0, NTBS_IOAT_MEMORY);
	io->ring = memory;
	io->completion = (const volatile uint64_t *)((char *)memory + NTBS_IOAT_RING * 64u);
	io->iova = iova;
	io->head = io->kicked = io->done = 0;
	for (uint32_t i = 0; i < NTBS_IOAT_RING; i++)
		io->ring[i].next = addr_of(io, i + 1);
	ntbs_write8(io->regs, IOAT_INTRCTRL, IOAT_INTRCTRL_MASTER | IOAT_INTRCTRL_MSIX);
	ntbs_write16(io->regs, io->at + IOAT_CHANCTRL, IOAT_CHANCTRL_RUN);
	write_addr(io, IOAT_CHANCMP, iova + NTBS_IOAT_RING * 64ull);
	write_addr(io, IOAT_CHAINADDR, iova);
	put(io, 0, 0, 1, IOAT_CTL_NULL | IOAT_CTL_WRITE_BACK);	/* also the last done, from which the first copy is counted */
	ntbs_ioat_kick(io);
	for (unsigned ms = 0; ms < START_MS && io->done != io->head; ms++) {
		ret = ntbs_ioat_look(io);
		if (ret)
			return ret;
		if (io->done != io->head)
			io->regs->ops->pause_ms(io->regs, 1);
	}
	return io->done == io->head ? 0 : fail(io, EIO, "its channel does nothing");
}

void ntbs_ioat_stop(struct ntbs_ioat *io)
{
	reset(io);
	io->ring = NULL;
}

unsigned ntbs_ioat_need(const struct ntbs_ioat *io, uint32_t bytes)
{
	return (unsigned)(((uint64_t)bytes + io->copy_max - 1) / io->copy_max);
}

/* One stays free: a ring that is full would look like one that is done. */
unsigned ntbs_ioat_room(const struct ntbs_ioat *io)
{
	return NTBS_IOAT_RING - 1 - (io->head - io->done);
}

void ntbs_ioat_copy(struct ntbs_ioat *io, uint64_t src, uint64_t dst, uint32_t bytes, uint32_t ctl)
{
	while (bytes > io->copy_max) {
		put(io, src, dst, io->copy_max, ctl & IOAT_CTL_FENCE);
		src += io->copy_max;
		dst += io->copy_max;
		bytes -= io->copy_max;
	}
	put(io, src, dst, bytes, ctl);
}

void ntbs_ioat_kick(struct ntbs_ioat *io)
{
	if (io->kicked == io->head)
		return;
	ntbs_store_flush();	/* descriptors, and what they copy, before the engine is told */
	ntbs_write16(io->regs, io->at + IOAT_DMACOUNT, (uint16_t)io->head);
	io->kicked = io->head;
}

void ntbs_ioat_rearm(struct ntbs_ioat *io)
{
	ntbs_write16(io->regs, io->at + IOAT_CHANCTRL, IOAT_CHANCTRL_RUN);
}

/* Where the last one done is: one of ours that was not done yet, or nothing new. */
static void move_to(struct ntbs_ioat *io, uint64_t addr)
{
	uint64_t off = addr - io->iova;
	uint32_t step;

	if (off >= NTBS_IOAT_RING * 64ull || off % 64)
		return;
	step = ((uint32_t)(off / 64) + 1 - io->done) & COUNT_MASK;
	if (step <= io->kicked - io->done)
		io->done += step;
}

/* The registers are asked only where the page has nothing new to say: reading them stops the CPU for a microsecond. */
int ntbs_ioat_look(struct ntbs_ioat *io)
{
	uint64_t status = *io->completion;
	uint32_t before = io->done, error;

	ntbs_from_peer_barrier();
	move_to(io, status & IOAT_CHANSTS_ADDR);
	if (io->done == io->kicked || (io->done != before && (status & IOAT_CHANSTS_STATE) != IOAT_CHANSTS_HALTED))
		return 0;
	status = ntbs_read64(io->regs, io->at + IOAT_CHANSTS);
	if (status == UINT64_MAX)
		return fail(io, ENODEV, "its registers read all ones: powered down or unplugged");
	if ((status & IOAT_CHANSTS_STATE) != IOAT_CHANSTS_HALTED)
		return 0;
	move_to(io, status & IOAT_CHANSTS_ADDR);
	error = ntbs_read32(io->regs, io->at + IOAT_CHANERR);
	return fail(io, EIO, "its channel has halted with CHANERR %#x after %u descriptors", error, io->done);
}
