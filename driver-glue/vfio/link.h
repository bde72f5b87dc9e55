/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * link.h - two programs at the ends of a bridge find each other, and notice when the other is gone
 *
 * A bridge says at most that its wires are up.  What is needed beyond: that somebody is there who speaks the same
 * version, that this is not what an earlier program left behind, that stores to the window arrive where the other
 * looks, and, afterwards, that it is still there.
 *
 * Epochs.  Each end draws a random number whenever it begins anew.  The two numbers together name a *session*; neither
 * is ever used for a second one after a session has been up.  Whatever carries them and does not match is from before,
 * and is dropped: registers keep their values over resets, and stores can be late.
 *
 * Steps, the same on both ends (link.c has what is written where):
 *
 *	WAIT    the wires are down
 *	HELLO   through scratchpads: mine, and which of yours I have read.  Until yours names mine.
 *	MEMORY  through the window: {mine, yours}; once that has been found in our own memory, "seen" as well.  Until "seen"
 *	        (or a heartbeat, which only comes from who is up) is found in our own memory.
 *	UP      a heartbeat in the window every beat_ns; the scratchpads are looked at for another epoch.
 *	HELD    was up, is not: nothing begins until the caller has stopped using the old session (ntbs_link_resume())
 *
 * Both ends of a session that is up have read each other's numbers after choosing their own, so neither can be up with
 * somebody who is long gone.  Who was up and is not tells so by an epoch of 0.
 *
 * No clock, no thread, no descriptor: time and events are arguments, and all calls come from one thread.  Nothing here
 * allocates or fails.
 */
#ifndef NTBSOCK_VFIO_LINK_H
#define NTBSOCK_VFIO_LINK_H

#include <stdbool.h>
#include <stdint.h>

#define NTBS_LINK_VERSION 1
#define NTBS_LINK_SPADS 6		/* the first ones */
#define NTBS_LINK_PAGE 4096u		/* the first bytes of each window are the link's */

/* What the link does to the world. */
struct ntbs_link_ops {
	uint32_t (*spad_read)(void *arg, unsigned i);		/* ours, that the peer writes */
	void (*peer_spad_write)(void *arg, unsigned i, uint32_t value);
	uint64_t (*inbound_read)(void *arg, uint64_t offset);	/* our memory that the peer's window leads to */
	void (*inbound_clear)(void *arg, uint64_t offset);	/* 8 bytes of it become 0 */
	void (*window_write)(void *arg, uint64_t offset, uint64_t value);	/* 8 bytes, whole, in order */
	void (*ring)(void *arg);				/* have the peer call ntbs_link_tick() soon */
	uint32_t (*random)(void *arg);
	/*
	 * Have our memory open to the peer, if need be again: a reset of the peer's function may have closed it without a
	 * word (AMD keeps our translation in the peer's bank).  Called before each session, and again while it does not
	 * come up.
	 */
	void (*open_inbound)(void *arg);
};

struct ntbs_link_conf {
	bool side_b;			/* the two ends differ in this */
	uint64_t window_bytes;		/* how much we can store to, at most */
	uint64_t inbound_bytes;		/* how much of our memory is open to the peer; a multiple of 4096 */
	uint32_t features;		/* bits that both must have to be used */
	uint64_t beat_ns;		/* between two heartbeats; 0: 10 ms */
	unsigned suspect_beats;		/* so many beats without one of the peer's; 0: 5 */
	unsigned dead_beats;		/* ... and then it is gone; 0: 50 */
};

enum ntbs_link_state { NTBS_LINK_OFF, NTBS_LINK_WAIT, NTBS_LINK_HELLO, NTBS_LINK_MEMORY, NTBS_LINK_UP, NTBS_LINK_HELD };

/* What a call has brought. */
enum {
	NTBS_LINK_CAME_UP = 1,
	NTBS_LINK_WENT_DOWN = 2,	/* @down says why; the state is HELD */
	NTBS_LINK_SUSPECT = 4,		/* no heartbeat for a while; nothing is lost yet */
	NTBS_LINK_CLEARED = 8,		/* it was only late */
};

enum ntbs_link_down {
	NTBS_LINK_DOWN_NONE,
	NTBS_LINK_DOWN_LEFT,		/* the peer said good-bye */
	NTBS_LINK_DOWN_RESTARTED,	/* another epoch: it has begun anew, or has given us up */
	NTBS_LINK_DOWN_SILENT,		/* no heartbeat */
	NTBS_LINK_DOWN_WIRES,		/* the hardware says so */
};

struct ntbs_link {
	const struct ntbs_link_ops *ops;
	void *arg;
	struct ntbs_link_conf conf;
	enum ntbs_link_state state;
	enum ntbs_link_down down;
	bool wires;
	uint32_t epoch, peer_epoch;	/* 0: none */
	uint64_t window_bytes;		/* UP: how much of the window may be used, the link's page included */
	uint32_t features;
	uint64_t now_ns, beat_at_ns, publish_at_ns;
	uint32_t beat, peer_beat;	/* counts within the session; 0: none yet */
	unsigned quiet;			/* own beats since the peer's last */
	bool suspect, hello_seen;
	uint32_t peer_version;		/* HELLO: of a peer that speaks another one; 0 else */
	unsigned long long sessions, stale;	/* that were up; looks that met a word of another epoch */
};

/* @conf and @arg are kept; state OFF. */
void ntbs_link_init(struct ntbs_link *link, const struct ntbs_link_conf *conf, const struct ntbs_link_ops *ops,
		    void *arg);

/* Begin.  @wires: the hardware's link is up.  Return: news. */
unsigned ntbs_link_start(struct ntbs_link *link, uint64_t now_ns, bool wires);

/* The hardware's link is up or down now; saying the same twice does nothing. */
unsigned ntbs_link_wires(struct ntbs_link *link, uint64_t now_ns, bool up);

/* Time has come (ntbs_link_next()), or a doorbell. */
unsigned ntbs_link_tick(struct ntbs_link *link, uint64_t now_ns);

/* When ntbs_link_tick() is due; UINT64_MAX: not before something happens. */
uint64_t ntbs_link_next(const struct ntbs_link *link);

/* HELD: nothing of the old session is in use any more; begin anew. */
unsigned ntbs_link_resume(struct ntbs_link *link, uint64_t now_ns);

/* Say good-bye; state OFF.  The caller is not told of it. */
void ntbs_link_leave(struct ntbs_link *link);

/* UP: the session, the same number on both ends; else 0. */
uint64_t ntbs_link_session(const struct ntbs_link *link);

/* One sentence: what state, and what it waits for or why it went down. */
const char *ntbs_link_say(const struct ntbs_link *link);

#endif
