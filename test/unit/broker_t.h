/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * broker_t.h - a client of ntbsockd that is not the library, for the tests of the broker
 *
 * Starts brokers (they die with the test), speaks abi_broker.h, and checks length, type, cookie and number of
 * descriptors of whatever arrives.  The first thing that is wrong ends the test with exit status 1.
 */
#ifndef NTBSOCK_TEST_BROKER_T_H
#define NTBSOCK_TEST_BROKER_T_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <netinet/in.h>
#include <unistd.h>
#include <ntbsock/abi_broker.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#define BT __attribute__((unused)) static
#define WAIT_MS 10000	/* for what must come: only a broken broker makes us wait for so long */

BT char bt_dir[80];		/* scratch directory of this test */
BT pid_t bt_pids[8];		/* brokers */

BT void bt_remove_dir(void)
{
	char cmd[120];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", bt_dir);
	if (bt_dir[0] && system(cmd))
		fprintf(stderr, "cannot remove %s\n", bt_dir);
}

#define must(cond, ...)                                                                             \
	do {                                                                                        \
		if (!(cond)) {                                                                      \
			int err_ = errno;                                                           \
			fprintf(stderr, "%s:%d: failed: %s: ", __FILE__, __LINE__, #cond);          \
			fprintf(stderr, __VA_ARGS__);                                               \
			fprintf(stderr, " (errno %d: %s)\n", err_, strerror(err_));                 \
			exit(1);                                                                    \
		}                                                                                   \
	} while (0)

BT void bt_open(const char *name)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(bt_dir, sizeof(bt_dir), "%s/%s.XXXXXX", tmp && strlen(tmp) < 50 ? tmp : "/tmp", name);
	must(mkdtemp(bt_dir), "%s", bt_dir);
	must(!chmod(bt_dir, 0755), "chmod");
	atexit(bt_remove_dir);
	signal(SIGPIPE, SIG_IGN);
}

/* Path in the scratch directory; four live at a time. */
BT const char *bt_path(const char *fmt, ...)
{
	static char path[4][160];
	static unsigned i;
	char *p = path[i++ % 4];
	int n = snprintf(p, sizeof(path[0]), "%s/", bt_dir);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p + n, sizeof(path[0]) - (size_t)n, fmt, ap);
	va_end(ap);
	return p;
}

BT void bt_write(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	must(f && fputs(text, f) >= 0 && !fclose(f), "%s", path);
}

/* Standard error goes to @log.  Returns the process id; the broker is ready, or has ended (*status). */
BT pid_t bt_broker(const char *log, int *status, ...)
{
	const char *build = getenv("T_BUILD"), *argv[24] = { "ntbsockd", "--ready-fd", "9" };
	char exe[256], byte;
	int p[2], n = 3, st;
	pid_t pid;
	va_list ap;
	ssize_t got;

	snprintf(exe, sizeof(exe), "%s/ntbsockd", build ? build : "build");
	va_start(ap, status);
	while ((argv[n] = va_arg(ap, const char *)))
		n++;
	va_end(ap);
	must(!pipe2(p, O_CLOEXEC), "pipe");
	fflush(stderr);
	pid = fork();
	must(pid >= 0, "fork");
	if (!pid) {
		int out = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0644);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out, 2);
		if (p[1] == 9)	/* dup2() would leave it close-on-exec */
			fcntl(9, F_SETFD, 0);
		else
			dup2(p[1], 9);
		execv(exe, (char **)argv);
		fprintf(stderr, "cannot execute %s: %s\n", exe, strerror(errno));
		_exit(127);
	}
	close(p[1]);
	got = read(p[0], &byte, 1);
	close(p[0]);
	if (got == 1) {
		must(!status, "a broker has started that should not have");
		return pid;
	}
	must(waitpid(pid, &st, 0) == pid, "waitpid");
	must(status && WIFEXITED(st), "broker ended with status 0x%x, see %s", st, log);
	*status = WEXITSTATUS(st);
	return 0;
}

BT int bt_end(pid_t pid, int sig)
{
	int st;

	must(!kill(pid, sig) && waitpid(pid, &st, 0) == pid, "end of broker");
	return st;
}

BT bool bt_file_has(const char *path, const char *text)
{
	static char buf[65536];
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, buf, sizeof(buf) - 1);

	close(fd);
	buf[n < 0 ? 0 : n] = '\0';
	return strstr(buf, text);
}

/* -------------------------------------------------------------------- packets */

struct bt_client {
	int fd;
	int mbox0, bell;
	uint32_t proc, uid, node;
	int board_fd, rules_fd;
	struct ntbs_board_shm *board;
	const struct ntbs_rules_shm *rules;
	uint32_t cookie;
};

BT void bt_send(int fd, const void *msg, size_t len, const int *fds, int nr_fds)
{
	struct iovec iov = { .iov_base = (void *)msg, .iov_len = len };
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(16 * sizeof(int))];
	} control = { 0 };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nr_fds) {
		mh.msg_control = &control;
		mh.msg_controllen = CMSG_SPACE((size_t)nr_fds * sizeof(int));
		control.align = (struct cmsghdr){ CMSG_LEN((size_t)nr_fds * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.align), fds, (size_t)nr_fds * sizeof(int));
	}
	must(sendmsg(fd, &mh, MSG_NOSIGNAL) == (ssize_t)len, "sendmsg");
}

/* Return: length; 0 closed.  @fds: room for 4. */
BT int bt_recv(int fd, void *buf, size_t max, int *fds, int *nr_fds)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	struct iovec iov = { .iov_base = buf, .iov_len = max };
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	struct cmsghdr *c;
	ssize_t n;

	must(poll(&pfd, 1, WAIT_MS) == 1, "nothing arrived");
	n = recvmsg(fd, &mh, MSG_CMSG_CLOEXEC);
	*nr_fds = 0;
	if (n < 0 && errno == ECONNRESET)	/* closed with something of ours unread */
		return 0;
	must(n >= 0 && !(mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)), "recvmsg");
	c = CMSG_FIRSTHDR(&mh);
	if (c) {
		*nr_fds = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), (size_t)*nr_fds * sizeof(int));
	}
	return (int)n;
}

/* Exactly that message. */
BT void bt_expect(struct bt_client *c, void *msg, uint16_t type, size_t len, int *fds, int nr_fds)
{
	int got_fds[4], got_nr, n;
	char buf[1024];
	struct ntbs_msg *h = (struct ntbs_msg *)buf;

	n = bt_recv(c->fd, buf, sizeof(buf), got_fds, &got_nr);
	must(n, "closed instead of message %u", type);
	must(h->type == type, "message %u instead of %u", h->type, type);
	must((size_t)n == len && h->bytes == len, "message %u has %d bytes and says %u, not %zu", type, n, h->bytes, len);
	must(got_nr == nr_fds, "message %u has %d descriptors, not %d", type, got_nr, nr_fds);
	memcpy(msg, buf, len);
	for (int i = 0; i < nr_fds; i++)
		fds[i] = got_fds[i];
}

BT void bt_expect_closed(int fd)
{
	int fds[4], nr;
	char buf[1024];

	while (bt_recv(fd, buf, sizeof(buf), fds, &nr)) {
		for (int i = 0; i < nr; i++)
			close(fds[i]);
	}
}

/* Nothing has come, once the broker has done all that was sent before: it answers in order. */
BT void bt_status(struct bt_client *c, struct ntbs_msg_status *st)
{
	struct ntbs_msg_plain ask = { { NTBS_MSG_STATUS, sizeof(ask), ++c->cookie } };

	bt_send(c->fd, &ask, sizeof(ask), NULL, 0);
	bt_expect(c, st, NTBS_MSG_STATUS_REPLY, sizeof(*st), NULL, 0);
	must(st->h.cookie == c->cookie, "cookie");
}
BT void bt_quiet(struct bt_client *c)
{
	struct ntbs_msg_status st;

	bt_status(c, &st);
}

/* The broker learns of the end of a client whenever it looks there, so ask until it has; never: the test's time limit. */
BT void bt_until_procs(struct bt_client *c, uint32_t nr)
{
	struct ntbs_msg_status st;

	for (bt_status(c, &st); st.nr_procs != nr; bt_status(c, &st))
		usleep(1000);	/* leave the CPU to the broker */
}

/* As a user: 0 is whoever we are. */
BT int bt_connect(const char *dir, uint32_t uid)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s/broker.sock", dir);
	must(!uid || !seteuid(uid), "seteuid");
	must(!connect(fd, (struct sockaddr *)&un, sizeof(un)), "%s", un.sun_path);
	must(!uid || !seteuid(0), "seteuid");
	return fd;
}

/* HELLO and WELCOME; the BOARDs that follow are the caller's. */
BT struct bt_client bt_hello(const char *dir, uint32_t uid, const char *program)
{
	struct bt_client c = { .fd = bt_connect(dir, uid), .cookie = 100 };
	struct ntbs_msg_hello hello = { { NTBS_MSG_HELLO, sizeof(hello), 77 }, NTBS_BROKER_ABI, (uint32_t)getpid(), "" };
	struct ntbs_msg_welcome welcome;
	int fds[4];

	c.mbox0 = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	strncpy(hello.program, program, sizeof(hello.program) - 1);
	bt_send(c.fd, &hello, sizeof(hello), (int[]){ c.mbox0, c.bell }, 2);
	bt_expect(&c, &welcome, NTBS_MSG_WELCOME, sizeof(welcome), fds, 2);
	must(welcome.h.cookie == 77, "cookie");
	must(welcome.uid == (uid ? uid : geteuid()), "uid %u", welcome.uid);
	must(welcome.proc && !(welcome.proc >> 20) && NTBS_PROC_NODE(welcome.proc) == welcome.node, "proc %u", welcome.proc);
	c.proc = welcome.proc;
	c.uid = welcome.uid;
	c.node = welcome.node;
	c.board_fd = fds[0];
	c.rules_fd = fds[1];
	c.board = mmap(NULL, sizeof(*c.board), PROT_READ | PROT_WRITE, MAP_SHARED, c.board_fd, 0);
	c.rules = mmap(NULL, sizeof(*c.rules), PROT_READ, MAP_SHARED, c.rules_fd, 0);
	must(c.board != MAP_FAILED && c.rules != MAP_FAILED, "mmap");
	return c;
}

BT void bt_bye(struct bt_client *c)
{
	close(c->fd);
	close(c->mbox0);
	close(c->bell);
	munmap(c->board, sizeof(*c->board));
	munmap((void *)c->rules, sizeof(*c->rules));
	close(c->board_fd);
	close(c->rules_fd);
	c->fd = -1;
}

/* The next BOARD; returns its mapping, read-only. */
BT struct ntbs_board_shm *bt_board(struct bt_client *c, uint32_t uid)
{
	struct ntbs_msg_board msg;
	struct ntbs_board_shm *board;
	char path[40];
	int fd, seals;

	bt_expect(c, &msg, NTBS_MSG_BOARD, sizeof(msg), &fd, 1);
	must(msg.uid == uid, "board of %u, not %u", msg.uid, uid);
	seals = fcntl(fd, F_GET_SEALS);
	must((seals & F_SEAL_SHRINK) && (seals & F_SEAL_GROW) && (seals & F_SEAL_SEAL), "seals 0x%x", seals);
	must(mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EACCES,
	     "somebody else's board can be written");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (c->uid && !geteuid()) {
		must(!seteuid(c->uid) && open(path, O_RDWR) < 0 && errno == EACCES && !seteuid(0),
		     "somebody else's board can be opened for writing");
	}
	board = mmap(NULL, sizeof(*board), PROT_READ, MAP_SHARED, fd, 0);
	must(board != MAP_FAILED, "mmap");
	close(fd);
	must(ntbs_le32_read(&board->magic) == NTBS_BOARD_MAGIC && ntbs_le32_read(&board->abi) == NTBS_BROKER_ABI &&
		     ntbs_le32_read(&board->uid) == uid,
	     "board header");
	return board;
}

BT int bt_memfd(size_t bytes, bool sealed)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	must(fd >= 0 && !ftruncate(fd, (off_t)bytes), "memfd");
	must(!sealed || !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), "seal");
	return fd;
}

BT bool bt_same_file(int a, int b)
{
	struct stat x, y;

	return !fstat(a, &x) && !fstat(b, &y) && x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

/* Does ringing @theirs arrive at @ours?  (All eventfds share one inode.) */
BT bool bt_same_bell(int ours, int theirs)
{
	uint64_t v = 1;

	return write(theirs, &v, 8) == 8 && read(ours, &v, 8) == 8;
}

BT void bt_chan_open(struct bt_client *c, uint64_t chan, uint32_t proc, int memfd)
{
	struct ntbs_msg_chan open_msg = { .h = { NTBS_MSG_CHAN_OPEN, sizeof(open_msg), 5 }, .chan = chan, .proc = proc };

	bt_send(c->fd, &open_msg, sizeof(open_msg), &memfd, 1);
}

BT void bt_expect_chan_fail(struct bt_client *c, uint64_t chan, uint32_t reason)
{
	struct ntbs_msg_chan m;

	bt_expect(c, &m, NTBS_MSG_CHAN_FAIL, sizeof(m), NULL, 0);
	must(m.h.cookie == 5 && m.chan == chan && m.reason == reason, "CHAN_FAIL reason %u, not %u", m.reason, reason);
}

BT void bt_send_mbox(struct bt_client *c, uint32_t mbox, int fd)
{
	struct ntbs_msg_mbox m = { .h = { NTBS_MSG_MBOX, sizeof(m), 0 }, .mbox = mbox };

	bt_send(c->fd, &m, sizeof(m), &fd, 1);
}

BT void bt_expect_mbox(struct bt_client *c, uint32_t proc, uint32_t mbox, int ours)
{
	struct ntbs_msg_mbox m;
	int fd;

	bt_expect(c, &m, NTBS_MSG_PEER_MBOX, sizeof(m), &fd, 1);
	must(m.proc == proc && m.mbox == mbox && bt_same_bell(ours, fd), "PEER_MBOX %u of %u", m.mbox, m.proc);
	close(fd);
}

BT void bt_expect_gone(struct bt_client *c, uint32_t proc)
{
	struct ntbs_msg_gone m;

	bt_expect(c, &m, NTBS_MSG_PEER_GONE, sizeof(m), NULL, 0);
	must(m.proc == proc, "PEER_GONE %u, not %u", m.proc, proc);
}

/* ---------------------------------------------------------------- connections */

struct bt_tcp {
	int listener, connector, acceptor;
	struct ntbs_tuple tuple;	/* as the connector sees it */
	uint64_t netns;
};

/* One over loopback; @uid as in bt_connect().  @v6: acceptor with a dual-stack listener, so it sees v4-mapped ones. */
BT struct bt_tcp bt_tcp_open(uint32_t uid, bool v6)
{
	struct sockaddr_in6 any6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, from;
	struct bt_tcp t = { 0 };
	socklen_t len;
	int off = 0;

	if (uid == geteuid())
		uid = 0;
	t.listener = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
	if (v6)
		setsockopt(t.listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	must(!bind(t.listener, v6 ? (void *)&any6 : (void *)&to, v6 ? sizeof(any6) : sizeof(to)) && !listen(t.listener, 1), "listen");
	if (v6) {
		len = sizeof(any6);
		must(!getsockname(t.listener, (void *)&any6, &len), "getsockname");
		to.sin_port = any6.sin6_port;
	} else {
		len = sizeof(to);
		must(!getsockname(t.listener, (void *)&to, &len), "getsockname");
	}
	must(!uid || !seteuid(uid), "seteuid");
	t.connector = socket(AF_INET, SOCK_STREAM, 0);
	must(!uid || !seteuid(0), "seteuid");
	must(!connect(t.connector, (void *)&to, sizeof(to)), "connect");
	t.acceptor = accept(t.listener, NULL, NULL);
	must(t.acceptor >= 0, "accept");
	len = sizeof(from);
	must(!getsockname(t.connector, (void *)&from, &len), "getsockname");
	t.tuple.laddr[10] = t.tuple.laddr[11] = t.tuple.raddr[10] = t.tuple.raddr[11] = 0xff;
	memcpy(t.tuple.laddr + 12, &from.sin_addr, 4);
	memcpy(t.tuple.raddr + 12, &to.sin_addr, 4);
	t.tuple.lport = ntohs(from.sin_port);
	t.tuple.rport = ntohs(to.sin_port);
	len = sizeof(t.netns);
	must(!getsockopt(t.connector, SOL_SOCKET, SO_NETNS_COOKIE, &t.netns, &len), "SO_NETNS_COOKIE: Linux before 5.14?");
	return t;
}

BT void bt_tcp_close(struct bt_tcp *t)
{
	close(t->listener);
	close(t->connector);
	close(t->acceptor);
}

/* Into the client's own board.  Returns the word; *entry where it lies. */
BT uint64_t bt_offer(struct bt_client *c, const struct bt_tcp *t, uint32_t *entry)
{
	static unsigned tag;
	uint64_t word = ntbs_offer_word(NTBS_OFFER_OFFERED, ++tag, 0, 0);
	struct ntbs_offer_shm *o;

	*entry = ntbs_offer_hash(&t->tuple, t->netns) % NTBS_BOARD_OFFERS;
	o = &c->board->offer[*entry];
	o->netns = t->netns;
	o->tuple = t->tuple;
	o->proc = c->proc;
	o->hint = 1;
	ntbs_le64_write_release(&o->word, word);
	return word;
}

/* Returns the result, and the word in @now. */
BT uint32_t bt_claim(struct bt_client *c, uint32_t uid, uint32_t entry, uint64_t word, uint64_t chan, int proof, uint64_t *now)
{
	struct ntbs_msg_claim m = {
		.h = { NTBS_MSG_CLAIM, sizeof(m), ++c->cookie },
		.chan = chan, .word = word, .uid = uid, .entry = entry, .lease = 7,
	};
	struct ntbs_msg_claim r;

	bt_send(c->fd, &m, sizeof(m), &proof, 1);
	bt_expect(c, &r, NTBS_MSG_CLAIM_RESULT, sizeof(r), NULL, 0);
	must(r.h.cookie == c->cookie && r.chan == chan && r.uid == uid && r.entry == entry && r.lease == 7, "CLAIM_RESULT fields");
	if (now)
		*now = r.word;
	return r.result;
}

BT unsigned bt_nr_fds(pid_t pid)
{
	char path[40];
	unsigned n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	d = opendir(path);
	must(d, "%s", path);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

#endif
