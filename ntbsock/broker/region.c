// SPDX-License-Identifier: BSD-2-Clause
/* region.c - see region.h */
#include "region.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <ntbsock/abi_inbox.h>

#define PAGE 4096u

static LIST_HEAD(, ntbs_region) regions = LIST_HEAD_INITIALIZER(regions);	/* by offset */
static char *arena;
static uint64_t arena_bytes;
static int arena_fd = -1;

void ntbs_regions_open(int fd, void *mem, uint64_t bytes)
{
	arena_fd = fd;
	arena = mem;
	arena_bytes = bytes;
}

static void put(struct ntbs_region *r)
{
	LIST_REMOVE(r, link);
	free(r);
}

void ntbs_regions_close(void)
{
	while (!LIST_EMPTY(&regions))
		put(LIST_FIRST(&regions));
	arena_fd = -1;
	arena = NULL;
	arena_bytes = 0;
}

uint32_t ntbs_region_bulk_offset(uint32_t nr_slots)
{
	return (uint32_t)(sizeof(struct ntbs_inbox_shm) + nr_slots * sizeof(struct ntbs_slot_shm) + PAGE - 1) & ~(PAGE - 1);
}

uint32_t ntbs_region_inbox_bytes(uint32_t nr_slots, uint32_t bulk_bytes)
{
	return ntbs_region_bulk_offset(nr_slots) + bulk_bytes;
}

static bool power_of_two(uint32_t v)
{
	return v && !(v & (v - 1));
}

bool ntbs_region_shape_ok(uint32_t nr_leases, uint32_t nr_slots, uint32_t bulk_bytes)
{
	return nr_leases && nr_leases <= NTBS_LEASES_MAX && power_of_two(nr_slots) && nr_slots >= NTBS_SLOTS_MIN &&
	       nr_slots <= NTBS_SLOTS_MAX && power_of_two(bulk_bytes) && bulk_bytes >= NTBS_BULK_MIN && bulk_bytes <= NTBS_BULK_MAX;
}

/* Zero, whoever had it before: a slot of his would pass for one of the same sequence. */
static void clear(struct ntbs_region *r)
{
	if (arena_fd < 0 || fallocate(arena_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)r->offset, (off_t)r->bytes))
		memset(arena + r->offset, 0, r->bytes);
}

/* First fit. */
struct ntbs_region *ntbs_region_get(uint64_t chan, bool of_connector, uint32_t proc, uint32_t nr_leases, uint32_t nr_slots,
				    uint32_t bulk_bytes)
{
	uint32_t inbox = ntbs_region_inbox_bytes(nr_slots, bulk_bytes);
	uint64_t bytes = NTBS_REGION_BYTES(nr_leases, inbox), at = NTBS_ARENA_REGIONS;
	struct ntbs_region *r = NULL, *before = NULL, *fresh;

	LIST_FOREACH(r, &regions, link)
	{
		if (r->offset - at >= bytes)
			break;
		at = r->offset + r->bytes;
		before = r;
	}
	if (!arena || at > arena_bytes || arena_bytes - at < bytes)
		return NULL;
	fresh = calloc(1, sizeof(*fresh));
	if (!fresh)
		return NULL;
	fresh->chan = chan;
	fresh->of_connector = of_connector;
	fresh->proc = proc;
	fresh->offset = at;
	fresh->bytes = bytes;
	fresh->nr_leases = nr_leases;
	fresh->nr_slots = nr_slots;
	fresh->bulk_bytes = bulk_bytes;
	fresh->inbox_bytes = inbox;
	if (before)
		LIST_INSERT_AFTER(before, fresh, link);
	else
		LIST_INSERT_HEAD(&regions, fresh, link);
	clear(fresh);
	return fresh;
}

struct ntbs_region *ntbs_region_find(uint64_t chan, bool of_connector)
{
	struct ntbs_region *r;

	LIST_FOREACH(r, &regions, link)
	{
		if (r->chan == chan && r->of_connector == of_connector)
			return r;
	}
	return NULL;
}

void ntbs_region_drop(struct ntbs_region *r)
{
	put(r);
}

bool ntbs_region_here_done(struct ntbs_region *r)
{
	if (r->here_done)
		return false;
	r->here_done = true;
	if (r->there_done)
		put(r);
	return true;
}

void ntbs_region_there_done(struct ntbs_region *r)
{
	r->there_done = true;
	if (r->here_done)
		put(r);
}

void ntbs_regions_proc_gone(uint32_t proc, void (*tell)(uint64_t chan, bool of_connector))
{
	struct ntbs_region *r;

again:
	LIST_FOREACH(r, &regions, link)
	{
		uint64_t chan = r->chan;
		bool of_connector = r->of_connector;

		if (r->proc == proc && ntbs_region_here_done(r)) {
			tell(chan, of_connector);	/* may free others: begin anew */
			goto again;
		}
	}
}

void ntbs_regions_lose(void)
{
	struct ntbs_region *r;

	LIST_FOREACH(r, &regions, link)
	{
		for (uint32_t lease = 0; lease < r->nr_leases; lease++) {
			struct ntbs_inbox_shm *in =
				(struct ntbs_inbox_shm *)(arena + r->offset + PAGE + 2ull * lease * r->inbox_bytes);

			for (uint32_t i = 0; i < r->nr_slots; i++)
				ntbs_le64_write(&in->slot[i].line1.tail, 0);
		}
	}
}
