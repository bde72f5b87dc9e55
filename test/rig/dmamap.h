/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dmamap.h - which bus addresses of a guest are which bytes of its memory
 *
 * A table sorted by address, of ranges that QEMU has announced with DMA_MAP.  Each RAM file is mapped once, whole, however
 * many ranges of it are announced (page by page under an IOMMU).  Ranges without a file are known but have no bytes
 * here: ROM, and BARs of other devices.
 *
 * A range lies inside of its file when it is added; the file is not expected to shrink (memory-backend-memfd does not).
 */
#ifndef NTBSOCK_RIG_DMAMAP_H
#define NTBSOCK_RIG_DMAMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { DMAMAP_FILES = 16, DMAMAP_RANGES = 1 << 20 };

struct dmamap_file {
	dev_t dev;
	ino_t ino;
	int fd;
	uint8_t *mem;
	uint64_t size;
};

struct dmamap_range {
	uint64_t addr, size;
	int file;		/* -1: no bytes */
	uint64_t off;
	bool writable;
};

struct dmamap {
	struct dmamap_range *range;
	size_t count, room;
	struct dmamap_file file[DMAMAP_FILES];
	int files;
};

/*
 * Adds a range.  @fd is -1 or a file, which is taken over or closed.  0; -EINVAL (empty, wraps, not inside of the file),
 * -EEXIST (overlaps another that is not the very same), -ENOSPC, -ENOMEM, or what fstat() and mmap() say.
 */
int dmamap_add(struct dmamap *m, uint64_t addr, uint64_t size, int fd, uint64_t off, bool writable);
/* Removes the ranges inside of addr..addr+size; how many, or -EINVAL if one lies across an end of it. */
int dmamap_remove(struct dmamap *m, uint64_t addr, uint64_t size);
void dmamap_clear(struct dmamap *m);
/* The range that @addr is in, or NULL. */
const struct dmamap_range *dmamap_find(const struct dmamap *m, uint64_t addr);
/* Bytes from @addr on; sets *len to how many, at most what it says on entry.  NULL: none, or not writable. */
void *dmamap_memory(const struct dmamap *m, uint64_t addr, size_t *len, bool write);

#endif
