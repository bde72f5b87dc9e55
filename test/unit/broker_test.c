// SPDX-License-Identifier: BSD-2-Clause
/*
 * broker_test.c - the broker's side of abi_broker.h, on one host
 *
 * Boards and their protection, channels, mboxes, claims across users, the end of a client, and what ntbsock-ctl
 * asks.  As root it plays other users, too; else those parts are left out and said.
 */
#include "broker_t.h"
#include <ntbsock/abi_state.h>

#define OTHER_UID 12345
#define THIRD_UID 12346

static const char *run_dir;
static bool root;
static int mbox_of_a;

static void boards(struct bt_client *a, struct bt_client *b)
{
	int seals = fcntl(a->board_fd, F_GET_SEALS);

	must(a->proc != b->proc, "two processes have one id");
	must(bt_same_file(a->board_fd, b->board_fd), "one user has two boards");
	must(bt_same_file(a->rules_fd, b->rules_fd), "there are two sets of rules");
	must((seals & F_SEAL_SHRINK) && (seals & F_SEAL_GROW) && (seals & F_SEAL_SEAL), "seals 0x%x", seals);
	must(ftruncate(a->board_fd, 4096) && errno == EPERM, "the board can be shrunk");
	must(fcntl(a->board_fd, F_ADD_SEALS, F_SEAL_WRITE) && errno == EPERM, "seals can be added to a board");
	must(mmap(NULL, sizeof(*a->rules), PROT_READ | PROT_WRITE, MAP_SHARED, a->rules_fd, 0) == MAP_FAILED && errno == EACCES,
	     "the rules can be written");
	must(ntbs_le32_read(&a->board->magic) == NTBS_BOARD_MAGIC && ntbs_le32_read(&a->board->uid) == geteuid(), "board header");
	must(ntbs_le32_read(&a->rules->magic) == NTBS_RULES_MAGIC && !(ntbs_le32_read(&a->rules->version) & 1), "rules header");
	must(a->rules->local_only_same_netns == 1, "rules say there is a cable");
	ntbs_le64_write(&a->board->offer[4095].word, 0x50);
	must(ntbs_le64_read(&b->board->offer[4095].word) == 0x50, "boards are not shared");
	ntbs_le64_write(&a->board->offer[4095].word, 0);
}

/* A process that connects to a listener of its own: it is told both halves, and nothing of its own end. */
static void with_itself(struct bt_client *c)
{
	int mem = bt_memfd(8192, true), fds[4];
	struct ntbs_msg_chan m;

	bt_chan_open(c, NTBS_CHAN_ID(c->proc, 1), c->proc, mem);
	bt_expect(c, &m, NTBS_MSG_CHAN, sizeof(m), fds, 3);
	must(m.proc == c->proc && bt_same_file(fds[0], mem) && bt_same_bell(c->mbox0, fds[1]) && bt_same_bell(c->bell, fds[2]), "CHAN");
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	bt_expect(c, &m, NTBS_MSG_CHAN_BELLS, sizeof(m), fds, 2);
	must(m.proc == c->proc && bt_same_bell(c->mbox0, fds[0]) && bt_same_bell(c->bell, fds[1]), "CHAN_BELLS");
	close(fds[0]);
	close(fds[1]);
	close(mem);
	bt_quiet(c);
}

/* @b accepts from @a. */
static void channels(struct bt_client *a, struct bt_client *b)
{
	int mem = bt_memfd(8192, true), loose = bt_memfd(8192, false), fds[4], extra_a = eventfd(0, EFD_NONBLOCK),
	    extra_b = eventfd(0, EFD_NONBLOCK), null = open("/dev/null", O_RDWR);
	uint64_t chan = NTBS_CHAN_ID(b->proc, 3), chan2 = NTBS_CHAN_ID(b->proc, 4);
	struct ntbs_msg_chan m;

	bt_chan_open(b, NTBS_CHAN_ID(a->proc, 3), a->proc, mem);
	bt_expect_chan_fail(b, NTBS_CHAN_ID(a->proc, 3), EINVAL);
	bt_chan_open(b, chan, a->proc, loose);
	bt_expect_chan_fail(b, chan, EINVAL);
	bt_chan_open(b, chan, a->proc, null);
	bt_expect_chan_fail(b, chan, EINVAL);
	bt_chan_open(b, chan, NTBS_PROC_ID(0, (a->proc + 1000) % 4095 + 1), mem);
	bt_expect_chan_fail(b, chan, ESRCH);

	bt_send_mbox(a, 1, extra_a);
	bt_quiet(a);
	bt_chan_open(b, chan, a->proc, mem);
	bt_expect(a, &m, NTBS_MSG_CHAN, sizeof(m), fds, 3);
	must(m.chan == chan && m.proc == b->proc && m.uid == geteuid(), "CHAN");
	must(bt_same_file(fds[0], mem) && bt_same_bell(b->mbox0, fds[1]) && bt_same_bell(b->bell, fds[2]), "descriptors of CHAN");
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	bt_expect(b, &m, NTBS_MSG_CHAN_BELLS, sizeof(m), fds, 2);
	must(m.h.cookie == 5 && m.chan == chan && m.proc == a->proc && m.uid == geteuid(), "CHAN_BELLS");
	must(bt_same_bell(a->mbox0, fds[0]) && bt_same_bell(a->bell, fds[1]), "descriptors of CHAN_BELLS");
	close(fds[0]);
	close(fds[1]);
	bt_expect_mbox(b, a->proc, 1, extra_a);

	bt_chan_open(b, chan, a->proc, mem);
	bt_expect_chan_fail(b, chan, EEXIST);

	bt_chan_open(b, chan2, a->proc, mem);
	bt_expect(a, &m, NTBS_MSG_CHAN, sizeof(m), fds, 3);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	bt_expect(b, &m, NTBS_MSG_CHAN_BELLS, sizeof(m), fds, 2);
	close(fds[0]);
	close(fds[1]);
	bt_expect_mbox(b, a->proc, 1, extra_a);
	bt_send_mbox(b, 15, extra_b);
	bt_expect_mbox(a, b->proc, 15, extra_b);	/* once, though there are two channels */
	bt_quiet(a);
	bt_quiet(b);
	close(mem), close(loose), close(extra_b), close(null);
	mbox_of_a = extra_a;
}

/* @acceptor claims what @connector offers.  *chan is open between them already. */
static void claims(struct bt_client *acceptor, struct bt_client *connector, uint64_t chan, bool other_user)
{
	struct bt_tcp t = bt_tcp_open(connector->uid, other_user), stranger = bt_tcp_open(0, false);
	int not_tcp[2], udp = socket(AF_INET, SOCK_DGRAM, 0);
	uint32_t entry, uid = connector->uid;
	uint64_t word = bt_offer(connector, &t, &entry), now;

	must(!socketpair(AF_UNIX, SOCK_STREAM, 0, not_tcp), "socketpair");
	must(bt_claim(acceptor, uid, entry, word, chan, t.connector, NULL) == EPERM, "the connector's own socket is no proof");
	must(bt_claim(acceptor, uid, entry, word, chan, stranger.acceptor, NULL) == EPERM, "another connection is no proof");
	must(bt_claim(acceptor, uid, entry, word, chan, t.listener, NULL) == ENOTCONN, "a listener is no proof");
	must(bt_claim(acceptor, uid, entry, word, chan, not_tcp[0], NULL) == EPERM, "a UNIX socket is no proof");
	must(bt_claim(acceptor, uid, entry, word, chan, udp, NULL) == EPERM, "a UDP socket is no proof");
	must(bt_claim(acceptor, uid, entry, word, chan, acceptor->board_fd, NULL) == EPERM, "a memfd is no proof");
	must(bt_claim(acceptor, uid, entry, word + (1 << 4), chan, t.acceptor, &now) == ESTALE && now == word, "another tag");
	must(bt_claim(acceptor, uid, (entry + 1) % NTBS_BOARD_OFFERS, word, chan, t.acceptor, NULL) == ESTALE, "another entry");
	must(bt_claim(acceptor, uid, NTBS_BOARD_OFFERS, word, chan, t.acceptor, NULL) == EINVAL, "no entry");
	must(bt_claim(acceptor, 4321, entry, word, chan, t.acceptor, NULL) == EINVAL, "no board");
	must(bt_claim(acceptor, uid, entry, word, chan + 100, t.acceptor, NULL) == EINVAL, "no channel");
	must(bt_claim(acceptor, NTBS_BOARD_REMOTE_UID, entry, word, chan, t.acceptor, NULL) == EINVAL, "no remote board");
	connector->board->offer[entry].netns++;
	must(bt_claim(acceptor, uid, entry, word, chan, t.acceptor, NULL) == EPERM, "another network namespace");
	connector->board->offer[entry].netns--;
	connector->board->offer[entry].proc = acceptor->proc;
	must(bt_claim(acceptor, uid, entry, word, chan, t.acceptor, NULL) == (other_user ? ESRCH : EINVAL), "offer of another process");
	connector->board->offer[entry].proc = connector->proc;
	must(ntbs_le64_read(&connector->board->offer[entry].word) == word, "a refused claim has changed the offer");
	must(read(connector->mbox0, &now, 8) < 0 && errno == EAGAIN, "rung for a refused claim");

	must(bt_claim(acceptor, uid, entry, word, chan, t.acceptor, &now) == 0, "claim");
	must(now == ntbs_offer_word(NTBS_OFFER_ASKED, NTBS_OFFER_TAG(word), 7, chan), "word 0x%llx", (unsigned long long)now);
	must(ntbs_le64_read(&connector->board->offer[entry].word) == now, "the offer does not say ASKED");
	must(read(connector->mbox0, &now, 8) == 8, "the connector was not rung");
	must(bt_claim(acceptor, uid, entry, word, chan, t.acceptor, NULL) == ESTALE, "claimed twice");
	ntbs_le64_write(&connector->board->offer[entry].word, 0);
	bt_tcp_close(&t);
	bt_tcp_close(&stranger);
	close(not_tcp[0]), close(not_tcp[1]), close(udp);
}

static uint64_t simple_channel(struct bt_client *acceptor, struct bt_client *connector, unsigned nr)
{
	int mem = bt_memfd(4096, true), fds[4];
	uint64_t chan = NTBS_CHAN_ID(acceptor->proc, nr);
	struct ntbs_msg_chan m;

	bt_chan_open(acceptor, chan, connector->proc, mem);
	bt_expect(connector, &m, NTBS_MSG_CHAN, sizeof(m), fds, 3);
	must(m.uid == acceptor->uid, "uid of CHAN");
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	bt_expect(acceptor, &m, NTBS_MSG_CHAN_BELLS, sizeof(m), fds, 2);
	must(m.uid == connector->uid, "uid of CHAN_BELLS");
	close(fds[0]), close(fds[1]), close(mem);
	return chan;
}

/* An offer on a user's board for a connection that is somebody else's. */
static void stolen_connection(struct bt_client *acceptor, struct bt_client *thief, uint64_t chan)
{
	struct bt_tcp t = bt_tcp_open(0, false);
	uint32_t entry;
	uint64_t word = bt_offer(thief, &t, &entry);

	must(bt_claim(acceptor, thief->uid, entry, word, chan, t.acceptor, NULL) == EPERM, "a user offers root's connection");
	ntbs_le64_write(&thief->board->offer[entry].word, 0);
	bt_tcp_close(&t);
}

/* The same by somebody who has the socket, and shows it. */
static void shown_connection(struct bt_client *acceptor, struct bt_client *holder, uint64_t chan)
{
	struct bt_tcp t = bt_tcp_open(0, false);
	struct ntbs_msg_plain m = { { NTBS_MSG_VOUCH, sizeof(m), 0 } };
	uint32_t entry;
	uint64_t word = bt_offer(holder, &t, &entry), rung;

	bt_send(holder->fd, &m, sizeof(m), &t.acceptor, 1);
	bt_send(holder->fd, &m, sizeof(m), &holder->board_fd, 1);
	bt_quiet(holder);
	must(bt_claim(acceptor, holder->uid, entry, word, chan, t.acceptor, NULL) == EPERM, "the other end vouches for nothing");
	bt_send(holder->fd, &m, sizeof(m), &t.connector, 1);
	bt_quiet(holder);
	must(bt_claim(acceptor, holder->uid, entry, word, chan, t.acceptor, NULL) == 0, "a user offers root's connection, which he has");
	must(read(holder->mbox0, &rung, 8) == 8, "not rung for a claim");
	ntbs_le64_write(&holder->board->offer[entry].word, 0);
	bt_tcp_close(&t);
	t = bt_tcp_open(0, false);
	word = bt_offer(holder, &t, &entry);
	must(bt_claim(acceptor, holder->uid, entry, word, chan, t.acceptor, NULL) == EPERM, "another one later is not vouched for");
	ntbs_le64_write(&holder->board->offer[entry].word, 0);
	bt_tcp_close(&t);
}

/* @c asks that a connection be drained: @c and @friend are told, @stranger is not. */
static void drain(struct bt_client *c, struct bt_client *friend, struct bt_client *stranger)
{
	struct ntbs_msg_drain ask = { .h = { NTBS_MSG_DRAIN, sizeof(ask), 77 } }, got;

	memset(&ask.tuple, 0x5a, sizeof(ask.tuple));
	bt_send(c->fd, &ask, sizeof(ask), NULL, 0);
	bt_expect(c, &got, NTBS_MSG_LEAVE, sizeof(got), NULL, 0);
	must(!memcmp(&got.tuple, &ask.tuple, sizeof(got.tuple)), "which connection");
	bt_expect(c, &got, NTBS_MSG_DRAIN_REPLY, sizeof(got), NULL, 0);
	must(got.h.cookie == 77 && got.told == (friend ? 2 : 1), "%u were told", got.told);
	if (friend)
		bt_expect(friend, &got, NTBS_MSG_LEAVE, sizeof(got), NULL, 0);
	if (stranger)
		bt_quiet(stranger);
}

static void other_users(struct bt_client *a)
{
	struct bt_client u = bt_hello(run_dir, OTHER_UID, "other"), third;
	struct ntbs_board_shm *ours, *theirs;
	uint64_t chan;

	ours = bt_board(&u, 0);
	theirs = bt_board(a, OTHER_UID);
	ntbs_le64_write(&u.board->offer[1].word, 0x70);
	must(ntbs_le64_read(&theirs->offer[1].word) == 0x70, "board of another user is not the same memory");
	ntbs_le64_write(&u.board->offer[1].word, 0);
	chan = simple_channel(a, &u, 50);
	bt_expect_mbox(&u, a->proc, 1, mbox_of_a);
	claims(a, &u, chan, true);
	stolen_connection(a, &u, chan);
	shown_connection(a, &u, chan);
	third = bt_hello(run_dir, THIRD_UID, "third");
	munmap(bt_board(&third, 0), sizeof(*ours));
	munmap(bt_board(&third, OTHER_UID), sizeof(*ours));
	munmap(bt_board(a, THIRD_UID), sizeof(*ours));
	munmap(bt_board(&u, THIRD_UID), sizeof(*ours));
	chan = simple_channel(&third, &u, 1);
	claims(&third, &u, chan, true);

	drain(&u, NULL, a);

	struct ntbs_msg_plain ask = { { NTBS_MSG_RELOAD, sizeof(ask), 9 } };
	struct ntbs_msg_reload r;

	bt_send(u.fd, &ask, sizeof(ask), NULL, 0);
	bt_expect(&u, &r, NTBS_MSG_RELOAD_REPLY, sizeof(r), NULL, 0);
	must(r.errors == 1 && strstr(r.first_error, "not permitted"), "a user may reload: %s", r.first_error);
	bt_bye(&u);
	bt_expect_gone(a, u.proc);
	bt_expect_gone(&third, u.proc);
	bt_bye(&third);
	bt_until_procs(a, 2);
	munmap(ours, sizeof(*ours));
	munmap(theirs, sizeof(*theirs));
}

static unsigned pools_of(struct bt_client *c, int wanted)
{
	struct ntbs_msg_plain ask = { { NTBS_MSG_POOLS, sizeof(ask), 11 } };
	unsigned n = 0;
	bool met = false;

	bt_send(c->fd, &ask, sizeof(ask), NULL, 0);
	for (;; n++) {
		struct ntbs_msg_pool m;
		int fds[4], nr;

		must(bt_recv(c->fd, &m, sizeof(m), fds, &nr) == sizeof(m) && m.h.type == NTBS_MSG_POOL_REPLY && m.h.cookie == 11,
		     "POOL_REPLY");
		if (!m.pid) {
			must(!nr, "the last POOL_REPLY has a descriptor");
			break;
		}
		must(nr == 1 && m.pid == (uint32_t)getpid() && !m.program[15], "POOL_REPLY");
		must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0) == MAP_FAILED, "pool can be written");
		met |= bt_same_file(fds[0], wanted);
		close(fds[0]);
	}
	must(met == !!n, "pools, but not ours");
	return n;
}

static void pools(struct bt_client *a, struct bt_client *b)
{
	struct ntbs_msg_plain msg = { { NTBS_MSG_POOL, sizeof(msg), 0 } };
	struct bt_client ctl = { .fd = bt_connect(run_dir, 0) };
	int pool = bt_memfd(4096, true), mode_taken = bt_memfd(4096, true);

	must(pools_of(&ctl, pool) == 0, "pools from nowhere");
	bt_send(b->fd, &msg, sizeof(msg), &pool, 1);
	bt_quiet(b);
	must(pools_of(&ctl, pool) == 1, "one pool");
	for (int i = 0; i < 63; i++) {
		bt_send(a->fd, &msg, sizeof(msg), &pool, 1);
		bt_send(b->fd, &msg, sizeof(msg), &pool, 1);
	}
	bt_quiet(a);
	bt_quiet(b);
	must(pools_of(&ctl, pool) == 127, "127 pools");
	if (root) {
		struct bt_client user = { .fd = bt_connect(run_dir, OTHER_UID) };

		must(pools_of(&user, pool) == 0, "a user sees root's pools");
		close(user.fd);
	}
	close(ctl.fd), close(pool), close(mode_taken);
}

static void reload(struct bt_client *a, pid_t broker)
{
	struct ntbs_msg_plain ask = { { NTBS_MSG_RELOAD, sizeof(ask), 9 } };
	struct ntbs_msg_reload r;
	uint32_t version = ntbs_le32_read(&a->rules->version);

	bt_write(bt_path("conf/nodes.conf"), "10.0.0.0/8 2\nnonsense\n::1 3\n10.1.2.3 0\n");
	bt_write(bt_path("conf/ports.conf"), "deny 1-99 sshd # no\npermit 5\nallow *\n");
	bt_send(a->fd, &ask, sizeof(ask), NULL, 0);
	bt_expect(a, &r, NTBS_MSG_RELOAD_REPLY, sizeof(r), NULL, 0);
	must(r.h.cookie == 9 && r.errors == 3 && r.nr_nodes == 2 && r.nr_ports == 2, "%u errors, %u nodes, %u ports", r.errors,
	     r.nr_nodes, r.nr_ports);
	must(!strncmp(r.first_error, "nodes.conf:2: ", 14), "%s", r.first_error);
	must(ntbs_le32_read(&a->rules->version) == version + 2, "version");
	must(a->rules->nr_nodes == 2 && a->rules->node[0].prefix == 104 && a->rules->node[0].addr[12] == 10 && a->rules->node[0].node == 2 &&
		     a->rules->node[1].prefix == 128 && a->rules->node[1].addr[15] == 1, "rules of nodes");
	must(a->rules->nr_ports == 2 && a->rules->port[0].last == 99 && !a->rules->port[0].allow &&
		     !strcmp(a->rules->port[0].program, "sshd") && a->rules->port[1].allow && a->rules->port[1].last == 65535, "rules of ports");
	must(bt_file_has(bt_path("log"), bt_path("conf/nodes.conf:4: ")) && bt_file_has(bt_path("log"), bt_path("conf/ports.conf:2: ")),
	     "wrong lines are not named in the log");
	unlink(bt_path("conf/nodes.conf"));
	must(!mkdir(bt_path("conf/nodes.conf"), 0755), "mkdir");
	bt_send(a->fd, &ask, sizeof(ask), NULL, 0);
	bt_expect(a, &r, NTBS_MSG_RELOAD_REPLY, sizeof(r), NULL, 0);
	must(r.errors == 2 && r.nr_nodes == 0 && r.nr_ports == 2, "unreadable file: %u errors", r.errors);
	rmdir(bt_path("conf/nodes.conf"));
	unlink(bt_path("conf/ports.conf"));
	version = ntbs_le32_read(&a->rules->version);
	kill(broker, SIGHUP);
	while (ntbs_le32_read(&a->rules->version) != version + 2)	/* a broker that does not: the time limit of the test */
		bt_quiet(a);
	must(a->rules->nr_ports == 0, "SIGHUP");
}

static void status(struct bt_client *a, pid_t broker)
{
	struct ntbs_msg_status st;

	bt_status(a, &st);
	must(st.pid == (uint32_t)broker && st.uid == geteuid() && st.nr_procs == 2 && !st.private_broker && !st.cable && !st.node,
	     "STATUS");
	must(!strcmp(st.run_dir, run_dir) && !strcmp(st.config_dir, bt_path("conf")), "STATUS: %s %s", st.run_dir, st.config_dir);
	must(st.claims == (root ? 4 : 1) && st.claims_refused > 10 && !st.clients_closed_for_error, "counters of STATUS");
}

/* Its offers are freed, its peers told, its descriptors closed; nothing else. */
static void end_of_client(struct bt_client *a, struct bt_client *b, pid_t broker, unsigned fds_before)
{
	struct bt_tcp t = bt_tcp_open(0, false);
	struct ntbs_board_shm *board = b->board;
	uint32_t entry, mine;
	uint64_t word = bt_offer(a, &t, &entry);

	mine = (entry + 1) % NTBS_BOARD_OFFERS;
	board->offer[mine] = board->offer[entry];
	board->offer[mine].proc = b->proc;
	bt_bye(a);
	bt_expect_gone(b, a->proc);	/* once, though there are several channels */
	must(ntbs_le64_read(&board->offer[entry].word) == (word & 0xffff0), "the offer of the dead is not free");
	must(ntbs_le64_read(&board->offer[mine].word) == word, "an offer of the living is gone");
	bt_quiet(b);
	bt_bye(b);
	bt_tcp_close(&t);

	struct bt_client ctl = { .fd = bt_connect(run_dir, 0) };

	bt_until_procs(&ctl, 0);
	must(bt_nr_fds(broker) == fds_before + 1 + (root ? 4 : 0), "%u descriptors, before %u: a leak", bt_nr_fds(broker), fds_before);
	close(ctl.fd);
}

int main(void)
{
	struct bt_client a, b, warm;
	pid_t broker;
	unsigned fds;

	bt_open("broker");
	root = !geteuid();
	run_dir = strdup(bt_path("run"));
	mkdir(bt_path("conf"), 0755);
	broker = bt_broker(bt_path("log"), NULL, "--run-dir", run_dir, "--config-dir", bt_path("conf"), NULL);
	warm = bt_hello(run_dir, 0, "warm");	/* makes the board of our user, which stays */
	bt_quiet(&warm);
	with_itself(&warm);
	fds = bt_nr_fds(broker) - 3;	/* its connection and two bells */
	bt_bye(&warm);
	a = bt_hello(run_dir, 0, "a");
	b = bt_hello(run_dir, 0, "bbbbbbbbbbbbbbbbbbbbb");
	boards(&a, &b);
	channels(&a, &b);
	claims(&b, &a, NTBS_CHAN_ID(b.proc, 3), false);
	if (root)
		other_users(&a);
	else
		fprintf(stderr, "not root: parts with several users are left out\n");
	/* @b has been shown the boards of the others, too */
	if (root) {
		munmap(bt_board(&b, OTHER_UID), sizeof(*a.board));
		munmap(bt_board(&b, THIRD_UID), sizeof(*a.board));
	}
	status(&a, broker);
	drain(&a, &b, NULL);
	pools(&a, &b);
	reload(&a, broker);
	end_of_client(&a, &b, broker, fds);
	must(bt_end(broker, SIGTERM) == 0, "end by SIGTERM");
	must(access(bt_path("run/broker.sock"), F_OK), "the socket is still there");
	puts("broker_test: passed");
	return 0;
}
