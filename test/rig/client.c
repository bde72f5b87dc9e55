// SPDX-License-Identifier: BSD-2-Clause
/* client.c - the other end of vfio-user; see client.h */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include "client.h"

enum { REPLY = 1, ERROR = 0x20, PATIENCE_MS = 5000 };

struct head {
	uint16_t id, cmd;
	uint32_t size, flags, error;
};

bool vc_connect(struct vc *c, const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct timeval tv = { .tv_sec = PATIENCE_MS / 1000 };

	memset(c, 0, sizeof(*c));
	for (int i = 0; i < VC_VECTORS; i++)
		c->vector[i] = -1;
	for (int i = 0; i < 9; i++)
		c->region_fd[i] = -1;
	strncpy(sa.sun_path, path, sizeof(sa.sun_path) - 1);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	return c->fd >= 0 && !connect(c->fd, (struct sockaddr *)&sa, sizeof(sa));
}

void vc_close(struct vc *c)
{
	close(c->fd);
	for (int i = 0; i < VC_VECTORS; i++) {
		if (c->vector[i] >= 0)
			close(c->vector[i]);
	}
	for (int i = 0; i < 9; i++) {
		if (c->region_fd[i] >= 0)
			close(c->region_fd[i]);
	}
	c->fd = -1;
}

bool vc_send_raw(struct vc *c, const void *msg, size_t len, const int *fds, int count)
{
	union {
		char room[CMSG_SPACE(VC_FDS * sizeof(int))];
		struct cmsghdr align;
	} ctl = { 0 };
	struct iovec iov = { (void *)msg, len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (count) {
		struct cmsghdr *cm = (struct cmsghdr *)ctl.room;

		mh.msg_control = ctl.room;
		mh.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
		memcpy(CMSG_DATA(cm), fds, (size_t)count * sizeof(int));
	}
	return sendmsg(c->fd, &mh, MSG_NOSIGNAL) == (ssize_t)len;
}

bool vc_send(struct vc *c, uint16_t cmd, uint32_t flags, const void *body, size_t len, const int *fds, int count)
{
	uint8_t msg[sizeof(struct head) + 8192];
	struct head h = { ++c->next_id, cmd, (uint32_t)(sizeof(h) + len), flags, 0 };

	if (len > sizeof(msg) - sizeof(h))
		return false;
	memcpy(msg, &h, sizeof(h));
	if (len)
		memcpy(msg + sizeof(h), body, len);
	return vc_send_raw(c, msg, sizeof(h) + len, fds, count);
}

static bool receive(struct vc *c, void *buf, size_t len, int *fd)
{
	size_t got = 0;

	while (got < len) {
		union {
			char room[CMSG_SPACE(sizeof(int))];
			struct cmsghdr align;
		} ctl;
		struct iovec iov = { (char *)buf + got, len - got };
		struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl, .msg_controllen = sizeof(ctl.room) };
		ssize_t n = recvmsg(c->fd, &mh, MSG_CMSG_CLOEXEC);
		struct cmsghdr *cm;

		if (n <= 0)
			return false;
		cm = CMSG_FIRSTHDR(&mh);
		if (cm && fd)
			memcpy(fd, CMSG_DATA(cm), sizeof(*fd));
		got += (size_t)n;
	}
	return true;
}

/* A command of the server: it writes to our memory. */
static bool serve(struct vc *c, const struct head *h, const uint8_t *body)
{
	struct head reply = { h->id, h->cmd, sizeof(reply), REPLY, 0 };
	uint64_t addr, count;

	if (h->cmd != VC_DMA_WRITE || h->size < sizeof(*h) + 16)
		return false;
	memcpy(&addr, body, 8);
	memcpy(&count, body + 8, 8);
	if (count != h->size - sizeof(*h) - 16 || !c->dma)
		return false;
	c->dma(c->dma_arg, addr, body + 16, count);
	return vc_send_raw(c, &reply, sizeof(reply), NULL, 0);
}

bool vc_answer(struct vc *c, uint16_t cmd, struct vc_answer *a)
{
	for (;;) {
		struct head h;

		a->fd = -1;
		if (!receive(c, &h, sizeof(h), &a->fd) || h.size < sizeof(h) || h.size - sizeof(h) > sizeof(a->body))
			return false;
		a->len = h.size - sizeof(h);
		if (!receive(c, a->body, a->len, NULL))
			return false;
		if (!(h.flags & 0xf)) {
			if (!serve(c, &h, a->body))
				return false;
			continue;
		}
		a->error = h.flags & ERROR ? h.error : 0;
		return h.id == c->next_id && h.cmd == cmd && (h.flags & ~(uint32_t)ERROR) == REPLY;
	}
}

bool vc_call(struct vc *c, uint16_t cmd, const void *body, size_t len, const int *fds, int count, struct vc_answer *a)
{
	return vc_send(c, cmd, 0, body, len, fds, count) && vc_answer(c, cmd, a);
}

bool vc_ended(struct vc *c)
{
	char byte;
	ssize_t n = recv(c->fd, &byte, 1, 0);

	return !n || (n < 0 && errno == ECONNRESET);
}

bool vc_hello(struct vc *c)
{
	static const char version[] = "\0\0\0\0{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,\"write_multiple\":true}}";
	uint32_t info[4] = { sizeof(info) };
	struct vc_answer a;

	if (!vc_call(c, VC_VERSION, version, sizeof(version), NULL, 0, &a) || a.error || a.len < 5 || a.body[0] || a.body[1] ||
	    a.body[a.len - 1] || !strstr((char *)a.body + 4, "\"write_multiple\":true"))
		return false;
	if (!vc_call(c, VC_INFO, info, sizeof(info), NULL, 0, &a) || a.error || a.len != sizeof(info))
		return false;
	memcpy(info, a.body, sizeof(info));
	if (!(info[1] & 2) || info[2] != 9 || info[3] < 3)	/* PCI, regions, interrupts */
		return false;
	for (uint32_t i = 0; i < 9; i++) {
		struct {
			uint32_t argsz, flags, index, cap;
			uint64_t size, off;
		} ri = { .argsz = sizeof(ri), .index = i };

		if (!vc_call(c, VC_REGION_INFO, &ri, sizeof(ri), NULL, 0, &a) || a.error || a.len != sizeof(ri))
			return false;
		memcpy(&ri, a.body, sizeof(ri));
		c->region_size[i] = ri.size;
		c->region_flags[i] = ri.flags;
		c->region_fd[i] = a.fd;
	}
	for (uint32_t i = 0; i < 5; i++) {
		uint32_t ii[4] = { sizeof(ii), 0, i, 0 };

		if (!vc_call(c, VC_IRQ_INFO, ii, sizeof(ii), NULL, 0, &a) || a.error || a.len != sizeof(ii))
			return false;
		memcpy(ii, a.body, sizeof(ii));
		if (i == 2)
			c->vectors = ii[3];
		else if (ii[3])
			return false;
	}
	return c->vectors > 0 && c->vectors <= VC_VECTORS;
}

bool vc_set_irqs(struct vc *c)
{
	for (uint32_t i = 0; i < c->vectors;) {
		uint32_t n = c->vectors - i < 16 ? c->vectors - i : 16;
		uint32_t is[5] = { sizeof(is), 0x24, 2, i, n };
		struct vc_answer a;

		for (uint32_t k = 0; k < n; k++)
			c->vector[i + k] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (!vc_call(c, VC_SET_IRQS, is, sizeof(is), c->vector + i, (int)n, &a) || a.error)
			return false;
		i += n;
	}
	return true;
}

uint64_t vc_fired(struct vc *c, unsigned vector)
{
	uint64_t n = 0;

	return vector < VC_VECTORS && read(c->vector[vector], &n, sizeof(n)) == sizeof(n) ? n : 0;
}

bool vc_map(struct vc *c, uint64_t addr, uint64_t size, int fd, uint64_t off)
{
	struct {
		uint32_t argsz, flags;
		uint64_t off, addr, size;
	} dm = { sizeof(dm), 3, off, addr, size };
	struct vc_answer a;

	return vc_call(c, VC_DMA_MAP, &dm, sizeof(dm), &fd, fd >= 0, &a) && !a.error;
}

bool vc_unmap(struct vc *c, uint64_t addr, uint64_t size)
{
	struct {
		uint32_t argsz, flags;
		uint64_t addr, size;
	} du = { sizeof(du), 0, addr, size };
	struct vc_answer a;

	return vc_call(c, VC_DMA_UNMAP, &du, sizeof(du), NULL, 0, &a) && !a.error;
}

uint64_t vc_read(struct vc *c, uint32_t region, uint64_t off, uint32_t len)
{
	struct {
		uint64_t off;
		uint32_t region, count;
	} ra = { off, region, len };
	struct vc_answer a;
	uint64_t v = 0;

	if (!vc_call(c, VC_READ, &ra, sizeof(ra), NULL, 0, &a) || a.error || a.len != sizeof(ra) + len || len > 8)
		return 0xdeadbeefdeadbeef;
	memcpy(&v, a.body + sizeof(ra), len);
	return v;
}

bool vc_write(struct vc *c, uint32_t region, uint64_t off, uint64_t value, uint32_t len)
{
	struct {
		uint64_t off;
		uint32_t region, count;
		uint64_t value;
	} ra = { off, region, len, value };
	struct vc_answer a;

	if (region != 7)
		return vc_send(c, VC_WRITE, VC_NO_REPLY, &ra, 16 + len, NULL, 0);
	return vc_call(c, VC_WRITE, &ra, 16 + len, NULL, 0, &a) && !a.error;
}
