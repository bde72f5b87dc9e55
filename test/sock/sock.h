/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sock.h - a connected TCP socket and somebody at its other end
 *
 * Every socket test runs as it is on kernel TCP, which is the reference, and on ntbsock.  The other end is a
 * *peer*: the same process (pid 0) or a forked one that had no part in our socket, took orders over a UNIX socket
 * and holds the only descriptor of its end.  s_each() runs a test over both, both families and both roles.
 *
 * T_WARM=N says that the connection should be on the ring before the test proper begins: s_warm() exchanges
 * single bytes for N times 30 ms.  Without it the move happens in the middle of the test, or never.
 */
#ifndef NTBSOCK_TEST_SOCK_H
#define NTBSOCK_TEST_SOCK_H

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include "../t.h"

struct s_addr {
	struct sockaddr_storage ss;
	socklen_t len;
};

struct peer {
	pid_t pid;		/* 0: this process */
	int ctl;		/* orders to a forked one */
	int fd;			/* the end in this process, if it is here */
};

/* Name of the combination that runs, for messages. */
static char s_case[64] T_UNUSED;

T_UNUSED static struct s_addr s_loopback(int family)
{
	struct s_addr a = { .len = sizeof(struct sockaddr_in) };

	a.ss.ss_family = (sa_family_t)family;
	if (family == AF_INET) {
		((struct sockaddr_in *)&a.ss)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	} else {
		((struct sockaddr_in6 *)&a.ss)->sin6_addr = in6addr_loopback;
		a.len = sizeof(struct sockaddr_in6);
	}
	return a;
}

/* A listener on a port of its own; its address in @a. */
T_UNUSED static int s_listen(int family, struct s_addr *a)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	t_must(fd >= 0, "socket");
	*a = s_loopback(family);
	t_must(!bind(fd, (struct sockaddr *)&a->ss, a->len), "bind");
	t_must(!listen(fd, 1024), "listen");
	t_must(!getsockname(fd, (struct sockaddr *)&a->ss, &a->len), "getsockname");
	return fd;
}

T_UNUSED static int s_connect(const struct s_addr *a)
{
	int fd = socket(a->ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	t_must(fd >= 0, "socket");
	t_must(!connect(fd, (const struct sockaddr *)&a->ss, a->len), "connect");
	return fd;
}

T_UNUSED static int s_accept(int lfd)
{
	int fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC);

	t_must(fd >= 0, "accept4");
	return fd;
}

/* Both ends in this process: [0] connected, [1] accepted. */
T_UNUSED static void s_pair(int family, int sv[2])
{
	struct s_addr a;
	int lfd = s_listen(family, &a);

	sv[0] = s_connect(&a);
	sv[1] = s_accept(lfd);
	close(lfd);
}

/* Does that process sleep in a system call? */
T_UNUSED static bool s_asleep(pid_t pid)
{
	char path[32], line[256] = "", *state;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	t_must(f && fgets(line, sizeof(line), f), "stat");
	fclose(f);
	state = strrchr(line, ')');
	return state && state[2] == 'S';
}

T_UNUSED static void s_nonblock(int fd, bool on)
{
	int fl = fcntl(fd, F_GETFL);

	t_must(fl >= 0 && !fcntl(fd, F_SETFL, on ? fl | O_NONBLOCK : fl & ~O_NONBLOCK), "O_NONBLOCK");
}

/* All of it, or the errno that stopped it, negative; works on blocking and non-blocking sockets. */
T_UNUSED static ssize_t s_send_all(int fd, const void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = send(fd, (const char *)buf + done, len - done, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, -1);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* Up to @len bytes until EOF or an error (negative errno). */
T_UNUSED static ssize_t s_recv_all(int fd, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = recv(fd, (char *)buf + done, len - done, 0);

		if (n < 0 && errno == EAGAIN) {
			poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, -1);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* Send and check a stretch of test stream @stream. */
T_UNUSED static bool s_send_stream(int fd, uint64_t stream, uint64_t pos, size_t len)
{
	char buf[16384];

	while (len) {
		size_t n = len < sizeof(buf) ? len : sizeof(buf);
		ssize_t got;

		t_fill(buf, n, stream, pos);
		got = s_send_all(fd, buf, n);
		if (got != (ssize_t)n)
			return t_eq(got, n, "%s: sending at position %llu", s_case, (unsigned long long)pos);
		pos += n;
		len -= n;
	}
	return true;
}

T_UNUSED static bool s_recv_stream(int fd, uint64_t stream, uint64_t pos, size_t len)
{
	char buf[16384];

	while (len) {
		size_t n = len < sizeof(buf) ? len : sizeof(buf);
		ssize_t got = s_recv_all(fd, buf, n), bad;

		if (got != (ssize_t)n)
			return t_eq(got, n, "%s: receiving at position %llu", s_case, (unsigned long long)pos);
		bad = t_wrong(buf, n, stream, pos);
		if (bad >= 0)
			return t_eq(bad, -1, "%s: wrong byte after position %llu", s_case, (unsigned long long)pos);
		pos += n;
		len -= n;
	}
	return true;
}

/* @n pairs of both families, either end of them ours; warmed up all at once if T_WARM is set, as s_warm() does one. */
T_UNUSED static void s_crowd(int *ours, int *theirs, int n)
{
	double end;

	for (int i = 0; i < n; i++) {
		int sv[2];

		s_pair(i & 1 ? AF_INET6 : AF_INET, sv);
		ours[i] = sv[i >> 1 & 1];
		theirs[i] = sv[!(i >> 1 & 1)];
	}
	end = t_now() + 0.05;
	for (uint64_t k = 0; getenv("T_WARM") && (k < 10 || t_now() < end); k++) {
		for (int i = 0; i < n; i++) {
			s_send_stream(theirs[i], 99, k, 1);
			t_must(s_recv_stream(ours[i], 99, k, 1), "warming up");
			s_send_stream(ours[i], 98, k, 1);
			t_must(s_recv_stream(theirs[i], 98, k, 1), "warming up");
		}
	}
}

/* -------------------------------------------------------------------- peer */

enum s_order { S_SEND, S_SEND_LATER, S_RECV, S_SHUTDOWN, S_CLOSE, S_LINGER0, S_EXIT, S_SHUTDOWN_LATER, S_CLOSE_LATER,
	       S_RECV_LATER, S_NONBLOCK, S_RCVBUF, S_ZEROCOPY };

struct s_msg {
	enum s_order order;
	uint64_t stream, pos, len;	/* of the test stream; S_SHUTDOWN: len is how */
	unsigned int later_ms;
};

struct s_late {
	int fd;
	struct s_msg m;
};

static void s_later_(int fd, const struct s_msg *m)
{
	usleep(m->later_ms * 1000);	/* the reader is to be asleep by then; nothing depends on it */
	if (m->order == S_SEND_LATER)
		s_send_stream(fd, m->stream, m->pos, m->len);
	else if (m->order == S_RECV_LATER)
		s_recv_stream(fd, m->stream, m->pos, m->len);
	else if (m->order == S_SHUTDOWN_LATER)
		t_ok(!shutdown(fd, (int)m->len), "shutdown");
	else
		close(fd);
}

T_UNUSED static void *s_late_thread_(void *arg)
{
	struct s_late *l = arg;

	s_later_(l->fd, &l->m);
	free(l);
	return NULL;
}

/* What an order means; the return value is the answer, 0 where there is nothing to say. */
T_UNUSED static int64_t s_obey_(int *fd, const struct s_msg *m)
{
	switch (m->order) {
	case S_SEND:
		return s_send_stream(*fd, m->stream, m->pos, m->len) ? (int64_t)m->len : -EIO;
	case S_RECV: {
		/* the bytes that came, checked; fewer at EOF; a negative errno */
		char *buf = malloc(m->len + 1);
		int64_t got = s_recv_all(*fd, buf, m->len);

		if (got > 0)
			t_eq(t_wrong(buf, (size_t)got, m->stream, m->pos), -1, "%s: wrong byte at the peer", s_case);
		free(buf);
		return got;
	}
	case S_SHUTDOWN:
		return shutdown(*fd, (int)m->len) ? -errno : 0;
	case S_LINGER0:
		return setsockopt(*fd, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 }, sizeof(struct linger)) ? -errno : 0;
	case S_NONBLOCK:
		s_nonblock(*fd, m->len);
		return 0;
	case S_RCVBUF:
		return setsockopt(*fd, SOL_SOCKET, SO_RCVBUF, &(int){ (int)m->len }, sizeof(int)) ? -errno : 0;
	case S_ZEROCOPY:
		return setsockopt(*fd, SOL_SOCKET, SO_ZEROCOPY, &(int){ 1 }, sizeof(int)) ? -errno : 0;
	case S_CLOSE:
		close(*fd);
		*fd = -1;
		return 0;
	default:
		return 0;
	}
}

T_UNUSED __attribute__((noreturn)) static void s_peer_main_(int ctl, int fd)
{
	struct s_msg m;

	signal(SIGPIPE, SIG_IGN);
	while (read(ctl, &m, sizeof(m)) == sizeof(m) && m.order != S_EXIT) {
		int64_t ret;

		switch (m.order) {
		case S_SEND_LATER:
		case S_RECV_LATER:
		case S_SHUTDOWN_LATER:
		case S_CLOSE_LATER:
			s_later_(fd, &m);
			break;
		default:
			ret = s_obey_(&fd, &m);
			t_must(write(ctl, &ret, sizeof(ret)) == sizeof(ret), "answer");
		}
	}
	t_child_exit();
}

/* The peer writes at once, so that no test waits for a delayed acknowledgement. */
T_UNUSED static void s_nodelay_(int fd)
{
	t_ok(!setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)), "NODELAY");
}

/*
 * A peer and our end of the connection to it.  The peer is forked before there is any connection.
 * @we_connect: our end is the one that connect() made.
 */
T_UNUSED static int s_peer(struct peer *p, int family, bool forked, bool we_connect)
{
	struct s_addr a;
	int lfd, fd, ctl[2];

	*p = (struct peer){ .ctl = -1, .fd = -1 };
	if (!forked) {
		int sv[2];

		s_pair(family, sv);
		p->fd = sv[we_connect];
		s_nodelay_(p->fd);
		return sv[!we_connect];
	}
	t_must(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ctl), "socketpair");
	p->pid = t_fork();
	if (!p->pid) {
		close(ctl[0]);
		if (we_connect) {
			lfd = s_listen(family, &a);
			t_must(write(ctl[1], &a, sizeof(a)) == sizeof(a), "address");
			fd = s_accept(lfd);
			close(lfd);
		} else {
			t_must(read(ctl[1], &a, sizeof(a)) == sizeof(a), "address");
			fd = s_connect(&a);
		}
		s_nodelay_(fd);
		s_peer_main_(ctl[1], fd);
	}
	close(ctl[1]);
	p->ctl = ctl[0];
	if (we_connect) {
		t_must(read(ctl[0], &a, sizeof(a)) == sizeof(a), "address");
		return s_connect(&a);
	}
	lfd = s_listen(family, &a);
	t_must(write(ctl[0], &a, sizeof(a)) == sizeof(a), "address");
	fd = s_accept(lfd);
	close(lfd);
	return fd;
}

/* Give an order and do not wait for the answer; s_answer() takes it. */
T_UNUSED static void s_order(struct peer *p, struct s_msg m)
{
	t_must(write(p->ctl, &m, sizeof(m)) == sizeof(m), "order");
}

T_UNUSED static int64_t s_answer(struct peer *p)
{
	int64_t ret;

	t_must(read(p->ctl, &ret, sizeof(ret)) == sizeof(ret), "%s: answer of the peer", s_case);
	return ret;
}

T_UNUSED static int64_t s_do_(struct peer *p, struct s_msg m)
{
	if (!p->pid)
		return s_obey_(&p->fd, &m);
	s_order(p, m);
	return s_answer(p);
}

/* The peer sends @len bytes of @stream from @pos; takes at most @len and checks them, returning what came. */
#define p_send(p, stream_, pos_, len_) \
	t_eq(s_do_(p, (struct s_msg){ .order = S_SEND, .stream = (stream_), .pos = (pos_), .len = (len_) }), (len_), "%s: peer sends", s_case)
#define p_recv(p, stream_, pos_, len_) \
	s_do_(p, (struct s_msg){ .order = S_RECV, .stream = (stream_), .pos = (pos_), .len = (len_) })
#define p_shutdown(p, how_) t_eq(s_do_(p, (struct s_msg){ .order = S_SHUTDOWN, .len = (how_) }), 0, "%s: peer shuts down", s_case)
#define p_close(p) ((void)s_do_(p, (struct s_msg){ .order = S_CLOSE }))
#define p_nonblock(p, on) ((void)s_do_(p, (struct s_msg){ .order = S_NONBLOCK, .len = (on) }))
#define p_rcvbuf(p, bytes_) t_eq(s_do_(p, (struct s_msg){ .order = S_RCVBUF, .len = (bytes_) }), 0, "%s: SO_RCVBUF", s_case)
#define p_zerocopy(p) t_eq(s_do_(p, (struct s_msg){ .order = S_ZEROCOPY }), 0, "%s: SO_ZEROCOPY", s_case)	/* leaves the ring */
#define p_linger0(p) ((void)s_do_(p, (struct s_msg){ .order = S_LINGER0 }))

/* The same in @ms milliseconds, while the caller goes on; the peer does nothing else until then. */
T_UNUSED static void p_later(struct peer *p, enum s_order order, unsigned int ms, uint64_t stream, uint64_t pos, uint64_t len)
{
	struct s_msg m = { .order = order, .stream = stream, .pos = pos, .len = len, .later_ms = ms };
	struct s_late *l;
	pthread_t t;

	if (p->pid) {
		s_order(p, m);
		return;
	}
	l = malloc(sizeof(*l));
	*l = (struct s_late){ p->fd, m };
	t_must(!pthread_create(&t, NULL, s_late_thread_, l), "thread");
	pthread_detach(t);
	if (order == S_CLOSE_LATER)
		p->fd = -1;
}

/* Ends the peer and takes its status: a check that failed there fails here. */
T_UNUSED static void p_end(struct peer *p)
{
	if (!p->pid) {
		if (p->fd >= 0)
			close(p->fd);
		return;
	}
	s_order(p, (struct s_msg){ .order = S_EXIT });
	close(p->ctl);
	t_reap(p->pid);
}

/* Let both directions move to the ring if they are going to. */
T_UNUSED static void s_warm(struct peer *p, int fd)
{
	double end = t_now();

	if (!getenv("T_WARM"))
		return;
	end += 0.03 * atoi(getenv("T_WARM"));
	for (uint64_t i = 0; i < 20 || t_now() < end; i++) {
		p_send(p, 99, i, 1);
		t_must(s_recv_stream(fd, 99, i, 1), "%s: warming up", s_case);
		t_must(s_send_stream(fd, 98, i, 1), "%s: warming up", s_case);
		t_eq(p_recv(p, 98, i, 1), 1, "%s: warming up", s_case);
		if (i > 5)
			usleep(500);
	}
}

/* Run @fn over both families, a peer here and elsewhere, both roles.  @fn owns @fd and closes it. */
T_UNUSED static void s_each(void (*fn)(struct peer *p, int fd))
{
	for (int i = 0; i < 8; i++) {
		int family = i & 1 ? AF_INET6 : AF_INET;
		struct peer p;
		int fd;

		snprintf(s_case, sizeof(s_case), "IPv%d, peer %s, we %s", i & 1 ? 6 : 4, i & 2 ? "forked" : "in-process",
			 i & 4 ? "accepted" : "connected");
		fd = s_peer(&p, family, i & 2, !(i & 4));
		s_warm(&p, fd);
		fn(&p, fd);
		p_end(&p);
	}
}

#endif
