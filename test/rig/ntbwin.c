// SPDX-License-Identifier: BSD-2-Clause
/*
 * ntbwin.c - preloaded into QEMU: points its mapping of NTB windows where ntbrig says
 *
 *	LD_PRELOAD=ntbwin.so NTBWIN=SOCKETn.win qemu-system-x86_64 ...
 *
 * Remembers where QEMU maps the files that ntbrig has called its windows, and a thread maps parts of them over with
 * MAP_FIXED.  To the guest the BAR stays the same memory, with other contents.  Before QEMU has mapped the window there is
 * nothing to do: ntbrig is told so, and points nothing anywhere by then, for no guest has set anything up.
 *
 * A QEMU that does not map windows, or a second process of it, is left alone: without NTBWIN, and after fork(), nothing here
 * does anything.  Must not be linked with more than libc: it runs inside of another program.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "ntbwin.h"

enum { PLACES = 8 };	/* where QEMU has a window; it wants one, and maps it once */

typedef void *mmap_fn(void *, size_t, int, int, int, off_t);
void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t off);

static mmap_fn *real_mmap;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* everything below */
static struct ntbwin_hello hello;
static struct {
	uint8_t *at[PLACES];
	unsigned places;
} window[NTBWIN_WINDOWS];
static int sock = -1;

static void say(const char *what)
{
	fprintf(stderr, "ntbwin: %s: %s\n", what, strerror(errno));
}

static void find_real(void)
{
	real_mmap = (mmap_fn *)dlsym(RTLD_NEXT, "mmap64");
	if (!real_mmap)
		abort();
}

/* QEMU has mapped @len bytes of @fd at @at: is it the whole of a window? */
static void note(void *at, size_t len, int fd, off_t off)
{
	struct stat st;

	if (fd < 0 || at == MAP_FAILED || off || sock < 0 || fstat(fd, &st))
		return;
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < hello.windows; i++) {
		if (st.st_ino == hello.ino[i] && len == hello.size[i] && (uint64_t)st.st_size == len && window[i].places < PLACES)
			window[i].at[window[i].places++] = at;
	}
	pthread_mutex_unlock(&lock);
}

__attribute__((visibility("default"))) void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	void *at;

	if (!real_mmap)
		find_real();
	at = real_mmap(addr, len, prot, flags, fd, off);
	if (flags & MAP_SHARED) {
		int err = errno;

		note(at, len, fd, off);
		errno = err;
	}
	return at;
}

__attribute__((visibility("default"))) void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	return mmap64(addr, len, prot, flags, fd, off);
}

static void point(const struct ntbwin_part *p, int fd, struct ntbwin_done *done)
{
	if (p->magic != NTBWIN_MAGIC || p->window >= hello.windows || (p->off | p->len | p->fd_off) & 4095 || !p->len ||
	    p->off >= hello.size[p->window] || p->len > hello.size[p->window] - p->off || fd < 0) {
		done->error = EINVAL;
		return;
	}
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < window[p->window].places; i++) {
		if (real_mmap(window[p->window].at[i] + p->off, p->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
			      (off_t)p->fd_off) == MAP_FAILED)
			done->error = errno;
	}
	done->mapped = window[p->window].places;
	pthread_mutex_unlock(&lock);
}

static void *serve(void *arg)
{
	for (;;) {
		union {
			char room[CMSG_SPACE(sizeof(int))];
			struct cmsghdr align;
		} ctl;
		struct ntbwin_part part = { 0 };
		struct ntbwin_done done = { .magic = NTBWIN_MAGIC };
		struct iovec iov = { &part, sizeof(part) };
		struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl, .msg_controllen = sizeof(ctl.room) };
		ssize_t n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
		struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&mh) : NULL;
		int fd = -1;

		if (n < 0 && errno == EINTR)
			continue;
		if (n != sizeof(part))
			return NULL;	/* ntbrig is gone: the windows stay as they are */
		if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			memcpy(&fd, CMSG_DATA(c), sizeof(fd));
		point(&part, fd, &done);
		if (fd >= 0)
			close(fd);
		if (send(sock, &done, sizeof(done), MSG_NOSIGNAL) != sizeof(done))
			return NULL;
	}
}

__attribute__((constructor)) static void start(void)
{
	const char *path = getenv("NTBWIN");
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	sigset_t all, old;
	pthread_t thread;
	int fd;

	if (!real_mmap)
		find_real();
	if (!path || strlen(path) >= sizeof(sa.sun_path))
		return;
	strcpy(sa.sun_path, path);
	unsetenv("NTBWIN");	/* what QEMU starts is not QEMU */
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) || recv(fd, &hello, sizeof(hello), 0) != sizeof(hello) ||
	    hello.magic != NTBWIN_MAGIC || hello.windows > NTBWIN_WINDOWS) {
		say(path);
		_exit(126);
	}
	sock = fd;
	/* QEMU handles signals in threads of its choosing; this is none of them */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&thread, NULL, serve, NULL)) {
		say("thread");
		_exit(126);
	}
	pthread_detach(thread);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}
