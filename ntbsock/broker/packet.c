// SPDX-License-Identifier: BSD-2-Clause
/* packet.c - see packet.h */
#include "packet.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct ntbs_packet {
	struct ntbs_packet *next;
	size_t len_bytes;
	int nr_fds;
	int fds[NTBS_MSG_FDS];
	char bytes[];
};

union control {
	struct cmsghdr align;
	char buf[CMSG_SPACE(NTBS_MSG_FDS * sizeof(int))];
};

void ntbs_close_fds(int *fds, int nr_fds)
{
	for (int i = 0; i < nr_fds; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

void ntbs_sendq_init(struct ntbs_sendq *q)
{
	q->first = NULL;
	q->last = &q->first;
	q->nr = 0;
}

static void drop_first(struct ntbs_sendq *q)
{
	struct ntbs_packet *p = q->first;

	q->first = p->next;
	if (!q->first)
		q->last = &q->first;
	q->nr--;
	ntbs_close_fds(p->fds, p->nr_fds);
	free(p);
}

void ntbs_sendq_drop(struct ntbs_sendq *q)
{
	while (q->first)
		drop_first(q);
}

static int send_one(int fd, const void *msg, size_t len_bytes, const int *fds, int nr_fds)
{
	struct iovec iov = { .iov_base = (void *)msg, .iov_len = len_bytes };
	union control control;
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nr_fds) {
		struct cmsghdr *c = &control.align;

		memset(&control, 0, sizeof(control));
		mh.msg_control = &control;
		mh.msg_controllen = CMSG_SPACE((size_t)nr_fds * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)nr_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, (size_t)nr_fds * sizeof(int));
	}
	while (sendmsg(fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		if (errno != EINTR)
			return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	}
	return 0;
}

static int enqueue(struct ntbs_sendq *q, const void *msg, size_t len_bytes, const int *fds, int nr_fds)
{
	struct ntbs_packet *p;

	if (q->nr >= NTBS_PACKET_QUEUE)
		return -ENOBUFS;
	p = malloc(sizeof(*p) + len_bytes);
	if (!p)
		return -ENOMEM;
	p->next = NULL;
	p->len_bytes = len_bytes;
	memcpy(p->bytes, msg, len_bytes);
	for (p->nr_fds = 0; p->nr_fds < nr_fds; p->nr_fds++) {
		p->fds[p->nr_fds] = fcntl(fds[p->nr_fds], F_DUPFD_CLOEXEC, 0);
		if (p->fds[p->nr_fds] < 0) {
			int err = errno;

			ntbs_close_fds(p->fds, p->nr_fds);
			free(p);
			return -err;
		}
	}
	*q->last = p;
	q->last = &p->next;
	q->nr++;
	return 0;
}

int ntbs_packet_send(struct ntbs_sendq *q, int fd, const void *msg, size_t len_bytes, const int *fds,
		     int nr_fds)
{
	if (ntbs_sendq_empty(q)) {
		int ret = send_one(fd, msg, len_bytes, fds, nr_fds);

		if (ret != -EAGAIN)
			return ret;
	}
	return enqueue(q, msg, len_bytes, fds, nr_fds);
}

int ntbs_packet_flush(struct ntbs_sendq *q, int fd)
{
	while (q->first) {
		struct ntbs_packet *p = q->first;
		int ret = send_one(fd, p->bytes, p->len_bytes, p->fds, p->nr_fds);

		if (ret)
			return ret == -EAGAIN ? 0 : ret;
		drop_first(q);
	}
	return 0;
}

/* Every descriptor that arrived is either in @fds or closed. */
static int take_fds(struct msghdr *mh, int fds[NTBS_MSG_FDS])
{
	int nr = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int got;

			memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (nr < NTBS_MSG_FDS)
				fds[nr++] = got;
			else
				close(got);
		}
	}
	return nr;
}

int ntbs_packet_recv(int fd, void *buf, size_t max_bytes, int fds[NTBS_MSG_FDS], int *nr_fds)
{
	struct iovec iov = { .iov_base = buf, .iov_len = max_bytes };
	union control control;
	struct msghdr mh = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	ssize_t len;

	for (int i = 0; i < NTBS_MSG_FDS; i++)
		fds[i] = -1;
	*nr_fds = 0;
	do {
		len = recvmsg(fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (len < 0 && errno == EINTR);
	if (len < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	*nr_fds = take_fds(&mh, fds);
	if (mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		ntbs_close_fds(fds, *nr_fds);
		*nr_fds = 0;
		return -EMSGSIZE;
	}
	return (int)len;
}
