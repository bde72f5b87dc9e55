// SPDX-License-Identifier: BSD-2-Clause
/*
 * epoll_set.c - members and sets: where they lie, which is in which
 *
 * Looks and the translation of kernel events take no lock and may hold a pointer or an index for as long as they like.
 * So nothing here is ever unmapped or becomes something else: members lie in blocks, a set that has been closed stays a
 * set, an array that has become too small stays readable.  What they find may be out of date; the generation in a
 * cookie and ntbs_epm_in_set() tell.
 *
 * Invariants: a member is free (ep is NULL), taken by somebody who is about to register it (ep is 1), or in the array
 * of the set that it names, at @pos.  ep->member[0..nr) has no holes.  The array changes with both locks held, the
 * pool's and the set's; so either is enough to count on it.
 */
#include "epoll_impl.h"

#include <sys/mman.h>

#include "sys.h"

#define BLOCK 256u			/* members mapped at a time */
#define BLOCKS_MAX 4096u
#define SETS_MAX 4096u

struct ntbs_lock ntbs_epoll_pool_lock;
static struct ntbs_epm *_Atomic blocks[BLOCKS_MAX];
static uint32_t nr_members, free_hint;
static struct ntbs_ep *sets;
static _Atomic uint32_t nr_sets;		/* that were ever used: the others have not been touched, which a fork would pay for */

void ntbs_epoll_fork_prepare(void)
{
	ntbs_lock(&ntbs_epoll_pool_lock);
	for (uint32_t i = 0; i < nr_sets; i++)
		if (sets[i].used)	/* changes only under the pool's lock */
			ntbs_lock(&sets[i].lock);
}

void ntbs_epoll_fork_parent(void)
{
	for (uint32_t i = 0; i < nr_sets; i++)
		if (sets[i].used) {
			sets[i].shared = true;
			ntbs_unlock(&sets[i].lock);
		}
	ntbs_unlock(&ntbs_epoll_pool_lock);
}

void ntbs_epoll_fork_child(void)
{
	ntbs_lock_reset(&ntbs_epoll_pool_lock);
	for (uint32_t i = 0; i < nr_sets; i++) {
		ntbs_lock_reset(&sets[i].lock);
		ntbs_lock_reset(&sets[i].asking);
		sets[i].sleepers = 0;		/* were other threads */
		sets[i].inherited = sets[i].shared = sets[i].used;
	}
}

static void *zmap(size_t len)
{
	long mem = ntbs_sys6(SYS_mmap, 0, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return mem < 0 && mem > -4096 ? NULL : (void *)mem;
}

struct ntbs_epm *ntbs_epm_by_index(uint32_t index)
{
	struct ntbs_epm *b = index / BLOCK < BLOCKS_MAX ? blocks[index / BLOCK] : NULL;

	return b ? &b[index % BLOCK] : NULL;
}

struct ntbs_epm *ntbs_epm_new(void)
{
	struct ntbs_epm *m = NULL;

	ntbs_lock(&ntbs_epoll_pool_lock);
	for (uint32_t n = 0; n < nr_members && !m; n++) {
		struct ntbs_epm *c = ntbs_epm_by_index((free_hint + n) % nr_members);

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
	ntbs_unlock(&ntbs_epoll_pool_lock);
	return m;
}

bool ntbs_epoll_add(struct ntbs_ep *ep, struct ntbs_epm *m)
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

void ntbs_epm_drop(struct ntbs_epm *m)
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

struct ntbs_ep *ntbs_epoll_new(int epfd)
{
	struct ntbs_ep *ep = NULL;

	ntbs_lock(&ntbs_epoll_pool_lock);
	if (!sets)
		sets = zmap(SETS_MAX * sizeof(*sets));
	for (uint32_t i = 0; sets && i < SETS_MAX && !ep; i++)
		if (!sets[i].used)
			ep = &sets[i];
	if (ep) {
		if (ep == &sets[nr_sets])
			nr_sets++;
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
		ep->sleepers = 0;
		ep->slept_on = 0;
		ep->inherited = ep->shared = ep->bare = false;
		ep->others = ep->nested = 0;
		ep->news = 0;
	}
	ntbs_unlock(&ntbs_epoll_pool_lock);
	return ep;
}

void ntbs_epoll_free(struct ntbs_ep *ep)
{
	ntbs_lock(&ntbs_epoll_pool_lock);
	while (ep->nr)
		ntbs_epm_drop(ep->member[ep->nr - 1]);
	ep->used = false;
	ntbs_unlock(&ntbs_epoll_pool_lock);
}

void ntbs_epoll_new_mbox(void)
{
	for (uint32_t i = 0; i < nr_sets; i++)
		if (atomic_exchange(&sets[i].mbox_in, 0))
			ntbs_epoll_need_mbox(&sets[i]);
}
