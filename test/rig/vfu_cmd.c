// SPDX-License-Identifier: BSD-2-Clause
/* vfu_cmd.c - what vfio-user messages ask for: every field is checked, then used; see vfu.h */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "vfu_impl.h"

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

const char *vfu_command_name(unsigned cmd)
{
	static const char *const names[] = {
		"?", "VERSION", "DMA_MAP", "DMA_UNMAP", "GET_INFO", "GET_REGION_INFO", "GET_REGION_IO_FDS", "GET_IRQ_INFO", "SET_IRQS",
		"REGION_READ", "REGION_WRITE", "DMA_READ", "DMA_WRITE", "RESET", "DIRTY_PAGES", "REGION_WRITE_MULTI",
	};

	return cmd < sizeof(names) / sizeof(*names) ? names[cmd] : "?";
}

/* ---- replies ---- */

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
		return error ? vfu_wrong(v, "%s: error %d, and no reply wanted", vfu_command_name(m->h.cmd), error) : 0;
	memcpy(v->out, &h, sizeof(h));
	return vfu_send(v, v->out, h.size, fd);
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
		return vfu_wrong(v, "VERSION: %zu bytes, or no NUL at its end", m->len);
	memcpy(&major, v->body, 2);
	if (major)
		return vfu_wrong(v, "VERSION: protocol %u is not 0", major);
	v->versioned = true;
	return reply(v, m, caps, sizeof(caps));		/* with its NUL; version 0.0 in front */
}

static int on_info(struct vfu *v, struct msg *m)
{
	uint32_t info[4] = { sizeof(info), DEVICE_RESET | DEVICE_PCI, VFU_REGIONS, IRQS };

	if (m->len < sizeof(info))
		return vfu_wrong(v, "GET_INFO: %zu bytes", m->len);
	return reply(v, m, info, sizeof(info));
}

static int on_region_info(struct vfu *v, struct msg *m)
{
	struct region_info ri;
	const struct vfu_region *r;

	if (m->len < sizeof(ri))
		return vfu_wrong(v, "GET_REGION_INFO: %zu bytes", m->len);
	memcpy(&ri, v->body, sizeof(ri));
	if (ri.index >= VFU_REGIONS || ri.argsz < sizeof(ri))
		return vfu_wrong(v, "GET_REGION_INFO: region %u, argsz %u", ri.index, ri.argsz);
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
		return vfu_wrong(v, "GET_IRQ_INFO: %zu bytes", m->len);
	memcpy(&ii, v->body, sizeof(ii));
	if (ii.index >= IRQS || ii.argsz < sizeof(ii))
		return vfu_wrong(v, "GET_IRQ_INFO: index %u, argsz %u", ii.index, ii.argsz);
	ii.argsz = sizeof(ii);
	ii.count = ii.index == IRQ_MSIX ? v->conf.vectors : 0;
	ii.flags = ii.index == IRQ_MSIX ? IRQ_EVENTFD | IRQ_NORESIZE : 0;
	return reply(v, m, &ii, sizeof(ii));
}

static int on_set_irqs(struct vfu *v, struct msg *m)
{
	struct irq_set is;

	if (m->len < sizeof(is))
		return vfu_wrong(v, "SET_IRQS: %zu bytes", m->len);
	memcpy(&is, v->body, sizeof(is));
	if (is.flags == SET_NONE_TRIGGER && !is.count && is.index < IRQS) {
		for (unsigned i = 0; i < VFU_VECTORS && is.index == IRQ_MSIX; i++)
			vfu_set_irq(v, i, -1);
		return reply(v, m, NULL, 0);
	}
	if (is.flags != SET_EVENTFD_TRIGGER || is.index != IRQ_MSIX || is.start > v->conf.vectors || is.count > v->conf.vectors - is.start)
		return vfu_wrong(v, "SET_IRQS: flags 0x%x, index %u, %u from %u of %u", is.flags, is.index, is.count, is.start, v->conf.vectors);
	if (m->fds && (unsigned)m->fds != is.count)
		return vfu_wrong(v, "SET_IRQS: %d descriptors for %u vectors", m->fds, is.count);
	for (unsigned i = 0; i < is.count; i++) {
		vfu_set_irq(v, is.start + i, m->fds ? m->fd[i] : -1);
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
		return vfu_wrong(v, "DMA_MAP: %zu bytes", m->len);
	memcpy(&dm, v->body, sizeof(dm));
	if (m->fds > 1 || dm.flags & ~(uint32_t)(MAP_READ | MAP_WRITE) || !dm.size || (dm.addr | dm.size) & 0xfff || dm.off & 0xfff)
		return vfu_wrong(v, "DMA_MAP: 0x%llx bytes at 0x%llx, offset 0x%llx, flags 0x%x, %d descriptors", (unsigned long long)dm.size,
			     (unsigned long long)dm.addr, (unsigned long long)dm.off, dm.flags, m->fds);
	if (m->fds) {
		fd = m->fd[0];
		m->fd[0] = -1;
	}
	err = dmamap_add(&v->maps, dm.addr, dm.size, fd, dm.off, dm.flags & MAP_WRITE);
	if (err == -EEXIST || err == -ENOSPC || err == -ENOMEM)
		return reply_error(v, m, -err);		/* as the kernel's VFIO would */
	if (err)
		return vfu_wrong(v, "DMA_MAP: 0x%llx bytes at 0x%llx, offset 0x%llx: %s", (unsigned long long)dm.size, (unsigned long long)dm.addr,
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
		return vfu_wrong(v, "DMA_UNMAP: %zu bytes", m->len);
	memcpy(&du, v->body, sizeof(du));
	if (du.flags & ~(uint32_t)UNMAP_ALL)
		return vfu_wrong(v, "DMA_UNMAP: flags 0x%x", du.flags);
	if (du.flags & UNMAP_ALL) {
		du.addr = 0;
		du.size = UINT64_MAX;
	}
	n = dmamap_remove(&v->maps, du.addr, du.size);
	if (n < 0)
		return vfu_wrong(v, "DMA_UNMAP: 0x%llx bytes at 0x%llx cut a range in two", (unsigned long long)du.size, (unsigned long long)du.addr);
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
		return vfu_wrong(v, "%s: %u bytes at 0x%llx of region %u", vfu_command_name(cmd), ra->count, (unsigned long long)ra->off, ra->region);
	for (uint32_t done = 0; done < ra->count;) {
		uint64_t off = ra->off + done;
		uint32_t n = ra->count - done, room = step - (uint32_t)(off % step);
		int err;

		n = !r->step || n < room ? n : room;
		err = cmd == M_READ ? v->conf.read(v->conf.arg, (int)ra->region, off, data + done, n)
				    : v->conf.write(v->conf.arg, (int)ra->region, off, data + done, n);
		if (err)
			return vfu_wrong(v, "%s: %u bytes at 0x%llx of region %u: %s", vfu_command_name(cmd), n, (unsigned long long)off, ra->region,
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
		return vfu_wrong(v, "%s: %zu bytes", vfu_command_name(m->h.cmd), m->len);
	memcpy(&ra, v->body, sizeof(ra));
	if (ra.count > VFU_XFER || m->len != sizeof(ra) + (read ? 0 : ra.count))
		return vfu_wrong(v, "%s: %zu bytes for %u", vfu_command_name(m->h.cmd), m->len, ra.count);
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
		return vfu_wrong(v, "REGION_WRITE_MULTI: %zu bytes", m->len);
	memcpy(&count, v->body, 8);
	if (!count || count > VFU_MULTI || m->len != 8 + count * sizeof(struct write_one))
		return vfu_wrong(v, "REGION_WRITE_MULTI: %zu bytes for %llu writes", m->len, (unsigned long long)count);
	for (uint64_t i = 0; i < count; i++) {
		struct write_one w;
		struct region_access ra;
		int err;

		memcpy(&w, v->body + 8 + i * sizeof(w), sizeof(w));
		ra = (struct region_access){ w.off, w.region, w.count };
		if (w.count > sizeof(w.data))
			return vfu_wrong(v, "REGION_WRITE_MULTI: %u bytes in write %llu", w.count, (unsigned long long)i);
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
		return vfu_wrong(v, "a reply to %s, which was not asked", vfu_command_name(m->h.cmd));
	v->dma_pending--;
	v->stats.dma_errors += !!(m->h.flags & F_ERROR);
	return 0;
}

int vfu_handle(struct vfu *v, struct msg *m)
{
	if ((m->h.flags & F_TYPE) == F_REPLY)
		return on_reply(v, m);
	if (m->h.flags & ~(uint32_t)F_NO_REPLY)
		return vfu_wrong(v, "%s: flags 0x%x", vfu_command_name(m->h.cmd), m->h.flags);
	if (!v->versioned && m->h.cmd != M_VERSION)
		return vfu_wrong(v, "%s before VERSION", vfu_command_name(m->h.cmd));
	if (m->fds && m->h.cmd != M_DMA_MAP && m->h.cmd != M_SET_IRQS)
		return vfu_wrong(v, "%s with %d descriptors", vfu_command_name(m->h.cmd), m->fds);
	switch (m->h.cmd) {
	case M_VERSION:
		return v->versioned ? vfu_wrong(v, "VERSION twice") : on_version(v, m);
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
			return vfu_wrong(v, "REGION_READ without reply");
		return on_access(v, m);
	case M_WRITE:
		return on_access(v, m);
	case M_WRITE_MULTI:
		return on_write_multi(v, m);
	case M_RESET:
		v->conf.reset(v->conf.arg);
		return reply(v, m, NULL, 0);
	}
	return vfu_wrong(v, "command %u (%s) is not expected", m->h.cmd, vfu_command_name(m->h.cmd));
}
