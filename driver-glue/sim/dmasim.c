// SPDX-License-Identifier: BSD-2-Clause
/* dmasim.c - see dmasim.h */
#include "dmasim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "barrier.h"

#define ROOM 128u	/* a power of two */

struct job {
	struct ntbs_dma_msg msg;
	uint64_t half_ns, due_ns;
	bool half;
	char *read;		/* payload, then slot */
};

struct sim {
	struct ntbs_dma dma;	/* first: the ops get it */
	struct ntbs_dmasim_conf conf;
	char *arena, *window;
	struct job job[ROOM];
	uint32_t head, kicked, done;
	uint64_t all;		/* that were done, for halt_after */
	bool halted;
};

static struct sim *of(struct ntbs_dma *dma)
{
	return (struct sim *)dma;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static void set_timer(struct sim *s, uint64_t at_ns)
{
	struct itimerspec at = { .it_value = { at_ns / 1000000000, at_ns % 1000000000 } };

	timerfd_settime(s->dma.fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static int attach(struct ntbs_dma *dma, void *arena, uint64_t arena_bytes, void *window, uint64_t window_bytes)
{
	struct sim *s = of(dma);

	s->arena = arena;
	s->window = window;
	s->head = s->kicked = s->done = 0;
	s->halted = false;
	return 0;
}

static void detach(struct ntbs_dma *dma)
{
	struct sim *s = of(dma);

	set_timer(s, 0);
	for (; s->done != s->head; s->done++)
		free(s->job[s->done % ROOM].read);
}

static int submit(struct ntbs_dma *dma, const struct ntbs_dma_msg *msg)
{
	struct sim *s = of(dma);

	const struct ntbs_dma_piece *p = msg->payload;
	char *bytes = s->head - s->done == ROOM ? NULL : malloc(p[0].bytes + p[1].bytes + NTBS_DMA_SLOT);

	if (!bytes)
		return -EAGAIN;
	memcpy(bytes, s->arena + p[0].src, p[0].bytes);
	memcpy(bytes + p[0].bytes, s->arena + p[1].src, p[1].bytes);
	memcpy(bytes + p[0].bytes + p[1].bytes, s->arena + msg->slot_src, NTBS_DMA_SLOT);
	s->job[s->head++ % ROOM] = (struct job){ .msg = *msg, .read = bytes };
	return 0;
}

static void kick(struct ntbs_dma *dma)
{
	struct sim *s = of(dma);
	uint64_t now = now_ns();

	if (s->kicked == s->done && s->head != s->done)
		set_timer(s, now + s->conf.delay_ns / 2 + 1);
	for (; s->kicked != s->head; s->kicked++) {
		struct job *j = &s->job[s->kicked % ROOM];

		j->half_ns = now + s->conf.delay_ns / 2;
		j->due_ns = now + s->conf.delay_ns;
	}
}

/* The first or the second half of each piece.  Return: the slot's line. */
static const char *copy(struct sim *s, const struct job *j, bool second)
{
	const char *bytes = j->read;

	for (int i = 0; i < 2; i++) {
		const struct ntbs_dma_piece *p = &j->msg.payload[i];
		uint32_t half = p->bytes / 2, from = second ? half : 0, len = second ? p->bytes - half : half;

		memcpy(s->window + p->dst + from, bytes + from, len);
		bytes += p->bytes;
	}
	return bytes;
}

static int poll(struct ntbs_dma *dma)
{
	struct sim *s = of(dma);
	uint64_t count, now = now_ns();
	int nr = 0;

	if (read(dma->fd, &count, sizeof(count)) != sizeof(count) && errno != EAGAIN)
		return 0;
	for (uint32_t i = s->kicked; i-- != s->done;) {
		struct job *j = &s->job[i % ROOM];

		if (!j->half && j->half_ns <= now) {
			copy(s, j, false);
			j->half = true;
		}
	}
	while (s->done != s->kicked && !s->halted) {
		struct job *j = &s->job[s->done % ROOM];
		const char *line;

		if (j->due_ns > now || !j->half)
			break;
		if (s->conf.halt_after && s->all == s->conf.halt_after) {
			snprintf(dma->why, sizeof(dma->why), "it has halted, as its option says, after %llu messages",
				 (unsigned long long)s->all);
			s->halted = true;
			s->conf.halt_after = 0;		/* once */
			break;
		}
		line = copy(s, j, true);
		ntbs_store_flush();
		memcpy(s->window + j->msg.slot_dst, line, NTBS_DMA_SLOT);
		ntbs_store_flush();
		free(j->read);
		s->done++;
		s->all++;
		nr++;
	}
	if (nr)
		return nr;
	if (s->halted)
		return -EIO;
	if (s->done != s->kicked) {
		const struct job *j = &s->job[s->done % ROOM];

		set_timer(s, j->half ? j->due_ns : j->half_ns);
	}
	return 0;
}

static void close_sim(struct ntbs_dma *dma)
{
	close(dma->fd);
	free(dma);
}

static const struct ntbs_dma_ops ops = { "emulated", attach, detach, submit, kick, poll, close_sim };

int ntbs_dmasim_open(struct ntbs_dma **dma, const struct ntbs_dmasim_conf *conf)
{
	struct sim *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->dma.ops = &ops;
	s->conf = *conf;
	s->dma.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (s->dma.fd < 0) {
		int err = errno;

		free(s);
		return -err;
	}
	*dma = &s->dma;
	return 0;
}
