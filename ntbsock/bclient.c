// SPDX-License-Identifier: BSD-2-Clause
/*
 * bclient.c - see bclient.h
 *
 * The broker is trusted no more than anybody else who can write to the socket's path: every packet has its exact size
 * and number of descriptors or the connection is dropped, every memfd its seals and size or it is refused.  Descriptors
 * are closed on every path.
 */
#include "bclient.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <urcu-bp.h>

#include "conf.h"
#include "far.h"
#include "fdtab.h"
#include "getfd.h"
#include "handover.h"
#include "log.h"
#include "memfd.h"
#include "offer.h"
#include "runtime.h"
#include "service.h"
#include "stats.h"
#include "sys.h"

#define HELLO_WAIT_MS 200
#define ALL UINT32_MAX			/* no process has this number */

static bool send_to(int sock, const void *msg, size_t len, const int *fds, int nr_fds)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int) * NTBS_MSG_FDS)];
	} control;
	struct iovec iov = { (void *)msg, len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	long ret;

	if (nr_fds) {
		memset(&control, 0, sizeof(control));
		mh.msg_control = &control;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * nr_fds);
		control.h.cmsg_level = SOL_SOCKET;
		control.h.cmsg_type = SCM_RIGHTS;
		control.h.cmsg_len = CMSG_LEN(sizeof(int) * nr_fds);
		memcpy(CMSG_DATA(&control.h), fds, sizeof(int) * nr_fds);
	}
	ret = ntbs_sys3(SYS_sendmsg, sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	return ret == (long)len;
}

bool ntbs_bclient_send(const void *msg, size_t len, const int *fds, int nr_fds)
{
	int sock = ntbs_rt.broker;

	return sock >= 0 && send_to(sock, msg, len, fds, nr_fds);
}

bool ntbs_broker_send(const void *msg, size_t len, const int *fds, int nr_fds)
{
	bool ok;

	ntbs_lock(&ntbs_rt.lock);
	ok = ntbs_bclient_send(msg, len, fds, nr_fds);
	ntbs_unlock(&ntbs_rt.lock);
	return ok;
}

struct packet {
	union {
		struct ntbs_msg h;
		char raw[NTBS_MSG_MAX];
	};
	size_t len;
	int fd[NTBS_MSG_FDS];
	int nr_fds;
};

static void close_fds(struct packet *p)
{
	for (int i = 0; i < p->nr_fds; i++)
		if (p->fd[i] >= 0)
			ntbs_sys1(SYS_close, p->fd[i]);
	p->nr_fds = 0;
}

/* 1 a packet; 0 nothing there; -1 the broker is gone or talks nonsense */
static int receive(int sock, struct packet *p)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int) * NTBS_MSG_FDS)];
	} control;
	struct iovec iov = { p->raw, sizeof(p->raw) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			     .msg_controllen = sizeof(control) };
	struct cmsghdr *c;
	long n = ntbs_sys3(SYS_recvmsg, sock, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	p->nr_fds = 0;
	if (n == -EAGAIN || n == -EINTR)
		return 0;
	if (n <= 0)
		return -1;
	for (c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c)) {
		int k;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (int i = 0; i < k && p->nr_fds < NTBS_MSG_FDS; i++)
			memcpy(&p->fd[p->nr_fds++], (int *)CMSG_DATA(c) + i, sizeof(int));
	}
	p->len = n;
	if ((mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || p->len < sizeof(p->h) || p->h.bytes != p->len) {
		close_fds(p);
		return -1;
	}
	return 1;
}

/* Map a memfd of at least @len bytes that cannot shrink under us.  NULL if it is not that. */
static void *map_checked(int fd, size_t len, int prot, size_t *size)
{
	int64_t bytes = ntbs_memfd_bytes(fd);

	if (bytes < (int64_t)len)
		return NULL;
	*size = bytes;
	return ntbs_map_sparse(fd, 0, bytes, prot);
}

static void *zalloc(size_t len)
{
	long mem = ntbs_sys6(SYS_mmap, 0, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mem < 0 && mem > -4096 ? NULL : (void *)mem;
}

static void add_board(int fd, uint32_t uid, bool mine)
{
	struct ntbs_board *b;
	size_t size;

	cds_list_for_each_entry(b, &ntbs_rt.boards, node)
		if (b->uid == uid && b->mine == mine && !mine)
			return;
	b = zalloc(sizeof(*b));
	if (!b)
		return;
	b->uid = uid;
	b->session = ntbs_rt.session;
	b->proc = ntbs_rt.proc;
	b->mine = mine;
	b->shm = map_checked(fd, sizeof(*b->shm), mine ? PROT_READ | PROT_WRITE : PROT_READ, &size);
	if (!b->shm || ntbs_le32_read(&b->shm->magic) != NTBS_BOARD_MAGIC) {
		ntbs_log(NTBS_LOG_WARN, "the broker sent a board of user %u that is none; its offers are not seen", uid);
		ntbs_unmap(b, sizeof(*b));
		return;
	}
	if (mine)
		ntbs_rt.board = b;
	else if (uid != NTBS_BOARD_REMOTE_UID)
		ntbs_bell_wary = true;
	ntbs_list_publish(&b->node, &ntbs_rt.boards);
}

/* Takes over the bells; -1: its broker rings for us (far.h). */
static struct ntbs_peer *peer_add(uint32_t proc, uint32_t uid, int mbox, int service)
{
	struct ntbs_peer *p;

	cds_list_for_each_entry(p, &ntbs_rt.peers, node)
		if (p->proc == proc && !p->gone) {
			if (mbox >= 0)
				ntbs_sys1(SYS_close, mbox);
			if (service >= 0)
				ntbs_sys1(SYS_close, service);
			return p;
		}
	p = zalloc(sizeof(*p));
	if (!p) {
		if (mbox >= 0)
			ntbs_sys1(SYS_close, mbox);
		if (service >= 0)
			ntbs_sys1(SYS_close, service);
		return NULL;
	}
	p->proc = proc;
	p->uid = uid;
	for (int i = 0; i < NTBS_MBOXES; i++)
		p->bell[i] = -1;
	p->bell[0] = mbox < 0 ? -1 : ntbs_fd_hide(mbox);
	p->service_bell = service < 0 ? -1 : ntbs_fd_hide(service);
	ntbs_list_publish(&p->node, &ntbs_rt.peers);
	return p;
}

/* A channel that somebody has made to answer an offer of ours. */
static void chan_attach(const struct ntbs_msg_chan *m, struct packet *p)
{
	struct ntbs_chan *c = zalloc(sizeof(*c));

	if (!c)
		return;
	c->id = m->chan;
	c->session = ntbs_rt.session;
	c->peer_proc = m->proc;
	c->shm = ntbs_runtime_limited() ? NULL : map_checked(p->fd[0], NTBS_CHAN_HDR, PROT_READ | PROT_WRITE, &c->bytes);
	if (!c->shm)
		goto err_free;
	c->geo.nr_slots = ntbs_le32_read(&c->shm->nr_slots);
	c->geo.bulk_bytes = ntbs_le32_read(&c->shm->bulk_bytes);
	c->geo.bulk_offset = ntbs_le32_read(&c->shm->bulk_offset);
	c->nr_leases = ntbs_le32_read(&c->shm->nr_leases);
	c->inbox_bytes = ntbs_le32_read(&c->shm->inbox_bytes);
	if (ntbs_le32_read_acquire(&c->shm->magic) != NTBS_CHAN_MAGIC || ntbs_le32_read(&c->shm->abi) != NTBS_INBOX_ABI ||
	    !ntbs_msgq_geo_ok(&c->geo) || c->nr_leases > NTBS_LEASES_MAX || c->inbox_bytes % 4096 ||
	    c->inbox_bytes < ntbs_msgq_inbox_bytes(&c->geo) ||
	    c->bytes < NTBS_CHAN_HDR + (size_t)c->nr_leases * 2 * c->inbox_bytes) {
		ntbs_log(NTBS_LOG_WARN, "process %u sent a channel with sizes that cannot be; its connections stay on TCP",
			 m->proc);
		goto err_unmap;
	}
	c->peer = peer_add(m->proc, m->uid, p->fd[1], p->fd[2]);
	p->fd[1] = p->fd[2] = -1;
	if (!c->peer)
		goto err_unmap;
	c->peer->chans++;
	c->released = c->shm->released;
	ntbs_list_publish(&c->node, &ntbs_rt.chans);
	ntbs_le32_write_release(&c->shm->attached, 1);
	return;

err_unmap:
	ntbs_unmap(c->shm, c->bytes);
err_free:
	ntbs_unmap(c, sizeof(*c));
}

static void chan_bells(const struct ntbs_msg_chan *m, struct packet *p)
{
	struct ntbs_peer *peer = peer_add(m->proc, m->uid, p->fd[0], p->fd[1]);
	struct ntbs_chan *c;

	p->fd[0] = p->fd[1] = -1;
	if (!peer)
		return;
	cds_list_for_each_entry(c, &ntbs_rt.chans, node)
		if (c->acceptor && c->id == m->chan) {
			peer->chans++;
			c->peer = peer;
		}
	/* what was asked for before we could ring */
	if (peer->bell[0] >= 0)
		ntbs_bell_ring(peer->bell[0]);
	if (peer->service_bell >= 0)
		ntbs_bell_ring(peer->service_bell);
}

static struct ntbs_chan *own_chan(uint64_t id)
{
	struct ntbs_chan *c;

	cds_list_for_each_entry(c, &ntbs_rt.chans, node)
		if (c->acceptor && c->id == id)
			return c;
	return NULL;
}

/* A channel over the port: ours, for which we have asked, or one that somebody has made to answer an offer of ours. */
static void chan_port(const struct ntbs_msg_region *m)
{
	struct ntbs_chan *c = m->of_connector ? NULL : own_chan(m->chan);
	struct ntbs_peer *peer;

	if (!m->of_connector && (!c || !c->is_far || c->far_state != NTBS_FAR_ASKED))
		return;
	peer = peer_add(m->proc, m->uid, -1, -1);
	if (peer)
		ntbs_far_chan_open(m, c, peer);
}

static void chan_fail(const struct ntbs_msg_chan *m)
{
	struct ntbs_chan *c = own_chan(m->chan);

	if (!c || !c->is_far || c->far_state != NTBS_FAR_ASKED)
		return;
	c->far_state = NTBS_FAR_FAILED;
	if (m->reason == ENOLINK)	/* not for good: the next one asks again */
		ntbs_chan_drop(c);
}

static bool is_over(const struct ntbs_chan *c, uint32_t proc)
{
	if (c->session != ntbs_rt.session)
		return !c->far;		/* over a port something may be owed yet: it goes with the port's own session */
	return c->peer ? c->peer->gone : c->is_far && c->peer_proc == proc;
}

/* The peer's process has left, or all have with their session.  Their channels serve what is still open on them and then go. */
static void peer_gone(uint32_t proc)
{
	struct ntbs_chan *c, *nc;
	struct ntbs_peer *p, *np;

	cds_list_for_each_entry(p, &ntbs_rt.peers, node)
		if (p->proc == proc || proc == ALL)
			p->gone = true;
	cds_list_for_each_entry_safe(c, nc, &ntbs_rt.chans, node)
		if (is_over(c, proc))
			ntbs_chan_drop(c);
	cds_list_for_each_entry_safe(p, np, &ntbs_rt.peers, node) {
		if (!p->gone || p->chans)
			continue;
		ntbs_list_unlink(&p->node);
		for (int i = 0; i < NTBS_MBOXES; i++)
			ntbs_fd_unhide_close(p->bell[i]);
		ntbs_fd_unhide_close(p->service_bell);
		ntbs_unmap(p, sizeof(*p));
	}
}

static void peer_mbox(const struct ntbs_msg_mbox *m, struct packet *p)
{
	struct ntbs_peer *peer;

	cds_list_for_each_entry(peer, &ntbs_rt.peers, node)
		if (peer->proc == m->proc && !peer->gone && m->mbox && m->mbox < NTBS_MBOXES && peer->bell[m->mbox] < 0) {
			struct ntbs_chan *c;

			peer->bell[m->mbox] = ntbs_fd_hide(p->fd[0]);
			p->fd[0] = -1;
			cds_list_for_each_entry(c, &ntbs_rt.chans, node)
				if (c->peer == peer && c->shm)
					__atomic_fetch_or(c->acceptor ? &c->shm->acceptor_mboxes_known.v :
									&c->shm->mboxes_known.v,
							  1u << m->mbox, __ATOMIC_RELEASE);
			return;
		}
}

static bool shape(const struct packet *p, size_t len, int fds)
{
	return p->len == len && p->nr_fds == fds;
}

/* false: the packet has the wrong shape */
static bool handle(struct packet *p)
{
	switch (p->h.type) {
	case NTBS_MSG_BOARD:
		if (!shape(p, sizeof(struct ntbs_msg_board), 1))
			return false;
		add_board(p->fd[0], ((struct ntbs_msg_board *)p)->uid, false);
		return true;
	case NTBS_MSG_CHAN:
		if (!shape(p, sizeof(struct ntbs_msg_chan), 3))
			return false;
		chan_attach((struct ntbs_msg_chan *)p, p);
		return true;
	case NTBS_MSG_CHAN_BELLS:
		if (!shape(p, sizeof(struct ntbs_msg_chan), 2))
			return false;
		chan_bells((struct ntbs_msg_chan *)p, p);
		return true;
	case NTBS_MSG_CHAN_FAIL:	/* its connections stay on TCP: nobody will confirm */
		if (!shape(p, sizeof(struct ntbs_msg_chan), 0))
			return false;
		chan_fail((struct ntbs_msg_chan *)p);
		return true;
	case NTBS_MSG_PORT:
		if (!shape(p, sizeof(struct ntbs_msg_port), 4))
			return false;
		ntbs_far_port((struct ntbs_msg_port *)p, p->fd);
		return true;
	case NTBS_MSG_CHAN_PORT:
		if (!shape(p, sizeof(struct ntbs_msg_region), 0))
			return false;
		chan_port((struct ntbs_msg_region *)p);
		return true;
	case NTBS_MSG_CLAIM_RESULT:	/* likewise; a good one is seen in memory */
		return shape(p, sizeof(struct ntbs_msg_claim), 0);
	case NTBS_MSG_PEER_MBOX:
		if (!shape(p, sizeof(struct ntbs_msg_mbox), 1))
			return false;
		peer_mbox((struct ntbs_msg_mbox *)p, p);
		return true;
	case NTBS_MSG_TAKEN:
		if (!shape(p, sizeof(struct ntbs_msg_take), 1))
			return false;
		ntbs_getfd_taken(((struct ntbs_msg_take *)p)->cookie, p->fd[0]);
		p->fd[0] = -1;
		return true;
	case NTBS_MSG_LEAVE:		/* ntbs_broker_receive() */
		return shape(p, sizeof(struct ntbs_msg_drain), 0);
	case NTBS_MSG_PEER_GONE:
		if (!shape(p, sizeof(struct ntbs_msg_gone), 0))
			return false;
		peer_gone(((struct ntbs_msg_gone *)p)->proc);
		return true;
	default:
		return false;
	}
}

int ntbs_broker_receive(void)
{
	struct packet p;
	uint32_t session;
	int ret, nr = 0;

	ntbs_lock(&ntbs_rt.lock);
	session = ntbs_rt.session;
	while (ntbs_rt.broker >= 0 && (ret = receive(ntbs_rt.broker, &p)) != 0) {
		if (ret > 0 && p.h.type == NTBS_MSG_PEER_GONE) {
			/* What it had claimed and we have not noticed yet becomes ours first: its bytes may lie there.  It
			 * claims no more.  Without our lock, which nests in those of sockets. */
			ntbs_unlock(&ntbs_rt.lock);
			ntbs_service_step();
			if (shape(&p, sizeof(struct ntbs_msg_gone), 0))
				ntbs_handover_peer_gone(((struct ntbs_msg_gone *)&p)->proc);
			ntbs_lock(&ntbs_rt.lock);
		}
		if (ret > 0 && p.h.type == NTBS_MSG_LEAVE && shape(&p, sizeof(struct ntbs_msg_drain), 0)) {
			ntbs_unlock(&ntbs_rt.lock);
			ntbs_handover_drain(&((struct ntbs_msg_drain *)&p)->tuple);
			ntbs_lock(&ntbs_rt.lock);
		}
		if (session != ntbs_rt.session) {	/* another thread has begun a new one meanwhile */
			close_fds(&p);
			break;
		}
		if (ret > 0 && !handle(&p)) {
			ntbs_log(NTBS_LOG_ERR, "the broker sent a message that cannot be (type %u, %zu bytes, %d descriptors); "
				 "new connections stay on TCP", p.h.type, p.len, p.nr_fds);
			ret = -1;
		}
		close_fds(&p);
		if (ret < 0) {
			int fd = ntbs_rt.broker;
			struct ntbs_chan *c, *nc;

			cds_list_for_each_entry_safe(c, nc, &ntbs_rt.chans, node)
				if (c->is_far && c->far_state == NTBS_FAR_ASKED)
					ntbs_chan_drop(c);
			ntbs_rt.broker = -1;
			ntbs_fd_unhide_close(fd);
			ntbs_unlock(&ntbs_rt.lock);
			return -EPIPE;
		}
		nr++;
	}
	ntbs_unlock(&ntbs_rt.lock);
	return nr;
}

bool ntbs_broker_await_bells(struct ntbs_chan *c)
{
	static const struct timespec wait = { 0, HELLO_WAIT_MS * 1000000l };

	while (!c->peer && c->session == ntbs_rt.session) {
		struct pollfd pfd = { .fd = ntbs_rt.broker, .events = POLLIN };
		struct timespec left = wait;
		long n = ntbs_sys5(SYS_ppoll, &pfd, 1, &left, NULL, 0);

		if (n == 0)
			ntbs_stats_timer_ran_out();
		if (n == -EINTR)
			continue;
		/* the service thread may be quicker: then there is nothing left to take, and we look again */
		if (n <= 0 || ntbs_broker_receive() < 0)
			break;
	}
	return c->peer != NULL;
}

/* The next packet of the greeting; a broker that does not answer in time is as none. */
static bool await_packet(int sock, struct timespec *wait, struct packet *p)
{
	struct pollfd pfd = { .fd = sock, .events = POLLIN };
	long n;

	do
		n = ntbs_sys5(SYS_ppoll, &pfd, 1, wait, NULL, 0);
	while (n == -EINTR);	/* the kernel has counted the time down */
	if (n == 0)
		ntbs_stats_timer_ran_out();
	return n > 0 && receive(sock, p) > 0;
}

/* WELCOME is the first packet, the boards of other users follow: with them every offer that is older can be found. */
static bool welcome(int sock)
{
	struct timespec wait = { 0, HELLO_WAIT_MS * 1000000l };
	const struct ntbs_msg_welcome *w;
	uint32_t boards = 0;
	struct packet p;
	bool ok = false;
	size_t size;

	if (!await_packet(sock, &wait, &p))
		return false;
	w = (const struct ntbs_msg_welcome *)p.raw;
	if (p.h.type != NTBS_MSG_WELCOME || !shape(&p, sizeof(*w), 2))
		goto out;
	if (!ntbs_rt.rules)
		ntbs_rt.rules = map_checked(p.fd[1], sizeof(*ntbs_rt.rules), PROT_READ, &size);
	else {
		struct ntbs_rules_shm *r = map_checked(p.fd[1], sizeof(*r), PROT_READ, &size);

		if (r)		/* the old page may still be read; it is small and stays */
			ntbs_rt.rules = r;
	}
	if (!ntbs_rt.rules || ntbs_le32_read(&ntbs_rt.rules->magic) != NTBS_RULES_MAGIC)
		goto out;
	ntbs_rt.board = NULL;
	ntbs_rt.proc = w->proc;
	add_board(p.fd[0], w->uid, true);
	ntbs_rt.node = w->node;
	ntbs_rt.port_kind = w->port;
	ntbs_rt.uid = w->uid;
	boards = w->boards;
	ok = ntbs_rt.board != NULL;
out:
	close_fds(&p);
	for (; ok && boards; boards--) {
		ok = await_packet(sock, &wait, &p);
		if (ok) {
			ok = p.h.type == NTBS_MSG_BOARD && handle(&p);
			close_fds(&p);
		}
	}
	return ok;
}

/* Nobody looks at the boards of the one before any more.  They stay mapped for who still reads them. */
static void new_session(void)
{
	struct ntbs_board *b, *nb;

	cds_list_for_each_entry_safe(b, nb, &ntbs_rt.boards, node)
		ntbs_list_unlink(&b->node);
	ntbs_rt.session++;
	peer_gone(ALL);
}

bool ntbs_bclient_connect(void)
{
	struct ntbs_msg_hello hello = { .h = { NTBS_MSG_HELLO, sizeof(hello), 0 }, .abi = NTBS_BROKER_ABI };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int bells[2] = { ntbs_rt.mbox[0], ntbs_rt.service_bell };
	long sock;
	bool ok = false;

	if (strlen(ntbs_conf.run_dir) + sizeof(NTBS_BROKER_SOCK) + 1 > sizeof(un.sun_path))
		return false;
	strcpy(un.sun_path, ntbs_conf.run_dir);
	strcat(un.sun_path, "/" NTBS_BROKER_SOCK);
	sock = ntbs_sys3(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return false;
	sock = ntbs_fd_hide(sock);
	if (sock < 0)
		return false;
	/* a full backlog would block here: do not wait for a broker that is stuck */
	ntbs_sys3(SYS_fcntl, sock, F_SETFL, O_NONBLOCK | O_RDWR);
	if (ntbs_sys3(SYS_connect, sock, &un, sizeof(un)) < 0) {
		ntbs_fd_unhide_close(sock);
		return false;
	}
	hello.pid = ntbs_sys0(SYS_getpid);
	memcpy(hello.program, ntbs_conf.program, sizeof(hello.program) - 1);
	ntbs_lock(&ntbs_rt.lock);
	new_session();
	ok = send_to(sock, &hello, sizeof(hello), bells, 2) && welcome(sock);
	if (ok)
		ntbs_rt.broker = sock;
	ntbs_rt.silent = !ok;
	ntbs_unlock(&ntbs_rt.lock);
	if (!ok)
		ntbs_fd_unhide_close(sock);
	else
		ntbs_service_new_broker();
	return ok;
}
