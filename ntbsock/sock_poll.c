// SPDX-License-Identifier: BSD-2-Clause
/* sock_poll.c - see sock_poll.h */
#include "sock_poll.h"

#include <alloca.h>
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "conf.h"
#include "epoll.h"
#include "fdtab.h"
#include "mbox.h"
#include "offer.h"
#include "shadow.h"
#include "spin.h"
#include "sys.h"
#include "wait.h"

#define KERNEL_EVERY_NS 50000		/* how often kernel members are asked while we poll ours */
#define ON_STACK 256

#define RX_EVENTS (POLLIN | POLLRDNORM)
#define TX_EVENTS (POLLOUT | POLLWRNORM)

/* SO_RCVLOWAT: not readable yet, though something is there.  What lies on TCP behind the ring counts. */
static bool below_mark(struct ntbs_sock *sk, int fd)
{
	uint64_t q;
	ssize_t n;
	int tcp = 0;

	ntbs_sock_lock_rx(sk);
	n = ntbs_msgq_avail(&sk->q);
	q = ntbs_le64_read_acquire(&sk->q.in->q);
	if (n > 0 && q && (uint64_t)n > q - 1 - sk->shm->rx.mq.pos)
		n = q - 1 - sk->shm->rx.mq.pos;
	if (n > 0 && q && !ntbs_shadow_unread(fd, &tcp))
		n += tcp;
	ntbs_unlock(&sk->shm->rx.lock);
	return n > 0 && n < (ssize_t)ntbs_read_once(sk->shm->rcvlowat);
}

/* The end that the shadow shows, or @more.  A death that is a reset on TCP is one here. */
static short shadow_end(struct ntbs_sock *sk, int fd, short more)
{
	short k = ntbs_shadow_poll(fd, more | POLLRDHUP);
	int bytes = 0;

	if ((k & (POLLRDHUP | POLLERR)) == POLLRDHUP && ntbs_stream_end_unknown(sk)) {
		ntbs_shadow_inq(fd, &bytes);
		return k & ~(bytes ? POLLRDHUP | POLLHUP : RX_EVENTS | POLLRDHUP | POLLHUP);
	}
	if ((k & (POLLRDHUP | POLLERR)) == POLLRDHUP && ntbs_stream_died(sk, fd))
		k = ntbs_shadow_poll(fd, more | POLLRDHUP);
	return k;
}

/* What the ring says of reading: rx RING, nothing of TCP before it. */
static short ring_in(struct ntbs_sock *sk, int fd, bool ask)
{
	const struct ntbs_inbox_shm *in = sk->q.in;
	uint32_t shown;
	uint64_t final;
	short ev = 0;

	if (ntbs_sock_flags(sk) & NTBS_SK_RESET)
		return RX_EVENTS | TX_EVENTS | POLLERR | POLLHUP;
	if (ntbs_le64_read_acquire(&in->q))	/* urgent data goes by TCP, and is seen before the ring's bytes are read */
		ev = ntbs_shadow_poll(fd, POLLPRI) & POLLPRI;
	final = ntbs_le64_read_acquire(&in->final);
	if (ntbs_msgq_readable(&sk->q)) {
		short more = ntbs_read_once(sk->shm->rcvlowat) > 1 && !final && below_mark(sk, fd) ? 0 : RX_EVENTS;

		/* FIN is on its way behind these bytes; TCP would show it once it has arrived, which it has */
		ev |= more | (final || (ntbs_sock_flags(sk) & NTBS_SK_SHUT_RD) ? POLLRDHUP : 0);
		if (atomic_load(&sk->shm->shadow_ev) || ntbs_le32_read(&in->rstate))	/* a reset shows before its bytes are read */
			ev |= shadow_end(sk, fd, 0);
		return ev & POLLRDHUP ? ev | RX_EVENTS : ev;	/* an end is below no mark */
	}
	if (final && ntbs_read_once(sk->shm->rx.mq.pos) >= final - 1 && !ntbs_r_is_reset(ntbs_le32_read(&in->rstate)))
		ev |= RX_EVENTS | POLLRDHUP;
	if (ntbs_sock_flags(sk) & NTBS_SK_SHUT_RD)
		ev |= RX_EVENTS | POLLRDHUP;
	shown = atomic_load(&sk->shm->shadow_ev);
	if (shown || ntbs_le32_read(&in->rstate) || (ask && ev)) {
		short k = shadow_end(sk, fd, RX_EVENTS);

		if (k & (POLLRDHUP | POLLHUP | POLLERR)) {
			if (!ntbs_msgq_readable(&sk->q))
				ev |= k & (RX_EVENTS | POLLRDHUP | POLLHUP | POLLERR);
			if (k & (POLLHUP | POLLERR))
				ev |= RX_EVENTS | POLLRDHUP;
		} else if (!ev && !(shown & NTBS_SHADOW_END && ntbs_sock_far(sk))) {
			atomic_compare_exchange_strong(&sk->shm->shadow_ev, &shown, 0);	/* unless something has come since */
		}
	}
	return ev;
}

static short rx_ready(struct ntbs_sock *sk, int fd, bool ask)
{
	enum ntbs_dir_state state = ntbs_sock_rx_state(sk);
	short ev = 0;

	if (state == NTBS_DIR_TCP || ntbs_le64_read(&sk->q.in->q)) {
		ntbs_sock_lock_rx(sk);
		ntbs_stream_rx_look(sk, fd);
		ask |= sk->shm->rx.state != state;	/* who did not want TCP asked took it to be on the ring */
		state = sk->shm->rx.state;
		ntbs_unlock(&sk->shm->rx.lock);
	}
	if (state == NTBS_DIR_RING)
		return ring_in(sk, fd, ask);
	if (ask || (atomic_load(&sk->shm->shadow_ev) & NTBS_SHADOW_END))
		ev = shadow_end(sk, fd, RX_EVENTS | POLLPRI);
	if (!(ev & RX_EVENTS) && state == NTBS_DIR_DRAIN && ntbs_read_once(sk->shm->rcvlowat) > 1) {
		ntbs_sock_lock_rx(sk);		/* the kernel counts its part alone */
		if (ntbs_stream_avail(sk, fd) >= (ssize_t)ntbs_read_once(sk->shm->rcvlowat))
			ev |= RX_EVENTS;
		ntbs_unlock(&sk->shm->rx.lock);
	}
	return ev;
}

static short tx_ready(struct ntbs_sock *sk, int fd, uint32_t wanted, bool ask)
{
	bool left = false;
	short ev = 0;

	if (ntbs_sock_tx_state(sk) == NTBS_DIR_RING) {
		if (!(wanted & TX_EVENTS))
			return 0;
		ntbs_sock_lock_tx(sk);
		if (sk->shm->tx.state == NTBS_DIR_RING) {
			if (ntbs_msgq_writable(&sk->q) || (ntbs_sock_flags(sk) & NTBS_SK_SHUT_WR) ||
			    ntbs_le64_read(&sk->q.in->asked) || ntbs_le32_read(&sk->q.in->rstate))
				ev = TX_EVENTS;
			else
				left = ntbs_stream_full(sk, fd);
		}
		ntbs_unlock(&sk->shm->tx.lock);		/* S2 */
		if (!left)
			return ev;
		ntbs_mbox_poke(sk);
		return ntbs_shadow_poll(fd, TX_EVENTS);
	}
	if (__builtin_expect(ntbs_sock_flags(sk) & NTBS_SK_FIN_LATER, 0))
		return TX_EVENTS;	/* as the kernel, once it is told */
	return ask ? ntbs_shadow_poll(fd, TX_EVENTS) : 0;
}

short ntbs_sock_ready(struct ntbs_sock *sk, int fd, uint32_t wanted, bool ask)
{
	short ev;

	if (ntbs_sock_stage(sk) != NTBS_LIVE || !ntbs_sock_attach(sk))
		return ask ? ntbs_shadow_poll(fd, RX_EVENTS | TX_EVENTS | POLLRDHUP | POLLPRI) : 0;
	ev = rx_ready(sk, fd, ask) | tx_ready(sk, fd, wanted, ask);
	if (__builtin_expect(atomic_load_explicit(&sk->shm->owed, memory_order_relaxed) > 0, 0))
		ev |= POLLERR;
	if ((ev & POLLRDHUP) && (ntbs_sock_flags(sk) & NTBS_SK_SHUT_WR))
		ev |= POLLHUP;		/* both directions are closed */
	return ev;
}

/* A LIVE member whose readiness the ring decides; its shadow only tells of the end. */
static bool on_ring(const struct ntbs_sock *sk)
{
	return ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_rx_state(sk) == NTBS_DIR_RING;
}

struct set {
	struct pollfd *user, *kernel;
	nfds_t nfds;
	int ours;			/* members that are not plain */
	bool full;			/* with the mbox it would be more than RLIMIT_NOFILE lets poll() have */
};

/* Fill in the kernel's copy; ours are looked at.  Returns how many of ours are ready. */
static int look(struct set *s, bool arm)
{
	int ready = 0;

	s->ours = 0;
	for (nfds_t i = 0; i < s->nfds; i++) {
		struct pollfd *u = &s->user[i], *k = &s->kernel[i];
		struct ntbs_sock *sk = u->fd >= 0 ? ntbs_fdtab_sock(u->fd) : NULL;
		struct ntbs_ep *ep = u->fd >= 0 && !sk ? ntbs_epoll_of(u->fd) : NULL;
		bool fin;
		short ev;

		*k = (struct pollfd){ u->fd, u->events, 0 };
		u->revents = 0;
		if (ep) {		/* a set of ours inside: the kernel sees its kernel members and its mbox */
			s->ours++;
			ev = ntbs_epoll_any(ep, arm) ? RX_EVENTS : 0;
			k->events = RX_EVENTS;
			u->revents = ev & u->events;
			ready += u->revents != 0;
			continue;
		}
		if (!sk)
			continue;
		if (ntbs_sock_stage(sk) != NTBS_LIVE && atomic_load_explicit(&sk->shm->owed, memory_order_relaxed) > 0) {
			u->revents = POLLERR;
			ready++;
		}
		if (ntbs_sock_stage(sk) == NTBS_PLAIN)
			continue;
		if (arm && ntbs_sock_stage(sk) == NTBS_NEW) {
			uint32_t by = atomic_load(&sk->slept_on);

			if (by != ntbs_my_tid())		/* then the look: pairs with ntbs_epoll_sock_offer() */
				atomic_store(&sk->slept_on, by ? UINT32_MAX : ntbs_my_tid());
			atomic_thread_fence(memory_order_seq_cst);
		}
		if (ntbs_sock_flags(sk) & NTBS_SK_CONNECTING)
			ntbs_offer_look_connected(sk, u->fd);
		if (ntbs_sock_stage(sk) == NTBS_OFFER) {
			if (arm)
				ntbs_offer_sleepy(sk);
			ntbs_offer_step(sk, u->fd);
		}
		if (ntbs_sock_stage(sk) == NTBS_OFFER)
			s->ours++;
		if (ntbs_offer_held(sk))
			k->events &= ~TX_EVENTS;
		if (ntbs_sock_stage(sk) != NTBS_LIVE)
			continue;
		s->ours++;
		if (arm)
			ntbs_mbox_arm_set(sk);
		ev = ntbs_sock_ready(sk, u->fd, u->events, false);
		fin = atomic_load(&sk->shm->shadow_ev) & NTBS_SHADOW_END;
		if (on_ring(sk)) {
			k->events = (fin ? 0 : POLLRDHUP) | (u->events & POLLPRI);
			if (ntbs_sock_tx_state(sk) != NTBS_DIR_RING)
				k->events |= u->events & TX_EVENTS;
		} else if (ntbs_sock_tx_state(sk) == NTBS_DIR_RING) {
			k->events = (k->events & ~TX_EVENTS) | (fin ? 0 : POLLRDHUP);	/* it may be more than an end: shadow_end() */
		}
		u->revents = ev & (u->events | POLLHUP | POLLERR);
		ready += u->revents != 0;
	}
	return ready;
}

/* Merge what the kernel has shown into the answer. */
static int merge(struct set *s)
{
	int ready = 0;

	for (nfds_t i = 0; i < s->nfds; i++) {
		struct pollfd *u = &s->user[i], *k = &s->kernel[i];
		struct ntbs_sock *sk = u->fd >= 0 ? ntbs_fdtab_sock(u->fd) : NULL;

		if (sk && ntbs_sock_stage(sk) == NTBS_LIVE && (k->revents & NTBS_SHADOW_END)) {
			atomic_fetch_or(&sk->shm->shadow_ev, k->revents & NTBS_SHADOW_END);
			if (!on_ring(sk))
				k->revents |= ntbs_sock_ready(sk, u->fd, u->events, false);
		}
		if (sk && on_ring(sk)) {
			u->revents |= k->revents & u->events & POLLPRI;
			if (ntbs_sock_tx_state(sk) != NTBS_DIR_RING)
				u->revents |= k->revents & u->events & TX_EVENTS;
			u->revents |= ntbs_sock_ready(sk, u->fd, u->events, false) & (u->events | POLLHUP | POLLERR);
		} else if (u->fd >= 0 && !sk && ntbs_epoll_of(u->fd)) {
			struct ntbs_ep *ep = ntbs_epoll_of(u->fd);

			if ((k->revents & RX_EVENTS) && !u->revents && (ntbs_epoll_kernel_any(ep) || ntbs_epoll_any(ep, false)))
				u->revents = RX_EVENTS & u->events;
		} else {
			u->revents |= k->revents & (u->events | POLLHUP | POLLERR | POLLNVAL);
			if (k->revents && sk && ntbs_sock_stage(sk) == NTBS_NEW)
				ntbs_offer_look_connected(sk, u->fd);
			if (sk && ntbs_offer_held(sk))
				u->revents &= ~TX_EVENTS;
		}
		ready += u->revents != 0;
	}
	return ready;
}

static long ask_kernel(struct set *s, const struct timespec *ts, const sigset_t *mask)
{
	return ntbs_sys5(SYS_ppoll, s->kernel, s->nfds, ts, mask, 8);
}

static void put_waiter(void *arg)
{
	ntbs_waiter_put(*(int *)arg);
}

static void left_of(uint64_t until, struct timespec *ts)
{
	uint64_t now = ntbs_now_ns(), left = until > now ? until - now : 0;

	ts->tv_sec = left / 1000000000;
	ts->tv_nsec = left % 1000000000;
}

/* The last look, and the one call in which poll() sleeps; -EAGAIN: something is there. */
static long arm_and_sleep(struct set *s, uint64_t until, const sigset_t *mask, const struct ntbs_sig_mark *mark)
{
	struct timespec left, *ts = NULL;
	struct ntbs_undo undo;
	long ret = -EAGAIN;
	int waiter = -1;

	ntbs_section_enter();
	ntbs_undo_push(&undo, put_waiter, &waiter);
	waiter = s->full ? -1 : ntbs_waiter_get();
	ntbs_section_leave();
	if (!look(s, true)) {
		if (until) {
			left_of(until, &left);
			ts = &left;
		}
		if (waiter < 0 && (!ts || left.tv_sec || left.tv_nsec > 1000000)) {
			left = (struct timespec){ 0, 1000000 };	/* no descriptor left for the mbox: look each ms */
			ts = &left;
		}
		s->kernel[s->nfds] = (struct pollfd){ waiter, POLLIN, 0 };
		ret = ntbs_sleep(mark, SYS_ppoll, (long)s->kernel, s->nfds + (waiter >= 0), (long)ts, (long)mask, 8, 0);
		if (ret == -EINVAL && waiter >= 0) {	/* the program's part has been taken before */
			s->full = true;
			ret = -EAGAIN;
		}
	}
	ntbs_undo_pop(&undo);
	return ret;
}

static bool any_ours(const struct pollfd *fds, nfds_t nfds)
{
	for (nfds_t i = 0; i < nfds; i++) {
		struct ntbs_file *f = fds[i].fd >= 0 ? ntbs_fdtab_peek(fds[i].fd) : NULL;

		if (!f)
			continue;
		if (f->kind == NTBS_FILE_EPOLL)		/* what is to be hidden in it may come while the caller sleeps */
			return true;
		if (f->kind == NTBS_FILE_SOCK) {
			struct ntbs_sock *sk = (struct ntbs_sock *)f;
			enum ntbs_stage stage = ntbs_sock_stage(sk);

			/* NEW: another thread may connect it while the caller sleeps */
			if (stage != NTBS_PLAIN || atomic_load_explicit(&sk->shm->owed, memory_order_relaxed))
				return true;
		}
	}
	return false;
}

static int wait_set(struct set *s, const struct timespec *ts, const sigset_t *mask, const struct ntbs_sig_mark *mark)
{
	static const struct timespec zero;
	uint64_t until = ts ? ntbs_until(ts) : 0;
	bool poll_only = ts && !ts->tv_sec && !ts->tv_nsec;
	struct ntbs_spin spin;
	int n;
	long ret;

	for (;;) {
		n = look(s, false);
		/* what is ready comes before a signal, which then stays where the program's own mask has it */
		ret = ask_kernel(s, &zero, poll_only && !n ? mask : NULL);
		if (ret < 0 && !(n && ret == -EINTR))
			return ret;
		n = merge(s);
		if (n || poll_only)
			return n;
		if (s->ours && ntbs_spin_begin(&spin, NULL)) {
			uint64_t asked = ntbs_now_ns();

			do {
				n = look(s, false);
				if (!n && ntbs_now_ns() - asked > KERNEL_EVERY_NS && s->nfds > (nfds_t)s->ours) {
					n = ask_kernel(s, &zero, NULL) > 0;
					asked = ntbs_now_ns();
				}
			} while (!n && ntbs_spin_more(&spin) && (!ts || ntbs_now_ns() < until));
			ntbs_spin_end(&spin, n);
			if (n)
				continue;	/* once more, with the kernel's members */
		}
		ret = arm_and_sleep(s, until, mask, mark);
		if (ret == -EAGAIN)
			continue;
		if (ret < 0)
			return ret;
		n = merge(s);
		if (n)
			return n;
		if (ts && ntbs_now_ns() >= until)
			return look(s, false);
	}
}

static void unmap(void *arg)
{
	struct set *s = arg;

	ntbs_sys2(SYS_munmap, s->kernel, (s->nfds + 1) * sizeof(struct pollfd));
}

#define A_PAGE (4096 / sizeof(struct pollfd))

/* Each page of the answers. */
static bool writable(struct pollfd *fds, nfds_t nfds)
{
	for (nfds_t i = 0; i < nfds; i += A_PAGE)
		if (ntbs_user_touch(&fds[i].revents))
			return false;
	return !ntbs_user_touch(&fds[nfds - 1].revents);
}

int ntbs_poll(struct pollfd *fds, nfds_t nfds, const struct timespec *ts, const sigset_t *mask, const struct ntbs_sig_mark *mark)
{
	struct set s = { .user = fds, .nfds = nfds };
	size_t bytes = (nfds + 1) * sizeof(struct pollfd);
	struct ntbs_sig_mark begun = *mark;
	struct ntbs_masked masked;
	struct ntbs_undo undo;
	long mem = 0;
	int ret;

	if (nfds > 1u << 20 || !ntbs_user_readable(fds, nfds * sizeof(*fds)) || !any_ours(fds, nfds) || !writable(fds, nfds))
		return -ENTBS_PASS;
	ntbs_cancel_point();
	if (nfds < ON_STACK) {
		s.kernel = alloca(bytes);
	} else {
		mem = ntbs_sys6(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (mem < 0 && mem > -4096)
			return -ENOMEM;
		s.kernel = (struct pollfd *)mem;
	}
	if (mem)
		ntbs_undo_push(&undo, unmap, &s);
	ntbs_mask_begin(&masked, mask);
	if (masked.held)
		begun = ntbs_sig_mark();
	ret = wait_set(&s, ts, mask, &begun);
	if (mem)
		ntbs_undo_pop(&undo);
	ntbs_mask_end(&masked);
	return ret;
}
