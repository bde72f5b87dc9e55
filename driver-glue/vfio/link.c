// SPDX-License-Identifier: BSD-2-Clause
/*
 * link.c - the steps of link.h
 *
 * Scratchpads, written to the peer's, one word each:
 *
 *	0  magic 16, version 8, flags 8		3  pages of ours that are open to the peer
 *	1  epoch				4  features
 *	2  epoch of the peer that we have read	5  check over the five
 *
 * They are six writes and can be met half done, or half lost with the link: what does not check does not count, and
 * all of it is written again every few beats until the session is up.
 *
 * The first words of the window, 8 bytes each, each written by one store:
 *
 *	0  hello {mine, yours}	1  seen {mine, yours}	2  beat {mine, count}
 *
 * A late store of an earlier session may come to lie on top of a word of this one.  It does not match, so it is as if
 * nothing were there; hello and seen are written again every beat until the peer's first heartbeat proves that it is
 * up, and heartbeats never end.
 *
 * Why nobody is up with the dead: I go from HELLO to MEMORY when a checked set of scratchpads names my epoch, so its
 * writer has lived after I drew that.  I am UP when my memory holds {its epoch, mine} as "seen" or a beat of its epoch,
 * written by who has found {mine, its} in its own memory: both directions of the window have carried this session.
 *
 * An end that is up and sees another epoch leaves the session and draws a new one of its own; an end that is not up yet
 * keeps its epoch and goes on with the peer's new one.  So after a restart only one of the two changes again, and they
 * do not chase each other.
 */
#include "link.h"

#include <stddef.h>

#define MAGIC 0x4e54u		/* "NT" */
#define FLAG_LEFT 1u
#define BEAT_LEFT UINT32_MAX	/* as a count: good-bye */
#define PUBLISH_BEATS 5		/* between two writes of the scratchpads while a session is being set up */
#define AT_HELLO 0
#define AT_SEEN 8
#define AT_BEAT 16

struct pads {
	uint32_t version, flags, epoch, seen, pages, features;
};

/* Any mix of two sets of words fails this but for one in 2^32 (fmix32 of MurmurHash3, a public domain permutation). */
static uint32_t check_of(const uint32_t word[5])
{
	uint32_t h = 0x9e3779b9;

	for (unsigned i = 0; i < 5; i++) {
		h ^= word[i];
		h ^= h >> 16;
		h *= 0x85ebca6b;
		h ^= h >> 13;
		h *= 0xc2b2ae35;
		h ^= h >> 16;
		h += i;
	}
	return h;
}

static uint64_t pair(uint32_t hi, uint32_t lo)
{
	return (uint64_t)hi << 32 | lo;
}

static void publish(struct ntbs_link *link, uint32_t flags)
{
	uint32_t word[NTBS_LINK_SPADS] = {
		MAGIC << 16 | NTBS_LINK_VERSION << 8 | flags, link->epoch, link->peer_epoch,
		link->conf.inbound_bytes / 4096, link->conf.features,
	};

	word[5] = check_of(word);
	for (unsigned i = 0; i < NTBS_LINK_SPADS; i++)
		link->ops->peer_spad_write(link->arg, i, word[i]);
	link->publish_at_ns = link->now_ns + PUBLISH_BEATS * link->conf.beat_ns;
	link->ops->ring(link->arg);
}

/* What the peer says; false: nothing that makes sense. */
static bool listen_pads(struct ntbs_link *link, struct pads *p)
{
	uint32_t word[NTBS_LINK_SPADS];

	for (unsigned i = 0; i < NTBS_LINK_SPADS; i++)
		word[i] = link->ops->spad_read(link->arg, i);
	if (word[0] >> 16 != MAGIC || word[5] != check_of(word))
		return false;
	*p = (struct pads){ .version = word[0] >> 8 & 0xff, .flags = word[0] & 0xff, .epoch = word[1], .seen = word[2],
			    .pages = word[3], .features = word[4] };
	return true;
}

static void enter_hello(struct ntbs_link *link)
{
	link->state = NTBS_LINK_HELLO;
	link->hello_seen = false;
	publish(link, 0);
}

/* A new epoch, nothing of the peer's known, our end of the window clean. */
static void begin(struct ntbs_link *link)
{
	uint32_t old = link->epoch;

	do
		link->epoch = link->ops->random(link->arg);
	while (!link->epoch || link->epoch == old);
	link->peer_epoch = 0;
	link->beat = link->peer_beat = 0;
	link->quiet = 0;
	link->suspect = false;
	link->window_bytes = 0;
	link->features = 0;
	link->beat_at_ns = link->now_ns + link->conf.beat_ns;
	for (uint64_t at = AT_HELLO; at <= AT_BEAT; at += 8)
		link->ops->inbound_clear(link->arg, at);
	if (link->wires)
		enter_hello(link);
	else
		link->state = NTBS_LINK_WAIT;
}

static unsigned go_down(struct ntbs_link *link, enum ntbs_link_down why)
{
	link->state = NTBS_LINK_HELD;
	link->down = why;
	link->epoch = 0;
	link->peer_epoch = 0;
	link->suspect = false;
	if (link->wires)
		publish(link, 0);
	return NTBS_LINK_WENT_DOWN;
}

/* ------------------------------------------------------------------------- one look */

static void look_hello(struct ntbs_link *link)
{
	struct pads p;
	uint64_t open;

	if (!listen_pads(link, &p))
		return;
	link->peer_version = p.version != NTBS_LINK_VERSION ? p.version : 0;
	if (link->peer_version || !p.epoch || p.flags & FLAG_LEFT)
		return;
	if (p.epoch != link->peer_epoch) {
		link->peer_epoch = p.epoch;
		publish(link, 0);
	}
	if (p.seen != link->epoch)
		return;
	open = (uint64_t)p.pages * 4096;
	link->window_bytes = open < link->conf.window_bytes ? open : link->conf.window_bytes;
	link->features = p.features & link->conf.features;
	if (link->window_bytes < NTBS_LINK_PAGE)
		return;
	link->state = NTBS_LINK_MEMORY;
	link->ops->open_inbound(link->arg);
	link->ops->window_write(link->arg, AT_HELLO, pair(link->epoch, link->peer_epoch));
	link->ops->ring(link->arg);
}

/* Nobody's, the peer's for this session, or from before. */
static bool is_ours(struct ntbs_link *link, uint64_t word, uint64_t want)
{
	if (word == want)
		return true;
	if (word)
		link->stale++;
	return false;
}

static bool beat_came(struct ntbs_link *link, uint32_t *count)
{
	uint64_t word = link->ops->inbound_read(link->arg, AT_BEAT);

	*count = (uint32_t)word;
	return is_ours(link, word, pair(link->peer_epoch, *count)) && *count;
}

static unsigned look_memory(struct ntbs_link *link)
{
	uint64_t want = pair(link->peer_epoch, link->epoch);
	uint32_t count;
	bool up;

	if (!link->hello_seen && is_ours(link, link->ops->inbound_read(link->arg, AT_HELLO), want)) {
		link->hello_seen = true;
		link->ops->window_write(link->arg, AT_SEEN, pair(link->epoch, link->peer_epoch));
		link->ops->ring(link->arg);
	}
	up = is_ours(link, link->ops->inbound_read(link->arg, AT_SEEN), want) || beat_came(link, &count);
	if (!link->hello_seen || !up)
		return 0;
	link->state = NTBS_LINK_UP;
	link->down = NTBS_LINK_DOWN_NONE;
	link->quiet = 0;
	link->sessions++;
	return NTBS_LINK_CAME_UP;
}

static unsigned look_up(struct ntbs_link *link)
{
	uint32_t count, epoch = link->ops->spad_read(link->arg, 1);
	uint32_t flags = link->ops->spad_read(link->arg, 0) & 0xff;
	unsigned news = 0;
	struct pads p;

	/* Two registers of our own tell whether there is anything to look at. */
	if ((epoch != link->peer_epoch || flags & FLAG_LEFT) && listen_pads(link, &p)) {
		if (p.epoch == link->peer_epoch && p.flags & FLAG_LEFT)
			return go_down(link, NTBS_LINK_DOWN_LEFT);
		if (p.epoch != link->peer_epoch)
			return go_down(link, NTBS_LINK_DOWN_RESTARTED);
	}
	if (!beat_came(link, &count) || count == link->peer_beat)
		return 0;
	if (count == BEAT_LEFT)
		return go_down(link, NTBS_LINK_DOWN_LEFT);
	link->peer_beat = count;
	link->quiet = 0;
	if (link->suspect)
		news = NTBS_LINK_CLEARED;
	link->suspect = false;
	return news;
}

/* ------------------------------------------------------------------------ every beat */

/* Spoken again, for whatever did not arrive. */
static void repeat(struct ntbs_link *link)
{
	if (link->state != NTBS_LINK_UP && link->now_ns >= link->publish_at_ns) {
		publish(link, 0);
		if (link->state == NTBS_LINK_MEMORY)
			link->ops->open_inbound(link->arg);
	}
	if (link->state == NTBS_LINK_MEMORY || (link->state == NTBS_LINK_UP && !link->peer_beat)) {
		link->ops->window_write(link->arg, AT_HELLO, pair(link->epoch, link->peer_epoch));
		if (link->hello_seen)
			link->ops->window_write(link->arg, AT_SEEN, pair(link->epoch, link->peer_epoch));
	}
}

static unsigned beat(struct ntbs_link *link)
{
	/* A beat that comes late because this program stood still is one beat, not many: it says nothing of the peer. */
	link->beat_at_ns = link->now_ns + link->conf.beat_ns;
	repeat(link);
	if (link->state != NTBS_LINK_UP)
		return 0;
	if (++link->beat == BEAT_LEFT)
		link->beat = 1;
	link->ops->window_write(link->arg, AT_BEAT, pair(link->epoch, link->beat));
	if (++link->quiet >= link->conf.dead_beats)
		return go_down(link, NTBS_LINK_DOWN_SILENT);
	if (link->quiet < link->conf.suspect_beats || link->suspect)
		return 0;
	link->suspect = true;
	return NTBS_LINK_SUSPECT;
}

unsigned ntbs_link_tick(struct ntbs_link *link, uint64_t now_ns)
{
	unsigned news = 0;
	struct pads p;

	link->now_ns = now_ns;
	if (link->state == NTBS_LINK_MEMORY && listen_pads(link, &p) &&
	    (p.epoch != link->peer_epoch || p.flags & FLAG_LEFT)) {
		link->peer_epoch = 0;	/* whoever we were talking to is gone */
		enter_hello(link);
	}
	if (link->state == NTBS_LINK_HELLO)
		look_hello(link);
	if (link->state == NTBS_LINK_MEMORY)
		news = look_memory(link);
	else if (link->state == NTBS_LINK_UP)
		news = look_up(link);
	if (link->state >= NTBS_LINK_HELLO && link->state <= NTBS_LINK_UP &&
	    (now_ns >= link->beat_at_ns || news & NTBS_LINK_CAME_UP))
		news |= beat(link);
	return news;
}

uint64_t ntbs_link_next(const struct ntbs_link *link)
{
	return link->state >= NTBS_LINK_HELLO && link->state <= NTBS_LINK_UP ? link->beat_at_ns : UINT64_MAX;
}

/* ---------------------------------------------------------------------- begin and end */

void ntbs_link_init(struct ntbs_link *link, const struct ntbs_link_conf *conf, const struct ntbs_link_ops *ops,
		    void *arg)
{
	*link = (struct ntbs_link){ .ops = ops, .arg = arg, .conf = *conf };
	if (!link->conf.beat_ns)
		link->conf.beat_ns = 10000000;
	if (!link->conf.suspect_beats)
		link->conf.suspect_beats = 5;
	if (!link->conf.dead_beats)
		link->conf.dead_beats = 50;
}

unsigned ntbs_link_start(struct ntbs_link *link, uint64_t now_ns, bool wires)
{
	link->now_ns = now_ns;
	link->wires = wires;
	if (link->state != NTBS_LINK_OFF)
		return 0;
	begin(link);
	return ntbs_link_tick(link, now_ns);
}

unsigned ntbs_link_wires(struct ntbs_link *link, uint64_t now_ns, bool up)
{
	bool was = link->wires;

	link->now_ns = now_ns;
	link->wires = up;
	if (was == up || link->state == NTBS_LINK_OFF || link->state == NTBS_LINK_HELD)
		return 0;
	if (!up) {
		if (link->state == NTBS_LINK_UP)
			return go_down(link, NTBS_LINK_DOWN_WIRES);
		link->state = NTBS_LINK_WAIT;
		return 0;
	}
	begin(link);
	return ntbs_link_tick(link, now_ns);
}

unsigned ntbs_link_resume(struct ntbs_link *link, uint64_t now_ns)
{
	link->now_ns = now_ns;
	if (link->state != NTBS_LINK_HELD)
		return 0;
	begin(link);
	return ntbs_link_tick(link, now_ns);
}

void ntbs_link_leave(struct ntbs_link *link)
{
	if (link->state == NTBS_LINK_UP)
		link->ops->window_write(link->arg, AT_BEAT, pair(link->epoch, BEAT_LEFT));
	if (link->state != NTBS_LINK_OFF && link->wires)
		publish(link, FLAG_LEFT);
	link->state = NTBS_LINK_OFF;
}

uint64_t ntbs_link_session(const struct ntbs_link *link)
{
	if (link->state != NTBS_LINK_UP)
		return 0;
	return link->conf.side_b ? pair(link->peer_epoch, link->epoch) : pair(link->epoch, link->peer_epoch);
}

const char *ntbs_link_say(const struct ntbs_link *link)
{
	switch (link->state) {
	case NTBS_LINK_OFF:
		return "not started";
	case NTBS_LINK_WAIT:
		return "the bridge says that its link is down: is the other side up, and has it enabled its link?";
	case NTBS_LINK_HELLO:
		if (link->peer_version)
			return "the other side speaks another version: install the same ntbsock on both";
		if (link->peer_epoch && link->window_bytes && link->window_bytes < NTBS_LINK_PAGE)
			return "the other side has opened no memory to us";
		return link->peer_epoch ? "heard the other side, which has not heard us: our scratchpad writes do not arrive" :
					  "the link is up, but nobody speaks: is the program running on the other side?";
	case NTBS_LINK_MEMORY:
		return link->hello_seen ? "the other side's stores arrive here, ours do not arrive there" :
					  "scratchpads work, but no store of the other side to its window arrives here";
	case NTBS_LINK_UP:
		return link->suspect ? "up, but no heartbeat for a while" : "up";
	case NTBS_LINK_HELD:
		break;
	}
	switch (link->down) {
	case NTBS_LINK_DOWN_LEFT:
		return "the other side said good-bye";
	case NTBS_LINK_DOWN_RESTARTED:
		return "the other side has begun anew";
	case NTBS_LINK_DOWN_SILENT:
		return "no heartbeat of the other side";
	case NTBS_LINK_DOWN_WIRES:
		return "the bridge's link went down";
	case NTBS_LINK_DOWN_NONE:
		break;
	}
	return "down";
}
