/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ioat_regs.h - registers and descriptors of the copy engines in Intel's server processors (I/OAT, "Crystal Beach 3")
 *
 * Names are the manual's.  Source: "Intel Xeon Processor E5 v4 Product Family Datasheet, Volume Two: Registers", Intel
 * QuickData Technology; descriptors and what that lacks: the Linux driver, drivers/dma/ioat/registers.h and hw.h of 6.1.
 * Checked by what that driver does on the model in test/rig.  Nothing here was read from hardware by us.
 */
#ifndef NTBSOCK_VFIO_IOAT_REGS_H
#define NTBSOCK_VFIO_IOAT_REGS_H

#include <assert.h>
#include <stdint.h>

#define IOAT_VENDOR 0x8086
#define IOAT_ID_SKX 0x2021	/* Skylake, Cascade Lake */
#define IOAT_ID_ICX 0x0b00	/* Ice Lake */
#define IOAT_ID_BDX 0x6f20	/* Broadwell: 6f20 to 6f2f */
#define IOAT_ID_BDX_LAST 0x6f2f

/* The function's, in BAR 0 */
#define IOAT_CHANCNT 0x00	/* 8 bits: channels in the low five */
#define IOAT_XFERCAP 0x01	/* 8 bits: log2 of the most that one descriptor copies, in the low five */
#define IOAT_INTRCTRL 0x03	/* 8 bits */
#define IOAT_INTRCTRL_MASTER 0x01
#define IOAT_INTRCTRL_MSIX 0x08	/* each channel has its own vector */
#define IOAT_CBVER 0x08		/* 8 bits: major and minor, four each */
#define IOAT_CBVER_MAJOR 3

/* A channel's */
#define IOAT_CHANNEL(n) (0x80u * ((n) + 1))
#define IOAT_CHANCTRL 0x00	/* 16 bits */
#define IOAT_CHANCTRL_REARM 0x0001	/* for one interrupt */
#define IOAT_CHANCTRL_ERR_COMPLETION 0x0004
#define IOAT_CHANCTRL_ERR_ABORT 0x0008
#define IOAT_CHANCTRL_ERR_INT 0x0010
#define IOAT_CHANCTRL_RUN 0x001d	/* all of them */
#define IOAT_CHANCMD 0x04	/* 8 bits */
#define IOAT_CHANCMD_SUSPEND 0x04
#define IOAT_CHANCMD_RESET 0x20
#define IOAT_DMACOUNT 0x06	/* 16 bits: descriptors to be done since CHAINADDR was written, comes round */
#define IOAT_CHANSTS 0x08	/* 64 bits: state, and address of the descriptor that was done last */
#define IOAT_CHANSTS_STATE 0x7ull
#define IOAT_CHANSTS_ACTIVE 0
#define IOAT_CHANSTS_DONE 1
#define IOAT_CHANSTS_SUSPENDED 2
#define IOAT_CHANSTS_HALTED 3
#define IOAT_CHANSTS_ADDR (~0x3full)
#define IOAT_CHAINADDR 0x10	/* 64 bits, written in halves, the lower first */
#define IOAT_CHANCMP 0x18	/* 64 bits: where CHANSTS is written to; a multiple of 8 */
#define IOAT_CHANERR 0x28	/* 32 bits, write 1 to clear */

/* A descriptor, 64 bytes, at a multiple of that */
#define IOAT_CTL_INT (1u << 0)
#define IOAT_CTL_WRITE_BACK (1u << 3)	/* write CHANSTS to CHANCMP when it is done */
#define IOAT_CTL_FENCE (1u << 4)	/* done before the next one begins */
#define IOAT_CTL_NULL (1u << 5)		/* nothing to copy */
/* bits 24 to 31: operation, 0 is a copy */
struct ntbs_ioat_desc {
	uint32_t size, ctl;
	uint64_t src, dst, next;
	uint64_t rsvd[4];
};
static_assert(sizeof(struct ntbs_ioat_desc) == 64, "the engine's");

/* PCI Express 3.0, 7.8.4: what a copy engine may set in its writes, and must not, for they are to stay in order */
#define PCIE_DEVCTL 8
#define PCIE_DEVCTL_RELAX (1u << 4)
#define PCIE_DEVCTL_NO_SNOOP (1u << 11)

#endif
