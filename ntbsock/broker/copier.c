// SPDX-License-Identifier: BSD-2-Clause
/* copier.c - see copier.h */
#include "copier.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>
#include <ntbsock/abi_inbox.h>
#include "client.h"
#include "dma.h"
#include "log.h"
#include "loop.h"
#include "region.h"
#include "sim/dmasim.h"
#include "vfio/ioat_dma.h"

#define JOBS 1024u		/* more than any engine takes */
#define MIN_DEFAULT 65536u
#define HANGS_NS 1000000000ull

struct job {
	struct ntbs_dma_msg msg;
	struct ntbs_region *region;
	uint32_t lease;
	uint64_t since_ns;
};

static struct ntbs_dma *engine;
static struct ntbs_watch watch = { .fd = -1 };
static char name[32];
static uint32_t min_bytes;
static bool is_sim;

static char *arena;			/* NULL: no session, or no engine in it */
static struct ntbs_window *window;
static bool running;			/* not halted */
static struct job jobs[JOBS];
static uint32_t head, done;		/* free-running */

bool ntbs_copier_pins(void)
{
	return engine && !is_sim;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* -------------------------------------------------------------- messages that are out */

/* Who armed before the slot landed is seen here (S2); who arms after it sees the slot (S1, mbox.h). */
static void ring(const struct job *j)
{
	struct ntbs_region *r = j->region;
	const struct ntbs_inbox_shm *in = (const struct ntbs_inbox_shm *)(arena + r->offset + ntbs_region_inbox(r, j->lease));
	uint32_t generation = ntbs_le32_read(&in->generation);
	uint64_t armed;

	ntbs_window_fence(&window->port);
	armed = ntbs_le64_read(&in->armed);
	if (!armed || (armed == r->rung[j->lease].armed && generation == r->rung[j->lease].generation))
		return;
	ntbs_port_ring(&window->port, NTBS_PENDING_MBOX(r->peer_proc));
	r->rung[j->lease].armed = armed;
	r->rung[j->lease].generation = generation;
}

static void finish(const struct job *j)
{
	ntbs_le32 *count = &((struct ntbs_region_shm *)(arena + j->region->offset))->dma_done[j->lease];

	ring(j);
	ntbs_le32_write_release(count, ntbs_le32_read(count) + 1);
}

static void by_cpu(const struct job *j)
{
	alignas(NTBS_LINE) char line[NTBS_LINE];

	for (int i = 0; i < 2; i++) {
		const struct ntbs_dma_piece *p = &j->msg.payload[i];

		if (p->bytes)
			ntbs_window_store_bulk(&window->port, window->base + p->dst, arena + p->src, p->bytes);
	}
	ntbs_window_flush(&window->port);	/* R1: bulk bytes before the slot */
	memcpy(line, arena + j->msg.slot_src, sizeof(line));
	window->port.ops->store_line(&window->port, window->base + j->msg.slot_dst, line);
	ntbs_window_flush(&window->port);
	finish(j);
}

static void stop(void)
{
	struct ntbs_ctl_shm *ctl = (struct ntbs_ctl_shm *)(arena + NTBS_ARENA_CTL);

	ntbs_le32_write(&ctl->dma_min, 0);
	ntbs_dma_detach(engine);
	running = false;
}

static void halted(const char *why)
{
	ntbs_log(NTBS_LOG_ERR, "copy engine %s: %s; %u messages are stored by the CPU, and all others until the link comes up anew",
		 name, why, head - done);
	stop();
	for (; done != head; done++)
		by_cpu(&jobs[done % JOBS]);
}

/* Until it has no news. */
static void look(void)
{
	int nr;

	while (running && (nr = ntbs_dma_poll(engine))) {
		if (nr < 0) {
			halted(engine->why);
			return;
		}
		for (; nr; nr--, done++)
			finish(&jobs[done % JOBS]);
	}
}

static void ready(struct ntbs_watch *w, uint32_t events)
{
	uint64_t count;

	if (running)
		look();
	else if (read(w->fd, &count, sizeof(count)) != sizeof(count))	/* of one that was stopped: nobody's */
		return;
}

static bool hangs(void)
{
	return running && done != head && now_ns() - jobs[done % JOBS].since_ns > HANGS_NS;
}

void ntbs_copier_tick(void)
{
	if (!running)
		return;
	look();		/* an interrupt that was lost */
	if (hangs())
		halted("it does not get on");
}

void ntbs_copier_settle(uint32_t proc)
{
	struct ntbs_client *c = arena && proc ? ntbs_client_by_proc(proc) : NULL;

	if (c)
		ntbs_client_take(c);
	while (running && done != head) {
		look();
		if (hangs())
			halted("it does not get on");
	}
}

/* ------------------------------------------------------------------- from clients */

/* What slot @seq of the lease says that it is.  Read once; its owner may write there at any time, to his own harm. */
static bool describe(struct job *j, uint32_t seq)
{
	const struct ntbs_region *r = j->region;
	uint64_t in = r->offset + ntbs_region_inbox(r, j->lease) + r->inbox_bytes, out = r->peer_offset + ntbs_region_inbox(r, j->lease);
	uint64_t slot = offsetof(struct ntbs_inbox_shm, slot) + (seq & (r->nr_slots - 1)) * sizeof(struct ntbs_slot_shm) +
			offsetof(struct ntbs_slot_shm, line1);
	const struct ntbs_line1_shm *line = (const struct ntbs_line1_shm *)(arena + in + slot);
	uint32_t start = ntbs_le32_read(&line->bulk.start), bytes = ntbs_le32_read(&line->bulk.end) - start;
	uint32_t idx = start & (r->bulk_bytes - 1), first = r->bulk_bytes - idx, bulk = ntbs_region_bulk_offset(r->nr_slots);

	if (line->kind != NTBS_SLOT_BULK || !bytes || bytes > r->bulk_bytes)
		return false;
	if (first > bytes)
		first = bytes;
	j->msg = (struct ntbs_dma_msg){
		.payload = { { in + bulk + idx, out + bulk + idx, first }, { in + bulk, out + bulk, bytes - first } },
		.slot_src = in + slot,
		.slot_dst = out + slot,
	};
	return true;
}

static bool one(struct ntbs_region *r, uint32_t lease, uint32_t seq)
{
	struct job own, *j = head - done == JOBS || !running ? &own : &jobs[head % JOBS];

	*j = (struct job){ .region = r, .lease = lease };
	if (!describe(j, seq))
		return false;
	j->since_ns = now_ns();
	if (j == &own || ntbs_dma_submit(engine, &j->msg))
		by_cpu(j);	/* before others that are under way: their sequence tells */
	else
		head++;
	return true;
}

void ntbs_copier_message(struct ntbs_client *c, const void *packet, int *fds)
{
	const struct ntbs_msg_copy *m = packet;
	struct ntbs_region *r = ntbs_region_find(m->chan, m->of_connector);
	bool ok;

	if (!arena || !r || r->here_done)	/* of a session that has ended meanwhile */
		return;
	ok = r->proc == c->proc && r->peer_offset && m->lease < r->nr_leases && m->nr <= r->nr_slots;
	for (uint32_t i = 0; ok && i < m->nr; i++)
		ok = one(r, m->lease, m->first + i);
	if (!ok)
		ntbs_client_doom(c, "wants something copied that is no message of its own");
	if (running && head != done)
		ntbs_dma_kick(engine);
}

/* ------------------------------------------------------------------------ sessions */

void ntbs_copier_up(const struct ntbs_bridge_end *end, struct ntbs_window *w)
{
	struct ntbs_ctl_shm *ctl = (struct ntbs_ctl_shm *)((char *)end->arena + NTBS_ARENA_CTL);

	if (!engine)
		return;
	head = done = 0;
	if (ntbs_dma_attach(engine, end->arena, end->arena_bytes, end->window, end->window_bytes)) {
		ntbs_log(NTBS_LOG_ERR, "copy engine %s is not used: %s", name, engine->why);
		return;
	}
	arena = end->arena;
	window = w;
	running = true;
	ntbs_le32_write(&ctl->dma_min, min_bytes);
	ntbs_log(NTBS_LOG_INFO, "copy engine %s (%s) carries messages of %u bytes and more", name, engine->ops->name, min_bytes);
}

void ntbs_copier_down(void)
{
	if (running)
		stop();
	head = done = 0;
	arena = NULL;
	window = NULL;
}

/* ---------------------------------------------------------------------------- open */

static int option(const char *text, struct ntbs_dmasim_conf *sim)
{
	uint64_t most = 1u << 30, v;
	const char *value = strchr(text, '=');
	char *stop_at;

	if (!value)
		return -EINVAL;
	v = strtoull(++value, &stop_at, 10);
	if (*stop_at == 'K' || *stop_at == 'M')
		v <<= *stop_at++ == 'K' ? 10 : 20;
	if (*stop_at || stop_at == value || *value == '-' || v > most)
		return -EINVAL;
	if (!strncmp(text, "min=", 4) && v) {
		min_bytes = (uint32_t)v;
		return 0;
	}
	if (!is_sim)
		return -EINVAL;
	if (!strncmp(text, "delay=", 6))
		sim->delay_ns = v * 1000;
	else if (!strncmp(text, "halt=", 5))
		sim->halt_after = v;
	else
		return -EINVAL;
	return 0;
}

static int open_engine(const char *which, const struct ntbs_dmasim_conf *sim)
{
	char why[NTBS_DMA_WHY] = "", address[16];
	int ret;

	if (is_sim)
		return ntbs_dmasim_open(&engine, sim);
	ret = ntbs_pci_address(which, address);
	if (ret) {
		ntbs_log(NTBS_LOG_ERR, "--dma %s: no address of a PCI function, and not emu", which);
		return ret;
	}
	ret = ntbs_ioat_dma_open(&engine, address, NULL, why, sizeof(why));
	if (ret)
		ntbs_log(NTBS_LOG_ERR, "--dma %s: %s", which, why[0] ? why : strerror(-ret));
	return ret;
}

int ntbs_copier_open(const char *spec)
{
	struct ntbs_dmasim_conf sim = { 0 };
	char *copy = strdup(spec), *rest = copy, *which = strsep(&rest, ","), *text;
	int ret = copy ? 0 : -ENOMEM;

	min_bytes = MIN_DEFAULT;
	is_sim = copy && !strcmp(which, "emu");
	while (!ret && (text = strsep(&rest, ","))) {
		ret = option(text, &sim);
		if (ret)
			ntbs_log(NTBS_LOG_ERR, "--dma %s: \"%s\" is none of min=BYTES%s", which, text,
				 is_sim ? ", delay=US, halt=MESSAGES" : "");
	}
	if (!ret)
		ret = open_engine(which, &sim);
	if (!ret) {
		strncpy(name, which, sizeof(name) - 1);
		watch = (struct ntbs_watch){ .fd = fcntl(engine->fd, F_DUPFD_CLOEXEC, 0), .ready = ready };
		ret = watch.fd < 0 ? -errno : ntbs_loop_add(&watch, EPOLLIN);
	}
	free(copy);
	return ret;
}

void ntbs_copier_close(void)
{
	if (!engine)
		return;
	ntbs_copier_down();
	ntbs_loop_remove(&watch);
	ntbs_dma_close(engine);
	engine = NULL;
}
