// SPDX-License-Identifier: BSD-2-Clause
/*
 * fuzz_broker.c - any packets from three clients and from the other broker
 *
 * The whole broker but main.c, over real sockets, so that descriptors travel and end as they do in life.  An input is
 * a list of operations: who sends, which message, how it is bent, its bytes.  So that more than the first check is
 * reached, @fix puts true process ids, channels, users and offers into fields.  After an input everybody hangs up; then
 * no client, process or descriptor may be left.
 *
 * links: ntbsock/broker/chan.c ntbsock/broker/check.c ntbsock/broker/client.c ntbsock/broker/conf_file.c ntbsock/broker/hold.c ntbsock/broker/loop.c ntbsock/broker/match.c ntbsock/broker/memory.c ntbsock/broker/packet.c ntbsock/broker/peer.c ntbsock/broker/meet.c ntbsock/broker/bridge.c ntbsock/broker/ctlring.c ntbsock/broker/region.c ntbsock/broker/irq.c ntbsock/broker/emu.c ntbsock/broker/copier.c driver-glue/sim/dmasim.c ntbsock/crc32c.c ntbsock/broker/remote.c ntbsock/broker/rules.c ntbsock/broker/show.c driver-glue/log.c
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "broker/broker.h"
#include "broker/client.h"
#include "broker/hwport.h"
#include "broker/peer.h"
#include "broker/remote.h"
#include "log.h"
#include "vfio/ioat_dma.h"
#include "vfio/pci.h"

#define promise(cond)                                                                          \
	do {                                                                                   \
		if (!(cond)) {                                                                 \
			fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #cond);     \
			abort();                                                               \
		}                                                                              \
	} while (0)

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#define CLIENTS 3
#define OTHER_NODE 2

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

struct ntbs_broker ntbs_broker = { .node = 1, .has_cable = true, .run_dir = "/run", .config_dir = "/nonexistent" };

/* There is no PCI function here, and none of its libraries. */
const struct ntbs_bridge_driver ntbs_hwport_driver;

int ntbs_hwport_open(const char *spec)
{
	return -ENODEV;
}

int ntbs_ioat_dma_open(struct ntbs_dma **dma, const char *address, const struct ntbs_pci_where *where, char *why, size_t why_bytes)
{
	return -ENODEV;
}

int ntbs_pci_address(const char *text, char address[16])
{
	return -EINVAL;
}

static struct ntbs_watch one_turn;	/* always ready: ends ntbs_loop_run() after one batch */
static char cable_path[80];
static int bell, sealed, loose, tcp[2];	/* what rides along */
static struct ntbs_tuple tuple;
static uint64_t netns;
static int far[CLIENTS], far_cable;

static void on_turn(struct ntbs_watch *w, uint32_t events)
{
	ntbs_loop_stop();
}

static void after_batch(void)
{
	ntbs_clients_reap();
	ntbs_peer_reap();
	ntbs_clients_reap();
}

static void turn(void)
{
	promise(!ntbs_loop_run(after_batch, NULL));
}

/* Pipes apart: the broker has none, but sanitizers keep some to their symbolizer. */
static unsigned nr_fds(bool show)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	unsigned n = 0;

	promise(d);
	while ((e = readdir(d))) {
		char target[100] = "";

		if (readlinkat(dirfd(d), e->d_name, target, sizeof(target) - 1) < 0 || !strncmp(target, "pipe:", 5))
			continue;
		n++;
		if (show)
			fprintf(stderr, "%s -> %s\n", e->d_name, target);
	}
	closedir(d);
	return n;
}

static void make_connection(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, b;
	socklen_t len = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	promise(!bind(listener, (void *)&a, len) && !listen(listener, 1) && !getsockname(listener, (void *)&a, &len));
	tcp[0] = socket(AF_INET, SOCK_STREAM, 0);
	promise(!connect(tcp[0], (void *)&a, sizeof(a)));
	tcp[1] = accept(listener, NULL, NULL);
	close(listener);
	len = sizeof(b);
	promise(tcp[1] >= 0 && !getsockname(tcp[0], (void *)&b, &len));
	tuple.laddr[10] = tuple.laddr[11] = tuple.raddr[10] = tuple.raddr[11] = 0xff;
	memcpy(tuple.laddr + 12, &b.sin_addr, 4);
	memcpy(tuple.raddr + 12, &a.sin_addr, 4);
	tuple.lport = ntohs(b.sin_port);
	tuple.rport = ntohs(a.sin_port);
	len = sizeof(netns);
	getsockopt(tcp[0], SOL_SOCKET, SO_NETNS_COOKIE, &netns, &len);
}

static void remove_cable(void)
{
	char lock[sizeof(cable_path) + 8];

	snprintf(lock, sizeof(lock), "%s.lock", cable_path);
	unlink(cable_path);
	unlink(lock);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	ntbs_log_level = -1;
	snprintf(cable_path, sizeof(cable_path), "/tmp/ntbs-fuzz-%d", getpid());
	atexit(remove_cable);
	promise(!ntbs_loop_open() && !ntbs_rules_open());
	promise(!ntbs_peer_open(cable_path));
	one_turn = (struct ntbs_watch){ .fd = eventfd(1, EFD_CLOEXEC), .ready = on_turn };
	promise(!ntbs_loop_add(&one_turn, EPOLLIN));
	promise(ntbs_board_get(geteuid()));
	bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	sealed = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	loose = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	promise(!ftruncate(sealed, 4096) && !fcntl(sealed, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
	make_connection();
	return 0;
}

/* Sending may fail, when the broker has hung up: that is fine. */
static void send_packet(int fd, const void *msg, size_t len, const int *fds, int nr)
{
	struct iovec iov = { .iov_base = (void *)msg, .iov_len = len };
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(8 * sizeof(int))];
	} control = { 0 };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nr) {
		mh.msg_control = &control;
		mh.msg_controllen = CMSG_SPACE((size_t)nr * sizeof(int));
		control.align = (struct cmsghdr){ CMSG_LEN((size_t)nr * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.align), fds, (size_t)nr * sizeof(int));
	}
	sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* What the broker says is well-formed, whatever it was told. */
static void drain(int fd, bool cable)
{
	alignas(8) char buf[1024];
	int fds[NTBS_MSG_FDS], nr, n;

	while ((n = ntbs_packet_recv(fd, buf, sizeof(buf), fds, &nr)) > 0) {
		if (cable)
			promise(ntbs_be16_value(((struct ntbs_peer_msg *)buf)->bytes) == n);
		else
			promise(((struct ntbs_msg *)buf)->bytes == n);
		ntbs_close_fds(fds, nr);
	}
}

struct input {
	const uint8_t *at, *end;
};

static uint8_t take(struct input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

static void take_bytes(struct input *in, void *to, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)to)[i] = take(in);
}

/* The @nr-th process that there is, 0 if there is none. */
static uint32_t some_proc(unsigned nr)
{
	uint32_t found = 0, pos = 0;
	struct ntbs_client *c;

	for (unsigned i = 0; i <= nr % CLIENTS && (c = ntbs_client_next(&pos)); i++)
		found = c->proc;
	return found;
}

static void fix_offer(struct ntbs_board *board, uint32_t *entry, uint64_t *word)
{
	for (unsigned i = 0; i < NTBS_BOARD_OFFERS; i++) {
		*word = ntbs_le64_read(&board->shm->offer[i].word);
		*entry = i;
		if (NTBS_OFFER_STATE(*word) == NTBS_OFFER_OFFERED)
			return;
	}
}

static const struct {
	uint16_t type, bytes;
	uint8_t nr_fds;
} client_messages[] = {
	{ NTBS_MSG_HELLO, sizeof(struct ntbs_msg_hello), 2 },	{ NTBS_MSG_CHAN_OPEN, sizeof(struct ntbs_msg_chan), 1 },
	{ NTBS_MSG_CLAIM, sizeof(struct ntbs_msg_claim), 1 },	{ NTBS_MSG_OFFER_REMOTE, sizeof(struct ntbs_msg_claim), 0 },
	{ NTBS_MSG_POOL, sizeof(struct ntbs_msg_plain), 1 },	{ NTBS_MSG_MBOX, sizeof(struct ntbs_msg_mbox), 1 },
	{ NTBS_MSG_STATUS, sizeof(struct ntbs_msg_plain), 0 },	{ NTBS_MSG_POOLS, sizeof(struct ntbs_msg_plain), 0 },
	{ NTBS_MSG_RELOAD, sizeof(struct ntbs_msg_plain), 0 },	{ NTBS_MSG_VOUCH, sizeof(struct ntbs_msg_plain), 1 },
	{ NTBS_MSG_AWAIT, sizeof(struct ntbs_msg_plain), 0 },	{ NTBS_MSG_TAKE, sizeof(struct ntbs_msg_take), 2 },
}, peer_messages[] = {
	{ NTBS_PEER_HELLO, sizeof(struct ntbs_peer_hello), 0 }, { NTBS_PEER_OFFER, sizeof(struct ntbs_peer_offer), 0 },
	{ NTBS_PEER_CLAIM, sizeof(struct ntbs_peer_claim), 0 }, { NTBS_PEER_CLAIM_RESULT, sizeof(struct ntbs_peer_claim), 0 },
	{ NTBS_PEER_CHAN, sizeof(struct ntbs_peer_chan), 3 },	{ NTBS_PEER_CHAN_BELLS, sizeof(struct ntbs_peer_chan), 2 },
	{ NTBS_PEER_CHAN_FAIL, sizeof(struct ntbs_peer_chan), 0 }, { NTBS_PEER_MBOX, sizeof(struct ntbs_peer_mbox), 1 },
	{ NTBS_PEER_GONE, sizeof(struct ntbs_peer_proc), 0 },	{ NTBS_PEER_ASK_PROC, sizeof(struct ntbs_peer_proc), 0 },
};

static void pick_fds(struct input *in, uint16_t type, bool cable, int fds[8])
{
	const int any[] = { bell, sealed, tcp[1], loose, tcp[0], far_cable };
	bool memory = cable ? type == NTBS_PEER_CHAN : type == NTBS_MSG_CHAN_OPEN || type == NTBS_MSG_POOL;
	uint8_t how = take(in);

	for (int i = 0; i < 8; i++)
		fds[i] = how ? any[(how + i) % 6] : bell;
	if (!how && memory)
		fds[0] = sealed;
	if (!how && !cable && type == NTBS_MSG_CLAIM)
		fds[0] = tcp[1];
}

static void client_op(struct input *in, unsigned who)
{
	uint8_t kind = take(in), bend = take(in), fix = take(in);
	unsigned i = kind % (sizeof(client_messages) / sizeof(client_messages[0]));
	alignas(8) char packet[NTBS_MSG_MAX + 64] = { 0 };
	struct ntbs_msg *h = (struct ntbs_msg *)packet;
	size_t len = client_messages[i].bytes;
	int fds[8], nr = client_messages[i].nr_fds;
	uint32_t me = some_proc(who), them = some_proc(who + 1 + (fix >> 6));

	take_bytes(in, h + 1, len - sizeof(*h));
	h->type = client_messages[i].type;
	if (h->type == NTBS_MSG_HELLO && (fix & 1)) {
		((struct ntbs_msg_hello *)packet)->abi = NTBS_BROKER_ABI;
	} else if (h->type == NTBS_MSG_CHAN_OPEN) {
		struct ntbs_msg_chan *m = (struct ntbs_msg_chan *)packet;

		if (fix & 1)
			m->chan = NTBS_CHAN_ID(me, m->chan & 3);
		if (fix & 2)
			m->proc = them;
		if (fix & 4)
			m->proc = NTBS_PROC_ID(OTHER_NODE, m->proc & 3);
	} else if (h->type == NTBS_MSG_CLAIM || h->type == NTBS_MSG_OFFER_REMOTE) {
		struct ntbs_msg_claim *m = (struct ntbs_msg_claim *)packet;

		if (fix & 1)
			m->chan = NTBS_CHAN_ID(me, m->chan & 3);
		if (fix & 2) {
			m->uid = fix & 4 ? NTBS_BOARD_REMOTE_UID : geteuid();
			fix_offer(ntbs_board_find(m->uid), &m->entry, &m->word);
		}
		if (fix & 8)
			m->lease &= 63;
	} else if (h->type == NTBS_MSG_MBOX && (fix & 1)) {
		((struct ntbs_msg_mbox *)packet)->mbox &= 15;
	}
	if (bend & 1)
		h->type ^= take(in);
	if (bend & 2)
		len = len + take(in) > NTBS_MSG_MAX + 64 ? 1 : len + take(in) % 32;
	h->bytes = (uint16_t)(bend & 4 ? take(in) : len);
	if (bend & 8)
		nr = take(in) % 8;
	pick_fds(in, h->type, false, fds);
	send_packet(far[who], packet, len, fds, nr);
}

static void peer_op(struct input *in)
{
	uint8_t kind = take(in), bend = take(in), fix = take(in);
	unsigned i = kind % (sizeof(peer_messages) / sizeof(peer_messages[0]));
	alignas(8) char packet[NTBS_MSG_MAX] = { 0 };
	struct ntbs_peer_msg *h = (struct ntbs_peer_msg *)packet;
	uint16_t type = peer_messages[i].type;
	size_t len = peer_messages[i].bytes;
	int fds[8], nr = peer_messages[i].nr_fds;
	uint32_t here = some_proc(fix >> 6), there = NTBS_PROC_ID(OTHER_NODE, fix >> 4 & 3);

	take_bytes(in, h + 1, len - sizeof(*h));
	if (type == NTBS_PEER_HELLO && (fix & 1)) {
		struct ntbs_peer_hello *m = (struct ntbs_peer_hello *)packet;

		m->magic = ntbs_be32_from(NTBS_PEER_MAGIC);
		m->version = ntbs_be32_from(NTBS_PEER_VERSION);
		m->node = ntbs_be32_from(OTHER_NODE);
	} else if (type == NTBS_PEER_OFFER && (fix & 1)) {
		struct ntbs_peer_offer *m = (struct ntbs_peer_offer *)packet;

		m->proc = ntbs_be32_from(there);
		memcpy(m->laddr, tuple.laddr, 16);
		memcpy(m->raddr, tuple.raddr, 16);
		m->lport = ntbs_be16_from(tuple.lport);
		m->rport = ntbs_be16_from(tuple.rport);
	} else if (type == NTBS_PEER_CLAIM || type == NTBS_PEER_CLAIM_RESULT) {
		struct ntbs_peer_claim *m = (struct ntbs_peer_claim *)packet;
		uint32_t entry = 0;
		uint64_t word = 0;

		fix_offer(ntbs_board_find(geteuid()), &entry, &word);
		if (fix & 1) {
			m->uid = ntbs_be32_from(geteuid());
			m->entry = ntbs_be32_from(entry);
			m->word = ntbs_be64_from(word);
		}
		if (fix & 2)
			m->chan = ntbs_be64_from(NTBS_CHAN_ID(there, fix >> 2 & 3));
		if (fix & 4)
			m->lease = ntbs_be32_from(fix);
		if (fix & 8) {
			m->ref_entry = ntbs_be32_from(ntbs_offer_hash(&tuple, 0) % NTBS_BOARD_OFFERS);
			m->ref_tag = ntbs_be32_from(ntbs_be32_value(m->ref_tag) & 3);
		}
	} else if (type == NTBS_PEER_CHAN || type == NTBS_PEER_CHAN_BELLS || type == NTBS_PEER_CHAN_FAIL) {
		struct ntbs_peer_chan *m = (struct ntbs_peer_chan *)packet;
		uint32_t acceptor = type == NTBS_PEER_CHAN ? there : here;

		if (fix & 1) {
			m->acceptor = ntbs_be32_from(acceptor);
			m->connector = ntbs_be32_from(type == NTBS_PEER_CHAN ? here : there);
			m->chan = ntbs_be64_from(NTBS_CHAN_ID(acceptor, fix >> 2 & 3));
		}
	} else if (type == NTBS_PEER_MBOX && (fix & 1)) {
		struct ntbs_peer_mbox *m = (struct ntbs_peer_mbox *)packet;

		m->from = ntbs_be32_from(there);
		m->to = ntbs_be32_from(here);
		m->mbox = ntbs_be32_from(fix & 15);
	} else if (fix & 1) {
		((struct ntbs_peer_proc *)packet)->proc = ntbs_be32_from(fix & 2 ? here : there);
	}
	if (bend & 1)
		type = (uint16_t)(type + take(in));
	if (bend & 2)
		len = take(in);
	if (bend & 8)
		nr = take(in) % 8;
	h->type = ntbs_be16_from(type);
	h->bytes = ntbs_be16_from((uint16_t)(bend & 4 ? take(in) : len));
	pick_fds(in, type, true, fds);
	send_packet(far_cable, packet, len, fds, nr);
}

/* A client writes into its user's board, without asking anybody. */
static void board_op(struct input *in)
{
	struct ntbs_board_shm *shm = ntbs_board_find(geteuid())->shm;
	uint8_t fix = take(in);
	struct ntbs_offer_shm *o = &shm->offer[take(in) % 8];

	if (fix & 1) {
		o->tuple = tuple;
		o->netns = netns;
		o->proc = some_proc(fix >> 6);
		ntbs_le64_write(&o->word, ntbs_offer_word(NTBS_OFFER_OFFERED, fix, 0, 0));
	} else {
		take_bytes(in, o, sizeof(*o));
	}
}

static void plug(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	far_cable = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	strcpy(un.sun_path, cable_path);
	promise(!connect(far_cable, (void *)&un, sizeof(un)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, data + size };
	unsigned fds_at_rest = nr_fds(false);

	plug();
	for (int i = 0; i < CLIENTS; i++) {
		int pair[2];

		promise(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
		far[i] = pair[0];
		promise(ntbs_client_add(pair[1]));
	}
	turn();
	while (in.at < in.end) {
		uint8_t op = take(&in);

		switch (op % 8) {
		case 0 ... 2:
			client_op(&in, op % 8);
			break;
		case 3 ... 4:
			peer_op(&in);
			break;
		case 5:
			board_op(&in);
			break;
		case 6:		/* somebody leaves, and a new one comes */
			if (op & 8) {
				close(far_cable);
				turn();
				turn();
				plug();
			} else {
				unsigned i = (op >> 4) % CLIENTS;
				int pair[2];

				close(far[i]);
				promise(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
				far[i] = pair[0];
				promise(ntbs_client_add(pair[1]));
			}
			break;
		default:
			ntbs_remote_tick();
		}
		turn();
		for (int i = 0; i < CLIENTS; i++)
			drain(far[i], false);
		drain(far_cable, true);
	}
	for (int i = 0; i < CLIENTS; i++)
		close(far[i]);
	close(far_cable);
	for (int i = 0; i < 50 && (ntbs_broker.nr_clients || i < 3); i++)
		turn();
	promise(!ntbs_broker.nr_clients && !ntbs_broker.nr_procs && !ntbs_peer_is_up());
	promise(nr_fds(false) == fds_at_rest || !nr_fds(true));
	/* what one input wrote must not decide about the next */
	memset(ntbs_board_find(geteuid())->shm->offer, 0, 8 * sizeof(struct ntbs_offer_shm));
	return 0;
}
