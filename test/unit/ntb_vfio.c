/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ntb_vfio.c - a function is opened through VFIO by its group's file and by its own, mapped, armed and closed, and
 * every refusal of the kernel becomes the right sentence
 *
 * links: driver-glue/vfio/vfio.c driver-glue/vfio/vfio_open.c driver-glue/vfio/vfio_map.c driver-glue/vfio/vfio_dma.c driver-glue/vfio/pci_sysfs.c
 *
 * The kernel's side is here: files below TMPDIR, and an ioctl() that answers for them as linux/vfio.h and iommufd.h
 * say (Linux 6.1; 6.6 for what is newer).  This checks which calls are made, in which order, with which sizes, numbers
 * and flags; that a kernel likes them is what the rig shows.  The device's file is a real one, so registers and windows
 * are memory that the test can look at.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include "vfio/vfio.h"
#include "vfio/vfio_uapi.h"
#include "t.h"

#define ADDRESS "0000:17:00.0"
#define AT(i) ((uint64_t)(i) << 24)	/* of a region in the device's file */
#define WINDOW (1u << 20)

static char root[200], sysfs[220], dev[220];
static struct ntbs_pci_where where;
static struct ntbs_vfio v;

/* What the fake kernel is told to refuse, and what it was asked. */
static struct kernel {
	int few_irqs, bind_err;
	bool not_viable, no_remapping, no_type1, no_room, no_mmap, attached, bound;
	int container_of_group, iommufd;
	char calls[1024];
	uint32_t irq_index, irq_count, irq_flags;
	int irq_fd[64];
	unsigned irqs_set;
	struct vfio_iommu_type1_dma_map map;
	struct ntbs_ioas_map ioas;
	unsigned maps, unmaps, resets;
} k;

__attribute__((format(printf, 1, 2))) static const char *path(const char *fmt, ...)
{
	static char buf[4][512];
	static unsigned turn;
	char *p = buf[turn++ % 4];
	va_list ap;
	int n = snprintf(p, 512, "%s/", root);

	va_start(ap, fmt);
	vsnprintf(p + n, 512 - n, fmt, ap);
	va_end(ap);
	return p;
}

static void dir(const char *p)
{
	char buf[512];

	snprintf(buf, sizeof(buf), "%s", p);
	for (char *c = buf + strlen(root) + 1; *c; c++) {
		if (*c == '/') {
			*c = '\0';
			mkdir(buf, 0755);
			*c = '/';
		}
	}
	mkdir(buf, 0755);
}

static void file(const char *p, const char *text, off_t bytes)
{
	int fd = open(p, O_RDWR | O_CREAT | O_TRUNC, 0644);

	t_must(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s", p);
	t_must(!bytes || !ftruncate(fd, bytes), "size");
	close(fd);
}

/* ---------------------------------------------------------------------- the kernel */

static bool is_file(int fd, const char *p)
{
	struct stat a, b;

	return !fstat(fd, &a) && !stat(p, &b) && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static void note(const char *call)
{
	strncat(k.calls, call, sizeof(k.calls) - strlen(k.calls) - 2);
	strcat(k.calls, " ");
}

static int no(int err)
{
	errno = err;
	return -1;
}

static int region(struct vfio_region_info *r)
{
	t_ok(r->argsz == sizeof(*r), "size of the question");
	r->offset = AT(r->index);
	r->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE | (k.no_mmap ? 0 : VFIO_REGION_INFO_FLAG_MMAP);
	r->size = r->index == 0 ? 65536 : r->index == 2 || r->index == 4 ? WINDOW : r->index == 7 ? 4096 : 0;
	return 0;
}

static int irqs(const struct vfio_irq_set *s)
{
	if (s->index != VFIO_PCI_MSIX_IRQ_INDEX)
		return 0;
	k.irqs_set++;
	k.irq_count = s->count;
	k.irq_flags = s->flags;
	t_eq(s->argsz, sizeof(*s) + (s->flags & VFIO_IRQ_SET_DATA_EVENTFD ? s->count * 4 : 0), "size of the set");
	if (k.few_irqs && s->count > (unsigned)k.few_irqs)
		return k.few_irqs;
	if (s->flags & VFIO_IRQ_SET_DATA_EVENTFD)
		memcpy(k.irq_fd, s->data, s->count * 4);
	return 0;
}

static int on_device(unsigned long req, void *arg)
{
	struct vfio_irq_info *info = arg;
	struct ntbs_vfio_bind *bind = arg;
	struct ntbs_vfio_attach *attach = arg;

	switch (req) {
	case VFIO_DEVICE_GET_INFO:
		note("info");
		t_ok(!k.bound || k.attached, "looked at before it is attached");
		((struct vfio_device_info *)arg)->flags = VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI;
		return 0;
	case VFIO_DEVICE_GET_REGION_INFO:
		return region(arg);
	case VFIO_DEVICE_GET_IRQ_INFO:
		info->count = info->index == VFIO_PCI_MSIX_IRQ_INDEX ? 33 : info->index == VFIO_PCI_REQ_IRQ_INDEX;
		return 0;
	case VFIO_DEVICE_SET_IRQS:
		return irqs(arg);
	case VFIO_DEVICE_RESET:
		k.resets++;
		return 0;
	case NTBS_VFIO_BIND_IOMMUFD:
		note("bind");
		t_ok(bind->argsz == 16 && !bind->flags && is_file(bind->iommufd, path("dev/iommu")), "bind to the iommufd");
		if (k.bind_err)
			return no(k.bind_err);
		k.bound = true;
		return 0;
	case NTBS_VFIO_ATTACH_PT:
		note("attach");
		t_ok(attach->argsz == 12 && !attach->flags && attach->pt_id == 77, "attach to what was allocated");
		k.attached = true;
		return 0;
	}
	t_ok(false, "a call on the device that there is none: %#lx", req);
	return no(ENOTTY);
}

static int on_group(unsigned long req, void *arg)
{
	switch (req) {
	case VFIO_GROUP_GET_STATUS:
		note("status");
		((struct vfio_group_status *)arg)->flags = k.not_viable ? 0 : VFIO_GROUP_FLAGS_VIABLE;
		return 0;
	case VFIO_GROUP_SET_CONTAINER:
		note("container");
		t_ok(is_file(*(int *)arg, path("dev/vfio/vfio")), "the container's descriptor");
		return 0;
	case VFIO_GROUP_GET_DEVICE_FD:
		note("device");
		t_ok(!strcmp(arg, ADDRESS), "by its address");
		return open(path("dev/device"), O_RDWR | O_CLOEXEC);
	}
	return no(ENOTTY);
}

static int on_container(unsigned long req, void *arg, long value)
{
	static const uint64_t ranges[] = { 0, 0xfedfffff, 0xfef00000, 0x1000fffff, 0x140000000, 0x7fffffffff };
	struct vfio_iommu_type1_info_cap_iova_range *cap;
	struct vfio_iommu_type1_info *info = arg;

	switch (req) {
	case VFIO_GET_API_VERSION:
		return VFIO_API_VERSION;
	case VFIO_CHECK_EXTENSION:
		return value == VFIO_TYPE1v2_IOMMU && !k.no_type1;
	case VFIO_SET_IOMMU:
		note("iommu");
		t_ok(strstr(k.calls, "container"), "a container with a group");
		return k.no_remapping ? no(EPERM) : value == VFIO_TYPE1v2_IOMMU ? 0 : no(EINVAL);
	case VFIO_IOMMU_GET_INFO:
		memset((char *)info + 4, 0, info->argsz - 4);
		info->flags = VFIO_IOMMU_INFO_CAPS;
		info->cap_offset = sizeof(*info) + 8;
		cap = (void *)((char *)info + info->cap_offset);
		cap->header.id = VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE;
		cap->nr_iovas = 3;
		memcpy(cap->iova_ranges, ranges, sizeof(ranges));
		return 0;
	case VFIO_IOMMU_MAP_DMA:
		k.map = *(struct vfio_iommu_type1_dma_map *)arg;
		k.maps++;
		return k.no_room ? no(ENOMEM) : 0;
	case VFIO_IOMMU_UNMAP_DMA:
		k.unmaps++;
		return ((struct vfio_iommu_type1_dma_unmap *)arg)->iova == k.map.iova ? 0 : no(EINVAL);
	}
	return no(ENOTTY);
}

static int on_iommu(unsigned long req, void *arg)
{
	static const uint64_t ranges[] = { 0x1000, 0xfedfffff, 0x200000000, 0x7fffffffff };
	struct ntbs_ioas_ranges *r = arg;
	struct ntbs_ioas_alloc *alloc = arg;

	switch (req) {
	case NTBS_IOAS_ALLOC:
		note("alloc");
		t_ok(alloc->size == 12 && !alloc->flags, "allocate");
		alloc->out_ioas_id = 77;
		return 0;
	case NTBS_IOAS_IOVA_RANGES:
		t_ok(r->size == 32 && r->ioas_id == 77 && !r->reserved && r->num_iovas >= 2, "ranges");
		memcpy((void *)(uintptr_t)r->allowed_iovas, ranges, sizeof(ranges));
		r->num_iovas = 2;
		return 0;
	case NTBS_IOAS_MAP:
		k.ioas = *(struct ntbs_ioas_map *)arg;
		k.maps++;
		t_ok(k.ioas.size == 40 && k.ioas.ioas_id == 77 && !k.ioas.reserved, "map");
		return k.no_room ? no(ENOMEM) : 0;
	case NTBS_IOAS_UNMAP:
		k.unmaps++;
		return ((struct ntbs_ioas_unmap *)arg)->iova == k.ioas.iova ? 0 : no(ENOENT);
	}
	t_ok(false, "a call on the iommufd that there is none: %#lx", req);
	return no(ENOTTY);
}

int ioctl(int fd, unsigned long req, ...);
int ioctl(int fd, unsigned long req, ...)
{
	va_list ap;
	long arg;

	va_start(ap, req);
	arg = va_arg(ap, long);
	va_end(ap);
	if (is_file(fd, path("dev/device")) || is_file(fd, path("dev/vfio/devices/vfio0")))
		return on_device(req, (void *)arg);
	if (is_file(fd, path("dev/vfio/12")))
		return on_group(req, (void *)arg);
	if (is_file(fd, path("dev/vfio/vfio")))
		return on_container(req, (void *)arg, arg);
	if (is_file(fd, path("dev/iommu")))
		return on_iommu(req, (void *)arg);
	return no(ENOTTY);
}

/* ----------------------------------------------------------------------- the tests */

static void config(const char *p)
{
	static const uint8_t head[] = { 0x86, 0x80, 0x7e, 0x34, 0, 0, 0x10, 0, 4 };
	int fd = open(p, O_WRONLY);

	t_must(pwrite(fd, head, sizeof(head), AT(7)) == sizeof(head), "config space");
	close(fd);
}

static int descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static uint16_t command(const char *device)
{
	uint16_t value = 0;
	int fd = open(path("%s", device), O_RDONLY);

	t_must(pread(fd, &value, 2, AT(7) + 4) == 2, "command");
	close(fd);
	return value;
}

static void registers(const char *device)
{
	struct ntbs_regs *r = &v.regs;
	uint64_t raw = 0;
	int fd;

	t_ok(r->vendor == 0x8086 && r->device == 0x347e && r->revision == 4, "ids");
	t_ok(r->bar[2].bytes == WINDOW && r->bar[2].addr == 0x390000000000 && r->bar[2].is_64bit && r->bar[2].prefetchable,
	     "BAR2");
	t_eq(r->nr_vectors, 33, "vectors");
	t_eq(command(device) & 6, 6, "decoding and bus mastering on");
	ntbs_write64(r, 0x40, 0x1122334455667788);
	ntbs_write8(r, 0x40, 0x99);
	ntbs_write16(r, 0x44, 0xabcd);
	t_ok(ntbs_read64(r, 0x40) == 0x1122abcd55667799, "sizes of accesses: %llx", (unsigned long long)ntbs_read64(r, 0x40));
	t_ok(ntbs_read32(r, 0x44) == 0x1122abcd && ntbs_read8(r, 0x47) == 0x11, "and where they go");
	fd = open(path("%s", device), O_RDONLY);
	t_ok(pread(fd, &raw, 8, AT(0) + 0x40) == 8 && raw == 0x1122abcd55667799, "into BAR0");
	close(fd);
	t_ok(ntbs_read32(r, 65536) == UINT32_MAX && ntbs_read64(r, 65532) == UINT64_MAX, "beyond the end all ones");
	ntbs_write32(r, 65536, 5);
	t_ok(ntbs_read16(r, 1 << 20) == 0xffff, "and nothing is written");
}

static void interrupts(void)
{
	struct pollfd p;
	uint64_t one = 1;

	t_eq(ntbs_vfio_irqs(&v, 34), -EINVAL, "more than there are");
	t_must(!ntbs_vfio_irqs(&v, 33), "interrupts: %s", v.why);
	t_ok(k.irq_count == 33 && k.irq_flags == (VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD), "all at once");
	t_ok(write(k.irq_fd[32], &one, 8) == 8, "the device fires");
	p = (struct pollfd){ .fd = v.vector_fd[32], .events = POLLIN };
	t_eq(poll(&p, 1, 0), 1, "vector 32");
	p.fd = v.vector_fd[31];
	t_eq(poll(&p, 1, 0), 0, "not vector 31");
	t_ok(v.request_fd >= 0 && v.error_fd < 0, "the events that there are");
}

static void memory(uint64_t want_iova)
{
	static char mem[8192] __attribute__((aligned(4096)));
	uint64_t iova = 0;

	t_must(!ntbs_vfio_pick_iova(&v, WINDOW, 0, &iova), "room: %s", v.why);
	t_must(!ntbs_vfio_pick_iova(&v, 4 * WINDOW, 4 * WINDOW, &iova), "room: %s", v.why);
	t_ok(iova == want_iova, "the first aligned place is %#llx", (unsigned long long)iova);
	t_eq(ntbs_vfio_pick_iova(&v, WINDOW, 1ull << 40, &iova), -ENOSPC, "beyond its width");
	t_must(!ntbs_vfio_dma_map(&v, mem, sizeof(mem), want_iova), "map: %s", v.why);
	if (v.by_cdev)
		t_ok(k.ioas.user_va == (uintptr_t)mem && k.ioas.length == sizeof(mem) && k.ioas.iova == want_iova &&
		     k.ioas.flags == 7, "fixed, readable, writable");
	else
		t_ok(k.map.vaddr == (uintptr_t)mem && k.map.size == sizeof(mem) && k.map.iova == want_iova && k.map.flags == 3,
		     "readable, writable");
	t_eq(ntbs_vfio_dma_unmap(&v, sizeof(mem), want_iova), 0, "unmap: %s", v.why);
	t_ok(ntbs_vfio_dma_unmap(&v, sizeof(mem), want_iova + 4096) < 0, "what is not mapped");
	k.no_room = true;
	t_eq(ntbs_vfio_dma_map(&v, mem, sizeof(mem), want_iova), -ENOMEM, "no room");
	k.no_room = false;
	t_eq(ntbs_vfio_reset(&v), 0, "reset: %s", v.why);
	t_eq(k.resets, 1, "one reset");
}

static void one_way(const char *device, bool by_cdev, const char *calls, uint64_t iova)
{
	int before = descriptors();

	memset(&k, 0, sizeof(k));
	config(path("%s", device));
	t_must(!ntbs_vfio_open(&v, ADDRESS, &where), "open: %s", v.why);
	t_eq(v.by_cdev, by_cdev, "the way");
	t_ok(!strcmp(k.calls, calls), "calls: %s", k.calls);
	t_eq(v.numa_node, 1, "node");
	registers(device);
	interrupts();
	memory(iova);
	ntbs_vfio_close(&v);
	t_eq(command(device) & 6, 2, "bus mastering off");
	t_ok(k.irqs_set == 2 && !k.irq_count, "interrupts off");
	t_eq(descriptors(), before, "every descriptor closed");
}

static void windows(void)
{
	uint64_t word = 0;
	int fd;

	memset(&k, 0, sizeof(k));
	t_must(!ntbs_vfio_open(&v, ADDRESS, &where), "open: %s", v.why);
	t_ok(v.map[0].way == NTBS_VFIO_UNCACHED && v.map[0].fd == v.device && v.map[0].fd_offset == AT(0), "registers by VFIO");
	t_must(!ntbs_vfio_map_bar(&v, 4), "a window without resource4_wc: %s", v.why);
	t_ok(v.map[4].way == NTBS_VFIO_UNCACHED && v.map[4].mem == NTBS_MEM_UC && v.map[4].verified,
	     "uncached, and says so: %s", v.map[4].said);
	t_ok(v.map[4].fd == v.device && v.map[4].fd_offset == AT(4), "others get the device's file");
	*(uint64_t *)((char *)v.map[4].addr + 8) = 42;
	fd = open(path("dev/device"), O_RDONLY);
	t_ok(pread(fd, &word, 8, AT(4) + 8) == 8 && word == 42, "it is BAR4");
	close(fd);
	t_eq(ntbs_vfio_map_bar(&v, 1), -EINVAL, "no such BAR");
	t_must(!ntbs_vfio_map_bar(&v, 2), "a window: %s", v.why);
	if (v.map[2].way == NTBS_VFIO_SYSFS_WC) {
		t_ok(is_file(v.map[2].fd, path("sys/bus/pci/devices/" ADDRESS "/resource2_wc")) && !v.map[2].fd_offset,
		     "others get the same file");
		t_ok(v.map[2].mem == NTBS_MEM_WC && !v.map[2].verified && strstr(v.map[2].said, "not verified"), "says: %s",
		     v.map[2].said);
		ntbs_vfio_close(&v);
		dir(path("sys/kernel/debug/x86"));
		file(path("sys/kernel/debug/x86/pat_memtype_list"),
		     "PAT memtype list:\nPAT: [mem 0x0000380000000000-0x0000380000010000] uncached-minus\n"
		     "PAT: [mem 0x0000390000000000-0x0000390000100000] write-combining\n", 0);
		t_must(!ntbs_vfio_open(&v, ADDRESS, &where) && !ntbs_vfio_map_bar(&v, 2), "again: %s", v.why);
		t_ok(v.map[2].mem == NTBS_MEM_WC && v.map[2].verified, "verified: %s", v.map[2].said);
		ntbs_vfio_close(&v);
		file(path("sys/kernel/debug/x86/pat_memtype_list"),
		     "PAT: [mem 0x0000390000000000-0x0000390000100000] uncached-minus\n", 0);
		t_must(!ntbs_vfio_open(&v, ADDRESS, &where) && !ntbs_vfio_map_bar(&v, 2), "again: %s", v.why);
		t_ok(v.map[2].mem == NTBS_MEM_UC && strstr(v.map[2].said, "made it uncached"), "found out: %s", v.map[2].said);
	} else {
		t_ok(strstr(v.map[2].said, "MOVDIR64B"), "this CPU needs no write-combining: %s", v.map[2].said);
	}
	ntbs_vfio_close(&v);

	/* BARs have files in sysfs: whoever gets one of those gets no more. */
	memset(&k, 0, sizeof(k));
	file(path("sys/bus/pci/devices/" ADDRESS "/resource0"), "", 65536);
	file(path("sys/bus/pci/devices/" ADDRESS "/resource4"), "", WINDOW);
	t_must(!ntbs_vfio_open(&v, ADDRESS, &where) && !ntbs_vfio_map_bar(&v, 4), "open: %s", v.why);
	for (unsigned i = 0; i <= 4; i += 4) {
		t_ok(v.map[i].way == NTBS_VFIO_SYSFS_UC && v.map[i].mem == NTBS_MEM_UC && v.map[i].verified, "BAR%u by sysfs", i);
		t_ok(is_file(v.map[i].fd, path("sys/bus/pci/devices/" ADDRESS "/resource%u", i)) && !v.map[i].fd_offset, "its file");
	}
	ntbs_write32(&v.regs, 0x100, 7);
	fd = open(path("sys/bus/pci/devices/" ADDRESS "/resource0"), O_RDONLY);
	t_ok(pread(fd, &word, 4, 0x100) == 4 && (uint32_t)word == 7, "registers are there");
	close(fd);
	ntbs_vfio_close(&v);
	unlink(path("sys/bus/pci/devices/" ADDRESS "/resource0"));
	unlink(path("sys/bus/pci/devices/" ADDRESS "/resource4"));

	/* A host that is short of interrupts. */
	memset(&k, 0, sizeof(k));
	k.few_irqs = 7;
	t_must(!ntbs_vfio_open(&v, ADDRESS, &where), "open: %s", v.why);
	t_eq(ntbs_vfio_irqs(&v, 33), -ENOSPC, "too few");
	t_ok(strstr(v.why, "7 of 33"), "says: %s", v.why);
	ntbs_vfio_close(&v);

	/* A kernel that maps nothing: registers go by calls, windows not at all. */
	memset(&k, 0, sizeof(k));
	k.no_mmap = true;
	unlink(path("sys/bus/pci/devices/" ADDRESS "/resource2_wc"));
	t_must(!ntbs_vfio_open(&v, ADDRESS, &where), "open: %s", v.why);
	t_ok(!v.map[0].addr, "no mapping");
	ntbs_write64(&v.regs, 0x80, 0x123456789);
	t_ok(ntbs_read64(&v.regs, 0x80) == 0x123456789 && ntbs_read8(&v.regs, 0x80) == 0x89, "by calls");
	t_eq(ntbs_vfio_map_bar(&v, 2), -ENOTSUP, "no window");
	ntbs_vfio_close(&v);
}

static void refuse(int err, const char *why)
{
	int before = descriptors();

	t_eq(ntbs_vfio_open(&v, ADDRESS, &where), -err, "open");
	t_ok(strstr(v.why, why), "why: '%s', wanted '%s'", v.why, why);
	t_eq(descriptors(), before, "nothing left open");
}

/* Who asks for the group's file gets it where there are both ways, and the other one where its files are not there. */
static void by_wish(void)
{
	static const char *const files[] = { "dev/vfio/12", "dev/vfio/vfio" };

	memset(&k, 0, sizeof(k));
	config(path("dev/device"));
	t_must(!ntbs_vfio_open_group(&v, ADDRESS, &where), "open: %s", v.why);
	t_ok(!v.by_cdev && !strcmp(k.calls, "status container iommu device info "), "calls: %s", k.calls);
	ntbs_vfio_close(&v);
	for (int i = 0; i < 2; i++) {
		memset(&k, 0, sizeof(k));
		rename(path("%s", files[i]), path("dev/vfio/gone"));
		t_must(!ntbs_vfio_open_group(&v, ADDRESS, &where), "open without %s: %s", files[i], v.why);
		t_ok(v.by_cdev, "the other way");
		ntbs_vfio_close(&v);
		rename(path("dev/vfio/gone"), path("%s", files[i]));
	}
}

/* What Linux 6.12 says where somebody else has it, by its own file or by its group's, and where interrupts are not safe. */
static void bind_refusals(void)
{
	static const char *const files[] = { "dev/vfio/devices/vfio0", "dev/vfio/12" };
	char why[64];
	int fds[2];
	pid_t pid;

	memset(&k, 0, sizeof(k));
	for (int i = 0; i < 2; i++) {
		k.bind_err = i ? EBUSY : EINVAL;
		refuse(EBUSY, i ? "IOMMU group 12 of " ADDRESS " is in use" : "in use by another process, or this IOMMU");
		t_must(!pipe2(fds, O_CLOEXEC), "a pipe");
		pid = fork();
		if (!pid) {
			t_must(open(path("%s", files[i]), O_RDWR) >= 0 && write(fds[1], "", 1) == 1, "another process");
			pause();
		}
		t_must(read(fds[0], why, 1) == 1, "the other process has it");
		snprintf(why, sizeof(why), "in use by process %d (", (int)pid);
		refuse(EBUSY, why);
		t_must(!kill(pid, SIGKILL) && waitpid(pid, NULL, 0) == pid, "its end");
		close(fds[0]);
		close(fds[1]);
	}
	k.bind_err = EPERM;
	refuse(EPERM, "of iommufd");
	k.bind_err = ENOMEM;
	refuse(ENOMEM, "VFIO_DEVICE_BIND_IOMMUFD: ");
}

static void refusals(void)
{
	memset(&k, 0, sizeof(k));
	k.not_viable = true;
	refuse(EPERM, "not viable");
	k.not_viable = false;
	k.no_remapping = true;
	refuse(EPERM, "remap interrupts");
	k.no_remapping = false;
	k.no_type1 = true;
	refuse(ENODEV, "vfio_iommu_type1");
	k.no_type1 = false;
	rename(path("dev/vfio/vfio"), path("dev/vfio/gone"));
	refuse(ENODEV, "modprobe vfio_iommu_type1");
	rename(path("dev/vfio/gone"), path("dev/vfio/vfio"));
	rename(path("dev/vfio/12"), path("dev/vfio/gone"));
	refuse(ENODEV, "/dev/vfio/12");
	rename(path("dev/vfio/gone"), path("dev/vfio/12"));
	unlink(path("sys/bus/pci/devices/" ADDRESS "/iommu_group"));
	refuse(ENODEV, "no IOMMU group");
	unlink(path("sys/bus/pci/devices/" ADDRESS "/driver"));
	refuse(ENODEV, "bound to no driver: run ntbsock-ctl bind " ADDRESS);
	t_eq(ntbs_vfio_open(&v, "0000:99:00.0", &where), -ENODEV, "nothing there");
}

int main(void)
{
	const char *tmp = getenv("TMPDIR");
	char cmd[300];

	snprintf(root, sizeof(root), "%.150s/ntb_vfio.XXXXXX", tmp && *tmp ? tmp : "/tmp");
	t_must(mkdtemp(root), "a directory");
	snprintf(sysfs, sizeof(sysfs), "%s/sys", root);
	snprintf(dev, sizeof(dev), "%s/dev", root);
	where = (struct ntbs_pci_where){ .sysfs = sysfs, .dev = dev, .proc = "/proc", .state = root };
	dir(path("sys/bus/pci/devices/" ADDRESS));
	dir(path("sys/bus/pci/drivers/vfio-pci"));
	dir(path("sys/kernel/iommu_groups/12"));
	dir(path("dev/vfio/devices"));
	t_must(!symlink(path("sys/bus/pci/drivers/vfio-pci"), path("sys/bus/pci/devices/" ADDRESS "/driver")), "link");
	t_must(!symlink(path("sys/kernel/iommu_groups/12"), path("sys/bus/pci/devices/" ADDRESS "/iommu_group")), "link");
	file(path("sys/bus/pci/devices/" ADDRESS "/numa_node"), "1\n", 0);
	file(path("sys/bus/pci/devices/" ADDRESS "/resource2_wc"), "", WINDOW);
	file(path("sys/bus/pci/devices/" ADDRESS "/resource"),
	     "0x0000380000000000 0x000038000000ffff 0x000000000014220c\n0x0 0x0 0x0\n"
	     "0x0000390000000000 0x00003900000fffff 0x000000000014220c\n0x0 0x0 0x0\n"
	     "0x00003a0000000000 0x00003a00000fffff 0x000000000014220c\n0x0 0x0 0x0\n", 0);
	file(path("dev/vfio/12"), "", 0);
	file(path("dev/vfio/vfio"), "", 0);
	file(path("dev/device"), "", AT(8));

	one_way("dev/device", false, "status container iommu device info ", 0x140000000);
	windows();
	file(path("sys/bus/pci/devices/" ADDRESS "/resource2_wc"), "", WINDOW);
	dir(path("sys/bus/pci/devices/" ADDRESS "/vfio-dev/vfio0"));
	file(path("dev/vfio/devices/vfio0"), "", AT(8));
	one_way("dev/device", false, "status container iommu device info ", 0x140000000);	/* no iommufd here */
	file(path("dev/iommu"), "", 0);
	one_way("dev/vfio/devices/vfio0", true, "bind alloc attach info ", 0x200000000);
	by_wish();
	bind_refusals();
	unlink(path("dev/iommu"));
	refusals();
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", root);
	t_ok(!system(cmd), "%s", cmd);
	return t_done();
}
