// SPDX-License-Identifier: BSD-2-Clause
/*
 * broker_cable.c - two brokers, as of two hosts, joined by a cable
 *
 * Both run here, in one network namespace: what they check of sockets is true for both.  Then the test itself is the
 * other broker (abi_peer.h), to say what a real one never would, and to lose the cable without ending.
 */
#include "broker_t.h"
#include <ntbsock/abi_peer.h>

static const char *run1, *run2, *cable;
static pid_t broker1, broker2;

static pid_t start(const char *run, const char *node, const char *log)
{
	return bt_broker(log, NULL, "--run-dir", run, "--config-dir", bt_dir, "--node", node, "--cable", cable, NULL);
}

/* Asks until it is so: it takes one clock tick of the broker that found nobody. */
static void until_cable(struct bt_client *c, uint32_t state)
{
	struct ntbs_msg_status st;

	for (bt_status(c, &st); st.cable != state; bt_status(c, &st))
		usleep(5000);	/* leave the CPU to the brokers */
}

/* An offer in the board of remote offers, as an acceptor finds it.  Returns its entry, or -1. */
static int find_offer(struct ntbs_board_shm *board, const struct ntbs_tuple *tuple)
{
	uint32_t at = ntbs_offer_hash(tuple, 0);

	for (unsigned k = 0; k < NTBS_BOARD_PROBE; k++) {
		struct ntbs_offer_shm *o = &board->offer[(at + k) % NTBS_BOARD_OFFERS];

		if (NTBS_OFFER_STATE(ntbs_le64_read_acquire(&o->word)) == NTBS_OFFER_OFFERED && !memcmp(&o->tuple, tuple, sizeof(*tuple)))
			return (int)((at + k) % NTBS_BOARD_OFFERS);
	}
	return -1;
}

static void send_offer(struct bt_client *c, uint32_t entry, uint64_t word)
{
	struct ntbs_msg_claim m = { .h = { NTBS_MSG_OFFER_REMOTE, sizeof(m), 0 }, .uid = c->uid, .entry = entry, .word = word };

	bt_send(c->fd, &m, sizeof(m), NULL, 0);
}

static bool was_rung(const struct bt_client *c)
{
	uint64_t n;

	return read(c->mbox0, &n, sizeof(n)) == sizeof(n);
}

static void send_await(struct bt_client *c)
{
	struct ntbs_msg_plain m = { .h = { NTBS_MSG_AWAIT, sizeof(m), 0 } };

	bt_send(c->fd, &m, sizeof(m), NULL, 0);
	bt_quiet(c);
}

/* Until the other broker shows it; @there is served by it, so the test's time limit is the only clock. */
static unsigned await_offer(struct bt_client *there, struct ntbs_board_shm *board, const struct ntbs_tuple *tuple)
{
	int i;

	while ((i = find_offer(board, tuple)) < 0)
		bt_quiet(there);
	return (unsigned)i;
}

static uint64_t open_channel(struct bt_client *acceptor, struct bt_client *connector, unsigned nr)
{
	uint64_t chan = NTBS_CHAN_ID(acceptor->proc, nr);
	int mem = bt_memfd(4096, true), fds[4];
	struct ntbs_msg_chan m;

	bt_chan_open(acceptor, chan, connector->proc, mem);
	bt_expect(connector, &m, NTBS_MSG_CHAN, sizeof(m), fds, 3);
	must(m.chan == chan && m.proc == acceptor->proc && m.uid == acceptor->uid, "CHAN");
	must(bt_same_file(fds[0], mem) && bt_same_bell(acceptor->mbox0, fds[1]) && bt_same_bell(acceptor->bell, fds[2]), "CHAN");
	close(fds[0]), close(fds[1]), close(fds[2]);
	bt_expect(acceptor, &m, NTBS_MSG_CHAN_BELLS, sizeof(m), fds, 2);
	must(m.h.cookie == 5 && m.chan == chan && m.proc == connector->proc && m.uid == connector->uid, "CHAN_BELLS");
	must(bt_same_bell(connector->mbox0, fds[0]) && bt_same_bell(connector->bell, fds[1]), "CHAN_BELLS");
	close(fds[0]), close(fds[1]), close(mem);
	return chan;
}

/* @c connects on host 1, @a accepts on host 2. */
static void offers(struct bt_client *c, struct bt_client *a, struct ntbs_board_shm *board, uint64_t chan)
{
	struct bt_tcp t = bt_tcp_open(0, true), stranger = bt_tcp_open(0, false);
	const uint32_t remote = NTBS_BOARD_REMOTE_UID;
	struct ntbs_msg_status st;
	uint64_t word, seen, now;
	uint32_t mine, entry;

	/* Who waits is rung when an offer comes, and at once if one is there. */
	send_await(a);
	must(!was_rung(a), "rung, and there is no offer");
	word = bt_offer(c, &t, &mine);
	send_offer(c, mine, word);
	entry = await_offer(a, board, &t.tuple);
	bt_quiet(a);
	must(was_rung(a) && !was_rung(c), "who waits for an offer was not rung, or somebody else was");
	send_await(a);
	must(was_rung(a), "there is an offer, and who waits from now on was not rung");
	seen = ntbs_le64_read(&board->offer[entry].word);
	must(board->offer[entry].proc == c->proc && board->offer[entry].hint == 1 && !board->offer[entry].netns, "remote offer");
	must(bt_claim(a, remote, entry, seen, chan, stranger.acceptor, NULL) == EPERM, "another connection is no proof");
	must(bt_claim(a, remote, entry, seen, chan, t.connector, NULL) == EPERM, "the connector's socket is no proof");
	must(bt_claim(a, remote, entry, seen, chan + 1, t.acceptor, NULL) == EINVAL, "no channel");
	must(bt_claim(a, remote, entry, seen + 16, chan, t.acceptor, NULL) == ESTALE, "another tag");
	must(bt_claim(a, remote, entry, seen, chan, t.acceptor, &now) == 0, "claim");
	must(NTBS_OFFER_STATE(now) == NTBS_OFFER_ASKED && NTBS_OFFER_CHAN(now) == chan && NTBS_OFFER_LEASE(now) == 7, "word");
	now = ntbs_le64_read(&c->board->offer[mine].word);
	must(now == ntbs_offer_word(NTBS_OFFER_ASKED, NTBS_OFFER_TAG(word), 7, chan), "the connector's offer does not say ASKED");
	must(read(c->mbox0, &now, 8) == 8, "the connector was not rung");
	must(NTBS_OFFER_STATE(ntbs_le64_read(&board->offer[entry].word)) == NTBS_OFFER_FREE, "the remote entry is not free again");
	must(bt_claim(a, remote, entry, seen, chan, t.acceptor, NULL) == ESTALE, "claimed twice");
	bt_status(a, &st);
	must(st.offers_remote && st.claims && st.node == 2, "STATUS");

	/* Withdrawn meanwhile: the connector's broker says so, and the entry is free. */
	word = bt_offer(c, &t, &mine);
	send_offer(c, mine, word);
	entry = await_offer(a, board, &t.tuple);
	ntbs_le64_write(&c->board->offer[mine].word, (word & ~15ull) | NTBS_OFFER_WITHDRAWN);
	must(bt_claim(a, remote, entry, ntbs_le64_read(&board->offer[entry].word), chan, t.acceptor, NULL) == ESTALE, "withdrawn");
	must(find_offer(board, &t.tuple) < 0, "a withdrawn offer is still there");

	/* Not what it offers, or not its own: not passed on.  A good one behind them shows that they were looked at. */
	send_offer(c, mine, word);
	if (!geteuid()) {
		struct bt_tcp other = bt_tcp_open(12345, false);
		uint32_t at;
		uint64_t w = bt_offer(c, &other, &at);

		send_offer(c, at, w);
		bt_quiet(c);
		must(NTBS_OFFER_STATE(ntbs_le64_read(&c->board->offer[at].word)) == NTBS_OFFER_FREE && was_rung(c),
		     "an offer that was not passed on still stands");
		bt_tcp_close(&other);
	}
	word = bt_offer(c, &stranger, &mine);
	send_offer(c, mine, word);
	entry = await_offer(a, board, &stranger.tuple);
	must(find_offer(board, &t.tuple) < 0, "an offer that is none was passed on");
	unsigned nr = 0;
	for (unsigned i = 0; i < NTBS_BOARD_OFFERS; i++)
		nr += NTBS_OFFER_STATE(ntbs_le64_read(&board->offer[i].word)) != NTBS_OFFER_FREE;
	must(nr == 1, "%u offers, not one", nr);

	/* The same addresses once more take the place of the first; it ends with the connector, below. */
	seen = ntbs_le64_read(&board->offer[entry].word);
	word = bt_offer(c, &stranger, &mine);
	send_offer(c, mine, word);
	while (ntbs_le64_read(&board->offer[entry].word) == seen || find_offer(board, &stranger.tuple) < 0)
		bt_quiet(a);
	must(find_offer(board, &stranger.tuple) == (int)entry, "there are two offers of one connection");
	bt_tcp_close(&t);
	bt_tcp_close(&stranger);
}

static void two_brokers(void)
{
	struct bt_client c, a, late;
	struct ntbs_board_shm *board1, *board2;
	int extra_c = eventfd(0, EFD_NONBLOCK), extra_a = eventfd(0, EFD_NONBLOCK), mem = bt_memfd(4096, true);
	uint64_t chan;

	broker1 = start(run1, "1", bt_path("log1"));
	c = bt_hello(run1, 0, "connector");
	board1 = bt_board(&c, NTBS_BOARD_REMOTE_UID);
	must(!c.rules->local_only_same_netns, "rules say there is no cable");
	until_cable(&c, 1);
	/* No way to the other host: it is not waited for. */
	struct bt_tcp t = bt_tcp_open(0, false);
	uint32_t entry;
	uint64_t word = bt_offer(&c, &t, &entry);

	send_offer(&c, entry, word);
	bt_quiet(&c);
	must(NTBS_OFFER_STATE(ntbs_le64_read(&c.board->offer[entry].word)) == NTBS_OFFER_FREE && was_rung(&c), "an offer to nobody");
	bt_tcp_close(&t);
	broker2 = start(run2, "2", bt_path("log2"));
	a = bt_hello(run2, 0, "acceptor");
	board2 = bt_board(&a, NTBS_BOARD_REMOTE_UID);
	until_cable(&a, 2);
	until_cable(&c, 2);
	must(c.node == 1 && a.node == 2 && NTBS_PROC_NODE(c.proc) == 1 && NTBS_PROC_NODE(a.proc) == 2, "nodes");

	/* Channels and mboxes across the cable, those before and those after. */
	bt_chan_open(&a, NTBS_CHAN_ID(a.proc, 9), NTBS_PROC_ID(1, (c.proc + 5) % 4095 + 1), mem);
	bt_expect_chan_fail(&a, NTBS_CHAN_ID(a.proc, 9), ESRCH);
	bt_chan_open(&a, NTBS_CHAN_ID(a.proc, 9), NTBS_PROC_ID(3, 1), mem);
	bt_expect_chan_fail(&a, NTBS_CHAN_ID(a.proc, 9), ESRCH);
	bt_send_mbox(&c, 2, extra_c);
	bt_quiet(&c);
	chan = open_channel(&a, &c, 9);
	bt_expect_mbox(&a, c.proc, 2, extra_c);
	bt_send_mbox(&a, 3, extra_a);
	bt_expect_mbox(&c, a.proc, 3, extra_a);

	offers(&c, &a, board2, chan);

	/* The end of a process, told across; its last offer goes with it. */
	late = bt_hello(run1, 0, "late");
	munmap(bt_board(&late, NTBS_BOARD_REMOTE_UID), sizeof(*board1));
	bt_bye(&c);
	bt_expect_gone(&a, c.proc);
	for (unsigned i = 0; i < NTBS_BOARD_OFFERS; i++)
		must(NTBS_OFFER_STATE(ntbs_le64_read(&board2->offer[i].word)) == NTBS_OFFER_FREE, "offer of a process that is gone");

	/* The other broker dies: nobody is told that the process at the other end is gone, since it may live on. */
	open_channel(&a, &late, 10);
	bt_expect_mbox(&late, a.proc, 3, extra_a);
	must(WIFSIGNALED(bt_end(broker1, SIGKILL)), "kill");
	bt_expect_closed(late.fd);
	bt_bye(&late);
	until_cable(&a, 1);	/* would have met PEER_GONE */
	bt_chan_open(&a, NTBS_CHAN_ID(a.proc, 11), NTBS_PROC_ID(1, 1), mem);
	bt_expect_chan_fail(&a, NTBS_CHAN_ID(a.proc, 11), ESRCH);

	/* It is back, with another epoch: now its processes of then are known to be gone. */
	broker1 = start(run1, "1", bt_path("log1"));
	bt_expect_gone(&a, late.proc);
	until_cable(&a, 2);
	late = bt_hello(run1, 0, "later");
	munmap(bt_board(&late, NTBS_BOARD_REMOTE_UID), sizeof(*board1));
	until_cable(&late, 2);
	open_channel(&a, &late, 12);
	bt_expect_mbox(&late, a.proc, 3, extra_a);
	bt_bye(&late);
	bt_expect_gone(&a, late.proc);
	bt_bye(&a);
	must(!bt_end(broker2, SIGTERM) && !bt_end(broker1, SIGTERM), "ends");
	must(access(cable, F_OK), "the cable is still there");
	munmap(board1, sizeof(*board1));
	munmap(board2, sizeof(*board2));
	close(extra_a), close(extra_c), close(mem);
}

/* ------------------------------------------------------- we are the other broker */

static int plug(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	strcpy(un.sun_path, cable);
	must(!connect(fd, (void *)&un, sizeof(un)), "%s", cable);
	return fd;
}

static void peer_send(int fd, void *msg, enum ntbs_peer_type type, size_t len, const int *fds, int nr)
{
	struct ntbs_peer_msg *h = msg;

	h->type = ntbs_be16_from((uint16_t)type);
	h->bytes = ntbs_be16_from((uint16_t)len);
	bt_send(fd, msg, len, fds, nr);
}

static void peer_expect(int fd, void *msg, enum ntbs_peer_type type, size_t len, int *fds, int nr)
{
	struct ntbs_peer_msg *h = msg;
	int got[4], got_nr;
	int n = bt_recv(fd, msg, len, got, &got_nr);

	must(n == (int)len && ntbs_be16_value(h->type) == type && ntbs_be16_value(h->bytes) == len && got_nr == nr,
	     "message %u of %d bytes with %d descriptors, not %u of %zu with %d", ntbs_be16_value(h->type), n, got_nr, type, len, nr);
	for (int i = 0; i < nr; i++)
		fds[i] = got[i];
}

static void peer_hello(int fd, uint32_t version, uint32_t node, uint64_t epoch)
{
	struct ntbs_peer_hello h = {
		.magic = ntbs_be32_from(NTBS_PEER_MAGIC),
		.version = ntbs_be32_from(version),
		.node = ntbs_be32_from(node),
		.epoch = ntbs_be64_from(epoch),
	};
	struct ntbs_peer_hello theirs;

	peer_send(fd, &h, NTBS_PEER_HELLO, sizeof(h), NULL, 0);
	peer_expect(fd, &theirs, NTBS_PEER_HELLO, sizeof(theirs), NULL, 0);
	must(ntbs_be32_value(theirs.magic) == NTBS_PEER_MAGIC && ntbs_be32_value(theirs.node) == 1 &&
		     ntbs_be32_value(theirs.version) == NTBS_PEER_VERSION && theirs.epoch.v, "HELLO");
}

static void bad_peers(struct bt_client *c)
{
	struct ntbs_peer_offer offer = { 0 };
	int fd;

	fd = plug();
	peer_hello(fd, NTBS_PEER_VERSION + 1, 2, 1);
	bt_expect_closed(fd);
	close(fd);
	fd = plug();
	peer_hello(fd, NTBS_PEER_VERSION, 1, 1);	/* its own node id */
	bt_expect_closed(fd);
	close(fd);
	fd = plug();
	peer_hello(fd, NTBS_PEER_VERSION, 256, 1);
	bt_expect_closed(fd);
	close(fd);
	fd = plug();
	peer_send(fd, &offer, NTBS_PEER_OFFER, sizeof(offer), NULL, 0);	/* before HELLO */
	bt_expect_closed(fd);
	close(fd);
	fd = plug();
	peer_hello(fd, NTBS_PEER_VERSION, 2, 1);
	bt_send(fd, "x", 1, NULL, 0);
	bt_expect_closed(fd);
	close(fd);
	fd = plug();
	peer_hello(fd, NTBS_PEER_VERSION, 2, 1);
	peer_send(fd, &offer, NTBS_PEER_OFFER, sizeof(offer), &fd, 1);	/* a descriptor too many */
	bt_expect_closed(fd);
	close(fd);

	/* A second cable while the first is up. */
	fd = plug();
	peer_hello(fd, NTBS_PEER_VERSION, 2, 1);
	until_cable(c, 2);
	int second = plug();
	bt_expect_closed(second);
	close(second);
	close(fd);
	until_cable(c, 1);
	must(bt_file_has(bt_path("log1"), "both brokers have node id 1"), "log");
	must(bt_file_has(bt_path("log1"), "the other broker speaks version"), "log");
}

/* The cable goes and comes: channels stay, claims that wait fail, and who died meanwhile is found out. */
static void flaps(struct bt_client *c)
{
	struct bt_tcp t = bt_tcp_open(0, false);
	struct ntbs_board_shm *board = bt_board(c, NTBS_BOARD_REMOTE_UID);
	uint32_t stays = NTBS_PROC_ID(2, 7), dies = NTBS_PROC_ID(2, 8);
	struct ntbs_peer_chan pc;
	struct ntbs_peer_claim claim;
	struct ntbs_peer_proc pp;
	struct ntbs_msg_chan m;
	struct ntbs_msg_claim r;
	int fd, fds[4], mem = bt_memfd(4096, true);
	uint64_t chan = NTBS_CHAN_ID(c->proc, 1), seen;
	unsigned entry;

	fd = plug();
	peer_hello(fd, NTBS_PEER_VERSION, 2, 99);
	until_cable(c, 2);
	/* @c has accepted from @stays (its own channel) and connected to @dies (theirs). */
	bt_chan_open(c, chan, stays, mem);
	peer_expect(fd, &pc, NTBS_PEER_CHAN, sizeof(pc), fds, 3);
	close(fds[0]), close(fds[1]), close(fds[2]);
	must(ntbs_be64_value(pc.chan) == chan && ntbs_be32_value(pc.connector) == stays && ntbs_be32_value(pc.acceptor) == c->proc, "CHAN");
	peer_send(fd, &pc, NTBS_PEER_CHAN_BELLS, sizeof(pc), (int[]){ c->mbox0, c->bell }, 2);
	bt_expect(c, &m, NTBS_MSG_CHAN_BELLS, sizeof(m), fds, 2);
	close(fds[0]), close(fds[1]);
	pc.chan = ntbs_be64_from(NTBS_CHAN_ID(dies, 4));
	pc.acceptor = ntbs_be32_from(dies);
	pc.connector = ntbs_be32_from(c->proc);
	peer_send(fd, &pc, NTBS_PEER_CHAN, sizeof(pc), (int[]){ mem, c->mbox0, c->bell }, 3);
	bt_expect(c, &m, NTBS_MSG_CHAN, sizeof(m), fds, 3);
	close(fds[0]), close(fds[1]), close(fds[2]);
	peer_expect(fd, &pc, NTBS_PEER_CHAN_BELLS, sizeof(pc), fds, 2);
	close(fds[0]), close(fds[1]);

	/* A claim and a channel that nobody answers, until the cable goes. */
	struct ntbs_peer_offer offer = {
		.word = ntbs_be64_from(0x1230), .uid = ntbs_be32_from(5), .entry = ntbs_be32_from(6), .proc = ntbs_be32_from(stays),
		.lport = ntbs_be16_from(t.tuple.lport), .rport = ntbs_be16_from(t.tuple.rport),
	};
	memcpy(offer.laddr, t.tuple.laddr, 16);
	memcpy(offer.raddr, t.tuple.raddr, 16);
	peer_send(fd, &offer, NTBS_PEER_OFFER, sizeof(offer), NULL, 0);
	entry = await_offer(c, board, &t.tuple);
	seen = ntbs_le64_read(&board->offer[entry].word);
	r = (struct ntbs_msg_claim){ { NTBS_MSG_CLAIM, sizeof(r), 1 }, chan, seen, NTBS_BOARD_REMOTE_UID, entry, 3, 0 };
	bt_send(c->fd, &r, sizeof(r), &t.acceptor, 1);
	peer_expect(fd, &claim, NTBS_PEER_CLAIM, sizeof(claim), NULL, 0);
	must(ntbs_be64_value(claim.word) == 0x1230 && ntbs_be32_value(claim.uid) == 5 && ntbs_be32_value(claim.entry) == 6 &&
		     ntbs_be64_value(claim.chan) == chan && ntbs_be32_value(claim.lease) == 3, "CLAIM");
	bt_chan_open(c, chan + 1, stays, mem);
	peer_expect(fd, &pc, NTBS_PEER_CHAN, sizeof(pc), fds, 3);
	close(fds[0]), close(fds[1]), close(fds[2]);
	close(fd);
	bt_expect_chan_fail(c, chan + 1, ENOLINK);
	bt_expect(c, &r, NTBS_MSG_CLAIM_RESULT, sizeof(r), NULL, 0);
	must(r.result == ENOLINK && find_offer(board, &t.tuple) < 0, "a claim over a lost cable");
	until_cable(c, 1);	/* would have met PEER_GONE */

	/* The same broker again: it is asked for both processes, and says that one is gone. */
	fd = plug();
	peer_hello(fd, NTBS_PEER_VERSION, 2, 99);
	for (uint32_t asked = 0; asked != stays + dies; asked += ntbs_be32_value(pp.proc))
		peer_expect(fd, &pp, NTBS_PEER_ASK_PROC, sizeof(pp), NULL, 0);
	pp.proc = ntbs_be32_from(dies);
	peer_send(fd, &pp, NTBS_PEER_GONE, sizeof(pp), NULL, 0);
	bt_expect_gone(c, dies);
	/* And the channel with the other serves claims as before. */
	peer_send(fd, &offer, NTBS_PEER_OFFER, sizeof(offer), NULL, 0);
	entry = await_offer(c, board, &t.tuple);
	seen = ntbs_le64_read(&board->offer[entry].word);
	r = (struct ntbs_msg_claim){ { NTBS_MSG_CLAIM, sizeof(r), 1 }, chan, seen, NTBS_BOARD_REMOTE_UID, entry, 3, 0 };
	bt_send(c->fd, &r, sizeof(r), &t.acceptor, 1);
	peer_expect(fd, &claim, NTBS_PEER_CLAIM, sizeof(claim), NULL, 0);
	peer_send(fd, &claim, NTBS_PEER_CLAIM_RESULT, sizeof(claim), NULL, 0);
	bt_expect(c, &r, NTBS_MSG_CLAIM_RESULT, sizeof(r), NULL, 0);
	must(r.result == 0, "claim after the cable was back");
	/* Which of ours are alive? */
	pp.proc = ntbs_be32_from(c->proc);
	peer_send(fd, &pp, NTBS_PEER_ASK_PROC, sizeof(pp), NULL, 0);
	pp.proc = ntbs_be32_from(NTBS_PROC_ID(1, (c->proc + 9) % 4095 + 1));
	peer_send(fd, &pp, NTBS_PEER_ASK_PROC, sizeof(pp), NULL, 0);
	peer_expect(fd, &pp, NTBS_PEER_GONE, sizeof(pp), NULL, 0);
	must(ntbs_be32_value(pp.proc) == NTBS_PROC_ID(1, (c->proc + 9) % 4095 + 1), "ASK_PROC");
	close(fd);
	until_cable(c, 1);

	/* Another epoch: all are gone, without being asked for. */
	fd = plug();
	peer_hello(fd, NTBS_PEER_VERSION, 2, 100);
	bt_expect_gone(c, stays);
	close(fd);
	close(mem);
	munmap(board, sizeof(*board));
	bt_tcp_close(&t);
}

int main(void)
{
	struct bt_client c, ctl;

	bt_open("cable");
	run1 = strdup(bt_path("run1"));
	run2 = strdup(bt_path("run2"));
	cable = strdup(bt_path("cable"));
	two_brokers();

	broker1 = start(run1, "1", bt_path("log1"));
	c = bt_hello(run1, 0, "c");
	ctl = (struct bt_client){ .fd = bt_connect(run1, 0) };
	bad_peers(&ctl);
	flaps(&c);
	bt_bye(&c);
	close(ctl.fd);
	must(!bt_end(broker1, SIGTERM), "SIGTERM");
	puts("broker_cable: passed");
	return 0;
}
