// SPDX-License-Identifier: BSD-2-Clause
/*
 * vfio_open.c - from an address to the descriptors of VFIO, by the function's own file or by its group's
 *
 * The group's file is opened by one process at a time.  The function's own is opened by anybody, and the kernel refuses
 * whoever comes second to bind it to an iommufd.
 */
#include "vfio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "pci.h"
#include "vfio_uapi.h"

static int open_file(struct ntbs_vfio *v, const char *path, const char *what)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	char name[32];
	int err, pid;

	if (fd >= 0)
		return fd;
	err = errno;
	if (err == EBUSY) {
		pid = ntbs_pci_user_of(v->where, path, name, sizeof(name));
		if (pid)
			return ntbs_vfio_fail(v, err, "%s is in use by process %d (%s)", path, pid, name);
		return ntbs_vfio_fail(v, err, "%s is in use by another process", path);
	}
	if (err == EACCES || err == EPERM)
		return ntbs_vfio_fail(v, EACCES, "no permission to open %s: run as root, or give it to this user", path);
	if (err == ENOENT)
		return ntbs_vfio_fail(v, ENODEV, "%s is not there: %s", path, what);
	return ntbs_vfio_fail(v, err, "%s: %s", path, strerror(err));
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* ------------------------------------------------------------------- the group's file */

static int by_group(struct ntbs_vfio *v, const char *path)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	char file[128];

	v->group = open_file(v, path, "is the function bound to vfio-pci?");
	if (v->group < 0)
		return v->group;
	if (ioctl(v->group, VFIO_GROUP_GET_STATUS, &status))
		return ntbs_vfio_fail(v, errno, "%s: VFIO_GROUP_GET_STATUS: %s", path, strerror(errno));
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		return ntbs_vfio_fail(v, EPERM, "%s is not viable: another function of the group has a driver of its own", path);
	snprintf(file, sizeof(file), "%.100s/vfio/vfio", v->where->dev);
	v->container = open_file(v, file, "modprobe vfio_iommu_type1");
	if (v->container < 0)
		return v->container;
	if (ioctl(v->container, VFIO_GET_API_VERSION) != VFIO_API_VERSION)
		return ntbs_vfio_fail(v, EPROTO, "/dev/vfio/vfio speaks another version of VFIO");
	if (ioctl(v->container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) != 1)
		return ntbs_vfio_fail(v, ENODEV, "VFIO has no driver for this IOMMU: modprobe vfio_iommu_type1");
	if (ioctl(v->group, VFIO_GROUP_SET_CONTAINER, &v->container))
		return ntbs_vfio_fail(v, errno, "%s: VFIO_GROUP_SET_CONTAINER: %s", path, strerror(errno));
	if (ioctl(v->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU)) {
		if (errno == EPERM)
			return ntbs_vfio_fail(v, EPERM, "this IOMMU does not remap interrupts, which VFIO wants (intremap; or, where "
						 "the function is trusted, allow_unsafe_interrupts=1 of vfio_iommu_type1)");
		return ntbs_vfio_fail(v, errno, "VFIO_SET_IOMMU: %s", strerror(errno));
	}
	v->device = ioctl(v->group, VFIO_GROUP_GET_DEVICE_FD, v->address);
	if (v->device < 0)
		return ntbs_vfio_fail(v, errno, "%s: VFIO_GROUP_GET_DEVICE_FD: %s", v->address, strerror(errno));
	return 0;
}

/* ------------------------------------------------------------------ the function's own */

/* Why the kernel (Linux 6.12) does not bind it.  With our file closed, who has it open is another process. */
static int not_bound(struct ntbs_vfio *v, const char *path, int group, int err)
{
	char name[32];
	int pid;

	close_fd(&v->device);
	if (err == EINVAL || err == EBUSY) {
		pid = ntbs_pci_vfio_user(v->where, v->address, group, name, sizeof(name));
		if (pid)
			return ntbs_vfio_fail(v, EBUSY, "%s is in use by process %d (%s)", path, pid, name);
	}
	switch (err) {
	case EINVAL:
		return ntbs_vfio_fail(v, EBUSY, "%s is in use by another process, or this IOMMU keeps no caches coherent", path);
	case EBUSY:
		return ntbs_vfio_fail(v, EBUSY, "IOMMU group %d of %s is in use: by another process, or by a driver of another "
				      "function", group, v->address);
	case EPERM:
		return ntbs_vfio_fail(v, EPERM, "this IOMMU does not remap interrupts, which VFIO wants (intremap; or, where the "
				      "function is trusted, allow_unsafe_interrupts=1 of iommufd)");
	}
	return ntbs_vfio_fail(v, err, "%s: VFIO_DEVICE_BIND_IOMMUFD: %s", path, strerror(err));
}

static int by_cdev(struct ntbs_vfio *v, const char *path, int group)
{
	struct ntbs_vfio_bind bind = { .argsz = sizeof(bind) };
	struct ntbs_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct ntbs_vfio_attach attach = { .argsz = sizeof(attach) };
	char file[128];

	v->by_cdev = true;
	v->device = open_file(v, path, "is the function bound to vfio-pci?");
	if (v->device < 0)
		return v->device;
	snprintf(file, sizeof(file), "%.100s/iommu", v->where->dev);
	v->container = open_file(v, file, "modprobe iommufd");
	if (v->container < 0)
		return v->container;
	bind.iommufd = v->container;
	if (ioctl(v->device, NTBS_VFIO_BIND_IOMMUFD, &bind))
		return not_bound(v, path, group, errno);
	if (ioctl(v->container, NTBS_IOAS_ALLOC, &alloc))
		return ntbs_vfio_fail(v, errno, "/dev/iommu: IOMMU_IOAS_ALLOC: %s", strerror(errno));
	v->ioas = attach.pt_id = alloc.out_ioas_id;
	if (ioctl(v->device, NTBS_VFIO_ATTACH_PT, &attach))
		return ntbs_vfio_fail(v, errno, "%s: VFIO_DEVICE_ATTACH_IOMMUFD_PT: %s", path, strerror(errno));
	return 0;
}

/* Both files that the way by the group wants. */
static bool has_group(const struct ntbs_vfio *v, int group, char *path, size_t path_bytes)
{
	snprintf(path, path_bytes, "%.100s/vfio/vfio", v->where->dev);
	if (access(path, F_OK))
		return false;
	snprintf(path, path_bytes, "%.100s/vfio/%d", v->where->dev, group);
	return !access(path, F_OK);
}

int ntbs_vfio_acquire(struct ntbs_vfio *v, bool want_group)
{
	char path[300], text[64], driver[32] = "";
	int group = -1, ret;

	v->device = v->group = v->container = -1;
	if (ntbs_pci_path(v->where, v->address, NULL, path, sizeof(path)) || access(path, F_OK))
		return ntbs_vfio_fail(v, ENODEV, "%s: there is no such PCI function", v->address);
	if (!ntbs_pci_path(v->where, v->address, "driver", path, sizeof(path)))
		ntbs_pci_link(path, driver, sizeof(driver));
	if (strcmp(driver, "vfio-pci"))
		return ntbs_vfio_fail(v, ENODEV, "%s is bound to %s: run ntbsock-ctl bind %s", v->address,
				      driver[0] ? driver : "no driver", v->address);
	v->numa_node = -1;
	if (!ntbs_pci_path(v->where, v->address, "numa_node", path, sizeof(path)) &&
	    !ntbs_pci_get(path, text, sizeof(text)))
		v->numa_node = atoi(text);
	if (!ntbs_pci_path(v->where, v->address, "iommu_group", path, sizeof(path)) &&
	    !ntbs_pci_link(path, text, sizeof(text)))
		group = atoi(text);
	if (group < 0)
		return ntbs_vfio_fail(v, ENODEV, "%s has no IOMMU group: is the IOMMU on?", v->address);
	if (!want_group || !has_group(v, group, path, sizeof(path)))
		ntbs_pci_vfio_path(v->where, v->address, group, path, sizeof(path));
	if (!path[0])
		return ntbs_vfio_fail(v, ENODEV, "/dev/vfio/%d is not there: is devtmpfs mounted here?", group);
	if (strstr(path, "/vfio/devices/"))
		ret = by_cdev(v, path, group);
	else
		ret = by_group(v, path);
	if (ret)
		ntbs_vfio_release(v);
	return ret;
}

void ntbs_vfio_release(struct ntbs_vfio *v)
{
	close_fd(&v->device);
	close_fd(&v->group);
	close_fd(&v->container);
}
