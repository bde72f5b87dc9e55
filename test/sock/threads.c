/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * threads.c - threads that share sockets: one reads while another writes; many send and receive whole records
 *
 * ring: yes
 */
#include "sock.h"

#define TOTAL 3000000u
#define SENDERS 4
#define RECORDS 2000
#define RECORD 48	/* sent by one call and never split: smaller than any segment or slot */

static void *send_thread(void *arg)
{
	s_send_stream(*(int *)arg, 1, 0, TOTAL);
	return NULL;
}

/* A full-duplex socket: this process writes in one thread and reads in another; so does the peer, by two orders. */
static void duplex(struct peer *p, int fd)
{
	pthread_t t[2];

	if (p->pid) {
		/* the peer echoes nothing, it first sends and then receives, while we do both at once */
		s_order(p, (struct s_msg){ .order = S_SEND, .stream = 2, .len = TOTAL });
		s_order(p, (struct s_msg){ .order = S_RECV, .stream = 1, .len = TOTAL });
		pthread_create(&t[0], NULL, send_thread, &fd);
		s_recv_stream(fd, 2, 0, TOTAL);
		pthread_join(t[0], NULL);
		t_eq(s_answer(p), TOTAL, "%s: sent", s_case);
		t_eq(s_answer(p), TOTAL, "%s: received", s_case);
	} else {
		pthread_create(&t[0], NULL, send_thread, &fd);
		pthread_create(&t[1], NULL, send_thread, &p->fd);
		for (unsigned int i = 0; i < TOTAL; i += 100000) {
			s_recv_stream(fd, 1, i, 100000);
			s_recv_stream(p->fd, 1, i, 100000);
		}
		pthread_join(t[0], NULL);
		pthread_join(t[1], NULL);
	}
	close(fd);
}

struct record {
	uint32_t sender, seq;
	uint8_t fill[RECORD - 8];
};

struct shared {
	int out, in;
	unsigned int nr;
	uint8_t seen[SENDERS][RECORDS];
};

static struct shared sh;

static void *record_sender(void *arg)
{
	unsigned int me = (unsigned int)(uintptr_t)arg;

	for (uint32_t i = 0; i < RECORDS; i++) {
		struct record r = { me, i, { 0 } };

		t_fill(r.fill, sizeof(r.fill), me + 10, i);
		t_must(send(sh.out, &r, sizeof(r), 0) == sizeof(r), "record");
	}
	return NULL;
}

/* Several readers, each taking whole records by WAITALL; every record is seen once, by one of them. */
static void *record_reader(void *arg)
{
	struct record r;
	ssize_t n;

	while ((n = recv(sh.in, &r, sizeof(r), MSG_WAITALL)) == sizeof(r)) {
		t_must(r.sender < SENDERS && r.seq < RECORDS, "record %u %u", r.sender, r.seq);
		t_must(t_wrong(r.fill, sizeof(r.fill), r.sender + 10, r.seq) < 0, "record %u %u", r.sender, r.seq);
		__atomic_add_fetch(&sh.seen[r.sender][r.seq], 1, __ATOMIC_RELAXED);
	}
	t_eq(n, 0, "ends with EOF");
	return NULL;
}

static void records(int family, unsigned int readers)
{
	pthread_t s[SENDERS], r[4];
	int sv[2];

	s_pair(family, sv);
	memset(&sh, 0, sizeof(sh));
	sh.out = sv[0];
	sh.in = sv[1];
	for (unsigned int i = 0; i < readers; i++)
		pthread_create(&r[i], NULL, record_reader, NULL);
	for (unsigned int i = 0; i < SENDERS; i++)
		pthread_create(&s[i], NULL, record_sender, (void *)(uintptr_t)i);
	for (unsigned int i = 0; i < SENDERS; i++)
		pthread_join(s[i], NULL);
	shutdown(sv[0], SHUT_WR);
	for (unsigned int i = 0; i < readers; i++)
		pthread_join(r[i], NULL);
	for (unsigned int i = 0; i < SENDERS; i++) {
		for (unsigned int j = 0; j < RECORDS; j++)
			t_must(sh.seen[i][j] == 1, "record %u of sender %u seen %u times", j, i, sh.seen[i][j]);
	}
	close(sv[0]);
	close(sv[1]);
}

int main(void)
{
	s_each(duplex);
	records(AF_INET, 1);
	records(AF_INET6, 1);
	return t_done();
}
