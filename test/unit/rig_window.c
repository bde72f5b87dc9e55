// SPDX-License-Identifier: BSD-2-Clause
/*
 * rig_window.c - mapped windows: the shim in a QEMU points them into the other guest's memory, page by page, and away again
 *
 * The shim is loaded here, and asked to map as QEMU would; host 1 has none, so its windows stay closed.
 *
 * links: test/rig/client.c
 */
#include <dlfcn.h>
#include "rig/two_hosts.h"

static uint8_t *win;		/* BAR2 of host 0, as its QEMU has it mapped */

static uint8_t look(uint64_t off)
{
	return *(volatile uint8_t *)(win + off);
}

static void put(uint64_t off, uint8_t v)
{
	*(volatile uint8_t *)(win + off) = v;
}

static void closed(uint64_t off, const char *what)
{
	t_eq(look(off), 0xff, "%s: 0x%llx reads all-ones", what, (unsigned long long)off);
}

static void open_to(uint64_t off, uint64_t ram_off, const char *what)
{
	uint8_t *there = &ram[1][ram_off];
	uint8_t v = (uint8_t)(1 + t_rand() % 250);

	put(off, v);
	t_eq(*there, v, "%s: 0x%llx is the peer's 0x%llx", what, (unsigned long long)off, (unsigned long long)ram_off);
	*there = (uint8_t)(v + 1);
	t_eq(look(off), (uint8_t)(v + 1), "%s: and back", what);
}

/* The guest's buffer at @addr, page by page, in another order than its pages have in memory. */
static void map_pages(uint64_t addr, unsigned pages)
{
	for (unsigned i = 0; i < pages; i++)
		t_ok(vc_map(&host[1], addr + 4096ull * i, 4096, ram_fd[1], 4096ull * (i ^ 1)), "page %u", i);
}

int main(void)
{
	const uint64_t io = 0x700000000;
	char path[512], *const args[] = { "--remap", NULL };
	const char *build = getenv("T_BUILD");
	void *(*map)(void *, size_t, int, int, int, off_t), *shim;
	uint64_t step;

	family = "spr";
	hosts_memory();
	spawn(args);
	snprintf(path, sizeof(path), "%s/rig/ntbwin.so", build ? build : "build");
	setenv("NTBWIN", "s0.win", 1);
	shim = dlopen(path, RTLD_NOW);
	t_must(shim, "%s", dlerror());
	t_ok(!getenv("NTBWIN"), "the shim takes its variable away");
	*(void **)&map = dlsym(shim, "mmap64");
	t_must(map, "%s", dlerror());

	boot(0);
	boot(1);
	t_eq(host[0].region_flags[2], 7, "BAR2 may be mapped");
	t_eq(host[0].region_flags[0], 3, "BAR0 may not");
	t_must(host[0].region_fd[2] >= 0, "a descriptor for it");
	win = map(NULL, WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED, host[0].region_fd[2], 0);
	t_must(win != MAP_FAILED, "map");
	closed(0, "at first");

	driver_up(0);
	driver_up(1);
	t_must(wait_link(true), "link");
	closed(0, "no translation yet");
	t_ok(set_trans(1, 0, at[1] + BUFFER, WINDOW), "translation");
	for (uint64_t off = 0; off < WINDOW; off += 4096)
		open_to(off + 17, BUFFER + off + 17, "whole");
	t_ok(set_trans(1, 0, at[1] + BUFFER, 0x3000), "shorter");
	open_to(0x2fff, BUFFER + 0x2fff, "below the limit");
	closed(0x3000, "beyond the limit");
	closed(WINDOW - 1, "beyond the limit");
	t_ok(set_trans(1, 0, at[1] + BUFFER + 0x5000, WINDOW / 2), "elsewhere");
	open_to(0x10, BUFFER + 0x5010, "elsewhere");
	t_ok(set_trans(1, 0, at[1] + BUFFER + 0x7000, WINDOW / 2), "shifted");
	open_to(0x10, BUFFER + 0x7010, "shifted, nothing else changed");

	/* an IOMMU: pages scattered, and coming and going under the window */
	map_pages(io, 16);
	t_ok(set_trans(1, 0, io, WINDOW), "translation to scattered pages");
	for (unsigned i = 0; i < 16; i++)
		open_to(4096 * i + i, 4096 * (i ^ 1) + i, "scattered");
	closed(16 * 4096, "behind the mapped pages");
	t_ok(vc_unmap(&host[1], io + 4096 * 3, 4096), "a page goes");
	closed(4096 * 3, "page that went");
	open_to(4096 * 2, 4096 * 3, "its neighbour");
	open_to(4096 * 4, 4096 * 5, "the other");
	t_ok(vc_map(&host[1], io + 4096 * 3, 4096, ram_fd[1], 4096 * 100), "another page comes");
	open_to(4096 * 3, 4096 * 100, "page that came");
	t_ok(vc_map(&host[1], io + 4096 * 16, 4096, ram_fd[1], 4096 * 101), "one more");
	open_to(4096 * 16, 4096 * 101, "one more");

	/* everything that closes a window */
	fault("link down");
	settle(0);
	closed(0, "link down");
	put(0, 5);
	t_ok(ram[1][4096] != 5 || look(0) == 5, "stores to a closed window go nowhere");
	step = ram[1][4096];
	fault("link up");
	t_ok(wait_link(true), "link");
	t_eq(look(0), step, "open again, and nothing was written meanwhile");
	open_to(0, 4096, "link up");
	fault("cut 0 2");
	settle(0);
	closed(0, "cut");
	fault("mend 0 2");
	settle(0);
	open_to(0, 4096, "mended");
	vc_write(&host[1], CFG, 4, 2, 2);
	closed(0, "peer is no bus master");
	vc_write(&host[1], CFG, 4, 6, 2);
	open_to(0, 4096, "peer is bus master");
	t_ok(strstr(control("delay 0 100"), "error: "), "faults on single accesses are refused");
	t_ok(strstr(control("counters"), "\"write_bytes\": 0"), "mapped accesses are not seen");
	vc_close(&host[1]);
	for (int i = 0; i < 500 && strstr(control("status"), "\"link\": \"up\""); i++)
		usleep(10000);
	settle(0);
	closed(0, "peer is gone");
	vc_close(&host[0]);
	fault("quit");
	t_eq(server_ends(), 0, "status");
	return t_done();
}
