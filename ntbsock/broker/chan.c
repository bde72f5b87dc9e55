// SPDX-License-Identifier: BSD-2-Clause
/* chan.c - see chan.h */
#include "chan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "bridge.h"
#include "broker.h"
#include "check.h"
#include "client.h"
#include "copier.h"
#include "log.h"
#include "peer.h"
#include "region.h"

#define BUCKETS 4096u

static LIST_HEAD(bucket, ntbs_chan) chans[BUCKETS];
static uint64_t walk; /* counts walks over peers */
static uint64_t remote_seen[NTBS_PROCS]; /* as @seen of a client, for processes of the other host */

static struct bucket *bucket_of(uint64_t id)
{
	return &chans[(id ^ id >> 16) % BUCKETS]; /* number of the channel, number of the process */
}

static struct ntbs_chan *find(uint64_t id)
{
	struct ntbs_chan *chan;

	LIST_FOREACH(chan, bucket_of(id), hash_link)
	{
		if (chan->id == id)
			return chan;
	}
	return NULL;
}

struct ntbs_chan *ntbs_chan_find(uint64_t id, uint32_t acceptor, uint32_t connector)
{
	struct ntbs_chan *chan = find(id);

	return chan && chan->end[NTBS_ACCEPTOR].proc == acceptor && chan->end[NTBS_CONNECTOR].proc == connector
		       ? chan
		       : NULL;
}

static void set_end(struct ntbs_chan *chan, int which, uint32_t proc, struct ntbs_client *c)
{
	struct ntbs_chan_end *end = &chan->end[which];

	end->chan = chan;
	end->proc = proc;
	end->client = c;
	if (c) {
		LIST_INSERT_HEAD(&c->chans, end, link);
		c->nr_chans++;
	}
}

/* Return: 0 and the new record, or an errno for CHAN_FAIL. */
static uint32_t make(uint64_t id, uint32_t acceptor, struct ntbs_client *a, uint32_t connector,
		     struct ntbs_client *c, struct ntbs_chan **made)
{
	struct ntbs_chan *chan;

	if (find(id))
		return EEXIST;
	if ((a && a->nr_chans >= NTBS_CLIENT_CHANS) || (c && c->nr_chans >= NTBS_CLIENT_CHANS))
		return ENOSPC;
	chan = calloc(1, sizeof(*chan));
	if (!chan)
		return ENOMEM;
	chan->id = id;
	set_end(chan, NTBS_ACCEPTOR, acceptor, a);
	set_end(chan, NTBS_CONNECTOR, connector, c);
	LIST_INSERT_HEAD(bucket_of(id), chan, hash_link);
	*made = chan;
	return 0;
}

static void forget(struct ntbs_chan *chan)
{
	for (int i = 0; i < 2; i++) {
		if (chan->end[i].client) {
			LIST_REMOVE(&chan->end[i], link);
			chan->end[i].client->nr_chans--;
		}
	}
	LIST_REMOVE(chan, hash_link);
	free(chan);
}

static struct ntbs_chan_end *other(struct ntbs_chan_end *end)
{
	struct ntbs_chan *chan = end->chan;

	return end == &chan->end[0] ? &chan->end[1] : &chan->end[0];
}

/* ------------------------------------------------------------- telling clients */

static void tell(struct ntbs_client *to, uint16_t type, uint32_t cookie, uint64_t id, uint32_t proc,
		 uint32_t uid, uint32_t reason, const int *fds, int nr_fds)
{
	struct ntbs_msg_chan msg = {
		.h.cookie = cookie, .chan = id, .proc = proc, .uid = uid, .reason = reason
	};

	ntbs_client_send(to, &msg, type, sizeof(msg), fds, nr_fds);
}

static void tell_mbox(struct ntbs_client *to, uint32_t proc, uint32_t mbox, int fd)
{
	struct ntbs_msg_mbox msg = { .proc = proc, .mbox = mbox };

	ntbs_client_send(to, &msg, NTBS_MSG_PEER_MBOX, sizeof(msg), &fd, 1);
}

static void tell_gone(struct ntbs_client *to, uint32_t proc)
{
	struct ntbs_msg_gone msg = { .proc = proc };

	ntbs_client_send(to, &msg, NTBS_MSG_PEER_GONE, sizeof(msg), NULL, 0);
}

/* To a process here or there. */
static void pass_mbox(struct ntbs_client *from, struct ntbs_chan_end *to, unsigned mbox)
{
	if (to->client)
		tell_mbox(to->client, from->proc, mbox, from->mbox[mbox]);
	else
		ntbs_peer_mbox(from->proc, to->proc, mbox, from->mbox[mbox]);
}

static void pass_mboxes(struct ntbs_client *from, struct ntbs_chan_end *to)
{
	for (unsigned i = 1; i < NTBS_MBOXES; i++) {
		if (from->mbox[i] >= 0)
			pass_mbox(from, to, i);
	}
}

/* First time in this walk?  Two processes may have any number of channels, both ways. */
static bool first_look(struct ntbs_chan_end *end)
{
	uint64_t *seen = end->client ? &end->client->seen : &remote_seen[end->proc % NTBS_PROCS];
	bool first = *seen != walk;

	*seen = walk;
	return first;
}

/* ------------------------------------------------------------- from clients */

void ntbs_chan_open(struct ntbs_client *c, const void *packet, int *fds)
{
	const struct ntbs_msg_chan *m = packet;
	bool remote = ntbs_peer_is_proc(m->proc) && !ntbs_broker.has_port;
	struct ntbs_client *connector = remote ? NULL : ntbs_client_by_proc(m->proc);
	struct ntbs_chan *chan = NULL;
	uint32_t err;

	if (NTBS_CHAN_PROC(m->chan) != c->proc || !ntbs_check_memfd(fds[0]))
		err = EINVAL;
	else if (!remote && !connector)
		err = ESRCH;
	else
		err = make(m->chan, c->proc, c, m->proc, connector, &chan);
	if (err) {
		tell(c, NTBS_MSG_CHAN_FAIL, m->h.cookie, m->chan, m->proc, 0, err, NULL, 0);
		return;
	}
	if (remote) {
		chan->pending = true;
		chan->cookie = m->h.cookie;
		ntbs_peer_chan(NTBS_PEER_CHAN, m->chan, c->proc, m->proc, c->uid, 0, NULL,
			       (int[]){ fds[0], c->mbox[0], c->service_bell }, 3);
		pass_mboxes(c, &chan->end[NTBS_CONNECTOR]);
		return;
	}
	tell(connector, NTBS_MSG_CHAN, 0, m->chan, c->proc, c->uid, 0,
	     (int[]){ fds[0], c->mbox[0], c->service_bell }, 3);
	pass_mboxes(c, &chan->end[NTBS_CONNECTOR]);
	tell(c, NTBS_MSG_CHAN_BELLS, m->h.cookie, m->chan, m->proc, connector->uid, 0,
	     (int[]){ connector->mbox[0], connector->service_bell }, 2);
	pass_mboxes(connector, &chan->end[NTBS_ACCEPTOR]);
}

void ntbs_chan_new_mbox(struct ntbs_client *c, unsigned mbox)
{
	struct ntbs_chan_end *end;

	walk++;
	LIST_FOREACH(end, &c->chans, link)
	{
		if (first_look(other(end)))
			pass_mbox(c, other(end), mbox);
	}
}

void ntbs_chan_client_gone(struct ntbs_client *c)
{
	struct ntbs_chan_end *end;

	walk++;
	while ((end = LIST_FIRST(&c->chans))) {
		struct ntbs_chan_end *peer = other(end);

		/* Processes of the other host are told by ntbs_peer_proc_gone(). */
		if (peer->client && peer->client != c && first_look(peer))
			tell_gone(peer->client, c->proc);
		forget(end->chan);
	}
}

static void peer_open_cable(const struct ntbs_peer_chan *m, const int *fds)
{
	uint64_t id = ntbs_be64_value(m->chan);
	uint32_t acceptor = ntbs_be32_value(m->acceptor), proc = ntbs_be32_value(m->connector), err = 0;
	struct ntbs_client *connector = ntbs_client_by_proc(proc);
	struct ntbs_chan *chan = NULL;

	if (NTBS_CHAN_PROC(id) != acceptor || !ntbs_peer_is_proc(acceptor) || !ntbs_check_memfd(fds[0]) ||
	    !ntbs_check_bell(fds[1]) || !ntbs_check_bell(fds[2]))
		err = EINVAL;
	else if (!connector)
		err = ESRCH;
	else
		err = make(id, acceptor, NULL, proc, connector, &chan);
	if (err) {
		ntbs_peer_chan(NTBS_PEER_CHAN_FAIL, id, acceptor, proc, 0, err, NULL, NULL, 0);
		return;
	}
	tell(connector, NTBS_MSG_CHAN, 0, id, acceptor, ntbs_be32_value(m->uid), 0, fds, 3);
	ntbs_peer_chan(NTBS_PEER_CHAN_BELLS, id, acceptor, proc, connector->uid, 0, NULL,
		       (int[]){ connector->mbox[0], connector->service_bell }, 2);
	pass_mboxes(connector, &chan->end[NTBS_ACCEPTOR]);
}

/* ------------------------------------------------------------- over a port */

static void tell_region(struct ntbs_client *to, uint32_t cookie, const struct ntbs_region *r, uint32_t proc, uint32_t uid)
{
	struct ntbs_msg_region msg = {
		.h.cookie = cookie,
		.chan = r->chan,
		.proc = proc,
		.uid = uid,
		.session = ntbs_bridge_session(),
		.nr_leases = r->nr_leases,
		.nr_slots = r->nr_slots,
		.bulk_bytes = r->bulk_bytes,
		.bulk_offset = ntbs_region_bulk_offset(r->nr_slots),
		.inbox_bytes = r->inbox_bytes,
		.in_offset = r->offset,
		.out_offset = r->peer_offset,
		.of_connector = r->of_connector,
	};

	ntbs_client_send(to, &msg, NTBS_MSG_CHAN_PORT, sizeof(msg), NULL, 0);
}

/* The region of this end of a channel whose other end is on the other host; or of either. */
static struct ntbs_region *any_region(uint64_t chan)
{
	struct ntbs_region *r = ntbs_region_find(chan, false);

	return r ? r : ntbs_region_find(chan, true);
}

void ntbs_chan_tell_done(uint64_t chan, bool of_connector)
{
	struct ntbs_region *r = ntbs_bridge_is_loop() ? ntbs_region_find(chan, !of_connector) : NULL;

	if (r)
		ntbs_region_there_done(r);
	else if (!ntbs_bridge_is_loop())
		ntbs_peer_end(NTBS_PEER_DONE, chan, 0, 0);
}

/* One of which the other side has never heard, or knows nothing any more. */
static void region_failed(uint64_t chan)
{
	struct ntbs_region *r = any_region(chan);

	if (r)
		ntbs_region_drop(r);
}

static void fail(struct ntbs_chan *chan, uint32_t reason)
{
	tell(chan->end[NTBS_ACCEPTOR].client, NTBS_MSG_CHAN_FAIL, chan->cookie, chan->id,
	     chan->end[NTBS_CONNECTOR].proc, 0, reason, NULL, 0);
	region_failed(chan->id);
	forget(chan);
}

static void in_loop(struct ntbs_client *a, struct ntbs_client *c, const struct ntbs_msg_region *m, struct ntbs_region *ra,
		    struct ntbs_region *rc)
{
	ra->peer_offset = rc->offset;
	ra->peer_proc = c->proc;
	rc->peer_offset = ra->offset;
	rc->peer_proc = a->proc;
	tell_region(c, 0, rc, a->proc, a->uid);
	tell_region(a, m->h.cookie, ra, c->proc, c->uid);
}

void ntbs_chan_open_port(struct ntbs_client *c, const void *packet, int *fds)
{
	const struct ntbs_msg_region *m = packet;
	struct ntbs_client *connector = ntbs_bridge_is_loop() ? ntbs_client_by_proc(m->proc) : NULL;
	uint32_t bulk = ntbs_bridge_bulk(m->bulk_bytes), err = 0;
	struct ntbs_region *r = NULL, *rc = NULL;
	struct ntbs_chan *chan = NULL;

	if (NTBS_CHAN_PROC(m->chan) != c->proc || !ntbs_region_shape_ok(m->nr_leases, m->nr_slots, bulk))
		err = EINVAL;
	else if ((!connector && !ntbs_peer_is_proc(m->proc)) || !ntbs_bridge_tell(c) || (connector && !ntbs_bridge_tell(connector)))
		err = ENOLINK;
	else
		err = make(m->chan, c->proc, c, m->proc, connector, &chan);
	if (!err) {
		r = ntbs_region_get(m->chan, false, c->proc, m->nr_leases, m->nr_slots, bulk);
		if (r && connector)
			rc = ntbs_region_get(m->chan, true, m->proc, m->nr_leases, m->nr_slots, bulk);
		if (!r || (connector && !rc)) {
			region_failed(m->chan);
			forget(chan);
			err = ENOSPC;
		}
	}
	if (err) {
		tell(c, NTBS_MSG_CHAN_FAIL, m->h.cookie, m->chan, m->proc, 0, err, NULL, 0);
		return;
	}
	if (connector) {
		in_loop(c, connector, m, r, rc);
		return;
	}
	chan->pending = true;
	chan->cookie = m->h.cookie;
	ntbs_peer_chan(NTBS_PEER_CHAN, m->chan, c->proc, m->proc, c->uid, 0, r, NULL, 0);
}

void ntbs_chan_drop(struct ntbs_client *c, const void *packet, int *fds)
{
	const struct ntbs_msg_chan *m = packet;

	ntbs_copier_settle(0);
	for (int of_connector = 0; of_connector < 2; of_connector++) {
		struct ntbs_region *r = ntbs_region_find(m->chan, of_connector);

		if (r && r->proc == c->proc && ntbs_region_here_done(r))
			ntbs_chan_tell_done(m->chan, of_connector);
	}
}

/* Of a connection of the other host's process with one of ours, which need not be there any more. */
void ntbs_chan_peer_done(const struct ntbs_peer_end *m)
{
	struct ntbs_region *r = any_region(ntbs_be64_value(m->chan));

	if (r)
		ntbs_region_there_done(r);
}

void ntbs_chan_state_end(struct ntbs_client *c, const void *packet, int *fds)
{
	const struct ntbs_msg_end *m = packet;
	struct ntbs_region *r = ntbs_region_find(m->chan, m->of_connector);

	if (!r || r->proc != c->proc || m->lease >= r->nr_leases)
		return;
	if (!ntbs_bridge_is_loop()) {
		ntbs_peer_end(NTBS_PEER_STATE_END, m->chan, m->lease, m->generation);
		return;
	}
	ntbs_copier_settle(r->peer_proc);
	if ((r = ntbs_region_find(m->chan, !m->of_connector)))
		ntbs_bridge_state_end(r, m->lease, m->generation, c->proc);
}

void ntbs_chan_peer_state_end(const struct ntbs_peer_end *m)
{
	struct ntbs_region *r = any_region(ntbs_be64_value(m->chan));
	uint32_t lease = ntbs_be32_value(m->lease);

	if (r) {
		ntbs_copier_settle(r->proc);
		r = any_region(ntbs_be64_value(m->chan));
	}
	if (r && r->peer_offset && lease < r->nr_leases)
		ntbs_bridge_state_end(r, lease, ntbs_be32_value(m->generation), r->peer_proc);
}

/* The acceptor's broker has a region for it; ours gets one of the same shape. */
static void peer_open_port(const struct ntbs_peer_chan *m)
{
	uint64_t id = ntbs_be64_value(m->chan), there = ntbs_be64_value(m->region);
	uint32_t acceptor = ntbs_be32_value(m->acceptor), proc = ntbs_be32_value(m->connector), err = 0;
	uint32_t leases = ntbs_be32_value(m->leases), slots = ntbs_be32_value(m->slots), bulk = ntbs_be32_value(m->bulk);
	struct ntbs_client *connector = ntbs_client_by_proc(proc);
	struct ntbs_chan *chan = NULL;
	struct ntbs_region *r = NULL;

	if (NTBS_CHAN_PROC(id) != acceptor || !ntbs_peer_is_proc(acceptor) || !ntbs_region_shape_ok(leases, slots, bulk) ||
	    !ntbs_bridge_in_window(there, NTBS_REGION_BYTES(leases, ntbs_region_inbox_bytes(slots, bulk))))
		err = EINVAL;
	else if (!connector)
		err = ESRCH;
	else if (!ntbs_bridge_tell(connector))
		err = ENOLINK;
	else
		err = make(id, acceptor, NULL, proc, connector, &chan);
	if (!err) {
		r = ntbs_region_get(id, true, proc, leases, slots, bulk);
		if (!r) {
			forget(chan);
			err = ENOSPC;
		}
	}
	if (err) {
		ntbs_peer_chan(NTBS_PEER_CHAN_FAIL, id, acceptor, proc, 0, err, NULL, NULL, 0);
		return;
	}
	r->peer_offset = there;
	r->peer_proc = acceptor;
	tell_region(connector, 0, r, acceptor, ntbs_be32_value(m->uid));
	ntbs_peer_chan(NTBS_PEER_CHAN_BELLS, id, acceptor, proc, connector->uid, 0, r, NULL, 0);
}

/* Its answer. */
static void peer_bells_port(struct ntbs_chan *chan, const struct ntbs_peer_chan *m)
{
	struct ntbs_region *r = ntbs_region_find(chan->id, false);
	uint64_t there = ntbs_be64_value(m->region);

	if (!r || !ntbs_bridge_in_window(there, r->bytes)) {
		fail(chan, EPROTO);
		return;
	}
	chan->pending = false;
	r->peer_offset = there;
	r->peer_proc = chan->end[NTBS_CONNECTOR].proc;
	tell_region(chan->end[NTBS_ACCEPTOR].client, chan->cookie, r, r->peer_proc, ntbs_be32_value(m->uid));
}

/* ------------------------------------------------------------- from the other broker */

void ntbs_chan_peer_open(const struct ntbs_peer_chan *m, const int *fds)
{
	if (ntbs_broker.has_port)
		peer_open_port(m);
	else
		peer_open_cable(m, fds);
}

/* The channel that an answer is about; NULL: its acceptor is gone by now. */
static struct ntbs_chan *answered(const struct ntbs_peer_chan *m)
{
	struct ntbs_chan *chan = ntbs_chan_find(ntbs_be64_value(m->chan), ntbs_be32_value(m->acceptor),
						ntbs_be32_value(m->connector));

	return chan && chan->pending ? chan : NULL;
}

void ntbs_chan_peer_bells(const struct ntbs_peer_chan *m, const int *fds)
{
	struct ntbs_chan *chan = answered(m);

	if (chan && ntbs_broker.has_port)
		peer_bells_port(chan, m);
	if (!chan || ntbs_broker.has_port || !ntbs_check_bell(fds[0]) || !ntbs_check_bell(fds[1]))
		return;
	chan->pending = false;
	tell(chan->end[NTBS_ACCEPTOR].client, NTBS_MSG_CHAN_BELLS, chan->cookie, chan->id,
	     chan->end[NTBS_CONNECTOR].proc, ntbs_be32_value(m->uid), 0, fds, 2);
}

void ntbs_chan_peer_fail(const struct ntbs_peer_chan *m)
{
	struct ntbs_chan *chan = answered(m);

	if (chan)
		fail(chan, ntbs_be32_value(m->reason));
}

void ntbs_chan_peer_mbox(const struct ntbs_peer_mbox *m, const int *fds)
{
	struct ntbs_client *to = ntbs_client_by_proc(ntbs_be32_value(m->to));
	uint32_t from = ntbs_be32_value(m->from), mbox = ntbs_be32_value(m->mbox);
	struct ntbs_chan_end *end;

	if (!to || mbox < 1 || mbox >= NTBS_MBOXES || !ntbs_check_bell(fds[0]))
		return;
	LIST_FOREACH(end, &to->chans, link)
	{
		if (other(end)->proc == from) {
			tell_mbox(to, from, mbox, fds[0]);
			return;
		}
	}
}

/* For each record with an end on the other host. */
static void each_remote(void (*fn)(struct ntbs_chan *, struct ntbs_chan_end *here, uint32_t there,
				   uint32_t arg),
			uint32_t arg)
{
	for (unsigned i = 0; i < BUCKETS; i++) {
		struct ntbs_chan *chan = LIST_FIRST(&chans[i]), *next;

		for (; chan; chan = next) {
			next = LIST_NEXT(chan, hash_link);
			for (int k = 0; k < 2; k++) {
				if (!chan->end[k].client) {
					fn(chan, &chan->end[!k], chan->end[k].proc, arg);
					break;
				}
			}
		}
	}
}

static void end_if_gone(struct ntbs_chan *chan, struct ntbs_chan_end *here, uint32_t there, uint32_t gone)
{
	if (gone != there)
		return;
	if (chan->pending) {
		fail(chan, ESRCH);
		return;
	}
	if (first_look(here))
		tell_gone(here->client, there);
	forget(chan);
}

/* One process is told of one other once: a walk for each that is gone. */
void ntbs_chan_peer_gone(uint32_t proc)
{
	walk++;
	each_remote(end_if_gone, proc);
}

static void fail_if_pending(struct ntbs_chan *chan, struct ntbs_chan_end *here, uint32_t there, uint32_t arg)
{
	if (chan->pending)
		fail(chan, ENOLINK);
}

void ntbs_chan_cable_lost(void)
{
	each_remote(fail_if_pending, 0);
}

static void ask(struct ntbs_chan *chan, struct ntbs_chan_end *here, uint32_t there, uint32_t arg)
{
	if (first_look(other(here)))
		ntbs_peer_ask_proc(there);
}

static uint32_t some_remote;

static void note(struct ntbs_chan *chan, struct ntbs_chan_end *here, uint32_t there, uint32_t arg)
{
	some_remote = there;
}

void ntbs_chan_cable_back(bool all_new)
{
	if (!all_new) {
		walk++;
		each_remote(ask, 0);
		return;
	}
	for (;;) {
		some_remote = 0;
		each_remote(note, 0);
		if (!some_remote)
			return;
		ntbs_chan_peer_gone(some_remote);
	}
}
