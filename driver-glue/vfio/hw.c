// SPDX-License-Identifier: BSD-2-Clause
/*
 * hw.c - the pieces of one end put together, and the loop that serves them; see hw.h
 *
 * Order of opening: windows are mapped before the driver touches the function (vfio_map.c), memory is mapped for DMA
 * before a window leads there, interrupts are on before the link is.  Closing goes the other way: window closed before
 * its memory is unmapped.
 */
#include "hw.h"

#include <errno.h>
#include <fcntl.h>
#include <numa.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "barrier.h"

#define WINDOW_DEFAULT (64ull << 20)

/* In events_fd: a vector, or one of these. */
#define EVENT_ERROR NTBS_VFIO_VECTORS
#define EVENT_REQUEST (NTBS_VFIO_VECTORS + 1)
#define NR_EVENTS (NTBS_VFIO_VECTORS + 2)

uint64_t ntbs_hw_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* ---------------------------------------------------------------- what the link does */

static uint32_t spad_read(void *arg, unsigned i)
{
	return ntbs_ntb_spad_read(&((struct ntbs_hw *)arg)->ntb, i);
}

static void peer_spad_write(void *arg, unsigned i, uint32_t value)
{
	ntbs_ntb_peer_spad_write(&((struct ntbs_hw *)arg)->ntb, i, value);
}

static uint64_t inbound_read(void *arg, uint64_t offset)
{
	return *(volatile uint64_t *)(((struct ntbs_hw *)arg)->in + offset);
}

static void inbound_clear(void *arg, uint64_t offset)
{
	*(volatile uint64_t *)(((struct ntbs_hw *)arg)->in + offset) = 0;
	ntbs_store_flush();
}

static void window_write(void *arg, uint64_t offset, uint64_t value)
{
	*(volatile uint64_t *)(((struct ntbs_hw *)arg)->out + offset) = value;
	ntbs_store_flush();	/* whole and in order: also through a write-combining buffer */
}

static void ring(void *arg)
{
	ntbs_ntb_db_ring(&((struct ntbs_hw *)arg)->ntb, NTBS_HW_LINK_BELL);
}

static uint32_t draw(void *arg)
{
	uint32_t epoch = 0;

	while (getrandom(&epoch, sizeof(epoch), 0) != sizeof(epoch))
		;
	return epoch;
}

/* A failure shows: the link does not come up, and says that no store arrives. */
static void open_inbound(void *arg)
{
	struct ntbs_hw *hw = arg;

	if (hw->mapped && ntbs_ntb_set_window(&hw->ntb, hw->window, hw->iova, hw->in_bytes))
		snprintf(hw->why, sizeof(hw->why), "%s", hw->ntb.why);
}

static const struct ntbs_link_ops link_ops = {
	spad_read, peer_spad_write, inbound_read, inbound_clear, window_write, ring, draw, open_inbound,
};

/* ---------------------------------------------------------------------------- open */

static int fail(struct ntbs_hw *hw, int err, const char *why)
{
	snprintf(hw->why, sizeof(hw->why), "%s", why);
	return err < 0 ? err : -err;
}

/* A multiple of pages that the family takes. */
static uint64_t fitting(const struct ntbs_ntb_window *w, uint64_t most)
{
	uint64_t bytes = w->bytes < most ? w->bytes : most;

	return w->size_pow2 ? 1ull << (63 - __builtin_clzll(bytes)) : bytes & ~4095ull;
}

/* Sealed: who gets it relies on its size. */
static int make_arena(struct ntbs_hw *hw, uint64_t bytes)
{
	int ret;

	hw->arena_fd = memfd_create("ntbsock arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (hw->arena_fd < 0 || ftruncate(hw->arena_fd, bytes) ||
	    fcntl(hw->arena_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return fail(hw, errno, "no memory for the arena");
	hw->arena = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, hw->arena_fd, 0);
	if (hw->arena == MAP_FAILED) {
		hw->arena = NULL;
		return fail(hw, errno, "no memory for the arena");
	}
	hw->in = hw->arena;
	hw->in_bytes = bytes;
	/* Before its pages are touched: on the node that the bridge is on, or stores of the peer cross sockets. */
	if (hw->v.numa_node >= 0 && numa_available() >= 0 && numa_max_node() >= hw->v.numa_node)
		numa_tonode_memory(hw->arena, bytes, hw->v.numa_node);
	ret = ntbs_vfio_dma_map(&hw->v, hw->arena, bytes, hw->iova);
	if (ret)
		return fail(hw, ret, hw->v.why);
	hw->mapped = true;
	return 0;
}

static void drop_arena(struct ntbs_hw *hw)
{
	if (hw->mapped)
		ntbs_vfio_dma_unmap(&hw->v, hw->in_bytes, hw->iova);
	if (hw->arena)
		munmap(hw->arena, hw->in_bytes);
	if (hw->arena_fd >= 0)
		close(hw->arena_fd);
	hw->mapped = false;
	hw->arena = NULL;
	hw->in = NULL;
	hw->arena_fd = -1;
}

static int map_arena(struct ntbs_hw *hw, uint64_t bytes)
{
	int ret = ntbs_vfio_pick_iova(&hw->v, bytes, hw->ntb.window[hw->window].addr_align, &hw->iova);

	if (ret)
		return fail(hw, ret, hw->v.why);
	ret = make_arena(hw, bytes);
	if (ret)
		return ret;
	ret = ntbs_ntb_set_window(&hw->ntb, hw->window, hw->iova, bytes);
	return ret ? fail(hw, ret, hw->ntb.why) : 0;
}

/*
 * The window is closed meanwhile: nothing is stored to where no memory is.  Neither step need reach a bridge whose link
 * is down (AMD keeps these registers with the peer); then nothing arrives either, and the link opens the window again.
 */
static int renew_arena(struct ntbs_hw *hw)
{
	uint64_t bytes = hw->in_bytes;
	int ret;

	ntbs_ntb_clear_window(&hw->ntb, hw->window);
	drop_arena(hw);
	ret = make_arena(hw, bytes);
	if (!ret)
		open_inbound(hw);
	return ret;
}

static int map_memory(struct ntbs_hw *hw, uint64_t most)
{
	const struct ntbs_ntb_window *w = &hw->ntb.window[hw->window];

	hw->out_map = &hw->v.map[w->bar];
	hw->out = (char *)hw->out_map->addr + w->offset;
	hw->out_bytes = fitting(w, most);
	ntbs_port_attach(&hw->port, NULL, hw->out_map->mem);
	if (!w->in_bar)
		return map_arena(hw, hw->out_bytes);
	hw->in = (char *)hw->out_map->addr + w->in_offset;
	hw->in_bytes = hw->out_bytes;
	return 0;
}

static int watch(struct ntbs_hw *hw, int fd, uint32_t event)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = event };

	return fd >= 0 && epoll_ctl(hw->events_fd, EPOLL_CTL_ADD, fd, &ev) ? fail(hw, errno, "epoll") : 0;
}

static int open_events(struct ntbs_hw *hw)
{
	int ret = ntbs_vfio_irqs(&hw->v, hw->ntb.nr_vectors);

	if (ret)
		return fail(hw, ret, hw->v.why);
	hw->events_fd = epoll_create1(EPOLL_CLOEXEC);
	if (hw->events_fd < 0)
		return fail(hw, errno, "epoll");
	for (unsigned i = 0; i < hw->v.nr_vectors && !ret; i++)
		ret = watch(hw, hw->v.vector_fd[i], i);
	if (!ret)
		ret = watch(hw, hw->v.error_fd, EVENT_ERROR);
	return ret ? ret : watch(hw, hw->v.request_fd, EVENT_REQUEST);
}

int ntbs_hw_open(struct ntbs_hw *hw, const char *address, const struct ntbs_hw_conf *conf)
{
	struct ntbs_link_conf link = { .dead_beats = conf->dead_beats };
	int ret;

	memset(hw, 0, sizeof(*hw));
	hw->arena_fd = hw->events_fd = -1;
	ret = ntbs_vfio_open(&hw->v, address, NULL);
	if (ret)
		return fail(hw, ret, hw->v.why);
	if (hw->v.regs.bar[2].bytes)
		ret = ntbs_vfio_map_bar(&hw->v, 2);	/* ivshmem's header is there, which probe() reads */
	if (ret) {
		fail(hw, ret, hw->v.why);
		goto err_close;
	}
	hw->ntb.dead_ms = conf->dead_beats * NTBS_HW_BEAT_MS;
	ret = ntbs_ntb_probe(&hw->ntb, &hw->v.regs);
	if (ret) {
		fail(hw, ret, hw->ntb.why);
		goto err_close;
	}
	hw->probed = true;
	/* The first AMD bridges have a small one in front; of equal ones the first. */
	for (unsigned i = 1; i < hw->ntb.nr_windows; i++) {
		if (hw->ntb.window[i].bytes > hw->ntb.window[hw->window].bytes)
			hw->window = i;
	}
	ret = ntbs_vfio_map_bar(&hw->v, hw->ntb.window[hw->window].bar);
	if (ret) {
		fail(hw, ret, hw->v.why);
		goto err_close;
	}
	ret = map_memory(hw, conf->window_bytes ? conf->window_bytes : WINDOW_DEFAULT);
	if (ret)
		goto err_close;
	ret = open_events(hw);
	if (ret)
		goto err_close;
	link.features = hw->ntb.bells & NTBS_HW_DATA_BELL ? NTBS_HW_HAS_DATA_BELL : 0;
	link.side_b = hw->ntb.side == NTBS_NTB_SIDE_B;
	link.window_bytes = hw->out_bytes;
	link.inbound_bytes = hw->in_bytes;
	ntbs_link_init(&hw->link, &link, &link_ops, hw);
	return 0;
err_close:
	ntbs_hw_close(hw);
	return ret;
}

int ntbs_hw_start(struct ntbs_hw *hw)
{
	struct ntbs_ntb_link wires;
	int ret;

	ntbs_ntb_db_unmask(&hw->ntb, hw->ntb.bells);
	ret = ntbs_ntb_link_enable(&hw->ntb);
	if (!ret)
		ret = ntbs_ntb_link_state(&hw->ntb, &wires);
	if (ret)
		return fail(hw, ret, hw->ntb.why);
	ntbs_link_start(&hw->link, ntbs_hw_now(), wires.up);
	return 0;
}

/* --------------------------------------------------------------------------- serve */

static bool take(int fd)
{
	uint64_t count;

	return fd >= 0 && read(fd, &count, sizeof(count)) == sizeof(count);
}

/* What the function has told since last time; @lost: it is not ours any more. */
static uint64_t events(struct ntbs_hw *hw, uint64_t now, bool *lost)
{
	struct epoll_event ready[NR_EVENTS];
	int nr = epoll_wait(hw->events_fd, ready, NR_EVENTS, 0);
	uint64_t ev = 0;

	for (int i = 0; i < nr; i++) {
		unsigned event = ready[i].data.u32;

		if (event == EVENT_ERROR || event == EVENT_REQUEST)
			*lost |= take(event == EVENT_ERROR ? hw->v.error_fd : hw->v.request_fd);
		else if (take(hw->v.vector_fd[event]))
			ev |= ntbs_ntb_irq(&hw->ntb, event);
	}
	if (hw->ntb.poll_ms && now >= hw->poll_at_ns) {
		hw->poll_at_ns = now + hw->ntb.poll_ms * 1000000ull;
		ev |= ntbs_ntb_poll(&hw->ntb);
	}
	return ev;
}

static unsigned step(struct ntbs_hw *hw)
{
	uint64_t now = ntbs_hw_now(), ev;
	struct ntbs_ntb_link wires;
	unsigned news = 0;
	bool lost = false;

	ev = events(hw, now, &lost);
	if (lost) {
		fail(hw, ENODEV, "the kernel reports an error of the function, or wants it back");
		return NTBS_HW_GONE;
	}
	if (ev & NTBS_NTB_EVENT_LINK) {
		if (ntbs_ntb_link_state(&hw->ntb, &wires)) {
			fail(hw, ENODEV, hw->ntb.why);
			news |= NTBS_HW_GONE;
		}
		news |= ntbs_link_wires(&hw->link, now, wires.up);
	}
	ev &= hw->ntb.bells;
	hw->bells |= ev;
	if ((ev & NTBS_HW_LINK_BELL || now >= ntbs_link_next(&hw->link)) && !(news & NTBS_LINK_WENT_DOWN))
		news |= ntbs_link_tick(&hw->link, now);
	if (news & NTBS_LINK_CAME_UP)
		hw->bell = hw->link.features & NTBS_HW_HAS_DATA_BELL ? NTBS_HW_DATA_BELL : NTBS_HW_LINK_BELL;
	return news | (ev ? NTBS_HW_BELLS : 0);
}

uint64_t ntbs_hw_due(const struct ntbs_hw *hw)
{
	uint64_t next = ntbs_link_next(&hw->link);

	return hw->ntb.poll_ms && hw->poll_at_ns < next ? hw->poll_at_ns : next;
}

static void sleep_until(struct ntbs_hw *hw, uint64_t until)
{
	struct pollfd p = { .fd = hw->events_fd, .events = POLLIN };
	uint64_t now = ntbs_hw_now(), wait;
	struct timespec ts;

	if (ntbs_hw_due(hw) < until)
		until = ntbs_hw_due(hw);
	wait = until > now ? until - now : 0;
	if (wait > 1000000000)
		wait = 1000000000;	/* a bell of a bridge that keeps no bits can be lost: look once a second */
	ts = (struct timespec){ .tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000 };
	ppoll(&p, 1, &ts, NULL);
}

unsigned ntbs_hw_serve(struct ntbs_hw *hw, uint64_t timeout_ns)
{
	uint64_t end = ntbs_hw_now() + timeout_ns;
	unsigned news = step(hw);

	if (end < timeout_ns)
		end = UINT64_MAX;
	while (!news && ntbs_hw_now() < end) {
		sleep_until(hw, end);
		news = step(hw);
	}
	return news;
}

void ntbs_hw_leave(struct ntbs_hw *hw)
{
	ntbs_link_leave(&hw->link);
}

unsigned ntbs_hw_resume(struct ntbs_hw *hw)
{
	if (hw->mapped && renew_arena(hw))
		return NTBS_HW_GONE;
	if (hw->link.state == NTBS_LINK_OFF)
		return ntbs_link_start(&hw->link, ntbs_hw_now(), hw->link.wires);
	return ntbs_link_resume(&hw->link, ntbs_hw_now());
}

void ntbs_hw_close(struct ntbs_hw *hw)
{
	if (hw->probed) {
		ntbs_link_leave(&hw->link);
		ntbs_ntb_shutdown(&hw->ntb);
	}
	drop_arena(hw);
	if (hw->events_fd >= 0)
		close(hw->events_fd);	/* before the descriptors in it: nobody finds half of them */
	hw->events_fd = -1;
	ntbs_vfio_close(&hw->v);
	hw->probed = false;
}
