/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * edges.c - arguments at the edge: addresses that the kernel does not take, lengths that it clips, numbers above the limit, and
 * what the C library writes by calls of its own
 *
 * ring: yes
 */
#include <aio.h>
#include <execinfo.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include "sock.h"

#define PAGE 4096
#define HUGE_LEN ((size_t)1 << 33)
#define LOW_AREA 0x10000000000		/* with so much address space behind it: the kernel looks at that, too */

static char *area;		/* a page that can be used */
static char *hole;		/* behind it one that cannot */
static char *constant;		/* one that can only be read */
static uint64_t tx, rx;		/* positions of the streams: 1 to us, 2 from us */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool bad_pointers;	/* they are what sanitizers report */
#else
static const bool bad_pointers = true;
#endif

#define refused(call, err, ...)                                                                       \
	do {                                                                                          \
		ssize_t n_ = (errno = 0, call);                                                       \
		t_ok(n_ == -1 && errno == (err), "%s: " #call " gives %zd, errno %d", s_case, n_, errno); \
	} while (0)

/* Bytes for us, and they have come. */
static void there(struct peer *p, int fd, size_t len)
{
	p_send(p, 1, rx, len);
	while (recv(fd, area, len, MSG_PEEK | MSG_WAITALL) != (ssize_t)len)
		t_must(errno == EINTR, "%s: there", s_case);
}

static void took(const char *what, ssize_t n, size_t len)
{
	t_eq(n, len, "%s: %s", s_case, what);
	t_eq(t_wrong(area, len, 1, rx), -1, "%s: %s", s_case, what);
	rx += len;
}

static void lives(struct peer *p, int fd)
{
	t_must(s_send_stream(fd, 2, tx, 100), "%s: sent", s_case);
	t_eq(p_recv(p, 2, tx, 100), 100, "%s: the connection lives", s_case);
	tx += 100;
	p_send(p, 1, rx, 100);
	t_must(s_recv_stream(fd, 1, rx, 100), "%s: received", s_case);
	rx += 100;
}

static void connects(struct peer *p, int fd)
{
	union {
		struct sockaddr sa;
		char bytes[1000];
	} none = { .sa.sa_family = AF_UNSPEC };

	tx = rx = 0;
	lives(p, fd);
	refused(connect(fd, &none.sa, 1000), EINVAL);
	refused(connect(fd, &none.sa, sizeof(struct sockaddr_storage) + 1), EINVAL);
	refused(connect(fd, &none.sa, (socklen_t)-1), EINVAL);
	refused(connect(fd, &none.sa, 1), EINVAL);
	refused(connect(fd, &none.sa, 0), EINVAL);
	lives(p, fd);
	if (bad_pointers) {
		memset(hole - 2, 0, 2);
		refused(connect(fd, NULL, 16), EFAULT);
		refused(connect(fd, (struct sockaddr *)(void *)hole, 16), EFAULT);
		refused(connect(fd, (struct sockaddr *)(void *)(hole - 2), 16), EFAULT);
		lives(p, fd);
	}
	t_eq(connect(fd, &none.sa, sizeof(struct sockaddr_storage)), 0, "%s: as long as any", s_case);
	refused(send(fd, "x", 1, MSG_NOSIGNAL), ECONNRESET);
	close(fd);
}

static void senders(struct peer *p, int fd)
{
	struct sockaddr_storage from;
	struct sockaddr *sa = (struct sockaddr *)&from;
	struct iovec iov = { area, 10 };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_namelen = 77 };
	socklen_t len = sizeof(from);

	tx = rx = 0;
	there(p, fd, 60);
	took("recvfrom", recvfrom(fd, area, 10, 0, sa, &len), 10);
	t_eq(len, 0, "%s: no sender", s_case);
	len = (socklen_t)-1;
	refused(recvfrom(fd, area, 10, 0, sa, &len), EINVAL);
	took("recvfrom took them", 10, 10);
	took("recvmsg", recvmsg(fd, &mh, 0), 10);
	t_eq(mh.msg_namelen, 77, "%s: nobody has asked", s_case);
	mh.msg_name = &from;
	took("recvmsg", recvmsg(fd, &mh, 0), 10);
	t_eq(mh.msg_namelen, 0, "%s: no sender", s_case);
	mh.msg_namelen = (socklen_t)-1;
	refused(recvmsg(fd, &mh, 0), EINVAL);
	mh.msg_name = NULL;
	took("recvmsg", recvmsg(fd, &mh, 0), 10);
	took("recvfrom", recvfrom(fd, area, 10, 0, NULL, bad_pointers ? (socklen_t *)(void *)hole : NULL), 10);
	if (bad_pointers) {
		there(p, fd, 40);
		refused(recvfrom(fd, area, 10, 0, sa, NULL), EFAULT);
		took("recvfrom took them", 10, 10);
		refused(recvfrom(fd, area, 10, 0, sa, (socklen_t *)(void *)hole), EFAULT);
		took("recvfrom took them", 10, 10);
		refused(recvfrom(fd, area, 10, 0, sa, (socklen_t *)(void *)constant), EFAULT);
		took("recvfrom took them", 10, 10);
		mh.msg_name = hole;
		mh.msg_namelen = 10;
		took("recvmsg writes no name", recvmsg(fd, &mh, 0), 10);
	}
	lives(p, fd);
	close(fd);
}

static void addressees(struct peer *p, int fd)
{
	struct sockaddr_storage to = { .ss_family = AF_INET };
	const struct sockaddr *sa = (const struct sockaddr *)&to;
	struct iovec iov = { area, 10 };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_namelen = 1000 };

	tx = rx = 0;
	lives(p, fd);
	refused(sendto(fd, area, 10, MSG_NOSIGNAL, sa, sizeof(to) + 1), EINVAL);
	refused(sendto(fd, area, 10, MSG_NOSIGNAL, sa, (socklen_t)-1), EINVAL);
	t_fill(area, 50, 2, tx);
	t_eq(sendto(fd, area, 10, MSG_NOSIGNAL, sa, sizeof(to)), 10, "%s: sendto", s_case);
	t_eq(sendto(fd, area + 10, 10, MSG_NOSIGNAL, sa, 0), 10, "%s: sendto, no address", s_case);
	iov.iov_base = area + 20;
	t_eq(sendmsg(fd, &mh, MSG_NOSIGNAL), 10, "%s: sendmsg, no name", s_case);
	mh.msg_name = &to;
	mh.msg_namelen = (socklen_t)-1;
	refused(sendmsg(fd, &mh, MSG_NOSIGNAL), EINVAL);
	mh.msg_namelen = 0;
	iov.iov_base = area + 30;
	t_eq(sendmsg(fd, &mh, MSG_NOSIGNAL), 10, "%s: sendmsg, empty name", s_case);
	t_eq(p_recv(p, 2, tx, 40), 40, "%s: what was sent", s_case);
	tx += 40;
	if (bad_pointers) {
		refused(sendto(fd, area, 10, MSG_NOSIGNAL, (struct sockaddr *)(void *)hole, 16), EFAULT);
		refused(sendto(fd, area, 10, MSG_NOSIGNAL, (struct sockaddr *)(void *)(hole - 8), 16), EFAULT);
		mh.msg_name = hole - 8;
		mh.msg_namelen = 16;
		refused(sendmsg(fd, &mh, MSG_NOSIGNAL), EFAULT);
		mh.msg_name = NULL;
		mh.msg_control = hole;
		mh.msg_controllen = 32;
		refused(sendmsg(fd, &mh, MSG_NOSIGNAL), EFAULT);
		mh.msg_control = NULL;
		refused(sendmsg(fd, &mh, MSG_NOSIGNAL), EFAULT);
	}
	lives(p, fd);
	close(fd);
}

/* Of any socket, since a connection may be passed by it. */
static void controls(struct peer *p, int fd)
{
	union {
		struct cmsghdr h;
		char bytes[64];
	} c = { .h = { .cmsg_len = 1 << 30, .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct iovec iov = { area, 1 };
	struct mmsghdr mm[2] = { { .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } }, { .msg_len = 0 } };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c) };
	int un[2];

	tx = rx = 0;
	lives(p, fd);
	t_must(!socketpair(AF_UNIX, SOCK_STREAM, 0, un), "socketpair");
	refused(sendmsg(un[0], &mh, 0), EINVAL);
	c.h.cmsg_len = SIZE_MAX - 7;
	refused(sendmsg(un[0], &mh, 0), EINVAL);
	if (bad_pointers) {
		mh.msg_control = hole - 8;
		refused(sendmsg(un[0], &mh, 0), EFAULT);
		mh.msg_control = NULL;
		refused(sendmsg(un[0], &mh, 0), EFAULT);
		refused(sendmsg(un[0], NULL, 0), EFAULT);
		refused(sendmsg(un[0], (struct msghdr *)(void *)hole, 0), EFAULT);
		refused(sendmmsg(un[0], (struct mmsghdr *)(void *)hole, 4, 0), EFAULT);
		refused(sendmmsg(fd, NULL, 4, MSG_NOSIGNAL), EFAULT);
		refused(recvmmsg(un[0], (struct mmsghdr *)(void *)hole, 4, MSG_DONTWAIT, NULL), EFAULT);
		refused(recvmmsg(fd, NULL, 4, MSG_DONTWAIT, NULL), EFAULT);
		mm[1].msg_hdr = mh;
		t_eq(sendmmsg(un[0], mm, 2, 0), 1, "%s: the first message", s_case);
	}
	close(un[0]);
	close(un[1]);
	lives(p, fd);
	close(fd);
}

static void files(struct peer *p, int fd)
{
	char path[] = "edges.XXXXXX";
	int in = mkstemp(path);
	off_t off = -1;

	tx = rx = 0;
	t_must(in >= 0 && !unlink(path), "file");
	t_fill(area, 100, 2, 0);
	t_must(write(in, area, 100) == 100, "file");
	refused(sendfile(fd, in, &off, 10), EINVAL);
	off = 0;
	refused(sendfile(fd, in, &off, SIZE_MAX), EINVAL);
	off = LLONG_MAX - 5;
	refused(sendfile(fd, in, &off, 10), EINVAL);
	off = 0;
	t_eq(sendfile(fd, in, &off, HUGE_LEN), 100, "%s: sendfile of all", s_case);
	t_eq(off, 100, "%s: sendfile of all", s_case);
	t_eq(p_recv(p, 2, 0, 100), 100, "%s: sendfile", s_case);
	tx = 100;
	if (bad_pointers) {
		refused(sendfile(fd, in, (off_t *)(void *)hole, 10), EFAULT);
		refused(sendfile(in, fd, (off_t *)(void *)hole, 10), EFAULT);
		/* they are sent, and then nobody can be told */
		refused(sendfile(fd, in, (off_t *)(void *)constant, 100), EFAULT);
		t_eq(p_recv(p, 2, 0, 100), 100, "%s: sendfile", s_case);
	}
	close(in);
	lives(p, fd);
	close(fd);
}

static void lengths(struct peer *p, int fd)
{
	struct iovec iov[2] = { { area, 10 }, { area + 10, HUGE_LEN } };
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = 2 };

	tx = rx = 0;
	there(p, fd, 100);
	took("readv", readv(fd, iov, 2), 100);
	there(p, fd, 100);
	took("recvmsg", recvmsg(fd, &mh, 0), 100);
	iov[1].iov_len = SIZE_MAX;
	there(p, fd, 300);
	refused(readv(fd, iov, 2), EINVAL);
	refused(recvmsg(fd, &mh, 0), EINVAL);
	refused(writev(fd, iov, 2), EINVAL);
	refused(writev(fd, iov + 1, 1), EINVAL);
	refused(sendmsg(fd, &mh, MSG_NOSIGNAL), EINVAL);
	refused(syscall(SYS_read, fd, area, SIZE_MAX), EFAULT);
	refused(syscall(SYS_write, fd, area, SIZE_MAX), EFAULT);
	if (bad_pointers) {	/* sanitizers look at lengths, too */
		took("read", syscall(SYS_read, fd, area, HUGE_LEN), 300);
		there(p, fd, 100);
		took("recv", syscall(SYS_recvfrom, fd, area, SIZE_MAX, 0, NULL, NULL), 100);
		there(p, fd, 100);
		took("recv", syscall(SYS_recvfrom, fd, area, HUGE_LEN, MSG_DONTWAIT, NULL, NULL), 100);
		refused(syscall(SYS_sendto, fd, hole, SIZE_MAX, MSG_NOSIGNAL, NULL, 0), EFAULT);
	} else {
		took("read", read(fd, area, PAGE), 300);
	}
	lives(p, fd);
	close(fd);
}

static void above_limit(struct peer *p, int fd)
{
	struct rlimit was, low;
	int high = fcntl(fd, F_DUPFD_CLOEXEC, 600), null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	tx = rx = 0;
	t_must(high >= 600 && null >= 0 && !getrlimit(RLIMIT_NOFILE, &was), "descriptors");
	close(fd);
	lives(p, high);
	low = (struct rlimit){ 600, was.rlim_max };
	t_must(!setrlimit(RLIMIT_NOFILE, &low), "setrlimit");
	refused(dup2(null, high), EBADF);
	refused(dup3(null, high, O_CLOEXEC), EBADF);
	lives(p, high);
	t_must(!setrlimit(RLIMIT_NOFILE, &was), "setrlimit");
	t_eq(dup2(null, high), high, "%s: dup2", s_case);
	t_eq(p_recv(p, 2, tx, 1), 0, "%s: it has ended", s_case);
	close(high);
	close(null);
}

/* What one of them writes, between bytes of our own. */
static void message(struct peer *p, int fd, int which)
{
	static const char *const want[] = { "edge: Invalid argument\n", "edge: User defined signal 1", "edge: User defined signal 1\n" };
	siginfo_t info = { .si_signo = SIGUSR1, .si_code = SI_USER };
	char got[1000] = "";
	void *frame = (void *)message;
	size_t n = 0;
	int saved = fcntl(2, F_DUPFD_CLOEXEC, 3);

	t_must(write(fd, "<", 1) == 1, "before");
	t_must(saved >= 0 && dup2(fd, 2) == 2, "dup2");
	errno = EINVAL;
	if (which == 0)
		perror("edge");
	else if (which == 1)
		psiginfo(&info, "edge");
	else if (which == 2)
		psignal(SIGUSR1, "edge");
	else
		backtrace_symbols_fd(&frame, 1, fd);
	t_must(dup2(saved, 2) == 2, "dup2");
	close(saved);
	t_must(write(fd, ">", 1) == 1, "after");
	while (n < sizeof(got) - 1 && !strchr(got, '>')) {
		t_must(recv(p->fd, got + n, 1, 0) == 1, "%s: message %d", s_case, which);
		n++;
	}
	t_ok(got[0] == '<' && n > 10 && (which > 2 || !strncmp(got + 1, want[which], strlen(want[which]))), "%s: message %d: %s", s_case,
	     which, got);
}

static void messages(struct peer *p, int fd)
{
	for (int i = 0; !p->pid && i < 4; i++)
		message(p, fd, i);
	close(fd);
}

static int wait_for(struct aiocb *cb)
{
	while (aio_error(cb) == EINPROGRESS)
		aio_suspend((const struct aiocb *[]){ cb }, 1, NULL);
	return aio_error(cb);
}

static void asynchronous(struct peer *p, int fd)
{
	char out[200];
	struct aiocb rd = { .aio_fildes = fd, .aio_buf = area, .aio_nbytes = 100 };
	struct aiocb wr = { .aio_fildes = fd, .aio_buf = out, .aio_nbytes = 100, .aio_lio_opcode = LIO_WRITE };

	tx = rx = 0;
	lives(p, fd);
	there(p, fd, 100);
	t_must(!aio_read(&rd) && !wait_for(&rd), "%s: aio_read", s_case);
	took("aio_read", aio_return(&rd), 100);
	t_must(!aio_read(&rd), "%s: aio_read", s_case);
	p_send(p, 1, rx, 100);		/* it waits by then, or does not */
	t_must(!wait_for(&rd), "%s: aio_read", s_case);
	took("aio_read that has waited", aio_return(&rd), 100);
	t_fill(out, 200, 2, tx);
	t_must(!aio_write(&wr) && !wait_for(&wr), "%s: aio_write", s_case);
	t_eq(aio_return(&wr), 100, "%s: aio_write", s_case);
	wr.aio_buf = out + 100;
	t_must(!lio_listio(LIO_WAIT, (struct aiocb *[]){ &wr, NULL }, 2, NULL), "%s: lio_listio", s_case);
	t_eq(aio_return(&wr), 100, "%s: lio_listio", s_case);
	t_eq(p_recv(p, 2, tx, 200), 200, "%s: aio_write", s_case);
	tx += 200;
	lives(p, fd);
	close(fd);
}

static void raw_sigaction(struct peer *p, int fd)
{
	char act[64] = { 0 };

	if (bad_pointers) {
		refused(syscall(SYS_rt_sigaction, SIGUSR1, hole, NULL, 8L), EFAULT);
		refused(syscall(SYS_rt_sigaction, SIGUSR1, hole - 8, NULL, 8L), EFAULT);
		refused(syscall(SYS_rt_sigaction, SIGUSR1, NULL, hole, 8L), EFAULT);
	}
	t_eq(syscall(SYS_rt_sigaction, SIGUSR1, NULL, act, 8L), 0, "%s: rt_sigaction", s_case);
	t_eq(syscall(SYS_rt_sigaction, SIGUSR1, act, NULL, 8L), 0, "%s: rt_sigaction", s_case);
	close(fd);
}

int main(void)
{
	area = mmap(bad_pointers ? (void *)LOW_AREA : NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	t_must(area != MAP_FAILED, "mmap");
	hole = area + PAGE;
	t_must(!mprotect(hole, PAGE, PROT_NONE), "mprotect");
	constant = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	t_must(constant != MAP_FAILED, "mmap");
	if (bad_pointers) {	/* before there is a socket */
		refused(syscall(SYS_rt_sigaction, SIGUSR1, hole, NULL, 8L), EFAULT);
		refused(recvmsg(socket(AF_INET, SOCK_STREAM, 0), (struct msghdr *)(void *)hole, 0), EFAULT);
	}
	s_each(connects);
	s_each(senders);
	s_each(addressees);
	s_each(controls);
	s_each(files);
	s_each(lengths);
	s_each(above_limit);
	s_each(messages);
	s_each(asynchronous);
	s_each(raw_sigaction);
	return t_done();
}
