// SPDX-License-Identifier: BSD-2-Clause
/*
 * ivserver.c - introduces QEMUs with an ivshmem-doorbell device to each other
 *
 *	ivserver SOCKET BYTES VECTORS
 *
 * Debian packages QEMU without such a server.  It hands every guest the same memory (a memfd of BYTES, a power of two)
 * and, for every guest, one eventfd a vector; from then on the guests need it no more than to hear who comes and goes.
 * Says "ready" on standard output when SOCKET can be connected to, and runs until it is killed.
 *
 * Protocol: QEMU, docs/specs/ivshmem-spec.rst, "Client-Server protocol".  The server alone speaks: 8-byte little-endian
 * numbers, each perhaps with a file descriptor.
 *
 * Always holds:
 *  - an id is never given twice in the life of a server.  QEMU 7.2 keeps the ids of guests that left, and one that
 *    hears of a new guest with such an id corrupts its heap;
 *  - a guest that does not read is let go: sending never blocks the others.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MAX_PEERS = 16, MAX_VECTORS = 64, MAX_ID = 65535 };	/* ids are 16 bits of the Doorbell register */
enum { IVSHMEM_VERSION = 0, MEMORY_FOLLOWS = -1 };

static struct peer {
	int fd;				/* -1: free */
	int64_t id;
	int bell[MAX_VECTORS];
} peers[MAX_PEERS];
static int vectors;

static void die(const char *what)
{
	fprintf(stderr, "ivserver: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* One number, and a descriptor unless it is -1.  False: the guest is gone or does not read. */
static bool tell(int fd, int64_t number, int pass)
{
	union { struct cmsghdr align; char room[CMSG_SPACE(sizeof(int))]; } control = { 0 };
	struct iovec iov = { .iov_base = &number, .iov_len = sizeof(number) };	/* x86-64: little-endian already */
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (pass >= 0) {
		struct cmsghdr *c;

		msg.msg_control = control.room;
		msg.msg_controllen = sizeof(control.room);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &pass, sizeof(pass));
	}
	return sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof(number);
}

static bool tell_bells(int fd, const struct peer *of)
{
	for (int v = 0; v < vectors; v++)
		if (!tell(fd, of->id, of->bell[v]))
			return false;
	return true;
}

static void leave(struct peer *p)
{
	close(p->fd);
	p->fd = -1;
	for (int v = 0; v < vectors; v++)
		close(p->bell[v]);
	fprintf(stderr, "ivserver: guest %" PRId64 " left\n", p->id);
	/* Who cannot be told is noticed by the loop: its socket hangs up. */
	for (int i = 0; i < MAX_PEERS; i++)
		if (peers[i].fd >= 0 && !tell(peers[i].fd, p->id, -1))
			shutdown(peers[i].fd, SHUT_RDWR);
}

static void join(int fd, int memory)
{
	static int64_t next_id;
	struct peer *p = NULL;
	bool ok;

	for (int i = 0; i < MAX_PEERS && !p; i++)
		if (peers[i].fd < 0)
			p = &peers[i];
	if (!p || next_id > MAX_ID) {
		fprintf(stderr, "ivserver: no room for another guest\n");
		close(fd);
		return;
	}
	for (int v = 0; v < vectors; v++) {
		p->bell[v] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (p->bell[v] < 0)
			die("eventfd");
	}
	p->fd = fd;
	p->id = next_id++;
	ok = tell(fd, IVSHMEM_VERSION, -1) && tell(fd, p->id, -1) && tell(fd, MEMORY_FOLLOWS, memory);
	for (int i = 0; i < MAX_PEERS && ok; i++)
		if (peers[i].fd >= 0 && &peers[i] != p)
			ok = tell_bells(fd, &peers[i]);
	for (int i = 0; i < MAX_PEERS && ok; i++)
		if (peers[i].fd >= 0 && &peers[i] != p && !tell_bells(peers[i].fd, p))
			shutdown(peers[i].fd, SHUT_RDWR);
	ok = ok && tell_bells(fd, p);		/* its own last: then it knows all */
	fprintf(stderr, "ivserver: guest %" PRId64 " %s\n", p->id, ok ? "joined" : "does not listen");
	if (!ok)
		leave(p);
}

static int listen_at(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	if (strlen(path) >= sizeof(addr.sun_path)) {
		errno = ENAMETOOLONG;
		die(path);
	}
	strcpy(addr.sun_path, path);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, MAX_PEERS))
		die(path);
	return fd;
}

int main(int argc, char **argv)
{
	struct pollfd pfd[MAX_PEERS + 1];
	uint64_t bytes;
	char *end;
	int listener, memory;

	if (argc != 4) {
		fprintf(stderr, "usage: ivserver SOCKET BYTES VECTORS\n");
		return 2;
	}
	bytes = strtoull(argv[2], &end, 0);
	if (*end || bytes < 4096 || bytes & (bytes - 1) || bytes > INT64_MAX) {
		fprintf(stderr, "ivserver: %s bytes: a power of two from 4096 on is wanted\n", argv[2]);
		return 2;
	}
	vectors = atoi(argv[3]);
	if (vectors < 1 || vectors > MAX_VECTORS) {
		fprintf(stderr, "ivserver: %s vectors: 1 to %d are wanted\n", argv[3], MAX_VECTORS);
		return 2;
	}
	memory = memfd_create("ivshmem", MFD_CLOEXEC);
	if (memory < 0 || ftruncate(memory, (off_t)bytes))
		die("memory");
	for (int i = 0; i < MAX_PEERS; i++)
		peers[i].fd = -1;
	listener = listen_at(argv[1]);
	puts("ready");
	fflush(stdout);

	for (;;) {
		pfd[MAX_PEERS] = (struct pollfd){ .fd = listener, .events = POLLIN };
		for (int i = 0; i < MAX_PEERS; i++)
			pfd[i] = (struct pollfd){ .fd = peers[i].fd, .events = POLLIN };
		if (poll(pfd, MAX_PEERS + 1, -1) < 0) {
			if (errno == EINTR)
				continue;
			die("poll");
		}
		/* A guest never speaks: whatever happens on its socket is its end. */
		for (int i = 0; i < MAX_PEERS; i++)
			if (pfd[i].revents)
				leave(&peers[i]);
		if (pfd[MAX_PEERS].revents) {
			int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

			if (fd >= 0)
				join(fd, memory);
			else if (errno != EINTR && errno != ECONNABORTED)
				die("accept");
		}
	}
}
