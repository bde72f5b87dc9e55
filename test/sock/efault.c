/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * efault.c - buffers that are not there: EFAULT, nothing lost, no handler called; faults of the program's own are what they
 * were
 *
 * ring: yes
 */
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include "sock.h"

#define PAGE 4096
#define AREA (64 * PAGE)

static char *area;		/* AREA bytes that can be used */
static char *hole;		/* behind it a page that cannot */
static char *constant;		/* a page that can only be read */
static atomic_int segv;
static void *_Atomic segv_at;
static sigjmp_buf back;

static void on_segv(int sig, siginfo_t *info, void *context)
{
	segv++;
	segv_at = info->si_addr;
	siglongjmp(back, 1);
}

static uint64_t tx, rx;		/* positions of the streams: 1 to us, 2 from us */

static void bad_recv(struct peer *p, int fd, size_t len, void *buf, const char *what)
{
	ssize_t n;

	p_send(p, 1, rx, len);
	t_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 5000), 1, "%s: there", s_case);
	n = recv(fd, buf, len, 0);
	t_ok(n == -1 && errno == EFAULT, "%s: %zu bytes into %s give %zd", s_case, len, what, n);
	t_must(s_recv_stream(fd, 1, rx, len), "%s: they are still there", s_case);
	rx += len;
}

static void bad_send(struct peer *p, int fd, size_t len, const void *buf, const char *what)
{
	ssize_t n = send(fd, buf, len, MSG_NOSIGNAL);

	t_ok(n == -1 && errno == EFAULT, "%s: %zu bytes from %s give %zd", s_case, len, what, n);
	t_must(s_send_stream(fd, 2, tx, len), "%s: sent", s_case);
	t_eq(p_recv(p, 2, tx, len), len, "%s: only what was sent has come", s_case);
	tx += len;
}

static const size_t sizes[] = { 1, 5, 12, 20, 54, 55, 100, 116, 117, 1000, 16000, 40000 };
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* A buffer of which the end is missing: all, some or EFAULT, and the stream goes on where the result says. */
static void half(struct peer *p, int fd, size_t len, size_t good)
{
	ssize_t n;

	p_send(p, 1, rx, len);
	t_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 5000), 1, "%s: there", s_case);
	n = recv(fd, hole - good, len, 0);
	t_ok(n == -1 ? errno == EFAULT : n > 0 && (size_t)n <= good, "%s: %zu bytes into %zu give %zd", s_case, len, good, n);
	if (n > 0)
		t_eq(t_wrong(hole - good, (size_t)n, 1, rx), -1, "%s: half", s_case);
	t_must(s_recv_stream(fd, 1, rx + (n > 0 ? (size_t)n : 0), len - (n > 0 ? (size_t)n : 0)), "%s: the rest", s_case);
	rx += len;

	t_fill(hole - good, good, 2, tx);
	n = send(fd, hole - good, len, MSG_NOSIGNAL);
	t_ok(n == -1 ? errno == EFAULT : n > 0 && (size_t)n <= good, "%s: %zu bytes from %zu give %zd", s_case, len, good, n);
	if (n > 0) {
		t_eq(p_recv(p, 2, tx, (size_t)n), n, "%s: what was sent", s_case);
		tx += (size_t)n;
	}
	t_must(s_send_stream(fd, 2, tx, 10), "%s: more", s_case);
	t_eq(p_recv(p, 2, tx, 10), 10, "%s: more", s_case);
	tx += 10;
}

static void vectors(struct peer *p, int fd)
{
	struct iovec iov[2] = { { area, 10 }, { hole, 10 } };
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = 2 };
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	int ep = epoll_create1(0);
	ssize_t n;

	p_send(p, 1, rx, 20);
	t_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 5000), 1, "%s: there", s_case);
	n = readv(fd, iov, 2);
	t_ok(n == -1 && errno == EFAULT, "%s: readv gives %zd", s_case, n);
	n = recvmsg(fd, &mh, 0);
	t_ok(n == -1 && errno == EFAULT, "%s: recvmsg gives %zd", s_case, n);
	n = readv(fd, (struct iovec *)(void *)hole, 2);
	t_ok(n == -1 && errno == EFAULT, "%s: readv without a vector gives %zd", s_case, n);
	n = recvmsg(fd, (struct msghdr *)(void *)hole, 0);
	t_ok(n == -1 && errno == EFAULT, "%s: recvmsg without a header gives %zd", s_case, n);
	n = ioctl(fd, FIONREAD, hole);
	t_ok(n == -1 && errno == EFAULT, "%s: FIONREAD gives %zd", s_case, n);
	n = poll((struct pollfd *)(void *)hole, 1, 0);
	t_ok(n == -1 && errno == EFAULT, "%s: poll gives %zd", s_case, n);
	n = select(fd + 1, (fd_set *)(void *)hole, NULL, NULL, &(struct timeval){ 0, 0 });
	t_ok(n == -1 && errno == EFAULT, "%s: select gives %zd", s_case, n);
	n = select(fd + 1, NULL, NULL, (fd_set *)(void *)hole, NULL);
	t_ok(n == -1 && errno == EFAULT, "%s: select gives %zd", s_case, n);
	/* answers into memory that can only be read */
	mprotect(constant, PAGE, PROT_READ | PROT_WRITE);
	*(struct pollfd *)(void *)constant = (struct pollfd){ .fd = fd, .events = POLLIN };
	mprotect(constant, PAGE, PROT_READ);
	n = poll((struct pollfd *)(void *)constant, 1, 0);
	t_ok(n == -1 && errno == EFAULT, "%s: poll into constants gives %zd", s_case, n);
	t_ok(!epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), "%s: epoll_ctl", s_case);
	n = epoll_wait(ep, (struct epoll_event *)(void *)hole, 1, 0);
	t_ok(n == -1 && errno == EFAULT, "%s: epoll_wait into a hole gives %zd", s_case, n);
	n = epoll_wait(ep, (struct epoll_event *)(void *)(hole - sizeof(struct epoll_event) + 1), 4, -1);
	t_ok(n == -1 && errno == EFAULT, "%s: epoll_wait into half a place gives %zd", s_case, n);
	n = epoll_wait(ep, &ev, 1, 0);
	t_ok(n == 1 && ev.events == EPOLLIN, "%s: epoll_wait: the edge is still there: %zd, %x", s_case, n, ev.events);
	close(ep);
	n = recvmmsg(fd, (struct mmsghdr *)(void *)hole, 1, MSG_DONTWAIT, NULL);
	t_ok(n == -1 && errno == EFAULT, "%s: recvmmsg gives %zd", s_case, n);
	n = sendmmsg(fd, (struct mmsghdr *)(void *)hole, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	t_ok(n == -1 && errno == EFAULT, "%s: sendmmsg gives %zd", s_case, n);
	/* what is not needed need not be there */
	iov[0].iov_len = 20;
	t_eq(readv(fd, iov, 2), 20, "%s: the first is enough", s_case);
	t_eq(t_wrong(area, 20, 1, rx), -1, "%s: readv", s_case);
	rx += 20;
	iov[0].iov_len = 10;
	n = writev(fd, iov, 2);
	t_ok(n == -1 && errno == EFAULT, "%s: writev gives %zd", s_case, n);
	n = sendmsg(fd, &mh, MSG_NOSIGNAL);
	t_ok(n == -1 && errno == EFAULT, "%s: sendmsg gives %zd", s_case, n);
	n = writev(fd, (struct iovec *)(void *)hole, 2);
	t_ok(n == -1 && errno == EFAULT, "%s: writev without a vector gives %zd", s_case, n);
	n = sendmsg(fd, (struct msghdr *)(void *)hole, MSG_NOSIGNAL);
	t_ok(n == -1 && errno == EFAULT, "%s: sendmsg without a header gives %zd", s_case, n);
}

static void buffers(struct peer *p, int fd)
{
	struct sigaction sa = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO };

	s_nodelay_(fd);
	tx = rx = 0;
	segv = 0;
	for (int with_handler = 0; with_handler < 2; with_handler++) {
		for (size_t i = 0; i < SIZES; i++) {
			bad_recv(p, fd, sizes[i], NULL, "nothing");
			bad_recv(p, fd, sizes[i], hole, "a hole");
			bad_recv(p, fd, sizes[i], constant, "constants");
			bad_send(p, fd, sizes[i], NULL, "nothing");
			bad_send(p, fd, sizes[i], hole, "a hole");
			if (sizes[i] > 1)
				half(p, fd, sizes[i], sizes[i] - 1);
			if (sizes[i] > 8)
				half(p, fd, sizes[i], 4);
		}
		half(p, fd, 200000, AREA - 5);
		half(p, fd, 200000, 100000);
		vectors(p, fd);
		sigaction(SIGSEGV, &sa, NULL);
	}
	t_eq(segv, 0, "%s: the program's handler is not called for it", s_case);
	signal(SIGSEGV, SIG_DFL);
	t_must(s_send_stream(fd, 2, tx, 100000), "%s: the connection is as good as before", s_case);
	t_eq(p_recv(p, 2, tx, 100000), 100000, "%s: received", s_case);
	close(fd);
}

static void dies_of(int sig, void (*how)(void), const char *what)
{
	int status = 0;
	pid_t pid = t_fork();

	if (!pid) {
		how();
		_exit(0);
	}
	t_ok(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == sig, "%s: status 0x%x", what, status);
}

static void touch(void)
{
	*(volatile char *)hole = 1;
}

static void touch_ignoring(void)
{
	signal(SIGSEGV, SIG_IGN);
	raise(SIGSEGV);		/* a signal that is sent can be ignored, a fault cannot */
	touch();
}

static void be_sent(void)
{
	raise(SIGSEGV);
}

static void be_sent_bus(void)
{
	kill(getpid(), SIGBUS);
}

/* In a process whose library has caught something before. */
static void own_faults(struct peer *p, int fd)
{
	struct sigaction sa = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_NODEFER }, was;

	t_ok(send(fd, hole, 10, 0) == -1 && errno == EFAULT, "%s: EFAULT", s_case);
	t_ok(!sigaction(SIGSEGV, NULL, &was) && was.sa_handler == SIG_DFL, "%s: nothing is set", s_case);
	t_ok(signal(SIGBUS, SIG_DFL) == SIG_DFL, "%s: nothing is set", s_case);
	dies_of(SIGSEGV, touch, "a fault");
	dies_of(SIGSEGV, touch_ignoring, "a fault, ignored");
	dies_of(SIGSEGV, be_sent, "raise");
	dies_of(SIGBUS, be_sent_bus, "kill");
	t_ok(!sigaction(SIGSEGV, &sa, &was) && was.sa_handler == SIG_DFL, "%s: sigaction", s_case);
	segv = 0;
	if (!sigsetjmp(back, 1))
		touch();
	t_ok(segv == 1 && segv_at == hole, "%s: a fault of the program's own: %d at %p", s_case, segv, segv_at);
	signal(SIGSEGV, SIG_DFL);
	close(fd);
}

int main(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	t_skip("with sanitizers a bad buffer is what they report; nothing else catches it");
#endif
	area = mmap(NULL, AREA + 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	t_must(area != MAP_FAILED, "mmap");
	hole = area + AREA;
	t_must(!mprotect(hole, PAGE, PROT_NONE), "mprotect");
	constant = mmap(NULL, AREA, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	t_must(constant != MAP_FAILED, "mmap");
	s_each(buffers);
	s_each(own_faults);
	return t_done();
}
