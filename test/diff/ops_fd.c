// SPDX-License-Identifier: BSD-2-Clause
/*
 * ops_fd.c - descriptors that travel between processes, and calls that are not for sockets
 */
#include "ops.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

int64_t misfit(int fd, int which)
{
	struct iovec iov = { in, 1 };
	struct stat st;
	int p[2], saved;
	int64_t ret;
	void *mem;
	off_t off = 0;

	if (pipe2(p, O_CLOEXEC) || write(p[1], "x", 1) != 1)
		return -1;
	switch (which) {
	case 0: ret = tee(fd, p[1], 10, 0); break;
	case 1: ret = tee(p[0], fd, 10, 0); break;
	case 2: ret = vmsplice(fd, &iov, 1, 0); break;
	case 3: ret = copy_file_range(file, &off, fd, NULL, 10, 0); break;
	case 4: ret = copy_file_range(fd, NULL, file, &off, 10, 0); break;
	case 5: ret = pread(fd, in, 1, 0); break;
	case 6: ret = pwrite(fd, in, 1, 0); break;
	case 7: ret = lseek(fd, 0, SEEK_CUR); break;
	case 8: ret = ftruncate(fd, 0); break;
	case 9: ret = fsync(fd); break;
	case 10: ret = preadv2(fd, &iov, 1, 5, 0); break;
	case 11: ret = pwritev2(fd, &iov, 1, 5, 0); break;
	case 12: ret = sendfile(p[1], fd, NULL, 10); break;
	case 13: ret = posix_fadvise(fd, 0, 0, POSIX_FADV_NORMAL); break;
	case 14: ret = fstat(fd, &st) ? -1 : (int64_t)st.st_mode; break;
	case 15: ret = isatty(fd) - 1; break;
	case 16: ret = splice(fd, &off, p[1], NULL, 1, 0); break;
	case 17: ret = preadv(fd, &iov, 1, 0); break;
	default:
		mem = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
		ret = mem == MAP_FAILED ? -1 : munmap(mem, 4096);	/* as long as it is there the socket is open */
	}
	saved = errno;
	close(p[0]);
	close(p[1]);
	errno = saved;
	return ret;
}

int64_t do_give(int fd, int to)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { "d", 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) };
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(MAIL_FD + 2 * to + 1, &m, 0);
}

int do_take(int proc)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	int fd = -1;

	if (recvmsg(MAIL_FD + 2 * proc, &m, 0) < 0)
		return -1;
	if (!CMSG_FIRSTHDR(&m))
		errno = ENOMSG;
	else
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}
