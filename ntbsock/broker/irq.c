// SPDX-License-Identifier: BSD-2-Clause
/* irq.c - see irq.h */
#include "irq.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <ntbsock/abi_port.h>
#include "chan.h"
#include "check.h"
#include "client.h"
#include "copier.h"
#include "loop.h"
#include "packet.h"
#include "region.h"

struct family {
	struct ntbs_watch watch;	/* first: see loop.h.  Reading end of the pipe */
	uint32_t proc;
	int bell[2];			/* mbox, service */
};
static struct family *families[NTBS_PROCS];

bool ntbs_irq_taken(uint32_t nr)
{
	return families[nr] != NULL;
}

static void drop(struct family *f)
{
	families[f->proc % NTBS_PROCS] = NULL;
	ntbs_close_fds(f->bell, 2);
	ntbs_loop_remove(&f->watch);
	ntbs_loop_free(f);
}

static void life_ready(struct ntbs_watch *w, uint32_t events)
{
	struct family *f = (struct family *)w;
	char byte;

	if (read(w->fd, &byte, 1) > 0)
		return;		/* somebody writes there: his business */
	ntbs_copier_settle(f->proc);
	ntbs_regions_proc_gone(f->proc, ntbs_chan_tell_done);
	drop(f);
}

int ntbs_irq_add(struct ntbs_client *c)
{
	struct family *f = families[c->proc % NTBS_PROCS];
	int ends[2], ret;
	char path[32];

	if (f) {	/* of an earlier session: one more writing end of its pipe */
		snprintf(path, sizeof(path), "/proc/self/fd/%d", f->watch.fd);
		ret = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
		return ret < 0 ? -errno : ret;
	}
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->proc = c->proc;
	f->bell[0] = fcntl(c->mbox[0], F_DUPFD_CLOEXEC, 0);
	f->bell[1] = fcntl(c->service_bell, F_DUPFD_CLOEXEC, 0);
	if (f->bell[0] < 0 || f->bell[1] < 0 || pipe2(ends, O_CLOEXEC | O_NONBLOCK)) {
		ret = -errno;
		goto err_bells;
	}
	f->watch = (struct ntbs_watch){ .fd = ends[0], .ready = life_ready };
	ret = ntbs_loop_add(&f->watch, EPOLLIN);
	if (ret)
		goto err_pipe;
	families[c->proc % NTBS_PROCS] = f;
	return ends[1];

err_pipe:
	ntbs_close_fds(ends, 2);
err_bells:
	ntbs_close_fds(f->bell, 2);
	free(f);
	return ret;
}

static void signal_one(uint8_t *pending, uint32_t i)
{
	struct family *f = families[i / 2];

	__atomic_store_n(&pending[i], 0, __ATOMIC_SEQ_CST);	/* first */
	if (f)
		ntbs_check_ring(f->bell[i % 2]);
}

void ntbs_irq_scan(uint8_t *pending)
{
	for (uint32_t i = 0; i < NTBS_PENDING_BYTES; i += 8) {
		uint64_t eight = __atomic_load_n((uint64_t *)(pending + i), __ATOMIC_ACQUIRE);

		for (uint32_t k = 0; eight; k++, eight >>= 8) {
			if (eight & 0xff)
				signal_one(pending, i + k);
		}
	}
}

void ntbs_irq_all(void)
{
	for (uint32_t nr = 0; nr < NTBS_PROCS; nr++) {
		if (families[nr]) {
			ntbs_check_ring(families[nr]->bell[0]);
			ntbs_check_ring(families[nr]->bell[1]);
		}
	}
}

void ntbs_irq_close(void)
{
	for (uint32_t nr = 0; nr < NTBS_PROCS; nr++) {
		if (families[nr])
			drop(families[nr]);
	}
}
