/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ivshmem_regs.h - QEMU's ivshmem-doorbell device, and the page in its memory that makes a bridge of it
 *
 * Source of the registers: QEMU, docs/specs/ivshmem-spec.rst.  The page is ours.
 *
 * BAR 2 is one piece of memory that several guests share.  Its first page is struct ntbs_ivshmem_shm.  The rest is cut
 * in two: what side A receives lies in the lower half (behind that page), what side B receives in the upper one, at the
 * same distance from its start, so that both windows have the same size.
 *
 * All words are 32 bits, written whole, little-endian.  Any guest can write anything here: what is read is checked, and
 * used only as a number of a peer to ring and as values of scratchpads.
 */
#ifndef NTBSOCK_VFIO_IVSHMEM_REGS_H
#define NTBSOCK_VFIO_IVSHMEM_REGS_H

#include <assert.h>
#include <stdalign.h>
#include <stdint.h>

#define IVSHMEM_VENDOR 0x1af4
#define IVSHMEM_DEVICE 0x1110
#define IVSHMEM_IVPOSITION 0x08		/* read: our number at the server */
#define IVSHMEM_DOORBELL 0x0c		/* write: number of the peer << 16 | vector */
#define IVSHMEM_BAR0_MIN 0x10
#define IVSHMEM_ID_MAX 0xffff
#define IVSHMEM_MEMORY_BAR 2
#define IVSHMEM_MEMORY_MIN (64u << 10)
#define IVSHMEM_NR_SPADS 16
#define IVSHMEM_PAGE 4096

/* One side's claim.  Line by line one writer: its owner; spad[] the other side. */
struct ntbs_ivshmem_side {
	alignas(64) uint32_t owner;	/* number at the server + 1; 0: nobody has ever claimed it */
	uint32_t beat;			/* counted up by the owner while it lives; a claim that stands still is nobody's */
	uint32_t link;			/* 1: the owner wants the link */
	alignas(64) uint32_t spad[IVSHMEM_NR_SPADS];	/* scratchpads of this side: the other one writes them */
};

struct ntbs_ivshmem_shm {
	uint32_t magic, version;	/* whoever finds 0 here writes them: all write the same */
	struct ntbs_ivshmem_side side[2];
};
#define IVSHMEM_MAGIC 0x4e425653u	/* "SVBN" */
#define IVSHMEM_VERSION 1
static_assert(sizeof(struct ntbs_ivshmem_shm) <= IVSHMEM_PAGE, "the header is one page");

/* A side is taken for alive if its beat moves within this time; its owner beats every poll. */
#define IVSHMEM_POLL_MS 10
#define IVSHMEM_DEAD_POLLS 50

#endif
