/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memfd.h - memory that processes share: made, looked at before it is trusted, mapped
 */
#ifndef NTBSOCK_MEMFD_H
#define NTBSOCK_MEMFD_H

#include <stddef.h>
#include <stdint.h>

/* A sealed memfd of @len bytes, zeroed; -errno. */
int ntbs_memfd(const char *name, size_t len);
/* Size of one that can be mapped: it does not shrink, and has no huge pages, of which there may be none at the first touch (SIGBUS). */
int64_t ntbs_memfd_bytes(int fd);
/*
 * A part of one that is mostly never touched.  After mlockall(MCL_FUTURE) a mapping would be locked, and backed by memory from end to
 * end at once: this one is made without access, so that there is nothing to fill, unlocked, and opened.  NULL: it cannot be had.
 */
void *ntbs_map_sparse(int fd, uint64_t offset, size_t len, int prot);

#endif
