/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vfio_uapi.h - what linux/vfio.h of Linux 6.1 does not have yet: a device by its own file, mappings by iommufd
 *
 * The kernel headers that Debian 12 builds with are those of 6.1; the interface is that of 6.6 and later.  Numbers and
 * layouts are the kernel's ABI (include/uapi/linux/vfio.h and iommufd.h of 6.6; unchanged up to 6.12, where later
 * versions only add fields behind).  Structures begin with their size, fields that the kernel does not know must be 0.
 */
#ifndef NTBSOCK_VFIO_UAPI_H
#define NTBSOCK_VFIO_UAPI_H

#include <assert.h>
#include <stdint.h>
#include <linux/ioctl.h>
#include <linux/vfio.h>

struct ntbs_vfio_bind {
	uint32_t argsz, flags;
	int32_t iommufd;
	uint32_t out_devid;
};
#define NTBS_VFIO_BIND_IOMMUFD _IO(VFIO_TYPE, VFIO_BASE + 18)

struct ntbs_vfio_attach {
	uint32_t argsz, flags, pt_id;
};
#define NTBS_VFIO_ATTACH_PT _IO(VFIO_TYPE, VFIO_BASE + 19)

#define NTBS_IOMMUFD_TYPE ';'

struct ntbs_ioas_alloc {
	uint32_t size, flags, out_ioas_id;
};
#define NTBS_IOAS_ALLOC _IO(NTBS_IOMMUFD_TYPE, 0x81)

struct ntbs_iova_range {
	uint64_t start, last;
};
struct ntbs_ioas_ranges {
	uint32_t size, ioas_id, num_iovas, reserved;
	uint64_t allowed_iovas, out_iova_alignment;
};
#define NTBS_IOAS_IOVA_RANGES _IO(NTBS_IOMMUFD_TYPE, 0x84)

struct ntbs_ioas_map {
	uint32_t size, flags, ioas_id, reserved;
	uint64_t user_va, length, iova;
};
#define NTBS_IOAS_MAP _IO(NTBS_IOMMUFD_TYPE, 0x85)
#define NTBS_IOAS_MAP_FIXED 1u
#define NTBS_IOAS_MAP_WRITE 2u
#define NTBS_IOAS_MAP_READ 4u

struct ntbs_ioas_unmap {
	uint32_t size, ioas_id;
	uint64_t iova, length;
};
#define NTBS_IOAS_UNMAP _IO(NTBS_IOMMUFD_TYPE, 0x86)

static_assert(sizeof(struct ntbs_vfio_bind) == 16 && sizeof(struct ntbs_vfio_attach) == 12, "ABI of the kernel");
static_assert(sizeof(struct ntbs_ioas_alloc) == 12 && sizeof(struct ntbs_ioas_ranges) == 32, "ABI of the kernel");
static_assert(sizeof(struct ntbs_ioas_map) == 40 && sizeof(struct ntbs_ioas_unmap) == 24, "ABI of the kernel");

#endif
