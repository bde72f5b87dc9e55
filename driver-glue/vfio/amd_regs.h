/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * amd_regs.h - registers of the AMD bridges (Zen), and of Hygon's
 *
 * Source: the Linux driver, drivers/ntb/hw/amd/ntb_hw_amd.h of 6.1 to 7.x (AMD publishes no manual): offsets and bit
 * positions, checked by what that driver does on the model in test/rig.  Offsets are into BAR 0.  Nothing here was read
 * from hardware by us.
 */
#ifndef NTBSOCK_VFIO_AMD_REGS_H
#define NTBSOCK_VFIO_AMD_REGS_H

#define AMD_VENDOR 0x1022
#define AMD_IDS 0x148b, 0x14c0, 0x14c3, 0x155a, 0x17d4, 0x17d7
#define AMD_ID_ZEN1 0x145b		/* has a third, 32-bit window in BAR 1 */
#define HYGON_VENDOR 0x1d94		/* 145b as well */

#define AMD_BAR0_MIN 0x1000
#define AMD_NR_VECTORS 24		/* 0 to 15 doorbells, 16 to 23 events */
#define AMD_EVENT_VECTOR 16
#define AMD_PEER 0x400			/* the peer's bank, as seen from here */

/* Both sides see these */
#define AMD_CNTL 0x0200
#define AMD_CNTL_REG_CTL 0x00300000u	/* bits 20 and 21: set by the Linux driver while it is there */
#define AMD_SPAD(i) (0x0210 + 4 * (i))	/* one bank of 16: the first half is read by the primary side */
#define AMD_NR_SPADS 8			/* for each side */

/* A bank for each side */
#define AMD_SIDEINFO 0x0408
#define AMD_SIDE_SECONDARY (1u << 0)
#define AMD_SIDE_READY (1u << 1)
#define AMD_LMT1 0x0414			/* 32 bits */
#define AMD_LMT23 0x0418		/* 64 bits; a size, not an address */
#define AMD_LMT45 0x0420
#define AMD_XLAT1 0x0430		/* 64 bits */
#define AMD_XLAT23 0x0438
#define AMD_XLAT45 0x0440
#define AMD_DBREQ 0x0454		/* 16 bits: ring the peer's */
#define AMD_DBMASK 0x045c		/* 16 bits */
#define AMD_DBSTAT 0x0460		/* 16 bits, write 1 to clear */
#define AMD_BELLS 0x7fffull		/* bit 15: "my driver is going away" */
#define AMD_BELL_LEAVING 0x8000u
#define AMD_INTMASK 0x0470
#define AMD_INTSTAT 0x0474		/* write 1 to clear */
#define AMD_EVENT_FLUSH (1u << 0)
#define AMD_EVENT_RESET (1u << 1)
#define AMD_EVENT_D3 (1u << 2)
#define AMD_EVENT_PMETO (1u << 3)
#define AMD_EVENT_D0 (1u << 4)
#define AMD_EVENT_LINK_UP (1u << 5)
#define AMD_EVENT_LINK_DOWN (1u << 6)
#define AMD_EVENTS 0x7fu
#define AMD_EVENTS_NOT_LINK 0x1fu	/* masked from probe to link_enable() */
#define AMD_SMUACK 0x04a0		/* tell the management unit that an event was seen */

#endif
