// SPDX-License-Identifier: BSD-2-Clause
/* vfu.c - a vfio-user server: its socket, its connection, messages in and out; see vfu.h */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "vfu_impl.h"

int vfu_wrong(struct vfu *v, const char *fmt, ...)
{
	int n = snprintf(v->error, sizeof(v->error), "%s: ", v->conf.name);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(v->error + n, sizeof(v->error) - (size_t)n, fmt, ap);
	va_end(ap);
	return -EPROTO;
}

/* ---- sending ---- */

int vfu_send(struct vfu *v, const void *buf, size_t len, int fd)
{
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} ctl = { 0 };
	struct iovec iov = { (void *)buf, len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		struct cmsghdr *c;

		mh.msg_control = &ctl;
		mh.msg_controllen = sizeof(ctl.room);
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	while (iov.iov_len) {
		ssize_t n = sendmsg(v->fd, &mh, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return vfu_wrong(v, "the client has not read for %d s", PATIENCE_S);
		if (n < 0)
			return -EPIPE;
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= (size_t)n;
		mh.msg_control = NULL;
		mh.msg_controllen = 0;
	}
	return 0;
}

void vfu_set_irq(struct vfu *v, unsigned vector, int fd)
{
	if (v->irq[vector] >= 0)
		close(v->irq[vector]);
	v->irq[vector] = fd;
}

/* ---- receiving ---- */

static void take_fds(struct msg *m, struct msghdr *mh)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n && m->fds < VFU_FDS; i++)
			memcpy(&m->fd[m->fds++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
	}
}

/* The rest of something that has begun. */
static int receive_all(struct vfu *v, void *buf, size_t len)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = recv(v->fd, (char *)buf + got, len - got, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return vfu_wrong(v, "a message is cut short for %d s", PATIENCE_S);
		if (n <= 0)
			return vfu_wrong(v, "the connection ended inside of a message");
		got += (size_t)n;
	}
	return 0;
}

/* 1: a message; 0: none there. */
static int receive(struct vfu *v, struct msg *m)
{
	union {
		char room[CMSG_SPACE(VFU_FDS * sizeof(int))];
		struct cmsghdr align;
	} ctl;
	struct iovec iov = { &m->h, sizeof(m->h) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl, .msg_controllen = sizeof(ctl.room) };
	ssize_t n = recvmsg(v->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	int err;

	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return 0;
	if (n <= 0)
		return -EPIPE;
	take_fds(m, &mh);
	if (mh.msg_flags & MSG_CTRUNC)
		return vfu_wrong(v, "more than %d descriptors in a message", VFU_FDS);
	err = receive_all(v, (char *)&m->h + n, sizeof(m->h) - (size_t)n);
	if (err)
		return err;
	if (m->h.size < sizeof(m->h) || m->h.size - sizeof(m->h) > BODY_MAX - sizeof(m->h))
		return vfu_wrong(v, "%s: a message of %u bytes", vfu_command_name(m->h.cmd), m->h.size);
	m->len = m->h.size - sizeof(m->h);
	err = receive_all(v, v->body, m->len);
	if (err)
		return err;
	v->taken += m->h.size;
	v->stats.messages++;
	return 1;
}

static void set_patience(int fd)
{
	struct timeval tv = { .tv_sec = PATIENCE_S };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

static void drop(struct vfu *v)
{
	if (v->fd < 0)
		return;
	close(v->fd);
	v->fd = -1;
	v->versioned = false;
	v->dma_pending = 0;
	for (unsigned i = 0; i < VFU_VECTORS; i++)
		vfu_set_irq(v, i, -1);
	dmamap_clear(&v->maps);
	v->conf.gone(v->conf.arg);
}

/* One message.  1; 0: none there; or the connection has ended. */
static int take(struct vfu *v)
{
	struct msg m = { .fds = 0 };
	int ret = receive(v, &m), err = ret < 0 ? ret : ret ? vfu_handle(v, &m) : 0;

	for (int k = 0; k < m.fds; k++) {
		if (m.fd[k] >= 0)
			close(m.fd[k]);
	}
	if (err)
		drop(v);
	return err ? err : ret;
}

int vfu_ready(struct vfu *v)
{
	if (v->fd < 0) {
		v->fd = accept4(v->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (v->fd < 0)
			return 0;
		set_patience(v->fd);
		v->conf.came(v->conf.arg);
		return 0;
	}
	for (int i = 0; i < BATCH; i++) {
		int ret = take(v);

		if (ret <= 0)
			return ret;
	}
	return 0;
}

int vfu_catch_up(struct vfu *v)
{
	uint64_t until = v->taken;
	int there, ret = 1;

	if (v->fd < 0 || ioctl(v->fd, FIONREAD, &there))
		return 0;
	until += (unsigned)there;
	while (ret > 0 && v->taken < until)
		ret = take(v);
	return ret < 0 ? ret : 0;
}

/* ---- the rest ---- */

static struct vfu *make(const struct vfu_conf *conf)
{
	struct vfu *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	v->conf = *conf;
	v->listen_fd = v->fd = -1;
	for (unsigned i = 0; i < VFU_VECTORS; i++)
		v->irq[i] = -1;
	return v;
}

struct vfu *vfu_open(const char *path, const struct vfu_conf *conf)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct vfu *v;
	int err;

	if (strlen(path) >= sizeof(sa.sun_path)) {
		errno = ENAMETOOLONG;
		return NULL;
	}
	v = make(conf);
	if (!v)
		return NULL;
	strcpy(sa.sun_path, path);
	v->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	unlink(path);
	if (v->listen_fd < 0 || bind(v->listen_fd, (struct sockaddr *)&sa, sizeof(sa)) || listen(v->listen_fd, 4)) {
		err = errno;
		vfu_close(v);
		errno = err;
		return NULL;
	}
	strcpy(v->path, path);
	return v;
}

struct vfu *vfu_adopt(int fd, const struct vfu_conf *conf)
{
	struct vfu *v = make(conf);

	if (!v)
		return NULL;
	v->fd = fd;
	set_patience(fd);
	v->conf.came(v->conf.arg);
	return v;
}

void vfu_close(struct vfu *v)
{
	if (!v)
		return;
	drop(v);
	if (v->listen_fd >= 0)
		close(v->listen_fd);
	if (*v->path)
		unlink(v->path);
	free(v);
}

int vfu_fd(const struct vfu *v)
{
	return v->fd >= 0 ? v->fd : v->listen_fd;
}

bool vfu_connected(const struct vfu *v)
{
	return v->fd >= 0;
}

const char *vfu_error(const struct vfu *v)
{
	return v->error;
}

void vfu_interrupt(struct vfu *v, unsigned vector)
{
	uint64_t one = 1;

	/* an eventfd at its limit is readable, which is all that matters */
	if (vector < VFU_VECTORS && v->irq[vector] >= 0 && write(v->irq[vector], &one, sizeof(one)) < 0 && errno != EAGAIN)
		vfu_wrong(v, "eventfd of vector %u: %s", vector, strerror(errno));
}

struct dmamap *vfu_maps(struct vfu *v)
{
	return &v->maps;
}

int vfu_dma_write(struct vfu *v, uint64_t addr, const void *data, size_t len)
{
	const struct dmamap_range *r = dmamap_find(&v->maps, addr);
	struct {
		struct head h;
		uint64_t addr, count;
		uint8_t data[4096];
	} msg;

	if (v->fd < 0 || !r || !r->writable || len > sizeof(msg.data) || len > r->size - (addr - r->addr))
		return -ENXIO;
	msg.h = (struct head){ .id = v->next_id++, .cmd = M_DMA_WRITE, .size = (uint32_t)(sizeof(msg) - sizeof(msg.data) + len) };
	msg.addr = addr;
	msg.count = len;
	memcpy(msg.data, data, len);
	if (vfu_send(v, &msg, msg.h.size, -1))
		return -EPIPE;
	v->dma_pending++;
	v->stats.dma_writes++;
	return 0;
}

bool vfu_dma_busy(const struct vfu *v)
{
	return v->dma_pending;
}

const struct vfu_stats *vfu_stats(const struct vfu *v)
{
	return &v->stats;
}
