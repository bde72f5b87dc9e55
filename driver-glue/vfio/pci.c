// SPDX-License-Identifier: BSD-2-Clause
/*
 * pci.c - the NTB functions of this host, through libpci, and what each lacks
 *
 * libpci reports errors by calling back and must not be returned to; so its calls are made between setjmp() and
 * longjmp(), with nothing to free in between but what it frees itself.
 *
 * What is missing is said in the order in which one would mend it: what the hardware or the firmware gives, then the
 * IOMMU, then drivers, then permissions.
 */
#include "pci.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <pci/pci.h>

#include "ntb.h"

/* Bridges that only a kernel driver serves (Microchip Switchtec, also under PMC's number): PCI class 0x0680. */
#define SWITCHTEC_VENDOR 0x11f8
#define SWITCHTEC_VENDOR_2 0x1055
#define CLASS_BRIDGE_OTHER 0x0680
#define CLASS_BRIDGE_PCI 0x0604
#define MSIX_CONTROL 2		/* PCI Local Bus 3.0, 6.8.2.3: bits 10 to 0 are the table's size - 1 */

static __thread jmp_buf failed;
static __thread char failure[NTBS_PCI_TEXT];

static void pci_failed(char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

static void pci_failed(char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(failure, sizeof(failure), fmt, ap);
	va_end(ap);
	longjmp(failed, 1);
}

static void pci_quiet(char *fmt, ...)
{
}

__attribute__((format(printf, 2, 3))) static void lacks(struct ntbs_pci_fn *fn, const char *fmt, ...)
{
	va_list ap;

	if (fn->nr_missing == NTBS_PCI_MISSING)
		return;
	va_start(ap, fmt);
	vsnprintf(fn->missing[fn->nr_missing++], NTBS_PCI_TEXT, fmt, ap);
	va_end(ap);
}

static const char *size_text(char buf[32], uint64_t bytes)
{
	if (bytes >> 30 && !(bytes & ((1ull << 30) - 1)))
		snprintf(buf, 32, "%llu GiB", (unsigned long long)(bytes >> 30));
	else if (bytes >> 20 && !(bytes & ((1ull << 20) - 1)))
		snprintf(buf, 32, "%llu MiB", (unsigned long long)(bytes >> 20));
	else if (bytes >> 10)
		snprintf(buf, 32, "%llu KiB", (unsigned long long)(bytes >> 10));
	else
		snprintf(buf, 32, "%llu bytes", (unsigned long long)bytes);
	return buf;
}

/* ------------------------------------------------------------------ what there is */

static void read_bars(struct pci_dev *d, struct ntbs_regs *ids)
{
	for (int i = 0; i < NTBS_PCI_BARS; i++) {
		uint64_t base = d->base_addr[i], flags = d->flags[i];

		ids->bar[i].is_io = base & PCI_BASE_ADDRESS_SPACE_IO || flags & PCI_IORESOURCE_IO;
		ids->bar[i].addr = base & PCI_ADDR_MEM_MASK;
		ids->bar[i].bytes = ids->bar[i].is_io ? 0 : d->size[i];
		ids->bar[i].is_64bit = base & PCI_BASE_ADDRESS_MEM_TYPE_64 || flags & PCI_IORESOURCE_MEM_64;
		ids->bar[i].prefetchable = base & PCI_BASE_ADDRESS_MEM_PREFETCH || flags & PCI_IORESOURCE_PREFETCH;
	}
}

/* Beyond the first 64 bytes configuration space is root's to read. */
static bool read_vectors(struct pci_dev *d, struct ntbs_regs *ids)
{
	struct pci_cap *cap;

	if (!(d->known_fields & PCI_FILL_CAPS))
		return false;
	cap = pci_find_cap(d, PCI_CAP_ID_MSIX, PCI_CAP_NORMAL);
	if (cap)
		ids->nr_vectors = (pci_read_word(d, cap->addr + MSIX_CONTROL) & 0x7ff) + 1;
	return cap || pci_find_cap(d, PCI_CAP_ID_PM, PCI_CAP_NORMAL) || pci_find_cap(d, PCI_CAP_ID_EXP, PCI_CAP_NORMAL);
}

static bool is_switchtec(const struct ntbs_pci_fn *fn)
{
	return fn->class >> 8 == CLASS_BRIDGE_OTHER &&
	       (fn->ids.vendor == SWITCHTEC_VENDOR || fn->ids.vendor == SWITCHTEC_VENDOR_2);
}

/* --------------------------------------------------------------- what is missing */

static void check_bars(struct ntbs_pci_fn *fn)
{
	bool ivshmem = !strcmp(fn->family, "ivshmem");
	char size[32];

	for (unsigned b = 2; b <= (ivshmem ? 2u : 4u); b += 2) {
		uint64_t bytes = fn->ids.bar[b].bytes;

		if (!bytes)
			lacks(fn, "BAR%u is not there: %s", b,
			      ivshmem ? "give the device a chardev of an ivshmem server" :
					"set a size for both windows in the firmware's setup, on both hosts");
		else if (bytes < NTBS_PCI_WINDOW_MIN)
			lacks(fn, "BAR%u is %s: %s", b, size_text(size, bytes),
			      ivshmem ? "give the ivshmem server 1 MiB at least" :
					"set 1 MiB or more in the firmware's setup, the same on both hosts");
	}
}

/* Everything in a group goes to VFIO together: what else is in it must have no driver, or vfio-pci, or be a bridge. */
static void check_group(const struct ntbs_pci_where *w, struct ntbs_pci_fn *fn)
{
	char dir[256], path[600], driver[32], class[16];
	struct dirent *e;
	DIR *d;

	if (fn->iommu_group < 0) {
		lacks(fn, "no IOMMU group: switch the IOMMU on in the firmware's setup (VT-d, AMD-Vi) and boot with intel_iommu=on "
			  "or amd_iommu=on");
		return;
	}
	snprintf(dir, sizeof(dir), "%.100s/kernel/iommu_groups/%d/devices", w->sysfs, fn->iommu_group);
	d = opendir(dir);
	if (!d)
		return;
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.' || !strcmp(e->d_name, fn->address) || strlen(e->d_name) > 31)
			continue;
		if (ntbs_pci_path(w, e->d_name, "driver", path, sizeof(path)) || ntbs_pci_link(path, driver, sizeof(driver)) ||
		    !strcmp(driver, "vfio-pci"))
			continue;
		if (!ntbs_pci_path(w, e->d_name, "class", path, sizeof(path)) && !ntbs_pci_get(path, class, sizeof(class)) &&
		    strtoul(class, NULL, 16) >> 8 == CLASS_BRIDGE_PCI)
			continue;
		lacks(fn, "IOMMU group %d holds %.31s too, which %s drives: move one of them to another slot", fn->iommu_group,
		      e->d_name, driver);
	}
	closedir(d);
}

static void check_driver(const struct ntbs_pci_where *w, struct ntbs_pci_fn *fn)
{
	char path[256], iommu[128];

	if (!strcmp(fn->driver, "vfio-pci")) {
		ntbs_pci_vfio_path(w, fn->address, fn->iommu_group, fn->vfio, sizeof(fn->vfio));
		if (!fn->vfio[0])
			lacks(fn, "bound to vfio-pci, but there is no /dev/vfio/%d: is devtmpfs mounted here?", fn->iommu_group);
		else if (access(fn->vfio, R_OK | W_OK))
			lacks(fn, "no permission to open %s: run as root, or give it to the broker's user", fn->vfio);
		snprintf(iommu, sizeof(iommu), "%.100s/iommu", w->dev);
		if (strstr(fn->vfio, "/vfio/devices/") && access(iommu, R_OK | W_OK))
			lacks(fn, "no permission to open %s: run as root, or give it to the broker's user", iommu);
		return;
	}
	snprintf(path, sizeof(path), "%s/bus/pci/drivers/vfio-pci", w->sysfs);
	if (access(path, F_OK))
		lacks(fn, "the kernel has no vfio-pci driver loaded: modprobe vfio-pci");
	if (fn->driver[0])
		lacks(fn, "bound to %s: run ntbsock-ctl bind %s", fn->driver, fn->address);
	else
		lacks(fn, "bound to no driver: run ntbsock-ctl bind %s", fn->address);
}

static void judge(const struct ntbs_pci_where *w, struct ntbs_pci_fn *fn, bool caps_known)
{
	if (!fn->family) {
		lacks(fn, "Switchtec: driven by the kernel alone, and ntbsock has no kernel module yet");
		return;
	}
	check_bars(fn);
	if (caps_known && !fn->ids.nr_vectors)
		lacks(fn, "no MSI-X interrupts%s", strcmp(fn->family, "ivshmem") ? "" : ": give the device vectors=4");
	check_group(w, fn);
	check_driver(w, fn);
	fn->usable = !fn->nr_missing;
}

/* ------------------------------------------------------------------------ listing */

static void describe(const struct ntbs_pci_where *w, struct pci_dev *d, struct ntbs_pci_fn *fn)
{
	char path[256], text[64];
	bool caps;

	snprintf(fn->address, sizeof(fn->address), "%04x:%02x:%02x.%x", d->domain & 0xffff, d->bus & 0xff, d->dev & 0x1f,
		 d->func & 7);
	read_bars(d, &fn->ids);
	caps = read_vectors(d, &fn->ids);
	fn->numa_node = d->known_fields & PCI_FILL_NUMA_NODE ? d->numa_node : -1;
	fn->iommu_group = -1;
	if (!ntbs_pci_path(w, fn->address, "iommu_group", path, sizeof(path)) && !ntbs_pci_link(path, text, sizeof(text)))
		fn->iommu_group = atoi(text);
	if (!ntbs_pci_path(w, fn->address, "driver", path, sizeof(path)) &&
	    ntbs_pci_link(path, fn->driver, sizeof(fn->driver)))
		fn->driver[0] = '\0';
	judge(w, fn, caps);
}

static int by_address(const void *a, const void *b)
{
	return strcmp(((const struct ntbs_pci_fn *)a)->address, ((const struct ntbs_pci_fn *)b)->address);
}

static int take(const struct ntbs_pci_where *w, struct pci_dev *d, struct ntbs_pci_list *list)
{
	struct ntbs_pci_fn fn = { .numa_node = -1 }, *more;
	const struct ntbs_ntb_ops *ops;

	pci_fill_info(d, PCI_FILL_IDENT | PCI_FILL_CLASS | PCI_FILL_CLASS_EXT);
	fn.ids.vendor = d->vendor_id;
	fn.ids.device = d->device_id;
	fn.ids.revision = d->rev_id;
	fn.class = d->device_class << 8 | d->prog_if;
	ops = ntbs_ntb_family(&fn.ids);
	fn.family = ops ? ops->name : NULL;
	if (!ops && !is_switchtec(&fn))
		return 0;
	pci_fill_info(d, PCI_FILL_BASES | PCI_FILL_SIZES | PCI_FILL_IO_FLAGS | PCI_FILL_CAPS | PCI_FILL_NUMA_NODE);
	describe(w, d, &fn);
	more = realloc(list->fn, (list->nr + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	list->fn = more;
	list->fn[list->nr++] = fn;
	return 0;
}

/* Between setjmp() and longjmp(): @acc is the caller's, so that it can be cleaned up after a failure. */
static int scan(const struct ntbs_pci_where *w, struct pci_access *acc, char *path, struct ntbs_pci_list *list)
{
	int err = 0;

	acc->error = pci_failed;
	acc->warning = pci_quiet;
	acc->debug = pci_quiet;
	acc->method = PCI_ACCESS_SYS_BUS_PCI;
	pci_set_param(acc, "sysfs.path", path);
	pci_init(acc);
	pci_scan_bus(acc);
	for (struct pci_dev *d = acc->devices; d && !err; d = d->next)
		err = take(w, d, list);
	return err;
}

int ntbs_pci_list(const struct ntbs_pci_where *where, struct ntbs_pci_list *list)
{
	const struct ntbs_pci_where *volatile w = where ? where : &ntbs_pci_system;
	struct pci_access *acc;
	volatile int err;
	char path[128];

	*list = (struct ntbs_pci_list){ 0 };
	snprintf(path, sizeof(path), "%.100s/bus/pci", w->sysfs);
	if (access(path, R_OK)) {
		err = errno;
		snprintf(list->why, sizeof(list->why), "%s: %s (is sysfs mounted?)", path, strerror(err));
		return -ENOENT;
	}
	acc = pci_alloc();
	if (setjmp(failed))
		err = -EIO;
	else
		err = scan(w, acc, path, list);
	if (err == -EIO)
		snprintf(list->why, sizeof(list->why), "libpci: %.150s", failure);
	else if (err)
		snprintf(list->why, sizeof(list->why), "no memory");
	pci_cleanup(acc);
	if (err)
		ntbs_pci_free(list);
	else if (list->nr)
		qsort(list->fn, list->nr, sizeof(*list->fn), by_address);
	return err;
}

void ntbs_pci_free(struct ntbs_pci_list *list)
{
	free(list->fn);
	list->fn = NULL;
	list->nr = 0;
}
