// SPDX-License-Identifier: BSD-2-Clause
/* sock_call.c - see sock_call.h */
#include "sock_call.h"

#include <errno.h>
#include <poll.h>

#include "offer.h"
#include "preload.h"
#include "shadow.h"
#include "sys.h"

#define DISSOLVED_NS 100000000		/* the kernel's connect() returns at once */

/* Handlers that run after this interrupt the later messages of a call. */
static __thread struct ntbs_sig_mark first_message;

void ntbs_sock_first_message(void)
{
	first_message = ntbs_sig_mark();
}

int ntbs_sock_owed(struct ntbs_sock *sk)
{
	int owed = atomic_exchange(&sk->shm->owed, 0), err = 0;
	socklen_t len = sizeof(err);

	if (owed && sk->file.fds > 0)
		ntbs_sys5(SYS_getsockopt, sk->fd, SOL_SOCKET, SO_ERROR, &err, &len);
	return err ? err : owed > 0 ? owed : 0;
}

static void unpin(void *arg)
{
	struct ntbs_pin *pin = arg;
	int kept = ntbs_fdtab_unpin(pin->sk);

	if (kept >= 0)
		ntbs_fd_close_kept(kept);
	ntbs_sock_put(pin->sk);
	pin->sk = NULL;
}

bool ntbs_call_pin(struct ntbs_pin *pin, struct ntbs_wait *w, struct ntbs_sock *sk, int fd)
{
	bool current;

	ntbs_section_enter();
	if (!ntbs_sock_try_get(sk)) {
		ntbs_section_leave();
		return false;
	}
	current = ntbs_fdtab_pin(sk, fd);
	pin->sk = w->pinned = sk;
	ntbs_undo_push(&pin->undo, unpin, pin);
	ntbs_section_leave();
	if (!current)
		ntbs_call_unpin(pin, w);
	return current;
}

void ntbs_call_unpin(struct ntbs_pin *pin, struct ntbs_wait *w)
{
	w->pinned = NULL;
	ntbs_undo_pop(&pin->undo);
}

bool ntbs_call_how_long(struct ntbs_wait *w, const struct ntbs_sock *sk, uint64_t timeo_ns, bool moved, int flags)
{
	const struct ntbs_sig_mark now = ntbs_sig_mark();
	bool anew = false;

	w->dissolved = atomic_load(&sk->shm->dissolved);
	if (!w->deadline_ns)
		w->deadline_ns = timeo_ns ? ntbs_now_ns() + timeo_ns : NTBS_NO_DEADLINE;
	w->restarts = !ntbs_wait_ends(w) && !moved && !(flags & NTBS_MSG_LATER);
	w->peeks = moved && (flags & MSG_PEEK);
	if (flags & NTBS_MSG_LATER) {
		w->mark = first_message;
	} else if (w->restarts && now.hard == w->mark.hard) {
		anew = now.all != w->mark.all;
		w->mark = now;
	}
	if (flags & NTBS_MSG_FIRST)
		first_message = w->mark;
	return anew;
}

struct ntbs_sock *ntbs_call_follow(struct ntbs_sock *sk, uint32_t serial, int fd)
{
	struct ntbs_sock *now = ntbs_fdtab_sock(fd), *next = sk;

	while (next && next != now)
		next = ntbs_sock_after(next);
	return next != sk && sk->serial == serial ? next : NULL;
}

void ntbs_call_until_dissolved(int fd, const struct ntbs_wait *w)
{
	struct ntbs_wait some = *w;

	some.deadline_ns = ntbs_now_ns() + DISSOLVED_NS;
	while (!(ntbs_shadow_poll(fd, 0) & POLLHUP) && !ntbs_wait_shadow(fd, 0, &some))
		;
}

void ntbs_call_look_connected(struct ntbs_sock *sk, int fd)
{
	ntbs_offer_look_connected(sk, fd);
	if (ntbs_sock_stage(sk) != NTBS_NEW || (ntbs_sock_flags(sk) & NTBS_SK_NONBLOCK))
		return;
	ntbs_lock(&sk->shm->ctl);
	if (ntbs_sock_stage(sk) == NTBS_NEW)
		ntbs_sock_plain(sk, NTBS_WHY_OPTION);
	ntbs_unlock(&sk->shm->ctl);
}

ssize_t ntbs_call_enter(struct ntbs_sock *sk, int fd, bool rx)
{
	enum ntbs_stage stage = ntbs_sock_stage(sk);
	int err;

	if (stage == NTBS_PLAIN) {
		if (__builtin_expect(!atomic_load(&sk->shm->owed), 1))
			return -ENTBS_PASS;
		/* an urgent byte counts as one that has come, and is not read */
		if (rx && ntbs_shadow_arrived(fd) && ntbs_shadow_end(fd) > 0)
			return -ENTBS_PASS;
		err = ntbs_sock_take_owed(sk);
		return err ? -err : -ENTBS_PASS;
	}
	if (stage == NTBS_NEW) {
		if (!(ntbs_sock_flags(sk) & NTBS_SK_CONNECTING))
			return -ENTBS_PASS;
		ntbs_call_look_connected(sk, fd);
		stage = ntbs_sock_stage(sk);
		if (stage == NTBS_NEW || stage == NTBS_PLAIN)
			return -ENTBS_PASS;
	}
	if (stage == NTBS_OFFER) {
		ntbs_offer_step(sk, fd);
		if (ntbs_sock_stage(sk) == NTBS_PLAIN)
			return -ENTBS_PASS;
	}
	return 0;
}

/* By itself it would begin again after a handler; one that has run ends the wait, not the look at what is there. */
ssize_t ntbs_sock_later_by_kernel(struct ntbs_sock *sk, int fd, struct msghdr *msg, int flags)
{
	long ret;

	if ((flags & (MSG_DONTWAIT | MSG_OOB | MSG_ERRQUEUE)) || (ntbs_sock_flags(sk) & NTBS_SK_NONBLOCK))
		return -ENTBS_PASS;
	ret = ntbs_sleep(&first_message, SYS_recvmsg, fd, (long)msg, flags, 0, 0, 0);
	if (ret != -EINTR)
		return ret;
	ret = ntbs_sys3(SYS_recvmsg, fd, msg, flags | MSG_DONTWAIT);
	return ret == -EAGAIN ? -EINTR : ret;
}
