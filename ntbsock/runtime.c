// SPDX-License-Identifier: BSD-2-Clause
/*
 * runtime.c - see runtime.h: bring-up, rules, peers and channels
 *
 * What arrives from the broker is handled in bclient.c.
 */
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <urcu-bp.h>

#include "bclient.h"
#include "conf.h"
#include "epoll.h"
#include "far.h"
#include "fdtab.h"
#include "log.h"
#include "memfd.h"
#include "offer.h"
#include "service.h"
#include "sys.h"

#define ADDRESSES_LEFT (32ull << 30)	/* to a program with a limit: more than it will ask for, beside some channels */

struct ntbs_runtime ntbs_rt = { .broker = -1, .service_bell = -1 };
static struct ntbs_lock up_lock;	/* one thread tries, the others wait for what comes of it; outside of the runtime's lock */
static _Atomic int64_t last_try_s;
static int chan_nr;

#define FAR_LEASES 4u		/* of the first channel with a process of another host; each further one has twice as many */
#define POOLS_MAX 64
static int pools[POOLS_MAX];		/* memfds not yet shown to the broker, or to be shown to the next */
static int nr_pools;

void ntbs_runtime_init(void)
{
	CDS_INIT_LIST_HEAD(&ntbs_rt.peers);
	CDS_INIT_LIST_HEAD(&ntbs_rt.chans);
	CDS_INIT_LIST_HEAD(&ntbs_rt.boards);
	for (int i = 0; i < NTBS_MBOXES; i++)
		ntbs_rt.mbox[i] = -1;
	ntbs_port_attach(&ntbs_rt.port, NULL, NTBS_MEM_CACHED);
}

/* pool_lock of sock.c is held, so there is no race; the descriptor is kept for the next broker. */
void ntbs_runtime_add_pool(int fd)
{
	struct ntbs_msg_plain msg = { { NTBS_MSG_POOL, sizeof(msg), 0 } };

	if (nr_pools == POOLS_MAX) {
		ntbs_sys1(SYS_close, fd);
		return;
	}
	fd = ntbs_fd_hide(fd);
	if (fd < 0)
		return;
	pools[nr_pools++] = fd;
	if (ntbs_rt.broker >= 0)
		ntbs_broker_send(&msg, sizeof(msg), &fd, 1);
}

static int new_bell(void)
{
	long fd = ntbs_sys2(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);

	return fd < 0 ? fd : ntbs_fd_hide(fd);
}

static uint64_t addresses_taken(void)
{
	long fd = ntbs_sys4(SYS_openat, AT_FDCWD, "/proc/self/statm", O_RDONLY | O_CLOEXEC, 0), n;
	char text[32] = "";

	if (fd < 0)
		return UINT64_MAX;
	n = ntbs_sys3(SYS_read, fd, text, sizeof(text) - 1);
	ntbs_sys1(SYS_close, fd);
	return n > 0 ? strtoull(text, NULL, 10) * sysconf(_SC_PAGESIZE) : UINT64_MAX;
}

bool ntbs_runtime_limited(void)
{
	static _Atomic bool said;
	struct rlimit lim;
	uint64_t taken;

	ntbs_rt.limited = false;
	if (ntbs_sys4(SYS_prlimit64, 0, RLIMIT_AS, NULL, &lim) == 0 && lim.rlim_cur != RLIM_INFINITY) {
		taken = addresses_taken();
		ntbs_rt.limited = taken > lim.rlim_cur || lim.rlim_cur - taken < ADDRESSES_LEFT;
	}
	if (!ntbs_rt.limited)
		return false;
	if (!atomic_exchange(&said, true))
		ntbs_log(NTBS_LOG_WARN, "the address space is limited (RLIMIT_AS, ulimit -v); it is left to the program, and new connections "
			 "stay on TCP");
	return true;
}

static bool bring_up(void)
{
	struct ntbs_msg_plain pool = { { NTBS_MSG_POOL, sizeof(pool), 0 } };

	if (ntbs_runtime_limited())
		return false;
	if (ntbs_rt.mbox[0] < 0)
		ntbs_rt.mbox[0] = new_bell();
	if (ntbs_rt.service_bell < 0)
		ntbs_rt.service_bell = new_bell();
	if (ntbs_rt.mbox[0] < 0 || ntbs_rt.service_bell < 0)
		return false;
	if (!ntbs_bclient_connect())
		return false;
	ntbs_sig_catch_faults();
	for (int i = 0; i < nr_pools; i++)
		ntbs_broker_send(&pool, sizeof(pool), &pools[i], 1);
	return true;
}

bool ntbs_runtime_ready(void)
{
	struct timespec now;
	bool up;

	if (ntbs_rt.broker >= 0)
		return true;
	if (ntbs_conf.disable)
		return false;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (now.tv_sec == last_try_s && last_try_s)
		return false;
	ntbs_lock(&up_lock);
	up = ntbs_rt.broker >= 0;
	if (!up && now.tv_sec != last_try_s) {
		up = bring_up();
		last_try_s = up ? 0 : now.tv_sec;
	}
	ntbs_unlock(&up_lock);
	return up;
}

void ntbs_broker_leave(void)
{
	int fd;

	ntbs_lock(&ntbs_rt.lock);
	ntbs_conf.disable = true;
	fd = ntbs_rt.broker;
	__atomic_store_n(&ntbs_rt.broker, -1, __ATOMIC_RELEASE);
	ntbs_fd_unhide_close(fd);
	ntbs_unlock(&ntbs_rt.lock);
}

static void inherit(void)
{
	struct ntbs_chan *c;

	cds_list_for_each_entry(c, &ntbs_rt.chans, node) {
		c->inherited = true;
		memset(c->owed, 0, sizeof(c->owed));	/* our parent lets them go, once */
		ntbs_lock_reset(&c->owed_lock);
	}
}

static void needs_family(struct ntbs_sock *sk, void *arg)
{
	bool *needs = arg;

	*needs |= sk->file.fds > 0 && (ntbs_sock_stage(sk) == NTBS_LIVE || sk->shm->claim_asked);
}

/*
 * The peers of inherited sockets ring the eventfds of the family: they wake every holder, and each looks at memory.  A
 * child that has none of those (of a server that forks for each connection, before anybody has claimed it) gets its
 * own, so that it is not woken for its brothers.
 */
static void own_bells(void)
{
	bool needs = false;

	ntbs_sock_for_each(needs_family, &needs);
	if (needs || ntbs_rt.mbox[0] < 0)
		return;
	ntbs_fd_unhide_close(ntbs_rt.mbox[0]);
	ntbs_fd_unhide_close(ntbs_rt.service_bell);
	ntbs_rt.mbox[0] = new_bell();
	ntbs_rt.service_bell = new_bell();
	ntbs_epoll_new_mbox();
}

/* What a child may use is given back only when all of us are gone. */
void ntbs_runtime_fork_prepare(void)
{
	struct ntbs_chan *c;

	ntbs_lock(&up_lock);
	ntbs_lock(&ntbs_rt.lock);
	cds_list_for_each_entry(c, &ntbs_rt.chans, node)
		c->forked = true;
}

void ntbs_runtime_fork_parent(void)
{
	ntbs_unlock(&ntbs_rt.lock);
	ntbs_unlock(&up_lock);
}

/* Channels go on to serve the inherited sockets.  The broker's connection is the parent's. */
void ntbs_runtime_fork_child(void)
{
	ntbs_lock_reset(&ntbs_rt.lock);
	ntbs_lock_reset(&up_lock);
	if (ntbs_rt.broker >= 0)
		ntbs_fd_unhide_close(ntbs_rt.broker);
	ntbs_rt.broker = -1;
	ntbs_rt.proc = 0;
	ntbs_rt.session++;
	last_try_s = 0;
	ntbs_far_fork_child();
	ntbs_bell_fork_child();
	own_bells();
	inherit();
}

/* ------------------------------------------------------------------ rules */

static bool loopback(const uint8_t *a)
{
	static const uint8_t v6[16] = { [15] = 1 };

	return !memcmp(a, v6, 16) || (a[10] == 0xff && a[11] == 0xff && a[12] == 127);
}

static bool prefix_match(const uint8_t *a, const uint8_t *b, uint32_t bits)
{
	if (bits > 128)
		return false;
	if (memcmp(a, b, bits / 8))
		return false;
	return !(bits % 8) || !((a[bits / 8] ^ b[bits / 8]) >> (8 - bits % 8));
}

static bool port_allowed(const struct ntbs_rules_shm *r, uint16_t port)
{
	uint32_t n = r->nr_ports < NTBS_RULES_PORTS ? r->nr_ports : NTBS_RULES_PORTS;

	for (uint32_t i = 0; i < n; i++) {
		const struct ntbs_rule_port *p = &r->port[i];

		if (port >= p->first && port <= p->last &&
		    (!p->program[0] || !strncmp(p->program, ntbs_conf.program, sizeof(p->program))))
			return p->allow;
	}
	return true;
}

enum ntbs_reason ntbs_rules_check(const struct ntbs_tuple *t, bool accepted, uint32_t *remote_node)
{
	const struct ntbs_rules_shm *r = ntbs_rt.rules;
	enum ntbs_reason why;
	uint32_t version;

	do {
		version = ntbs_le32_read_acquire(&r->version);
		why = NTBS_WHY_NODE;
		*remote_node = 0;
		if (loopback(t->raddr) || !memcmp(t->laddr, t->raddr, 16)) {
			why = NTBS_WHY_NONE;
		} else {
			uint32_t n = r->nr_nodes < NTBS_RULES_NODES ? r->nr_nodes : NTBS_RULES_NODES;

			for (uint32_t i = 0; i < n && why != NTBS_WHY_NONE; i++)
				if (prefix_match(t->raddr, r->node[i].addr, r->node[i].prefix)) {
					*remote_node = r->node[i].node;
					why = NTBS_WHY_NONE;
				}
		}
		if (why == NTBS_WHY_NONE && !port_allowed(r, accepted ? t->lport : t->rport))
			why = NTBS_WHY_RULE;
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while ((version & 1) || version != ntbs_le32_read(&r->version));
	if (*remote_node == ntbs_rt.node)
		*remote_node = 0;	/* this host */
	return why;
}

/* --------------------------------------------------------------- channels */

/* Runtime's lock held. */
static struct ntbs_chan *find(uint64_t id, uint32_t session)
{
	struct ntbs_chan *c;

	cds_list_for_each_entry(c, &ntbs_rt.chans, node)
		if (c->id == id && c->session == session && !c->acceptor && !ntbs_chan_down(c))
			return c;
	return NULL;
}

bool ntbs_chan_down(const struct ntbs_chan *c)
{
	return c && c->far && c->far->down;
}

bool ntbs_chan_known(uint64_t id, uint32_t session)
{
	bool known;

	ntbs_lock(&ntbs_rt.lock);
	known = find(id, session) != NULL;
	ntbs_unlock(&ntbs_rt.lock);
	return known;
}

struct ntbs_chan *ntbs_chan_hold(struct ntbs_sock *sk, uint64_t id)
{
	struct ntbs_chan *c;

	ntbs_lock(&ntbs_rt.lock);	/* against the end of the peer, which looks for who uses the channel */
	c = find(id, sk->board->session);
	sk->chan = c;
	ntbs_unlock(&ntbs_rt.lock);
	return c;
}

void ntbs_peer_ring_service(struct ntbs_chan *c)
{
	struct ntbs_peer *p = c ? c->peer : NULL;

	if (p && c->is_far)
		ntbs_far_ring(c, true);
	else if (p)
		ntbs_port_ring(&ntbs_rt.port, p->service_bell);
}

void ntbs_peer_ring(struct ntbs_chan *c, unsigned mbox)
{
	struct ntbs_peer *p = c ? c->peer : NULL;	/* none: the socket was closed behind who rings for it */
	int bell;

	if (!p || mbox >= NTBS_MBOXES)
		return;
	if (c->is_far) {
		ntbs_far_ring(c, false);
		return;
	}
	bell = p->bell[mbox];
	if (bell < 0)
		bell = p->bell[0];
	if (bell >= 0)
		ntbs_port_ring(&ntbs_rt.port, bell);
}

static int take_lease(struct ntbs_chan *c)
{
	int found = -1;

	ntbs_lock(&c->leases->lock);
	for (uint32_t i = 0; i < c->nr_leases && found < 0; i++) {
		if (c->leases->lease[i].busy == 2 &&
		    ntbs_le32_read_acquire(&c->released[i]) == c->leases->lease[i].generation && (!c->is_far || ntbs_far_copied(c, i)))
			c->leases->lease[i].busy = 0;
		if (!c->leases->lease[i].busy) {
			c->leases->lease[i].busy = 1;
			c->leases->lease[i].generation++;
			found = i;
		}
	}
	ntbs_unlock(&c->leases->lock);
	return found;
}

/* Runtime's lock held. */
static struct ntbs_chan *chan_make(uint32_t peer_proc)
{
	struct ntbs_msg_chan msg = { .h = { NTBS_MSG_CHAN_OPEN, sizeof(msg), 0 }, .proc = peer_proc };
	struct ntbs_chan *c;
	long mem;
	int fd;

	if (ntbs_runtime_limited())
		return NULL;
	mem = ntbs_sys6(SYS_mmap, 0, sizeof(*c), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem < 0 && mem > -4096)
		return NULL;
	c = (struct ntbs_chan *)mem;
	c->session = ntbs_rt.session;
	c->acceptor = true;
	c->peer_proc = peer_proc;
	c->geo.nr_slots = ntbs_conf.ring;
	c->geo.bulk_bytes = ntbs_conf.bulk;
	c->geo.bulk_offset = (sizeof(struct ntbs_inbox_shm) + ntbs_conf.ring * sizeof(struct ntbs_slot_shm) + 4095) & ~4095u;
	c->nr_leases = NTBS_LEASES_MAX;
	c->inbox_bytes = ntbs_msgq_inbox_bytes(&c->geo);
	c->bytes = NTBS_CHAN_HDR + (size_t)c->nr_leases * 2 * c->inbox_bytes;
	c->id = NTBS_CHAN_ID(ntbs_rt.proc, ++chan_nr);
	fd = ntbs_memfd("ntbsock-channel", c->bytes);
	if (fd < 0)
		goto err_free;
	c->shm = ntbs_map_sparse(fd, 0, c->bytes, PROT_READ | PROT_WRITE);
	if (!c->shm)
		goto err_close;
	c->released = c->shm->released;
	mem = ntbs_sys6(SYS_mmap, 0, sizeof(*c->leases), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (mem < 0 && mem > -4096)
		goto err_unmap;
	c->leases = (struct ntbs_leases_shm *)mem;
	for (uint32_t i = 0; i < c->nr_leases; i++)
		/* fresh memory is zero: no slot may expect stamp 0 first */
		c->leases->lease[i].next_in = c->leases->lease[i].next_out = c->geo.nr_slots;
	ntbs_le32_write(&c->shm->abi, NTBS_INBOX_ABI);
	ntbs_le32_write(&c->shm->nr_leases, c->nr_leases);
	ntbs_le32_write(&c->shm->nr_slots, c->geo.nr_slots);
	ntbs_le32_write(&c->shm->bulk_bytes, c->geo.bulk_bytes);
	ntbs_le32_write(&c->shm->bulk_offset, c->geo.bulk_offset);
	ntbs_le32_write(&c->shm->inbox_bytes, c->inbox_bytes);
	ntbs_le32_write_release(&c->shm->magic, NTBS_CHAN_MAGIC);
	msg.chan = c->id;
	if (!ntbs_bclient_send(&msg, sizeof(msg), &fd, 1))
		goto err_leases;
	ntbs_sys1(SYS_close, fd);
	ntbs_list_publish(&c->node, &ntbs_rt.chans);
	return c;

err_leases:
	ntbs_unmap(c->leases, sizeof(*c->leases));
err_unmap:
	ntbs_unmap(c->shm, c->bytes);
err_close:
	ntbs_sys1(SYS_close, fd);
err_free:
	ntbs_unmap(c, sizeof(*c));
	return NULL;
}

static bool is_behind_port(uint32_t proc)
{
	return ntbs_rt.port_kind == 2 || (ntbs_rt.port_kind && NTBS_PROC_NODE(proc) != ntbs_rt.node);
}

static bool has_leases(const struct ntbs_chan *c)
{
	return !c->is_far || (c->far_state == NTBS_FAR_OPEN && !ntbs_chan_down(c));
}

/* Few leases for who has few connections: memory behind a port is not sparse.  Runtime's lock held. */
static struct ntbs_chan *ask_far(uint32_t peer_proc, int *lease)
{
	uint32_t leases = FAR_LEASES;
	struct ntbs_chan *c;

	*lease = -EAGAIN;
	cds_list_for_each_entry(c, &ntbs_rt.chans, node) {
		if (!c->acceptor || c->session != ntbs_rt.session || c->peer_proc != peer_proc || (c->far && c->far->down))
			continue;
		if (c->far_state == NTBS_FAR_ASKED)
			return NULL;
		if (c->far_state == NTBS_FAR_FAILED) {
			*lease = -1;
			return NULL;
		}
		if (leases < 2 * c->nr_leases)
			leases = 2 * c->nr_leases;
	}
	if (leases > NTBS_LEASES_MAX)
		leases = NTBS_LEASES_MAX;
	if (!ntbs_far_chan_ask(peer_proc, NTBS_CHAN_ID(ntbs_rt.proc, ++chan_nr), leases))
		*lease = -1;
	return NULL;
}

struct ntbs_chan *ntbs_chan_for(uint32_t peer_proc, uint32_t session, int *lease)
{
	struct ntbs_chan *c, *got = NULL;

	*lease = -1;
	ntbs_lock(&ntbs_rt.lock);
	if (session != ntbs_rt.session)
		goto out;
	cds_list_for_each_entry(c, &ntbs_rt.chans, node)
		if (c->acceptor && c->session == session && c->peer_proc == peer_proc && !(c->peer && c->peer->gone) && has_leases(c)) {
			*lease = take_lease(c);
			if (*lease >= 0) {
				got = c;
				break;
			}
		}
	if (!got && ntbs_rt.broker >= 0 && ntbs_service_start() && is_behind_port(peer_proc)) {
		got = ask_far(peer_proc, lease);
	} else if (!got && ntbs_rt.broker >= 0 && ntbs_service_start()) {
		got = chan_make(peer_proc);
		*lease = got ? take_lease(got) : -1;
	}
out:
	ntbs_unlock(&ntbs_rt.lock);
	return got;
}

bool ntbs_chan_drop(struct ntbs_chan *c)
{
	bool busy = ntbs_chan_in_use(c);

	if (c->acceptor && !c->inherited) {
		ntbs_lock(&c->leases->lock);
		for (uint32_t i = 0; i < c->nr_leases; i++)
			busy |= c->leases->lease[i].busy == 1;
		ntbs_unlock(&c->leases->lock);
	}
	if (busy)
		return false;
	ntbs_list_unlink(&c->node);	/* readers hold the lock that we hold */
	if (c->peer)
		c->peer->chans--;
	if (c->leases)
		ntbs_unmap(c->leases, sizeof(*c->leases));
	if (c->is_far)
		ntbs_far_chan_drop(c);
	else
		ntbs_unmap(c->shm, c->bytes);
	ntbs_unmap(c, sizeof(*c));
	return true;
}

void ntbs_chan_unlease(struct ntbs_chan *c, uint32_t lease)
{
	ntbs_lock(&c->leases->lock);
	c->leases->lease[lease].busy = 0;
	ntbs_unlock(&c->leases->lock);
}

/* Of an acceptor.  @shm: in which the lease was used. */
static void give_back(struct ntbs_chan *c, const struct ntbs_sock_shm *shm)
{
	__typeof__(&c->leases->lease[0]) l = &c->leases->lease[shm->lease];

	ntbs_lock(&c->leases->lock);
	if (l->generation != shm->generation || l->busy != 1)	/* not ours any more */
		goto out;
	/*
	 * The next generation goes on where this one ends, so that every slot is written once a lap: a slot left out
	 * for 2^16 messages would show an old stamp as a new one.
	 */
	l->next_out = shm->tx.mq.tail;
	l->next_in = shm->rx.mq.head;
	l->engine_slots = shm->tx.mq.engine_slots;
	l->busy = 2;
out:
	ntbs_unlock(&c->leases->lock);
}

void ntbs_chan_take_back(const struct ntbs_sock_shm *shm)
{
	struct ntbs_chan *c;

	ntbs_lock(&ntbs_rt.lock);
	cds_list_for_each_entry(c, &ntbs_rt.chans, node)
		if (c->id != shm->chan || c->acceptor != !!shm->conn.accepted || c->inherited || shm->lease >= c->nr_leases)
			continue;
		else if (!c->acceptor && !c->is_far)
			ntbs_window_store32(&ntbs_rt.port, &c->released[shm->lease], shm->generation);
		else if (c->acceptor)
			give_back(c, shm);
	ntbs_unlock(&ntbs_rt.lock);
}

void ntbs_chan_let_lease_go(struct ntbs_sock *sk)
{
	struct ntbs_chan *c = sk->chan;
	uint32_t lease = sk->shm->lease;

	if (!c)
		return;
	if (c->acceptor) {
		give_back(c, sk->shm);
	} else if (c->is_far) {
		ntbs_far_release(sk, c);
	} else {
		ntbs_window_store32(sk->q.port, &c->released[lease], sk->shm->generation);
	}
}

void ntbs_chan_release(struct ntbs_sock *sk)
{
	ntbs_chan_let_lease_go(sk);
	sk->chan = NULL;
}
