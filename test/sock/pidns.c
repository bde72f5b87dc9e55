/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pidns.c - a child in a PID namespace of its own reads a socket that it shares with us, and is held up in the middle of it
 *
 * The memory that it reads into is not there: userfaultfd(2).  Its parent, to whom the number of that thread is nobody's,
 * waits for its turn, as in the kernel, and gets what follows.
 *
 * ring: most
 */
#include "sock.h"

#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define ROUNDS 100
#define PART 1000

static int faulted[2], go_on[2], got[2];	/* pipes */
static int uffd, shared;
static char *page;
static pid_t number;				/* of nobody here */

static void talk(int fd, uint64_t mine, uint64_t theirs)
{
	for (int i = getenv("T_WARM") ? 100 : 0; i > 0; i--) {
		t_must(s_send_stream(fd, 99, i, 1) && s_recv_stream(fd, 99, i, 1), "warming up");
		usleep(2000);
	}
	for (unsigned int i = 0; i < ROUNDS; i++) {
		t_must(s_send_stream(fd, mine, i * PART, PART), "send");
		t_must(s_recv_stream(fd, theirs, i * PART, PART), "receive");
	}
}

static void *hold_up(void *arg)
{
	struct uffdio_zeropage zero = { .range = { (uintptr_t)page, 4096 } };
	struct uffd_msg msg;
	char c = 0;

	t_must(read(uffd, &msg, sizeof(msg)) == sizeof(msg) && msg.event == UFFD_EVENT_PAGEFAULT, "page fault");
	t_must(write(faulted[1], &c, 1) == 1 && read(go_on[0], &c, 1) == 1, "pipes");
	t_ok(!ioctl(uffd, UFFDIO_ZEROPAGE, &zero), "page");
	return NULL;
}

static void *read_first(void *arg)
{
	bool it = syscall(SYS_gettid) == number;

	if (it) {
		t_eq(recv(shared, page, PART, 0), PART, "the child's part");
		t_eq(t_wrong(page, PART, 2, ROUNDS * PART), -1, "its bytes");
	}
	return it ? page : NULL;
}

static void child(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register all = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	pthread_t thread, reader;
	void *done = NULL;

	t_eq(getppid(), 0, "a namespace of its own");
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	all.range = (struct uffdio_range){ (uintptr_t)page, 4096 };
	t_must(page != MAP_FAILED && !ioctl(uffd, UFFDIO_API, &api) && !ioctl(uffd, UFFDIO_REGISTER, &all), "userfaultfd");
	t_must(!pthread_create(&thread, NULL, hold_up, NULL), "thread");
	for (int i = 0; i < 2 * number && !done; i++)
		t_must(!pthread_create(&reader, NULL, read_first, NULL) && !pthread_join(reader, &done), "thread");
	t_ok(done, "a thread of number %d", number);
	pthread_join(thread, NULL);
	t_child_exit();
}

static void *read_next(void *arg)
{
	uint8_t buf[PART];

	t_eq(recv(shared, buf, PART, 0), PART, "the parent's part");
	t_eq(t_wrong(buf, PART, 2, (ROUNDS + 1) * PART), -1, "its bytes");
	t_ok(write(got[1], buf, 1) == 1, "pipe");
	return NULL;
}

static void peer(int lfd)
{
	int fd = s_accept(lfd);
	char c;

	talk(fd, 2, 1);
	t_must(s_send_stream(fd, 2, ROUNDS * PART, 2 * PART), "both parts");
	t_eq(read(fd, &c, 1), 0, "the end");
	t_child_exit();
}

int main(void)
{
	struct s_addr a;
	int lfd = s_listen(AF_INET, &a), fd;
	pthread_t thread;
	pid_t other, pid;
	char c = 0;

	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0)
		t_skip("userfaultfd: %s", strerror(errno));
	close(uffd);
	other = t_fork();
	if (!other)
		peer(lfd);
	shared = fd = s_connect(&a);
	talk(fd, 1, 2);
	for (number = 300; !kill(number, 0) || errno != ESRCH; number++)
		;
	t_must(!pipe(faulted) && !pipe(go_on) && !pipe(got), "pipes");
	pid = (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid < 0 && errno == EPERM)
		t_skip("a PID namespace: %s", strerror(errno));
	t_must(pid >= 0, "clone");
	if (!pid) {
		uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
		child();
	}
	t_must(read(faulted[0], &c, 1) == 1, "the child reads");
	t_must(!pthread_create(&thread, NULL, read_next, NULL), "thread");
	/* whoever takes a dead owner's lock over looks for one each 50 ms */
	t_eq(poll(&(struct pollfd){ got[0], POLLIN, 0 }, 1, 400), 0, "nobody reads meanwhile");
	t_must(write(go_on[1], &c, 1) == 1, "pipe");
	pthread_join(thread, NULL);
	t_reap(pid);
	close(fd);
	t_reap(other);
	return t_done();
}
