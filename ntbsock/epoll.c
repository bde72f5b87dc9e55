// SPDX-License-Identifier: BSD-2-Clause
/*
 * epoll.c - see epoll.h
 *
 * A turn with one hot member that is ready: two cache lines of the member, two of its inbox, no system call.
 */
#include "epoll.h"

#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "conf.h"
#include "fdtab.h"
#include "mbox.h"
#include "offer.h"
#include "runtime.h"
#include "shadow.h"
#include "spin.h"
#include "sys.h"
#include "wait.h"

#define BLOCK 256u			/* members mapped at a time */
#define BLOCKS_MAX 4096u
#define SETS_MAX 4096u
#define COLD_AFTER 2048u		/* turns without anything to say after which a member cools down */
#define ROTATE 4u			/* cold members looked at each turn */
#define KERNEL_EVERY_NS 50000
#define KERNEL_BATCH 64
#define SHADOW_EVENTS (EPOLLIN | EPOLLRDHUP | EPOLLPRI | EPOLLET)
#define END_EVENTS (EPOLLRDHUP | EPOLLHUP | EPOLLERR)
#define MBOX_INDEX 0xffffffu

static struct ntbs_epm *_Atomic blocks[BLOCKS_MAX];
static uint32_t nr_members, free_hint;
static struct ntbs_ep *sets;
static struct ntbs_lock pool_lock;	/* members and sets in use; sk->members lists */
static __thread uint32_t looks;		/* of this thread: names a look, with the thread's id */
static uint64_t secret;			/* upper 32 bits of every cookie: a program's data will not look like it */

/* cookie: secret 32, generation 8, index 24 */
static uint64_t cookie(uint32_t index, uint32_t gen)
{
	return secret | (uint64_t)(gen & 0xff) << 24 | index;
}

void ntbs_epoll_init(void)
{
	uint32_t r = 0;

	if (ntbs_sys3(SYS_getrandom, &r, sizeof(r), GRND_NONBLOCK) != sizeof(r))
		r = (uint32_t)(ntbs_now_ns() ^ (uintptr_t)&r);
	secret = (uint64_t)(r | 1) << 32;
}

void ntbs_epoll_fork_prepare(void)
{
	ntbs_lock(&pool_lock);
}

void ntbs_epoll_fork_parent(void)
{
	ntbs_unlock(&pool_lock);
}

void ntbs_epoll_fork_child(void)
{
	ntbs_lock_reset(&pool_lock);
	for (uint32_t i = 0; sets && i < SETS_MAX; i++) {
		ntbs_lock_reset(&sets[i].lock);
		ntbs_lock_reset(&sets[i].asking);
	}
}

static void *zmap(size_t len)
{
	long mem = ntbs_sys6(SYS_mmap, 0, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return mem < 0 && mem > -4096 ? NULL : (void *)mem;
}

static struct ntbs_epm *by_index(uint32_t index)
{
	struct ntbs_epm *b = index / BLOCK < BLOCKS_MAX ? blocks[index / BLOCK] : NULL;

	return b ? &b[index % BLOCK] : NULL;
}

static struct ntbs_epm *member_new(void)
{
	struct ntbs_epm *m = NULL;

	ntbs_lock(&pool_lock);
	for (uint32_t n = 0; n < nr_members && !m; n++) {
		struct ntbs_epm *c = by_index((free_hint + n) % nr_members);

		if (!c->ep)
			m = c;
	}
	if (!m && nr_members < BLOCKS_MAX * BLOCK) {
		struct ntbs_epm *b = zmap(BLOCK * sizeof(*b));

		if (b) {
			for (uint32_t i = 0; i < BLOCK; i++)
				b[i].index = nr_members + i;
			blocks[nr_members / BLOCK] = b;
			nr_members += BLOCK;
			m = b;
		}
	}
	if (m) {
		free_hint = m->index + 1;
		m->gen++;
		m->hot = 0;
		m->wake_seen = 0;
		ntbs_write_once(m->idle_turns, 0);
		ntbs_write_once(m->told, 0);
		m->ep = (struct ntbs_ep *)1;	/* taken; not in a set yet */
	}
	ntbs_unlock(&pool_lock);
	return m;
}

struct ntbs_ep *ntbs_epoll_new(int epfd)
{
	struct ntbs_ep *ep = NULL;

	ntbs_lock(&pool_lock);
	if (!sets)
		sets = zmap(SETS_MAX * sizeof(*sets));
	for (uint32_t i = 0; sets && i < SETS_MAX && !ep; i++)
		if (!sets[i].used)
			ep = &sets[i];
	if (ep) {
		ep->used = true;
		if (!ep->file.kind)	/* for good: whoever has no reference may look here at any time */
			ep->file.kind = NTBS_FILE_EPOLL;
		ep->epfd = epfd;
		ep->nr_ours = 0;
		ep->mbox_in = 0;
		ep->rung = 0;
		ep->rotor = 0;
		ep->asked_ns = 0;
		ep->nr_pending = 0;
	}
	ntbs_unlock(&pool_lock);
	return ep;
}

struct ntbs_ep *ntbs_epoll_of(int fd)
{
	struct ntbs_file *f = ntbs_fdtab_peek(fd);

	return f && f->kind == NTBS_FILE_EPOLL ? (struct ntbs_ep *)f : NULL;
}

bool ntbs_epoll_ours(struct ntbs_ep *ep)
{
	return atomic_load(&ep->nr_ours) != 0;
}

static int kernel_ctl(struct ntbs_ep *ep, int op, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };

	return ntbs_sys4(SYS_epoll_ctl, ep->epfd, op, fd, &ev);
}

static void need_mbox(struct ntbs_ep *ep)
{
	int bell = ntbs_rt.mbox[ntbs_rt.mbox_self];

	if (bell < 0 || atomic_exchange(&ep->mbox_in, 1))
		return;
	kernel_ctl(ep, EPOLL_CTL_ADD, bell, EPOLLIN | EPOLLET, cookie(MBOX_INDEX, 0));
}

void ntbs_epoll_new_mbox(void)
{
	for (uint32_t i = 0; sets && i < SETS_MAX; i++)
		if (atomic_exchange(&sets[i].mbox_in, 0))
			need_mbox(&sets[i]);
}

static bool in_set(struct ntbs_epm *m, struct ntbs_ep *ep)
{
	return atomic_load_explicit(&m->ep, memory_order_acquire) == ep && (!m->sk || m->sk->serial == m->serial);
}

/* ---------------------------------------------------------- hot and cold */

static void arm(struct ntbs_epm *m)
{
	if (!ntbs_sock_attach(m->sk))
		return;
	m->wake_seen = ntbs_le32_read_acquire(&m->sk->q.in->wake);
	ntbs_mbox_arm_set(m->sk);
}

static void cool(struct ntbs_ep *ep, uint32_t i)
{
	struct ntbs_epm *m = ep->hot[i];

	ep->hot[i] = NULL;
	if (!m)
		return;
	m->hot = 0;
	/* the next look arms it: until then it counts as rung */
	if (m->sk && ntbs_sock_attach(m->sk))
		m->wake_seen = ntbs_le32_read(&m->sk->q.in->wake) - 1;
	atomic_store(&ep->rung, 1);
}

static void warm(struct ntbs_ep *ep, struct ntbs_epm *m)
{
	uint32_t i;

	if (m->hot)
		return;
	ntbs_lock(&ep->lock);
	if (!m->hot) {
		for (i = 0; i < NTBS_EP_HOT; i++)
			if (!ep->hot[i])
				break;
		if (i == NTBS_EP_HOT) {
			i = ep->hot_hand++ % NTBS_EP_HOT;
			cool(ep, i);
		}
		ntbs_write_once(m->idle_turns, 0);
		m->hot = 1;
		ep->hot[i] = m;
	}
	ntbs_unlock(&ep->lock);
}

/* ---------------------------------------------------------- membership */

static bool array_add(struct ntbs_ep *ep, struct ntbs_epm *m)
{
	if (ep->nr == ep->size) {
		uint32_t size = ep->size ? ep->size * 2 : 64;
		struct ntbs_epm *_Atomic *bigger = zmap(size * sizeof(*bigger));

		if (!bigger)
			return false;
		for (uint32_t i = 0; i < ep->nr; i++)
			bigger[i] = ep->member[i];
		ep->member = bigger;	/* the old one stays mapped: somebody may be reading it */
		ep->size = size;
	}
	m->pos = ep->nr;
	ep->member[ep->nr] = m;
	atomic_store_explicit(&ep->nr, ep->nr + 1, memory_order_release);
	return true;
}

static void unlink_sock(struct ntbs_epm *m)
{
	struct ntbs_epm *before = NULL;

	if (!m->sk || m->sk->serial != m->serial)
		return;
	for (struct ntbs_epm *p = m->sk->members; p; before = p, p = p->next_of_sock) {
		if (p != m)
			continue;
		if (before)
			before->next_of_sock = m->next_of_sock;
		else
			m->sk->members = m->next_of_sock;
		return;
	}
}

/* pool_lock held */
static void member_drop(struct ntbs_epm *m)
{
	struct ntbs_ep *ep = m->ep;

	unlink_sock(m);
	if (ep == (struct ntbs_ep *)1) {
		m->ep = NULL;
		return;
	}
	ntbs_lock(&ep->lock);
	for (int i = 0; i < NTBS_EP_HOT; i++)
		if (ep->hot[i] == m)
			ep->hot[i] = NULL;
	if (m->pos < ep->nr && ep->member[m->pos] == m) {
		struct ntbs_epm *last = ep->member[ep->nr - 1];

		ep->member[m->pos] = last;
		last->pos = m->pos;
		atomic_store(&ep->nr, ep->nr - 1);
	}
	m->ep = NULL;
	ntbs_unlock(&ep->lock);
}

void ntbs_epoll_free(struct ntbs_ep *ep)
{
	ntbs_lock(&pool_lock);
	while (ep->nr)
		member_drop(ep->member[ep->nr - 1]);
	ep->used = false;
	ntbs_unlock(&pool_lock);
}

static struct ntbs_epm *find(struct ntbs_ep *ep, struct ntbs_sock *sk, int fd)
{
	struct ntbs_epm *m;

	for (m = sk->members; m; m = m->next_of_sock)
		if (m->ep == ep && m->fd == fd)
			return m;
	return NULL;
}

static struct ntbs_epm *find_inner(struct ntbs_ep *ep, int fd)
{
	for (uint32_t i = 0; i < ep->nr; i++)
		if (ep->member[i]->inner && ep->member[i]->fd == fd)
			return ep->member[i];
	return NULL;
}

static bool is_ours(const struct ntbs_epm *m)
{
	enum ntbs_stage stage = m->sk ? ntbs_sock_stage(m->sk) : NTBS_LIVE;

	return stage == NTBS_OFFER || stage == NTBS_LIVE;
}

/* What the kernel shall report of a member, given where its socket is. */
static uint32_t kernel_events(const struct ntbs_epm *m)
{
	uint32_t ev;

	if (!m->sk || ntbs_sock_stage(m->sk) != NTBS_LIVE)
		return m->events;
	ev = SHADOW_EVENTS;
	if (ntbs_sock_tx_state(m->sk) != NTBS_DIR_RING)
		ev |= m->events & EPOLLOUT;
	return ev;
}

/*
 * Is a change from @before to what the member wants now nothing to the kernel?  On the ring both ways it only watches for
 * the end, whatever the program wants, and the end that it has shown is remembered with the socket.
 */
static bool kernel_knows(const struct ntbs_epm *m, uint32_t before)
{
	return m->sk && ntbs_sock_stage(m->sk) == NTBS_LIVE && atomic_load(&m->watched_live) &&
	       m->sk->shm->tx.state == NTBS_DIR_RING && m->sk->shm->rx.state == NTBS_DIR_RING &&
	       !((before | m->events) & EPOLLEXCLUSIVE);
}

static void watch_shadow(struct ntbs_epm *m)
{
	uint64_t data = cookie(m->index, m->gen);

	atomic_store(&m->watched_live, 1);
	if (m->events & EPOLLEXCLUSIVE) {	/* the kernel does not modify those */
		kernel_ctl(m->ep, EPOLL_CTL_DEL, m->fd, 0, 0);
		kernel_ctl(m->ep, EPOLL_CTL_ADD, m->fd, kernel_events(m), data);
	} else {
		kernel_ctl(m->ep, EPOLL_CTL_MOD, m->fd, kernel_events(m), data);
	}
}

static void forget_marks(struct ntbs_epm *m)
{
	m->rx_mark = UINT64_MAX;
	m->tx_mark = UINT64_MAX;
	m->end_mark = UINT32_MAX;
	m->disabled = 0;
}

static int ctl_add(struct ntbs_ep *ep, struct ntbs_sock *sk, struct ntbs_ep *inner, int fd, struct epoll_event *ev)
{
	struct ntbs_epm *m = member_new();
	int ret;

	if (!m)
		return -ENOMEM;
	m->sk = sk;
	m->serial = sk ? sk->serial : 0;
	m->inner = inner;
	m->fd = fd;
	m->events = ev->events;
	m->data = ev->data.u64;
	forget_marks(m);
	atomic_store(&m->watched_live, sk && ntbs_sock_stage(sk) == NTBS_LIVE);
	ret = kernel_ctl(ep, EPOLL_CTL_ADD, fd, kernel_events(m), cookie(m->index, m->gen));
	ntbs_lock(&pool_lock);
	if (!ret) {
		ntbs_lock(&ep->lock);
		if (!array_add(ep, m))
			ret = -ENOMEM;
		else
			atomic_store_explicit(&m->ep, ep, memory_order_release);
		ntbs_unlock(&ep->lock);
		if (ret)
			kernel_ctl(ep, EPOLL_CTL_DEL, fd, 0, 0);
	}
	if (ret) {
		m->ep = NULL;
	} else if (sk) {
		m->next_of_sock = sk->members;
		sk->members = m;
	}
	ntbs_unlock(&pool_lock);
	if (ret)
		return ret;
	if (is_ours(m)) {
		atomic_fetch_add(&ep->nr_ours, 1);
		need_mbox(ep);
		if (sk && ntbs_sock_stage(sk) == NTBS_LIVE && !atomic_exchange(&m->watched_live, 1))
			watch_shadow(m);	/* it became LIVE meanwhile */
		warm(ep, m);
	}
	return 0;
}

int ntbs_epoll_ctl(struct ntbs_ep *ep, int op, int fd, struct epoll_event *ev)
{
	struct ntbs_sock *sk = fd >= 0 ? ntbs_fdtab_sock(fd) : NULL;
	struct ntbs_ep *inner = fd >= 0 ? ntbs_epoll_of(fd) : NULL;
	struct ntbs_epm *m;
	int ret;

	if ((!sk && !inner) || (inner == ep))
		return -ENTBS_PASS;
	if (op != EPOLL_CTL_DEL && !ev)
		return -EFAULT;
	if (op == EPOLL_CTL_ADD)
		return ctl_add(ep, sk, inner, fd, ev);
	ntbs_lock(&pool_lock);
	m = sk ? find(ep, sk, fd) : find_inner(ep, fd);
	if (!m) {
		ntbs_unlock(&pool_lock);
		return -ENTBS_PASS;
	}
	if (op == EPOLL_CTL_DEL) {
		ret = kernel_ctl(ep, op, fd, 0, 0);
		member_drop(m);
	} else {
		uint32_t before = m->events;

		m->events = ev->events;
		ret = kernel_knows(m, before) ? 0 : kernel_ctl(ep, op, fd, kernel_events(m), cookie(m->index, m->gen));
		if (ret) {
			m->events = before;
		} else {
			m->data = ev->data.u64;
			forget_marks(m);
		}
	}
	ntbs_unlock(&pool_lock);
	if (!ret && op == EPOLL_CTL_MOD && is_ours(m))
		warm(ep, m);
	return ret;
}

/* The stage has changed; its sets learn of it.  Not the other way round: ctl lock held, then ours. */
void ntbs_epoll_sock_offer(struct ntbs_sock *sk)
{
	ntbs_lock(&pool_lock);
	for (struct ntbs_epm *m = sk->members; m; m = m->next_of_sock) {
		atomic_fetch_add(&m->ep->nr_ours, 1);
		need_mbox(m->ep);
		warm(m->ep, m);
	}
	ntbs_unlock(&pool_lock);
}

void ntbs_epoll_sock_live(struct ntbs_sock *sk)
{
	ntbs_lock(&pool_lock);
	for (struct ntbs_epm *m = sk->members; m; m = m->next_of_sock) {
		atomic_fetch_add(&m->ep->nr_ours, 1);
		need_mbox(m->ep);
		if (!atomic_exchange(&m->watched_live, 1))
			watch_shadow(m);
		warm(m->ep, m);
	}
	ntbs_unlock(&pool_lock);
}

void ntbs_epoll_sock_closed(struct ntbs_sock *sk, int fd, bool others_hold_it)
{
	if (!sk->members)
		return;
	ntbs_lock(&pool_lock);
	while (sk->members) {
		struct ntbs_epm *m = sk->members;

		if (others_hold_it)	/* the kernel would go on reporting what nobody can translate */
			kernel_ctl(m->ep, EPOLL_CTL_DEL, m->fd, 0, 0);
		if (m == sk->members)
			member_drop(m);
	}
	ntbs_unlock(&pool_lock);
}

/* ------------------------------------------------------------- readiness */

static bool edge(_Atomic uint64_t *mark, uint64_t now)
{
	uint64_t seen = atomic_load(mark);

	return seen != now && atomic_compare_exchange_strong(mark, &seen, now);
}

#define TCP_MARK (1ull << 63)

/*
 * How far the bytes that can be read reach.  On TCP: how many have come.  From the switch on: the ring's mark, and before
 * the last byte of TCP has come, how many are missing.
 */
static uint64_t in_mark(const struct ntbs_epm *m)
{
	struct ntbs_shadow_info info;
	uint32_t state = ntbs_sock_rx_state(m->sk);
	uint64_t mark;
	int inq = 0;

	if (ntbs_sock_stage(m->sk) == NTBS_LIVE && (state == NTBS_DIR_RING || state == NTBS_DIR_DRAIN)) {
		mark = ntbs_msgq_rx_mark(&m->sk->q);
		if (state == NTBS_DIR_DRAIN) {
			ntbs_shadow_inq(m->fd, &inq);
			mark += ntbs_read_once(m->sk->shm->rx.tcp_left) - inq;
		}
		return mark & ~TCP_MARK;
	}
	return ntbs_shadow_info(m->fd, &info) ? UINT64_MAX : TCP_MARK | info.bytes_received;
}

/* Something to read that has not been reported.  The switch itself is no byte. */
static bool in_news(struct ntbs_epm *m, bool take)
{
	uint64_t seen = atomic_load(&m->rx_mark), now = in_mark(m);
	struct ntbs_shadow_info info;

	if (seen == now)
		return false;
	if (seen != UINT64_MAX && (seen & TCP_MARK) && !(now & TCP_MARK) && !ntbs_msgq_readable(&m->sk->q) &&
	    !ntbs_shadow_info(m->fd, &info) && info.bytes_received == (seen & ~TCP_MARK)) {
		atomic_compare_exchange_strong(&m->rx_mark, &seen, now);
		return false;
	}
	return !take || atomic_compare_exchange_strong(&m->rx_mark, &seen, now);
}

/* What of @ev is news for an edge-triggered member; one thread gets it. */
static uint32_t edges(struct ntbs_epm *m, uint32_t ev, uint32_t all)
{
	struct ntbs_sock *sk = m->sk;
	uint32_t out = 0, end = all & END_EVENTS, seen = atomic_load(&m->end_mark);

	if ((ev & EPOLLIN) && in_news(m, true))
		out |= EPOLLIN;
	if ((ev & EPOLLOUT) && edge(&m->tx_mark, ntbs_read_once(sk->shm->conn.tx.stalls)))
		out |= EPOLLOUT;
	/* an end is an edge of reading too, asked for by name or not */
	if (end != seen && atomic_compare_exchange_strong(&m->end_mark, &seen, end) && end)
		out |= EPOLLIN;
	/* as in the kernel, an edge of one kind reports all that holds */
	return out ? ev : 0;
}

static uint32_t wanted(const struct ntbs_epm *m)
{
	uint32_t ev = m->events & (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLRDNORM | EPOLLWRNORM);

	return ev | EPOLLERR | EPOLLHUP;
}

/* Events to report of one of our members now; @take: they will be reported. */
static uint32_t evaluate(struct ntbs_epm *m, bool take)
{
	struct ntbs_sock *sk = m->sk;
	uint32_t ev, all;

	if (atomic_load(&m->disabled))
		return 0;
	if (m->inner)
		return ntbs_epoll_any(m->inner, false) ? EPOLLIN & m->events : 0;
	if (ntbs_sock_stage(sk) == NTBS_OFFER)
		ntbs_offer_step(sk, m->fd);
	if (ntbs_sock_stage(sk) != NTBS_LIVE)
		return 0;		/* the kernel reports it */
	if (!atomic_load(&m->watched_live) && !atomic_exchange(&m->watched_live, 1))
		watch_shadow(m);	/* another process of the family made it LIVE */
	all = (uint16_t)ntbs_sock_ready(sk, m->fd, m->events,
					ntbs_sock_rx_state(sk) != NTBS_DIR_RING || ntbs_sock_tx_state(sk) != NTBS_DIR_RING);
	ev = all & wanted(m);
	if (ev && (m->events & EPOLLET)) {
		if (!take) {
			bool in = (ev & EPOLLIN) && in_news(m, false);
			bool out = (ev & EPOLLOUT) && m->tx_mark != ntbs_read_once(sk->shm->conn.tx.stalls);

			return in || out || ((all & END_EVENTS) && (all & END_EVENTS) != m->end_mark) ? ev : 0;
		}
		ev = edges(m, ev, all);
	}
	if (ev && take && (m->events & EPOLLONESHOT) && atomic_exchange(&m->disabled, 1))
		return 0;
	return ev;
}

static bool report(struct ntbs_epm *m, struct epoll_event *out, uint64_t turn)
{
	uint32_t ev = ntbs_read_once(m->told) == turn ? 0 : evaluate(m, true);

	if (!ev)
		return false;
	ntbs_write_once(m->told, turn);
	out->events = ev;
	out->data.u64 = m->data;
	return true;
}

/* A cold member: was it rung since it was armed? */
static bool was_rung(const struct ntbs_epm *m)
{
	return m->inner || !ntbs_sock_attach(m->sk) || ntbs_le32_read_acquire(&m->sk->q.in->wake) != m->wake_seen ||
	       ntbs_sock_stage(m->sk) != NTBS_LIVE;
}

static bool idle(struct ntbs_epm *m)
{
	ntbs_bump(m->idle_turns, 1);
	return ntbs_read_once(m->idle_turns) > COLD_AFTER;
}

static int look_hot(struct ntbs_ep *ep, struct epoll_event *out, int max, uint64_t turn)
{
	int n = 0;

	for (uint32_t i = 0; i < NTBS_EP_HOT && n < max; i++) {
		struct ntbs_epm *m = atomic_load_explicit(&ep->hot[i], memory_order_acquire);

		if (!m || !in_set(m, ep))
			continue;
		if (report(m, &out[n], turn)) {
			ntbs_write_once(m->idle_turns, 0);
			n++;
		} else if (idle(m) && m->sk && ntbs_sock_stage(m->sk) == NTBS_LIVE &&
			   ntbs_trylock(&ep->lock)) {
			if (ep->hot[i] == m)
				cool(ep, i);
			ntbs_unlock(&ep->lock);
		}
	}
	return n;
}

static int look_cold(struct ntbs_ep *ep, struct epoll_event *out, int max, uint64_t turn, bool all)
{
	uint32_t nr = atomic_load_explicit(&ep->nr, memory_order_acquire), span = all || nr < ROTATE ? nr : ROTATE;
	struct ntbs_epm *_Atomic *member = ep->member;
	uint32_t rotor = ep->rotor;
	int n = 0;

	for (uint32_t i = 0; i < span && n < max; i++) {
		struct ntbs_epm *m = member[(rotor + i) % nr];

		if (!m || m->hot || !in_set(m, ep) || !is_ours(m) || !was_rung(m))
			continue;
		if (report(m, &out[n], turn)) {
			n++;
			warm(ep, m);
		} else if (m->sk && ntbs_sock_stage(m->sk) == NTBS_LIVE) {
			arm(m);		/* rung for something else (credit): armed again, and looked at again */
			if (report(m, &out[n], turn)) {
				n++;
				warm(ep, m);
			}
		}
	}
	atomic_store_explicit(&ep->rotor, nr ? (rotor + span) % nr : 0, memory_order_relaxed);
	return n;
}

static int look(struct ntbs_ep *ep, struct epoll_event *out, int max)
{
	bool rung = atomic_exchange(&ep->rung, 0);
	uint64_t turn = (uint64_t)ntbs_my_tid() << 32 | ++looks;
	int n = look_hot(ep, out, max, turn);

	if (n < max && (rung || ep->nr > NTBS_EP_HOT / 2))
		n += look_cold(ep, out + n, max - n, turn, rung);
	if (n == max && rung)
		atomic_store(&ep->rung, 1);	/* there may be more */
	return n;
}

static void arm_hot(struct ntbs_ep *ep)
{
	for (uint32_t i = 0; i < NTBS_EP_HOT; i++) {
		struct ntbs_epm *m = ep->hot[i];

		if (!m || !in_set(m, ep))
			continue;
		if (m->inner) {
			ntbs_epoll_any(m->inner, true);
		} else if (ntbs_sock_stage(m->sk) == NTBS_LIVE) {
			arm(m);
		} else if (ntbs_sock_stage(m->sk) == NTBS_OFFER) {
			ntbs_offer_sleepy(m->sk);
		}
	}
}

bool ntbs_epoll_any(struct ntbs_ep *ep, bool arm_all)
{
	uint32_t nr = atomic_load(&ep->nr);

	if (ep->nr_pending)
		return true;
	if (arm_all)
		arm_hot(ep);
	for (uint32_t i = 0; i < nr; i++) {
		struct ntbs_epm *m = ep->member[i];

		if (m && in_set(m, ep) && is_ours(m) && evaluate(m, false))
			return true;
	}
	return false;
}

/* ------------------------------------------------------------- the kernel */

/* One event of the kernel's: true if it is the program's, translated. */
static bool translate(struct ntbs_ep *ep, struct epoll_event *ev)
{
	uint64_t data = ev->data.u64;
	struct ntbs_epm *m;

	if ((data & 0xffffffff00000000ull) != secret)
		return true;
	if ((data & 0xffffff) == MBOX_INDEX) {
		atomic_store(&ep->rung, 1);
		return false;
	}
	m = by_index(data & 0xffffff);
	if (!m || (m->gen & 0xff) != (data >> 24 & 0xff) || !in_set(m, ep))
		return false;
	if (m->inner) {
		ev->data.u64 = m->data;
		return ntbs_epoll_kernel_any(m->inner) || ntbs_epoll_any(m->inner, false);
	}
	if (ntbs_sock_stage(m->sk) == NTBS_NEW)
		ntbs_offer_look_connected(m->sk, m->fd);
	if (ntbs_sock_stage(m->sk) == NTBS_OFFER)
		ntbs_offer_step(m->sk, m->fd);
	if (ntbs_sock_stage(m->sk) == NTBS_LIVE) {
		atomic_fetch_or(&m->sk->shm->shadow_ev, ev->events & (POLLIN | POLLRDHUP | POLLHUP | POLLERR));
		warm(ep, m);		/* the next turn tells what it means */
		atomic_store(&ep->rung, 1);
		return false;
	}
	ev->events &= wanted(m);
	ev->data.u64 = m->data;
	if (ntbs_sock_stage(m->sk) == NTBS_OFFER && ev->events) {
		/* told by the kernel: not news any more once we are the ones who tell */
		if (m->events & EPOLLET)
			edges(m, ev->events, ev->events);
		if (m->events & EPOLLONESHOT)
			atomic_store(&m->disabled, 1);
	}
	return ev->events != 0;
}

/* Returns events of the program, or -errno; *@more: something came that only our own look can explain. */
static int ask_kernel(struct ntbs_ep *ep, struct epoll_event *out, int max, const struct timespec *ts,
		      const sigset_t *mask, bool *more)
{
	struct epoll_event ev[KERNEL_BATCH];
	long got, ms;
	int n = 0;

	if (max > KERNEL_BATCH)
		max = KERNEL_BATCH;
	got = ntbs_sleep_sys6(SYS_epoll_pwait2, ep->epfd, (long)ev, max, (long)ts, (long)mask, 8);
	if (got == -ENOSYS) {		/* before Linux 5.11: milliseconds, rounded up */
		ms = !ts ? -1 : ts->tv_sec > 2000000 ? 2000000000 : ts->tv_sec * 1000 + (ts->tv_nsec + 999999) / 1000000;
		got = ntbs_sleep_sys6(SYS_epoll_pwait, ep->epfd, (long)ev, max, ms, (long)mask, 8);
	}
	if (got < 0)
		return got;
	for (long i = 0; i < got; i++) {
		if (translate(ep, &ev[i]))
			out[n++] = ev[i];
		else
			*more = true;
	}
	return n;
}

/*
 * Asking takes events away that the kernel would not show again (edges, ONESHOT): they are kept for the set's own wait.
 * Those that it shows again at once are levels, and stay the kernel's to tell.
 */
bool ntbs_epoll_kernel_any(struct ntbs_ep *ep)
{
	static const struct timespec zero;
	struct epoll_event got[NTBS_EP_PENDING], again[NTBS_EP_PENDING];
	bool more = false;
	int n, k;

	ntbs_lock(&ep->asking);		/* only who holds it adds: there is room */
	if (ep->nr_pending) {
		ntbs_unlock(&ep->asking);
		return true;
	}
	n = ask_kernel(ep, got, NTBS_EP_PENDING, &zero, NULL, &more);
	if (n <= 0) {
		ntbs_unlock(&ep->asking);
		return false;
	}
	k = ask_kernel(ep, again, NTBS_EP_PENDING, &zero, NULL, &more);
	ntbs_lock(&ep->lock);
	for (int i = 0; i < n; i++) {
		bool level = false;

		for (int j = 0; j < k; j++)
			level |= again[j].data.u64 == got[i].data.u64;
		if (!level)
			ep->pending[ep->nr_pending++] = got[i];
	}
	ntbs_unlock(&ep->lock);
	ntbs_unlock(&ep->asking);
	return true;
}

/* ------------------------------------------------------------------- wait */

static int take_pending(struct ntbs_ep *ep, struct epoll_event *out, int max)
{
	int n;

	ntbs_lock(&ep->lock);
	n = ep->nr_pending < (uint32_t)max ? (int)ep->nr_pending : max;
	memcpy(out, ep->pending, n * sizeof(*out));
	memmove(ep->pending, ep->pending + n, (ep->nr_pending - n) * sizeof(*out));
	ep->nr_pending -= n;
	ntbs_unlock(&ep->lock);
	return n;
}

static void left_of(uint64_t until, struct timespec *ts)
{
	uint64_t now = ntbs_now_ns(), left = until > now ? until - now : 0;

	ts->tv_sec = left / 1000000000;
	ts->tv_nsec = left % 1000000000;
}

int ntbs_epoll_wait(struct ntbs_ep *ep, struct epoll_event *out, int max, const struct timespec *ts,
		    const sigset_t *mask)
{
	static const struct timespec zero;
	bool poll_only = ts && !ts->tv_sec && !ts->tv_nsec, more;
	struct timespec left;
	struct ntbs_spin spin;
	uint64_t until = 0;
	int n, k;

	if (max <= 0 || !atomic_load(&ep->nr))
		return -ENTBS_PASS;
	n = ep->nr_pending ? take_pending(ep, out, max) : 0;
	if (n)
		return n;
	if (ts && !poll_only)
		until = ntbs_now_ns() + ts->tv_sec * 1000000000ull + ts->tv_nsec;
	for (;;) {
		n = ntbs_epoll_ours(ep) ? look(ep, out, max) : 0;
		if (n) {		/* the kernel's members have their turn at least every 50 us */
			uint64_t now = ntbs_now_ns();

			if (n < max && now - ep->asked_ns > KERNEL_EVERY_NS) {
				ep->asked_ns = now;
				k = ask_kernel(ep, out + n, max - n, &zero, NULL, &more);
				n += k > 0 ? k : 0;
			}
			return n;
		}
		if (ntbs_epoll_ours(ep) && !poll_only && ntbs_spin_begin(&spin, NULL)) {
			uint64_t asked = ntbs_now_ns(), now;

			more = false;
			k = 0;
			do {
				n = look(ep, out, max);
				now = ntbs_now_ns();
				if (!n && now - asked > KERNEL_EVERY_NS) {
					asked = now;
					k = ask_kernel(ep, out, max, &zero, NULL, &more);
					n = k > 0 ? k : 0;
				}
			} while (!n && !more && ntbs_spin_more(&spin) && (!until || now < until));
			ntbs_spin_end(&spin, n || more);
			if (n)
				return n;
			if (more)
				continue;
		}
		if (ntbs_epoll_ours(ep) && !poll_only) {
			arm_hot(ep);
			n = look(ep, out, max);
			if (n)
				return n;
		}
		if (until)
			left_of(until, &left);
		more = false;
		n = ask_kernel(ep, out, max, poll_only ? &zero : ts ? &left : NULL, mask, &more);
		if (n)
			return n;
		if (!more && ts && (poll_only || ntbs_now_ns() >= until))
			return 0;
		if (more && poll_only)
			return look(ep, out, max);
	}
}
