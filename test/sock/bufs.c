/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bufs.c - SO_SNDBUF and SO_RCVBUF: both set, they bound what lies unread, before the connection is made or later
 *
 * ring: yes
 * limit: 60
 */
#include "sock.h"

#define BUF 32768		/* the kernel counts twice as much */
#define MOST (1 << 20)		/* far more than both, and a packet; far less than either side takes without them */
#define STREAM (getenv("T_NTBSOCK") ? 3u << 20 : 200u << 10)	/* TCP is slow with such buffers: it waits for timers */
#define LONG_MS 10000		/* fails the test, and ends no wait of one that passes */

static void set(int fd, int opt, int bytes)
{
	t_must(!setsockopt(fd, SOL_SOCKET, opt, &bytes, sizeof(bytes)), "buffer");
}

static int room(int fd, int ms)
{
	return poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, ms);
}

/* Bytes of stream 1 from @pos on, in sends of @len, until there is no room. */
static uint64_t fill(int fd, uint64_t pos, size_t len)
{
	char buf[20000];
	uint64_t from = pos;
	ssize_t n;

	do {
		t_fill(buf, len, 1, pos);
		n = send(fd, buf, len, MSG_DONTWAIT);
		pos += n > 0 ? (uint64_t)n : 0;
	} while (n > 0);
	t_must(n == -1 && errno == EAGAIN, "%s: send gives %zd", s_case, n);
	return pos - from;
}

static void take(struct peer *p, uint64_t pos, uint64_t len)
{
	t_must(t_eq(p_recv(p, 1, pos, len), (int64_t)len, "%s: every byte", s_case), "it");
}

/* As it is with both set: bounded, whatever the size of a send; room again when it is read, and more with a larger buffer. */
static uint64_t bounded(struct peer *p, int fd, uint64_t pos)
{
	static const size_t lens[] = { 100, 1000, 20000 };
	/* over a port they do not count, and a peer that has made no call since it is on the ring has not said how large its own is */
	const bool known = !getenv("T_NTBSOCK") || (getenv("T_WARM") && !getenv("T_BRIDGE"));
	uint64_t n;

	for (unsigned i = 0; i < 3; i++) {
		n = fill(fd, pos, lens[i]);
		t_ok(n >= BUF / 4 && (n < MOST || !known), "%s: %llu bytes in sends of %zu", s_case, (unsigned long long)n, lens[i]);
		t_eq(room(fd, 0), 0, "%s: no room for a send, and some for poll", s_case);
		take(p, pos, n);
		pos += n;
		t_eq(room(fd, LONG_MS), 1, "%s: all is read", s_case);
	}
	n = fill(fd, pos, 1000);
	set(fd, SO_SNDBUF, 1 << 20);
	t_ok(!known || room(fd, LONG_MS) == 1, "%s: a larger buffer", s_case);
	set(fd, SO_SNDBUF, BUF);
	take(p, pos, n);
	return pos + n;
}

struct reader {
	struct peer *p;
	uint64_t pos;
};

static void *reads(void *arg)
{
	const struct reader *r = arg;

	take(r->p, r->pos, STREAM);
	return NULL;
}

/* Senders that wait, in send() and in poll(). */
static uint64_t stream(struct peer *p, int fd, uint64_t pos)
{
	for (int nonblock = 0; nonblock < 2; nonblock++, pos += STREAM) {
		struct reader r = { p, pos };
		pthread_t t;

		s_nonblock(fd, nonblock);
		t_must(!pthread_create(&t, NULL, reads, &r), "thread");
		t_must(s_send_stream(fd, 1, pos, STREAM), "stream");
		pthread_join(t, NULL);
	}
	return pos;
}

static void set_later(struct peer *p, int fd)
{
	uint64_t pos;

	/* read, which its sender has perhaps not been told yet: more than both buffers hold from then on */
	t_must(s_send_stream(fd, 1, 0, 240000), "before");
	take(p, 0, 240000);
	pos = 240000;
	set(fd, SO_SNDBUF, BUF);
	p_rcvbuf(p, BUF);
	t_eq(room(fd, LONG_MS), 1, "%s: nothing is unread", s_case);
	pos = stream(p, fd, bounded(p, fd, pos));
	close(fd);
	t_eq(p_recv(p, 1, pos, 1), 0, "%s: EOF", s_case);
}

/* On the listener, whose the accepted socket has; on the other one before it connects. */
static void set_before(void)
{
	for (int accepts = 0; accepts < 2; accepts++) {
		struct peer p = { .ctl = -1 };
		struct s_addr a;
		int lfd = s_listen(AF_INET, &a), c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;

		snprintf(s_case, sizeof(s_case), "before, we %s", accepts ? "accepted" : "connected");
		set(lfd, accepts ? SO_SNDBUF : SO_RCVBUF, BUF);
		set(c, accepts ? SO_RCVBUF : SO_SNDBUF, BUF);
		t_must(!connect(c, (struct sockaddr *)&a.ss, a.len), "connect");
		fd = s_accept(lfd);
		p.fd = accepts ? c : fd;
		fd = accepts ? fd : c;
		s_nodelay_(p.fd);
		s_warm(&p, fd);
		bounded(&p, fd, 0);
		close(fd);
		close(lfd);
		p_end(&p);
	}
}

int main(void)
{
	s_each(set_later);
	set_before();
	return t_done();
}
