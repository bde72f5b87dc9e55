/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ntbwin.h - between ntbrig and the shim in QEMU: where the windows of a port lead
 *
 * A UNIX SEQPACKET socket, the shim connects.  ntbrig says which files (by inode) are the windows; then, whenever a part
 * of one leads elsewhere, sends that part with a descriptor, and the shim answers each when its mapping is in place.
 */
#ifndef NTBSOCK_RIG_NTBWIN_H
#define NTBSOCK_RIG_NTBWIN_H

#include <stdint.h>

enum { NTBWIN_MAGIC = 0x5742544e, NTBWIN_WINDOWS = 2 };

struct ntbwin_hello {
	uint32_t magic, windows;
	uint64_t ino[NTBWIN_WINDOWS], size[NTBWIN_WINDOWS];
};

/* Bytes off..off+len of a window are bytes fd_off.. of the file that comes along. */
struct ntbwin_part {
	uint32_t magic, window;
	uint64_t off, len, fd_off;
};

struct ntbwin_done {
	uint32_t magic;
	int32_t error;		/* 0 or an errno */
	uint32_t mapped;	/* at how many places QEMU has the window; 0: not (yet) at all */
};

#endif
