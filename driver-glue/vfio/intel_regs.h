/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * intel_regs.h - registers of the Intel bridges, generations 3 and 4 and later
 *
 * Names are the manual's.  Source: "Intel Xeon Processor Scalable Family Datasheet, Volume Two: Registers" (gen3), and
 * for what no public datasheet has (gen4 and later) the Linux driver, drivers/ntb/hw/intel/ntb_hw_gen3.h and
 * ntb_hw_gen4.h of 6.1 to 7.3: offsets and bit positions, checked by what that driver does on the model in test/rig.
 * Offsets are into BAR 0 unless the name says CFG.  Nothing here was read from hardware by us.
 */
#ifndef NTBSOCK_VFIO_INTEL_REGS_H
#define NTBSOCK_VFIO_INTEL_REGS_H

#define INTEL_VENDOR 0x8086
#define INTEL_ID_SKX 0x201c	/* gen3: Skylake, Cascade Lake */
#define INTEL_ID_ICX 0x347e	/* gen4 Ice Lake up to revision 0x0f; above: gen5, Sapphire and Emerald Rapids */
#define INTEL_ID_GNR 0x0db4	/* gen5: Granite Rapids */
#define INTEL_ID_DMR 0x7868	/* gen6: Diamond Rapids */
#define INTEL_ICX_LAST_REVISION 0x0f

/* Generation 1: Jasper Forest to Broadwell.  Errata leave one window and unsafe doorbells; not driven. */
#define INTEL_IDS_GEN1                                                                             \
	0x3725, 0x3726, 0x3727, 0x3c0d, 0x3c0e, 0x3c0f, 0x0e0d, 0x0e0e, 0x0e0f, 0x2f0d, 0x2f0e,    \
		0x2f0f, 0x6f0d, 0x6f0e, 0x6f0f

/* Both generations */
#define INTEL_NTBCNTL 0x0000		/* 32 bits */
#define INTEL_XBASE(i) (0x0010 + 16 * (i))	/* IMBAR1 or IM23, IMBAR2 or IM45: where the peer's window i leads to */
#define INTEL_XLMT(i) (0x0018 + 16 * (i))	/* its end, counted from the base address of *our* BAR 2 or 4 */
#define INTEL_INT_STATUS 0x0040		/* 64 bits, write 1 to clear */
#define INTEL_INT_DISABLE 0x0048
#define INTEL_SPAD(i) (0x0080 + 4 * (i))
#define INTEL_NR_SPADS 16
#define INTEL_DOORBELL(bit) (0x0100 + 4 * (bit))	/* one register a bell; write 1 */
#define INTEL_NR_VECTORS 33		/* one a doorbell, one for the link */
#define INTEL_NR_WINDOWS 2
#define INTEL_WINDOW_BAR(i) (2 + 2 * (i))
/* A limit below every base: closed.  What the Linux driver parks there. */
#define INTEL_XLMT_PARK(i) (0x2000000000000000ull << (i))

/* NTBCNTL, gen3 */
#define INTEL_CNTL_CFG_LOCK (1u << 0)
#define INTEL_CNTL_LINK_DISABLE (1u << 1)
/* Both directions snooped, BAR 2 (bits 2, 4) and BAR 4 (6, 8): what lands is coherent with our caches. */
#define INTEL_CNTL_SNOOP 0x154u

/* Generation 3 */
#define INTEL3_INTVEC(i) (0x00d0 + (i))
#define INTEL3_PEER_SPAD(i) (0x0180 + 4 * (i))
#define INTEL3_EMBAR_XLMT(i) (0x4018 + 16 * (i))	/* the other side's limit, counted from ... */
#define INTEL3_EMBAR_BASE(i) (0x4518 + 8 * (i))	/* ... the base that it has for that BAR; low 4 bits are flags */
#define INTEL3_SPCICMD 0x4504		/* 16 bits: the secondary side's COMMAND */
#define INTEL3_SPCICMD_ON 0x0006	/* memory decoding, bus mastering */
#define INTEL3_CFG_PPD 0xd4		/* 8 bits */
#define INTEL3_PPD_MASK 0x13
#define INTEL3_PPD_USD 0x01		/* back to back, upstream device */
#define INTEL3_PPD_DSD 0x11
#define INTEL3_CFG_LNKSTS 0x1a2		/* 16 bits */
#define INTEL3_BELLS 0x7fffffffull	/* 31 and 32 are both told by the link, an erratum */
#define INTEL3_LINK_BITS 0x180000000ull
#define INTEL3_LINK_VECTOR 31
#define INTEL3_BAR0_MIN 0x5000

/* Generation 4 and later */
#define INTEL4_INTVEC(i) (0x0050 + (i))
#define INTEL4_XBASEIDX(i) (0x0074 + 2 * (i))	/* 16 bits, Ice Lake alone: log2 of the window's size */
#define INTEL4_XBASEIDX_NONE 0xffff	/* what the Linux driver leaves there for a window of no size */
#define INTEL4_LTR_SWSEL 0x30ec		/* 8 bits: which latency tolerance counts */
#define INTEL4_LTR_SWSEL_ACTIVE 0
#define INTEL4_LTR_SWSEL_IDLE 1
#define INTEL4_LTR_ACTIVE 0x30f0
#define INTEL4_LTR_ACTIVE_VALUE 0x88008800u	/* latency tolerances in 1 us and 26 us that the Linux driver asks for */
#define INTEL4_LTR_IDLE 0x30f4
#define INTEL4_LTR_IDLE_VALUE 0x8a588a58u
#define INTEL4_PEER_SPAD(i) (0x8080 + 4 * (i))
#define INTEL4_LINK_CTRL 0xb050		/* 16 bits */
#define INTEL4_LINK_CTRL_DISABLE (1u << 4)
#define INTEL4_LINK_STATUS 0xb052	/* 16 bits, write 1 to clear some */
#define INTEL4_SLOTSTS 0xb05a		/* 16 bits */
#define INTEL4_SLOTSTS_DLLSC (1u << 8)	/* data link layer state changed; write 1 to clear */
#define INTEL4_PPD0 0xb0d4
#define INTEL6_PPD0 0xf0d4
#define INTEL4_PPD0_LINK_TRAIN (1u << 3)
#define INTEL4_PPD1 0xb4c0
#define INTEL4_PPD1_MASK_ICX 0x1300
#define INTEL4_PPD1_USD_ICX 0x0200
#define INTEL4_PPD1_DSD_ICX 0x1200
#define INTEL4_PPD1_MASK_SPR 0x4700
#define INTEL4_PPD1_USD_SPR 0x0200
#define INTEL4_PPD1_DSD_SPR 0x4200
#define INTEL4_BELLS 0xffffffffull
#define INTEL4_LINK_BITS 0x100000000ull
#define INTEL4_LINK_VECTOR 32
#define INTEL4_BAR0_MIN 0xf100

/* Link status of both: PCI Express Base 3.0, 7.8.8 */
#define INTEL_LNKSTS_ACTIVE (1u << 13)
#define INTEL_LNKSTS_SPEED(sta) ((sta) & 0xf)
#define INTEL_LNKSTS_WIDTH(sta) ((sta) >> 4 & 0x3f)

#endif
