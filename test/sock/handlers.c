/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handlers.c - sigaction() and its relatives keep their word, and a handler may make any call on the sockets whose calls
 * it interrupts
 *
 * ring: yes
 */
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include "sock.h"

static atomic_int hits;
static atomic_int last_sig, last_value, last_code;
static _Atomic uintptr_t where, context_pc, context_sp;
static sigset_t seen_mask;

static void plain(int sig)
{
	hits++;
	last_sig = sig;
	where = (uintptr_t)__builtin_frame_address(0);
	pthread_sigmask(SIG_SETMASK, NULL, &seen_mask);
}

static void other(int sig)
{
	hits += 100;
}

static void informed(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	plain(sig);
	last_value = info->si_value.sival_int;
	last_code = info->si_code;
#ifdef __x86_64__
	context_pc = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
	context_sp = (uintptr_t)uc->uc_mcontext.gregs[REG_RSP];
#endif
}

static void set(int sig, void *h, int flags, int in_mask)
{
	struct sigaction sa = { .sa_flags = flags };

	sa.sa_sigaction = h;
	if (in_mask)
		sigaddset(&sa.sa_mask, in_mask);
	t_ok(!sigaction(sig, &sa, NULL), "sigaction");
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"	/* siginterrupt, sigset */
static void what_is_set(void)
{
	struct sigaction sa;

	set(SIGUSR1, informed, SA_SIGINFO | SA_RESTART | SA_NODEFER, SIGUSR2);
	t_ok(!sigaction(SIGUSR1, NULL, &sa) && sa.sa_sigaction == informed, "the handler that was set");
	t_eq(sa.sa_flags & ~0x04000000, SA_SIGINFO | SA_RESTART | SA_NODEFER, "its flags");
	t_ok(sigismember(&sa.sa_mask, SIGUSR2) == 1 && sigismember(&sa.sa_mask, SIGUSR1) == 0, "its mask");
	set(SIGUSR1, plain, SA_RESETHAND, 0);
	t_ok(!sigaction(SIGUSR1, NULL, &sa) && sa.sa_handler == plain, "the handler that was set");
	t_eq(sa.sa_flags & ~0x04000000, (int)SA_RESETHAND, "its flags");
	t_ok(signal(SIGUSR1, other) == plain, "signal() tells what was before");
	t_ok(!sigaction(SIGUSR1, NULL, &sa) && sa.sa_handler == other && (sa.sa_flags & SA_RESTART), "signal() restarts");
	t_ok(!siginterrupt(SIGUSR1, 1) && !sigaction(SIGUSR1, NULL, &sa) && sa.sa_handler == other, "siginterrupt");
	t_ok(!(sa.sa_flags & SA_RESTART), "siginterrupt");
	t_ok(signal(SIGUSR1, plain) == other && !sigaction(SIGUSR1, NULL, &sa) && !(sa.sa_flags & SA_RESTART),
	     "signal() after siginterrupt()");
	t_ok(!siginterrupt(SIGUSR1, 0) && signal(SIGUSR1, SIG_IGN) == plain && signal(SIGUSR1, SIG_DFL) == SIG_IGN, "signal");
	t_ok(signal(SIGUSR1, plain) == SIG_DFL && signal(SIGKILL, plain) == SIG_ERR && errno == EINVAL, "signal");
	t_ok(sigaction(32, NULL, &sa) == -1 && errno == EINVAL, "the C library's own signals");
	for (int i = 0; i < 20; i++) {		/* more changes than anybody has places for */
		t_ok(signal(SIGUSR1, i & 1 ? plain : other) == (i & 1 ? other : plain), "change %d", i);
		hits = 0;
		raise(SIGUSR1);
		t_eq(hits, i & 1 ? 1 : 100, "the handler that was set last");
	}
	t_ok(sysv_signal(SIGUSR1, other) == plain, "sysv_signal");
	hits = 0;
	raise(SIGUSR1);
	t_ok(hits == 100 && signal(SIGUSR1, plain) == SIG_DFL, "sysv_signal() is for one time");
	t_ok(sigset(SIGUSR1, other) == plain && sigset(SIGUSR1, SIG_HOLD) == other && sigset(SIGUSR1, plain) == SIG_HOLD, "sigset");
}
#pragma GCC diagnostic pop

static char alt[65536];

static void what_runs(void)
{
	sigset_t before, after;
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof(alt) };

	pthread_sigmask(SIG_SETMASK, NULL, &before);
	set(SIGUSR1, informed, SA_SIGINFO, SIGTERM);
	hits = 0;
	sigqueue(getpid(), SIGUSR1, (union sigval){ .sival_int = 4711 });
	t_ok(hits == 1 && last_sig == SIGUSR1 && last_value == 4711 && last_code == SI_QUEUE, "what came with the signal");
	t_ok(sigismember(&seen_mask, SIGUSR1) && sigismember(&seen_mask, SIGTERM) && !sigismember(&seen_mask, SIGUSR2), "mask");
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	t_ok(!memcmp(&before, &after, 8), "mask afterwards");
#ifdef __x86_64__
	t_ok(context_sp > (uintptr_t)where && context_sp - (uintptr_t)where < 65536, "the context is that of the interrupted code");
#endif
	set(SIGUSR1, informed, SA_SIGINFO | SA_NODEFER, 0);
	raise(SIGUSR1);
	t_ok(hits == 2 && !sigismember(&seen_mask, SIGUSR1), "SA_NODEFER");
	set(SIGUSR1, plain, SA_RESETHAND, 0);
	raise(SIGUSR1);
	t_ok(hits == 3 && signal(SIGUSR1, SIG_IGN) == SIG_DFL, "SA_RESETHAND");
	t_ok(!sigaltstack(&ss, NULL), "sigaltstack");
	set(SIGUSR1, informed, SA_SIGINFO | SA_ONSTACK, 0);
	raise(SIGUSR1);
	t_ok(where > (uintptr_t)alt && where < (uintptr_t)(alt + sizeof(alt)), "SA_ONSTACK");
	t_ok(!sigaltstack(&(stack_t){ .ss_flags = SS_DISABLE }, NULL), "sigaltstack");
	/* realtime signals: each comes, in order */
	set(SIGRTMIN + 1, informed, SA_SIGINFO, 0);
	hits = 0;
	for (int i = 0; i < 3; i++)
		sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = i });
	t_ok(hits == 3 && last_value == 2, "realtime");
}

static void by_number(void)
{
	struct {
		void *handler;
		unsigned long flags;
		void *restorer;
		uint64_t mask;
	} was, now;

	set(SIGUSR1, informed, SA_SIGINFO, 0);
	t_ok(!syscall(SYS_rt_sigaction, SIGUSR1, NULL, &was, 8), "rt_sigaction");
	t_ok(was.handler == (void *)informed && (was.flags & SA_SIGINFO), "rt_sigaction tells the program's handler");
	now = was;
	now.handler = other;
	now.flags &= ~(unsigned long)SA_SIGINFO;
	t_ok(!syscall(SYS_rt_sigaction, SIGUSR1, &now, &was, 8) && was.handler == (void *)informed, "rt_sigaction");
	hits = 0;
	raise(SIGUSR1);
	t_eq(hits, 100, "set by number");
	t_ok(signal(SIGUSR1, SIG_DFL) == other, "and seen by name");
}

/* A child inherits handlers; another image does not. */
static void children(void)
{
	pid_t pid;

	set(SIGUSR1, plain, 0, 0);
	pid = t_fork();
	if (!pid) {
		hits = 0;
		raise(SIGUSR1);
		t_ok(hits == 1 && signal(SIGUSR1, SIG_DFL) == plain, "inherited");
		t_child_exit();
	}
	t_reap(pid);
	t_ok(signal(SIGUSR1, plain) == plain, "still there");
}

/* --------------------------------------------- calls within calls */

static int both[2], shared_ep;
static atomic_uint from_handler, rounds;
static atomic_int stop;

/* What a handler may do to a socket and a set, and leaves them as they were. */
static void anything(int fd)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT, .data.fd = fd };
	struct pollfd pfd = { .fd = fd, .events = POLLIN | POLLOUT };
	int saved = errno, n, d;
	char c[16];

	t_ok(!ioctl(fd, FIONREAD, &n) && n >= 0, "FIONREAD");
	t_ok(poll(&pfd, 1, 0) >= 0, "poll");
	t_ok(recv(fd, c, sizeof(c), MSG_PEEK | MSG_DONTWAIT) >= 0 || errno == EAGAIN, "peek");
	d = dup(fd);
	t_ok(d >= 0, "dup");
	t_ok(!epoll_ctl(shared_ep, EPOLL_CTL_ADD, d, &ev), "add");
	t_ok(epoll_wait(shared_ep, &ev, 1, 0) >= 0, "epoll_wait");
	t_ok(!epoll_ctl(shared_ep, EPOLL_CTL_MOD, d, &ev), "mod");
	t_ok(!epoll_ctl(shared_ep, EPOLL_CTL_DEL, d, &ev), "del");
	t_ok(!close(d), "close");
	errno = saved;
}

static void send_one(int fd, int tag)
{
	uint64_t rec[2] = { 0x1122334455667788, (uint64_t)tag };

	t_ok(send(fd, rec, sizeof(rec), MSG_NOSIGNAL) == sizeof(rec), "send");
}

static void busy_handler(int sig)
{
	int saved = errno;

	from_handler++;
	if (sig == SIGUSR2)
		send_one(both[0], 2);
	anything(both[0]);
	anything(both[1]);
	errno = saved;
}

static pthread_t main_thread;

static void *storm(void *arg)
{
	uint64_t r = t_seed() + 1;

	while (!stop) {
		pthread_kill(main_thread, SIGUSR1);
		usleep(20 + t_rand_r(&r) % 80);
	}
	return NULL;
}

/* The thread that is hit does what its handler does. */
static void nested(struct peer *p, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };
	uint64_t rec[2];
	double end;
	pthread_t t;

	if (p->pid) {
		close(fd);
		return;
	}
	both[0] = fd;
	both[1] = p->fd;
	shared_ep = epoll_create1(0);
	t_must(shared_ep >= 0 && !epoll_ctl(shared_ep, EPOLL_CTL_ADD, p->fd, &ev), "epoll");
	stop = 0;
	from_handler = rounds = 0;
	set(SIGUSR1, busy_handler, SA_RESTART, 0);
	set(SIGUSR2, busy_handler, SA_RESTART, 0);
	t_must(!pthread_create(&t, NULL, storm, NULL), "thread");
	for (end = t_now() + 0.25; t_now() < end || !from_handler; rounds++) {
		unsigned sent = 0, got = 0;

		send_one(fd, 1);
		sent++;
		if (rounds % 16 == 0) {		/* one from a handler, in the middle of anything */
			raise(SIGUSR2);
			sent++;
		}
		while (got < sent) {
			ssize_t n = recv(p->fd, rec, sizeof(rec), MSG_WAITALL);

			t_must(n == -1 ? errno == EINTR : n == sizeof(rec), "recv gives %zd", n);
			if (n < 0)
				continue;
			t_eq(rec[0], 0x1122334455667788, "a record is whole");
			got++;
		}
		anything(fd);
		anything(p->fd);
	}
	stop = 1;
	pthread_join(t, NULL);
	t_ok(from_handler > 10, "%s: %u handlers in %u rounds", s_case, from_handler, rounds);
	close(shared_ep);
	close(fd);
}

int main(void)
{
#ifdef __SANITIZE_THREAD__
	t_skip("ThreadSanitizer calls handlers itself, when and how it likes, and has its own in the kernel");
#endif
	main_thread = pthread_self();
	what_is_set();
	what_runs();
	by_number();
	children();
	s_each(nested);
	return t_done();
}
