// SPDX-License-Identifier: BSD-2-Clause
/* far.c - see far.h */
#include "far.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "bclient.h"
#include "conf.h"
#include "crc32c.h"
#include "fdtab.h"
#include "log.h"
#include "memfd.h"
#include "service.h"
#include "sys.h"
#include "wait.h"

#define ANSWER_NS 2000000000ull
#define PAGE 4096ull

static _Atomic int life = -1;		/* our part of it, or the one of the process that forked us */
static bool life_inherited;
static struct ntbs_far *sessions;	/* newest first; only ever added to, under the runtime's lock */

static void *map(size_t len, int prot, int flags, int fd, uint64_t offset)
{
	long mem = ntbs_sys6(SYS_mmap, 0, len, prot, flags, fd, offset);

	return mem < 0 && mem > -4096 ? NULL : (void *)mem;
}

/* A device's memory does not shrink under us, and has no seals. */
static bool whole(uint32_t mem, int fd, uint64_t offset, uint64_t bytes)
{
	return !(offset % PAGE) && offset <= INT64_MAX - bytes && (mem != NTBS_MEM_CACHED || ntbs_memfd_bytes(fd) >= (int64_t)(offset + bytes));
}

/* Memory of this host, as emulated hosts share it, is a memfd. */
static void *map_part(uint32_t mem, int fd, uint64_t offset, size_t bytes, int prot)
{
	void *p = mem == NTBS_MEM_CACHED ? ntbs_map_sparse(fd, offset, bytes, prot) :
					   map(bytes, prot, MAP_SHARED | MAP_NORESERVE, fd, offset);

	if (p)
		ntbs_sys3(SYS_madvise, p, bytes, MADV_DONTDUMP);
	return p;
}

/* By its number, which whoever rings for an old session may have read already. */
static int keep_bell(int *fds)
{
	int fd = sessions ? sessions->window.bell_fd : -1;

	if (fd >= 0 && ntbs_sys3(SYS_dup3, fds[2], fd, O_CLOEXEC) >= 0)
		return fd;
	fd = ntbs_fd_hide(fds[2]);
	fds[2] = -1;
	return fd;
}

/* A register is mapped with its page, and its descriptor not kept. */
static bool take_bell(struct ntbs_window *w, const struct ntbs_msg_port *m, int *fds)
{
	uint32_t bytes = m->bell == NTBS_BELL_REGISTER16 ? 2 : 4;
	char *page;

	w->bell = m->bell;
	if (m->bell == NTBS_BELL_EVENTFD) {
		w->bell_fd = keep_bell(fds);
		return true;
	}
	if ((m->bell != NTBS_BELL_REGISTER && m->bell != NTBS_BELL_REGISTER16) || m->bell_offset % bytes)
		return false;
	page = map(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fds[2], m->bell_offset / PAGE * PAGE);
	if (!page)
		return false;
	ntbs_sys3(SYS_madvise, page, PAGE, MADV_DONTDUMP);
	w->bell_reg = page + m->bell_offset % PAGE;
	w->bell_value = m->bell_value;
	return true;
}

static struct ntbs_far *session(uint32_t nr)
{
	struct ntbs_far *f;

	for (f = sessions; f && f->session != nr; f = f->next)
		;
	return f;
}

/* One that we have inherited stays: we may be using what the broker has leased to who forked us. */
static void keep_life(int *fds)
{
	int old = life_inherited ? -1 : life;

	life = ntbs_fd_hide(fds[3]);
	fds[3] = -1;
	life_inherited = false;
	ntbs_service_watch_life(old);
	ntbs_fd_unhide_close(old);	/* after: the broker hears of an end when there is none left */
}

void ntbs_far_fork_child(void)
{
	life_inherited = true;
}

void ntbs_far_sever(struct ntbs_far *f)
{
	const int private = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

	ntbs_lock(&ntbs_rt.lock);
	if (!f->severed && f->arena) {
		ntbs_sys6(SYS_mmap, (long)f->window.base, f->window.bytes, PROT_READ | PROT_WRITE, private | MAP_FIXED, -1, 0);
		f->severed = true;
	}
	ntbs_unlock(&ntbs_rt.lock);
}

/* What is left of sessions that have ended, if nobody uses it. */
static void sweep(void)
{
	struct ntbs_chan *c, *nc;

	cds_list_for_each_entry_safe(c, nc, &ntbs_rt.chans, node)
		if (ntbs_chan_down(c))
			ntbs_chan_drop(c);
	for (struct ntbs_far *f = sessions; f; f = f->next) {
		bool used = !f->down || !f->arena;

		cds_list_for_each_entry(c, &ntbs_rt.chans, node)
			used |= c->far == f;
		if (used)
			continue;
		ntbs_sys2(SYS_munmap, f->arena, f->arena_bytes);
		ntbs_sys2(SYS_munmap, f->window.base, f->window.bytes);
		if (f->window.bell_reg)
			ntbs_sys2(SYS_munmap, (char *)f->window.bell_reg - (uintptr_t)f->window.bell_reg % PAGE, PAGE);
		f->arena = NULL;
	}
}

/* fds: arena, window, doorbell, life. */
void ntbs_far_port(const struct ntbs_msg_port *m, int *fds)
{
	struct ntbs_far *f;
	void *window;

	sweep();
	if (session(m->session)) {	/* mapped by the process that forked us; what is new is that we live as well */
		keep_life(fds);
		return;
	}
	f = map(sizeof(*f), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!f)
		return;
	if (m->arena_bytes < NTBS_ARENA_MIN || m->window_bytes < NTBS_ARENA_MIN || m->mem > NTBS_MEM_UC || m->arena_mem > NTBS_MEM_UC ||
	    !whole(m->arena_mem, fds[0], m->arena_offset, m->arena_bytes) || !whole(m->mem, fds[1], m->window_offset, m->window_bytes))
		goto err_free;
	f->session = m->session;
	f->arena_bytes = m->arena_bytes;
	f->arena = map_part(m->arena_mem, fds[0], m->arena_offset, m->arena_bytes, PROT_READ | PROT_WRITE);
	if (!f->arena)
		goto err_free;
	window = map_part(m->mem, fds[1], m->window_offset, m->window_bytes, PROT_WRITE);
	if (!window)
		goto err_arena;
	ntbs_window_open(&f->window, window, m->window_bytes, NTBS_ARENA_PENDING, m->mem);
	if (!take_bell(&f->window, m, fds))
		goto err_window;
	keep_life(fds);
	f->next = sessions;
	__atomic_store_n(&sessions, f, __ATOMIC_RELEASE);
	return;

err_window:
	ntbs_sys2(SYS_munmap, window, m->window_bytes);
err_arena:
	ntbs_sys2(SYS_munmap, f->arena, f->arena_bytes);
err_free:
	ntbs_log(NTBS_LOG_ERR, "the broker's port cannot be used; connections with other hosts stay on TCP");
	ntbs_sys2(SYS_munmap, f, sizeof(*f));
}

struct ntbs_far *ntbs_far_sessions(void)
{
	return __atomic_load_n(&sessions, __ATOMIC_ACQUIRE);
}

int ntbs_far_life(void)
{
	return life;
}

static struct ntbs_chan *chan_new(void)
{
	return map(sizeof(struct ntbs_chan), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

struct ntbs_chan *ntbs_far_chan_ask(uint32_t peer_proc, uint64_t id, uint32_t nr_leases)
{
	struct ntbs_msg_region msg = {
		.h = { NTBS_MSG_CHAN_OPEN_PORT, sizeof(msg), 0 },
		.chan = id,
		.proc = peer_proc,
		.nr_leases = nr_leases,
		.nr_slots = ntbs_conf.ring < NTBS_FAR_SLOTS ? NTBS_FAR_SLOTS : ntbs_conf.ring,
		.bulk_bytes = ntbs_conf.bulk,	/* the broker knows how large the arenas are */
	};
	struct ntbs_chan *c = chan_new();

	if (!c)
		return NULL;
	c->leases = map(sizeof(*c->leases), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!c->leases || !ntbs_bclient_send(&msg, sizeof(msg), NULL, 0)) {
		if (c->leases)
			ntbs_sys2(SYS_munmap, c->leases, sizeof(*c->leases));
		ntbs_sys2(SYS_munmap, c, sizeof(*c));
		return NULL;
	}
	c->id = id;
	c->session = ntbs_rt.session;
	c->acceptor = true;
	c->is_far = true;
	c->peer_proc = peer_proc;
	c->far_state = NTBS_FAR_ASKED;
	c->nr_leases = nr_leases;
	ntbs_list_publish(&c->node, &ntbs_rt.chans);
	return c;
}

static bool region_ok(const struct ntbs_msg_region *m, const struct ntbs_msgq_geo *geo, const struct ntbs_far *f)
{
	uint64_t bytes = NTBS_REGION_BYTES(m->nr_leases, m->inbox_bytes);

	return f && m->nr_leases && m->nr_leases <= NTBS_LEASES_MAX && ntbs_msgq_geo_ok(geo) && !(m->inbox_bytes % 4096) &&
	       m->inbox_bytes >= ntbs_msgq_inbox_bytes(geo) && !(m->in_offset % 4096) && !(m->out_offset % 4096) &&
	       m->in_offset >= NTBS_ARENA_REGIONS && m->in_offset <= f->arena_bytes && bytes <= f->arena_bytes - m->in_offset &&
	       m->out_offset >= NTBS_ARENA_REGIONS && m->out_offset <= f->window.bytes && bytes <= f->window.bytes - m->out_offset;
}

void ntbs_far_chan_open(const struct ntbs_msg_region *m, struct ntbs_chan *c, struct ntbs_peer *peer)
{
	struct ntbs_msgq_geo geo = { m->nr_slots, m->bulk_bytes, m->bulk_offset };
	struct ntbs_far *f = session(m->session);
	bool fresh = !c;

	if (fresh && !(c = chan_new()))
		return;
	if (!region_ok(m, &geo, f) || (!fresh && m->nr_leases != c->nr_leases)) {
		ntbs_log(NTBS_LOG_WARN, "process %u sent a channel with sizes that cannot be; its connections stay on TCP", m->proc);
		if (fresh)
			ntbs_sys2(SYS_munmap, c, sizeof(*c));
		else
			c->far_state = NTBS_FAR_FAILED;
		return;
	}
	c->geo = geo;
	c->nr_leases = m->nr_leases;
	c->inbox_bytes = m->inbox_bytes;
	c->far = f;
	c->far_in = f->arena + m->in_offset;
	c->far_out = f->window.base + m->out_offset;
	c->peer = peer;
	peer->chans++;
	if (fresh) {
		c->id = m->chan;
		c->session = ntbs_rt.session;
		c->is_far = true;
		c->peer_proc = m->proc;
		c->released = ((struct ntbs_region_shm *)c->far_out)->released;
		c->far_state = NTBS_FAR_OPEN;
		ntbs_list_publish(&c->node, &ntbs_rt.chans);
		return;
	}
	c->released = ((struct ntbs_region_shm *)c->far_in)->released;
	for (uint32_t i = 0; i < c->nr_leases; i++)
		c->leases->lease[i].next_in = c->leases->lease[i].next_out = geo.nr_slots;	/* zeroed: none may expect stamp 0 */
	atomic_store(&c->far_state, NTBS_FAR_OPEN);
}

void ntbs_far_chan_drop(struct ntbs_chan *c)
{
	struct ntbs_msg_chan msg = { .h = { NTBS_MSG_CHAN_DROP, sizeof(msg), 0 }, .chan = c->id };

	/* no child uses a channel of ours of which no lease is taken, and none can take one; of others that is not known */
	if ((!c->forked || (c->acceptor && !c->inherited)) && c->far_state == NTBS_FAR_OPEN && !ntbs_chan_down(c))
		ntbs_bclient_send(&msg, sizeof(msg), NULL, 0);
}

static struct ntbs_inbox_shm *part(const struct ntbs_chan *c, char *region, uint32_t lease, bool copy)
{
	return (struct ntbs_inbox_shm *)(region + 4096 + (2 * (size_t)lease + copy) * c->inbox_bytes);
}

/* Of this process: a child starts with none, whatever its parent was doing there. */
static struct ntbs_msgq_held *held_new(void)
{
	struct ntbs_msgq_held *h = map(sizeof(*h), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (h && ntbs_sys3(SYS_madvise, h, (sizeof(*h) + 4095) & ~4095ul, MADV_WIPEONFORK)) {
		ntbs_sys2(SYS_munmap, h, sizeof(*h));
		return NULL;
	}
	return h;
}

void ntbs_far_fill_queue(struct ntbs_sock *sk, struct ntbs_chan *c)
{
	sk->q.port = &c->far->window.port;
	sk->q.in = part(c, c->far_in, sk->shm->lease, false);
	sk->q.copy = part(c, c->far_in, sk->shm->lease, true);
	sk->q.out = part(c, c->far_out, sk->shm->lease, false);
	sk->q.epoch = c->far->session;
	if (!sk->held)
		sk->held = held_new();
	else
		sk->held->next = 0;
	sk->q.held = sk->held;
	memset(sk->q.copy, 0, offsetof(struct ntbs_inbox_shm, slot));
	ntbs_far_fill_engine(sk, c);
}

static uint32_t header_crc(const struct ntbs_inbox_shm *box)
{
	const uint32_t words[5] = { box->abi.v, box->generation.v, box->first_seq.v, box->epoch.v, box->out_seq.v };

	return ~ntbs_crc32c(~0u, words, sizeof(words));
}

void ntbs_far_prepare(struct ntbs_sock *sk, struct ntbs_chan *c, uint32_t generation, uint32_t seq_in, uint32_t seq_out)
{
	alignas(128) char lines[offsetof(struct ntbs_inbox_shm, slot)];
	struct ntbs_inbox_shm *box = (struct ntbs_inbox_shm *)lines, *in = (struct ntbs_inbox_shm *)sk->q.in;

	for (int i = 0; i < 2; i++) {		/* what the connector finds, then what we do */
		memset(lines, 0, sizeof(lines));
		box->abi.v = NTBS_INBOX_ABI;
		box->generation.v = generation;
		box->epoch.v = c->far->session;
		box->first_seq.v = i ? seq_in : seq_out;
		box->out_seq.v = i ? seq_out : seq_in;
		box->crc.v = header_crc(box);
		box->head.v = ntbs_head_word(i ? seq_out : seq_in, 0, generation);
		if (!i) {
			sk->q.port->ops->store_line(sk->q.port, &sk->q.out->head, lines + NTBS_LINE);
			sk->q.port->ops->store_line(sk->q.port, sk->q.out, lines);
			ntbs_window_flush(sk->q.port);	/* before the claim, which goes by the broker */
		}
	}
	/* by words: who rang for the generation before may just be looking */
	for (size_t i = 0; i < sizeof(lines) / 8; i++)
		ntbs_le64_write((ntbs_le64 *)in + i, ((uint64_t *)(void *)lines)[i]);
}

bool ntbs_far_prepared(const struct ntbs_msgq *q, uint32_t *generation, uint32_t *first_in, uint32_t *first_out)
{
	struct ntbs_inbox_shm box;

	memcpy(&box, q->in, offsetof(struct ntbs_inbox_shm, head));
	if (box.abi.v != NTBS_INBOX_ABI || box.epoch.v != q->epoch || box.crc.v != header_crc(&box))
		return false;
	*generation = box.generation.v;
	*first_in = box.first_seq.v;
	*first_out = box.out_seq.v;
	return true;
}

void ntbs_far_ring(struct ntbs_chan *c, bool service)
{
	if (c->far)
		ntbs_port_ring(&c->far->window.port, service ? NTBS_PENDING_SERVICE(c->peer_proc) : NTBS_PENDING_MBOX(c->peer_proc));
}

int ntbs_far_ended(struct ntbs_sock *sk)
{
	uint32_t generation = sk->shm->generation;
	struct ntbs_msg_end msg = { .h = { NTBS_MSG_STATE_END, sizeof(msg), 0 }, .chan = sk->shm->chan, .lease = sk->shm->lease,
				    .generation = generation,
				    .of_connector = !sk->shm->conn.accepted };
	struct ntbs_chan *c = sk->chan;		/* NULL: another thread has just closed it */
	uint64_t now, never = 0;

	if (ntbs_le32_read_acquire(&sk->q.in->ended) == generation)
		return 0;
	now = ntbs_now_ns();
	/* the broker answers whose channel it is: not who has inherited it, who may have a session of his own */
	if (atomic_compare_exchange_strong(&sk->shm->end_asked_ns, &never, now) &&
	    (!c || c->inherited || !ntbs_broker_send(&msg, sizeof(msg), NULL, 0)))
		atomic_store(&sk->shm->end_asked_ns, 1);
	return now - atomic_load(&sk->shm->end_asked_ns) > ANSWER_NS ? -ETIMEDOUT : -EAGAIN;
}

void ntbs_far_counts(struct ntbs_window_counts *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (struct ntbs_far *f = sessions; f; f = f->next) {
#define ADD(name) sum->name += ntbs_read_once(f->window.n.name);
		NTBS_WINDOW_COUNTS(ADD)
#undef ADD
	}
}
