/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shutdown.c - half-close in both orders, EOF, EPIPE, SIGPIPE
 *
 * ring: yes
 */
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include "sock.h"

static volatile sig_atomic_t pipes;

static void on_sigpipe(int sig)
{
	pipes++;
}

/* We end our direction first; the peer goes on sending. */
static void we_first(struct peer *p, int fd)
{
	char c = 0;

	t_must(s_send_stream(fd, 1, 0, 100000), "send");
	t_ok(!shutdown(fd, SHUT_WR), "shutdown");
	t_eq(p_recv(p, 1, 0, 200000), 100000, "%s: peer takes all, then EOF", s_case);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s: EOF stays", s_case);

	pipes = 0;
	t_ok(send(fd, &c, 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "%s: EPIPE", s_case);
	t_eq(pipes, 0, "%s: NOSIGNAL", s_case);
	t_ok(send(fd, &c, 1, 0) == -1 && errno == EPIPE, "%s: EPIPE", s_case);
	t_eq(pipes, 1, "%s: SIGPIPE by send", s_case);
	t_ok(write(fd, &c, 1) == -1 && errno == EPIPE, "%s: EPIPE", s_case);
	t_eq(pipes, 2, "%s: SIGPIPE by write", s_case);
	t_ok(writev(fd, &(struct iovec){ &c, 1 }, 1) == -1 && errno == EPIPE, "%s: EPIPE", s_case);
	t_eq(pipes, 3, "%s: SIGPIPE by writev", s_case);
	t_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0), 0, "%s: nothing to read", s_case);

	for (unsigned int i = 0; i < 10; i++) {
		p_send(p, 2, i * 1000, 1000);
		t_must(s_recv_stream(fd, 2, i * 1000, 1000), "after our end");
	}
	p_close(p);
	t_eq(recv(fd, &c, 1, 0), 0, "%s: EOF", s_case);
	close(fd);
}

/* The peer ends its direction first. */
static void peer_first(struct peer *p, int fd)
{
	char c;

	p_send(p, 2, 0, 50000);
	p_shutdown(p, SHUT_WR);
	t_must(s_recv_stream(fd, 2, 0, 50000), "all");
	t_eq(recv(fd, &c, 1, 0), 0, "%s: EOF", s_case);
	t_eq(read(fd, &c, 1), 0, "%s: EOF", s_case);
	for (unsigned int i = 0; i < 10; i++) {
		t_must(s_send_stream(fd, 1, i * 1000, 1000), "after its end");
		t_eq(p_recv(p, 1, i * 1000, 1000), 1000, "%s: peer goes on", s_case);
	}
	t_ok(!shutdown(fd, SHUT_WR), "shutdown");
	t_eq(p_recv(p, 1, 0, 1), 0, "%s: EOF there", s_case);
	close(fd);
}

/* Both have ended, and TCP is through with both ends, before the first look at what came. */
static void both_before_read(struct peer *p, int fd)
{
	struct tcp_info ti;
	socklen_t len;
	char c;

	t_ok(!shutdown(fd, SHUT_WR), "shutdown");
	p_send(p, 2, 0, 5000);
	p_shutdown(p, SHUT_WR);
	do {
		len = sizeof(ti);
		t_must(!getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len), "TCP_INFO");
	} while (ti.tcpi_state != TCP_CLOSE && !sched_yield());
	t_must(s_recv_stream(fd, 2, 0, 5000), "all of it");
	t_eq(recv(fd, &c, 1, 0), 0, "%s: EOF", s_case);
	close(fd);
}

/* The connecting end has made no call since connect(), when the other one has sent and it ends its direction. */
static void after_nothing(void)
{
	struct s_addr a;
	int lfd = s_listen(AF_INET, &a);

	snprintf(s_case, sizeof(s_case), "end after nothing");
	for (int i = 0; i < 300; i++) {
		int fd = s_connect(&a), other = s_accept(lfd);
		char c;

		t_must(s_send_stream(other, 2, 0, 3000), "send");
		t_ok(!shutdown(fd, SHUT_WR), "shutdown");
		t_eq(recv(other, &c, 1, 0), 0, "EOF");
		t_must(s_recv_stream(fd, 2, 0, 3000), "all of it");
		t_must(s_send_stream(other, 2, 3000, 3000), "send after its end");
		t_must(s_recv_stream(fd, 2, 3000, 3000), "all of it");
		close(other);
		t_eq(recv(fd, &c, 1, 0), 0, "EOF");
		close(fd);
	}
	close(lfd);
}

/* SHUT_RD here: what comes reads as EOF once it is empty; SHUT_RDWR wakes a reader. */
static void read_side(struct peer *p, int fd)
{
	char c;

	t_ok(!shutdown(fd, SHUT_RD), "SHUT_RD");
	t_eq(recv(fd, &c, 1, 0), 0, "%s: EOF after SHUT_RD", s_case);
	t_must(s_send_stream(fd, 1, 0, 1000), "still sends");
	t_eq(p_recv(p, 1, 0, 1000), 1000, "%s: still received", s_case);
	t_ok(!shutdown(fd, SHUT_RDWR), "SHUT_RDWR");
	t_eq(p_recv(p, 1, 0, 1), 0, "%s: EOF there", s_case);
	t_ok(shutdown(fd, 77) == -1 && errno == EINVAL, "%s: nonsense", s_case);
	close(fd);
}

/* An empty stream that ends at once. */
static void at_once(struct peer *p, int fd)
{
	char c;

	p_close(p);
	t_eq(recv(fd, &c, 1, 0), 0, "%s: EOF", s_case);
	close(fd);
}

static void *reader(void *arg)
{
	char c;

	t_eq(recv(*(int *)arg, &c, 1, 0), 0, "%s: reader woken by shutdown", s_case);
	return NULL;
}

static void wakes_reader(struct peer *p, int fd)
{
	pthread_t t;

	t_must(!pthread_create(&t, NULL, reader, &fd), "thread");
	usleep(10000);
	t_ok(!shutdown(fd, SHUT_RDWR), "SHUT_RDWR");
	pthread_join(t, NULL);
	close(fd);
}

/*
 * A long transfer one way after the other way has ended, in small pieces, both sides in poll(): nothing flows back
 * that could carry an acknowledgement by the way.
 */
#define LONG_TOTAL 20000000u

struct room {
	int how, fd;
	int says;		/* -1: nothing in time */
};

static void *waits_for_room(void *arg)
{
	struct room *r = arg;
	struct pollfd pfd = { .fd = r->fd, .events = POLLOUT };
	struct epoll_event ev = { .events = EPOLLOUT };
	int ep = epoll_create1(EPOLL_CLOEXEC), n;
	fd_set set;

	FD_ZERO(&set);
	FD_SET(r->fd, &set);
	t_must(ep >= 0 && !epoll_ctl(ep, EPOLL_CTL_ADD, r->fd, &ev), "epoll");
	switch (r->how) {
	case 0:
		n = poll(&pfd, 1, 10000);
		r->says = n == 1 ? pfd.revents : -1;
		break;
	case 1:
		n = select(r->fd + 1, NULL, &set, NULL, &(struct timeval){ 10, 0 });
		r->says = n == 1 && FD_ISSET(r->fd, &set) ? POLLOUT : -1;
		break;
	default:
		n = epoll_wait(ep, &ev, 1, 10000);
		r->says = n == 1 ? (int)ev.events : -1;
	}
	close(ep);
	return NULL;
}

/* Behind our own end a send would not wait: who waits for room hears of it, however he does. */
static void wakes_writer(struct peer *p, int fd)
{
	static int how;
	static char block[65536];
	struct room r = { .how = how++ % 3, .fd = fd };
	pthread_t t;

	do
		while (send(fd, block, sizeof(block), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
			;
	while (poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, 20) > 0);
	t_must(!pthread_create(&t, NULL, waits_for_room, &r), "thread");
	usleep(50000);
	t_ok(!shutdown(fd, SHUT_WR), "shutdown");
	pthread_join(t, NULL);
	t_eq(r.says, POLLOUT, "%s: told of the end (%d)", s_case, r.how);
	close(fd);
}

static void one_way(struct peer *p, int fd, bool ended)
{
	static char buf[8192];
	char c;

	if (!p->pid) {
		close(fd);
		return;
	}
	if (ended) {
		p_shutdown(p, SHUT_WR);
		t_eq(recv(fd, &c, 1, 0), 0, "%s: EOF", s_case);
	}
	s_nonblock(fd, true);
	p_nonblock(p, true);
	s_order(p, (struct s_msg){ .order = S_RECV, .stream = 1, .len = LONG_TOTAL });
	for (uint64_t pos = 0; pos < LONG_TOTAL;) {
		size_t n = LONG_TOTAL - pos < sizeof(buf) ? LONG_TOTAL - pos : sizeof(buf);
		struct pollfd pfd = { .fd = fd, .events = POLLOUT };
		ssize_t ret;

		t_must(poll(&pfd, 1, 3000) == 1, "%s: no room after 3 s at position %llu", s_case, (unsigned long long)pos);
		t_fill(buf, n, 1, pos);
		ret = write(fd, buf, n);
		t_must(ret > 0 || (ret == -1 && errno == EAGAIN), "%s: write gives %zd", s_case, ret);
		if (ret > 0)
			pos += (uint64_t)ret;
	}
	t_ok(!shutdown(fd, SHUT_WR), "shutdown");
	t_eq(s_answer(p), LONG_TOTAL, "%s: received", s_case);
	p_nonblock(p, false);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s: EOF", s_case);
	close(fd);
}

static void after_half(struct peer *p, int fd)
{
	one_way(p, fd, true);
}

static void silent(struct peer *p, int fd)
{
	one_way(p, fd, false);
}

int main(void)
{
	int un;

	signal(SIGPIPE, on_sigpipe);
	s_each(we_first);
	s_each(peer_first);
	s_each(both_before_read);
	s_each(read_side);
	s_each(at_once);
	s_each(wakes_reader);
	s_each(wakes_writer);
	after_nothing();
	s_each(silent);
	s_each(after_half);
	un = socket(AF_INET, SOCK_STREAM, 0);
	t_ok(shutdown(un, SHUT_WR) == -1 && errno == ENOTCONN, "not connected");
	pipes = 0;
	t_ok(send(un, &un, 1, 0) == -1 && errno == EPIPE, "not connected");
	t_eq(pipes, 1, "SIGPIPE");
	t_ok(recv(un, &un, 1, 0) == -1 && errno == ENOTCONN, "not connected");
	close(un);
	return t_done();
}
