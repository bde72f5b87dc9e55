/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sandbox.c - a program that goes into a seccomp sandbox goes on with read and write, and dies of no system call of ours
 *
 * ring: yes
 */
#include "sock.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define ALLOW(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static bool sandbox(bool by_number)
{
	static struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(SYS_read),
		ALLOW(SYS_write),
		ALLOW(SYS_close),
		ALLOW(SYS_exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	static const struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return false;
	/* TSYNC: for threads that are already there, too */
	if (by_number)
		return !syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog);
	return !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0);
}

static bool xfer(int fd, char *buf, size_t len, bool out)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = out ? write(fd, buf + done, len - done) : read(fd, buf + done, len - done);

		if (n <= 0)
			return false;
		done += n;
	}
	return true;
}

/* The child echoes: before the filter, with bytes under way, and behind it. */
static void echo(bool by_number, bool we_connect)
{
	static char buf[30000];
	struct peer p;
	char go = 0;
	int fd, pipes[2];
	pid_t pid;

	snprintf(s_case, sizeof(s_case), "%s, we_connect %d", by_number ? "seccomp()" : "prctl()", we_connect);
	t_must(!pipe(pipes), "pipe");
	fd = s_peer(&p, AF_INET, true, we_connect);
	s_warm(&p, fd);
	pid = t_fork();
	if (!pid) {
		bool ok = xfer(fd, buf, 10000, false) && xfer(fd, buf, 10000, true) && read(pipes[0], &go, 1) == 1 &&
			  sandbox(by_number) && xfer(fd, buf, 30000, false) && xfer(fd, buf, 30000, true);

		_exit(!ok);
	}
	close(fd);
	p_send(&p, 1, 0, 10000);
	t_eq(p_recv(&p, 1, 0, 10000), 10000, "%s: before", s_case);
	p_send(&p, 1, 10000, 20000);
	t_must(write(pipes[1], &go, 1) == 1, "go");
	p_send(&p, 1, 30000, 10000);
	t_eq(p_recv(&p, 1, 10000, 40000), 30000, "%s: behind the filter, then EOF", s_case);
	t_reap(pid);
	close(pipes[0]);
	close(pipes[1]);
	p_end(&p);
}

int main(void)
{
	if (getenv("T_SAN"))
		t_skip("sanitizers make system calls of their own");
	for (int i = 0; i < 4; i++)
		echo(i & 1, i & 2);
	return t_done();
}
