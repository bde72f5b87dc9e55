/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * region.h - the arena of this host, leased in regions: one for each channel over the port
 *
 * A region is zero when it is given out, and given out again only when nobody can store there any more: the process here
 * and its children are done with it (they said so, or are gone), and the broker of the other host has said the same of
 * its side (DONE).  A session of the link has an arena of its own, so its end frees everything.
 */
#ifndef NTBSOCK_BROKER_REGION_H
#define NTBSOCK_BROKER_REGION_H

#include <stdbool.h>
#include <sys/queue.h>
#include <ntbsock/abi_inbox.h>
#include <ntbsock/abi_port.h>

struct ntbs_region {
	LIST_ENTRY(ntbs_region) link;
	uint64_t chan;			/* id */
	bool of_connector;		/* whose inboxes lie there: a port that leads back to its own host has both */
	uint32_t proc;			/* of ours */
	uint64_t offset, bytes;
	uint64_t peer_offset;		/* the other one, in the window; 0: not known yet */
	uint32_t peer_proc;
	uint32_t nr_leases, nr_slots, bulk_bytes, inbox_bytes;
	bool here_done, there_done;
	struct {
		uint64_t armed;		/* copier.c: the word that it has rung for, */
		uint32_t generation;	/* in this generation: the next one counts anew */
	} rung[NTBS_LEASES_MAX];
};

/*
 * A new arena, mapped at @arena.  @fd: what unused pages can be given back to; -1 where a device stores to them, which
 * would go on storing to the pages that it was shown.
 */
void ntbs_regions_open(int fd, void *arena, uint64_t bytes);
void ntbs_regions_close(void);

/* Sizes of an inbox for so many slots and bulk bytes. */
uint32_t ntbs_region_bulk_offset(uint32_t nr_slots);
uint32_t ntbs_region_inbox_bytes(uint32_t nr_slots, uint32_t bulk_bytes);

/* Where in the region the inbox of a lease lies; the copy is right behind it.  In the other region the same. */
static inline uint64_t ntbs_region_inbox(const struct ntbs_region *r, uint32_t lease)
{
	return 4096 + 2ull * lease * r->inbox_bytes;
}

/* Can such a channel be?  What a process or the other broker asks for. */
bool ntbs_region_shape_ok(uint32_t nr_leases, uint32_t nr_slots, uint32_t bulk_bytes);

/* NULL: no room. */
struct ntbs_region *ntbs_region_get(uint64_t chan, bool of_connector, uint32_t proc, uint32_t nr_leases, uint32_t nr_slots,
				    uint32_t bulk_bytes);
struct ntbs_region *ntbs_region_find(uint64_t chan, bool of_connector);

void ntbs_region_drop(struct ntbs_region *r);	/* at once: nobody has begun to use it */

/* The two sides; whoever is second frees it.  here: true if the other broker is to be told. */
bool ntbs_region_here_done(struct ntbs_region *r);
void ntbs_region_there_done(struct ntbs_region *r);

/* As if no slot had landed that its reader has not seen whole.  What he has checked and not copied yet stays as it is. */
void ntbs_regions_lose(void);

/* The process @proc and its children are gone: @tell for each of their regions that was still in use. */
void ntbs_regions_proc_gone(uint32_t proc, void (*tell)(uint64_t chan, bool of_connector));

#endif
