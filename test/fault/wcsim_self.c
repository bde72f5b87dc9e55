// SPDX-License-Identifier: BSD-2-Clause
/*
 * wcsim_self.c - the hostile fabric is as hostile as it says, and no more
 *
 * Without this a test that passes over it says nothing.
 */
#include "sim/wcsim.h"
#include "t.h"

static alignas(64) uint8_t mem[64 * 64];
static uint64_t seed;

static uint64_t word(size_t i)
{
	uint64_t w;

	memcpy(&w, mem + 8 * i, 8);
	return w;
}

static void line_of(uint8_t *line, uint8_t v)
{
	memset(line, v, NTBS_LINE);
}

/* Between flushes any chunk may come first; all sorts of partly landed lines are seen. */
static void disorder(void)
{
	bool second_first = false, torn = false, late = false, combined = false;

	for (unsigned round = 0; round < 300; round++) {
		alignas(64) uint8_t line[NTBS_LINE];
		struct wcsim sim;

		memset(mem, 0, sizeof(mem));
		wcsim_open(&sim, seed++);
		line_of(line, 1);
		sim.port.ops->store_line(&sim.port, mem, line);
		line_of(line, 2);
		sim.port.ops->store_line(&sim.port, mem + 64, line);
		late |= !word(0) && !word(8);
		do {
			unsigned a = 0, b = 0;

			for (unsigned i = 0; i < 8; i++) {
				a += !!word(i);
				b += !!word(8 + i);
				t_ok(word(i) == 0 || word(i) == 0x0101010101010101ull, "a chunk landed in parts");
			}
			second_first |= b > a;
			torn |= a > 0 && a < 8;
		} while (wcsim_step(&sim));
		t_eq(mem[63] + mem[127], 3, "both lines in the end");
		line_of(line, 3);
		sim.port.ops->store_line(&sim.port, mem, line);
		line_of(line, 4);
		sim.port.ops->store_line(&sim.port, mem, line);
		combined |= mem[0] == 1;
		wcsim_drain(&sim);
		for (unsigned i = 0; i < 64; i++)
			t_eq(mem[i], 4, "the later of two stores to a line stays");
		t_eq(wcsim_pending(&sim), 0, "pending after all landed");
		wcsim_close(&sim);
	}
	t_ok(late && second_first && torn && combined, "never seen: %s%s%s%s", late ? "" : "late ", second_first ? "" : "reordered ",
	     torn ? "" : "torn ", combined ? "" : "combined");
}

/* What was stored before a flush lands before what is stored after it. */
static void flush_orders(void)
{
	for (unsigned round = 0; round < 300; round++) {
		struct wcsim sim;

		memset(mem, 0, sizeof(mem));
		wcsim_open(&sim, seed++);
		for (unsigned i = 0; i < 64; i++) {
			alignas(64) uint8_t line[NTBS_LINE];

			line_of(line, 1);
			sim.port.ops->store_line(&sim.port, mem + 64 * i, line);
			if (i % 4 == 3)
				ntbs_window_flush(&sim.port);
			do {
				bool all = true;

				for (unsigned g = 0; g < 16; g++) {
					bool any = false;

					for (unsigned w = 32 * g; w < 32 * (g + 1); w++)
						any |= !!word(w);
					t_ok(all || !any, "group %u has landed in part before the one in front of it", g);
					for (unsigned w = 32 * g; w < 32 * (g + 1); w++)
						all &= !!word(w);
				}
			} while (t_rand() % 2 && wcsim_step(&sim));
		}
		ntbs_window_readback(&sim.port, (void *)mem);
		for (unsigned w = 0; w < 512; w++)
			t_ok(word(w), "word %u has not landed after a readback", w);
		wcsim_close(&sim);
	}
}

/* Odd pieces of bulk bytes, one 8-byte word, and a link that goes away. */
static void the_rest(void)
{
	bool kept = false, lost = false;

	for (unsigned round = 0; round < 300; round++) {
		uint8_t bytes[300];
		size_t at = t_rand() % 100, len = 1 + t_rand() % sizeof(bytes);
		struct wcsim sim;

		memset(mem, 0xee, sizeof(mem));
		wcsim_open(&sim, seed++);
		t_fill(bytes, len, 5, 0);
		ntbs_window_store_bulk(&sim.port, mem + at, bytes, len);
		ntbs_window_fence(&sim.port);
		wcsim_drain(&sim);
		t_ok(t_wrong(mem + at, len, 5, 0) < 0, "%zu bytes at %zu differ", len, at);
		t_ok((!at || mem[at - 1] == 0xee) && mem[at + len] == 0xee, "bytes beside %zu at %zu were written", len, at);

		memset(mem, 0, sizeof(mem));
		ntbs_window_store64(&sim.port, (ntbs_le64 *)(mem + 8), 0x1122334455667788ull);
		t_ok(word(1) == 0 || word(1) == 0x1122334455667788ull, "a word landed in parts");
		sim.port.ops->ring(&sim.port, -1);
		t_eq(sim.n.rings, 1, "bells");
		ntbs_window_store_bulk(&sim.port, mem + 1024, bytes, 64);
		wcsim_link_down(&sim);
		kept |= word(1) != 0;
		lost |= word(1) == 0;
		ntbs_window_store_bulk(&sim.port, mem + 2048, bytes, 64);
		wcsim_drain(&sim);
		t_eq(mem[2048], 0, "stored while the link was down");
		wcsim_link_up(&sim);
		ntbs_window_store64(&sim.port, (ntbs_le64 *)mem, 7);
		ntbs_window_readback(&sim.port, (ntbs_le64 *)mem);
		t_eq(word(0), 7, "stored after the link has come back");
		wcsim_close(&sim);
	}
	t_ok(kept && lost, "a link that goes away always or never takes what is under way with it");
}

/* The same seed does the same. */
static void repeats(void)
{
	uint64_t seen[2] = { 0, 0 };

	for (unsigned run = 0; run < 2; run++) {
		struct wcsim sim;

		memset(mem, 0, sizeof(mem));
		wcsim_open(&sim, 4711);
		for (unsigned i = 0; i < 64; i++) {
			alignas(64) uint8_t line[NTBS_LINE];

			line_of(line, (uint8_t)i);
			sim.port.ops->store_line(&sim.port, mem + 64 * (i * 7 % 64), line);
			wcsim_step(&sim);
			for (unsigned w = 0; w < 512; w++)
				seen[run] = (seen[run] ^ word(w)) * 0x100000001b3ull;
		}
		wcsim_close(&sim);
	}
	t_ok(seen[0] == seen[1], "the same seed, another order");
}

int main(void)
{
	seed = t_rand() | 1;
	disorder();
	flush_orders();
	the_rest();
	repeats();
	return t_done();
}
