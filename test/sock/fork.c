/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fork.c - both sides of a fork use the connection: writers of whole records, readers in turn, last one to close ends it
 *
 * ring: yes
 */
#include "sock.h"

/* Parent and child take turns; the descriptor is one stream for both. */
static void in_turn(struct peer *p, int fd)
{
	int turn[2][2];
	char c;
	pid_t pid;

	t_must(!pipe(turn[0]) && !pipe(turn[1]), "pipe");
	pid = t_fork();
	if (!pid) {
		for (unsigned int i = 1; i < 20; i += 2) {
			t_must(read(turn[0][0], &c, 1) == 1, "turn");
			s_send_stream(fd, 1, i * 777, 777);
			s_recv_stream(fd, 2, i * 555, 555);
			t_must(write(turn[1][1], "x", 1) == 1, "turn");
		}
		t_child_exit();
	}
	for (unsigned int i = 0; i < 20; i++) {
		p_send(p, 2, i * 555, 555);
		if (i % 2) {
			t_must(write(turn[0][1], "x", 1) == 1, "turn");
			t_must(read(turn[1][0], &c, 1) == 1, "%s: child ended early", s_case);
		} else {
			s_send_stream(fd, 1, i * 777, 777);
			s_recv_stream(fd, 2, i * 555, 555);
		}
		t_eq(p_recv(p, 1, i * 777, 777), 777, "%s: turn %u", s_case, i);
	}
	t_reap(pid);
	/* the child has gone, the connection stays */
	s_send_stream(fd, 1, 20 * 777, 100);
	t_eq(p_recv(p, 1, 20 * 777, 100), 100, "%s: parent goes on", s_case);
	close(fd);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s: EOF", s_case);
	for (int i = 0; i < 4; i++)
		close(turn[i / 2][i % 2]);
}

/* The parent closes, the child goes on and its exit is the EOF. */
static void child_keeps(struct peer *p, int fd)
{
	int go[2];
	char c;
	pid_t pid;

	t_must(!pipe(go), "pipe");
	pid = t_fork();
	if (!pid) {
		if (p->pid)
			close(p->ctl);
		else
			close(p->fd);
		t_must(read(go[0], &c, 1) == 1, "go");
		s_recv_stream(fd, 2, 0, 30000);
		s_send_stream(fd, 1, 0, 30000);
		t_child_exit();
	}
	close(fd);
	p_send(p, 2, 0, 30000);
	t_must(write(go[1], "x", 1) == 1, "go");
	t_eq(p_recv(p, 1, 0, 40000), 30000, "%s: from the child, then EOF", s_case);
	t_reap(pid);
	close(go[0]);
	close(go[1]);
}

#define WRITERS 3
#define RECORDS 3000

struct record {
	uint32_t who, seq;
	uint8_t fill[40];
};

/* Several processes write whole records at once; the peer sees every one, in each writer's order. */
static void writers(void)
{
	uint32_t next[WRITERS] = { 0 };
	struct record r;
	pid_t pid[WRITERS];
	int sv[2];

	s_pair(AF_INET, sv);
	for (uint32_t w = 0; w < WRITERS; w++) {
		pid[w] = t_fork();
		if (pid[w])
			continue;
		close(sv[1]);
		for (uint32_t i = 0; i < RECORDS; i++) {
			r.who = w;
			r.seq = i;
			t_fill(r.fill, sizeof(r.fill), w, i);
			t_must(send(sv[0], &r, sizeof(r), 0) == sizeof(r), "record");
		}
		t_child_exit();
	}
	close(sv[0]);
	for (unsigned int i = 0; i < WRITERS * RECORDS; i++) {
		t_must(s_recv_all(sv[1], &r, sizeof(r)) == sizeof(r), "record %u", i);
		t_must(r.who < WRITERS && r.seq == next[r.who], "record %u of writer %u, expected %u", r.seq, r.who,
		       r.who < WRITERS ? next[r.who] : 0);
		t_must(t_wrong(r.fill, sizeof(r.fill), r.who, r.seq) < 0, "bytes of record %u", i);
		next[r.who]++;
	}
	t_eq(recv(sv[1], &r, 1, 0), 0, "EOF when the last writer has gone");
	for (int w = 0; w < WRITERS; w++)
		t_reap(pid[w]);
	close(sv[1]);
}

/* daemon(): fork, the parent exits, the grandchild goes on alone. */
static void daemonized(struct peer *p, int fd)
{
	pid_t pid = t_fork();

	if (!pid) {
		pid_t inner = t_fork();

		if (inner)
			_exit(0);
		if (!p->pid)
			close(p->fd);
		setsid();
		s_recv_stream(fd, 2, 0, 1000);
		s_send_stream(fd, 1, 0, 1000);
		t_child_exit();
	}
	close(fd);
	t_reap(pid);
	p_send(p, 2, 0, 1000);
	t_eq(p_recv(p, 1, 0, 2000), 1000, "%s: from the daemon, then EOF", s_case);
}

int main(void)
{
	s_each(in_turn);
	s_each(child_keeps);
	writers();
	s_each(daemonized);
	return t_done();
}
