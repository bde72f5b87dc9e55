/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * efault.c - a buffer that is not there: EFAULT, and the stream is as it was
 *
 * ring: yes
 */
#include <sys/mman.h>
#include "sock.h"

static void nowhere(struct peer *p, int fd)
{
	char *hole = mmap(NULL, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	t_must(hole != MAP_FAILED, "mmap");
	t_must(s_send_stream(fd, 1, 0, 100), "before");
	t_eq(p_recv(p, 1, 0, 100), 100, "%s: before", s_case);
	t_ok(send(fd, hole, 100, 0) == -1 && errno == EFAULT, "%s: send from nowhere", s_case);
	t_ok(write(fd, hole, 20000) == -1 && errno == EFAULT, "%s: write from nowhere", s_case);
	p_send(p, 2, 0, 100);
	t_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 5000), 1, "%s: there", s_case);
	t_ok(recv(fd, hole, 100, 0) == -1 && errno == EFAULT, "%s: recv to nowhere", s_case);
	t_must(s_recv_stream(fd, 2, 0, 100), "after EFAULT");
	t_must(s_send_stream(fd, 1, 100, 100), "after EFAULT");
	t_eq(p_recv(p, 1, 100, 100), 100, "%s: after EFAULT", s_case);
	munmap(hole, 65536);
	close(fd);
}

int main(void)
{
	s_each(nowhere);
	return t_done();
}
