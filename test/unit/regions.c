// SPDX-License-Identifier: BSD-2-Clause
/*
 * regions.c - regions of an arena: apart from each other, zero, and given out again only when both sides are done
 *
 * links: ntbsock/broker/region.c
 */
#include "broker/region.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include "t.h"

#define ARENA (8ull << 20)
#define MAX 64

static unsigned told;

static void tell(uint64_t chan, bool of_connector)
{
	told++;
}

/* Whatever the other side has said: once, and all of it. */
static void dropped(void)
{
	for (int there = 0; there < 2; there++) {
		struct ntbs_region *g = ntbs_region_get(1, false, 1, 1, 8, 4096);

		t_must(g, "no region");
		if (there)
			ntbs_region_there_done(g);
		ntbs_region_drop(g);
		t_ok(!ntbs_region_find(1, false), "still there");
	}
}

int main(void)
{
	int fd = memfd_create("arena", 0);
	struct { uint64_t chan, at, bytes; bool here, there; } r[MAX] = { 0 };
	uint64_t next = 1;
	char *mem;
	unsigned made = 0, refused = 0;
	struct stat st;

	t_must(fd >= 0 && !ftruncate(fd, ARENA), "memfd");
	mem = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	t_must(mem != MAP_FAILED, "mmap");
	t_ok(!ntbs_region_get(1, false, 1, 1, 8, 4096), "no arena");
	t_ok(!ntbs_region_shape_ok(0, 8, 4096) && !ntbs_region_shape_ok(65, 8, 4096) && !ntbs_region_shape_ok(1, 9, 4096) &&
	     !ntbs_region_shape_ok(1, 8192, 4096) && !ntbs_region_shape_ok(1, 8, 5000) && !ntbs_region_shape_ok(1, 8, 1u << 31) &&
	     ntbs_region_shape_ok(64, 4096, 1u << 28), "shapes");
	ntbs_regions_open(-1, mem, ARENA);
	memset(mem, 0x55, ARENA);
	t_must(ntbs_region_get(1, false, 1, 1, 8, 4096) && !fstat(fd, &st), "a region");
	t_ok(!mem[NTBS_ARENA_REGIONS] && st.st_blocks == ARENA / 512, "zeroed in pages that a device has not been shown");
	ntbs_regions_close();
	ntbs_regions_open(fd, mem, ARENA);
	t_ok(!ntbs_region_get(1, false, 1, 64, 4096, 1u << 28), "larger than the arena");
	dropped();
	for (unsigned n = 0; n < 20000; n++) {
		unsigned i = t_rand() % MAX;
		struct ntbs_region *g = r[i].chan ? ntbs_region_find(r[i].chan, false) : NULL;

		if (!r[i].chan) {
			uint32_t leases = 1 + t_rand() % 8;

			g = ntbs_region_get(next, false, (uint32_t)i + 1, leases, 8u << t_rand() % 6, 4096u << t_rand() % 6);
			if (!g) {
				refused++;
				continue;
			}
			made++;
			t_ok(g->offset >= NTBS_ARENA_REGIONS && g->offset + g->bytes <= ARENA && !(g->offset % 4096), "where it is");
			for (unsigned k = 0; k < MAX; k++)
				t_ok(!r[k].chan || g->offset >= r[k].at + r[k].bytes || r[k].at >= g->offset + g->bytes,
				     "two regions at one place");
			for (uint64_t k = 0; k < g->bytes; k += 4093)
				t_ok(!mem[g->offset + k], "not zero at %llu", (unsigned long long)k);
			memset(mem + g->offset, 0x55, g->bytes);
			r[i].chan = next++;
			r[i].at = g->offset;
			r[i].bytes = g->bytes;
			r[i].here = r[i].there = false;
			continue;
		}
		t_must(g && g->offset == r[i].at && g->proc == i + 1, "it is gone before its time");
		switch (t_rand() % 3) {
		case 0:
			t_eq(ntbs_region_here_done(g), !r[i].here, "to be told");
			r[i].here = true;
			break;
		case 1:
			ntbs_region_there_done(g);
			r[i].there = true;
			break;
		default:
			told = 0;
			ntbs_regions_proc_gone((uint32_t)i + 1, tell);
			t_eq(told, !r[i].here, "told of the end of a process");
			r[i].here = true;
		}
		if (r[i].here && r[i].there) {
			t_ok(!ntbs_region_find(r[i].chan, false), "both are done");
			r[i].chan = 0;
		}
	}
	t_ok(made > 100 && refused > 100, "%u made, %u refused: the arena was never full or always", made, refused);
	ntbs_regions_close();
	t_ok(!ntbs_region_get(next, false, 1, 1, 8, 4096), "no arena again");
	return t_done();
}
