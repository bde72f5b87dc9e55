/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hw.h - one end of a bridge, whole: function, driver, memory open to the peer, link; served from a loop
 *
 *	ntbs_hw_open(&hw, "0000:17:00.0", &conf)
 *	ntbs_hw_start(&hw)
 *	for (;;) {
 *		news = ntbs_hw_serve(&hw, timeout_ns);	  sleeps until something happens
 *		if (news & NTBS_LINK_CAME_UP) ...	  hw.out is the peer's memory, hw.in is ours
 *		if (news & NTBS_LINK_WENT_DOWN) ...	  stop using both, then ntbs_hw_resume()
 *	}
 *	ntbs_hw_close(&hw)
 *
 * Who has a loop of his own calls ntbs_hw_serve(&hw, 0) whenever hw.events_fd is readable or ntbs_hw_due() has come.
 *
 * Memory of ours that is translated is made anew by ntbs_hw_resume(): what programs of the old session still store, here
 * into the old memory or over there through the window, is not in the new one's way for longer than it takes to notice.
 * Where the function brings the memory (ivshmem) it stays as it was left.
 *
 * The first page of both belongs to the link (link.h).  One thread.  Lines are stored to hw.out as hw.port says, which
 * knows the mapping (hw.out_map), and flushed; nothing is read from hw.out but by who measures.
 */
#ifndef NTBSOCK_VFIO_HW_H
#define NTBSOCK_VFIO_HW_H

#include "link.h"
#include "ntb.h"
#include "port.h"
#include "vfio.h"

/* News beside those of link.h. */
enum {
	NTBS_HW_BELLS = 1 << 8,		/* @bells has some that nobody has taken */
	NTBS_HW_GONE = 1 << 9,		/* the function is gone, or its error or hot-unplug event came: close it */
};

#define NTBS_HW_LINK_BELL 1ull		/* the link's own doorbell; also anybody's hint to look */
#define NTBS_HW_DATA_BELL 2ull		/* @bell, if both sides have that many */
#define NTBS_HW_BEAT_MS 10u
#define NTBS_HW_HAS_DATA_BELL 1u	/* a feature of the link */

struct ntbs_hw_conf {
	uint64_t window_bytes;		/* at most so much of the window, and of our memory; 0: 64 MiB */
	unsigned dead_beats;		/* see link.h; 0: its default.  A beat is NTBS_HW_BEAT_MS */
};

struct ntbs_hw {
	struct ntbs_vfio v;
	struct ntbs_ntb ntb;
	struct ntbs_link link;
	unsigned window;		/* which of the function's: the biggest */
	struct ntbs_port port;		/* how lines are stored to @out */
	const struct ntbs_vfio_map *out_map;
	char *out;			/* the peer's memory: out_bytes of it, what the link has agreed on is less */
	volatile char *in;		/* ours, that the peer stores to */
	size_t out_bytes, in_bytes;
	int events_fd;			/* epoll: readable if there is something to serve; closed by ntbs_hw_close() */
	uint64_t bell;			/* UP: for whoever uses the memory */
	int arena_fd;			/* memfd behind @in, sealed; -1: @in lies in the function, at in_bar.  New with each session */
	void *arena;
	uint64_t iova;
	bool mapped, probed;
	uint64_t bells;			/* rung and not taken yet: the caller clears what it serves */
	uint64_t poll_at_ns;
	char why[NTBS_VFIO_WHY];
};

/* Return: 0; else a negative errno with @hw->why, and nothing to close. */
int ntbs_hw_open(struct ntbs_hw *hw, const char *address, const struct ntbs_hw_conf *conf);

/* Enable the link of the hardware and begin to look for the peer.  Return: 0, or as ntbs_ntb_link_enable(). */
int ntbs_hw_start(struct ntbs_hw *hw);

/* Serve what has happened; sleep up to @timeout_ns if nothing has, 0: never.  Return: news, of link.h and of here. */
unsigned ntbs_hw_serve(struct ntbs_hw *hw, uint64_t timeout_ns);

/* When ntbs_hw_serve() is to be called next if nothing happens; UINT64_MAX: not at all. */
uint64_t ntbs_hw_due(const struct ntbs_hw *hw);

/* Say good-bye to the session, of our own accord; then ntbs_hw_resume(), once nothing of it is in use. */
void ntbs_hw_leave(struct ntbs_hw *hw);

/*
 * After NTBS_LINK_WENT_DOWN or ntbs_hw_leave(), once nothing of the session is in use.  @in is at another place then.
 * Return: news; NTBS_HW_GONE: no new memory, @why says why.
 */
unsigned ntbs_hw_resume(struct ntbs_hw *hw);

/* Say good-bye, shut the function down, give it back. */
void ntbs_hw_close(struct ntbs_hw *hw);

uint64_t ntbs_hw_now(void);

#endif
