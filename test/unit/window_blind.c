// SPDX-License-Identifier: BSD-2-Clause
/*
 * window_blind.c - a message queue over a window that shows nothing of what was stored there
 *
 * What is stored lies in the window for a moment, is carried to the peer's inbox, and is garbage again: whoever reads
 * there reads garbage.  The counters say what each message has cost: whole lines for INLINE, the head word once in half a
 * ring, no read, no bell.
 */
#include "window.h"

#include <sys/eventfd.h>

#include "simpair.h"

#define SLOTS 64u
#define BULK (1u << 16)

static struct {
	struct ntbs_window w;
	struct ntbs_msgq q;
	struct ntbs_msgq_tx_shm tx;
	struct ntbs_msgq_rx_shm rx;
	struct ntbs_msgq_held held;
	struct ntbs_inbox_shm *in, *copy;
	char *blind;
	uint64_t sent, got;
} s[2];
static size_t bytes;

static const struct ntbs_port_ops *real;
static struct ntbs_port_ops spy;

/* What has just been stored there goes to the peer; what is to be seen afterwards is garbage. */
static void carry(struct ntbs_port *port, void *dst, size_t len)
{
	int i = port == &s[1].w.port;
	size_t at = (size_t)((char *)dst - s[i].blind);

	t_must(at + len <= bytes, "a store outside of the window");
	memcpy((char *)s[1 - i].in + at, dst, len);
	for (size_t k = 0; k < len; k++)
		s[i].blind[at + k] = (char)t_rand();
}

static void spy_line(struct ntbs_port *port, void *dst, const void *line)
{
	real->store_line(port, dst, line);
	carry(port, dst, NTBS_LINE);
}

static void spy_bulk(struct ntbs_port *port, void *dst, const void *src, size_t len)
{
	real->store_bulk(port, dst, src, len);
	carry(port, dst, len);
}

static void spy_64(struct ntbs_port *port, ntbs_le64 *dst, uint64_t value)
{
	real->store64(port, dst, value);
	carry(port, dst, 8);
}

static void open_pair(void)
{
	struct ntbs_msgq_geo geo = { SLOTS, BULK, 0 };

	geo.bulk_offset = (uint32_t)(sizeof(struct ntbs_inbox_shm) + SLOTS * sizeof(struct ntbs_slot_shm) + 4095) & ~4095u;
	bytes = ntbs_msgq_inbox_bytes(&geo);
	for (int i = 0; i < 2; i++) {
		s[i].in = aligned_alloc(4096, bytes);
		s[i].copy = aligned_alloc(4096, bytes);
		s[i].blind = aligned_alloc(4096, bytes);
		t_must(s[i].in && s[i].copy && s[i].blind, "no memory");
		memset(s[i].in, 0, bytes);
		memset(s[i].copy, 0, bytes);
		for (size_t k = 0; k < bytes; k++)
			s[i].blind[k] = (char)t_rand();
		ntbs_window_open(&s[i].w, s[i].blind, bytes, 0, NTBS_MEM_CACHED);
		real = s[i].w.port.ops;
		spy = *real;
		spy.store_line = spy_line;
		spy.store_bulk = spy_bulk;
		spy.store64 = spy_64;
		s[i].w.port.ops = &spy;
	}
	for (int i = 0; i < 2; i++) {
		s[i].q = (struct ntbs_msgq){ .port = &s[i].w.port, .geo = geo, .in = s[i].in, .copy = s[i].copy,
					     .out = (struct ntbs_inbox_shm *)s[i].blind, .tx = &s[i].tx, .rx = &s[i].rx, .held = &s[i].held, .epoch = 5 };
		simpair_stamp(s[i].in, SLOTS, SLOTS);
		ntbs_msgq_init(&s[i].q, 1, SLOTS, SLOTS);
		ntbs_le64_write(&s[i].in->head, ntbs_head_word(SLOTS, 0, 1));
	}
}

static ssize_t send_bytes(int i, size_t len)
{
	static uint8_t buf[BULK];
	struct iovec iov = { buf, len };
	struct ntbs_iter it;
	ssize_t n;

	t_fill(buf, len, (uint64_t)i, s[i].sent);
	ntbs_iter_init(&it, &iov, len);
	n = ntbs_msgq_send(&s[i].q, &it, 0);
	if (n > 0)
		s[i].sent += (uint64_t)n;
	return n;
}

static ssize_t recv_bytes(int i, size_t len)
{
	static uint8_t buf[BULK];
	struct iovec iov = { buf, len };
	struct ntbs_iter it;
	bool acked = false;
	ssize_t n, bad;

	ntbs_iter_init(&it, &iov, len);
	n = ntbs_msgq_recv(&s[i].q, &it, 0, &acked);
	if (n > 0) {
		bad = t_wrong(buf, (size_t)n, (uint64_t)(1 - i), s[i].got);
		t_ok(bad < 0, "byte %zd of %zd is wrong", bad, n);
		s[i].got += (uint64_t)n;
	}
	return n;
}

static void costs(void)
{
	for (unsigned n = 0; n < 4000; n++) {
		size_t len = 1 + t_rand() % 116;
		int i = (int)(n & 1);
		struct ntbs_window_counts was = s[i].w.n, now;

		t_eq(send_bytes(i, len), len, "send");
		now = s[i].w.n;
		t_eq(now.lines - was.lines, len <= 54 ? 1 : 2, "lines for %zu bytes", len);
		t_eq(now.words - was.words + now.bulks - was.bulks + now.reads - was.reads + now.rings - was.rings, 0,
		     "anything else for %zu bytes", len);
		was = s[1 - i].w.n;
		t_eq(recv_bytes(1 - i, 200), len, "recv");
		now = s[1 - i].w.n;
		t_eq(now.lines + now.bulks + now.reads + now.rings, was.lines + was.bulks + was.reads + was.rings, "receiving stores");
	}
	for (int i = 0; i < 2; i++)
		t_eq(s[i].w.n.words, 2000 / (SLOTS / 2), "head words for 2000 messages in a ring of %u", SLOTS);
}

static void streams(void)
{
	static uint8_t room[BULK];

	for (unsigned n = 0; n < 4000; n++) {
		int i = (int)(t_rand() & 1);
		ssize_t ret;

		if (t_rand() & 1) {
			ret = send_bytes(i, 1 + t_rand() % 3000);
			t_ok(ret > 0 || ret == -EAGAIN, "send: %zd", ret);
			if (t_rand() % 8 == 0 && s[i].sent > s[1 - i].got) {	/* for replay, out of the copy */
				size_t back = (size_t)(s[i].sent - s[1 - i].got);

				ret = ntbs_msgq_unread(&s[i].q, back, room, back);
				t_eq(ret, back, "bytes looked back at");
				t_ok(t_wrong(room, back, (uint64_t)i, s[i].sent - back) < 0, "they are others");
			}
		} else {
			ret = recv_bytes(i, 1 + t_rand() % 5000);
			t_ok(ret > 0 || ret == -EAGAIN, "recv: %zd", ret);
		}
	}
	for (int i = 0; i < 2; i++) {
		while (recv_bytes(i, BULK) > 0)
			;
		t_eq(s[i].got, s[1 - i].sent, "bytes");
		t_eq(s[i].w.n.reads, 0, "reads across the link");
	}
}

/* The pending byte first, then the doorbell, of either kind. */
static void bells(void)
{
	alignas(64) static char mem[8192];
	uint32_t reg[2] = { 0 };
	struct ntbs_window w;
	uint64_t count = 0;

	ntbs_window_open(&w, mem, sizeof(mem), 4096, NTBS_MEM_CACHED);
	w.bell = NTBS_BELL_EVENTFD;
	w.bell_fd = eventfd(0, EFD_NONBLOCK);
	ntbs_port_ring(&w.port, 5);
	t_ok(mem[4096 + 5] == 1 && !mem[4096 + 4] && !mem[4096 + 6], "pending byte");
	t_ok(read(w.bell_fd, &count, sizeof(count)) == sizeof(count) && count == 1, "eventfd: %llu", (unsigned long long)count);
	w.bell = NTBS_BELL_REGISTER;
	w.bell_reg = &reg[1];
	w.bell_value = 0x10001;
	ntbs_port_ring(&w.port, 0);
	t_ok(mem[4096] == 1 && reg[1] == 0x10001 && !reg[0], "register: 0x%x", reg[1]);
	w.bell = NTBS_BELL_REGISTER16;
	reg[0] = reg[1] = 0x77777777;
	w.bell_value = 0x8001;
	ntbs_port_ring(&w.port, 1);
	t_ok(reg[1] == 0x77778001 && reg[0] == 0x77777777, "register of 16 bits: 0x%x", reg[1]);
	t_eq(w.n.rings, 3, "rings");
	t_eq(w.n.words, 3, "words");
	close(w.bell_fd);
}

int main(void)
{
	bells();
	open_pair();
	costs();
	streams();
	return t_done();
}
