// SPDX-License-Identifier: BSD-2-Clause
/*
 * vfio_map.c - BARs in our address space, and what kind of memory they became
 *
 * Order matters: the first mapping of a BAR by VFIO makes the kernel ask for it as VFIO's, and from then on
 * its files in sysfs cannot be mapped any more (and what was mapped before is taken away).  So each BAR is mapped in one
 * way only, by sysfs where that can be: its file gives whoever gets it one BAR, VFIO's the whole function.
 *
 * VFIO says of a BAR smaller than a page that it can be mapped only if nothing else lies in that page; sysfs does not
 * look.  So VFIO is asked for both.
 */
#include "vfio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pci.h"
#include "vfio_uapi.h"

static bool has_movdir64b(void)
{
	struct ntbs_port port;

	ntbs_port_attach(&port, NULL, NTBS_MEM_UC);
	return port.line_store == NTBS_LINE_MOVDIR64B;
}

/*
 * What the kernel has noted for physical address @addr: a line "PAT: [mem 0x..-0x..] write-combining".  1 that, 0
 * something else, -1 nothing there or the list cannot be read.
 */
static int noted_as_wc(const struct ntbs_pci_where *w, uint64_t addr)
{
	char path[160], line[160], *mem;
	unsigned long long from, to;
	int ret = -1;
	FILE *f;

	snprintf(path, sizeof(path), "%.100s/kernel/debug/x86/pat_memtype_list", w->sysfs);
	f = fopen(path, "re");
	if (!f)
		return -1;
	while (ret < 0 && fgets(line, sizeof(line), f)) {
		mem = strstr(line, "[mem ");
		if (mem && sscanf(mem, "[mem %llx-%llx]", &from, &to) == 2 && addr >= from && addr < to)
			ret = strstr(mem, "write-combining") != NULL;
	}
	fclose(f);
	return ret;
}

static bool map_sysfs(struct ntbs_vfio *v, unsigned bar, const char *kind, enum ntbs_vfio_way way)
{
	struct ntbs_vfio_map *m = &v->map[bar];
	char path[300], name[32];
	void *addr;
	int fd;

	snprintf(name, sizeof(name), "resource%u%s", bar, kind);
	if (!(v->region_flags[bar] & VFIO_REGION_INFO_FLAG_MMAP) || v->regs.bar[bar].addr % 4096 ||
	    ntbs_pci_path(v->where, v->address, name, path, sizeof(path)))
		return false;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return false;
	addr = mmap(NULL, v->regs.bar[bar].bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (addr == MAP_FAILED) {
		close(fd);
		return false;
	}
	m->addr = addr;
	m->bytes = v->regs.bar[bar].bytes;
	m->way = way;
	m->fd = fd;
	m->fd_offset = 0;
	return true;
}

static bool map_vfio(struct ntbs_vfio *v, unsigned bar)
{
	struct ntbs_vfio_map *m = &v->map[bar];
	void *addr;

	if (!(v->region_flags[bar] & VFIO_REGION_INFO_FLAG_MMAP)) {
		errno = ENOTSUP;
		return false;
	}
	addr = mmap(NULL, v->regs.bar[bar].bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->device, v->region_at[bar]);
	if (addr == MAP_FAILED)
		return false;
	m->addr = addr;
	m->bytes = v->regs.bar[bar].bytes;
	m->way = NTBS_VFIO_UNCACHED;
	m->fd = v->device;
	m->fd_offset = v->region_at[bar];
	return true;
}

/* Neither way ever gives anything but uncached. */
static bool map_uncached(struct ntbs_vfio *v, unsigned bar)
{
	if (!map_sysfs(v, bar, "", NTBS_VFIO_SYSFS_UC) && !map_vfio(v, bar))
		return false;
	v->map[bar].mem = NTBS_MEM_UC;
	v->map[bar].verified = true;
	return true;
}

int ntbs_vfio_map_bar(struct ntbs_vfio *v, unsigned bar)
{
	struct ntbs_vfio_map *m;
	bool dir64;
	int noted;

	if (bar >= NTBS_PCI_BARS || !v->regs.bar[bar].bytes || v->regs.bar[bar].is_io)
		return ntbs_vfio_fail(v, EINVAL, "there is no memory BAR%u", bar);
	m = &v->map[bar];
	if (m->addr)
		return 0;
	dir64 = has_movdir64b();
	if (!dir64 && v->regs.bar[bar].prefetchable && map_sysfs(v, bar, "_wc", NTBS_VFIO_SYSFS_WC)) {
		noted = noted_as_wc(v->where, v->regs.bar[bar].addr);
		m->verified = noted >= 0;
		m->mem = noted == 0 ? NTBS_MEM_UC : NTBS_MEM_WC;
		snprintf(m->said, sizeof(m->said), "%s",
			 noted > 0 ? "write-combined (resource_wc of sysfs; the kernel's list says so)" :
			 noted < 0 ? "write-combined (resource_wc of sysfs; not verified: the kernel's list cannot be read)" :
				     "asked for write-combined, the kernel made it uncached: stores are slow");
		return 0;
	}
	if (!map_uncached(v, bar))
		return ntbs_vfio_fail(v, errno, "BAR%u cannot be mapped: %s", bar, strerror(errno));
	snprintf(m->said, sizeof(m->said), "%s",
		 dir64 ? "uncached, stored to by MOVDIR64B: whole lines all the same" :
			 "uncached: SLOW, every 8 bytes are a transaction (no write-combining to be had, no MOVDIR64B)");
	return 0;
}

int ntbs_vfio_map_registers(struct ntbs_vfio *v)
{
	map_uncached(v, 0);
	return 0;
}

void ntbs_vfio_unmap(struct ntbs_vfio *v)
{
	for (unsigned i = 0; i < NTBS_PCI_BARS; i++) {
		if (v->map[i].addr)
			munmap(v->map[i].addr, v->map[i].bytes);
		if (v->map[i].addr && v->map[i].fd != v->device)
			close(v->map[i].fd);
		v->map[i] = (struct ntbs_vfio_map){ 0 };
	}
}
