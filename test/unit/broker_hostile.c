// SPDX-License-Identifier: BSD-2-Clause
/*
 * broker_hostile.c - a client that breaks the contract is closed, and nobody else
 *
 * Each packet below is sent by a client of its own, before or after HELLO.  Then that client must be closed, a
 * well-behaved one must still be served and not have heard anything, and the broker must hold no descriptor more.
 */
#include <sys/epoll.h>
#include "broker_t.h"

static const char *run_dir;
static struct bt_client good;
static int bell, plain_file, mem;

struct hostile {
	const char *name;
	bool hello_first;
	size_t bytes;		/* sent */
	uint16_t type, says;	/* header */
	int nr_fds;
	int fd;			/* which, for each of them; 0: a bell */
	uint32_t word[8];	/* what follows the header */
};

static void attack(const struct hostile *h)
{
	struct bt_client c = { .fd = -1 };
	struct ntbs_msg_status before, after;
	char packet[2048] = { 0 };
	struct ntbs_msg *m = (struct ntbs_msg *)packet;
	int fds[16];

	bt_status(&good, &before);
	if (h->hello_first)
		c = bt_hello(run_dir, 0, "hostile");
	else
		c.fd = bt_connect(run_dir, 0);
	m->type = h->type;
	m->bytes = h->says;
	memcpy(m + 1, h->word, sizeof(h->word));
	for (int i = 0; i < 16; i++)
		fds[i] = h->fd ? h->fd : bell;
	bt_send(c.fd, packet, h->bytes, fds, h->nr_fds);
	bt_expect_closed(c.fd);
	if (h->hello_first)
		bt_bye(&c);
	else
		close(c.fd);
	bt_status(&good, &after);
	must(after.clients_closed_for_error == before.clients_closed_for_error + 1, "%s: not counted as an error", h->name);
	must(after.nr_procs == 1, "%s: %u processes", h->name, after.nr_procs);
}

/* Who does not read is closed once its queue is full, and what waited for it is given up. */
static void does_not_read(void)
{
	struct bt_client deaf = bt_hello(run_dir, 0, "deaf");
	struct ntbs_msg_plain ask = { { NTBS_MSG_STATUS, sizeof(ask), 1 } };
	struct ntbs_msg_status st;
	unsigned sent = 0;

	while (send(deaf.fd, &ask, sizeof(ask), MSG_NOSIGNAL) == sizeof(ask))
		must(++sent < 100000, "a client that does not read is served for ever");
	must(errno == EPIPE || errno == ECONNRESET, "send");
	bt_bye(&deaf);
	bt_status(&good, &st);
	must(st.nr_procs == 1, "it is still there");

	/* With descriptors: a peer that opens channels to one that does not read. */
	struct bt_client peer = bt_hello(run_dir, 0, "peer");
	int got[4], nr;
	char buf[1024];

	deaf = bt_hello(run_dir, 0, "deaf2");
	for (unsigned i = 0;; i++) {
		struct ntbs_msg *h = (struct ntbs_msg *)buf;

		must(i < 20000, "no end");
		bt_chan_open(&peer, NTBS_CHAN_ID(peer.proc, i), deaf.proc, mem);
		must(bt_recv(peer.fd, buf, sizeof(buf), got, &nr), "the peer was closed");
		for (int k = 0; k < nr; k++)
			close(got[k]);
		if (h->type == NTBS_MSG_PEER_GONE || (h->type == NTBS_MSG_CHAN_FAIL && ((struct ntbs_msg_chan *)h)->reason == ESRCH))
			break;
		must(h->type == NTBS_MSG_CHAN_BELLS, "message %u", h->type);
	}
	bt_bye(&deaf);
	bt_bye(&peer);
	bt_until_procs(&good, 1);
}

static bool edge(int watcher)
{
	struct epoll_event ev;

	return epoll_wait(watcher, &ev, 1, 0) == 1;
}

/* Its bell is full, and blocking again behind the broker's back: who did that is not known, and it is rung all the same. */
static void full_bell(void)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	int watcher = epoll_create1(EPOLL_CLOEXEC);
	struct bt_client a = bt_hello(run_dir, 0, "full"), b = bt_hello(run_dir, 0, "claimer");
	struct bt_tcp t = bt_tcp_open(0, false);
	uint64_t limit = UINT64_MAX - 1, chan = NTBS_CHAN_ID(b.proc, 1), word;
	struct ntbs_msg_chan m;
	uint32_t entry;
	int fds[4];

	bt_chan_open(&b, chan, a.proc, mem);
	bt_expect(&a, &m, NTBS_MSG_CHAN, sizeof(m), fds, 3);
	close(fds[0]), close(fds[1]), close(fds[2]);
	bt_expect(&b, &m, NTBS_MSG_CHAN_BELLS, sizeof(m), fds, 2);
	close(fds[0]), close(fds[1]);
	must(write(a.mbox0, &limit, 8) == 8, "fill the bell");
	must(!epoll_ctl(watcher, EPOLL_CTL_ADD, a.mbox0, &ev) && edge(watcher) && !edge(watcher), "watch it");
	word = bt_offer(&a, &t, &entry);
	must(bt_claim(&b, a.uid, entry, word, chan, t.acceptor, NULL) == 0, "claim with a full bell");
	bt_quiet(&a);
	must(edge(watcher), "a full bell woke nobody");

	word = bt_offer(&a, &t, &entry);
	must(!fcntl(a.mbox0, F_SETFL, 0), "blocking again");
	must(bt_claim(&b, a.uid, entry, word, chan, t.acceptor, NULL) == 0, "claim with a bell that blocks");
	bt_quiet(&a);
	must(edge(watcher), "a bell that blocks woke nobody");
	close(watcher);
	bt_bye(&a);
	bt_expect_gone(&b, a.proc);
	bt_bye(&b);
	bt_until_procs(&good, 1);
	bt_tcp_close(&t);
}

int main(void)
{
	const size_t hello = sizeof(struct ntbs_msg_hello), plain = sizeof(struct ntbs_msg_plain), chan = sizeof(struct ntbs_msg_chan),
		     take = sizeof(struct ntbs_msg_take), claim = sizeof(struct ntbs_msg_claim), mbox = sizeof(struct ntbs_msg_mbox);
	unsigned fds;
	pid_t broker;

	bt_open("hostile");
	run_dir = strdup(bt_path("run"));
	bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	plain_file = open("/dev/null", O_RDWR | O_CLOEXEC);
	mem = bt_memfd(4096, true);
	int loose = bt_memfd(4096, false), huge = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);

	if (huge >= 0)		/* there need not be any: that is what makes it a trap */
		must(!ftruncate(huge, 1 << 21) && !fcntl(huge, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), "huge");
	else
		huge = loose;	/* a kernel without them */

	broker = bt_broker(bt_path("log"), NULL, "--run-dir", run_dir, "--config-dir", bt_dir, NULL);
	good = bt_hello(run_dir, 0, "good");

	const struct hostile hostile[] = {
		{ "one byte", false, 1, 1, 1, 0, 0, { 0 } },
		{ "seven bytes", true, 7, NTBS_MSG_STATUS, 7, 0, 0, { 0 } },
		{ "seven bytes and descriptors", true, 7, NTBS_MSG_STATUS, 7, 4, 0, { 0 } },
		{ "type 0", true, plain, 0, plain, 0, 0, { 0 } },
		{ "type 65535", true, plain, 65535, plain, 0, 0, { 0 } },
		{ "a type of the broker", true, 24, NTBS_MSG_WELCOME, 24, 0, 0, { 0 } },
		{ "status too long", false, plain + 4, NTBS_MSG_STATUS, plain + 4, 0, 0, { 0 } },
		{ "status says another length", false, plain, NTBS_MSG_STATUS, plain + 1, 0, 0, { 0 } },
		{ "status with a descriptor", false, plain, NTBS_MSG_STATUS, plain, 1, 0, { 0 } },
		{ "larger than any", true, 600, NTBS_MSG_STATUS, plain, 0, 0, { 0 } },
		{ "larger than any, with descriptors", true, 600, NTBS_MSG_CHAN_OPEN, chan, 3, 0, { 0 } },
		{ "too many descriptors", true, mbox, NTBS_MSG_MBOX, mbox, 16, 0, { 0, 1 } },
		{ "channel before HELLO", false, chan, NTBS_MSG_CHAN_OPEN, chan, 1, mem, { 0 } },
		{ "claim before HELLO", false, claim, NTBS_MSG_CLAIM, claim, 1, 0, { 0 } },
		{ "pool before HELLO", false, plain, NTBS_MSG_POOL, plain, 1, mem, { 0 } },
		{ "vouch before HELLO", false, plain, NTBS_MSG_VOUCH, plain, 1, 0, { 0 } },
		{ "vouch for nothing", true, plain, NTBS_MSG_VOUCH, plain, 0, 0, { 0 } },
		{ "take before HELLO", false, take, NTBS_MSG_TAKE, take, 2, 0, { 0 } },
		{ "take without a pipe", true, take, NTBS_MSG_TAKE, take, 2, plain_file, { 0 } },
		{ "await before HELLO", false, plain, NTBS_MSG_AWAIT, plain, 0, 0, { 0 } },
		{ "mbox before HELLO", false, mbox, NTBS_MSG_MBOX, mbox, 1, 0, { 0, 1 } },
		{ "offer before HELLO", false, claim, NTBS_MSG_OFFER_REMOTE, claim, 0, 0, { 0 } },
		{ "HELLO without bells", false, hello, NTBS_MSG_HELLO, hello, 0, 0, { NTBS_BROKER_ABI } },
		{ "HELLO with one bell", false, hello, NTBS_MSG_HELLO, hello, 1, 0, { NTBS_BROKER_ABI } },
		{ "HELLO with three bells", false, hello, NTBS_MSG_HELLO, hello, 3, 0, { NTBS_BROKER_ABI } },
		{ "HELLO with files", false, hello, NTBS_MSG_HELLO, hello, 2, plain_file, { NTBS_BROKER_ABI } },
		{ "HELLO of another ABI", false, hello, NTBS_MSG_HELLO, hello, 2, 0, { NTBS_BROKER_ABI + 1 } },
		{ "HELLO short", false, hello - 4, NTBS_MSG_HELLO, hello - 4, 2, 0, { NTBS_BROKER_ABI } },
		{ "HELLO twice", true, hello, NTBS_MSG_HELLO, hello, 2, 0, { NTBS_BROKER_ABI } },
		{ "channel without memory", true, chan, NTBS_MSG_CHAN_OPEN, chan, 0, 0, { 0 } },
		{ "channel with two", true, chan, NTBS_MSG_CHAN_OPEN, chan, 2, mem, { 0 } },
		{ "claim without proof", true, claim, NTBS_MSG_CLAIM, claim, 0, 0, { 0 } },
		{ "offer on another user's board", true, claim, NTBS_MSG_OFFER_REMOTE, claim, 0, 0, { 0, 0, 0, 0, 4321, 1 } },
		{ "offer of no entry", true, claim, NTBS_MSG_OFFER_REMOTE, claim, 0, 0, { 0, 0, 0, 0, geteuid(), NTBS_BOARD_OFFERS } },
		{ "mbox 0", true, mbox, NTBS_MSG_MBOX, mbox, 1, 0, { 0, 0 } },
		{ "mbox 16", true, mbox, NTBS_MSG_MBOX, mbox, 1, 0, { 0, 16 } },
		{ "mbox that is a file", true, mbox, NTBS_MSG_MBOX, mbox, 1, plain_file, { 0, 1 } },
		{ "pool that is a file", true, plain, NTBS_MSG_POOL, plain, 1, plain_file, { 0 } },
		{ "pool that is not sealed", true, plain, NTBS_MSG_POOL, plain, 1, loose, { 0 } },
		{ "pool of huge pages", true, plain, NTBS_MSG_POOL, plain, 1, huge, { 0 } },
	};

	bt_quiet(&good);
	fds = bt_nr_fds(broker);
	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		attack(&hostile[i]);
		must(bt_nr_fds(broker) == fds, "%s: %u descriptors, before %u: a leak", hostile[i].name, bt_nr_fds(broker), fds);
	}
	must(bt_file_has(bt_path("log"), "closed the connection of pid"), "nothing in the log");
	full_bell();
	does_not_read();
	bt_quiet(&good);
	must(bt_nr_fds(broker) == fds, "%u descriptors, before %u: a leak", bt_nr_fds(broker), fds);

	/* 65 pools: one too many */
	struct bt_client c = bt_hello(run_dir, 0, "pools");
	struct ntbs_msg_plain pool = { { NTBS_MSG_POOL, sizeof(pool), 0 } };

	for (int i = 0; i < 65; i++)
		bt_send(c.fd, &pool, sizeof(pool), &mem, 1);
	bt_expect_closed(c.fd);
	bt_bye(&c);
	bt_until_procs(&good, 1);
	must(bt_nr_fds(broker) == fds, "%u descriptors, before %u: a leak", bt_nr_fds(broker), fds);
	must(bt_end(broker, SIGINT) == 0, "end by SIGINT");
	puts("broker_hostile: passed");
	return 0;
}
