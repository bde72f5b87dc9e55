/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vfu.h - a PCI device as a vfio-user server
 *
 * The part of the vfio-user protocol 0.0 that QEMU 11.1 speaks to a PCI device with MSI-X: version, regions, DMA maps,
 * eventfds, reset, posted and gathered writes, and writes to guest memory that has no file.  Formats: the protocol
 * document of the libvfio-user project (docs/vfio-user.rst) and QEMU's hw/vfio-user/protocol.h.
 *
 * One object is one device on one listening socket, with one client at a time.  When a client goes its maps and
 * eventfds go with it, and the next may connect.  Every field of a message is checked; a message that QEMU would not send
 * ends the connection with a sentence (vfu_error()), since what it means is that one of the two is wrong.
 *
 * Messages are read one at a time: header and descriptors first, then the body, so that descriptors belong to their
 * message.  Posted writes (header flag 0x10) get no answer.  The server never waits for the client but inside of a
 * message that it has begun to send.
 */
#ifndef NTBSOCK_RIG_VFU_H
#define NTBSOCK_RIG_VFU_H

#include "dmamap.h"

enum { VFU_REGIONS = 9, VFU_CFG = 7, VFU_VECTORS = 64, VFU_FDS = 16, VFU_XFER = 1 << 20, VFU_MULTI = 200 };

struct vfu_region {
	uint64_t size;		/* 0: there is none */
	uint32_t step;		/* longest access handed on; longer ones come in pieces.  0: 8 bytes, no longer ones allowed */
	int fd;			/* that the client may map instead of asking; -1: none */
};

struct vfu_conf {
	const char *name;	/* in front of messages */
	void *arg;
	struct vfu_region region[VFU_REGIONS];
	unsigned vectors;
	/* 0, or a negative errno, which ends the connection */
	int (*read)(void *arg, int region, uint64_t off, void *buf, size_t len);
	int (*write)(void *arg, int region, uint64_t off, const void *buf, size_t len);
	void (*reset)(void *arg);
	void (*came)(void *arg);	/* a client is there */
	void (*gone)(void *arg);	/* and is no longer; its maps are gone already */
	void (*mapped)(void *arg, uint64_t addr, uint64_t size);	/* added or removed; may be NULL */
	void (*before_reply)(void *arg);	/* may be NULL */
};

struct vfu;

/* Listens at @path (an old socket there is replaced).  NULL: errno. */
struct vfu *vfu_open(const char *path, const struct vfu_conf *conf);
/* The same for a socket that is connected already. */
struct vfu *vfu_adopt(int fd, const struct vfu_conf *conf);
void vfu_close(struct vfu *v);
/* What to poll for reading. */
int vfu_fd(const struct vfu *v);
bool vfu_connected(const struct vfu *v);
/*
 * Takes what is there to read: a client, or a few messages.  0; -EPROTO: the client was dropped for what vfu_error()
 * says; -EPIPE: it went.
 */
int vfu_ready(struct vfu *v);
/* Takes all messages that the client has sent by now.  As vfu_ready(). */
int vfu_catch_up(struct vfu *v);
const char *vfu_error(const struct vfu *v);

void vfu_interrupt(struct vfu *v, unsigned vector);
struct dmamap *vfu_maps(struct vfu *v);
/* Starts a write to guest memory at @addr that is announced but has no file.  0, -ENXIO: not announced, -EPIPE. */
int vfu_dma_write(struct vfu *v, uint64_t addr, const void *data, size_t len);
bool vfu_dma_busy(const struct vfu *v);

/* What has been asked and answered, for tests. */
struct vfu_stats {
	uint64_t messages, posted, gathered, dma_writes, dma_errors;
};
const struct vfu_stats *vfu_stats(const struct vfu *v);

#endif
