/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * port.h - the only code that stores to the peer's memory
 *
 * A port is one way to reach a peer's memory: ordinary shared memory (shm), a window (window.h), or the hostile
 * fabric of the tests (wcsim).  The message queue says what must be ordered; the port knows what that costs.
 * On shm everything here is a plain store, inlined; any other port has ops.
 *
 * Invariants:
 *  - a destination is only ever written, never read, through these calls (readback excepted);
 *  - store_line() stores one whole, aligned 64-byte line; on a port that is not @whole it may land late, in
 *    8-byte pieces, in any order, until flush() - after which it is ordered before every later store;
 *  - store64() is one aligned 8-byte store and lands whole on every port; so is store32(), of 4.
 */
#ifndef NTBSOCK_PORT_H
#define NTBSOCK_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <ntbsock/abi_inbox.h>
#include "barrier.h"

/* Memory type behind the window. */
enum ntbs_mem {
	NTBS_MEM_CACHED,	/* ordinary coherent memory */
	NTBS_MEM_WC,		/* write-combined device memory */
	NTBS_MEM_UC,		/* uncached device memory */
};

/* Widest way this CPU stores a line past its caches; chosen once, at attach. */
enum ntbs_line_store {
	NTBS_LINE_PLAIN,	/* no such instruction: ordinary stores */
	NTBS_LINE_NT16,		/* 4 x MOVNTDQ (SSE2) */
	NTBS_LINE_NT64,		/* 1 x VMOVNTDQ of 64 bytes (AVX-512F) */
	NTBS_LINE_MOVDIR64B,	/* one 64-byte write, atomic (CPUID.7.ECX[28]) */
};

struct ntbs_port;
struct ntbs_port_ops {
	const char *name;
	void (*store_line)(struct ntbs_port *port, void *dst, const void *line);
	void (*store_bulk)(struct ntbs_port *port, void *dst, const void *src, size_t len);
	void (*store64)(struct ntbs_port *port, ntbs_le64 *dst, uint64_t value);
	void (*store32)(struct ntbs_port *port, ntbs_le32 *dst, uint32_t value);
	void (*flush)(struct ntbs_port *port);
	void (*fence)(struct ntbs_port *port);
	void (*readback)(struct ntbs_port *port, const ntbs_le64 *addr);
	void (*ring)(struct ntbs_port *port, int bell);	/* what a bell is, is the port's business */
};

struct ntbs_port {
	const struct ntbs_port_ops *ops;	/* NULL: shm, inlined below */
	bool whole;				/* can neither tear nor lose a write: no CRC, OPEN slots allowed */
	enum ntbs_mem mem;
	enum ntbs_line_store line_store;
	size_t nt_min;				/* pieces of the bulk ring from this size on bypass the cache */
};

/**
 * ntbs_port_attach() - Fill in what this CPU and this memory can do
 * @port: to fill in
 * @ops: NULL for shm
 * @mem: type of the memory behind the window
 *
 * Does not allocate; never fails.
 */
void ntbs_port_attach(struct ntbs_port *port, const struct ntbs_port_ops *ops, enum ntbs_mem mem);

/* Copy past the cache with the widest stores there are; ends with a store flush.  Any alignment, any length. */
void ntbs_copy_nt(enum ntbs_line_store how, void *dst, const void *src, size_t len);

/* One line, both aligned to 64 bytes, past the cache; no flush. */
void ntbs_store_line_nt(enum ntbs_line_store how, void *dst, const void *line);

/* Wake whoever sleeps on the eventfd.  Signal safe, does not block, and wakes whatever others who have it do with it. */
void ntbs_bell_ring(int bell_fd);
/* Set once other users may have bells that we ring: a look before each ring.  Our own user could as well stop us. */
extern _Atomic bool ntbs_bell_wary;
/* By the way that does not wait whatever becomes of the bell meanwhile.  False: the kernel has none, or it is no eventfd. */
bool ntbs_bell_request(int bell_fd);
void ntbs_bell_fork_child(void);

static inline void ntbs_window_store_bulk(struct ntbs_port *port, void *dst, const void *src, size_t len)
{
	if (__builtin_expect(!!port->ops, 0))
		port->ops->store_bulk(port, dst, src, len);
	else if (len >= port->nt_min)
		ntbs_copy_nt(port->line_store, dst, src, len);
	else
		memcpy(dst, src, len);
}

static inline void ntbs_window_store64(struct ntbs_port *port, ntbs_le64 *dst, uint64_t value)
{
	if (__builtin_expect(!!port->ops, 0))
		port->ops->store64(port, dst, value);
	else
		ntbs_le64_write_release(dst, value);
}

static inline void ntbs_window_store32(struct ntbs_port *port, ntbs_le32 *dst, uint32_t value)
{
	if (__builtin_expect(!!port->ops, 0))
		port->ops->store32(port, dst, value);
	else
		ntbs_le32_write_release(dst, value);
}

/* R1: what was stored before lands before what is stored after.  On shm the stores are ordered already. */
static inline void ntbs_window_flush(struct ntbs_port *port)
{
	if (__builtin_expect(!!port->ops, 0))
		port->ops->flush(port);
}

/* S2: my stores, then my look at what the peer has stored into my memory. */
static inline void ntbs_window_fence(struct ntbs_port *port)
{
	if (__builtin_expect(!!port->ops, 0))
		port->ops->fence(port);
	else
		ntbs_full_barrier();
}

/* S1: my stores have landed in the peer's memory when this returns.  The one permitted remote read. */
static inline void ntbs_window_readback(struct ntbs_port *port, const ntbs_le64 *addr)
{
	if (__builtin_expect(!!port->ops, 0))
		port->ops->readback(port, addr);
	else
		ntbs_full_barrier();
}

static inline void ntbs_port_ring(struct ntbs_port *port, int bell_fd)
{
	if (__builtin_expect(!!port->ops, 0))
		port->ops->ring(port, bell_fd);
	else
		ntbs_bell_ring(bell_fd);
}

#endif
