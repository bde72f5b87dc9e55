// SPDX-License-Identifier: BSD-2-Clause
/* loop.c - see loop.h */
#include "loop.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define TICK_MS 1000
#define BATCH 64

static int epoll_fd = -1;
static bool stopped;

struct dead {
	struct dead *next;
};
static struct dead *dead_list;

int ntbs_loop_open(void)
{
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return epoll_fd < 0 ? -errno : 0;
}

static void free_dead(void)
{
	while (dead_list) {
		struct dead *d = dead_list;

		dead_list = d->next;
		free(d);
	}
}

void ntbs_loop_close(void)
{
	free_dead();
	if (epoll_fd >= 0)
		close(epoll_fd);
	epoll_fd = -1;
}

static int control(struct ntbs_watch *w, int op, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };

	return epoll_ctl(epoll_fd, op, w->fd, &ev) ? -errno : 0;
}

int ntbs_loop_add(struct ntbs_watch *w, uint32_t events)
{
	return control(w, EPOLL_CTL_ADD, events);
}

int ntbs_loop_change(struct ntbs_watch *w, uint32_t events)
{
	return control(w, EPOLL_CTL_MOD, events);
}

void ntbs_loop_remove(struct ntbs_watch *w)
{
	if (w->fd < 0)
		return;
	control(w, EPOLL_CTL_DEL, 0); /* close() alone leaves it, if somebody else holds the description */
	close(w->fd);
	w->fd = -1;
	w->ready = NULL;
}

void ntbs_loop_free(void *mem)
{
	struct dead *d =
		mem; /* starts with a closed watch: the link takes the place of @fd, @ready stays NULL */

	static_assert(offsetof(struct ntbs_watch, ready) >= sizeof(struct dead),
		      "the link must not hit @ready");
	if (!d)
		return;
	d->next = dead_list;
	dead_list = d;
}

void ntbs_loop_stop(void)
{
	stopped = true;
}

uint64_t ntbs_loop_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

int ntbs_loop_run(void (*after_batch)(void), void (*tick)(void))
{
	uint64_t next_tick = ntbs_loop_now_ms() + TICK_MS;

	stopped = false;
	while (!stopped) {
		struct epoll_event ev[BATCH];
		int wait_ms = -1, n;

		if (tick) {
			uint64_t now = ntbs_loop_now_ms();

			if (now >= next_tick) {
				tick();
				after_batch();
				free_dead();
				next_tick = ntbs_loop_now_ms() + TICK_MS;
				continue;
			}
			wait_ms = (int)(next_tick - now);
		}
		n = epoll_wait(epoll_fd, ev, BATCH, wait_ms);
		if (n < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < n; i++) {
			struct ntbs_watch *w = ev[i].data.ptr;

			if (w->ready)
				w->ready(w, ev[i].events);
		}
		after_batch();
		free_dead();
	}
	return 0;
}
