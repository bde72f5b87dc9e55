/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stream.c - long streams both ways at once, in pieces of random size by a random mix of calls, every byte checked
 *
 * ring: yes
 */
#include <sys/epoll.h>
#include "sock.h"

#define TOTAL (getenv("NTBS_SOAK") ? 400u << 20 : getenv("T_SAN") ? 4u << 20 : 24u << 20)
#define MAX_PIECE 300000

struct side {
	int fd;
	uint64_t stream, total, seed;
};

/* Mostly small, sometimes large, sometimes just around a boundary. */
static size_t piece(uint64_t *rnd, uint64_t left)
{
	static const size_t edges[] = { 54, 55, 62, 116, 117, 4096, 16384, 16385, 65536 };
	uint64_t r = t_rand_r(rnd);
	size_t n;

	switch (r & 7) {
	case 0: n = edges[(r >> 8) % 9]; break;
	case 1: n = (r >> 8) % MAX_PIECE; break;
	case 2:
	case 3: n = (r >> 8) % 20000; break;
	default: n = (r >> 8) % 200;
	}
	n++;
	return n < left ? n : left;
}

static void pause_for(int fd, short events, uint64_t r)
{
	if (r & 1) {
		struct pollfd pfd = { .fd = fd, .events = events };

		poll(&pfd, 1, -1);
		return;
	}
	int ep = epoll_create1(0);
	struct epoll_event ev = { .events = events == POLLIN ? EPOLLIN : EPOLLOUT };
	t_must(!epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), "epoll_ctl");
	epoll_wait(ep, &ev, 1, -1);
	close(ep);
}

static void *writer(void *arg)
{
	struct side *s = arg;
	uint64_t pos = 0, rnd = s->seed;
	char *buf = malloc(MAX_PIECE + 1);

	while (pos < s->total) {
		size_t n = piece(&rnd, s->total - pos);
		uint64_t r = t_rand_r(&rnd);
		struct iovec iov[2];
		ssize_t ret;

		t_fill(buf, n, s->stream, pos);
		iov[0] = (struct iovec){ buf, n / 3 };
		iov[1] = (struct iovec){ buf + n / 3, n - n / 3 };
		switch (r & 7) {
		case 0: ret = write(s->fd, buf, n); break;
		case 1: ret = writev(s->fd, iov, 2); break;
		case 2: ret = sendmsg(s->fd, &(struct msghdr){ .msg_iov = iov, .msg_iovlen = 2 }, 0); break;
		case 3: ret = send(s->fd, buf, n, MSG_DONTWAIT); break;
		case 4: ret = send(s->fd, buf, n, MSG_MORE); break;
		default: ret = send(s->fd, buf, n, MSG_NOSIGNAL);
		}
		if (ret < 0 && errno == EAGAIN) {
			pause_for(s->fd, POLLOUT, r >> 8);
			continue;
		}
		t_must(ret > 0 && ret <= (ssize_t)n, "write at %llu gives %zd", (unsigned long long)pos, ret);
		pos += (uint64_t)ret;
	}
	t_must(!shutdown(s->fd, SHUT_WR), "shutdown");
	free(buf);
	return NULL;
}

static void *reader(void *arg)
{
	struct side *s = arg;
	uint64_t pos = 0, rnd = ~s->seed;
	char *buf = malloc(MAX_PIECE + 1);

	for (;;) {
		size_t n = piece(&rnd, MAX_PIECE);
		uint64_t r = t_rand_r(&rnd);
		struct iovec iov[2] = { { buf, n / 3 }, { buf + n / 3, n - n / 3 } };
		ssize_t ret;

		switch (r & 7) {
		case 0: ret = read(s->fd, buf, n); break;
		case 1: ret = readv(s->fd, iov, 2); break;
		case 2: ret = recvmsg(s->fd, &(struct msghdr){ .msg_iov = iov, .msg_iovlen = 2 }, 0); break;
		case 3: ret = recv(s->fd, buf, n, MSG_DONTWAIT); break;
		case 4:
			ret = recv(s->fd, buf, n, MSG_PEEK | MSG_DONTWAIT);
			if (ret > 0) {
				t_must(t_wrong(buf, (size_t)ret, s->stream, pos) < 0, "peek at %llu", (unsigned long long)pos);
				continue;
			}
			break;
		case 5: ret = recv(s->fd, buf, n, MSG_WAITALL); break;
		default: ret = recv(s->fd, buf, n, 0);
		}
		if (ret < 0 && errno == EAGAIN) {
			pause_for(s->fd, POLLIN, r >> 8);
			continue;
		}
		if (!ret)
			break;
		t_must(ret > 0, "read at %llu gives %zd", (unsigned long long)pos, ret);
		ssize_t bad = t_wrong(buf, (size_t)ret, s->stream, pos);
		t_must(bad < 0, "wrong byte at %llu", (unsigned long long)pos + (unsigned long long)bad);
		pos += (uint64_t)ret;
	}
	t_eq(pos, s->total, "length of stream %d", (int)s->stream);
	free(buf);
	return NULL;
}

static void both_ways(int fd, uint64_t out, uint64_t in, bool nonblock)
{
	struct side w = { fd, out, TOTAL, t_seed() + out }, r = { fd, in, TOTAL, t_seed() + in };
	pthread_t t;

	s_nonblock(fd, nonblock);
	t_must(!pthread_create(&t, NULL, writer, &w), "thread");
	reader(&r);
	pthread_join(t, NULL);
	close(fd);
}

int main(void)
{
	t_seed();
	for (int i = 0; i < 2; i++) {
		struct s_addr a;
		int lfd = s_listen(i ? AF_INET6 : AF_INET, &a);
		pid_t pid = t_fork();

		if (!pid) {
			both_ways(s_accept(lfd), 2, 1, i);
			t_child_exit();
		}
		close(lfd);
		both_ways(s_connect(&a), 1, 2, !i);
		t_reap(pid);
	}
	return t_done();
}
