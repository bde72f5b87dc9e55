// SPDX-License-Identifier: BSD-2-Clause
/* dmamap.c - bus addresses of a guest; see dmamap.h */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "dmamap.h"

/* The file of @fd, mapped; takes @fd.  Its number or a negative errno. */
static int file_of(struct dmamap *m, int fd)
{
	struct dmamap_file *f;
	struct stat st;
	int err;

	if (fstat(fd, &st)) {
		err = -errno;
		goto err_close;
	}
	for (int i = 0; i < m->files; i++) {
		if (m->file[i].dev == st.st_dev && m->file[i].ino == st.st_ino) {
			close(fd);
			return i;
		}
	}
	err = -ENOSPC;
	if (m->files == DMAMAP_FILES)
		goto err_close;
	err = -EINVAL;
	if (st.st_size <= 0)
		goto err_close;
	f = &m->file[m->files];
	f->mem = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (f->mem == MAP_FAILED) {
		err = -errno;
		goto err_close;
	}
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	f->size = (uint64_t)st.st_size;
	f->fd = fd;
	return m->files++;

err_close:
	close(fd);
	return err;
}

/* Number of the first range that ends behind @addr. */
static size_t first_behind(const struct dmamap *m, uint64_t addr)
{
	size_t lo = 0, hi = m->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (m->range[mid].addr + (m->range[mid].size - 1) < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int dmamap_add(struct dmamap *m, uint64_t addr, uint64_t size, int fd, uint64_t off, bool writable)
{
	struct dmamap_range new = { .addr = addr, .size = size, .file = -1, .off = off, .writable = writable };
	size_t at;

	if (!size || addr + (size - 1) < addr) {
		if (fd >= 0)
			close(fd);
		return -EINVAL;
	}
	if (fd >= 0) {
		new.file = file_of(m, fd);
		if (new.file < 0)
			return new.file;
		if (off > m->file[new.file].size || size > m->file[new.file].size - off)
			return -EINVAL;
	}
	at = first_behind(m, addr);
	if (at < m->count && m->range[at].addr <= addr + (size - 1)) {
		const struct dmamap_range *r = &m->range[at];

		return r->addr == addr && r->size == size && r->file == new.file && r->off == off && r->writable == writable ? 0 : -EEXIST;
	}
	if (m->count == m->room) {
		size_t room = m->room ? 2 * m->room : 256;
		struct dmamap_range *more;

		if (m->count >= DMAMAP_RANGES)
			return -ENOSPC;
		more = realloc(m->range, room * sizeof(*more));
		if (!more)
			return -ENOMEM;
		m->range = more;
		m->room = room;
	}
	memmove(&m->range[at + 1], &m->range[at], (m->count - at) * sizeof(*m->range));
	m->range[at] = new;
	m->count++;
	return 0;
}

int dmamap_remove(struct dmamap *m, uint64_t addr, uint64_t size)
{
	uint64_t last = addr + (size - 1);
	size_t from, to;

	if (!size || last < addr)
		return -EINVAL;
	from = first_behind(m, addr);
	for (to = from; to < m->count && m->range[to].addr <= last; to++) {
		const struct dmamap_range *r = &m->range[to];

		if (r->addr < addr || r->addr + (r->size - 1) > last)
			return -EINVAL;
	}
	if (to > from) {
		memmove(&m->range[from], &m->range[to], (m->count - to) * sizeof(*m->range));
		m->count -= to - from;
	}
	return (int)(to - from);
}

void dmamap_clear(struct dmamap *m)
{
	for (int i = 0; i < m->files; i++) {
		munmap(m->file[i].mem, m->file[i].size);
		close(m->file[i].fd);
	}
	free(m->range);
	memset(m, 0, sizeof(*m));
}

const struct dmamap_range *dmamap_find(const struct dmamap *m, uint64_t addr)
{
	size_t at = first_behind(m, addr);

	return at < m->count && m->range[at].addr <= addr ? &m->range[at] : NULL;
}

void *dmamap_memory(const struct dmamap *m, uint64_t addr, size_t *len, bool write)
{
	const struct dmamap_range *r = dmamap_find(m, addr);

	if (!r || r->file < 0 || (write && !r->writable))
		return NULL;
	if (*len > r->size - (addr - r->addr))
		*len = r->size - (addr - r->addr);
	return m->file[r->file].mem + r->off + (addr - r->addr);
}
