// SPDX-License-Identifier: BSD-2-Clause
/* hwport.c - see hwport.h */
#include "hwport.h"

#include <errno.h>
#include <fcntl.h>
#include <numa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <ntbsock/abi_port.h>
#include "log.h"
#include "loop.h"
#include "vfio/hw.h"

#define MIB (1ull << 20)
#define RETRY_MS_MAX 30000u

/*
 * Between two sessions.  RESUME: nothing of the last one is in use, begin anew in the next turn of the loop (not within
 * unplug(): whoever called it is not done with the last one).  REST: the bridge itself has given it up, for a reason that
 * may last; begin anew with the next tick.
 */
enum stage { CLOSED, SERVING, RESUME, REST };

static struct ntbs_watch events = { .fd = -1 }, timer = { .fd = -1 }, bell = { .fd = -1 };
static struct ntbs_hw_conf conf;
static struct ntbs_hw hw;
static enum stage stage;
static char address[16];
static bool gone;			/* the function; closed once the session is */
static bool bell_of_broker, bell_again;
static uint64_t armed_ns, retry_at_ms;
static uint32_t retry_ms;
static unsigned long long sessions;	/* of functions that were closed */
static const char *said;

static const char *name(void)
{
	return address;
}

/* ------------------------------------------------------------------------------- timer */

static void arm(void)
{
	uint64_t due = stage == SERVING && !gone ? ntbs_hw_due(&hw) : UINT64_MAX;
	struct itimerspec at = { 0 };

	if (stage == RESUME || bell_again || !due)
		due = 1;	/* now; 0 would be never */
	if (due == armed_ns)
		return;
	armed_ns = due;
	if (due != UINT64_MAX)
		at.it_value = (struct timespec){ due / 1000000000, due % 1000000000 };
	timerfd_settime(timer.fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static void again(void)
{
	bell_again = true;
	arm();
}

/* ---------------------------------------------------------------------------- sessions */

/* Both sides have the same 64 bits; the bridge wants 32, and not 0. */
static uint32_t session_of(uint64_t epochs)
{
	uint32_t session = (uint32_t)(epochs * 0x9e3779b97f4a7c15 >> 32);

	return session ? session : 1;
}

static void choose_bell(struct ntbs_bridge_end *end)
{
	const struct ntbs_vfio_map *regs = &hw.v.map[0];
	struct ntbs_ntb_bell b;

	if (bell_of_broker || regs->way != NTBS_VFIO_SYSFS_UC || ntbs_ntb_db_register(&hw.ntb, hw.bell, &b)) {
		end->bell = NTBS_BELL_EVENTFD;
		end->bell_fd = bell.fd;
		return;
	}
	end->bell = b.bytes == 2 ? NTBS_BELL_REGISTER16 : NTBS_BELL_REGISTER;
	end->bell_fd = regs->fd;
	end->bell_offset = regs->fd_offset + b.offset;
	end->bell_reg = (char *)regs->addr + b.offset;
	end->bell_value = b.value;
}

static void come_up(void)
{
	const struct ntbs_ntb_window *w = &hw.ntb.window[hw.window];
	struct ntbs_bridge_end end = {
		.session = session_of(ntbs_link_session(&hw.link)),
		.arena_fd = w->in_bar ? hw.out_map->fd : hw.arena_fd,
		.arena_offset = w->in_bar ? hw.out_map->fd_offset + w->in_offset : 0,
		.arena = (void *)hw.in,
		.arena_bytes = hw.in_bytes,
		.arena_mem = w->in_bar ? hw.out_map->mem : NTBS_MEM_CACHED,
		.window_fd = hw.out_map->fd,
		.window_offset = hw.out_map->fd_offset + w->offset,
		.window = hw.out,
		.window_bytes = hw.link.window_bytes,
		.mem = hw.out_map->mem,
	};

	choose_bell(&end);
	ntbs_log(NTBS_LOG_INFO, "port %s: session %08x, %zu KiB here, a window of %llu KiB, %s", address, end.session,
		 hw.in_bytes >> 10, (unsigned long long)end.window_bytes >> 10,
		 end.bell == NTBS_BELL_EVENTFD ? "the broker rings" : "processes ring");
	ntbs_bridge_up(&end);
}

/* What the link waits for, or why it went down; told when it changes.  A heartbeat that is late is nothing yet. */
static void say(void)
{
	const char *now = hw.link.state == NTBS_LINK_UP ? "up" : ntbs_link_say(&hw.link);

	if (now != said)
		ntbs_log(NTBS_LOG_INFO, "port %s: %s", address, now);
	said = now;
}

static void handle(unsigned news)
{
	if (news & NTBS_HW_GONE) {
		ntbs_log(NTBS_LOG_ERR, "port %s: %s; it is closed, and looked for again", address, hw.why);
		gone = true;
		ntbs_bridge_down(hw.why);
		return;
	}
	if (news & NTBS_LINK_WENT_DOWN)
		ntbs_bridge_down(ntbs_link_say(&hw.link));
	if (news & NTBS_LINK_CAME_UP)
		come_up();
	if (news & NTBS_HW_BELLS) {
		hw.bells = 0;
		ntbs_bridge_bell();
	}
	say();
}

static void serve(void)
{
	if (stage == SERVING && !gone)
		handle(ntbs_hw_serve(&hw, 0));
	arm();
}

static void events_ready(struct ntbs_watch *w, uint32_t ready)
{
	serve();
}

static void timer_ready(struct ntbs_watch *w, uint32_t ready)
{
	uint64_t count;

	if (read(w->fd, &count, sizeof(count)) != sizeof(count))
		return;
	armed_ns = 0;
	if (bell_again) {
		bell_again = false;
		ntbs_bridge_bell();
	}
	if (stage == RESUME) {
		stage = SERVING;
		handle(ntbs_hw_resume(&hw));
	}
	serve();
}

/* A process that rings by us. */
static void bell_ready(struct ntbs_watch *w, uint32_t ready)
{
	uint64_t count;

	if (read(w->fd, &count, sizeof(count)) == sizeof(count) && stage == SERVING && !gone)
		ntbs_ntb_db_ring(&hw.ntb, hw.bell);
}

/* ------------------------------------------------------------------------ open and close */

static void on_node(void)
{
	int node = hw.v.numa_node;

	if (node < 0 || numa_available() < 0 || numa_max_node() < node)
		return;
	if (numa_run_on_node(node))
		ntbs_log(NTBS_LOG_WARN, "port %s: cannot run on its NUMA node %d: %s", address, node, strerror(errno));
	else
		ntbs_log(NTBS_LOG_INFO, "port %s: runs on its NUMA node, %d", address, node);
}

static void describe_function(void)
{
	const struct ntbs_vfio_map *m = hw.out_map;

	ntbs_log(NTBS_LOG_INFO, "port %s: %s, %s; BAR%u is %s", address, hw.ntb.family, hw.ntb.topology,
		 hw.ntb.window[hw.window].bar, m->said);
	if (m->mem == NTBS_MEM_UC && hw.port.line_store != NTBS_LINE_MOVDIR64B)
		ntbs_log(NTBS_LOG_WARN, "port %s: its window is uncached, stores to it are slow", address);
	if (m->way == NTBS_VFIO_UNCACHED)
		ntbs_log(NTBS_LOG_WARN, "port %s: sysfs does not map its window: processes get VFIO's file, and all of the function",
			 address);
}

static int watch_events(void)
{
	int fd = fcntl(hw.events_fd, F_DUPFD_CLOEXEC, 0), ret;	/* a watch closes its own */

	if (fd < 0)
		return -errno;
	events = (struct ntbs_watch){ .fd = fd, .ready = events_ready };
	ret = ntbs_loop_add(&events, EPOLLIN);
	if (ret)
		ntbs_loop_remove(&events);
	return ret;
}

/* @why is left in hw.why. */
static int plug(void)
{
	int ret = ntbs_hw_open(&hw, address, &conf);

	if (ret)
		return ret;
	if (hw.out_bytes < NTBS_ARENA_MIN) {
		snprintf(hw.why, sizeof(hw.why), "its window has %zu KiB; it takes %u at least", hw.out_bytes >> 10,
			 NTBS_ARENA_MIN >> 10);
		ret = -ENOTSUP;
	}
	if (!ret)
		ret = ntbs_hw_start(&hw);
	if (!ret) {
		ret = watch_events();
		if (ret)
			snprintf(hw.why, sizeof(hw.why), "epoll: %s", strerror(-ret));
	}
	if (ret) {
		ntbs_hw_close(&hw);
		return ret;
	}
	gone = false;
	said = NULL;
	stage = SERVING;
	on_node();
	describe_function();
	say();
	arm();
	return 0;
}

static void shut(void)
{
	if (stage == CLOSED)
		return;
	ntbs_loop_remove(&events);
	sessions += hw.link.sessions;
	ntbs_hw_close(&hw);
	hw.link.sessions = 0;
	stage = CLOSED;
	retry_ms = 1000;
	retry_at_ms = ntbs_loop_now_ms() + retry_ms;
}

static void unplug(void)
{
	if (gone) {
		shut();
	} else if (stage == SERVING && hw.link.state == NTBS_LINK_HELD) {
		stage = RESUME;
	} else if (stage == SERVING) {
		ntbs_hw_leave(&hw);
		stage = REST;
	}
	arm();
}

static void look_again(void)
{
	char before[sizeof(hw.why)];

	snprintf(before, sizeof(before), "%s", hw.why);
	if (ntbs_loop_now_ms() < retry_at_ms || !plug())
		return;
	if (strcmp(before, hw.why))
		ntbs_log(NTBS_LOG_WARN, "port %s: %s", address, hw.why);
	retry_ms = retry_ms < RETRY_MS_MAX / 2 ? 2 * retry_ms : RETRY_MS_MAX;
	retry_at_ms = ntbs_loop_now_ms() + retry_ms;
}

static void tick(void)
{
	if (stage == CLOSED)
		look_again();
	if (stage == REST) {
		stage = RESUME;
		arm();
	}
}

static void describe(struct ntbs_bridge_facts *facts)
{
	const char *topology = hw.ntb.topology ? hw.ntb.topology : "?";

	if (hw.ntb.family)
		snprintf(facts->family, sizeof(facts->family), "%s, %s", hw.ntb.family, topology);
	snprintf(facts->state, sizeof(facts->state), "%.103s", stage == CLOSED ? hw.why : ntbs_link_say(&hw.link));
	facts->sessions = sessions + hw.link.sessions;
}

static bool number(const char *text, const char *key, unsigned long least, unsigned long most, unsigned long *v)
{
	size_t len = strlen(key);
	char *stop;

	if (strncmp(text, key, len))
		return false;
	errno = 0;
	*v = strtoul(text + len, &stop, 10);
	return !errno && stop != text + len && !*stop && *v >= least && *v <= most;
}

static int option(const char *text)
{
	unsigned long v;

	if (number(text, "arena=", 1, 65536, &v))
		conf.window_bytes = v * MIB;
	else if (number(text, "silence=", 100, 600000, &v))
		conf.dead_beats = v / NTBS_HW_BEAT_MS;
	else if (!strcmp(text, "bell=broker") || !strcmp(text, "bell=register"))
		bell_of_broker = text[5] == 'b';
	else
		return -EINVAL;
	return 0;
}

static bool is_address(const char *text)
{
	unsigned domain, bus, slot, fn;
	int end = 0;

	return sscanf(text, "%4x:%2x:%2x.%1x%n", &domain, &bus, &slot, &fn, &end) == 4 && end == 12 && !text[end] && fn < 8 &&
	       slot < 32;
}

static int parse(const char *spec)
{
	char *copy = strdup(spec), *rest = copy, *text;
	int ret = 0;

	if (!copy)
		return -ENOMEM;
	text = strsep(&rest, ",");
	if (!is_address(text)) {
		ntbs_log(NTBS_LOG_ERR, "port %s: of no kind that there is; 0000:17:00.0 (ntbsock-ctl ports) or emu:PATH is one", spec);
		ret = -EINVAL;
	} else {
		snprintf(address, sizeof(address), "%s", text);
	}
	while (!ret && (text = strsep(&rest, ","))) {
		ret = option(text);
		if (ret)
			ntbs_log(NTBS_LOG_ERR, "port %s: \"%s\" is none of arena=MIB, silence=MS, bell=broker, bell=register", address,
				 text);
	}
	free(copy);
	return ret;
}

static int open_own(struct ntbs_watch *w, int fd, void (*ready)(struct ntbs_watch *w, uint32_t ready))
{
	if (fd < 0)
		return -errno;
	*w = (struct ntbs_watch){ .fd = fd, .ready = ready };
	return ntbs_loop_add(w, EPOLLIN);
}

int ntbs_hwport_open(const char *spec)
{
	int ret = parse(spec);

	if (ret)
		return ret;
	ret = open_own(&timer, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), timer_ready);
	if (!ret)
		ret = open_own(&bell, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), bell_ready);
	if (ret) {
		ntbs_log(NTBS_LOG_ERR, "port %s: %s", address, strerror(-ret));
		return ret;
	}
	ret = plug();
	if (ret)
		ntbs_log(NTBS_LOG_ERR, "port %s: %s", address, hw.why);
	return ret;
}

static void close_all(void)
{
	shut();
	ntbs_loop_remove(&timer);
	ntbs_loop_remove(&bell);
}

const struct ntbs_bridge_driver ntbs_hwport_driver = {
	.close = close_all, .tick = tick, .unplug = unplug, .again = again, .name = name, .describe = describe,
};
