// SPDX-License-Identifier: BSD-2-Clause
/*
 * remap.c - windows as memory: where the shim in each QEMU must point its mapping of them
 *
 * QEMU maps a window once, as a file of ours, when the device is made; where it leads is decided much later, by the other
 * guest's driver, and changes.  So ntbwin.so in that QEMU maps over parts of it what we say: pieces of the other guest's
 * memory file where the window is open and the memory is there, our own file of all-ones elsewhere.
 *
 * A list of parts per window says what is in place.  When something that it depends on changes (translation, limit,
 * link, bus mastering, the peer's DMA maps) a new list is made, and parts that differ are sent.  Each is waited for:
 * no register access of either guest is answered before its effect on the windows is in place.  The shim answers from a
 * thread of its own, so this does not wait for a vCPU.
 *
 * Stores to the closed part of a window stay in the file of all-ones, and are seen by reads, until it is filled anew with
 * the next change; a bridge would drop them.  A limit inside of a page closes all of that page.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include "ntbwin.h"
#include "rig.h"

enum { PAGE = 4096, PATIENCE_S = 20 };

struct part {
	uint64_t off, len;
	int file;		/* of the peer's memory; -1: closed */
	uint64_t fd_off;
};

struct window {
	int bar, fd;
	uint8_t *ones;
	uint64_t size;
	struct part *part;
	size_t parts, room;
	bool dirty;
};

struct shim {
	int listen_fd, fd;
	char path[108];
	struct window win[NTBWIN_WINDOWS];
	bool warned;
};

struct remap {
	struct rig *rig;
	struct shim shim[2];
};

/* ---- where a window leads ---- */

static bool add(struct window *w, uint64_t off, uint64_t len, int file, uint64_t fd_off)
{
	struct part *last = w->parts ? &w->part[w->parts - 1] : NULL;

	if (last && last->file == file && last->fd_off + last->len == fd_off) {
		last->len += len;
		return true;
	}
	if (w->parts == w->room) {
		size_t room = w->room ? 2 * w->room : 64;
		struct part *more = realloc(w->part, room * sizeof(*more));

		if (!more)
			return false;
		w->part = more;
		w->room = room;
	}
	w->part[w->parts++] = (struct part){ off, len, file, fd_off };
	return true;
}

/* A new list of @w, which leads from @host's port into the other host. */
static bool walk(struct rig *rig, int host, struct window *w)
{
	const struct rig_fn *fn = rig->dev[host].fn;
	const struct dmamap *maps = vfu_maps(rig->dev[!host].vfu);
	uint64_t off = 0;

	w->parts = 0;
	while (off < w->size) {
		const struct dmamap_range *r;
		uint64_t addr, open, n;

		if (rig_window_target(fn, w->bar, off, &addr, &open) || open < PAGE)
			return add(w, off, w->size - off, -1, off);
		open = open < w->size - off ? open & ~(PAGE - 1ull) : w->size - off;
		r = dmamap_find(maps, addr);
		if (!r || r->file < 0 || !r->writable) {
			if (!add(w, off, PAGE, -1, off))
				return false;
			off += PAGE;
			continue;
		}
		n = r->size - (addr - r->addr);
		n = n < open ? n : open;
		if (!add(w, off, n, r->file, r->off + (addr - r->addr)))
			return false;
		off += n;
	}
	return true;
}

static bool same_part(const struct part *list, size_t count, const struct part *p)
{
	size_t lo = 0, hi = count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (list[mid].off < p->off)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < count && list[lo].off == p->off && list[lo].len == p->len && list[lo].file == p->file && list[lo].fd_off == p->fd_off;
}

/* ---- the shim ---- */

static void shim_drop(struct shim *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	for (int i = 0; i < NTBWIN_WINDOWS; i++)
		s->win[i].parts = 0;
}

static bool shim_send(struct shim *s, const void *msg, size_t len, int fd)
{
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} ctl = { 0 };
	struct iovec iov = { (void *)msg, len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		struct cmsghdr *c;

		mh.msg_control = &ctl;
		mh.msg_controllen = sizeof(ctl.room);
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	return sendmsg(s->fd, &mh, MSG_NOSIGNAL) == (ssize_t)len;
}

/* Point one part; false: the shim is gone (which the device's end will tell as well). */
static bool point(struct remap *r, int host, int window, const struct part *p)
{
	struct shim *s = &r->shim[host];
	const struct window *w = &s->win[window];
	const struct dmamap *maps = vfu_maps(r->rig->dev[!host].vfu);
	struct ntbwin_part msg = { NTBWIN_MAGIC, (uint32_t)window, p->off, p->len, p->fd_off };
	struct ntbwin_done done;

	if (!shim_send(s, &msg, sizeof(msg), p->file < 0 ? w->fd : maps->file[p->file].fd))
		return false;
	if (recv(s->fd, &done, sizeof(done), 0) != sizeof(done) || done.magic != NTBWIN_MAGIC)
		return false;
	if (done.error)
		rig_fail(r->rig, "host %d, window %d, 0x%llx bytes at 0x%llx: its shim says %s", host, window, (unsigned long long)p->len,
			 (unsigned long long)p->off, strerror(done.error));
	else if (p->file >= 0 && !done.mapped)
		rig_fail(r->rig, "host %d has not mapped window %d: QEMU without ntbwin.so, or one that does not map windows", host, window);
	return true;
}

static void window_update(struct remap *r, int host, int window)
{
	struct shim *s = &r->shim[host];
	struct window *w = &s->win[window];
	struct part *old = w->part;
	size_t olds = w->parts;
	bool filled = false;

	w->part = NULL;
	w->parts = w->room = 0;
	if (!walk(r->rig, host, w)) {
		rig_fail(r->rig, "out of memory");
		free(old);
		return;
	}
	for (size_t i = 0; i < w->parts; i++) {
		const struct part *p = &w->part[i];

		if (same_part(old, olds, p))
			continue;
		if (p->file < 0 && !filled) {
			memset(w->ones, 0xff, w->size);
			filled = true;
		}
		if (!point(r, host, window, p)) {
			shim_drop(s);
			break;
		}
	}
	free(old);
}

void remap_update(struct remap *r)
{
	for (int h = 0; h < 2; h++) {
		struct shim *s = &r->shim[h];

		for (int i = 0; i < NTBWIN_WINDOWS; i++) {
			uint64_t addr, len;

			if (!s->win[i].dirty || r->rig->devs < RIG_PORTS)
				continue;
			s->win[i].dirty = false;
			if (s->fd >= 0)
				window_update(r, h, i);
			else if (!s->warned && !rig_window_target(r->rig->dev[h].fn, s->win[i].bar, 0, &addr, &len)) {
				s->warned = true;
				rig_fail(r->rig, "--remap, and no ntbwin.so at %s: the windows of host %d lead nowhere", s->path, h);
			}
		}
	}
}

void remap_moved(struct remap *r, int host)
{
	for (int i = 0; i < NTBWIN_WINDOWS; i++)
		r->shim[host].win[i].dirty = true;
}

void remap_mapped(struct remap *r, int host, uint64_t addr, uint64_t size)
{
	struct shim *s = &r->shim[!host];

	for (int i = 0; i < NTBWIN_WINDOWS; i++) {
		uint64_t at, len;

		if (!rig_window_target(r->rig->dev[!host].fn, s->win[i].bar, 0, &at, &len) && at <= addr + (size - 1) && addr <= at + (len - 1))
			s->win[i].dirty = true;
	}
}

/* ---- set-up ---- */

static bool shim_open(struct shim *s, const char *socket_path, const uint64_t *size)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	for (int i = 0; i < NTBWIN_WINDOWS; i++) {
		struct window *w = &s->win[i];

		w->bar = 2 + 2 * i;
		w->size = size[i];
		w->fd = memfd_create("ntbrig-window", MFD_CLOEXEC);
		if (w->fd < 0 || ftruncate(w->fd, (off_t)w->size))
			return false;
		w->ones = mmap(NULL, w->size, PROT_READ | PROT_WRITE, MAP_SHARED, w->fd, 0);
		if (w->ones == MAP_FAILED) {
			w->ones = NULL;
			return false;
		}
		memset(w->ones, 0xff, w->size);
	}
	if (snprintf(s->path, sizeof(s->path), "%s.win", socket_path) >= (int)sizeof(sa.sun_path)) {
		errno = ENAMETOOLONG;
		return false;
	}
	strcpy(sa.sun_path, s->path);
	unlink(s->path);
	s->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return s->listen_fd >= 0 && !bind(s->listen_fd, (struct sockaddr *)&sa, sizeof(sa)) && !listen(s->listen_fd, 1);
}

struct remap *remap_open(struct rig *rig, const char *const *paths, const uint64_t *window_size)
{
	struct remap *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->rig = rig;
	for (int h = 0; h < 2; h++) {
		r->shim[h].listen_fd = r->shim[h].fd = -1;
		for (int i = 0; i < NTBWIN_WINDOWS; i++)
			r->shim[h].win[i].fd = -1;
	}
	for (int h = 0; h < 2; h++) {
		if (!shim_open(&r->shim[h], paths[h], window_size)) {
			fprintf(stderr, "ntbrig: %s.win: %s\n", paths[h], strerror(errno));
			remap_close(r);
			return NULL;
		}
	}
	return r;
}

void remap_close(struct remap *r)
{
	if (!r)
		return;
	for (int h = 0; h < 2; h++) {
		struct shim *s = &r->shim[h];

		shim_drop(s);
		if (s->listen_fd >= 0) {
			close(s->listen_fd);
			unlink(s->path);
		}
		for (int i = 0; i < NTBWIN_WINDOWS; i++) {
			if (s->win[i].ones)
				munmap(s->win[i].ones, s->win[i].size);
			if (s->win[i].fd >= 0)
				close(s->win[i].fd);
			free(s->win[i].part);
		}
	}
	free(r);
}

int remap_window_fd(const struct remap *r, int host, int bar)
{
	for (int i = 0; i < NTBWIN_WINDOWS; i++) {
		if (r->shim[host].win[i].bar == bar)
			return r->shim[host].win[i].fd;
	}
	return -1;
}

unsigned remap_polls(const struct remap *r, struct pollfd *p)
{
	for (int h = 0; h < REMAP_POLLS; h++)
		p[h] = (struct pollfd){ .fd = r->shim[h].fd >= 0 ? r->shim[h].fd : r->shim[h].listen_fd, .events = POLLIN };
	return REMAP_POLLS;
}

static void greet(struct shim *s)
{
	struct ntbwin_hello hello = { .magic = NTBWIN_MAGIC, .windows = NTBWIN_WINDOWS };
	struct timeval tv = { .tv_sec = PATIENCE_S };

	s->fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (s->fd < 0)
		return;
	setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	for (int i = 0; i < NTBWIN_WINDOWS; i++) {
		struct stat st;

		if (fstat(s->win[i].fd, &st)) {
			shim_drop(s);
			return;
		}
		hello.ino[i] = st.st_ino;
		hello.size[i] = s->win[i].size;
		s->win[i].dirty = true;
	}
	if (!shim_send(s, &hello, sizeof(hello), -1))
		shim_drop(s);
}

void remap_ready(struct remap *r, const struct pollfd *p, unsigned n)
{
	for (unsigned h = 0; h < n; h++) {
		struct shim *s = &r->shim[h];

		if (!p[h].revents)
			continue;
		if (s->fd < 0)
			greet(s);
		else
			shim_drop(s);	/* it says nothing unasked: this is its end */
	}
}
