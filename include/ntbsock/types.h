/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * types.h - words that another process or host can write
 *
 * A shared word is a struct, so that it does not turn into an integer by accident: it is read once, through
 * ntbs_leN_read(), checked, and the copy is used.  All are little-endian; the accessors are one load or one
 * store of the word's own size, which the compiler may not tear, repeat or leave out.  Order is the caller's
 * business (driver-glue/barrier.h), except where a name says acquire or release.
 */
#ifndef NTBSOCK_TYPES_H
#define NTBSOCK_TYPES_H

#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "ntbsock is written for little-endian hosts (every CPU with an NTB that Linux drives)"
#endif

typedef struct { uint16_t v; } ntbs_le16;
typedef struct { uint32_t v; } ntbs_le32;
typedef struct { uint64_t v; } ntbs_le64;

#define NTBS_LE_ACCESSORS(bits)                                                                     \
	static inline uint##bits##_t ntbs_le##bits##_read(const ntbs_le##bits *p)                   \
	{                                                                                           \
		return __atomic_load_n(&p->v, __ATOMIC_RELAXED);                                    \
	}                                                                                           \
	static inline uint##bits##_t ntbs_le##bits##_read_acquire(const ntbs_le##bits *p)           \
	{                                                                                           \
		return __atomic_load_n(&p->v, __ATOMIC_ACQUIRE);                                    \
	}                                                                                           \
	static inline void ntbs_le##bits##_write(ntbs_le##bits *p, uint##bits##_t v)                \
	{                                                                                           \
		__atomic_store_n(&p->v, v, __ATOMIC_RELAXED);                                       \
	}                                                                                           \
	static inline void ntbs_le##bits##_write_release(ntbs_le##bits *p, uint##bits##_t v)        \
	{                                                                                           \
		__atomic_store_n(&p->v, v, __ATOMIC_RELEASE);                                       \
	}

NTBS_LE_ACCESSORS(16)
NTBS_LE_ACCESSORS(32)
NTBS_LE_ACCESSORS(64)

#endif
