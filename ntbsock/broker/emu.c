// SPDX-License-Identifier: BSD-2-Clause
/* emu.c - see emu.h */
#include "emu.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <ntbsock/abi_port.h>
#include "check.h"
#include "log.h"
#include "loop.h"
#include "meet.h"
#include "packet.h"
#include "region.h"

#define EMU_MAGIC 0x55454254u		/* "TBEU" */
#define EMU_VERSION 1
#define MIB (1ull << 20)

/* All that is said.  fds: arena, doorbell. */
struct hello {
	uint32_t magic, version;
	uint64_t arena_bytes;
	uint32_t number, rsvd;		/* the sum of both is the session */
};

static struct ntbs_watch sock = { .fd = -1 }, bell = { .fd = -1 }, timer = { .fd = -1 }, cut = { .fd = -1 };
static int arena_fd = -1, window_fd = -1, peer_bell = -1;
static void *arena, *window;
static uint64_t arena_bytes = 4096 * MIB, window_bytes;
static uint32_t number, delay_us, cut_ms;
static uint64_t sessions;
static bool up;

static const char *name(void)
{
	return ntbs_meet_path();
}

static void heard(void)
{
	struct itimerspec soon = { .it_value = { delay_us / 1000000, delay_us % 1000000 * 1000l } };

	if (delay_us)
		timerfd_settime(timer.fd, 0, &soon, NULL);
	else
		ntbs_bridge_bell();
}

static void bell_ready(struct ntbs_watch *w, uint32_t events)
{
	uint64_t count;

	if (read(w->fd, &count, sizeof(count)) == sizeof(count))	/* the bells first, then what they are for */
		heard();
}

static void timer_ready(struct ntbs_watch *w, uint32_t events)
{
	uint64_t count;

	if (read(w->fd, &count, sizeof(count)) == sizeof(count))
		ntbs_bridge_bell();
}

/* As a link that breaks: slots in our arena that have not been read never came. */
static void cut_ready(struct ntbs_watch *w, uint32_t events)
{
	uint64_t count;

	if (read(w->fd, &count, sizeof(count)) != sizeof(count) || !up)
		return;
	ntbs_regions_lose();
	ntbs_bridge_down("it is cut, as its option says");
}

static void arm_cut(void)
{
	struct itimerspec then = { .it_value = { cut_ms / 1000, cut_ms % 1000 * 1000000l } };

	if (cut_ms)
		timerfd_settime(cut.fd, 0, &then, NULL);
}

static void again(void)
{
	ntbs_check_ring(bell.fd);
}

static void unplug(void)
{
	up = false;
	ntbs_loop_remove(&sock);
	ntbs_loop_remove(&bell);
	if (arena)
		munmap(arena, arena_bytes);
	if (window)
		munmap(window, window_bytes);
	arena = window = NULL;
	ntbs_close_fds(&arena_fd, 1);
	ntbs_close_fds(&window_fd, 1);
	ntbs_close_fds(&peer_bell, 1);
}

static int map_window(const struct hello *h, int *fds)
{
	struct stat st;

	if (h->arena_bytes < NTBS_ARENA_MIN || !ntbs_check_memfd(fds[0]) || !ntbs_check_bell(fds[1]) || fstat(fds[0], &st) ||
	    (uint64_t)st.st_size != h->arena_bytes)
		return -EPROTO;
	window = mmap(NULL, h->arena_bytes, PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fds[0], 0);
	if (window == MAP_FAILED) {
		window = NULL;
		return -errno;
	}
	window_bytes = h->arena_bytes;
	window_fd = fds[0];
	peer_bell = fds[1];
	fds[0] = fds[1] = -1;
	return 0;
}

static void on_hello(const struct hello *h, int len, int *fds, int nr_fds)
{
	struct ntbs_bridge_end end;
	int ret;

	if (len != sizeof(*h) || nr_fds != 2 || h->magic != EMU_MAGIC || h->version != EMU_VERSION) {
		ntbs_bridge_down("what is at its other end is no ntbsockd of this version");
		return;
	}
	ret = map_window(h, fds);
	if (ret) {
		ntbs_bridge_down(strerror(-ret));
		return;
	}
	up = true;
	end = (struct ntbs_bridge_end){
		.session = (number + h->number) | 1,
		.arena_fd = arena_fd,
		.sparse = true,
		.arena = arena,
		.arena_bytes = arena_bytes,
		.window_fd = window_fd,
		.window = window,
		.window_bytes = window_bytes,
		.mem = NTBS_MEM_CACHED,
		.bell = NTBS_BELL_EVENTFD,
		.bell_fd = peer_bell,
	};
	arm_cut();
	sessions++;
	ntbs_bridge_up(&end);
}

static void sock_ready(struct ntbs_watch *w, uint32_t events)
{
	struct hello h;
	int fds[NTBS_MSG_FDS], nr_fds, len;

	memset(&h, 0, sizeof(h));
	len = ntbs_packet_recv(w->fd, &h, sizeof(h), fds, &nr_fds);
	if (len == -EAGAIN)
		return;
	if (len <= 0)
		ntbs_bridge_down(len ? strerror(-len) : "the other broker has gone");
	else if (up)
		ntbs_bridge_down("the other broker said more than there is to say");
	else
		on_hello(&h, len, fds, nr_fds);
	ntbs_close_fds(fds, nr_fds);
}

static int make_arena(void)
{
	arena_fd = memfd_create("ntbsock-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (arena_fd < 0 || ftruncate(arena_fd, (off_t)arena_bytes) ||
	    fcntl(arena_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return -errno;
	arena = mmap(NULL, arena_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, arena_fd, 0);
	if (arena == MAP_FAILED) {
		arena = NULL;
		return -errno;
	}
	return 0;
}

/* Takes over @fd. */
static void met(int fd)
{
	struct hello h = { .magic = EMU_MAGIC, .version = EMU_VERSION, .arena_bytes = arena_bytes };
	struct ntbs_sendq q;
	int ret;

	sock = (struct ntbs_watch){ .fd = fd, .ready = sock_ready };
	ret = make_arena();
	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		number = (uint32_t)(ntbs_loop_now_ms() * 2654435761u) ^ (uint32_t)getpid();
	h.number = number;
	bell = (struct ntbs_watch){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .ready = bell_ready };
	if (!ret && bell.fd < 0)
		ret = -errno;
	if (!ret)
		ret = ntbs_loop_add(&bell, EPOLLIN);
	if (!ret)
		ret = ntbs_loop_add(&sock, EPOLLIN);
	ntbs_sendq_init(&q);
	if (!ret)
		ret = ntbs_packet_send(&q, fd, &h, sizeof(h), (int[]){ arena_fd, bell.fd }, 2);
	if (ret) {
		ntbs_log(NTBS_LOG_ERR, "port %s: %s", name(), strerror(-ret));
		unplug();
	}
	ntbs_sendq_drop(&q);
}

static bool busy(void)
{
	return sock.fd >= 0;
}

static void tick(void)
{
	ntbs_meet_tick();
}

static int option(const char *text)
{
	char *stop;
	unsigned long v;

	if (!strncmp(text, "arena=", 6)) {
		v = strtoul(text + 6, &stop, 10);
		if (*stop || v < 1 || v > 65536)
			return -EINVAL;
		arena_bytes = v * MIB;
		return 0;
	}
	if (!strncmp(text, "delay=", 6)) {
		v = strtoul(text + 6, &stop, 10);
		if (*stop || v > 1000000)
			return -EINVAL;
		delay_us = (uint32_t)v;
		return 0;
	}
	if (!strncmp(text, "cut=", 4)) {
		v = strtoul(text + 4, &stop, 10);
		if (*stop || v < 1 || v > 1000000)
			return -EINVAL;
		cut_ms = (uint32_t)v;
		return 0;
	}
	return -EINVAL;
}

/* The window leads into our own arena, by a mapping of its own. */
static int plug_loop(void)
{
	struct hello h = { .magic = EMU_MAGIC, .version = EMU_VERSION, .arena_bytes = arena_bytes, .number = 1 };
	int ret = make_arena(), fds[2];

	if (ret)
		return ret;
	bell = (struct ntbs_watch){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .ready = bell_ready };
	ret = bell.fd < 0 ? -errno : ntbs_loop_add(&bell, EPOLLIN);
	if (ret)
		return ret;
	number = (uint32_t)(ntbs_loop_now_ms() * 2654435761u) ^ (uint32_t)getpid();
	fds[0] = fcntl(arena_fd, F_DUPFD_CLOEXEC, 0);
	fds[1] = fcntl(bell.fd, F_DUPFD_CLOEXEC, 0);
	on_hello(&h, sizeof(h), fds, 2);
	ntbs_close_fds(fds, 2);
	return up ? 0 : -EIO;
}

int ntbs_emu_open(const char *spec, const char *loop)
{
	char *copy = strdup(spec ? spec : loop), *rest = copy, *path, *text;
	int ret = copy ? 0 : -ENOMEM;

	path = ret ? NULL : strsep(&rest, ",");
	while (!ret && (text = strsep(&rest, ","))) {
		ret = option(text);
		if (ret)
			ntbs_log(NTBS_LOG_ERR, "port emu:%s: \"%s\" is none of arena=MIB, delay=US, cut=MS", path, text);
	}
	if (!ret && delay_us) {
		timer = (struct ntbs_watch){ .fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), .ready = timer_ready };
		ret = timer.fd < 0 ? -errno : ntbs_loop_add(&timer, EPOLLIN);
	}
	if (!ret && cut_ms) {
		cut = (struct ntbs_watch){ .fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), .ready = cut_ready };
		ret = cut.fd < 0 ? -errno : ntbs_loop_add(&cut, EPOLLIN);
	}
	if (!ret && spec && !*path)
		ret = -EINVAL;
	if (!ret)
		ret = spec ? ntbs_meet_open("port", path, met, busy) : plug_loop();
	free(copy);
	if (!ret && spec)
		ntbs_meet_tick();
	return ret;
}

static void close_all(void)
{
	unplug();
	ntbs_loop_remove(&timer);
	ntbs_loop_remove(&cut);
	ntbs_meet_close();
}

static void describe(struct ntbs_bridge_facts *facts)
{
	snprintf(facts->family, sizeof(facts->family), "emulated");
	snprintf(facts->state, sizeof(facts->state), "%s", up ? "up" : "the other broker is not there");
	facts->sessions = sessions;
}

const struct ntbs_bridge_driver ntbs_emu_driver = {
	.close = close_all, .tick = tick, .unplug = unplug, .again = again, .name = name, .describe = describe,
};
