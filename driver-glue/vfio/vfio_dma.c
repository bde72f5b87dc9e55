// SPDX-License-Identifier: BSD-2-Clause
/*
 * vfio_dma.c - memory of ours where the function finds it
 *
 * The address that the function uses is ours to choose: that is what makes windows work whose translation must be a
 * multiple of the BAR's size, without contiguous memory.  Where there is room says the IOMMU's driver: some ranges are
 * for interrupts (x86: 0xfee00000), others are beyond its width.
 */
#include "vfio.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include "vfio_uapi.h"

#define IOVA_FROM (4ull << 30)	/* below lie 32-bit devices' and the interrupts' addresses */
#define RANGES_MAX 64

int ntbs_vfio_dma_map(struct ntbs_vfio *v, void *memory, size_t bytes, uint64_t iova)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map), .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)memory, .iova = iova, .size = bytes,
	};
	struct ntbs_ioas_map ioas = {
		.size = sizeof(ioas), .flags = NTBS_IOAS_MAP_FIXED | NTBS_IOAS_MAP_WRITE | NTBS_IOAS_MAP_READ,
		.ioas_id = v->ioas, .user_va = (uintptr_t)memory, .length = bytes, .iova = iova,
	};
	struct rlimit lim = { 0 };
	int err;

	if (!(v->by_cdev ? ioctl(v->container, NTBS_IOAS_MAP, &ioas) : ioctl(v->container, VFIO_IOMMU_MAP_DMA, &map)))
		return 0;
	err = errno;
	getrlimit(RLIMIT_MEMLOCK, &lim);
	if (err == ENOMEM && lim.rlim_cur != RLIM_INFINITY && lim.rlim_cur < bytes)
		return ntbs_vfio_fail(v, err, "%zu KiB cannot be pinned: the limit is %llu KiB (ulimit -l, LimitMEMLOCK=)",
				      bytes >> 10, (unsigned long long)lim.rlim_cur >> 10);
	return ntbs_vfio_fail(v, err, "cannot map %zu KiB at %#llx for the function: %s", bytes >> 10,
			      (unsigned long long)iova, strerror(err));
}

int ntbs_vfio_dma_unmap(struct ntbs_vfio *v, size_t bytes, uint64_t iova)
{
	struct vfio_iommu_type1_dma_unmap map = { .argsz = sizeof(map), .iova = iova, .size = bytes };
	struct ntbs_ioas_unmap ioas = { .size = sizeof(ioas), .ioas_id = v->ioas, .iova = iova, .length = bytes };

	if (!(v->by_cdev ? ioctl(v->container, NTBS_IOAS_UNMAP, &ioas) : ioctl(v->container, VFIO_IOMMU_UNMAP_DMA, &map)))
		return 0;
	return ntbs_vfio_fail(v, errno, "cannot unmap %#llx: %s", (unsigned long long)iova, strerror(errno));
}

/* Ranges that the IOMMU can; how many, 0 if it does not say. */
static unsigned ranges_cdev(struct ntbs_vfio *v, struct ntbs_iova_range *range)
{
	struct ntbs_ioas_ranges get = {
		.size = sizeof(get), .ioas_id = v->ioas, .num_iovas = RANGES_MAX, .allowed_iovas = (uintptr_t)range,
	};

	if (ioctl(v->container, NTBS_IOAS_IOVA_RANGES, &get))
		return 0;
	return get.num_iovas < RANGES_MAX ? get.num_iovas : RANGES_MAX;
}

static unsigned ranges_group(struct ntbs_vfio *v, struct ntbs_iova_range *range)
{
	union {
		struct vfio_iommu_type1_info info;
		char bytes[4096];
	} get = { .info.argsz = sizeof(get) };
	const struct vfio_iommu_type1_info_cap_iova_range *cap;
	uint32_t at;
	unsigned nr;

	if (ioctl(v->container, VFIO_IOMMU_GET_INFO, &get) || !(get.info.flags & VFIO_IOMMU_INFO_CAPS))
		return 0;
	for (at = get.info.cap_offset; at >= sizeof(get.info) && at + sizeof(*cap) <= sizeof(get);) {
		cap = (const void *)(get.bytes + at);
		if (cap->header.id == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE) {
			nr = cap->nr_iovas < RANGES_MAX ? cap->nr_iovas : RANGES_MAX;
			if (at + sizeof(*cap) + nr * sizeof(*range) > sizeof(get))
				return 0;
			for (unsigned i = 0; i < nr; i++)
				range[i] = (struct ntbs_iova_range){ cap->iova_ranges[i].start, cap->iova_ranges[i].end };
			return nr;
		}
		if (cap->header.next <= at)
			break;
		at = cap->header.next;
	}
	return 0;
}

int ntbs_vfio_pick_iova(struct ntbs_vfio *v, size_t bytes, uint64_t align, uint64_t *iova)
{
	struct ntbs_iova_range range[RANGES_MAX] = { { 0 } };
	unsigned nr = v->by_cdev ? ranges_cdev(v, range) : ranges_group(v, range);

	if (align < 4096)
		align = 4096;
	if (!nr)	/* an old kernel: every IOMMU with VFIO can do 39 bits */
		range[nr++] = (struct ntbs_iova_range){ IOVA_FROM, (1ull << 39) - 1 };
	for (unsigned i = 0; i < nr; i++) {
		uint64_t at = range[i].start < IOVA_FROM ? IOVA_FROM : range[i].start;

		at = (at + align - 1) / align * align;
		if (at >= range[i].start && at <= range[i].last && range[i].last - at >= bytes - 1) {
			*iova = at;
			return 0;
		}
	}
	return ntbs_vfio_fail(v, ENOSPC, "the IOMMU has no room for %zu KiB at a multiple of %#llx", bytes >> 10,
			      (unsigned long long)align);
}
