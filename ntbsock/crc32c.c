// SPDX-License-Identifier: BSD-2-Clause
/*
 * crc32c.c - see crc32c.h
 *
 * Only ports that may tear or lose a write pay for it; shared memory never does.
 */
#include "crc32c.h"

#include <string.h>

#define CRC32C_POLY_REFLECTED 0x82f63b78u	/* RFC 3720, B.4 */

static uint32_t crc_bytewise(uint32_t crc, const uint8_t *p, size_t len)
{
	while (len--) {
		crc ^= *p++;
		for (int i = 0; i < 8; i++)
			crc = crc >> 1 ^ (CRC32C_POLY_REFLECTED & -(crc & 1));
	}
	return crc;
}

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("sse4.2"))) static uint32_t crc_sse42(uint32_t crc, const uint8_t *p, size_t len)
{
	uint64_t c = crc, word;

	for (; len >= 8; p += 8, len -= 8) {
		memcpy(&word, p, 8);
		c = _mm_crc32_u64(c, word);
	}
	crc = c;
	while (len--)
		crc = _mm_crc32_u8(crc, *p++);
	return crc;
}

uint32_t ntbs_crc32c(uint32_t crc, const void *buf, size_t len)
{
	return __builtin_cpu_supports("sse4.2") ? crc_sse42(crc, buf, len) : crc_bytewise(crc, buf, len);
}
#else
uint32_t ntbs_crc32c(uint32_t crc, const void *buf, size_t len)
{
	return crc_bytewise(crc, buf, len);
}
#endif
