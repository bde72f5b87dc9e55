/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * whole.c - a small message that comes at any moment of a read comes whole
 *
 * A stream has no messages, and yet what is sent at once and fits into a segment is read at once from the kernel, and programs
 * have come to count on it.  A process reads; another one stops it at each of its system calls, by ptrace(), and sends then.
 *
 * ring: any
 * limit: 60
 */
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include "sock.h"

#define MESSAGE 60
#define STOPS_MAX 40		/* of one read: two at each system call */
#define OWN_STOPS 5		/* more than a read of the kernel's has */
#define CONNECTIONS (4 * STOPS_MAX)
#define MESSAGES 4		/* on each */

static struct shared {
	atomic_int result, reads;
} *shared;

static void tracee(int lfd)
{
	char buf[MESSAGE + 4];

	t_must(!ptrace(PTRACE_TRACEME, 0, NULL, NULL), "traced");
	for (int i = 0; i < CONNECTIONS; i++) {
		int fd = s_accept(lfd);
		ssize_t n;

		do {
			raise(SIGTRAP);		/* from here on we are stopped */
			n = recv(fd, buf, sizeof(buf), 0);
			shared->result = (int)n;
			shared->reads++;
		} while (n > 0);
		close(fd);
	}
}

/* Until it stops, with @sig; false: it sleeps. */
static bool stopped(pid_t pid, int sig)
{
	double end = t_now() + 10;
	int status;

	for (;;) {
		pid_t got = waitpid(pid, &status, WNOHANG);

		if (got == pid) {
			t_must(WIFSTOPPED(status), "it has ended: 0x%x", status);
			if (WSTOPSIG(status) == sig)
				return true;
			ptrace(PTRACE_CONT, pid, NULL, WSTOPSIG(status) & 0x80 ? 0 : WSTOPSIG(status));
		} else if (sig != SIGTRAP && s_asleep(pid)) {
			return false;
		}
		t_must(t_now() < end, "it neither stops nor sleeps");
	}
}

/* A process of its own, so that its first messages find the connection where it has just begun: on TCP. */
static void sender(const struct s_addr *a, int ctl)
{
	char message[MESSAGE] = "", c;
	int fd = s_connect(a);

	while (read(ctl, &c, 1) == 1) {
		t_must(send(fd, message, MESSAGE, 0) == MESSAGE, "send");
		t_must(write(ctl, &c, 1) == 1, "sent");
	}
	close(fd);
}

/* One read, and the message at its stop @k; false: it has not so many. */
static bool one(pid_t pid, int ctl, int k)
{
	int reads = shared->reads;
	bool so_many = true;
	char c = 0;

	for (int i = 0; i < k && so_many; i++) {
		t_must(!ptrace(PTRACE_SYSCALL, pid, NULL, 0), "on");
		so_many = stopped(pid, SIGTRAP | 0x80);
	}
	t_must(write(ctl, &c, 1) == 1 && read(ctl, &c, 1) == 1, "to send");
	if (so_many)
		t_must(!ptrace(PTRACE_CONT, pid, NULL, 0), "on");
	t_must(stopped(pid, SIGTRAP), "the next read");
	t_ok(shared->reads == reads + 1 && shared->result == MESSAGE, "a message at stop %d: a read of %d bytes", k, shared->result);
	return so_many;
}

int main(void)
{
	struct s_addr a;
	int lfd = s_listen(AF_INET, &a), most = 0;
	pid_t pid;

	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	t_must(shared != MAP_FAILED, "mmap");
	pid = t_fork();
	if (!pid) {
		tracee(lfd);
		t_child_exit();
	}
	for (int i = 0; i < CONNECTIONS; i++) {		/* each moves to the ring meanwhile, most with their first reads */
		int ctl[2];
		pid_t peer;

		t_must(!socketpair(AF_UNIX, SOCK_STREAM, 0, ctl), "socketpair");
		peer = t_fork();
		if (!peer) {
			close(ctl[0]);
			sender(&a, ctl[1]);
			t_child_exit();
		}
		close(ctl[1]);
		t_must(stopped(pid, SIGTRAP), "it does not begin");
		t_must(!ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD), "it does not outlive us");
		for (int j = 0; j < MESSAGES; j++)
			if (one(pid, ctl[0], i % STOPS_MAX) && i % STOPS_MAX > most)
				most = i % STOPS_MAX;
		close(ctl[0]);
		t_reap(peer);
		t_must(!ptrace(PTRACE_CONT, pid, NULL, 0), "on");
	}
	printf("at up to %d stops of a read\n", most);
	t_ok(most > (getenv("T_NTBSOCK") ? OWN_STOPS : 0), "it was stopped %d times at most: are these the library's reads?", most);
	ptrace(PTRACE_DETACH, pid, NULL, 0);
	t_reap(pid);
	return t_done();
}
