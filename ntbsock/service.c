// SPDX-License-Identifier: BSD-2-Clause
/* service.c - see service.h */
#include "service.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>

#include "far.h"
#include "fdtab.h"
#include "getfd.h"
#include "handover.h"
#include "log.h"
#include "mbox.h"
#include "offer.h"
#include "runtime.h"
#include "sys.h"

#define STACK_BYTES (256 << 10)
#define TAG_BROKER 1ull
#define TAG_BELL 2ull
#define TAG_LIFE 3ull
#define TAG_SOCK (1ull << 63)		/* and serial 31 bits, index 32 bits */

static struct ntbs_lock start_lock;
static _Atomic int epfd = -1;
static _Atomic int running;
static _Atomic int stopping;
static _Atomic int service_tid;

bool ntbs_service_runs(void)
{
	return atomic_load(&running);
}

static uint64_t tag_of(const struct ntbs_sock *sk)
{
	return TAG_SOCK | (uint64_t)(sk->serial & 0x7fffffff) << 32 | ntbs_sock_index(sk);
}

/* With a reference; NULL: it has gone, and the object may be another connection's by now. */
static struct ntbs_sock *get_sock(uint64_t tag)
{
	struct ntbs_sock *sk = ntbs_sock_by_index((uint32_t)tag);

	if (!sk || !ntbs_sock_try_get(sk))
		return NULL;
	if ((sk->serial & 0x7fffffff) == (tag >> 32 & 0x7fffffff))
		return sk;
	ntbs_sock_put(sk);
	return NULL;
}

static int ctl(int op, int fd, uint32_t events, uint64_t tag)
{
	struct epoll_event ev = { .events = events, .data.u64 = tag };

	return ntbs_sys4(SYS_epoll_ctl, epfd, op, fd, &ev);
}

void ntbs_service_want_room(struct ntbs_sock *sk, int fd)
{
	ntbs_service_watch(sk, fd);
	/* -ENOENT: it was watched by a number that has been closed since */
	if (ctl(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLRDHUP | EPOLLOUT | EPOLLET, tag_of(sk)) == -ENOENT)
		ctl(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP | EPOLLOUT | EPOLLET, tag_of(sk));
}

static void on_shadow(struct ntbs_sock *sk, uint32_t events)
{
	if (events & EPOLLOUT) {
		ntbs_sock_lock_tx(sk);
		if (sk->file.fds > 0)
			ntbs_stream_replay(sk, sk->fd);	/* -EAGAIN: the next edge goes on */
		ntbs_unlock(&sk->shm->tx.lock);
	}
	atomic_fetch_or(&sk->shm->shadow_ev, events & (POLLIN | POLLRDHUP | POLLHUP | POLLERR));
	if (ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk))
		ntbs_mbox_wake_own(sk);
}

/* The peer asks for TCP; the program may be in a computation, or asleep with nobody to read. */
static void answer(struct ntbs_sock *sk, void *arg)
{
	uint64_t asked;

	if (!ntbs_sock_try_get(sk))
		return;
	/* claimed or confirmed, and asked back at once, before a call of the program has noticed */
	if (ntbs_sock_stage(sk) == NTBS_OFFER && sk->file.fds > 0)
		ntbs_offer_step(sk, sk->fd);
	if (ntbs_sock_stage(sk) != NTBS_LIVE || !ntbs_sock_attach(sk) || sk->file.fds <= 0)
		goto out;
	asked = ntbs_le64_read_acquire(&sk->q.in->asked);
	if (!asked)
		goto out;
	ntbs_sock_lock_tx(sk);
	/* answered by a call of the program, too: it may not come back to go on with the replay */
	if (sk->file.fds > 0 && ntbs_stream_answer(sk, sk->fd, asked - 1) == -EAGAIN)
		ntbs_service_want_room(sk, sk->fd);
	ntbs_unlock(&sk->shm->tx.lock);
	ntbs_mbox_poke(sk);
	ntbs_mbox_wake_all(sk);
	if (ntbs_le32_read_acquire(&sk->q.in->again))
		ntbs_handover_look(sk);
out:
	ntbs_sock_put(sk);
}

static void step(struct ntbs_sock *sk, void *arg)
{
	if (!ntbs_sock_try_get(sk))
		return;
	if (ntbs_sock_stage(sk) == NTBS_OFFER && sk->file.fds > 0 && (!ntbs_read_once(sk->shm->conn.accepted) || sk->shm->claim_waits))
		ntbs_offer_step(sk, sk->fd);
	ntbs_sock_put(sk);
}

void ntbs_service_step(void)
{
	ntbs_sock_for_each(step, NULL);
}

void ntbs_service_take_news(void)
{
	int nr = ntbs_broker_receive();

	if (!nr)
		return;
	if (nr < 0)
		ntbs_log(NTBS_LOG_INFO, "the broker has gone; new connections stay on TCP until it is back");
	/* a channel may have come for which somebody waits; sleepers on our mbox look for themselves */
	ntbs_service_step();
	if (ntbs_rt.mbox[0] >= 0)
		ntbs_bell_ring(ntbs_rt.mbox[0]);
}

static void *service(void *arg)
{
	struct epoll_event ev[32];

	service_tid = ntbs_sys0(SYS_gettid);
	for (;;) {
		int wait_ms = ntbs_far_tick(), held_ms = ntbs_offer_tick();
		bool soon = held_ms >= 0 && (wait_ms < 0 || held_ms < wait_ms);
		long n = ntbs_sys6(SYS_epoll_pwait, epfd, (long)ev, 32, soon ? held_ms : wait_ms, 0, 8);

		if (stopping)
			return NULL;
		if (wait_ms >= 0)
			ntbs_sock_for_each(answer, NULL);	/* nobody rings for what the other side asks */
		if (n < 0 && n != -EINTR)
			break;		/* somebody has closed our descriptor by force */
		for (long i = 0; i < n; i++) {
			uint64_t tag = ev[i].data.u64;
			struct ntbs_sock *sk;

			if (tag == TAG_BROKER)
				ntbs_service_take_news();
			else if (tag == TAG_BELL) {
				ntbs_far_look();
				ntbs_sock_for_each(answer, NULL);
			} else if (tag == TAG_LIFE) {
				ntbs_far_orphaned();
			} else if ((sk = get_sock(tag)) != NULL) {
				on_shadow(sk, ev[i].events);
				ntbs_sock_put(sk);
			}
		}
	}
	ntbs_log(NTBS_LOG_ERR, "the service thread's descriptor was closed by the program; handovers asked for by peers "
		 "wait for the program's next call");
	return NULL;
}

static void watch_life(void)
{
	if (ntbs_far_life() >= 0)
		ctl(EPOLL_CTL_ADD, ntbs_far_life(), EPOLLET, TAG_LIFE);	/* EPOLLERR is always told */
}

void ntbs_service_watch_life(int old)
{
	if (old >= 0 && epfd >= 0)
		ctl(EPOLL_CTL_DEL, old, 0, 0);
	if (running)
		watch_life();
}

bool ntbs_service_thread(void *(*fn)(void *), void *arg)
{
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t thread;
	int ret;

	sigfillset(&all);
	if (pthread_attr_init(&attr))
		return false;
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	ntbs_sys4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, 8);
	ret = pthread_create(&thread, &attr, fn, arg);
	ntbs_sys4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, 8);
	pthread_attr_destroy(&attr);
	return !ret;
}

bool ntbs_service_start(void)
{
	long fd;

	if (atomic_load_explicit(&running, memory_order_acquire))
		return true;
	ntbs_lock(&start_lock);
	if (!running) {
		if (epfd < 0) {
			ntbs_fd_low_begin();
			fd = ntbs_sys1(SYS_epoll_create1, EPOLL_CLOEXEC);
			if (fd >= 0)
				epfd = ntbs_fd_hide(fd);
			ntbs_fd_low_end();
		}
		if (epfd >= 0) {
			if (ntbs_rt.broker >= 0)
				ctl(EPOLL_CTL_ADD, ntbs_rt.broker, EPOLLIN, TAG_BROKER);
			if (ntbs_rt.service_bell >= 0)
				ctl(EPOLL_CTL_ADD, ntbs_rt.service_bell, EPOLLIN | EPOLLET, TAG_BELL);
			watch_life();
			running = ntbs_service_thread(service, NULL);
		}
	}
	ntbs_unlock(&start_lock);
	return running;
}

void ntbs_service_stop(void)
{
	ntbs_getfd_wait();		/* which may need the service thread */
	ntbs_lock(&start_lock);
	if (running) {
		stopping = 1;
		while (!service_tid || ntbs_sys2(SYS_tkill, service_tid, 0) != -ESRCH) {
			ntbs_bell_ring(ntbs_rt.service_bell);
			ntbs_sys0(SYS_sched_yield);
		}
		/*
		 * Its number is gone a moment before its share of the signal handlers (__exit_signal()), which unshare(2) counts:
		 * both under a lock that signalling a group waits for, with no signal as well (kill_something_info()).
		 */
		ntbs_sys2(SYS_kill, 0, 0);
		service_tid = running = stopping = 0;
	}
	ntbs_unlock(&start_lock);
}

bool ntbs_service_pause(void)
{
	bool was = atomic_load_explicit(&running, memory_order_acquire);

	if (was)
		ntbs_service_stop();
	return was;
}

void ntbs_service_go_on(void)
{
	if (ntbs_service_start())
		ntbs_bell_ring(ntbs_rt.service_bell);	/* an edge may have been told to the one before */
}

void ntbs_service_new_broker(void)
{
	if (running && ntbs_rt.broker >= 0)
		ctl(EPOLL_CTL_ADD, ntbs_rt.broker, EPOLLIN, TAG_BROKER);
}

bool ntbs_service_watch(struct ntbs_sock *sk, int fd)
{
	struct ntbs_sock *after;
	int ret;

	if (atomic_load_explicit(&sk->watched, memory_order_acquire))
		return true;
	if (!ntbs_service_start())
		return false;
	ret = ctl(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP | EPOLLET, tag_of(sk));
	/* another thread was quicker, or a stale registration of a descriptor of this number lives on, which may want room */
	if (ret == -EEXIST)
		ret = ctl(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLRDHUP | EPOLLOUT | EPOLLET, tag_of(sk));
	if (ret < 0)		/* no memory, or as many are watched as the user may: fs.epoll.max_user_watches */
		return false;
	atomic_store_explicit(&sk->watched, 1, memory_order_release);
	while ((after = ntbs_sock_after(sk)) != NULL) {	/* too late: it is its next object that is watched */
		sk = after;
		ctl(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLRDHUP | EPOLLET, tag_of(sk));
	}
	return true;
}

void ntbs_service_unwatch(struct ntbs_sock *sk, int fd)
{
	if (epfd >= 0)
		ctl(EPOLL_CTL_DEL, fd, 0, 0);
	atomic_store(&sk->watched, 0);
}

void ntbs_service_let_go(struct ntbs_sock *sk)
{
	/* counts as watched: who is about to ask for it does not, any more.  A registration stays and becomes the next's. */
	atomic_store(&sk->watched, 1);
}

void ntbs_service_fork_child(void)
{
	ntbs_lock_reset(&start_lock);
	service_tid = running = stopping = 0;
	if (epfd >= 0)
		ntbs_fd_unhide_close(epfd);	/* the parent's instance: ours is a copy of the descriptor */
	epfd = -1;
}

static void may_be_asked(struct ntbs_sock *sk, void *arg)
{
	bool *needs = arg;

	*needs |= sk->file.fds > 0 && (ntbs_sock_stage(sk) == NTBS_LIVE || sk->shm->claim_asked);
}

void ntbs_service_serve_child(void)
{
	bool needs = false;

	ntbs_sock_for_each(may_be_asked, &needs);
	if (needs)
		ntbs_service_start();
}
