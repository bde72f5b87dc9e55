// SPDX-License-Identifier: BSD-2-Clause
/* peer.c - see peer.h */
#include "peer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>
#include "bridge.h"
#include "broker.h"
#include "chan.h"
#include "client.h"
#include "log.h"
#include "loop.h"
#include "match.h"
#include "meet.h"
#include "packet.h"
#include "region.h"
#include "remote.h"

#define PACKETS_A_TURN 64

static struct ntbs_watch cable = { .fd = -1 };
static struct ntbs_sendq tx;
static bool over_port, port_up; /* messages go through the control ring of a port, which is there */
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

static const char *wire(void)
{
	static char text[128];

	snprintf(text, sizeof(text), "%s %s", over_port ? "port" : "cable", over_port ? ntbs_bridge_name() : ntbs_meet_path());
	return text;
}

static void __attribute__((format(printf, 2, 3))) lose(int level, const char *why, ...)
{
	char text[160];
	va_list ap;

	if ((cable.fd < 0 && !port_up) || broken)
		return;
	broken = true;
	va_start(ap, why);
	vsnprintf(text, sizeof(text), why, ap);
	va_end(ap);
	ntbs_log(level, "%s is down: %s", wire(), text);
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

	if ((cable.fd < 0 && !port_up) || broken)
		return;
	h->type = ntbs_be16_from((uint16_t)type);
	h->bytes = ntbs_be16_from((uint16_t)len_bytes);
	if (over_port) {
		if (ntbs_bridge_send(msg, len_bytes))
			lose(NTBS_LOG_WARN, "the other broker does not read");
		return;
	}
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
		    uint32_t uid, uint32_t reason, const struct ntbs_region *region, const int *fds, int nr_fds)
{
	struct ntbs_peer_chan msg = {
		.chan = ntbs_be64_from(chan),
		.acceptor = ntbs_be32_from(acceptor),
		.connector = ntbs_be32_from(connector),
		.uid = ntbs_be32_from(uid),
		.reason = ntbs_be32_from(reason),
	};

	if (region) {
		msg.region = ntbs_be64_from(region->offset);
		msg.leases = ntbs_be32_from(region->nr_leases);
		msg.slots = ntbs_be32_from(region->nr_slots);
		msg.bulk = ntbs_be32_from(region->bulk_bytes);
	}
	send_up(&msg, type, sizeof(msg), fds, nr_fds);
}

void ntbs_peer_end(enum ntbs_peer_type type, uint64_t chan, uint32_t lease, uint32_t generation)
{
	struct ntbs_peer_end msg = {
		.chan = ntbs_be64_from(chan),
		.lease = ntbs_be32_from(lease),
		.generation = ntbs_be32_from(generation),
	};

	send_up(&msg, type, sizeof(msg), NULL, 0);
}

void ntbs_peer_mbox(uint32_t from, uint32_t to, uint32_t mbox, int fd)
{
	struct ntbs_peer_mbox msg = {
		.from = ntbs_be32_from(from),
		.to = ntbs_be32_from(to),
		.mbox = ntbs_be32_from(mbox),
	};

	if (!over_port)
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
		ntbs_log(NTBS_LOG_INFO, "%s is up: node %u", wire(), node);
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

static void on_done(const void *packet, const int *fds)
{
	ntbs_chan_peer_done(packet);
}

static void on_state_end(const void *packet, const int *fds)
{
	ntbs_chan_peer_state_end(packet);
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
	{ NTBS_PEER_DONE, sizeof(struct ntbs_peer_end), 0, on_done },
	{ NTBS_PEER_STATE_END, sizeof(struct ntbs_peer_end), 0, on_state_end },
};

static void handle(const void *packet, size_t len, const int *fds, int nr_fds)
{
	const struct ntbs_peer_msg *h = packet;
	uint16_t type = len < sizeof(*h) ? 0 : ntbs_be16_value(h->type);

	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		if (messages[i].type != type)
			continue;
		if (messages[i].bytes != len || ntbs_be16_value(h->bytes) != len ||
		    (over_port ? 0 : messages[i].nr_fds) != nr_fds)
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

static void say_hello(void)
{
	struct ntbs_peer_hello hello = {
		.magic = ntbs_be32_from(NTBS_PEER_MAGIC),
		.version = ntbs_be32_from(NTBS_PEER_VERSION),
		.node = ntbs_be32_from(ntbs_broker.node),
		.epoch = ntbs_be64_from(own_epoch),
	};

	send_packet(&hello, NTBS_PEER_HELLO, sizeof(hello), NULL, 0);
}

/* Takes over @fd. */
static void plug_in(int fd)
{
	int ret;

	cable = (struct ntbs_watch){ .fd = fd, .ready = cable_ready };
	ntbs_sendq_init(&tx);
	broken = watching_out = false;
	node = 0;
	ret = ntbs_loop_add(&cable, EPOLLIN);
	if (ret)
		lose(NTBS_LOG_ERR, "epoll: %s", strerror(-ret));
	say_hello();
}

void ntbs_peer_port_up(void)
{
	broken = false;
	port_up = true;
	node = 0;
	say_hello();
}

void ntbs_peer_port_down(const char *why)
{
	lose(NTBS_LOG_WARN, "%s", why);
}

void ntbs_peer_packet(const void *packet, size_t len_bytes)
{
	if (port_up && !broken)
		handle(packet, len_bytes, NULL, 0);
}

static bool cable_busy(void)
{
	return cable.fd >= 0;
}

void ntbs_peer_tick(void)
{
	ntbs_meet_tick();
}

int ntbs_peer_open(const char *path)
{
	int ret = 0;

	over_port = !path;
	if (path)
		ret = ntbs_meet_open("cable", path, plug_in, cable_busy);
	if (ret)
		return ret;
	if (getrandom(&own_epoch, sizeof(own_epoch), 0) != sizeof(own_epoch) || !own_epoch)
		own_epoch = (uint64_t)getpid() << 32 | (ntbs_loop_now_ms() & 0xffffffff);
	ret = ntbs_remote_open();
	if (ret) {
		ntbs_log(NTBS_LOG_ERR, "no board for remote offers: %s", strerror(-ret));
		return ret;
	}
	if (path)
		ntbs_peer_tick();
	return 0;
}

void ntbs_peer_reap(void)
{
	if (!broken)
		return;
	broken = false;
	node = 0;
	if (over_port) {
		port_up = false;
		ntbs_bridge_lost();
	} else {
		ntbs_sendq_drop(&tx);
		ntbs_loop_remove(&cable);
	}
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
	ntbs_meet_close();
}
