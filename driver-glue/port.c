// SPDX-License-Identifier: BSD-2-Clause
/*
 * port.c - attach, copies past the cache, bells
 *
 * What a CPU can do is asked once (CPUID through __builtin_cpu_supports), the copy loops are chosen by a
 * switch and not by function pointers, so that the short ones inline.
 */
#include "port.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdatomic.h>

#include "sys.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

static bool cpu_has_movdir64b(void)
{
	unsigned a, b, c = 0, d;

	/* Intel SDM 2A, CPUID leaf 7 subleaf 0: ECX bit 28 */
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c & 1u << 28);
}

static enum ntbs_line_store best_line_store(enum ntbs_mem mem)
{
	/* On device memory only MOVDIR64B promises one 64-byte write; on ordinary memory any will do. */
	if (mem != NTBS_MEM_CACHED && cpu_has_movdir64b())
		return NTBS_LINE_MOVDIR64B;
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx512f") ? NTBS_LINE_NT64 : NTBS_LINE_NT16;
}

/*
 * Does a long copy into memory that another core reads gain by going past the caches?  AMD: yes, up to eight times where
 * the cores share no L3 (measured: EPYC, 2-3 GB/s through the caches, 18-25 past them).  Intel: no; the lines go to memory
 * and come back from there, while the shared L3 would have kept them (measured: Sapphire Rapids, 15-16 against 10-11).
 */
static bool nt_helps(enum ntbs_mem mem)
{
	__builtin_cpu_init();
	return mem != NTBS_MEM_CACHED || !__builtin_cpu_is("intel");
}

__attribute__((target("avx512f"))) static size_t copy_lines_nt64(char *dst, const char *src, size_t len)
{
	size_t i;

	for (i = 0; i + 64 <= len; i += 64)
		_mm512_stream_si512((void *)(dst + i), _mm512_loadu_si512(src + i));
	return i;
}

static size_t copy_lines_nt16(char *dst, const char *src, size_t len)
{
	size_t i;

	for (i = 0; i + 64 <= len; i += 64) {
		__m128i a = _mm_loadu_si128((const __m128i *)(src + i));
		__m128i b = _mm_loadu_si128((const __m128i *)(src + i + 16));
		__m128i c = _mm_loadu_si128((const __m128i *)(src + i + 32));
		__m128i d = _mm_loadu_si128((const __m128i *)(src + i + 48));

		_mm_stream_si128((__m128i *)(dst + i), a);
		_mm_stream_si128((__m128i *)(dst + i + 16), b);
		_mm_stream_si128((__m128i *)(dst + i + 32), c);
		_mm_stream_si128((__m128i *)(dst + i + 48), d);
	}
	return i;
}

__attribute__((target("movdir64b"))) static size_t copy_lines_dir(char *dst, const char *src, size_t len)
{
	size_t i;

	for (i = 0; i + 64 <= len; i += 64)
		_movdir64b(dst + i, src + i);
	return i;
}

void ntbs_copy_nt(enum ntbs_line_store how, void *dst, const void *src, size_t len)
{
	char *d = dst;
	const char *s = src;
	size_t n = -(uintptr_t)d & 63;

	if (n > len)
		n = len;
	memcpy(d, s, n);	/* up to a line boundary */
	d += n;
	s += n;
	len -= n;
	switch (how) {
	case NTBS_LINE_NT64:
		n = copy_lines_nt64(d, s, len);
		break;
	case NTBS_LINE_MOVDIR64B:
		n = copy_lines_dir(d, s, len);
		break;
	case NTBS_LINE_NT16:
		n = copy_lines_nt16(d, s, len);
		break;
	case NTBS_LINE_PLAIN:
	default:
		n = 0;
	}
	memcpy(d + n, s + n, len - n);
	ntbs_store_flush();	/* payload before the slot that names it: NT stores are not ordered by TSO */
}

void ntbs_store_line_nt(enum ntbs_line_store how, void *dst, const void *line)
{
	switch (how) {
	case NTBS_LINE_NT64:
		copy_lines_nt64(dst, line, NTBS_LINE);
		break;
	case NTBS_LINE_MOVDIR64B:
		copy_lines_dir(dst, line, NTBS_LINE);
		break;
	default:
		copy_lines_nt16(dst, line, NTBS_LINE);
	}
}

#else

static enum ntbs_line_store best_line_store(enum ntbs_mem mem)
{
	return NTBS_LINE_PLAIN;
}

static bool nt_helps(enum ntbs_mem mem)
{
	return false;
}

void ntbs_copy_nt(enum ntbs_line_store how, void *dst, const void *src, size_t len)
{
	memcpy(dst, src, len);
	ntbs_store_flush();
}

/* In words, so that none of them tears. */
void ntbs_store_line_nt(enum ntbs_line_store how, void *dst, const void *line)
{
	for (int i = 0; i < NTBS_LINE / 8; i++)
		ntbs_le64_write((ntbs_le64 *)dst + i, ntbs_le64_read((const ntbs_le64 *)line + i));
}

#endif

void ntbs_port_attach(struct ntbs_port *port, const struct ntbs_port_ops *ops, enum ntbs_mem mem)
{
	port->ops = ops;
	port->mem = mem;
	port->whole = !ops && mem == NTBS_MEM_CACHED;
	port->line_store = best_line_store(mem);
	port->nt_min = nt_helps(mem) ? 16384 : SIZE_MAX;
}

/*
 * Who shares a bell can fill it: a write fails and wakes nobody, for nobody reads it.  Taking O_NONBLOCK away as well he makes
 * the write wait for ever, and that between any two instructions of ours.  The kernel signals an eventfd in one way that never
 * waits, and wakes at the limit too: the end of an asynchronous request (IOCB_FLAG_RESFD).  Ours reads no bytes from the bell,
 * which is refused, and so done.  A process that has such requests takes some 30 ms longer to exit, so they are used from the
 * first bell on that was found full or blocking, which is never the case among those who mean well.
 */
#define REQUESTS 32

_Atomic bool ntbs_bell_wary;
static _Atomic bool foul;
static _Atomic aio_context_t requests;	/* of this process; 0: none yet */

static aio_context_t context(void)
{
	aio_context_t fresh = 0, none = 0;

	if (requests)
		return requests;
	if (ntbs_sys2(SYS_io_setup, REQUESTS, &fresh) < 0)
		return 0;
	if (atomic_compare_exchange_strong(&requests, &none, fresh))
		return fresh;
	ntbs_sys1(SYS_io_destroy, fresh);	/* another thread was quicker */
	return none;
}

bool ntbs_bell_request(int bell_fd)
{
	struct iocb cb = { .aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = bell_fd, .aio_flags = IOCB_FLAG_RESFD, .aio_resfd = bell_fd };
	struct iocb *list = &cb;
	struct io_event done[REQUESTS];
	aio_context_t ctx = context();
	long ret = 0;

	if (!ctx)
		return false;
	for (int i = 0; i < REQUESTS; i++) {
		ret = ntbs_sys3(SYS_io_submit, ctx, 1, &list);
		if (ret != -EAGAIN)
			break;
		ntbs_sys5(SYS_io_getevents, ctx, 0, REQUESTS, done, NULL);	/* or another thread has just done so */
	}
	return ret == 1;
}

void ntbs_bell_fork_child(void)
{
	requests = 0;			/* our parent's */
}

void ntbs_bell_ring(int bell_fd)
{
	static const uint64_t one = 1;

	if (atomic_load_explicit(&ntbs_bell_wary, memory_order_relaxed) && !foul &&
	    !(ntbs_sys2(SYS_fcntl, bell_fd, F_GETFL) & O_NONBLOCK))
		foul = true;
	if (__builtin_expect(!foul, 1) && ntbs_sys3(SYS_write, bell_fd, &one, sizeof(one)) != -EAGAIN)
		return;
	foul = true;
	if (ntbs_bell_request(bell_fd))
		return;
	/* the kernel has none: as well as can be */
	ntbs_sys3(SYS_fcntl, bell_fd, F_SETFL, O_RDWR | O_NONBLOCK);
	ntbs_sys3(SYS_write, bell_fd, &one, sizeof(one));
}
