// SPDX-License-Identifier: BSD-2-Clause
/*
 * broker_port.c - two brokers, as of two hosts, joined by an emulated bridge
 *
 * The clients are this program's, which says what a library never would, and plays the part of the memory: what it stores
 * into the window of one side must be seen in the arena of the other, a pending byte must become a ring.
 */
#include "broker_t.h"

#include <ntbsock/abi_inbox.h>
#include <ntbsock/abi_port.h>
#include <poll.h>

static const char *run1, *run2;
static pid_t broker1, broker2;

struct end {
	struct bt_client c;
	struct ntbs_msg_port port;
	char *arena, *window;
	int bell, life;
	struct ntbs_msg_region r;
};

static pid_t start(const char *run, const char *node, const char *log)
{
	char spec[200];

	snprintf(spec, sizeof(spec), "emu:%s,arena=16", bt_path("bridge"));
	return bt_broker(log, NULL, "--run-dir", run, "--config-dir", bt_dir, "--node", node, "--port", spec, NULL);
}

static void until_up(struct bt_client *c, uint32_t state)
{
	struct ntbs_msg_status st;

	for (bt_status(c, &st); st.cable != state; bt_status(c, &st))
		usleep(10000);
}

static void get_port(struct end *e)
{
	int fds[4];

	bt_expect(&e->c, &e->port, NTBS_MSG_PORT, sizeof(e->port), fds, 4);
	must(e->port.session && e->port.arena_bytes == 16 << 20 && e->port.window_bytes == 16 << 20 && !e->port.window_offset,
	     "PORT");
	e->arena = mmap(NULL, e->port.arena_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
	e->window = mmap(NULL, e->port.window_bytes, PROT_WRITE, MAP_SHARED, fds[1], 0);
	must(e->arena != MAP_FAILED && e->window != MAP_FAILED, "mmap");
	e->bell = fds[2];
	e->life = fds[3];
	close(fds[0]);
	close(fds[1]);
}

static void ask(struct end *e, uint64_t chan, uint32_t proc, uint32_t leases, uint32_t slots, uint32_t bulk)
{
	struct ntbs_msg_region m = { .h = { NTBS_MSG_CHAN_OPEN_PORT, sizeof(m), 5 }, .chan = chan, .proc = proc, .nr_leases = leases,
				     .nr_slots = slots, .bulk_bytes = bulk };

	bt_send(e->c.fd, &m, sizeof(m), NULL, 0);
}

static void get_region(struct end *e, uint32_t proc, uint32_t of_connector)
{
	bt_expect(&e->c, &e->r, NTBS_MSG_CHAN_PORT, sizeof(e->r), NULL, 0);
	must(e->r.proc == proc && e->r.of_connector == of_connector && e->r.session == e->port.session, "CHAN_PORT");
	must(e->r.in_offset >= NTBS_ARENA_REGIONS && e->r.out_offset >= NTBS_ARENA_REGIONS &&
	     e->r.in_offset + NTBS_REGION_BYTES(e->r.nr_leases, e->r.inbox_bytes) <= e->port.arena_bytes, "CHAN_PORT: where");
}

static bool rings(int bell, int wait_ms)
{
	struct pollfd pfd = { .fd = bell, .events = POLLIN };
	uint64_t count;

	return poll(&pfd, 1, wait_ms) == 1 && read(bell, &count, sizeof(count)) == sizeof(count);
}

static void ring(struct end *e, uint32_t at)
{
	const uint64_t one = 1;

	__atomic_store_n((uint8_t *)e->window + NTBS_ARENA_PENDING + at, 1, __ATOMIC_SEQ_CST);
	must(write(e->bell, &one, sizeof(one)) == sizeof(one), "bell");
}

/* What one stores the other finds, at the place that both were told. */
static void one_memory(struct end *from, struct end *to)
{
	static uint64_t value;

	value += 12345;
	*(volatile uint64_t *)(from->window + from->r.out_offset + 8192) = value;
	must(*(volatile uint64_t *)(to->arena + to->r.in_offset + 8192) == value, "the window leads elsewhere");
	*(volatile uint64_t *)(from->window + from->r.out_offset + 8192) = 0;
}

static void bells(struct end *from, struct end *to)
{
	ring(from, NTBS_PENDING_MBOX(to->c.proc));
	must(rings(to->c.mbox0, 5000) && !rings(to->c.bell, 50), "mbox");
	ring(from, NTBS_PENDING_SERVICE(to->c.proc));
	must(rings(to->c.bell, 5000) && !rings(to->c.mbox0, 50), "service bell");
	must(!to->arena[NTBS_ARENA_PENDING + NTBS_PENDING_MBOX(to->c.proc)], "a pending byte that stays");
	ring(from, (NTBS_PENDING_MBOX(to->c.proc) + 2) % NTBS_PENDING_BYTES);	/* nobody's */
	must(!rings(to->c.mbox0, 50) && !rings(to->c.bell, 0), "a bell for nobody");
	/* one bell for many bytes, and a byte without a bell: it is heard with the next, or with the clock */
	__atomic_store_n((uint8_t *)from->window + NTBS_ARENA_PENDING + NTBS_PENDING_MBOX(to->c.proc), 1, __ATOMIC_SEQ_CST);
	must(rings(to->c.mbox0, 5000), "a lost bell");
}

static void state_end(struct end *asks, struct end *dead)
{
	struct ntbs_msg_end m = { .h = { NTBS_MSG_STATE_END, sizeof(m), 0 }, .chan = asks->r.chan, .lease = 1, .generation = 7,
				  .of_connector = asks->r.of_connector };
	uint64_t at = 4096 + 2ull * asks->r.inbox_bytes;
	struct ntbs_inbox_shm *in = (struct ntbs_inbox_shm *)(dead->arena + dead->r.in_offset + at);
	const struct ntbs_inbox_shm *mine = (const struct ntbs_inbox_shm *)(asks->arena + asks->r.in_offset + at);

	in->generation.v = 6;
	in->consumed.v = ntbs_head_word(0x1234, 77, 7);
	bt_send(asks->c.fd, &m, sizeof(m), NULL, 0);
	must(!rings(asks->c.mbox0, 100) && !ntbs_le32_read(&mine->ended), "the end of another generation");
	in->generation.v = 7;
	bt_send(asks->c.fd, &m, sizeof(m), NULL, 0);
	must(rings(asks->c.mbox0, 5000), "no answer");
	must(ntbs_le32_read(&mine->ended) == 7 && ntbs_le64_read(&mine->head) == ntbs_head_word(0x1234, 77, 7), "what it had taken");
	/* of what is not there, and of what is somebody else's: no answer, and no harm */
	m.lease = asks->r.nr_leases;
	bt_send(asks->c.fd, &m, sizeof(m), NULL, 0);
	m.lease = 1;
	m.chan++;
	bt_send(asks->c.fd, &m, sizeof(m), NULL, 0);
	m.chan--;
	m.of_connector = !m.of_connector;
	bt_send(asks->c.fd, &m, sizeof(m), NULL, 0);
	must(!rings(asks->c.mbox0, 100), "an answer to nonsense");
	bt_quiet(&asks->c);
}

static int any(struct bt_client *c, char *raw)
{
	int fds[NTBS_MSG_FDS], nr;

	return bt_recv(c->fd, raw, NTBS_MSG_MAX, fds, &nr);
}

static void refused(struct end *a, struct end *c)
{
	static const struct { uint32_t leases, slots, bulk; } bad[] = { { 0, 64, 65536 }, { 65, 64, 65536 }, { 1, 63, 65536 },
		{ 1, 4, 65536 }, { 1, 8192, 65536 }, { 1, 64, 0 }, { 1, 64, 5000 } };
	uint64_t chan = NTBS_CHAN_ID(a->c.proc, 50);

	for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		ask(a, chan, c->c.proc, bad[i].leases, bad[i].slots, bad[i].bulk);
		bt_expect_chan_fail(&a->c, chan, EINVAL);
	}
	ask(a, NTBS_CHAN_ID(a->c.proc + 1, 50), c->c.proc, 1, 64, 65536);
	bt_expect_chan_fail(&a->c, NTBS_CHAN_ID(a->c.proc + 1, 50), EINVAL);
	ask(a, chan, NTBS_PROC_ID(3, 1), 1, 64, 65536);
	bt_expect_chan_fail(&a->c, chan, ENOLINK);
	ask(a, chan, NTBS_PROC_ID(1, (c->c.proc + 5) % 4095 + 1), 1, 64, 65536);
	bt_expect_chan_fail(&a->c, chan, ESRCH);
	ask(a, a->r.chan, c->c.proc, 1, 64, 65536);
	bt_expect_chan_fail(&a->c, a->r.chan, EEXIST);
	ask(a, chan, c->c.proc, 64, 4096, 1u << 28);
	bt_expect_chan_fail(&a->c, chan, ENOSPC);
}

/* As many as there is room for; dropped by both sides there is room again.  Zero each time. */
static void room(struct end *a, struct end *c)
{
	struct ntbs_msg_chan drop = { .h = { NTBS_MSG_CHAN_DROP, sizeof(drop), 0 } };
	struct ntbs_msg_region first = a->r, first_c = c->r;
	struct ntbs_msg_chan fail;
	uint64_t chan[64];
	unsigned nr = 0;

	for (;;) {
		char raw[NTBS_MSG_MAX];

		chan[nr] = NTBS_CHAN_ID(a->c.proc, 100 + nr);
		must(nr < 63, "no end to the arena");
		ask(a, chan[nr], c->c.proc, 8, 64, 65536);
		must(any(&a->c, raw) > 0, "an answer");
		if (((struct ntbs_msg *)raw)->type == NTBS_MSG_CHAN_FAIL) {
			memcpy(&fail, raw, sizeof(fail));
			break;
		}
		memcpy(&a->r, raw, sizeof(a->r));
		get_region(c, a->c.proc, 1);
		for (uint64_t i = 0; i < 8192; i++)
			must(!a->arena[a->r.in_offset + i], "a region that is not zero");
		memset(a->arena + a->r.in_offset, 0x77, 8192);
		one_memory(c, a);
		nr++;
	}
	must(fail.reason == ENOSPC && nr >= 5, "%u channels, then %u", nr, fail.reason);
	for (unsigned i = 0; i < nr; i++) {
		drop.chan = chan[i];
		bt_send(a->c.fd, &drop, sizeof(drop), NULL, 0);
	}
	bt_quiet(&a->c);
	ask(a, NTBS_CHAN_ID(a->c.proc, 99), c->c.proc, 8, 64, 65536);
	bt_expect_chan_fail(&a->c, NTBS_CHAN_ID(a->c.proc, 99), ENOSPC);
	for (unsigned i = 0; i < nr; i++) {
		drop.chan = chan[i];
		bt_send(c->c.fd, &drop, sizeof(drop), NULL, 0);
	}
	bt_quiet(&c->c);
	usleep(100000);
	for (unsigned i = 0; i < nr; i++) {
		ask(a, NTBS_CHAN_ID(a->c.proc, 200 + i), c->c.proc, 8, 64, 65536);
		get_region(a, c->c.proc, 0);
		get_region(c, a->c.proc, 1);
		for (uint64_t k = 0; k < 8192; k++)
			must(!a->arena[a->r.in_offset + k], "a region that is not zero again");
	}
	a->r = first;
	c->r = first_c;
}

int main(void)
{
	struct end a, c;

	bt_open("port");
	run1 = strdup(bt_path("run1"));
	run2 = strdup(bt_path("run2"));
	broker1 = start(run1, "1", bt_path("log1"));
	broker2 = start(run2, "2", bt_path("log2"));
	c.c = bt_hello(run1, 0, "connector");
	bt_board(&c.c, NTBS_BOARD_REMOTE_UID);
	a.c = bt_hello(run2, 0, "acceptor");
	bt_board(&a.c, NTBS_BOARD_REMOTE_UID);
	until_up(&c.c, 2);
	until_up(&a.c, 2);

	ask(&a, NTBS_CHAN_ID(a.c.proc, 9), c.c.proc, 4, 64, 8 << 20);
	get_port(&a);
	get_port(&c);
	must(a.port.session == c.port.session, "two sessions");
	get_region(&c, a.c.proc, 1);
	get_region(&a, c.c.proc, 0);
	must(a.r.bulk_bytes == 65536 && a.r.nr_leases == 4 && a.r.in_offset == c.r.out_offset && a.r.out_offset == c.r.in_offset,
	     "both ends are told other things");
	one_memory(&a, &c);
	one_memory(&c, &a);
	bells(&a, &c);
	bells(&c, &a);
	state_end(&a, &c);
	state_end(&c, &a);
	refused(&a, &c);
	room(&a, &c);

	/* The other broker is killed: told in the arena, with a ring; it comes back, with another session. */
	bt_end(broker1, SIGKILL);
	must(rings(a.c.bell, 5000), "nobody tells of the lost link");
	must(ntbs_le32_read(&((struct ntbs_ctl_shm *)(a.arena + NTBS_ARENA_CTL))->down) == a.port.session, "the session is not down");
	struct pollfd life = { .fd = c.life };
	must(poll(&life, 1, 5000) == 1 && (life.revents & POLLERR), "the broker's end is not seen");
	ask(&a, NTBS_CHAN_ID(a.c.proc, 10), c.c.proc, 4, 64, 65536);
	for (;;) {		/* the end of the connector's process is told as well */
		char raw[NTBS_MSG_MAX];

		must(any(&a.c, raw) > 0, "an answer");
		if (((struct ntbs_msg *)raw)->type == NTBS_MSG_CHAN_FAIL) {
			must(((struct ntbs_msg_chan *)raw)->reason == ENOLINK, "CHAN_FAIL while the link is down");
			break;
		}
		must(((struct ntbs_msg *)raw)->type == NTBS_MSG_PEER_GONE, "message %u", ((struct ntbs_msg *)raw)->type);
	}
	must(!bt_end(broker2, SIGTERM), "SIGTERM");
	puts("broker_port: passed");
	return 0;
}
