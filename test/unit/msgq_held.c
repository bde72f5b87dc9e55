// SPDX-License-Identifier: BSD-2-Clause
/*
 * msgq_held.c - over a port that can tear, what a program is given is what the CRC was taken of
 *
 * Slots and bulk bytes are erased between a message's first byte and its last, before its first, and, by another process that
 * writes there all the time, at any moment.  Bytes are right, or they have not arrived.
 */
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "simpair.h"

/* The reader's inbox, where another process can write as well. */
static void share(struct simpair *p)
{
	size_t bytes = ntbs_msgq_inbox_bytes(&p->s[1].q.geo);
	void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	t_must(mem != MAP_FAILED, "no memory");
	memcpy(mem, p->s[1].in, bytes);
	free(p->s[1].in);
	p->s[1].in = mem;
	p->s[1].q.in = p->s[0].q.out = mem;
}

static void unshare_close(struct simpair *p)
{
	munmap(p->s[1].in, ntbs_msgq_inbox_bytes(&p->s[1].q.geo));
	p->s[1].in = NULL;
	simpair_close(p);
}

static struct simpair *pair(void)
{
	struct simpair *p = simpair_open(.nr_slots = 16, .bulk_bytes = 1 << 16, .chaos = t_seed() | 1);

	share(p);
	return p;
}

static uint8_t *ring(struct simpair *p)
{
	return (uint8_t *)p->s[1].in + p->s[1].q.geo.bulk_offset;
}

static void taken_in_part(size_t len)
{
	struct simpair *p = pair();
	size_t bytes = ntbs_msgq_inbox_bytes(&p->s[1].q.geo);
	void *saved = malloc(bytes);

	t_must(saved, "no memory");
	t_eq(simpair_send(p, 0, len), len, "send");
	simpair_drain(p);
	t_eq(simpair_recv(p, 1, 10, NTBS_RECV_PEEK), 10, "a look at the first bytes");
	t_eq(simpair_recv(p, 1, 10, 0), 10, "the first bytes");
	memcpy(saved, p->s[1].in, bytes);
	memset((char *)p->s[1].in + offsetof(struct ntbs_inbox_shm, slot), 0, bytes - offsetof(struct ntbs_inbox_shm, slot));
	if (len > NTBS_INLINE_MAX) {
		t_ok(ntbs_msgq_readable(&p->s[1].q), "bytes are left, but it is not readable");
		t_eq(simpair_recv(p, 1, len, 0), len - 10, "the rest, which is ours");
	} else {
		t_eq(simpair_recv(p, 1, len, 0), -EAGAIN, "the rest of what is erased");
		memcpy(p->s[1].in, saved, bytes);
		t_eq(simpair_recv(p, 1, len, 0), len - 10, "the rest");
	}
	free(saved);
	unshare_close(p);
}

/* Another process goes on with what the first has begun: it has nothing of it, and nothing of it has been given back. */
static void by_another(void)
{
	struct simpair *p = pair();
	struct simside *r = &p->s[1];

	t_eq(simpair_send(p, 0, 16384), 16384, "send");
	simpair_drain(p);
	t_eq(simpair_recv(p, 1, 16000, 0), 16000, "nearly all");
	ntbs_msgq_ack(&r->q);
	while (simpair_send(p, 0, 5000) > 0)
		;
	simpair_drain(p);
	r->held.next = 0;
	t_eq(simpair_recv(p, 1, 384, 0), 384, "its end");
	simpair_settle(p);
	unshare_close(p);
}

static void not_whole(void)
{
	struct simpair *p = pair();

	t_eq(simpair_send(p, 0, 3000), 3000, "send");
	simpair_drain(p);
	ring(p)[1000] ^= 1;
	t_eq(simpair_recv(p, 1, 3000, 0), -EAGAIN, "a message with a wrong byte");
	t_ok(ntbs_msgq_torn(&p->s[1].q), "not said to be torn");
	ring(p)[1000] ^= 1;
	t_eq(simpair_recv(p, 1, 3000, 0), 3000, "the same, right");
	t_ok(!ntbs_msgq_torn(&p->s[1].q), "nothing there is said to be torn");
	unshare_close(p);
}

/* Who is told of edges alone: each look that finds a torn message is followed by another one. */
static void edges(bool stamp_lost)
{
	struct simpair *p = pair();
	struct ntbs_msgq *q = &p->s[1].q;
	struct ntbs_slot_shm *slot = &p->s[1].in->slot[p->s[1].rx.head & 15];
	uint64_t tail, mark;

	t_eq(simpair_send(p, 0, 30), 30, "send");
	t_eq(simpair_send(p, 0, 30), 30, "send");
	simpair_drain(p);
	tail = slot->line1.tail.v;
	slot->line1.tail.v = stamp_lost ? 0xffffull << 48 : tail ^ 1 << 20;
	mark = ntbs_msgq_rx_mark(q);
	t_eq(simpair_recv(p, 1, 60, 0), -EAGAIN, "torn");
	t_ok(ntbs_msgq_readable(q) && ntbs_msgq_torn(q), "nobody would come back");
	t_ok(ntbs_msgq_rx_mark(q) != mark, "no edge");
	slot->line1.tail.v = tail;
	t_eq(simpair_recv(p, 1, 60, 0), 60, "both");
	unshare_close(p);
}

enum { HALT, PARKED, ATTACK, ATTACKING };

static void at_any_moment(void)
{
	struct simpair *p = pair();
	_Atomic int *word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	time_t end = time(NULL) + 5;	/* on a machine with other work the two seldom run at once */
	unsigned torn = 0;
	pid_t enemy;

	t_must(word != MAP_FAILED, "no memory");
	enemy = t_fork();
	if (!enemy) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) {
			uint8_t *at = ring(p) + t_rand() % 20000;
			uint8_t bits = (uint8_t)(1 + t_rand() % 255);

			int halt = HALT, attack = ATTACK;

			atomic_compare_exchange_strong(word, &halt, PARKED);
			if (*word == HALT || *word == PARKED) {
				sched_yield();
				continue;
			}
			__atomic_fetch_xor(at, bits, __ATOMIC_SEQ_CST);
			atomic_compare_exchange_strong(word, &attack, ATTACKING);
			for (unsigned n = t_rand() % 300; n; n--)
				__atomic_signal_fence(__ATOMIC_SEQ_CST);
			__atomic_fetch_xor(at, bits, __ATOMIC_SEQ_CST);
		}
	}
	for (unsigned n = 0; (n < 3000 || torn < 20) && time(NULL) < end; n++) {
		*word = HALT;		/* what it undoes is to be what it did */
		while (*word != PARKED)
			sched_yield();
		simpair_send(p, 0, 100 + t_rand() % 15000);
		simpair_drain(p);
		*word = ATTACK;
		while (*word != ATTACKING)
			sched_yield();
		if (t_rand() % 4 == 0)
			simpair_recv(p, 1, 1 + t_rand() % 20000, NTBS_RECV_PEEK);
		if (simpair_recv(p, 1, 1 + t_rand() % 20000, 0) == -EAGAIN && ntbs_msgq_torn(&p->s[1].q))
			torn++;
	}
	kill(enemy, SIGKILL);
	waitpid(enemy, NULL, 0);
	munmap(word, 4096);
	t_ok(torn && p->s[1].got, "the enemy has met %u messages, %llu bytes have come", torn, (unsigned long long)p->s[1].got);
	unshare_close(p);
}

int main(void)
{
	taken_in_part(116);
	taken_in_part(16384);
	by_another();
	not_whole();
	edges(false);
	edges(true);
	at_any_moment();
	return t_done();
}
