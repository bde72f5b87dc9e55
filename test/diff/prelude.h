/* cc -pthread THIS.c; run it as it is, and under ntbsock-ctl run -- */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define SLOTS 24

static struct shared {
	volatile int turn;
	volatile unsigned short port[SLOTS + 1];
	volatile int family[SLOTS + 1];
} *sh;
static int fd[SLOTS + 1];
static unsigned char buf[32 << 20];
static pthread_t thread[3];
static void *(*first[4])(void *);
static volatile int seen;
static int mail[4][2];

static void turn(int n)
{
	while (sh->turn != n)
		usleep(200);
	usleep(3000);		/* what the step before has set off comes to rest */
}

static void pass(int n)
{
	sh->turn = n + 1;
}

static void show(int n, const char *what, long r)
{
	if (r < 0)
		printf("%3d %s: %ld %s\n", n, what, r, strerrorname_np(errno));
	else
		printf("%3d %s: %ld\n", n, what, r);
}

static void on_signal(int sig)
{
	static const char text[] = "    a signal\n";

	if (sig == SIGPIPE && write(1, "    SIGPIPE\n", 12) < 0)
		_exit(1);
	if (sig != SIGPIPE && write(1, text, sizeof(text) - 1) < 0)
		_exit(1);
	seen |= 1 << (sig & 31);
}

static void prepare(void *(*procs[])(void *))
{
	memcpy(first, procs, sizeof(first));
	for (int i = 0; i < 4; i++)
		if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, mail[i]))
			exit(1);
	setvbuf(stdout, NULL, _IOLBF, 0);
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i <= SLOTS; i++)
		fd[i] = -1;
	for (int i = 1; i < 32; i++)
		if (i == SIGPIPE || i == SIGIO || i == SIGURG || i == SIGUSR1 || i == SIGUSR2)
			sigaction(i, &(struct sigaction){ .sa_handler = on_signal, .sa_flags = i == SIGUSR1 ? 0 : SA_RESTART }, NULL);
}

static void start_process(int n)
{
	if (!fork()) {
		first[n](NULL);
		_exit(0);
	}
}

static inline int do_fork(int n)
{
	start_process(n);
	return 0;
}

static inline void *fill(int step)
{
	for (size_t i = 0; i < sizeof(buf); i += 4096)
		buf[i] = (unsigned char)(step + 1);
	return buf;
}

static socklen_t loopback(struct sockaddr_storage *ss, int family, int port)
{
	memset(ss, 0, sizeof(*ss));
	if (family == 6 || family == 46) {
		*(struct sockaddr_in6 *)ss = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_loopback };
		if (family == 46)
			inet_pton(AF_INET6, "::ffff:127.0.0.1", &((struct sockaddr_in6 *)ss)->sin6_addr);
		return sizeof(struct sockaddr_in6);
	}
	*(struct sockaddr_in *)ss = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
	return sizeof(struct sockaddr_in);
}

static inline int new_socket(int family, int flags)
{
	return socket(family == 6 ? AF_INET6 : AF_INET, SOCK_STREAM | (flags & 1 ? SOCK_NONBLOCK : 0) | (flags & 2 ? SOCK_CLOEXEC : 0), 0);
}

static inline int do_bind(int s, int slot, int like, int how)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
	int r;

	getsockname(s, (void *)&ss, &len);
	sh->family[slot] = ss.ss_family != AF_INET6 ? 4 : how ? 46 : 6;
	len = loopback(&ss, sh->family[slot], like >= 0 ? sh->port[like] : 0);
	if (how == 2)
		((struct sockaddr_in6 *)&ss)->sin6_addr = in6addr_any;
	r = bind(s, (void *)&ss, len);
	len = sizeof(ss);
	if (!r && !getsockname(s, (void *)&ss, &len))
		sh->port[slot] = ntohs(((struct sockaddr_in *)&ss)->sin_port);
	return r;
}

static socklen_t listener(struct sockaddr_storage *ss, int s, int to, int port, int as_it_is)
{
	int domain = AF_INET, family = sh->family[to];
	socklen_t len = sizeof(domain);

	if (!as_it_is && !getsockopt(s, SOL_SOCKET, SO_DOMAIN, &domain, &len))
		family = domain == AF_INET6 ? (family == 6 ? 6 : 46) : family == 46 ? 4 : family;
	return loopback(ss, family, port);
}

static inline int do_connect(int s, int to, int how)
{
	struct sockaddr_storage ss;
	socklen_t len = listener(&ss, s, to, how == 2 ? 1 : sh->port[to], how == 3);

	if (how == 1)
		ss.ss_family = AF_UNSPEC;
	return connect(s, (void *)&ss, len);
}

static inline int do_accept(int s, int flags)
{
	return flags < 0 ? accept(s, NULL, NULL) : accept4(s, NULL, NULL, (flags & 1 ? SOCK_NONBLOCK : 0) | (flags & 2 ? SOCK_CLOEXEC : 0));
}

static inline int accept_any(int s, int t, int flags)
{
	struct pollfd p[2] = { { s, POLLIN, 0 }, { t, POLLIN, 0 } };

	if (poll(p, 2, -1) < 0)
		return -1;
	return do_accept(p[0].revents & POLLIN ? s : t, flags);
}

static inline struct iovec *pieces(size_t len, int n)
{
	static __thread struct iovec iov[8];
	unsigned char *p = buf;

	for (int i = 0; i < n && i < 8; i++) {
		size_t part = i == n - 1 ? len : len / 2;

		iov[i] = (struct iovec){ p, part };
		p += part;
		len -= part;
	}
	return iov;
}

static inline long do_recvfrom(int s, size_t len, int flags)
{
	struct sockaddr_storage ss;
	socklen_t alen = sizeof(ss);
	long r = recvfrom(s, buf, len, flags, (void *)&ss, &alen);

	printf("  address of %u bytes\n", alen);
	return r;
}

static struct mmsghdr *messages(size_t len)
{
	static __thread struct mmsghdr m[2];

	for (int i = 0; i < 2; i++) {
		static __thread struct iovec iov[2][3];

		memcpy(iov[i], pieces(len, 3), sizeof(iov[i]));
		m[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = iov[i], .msg_iovlen = 3 } };
	}
	return m;
}

static inline long do_recvmsg(int s, size_t len, int flags)
{
	struct msghdr *m = &messages(len)->msg_hdr;
	long r = recvmsg(s, m, flags);

	printf("  msg_flags %#x\n", m->msg_flags);
	return r;
}

static inline long do_recvmmsg(int s, size_t len, int flags, int time)
{
	struct timespec limit = { .tv_sec = time == 1 ? 10 : 0, .tv_nsec = time == 2 ? 2000000000 : 0 };
	struct mmsghdr *m = messages(len);
	long r = recvmmsg(s, m, 2, flags, time > 2 ? NULL : &limit);

	printf("  lengths %u %u\n", m[0].msg_len, m[1].msg_len);
	return r;
}

static inline long do_fastopen(int s, const void *p, size_t len, int flags, int to)
{
	struct sockaddr_storage ss;
	socklen_t alen = listener(&ss, s, to, sh->port[to], 0);

	return sendto(s, p, len, flags | MSG_FASTOPEN, (void *)&ss, alen);
}

static inline int do_give(int s, int to)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { "d", 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) };
	memcpy(CMSG_DATA(c), &s, sizeof(s));
	return sendmsg(mail[to][1], &m, 0);
}

static inline int do_take(int proc)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	int s = -1;

	if (recvmsg(mail[proc][0], &m, 0) >= 0 && CMSG_FIRSTHDR(&m))
		memcpy(&s, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(s));
	return s;
}

static inline int do_close_range(int all, int slot, int flags)
{
	int r = close_range(all ? 3 : fd[slot], all ? 799 : fd[slot], flags);

	for (int i = 0; !flags && i <= SLOTS; i++)
		if (all || i == slot)
			fd[i] = -1;
	return r;
}

static inline long misfit(int s, int which)
{
	char c[10];
	struct iovec iov = { c, 1 };
	off_t off = 0;
	int p[2], r = pipe(p), file = memfd_create("file", 0);

	if (r || write(p[1], "x", 1) != 1)
		return -1;
	switch (which) {
	case 0: return tee(s, p[1], 10, 0);
	case 1: return tee(p[0], s, 10, 0);
	case 2: return vmsplice(s, &iov, 1, 0);
	case 3: return copy_file_range(file, &off, s, NULL, 10, 0);
	case 4: return copy_file_range(s, NULL, file, &off, 10, 0);
	case 5: return pread(s, c, 1, 0);
	case 6: return pwrite(s, c, 1, 0);
	case 7: return lseek(s, 0, SEEK_CUR);
	case 8: return ftruncate(s, 0);
	case 9: return fsync(s);
	case 10: return preadv2(s, &iov, 1, 5, 0);
	case 11: return pwritev2(s, &iov, 1, 5, 0);
	case 12: return sendfile(p[1], s, NULL, 10);
	case 16: return splice(s, &off, p[1], NULL, 1, 0);
	case 17: return preadv(s, &iov, 1, 0);
	}
	return 0;
}

static inline int zerocopied(int s, int slot)
{
	char control[256];
	struct msghdr m = { .msg_control = control, .msg_controllen = sizeof(control) };
	int r = recvmsg(s, &m, MSG_ERRQUEUE | MSG_DONTWAIT);

	printf("  slot %d: %zu bytes of the error queue\n", slot, r < 0 ? 0 : m.msg_controllen);
	return r;
}

static inline long do_sendto(int s, const void *p, size_t len, int flags)
{
	struct sockaddr_storage ss;
	socklen_t alen = loopback(&ss, 4, 9);

	return sendto(s, p, len, flags, (void *)&ss, alen);
}

static inline long do_sendmsg(int s, size_t len, int flags)
{
	return sendmsg(s, &messages(len)->msg_hdr, flags);
}

static inline long do_sendmmsg(int s, size_t len, int flags)
{
	return sendmmsg(s, messages(len), 2, flags);
}

static inline long do_sendfile(int s, off_t off, size_t len)
{
	int file = memfd_create("file", 0);
	long r;

	if (ftruncate(file, 1 << 20))
		return -1;
	r = sendfile(s, file, &off, len);
	close(file);
	return r;
}

static inline long do_splice_to(int s, size_t len, int nonblock)
{
	int p[2];
	long r = pipe(p);

	if (r || write(p[1], buf, len) < 0)
		return -1;
	r = splice(p[0], NULL, s, NULL, len, nonblock ? SPLICE_F_NONBLOCK : 0);
	close(p[0]);
	close(p[1]);
	return r;
}

static inline long do_splice_from(int s, size_t len, int nonblock)
{
	int p[2];
	long r = pipe(p);

	r = splice(s, NULL, p[1], NULL, len, nonblock ? SPLICE_F_NONBLOCK : 0);
	close(p[0]);
	close(p[1]);
	return r;
}

static inline long flood(int s, const void *p, long len)
{
	long sum = 0, n = 0;

	while (sum < len && (n = send(s, p, 65536, MSG_DONTWAIT)) > 0)
		sum += n;
	return sum ? sum : n;
}

static inline long drain(int s)
{
	long sum = 0, n;

	while ((n = recv(s, buf, 1 << 20, MSG_DONTWAIT)) > 0)
		sum += n;
	printf("  %ld bytes, then\n", sum);
	return n;
}

static inline int do_async(int s, int on)
{
	int fl = fcntl(s, F_GETFL);

	fcntl(s, F_SETOWN, getpid());
	return fcntl(s, F_SETFL, on ? fl | O_ASYNC : fl & ~O_ASYNC);
}

static inline int signals_seen(int clear)
{
	int r = seen;

	if (clear)
		seen = 0;
	return r;
}

static inline int get_option(int s, int level, int name)
{
	unsigned char v[256] = { 0 };
	socklen_t len = sizeof(v);
	int r = getsockopt(s, level, name, v, &len);

	printf("  %u bytes:", len);
	for (unsigned i = 0; !r && i < len && i < 16; i++)
		printf(" %02x", v[i]);
	printf("\n");
	return r;
}

static inline int names(int s, int peer)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
	int r = peer ? getpeername(s, (void *)&ss, &len) : getsockname(s, (void *)&ss, &len);

	printf("  family %d, %u bytes\n", ss.ss_family, len);
	return r;
}

static inline int do_poll(int s, int kind, int events, int ms)
{
	struct pollfd p = { s, events, 0x7fff };
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000l };
	int r = kind > 0 ? ppoll(&p, 1, ms < 0 ? NULL : &ts, NULL) : poll(&p, 1, ms);

	printf("  revents %#x\n", p.revents);
	return r;
}

static inline int do_poll2(int s, int t, int events, int ms)
{
	struct pollfd p[2] = { { s, events, 0x7fff }, { t, events, 0x7fff } };
	int r = poll(p, 2, ms);

	printf("  revents %#x %#x\n", p[0].revents, p[1].revents);
	return r;
}

static inline int do_select(int s, int p, int which, int ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000l };
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };
	fd_set set[3];
	int r;

	for (int i = 0; i < 3; i++) {
		FD_ZERO(&set[i]);
		if (which & 1 << i)
			FD_SET(s, &set[i]);
	}
	r = p ? pselect(s + 1, &set[0], &set[1], &set[2], ms < 0 ? NULL : &ts, NULL) : select(s + 1, &set[0], &set[1], &set[2], ms < 0 ? NULL : &tv);
	printf("  read %d write %d except %d\n", !!FD_ISSET(s, &set[0]), !!FD_ISSET(s, &set[1]), !!FD_ISSET(s, &set[2]));
	return r;
}

static inline int do_epoll_wait(int s, int max, int ms)
{
	struct epoll_event ev[16];
	int r = epoll_wait(s, ev, max < 16 ? max : 16, ms);

	for (int i = 0; i < r; i++)
		printf("  slot %d events %#x\n", (int)ev[i].data.u64, ev[i].events);
	return r;
}
