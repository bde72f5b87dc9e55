/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * exec_flood.c - a server execs itself in the middle of all that goes on in both directions
 *
 * ring: yes
 */
#include "again.h"

#define TURNS 4
#define FLOOD (2u << 20)		/* echoed by each image before it execs, while more is on its way */
#define UNREAD (24u << 20)		/* more than the ring holds, and TCP */

/* Reads nothing until it has sent all: what the other side sends meanwhile waits. */
static int sends_first(void)
{
	char buf[65536];
	ssize_t n;

	t_ok(s_send_stream(0, 7, 0, FLOOD), "send");
	t_ok(!shutdown(0, SHUT_WR), "shutdown");
	while ((n = read(0, buf, sizeof(buf))) > 0)
		;
	return n < 0 || t_done();
}

struct flood {
	int fd;
	size_t len;
};

static void *flooder(void *arg)
{
	struct flood *f = arg;

	t_ok(s_send_stream(f->fd, 3, 0, f->len), "%s: sender", s_case);
	return NULL;
}

/* A thread sends all the time, another reads: both directions are full at each exec. */
static void flood(int family, size_t len, bool polls)
{
	struct s_addr a;
	int lfd = s_listen(family, &a), fd;
	struct flood f = { .len = len };
	static char buf[65536];
	pthread_t thread;
	uint64_t pos = 0;
	ssize_t n;
	pid_t pid;

	snprintf(s_case, sizeof(s_case), "flood, family %d, %zu, polls %d", family, len, polls);
	pid = start("--flood", TURNS, &a, lfd, &fd);
	f.fd = fd;
	t_must(!pthread_create(&thread, NULL, flooder, &f), "thread");
	while (pos < len) {
		if (polls)
			t_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 60000), 1, "%s: poll", s_case);
		n = recv(fd, buf, sizeof(buf), polls ? MSG_DONTWAIT : 0);
		if (n < 0 && errno == EAGAIN && polls)
			continue;
		if (n <= 0)
			break;
		t_must(t_wrong(buf, n, 3, pos) < 0, "%s: wrong byte after position %llu", s_case, (unsigned long long)pos);
		pos += n;
	}
	t_eq(pos, len, "%s: all came back", s_case);
	pthread_join(thread, NULL);
	t_ok(!shutdown(fd, SHUT_WR), "shutdown");
	t_eq(recv(fd, buf, 1, 0), 0, "%s: EOF", s_case);
	close(fd);
	t_reap(pid);
}

/* The image does not read, and we send more than fits: it has to take up its reading in the end. */
static void unread(int family)
{
	struct s_addr a;
	int lfd = s_listen(family, &a), fd;
	struct flood f = { .len = UNREAD };
	pthread_t thread;
	pid_t pid;
	char c;

	snprintf(s_case, sizeof(s_case), "unread, family %d", family);
	pid = start("--unread", 0, &a, lfd, &fd);
	f.fd = fd;
	t_must(!pthread_create(&thread, NULL, flooder, &f), "thread");
	t_ok(s_recv_stream(fd, 7, 0, FLOOD), "%s: receive", s_case);
	t_eq(recv(fd, &c, 1, 0), 0, "%s: EOF", s_case);
	pthread_join(thread, NULL);
	close(fd);
	t_reap(pid);
}

/* Says that it is there, and reads to the end. */
static int reads(size_t len)
{
	char c = 0;

	t_must(write(0, &c, 1) == 1, "write");
	t_ok(s_recv_stream(0, 9, 0, len), "%zu bytes", len);
	t_eq(read(0, &c, 1), 0, "EOF behind %zu bytes", len);
	return t_done();
}

/* We are gone before the image has found out what has become of the connection. */
static void closes(int family, int len)
{
	struct s_addr a;
	int lfd = s_listen(family, &a), fd;
	pid_t pid;
	char c;

	snprintf(s_case, sizeof(s_case), "closes, family %d, %d", family, len);
	pid = start("--closes", len, &a, lfd, &fd);
	t_eq(recv(fd, &c, 1, 0), 1, "%s: it is there", s_case);
	t_ok(s_send_stream(fd, 9, 0, len), "%s: send", s_case);
	close(fd);
	t_reap(pid);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return !strcmp(argv[1], "--flood") ? echo(argv[1], atoi(argv[2]), FLOOD) :
		       !strcmp(argv[1], "--closes") ? reads(atoi(argv[2])) : sends_first();
	for (int i = 0; i < 2; i++) {
		int family = i ? AF_INET6 : AF_INET;

		flood(family, (TURNS + 1) * (size_t)FLOOD, i);
		/* the last bytes are on their way when an image goes, or when the last one has just come */
		for (int k = 1; k < 4; k++)
			flood(family, k * (size_t)FLOOD + 1000 * k, k & 1);
		unread(family);
		for (int len = 1; len < 2000000; len *= 5)
			closes(family, len);
	}
	return t_done();
}
