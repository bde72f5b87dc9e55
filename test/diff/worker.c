// SPDX-License-Identifier: BSD-2-Clause
/*
 * worker.c - a process of a world: each of its threads takes orders from a channel of its own
 *
 * The channels are AF_UNIX sockets with high numbers, made by the driver and inherited by all processes; they are read
 * and written by system calls, so that nothing of the library under test is between.  The driver's end of a channel is closed
 * when the world is to end; a world does not outlive its driver either.
 */
#include "ops.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int self;

static long raw3(long nr, long a, long b, long c)
{
	long ret;

	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return ret;
}

/*
 * SIGIO and SIGURG go to the first thread, unless one is pending there that it has had no time for: then to any, whose call ends
 * by chance (kernel/signal.c, complete_signal()).  Nor to a new image before it has its handlers: that would be its end.
 */
void tell_here(bool here)
{
	sigset_t told;

	sigemptyset(&told);
	sigaddset(&told, SIGIO);
	sigaddset(&told, SIGURG);
	pthread_sigmask(here ? SIG_UNBLOCK : SIG_BLOCK, &told, NULL);
}

static void *serve(void *arg)
{
	int thr = (int)(long)arg, chan = CHANNEL_FD + self * THREADS + thr;
	struct answer a = { .step = ~0u, .tid = (int)syscall(SYS_gettid), .pid = getpid(), .nr = 1, .v = { slots_open() } };
	struct order o;
	long n;

	tell_here(!thr);
	raw3(SYS_write, chan, (long)&a, sizeof(a));
	for (;;) {
		n = raw3(SYS_read, chan, (long)&o, sizeof(o));
		if (n == -EINTR)
			continue;
		if (n != sizeof(o))
			_exit(0);
		a = (struct answer){ .step = o.step, .ask = o.ask };
		op_run(&o, &a);
		raw3(SYS_write, chan, (long)&a, sizeof(a));
	}
}

static void start_threads(void)
{
	for (long i = 1; i < THREADS; i++) {
		pthread_t t;

		if (pthread_create(&t, NULL, serve, (void *)i))
			abort();
	}
}

void worker_after_fork(int proc)
{
	self = proc;
	start_threads();
	serve(NULL);
}

/* --worker PROCESS, and after exec the descriptors of its slots and the order that is answered by it. */
int worker_main(int argc, char **argv)
{
	self = atoi(argv[2]);
	op_init();
	if (argc > 3)
		slots_take(argv[3]);
	if (argc > 6) {
		struct answer a = { .step = atoi(argv[4]), .ask = strtoul(argv[5], NULL, 10) };

		raw3(SYS_write, CHANNEL_FD + self * THREADS + atoi(argv[6]), (long)&a, sizeof(a));
	}
	start_threads();
	serve(NULL);
	return 0;
}
