// SPDX-License-Identifier: BSD-2-Clause
/*
 * ntb.c - from a function's ids to its family; the checks that all families share
 *
 * The families get arguments that make sense: windows and scratchpads that exist, addresses and sizes that are
 * aligned, doorbells that there are.
 */
#include "ntb.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define PCI_STATUS 0x06		/* PCI Local Bus 3.0, 6.2.3: bit 4 says that there are capabilities */
#define PCI_CAP_PTR 0x34
#define CAP_MAX 48		/* (256 - 64) / 4: more steps are a loop */

static const struct ntbs_ntb_ops *const families[] = { &ntbs_intel_ops, &ntbs_amd_ops, &ntbs_ivshmem_ops };
#define NR_FAMILIES (sizeof(families) / sizeof(families[0]))

int ntbs_ntb_fail(struct ntbs_ntb *ntb, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(ntb->why, sizeof(ntb->why), fmt, ap);
	va_end(ap);
	return -err;
}

unsigned ntbs_cfg_find_cap(struct ntbs_regs *regs, uint8_t id)
{
	uint16_t status = ntbs_cfg_read(regs, PCI_STATUS, 2);
	unsigned at;

	if (status == 0xffff || !(status & 1u << 4))
		return 0;
	at = ntbs_cfg_read(regs, PCI_CAP_PTR, 1) & 0xfc;
	for (unsigned i = 0; i < CAP_MAX && at >= 0x40; i++) {
		uint16_t head = ntbs_cfg_read(regs, at, 2);

		if (head == 0xffff)
			return 0;
		if ((head & 0xff) == id)
			return at;
		at = head >> 8 & 0xfc;
	}
	return 0;
}

const struct ntbs_ntb_ops *ntbs_ntb_family(const struct ntbs_regs *regs)
{
	for (unsigned i = 0; i < NR_FAMILIES; i++) {
		if (families[i]->match(regs))
			return families[i];
	}
	return NULL;
}

int ntbs_ntb_probe(struct ntbs_ntb *ntb, struct ntbs_regs *regs)
{
	ntb->regs = regs;
	ntb->ops = ntbs_ntb_family(regs);
	if (!ntb->ops)
		return ntbs_ntb_fail(ntb, ENODEV, "no driver for %04x:%04x", regs->vendor, regs->device);
	if (!regs->nr_vectors)
		return ntbs_ntb_fail(ntb, ENOTSUP, "the function offers no MSI-X interrupts");
	return ntb->ops->probe(ntb);
}

int ntbs_ntb_set_window(struct ntbs_ntb *ntb, unsigned i, uint64_t iova, uint64_t bytes)
{
	const struct ntbs_ntb_window *w = &ntb->window[i < NTBS_NTB_WINDOWS ? i : 0];

	if (i >= ntb->nr_windows)
		return ntbs_ntb_fail(ntb, EINVAL, "window %u: there are %u", i, ntb->nr_windows);
	if (w->in_bar)
		return ntbs_ntb_fail(ntb, ENOTSUP, "%s brings its memory along: nothing is translated", ntb->family);
	if (!bytes || bytes > w->bytes || bytes % w->size_align)
		return ntbs_ntb_fail(ntb, EINVAL, "window %u: %#llx bytes; it takes up to %#llx, in steps of %#llx", i,
				     (unsigned long long)bytes, (unsigned long long)w->bytes,
				     (unsigned long long)w->size_align);
	if (w->size_pow2 && bytes & (bytes - 1))
		return ntbs_ntb_fail(ntb, EINVAL, "window %u: %#llx bytes; %s takes powers of two", i,
				     (unsigned long long)bytes, ntb->family);
	if (iova % w->addr_align || iova + bytes < iova)
		return ntbs_ntb_fail(ntb, EINVAL, "window %u: address %#llx is no multiple of %#llx", i,
				     (unsigned long long)iova, (unsigned long long)w->addr_align);
	return ntb->ops->set_window(ntb, i, iova, bytes);
}

int ntbs_ntb_clear_window(struct ntbs_ntb *ntb, unsigned i)
{
	if (i >= ntb->nr_windows)
		return ntbs_ntb_fail(ntb, EINVAL, "window %u: there are %u", i, ntb->nr_windows);
	if (ntb->window[i].in_bar)
		return ntbs_ntb_fail(ntb, ENOTSUP, "%s brings its memory along: nothing is translated", ntb->family);
	return ntb->ops->clear_window(ntb, i);
}

int ntbs_ntb_link_enable(struct ntbs_ntb *ntb)
{
	return ntb->ops->link_enable(ntb);
}

int ntbs_ntb_link_disable(struct ntbs_ntb *ntb)
{
	return ntb->ops->link_disable(ntb);
}

int ntbs_ntb_link_state(struct ntbs_ntb *ntb, struct ntbs_ntb_link *link)
{
	*link = (struct ntbs_ntb_link){ 0 };
	return ntb->ops->link_state(ntb, link);
}

uint64_t ntbs_ntb_irq(struct ntbs_ntb *ntb, unsigned vector)
{
	return vector < ntb->nr_vectors ? ntb->ops->irq(ntb, vector) : 0;
}

uint64_t ntbs_ntb_poll(struct ntbs_ntb *ntb)
{
	return ntb->ops->poll(ntb);
}

uint64_t ntbs_ntb_db_read(struct ntbs_ntb *ntb)
{
	return ntb->ops->db_read(ntb) & ntb->bells;
}

void ntbs_ntb_db_ack(struct ntbs_ntb *ntb, uint64_t bits)
{
	if (bits & ntb->bells)
		ntb->ops->db_ack(ntb, bits & ntb->bells);
}

void ntbs_ntb_db_mask(struct ntbs_ntb *ntb, uint64_t bits)
{
	ntb->masked |= bits & ntb->bells;
	ntb->ops->db_mask(ntb, ntb->masked);
}

void ntbs_ntb_db_unmask(struct ntbs_ntb *ntb, uint64_t bits)
{
	ntb->masked &= ~bits;
	ntb->ops->db_mask(ntb, ntb->masked);
}

void ntbs_ntb_db_ring(struct ntbs_ntb *ntb, uint64_t bits)
{
	if (bits & ntb->bells)
		ntb->ops->db_ring(ntb, bits & ntb->bells);
}

int ntbs_ntb_db_register(struct ntbs_ntb *ntb, uint64_t bit, struct ntbs_ntb_bell *bell)
{
	if (!(bit & ntb->bells) || bit & (bit - 1))
		return ntbs_ntb_fail(ntb, EINVAL, "%#llx is no doorbell", (unsigned long long)bit);
	return ntb->ops->db_register(ntb, bit, bell);
}

uint64_t ntbs_ntb_vector_bells(struct ntbs_ntb *ntb, unsigned vector)
{
	return vector < ntb->nr_vectors ? ntb->ops->vector_bells(ntb, vector) & ntb->bells : 0;
}

uint32_t ntbs_ntb_spad_read(struct ntbs_ntb *ntb, unsigned i)
{
	return i < ntb->nr_spads ? ntb->ops->spad_read(ntb, i) : UINT32_MAX;
}

void ntbs_ntb_spad_write(struct ntbs_ntb *ntb, unsigned i, uint32_t value)
{
	if (i < ntb->nr_spads)
		ntb->ops->spad_write(ntb, i, value);
}

uint32_t ntbs_ntb_peer_spad_read(struct ntbs_ntb *ntb, unsigned i)
{
	return i < ntb->nr_spads ? ntb->ops->peer_spad_read(ntb, i) : UINT32_MAX;
}

void ntbs_ntb_peer_spad_write(struct ntbs_ntb *ntb, unsigned i, uint32_t value)
{
	if (i < ntb->nr_spads)
		ntb->ops->peer_spad_write(ntb, i, value);
}

void ntbs_ntb_shutdown(struct ntbs_ntb *ntb)
{
	if (ntb->ops)
		ntb->ops->shutdown(ntb);
	ntb->ops = NULL;
}
