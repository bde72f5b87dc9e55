/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loop.h - epoll: a descriptor and the function that is called when it is ready
 *
 * One thread.  A watch is the first member of the object that owns the descriptor.  Memory of such an object is given to
 * ntbs_loop_free() and goes once the batch of events at hand is done, so that an event that was already fetched
 * for it finds a closed watch (@ready NULL) and not freed memory.
 */
#ifndef NTBSOCK_BROKER_LOOP_H
#define NTBSOCK_BROKER_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct ntbs_watch {
	int fd;
	void (*ready)(struct ntbs_watch *w, uint32_t events);
};

int ntbs_loop_open(void);
void ntbs_loop_close(void);

/* Return: 0 or a negative errno. */
int ntbs_loop_add(struct ntbs_watch *w, uint32_t events);
int ntbs_loop_change(struct ntbs_watch *w, uint32_t events);

/* Forget the watch and close its descriptor. */
void ntbs_loop_remove(struct ntbs_watch *w);

/* free() after this batch. */
void ntbs_loop_free(void *mem);

/* Leave ntbs_loop_run() after this batch. */
void ntbs_loop_stop(void);

/**
 * ntbs_loop_run() - Until ntbs_loop_stop()
 * @after_batch: called after each batch of events
 * @tick: called about once a second; NULL: nobody needs the time, sleep for as long as nothing happens
 */
int ntbs_loop_run(void (*after_batch)(void), void (*tick)(void));

uint64_t ntbs_loop_now_ms(void);

#endif
