// SPDX-License-Identifier: BSD-2-Clause
/*
 * ntbpost.c - preloaded into QEMU: its sockets to ntbrig hold all that a guest posts
 *
 *	LD_PRELOAD=ntbpost.so NTBPOST=BYTES:SOCKET[:SOCKET] qemu-system-x86_64 ...
 *
 * A store that finds no room in the socket QEMU keeps in a list of its own, and lets its CPU go on.  The model then knows
 * nothing of it, and answers a read of the other host before it has come, which a bridge does not: see push_posted() in
 * ntbrig.c.  So connect() to one of those sockets makes its buffer so large that there is room.
 *
 * Must not be linked with more than libc: it runs inside of another program.  A buffer beyond the system's limit only root
 * can have (SO_SNDBUFFORCE); where that fails QEMU is ended, with a sentence.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

typedef int connect_fn(int, const struct sockaddr *, socklen_t);

static connect_fn *real_connect;
static int bytes;
static char paths[1024];	/* each between colons */

static bool to_model(const struct sockaddr *addr, socklen_t len)
{
	const struct sockaddr_un *sa = (const struct sockaddr_un *)addr;
	char one[sizeof(sa->sun_path) + 3];

	if (len <= offsetof(struct sockaddr_un, sun_path) || sa->sun_family != AF_UNIX || !sa->sun_path[0])
		return false;
	snprintf(one, sizeof(one), ":%.*s:", (int)strnlen(sa->sun_path, len - offsetof(struct sockaddr_un, sun_path)), sa->sun_path);
	return strstr(paths, one);
}

__attribute__((visibility("default"))) int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	if (bytes && to_model(addr, len) && setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes))) {
		fprintf(stderr, "ntbpost: a socket buffer of %d bytes: %s\n", bytes, strerror(errno));
		_exit(126);
	}
	return real_connect(fd, addr, len);
}

__attribute__((constructor)) static void start(void)
{
	const char *conf = getenv("NTBPOST"), *colon = conf ? strchr(conf, ':') : NULL;

	real_connect = (connect_fn *)dlsym(RTLD_NEXT, "connect");
	if (!real_connect)
		abort();
	if (!colon || strlen(colon) + 2 > sizeof(paths))
		return;
	bytes = atoi(conf);
	snprintf(paths, sizeof(paths), "%s:", colon);
	unsetenv("NTBPOST");	/* what QEMU starts is not QEMU */
}
