// SPDX-License-Identifier: BSD-2-Clause
/* hold.c - see hold.h */
#include "hold.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "loop.h"

#define HOLDS_MAX 1024u	/* a descriptor each; whoever asks when it is full is not waited for */

struct hold {
	struct ntbs_watch watch;	/* first: see loop.h */
	uint32_t pid;
	LIST_ENTRY(hold) link;
};
static LIST_HEAD(, hold) holds = LIST_HEAD_INITIALIZER(holds);
static unsigned nr_holds;

static void let_go(struct hold *h)
{
	LIST_REMOVE(h, link);
	nr_holds--;
	ntbs_loop_remove(&h->watch);
	ntbs_loop_free(h);
}

static void process_ended(struct ntbs_watch *w, uint32_t events)
{
	let_go((struct hold *)w);
}

void ntbs_hold_process(uint32_t pid)
{
	struct hold *h;

	if (!pid || nr_holds == HOLDS_MAX)
		return;
	LIST_FOREACH(h, &holds, link) {
		if (h->pid == pid)
			return;
	}
	h = calloc(1, sizeof(*h));
	if (!h)
		return;
	h->pid = pid;
	h->watch.ready = process_ended;
	h->watch.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (h->watch.fd < 0) {
		free(h);
		return;
	}
	if (ntbs_loop_add(&h->watch, EPOLLIN)) {
		close(h->watch.fd);
		free(h);
		return;
	}
	LIST_INSERT_HEAD(&holds, h, link);
	nr_holds++;
}

unsigned ntbs_hold_nr(void)
{
	return nr_holds;
}

void ntbs_hold_close(void)
{
	while (!LIST_EMPTY(&holds))
		let_go(LIST_FIRST(&holds));
}
