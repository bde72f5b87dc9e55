// SPDX-License-Identifier: BSD-2-Clause
/*
 * vfio.c - a function through VFIO: its registers (regs.h), interrupts, reset, open and close
 *
 * Registers are reached by a mapping of BAR 0, one access of the CPU for each call; where the kernel offers no mapping,
 * by pread() and pwrite() on the device's file.  A read that fails gives all ones, as the bus would.
 *
 * Closing lets the kernel reset the function, if it can, and unmap what was mapped for it: the peer's stores then go
 * nowhere, even if this process was killed.
 */
#include "vfio.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "barrier.h"
#include "pci.h"
#include "vfio_uapi.h"

#define PCI_COMMAND 0x04	/* PCI Local Bus 3.0, 6.2.2 */
#define COMMAND_MEMORY (1u << 1)
#define COMMAND_MASTER (1u << 2)

int ntbs_vfio_fail(struct ntbs_vfio *v, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(v->why, sizeof(v->why), fmt, ap);
	va_end(ap);
	return -err;
}

/* ----------------------------------------------------------------------- registers */

static uint64_t ones(unsigned len)
{
	return len >= 8 ? UINT64_MAX : (1ull << 8 * len) - 1;
}

static uint64_t file_read(struct ntbs_vfio *v, uint64_t at, unsigned len)
{
	uint64_t value = 0;

	return pread(v->device, &value, len, at) == (ssize_t)len ? value : ones(len);
}

static void file_write(struct ntbs_vfio *v, uint64_t at, unsigned len, uint64_t value)
{
	/* To what is gone: it vanishes, as on the bus. */
	if (pwrite(v->device, &value, len, at) != (ssize_t)len)
		return;
}

static uint64_t cfg_read(struct ntbs_regs *regs, unsigned offset, unsigned len)
{
	struct ntbs_vfio *v = (struct ntbs_vfio *)regs;

	return file_read(v, v->config_at + offset, len);
}

static void cfg_write(struct ntbs_regs *regs, unsigned offset, unsigned len, uint64_t value)
{
	struct ntbs_vfio *v = (struct ntbs_vfio *)regs;

	file_write(v, v->config_at + offset, len, value);
}

static uint64_t bar_read(struct ntbs_regs *regs, unsigned bar, uint64_t offset, unsigned len)
{
	struct ntbs_vfio *v = (struct ntbs_vfio *)regs;
	const volatile char *at = v->map[bar].addr;

	if (offset + len > regs->bar[bar].bytes)
		return ones(len);
	if (!at)
		return file_read(v, v->region_at[bar] + offset, len);
	switch (len) {
	case 1:
		return *(const volatile uint8_t *)(at + offset);
	case 2:
		return *(const volatile uint16_t *)(at + offset);
	case 4:
		return *(const volatile uint32_t *)(at + offset);
	default:
		return *(const volatile uint64_t *)(at + offset);
	}
}

static void bar_write(struct ntbs_regs *regs, unsigned bar, uint64_t offset, unsigned len, uint64_t value)
{
	struct ntbs_vfio *v = (struct ntbs_vfio *)regs;
	volatile char *at = v->map[bar].addr;

	if (offset + len > regs->bar[bar].bytes)
		return;
	if (!at) {
		file_write(v, v->region_at[bar] + offset, len, value);
		return;
	}
	switch (len) {
	case 1:
		*(volatile uint8_t *)(at + offset) = value;
		break;
	case 2:
		*(volatile uint16_t *)(at + offset) = value;
		break;
	case 4:
		*(volatile uint32_t *)(at + offset) = value;
		break;
	default:
		*(volatile uint64_t *)(at + offset) = value;
	}
	if (v->map[bar].mem == NTBS_MEM_WC)
		ntbs_store_flush();	/* ivshmem's header lies in a window: a register must not wait in a buffer */
}

static void pause_ms(struct ntbs_regs *regs, unsigned ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l };

	nanosleep(&ts, NULL);
}

static const struct ntbs_regs_ops ops = { cfg_read, cfg_write, bar_read, bar_write, pause_ms };

/* ---------------------------------------------------------------------------- open */

/* Sizes are VFIO's; where a BAR is, and of what kind, is in sysfs alone. */
static int read_bars(struct ntbs_vfio *v)
{
	unsigned long long from, to, flags;
	char path[300], line[128];
	FILE *f;

	if (ntbs_pci_path(v->where, v->address, "resource", path, sizeof(path)))
		return -ENAMETOOLONG;
	f = fopen(path, "re");
	if (!f)
		return ntbs_vfio_fail(v, errno, "%s: %s", path, strerror(errno));
	for (unsigned i = 0; i < NTBS_PCI_BARS && fgets(line, sizeof(line), f); i++) {
		if (sscanf(line, "%llx %llx %llx", &from, &to, &flags) != 3 || !from)
			continue;
		/* include/linux/ioport.h: IORESOURCE_IO, _PREFETCH, _MEM_64 */
		v->regs.bar[i].addr = from;
		v->regs.bar[i].is_io = flags & 0x100;
		v->regs.bar[i].prefetchable = flags & 0x2000;
		v->regs.bar[i].is_64bit = flags & 0x100000;
	}
	fclose(f);
	return 0;
}

static int read_info(struct ntbs_vfio *v)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	struct vfio_region_info region = { .argsz = sizeof(region) };
	struct vfio_irq_info irq = { .argsz = sizeof(irq), .index = VFIO_PCI_MSIX_IRQ_INDEX };

	if (ioctl(v->device, VFIO_DEVICE_GET_INFO, &info))
		return ntbs_vfio_fail(v, errno, "VFIO_DEVICE_GET_INFO: %s", strerror(errno));
	v->device_flags = info.flags;
	for (unsigned i = 0; i <= VFIO_PCI_CONFIG_REGION_INDEX; i++) {
		if (i >= NTBS_PCI_BARS && i != VFIO_PCI_CONFIG_REGION_INDEX)
			continue;
		region.index = i;
		region.argsz = sizeof(region);
		if (ioctl(v->device, VFIO_DEVICE_GET_REGION_INFO, &region))
			return ntbs_vfio_fail(v, errno, "VFIO_DEVICE_GET_REGION_INFO %u: %s", i, strerror(errno));
		if (i == VFIO_PCI_CONFIG_REGION_INDEX) {
			v->config_at = region.offset;
			continue;
		}
		v->region_at[i] = region.offset;
		v->region_flags[i] = region.flags;
		v->regs.bar[i].bytes = region.size;
	}
	if (!ioctl(v->device, VFIO_DEVICE_GET_IRQ_INFO, &irq))
		v->regs.nr_vectors = irq.count;
	return read_bars(v);
}

static void set_command(struct ntbs_vfio *v, bool on)
{
	uint16_t command = ntbs_cfg_read(&v->regs, PCI_COMMAND, 2);

	if (command == 0xffff)
		return;
	command = on ? command | COMMAND_MEMORY | COMMAND_MASTER : command & ~COMMAND_MASTER;
	ntbs_cfg_write(&v->regs, PCI_COMMAND, 2, command);
}

static int open_function(struct ntbs_vfio *v, const char *address, const struct ntbs_pci_where *where, bool want_group)
{
	int ret;

	*v = (struct ntbs_vfio){ .regs.ops = &ops, .device = -1, .group = -1, .container = -1, .error_fd = -1,
				 .request_fd = -1, .where = where ? where : &ntbs_pci_system };
	snprintf(v->address, sizeof(v->address), "%s", address);
	ret = ntbs_vfio_acquire(v, want_group);
	if (ret)
		return ret;
	ret = read_info(v);
	if (ret)
		goto err_close;
	v->regs.vendor = ntbs_cfg_read(&v->regs, 0, 2);
	v->regs.device = ntbs_cfg_read(&v->regs, 2, 2);
	v->regs.revision = ntbs_cfg_read(&v->regs, 8, 1);
	if (v->regs.vendor == 0xffff) {
		ret = ntbs_vfio_fail(v, ENODEV, "%s reads all ones: powered down or unplugged", address);
		goto err_close;
	}
	set_command(v, true);
	ret = ntbs_vfio_map_registers(v);
	if (ret)
		goto err_close;
	return 0;
err_close:
	ntbs_vfio_close(v);
	return ret;
}

int ntbs_vfio_open(struct ntbs_vfio *v, const char *address, const struct ntbs_pci_where *where)
{
	return open_function(v, address, where, false);
}

int ntbs_vfio_open_group(struct ntbs_vfio *v, const char *address, const struct ntbs_pci_where *where)
{
	return open_function(v, address, where, true);
}

/* ---------------------------------------------------------------------- interrupts */

/* Return: 0, -errno, or how many there are of the MSI-X vectors that were asked for. */
static int set_irqs(struct ntbs_vfio *v, unsigned index, const int *fds, unsigned nr)
{
	union {
		struct vfio_irq_set set;
		char bytes[sizeof(struct vfio_irq_set) + NTBS_VFIO_VECTORS * sizeof(int)];
	} u = { .set = {
		.argsz = sizeof(u.set) + nr * sizeof(int), .index = index, .count = nr,
		.flags = VFIO_IRQ_SET_ACTION_TRIGGER | (nr ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE),
	} };
	int ret;

	if (nr)
		memcpy(u.set.data, fds, nr * sizeof(int));
	ret = ioctl(v->device, VFIO_DEVICE_SET_IRQS, &u);
	return ret < 0 ? -errno : ret;
}

/* An eventfd for one of the events that not every kernel or device has; -1 if it has not. */
static int event_of(struct ntbs_vfio *v, unsigned index)
{
	struct vfio_irq_info info = { .argsz = sizeof(info), .index = index };
	int fd;

	if (ioctl(v->device, VFIO_DEVICE_GET_IRQ_INFO, &info) || !info.count)
		return -1;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd >= 0 && set_irqs(v, index, &fd, 1)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

int ntbs_vfio_irqs(struct ntbs_vfio *v, unsigned nr)
{
	int ret;

	if (!nr || nr > NTBS_VFIO_VECTORS || nr > v->regs.nr_vectors || v->nr_vectors)
		return ntbs_vfio_fail(v, EINVAL, "%u interrupts: the function has %u", nr, v->regs.nr_vectors);
	for (; v->nr_vectors < nr; v->nr_vectors++) {
		v->vector_fd[v->nr_vectors] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (v->vector_fd[v->nr_vectors] < 0)
			return ntbs_vfio_fail(v, errno, "eventfd: %s", strerror(errno));
	}
	ret = set_irqs(v, VFIO_PCI_MSIX_IRQ_INDEX, v->vector_fd, nr);
	if (ret > 0)
		return ntbs_vfio_fail(v, ENOSPC, "this host has %d of %u MSI-X interrupts left", ret, nr);
	if (ret)
		return ntbs_vfio_fail(v, -ret, "%u MSI-X interrupts: %s", nr, strerror(-ret));
	v->error_fd = event_of(v, VFIO_PCI_ERR_IRQ_INDEX);
	v->request_fd = event_of(v, VFIO_PCI_REQ_IRQ_INDEX);
	return 0;
}

/* ------------------------------------------------------------------- reset and close */

int ntbs_vfio_reset(struct ntbs_vfio *v)
{
	if (!(v->device_flags & VFIO_DEVICE_FLAGS_RESET))
		return ntbs_vfio_fail(v, ENOTSUP, "%s cannot be reset alone", v->address);
	if (ioctl(v->device, VFIO_DEVICE_RESET))
		return ntbs_vfio_fail(v, errno, "VFIO_DEVICE_RESET: %s", strerror(errno));
	set_command(v, true);
	return 0;
}

void ntbs_vfio_close(struct ntbs_vfio *v)
{
	if (v->device >= 0) {
		set_command(v, false);
		if (v->nr_vectors)
			set_irqs(v, VFIO_PCI_MSIX_IRQ_INDEX, NULL, 0);
	}
	ntbs_vfio_unmap(v);
	for (unsigned i = 0; i < v->nr_vectors; i++)
		close(v->vector_fd[i]);
	v->nr_vectors = 0;
	if (v->error_fd >= 0)
		close(v->error_fd);
	if (v->request_fd >= 0)
		close(v->request_fd);
	v->error_fd = v->request_fd = -1;
	ntbs_vfio_release(v);
}
