/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * diff.h - the same sequence of socket calls on kernel TCP and on ntbsock, and what can be told apart
 *
 * A *sequence* is drawn from a seed (gen.c) or read from a file (text.c).  For each run two *worlds* are made
 * (world.c): worker processes of this program (worker.c, ops.c), plain in one world and under ntbsock-ctl in the other.
 * A step of the sequence is given to the same thread of both worlds (step.c, ask.c) and its answers are compared
 * (compare.c, streams.c) before the next step; names.c keeps who holds which socket.  A difference is shown to come back, made as short as it can be (shrink.c) and
 * printed as a sequence and as a C program (repro.c).  ring.c sees in ntbsock's own counters where the connections
 * are, cover.c keeps the table of what has been reached.
 */
#ifndef NTBSOCK_TEST_DIFF_H
#define NTBSOCK_TEST_DIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define PROCS 4			/* 0 and 1 are started, 2 and 3 come by fork */
#define FIRST_PROCS 2
#define THREADS 3
#define SLOTS 24
#define STEPS 96
#define VALUES 16
#define BIG 60000		/* of a send beyond it sizes of buffers decide how much is taken */
#define CHANNEL_FD 800		/* of process 0, thread 0, in every worker */
#define MAIL_FD (CHANNEL_FD + PROCS * THREADS)	/* two a process: it takes descriptors from the first, others give them to the second */

enum call {
#define CALL(name, class, text) C_##name,
#include "calls.def"
#undef CALL
	CALLS
};

enum class { EXACT, RECV, SEND, DRAIN, QUERY, OUTQ, EPOLL, DRIVER };
enum shape { INT, LINGER, TIMEVAL, INFO, STR };

/* How two answers may differ: the table is in compare.c. */
enum rule { SAME, R_SPLIT, R_TAKEN, R_ROOM, R_AMOUNT, R_OUTQ, R_INFO, R_RCVBUF, R_SNDBUF, R_CLAMP, R_MAXSEG, R_QUICKACK, R_CPU,
	    R_NUMBER, R_LATER, R_ORDER, R_BOTH, RULES };

struct call_info {
	const char *name;
	enum class class;
	const char *text;
};
extern const struct call_info calls[CALLS];

struct option_info {
	int level, opt;
	const char *name, *level_name;	
	enum shape shape;
	bool set;
	enum rule how;
};
extern const struct option_info options[];
extern const int nr_options;

struct op {
	uint8_t proc, thr, call;
	int8_t s, t;
	int32_t a, b;
};

struct seq {
	struct op op[STEPS];
	int nr;
	bool calm;		/* between steps both worlds come to rest: what lies behind nobody's back is compared too */
	uint64_t seed;
};

/* To a worker: an operation, and what only holds in its world. */
struct order {
	struct op op;
	uint32_t step, ask;	/* ask counts repetitions of a step */
	uint16_t port;		/* of the listener that op names */
	uint8_t family;
};

struct answer {
	uint32_t step, ask;
	int64_t ret;
	int32_t err;		/* if ret < 0 */
	uint32_t sigs;		/* 1: SIGPIPE in this thread; 2: elsewhere */
	uint64_t bytes, hash;	/* that moved, whatever ret says */
	int32_t nr;		/* of v */
	int64_t v[VALUES];
	/* not compared: they name things of one world */
	uint16_t lport, rport;
	int32_t tid, pid, family;
};

/* Members of a set, in whatever order they were told of. */
void sort_values(struct answer *a);

/* Bytes in order: the hash of two stretches follows from theirs. */
#define HASH_FACTOR 0x9e3779b97f4a7c15ull
static inline uint64_t hash_power(uint64_t n)
{
	uint64_t p = 1, f = HASH_FACTOR;

	for (; n; n >>= 1, f *= f)
		if (n & 1)
			p *= f;
	return p;
}
static inline uint64_t hash_bytes(uint64_t h, const void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		h = h * HASH_FACTOR + ((const uint8_t *)buf)[i] + 1;
	return h;
}
static inline uint64_t hash_join(uint64_t h, uint64_t next, uint64_t next_len)
{
	return h * hash_power(next_len) + next;
}

/* worker.c, ops.c */
int worker_main(int argc, char **argv);
void worker_after_fork(int proc);
void op_run(const struct order *o, struct answer *a);
void op_init(void);

/* world.c */
enum { TCP, NTBS, WORLDS };
extern const char *const world_name[WORLDS];
struct world {
	int which;
	bool up;
	pid_t pid[PROCS];
	bool alive[PROCS];
	int tid[PROCS][THREADS];
	int chan[PROCS][THREADS];
	uint32_t open[PROCS];		/* slots that had a descriptor when the process said hello */
	uint16_t port[SLOTS];		/* that the slot was bound to */
	uint8_t family[SLOTS];
};
extern bool reference;		/* both worlds are kernel TCP */
void world_prepare(const char *self, const char *build);
void world_finish(void);
bool world_start(struct world *w, int which);
void world_stop(struct world *w);
void world_send(struct world *w, const struct order *o);
bool world_receive(struct world *w, int proc, int thr, struct answer *a);
bool world_quiet(struct world *w);
/* A process that was just forked; one that is ending: gone with all its descriptors */
bool world_adopt(struct world *w, int proc);
bool world_died(struct world *w, int proc);
void world_buried(struct world *w, int proc);
bool world_asleep(struct world *w, int proc, int thr);
extern const char *broker_dir;

/* step.c */
struct difference {
	int step;		/* -1: none */
	int at;			/* the step at which it showed: later, if @step had blocked */
	enum call call;
	char what[400];
};
/* What a run has really done, with the bytes that warming up took. */
struct traced {
	struct op op;
	int step;
	bool blocked;
};
#define TRACED 1000
extern struct traced traced[TRACED];
extern int nr_traced;

enum outcome { RUN_SAME, RUN_DIFFERS, RUN_BROKEN };
extern double late_s;
enum outcome run_sequence(const struct seq *s, struct difference *d, bool verbose);

/* compare.c */
extern const char *const rule_text[RULES];
extern unsigned long accepted[RULES];
bool accept_as(enum rule rule);
struct stream {			/* an open file description of a connection, in one world */
	uint64_t rx, tx, rx_hash, tx_hash;
	uint16_t lport, rport;
};
struct desc {
	bool used;
	bool uneven, full;	/* the amounts on their way here differ; nothing has been read since both worlds were full */
	bool backlog;		/* it was full, and has not been read dry since: part of what is unread waits at its sender */
	bool grown;		/* it was full once: how large its sender's buffer is was measured then */
	bool coming;		/* a blocked call still sends */
	bool crammed;		/* it has sent all there was room for, to one that nobody has accepted yet */
	bool unhashed, oob;	/* bytes were thrown away unseen; urgent ones were sent or came */
	bool rcvtimeo, sndtimeo;	/* a wait for bytes, for room ends by itself */
	bool shut_wr, shut_rd, connected, listening;
	bool linger0;		/* its close resets */
	bool async;		/* what comes raises SIGIO */
	bool low_mark;		/* SO_RCVLOWAT: a reader may sleep though bytes are there */
	unsigned told_in;	/* processes in whose sets it is with EPOLLET or EPOLLONESHOT */
	bool told_no_more;	/* closed there, and open elsewhere: such a set of ours hears nothing more of it (ntbsock(7), LIMITATIONS) */
	bool word;		/* recvmmsg() has ended behind a message, and may have left an error that only the library knows */
	bool user_timeout;	/* it ends when nobody reads what it has sent */
	bool left;		/* something has been done that may take its sending away from the ring */
	int refs;		/* slots that name it */
	int peer;		/* desc, or -1 */
	struct stream w[WORLDS];
};
enum verdict { V_SAME, V_AGAIN, V_DIFFERENT };
/* Is there room in the stream to @d?  Sizes of buffers decide. */
bool room_unknown(const struct desc *d);
enum verdict compare(const struct op *op, struct answer a[WORLDS], struct desc *d, struct desc *peer, char *why, size_t size);
void answer_text(const struct op *op, const struct answer *a, char *buf, size_t size);

/* ring.c */
enum where { W_NONE, W_NEW, W_LISTEN, W_PLAIN, W_OFFER, W_LIVE_TCP, W_ONE_WAY, W_BOTH, W_BACK, WHERES };
extern const char *const where_name[WHERES];
enum where ring_where(uint16_t lport, uint16_t rport, uint64_t *ring_bytes);
void ring_look(void);
/* Does this end, which can be asked now, send over the ring? */
bool ring_sends(uint16_t lport, uint16_t rport);

/* cover.c */
enum life { L_NONE, L_FRESH, L_OPEN, L_SHUT_WR, L_SHUT_RD, L_PEER_SHUT, L_BOTH_SHUT, L_GONE, LIVES };
void cover_count(const struct op *op, const struct answer *tcp, enum where where, enum life life);
void cover_print(FILE *f);

/* gen.c, text.c, shrink.c, repro.c */
void gen_sequence(uint64_t seed, struct seq *s);
void op_text(const struct op *op, char *buf, size_t size);
void seq_print(FILE *f, const struct seq *s);
bool seq_read(const char *path, struct seq *s);
void shrink(struct seq *s, struct difference *d);
void repro_print(FILE *f, const struct seq *s, const struct difference *d);

/* main.c */
double now(void);
uint64_t rnd_r(uint64_t *state);
void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
