/* SPDX-License-Identifier: BSD-2-Clause */
/* vfu_impl.h - inside of the vfio-user server: vfu.c has the socket and the connection, vfu_cmd.c what messages ask for */
#ifndef NTBSOCK_RIG_VFU_IMPL_H
#define NTBSOCK_RIG_VFU_IMPL_H

#include <sys/un.h>
#include "vfu.h"

enum {
	M_VERSION = 1, M_DMA_MAP, M_DMA_UNMAP, M_INFO, M_REGION_INFO, M_REGION_FDS, M_IRQ_INFO, M_SET_IRQS, M_READ, M_WRITE,
	M_DMA_READ, M_DMA_WRITE, M_RESET, M_DIRTY, M_WRITE_MULTI,
	F_REPLY = 1, F_TYPE = 0xf, F_NO_REPLY = 0x10, F_ERROR = 0x20,
	/* of linux/vfio.h */
	DEVICE_RESET = 1, DEVICE_PCI = 2, REGION_READ = 1, REGION_WRITE = 2, REGION_MMAP = 4, IRQ_EVENTFD = 1, IRQ_NORESIZE = 8,
	IRQS = 5, IRQ_MSIX = 2, SET_NONE_TRIGGER = 0x21, SET_EVENTFD_TRIGGER = 0x24, UNMAP_ALL = 2, MAP_READ = 1, MAP_WRITE = 2,
	BODY_MAX = VFU_XFER + 64, VERSION_MAX = 4096, BATCH = 64, PATIENCE_S = 20,
};

struct head {
	uint16_t id, cmd;
	uint32_t size, flags, error;
};

struct vfu {
	struct vfu_conf conf;
	int listen_fd, fd;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	bool versioned;
	int irq[VFU_VECTORS];
	struct dmamap maps;
	uint16_t next_id;
	uint64_t taken;			/* bytes of messages */
	unsigned dma_pending;
	struct vfu_stats stats;
	char error[256];
	uint8_t body[BODY_MAX];
	uint8_t out[BODY_MAX];
};

/* A message, as it is being handled. */
struct msg {
	struct head h;
	size_t len;		/* of the body */
	int fd[VFU_FDS];
	int fds;
};

/* Notes what is wrong for vfu_error(); -EPROTO. */
__attribute__((format(printf, 2, 3))) int vfu_wrong(struct vfu *v, const char *fmt, ...);
/* 0, -EPIPE, or -EPROTO if the client does not read. */
int vfu_send(struct vfu *v, const void *buf, size_t len, int fd);
/* The eventfd of a vector, or -1; the one before is closed. */
void vfu_set_irq(struct vfu *v, unsigned vector, int fd);

/* vfu_cmd.c: does what a message asks and answers it; 0 or what ends the connection. */
int vfu_handle(struct vfu *v, struct msg *m);
const char *vfu_command_name(unsigned cmd);

#endif
