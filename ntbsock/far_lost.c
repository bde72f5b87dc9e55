// SPDX-License-Identifier: BSD-2-Clause
/* far_lost.c - see far.h: a session of the port ends under its connections */
#include "far.h"

#include <poll.h>

#include "handover.h"
#include "log.h"
#include "mbox.h"
#include "wait.h"

#define MOVING_NS 2000000000ull
#define LOOK_MS 5

static _Atomic uint64_t moving_until_ns;	/* 0: nothing moves */

static bool is_of(struct ntbs_sock *sk, const struct ntbs_far *f)
{
	return ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk) && sk->file.fds > 0 && sk->q.port == &f->window.port;
}

static void leave(struct ntbs_sock *sk, void *arg)
{
	if (!ntbs_sock_try_get(sk))
		return;
	if (is_of(sk, arg))
		ntbs_handover_at_tails(sk, sk->fd, NTBS_WHY_LINK);
	ntbs_sock_put(sk);
}

static void end_session(struct ntbs_far *f)
{
	if (atomic_exchange(&f->down, true))
		return;
	ntbs_sock_for_each(leave, f);
	moving_until_ns = ntbs_now_ns() + MOVING_NS;
}

void ntbs_far_look(void)
{
	for (struct ntbs_far *f = ntbs_far_sessions(); f; f = f->next) {
		const struct ntbs_ctl_shm *ctl;

		if (f->down)		/* said by us alone, so until then it is mapped */
			continue;
		ctl = (const struct ntbs_ctl_shm *)(f->arena + NTBS_ARENA_CTL);
		if (ntbs_le32_read_acquire(&ctl->down) == f->session)
			end_session(f);
	}
}

void ntbs_far_orphaned(void)
{
	for (struct ntbs_far *f = ntbs_far_sessions(); f; f = f->next)
		end_session(f);
}

/*
 * Will what the peer has sent be whole?  It has said where the ring ends, and everything before that is here.  A word that
 * says so can have come although slots before it were lost.
 */
static bool all_here(struct ntbs_sock *sk)
{
	uint64_t q = ntbs_le64_read_acquire(&sk->q.in->q), final = ntbs_le64_read_acquire(&sk->q.in->final), end = q ? q : final;
	struct ntbs_dir_rx_shm *rx = &sk->shm->rx;
	ssize_t more;

	if (!end)
		return rx->state == NTBS_DIR_BACK;
	if (rx->state == NTBS_DIR_BACK || (!q && final == NTBS_POS_ON_TCP))
		return true;
	if (rx->state == NTBS_DIR_TCP)
		return end == 1;		/* it never went to the ring; else its switch is missing */
	more = ntbs_msgq_avail(&sk->q);
	return more >= 0 && rx->mq.pos + (uint64_t)more >= end - 1;
}

/* Who has not answered will not; bytes may be missing that nobody can name. */
static void judge(struct ntbs_sock *sk, void *arg)
{
	bool lost = false;

	if (!ntbs_sock_try_get(sk))
		return;
	if (is_of(sk, arg) && !(ntbs_sock_flags(sk) & NTBS_SK_RESET)) {
		ntbs_sock_lock_rx(sk);
		ntbs_stream_rx_look(sk, sk->fd);
		lost = !all_here(sk);
		ntbs_unlock(&sk->shm->rx.lock);
	}
	if (lost) {
		ntbs_sock_set_flag(sk, NTBS_SK_RESET);
		ntbs_write_once(sk->shm->conn.reason, NTBS_WHY_LINK);
		ntbs_log(NTBS_LOG_WARN, "connection from port %u to port %u reset: the link to its host is lost",
			 sk->shm->conn.tuple.lport, sk->shm->conn.tuple.rport);
		atomic_fetch_or(&sk->shm->shadow_ev, POLLERR);
		ntbs_mbox_wake_own(sk);
	}
	ntbs_sock_put(sk);
}

static void wake(struct ntbs_sock *sk, void *arg)
{
	if (!ntbs_sock_try_get(sk))
		return;
	if (is_of(sk, arg))
		ntbs_mbox_wake_own(sk);
	ntbs_sock_put(sk);
}

int ntbs_far_tick(void)
{
	uint64_t until = moving_until_ns;
	bool over = until && ntbs_now_ns() > until;

	if (!until)
		return -1;
	for (struct ntbs_far *f = ntbs_far_sessions(); f; f = f->next)
		if (f->down) {
			ntbs_sock_for_each(over ? judge : wake, f);
			if (over)
				ntbs_far_sever(f);
		}
	ntbs_bell_ring(ntbs_rt.mbox[ntbs_rt.mbox_self]);	/* sets */
	if (over)
		atomic_compare_exchange_strong(&moving_until_ns, &until, 0);
	return LOOK_MS;
}
