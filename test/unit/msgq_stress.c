// SPDX-License-Identifier: BSD-2-Clause
/*
 * msgq_stress.c - two threads, one at each end, both sending and taking as fast as they can
 *
 * Shared memory port; every byte is checked at its place.  Clean under ThreadSanitizer: what one side writes the
 * other reads only after an acquire of the word that published it.
 */
#include <pthread.h>
#include <sched.h>

#include "simpair.h"

#ifdef NTBS_SANITIZED
#define TOTAL (3u << 20)
#else
#define TOTAL (12u << 20)
#endif

struct end {
	struct ntbs_msgq *q;
	int side;
	uint32_t max;		/* longest message */
	uint64_t rng, sent, got;
	bool failed;
};

static bool send_some(struct end *e, uint8_t *buf)
{
	size_t len = 1 + t_rand_r(&e->rng) % e->max;
	struct iovec iov = { buf, len };
	struct ntbs_iter it;
	ssize_t ret;

	if (len > TOTAL - e->sent)
		iov.iov_len = len = TOTAL - e->sent;
	if (!len)
		return false;
	t_fill(buf, len, (uint64_t)e->side, e->sent);
	ntbs_iter_init(&it, &iov, len);
	ret = ntbs_msgq_send(e->q, &it, 0);
	if (ret > 0)
		e->sent += (uint64_t)ret;
	else if (!t_ok(ret == -EAGAIN, "send says %zd", ret))
		e->failed = true;
	return ret > 0;
}

static bool take_some(struct end *e, uint8_t *buf)
{
	struct iovec iov = { buf, 1 + t_rand_r(&e->rng) % (2 * e->max) };
	bool acked = false, peek = t_rand_r(&e->rng) % 8 == 0;
	struct ntbs_iter it;
	ssize_t ret;

	if (t_rand_r(&e->rng) % 16 == 0)
		ntbs_msgq_avail(e->q);
	ntbs_iter_init(&it, &iov, iov.iov_len);
	ret = ntbs_msgq_recv(e->q, &it, peek ? NTBS_RECV_PEEK : 0, &acked);
	if (ret == -EAGAIN) {
		ntbs_msgq_ack(e->q);	/* as before a sleep */
		return false;
	}
	if (!t_ok(ret > 0, "recv says %zd", ret) ||
	    !t_ok(t_wrong(buf, (size_t)ret, (uint64_t)(1 - e->side), e->got) < 0, "side %d: wrong byte near %llu", e->side,
		  (unsigned long long)e->got))
		e->failed = true;
	else if (!peek)
		e->got += (uint64_t)ret;
	return true;
}

static void *run(void *arg)
{
	struct end *e = arg;
	uint8_t *buf = malloc(2 * e->max + 1);

	t_must(buf, "no memory");
	while (!e->failed && (e->sent < TOTAL || e->got < TOTAL)) {
		bool moved = false;

		for (unsigned n = t_rand_r(&e->rng) % 8; n && send_some(e, buf); n--)
			moved = true;
		for (unsigned n = t_rand_r(&e->rng) % 8; n && take_some(e, buf); n--)
			moved = true;
		if (!moved)
			sched_yield();
	}
	ntbs_msgq_ack(e->q);	/* what the other side may still wait for */
	free(buf);
	return NULL;
}

static void stress(uint32_t nr_slots, uint32_t bulk_bytes, uint32_t max)
{
	struct simpair *p = simpair_open(.nr_slots = nr_slots, .bulk_bytes = bulk_bytes, .first_seq = UINT32_MAX - 1000,
					 .first_bulk = UINT32_MAX - 100000);
	struct end e[2];
	pthread_t thread[2];

	for (int i = 0; i < 2; i++) {
		e[i] = (struct end){ .q = &p->s[i].q, .side = i, .max = max, .rng = t_rand() };
		t_must(!pthread_create(&thread[i], NULL, run, &e[i]), "pthread_create");
	}
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	for (int i = 0; i < 2; i++)
		t_ok(e[i].sent == TOTAL && e[i].got == TOTAL, "side %d of %u slots, messages to %u: sent %llu, got %llu of %u", i,
		     nr_slots, max, (unsigned long long)e[i].sent, (unsigned long long)e[i].got, TOTAL);
	simpair_close(p);
}

int main(void)
{
	stress(64, 1 << 18, 120);
	stress(8, 4096, 300);
	stress(64, 1 << 18, 20000);
	stress(512, 1 << 20, 60000);
	return t_done();
}
