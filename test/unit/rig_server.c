// SPDX-License-Identifier: BSD-2-Clause
/*
 * rig_server.c - ntbrig as two QEMUs see it: every family is brought up, carries data and doorbells, and suffers faults
 *
 * links: test/rig/client.c
 */
#include "rig/two_hosts.h"

static void data(void)
{
	struct {
		uint64_t count;
		struct {
			uint64_t off;
			uint32_t region, len;
			uint64_t value;
		} w[3];
	} multi = { 3, { { 0x300, 2, 8, 1 }, { 0x308, 2, 4, 2 }, { 0x30c, 2, 2, 3 } } };
	uint64_t edge = SPLIT - BUFFER;	/* where the two maps meet */

	bring_up(NULL);
	for (int h = 0; h < 2; h++) {
		uint8_t *buf = ram[!h] + BUFFER;

		for (uint64_t i = 0; i < 64; i++)
			vc_write(&host[h], 2, 8 * i, i * 0x0101010101010101, 8);
		settle(h);
		for (unsigned i = 0; i < 64; i++)
			t_eq(buf[8 * i + 3], i, "%s: word %u", family, i);
		vc_write(&host[h], 2, edge - 4, 0x1122334455667788, 8);
		settle(h);
		t_eq(buf[edge - 1], 0x55, "before the seam of two maps");
		t_eq(buf[edge], 0x44, "behind it");
		t_eq(vc_read(&host[h], 2, edge - 4, 8), 0x1122334455667788, "read across the link");
		t_ok(vc_send(&host[h], VC_MULTI, VC_NO_REPLY, &multi, sizeof(multi), NULL, 0), "gathered writes");
		settle(h);
		t_eq(buf[0x300], 1, "first of them");
		t_eq(buf[0x308], 2, "second");
		t_eq(buf[0x30c], 3, "third");
		vc_write(&host[h], 4, 0, 0xff, 8);
		t_eq(vc_read(&host[h], 4, 0, 4), 0xffffffff, "the window that nobody opened");
		ring(h, 5);
		settle(h);
		t_eq(vc_fired(&host[!h], 5), 1, "%s: doorbell", family);
		t_eq(vc_fired(&host[!h], 6), 0, "and no other");
		bell_clear(!h);
		/* the map goes: stores and loads do not arrive */
		t_ok(vc_unmap(&host[!h], at[!h], SPLIT), "unmap");
		buf[0] = 0x33;
		vc_write(&host[h], 2, 0, 0x77, 1);
		t_eq(vc_read(&host[h], 2, 0, 1), 0xff, "not mapped");
		t_eq(buf[0], 0x33, "not written");
	}
	t_ok(strstr(control("counters"), "\"1\": 1, \"2\": 1, \"4\": 3, \"8\": 66"), "counters: %s", control("counters"));
	take_down();
}

/*
 * Two hosts that store and then look what the other has stored, as who arms and who sends: host 1 has stored and seen
 * nothing before host 0 has read across the link.  Then host 0 finds it in its memory, wherever it was on its way.
 */
static void read_pushes(void)
{
	struct {
		uint64_t off;
		uint32_t region, len;
	} word = { 0x800, 2, 8 };
	struct vc_answer a;

	bring_up(NULL);
	for (uint64_t i = 1; i <= 20; i++) {
		t_must(!kill(server, SIGSTOP), "stop");
		vc_write(&host[1], 2, 0x800, i, 8);
		vc_write(&host[0], 2, 0x800, i, 8);
		t_ok(vc_send(&host[0], VC_READ, 0, &word, sizeof(word), NULL, 0), "read");
		t_must(!kill(server, SIGCONT), "continue");
		t_ok(vc_answer(&host[0], VC_READ, &a), "answer");
		t_eq(ram[0][BUFFER + 0x800], i, "%s: behind the read", family);
		t_eq(ram[1][BUFFER + 0x800], i, "%s: before it", family);
	}
	take_down();
}

static void vectors_off(void)
{
	uint32_t one[5] = { sizeof(one), 0x24, 2, 5, 1 }, all[5] = { sizeof(all), 0x21, 2, 0, 0 };
	struct vc_answer a;

	bring_up(NULL);
	t_ok(vc_call(&host[1], VC_SET_IRQS, one, sizeof(one), NULL, 0, &a) && !a.error, "one eventfd taken back");
	ring(0, 5);
	ring(0, 6);
	settle(0);
	t_eq(vc_fired(&host[1], 5), 0, "taken back");
	t_eq(vc_fired(&host[1], 6), 1, "the other is still there");
	bell_clear(1);
	t_ok(vc_call(&host[1], VC_SET_IRQS, all, sizeof(all), NULL, 0, &a) && !a.error, "all taken back");
	ring(0, 6);
	settle(0);
	t_eq(vc_fired(&host[1], 6), 0, "all gone");
	take_down();
}

static void link_faults(void)
{
	bring_up(NULL);
	fault("link down");
	t_ok(wait_link(false) || is("amd"), "%s: down", family);
	for (int h = 0; h < 2; h++) {
		t_ok(vc_fired(&host[h], is("amd") ? 22 : link_vector()), "%s: told host %d", family, h);
		link_ack(h);
	}
	vc_write(&host[0], 2, 0x500, 1, 8);
	t_eq(vc_read(&host[0], 2, 0x500, 8), -1, "%s: no window without link", family);
	fault("link up");
	t_ok(wait_link(true), "%s: up again", family);
	for (int h = 0; h < 2; h++)
		link_ack(h);
	vc_write(&host[0], 2, 0x500, 1, 8);
	t_eq(vc_read(&host[0], 2, 0x500, 8), 1, "%s: window again", family);
	fault("drop 0 1");
	vc_write(&host[0], 2, 0x500, 2, 8);
	vc_write(&host[0], 2, 0x508, 2, 8);
	t_eq(vc_read(&host[0], 2, 0x500, 8), 1, "dropped");
	t_eq(vc_read(&host[0], 2, 0x508, 8), 2, "not dropped");
	fault("delay 0 50000");
	vc_write(&host[0], 2, 0x600, 9, 8);
	settle(0);
	t_eq(ram[1][BUFFER + 0x600], 0, "late");
	for (int i = 0; i < 500 && !*(volatile uint8_t *)&ram[1][BUFFER + 0x600]; i++)
		usleep(10000);
	t_eq(ram[1][BUFFER + 0x600], 9, "but there, by the server's own clock");
	vc_write(&host[0], 2, 0x600, 10, 8);
	ring(0, 3);
	settle(0);
	t_eq(ram[1][BUFFER + 0x600], 10, "pushed by the doorbell");
	t_eq(vc_fired(&host[1], 3), 1, "which rings");
	bell_clear(1);
	vc_write(&host[0], 2, 0x608, 11, 8);
	settle(0);
	t_eq(vc_read(&host[1], 2, 0, 1), 0, "a read of the other host");
	t_eq(ram[1][BUFFER + 0x608], 11, "its answer pushes as well");
	fault("bell-drop 0 1");
	ring(0, 3);
	settle(0);
	t_eq(vc_fired(&host[1], 3), 0, "dropped doorbell");
	fault("cut 0 2");
	t_eq(vc_read(&host[0], 2, 0, 1), 0xff, "cut");
	fault("mend 0 2");
	t_ok(strstr(control("drop 2 1"), "error: "), "no host 2");
	t_ok(strstr(control("cut 0 3"), "error: "), "no window 3");
	t_ok(strstr(control("nonsense"), "error: "), "no command");
	take_down();
}

/* A guest goes without a word, and another comes to its place. */
static void guest_dies(void)
{
	bring_up(NULL);
	vc_close(&host[1]);
	for (int i = 0; i < 500 && strstr(control("status"), "\"link\": \"up\""); i++)
		usleep(10000);
	t_ok(strstr(control("status"), "\"link\": \"down\""), "%s: link of a dead guest", family);
	t_ok(vc_fired(&host[0], is("amd") ? 22 : link_vector()), "%s: the other is told", family);
	link_ack(0);
	t_eq(vc_read(&host[0], 2, 0, 4), 0xffffffff, "its memory is gone");
	boot(1);
	driver_up(1);
	t_ok(wait_link(true), "%s: link with the new guest", family);
	link_ack(0);
	t_ok(set_trans(1, 0, at[1] + BUFFER, WINDOW), "%s: translation of the new guest", family);
	vc_write(&host[0], 2, 0x700, 77, 8);
	settle(0);
	t_eq(ram[1][BUFFER + 0x700], 77, "%s: window into the new guest", family);
	/* a machine reset: the same QEMU, the registers anew */
	t_ok(vc_send(&host[1], VC_RESET, 0, NULL, 0, NULL, 0), "reset");
	t_must(vc_answer(&host[1], VC_RESET, &(struct vc_answer){ 0 }), "answer");
	t_eq(vc_read(&host[1], CFG, 4, 2), 0, "COMMAND after reset");
	t_eq(vc_read(&host[0], 2, 0, 4), 0xffffffff, "%s: window into a machine that was reset", family);
	take_down();
}

struct stores {
	uint8_t buf[8192];
	uint64_t low;
};

static void take_store(void *arg, uint64_t addr, const void *buf, size_t len)
{
	struct stores *s = arg;

	if (addr >= s->low && len <= sizeof(s->buf) && addr - s->low <= sizeof(s->buf) - len)
		memcpy(s->buf + (addr - s->low), buf, len);
}

/* The copy engine has a client of its own, with maps of its own; it reaches the window by the BAR's address. */
static void engine(void)
{
	static struct stores stores = { .low = 0x7700000000 };
	struct vc e;
	uint64_t dst[3] = { at[0] + 0x3000, 0, stores.low + 8 };

	bring_up(NULL);
	dst[1] = bar_base(0, 2) + 0x2000;
	t_must(vc_connect(&e, "e0") && vc_hello(&e), "engine");
	e.dma = take_store;
	e.dma_arg = &stores;
	t_eq(e.vectors, 2, "a vector a channel");
	t_ok(vc_map(&e, at[0], RAM, ram_fd[0], 0) && vc_map(&e, stores.low, 8192, -1, 0), "its maps");
	t_must(vc_set_irqs(&e), "its eventfds");
	vc_write(&e, CFG, 4, 6, 2);
	t_fill(ram[0] + 0x1000, 5000, 3, 0);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t d[8] = { 5000 | 9ull << 32, at[0] + 0x1000, dst[i], at[0] + 64 * (i + 1) };

		memcpy(ram[0] + 64 * i, d, sizeof(d));
	}
	vc_write(&e, 0, 0x80, 0x1d, 2);
	vc_write(&e, 0, 0x98, (uint32_t)at[0] + 0x800, 4);
	vc_write(&e, 0, 0x9c, at[0] >> 32, 4);
	vc_write(&e, 0, 0x90, (uint32_t)at[0], 4);
	vc_write(&e, 0, 0x94, at[0] >> 32, 4);
	vc_write(&e, 0, 0x86, 3, 2);
	for (int i = 0; i < 500 && (vc_read(&e, 0, 0x88, 8) & 7) == 0; i++)
		usleep(1000);
	t_eq(vc_read(&e, 0, 0x88, 8), (at[0] + 128) | 1, "status");
	t_eq(vc_read(&e, 0, 0xa8, 4), 0, "error");
	t_eq(t_wrong(ram[0] + 0x3000, 5000, 3, 0), -1, "into memory");
	t_eq(t_wrong(ram[1] + BUFFER + 0x2000, 5000, 3, 0), -1, "into the window");
	t_eq(t_wrong(stores.buf + 8, 5000, 3, 0), -1, "into what has no file");
	t_ok(vc_fired(&e, 0), "interrupt");
	t_ok(strstr(control("status"), "\"dma_writes\": 3"), "three messages for that: %s", control("status"));
	vc_close(&e);
	take_down();
}

static void strict(void)
{
	bring_up(NULL);
	rd(0, is("amd") ? 0x700 : 0x3000, 4);
	for (int h = 0; h < 2; h++)
		vc_close(&host[h]);
	t_eq(server_ends(), 3, "%s: an unknown register ends a strict server", family);
}

static void trace_is_told(void)
{
	char line[256], *const args[] = { "--trace", "trace", "--once", NULL };
	unsigned long lines = 0, last = 0;
	unsigned bells = 0, ups = 0;
	FILE *f;

	bring_up(args);
	ring(0, 4);
	vc_write(&host[0], 2, 0, 1, 8);
	settle(0);
	for (int h = 0; h < 2; h++)
		vc_close(&host[h]);
	t_eq(server_ends(), 0, "the last guest has gone");
	f = fopen("trace", "r");
	t_must(f, "trace");
	while (fgets(line, sizeof(line), f)) {
		unsigned long seq = strtoul(line, NULL, 10);

		t_ok(seq > last, "numbers go up");
		last = seq;
		lines++;
		bells += !!strstr(line, is("amd") ? " 0 port write bar0 0x454 2 0x10" : " 0 port write bar0 0x110 4 0x1");
		ups += !!strstr(line, " link up");
	}
	fclose(f);
	t_eq(last, lines + 1, "%s: only the window write is not shown", family);
	t_eq(bells, 1, "%s: the doorbell", family);
	t_eq(ups, 1, "%s: link up once", family);
}

int main(void)
{
	hosts_memory();
	for (unsigned f = 0; f < 4; f++) {
		family = families[f];
		data();
		read_pushes();
		link_faults();
		guest_dies();
		strict();
		trace_is_told();
	}
	family = "icx";
	vectors_off();
	engine();
	return t_done();
}
