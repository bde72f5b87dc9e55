/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ntb_hw.c - one end, whole, served from a loop: sessions come and go over every model, each with memory of its own
 *
 * links: driver-glue/vfio/hw.c driver-glue/vfio/link.c driver-glue/vfio/ntb.c driver-glue/vfio/intel.c driver-glue/vfio/amd.c driver-glue/vfio/ivshmem.c test/rig/inproc.c test/rig/pair.c test/rig/fn.c test/rig/cfg.c test/rig/ntb_intel.c test/rig/ntb_amd.c test/rig/ioat.c
 *
 * VFIO is here: its function is the model's, memory is mapped where the end wants it, interrupts are eventfds.  The window
 * that an end stores to is memory of this program; the words of its link are carried from there to the model after every
 * turn, old ones as well: late stores of a session that is over.  The ends have the clock of the machine, the model has
 * its own.
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include "rig/inproc.h"
#include "vfio/hw.h"
#include "t.h"

#define WINDOW (1u << 20)
#define IOVA(host) ((host) ? 0x240000000ull : 0x100000000ull)
#define MS 1000000ull
#define LINK_BYTES 24		/* of the link's page */

static struct inproc ip;
static struct ntbs_hw hw[2];
static unsigned news[2];		/* since they were last forgotten */
static uint64_t session;
static bool left_open;			/* memory was taken from a function whose peer still reached it */

static int host_of(const void *v)
{
	return v == &hw[1].v;
}

/* ------------------------------------------------------------------------ VFIO */

static uint64_t cfg_read(struct ntbs_regs *regs, unsigned offset, unsigned len)
{
	return inproc_read(ip.port[host_of(regs)], RIG_CFG, offset, len);
}

static void cfg_write(struct ntbs_regs *regs, unsigned offset, unsigned len, uint64_t value)
{
	inproc_write(ip.port[host_of(regs)], RIG_CFG, offset, value, len);
}

static uint64_t bar_read(struct ntbs_regs *regs, unsigned bar, uint64_t offset, unsigned len)
{
	return inproc_read(ip.port[host_of(regs)], bar, offset, len);
}

static void bar_write(struct ntbs_regs *regs, unsigned bar, uint64_t offset, unsigned len, uint64_t value)
{
	inproc_write(ip.port[host_of(regs)], bar, offset, value, len);
}

static void pause_ms(struct ntbs_regs *regs, unsigned ms)
{
	inproc_advance(&ip, ms * MS);
}

static const struct ntbs_regs_ops regs_ops = { cfg_read, cfg_write, bar_read, bar_write, pause_ms };

int ntbs_vfio_open(struct ntbs_vfio *v, const char *address, const struct ntbs_pci_where *where)
{
	struct rig_fn *fn = ip.port[host_of(v)];
	const struct rig_fn_info *info = rig_fn_info(fn);

	*v = (struct ntbs_vfio){ .regs = { .ops = &regs_ops, .vendor = info->vendor, .device = info->device,
					   .revision = info->revision, .nr_vectors = info->vectors },
				 .numa_node = -1, .device = -1, .error_fd = -1, .request_fd = eventfd(0, EFD_NONBLOCK) };
	for (unsigned i = 0; i < NTBS_PCI_BARS; i++)
		v->regs.bar[i] = (struct ntbs_bar){ .bytes = info->bar[i].size, .addr = rig_fn_bar_base(fn, i),
						    .is_64bit = info->bar[i].is64 };
	inproc_enable(fn);
	return 0;
}

int ntbs_vfio_map_bar(struct ntbs_vfio *v, unsigned bar)
{
	struct ntbs_vfio_map *m = &v->map[bar];

	if (!m->addr)
		*m = (struct ntbs_vfio_map){ .addr = calloc(1, v->regs.bar[bar].bytes), .bytes = v->regs.bar[bar].bytes,
					     .way = NTBS_VFIO_SYSFS_WC, .mem = NTBS_MEM_WC };
	t_must(m->addr, "memory");
	return 0;
}

int ntbs_vfio_irqs(struct ntbs_vfio *v, unsigned nr)
{
	for (v->nr_vectors = 0; v->nr_vectors < nr; v->nr_vectors++)
		v->vector_fd[v->nr_vectors] = eventfd(0, EFD_NONBLOCK);
	return 0;
}

static void fired(void *arg, int host, unsigned vector)
{
	if (vector < hw[host].v.nr_vectors)
		eventfd_write(hw[host].v.vector_fd[vector], 1);
}

int ntbs_vfio_dma_map(struct ntbs_vfio *v, void *memory, size_t bytes, uint64_t iova)
{
	t_must(inproc_map(&ip, host_of(v), iova, memory, bytes), "map");
	return 0;
}

int ntbs_vfio_dma_unmap(struct ntbs_vfio *v, size_t bytes, uint64_t iova)
{
	uint64_t addr, len;

	/* On AMD a closed one leads to 0. */
	left_open |= !rig_window_target(ip.port[!host_of(v)], 2, 0, &addr, &len) && addr == iova;
	inproc_unmap(&ip, host_of(v), iova);
	return 0;
}

int ntbs_vfio_pick_iova(struct ntbs_vfio *v, size_t bytes, uint64_t align, uint64_t *iova)
{
	*iova = IOVA(host_of(v));
	return 0;
}

void ntbs_vfio_close(struct ntbs_vfio *v)
{
	for (unsigned i = 0; i < v->nr_vectors; i++)
		close(v->vector_fd[i]);
	close(v->request_fd);
	for (unsigned i = 0; i < NTBS_PCI_BARS; i++)
		free(v->map[i].addr);
	v->nr_vectors = 0;
}

/* ------------------------------------------------------------------------ the loop */

static void turn(void)
{
	for (int h = 0; h < 2; h++) {
		if (hw[h].link.state != NTBS_LINK_OFF)
			news[h] |= ntbs_hw_serve(&hw[h], 0);
		for (unsigned at = 0; at < LINK_BYTES; at += 8)
			inproc_write(ip.port[h], 2, at, *(volatile uint64_t *)(hw[h].out + at), 8);
	}
	inproc_advance(&ip, 2 * MS);
	poll(NULL, 0, 1);
}

static bool until(unsigned what_a, unsigned what_b)
{
	uint64_t end = ntbs_hw_now() + 10000 * MS;

	while ((news[0] & what_a) != what_a || (news[1] & what_b) != what_b) {
		if (ntbs_hw_now() > end)
			return false;
		turn();
	}
	return true;
}

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void both_up(void)
{
	for (int h = 0; h < 2; h++)
		news[h] &= ~(unsigned)NTBS_LINK_CAME_UP;
	t_must(until(NTBS_LINK_CAME_UP, NTBS_LINK_CAME_UP), "up: a is \"%s\", b is \"%s\"", ntbs_link_say(&hw[0].link),
	       ntbs_link_say(&hw[1].link));
	t_ok(ntbs_link_session(&hw[0].link) && ntbs_link_session(&hw[0].link) == ntbs_link_session(&hw[1].link), "one session");
	t_ok(ntbs_link_session(&hw[0].link) != session, "another one than before");
	session = ntbs_link_session(&hw[0].link);
	for (int h = 0; h < 2; h++) {
		t_ok(hw[h].bell == NTBS_HW_DATA_BELL, "a bell for data");
		t_ok((fcntl(hw[h].arena_fd, F_GET_SEALS) & F_SEAL_SHRINK) && hw[h].in_bytes == WINDOW, "memory that stays whole");
	}
}

/* A store and a bell of host !h arrive at h, and the loop is told. */
static void data(int h)
{
	struct ntbs_ntb_bell b;
	uint64_t value = t_rand() | 1;

	inproc_write(ip.port[!h], 2, 8192, value, 8);
	t_ok(*(volatile uint64_t *)(hw[h].in + 8192) == value, "a store arrives at host %d", h);
	while (readable(hw[h].events_fd))
		ntbs_hw_serve(&hw[h], 0);
	hw[h].bells = 0;
	t_must(!ntbs_ntb_db_register(&hw[!h].ntb, hw[!h].bell, &b), "a register: %s", hw[!h].ntb.why);
	inproc_write(ip.port[!h], 0, b.offset, b.value, b.bytes);
	t_ok(readable(hw[h].events_fd), "the loop has something to serve");
	t_ok(ntbs_hw_serve(&hw[h], 0) & NTBS_HW_BELLS && hw[h].bells == NTBS_HW_DATA_BELL, "a bell");
	t_ok(!readable(hw[h].events_fd), "and then no more");
	t_ok(ntbs_hw_due(&hw[h]) < ntbs_hw_now() + 1000 * MS, "but a heartbeat soon");
}

/* What is mapped now, marked; kept by a mapping of its own. */
static uint64_t *keep_old(int h)
{
	uint64_t *old = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED, hw[h].arena_fd, 0);

	t_must(old != MAP_FAILED, "mmap");
	for (size_t i = 0; i < WINDOW / 8; i++)
		old[i] = 0x5555555555555555;
	return old;
}

static void anew(const char *what)
{
	uint64_t *old[2] = { keep_old(0), keep_old(1) };

	left_open = false;
	for (int h = 0; h < 2; h++)
		news[h] |= ntbs_hw_resume(&hw[h]);
	t_ok(!left_open, "%s: nothing is stored to where no memory is", what);
	t_ok(!((news[0] | news[1]) & NTBS_HW_GONE), "%s: %s%s", what, hw[0].why, hw[1].why);
	for (int h = 0; h < 2; h++)
		t_ok(!*(volatile uint64_t *)(hw[h].in + 8192), "%s: what host %d opens is empty", what, h);
	both_up();
	for (int h = 0; h < 2; h++) {
		bool same = true;

		data(h);
		for (size_t i = 0; i < WINDOW / 8; i++)
			same &= old[h][i] == 0x5555555555555555;
		t_ok(same, "%s: nothing of the new session in the old memory of host %d", what, h);
		munmap(old[h], WINDOW);
	}
}

static void down(unsigned a, unsigned b)
{
	news[0] = news[1] = 0;
	t_must(until(a, b), "down: a is \"%s\", b is \"%s\"", ntbs_link_say(&hw[0].link), ntbs_link_say(&hw[1].link));
}

static void family(enum rig_family f)
{
	struct ntbs_hw_conf conf = { .dead_beats = 1000 };
	uint64_t start;

	t_must(inproc_open(&ip, f, WINDOW), "a model");
	ip.on_irq = fired;
	news[0] = news[1] = 0;
	for (int h = 0; h < 2; h++)
		t_must(!ntbs_hw_open(&hw[h], "0000:00:00.0", &conf), "open: %s", hw[h].why);
	for (int h = 0; h < 2; h++)
		t_must(!ntbs_hw_start(&hw[h]), "start: %s", hw[h].why);
	both_up();
	data(0);
	data(1);
	start = ntbs_hw_now();
	for (int i = 0; i < 200; i++)
		ntbs_hw_serve(&hw[0], 0);
	t_ok(ntbs_hw_now() - start < 1000 * MS, "serving does not sleep");

	ntbs_hw_leave(&hw[0]);
	down(0, NTBS_LINK_WENT_DOWN);
	t_eq(hw[1].link.down, NTBS_LINK_DOWN_LEFT, "a good-bye");
	anew("after a good-bye");
	rig_fault(ip.pair, RIG_FAULT_LINK_DOWN, 0, 0);
	down(NTBS_LINK_WENT_DOWN, NTBS_LINK_WENT_DOWN);
	t_eq(hw[0].link.down, NTBS_LINK_DOWN_WIRES, "the wires");
	rig_fault(ip.pair, RIG_FAULT_LINK_UP, 0, 0);
	anew("after the wires");

	eventfd_write(hw[1].v.request_fd, 1);
	t_ok(readable(hw[1].events_fd) && ntbs_hw_serve(&hw[1], 0) == NTBS_HW_GONE && strstr(hw[1].why, "wants it back"),
	     "the kernel wants it back: %s", hw[1].why);
	ntbs_hw_close(&hw[1]);
	t_ok(hw[1].arena_fd < 0 && hw[1].events_fd < 0, "nothing is kept");
	ntbs_hw_close(&hw[0]);
	t_eq(ip.unknown, 0, "accesses to registers that there are none");
	inproc_close(&ip);
}

int main(void)
{
	static const enum rig_family families[] = { RIG_INTEL_GEN3, RIG_INTEL_ICX, RIG_INTEL_SPR, RIG_AMD };
	int before = open("/dev/null", O_RDONLY), after;

	close(before);
	for (unsigned i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		family(families[i]);
	after = open("/dev/null", O_RDONLY);
	t_eq(after, before, "descriptors");
	close(after);
	return t_done();
}
