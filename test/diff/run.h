/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * run.h - what step.c, compete.c, settle.c, names.c, ask.c and streams.c share of the run of a sequence
 */
#ifndef NTBSOCK_TEST_DIFF_RUN_H
#define NTBSOCK_TEST_DIFF_RUN_H

#include "diff.h"

#define DESCS 64

/* A thread that has been given a step, or that is blocked in one. */
struct pending {
	bool busy;
	int step;
	struct op op;
	uint32_t ask;
	bool kernels;		/* a read that began below a mark: ntbsock leaves it to the kernel */
	bool done[WORLDS];
	struct answer a[WORLDS];
};
extern struct pending pending[PROCS][THREADS];

/* names.c */
extern struct world world[WORLDS];
extern struct desc desc[DESCS];
extern int nr_desc, slot_desc[PROCS][SLOTS];	/* index of desc, or -1 */
struct desc *desc_of(int proc, int slot);
struct desc *peer_of(const struct desc *d);
/* A step has returned the same in both worlds: what the driver knows of descriptors follows. */
void learn(const struct op *op, struct answer a[WORLDS]);
void learn_blocked(const struct op *op);
void bury(int proc);
void forget_names(void);
bool loses_bytes(const struct op *op);
bool user_timeout(const struct op *op);
bool low_mark(const struct op *op);
bool looks_at_marks(const struct op *op);
void only_open(int proc, uint32_t mask);
enum life life_of(const struct desc *d);

/* ask.c */
enum wait { BOTH, BLOCKED, ONE_ONLY, RESTLESS, DEAD };
extern uint32_t asks;
bool waits_for_events(const struct op *op);
void give(int w, const struct op *op, int step, struct pending *e);
enum wait await(struct pending *e);
const char *one_only(const struct pending *e, char *buf, size_t size);
/* Ask one world for something more; the thread is idle there. */
bool ask_one(int w, const struct op *op, int step, struct answer *a);
void collect(int ms);
bool any_pending(void);
void come_to_rest(int looks);

/* streams.c */
extern unsigned long topped_up[CALLS];
/* Bytes of the world's own stream that the driver knows to be on their way, or more that are still being sent. */
bool unread(const struct desc *d, int w);
void account(const struct op *op, struct desc *d, int w, const struct answer *a);
void top_up(const struct op *op, int step, struct desc *d, struct answer a[WORLDS]);
void drain_on(const struct op *op, int step, struct desc *d, struct answer a[WORLDS]);
void check_streams(const struct op *op, int step, struct desc *d);
void wait_for_bytes(const struct op *op, int step);
void wait_for_all(const struct op *op, int step);
void wait_until_sent(const struct op *op, int slot, int step);
void wait_until_there(const struct op *op, int slot, int step);
void wait_until_acknowledged(const struct op *op, int slot, int step);

/* settle.c */
bool undecided(const struct desc *d);
/* Read all that is on the way to @d; false: nobody can, or there is more. */
bool read_dry(const struct desc *d, const struct op *op, int step);
bool in_pieces(const struct op *op);
bool waits_for_messages(const struct desc *d);
bool shuns(const struct desc *d);
/* Both worlds are made to agree on what @op shall meet; false: that cannot be done, and the step is left out. */
bool settle(const struct op *op, int step);
/* The slot of its process that @op ends; -1: any, SLOTS: none. */
int ends_slot(const struct op *op);
void wait_before_end(const struct op *op, int step);
void wait_until_came(const struct desc *d, const struct op *op, int step);

/* compete.c */
/*
 * With whatever wakes it: a read of no bytes, one that sleeps below its mark and finds some (tcp_recvmsg_locked()).  Among that is
 * room in what the same socket has sent before, and when there is some depends on how much is on its way: each world has its own
 * measure of that.
 */
bool ends_when_woken(const struct op *op, const struct desc *d);
bool somebody_reads(const struct desc *d);
/* Does another blocked call compete for the same bytes, connections or room? */
bool competes(const struct op *op);
/* Does a set tell of something once? */
bool told_once(void);

/* step.c */
void exec_step(const struct op *op, int step);
void found(int step, enum call call, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
