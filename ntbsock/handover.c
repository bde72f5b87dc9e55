// SPDX-License-Identifier: BSD-2-Clause
/* handover.c - see handover.h */
#include "handover.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>

#include "again.h"
#include "epoll.h"
#include "fdtab.h"
#include "holders.h"
#include "log.h"
#include "mbox.h"
#include "offer.h"
#include "relay.h"
#include "runtime.h"
#include "service.h"
#include "shadow.h"
#include "stats.h"
#include "sys.h"
#include "wait.h"

#define ANSWER_WAIT_NS 2000000000ull	/* a peer that is stopped must not stop us for ever */
#define MOMENT_NS 20000000ull		/* for who answers at once, when others have used up the time of all */
#define LOOK_AGAIN_NS 1000000ull
#define REPLAY_WAIT_NS 100000000ull	/* what TCP's buffers do not hold comes when it is read */

static void leave_tx(struct ntbs_sock *sk, int fd, enum ntbs_reason why)
{
	ntbs_sock_set_flag(sk, NTBS_SK_NO_SWITCH);	/* an offer may stand: the other direction is not concerned */
	if (ntbs_sock_stage(sk) != NTBS_LIVE || !ntbs_sock_attach(sk))
		return;
	ntbs_sock_lock_tx(sk);
	/* without holders it has ended, at exit: the lease may be another connection's by now */
	if (atomic_load(&sk->shm->holders) > 0) {
		ntbs_stream_leave_tx(sk, fd, why);
		/* stated also by who has sent nothing: the peer may ask when nobody is there any more who answers */
		if (sk->shm->tx.state == NTBS_DIR_TCP &&
		    (why == NTBS_WHY_EXEC || why == NTBS_WHY_PASSED || why == NTBS_WHY_SANDBOX))
			ntbs_stream_answer(sk, fd, NTBS_POS_TAIL - 1);
	}
	ntbs_unlock(&sk->shm->tx.lock);
	ntbs_mbox_poke(sk);
}

/*
 * The flag first: a connection that leaves its object meanwhile takes it along, or the next object gets it from us.  If the peer
 * has died unnoticed, the kernel's call that follows is to find the reset.  Behind our FIN a call of the program sends nothing:
 * what lies in the ring stays known for the case that its reader dies.
 */
void ntbs_handover_tx(struct ntbs_sock *sk, int fd, enum ntbs_reason why)
{
	for (; sk; sk = ntbs_sock_after(sk)) {
		if (ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk) && ntbs_shadow_poll(fd, POLLRDHUP))
			ntbs_stream_died_for_others(sk, fd, why != NTBS_WHY_SANDBOX);
		if (why != NTBS_WHY_OPTION || !(ntbs_sock_flags(sk) & NTBS_SK_SHUT_WR))
			leave_tx(sk, fd, why);
	}
}

void ntbs_handover_before_exit(struct ntbs_sock *sk, int fd)
{
	if (atomic_load(&sk->shm->holders) == 1 && !(ntbs_sock_flags(sk) & NTBS_SK_SHUT_WR))
		leave_tx(sk, fd, NTBS_WHY_NOT_USED);
}

/* Position up to which we have taken what the peer sent. */
static int consumed(struct ntbs_sock *sk, int fd, uint64_t *pos)
{
	bool closed;

	if (sk->shm->rx.state == NTBS_DIR_TCP)
		return ntbs_shadow_read(fd, pos, &closed);
	*pos = sk->shm->rx.mq.pos;
	return 0;
}

/*
 * The peer has stated the end, and cannot bring back what lies before it: its FIN has gone out.  Is there nothing of the
 * ring to bring?  Then the end is the kernel's to tell, and what a new holder makes of the socket behind it.
 */
static bool at_end(struct ntbs_sock *sk, uint64_t final)
{
	if (final == NTBS_POS_ON_TCP)
		return true;
	if (sk->shm->rx.state != NTBS_DIR_RING || sk->shm->rx.mq.pos != final - 1)
		return false;
	ntbs_stream_rx_back(sk);
	return true;
}

/* Nobody will answer.  The error of a reset stays with the kernel, which tells it once. */
static bool gone(struct ntbs_sock *sk, int fd)
{
	if (ntbs_inbox_peer_closed(sk->q.in) || ntbs_shadow_broken(fd))
		return true;
	/* a FIN without a stated end is a death */
	return ((ntbs_sock_flags(sk) & NTBS_SK_SHUT_RD) ? ntbs_shadow_peer_ended(fd) : ntbs_shadow_poll(fd, POLLRDHUP) != 0) &&
	       !ntbs_le64_read_acquire(&sk->q.in->final);
}

/* The first bytes of TCP have been read from the ring: whoever reads without us must not find them. */
static void await_twice(struct ntbs_sock *sk, int fd)
{
	const uint64_t until_ns = ntbs_now_ns() + ANSWER_WAIT_NS;

	do {
		/* at an end of our own the kernel calls it readable, come or not: so a look now and then */
		const bool tells = !(ntbs_sock_flags(sk) & NTBS_SK_SHUT_RD);
		struct ntbs_wait w = { .deadline_ns = tells ? until_ns : ntbs_now_ns() + LOOK_AGAIN_NS, .mark = ntbs_sig_mark() };

		ntbs_sock_lock_rx(sk);
		ntbs_stream_rx_look(sk, fd);
		ntbs_unlock(&sk->shm->rx.lock);
		if (!ntbs_read_once(sk->shm->rx.twice))
			return;
		ntbs_wait_shadow(fd, tells ? POLLIN | POLLRDHUP : 0, &w);
	} while (ntbs_now_ns() < until_ns);
}

/* Has TCP brought once more what lies in the ring behind Q? */
static bool replayed(struct ntbs_sock *sk, int fd)
{
	struct ntbs_shadow_info info;
	uint64_t w, q, end;
	ssize_t n;

	ntbs_sock_lock_rx(sk);
	w = sk->shm->rx.w;
	q = ntbs_le64_read_acquire(&sk->q.in->q);
	n = ntbs_msgq_avail(&sk->q);
	end = sk->shm->rx.mq.pos + n;
	ntbs_unlock(&sk->shm->rx.lock);
	if (n <= 0 || !w || !q || ntbs_shadow_info(fd, &info))
		return true;
	return (int64_t)(info.bytes_received - (w - 1)) >= (int64_t)(end - (q - 1));
}

/* Q is stated before the first of those bytes: they have come before whatever the program does next with the socket. */
static void await_replay(struct ntbs_sock *sk, int fd)
{
	struct ntbs_wait w = { .deadline_ns = ntbs_now_ns() + REPLAY_WAIT_NS };
	int ret = 0;

	while (!ret) {
		uint32_t value = ntbs_mbox_arm_futex(sk);

		w.mark = ntbs_sig_mark();
		if (replayed(sk, fd) || gone(sk, fd))
			ret = -EAGAIN;
		else if (ntbs_mbox_sleep(sk, value, &w) == -ETIMEDOUT)
			ret = -ETIMEDOUT;
		ntbs_mbox_slept(sk);
	}
}

/* @until_ns may be the end for many, and over. */
static uint64_t answer_deadline(uint64_t until_ns)
{
	uint64_t moment = ntbs_now_ns() + MOMENT_NS;

	return until_ns < moment ? moment : until_ns;
}

static bool asked_for_tcp(struct ntbs_sock *sk, int fd, uint64_t until_ns)
{
	const uint32_t shut = NTBS_SK_SHUT_RD | NTBS_SK_SHUT_WR;
	struct ntbs_dir_rx_shm *rx = &sk->shm->rx;
	uint64_t final;
	struct ntbs_wait w = { .deadline_ns = answer_deadline(until_ns) };
	uint64_t pos = 0;
	bool done = false;

	ntbs_sock_lock_rx(sk);
	ntbs_stream_rx_look(sk, fd);
	done = rx->state == NTBS_DIR_BACK;
	final = ntbs_le64_read_acquire(&sk->q.in->final);
	if (done || final || consumed(sk, fd, &pos)) {
		done |= final && at_end(sk, final);
		ntbs_unlock(&rx->lock);
		return done;
	}
	/* A kernel that is shut both ways answers bytes with a reset: those that are here already were not late. */
	if ((ntbs_sock_flags(sk) & shut) == shut)
		pos = NTBS_POS_TAIL - 1;
	else
		ntbs_sock_set_flag(sk, NTBS_SK_WANT_TCP);
	ntbs_window_store64(sk->q.port, &sk->q.out->asked, pos + 1);
	ntbs_unlock(&rx->lock);
	ntbs_peer_ring_service(sk->chan);
	ntbs_mbox_poke(sk);
	for (;;) {
		uint32_t value = ntbs_mbox_arm_futex(sk);
		uint64_t q;
		int ret = 0;

		w.mark = ntbs_sig_mark();	/* no handler ends this wait, it only comes back here */
		if (!ntbs_le64_read_acquire(&sk->q.in->q) && !ntbs_le64_read_acquire(&sk->q.in->final) && !gone(sk, fd)) {
			ntbs_service_watch(sk, fd);
			ret = ntbs_mbox_sleep(sk, value, &w);
		}
		ntbs_mbox_slept(sk);
		ntbs_sock_lock_rx(sk);
		final = ntbs_le64_read_acquire(&sk->q.in->final);
		q = ntbs_le64_read_acquire(&sk->q.in->q);
		ntbs_stream_rx_look(sk, fd);		/* sees what they say, and the switch before them */
		if (q) {
			done = rx->state == NTBS_DIR_BACK;
			ntbs_unlock(&rx->lock);
			break;
		}
		done = final && at_end(sk, final);
		ntbs_unlock(&rx->lock);
		if (final)
			break;
		if (gone(sk, fd)) {
			/* the peer has gone: whole only if nothing of its is left in the ring */
			ntbs_sock_lock_rx(sk);
			done = ntbs_msgq_avail(&sk->q) <= 0;
			ntbs_unlock(&rx->lock);
			break;
		}
		if (ret == -ETIMEDOUT) {
			ntbs_stats_timer_ran_out();
			break;
		}
	}
	ntbs_sock_clear_flag(sk, NTBS_SK_WANT_TCP);
	if (done)
		await_replay(sk, fd);
	return done;
}

static bool ask_for_tcp(struct ntbs_sock *sk, int fd, uint64_t until_ns)
{
	bool done = asked_for_tcp(sk, fd, until_ns);

	if (__builtin_expect(ntbs_read_once(sk->shm->rx.twice), 0))
		await_twice(sk, fd);
	return done;
}

static bool leave_both(struct ntbs_sock *sk, int fd, enum ntbs_reason why, uint64_t until_ns)
{
	enum ntbs_reason was;
	bool done = true;

	if (ntbs_sock_stage(sk) == NTBS_OFFER)
		ntbs_offer_withdraw(sk, why);
	if (why == NTBS_WHY_EXEC || why == NTBS_WHY_PASSED)
		ntbs_sock_set_flag(sk, NTBS_SK_PASSED);
	if (ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk) && ntbs_shadow_poll(fd, POLLRDHUP)) {
		if (why == NTBS_WHY_EXEC || why == NTBS_WHY_PASSED || why == NTBS_WHY_SANDBOX)
			ntbs_stream_died_for_others(sk, fd, why != NTBS_WHY_SANDBOX);
		else
			ntbs_stream_died(sk, fd);
	}
	if (why != NTBS_WHY_OPTION || !(ntbs_sock_flags(sk) & NTBS_SK_SHUT_WR))		/* see ntbs_handover_tx() */
		leave_tx(sk, fd, why);
	if (ntbs_sock_stage(sk) == NTBS_NEW && !ntbs_offer_never(sk, why) && ntbs_sock_stage(sk) == NTBS_OFFER)
		ntbs_offer_withdraw(sk, why);
	if (ntbs_sock_stage(sk) != NTBS_LIVE || !ntbs_sock_attach(sk))
		return true;
	done = ask_for_tcp(sk, fd, until_ns);
	was = ntbs_read_once(sk->shm->conn.reason);
	if (was == NTBS_WHY_NONE || was == NTBS_WHY_PEER_ASKED)
		ntbs_write_once(sk->shm->conn.reason, why);
	return done;
}

/*
 * Bytes of ours that are to go by TCP once more: what the next holder sends must come behind them.  A relay can have them, and
 * soon; where a process @stays that sends them, it is waited for.
 */
static void await_sent(struct ntbs_sock *sk, int fd, bool stays)
{
	struct ntbs_wait w = { .deadline_ns = ntbs_now_ns() + (stays ? ANSWER_WAIT_NS : REPLAY_WAIT_NS) };
	bool known = ntbs_fdtab_peek(fd) == &sk->file, still = true;	/* or another number of ours (getfd.c) */

	while (still && ntbs_read_once(sk->shm->tx.replay) && ntbs_now_ns() < w.deadline_ns) {
		w.mark = ntbs_sig_mark();
		ntbs_sock_lock_tx(sk);
		still = !known || ntbs_fdtab_peek(fd) == &sk->file;
		if (still)
			ntbs_stream_replay(sk, fd);
		ntbs_unlock(&sk->shm->tx.lock);
		if (still && ntbs_read_once(sk->shm->tx.replay))
			ntbs_wait_shadow(fd, POLLOUT, &w);
	}
	if (stays && still && ntbs_read_once(sk->shm->tx.replay))
		ntbs_log(NTBS_LOG_ERR, "connection of port %u with port %u: TCP has no room yet for bytes that the other side wants once "
			 "more: what the new holder sends may overtake them", sk->shm->conn.tuple.lport, sk->shm->conn.tuple.rport);
}

void ntbs_handover_await_sent(struct ntbs_sock *sk, int fd)
{
	for (struct ntbs_sock *next; (next = ntbs_sock_after(sk)); sk = next)
		;
	await_sent(sk, fd, true);
}

static bool both(struct ntbs_sock *sk, int fd, enum ntbs_reason why, uint64_t until_ns)
{
	bool done = true;

	for (; sk; sk = ntbs_sock_after(sk))
		done &= leave_both(sk, fd, why, until_ns);
	return done;
}

bool ntbs_handover_both(struct ntbs_sock *sk, int fd, enum ntbs_reason why)
{
	return both(sk, fd, why, ntbs_handover_until());
}

uint64_t ntbs_handover_until(void)
{
	return ntbs_now_ns() + ANSWER_WAIT_NS;
}

/* The peer has said where its bytes end, or is gone: those in the ring come no other way. */
static bool no_answer_to_come(struct ntbs_sock *sk, int fd)
{
	return ntbs_le64_read_acquire(&sk->q.in->q) || ntbs_le64_read_acquire(&sk->q.in->final) ||
	       gone(sk, fd);
}

/* Both directions.  Returns the object of which bytes could not be brought back, or are left to be sent again; NULL: none. */
static struct ntbs_sock *pass(struct ntbs_sock *sk, int fd, enum ntbs_reason why, bool stays, uint64_t until_ns, bool *brought)
{
	if (!ntbs_sock_to_hand_over(sk)) {
		ntbs_sock_set_flag(sk, NTBS_SK_PASSED);
		return NULL;
	}
	*brought = both(sk, fd, why, until_ns);
	for (struct ntbs_sock *next; (next = ntbs_sock_after(sk)); sk = next)
		;
	if (ntbs_read_once(sk->shm->tx.replay))
		await_sent(sk, fd, stays || !ntbs_relay_has_rest(sk));
	return *brought && !ntbs_relay_has_rest(sk) ? NULL : sk;
}

static void say_lost(const struct ntbs_sock *sk, bool late, const char *why)
{
	ntbs_log(NTBS_LOG_ERR, "connection of port %u with port %u: what the other side sent last %s: %s",
		 sk->shm->conn.tuple.lport, sk->shm->conn.tuple.rport,
		 late ? "reaches the new reader late, if at all" : "is lost to the new reader", why);
}

/* One that the new image gets. */
static struct ntbs_sock *goes_along(int fd, bool (*dupped)(int fd))
{
	struct ntbs_sock *sk = ntbs_fdtab_sock(fd);
	long flags;

	if (!sk)
		return NULL;
	flags = ntbs_sys2(SYS_fcntl, fd, F_GETFD);
	return flags >= 0 && (!(flags & FD_CLOEXEC) || (dupped && dupped(fd))) ? sk : NULL;
}

struct image {
	bool stays;		/* the one that starts it goes on */
	bool (*dupped)(int fd);
	uint64_t until_ns;	/* so long others are waited for, all together */
};

/*
 * Does the new image get what the sender cannot bring back, which is for one reader alone?  Not by the chance that a
 * descriptor is not close-on-exec, where a process that goes on holds it, too: a helper that is started does not read it.
 */
static bool gets_unread(struct ntbs_sock *sk, int of, const struct image *image)
{
	uint64_t cookie = ntbs_shadow_cookie(of);

	if (!image->stays && !ntbs_fdtab_foreign() && ntbs_holders_alone(sk))
		return true;
	for (int fd = 0; fd < ntbs_fdtab_highest(); fd++)
		if (ntbs_fdtab_sock(fd) == sk && (fd == STDIN_FILENO || (image->dupped && image->dupped(fd))) &&
		    goes_along(fd, image->dupped) && cookie && ntbs_shadow_cookie(fd) == cookie)
			return true;		/* a vfork child has its own idea of that number: so the cookie */
	return false;
}

/* @image: it is a new one that gets it; NULL: somebody who was given it. */
static void pass_on(struct ntbs_sock *sk, int fd, enum ntbs_reason why, const struct image *image)
{
	struct ntbs_sock *of_fd = sk;
	int ret = -ETIMEDOUT;
	bool brought;

	sk = pass(sk, fd, why, false, image ? image->until_ns : ntbs_handover_until(), &brought);
	if (!sk)
		return;
	if (ntbs_relay_has_rest(sk) || (no_answer_to_come(sk, fd) && (!image || gets_unread(of_fd, fd, image)))) {
		ret = ntbs_relay(sk, fd);
	} else if (no_answer_to_come(sk, fd)) {
		ntbs_log(NTBS_LOG_INFO, "connection of port %u with port %u: what the other side sent last stays with this program, the "
			 "one that it starts does not get it", sk->shm->conn.tuple.lport, sk->shm->conn.tuple.rport);
		return;
	}
	if (ret && brought)
		ntbs_relay_lost_rest(sk, -ret);
	else if (ret)
		say_lost(sk, ret == -ETIMEDOUT, ret == -ETIMEDOUT ? "it did not answer in time" : strerror(-ret));
}

void ntbs_handover_pass(struct ntbs_sock *sk, int fd, enum ntbs_reason why)
{
	pass_on(sk, fd, why, NULL);
}

void ntbs_handover_taken(struct ntbs_sock *sk, int fd)
{
	bool brought;

	sk = pass(sk, fd, NTBS_WHY_PASSED, true, ntbs_handover_until(), &brought);
	if (sk && brought)
		return;		/* ours to send again, and if that took too long it has been said */
	if (sk && no_answer_to_come(sk, fd))
		say_lost(sk, false, "it cannot send it again");
	else if (sk)
		say_lost(sk, true, "it did not answer in time");
}

bool ntbs_handover_for_exec(struct ntbs_sock *sk, int fd, uint64_t until_ns)
{
	ntbs_sock_lock_tx(sk);
	ntbs_window_store32(sk->q.port, &sk->q.out->again, 1);
	ntbs_unlock(&sk->shm->tx.lock);
	return both(sk, fd, NTBS_WHY_EXEC, until_ns) && !ntbs_relay_has_rest(sk);
}

void ntbs_handover_look(struct ntbs_sock *sk)
{
	ntbs_sock_lock_rx(sk);
	if (sk->file.fds > 0)
		ntbs_stream_rx_look(sk, sk->fd);
	ntbs_unlock(&sk->shm->rx.lock);
	if (ntbs_sock_tx_state(sk) == NTBS_DIR_BACK && ntbs_sock_rx_state(sk) == NTBS_DIR_BACK)
		ntbs_handover_settle(sk);
}

void ntbs_handover_settle(struct ntbs_sock *sk)
{
	if (ntbs_again(sk) || ntbs_epoll_sock_repeats(sk))	/* with the next edge, then */
		return;
	ntbs_lock(&sk->shm->ctl);
	ntbs_sock_lock_tx(sk);
	/*
	 * Only for a sole holder: epoll sets of another process would go on watching for ends alone.  And not with a full ring:
	 * until that has been read our end waits behind it, of which the kernel knows nothing.
	 */
	if (ntbs_sock_stage(sk) == NTBS_LIVE && !ntbs_sock_after(sk) && atomic_load(&sk->shm->holders) == 1 &&
	    sk->shm->tx.state == NTBS_DIR_BACK && !sk->shm->tx.replay && !ntbs_msgq_full(&sk->q) &&
	    ntbs_sock_rx_state(sk) == NTBS_DIR_BACK &&
	    !ntbs_read_once(sk->shm->rx.twice) &&
	    !(ntbs_sock_flags(sk) & (NTBS_SK_RESET | NTBS_SK_WANT_TCP))) {
		ntbs_sock_set_flag(sk, NTBS_SK_SETTLED);
		ntbs_sock_set_stage(sk, NTBS_PLAIN, ntbs_read_once(sk->shm->conn.reason));
	}
	ntbs_unlock(&sk->shm->tx.lock);
	if (ntbs_sock_flags(sk) & NTBS_SK_SETTLED) {
		ntbs_epoll_sock_plain(sk);
		/* to be watched is to be asked about room with each byte that comes, which is a SIGIO when there is (tcp_poll()) */
		if (atomic_load(&sk->watched) && sk->file.fds > 0)
			ntbs_service_unwatch(sk, sk->fd);
	}
	ntbs_unlock(&sk->shm->ctl);
}

static void ended_gone(struct ntbs_sock *sk, void *arg)
{
	const uint32_t proc = *(uint32_t *)arg;
	struct ntbs_chan *c;

	if (!ntbs_sock_try_get(sk))
		return;
	c = sk->chan;			/* at exit it goes meanwhile */
	if (c && c->session == ntbs_rt.session && c->peer_proc == proc && sk->file.fds > 0 &&
	    ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk) && ntbs_le64_read_acquire(&sk->q.in->final))
		leave_tx(sk, sk->fd, NTBS_WHY_PEER_ASKED);
	ntbs_sock_put(sk);
}

void ntbs_handover_peer_gone(uint32_t proc)
{
	ntbs_sock_for_each(ended_gone, &proc);
}

static bool same_tuple(const struct ntbs_tuple *a, const struct ntbs_tuple *b)
{
	return a->lport == b->lport && a->rport == b->rport && !memcmp(a->laddr, b->laddr, 16) &&
	       !memcmp(a->raddr, b->raddr, 16);
}

void ntbs_handover_at_tails(struct ntbs_sock *sk, int fd, enum ntbs_reason why)
{
	ntbs_handover_tx(sk, fd, why);		/* an offer: what goes over TCP stays there */
	if (ntbs_sock_stage(sk) != NTBS_LIVE || !ntbs_sock_attach(sk))
		return;
	ntbs_sock_lock_rx(sk);
	if (!ntbs_le64_read_acquire(&sk->q.in->q) && !(ntbs_sock_flags(sk) & NTBS_SK_WANT_TCP))
		ntbs_window_store64(sk->q.port, &sk->q.out->asked, NTBS_POS_TAIL);
	ntbs_unlock(&sk->shm->rx.lock);
	ntbs_peer_ring_service(sk->chan);
	ntbs_mbox_wake_own(sk);		/* a sender that waits for credit goes on by TCP */
}

bool ntbs_handover_to_end(struct ntbs_sock *sk, int fd)
{
	ssize_t unread;

	if (ntbs_sock_stage(sk) == NTBS_OFFER)
		ntbs_offer_withdraw(sk, NTBS_WHY_EXEC);
	ntbs_handover_at_tails(sk, fd, NTBS_WHY_EXEC);
	if (ntbs_sock_stage(sk) != NTBS_LIVE || !ntbs_sock_attach(sk))
		return false;
	ntbs_sock_lock_rx(sk);
	ntbs_stream_rx_look(sk, fd);
	unread = sk->shm->rx.state == NTBS_DIR_RING || sk->shm->rx.state == NTBS_DIR_DRAIN ? ntbs_msgq_avail(&sk->q) : 0;
	ntbs_unlock(&sk->shm->rx.lock);
	return unread > 0;
}

static void drain(struct ntbs_sock *sk, void *arg)
{
	const struct ntbs_tuple *t = arg;
	struct ntbs_tuple back = { .lport = t->rport, .rport = t->lport };

	memcpy(back.laddr, t->raddr, 16);
	memcpy(back.raddr, t->laddr, 16);
	if (!ntbs_sock_try_get(sk))
		return;
	if (sk->file.fds <= 0 || (!same_tuple(&sk->shm->conn.tuple, t) && !same_tuple(&sk->shm->conn.tuple, &back)))
		goto out;
	ntbs_handover_at_tails(sk, sk->fd, NTBS_WHY_DRAINED);
out:
	ntbs_sock_put(sk);
}

void ntbs_handover_drain(const struct ntbs_tuple *tuple)
{
	ntbs_sock_for_each(drain, (void *)tuple);
}

void ntbs_handover_before_sandbox(void)
{
	for (int fd = 0; fd < ntbs_fdtab_highest(); fd++) {
		struct ntbs_sock *sk = ntbs_fdtab_sock(fd);
		struct ntbs_file *old;
		bool last;

		if (!sk)
			continue;
		if (ntbs_sock_stage(sk) != NTBS_PLAIN)
			ntbs_handover_pass(sk, fd, NTBS_WHY_SANDBOX);
		if (!ntbs_fdtab_sock(fd))
			continue;
		/* A set goes on translating what its registrations say.  Otherwise nothing is left to translate; the object
		 * stays behind, so that nobody takes its going for an end of the connection. */
		if (!sk->members)
			ntbs_fdtab_set(fd, NULL, &old, &last);
	}
	ntbs_broker_leave();		/* nobody asks us for anything from now on */
	ntbs_service_stop();
}

/*
 * Where both ends are ours: bytes that are in the ring can be brought back as long as their sender is there, so all ask before
 * any leaves.
 */
void ntbs_handover_before_exec(bool stays, bool (*dupped)(int fd))
{
	struct image image = { stays, dupped, ntbs_handover_until() };

	for (int fd = 0; fd < ntbs_fdtab_highest(); fd++) {
		struct ntbs_sock *sk = goes_along(fd, dupped);

		if (sk && ntbs_sock_stage(sk) == NTBS_LIVE && ntbs_sock_attach(sk))
			ask_for_tcp(sk, fd, image.until_ns);
	}
	image.until_ns = ntbs_handover_until();
	for (int fd = 0; fd < ntbs_fdtab_highest(); fd++) {
		struct ntbs_sock *sk = goes_along(fd, dupped);

		if (sk)
			pass_on(sk, fd, NTBS_WHY_EXEC, &image);
	}
}
