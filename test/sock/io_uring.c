/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * io_uring.c - in a preloaded process io_uring_setup through libc's syscall() fails with ENOSYS, unless the knob says not to
 *
 * ring: any
 */
#include <linux/io_uring.h>
#include <sys/syscall.h>
#include "sock.h"

static int setup(void)
{
	struct io_uring_params params = { 0 };
	int fd = (int)syscall(SYS_io_uring_setup, 4, &params);
	int err = fd < 0 ? errno : 0;

	if (fd >= 0)
		close(fd);
	return err;
}

/* The same without libc: what the kernel itself says. */
static int raw_setup(void)
{
	struct io_uring_params params = { 0 };
	long ret = SYS_io_uring_setup;

#ifdef __x86_64__
	__asm__ volatile("syscall" : "+a"(ret) : "D"(4l), "S"(&params) : "rcx", "r11", "memory");
#else
	t_skip("written for x86-64");
#endif
	if (ret >= 0)
		close((int)ret);
	return ret < 0 ? (int)-ret : 0;
}

int main(int argc, char **argv)
{
	int sv[2];
	pid_t pid;

	/* other system calls through the same door */
	t_eq(syscall(SYS_getpid), getpid(), "syscall(getpid)");
	t_ok(syscall(SYS_close, -1) == -1 && errno == EBADF, "syscall(close)");
	if (argc > 1 || !getenv("T_NTBSOCK")) {
		t_eq(setup(), raw_setup(), "as the kernel says");
		return t_done();
	}
	t_eq(setup(), ENOSYS, "io_uring_setup under the library");
	pid = t_fork();
	if (!pid) {
		setenv("NTBSOCK_IO_URING", "1", 1);
		execl("/proc/self/exe", argv[0], "restored", NULL);
		_exit(126);
	}
	t_reap(pid);
	s_pair(AF_INET, sv);
	t_must(s_send_stream(sv[0], 1, 0, 10) && s_recv_stream(sv[1], 1, 0, 10), "and sockets work");
	return t_done();
}
