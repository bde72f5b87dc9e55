/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guard.c - no call touches a byte beside the buffer it was given: each buffer ends, or begins, at a page that is not there
 *
 * ring: yes
 */
#include <sys/mman.h>
#include "sock.h"

#define ROOM 32768u

/* A page that must not be touched, ROOM bytes, and another one. */
static char *guarded(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *p = mmap(NULL, ROOM + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	t_must(p != MAP_FAILED && !mprotect(p + page, ROOM, PROT_READ | PROT_WRITE), "mmap");
	return p + page;
}

static void sizes(struct peer *p, int fd)
{
	static char *buf;
	uint64_t out = 0, in = 0;

	if (!buf)
		buf = guarded();
	t_ok(!setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)), "NODELAY");
	for (size_t len = 1; len < ROOM; len = len < 140 ? len + 1 : len * 2 - 1) {
		for (int at_end = 0; at_end < 2; at_end++) {
			char *b = at_end ? buf + ROOM - len : buf;
			size_t half = len / 2;
			struct iovec iov[2] = { { b, half }, { b + half, len - half } };

			t_fill(b, len, 1, out);
			if (at_end)
				t_must(send(fd, b, len, 0) == (ssize_t)len, "%s: send of %zu", s_case, len);
			else
				t_must(writev(fd, iov, 2) == (ssize_t)len, "%s: writev of %zu", s_case, len);
			t_must(p_recv(p, 1, out, len) == (ssize_t)len, "%s: %zu arrive", s_case, len);
			out += len;

			p_send(p, 2, in, len);
			t_must(recv(fd, b, len, MSG_PEEK | MSG_WAITALL) > 0, "%s: peek at %zu", s_case, len);
			t_must(recv(fd, b, len, MSG_WAITALL) == (ssize_t)len, "%s: recv of %zu", s_case, len);
			t_must(t_wrong(b, len, 2, in) < 0, "%s: bytes of %zu", s_case, len);
			in += len;
		}
	}
	close(fd);
}

int main(void)
{
	s_each(sizes);
	return t_done();
}
