/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ioat_dma.h - an I/OAT engine through VFIO, as dma.h wants it
 *
 * The function is opened as a bridge is (vfio.h), with an IOMMU context of its own.  What the engine reaches is mapped
 * there while it is attached, and nothing else: its ring, the arena, the window.  The window is the mapping that the
 * bridge's BAR has in this process; type 1 of VFIO maps device memory for another device, iommufd does not (Linux 6.12).
 * So the engine is taken by its group's file, whichever way the bridge goes; where the kernel has no such file, it is not
 * used.  Whether writes of one function reach another is the platform's business (ACS, same socket): nothing of
 * that can be seen from here, so who uses one looks at what arrives (ntbsock-ctl selftest --dma).
 */
#ifndef NTBSOCK_VFIO_IOAT_DMA_H
#define NTBSOCK_VFIO_IOAT_DMA_H

#include <stddef.h>
#include "dma.h"
#include "pci.h"

/* Return: 0; a negative errno with the reason in @why. */
int ntbs_ioat_dma_open(struct ntbs_dma **dma, const char *address, const struct ntbs_pci_where *where, char *why, size_t why_bytes);

#endif
