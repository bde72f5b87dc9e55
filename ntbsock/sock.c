// SPDX-License-Identifier: BSD-2-Clause
/*
 * sock.c - the object: create, get, put, death
 *
 * A chunk is a memfd with CHUNK entries of shared state and, beside it, private objects of the same index.  Chunks are
 * inherited by fork; an entry is taken by a compare-exchange on its @used word, so parent and child may both take
 * from one chunk.  A process that is killed leaves its entries behind; they go when the last process of the family
 * goes.
 *
 * Death.  last_close() is called before the kernel closes the last descriptor of this process.  If no other process
 * holds the description, the end of both directions is stated to the peer first: what the kernel says afterwards
 * (FIN) then has a position.  Bytes of the peer that nobody has read make it a reset, as in TCP.
 */
#include "sock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <time.h>

#include "conf.h"
#include "epoll.h"
#include "fdtab.h"
#include "holders.h"
#include "mbox.h"
#include "memfd.h"
#include "offer.h"
#include "relay.h"
#include "runtime.h"
#include "service.h"
#include "shadow.h"
#include "stats.h"
#include "sys.h"
#include "wait.h"

#define CHUNK 256u
#define CHUNKS_MAX 256u
#define ENTRY_BYTES ((sizeof(struct ntbs_sock_shm) + 127) & ~127ul)
#define FIRST_OFFSET 4096u
#define LOOKS 4u
#define ALL_TAKEN_NS 100000000ull

static struct chunk {
	struct ntbs_pool_shm *pool;
	struct ntbs_sock *sock;
	uint32_t hint;
} chunks[CHUNKS_MAX];
static _Atomic uint32_t nr_chunks;
static struct ntbs_lock pool_lock;
static _Atomic uint32_t next_serial;

static struct ntbs_sock_shm *entry(const struct chunk *c, uint32_t i)
{
	return (struct ntbs_sock_shm *)((char *)c->pool + FIRST_OFFSET + (size_t)i * ENTRY_BYTES);
}

static void *map(size_t len, int prot_flags, int fd)
{
	long p = ntbs_sys6(SYS_mmap, 0, len, PROT_READ | PROT_WRITE, prot_flags, fd, 0);

	return p < 0 && p > -4096 ? NULL : (void *)p;
}

/* pool_lock held */
static bool add_chunk(void)
{
	uint32_t n = atomic_load(&nr_chunks);
	size_t len = FIRST_OFFSET + (size_t)CHUNK * ENTRY_BYTES;
	struct chunk *c = &chunks[n];
	int fd;

	if (n == CHUNKS_MAX)
		return false;
	fd = ntbs_memfd("ntbsock-state", len);
	if (fd < 0)
		return false;
	c->pool = map(len, MAP_SHARED, fd);
	c->sock = map(CHUNK * sizeof(struct ntbs_sock), MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (!c->pool || !c->sock) {
		if (c->pool)
			ntbs_sys2(SYS_munmap, c->pool, len);
		if (c->sock)
			ntbs_sys2(SYS_munmap, c->sock, CHUNK * sizeof(struct ntbs_sock));
		ntbs_sys1(SYS_close, fd);
		return false;
	}
	for (uint32_t i = 0; i < CHUNK; i++) {	/* for good: whoever has no reference may look here at any time */
		c->sock[i].file.kind = NTBS_FILE_SOCK;
		c->sock[i].shm = entry(c, i);
	}
	ntbs_le32_write(&c->pool->abi, NTBS_STATE_ABI);
	ntbs_le32_write(&c->pool->nr_entries, CHUNK);
	ntbs_le32_write(&c->pool->entry_bytes, ENTRY_BYTES);
	ntbs_le32_write(&c->pool->first_offset, FIRST_OFFSET);
	ntbs_le32_write(&c->pool->pid, ntbs_sys0(SYS_getpid));
	if (!n)
		__atomic_store_n(&ntbs_lock_strangers, &c->pool->strangers.v, __ATOMIC_RELEASE);
	ntbs_le32_write_release(&c->pool->magic, NTBS_POOL_MAGIC);
	ntbs_runtime_add_pool(fd);	/* takes the descriptor */
	atomic_store(&nr_chunks, n + 1);
	return true;
}

static int take_entry(struct chunk *c, uint32_t serial)
{
	for (uint32_t n = 0; n < CHUNK; n++) {
		uint32_t i = (c->hint + n) % CHUNK;
		ntbs_le32 *used = &entry(c, i)->conn.used;
		uint32_t none = 0;

		if (ntbs_le32_read(used) || atomic_load(&c->sock[i].in_use))
			continue;
		if (__atomic_compare_exchange_n(&used->v, &none, serial, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
			c->hint = i + 1;
			return i;
		}
	}
	return -1;
}

/*
 * The entry is ours, but for the word that says so and for the locks: the service thread may be looking at the object
 * without a reference, and leaves it when it finds under the lock that there is nothing for it.
 */
static void clear(struct ntbs_sock_shm *shm)
{
#define ZERO(from, to) memset(&shm->from, 0, (char *)&shm->to - (char *)&shm->from)
	memset((char *)&shm->conn + sizeof(shm->conn.used), 0, sizeof(shm->conn) - sizeof(shm->conn.used));
	ZERO(flags, arm);
	ZERO(arm_count, tx);
	memset((char *)&shm->tx + sizeof(shm->tx.lock), 0, sizeof(shm->tx) - sizeof(shm->tx.lock));
	memset((char *)&shm->rx + sizeof(shm->rx.lock), 0, sizeof(shm->rx) - sizeof(shm->rx.lock));
#undef ZERO
}

/*
 * Where the last one was found, then a few chunks further, then a new chunk: a process with many sockets does not look at
 * all of them for each.  The looks go round, so that what others give back is found.  pool_lock held.
 */
static struct ntbs_sock *take_any(uint32_t serial)
{
	static uint32_t at, rotor;
	static uint64_t none_until_ns;
	uint32_t n = atomic_load(&nr_chunks), looks = n < CHUNKS_MAX ? LOOKS : n;
	int i = n ? take_entry(&chunks[at], serial) : -1;

	if (i < 0 && n == CHUNKS_MAX && ntbs_now_ns() < none_until_ns)
		return NULL;
	while (i < 0 && n && looks--) {
		at = rotor = (rotor + 1) % n;
		i = take_entry(&chunks[at], serial);
	}
	if (i < 0 && add_chunk()) {
		at = n;
		i = take_entry(&chunks[at], serial);
	}
	if (i < 0)
		none_until_ns = ntbs_now_ns() + ALL_TAKEN_NS;
	return i < 0 ? NULL : &chunks[at].sock[i];
}

struct ntbs_sock *ntbs_sock_new(int fd, uint32_t flags, enum ntbs_stage stage)
{
	uint32_t serial = atomic_fetch_add(&next_serial, 2) | 1;
	struct ntbs_sock *sk;
	struct timespec now;

	ntbs_lock(&pool_lock);
	sk = take_any(serial);
	ntbs_unlock(&pool_lock);
	if (!sk)
		return NULL;
	clear(sk->shm);
	atomic_store(&sk->in_use, true);
	atomic_store(&sk->attached, 0);
	atomic_store(&sk->watched, 0);
	atomic_store(&sk->awaits, 0);
	atomic_store(&sk->slept_on, 0);
	memset(&sk->q, 0, sizeof(sk->q));
	memset(&sk->tx, 0, sizeof(sk->tx));
	memset(&sk->rx, 0, sizeof(sk->rx));
	sk->chan = NULL;
	sk->board = NULL;
	sk->last = false;
	sk->counted_out = sk->resets_at_exec = sk->exits = false;
	atomic_store(&sk->calls, 0);
	atomic_store(&sk->kept, NTBS_KEPT_NONE);
	sk->moves = 0;
	sk->before = NULL;
	atomic_store(&sk->after, NULL);
	sk->fd = fd;
	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	sk->shm->conn.since_s = now.tv_sec;
	ntbs_le32_write(&sk->shm->conn.pid, ntbs_sys0(SYS_getpid));
	sk->shm->flags = flags;
	sk->shm->rcvlowat = 1;
	ntbs_holders_count_in(sk);
	ntbs_sock_set_stage(sk, stage, NTBS_WHY_NOT_USED);
	sk->serial = serial;
	atomic_store(&sk->file.refs, 1);	/* of the descriptors together */
	return sk;
}

struct ntbs_sock *ntbs_sock_by_index(uint32_t index)
{
	return index / CHUNK < atomic_load(&nr_chunks) ? &chunks[index / CHUNK].sock[index % CHUNK] : NULL;
}

uint32_t ntbs_sock_index(const struct ntbs_sock *sk)
{
	for (uint32_t c = atomic_load(&nr_chunks); c-- > 0;)
		if (sk >= chunks[c].sock && sk < chunks[c].sock + CHUNK)
			return c * CHUNK + (sk - chunks[c].sock);
	return UINT32_MAX;
}

void ntbs_sock_for_each(void (*fn)(struct ntbs_sock *sk, void *arg), void *arg)
{
	uint32_t n = atomic_load(&nr_chunks);

	for (uint32_t c = 0; c < n; c++)
		for (uint32_t i = 0; i < CHUNK; i++)
			if (atomic_load(&chunks[c].sock[i].file.refs) > 0)
				fn(&chunks[c].sock[i], arg);
}

void ntbs_sock_set_stage(struct ntbs_sock *sk, enum ntbs_stage stage, enum ntbs_reason why)
{
	ntbs_write_once(sk->shm->conn.reason, why);
	ntbs_write_once(sk->shm->conn.stage, stage);
	atomic_store_explicit(&sk->shm->stage, stage, memory_order_release);
}

void ntbs_sock_plain(struct ntbs_sock *sk, enum ntbs_reason why)
{
	enum ntbs_stage stage = ntbs_sock_stage(sk);

	if (stage == NTBS_LIVE || stage == NTBS_PLAIN)
		return;
	ntbs_sock_set_stage(sk, NTBS_PLAIN, why);
	ntbs_offer_let_go(sk);
}

/* States the end of both directions; the kernel's FIN or RST comes after it.  Is it a reset? */
static bool state_end(struct ntbs_sock *sk, int fd)
{
	bool unread = false, reset = ntbs_sock_flags(sk) & (NTBS_SK_LINGER0 | NTBS_SK_RESET);
	bool full = (ntbs_sock_flags(sk) & NTBS_SK_SHUT_WR) && sk->shm->tx.state == NTBS_DIR_RING && ntbs_msgq_full(&sk->q);
	int on_tcp = 0;
	ssize_t left;

	ntbs_sock_lock_tx(sk);
	ntbs_sock_lock_rx(sk);
	if (ntbs_le64_read_acquire(&sk->q.in->q))	/* what TCP has brought twice is not unread */
		ntbs_stream_rx_look(sk, fd);
	if (sk->shm->rx.state == NTBS_DIR_RING) {
		left = ntbs_msgq_avail(&sk->q);
		unread = left > 0;
	} else if (sk->shm->rx.state == NTBS_DIR_TCP) {
		/* a switch that nobody has looked at yet, with bytes behind it */
		uint64_t w;

		if (ntbs_msgq_peek_switch(&sk->q, &w) == 1) {
			ntbs_msgq_pass_switch(&sk->q);
			unread = ntbs_msgq_avail(&sk->q) > 0;
		}
	}
	ntbs_stream_state_final(sk);
	/*
	 * With bytes on TCP unread the kernel resets by itself, if nobody else has the socket (one that was passed on): then the
	 * peer must not take our end for a FIN.
	 */
	ntbs_shadow_inq(fd, &on_tcp);
	if (!on_tcp && (sk->shm->rx.state != NTBS_DIR_RING || ntbs_le64_read(&sk->q.in->q)))
		ntbs_shadow_unread(fd, &on_tcp);	/* an urgent byte that is next counts */
	reset |= unread;
	ntbs_sock_state_rstate(sk, !reset && on_tcp <= 0 ? NTBS_R_CLOSED : full ? NTBS_R_ABORT : NTBS_R_RESET);
	ntbs_unlock(&sk->shm->rx.lock);
	ntbs_unlock(&sk->shm->tx.lock);
	ntbs_mbox_poke(sk);
	if (reset) {
		const struct linger now = { 1, 0 };

		ntbs_sys5(SYS_setsockopt, fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	}
	return reset || on_tcp > 0;
}

/* What went by on plain TCP nobody has counted: the kernel has. */
static void count_plain(struct ntbs_sock *sk, int fd)
{
	if (sk->shm->conn.tuple.rport)
		ntbs_shadow_count(fd, ntbs_sock_flags(sk) & NTBS_SK_CONNECTED, &sk->tx.tcp_bytes, &sk->rx.tcp_bytes);
}

/*
 * The ring holds more than the kernel's buffer would: the peer's FIN would not have come, and the kernel calls the end of such a
 * connection a reset (tcp_disconnect(), tcp_need_reset()).
 */
static bool fin_would_wait(struct ntbs_sock *sk, int fd)
{
	int room = 0;
	socklen_t len = sizeof(room);

	return sk->shm->rx.state == NTBS_DIR_RING && (ntbs_shadow_poll(fd, 0) & (POLLHUP | POLLERR)) == POLLHUP &&
	       !ntbs_sys5(SYS_getsockopt, fd, SOL_SOCKET, SO_RCVBUF, &room, &len) && ntbs_msgq_avail(&sk->q) > room;
}

void ntbs_sock_dissolve(struct ntbs_sock *sk)
{
	atomic_fetch_add(&sk->shm->dissolved, 1);
	if (ntbs_sock_stage(sk) == NTBS_OFFER)
		ntbs_offer_withdraw(sk, NTBS_WHY_OPTION);
	if (ntbs_sock_stage(sk) != NTBS_LIVE || !ntbs_sock_attach(sk))
		return;
	ntbs_sock_lock_tx(sk);
	ntbs_sock_lock_rx(sk);
	if (fin_would_wait(sk, sk->fd))
		atomic_store(&sk->shm->owed, ECONNRESET);
	ntbs_sock_state_rstate(sk, NTBS_R_RESET);
	ntbs_sock_set_stage(sk, NTBS_PLAIN, NTBS_WHY_OPTION);
	ntbs_unlock(&sk->shm->rx.lock);
	ntbs_unlock(&sk->shm->tx.lock);
	ntbs_mbox_poke(sk);
	ntbs_mbox_wake_own(sk);
}

/*
 * No descriptor is left here, and @fd is about to be the kernel's to give away.  The service thread may be sending on that number:
 * it is let out, and looks at the count before it sends again.
 */
static void let_service_out(struct ntbs_sock *sk)
{
	if (ntbs_sock_stage(sk) != NTBS_LIVE)
		return;
	ntbs_sock_lock_tx(sk);
	ntbs_unlock(&sk->shm->tx.lock);
}

void ntbs_sock_last_close(struct ntbs_sock *sk, int fd)
{
	bool last, others, rest, reset = false;

	let_service_out(sk);
	if (ntbs_sock_ends_ours(sk))
		ntbs_holders_bury(sk);
	last = !ntbs_holders_count_out(sk, false);
	others = !last || (ntbs_sock_flags(sk) & NTBS_SK_PASSED);
	rest = !others && ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_read_once(sk->shm->tx.replay);
	sk->last = last;
	ntbs_epoll_sock_closed(sk, fd, others, rest);
	if (atomic_load(&sk->watched) || sk->before)
		ntbs_service_unwatch(sk, fd);
	if (!last) {
		ntbs_offer_left_to_others(sk);
		return;
	}
	if (ntbs_sock_stage(sk) == NTBS_OFFER)
		ntbs_offer_withdraw(sk, NTBS_WHY_NOT_USED);
	if (ntbs_sock_ends_ours(sk) && !(ntbs_sock_flags(sk) & NTBS_SK_PASSED) && ntbs_sock_attach(sk))
		reset = state_end(sk, fd);
	if (__builtin_expect(rest, 0) && !reset && ntbs_sock_attach(sk))
		ntbs_relay_rest(sk, fd);
	if (ntbs_sock_stage(sk) != NTBS_LIVE && ntbs_conf.stats[0])
		count_plain(sk, fd);
}

void ntbs_sock_get(struct ntbs_sock *sk)
{
	atomic_fetch_add(&sk->file.refs, 1);
}

bool ntbs_sock_try_get(struct ntbs_sock *sk)
{
	int32_t refs = atomic_load(&sk->file.refs);

	while (refs > 0)
		if (atomic_compare_exchange_weak(&sk->file.refs, &refs, refs + 1))
			return true;
	return false;
}

void ntbs_sock_put(struct ntbs_sock *sk)
{
	if (atomic_fetch_sub(&sk->file.refs, 1) == 1)
		ntbs_sock_free(sk);
}

bool ntbs_sock_goes(struct ntbs_sock_shm *shm, uint32_t used)
{
	return __atomic_compare_exchange_n(&shm->conn.used.v, &used, NTBS_ENTRY_GOING, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* No descriptor and no sleeper left in this process. */
void ntbs_sock_free(struct ntbs_sock *sk)
{
	struct ntbs_sock *before = sk->before;
	struct ntbs_sock_shm *shm = sk->shm;
	const uint32_t used = sk->serial;

	/* whoever looked it up without a reference is let out first: he finds another serial under the lock */
	ntbs_lock(&shm->ctl);
	ntbs_sock_lock_tx(sk);
	ntbs_sock_lock_rx(sk);
	ntbs_stats_account(sk);
	sk->serial = 0;
	if (sk->held && sk->held->next)
		ntbs_sys3(SYS_madvise, sk->held, sizeof(*sk->held), MADV_DONTNEED);
	ntbs_unlock(&shm->rx.lock);
	ntbs_unlock(&shm->tx.lock);
	ntbs_unlock(&shm->ctl);
	if (atomic_load(&shm->holders) <= 0 && ntbs_sock_goes(shm, used)) {
		if (sk->chan || shm->chan)
			ntbs_chan_release(sk);
		ntbs_le32_write_release(&shm->conn.used, 0);
	} else {
		sk->chan = NULL;	/* another process lets go of the lease */
	}
	atomic_store(&sk->in_use, false);
	if (before)
		ntbs_sock_put(before);
}

static void before_fork(struct ntbs_sock *sk, void *arg)
{
	if (sk->file.fds <= 0)
		return;
	/* Counted before the child exists, so that it cannot end first.  If fork fails the count stays too high: the end
	 * is then told by the kernel's FIN alone, as after a kill.  And before the look at a claim: none begins any more. */
	ntbs_write_once(sk->shm->conn.holders, atomic_fetch_add(&sk->shm->holders, 1) + 1);
	ntbs_offer_before_fork(sk);
}

void ntbs_sock_pool_lock(void)
{
	ntbs_lock(&pool_lock);
}

void ntbs_sock_pool_unlock(void)
{
	ntbs_unlock(&pool_lock);
}

void ntbs_sock_fork_prepare(void)
{
	ntbs_lock(&pool_lock);
	ntbs_holders_take_back();
	ntbs_sock_for_each(before_fork, NULL);
}

void ntbs_sock_fork_parent(void)
{
	ntbs_unlock(&pool_lock);
}

static void in_child(struct ntbs_sock *sk, void *arg)
{
	/* sleepers were other threads: they do not exist here */
	if (sk->file.fds > 0) {
		atomic_store(&sk->file.refs, 1);
		ntbs_holders_sign(sk);	/* our parent has counted us */
	} else {
		atomic_store(&sk->file.refs, 0);
		atomic_store(&sk->in_use, false);
		if (atomic_load(&sk->after))	/* our parent's alone: nobody here looks at its memory */
			sk->chan = NULL;
	}
	sk->before = NULL;
	atomic_store(&sk->watched, 0);
	memset(&sk->tx, 0, sizeof(sk->tx));
	memset(&sk->rx, 0, sizeof(sk->rx));
}

void ntbs_sock_fork_child(void)
{
	if (!ntbs_sys0(SYS_getppid))		/* our parent is in another PID namespace, and may know us by another number */
		ntbs_write_once(*ntbs_lock_strangers, 1);
	ntbs_lock_reset(&pool_lock);
	ntbs_holders_fork_child();
	ntbs_sock_for_each(in_child, NULL);
}
