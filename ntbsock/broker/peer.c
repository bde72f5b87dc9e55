// SPDX-License-Identifier: BSD-2-Clause
/* peer.c - see peer.h */
#include "peer.h"

#include <errno.h>
#include <stdarg.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "broker.h"
#include "chan.h"
#include "client.h"
#include "log.h"
#include "loop.h"
#include "match.h"
#include "packet.h"
#include "remote.h"

#define PACKETS_A_TURN 64

static struct ntbs_watch cable = { .fd = -1 }, listener = { .fd = -1 };
static struct ntbs_sendq tx;
static struct sockaddr_un address;
static int lock_fd = -1;
static bool broken, watching_out;
static uint32_t node; /* of the other broker; 0: it has not said HELLO on this cable */
static uint64_t own_epoch, last_epoch; /* last: of the other broker, when the cable was last up; 0 never */

bool ntbs_peer_is_up(void)
{
	return node && !broken;
}

bool ntbs_peer_is_proc(uint32_t proc)
{
	return ntbs_peer_is_up() && NTBS_PROC_NODE(proc) == node;
}

static void __attribute__((format(printf, 2, 3))) lose(int level, const char *why, ...)
{
	char text[160];
	va_list ap;

	if (cable.fd < 0 || broken)
		return;
	broken = true;
	va_start(ap, why);
	vsnprintf(text, sizeof(text), why, ap);
	va_end(ap);
	ntbs_log(level, "cable %s is down: %s", address.sun_path, text);
}

static void watch_out(void)
{
	bool want = !ntbs_sendq_empty(&tx);

	if (want != watching_out && cable.fd >= 0)
		ntbs_loop_change(&cable, want ? EPOLLIN | EPOLLOUT : EPOLLIN);
	watching_out = want;
}

static void send_packet(void *msg, enum ntbs_peer_type type, size_t len_bytes, const int *fds, int nr_fds)
{
	struct ntbs_peer_msg *h = msg;
	int ret;

	if (cable.fd < 0 || broken)
		return;
	h->type = ntbs_be16_from((uint16_t)type);
	h->bytes = ntbs_be16_from((uint16_t)len_bytes);
	ret = ntbs_packet_send(&tx, cable.fd, msg, len_bytes, fds, nr_fds);
	if (ret)
		lose(NTBS_LOG_WARN, "%s", ret == -ENOBUFS ? "the other broker does not read" : strerror(-ret));
	else
		watch_out();
}

/* As send_packet(), for all that may only follow HELLO. */
static void send_up(void *msg, enum ntbs_peer_type type, size_t len_bytes, const int *fds, int nr_fds)
{
	if (ntbs_peer_is_up())
		send_packet(msg, type, len_bytes, fds, nr_fds);
}

void ntbs_peer_offer(uint32_t uid, uint32_t entry, uint64_t word, uint32_t proc, uint32_t hint,
		     const struct ntbs_tuple *tuple)
{
	struct ntbs_peer_offer msg = {
		.word = ntbs_be64_from(word),
		.uid = ntbs_be32_from(uid),
		.entry = ntbs_be32_from(entry),
		.proc = ntbs_be32_from(proc),
		.hint = ntbs_be32_from(hint),
		.lport = ntbs_be16_from(tuple->lport),
		.rport = ntbs_be16_from(tuple->rport),
	};

	memcpy(msg.laddr, tuple->laddr, sizeof(msg.laddr));
	memcpy(msg.raddr, tuple->raddr, sizeof(msg.raddr));
	send_up(&msg, NTBS_PEER_OFFER, sizeof(msg), NULL, 0);
}

void ntbs_peer_claim(uint32_t uid, uint32_t entry, uint64_t word, uint64_t chan, uint32_t lease,
		     uint32_t ref_entry, uint32_t ref_tag)
{
	struct ntbs_peer_claim msg = {
		.word = ntbs_be64_from(word),
		.chan = ntbs_be64_from(chan),
		.uid = ntbs_be32_from(uid),
		.entry = ntbs_be32_from(entry),
		.lease = ntbs_be32_from(lease),
		.ref_entry = ntbs_be32_from(ref_entry),
		.ref_tag = ntbs_be32_from(ref_tag),
	};

	send_up(&msg, NTBS_PEER_CLAIM, sizeof(msg), NULL, 0);
}

void ntbs_peer_claim_result(const struct ntbs_peer_claim *claim, uint64_t word, int err)
{
	struct ntbs_peer_claim msg = *claim;

	msg.word = ntbs_be64_from(word);
	msg.result = ntbs_be32_from((uint32_t)-err);
	send_up(&msg, NTBS_PEER_CLAIM_RESULT, sizeof(msg), NULL, 0);
}

void ntbs_peer_chan(enum ntbs_peer_type type, uint64_t chan, uint32_t acceptor, uint32_t connector,
		    uint32_t uid, uint32_t reason, const int *fds, int nr_fds)
{
	struct ntbs_peer_chan msg = {
		.chan = ntbs_be64_from(chan),
		.acceptor = ntbs_be32_from(acceptor),
		.connector = ntbs_be32_from(connector),
		.uid = ntbs_be32_from(uid),
		.reason = ntbs_be32_from(reason),
	};

	send_up(&msg, type, sizeof(msg), fds, nr_fds);
}

void ntbs_peer_mbox(uint32_t from, uint32_t to, uint32_t mbox, int fd)
{
	struct ntbs_peer_mbox msg = {
		.from = ntbs_be32_from(from),
		.to = ntbs_be32_from(to),
		.mbox = ntbs_be32_from(mbox),
	};

	send_up(&msg, NTBS_PEER_MBOX, sizeof(msg), &fd, 1);
}

static void send_proc(enum ntbs_peer_type type, uint32_t proc)
{
	struct ntbs_peer_proc msg = { .proc = ntbs_be32_from(proc) };

	send_up(&msg, type, sizeof(msg), NULL, 0);
}

void ntbs_peer_proc_gone(uint32_t proc)
{
	send_proc(NTBS_PEER_GONE, proc);
}

void ntbs_peer_ask_proc(uint32_t proc)
{
	send_proc(NTBS_PEER_ASK_PROC, proc);
}

/* ------------------------------------------------------------- receiving */

static void on_hello(const void *packet, const int *fds)
{
	const struct ntbs_peer_hello *m = packet;
	uint32_t version = ntbs_be32_value(m->version), id = ntbs_be32_value(m->node);
	uint64_t epoch = ntbs_be64_value(m->epoch);

	if (ntbs_be32_value(m->magic) != NTBS_PEER_MAGIC) {
		lose(NTBS_LOG_ERR, "what is at its other end is no ntbsockd");
	} else if (version != NTBS_PEER_VERSION) {
		lose(NTBS_LOG_ERR,
		     "the other broker speaks version %u, this one %d; install one version on both hosts",
		     version, NTBS_PEER_VERSION);
	} else if (id < 1 || id > 255 || id == ntbs_broker.node) {
		lose(NTBS_LOG_ERR, "both brokers have node id %u; give each its own with --node", id);
	} else if (node) {
		lose(NTBS_LOG_ERR, "the other broker said HELLO twice");
	} else {
		node = id;
		ntbs_log(NTBS_LOG_INFO, "cable %s is up: node %u", address.sun_path, node);
		ntbs_chan_cable_back(last_epoch != epoch);
		last_epoch = epoch;
	}
}

static void on_offer(const void *packet, const int *fds)
{
	ntbs_remote_peer_offer(packet);
}

static void on_claim(const void *packet, const int *fds)
{
	ntbs_match_peer_claim(packet);
}

static void on_claim_result(const void *packet, const int *fds)
{
	ntbs_remote_peer_result(packet);
}

static void on_chan(const void *packet, const int *fds)
{
	ntbs_chan_peer_open(packet, fds);
}

static void on_chan_bells(const void *packet, const int *fds)
{
	ntbs_chan_peer_bells(packet, fds);
}

static void on_chan_fail(const void *packet, const int *fds)
{
	ntbs_chan_peer_fail(packet);
}

static void on_mbox(const void *packet, const int *fds)
{
	ntbs_chan_peer_mbox(packet, fds);
}

static void on_gone(const void *packet, const int *fds)
{
	uint32_t proc = ntbs_be32_value(((const struct ntbs_peer_proc *)packet)->proc);

	if (!ntbs_peer_is_proc(proc))
		return;
	ntbs_remote_proc_gone(proc);
	ntbs_chan_peer_gone(proc);
}

static void on_ask_proc(const void *packet, const int *fds)
{
	uint32_t proc = ntbs_be32_value(((const struct ntbs_peer_proc *)packet)->proc);

	if (!ntbs_client_by_proc(proc))
		ntbs_peer_proc_gone(proc);
}

static const struct {
	uint16_t type, bytes;
	int nr_fds;
	void (*handle)(const void *packet, const int *fds);
} messages[] = {
	{ NTBS_PEER_HELLO, sizeof(struct ntbs_peer_hello), 0, on_hello },
	{ NTBS_PEER_OFFER, sizeof(struct ntbs_peer_offer), 0, on_offer },
	{ NTBS_PEER_CLAIM, sizeof(struct ntbs_peer_claim), 0, on_claim },
	{ NTBS_PEER_CLAIM_RESULT, sizeof(struct ntbs_peer_claim), 0, on_claim_result },
	{ NTBS_PEER_CHAN, sizeof(struct ntbs_peer_chan), 3, on_chan },
	{ NTBS_PEER_CHAN_BELLS, sizeof(struct ntbs_peer_chan), 2, on_chan_bells },
	{ NTBS_PEER_CHAN_FAIL, sizeof(struct ntbs_peer_chan), 0, on_chan_fail },
	{ NTBS_PEER_MBOX, sizeof(struct ntbs_peer_mbox), 1, on_mbox },
	{ NTBS_PEER_GONE, sizeof(struct ntbs_peer_proc), 0, on_gone },
	{ NTBS_PEER_ASK_PROC, sizeof(struct ntbs_peer_proc), 0, on_ask_proc },
};

static void handle(const void *packet, size_t len, const int *fds, int nr_fds)
{
	const struct ntbs_peer_msg *h = packet;
	uint16_t type = len < sizeof(*h) ? 0 : ntbs_be16_value(h->type);

	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		if (messages[i].type != type)
			continue;
		if (messages[i].bytes != len || ntbs_be16_value(h->bytes) != len ||
		    messages[i].nr_fds != nr_fds)
			break;
		if (!node && type != NTBS_PEER_HELLO)
			break;
		messages[i].handle(packet, fds);
		return;
	}
	lose(NTBS_LOG_ERR, "the other broker sent message %u with %zu bytes and %d descriptors, which is none",
	     type, len, nr_fds);
}

static void cable_ready(struct ntbs_watch *w, uint32_t events)
{
	if (events & EPOLLOUT) {
		int ret = ntbs_packet_flush(&tx, cable.fd);

		if (ret)
			lose(NTBS_LOG_WARN, "%s", strerror(-ret));
		watch_out();
	}
	for (int i = 0; i < PACKETS_A_TURN && !broken; i++) {
		alignas(8) char packet[NTBS_MSG_MAX];
		int fds[NTBS_MSG_FDS], nr_fds, len;

		len = ntbs_packet_recv(cable.fd, packet, sizeof(packet), fds, &nr_fds);
		if (len == -EAGAIN)
			break;
		if (len > 0)
			handle(packet, (size_t)len, fds, nr_fds);
		else
			lose(NTBS_LOG_WARN, "%s", len ? strerror(-len) : "the other broker has closed it");
		ntbs_close_fds(fds, nr_fds);
	}
}

/* ------------------------------------------------------------- connecting */

/* Takes over @fd. */
static void plug_in(int fd)
{
	struct ntbs_peer_hello hello = {
		.magic = ntbs_be32_from(NTBS_PEER_MAGIC),
		.version = ntbs_be32_from(NTBS_PEER_VERSION),
		.node = ntbs_be32_from(ntbs_broker.node),
		.epoch = ntbs_be64_from(own_epoch),
	};
	int ret;

	cable = (struct ntbs_watch){ .fd = fd, .ready = cable_ready };
	ntbs_sendq_init(&tx);
	broken = watching_out = false;
	node = 0;
	ret = ntbs_loop_add(&cable, EPOLLIN);
	if (ret)
		lose(NTBS_LOG_ERR, "epoll: %s", strerror(-ret));
	send_packet(&hello, NTBS_PEER_HELLO, sizeof(hello), NULL, 0);
}

static void listener_ready(struct ntbs_watch *w, uint32_t events)
{
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) || (cred.uid && cred.uid != geteuid())) {
		ntbs_log(NTBS_LOG_WARN, "cable %s: refused a process of another user", address.sun_path);
		close(fd);
	} else if (cable.fd >= 0) {
		ntbs_log(NTBS_LOG_WARN,
			 "cable %s: refused pid %d: it is connected to another broker already; a cable has two "
			 "ends",
			 address.sun_path, cred.pid);
		close(fd);
	} else {
		plug_in(fd);
	}
}

static bool connect_other(void)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return false;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		return false;
	}
	plug_in(fd);
	return true;
}

/* Whoever gets the lock removes what a dead broker left, and listens for as long as he lives. */
static int listen_here(void)
{
	mode_t mask;
	int fd, ret;

	if (flock(lock_fd, LOCK_EX | LOCK_NB))
		return -errno;
	if (unlink(address.sun_path) && errno != ENOENT)
		return -errno;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	mask = umask(0177);
	ret = bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 1) ? -errno : 0;
	umask(mask);
	listener = (struct ntbs_watch){ .fd = fd, .ready = listener_ready };
	if (!ret)
		ret = ntbs_loop_add(&listener, EPOLLIN);
	if (ret) {
		close(fd);
		listener.fd = -1;
	}
	return ret;
}

void ntbs_peer_tick(void)
{
	int ret;

	if (lock_fd < 0 || cable.fd >= 0 || listener.fd >= 0 || connect_other())
		return;
	ret = listen_here();
	if (ret && ret != -EWOULDBLOCK)
		ntbs_log(NTBS_LOG_ERR, "cable %s: cannot listen: %s; will try again", address.sun_path,
			 strerror(-ret));
}

int ntbs_peer_open(const char *path)
{
	char lock_path[sizeof(address.sun_path) + 8];
	int ret;

	address.sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(address.sun_path)) {
		ntbs_log(NTBS_LOG_ERR, "cable %s: the path is longer than %zu bytes; choose a shorter one",
			 path, sizeof(address.sun_path) - 1);
		return -ENAMETOOLONG;
	}
	strcpy(address.sun_path, path);
	snprintf(lock_path, sizeof(lock_path), "%s.lock", path);
	lock_fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (lock_fd < 0) {
		ret = -errno;
		ntbs_log(NTBS_LOG_ERR, "cable: cannot open %s: %s; its directory must exist and be writable",
			 lock_path, strerror(-ret));
		return ret;
	}
	if (getrandom(&own_epoch, sizeof(own_epoch), 0) != sizeof(own_epoch) || !own_epoch)
		own_epoch = (uint64_t)getpid() << 32 | (ntbs_loop_now_ms() & 0xffffffff);
	ret = ntbs_remote_open();
	if (ret) {
		ntbs_log(NTBS_LOG_ERR, "cable: no board for remote offers: %s", strerror(-ret));
		return ret;
	}
	ntbs_peer_tick();
	return 0;
}

void ntbs_peer_reap(void)
{
	if (!broken)
		return;
	broken = false;
	node = 0;
	ntbs_sendq_drop(&tx);
	ntbs_loop_remove(&cable);
	ntbs_chan_cable_lost();
	ntbs_remote_cable_lost();
}

void ntbs_peer_close(void)
{
	if (cable.fd >= 0) {
		ntbs_sendq_drop(&tx);
		ntbs_loop_remove(&cable);
	}
	node = 0;
	if (listener.fd >= 0) {
		unlink(address.sun_path);
		ntbs_loop_remove(&listener);
	}
	ntbs_close_fds(&lock_fd, 1); /* the file stays: removing it would let two brokers hold two locks */
}
