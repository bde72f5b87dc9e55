// SPDX-License-Identifier: BSD-2-Clause
/* client.c - see client.h */
#include "client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bridge.h"
#include "broker.h"
#include "chan.h"
#include "check.h"
#include "copier.h"
#include "irq.h"
#include "log.h"
#include "match.h"
#include "peer.h"
#include "remote.h"
#include "show.h"

#define PACKETS_A_TURN 32 /* of one client, so that no client keeps the others waiting */

static LIST_HEAD(, ntbs_client) clients = LIST_HEAD_INITIALIZER(clients);
static struct ntbs_client *procs[NTBS_PROCS];
static uint32_t last_nr;
static bool any_doomed;

struct ntbs_client *ntbs_client_by_proc(uint32_t proc)
{
	struct ntbs_client *c = procs[proc % NTBS_PROCS];

	return c && c->proc == proc && !c->doomed ? c : NULL;
}

struct ntbs_client *ntbs_client_next(uint32_t *nr)
{
	while (++*nr < NTBS_PROCS) {
		if (procs[*nr] && !procs[*nr]->doomed)
			return procs[*nr];
	}
	return NULL;
}

void ntbs_client_doom(struct ntbs_client *c, const char *why, ...)
{
	char text[200];
	va_list ap;

	if (c->doomed)
		return;
	c->doomed = true;
	any_doomed = true;
	if (!why)
		return;
	va_start(ap, why);
	vsnprintf(text, sizeof(text), why, ap);
	va_end(ap);
	ntbs_broker.clients_closed_for_error++;
	ntbs_log(NTBS_LOG_WARN, "closed the connection of pid %u (%s, uid %u): %s", c->pid,
		 c->program[0] ? c->program : "before HELLO", c->uid, text);
}

static void watch_out(struct ntbs_client *c)
{
	bool want = !ntbs_sendq_empty(&c->tx);

	if (want == c->watching_out || c->watch.fd < 0)
		return;
	c->watching_out = want;
	ntbs_loop_change(&c->watch, want ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* The other end has closed: no error of anybody. */
static void doom_for(struct ntbs_client *c, int err)
{
	if (err == -EPIPE || err == -ECONNRESET)
		ntbs_client_doom(c, NULL);
	else if (err == -ENOBUFS)
		ntbs_client_doom(c, "it does not read what it is sent (%u packets wait)", NTBS_PACKET_QUEUE);
	else
		ntbs_client_doom(c, "cannot send to it: %s", strerror(-err));
}

void ntbs_client_send(struct ntbs_client *c, void *msg, uint16_t type, size_t len_bytes, const int *fds,
		      int nr_fds)
{
	struct ntbs_msg *h = msg;
	int ret;

	if (c->doomed)
		return;
	h->type = type;
	h->bytes = (uint16_t)len_bytes;
	ret = ntbs_packet_send(&c->tx, c->watch.fd, msg, len_bytes, fds, nr_fds);
	if (ret)
		doom_for(c, ret);
	else
		watch_out(c);
}

/* Round robin from a random start: neither this broker nor the next one gives an id again soon. */
static uint32_t new_proc(struct ntbs_client *c)
{
	if (!last_nr && getrandom(&last_nr, sizeof(last_nr), 0) != sizeof(last_nr))
		last_nr = (uint32_t)getpid();
	for (uint32_t i = 0; i < NTBS_PROCS; i++) {
		last_nr = (last_nr + 1) % NTBS_PROCS;
		if (last_nr && !procs[last_nr] && !ntbs_irq_taken(last_nr)) {
			procs[last_nr] = c;
			return NTBS_PROC_ID(ntbs_broker.node, last_nr);
		}
	}
	return 0;
}

static void show_board(struct ntbs_client *c, const struct ntbs_board *board)
{
	struct ntbs_msg_board msg = { .uid = board->uid };

	ntbs_client_send(c, &msg, NTBS_MSG_BOARD, sizeof(msg), &board->ro_fd, 1);
}

static void hello(struct ntbs_client *c, const void *packet, int *fds)
{
	const struct ntbs_msg_hello *m = packet;
	struct ntbs_msg_welcome welcome = { .h.cookie = m->h.cookie };
	bool new_board = !ntbs_board_find(c->uid);
	struct ntbs_client *other;

	if (c->proc) {
		ntbs_client_doom(c, "said HELLO twice");
		return;
	}
	memcpy(c->program, m->program, sizeof(c->program) - 1);
	for (char *p = c->program; *p; p++) {
		if (*p < ' ' || *p > '~')
			*p = '?';
	}
	if (!c->pid) /* in a pid namespace that we cannot see */
		c->pid = m->pid ? m->pid : 1;
	if (m->abi != NTBS_BROKER_ABI) {
		ntbs_client_doom(c, "its library speaks ABI %u, this broker %u; install both from one version",
				 m->abi, NTBS_BROKER_ABI);
		return;
	}
	if (!ntbs_check_bell(fds[0]) || !ntbs_check_bell(fds[1])) {
		ntbs_client_doom(c, "a bell in its HELLO is not an eventfd");
		return;
	}
	c->proc = new_proc(c);
	if (!c->proc) {
		ntbs_client_doom(c, "%u processes are here already, which is the most", NTBS_PROCS - 1);
		return;
	}
	ntbs_broker.nr_procs++;
	c->board = ntbs_board_get(c->uid);
	if (!c->board) {
		ntbs_client_doom(c, "no board can be made for its user: %s", strerror(errno));
		return;
	}
	c->mbox[0] = fds[0];
	c->service_bell = fds[1];
	fds[0] = fds[1] = -1;
	welcome.proc = c->proc;
	welcome.uid = c->uid;
	welcome.node = ntbs_broker.node;
	welcome.port = !ntbs_broker.has_port ? 0 : ntbs_bridge_is_loop() ? 2 : 1;
	/*
	 * Others get a new board before its first user gets it: its first offer, and so the first byte of that connection,
	 * is then younger than the BOARD that waits for the acceptor.
	 */
	if (new_board) {
		for (uint32_t nr = 0; (other = ntbs_client_next(&nr));) {
			if (other->uid != c->uid)
				show_board(other, c->board);
		}
	}
	for (unsigned i = 0; ntbs_board_nth(i); i++)
		welcome.boards += ntbs_board_nth(i) != c->board;
	ntbs_client_send(c, &welcome, NTBS_MSG_WELCOME, sizeof(welcome),
			 (int[]){ c->board->rw_fd, ntbs_rules.ro_fd }, 2);
	for (unsigned i = 0; ntbs_board_nth(i); i++) {
		if (ntbs_board_nth(i) != c->board)
			show_board(c, ntbs_board_nth(i));
	}
	ntbs_log(NTBS_LOG_DEBUG, "pid %u (%s, uid %u) is process %u", c->pid, c->program, c->uid, c->proc);
}

static void pool(struct ntbs_client *c, const void *packet, int *fds)
{
	if (c->nr_pools == NTBS_CLIENT_POOLS) {
		ntbs_client_doom(c, "more than %u state pools", NTBS_CLIENT_POOLS);
		return;
	}
	if (!ntbs_check_memfd(fds[0])) {
		ntbs_client_doom(c, "a state pool is not a memfd sealed against changes of its size");
		return;
	}
	c->pool[c->nr_pools++] = fds[0];
	fds[0] = -1;
}

static void mbox(struct ntbs_client *c, const void *packet, int *fds)
{
	const struct ntbs_msg_mbox *m = packet;

	if (m->mbox < 1 || m->mbox >= NTBS_MBOXES || !ntbs_check_bell(fds[0])) {
		ntbs_client_doom(c, "mbox %u is not an eventfd with a number from 1 to %d", m->mbox,
				 NTBS_MBOXES - 1);
		return;
	}
	if (c->mbox[m->mbox] >= 0)
		close(c->mbox[m->mbox]);
	c->mbox[m->mbox] = fds[0];
	fds[0] = -1;
	ntbs_chan_new_mbox(c, m->mbox);
}

/* What is no socket has no cookie and vouches for nothing. */
static void vouch(struct ntbs_client *c, const void *packet, int *fds)
{
	uint64_t cookie = ntbs_check_cookie(fds[0]);

	if (cookie)
		c->vouched[c->nr_vouched++ % NTBS_CLIENT_VOUCHED] = cookie;
}

/*
 * The process that it was taken from is told, and no other: one that is stopped would keep the asker waiting for nothing, as
 * would one without a channel, which has nothing on a ring and may not listen to us.
 */
static void take(struct ntbs_client *c, const void *packet, int *fds)
{
	struct ntbs_msg_take taken = { .cookie = ((const struct ntbs_msg_take *)packet)->cookie };
	pid_t pid = ntbs_check_pidfd(fds[0]);
	struct ntbs_client *of;

	if (!ntbs_check_pipe(fds[1])) {
		ntbs_client_doom(c, "what it waits on for a socket that it has taken is no pipe");
		return;
	}
	for (uint32_t nr = 0; pid && (of = ntbs_client_next(&nr));)
		if (of->pid == (uint32_t)pid && of->nr_chans && (!c->uid || c->uid == of->uid))
			ntbs_client_send(of, &taken, NTBS_MSG_TAKEN, sizeof(taken), &fds[1], 1);
}

/* A handler keeps a descriptor by putting -1 in its place. */
static const struct {
	uint16_t type, bytes;
	uint8_t nr_fds;
	bool before_hello;
	void (*handle)(struct ntbs_client *c, const void *packet, int *fds);
} messages[] = {
	{ NTBS_MSG_HELLO, sizeof(struct ntbs_msg_hello), 2, true, hello },
	{ NTBS_MSG_CHAN_OPEN, sizeof(struct ntbs_msg_chan), 1, false, ntbs_chan_open },
	{ NTBS_MSG_CLAIM, sizeof(struct ntbs_msg_claim), 1, false, ntbs_match_claim },
	{ NTBS_MSG_OFFER_REMOTE, sizeof(struct ntbs_msg_claim), 0, false, ntbs_match_offer_remote },
	{ NTBS_MSG_POOL, sizeof(struct ntbs_msg_plain), 1, false, pool },
	{ NTBS_MSG_MBOX, sizeof(struct ntbs_msg_mbox), 1, false, mbox },
	{ NTBS_MSG_VOUCH, sizeof(struct ntbs_msg_plain), 1, false, vouch },
	{ NTBS_MSG_CHAN_OPEN_PORT, sizeof(struct ntbs_msg_region), 0, false, ntbs_chan_open_port },
	{ NTBS_MSG_CHAN_DROP, sizeof(struct ntbs_msg_chan), 0, false, ntbs_chan_drop },
	{ NTBS_MSG_STATE_END, sizeof(struct ntbs_msg_end), 0, false, ntbs_chan_state_end },
	{ NTBS_MSG_COPY, sizeof(struct ntbs_msg_copy), 0, false, ntbs_copier_message },
	{ NTBS_MSG_TAKE, sizeof(struct ntbs_msg_take), 2, false, take },
	{ NTBS_MSG_AWAIT, sizeof(struct ntbs_msg_plain), 0, false, ntbs_remote_await },
	{ NTBS_MSG_STATUS, sizeof(struct ntbs_msg_plain), 0, true, ntbs_show_status },
	{ NTBS_MSG_HOLD, sizeof(struct ntbs_msg_plain), 0, true, ntbs_show_status },
	{ NTBS_MSG_POOLS, sizeof(struct ntbs_msg_plain), 0, true, ntbs_show_pools },
	{ NTBS_MSG_RELOAD, sizeof(struct ntbs_msg_plain), 0, true, ntbs_show_reload },
	{ NTBS_MSG_DRAIN, sizeof(struct ntbs_msg_drain), 0, true, ntbs_show_drain },
};

void ntbs_client_message(struct ntbs_client *c, const void *packet, size_t len_bytes, int *fds, int nr_fds)
{
	const struct ntbs_msg *h = packet;

	if (len_bytes < sizeof(*h)) {
		ntbs_client_doom(c, "a packet of %zu bytes is shorter than any message", len_bytes);
		goto out;
	}
	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		if (messages[i].type != h->type)
			continue;
		if (len_bytes != messages[i].bytes || h->bytes != len_bytes)
			ntbs_client_doom(c, "message %u has %zu bytes and says %u, expected %u", h->type,
					 len_bytes, h->bytes, messages[i].bytes);
		else if (nr_fds != messages[i].nr_fds)
			ntbs_client_doom(c, "message %u came with %d descriptors, expected %d", h->type, nr_fds,
					 messages[i].nr_fds);
		else if (!c->proc && !messages[i].before_hello)
			ntbs_client_doom(c, "message %u before HELLO", h->type);
		else
			messages[i].handle(c, packet, fds);
		goto out;
	}
	ntbs_client_doom(c, "message of type %u, which no client sends", h->type);
out:
	ntbs_close_fds(fds, nr_fds);
}

/* One packet of it.  Return: true: there may be more. */
static bool take_packet(struct ntbs_client *c)
{
	alignas(8) char packet[NTBS_MSG_MAX];
	int fds[NTBS_MSG_FDS], nr_fds, len;

	len = ntbs_packet_recv(c->watch.fd, packet, sizeof(packet), fds, &nr_fds);
	if (len == -EAGAIN)
		return false;
	if (len == -ECONNRESET)	/* gone, without having read all that we sent: told once, in front of its last packets */
		return true;
	if (len > 0) {
		ntbs_client_message(c, packet, (size_t)len, fds, nr_fds);
		return !c->doomed;
	}
	ntbs_close_fds(fds, nr_fds);
	if (len == -EMSGSIZE)
		ntbs_client_doom(c, "a packet is larger, or has more descriptors, than any message (or we are out of them)");
	else
		ntbs_client_doom(c, NULL);
	return false;
}

void ntbs_client_take(struct ntbs_client *c)
{
	while (!c->doomed && take_packet(c))
		;
}

static void client_ready(struct ntbs_watch *w, uint32_t events)
{
	struct ntbs_client *c = (struct ntbs_client *)w;

	if (events & EPOLLOUT) {
		int ret = ntbs_packet_flush(&c->tx, w->fd);

		if (ret)
			doom_for(c, ret);
		ntbs_show_more_pools(c);
		watch_out(c);
	}
	for (int i = 0; i < PACKETS_A_TURN && !c->doomed && take_packet(c); i++)
		;
}

static unsigned connections_of(uint32_t uid)
{
	struct ntbs_client *c;
	unsigned nr = 0;

	LIST_FOREACH(c, &clients, link)
	nr += c->uid == uid;
	return nr;
}

struct ntbs_client *ntbs_client_add(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	struct ntbs_client *c;
	int ret;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len)) {
		ntbs_log(NTBS_LOG_ERR, "a client was refused: cannot see who it is: %s", strerror(errno));
		goto err_close;
	}
	if (cred.uid && connections_of(cred.uid) >= NTBS_UID_CLIENTS) {
		ntbs_log(NTBS_LOG_WARN,
			 "pid %d was refused: user %u has %u connections already, which is the most", cred.pid,
			 cred.uid, NTBS_UID_CLIENTS);
		goto err_close;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		ntbs_log(NTBS_LOG_ERR, "pid %d was refused: out of memory", cred.pid);
		goto err_close;
	}
	c->watch = (struct ntbs_watch){ .fd = fd, .ready = client_ready };
	c->uid = cred.uid;
	c->pid = (uint32_t)cred.pid;
	c->service_bell = -1;
	for (int i = 0; i < NTBS_MBOXES; i++)
		c->mbox[i] = -1;
	LIST_INIT(&c->chans);
	ntbs_sendq_init(&c->tx);
	ret = ntbs_loop_add(&c->watch, EPOLLIN);
	if (ret) {
		ntbs_log(NTBS_LOG_ERR, "pid %d was refused: epoll: %s", cred.pid, strerror(-ret));
		free(c);
		goto err_close;
	}
	LIST_INSERT_HEAD(&clients, c, link);
	ntbs_broker.nr_clients++;
	return c;
err_close:
	close(fd);
	return NULL;
}

static void end(struct ntbs_client *c)
{
	LIST_REMOVE(c, link);
	ntbs_broker.nr_clients--;
	if (c->proc) {
		procs[c->proc % NTBS_PROCS] = NULL;
		ntbs_broker.nr_procs--;
		if (c->board)
			ntbs_board_free_proc(c->board, c->proc);
		ntbs_chan_client_gone(c);
		ntbs_peer_proc_gone(c->proc);
	}
	ntbs_sendq_drop(&c->tx);
	ntbs_close_fds(c->mbox, NTBS_MBOXES);
	ntbs_close_fds(&c->service_bell, 1);
	ntbs_close_fds(c->pool, (int)c->nr_pools);
	ntbs_loop_remove(&c->watch);
	ntbs_loop_free(c);
}

void ntbs_clients_reap(void)
{
	/* The end of one is told to others, which may doom these: until nobody is left to end. */
	while (any_doomed) {
		struct ntbs_client *c = LIST_FIRST(&clients), *next;

		any_doomed = false;
		for (; c; c = next) {
			next = LIST_NEXT(c, link);
			if (c->doomed)
				end(c);
		}
	}
}

void ntbs_clients_close(void)
{
	struct ntbs_client *c;

	LIST_FOREACH(c, &clients, link)
	ntbs_client_doom(c, NULL);
	ntbs_clients_reap();
}
