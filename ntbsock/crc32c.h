/* SPDX-License-Identifier: BSD-2-Clause */
/* crc32c.h - CRC32C (Castagnoli, RFC 3720 appendix B.4), by instruction where the CPU has it */
#ifndef NTBSOCK_CRC32C_H
#define NTBSOCK_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continue @crc (start with any seed; not inverted, in or out) over @len bytes. */
uint32_t ntbs_crc32c(uint32_t crc, const void *buf, size_t len);

#endif
