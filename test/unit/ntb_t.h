/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ntb_t.h - the drivers' registers (vfio/regs.h) on the models of test/rig, within the test program
 *
 * A test that includes this links the drivers and the model: driver-glue/vfio/{ntb,intel,amd,ivshmem}.c and
 * test/rig/{inproc,pair,fn,cfg,ntb_intel,ntb_amd,ioat}.c.
 */
#ifndef NTBSOCK_TEST_NTB_T_H
#define NTBSOCK_TEST_NTB_T_H

#include "rig/inproc.h"
#include "vfio/ntb.h"
#include "t.h"

#define T_WINDOW (1u << 20)
#define T_IOVA(host) ((host) ? 0x240000000ull : 0x100000000ull)	/* multiples of the windows' size */

struct t_port {
	struct ntbs_regs regs;		/* first: the callbacks get this */
	struct ntbs_ntb ntb;
	struct rig_fn *fn;
	struct inproc *ip;
	bool gone;			/* reads all ones, as if unplugged */
	uint8_t *mem;			/* T_WINDOW bytes at T_IOVA(host), open for DMA */
};

static inline uint64_t t_ones(unsigned len)
{
	return len == 8 ? UINT64_MAX : (1ull << 8 * len) - 1;
}

static uint64_t t_cfg_read(struct ntbs_regs *regs, unsigned offset, unsigned len)
{
	struct t_port *p = (struct t_port *)regs;

	return p->gone ? t_ones(len) : inproc_read(p->fn, RIG_CFG, offset, len);
}

static void t_cfg_write(struct ntbs_regs *regs, unsigned offset, unsigned len, uint64_t value)
{
	struct t_port *p = (struct t_port *)regs;

	if (!p->gone)
		inproc_write(p->fn, RIG_CFG, offset, value, len);
}

static uint64_t t_bar_read(struct ntbs_regs *regs, unsigned bar, uint64_t offset, unsigned len)
{
	struct t_port *p = (struct t_port *)regs;

	return p->gone ? t_ones(len) : inproc_read(p->fn, bar, offset, len);
}

static void t_bar_write(struct ntbs_regs *regs, unsigned bar, uint64_t offset, unsigned len, uint64_t value)
{
	struct t_port *p = (struct t_port *)regs;

	if (!p->gone)
		inproc_write(p->fn, bar, offset, value, len);
}

static void t_pause_ms(struct ntbs_regs *regs, unsigned ms)
{
	inproc_advance(((struct t_port *)regs)->ip, ms * 1000000ull);
}

static const struct ntbs_regs_ops t_regs_ops = { t_cfg_read, t_cfg_write, t_bar_read, t_bar_write, t_pause_ms };

/* Joins @p to host @host of the model; nothing is probed yet. */
T_UNUSED static void t_port_join(struct t_port *p, struct inproc *ip, int host)
{
	const struct rig_fn_info *info = rig_fn_info(ip->port[host]);
	uint8_t *mem = p->mem;

	memset(p, 0, sizeof(*p));
	p->mem = mem ? mem : aligned_alloc(4096, T_WINDOW);
	t_must(p->mem, "memory");
	memset(p->mem, 0, T_WINDOW);
	p->fn = ip->port[host];
	p->ip = ip;
	p->regs = (struct ntbs_regs){ .ops = &t_regs_ops, .vendor = info->vendor, .device = info->device,
				      .revision = info->revision, .nr_vectors = info->vectors };
	for (unsigned i = 0; i < NTBS_PCI_BARS; i++)
		p->regs.bar[i] = (struct ntbs_bar){ .bytes = info->bar[i].size, .addr = rig_fn_bar_base(p->fn, i),
						    .is_64bit = info->bar[i].is64,
						    .prefetchable = info->bar[i].prefetch };
	inproc_enable(p->fn);
}

/* A fresh pair of that family, memory mapped, not probed. */
T_UNUSED static void t_pair_open(struct inproc *ip, struct t_port port[2], enum rig_family family)
{
	t_must(inproc_open(ip, family, T_WINDOW), "a model");
	for (int h = 0; h < 2; h++) {
		t_port_join(&port[h], ip, h);
		t_must(inproc_map(ip, h, T_IOVA(h), port[h].mem, T_WINDOW), "a mapping");
	}
}

T_UNUSED static void t_pair_close(struct inproc *ip, struct t_port port[2])
{
	t_eq(ip->unknown, 0, "accesses to registers that there are none");
	inproc_close(ip);
	for (int h = 0; h < 2; h++) {
		free(port[h].mem);
		port[h].mem = NULL;
	}
}

/* Both probed, window 0 open, link up. */
T_UNUSED static void t_pair_up(struct inproc *ip, struct t_port port[2])
{
	struct ntbs_ntb_link link;

	for (int h = 0; h < 2; h++) {
		t_must(!ntbs_ntb_probe(&port[h].ntb, &port[h].regs), "probe: %s", port[h].ntb.why);
		t_must(!ntbs_ntb_set_window(&port[h].ntb, 0, T_IOVA(h), T_WINDOW), "window: %s", port[h].ntb.why);
	}
	for (int h = 0; h < 2; h++)
		t_must(!ntbs_ntb_link_enable(&port[h].ntb), "link: %s", port[h].ntb.why);
	inproc_advance(ip, 2 * RIG_TRAIN_NS);
	for (int h = 0; h < 2; h++) {
		ntbs_ntb_poll(&port[h].ntb);
		t_must(!ntbs_ntb_link_state(&port[h].ntb, &link) && link.up, "link of host %d up", h);
	}
}

#endif
