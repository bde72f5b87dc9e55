/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * client.h - the other end of vfio-user: what QEMU does, for tests of the server
 *
 * Written from the protocol document, not from vfu.c, so that the two check each other.  Calls wait for the answer, at
 * most five seconds; a DMA_WRITE of the server that arrives meanwhile is answered by @dma.
 */
#ifndef NTBSOCK_RIG_CLIENT_H
#define NTBSOCK_RIG_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VC_FDS = 20, VC_VECTORS = 33 };

enum {
	VC_VERSION = 1, VC_DMA_MAP = 2, VC_DMA_UNMAP = 3, VC_INFO = 4, VC_REGION_INFO = 5, VC_IRQ_INFO = 7, VC_SET_IRQS = 8,
	VC_READ = 9, VC_WRITE = 10, VC_DMA_READ = 11, VC_DMA_WRITE = 12, VC_RESET = 13, VC_MULTI = 15,
	VC_NO_REPLY = 0x10,
};

struct vc {
	int fd;
	uint16_t next_id;
	int vector[VC_VECTORS];		/* eventfds; -1 */
	uint64_t region_size[9];
	uint32_t region_flags[9];
	int region_fd[9];		/* of regions to map; -1 */
	uint32_t vectors;
	/* the server writes to memory that has no file */
	void (*dma)(void *arg, uint64_t addr, const void *data, size_t len);
	void *dma_arg;
};

struct vc_answer {
	uint32_t error;			/* errno of an error reply */
	uint8_t body[8192];
	size_t len;
	int fd;				/* that came along; -1 */
};

bool vc_connect(struct vc *c, const char *path);
void vc_close(struct vc *c);
/* One message as it is, header and all; false: cannot be sent. */
bool vc_send_raw(struct vc *c, const void *msg, size_t len, const int *fds, int count);
bool vc_send(struct vc *c, uint16_t cmd, uint32_t flags, const void *body, size_t len, const int *fds, int count);
/* Waits for the reply to the last command.  False: the connection ended, or nothing came. */
bool vc_answer(struct vc *c, uint16_t cmd, struct vc_answer *a);
bool vc_call(struct vc *c, uint16_t cmd, const void *body, size_t len, const int *fds, int count, struct vc_answer *a);
/* Nothing more comes and the connection is closed by the server, within five seconds. */
bool vc_ended(struct vc *c);

/* VERSION, and all that QEMU asks about a device before the guest starts.  False: something of it was refused. */
bool vc_hello(struct vc *c);
bool vc_set_irqs(struct vc *c);		/* an eventfd for each vector, sixteen in a message */
/* How often the vector has fired since asked last. */
uint64_t vc_fired(struct vc *c, unsigned vector);
bool vc_map(struct vc *c, uint64_t addr, uint64_t size, int fd, uint64_t off);
bool vc_unmap(struct vc *c, uint64_t addr, uint64_t size);
uint64_t vc_read(struct vc *c, uint32_t region, uint64_t off, uint32_t len);
/* BARs are written without reply, config space with. */
bool vc_write(struct vc *c, uint32_t region, uint64_t off, uint64_t value, uint32_t len);

#endif
