/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vfio.h - one PCI function in the hands of this process: registers, windows, interrupts, memory open to it
 *
 * Two ways lead there, with the same result.  The group's file (/dev/vfio/N, a container with TYPE1v2 mappings) is on
 * every kernel.  From Linux 6.6 on, where it is configured, a function has a file of its own (/dev/vfio/devices/vfioN)
 * and mappings are iommufd's; that one is taken where it is, but by a copy engine (ioat_dma.h).
 *
 * Trust.  The device's file gives whoever holds it all of the function: every register and window, its configuration, its
 * interrupts, its reset.  sysfs has a file for each BAR, which gives that BAR and nothing else; so BARs are mapped from
 * there where the kernel allows it, and whoever else is to store to a window gets that file (struct ntbs_vfio_map).  No
 * kernel to date has a descriptor for less than a BAR.  The function itself writes to memory that is mapped for it and to
 * none other, whoever drives it (the IOMMU).
 *
 * Memory types.  VFIO maps every BAR uncached.  Stores to a window want write-combining, which there are three ways to:
 *  - MOVDIR64B, where the CPU has it: 64 bytes at once whatever the mapping is (Intel SDM 2B, MOVDIR64B);
 *  - the file resourceN_wc that sysfs has for prefetchable BARs.  It can be mapped only as long as nobody, VFIO
 *    included, has asked for that BAR, and it is not taken away when the function is reset: after one its contents are
 *    all ones and stores vanish, until memory decoding is on again;
 *  - none: stores of 8 bytes, each a transaction.  Works, slowly; ntbs_vfio_map_bar() says so.
 * What a mapping became is read from the kernel's list of memory types where that can be read (root, debugfs);
 * otherwise it is what was asked for, and "not verified" is said.
 *
 * One thread at a time.  A function that fails returns a negative errno and leaves a sentence in @why.
 */
#ifndef NTBSOCK_VFIO_VFIO_H
#define NTBSOCK_VFIO_VFIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "pci.h"
#include "port.h"
#include "regs.h"

#define NTBS_VFIO_VECTORS 64
#define NTBS_VFIO_WHY 240

/* How a window came to be mapped. */
enum ntbs_vfio_way {
	NTBS_VFIO_UNMAPPED,
	NTBS_VFIO_UNCACHED,	/* by VFIO */
	NTBS_VFIO_SYSFS_WC,	/* resourceN_wc */
	NTBS_VFIO_SYSFS_UC,	/* resourceN */
};

struct ntbs_vfio_map {
	void *addr;		/* NULL: not mapped */
	size_t bytes;
	enum ntbs_vfio_way way;
	enum ntbs_mem mem;	/* type of the mapping: WC or UC */
	bool verified;		/* by the kernel's own list */
	int fd;			/* maps the same for another process: a file of sysfs, or the device's; not the caller's to close */
	uint64_t fd_offset;	/* of the BAR in it */
	char said[120];		/* one sentence for people */
};

struct ntbs_vfio {
	struct ntbs_regs regs;		/* first: the register calls get this */
	const struct ntbs_pci_where *where;
	char address[16];
	int numa_node;			/* -1: not known */
	int device, group, container;	/* descriptors; by_cdev: container is the iommufd, no group */
	bool by_cdev;
	uint32_t ioas;
	uint64_t config_at, region_at[NTBS_PCI_BARS];	/* offsets in the device's file */
	uint32_t region_flags[NTBS_PCI_BARS];
	uint32_t device_flags;
	struct ntbs_vfio_map map[NTBS_PCI_BARS];
	unsigned nr_vectors;
	int vector_fd[NTBS_VFIO_VECTORS];	/* eventfds, nonblocking */
	int error_fd, request_fd;		/* uncorrectable error; "please let go" (hot-unplug).  -1: not offered */
	char why[NTBS_VFIO_WHY];
};

/**
 * ntbs_vfio_open() - Take a function that is bound to vfio-pci
 * @v: to fill in
 * @address: "0000:17:00.0"
 * @where: NULL: the running system (pci.h)
 *
 * On return @v->regs is complete and usable: memory decoding and bus mastering are on, BAR 0 is mapped, other BARs are
 * not, no interrupt is enabled.
 * Return: 0; -ENODEV not bound to vfio-pci, no IOMMU group; -EACCES may not open its file; -EBUSY somebody has it;
 * -EPERM its group is not viable, or interrupts cannot be remapped; other errors as the kernel gave them.
 */
int ntbs_vfio_open(struct ntbs_vfio *v, const char *address, const struct ntbs_pci_where *where);

/* The same, but by the group's file wherever there is one: type 1 maps windows of another function, too. */
int ntbs_vfio_open_group(struct ntbs_vfio *v, const char *address, const struct ntbs_pci_where *where);

/* Bus mastering off, mappings undone, descriptors closed; VFIO then resets the function. */
void ntbs_vfio_close(struct ntbs_vfio *v);

/**
 * ntbs_vfio_map_bar() - Map a window, write-combined if there is a way
 *
 * Once for each BAR, before anything else touches it.  The mapping lasts until ntbs_vfio_close().
 * Return: 0, and @v->map[bar] is filled in; -EINVAL no such BAR; -ENOTSUP VFIO does not map it; -errno of mmap().
 */
int ntbs_vfio_map_bar(struct ntbs_vfio *v, unsigned bar);

/*
 * Enable @nr MSI-X vectors, each with an eventfd; and those for errors and hot-unplug that there are.
 * Return: 0; -EINVAL more than the function has; -ENOSPC more than the host has left; other errors of the kernel.
 */
int ntbs_vfio_irqs(struct ntbs_vfio *v, unsigned nr);

/**
 * ntbs_vfio_dma_map() - Let the function read and write memory of this process
 * @iova: where the function finds it; chosen by the caller, see ntbs_vfio_pick_iova()
 *
 * Memory, length and address are multiples of the page size.  Pages are pinned and count for RLIMIT_MEMLOCK.
 * Return: 0; -ENOMEM the limit: @why says how much it is; -EEXIST @iova is in use; -EINVAL outside what the IOMMU can.
 */
int ntbs_vfio_dma_map(struct ntbs_vfio *v, void *memory, size_t bytes, uint64_t iova);
int ntbs_vfio_dma_unmap(struct ntbs_vfio *v, size_t bytes, uint64_t iova);

/* Lowest multiple of @align from 4 GiB on where the IOMMU has room for @bytes.  Return: 0, -ENOSPC. */
int ntbs_vfio_pick_iova(struct ntbs_vfio *v, size_t bytes, uint64_t align, uint64_t *iova);

/* Function-level reset: registers as after power-on, then decoding and bus mastering on again.  -ENOTSUP: cannot. */
int ntbs_vfio_reset(struct ntbs_vfio *v);

/* ---- for the files of this part: vfio_open.c, vfio_map.c, vfio_dma.c ---- */

int ntbs_vfio_fail(struct ntbs_vfio *v, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Descriptors of the device and what maps memory for it. */
int ntbs_vfio_acquire(struct ntbs_vfio *v, bool want_group);
void ntbs_vfio_release(struct ntbs_vfio *v);
/* BAR 0, for registers: uncached, of VFIO.  0 also if it cannot be mapped: then it is read and written by calls. */
int ntbs_vfio_map_registers(struct ntbs_vfio *v);
void ntbs_vfio_unmap(struct ntbs_vfio *v);

#endif
