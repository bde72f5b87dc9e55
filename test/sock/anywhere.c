/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * anywhere.c - a signal at each instruction of a call that is going to wait: it is heard of, or leaves the call by
 * siglongjmp(), and the connection is as good as before
 *
 * A process makes the calls; another steps it through them by ptrace() and puts the signal where it wants it.  Who is stepped
 * does not poll: that would be thousands of instructions that are all alike.
 *
 * ring: yes
 * limit: 120
 */
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include "sock.h"

#if defined(__x86_64__)

#define FIRST 100		/* instructions at the beginning and the end that are all tried; between them some */
#define LAST 40
#define STRIDE 53
#define MARK_MAX 250		/* by then the call has begun: most of it is our own way there */
#define STEPS_MAX 20000

enum call { RECV, POLL, EPOLL, CALLS };
static const char *const names[] = { "recv", "poll", "epoll_wait" };

static struct shared {
	atomic_int call, jump;		/* orders */
	atomic_int result, error, hits, good;
} *shared;

static sigjmp_buf out;

static void handler(int sig)
{
	shared->hits++;
	if (shared->jump)
		siglongjmp(out, 1);
}

/* -------------------------------------------------------- who makes the calls */

static __attribute__((noinline)) void one_call(int fd, int ep)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	struct epoll_event ev;
	char c;

	if (sigsetjmp(out, 1)) {
		shared->result = -2;
		return;
	}
	raise(SIGTRAP);			/* from here on we are stepped */
	switch (shared->call) {
	case RECV: shared->result = (int)recv(fd, &c, 1, 0); break;
	case POLL: shared->result = poll(&pfd, 1, -1); break;
	default: shared->result = epoll_wait(ep, &ev, 1, -1);
	}
	shared->error = errno;
}

/* What the kernel has received: the library shows the program one stream, so the kernel is asked past it. */
static uint64_t by_tcp(int fd)
{
	uint64_t ti[32] = { 0 };	/* struct tcp_info of linux/tcp.h, longer than glibc's */
	socklen_t len = sizeof(ti);
	register socklen_t *r8 __asm__("r8") = &len;
	register uint64_t *r10 __asm__("r10") = ti;
	long ret;

	__asm__ volatile("syscall" : "=a"(ret)
			 : "0"(SYS_getsockopt), "D"(fd), "S"(IPPROTO_TCP), "d"(TCP_INFO), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	t_must(!ret, "TCP_INFO: %ld", ret);
	return ti[16];	/* tcpi_bytes_received */
}

static void tracee(void)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct sigaction sa = { .sa_handler = handler };
	int sv[2], ep = epoll_create1(0);
	uint64_t before = 0, now;
	double end;

	s_pair(AF_INET, sv);
	t_must(ep >= 0 && !epoll_ctl(ep, EPOLL_CTL_ADD, sv[0], &ev), "epoll");
	end = t_now() + 5;
	for (uint64_t i = 0; before != (now = by_tcp(sv[0]) + by_tcp(sv[1])) || i < 20; i++) {
		t_must(t_now() < end, "it does not move to the ring");
		before = now;
		t_must(s_send_stream(sv[1], 1, i, 1) && s_recv_stream(sv[0], 1, i, 1), "warming up");
		t_must(s_send_stream(sv[0], 1, i, 1) && s_recv_stream(sv[1], 1, i, 1), "warming up");
	}
	sigaction(SIGUSR1, &sa, NULL);
	t_must(!ptrace(PTRACE_TRACEME, 0, NULL, NULL), "traced");
	for (uint64_t i = 0; shared->call >= 0; i++) {
		one_call(sv[0], ep);
		shared->good = s_send_stream(sv[1], 2, i, 1) && s_recv_stream(sv[0], 2, i, 1) &&
			       s_send_stream(sv[0], 3, i, 200) && s_recv_stream(sv[1], 3, i, 200);
	}
	close(sv[0]);
	close(sv[1]);
	close(ep);
}

/* ---------------------------------------------------------------- who steps */

static pid_t child;

/* Waits until it stops at its mark; false: it has had its signal and sleeps. */
static bool at_the_mark(void)
{
	double end = t_now() + 5;
	int status = 0;

	for (;;) {
		pid_t got = waitpid(child, &status, WNOHANG);

		if (got == child) {
			t_must(WIFSTOPPED(status), "it has ended: 0x%x", status);
			if (WSTOPSIG(status) == SIGTRAP)
				return true;
			ptrace(PTRACE_CONT, child, NULL, WSTOPSIG(status));
			continue;
		}
		if (shared->hits && s_asleep(child))
			return false;
		t_must(t_now() < end, "it neither stops nor sleeps");
		usleep(20);
	}
}

static void step(void)
{
	int status;

	t_must(!ptrace(PTRACE_SINGLESTEP, child, NULL, 0), "step");
	t_must(waitpid(child, &status, 0) == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP, "step: 0x%x", status);
}

/* At the system call in which it is going to sleep, without a time limit? */
static bool about_to_sleep(unsigned long *pc)
{
	struct user_regs_struct r;

	t_must(!ptrace(PTRACE_GETREGS, child, NULL, &r), "registers");
	*pc = r.rip;
	if (r.rax == SYS_futex)
		return (r.rsi & 127) == 9 && !r.r10 && (ptrace(PTRACE_PEEKTEXT, child, r.rip, NULL) & 0xffff) == 0x050f;
	if (r.rax == SYS_ppoll)
		return !r.rdx && (ptrace(PTRACE_PEEKTEXT, child, r.rip, NULL) & 0xffff) == 0x050f;
	return r.rax == SYS_epoll_pwait2 && !r.r10 && (ptrace(PTRACE_PEEKTEXT, child, r.rip, NULL) & 0xffff) == 0x050f;
}

/* Out of the call in which it sleeps. */
static void wake(void)
{
	shared->hits = 0;
	kill(child, SIGUSR1);
	t_must(at_the_mark(), "it does not wake up");
}

/* The signal after @k instructions, or at the sleep if a call takes fewer than the first did; true if it has ended the call. */
static bool heard(int k, unsigned long *pc)
{
	bool ended;

	shared->hits = shared->result = shared->error = 0;
	for (int i = 0; !about_to_sleep(pc) && i < k; i++)
		step();
	t_must(!ptrace(PTRACE_CONT, child, NULL, SIGUSR1), "on");
	ended = at_the_mark();
	if (!ended)
		wake();
	return ended;
}

static void try_all(enum call call, bool jump)
{
	int n = 0, first = -1, tried = 0;
	unsigned long pc;

	shared->call = call;
	shared->jump = jump;
	/* the previous round has left it at the mark, with the previous order */
	t_must(!ptrace(PTRACE_CONT, child, NULL, 0), "on");
	shared->hits = 1;
	if (!at_the_mark())
		wake();
	while (!about_to_sleep(&pc) && n < STEPS_MAX) {
		step();
		n++;
	}
	t_must(n < STEPS_MAX, "%s does not come to its system call", names[call]);
	t_must(!ptrace(PTRACE_CONT, child, NULL, SIGUSR1) && at_the_mark(), "a signal at the system call");
	for (int k = 0; k <= n; k += k < FIRST || k >= n - LAST ? 1 : n - LAST - k < STRIDE ? n - LAST - k : STRIDE) {
		bool ended = heard(k, &pc);

		tried++;
		t_ok(shared->good, "%s: the connection after a signal at instruction %d (%lx)", names[call], k, pc);
		if (first < 0 && (ended || jump))
			first = k;
		if (first < 0)
			continue;	/* the call has not begun */
		t_ok(ended && (jump ? shared->result == -2 : shared->result == -1 && shared->error == EINTR),
		     "%s: a signal at instruction %d of %d (%lx): result %d, %d handlers", names[call], k, n, pc, shared->result,
		     shared->hits);
	}
	t_ok(first >= 0 && first < MARK_MAX, "%s: signals are heard of from instruction %d on", names[call], first);
	printf("%s%s: %d of %d instructions, from %d on\n", names[call], jump ? ", left" : "", tried, n, first);
}

int main(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	t_skip("the instructions of sanitizers are too many");
#endif
	if (!getenv("T_NTBSOCK") || !getenv("T_WARM"))
		t_skip("the kernel's own calls cannot be stepped through");
	if (!getenv("NTBSOCK_POLL_US")) {	/* read when a process begins */
		setenv("NTBSOCK_POLL_US", "0", 1);
		execl("/proc/self/exe", "anywhere", NULL);
		t_must(false, "exec");
	}
	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	t_must(shared != MAP_FAILED, "mmap");
	child = t_fork();
	if (!child) {
		tracee();
		t_child_exit();
	}
	t_must(at_the_mark(), "it does not begin");
	t_must(!ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_EXITKILL), "it does not outlive us");
	for (enum call call = 0; call < CALLS; call++) {
		try_all(call, false);
		try_all(call, true);
	}
	shared->call = -1;
	ptrace(PTRACE_DETACH, child, NULL, SIGUSR1);
	t_reap(child);
	return t_done();
}

#else

int main(void)
{
	t_skip("steps through x86-64 only");
}

#endif
