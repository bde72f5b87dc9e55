// SPDX-License-Identifier: BSD-2-Clause
/*
 * ivtest.c - in a guest: does the rig give what everything else here counts on?
 *
 *	ivtest PCI-ADDRESS a|b [N]
 *
 * Runs in both guests at once on the ivshmem device, which is bound to vfio-pci.  Opens it through its IOMMU group,
 * maps its registers and memory, takes its MSI-X vectors as eventfds, and then, with the other guest: a message each
 * way with contents checked, doorbells that wake who sleeps, and the two properties of a CPU that emulation has been
 * seen to drop: atomic instructions are atomic and fences order (README.md, "Settings").  It shares no code with
 * driver-glue/vfio, whose tests it must not depend on.
 *
 * Who runs it again with the same shared memory says for the how manieth time, N: every run has a part of its own.
 *
 * Registers: QEMU, docs/specs/ivshmem-spec.rst.  VFIO: Linux, Documentation/driver-api/vfio.rst.
 */
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include "t.h"

enum { IV_POSITION = 0x8, IV_DOORBELL = 0xc };
enum { VECTORS = 4, MESSAGE = 256 << 10, BELLS = 200, BALLS = 2000, ADDS = 20000, RACES = 3000 };
enum { DMA_BYTES = 4 << 20, DMA_IOVA = 64 << 20 };

/* At the start of the shared memory, zero at first.  Each guest writes its own side only, but for the counter. */
struct side {
	alignas(64) _Atomic uint32_t here;	/* id + 1 */
	alignas(64) _Atomic uint32_t step;	/* barrier: how often this side has arrived */
	alignas(64) _Atomic uint32_t ball;
	alignas(64) _Atomic uint32_t race;	/* round of the store-buffer race */
	alignas(64) _Atomic uint32_t saw;	/* what this side loaded in it */
};
struct shared {
	struct side side[2];
	alignas(64) _Atomic uint64_t sum;
	alignas(4096) uint8_t message[2][MESSAGE];
};

static int device, bell[VECTORS];
static volatile uint8_t *regs;
static struct shared *sh;
static unsigned me, peer_id;

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

#define wait_until(cond, what) do { \
	uint64_t end_ = now_ms() + 30000; \
	while (!(cond)) \
		t_must(now_ms() < end_, "out of time: %s", what); \
	} while (0)

/* Both guests are here. */
static void meet(void)
{
	static uint32_t step;

	sh->side[me].step = ++step;
	wait_until(sh->side[!me].step >= step, "the other guest");
}

static void *map_region(unsigned index, size_t *len)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = index };
	void *p;

	t_must(!ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info), "region %u", index);
	t_must(info.flags & VFIO_REGION_INFO_FLAG_MMAP, "region %u cannot be mapped", index);
	p = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, (off_t)info.offset);
	t_must(p != MAP_FAILED, "map region %u", index);
	*len = info.size;
	return p;
}

/* Without bus mastering its MSI-X messages, which are writes, go nowhere. */
static void enable_master(void)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = VFIO_PCI_CONFIG_REGION_INDEX };
	uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

	t_must(!ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info), "config space");
	t_must(pwrite(device, &command, sizeof(command), (off_t)info.offset + PCI_COMMAND) == sizeof(command), "COMMAND");
}

/* The group's IOMMU, a DMA mapping in it, the device. */
static void open_device(const char *address)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	struct vfio_iommu_type1_dma_map map = { .argsz = sizeof(map),
						.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
						.iova = DMA_IOVA, .size = DMA_BYTES };
	char path[300], group_dir[PATH_MAX];
	ssize_t n;
	int container, group;
	void *mem;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", address);
	n = readlink(path, group_dir, sizeof(group_dir) - 1);
	t_must(n > 0, "%s: no IOMMU group", path);
	group_dir[n] = 0;
	snprintf(path, sizeof(path), "/dev/vfio/%s", basename(group_dir));
	container = open("/dev/vfio/vfio", O_RDWR);
	t_must(container >= 0, "/dev/vfio/vfio");
	t_must(ioctl(container, VFIO_GET_API_VERSION) == VFIO_API_VERSION, "version");
	t_must(ioctl(container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) == 1, "no TYPE1v2");
	group = open(path, O_RDWR);
	t_must(group >= 0, "%s", path);
	t_must(!ioctl(group, VFIO_GROUP_GET_STATUS, &status), "status");
	t_must(status.flags & VFIO_GROUP_FLAGS_VIABLE, "not all of the group is bound to vfio-pci");
	t_must(!ioctl(group, VFIO_GROUP_SET_CONTAINER, &container), "container");
	t_must(!ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), "IOMMU");
	mem = mmap(NULL, DMA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	t_must(mem != MAP_FAILED, "memory");
	map.vaddr = (uintptr_t)mem;
	t_ok(!ioctl(container, VFIO_IOMMU_MAP_DMA, &map), "map for DMA");
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address);
	t_must(device >= 0, "device %s", address);
	enable_master();
}

static void open_bells(void)
{
	struct vfio_irq_info info = { .argsz = sizeof(info), .index = VFIO_PCI_MSIX_IRQ_INDEX };
	struct { struct vfio_irq_set set; int32_t fd[VECTORS]; } irq = {
		.set = { .argsz = sizeof(irq), .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			 .index = VFIO_PCI_MSIX_IRQ_INDEX, .count = VECTORS } };

	t_must(!ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, &info), "interrupts");
	t_eq(info.count, VECTORS, "MSI-X vectors");
	for (int i = 0; i < VECTORS; i++)
		irq.fd[i] = bell[i] = eventfd(0, 0);
	t_must(!ioctl(device, VFIO_DEVICE_SET_IRQS, &irq), "vectors to eventfds");
}

static void ring(unsigned vector)
{
	*(volatile uint32_t *)(regs + IV_DOORBELL) = peer_id << 16 | vector;
}

/* Sleeps until the vector has fired; how often since the last time, or 0. */
static uint64_t sleep_on(unsigned vector, int timeout_ms)
{
	struct pollfd pfd = { .fd = bell[vector], .events = POLLIN };
	uint64_t count = 0;

	if (poll(&pfd, 1, timeout_ms) == 1)
		t_ok(read(bell[vector], &count, sizeof(count)) == sizeof(count), "eventfd");
	return count;
}

static void test_message(void)
{
	meet();
	t_fill(sh->message[me], MESSAGE, me + 1, 0);
	ring(1);
	t_must(sleep_on(1, 30000), "no doorbell for the message");
	t_eq(t_wrong(sh->message[!me], MESSAGE, !me + 1, 0), -1, "first wrong byte of the other guest's message");
	meet();
	t_eq(sleep_on(0, 0) + sleep_on(2, 0) + sleep_on(3, 0), 0, "interrupts of vectors that nobody rang");
}

static void test_bells(void)
{
	uint64_t start, count = 0;

	meet();
	start = now_ms();
	for (int i = 0; i < BELLS; i++) {
		if (me == 0)
			ring(2);
		t_must(sleep_on(2, 30000) == 1, "doorbell %d of %d", i, BELLS);
		if (me == 1)
			ring(2);
	}
	printf("doorbell to sleeping reader and back: %.0f us\n", (double)(now_ms() - start) * 1000 / BELLS);
	meet();
	/* Many at once become one or few: nobody may count them, and none may be lost altogether. */
	for (int i = 0; i < 100 && me == 0; i++)
		ring(3);
	meet();
	if (me == 1) {
		count = sleep_on(3, 30000);
		t_ok(count >= 1 && count <= 100, "%llu wake-ups for 100 doorbells", (unsigned long long)count);
	}
}

static void test_balls(void)
{
	meet();
	for (uint32_t i = 1; i <= BALLS; i++) {
		if (me == 0)
			sh->side[0].ball = i;
		wait_until(sh->side[!me].ball == i, "the ball");
		if (me == 1)
			sh->side[1].ball = i;
	}
}

static void test_atomics(void)
{
	meet();
	for (int i = 0; i < ADDS; i++)
		atomic_fetch_add(&sh->sum, 1);
	meet();
	t_eq(sh->sum, 2 * ADDS, "lock xadd of both guests: is maxcpus=2 set?");
}

/* Each stores, fences, loads the other's: not both may miss the other's store.  The load must not wait for the line. */
static void test_fences(void)
{
	unsigned both = 0;

	for (uint32_t round = 1; round <= RACES; round++) {
		meet();
		atomic_store_explicit(&sh->side[me].race, round, memory_order_relaxed);
		__asm__ volatile("mfence" ::: "memory");
		sh->side[me].saw = atomic_load_explicit(&sh->side[!me].race, memory_order_relaxed);
		meet();
		if (sh->side[0].saw != round && sh->side[1].saw != round)
			both++;
	}
	t_eq(both, 0, "times that a load passed a fence: is maxcpus=2 set?");
}

int main(int argc, char **argv)
{
	size_t regs_len, shared_len, at;

	t_must(argc == 3 || argc == 4, "usage: ivtest PCI-ADDRESS a|b [N]");
	me = argv[2][0] == 'b';
	at = argc == 4 ? (size_t)atoi(argv[3]) * sizeof(struct shared) : 0;
	open_device(argv[1]);
	regs = map_region(VFIO_PCI_BAR0_REGION_INDEX, &regs_len);
	sh = (void *)((char *)map_region(VFIO_PCI_BAR2_REGION_INDEX, &shared_len) + at);
	t_must(regs_len >= 16 && shared_len >= at + sizeof(*sh), "sizes %zu, %zu", regs_len, shared_len);
	open_bells();
	sh->side[me].here = *(volatile uint32_t *)(regs + IV_POSITION) + 1;
	wait_until(sh->side[!me].here, "the other guest's id");
	peer_id = sh->side[!me].here - 1;
	t_ok(peer_id + 1 != sh->side[me].here, "both guests have id %u", peer_id);
	test_message();
	test_bells();
	test_balls();
	test_atomics();
	test_fences();
	return t_done();
}
