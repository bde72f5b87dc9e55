// SPDX-License-Identifier: BSD-2-Clause
/* vfu.c - a PCI device as a vfio-user server; see vfu.h */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include "vfu.h"

enum {
	M_VERSION = 1, M_DMA_MAP, M_DMA_UNMAP, M_INFO, M_REGION_INFO, M_REGION_FDS, M_IRQ_INFO, M_SET_IRQS, M_READ, M_WRITE,
	M_DMA_READ, M_DMA_WRITE, M_RESET, M_DIRTY, M_WRITE_MULTI,
	F_REPLY = 1, F_TYPE = 0xf, F_NO_REPLY = 0x10, F_ERROR = 0x20,
	/* of linux/vfio.h */
	DEVICE_RESET = 1, DEVICE_PCI = 2, REGION_READ = 1, REGION_WRITE = 2, REGION_MMAP = 4, IRQ_EVENTFD = 1, IRQ_NORESIZE = 8,
	IRQS = 5, IRQ_MSIX = 2, SET_NONE_TRIGGER = 0x21, SET_EVENTFD_TRIGGER = 0x24, UNMAP_ALL = 2, MAP_READ = 1, MAP_WRITE = 2,
	BODY_MAX = VFU_XFER + 64, VERSION_MAX = 4096, BATCH = 64, PATIENCE_S = 5,
};

struct head {
	uint16_t id, cmd;
	uint32_t size, flags, error;
};

/* Bodies; all little-endian, as the machine is. */
struct region_info {
	uint32_t argsz, flags, index, cap;
	uint64_t size, off;
};
struct irq_info {
	uint32_t argsz, flags, index, count;
};
struct irq_set {
	uint32_t argsz, flags, index, start, count;
};
struct dma_map {
	uint32_t argsz, flags;
	uint64_t off, addr, size;
};
struct dma_unmap {
	uint32_t argsz, flags;
	uint64_t addr, size;
};
struct region_access {
	uint64_t off;
	uint32_t region, count;
};
struct write_one {
	uint64_t off;
	uint32_t region, count;
	uint8_t data[8];
};

struct vfu {
	struct vfu_conf conf;
	int listen_fd, fd;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	bool versioned;
	int irq[VFU_VECTORS];
	struct dmamap maps;
	uint16_t next_id;
	unsigned dma_pending;
	struct vfu_stats stats;
	char error[256];
	uint8_t body[BODY_MAX];
	uint8_t out[BODY_MAX];
};

/* A message, as it is being handled. */
struct msg {
	struct head h;
	size_t len;		/* of the body */
	int fd[VFU_FDS];
	int fds;
};

__attribute__((format(printf, 2, 3)))
static int wrong(struct vfu *v, const char *fmt, ...)
{
	int n = snprintf(v->error, sizeof(v->error), "%s: ", v->conf.name);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(v->error + n, sizeof(v->error) - (size_t)n, fmt, ap);
	va_end(ap);
	return -EPROTO;
}

static const char *name_of(unsigned cmd)
{
	static const char *const names[] = {
		"?", "VERSION", "DMA_MAP", "DMA_UNMAP", "GET_INFO", "GET_REGION_INFO", "GET_REGION_IO_FDS", "GET_IRQ_INFO", "SET_IRQS",
		"REGION_READ", "REGION_WRITE", "DMA_READ", "DMA_WRITE", "RESET", "DIRTY_PAGES", "REGION_WRITE_MULTI",
	};

	return cmd < sizeof(names) / sizeof(*names) ? names[cmd] : "?";
}

/* ---- sending ---- */

static int send_all(struct vfu *v, const void *buf, size_t len, int fd)
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
			return wrong(v, "the client has not read for %d s", PATIENCE_S);
		if (n < 0)
			return -EPIPE;
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= (size_t)n;
		mh.msg_control = NULL;
		mh.msg_controllen = 0;
	}
	return 0;
}

/* Answer with @len bytes of body, which lie in v->out behind room for the header. */
static int reply_fd(struct vfu *v, const struct msg *m, size_t len, int error, int fd)
{
	struct head h = {
		.id = m->h.id, .cmd = m->h.cmd, .size = (uint32_t)(sizeof(h) + len), .flags = F_REPLY | (error ? F_ERROR : 0),
		.error = (uint32_t)error,
	};

	if (v->conf.before_reply)
		v->conf.before_reply(v->conf.arg);
	if (m->h.flags & F_NO_REPLY)
		return error ? wrong(v, "%s: error %d, and no reply wanted", name_of(m->h.cmd), error) : 0;
	memcpy(v->out, &h, sizeof(h));
	return send_all(v, v->out, h.size, fd);
}

static int reply(struct vfu *v, const struct msg *m, const void *body, size_t len)
{
	if (len)
		memcpy(v->out + sizeof(struct head), body, len);
	return reply_fd(v, m, len, 0, -1);
}

static int reply_error(struct vfu *v, const struct msg *m, int error)
{
	return reply_fd(v, m, 0, error, -1);
}

/* ---- commands ---- */

static int on_version(struct vfu *v, struct msg *m)
{
	/* QEMU 11.1 does not take a server that offers 65536 maps. */
	static const char caps[] = "\0\0\0\0{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,\"pgsizes\":4096,"
				   "\"max_dma_maps\":65535,\"write_multiple\":true}}";
	uint16_t major;

	if (m->len < 5 || m->len > VERSION_MAX || v->body[m->len - 1])
		return wrong(v, "VERSION: %zu bytes, or no NUL at its end", m->len);
	memcpy(&major, v->body, 2);
	if (major)
		return wrong(v, "VERSION: protocol %u is not 0", major);
	v->versioned = true;
	return reply(v, m, caps, sizeof(caps));		/* with its NUL; version 0.0 in front */
}

static int on_info(struct vfu *v, struct msg *m)
{
	uint32_t info[4] = { sizeof(info), DEVICE_RESET | DEVICE_PCI, VFU_REGIONS, IRQS };

	if (m->len < sizeof(info))
		return wrong(v, "GET_INFO: %zu bytes", m->len);
	return reply(v, m, info, sizeof(info));
}

static int on_region_info(struct vfu *v, struct msg *m)
{
	struct region_info ri;
	const struct vfu_region *r;

	if (m->len < sizeof(ri))
		return wrong(v, "GET_REGION_INFO: %zu bytes", m->len);
	memcpy(&ri, v->body, sizeof(ri));
	if (ri.index >= VFU_REGIONS || ri.argsz < sizeof(ri))
		return wrong(v, "GET_REGION_INFO: region %u, argsz %u", ri.index, ri.argsz);
	r = &v->conf.region[ri.index];
	ri = (struct region_info){
		.argsz = sizeof(ri), .index = ri.index, .size = r->size,
		.flags = r->size ? REGION_READ | REGION_WRITE | (r->fd >= 0 ? REGION_MMAP : 0) : 0,
	};
	memcpy(v->out + sizeof(struct head), &ri, sizeof(ri));
	return reply_fd(v, m, sizeof(ri), 0, r->size ? r->fd : -1);
}

static int on_irq_info(struct vfu *v, struct msg *m)
{
	struct irq_info ii;

	if (m->len < sizeof(ii))
		return wrong(v, "GET_IRQ_INFO: %zu bytes", m->len);
	memcpy(&ii, v->body, sizeof(ii));
	if (ii.index >= IRQS || ii.argsz < sizeof(ii))
		return wrong(v, "GET_IRQ_INFO: index %u, argsz %u", ii.index, ii.argsz);
	ii.argsz = sizeof(ii);
	ii.count = ii.index == IRQ_MSIX ? v->conf.vectors : 0;
	ii.flags = ii.index == IRQ_MSIX ? IRQ_EVENTFD | IRQ_NORESIZE : 0;
	return reply(v, m, &ii, sizeof(ii));
}

static void set_irq(struct vfu *v, unsigned vector, int fd)
{
	if (v->irq[vector] >= 0)
		close(v->irq[vector]);
	v->irq[vector] = fd;
}

static int on_set_irqs(struct vfu *v, struct msg *m)
{
	struct irq_set is;

	if (m->len < sizeof(is))
		return wrong(v, "SET_IRQS: %zu bytes", m->len);
	memcpy(&is, v->body, sizeof(is));
	if (is.flags == SET_NONE_TRIGGER && !is.count && is.index < IRQS) {
		for (unsigned i = 0; i < VFU_VECTORS && is.index == IRQ_MSIX; i++)
			set_irq(v, i, -1);
		return reply(v, m, NULL, 0);
	}
	if (is.flags != SET_EVENTFD_TRIGGER || is.index != IRQ_MSIX || is.start > v->conf.vectors || is.count > v->conf.vectors - is.start)
		return wrong(v, "SET_IRQS: flags 0x%x, index %u, %u from %u of %u", is.flags, is.index, is.count, is.start, v->conf.vectors);
	if (m->fds && (unsigned)m->fds != is.count)
		return wrong(v, "SET_IRQS: %d descriptors for %u vectors", m->fds, is.count);
	for (unsigned i = 0; i < is.count; i++) {
		set_irq(v, is.start + i, m->fds ? m->fd[i] : -1);
		if (m->fds)
			m->fd[i] = -1;
	}
	return reply(v, m, NULL, 0);
}

static int on_dma_map(struct vfu *v, struct msg *m)
{
	struct dma_map dm;
	int fd = -1, err;

	if (m->len < sizeof(dm))
		return wrong(v, "DMA_MAP: %zu bytes", m->len);
	memcpy(&dm, v->body, sizeof(dm));
	if (m->fds > 1 || dm.flags & ~(uint32_t)(MAP_READ | MAP_WRITE) || !dm.size || (dm.addr | dm.size) & 0xfff || dm.off & 0xfff)
		return wrong(v, "DMA_MAP: 0x%llx bytes at 0x%llx, offset 0x%llx, flags 0x%x, %d descriptors", (unsigned long long)dm.size,
			     (unsigned long long)dm.addr, (unsigned long long)dm.off, dm.flags, m->fds);
	if (m->fds) {
		fd = m->fd[0];
		m->fd[0] = -1;
	}
	err = dmamap_add(&v->maps, dm.addr, dm.size, fd, dm.off, dm.flags & MAP_WRITE);
	if (err == -EEXIST || err == -ENOSPC || err == -ENOMEM)
		return reply_error(v, m, -err);		/* as the kernel's VFIO would */
	if (err)
		return wrong(v, "DMA_MAP: 0x%llx bytes at 0x%llx, offset 0x%llx: %s", (unsigned long long)dm.size, (unsigned long long)dm.addr,
			     (unsigned long long)dm.off, strerror(-err));
	if (v->conf.mapped)
		v->conf.mapped(v->conf.arg, dm.addr, dm.size);
	return reply(v, m, NULL, 0);
}

static int on_dma_unmap(struct vfu *v, struct msg *m)
{
	struct dma_unmap du;
	int n;

	if (m->len < sizeof(du))
		return wrong(v, "DMA_UNMAP: %zu bytes", m->len);
	memcpy(&du, v->body, sizeof(du));
	if (du.flags & ~(uint32_t)UNMAP_ALL)
		return wrong(v, "DMA_UNMAP: flags 0x%x", du.flags);
	if (du.flags & UNMAP_ALL) {
		du.addr = 0;
		du.size = UINT64_MAX;
	}
	n = dmamap_remove(&v->maps, du.addr, du.size);
	if (n < 0)
		return wrong(v, "DMA_UNMAP: 0x%llx bytes at 0x%llx cut a range in two", (unsigned long long)du.size, (unsigned long long)du.addr);
	if (v->conf.mapped && n)
		v->conf.mapped(v->conf.arg, du.addr, du.size);
	return reply(v, m, &du, sizeof(du));	/* nothing mapped there is no error, as with the kernel */
}

/* In pieces of at most what the region takes; a piece does not cross a multiple of its length. */
static int access_region(struct vfu *v, unsigned cmd, const struct region_access *ra, uint8_t *data)
{
	const struct vfu_region *r = ra->region < VFU_REGIONS ? &v->conf.region[ra->region] : NULL;
	uint32_t step = r && r->step ? r->step : 8;

	if (!r || !r->size || !ra->count || ra->off >= r->size || ra->count > r->size - ra->off || (!r->step && ra->count > 8))
		return wrong(v, "%s: %u bytes at 0x%llx of region %u", name_of(cmd), ra->count, (unsigned long long)ra->off, ra->region);
	for (uint32_t done = 0; done < ra->count;) {
		uint64_t off = ra->off + done;
		uint32_t n = ra->count - done, room = step - (uint32_t)(off % step);
		int err;

		n = !r->step || n < room ? n : room;
		err = cmd == M_READ ? v->conf.read(v->conf.arg, (int)ra->region, off, data + done, n)
				    : v->conf.write(v->conf.arg, (int)ra->region, off, data + done, n);
		if (err)
			return wrong(v, "%s: %u bytes at 0x%llx of region %u: %s", name_of(cmd), n, (unsigned long long)off, ra->region,
				     strerror(-err));
		done += n;
	}
	return 0;
}

static int on_access(struct vfu *v, struct msg *m)
{
	struct region_access ra;
	bool read = m->h.cmd == M_READ;
	uint8_t *data;
	int err;

	if (m->len < sizeof(ra))
		return wrong(v, "%s: %zu bytes", name_of(m->h.cmd), m->len);
	memcpy(&ra, v->body, sizeof(ra));
	if (ra.count > VFU_XFER || m->len != sizeof(ra) + (read ? 0 : ra.count))
		return wrong(v, "%s: %zu bytes for %u", name_of(m->h.cmd), m->len, ra.count);
	data = read ? v->out + sizeof(struct head) + sizeof(ra) : v->body + sizeof(ra);
	err = access_region(v, m->h.cmd, &ra, data);
	if (err)
		return err;
	v->stats.posted += !!(m->h.flags & F_NO_REPLY);
	memcpy(v->out + sizeof(struct head), &ra, sizeof(ra));
	return reply_fd(v, m, sizeof(ra) + (read ? ra.count : 0), 0, -1);
}

static int on_write_multi(struct vfu *v, struct msg *m)
{
	uint64_t count;

	if (m->len < 8)
		return wrong(v, "REGION_WRITE_MULTI: %zu bytes", m->len);
	memcpy(&count, v->body, 8);
	if (!count || count > VFU_MULTI || m->len != 8 + count * sizeof(struct write_one))
		return wrong(v, "REGION_WRITE_MULTI: %zu bytes for %llu writes", m->len, (unsigned long long)count);
	for (uint64_t i = 0; i < count; i++) {
		struct write_one w;
		struct region_access ra;
		int err;

		memcpy(&w, v->body + 8 + i * sizeof(w), sizeof(w));
		ra = (struct region_access){ w.off, w.region, w.count };
		if (w.count > sizeof(w.data))
			return wrong(v, "REGION_WRITE_MULTI: %u bytes in write %llu", w.count, (unsigned long long)i);
		err = access_region(v, M_WRITE, &ra, w.data);
		if (err)
			return err;
	}
	v->stats.gathered += count;
	return reply(v, m, NULL, 0);
}

static int on_reply(struct vfu *v, struct msg *m)
{
	if (m->h.cmd != M_DMA_WRITE || !v->dma_pending)
		return wrong(v, "a reply to %s, which was not asked", name_of(m->h.cmd));
	v->dma_pending--;
	v->stats.dma_errors += !!(m->h.flags & F_ERROR);
	return 0;
}

static int handle(struct vfu *v, struct msg *m)
{
	if ((m->h.flags & F_TYPE) == F_REPLY)
		return on_reply(v, m);
	if (m->h.flags & ~(uint32_t)F_NO_REPLY)
		return wrong(v, "%s: flags 0x%x", name_of(m->h.cmd), m->h.flags);
	if (!v->versioned && m->h.cmd != M_VERSION)
		return wrong(v, "%s before VERSION", name_of(m->h.cmd));
	if (m->fds && m->h.cmd != M_DMA_MAP && m->h.cmd != M_SET_IRQS)
		return wrong(v, "%s with %d descriptors", name_of(m->h.cmd), m->fds);
	switch (m->h.cmd) {
	case M_VERSION:
		return v->versioned ? wrong(v, "VERSION twice") : on_version(v, m);
	case M_DMA_MAP:
		return on_dma_map(v, m);
	case M_DMA_UNMAP:
		return on_dma_unmap(v, m);
	case M_INFO:
		return on_info(v, m);
	case M_REGION_INFO:
		return on_region_info(v, m);
	case M_IRQ_INFO:
		return on_irq_info(v, m);
	case M_SET_IRQS:
		return on_set_irqs(v, m);
	case M_READ:
		if (m->h.flags & F_NO_REPLY)
			return wrong(v, "REGION_READ without reply");
		return on_access(v, m);
	case M_WRITE:
		return on_access(v, m);
	case M_WRITE_MULTI:
		return on_write_multi(v, m);
	case M_RESET:
		v->conf.reset(v->conf.arg);
		return reply(v, m, NULL, 0);
	}
	return wrong(v, "command %u (%s) is not expected", m->h.cmd, name_of(m->h.cmd));
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
			return wrong(v, "a message is cut short for %d s", PATIENCE_S);
		if (n <= 0)
			return wrong(v, "the connection ended inside of a message");
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
		return wrong(v, "more than %d descriptors in a message", VFU_FDS);
	err = receive_all(v, (char *)&m->h + n, sizeof(m->h) - (size_t)n);
	if (err)
		return err;
	if (m->h.size < sizeof(m->h) || m->h.size - sizeof(m->h) > BODY_MAX - sizeof(m->h))
		return wrong(v, "%s: a message of %u bytes", name_of(m->h.cmd), m->h.size);
	m->len = m->h.size - sizeof(m->h);
	err = receive_all(v, v->body, m->len);
	if (err)
		return err;
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
		set_irq(v, i, -1);
	dmamap_clear(&v->maps);
	v->conf.gone(v->conf.arg);
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
		struct msg m = { .fds = 0 };
		int err = receive(v, &m);

		if (err == 1)
			err = handle(v, &m);
		else if (!err)
			return 0;
		for (int k = 0; k < m.fds; k++) {
			if (m.fd[k] >= 0)
				close(m.fd[k]);
		}
		if (err) {
			drop(v);
			return err;
		}
	}
	return 0;
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
		wrong(v, "eventfd of vector %u: %s", vector, strerror(errno));
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
	if (send_all(v, &msg, msg.h.size, -1))
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
