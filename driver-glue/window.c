// SPDX-License-Identifier: BSD-2-Clause
/* window.c - see window.h */
#include "window.h"

#include "sys.h"

static struct ntbs_window *of_port(struct ntbs_port *port)
{
	return (struct ntbs_window *)((char *)port - offsetof(struct ntbs_window, port));
}

/* Past the cache, as whole as this CPU can; ordered by flush alone. */
static void store_line(struct ntbs_port *port, void *dst, const void *line)
{
	ntbs_store_line_nt(port->line_store, dst, line);
	ntbs_bump(of_port(port)->n.lines, 1);
}

static void store_bulk(struct ntbs_port *port, void *dst, const void *src, size_t len)
{
	struct ntbs_window *w = of_port(port);

	ntbs_copy_nt(port->line_store, dst, src, len);
	ntbs_bump(w->n.bulks, 1);
	ntbs_bump(w->n.bulk_bytes, len);
}

static void store64(struct ntbs_port *port, ntbs_le64 *dst, uint64_t value)
{
	ntbs_store_flush();	/* a word says something about what was stored before */
	ntbs_le64_write_release(dst, value);
	ntbs_bump(of_port(port)->n.words, 1);
}

static void store32(struct ntbs_port *port, ntbs_le32 *dst, uint32_t value)
{
	ntbs_store_flush();
	ntbs_le32_write_release(dst, value);
	ntbs_bump(of_port(port)->n.words, 1);
}

static void flush(struct ntbs_port *port)
{
	ntbs_store_flush();
	ntbs_bump(of_port(port)->n.flushes, 1);
}

static void fence(struct ntbs_port *port)
{
	ntbs_full_barrier();
	ntbs_bump(of_port(port)->n.fences, 1);
}

/* What was stored before is pushed out of the CPU, and through the bridge by the read behind it. */
static void readback(struct ntbs_port *port, const ntbs_le64 *addr)
{
	ntbs_full_barrier();
	(void)ntbs_le64_read_acquire(addr);
	ntbs_full_barrier();
	ntbs_bump(of_port(port)->n.reads, 1);
}

void ntbs_window_bell(struct ntbs_window *w)
{
	ntbs_store_flush();
	if (w->bell == NTBS_BELL_EVENTFD)
		ntbs_bell_ring(w->bell_fd);
	else if (w->bell == NTBS_BELL_REGISTER16)
		*(volatile uint16_t *)w->bell_reg = (uint16_t)w->bell_value;
	else
		*(volatile uint32_t *)w->bell_reg = w->bell_value;
	ntbs_bump(w->n.rings, 1);
}

static void ring(struct ntbs_port *port, int bell)
{
	struct ntbs_window *w = of_port(port);

	ntbs_store_flush();
	__atomic_store_n((uint8_t *)w->pending_at + bell, 1, __ATOMIC_RELEASE);
	ntbs_bump(w->n.words, 1);
	ntbs_window_bell(w);
}

static const struct ntbs_port_ops window_ops = {
	.name = "window",
	.store_line = store_line,
	.store_bulk = store_bulk,
	.store64 = store64,
	.store32 = store32,
	.flush = flush,
	.fence = fence,
	.readback = readback,
	.ring = ring,
};

void ntbs_window_open(struct ntbs_window *w, void *base, size_t bytes, size_t pending_offset, enum ntbs_mem mem)
{
	memset(w, 0, sizeof(*w));
	ntbs_port_attach(&w->port, &window_ops, mem);
	w->port.whole = false;
	w->base = base;
	w->bytes = bytes;
	w->pending_at = (ntbs_le64 *)((char *)base + pending_offset);
	w->bell_fd = -1;
}
