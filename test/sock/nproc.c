/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nproc.c - a server that gives up its privilege and the right to more processes, and with it to more threads, before it accepts
 *
 * ring: yes
 */
#include <grp.h>
#include <sys/resource.h>
#include "sock.h"

static void *nothing(void *arg)
{
	return arg;
}

static void serve(int lfd, bool by_prlimit)
{
	const struct rlimit none = { 0, 0 };
	pthread_t t;
	int fd;

	if (!geteuid())
		t_must(!setgroups(0, NULL) && !setgid(65534) && !setuid(65534), "another user");
	t_must(!(by_prlimit ? prlimit(0, RLIMIT_NPROC, &none, NULL) : setrlimit(RLIMIT_NPROC, &none)), "setrlimit");
	t_must(pthread_create(&t, NULL, nothing, NULL) == EAGAIN, "a thread could be made");
	fd = s_accept(lfd);
	for (uint64_t i = 0; i < 2000; i++) {
		t_must(s_recv_stream(fd, 1, i * 100, 100), "receive");
		t_must(s_send_stream(fd, 2, i * 100, 100), "send");
	}
	close(fd);
}

int main(void)
{
	if (getenv("T_SAN"))
		t_skip("the runtimes of sanitizers set limits before our definition may run");
	for (int i = 0; i < 2; i++) {
		struct s_addr a;
		int lfd = s_listen(AF_INET, &a), fd;
		pid_t pid = t_fork();

		if (!pid) {
			serve(lfd, i);
			t_child_exit();
		}
		close(lfd);
		fd = s_connect(&a);
		for (uint64_t n = 0; n < 2000; n++) {
			t_must(s_send_stream(fd, 1, n * 100, 100), "send");
			t_must(s_recv_stream(fd, 2, n * 100, 100), "receive");
		}
		t_eq(s_recv_all(fd, (char[1]){ 0 }, 1), 0, "end");
		close(fd);
		t_reap(pid);
	}
	return t_done();
}
