// SPDX-License-Identifier: BSD-2-Clause
/*
 * rig_proto.c - messages that QEMU would not send end the connection with a sentence, and the server with status 3
 *
 * links: test/rig/client.c test/rig/dmamap.c
 */
#include "rig/two_hosts.h"
#include "rig/dmamap.h"

struct head {
	uint16_t id, cmd;
	uint32_t size, flags, error;
};

/* A message against a server, with a body of @len bytes, of which @words are the first as 32-bit words. */
struct bad {
	const char *what;	/* that the server must say */
	uint16_t cmd;
	uint32_t flags;
	size_t len;
	uint32_t words[12];
	int fds;
	bool early;		/* before VERSION */
	uint32_t size;		/* that the header claims, if not what is there */
};

enum { LO = 0x1000, VECTORS = 33, MUCH = 0x1000000 };

#define BAD(what_, cmd_, flags_, len_, ...) { .what = (what_), .cmd = (cmd_), .flags = (flags_), .len = (len_), __VA_ARGS__ }
static const struct bad bads[] = {
	BAD("before VERSION", VC_INFO, 0, 16, .words = { 16 }, .early = true),
	BAD("VERSION: 4 bytes", VC_VERSION, 0, 4, .words = { 0 }, .early = true),
	BAD("no NUL", VC_VERSION, 0, 8, .words = { 0, 0x41414141 }, .early = true),
	BAD("protocol 7", VC_VERSION, 0, 8, .words = { 7 }, .early = true),
	BAD("VERSION twice", VC_VERSION, 0, 8, .words = { 0 }),
	BAD("flags 0x40", VC_INFO, 0x40, 16, .words = { 16 }),
	BAD("was not asked", VC_INFO, 1, 0, .words = { 0 }),
	BAD("was not asked", VC_DMA_WRITE, 1, 0, .words = { 0 }),
	BAD("command 0", 0, 0, 0, .words = { 0 }),
	BAD("GET_REGION_IO_FDS", 6, 0, 16, .words = { 0 }),
	BAD("DMA_READ", VC_DMA_READ, 0, 16, .words = { 0 }),
	BAD("command 99", 99, 0, 0, .words = { 0 }),
	BAD("a message of 15 bytes", VC_INFO, 0, 0, .words = { 0 }, .size = 15),
	BAD("a message of 1073741824 bytes", VC_INFO, 0, 0, .words = { 0 }, .size = 1 << 30),
	BAD("GET_INFO: 4 bytes", VC_INFO, 0, 4, .words = { 16 }),
	BAD("with 1 descriptors", VC_INFO, 0, 16, .words = { 16 }, .fds = 1),
	BAD("region 9", VC_REGION_INFO, 0, 32, .words = { 32, 0, 9 }),
	BAD("argsz 8", VC_REGION_INFO, 0, 32, .words = { 8, 0, 1 }),
	BAD("index 5", VC_IRQ_INFO, 0, 16, .words = { 16, 0, 5 }),
	BAD("SET_IRQS: 16 bytes", VC_SET_IRQS, 0, 16, .words = { 16 }),
	BAD("SET_IRQS: flags 0x24, index 1", VC_SET_IRQS, 0, 20, .words = { 20, 0x24, 1, 0, 1 }),
	BAD("SET_IRQS: flags 0x2c", VC_SET_IRQS, 0, 20, .words = { 20, 0x2c, 2, 0, 1 }),
	BAD("34 from 0 of 33", VC_SET_IRQS, 0, 20, .words = { 20, 0x24, 2, 0, VECTORS + 1 }),
	BAD("4294967295 from 1 of 33", VC_SET_IRQS, 0, 20, .words = { 20, 0x24, 2, 1, 0xffffffff }),
	BAD("1 from 34 of 33", VC_SET_IRQS, 0, 20, .words = { 20, 0x24, 2, VECTORS + 1, 1 }),
	BAD("2 descriptors for 3 vectors", VC_SET_IRQS, 0, 20, .words = { 20, 0x24, 2, 0, 3 }, .fds = 2),
	BAD("more than 16 descriptors", VC_SET_IRQS, 0, 20, .words = { 20, 0x24, 2, 0, 20 }, .fds = 20),
	BAD("DMA_MAP: 24 bytes", VC_DMA_MAP, 0, 24, .words = { 24 }),
	BAD("0x0 bytes at", VC_DMA_MAP, 0, 32, .words = { 32, 3, 0, 0, LO, 0, 0, 0 }),
	BAD("0x1001 bytes at", VC_DMA_MAP, 0, 32, .words = { 32, 3, 0, 0, LO, 0, 0x1001, 0 }),
	BAD("at 0x1800", VC_DMA_MAP, 0, 32, .words = { 32, 3, 0, 0, 0x1800, 0, LO, 0 }),
	BAD("flags 0x7", VC_DMA_MAP, 0, 32, .words = { 32, 7, 0, 0, LO, 0, LO, 0 }),
	BAD("Invalid argument", VC_DMA_MAP, 0, 32, .words = { 32, 3, 0, 0, 0xfffff000, 0xffffffff, 0x2000, 0 }),
	BAD("offset 0x400000: Invalid", VC_DMA_MAP, 0, 32, .words = { 32, 3, RAM, 0, MUCH, 0, LO, 0 }, .fds = 1),
	BAD("offset 0xfffffffffffff000: Invalid", VC_DMA_MAP, 0, 32, .words = { 32, 3, 0xfffff000, 0xffffffff, MUCH, 0, 0x2000, 0 }, .fds = 1),
	BAD("2 descriptors", VC_DMA_MAP, 0, 32, .words = { 32, 3, 0, 0, MUCH, 0, LO, 0 }, .fds = 2),
	BAD("cut a range in two", VC_DMA_UNMAP, 0, 24, .words = { 24, 0, LO, 0, LO, 0 }),
	BAD("DMA_UNMAP: flags 0x1", VC_DMA_UNMAP, 0, 24, .words = { 24, 1, LO, 0, LO, 0 }),
	BAD("DMA_UNMAP: 8 bytes", VC_DMA_UNMAP, 0, 8, .words = { 24 }),
	BAD("REGION_READ: 12 bytes", VC_READ, 0, 12, .words = { 0 }),
	BAD("4 bytes at 0x0 of region 9", VC_READ, 0, 16, .words = { 0, 0, 9, 4 }),
	BAD("4 bytes at 0x0 of region 1", VC_READ, 0, 16, .words = { 0, 0, 1, 4 }),
	BAD("0 bytes at 0x0 of region 0", VC_READ, 0, 16, .words = { 0, 0, 0, 0 }),
	BAD("16 bytes at 0x0 of region 0", VC_READ, 0, 16, .words = { 0, 0, 0, 16 }),
	BAD("8 bytes at 0xfffc of region 0", VC_READ, 0, 16, .words = { 0xfffc, 0, 0, 8 }),
	BAD("4 bytes at 0xffffffffffffffff", VC_READ, 0, 16, .words = { 0xffffffff, 0xffffffff, 0, 4 }),
	BAD("bytes for 16777216", VC_READ, 0, 16, .words = { 0, 0, 2, MUCH }),
	BAD("without reply", VC_READ, VC_NO_REPLY, 16, .words = { 0, 0, 0, 4 }),
	BAD("REGION_WRITE: 20 bytes for 8", VC_WRITE, 0, 20, .words = { 0, 0, 0, 8 }),
	BAD("REGION_WRITE: 24 bytes for 4", VC_WRITE, VC_NO_REPLY, 24, .words = { 0, 0, 0, 4 }),
	BAD("REGION_WRITE_MULTI: 4 bytes", VC_MULTI, 0, 4, .words = { 1 }),
	BAD("0 writes", VC_MULTI, 0, 8, .words = { 0 }),
	BAD("for 2 writes", VC_MULTI, 0, 32, .words = { 2, 0 }),
	BAD("for 4611686018427387905 writes", VC_MULTI, 0, 32, .words = { 1, 0x40000000 }),
	BAD("9 bytes in write 0", VC_MULTI, 0, 32, .words = { 1, 0, 0, 0, 2, 9 }),
	BAD("8 bytes at 0xffffc of region 2", VC_MULTI, 0, 32, .words = { 1, 0, 0xffffc, 0, 2, 8 }),
};

static bool said(const char *what)
{
	char text[1024] = "";
	int fd = open("said", O_RDONLY);

	t_must(fd >= 0 && read(fd, text, sizeof(text) - 1) >= 0, "what the server said");
	close(fd);
	if (strstr(text, what))
		return true;
	fprintf(stderr, "it said: %s\n", text);
	return false;
}

static void one(const struct bad *b)
{
	struct vc *c = &host[0];
	int fds[VC_FDS];
	uint8_t msg[sizeof(struct head) + 64] = { 0 };
	struct head h = { 1, b->cmd, b->size ? b->size : (uint32_t)(sizeof(h) + b->len), b->flags, 0 };

	spawn(NULL);
	t_must(vc_connect(c, "s0"), "connect");
	if (!b->early) {
		t_must(vc_hello(c), "hello");
		t_must(vc_map(c, 0, 0x8000, ram_fd[0], 0), "a map");
	}
	for (int i = 0; i < VC_FDS; i++)
		fds[i] = ram_fd[0];
	memcpy(msg, &h, sizeof(h));
	memcpy(msg + sizeof(h), b->words, b->len < sizeof(b->words) ? b->len : sizeof(b->words));
	t_ok(vc_send_raw(c, msg, sizeof(h) + b->len, fds, b->fds), "%s: sent", b->what);
	t_ok(vc_ended(c), "%s: the connection ends", b->what);
	t_eq(server_ends(), 3, "%s: status", b->what);
	t_ok(said(b->what), "%s: it says so", b->what);
	vc_close(c);
}

/* The end of a connection in the middle of a message, and in front of one. */
static void cut_short(void)
{
	struct head h = { 1, VC_INFO, sizeof(h) + 16, 0, 0 };
	struct vc *c = &host[0];

	spawn(NULL);
	t_must(vc_connect(c, "s0") && vc_send_raw(c, &h, sizeof(h), NULL, 0), "half a message");
	vc_close(c);
	t_eq(server_ends(), 3, "half a message");
	t_ok(said("inside of a message"), "half a message");
	spawn(NULL);
	t_must(vc_connect(c, "s0") && vc_send_raw(c, &h, 5, NULL, 0), "part of a header");
	vc_close(c);
	t_eq(server_ends(), 3, "part of a header");
	spawn(NULL);
	t_must(vc_connect(c, "s0") && vc_hello(c), "hello");
	vc_close(c);
	fault("quit");
	t_eq(server_ends(), 0, "between messages a guest may go");
}

/* What is unusual, and no error. */
static void harmless(void)
{
	struct {
		uint32_t argsz, flags;
		uint64_t off, addr, size;
	} dm = { sizeof(dm), 3, 0, 0, 0x8000 };
	uint32_t intx[5] = { sizeof(intx), 0x21, 0, 0, 0 }, all[6] = { sizeof(all), 2 };
	struct vc *c = &host[0];
	struct vc_answer a;

	spawn(NULL);
	t_must(vc_connect(c, "s0") && vc_hello(c), "hello");
	t_ok(vc_map(c, 0, 0x8000, ram_fd[0], 0), "a map");
	t_ok(vc_map(c, 0, 0x8000, ram_fd[0], 0), "the same map again");
	t_ok(vc_call(c, VC_DMA_MAP, &dm, sizeof(dm), NULL, 0, &a) && a.error == EEXIST, "another at the same place");
	t_ok(vc_unmap(c, 0x100000, 0x1000), "nothing is mapped there");
	t_ok(vc_call(c, VC_SET_IRQS, intx, sizeof(intx), NULL, 0, &a) && !a.error, "INTx off, where there is none");
	t_ok(vc_call(c, VC_DMA_UNMAP, all, sizeof(all), NULL, 0, &a) && !a.error, "all maps at once");
	t_ok(vc_map(c, 0x1000, 0x1000, ram_fd[0], 0), "room for others");
	vc_close(c);
	fault("quit");
	t_eq(server_ends(), 0, "status");
}

/* Messages drawn by chance: a server that dislikes them says so, and does nothing worse. */
static void by_chance(void)
{
	static const uint16_t cmds[] = { VC_VERSION, VC_DMA_MAP, VC_DMA_UNMAP, VC_INFO, VC_REGION_INFO, VC_IRQ_INFO, VC_SET_IRQS, VC_READ,
					 VC_WRITE, VC_DMA_WRITE, VC_RESET, VC_MULTI, 6, 99 };
	static const uint32_t words[] = { 0, 1, 2, 3, 4, 7, 8, 16, 20, 24, 32, 33, 34, 0x21, 0x24, 0x1000, 0x8000, 0xfffff, 0x100000, 0x7fffffff,
					  0xfffff000, 0xffffffff };
	unsigned survived = 0;

	for (int round = 0; round < 40; round++) {
		struct vc *c = &host[0];
		int fds[2] = { ram_fd[0], ram_fd[1] }, status;

		spawn(NULL);
		t_must(vc_connect(c, "s0") && vc_hello(c) && vc_map(c, 0, 0x8000, ram_fd[0], 0), "hello");
		for (int i = 0; i < 12; i++) {
			uint8_t body[256];
			uint16_t cmd = cmds[t_rand() % (sizeof(cmds) / sizeof(*cmds))];
			size_t len = 4 * (t_rand() % (sizeof(body) / 4));

			for (size_t k = 0; k < sizeof(body); k += 4)
				memcpy(body + k, &words[t_rand() % (sizeof(words) / sizeof(*words))], 4);
			if (t_rand() & 1)	/* of the length that the command has */
				len = cmd == VC_DMA_MAP || cmd == VC_REGION_INFO ? 32 : cmd == VC_DMA_UNMAP ? 24 : cmd == VC_SET_IRQS ? 20 : 16;
			if (!vc_send(c, cmd, t_rand() % 4 ? 0 : VC_NO_REPLY, body, len, fds, t_rand() % 8 ? 0 : (int)(t_rand() % 3)))
				break;
		}
		usleep(2000);
		vc_close(c);
		kill(server, SIGTERM);
		status = server_ends();
		survived += !status;
		t_ok(status == 0 || status == 3, "round %d: status %d", round, status);
	}
	t_ok(survived < 40, "some of it must have been wrong");
}

/* The table against an array that says of every page what is there. */
static void table(void)
{
	enum { PAGES = 64, FILES = 3 };
	struct dmamap m = { 0 };
	int state[PAGES], fds[FILES];
	uint8_t *mem[FILES];

	memset(state, 0xff, sizeof(state));
	for (int i = 0; i < FILES; i++) {
		fds[i] = memfd_create("f", 0);
		t_must(!ftruncate(fds[i], PAGES * 4096), "file");
		mem[i] = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0);
		for (int k = 0; k < PAGES * 4096; k += 4096)
			mem[i][k] = (uint8_t)(i * PAGES + k / 4096);
	}
	for (int round = 0; round < 20000; round++) {
		unsigned first = (unsigned)(t_rand() % PAGES), n = 1 + (unsigned)(t_rand() % 8);
		uint64_t addr = (1ull << 40) + first * 4096ull;
		size_t len = 1 << 20;
		uint8_t *p;

		n = first + n > PAGES ? PAGES - first : n;
		if (t_rand() & 1) {
			unsigned f = (unsigned)(t_rand() % FILES), from = (unsigned)(t_rand() % (PAGES - n + 1));
			bool free_there = true;
			int err;

			for (unsigned i = first; i < first + n; i++)
				free_there &= state[i] < 0;
			err = dmamap_add(&m, addr, n * 4096ull, dup(fds[f]), from * 4096ull, true);
			t_ok(free_there ? !err : !err || err == -EEXIST, "add: %d", err);
			for (unsigned i = 0; i < n && free_there; i++)
				state[first + i] = (int)(f * PAGES + from + i);
		} else {
			int got = dmamap_remove(&m, addr, n * 4096ull);

			for (unsigned i = first; i < first + n && got >= 0; i++)
				state[i] = -1;
			for (unsigned i = first; i < first + n && !got; i++)
				t_ok(!dmamap_find(&m, (1ull << 40) + i * 4096ull), "nothing was there");
		}
		p = dmamap_memory(&m, addr, &len, true);
		t_ok(!!p == (state[first] >= 0), "page %u of round %d", first, round);
		if (p) {
			t_eq(*p, (uint8_t)state[first], "its contents");
			for (size_t i = 0; i < len / 4096; i++)
				t_eq(p[4096 * i], (uint8_t)state[first + i], "and behind it");
		}
	}
	t_eq(m.files, FILES, "each file is mapped once");
	dmamap_clear(&m);
	t_eq(dmamap_add(&m, 0x1000, 0x1000, -1, 0, false), 0, "without a file");
	t_ok(dmamap_find(&m, 0x1fff) && !dmamap_memory(&m, 0x1000, &(size_t){ 1 }, false), "known, and nothing there");
	t_eq(dmamap_add(&m, 0x4000, 0x1000, dup(fds[0]), 0, false), 0, "read-only");
	t_ok(dmamap_memory(&m, 0x4000, &(size_t){ 1 }, false) && !dmamap_memory(&m, 0x4000, &(size_t){ 1 }, true), "to read only");
	t_eq(dmamap_add(&m, UINT64_MAX - 0xfff, 0x1000, -1, 0, false), 0, "the last page");
	t_ok(dmamap_find(&m, UINT64_MAX), "is found");
	t_eq(dmamap_remove(&m, 0, UINT64_MAX), -EINVAL, "all but the last byte");
	dmamap_clear(&m);
	for (int i = 0; i < FILES; i++) {
		munmap(mem[i], PAGES * 4096);
		close(fds[i]);
	}
}

int main(void)
{
	family = "icx";
	server_says = "said";
	hosts_memory();
	table();
	for (size_t i = 0; i < sizeof(bads) / sizeof(*bads); i++)
		one(&bads[i]);
	cut_short();
	harmless();
	by_chance();
	return t_done();
}
