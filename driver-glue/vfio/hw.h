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

struct ntbs_hw_conf {
	uint64_t window_bytes;		/* at most so much of the window, and of our memory; 0: 64 MiB */
	unsigned dead_beats;		/* see link.h; 0: its default */
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
	int arena_fd;			/* memfd behind @in; -1: @in lies in the function */
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

/* Serve what has happened; sleep up to @timeout_ns if nothing has.  Return: news, of link.h and of here. */
unsigned ntbs_hw_serve(struct ntbs_hw *hw, uint64_t timeout_ns);

/* After NTBS_LINK_WENT_DOWN, once nothing of the session is in use.  Return: news. */
unsigned ntbs_hw_resume(struct ntbs_hw *hw);

/* Say good-bye, shut the function down, give it back. */
void ntbs_hw_close(struct ntbs_hw *hw);

uint64_t ntbs_hw_now(void);

#endif
