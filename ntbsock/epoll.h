/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * epoll.h - epoll sets that hold sockets of ours
 *
 * The kernel's set stays the set: everything is registered there.  A TCP socket is registered with a cookie in place of
 * the program's data, so that its events can be told and translated.  While it is on TCP its kernel events are the
 * program's.  Once it is LIVE its shadow is watched edge-triggered for its end alone, and readiness is what memory says.
 * The mbox of the process is in the set too, edge-triggered, and never shown.
 *
 * Members are hot or cold.  Hot ones (active lately, at most EP_HOT) are looked at each turn.  Cold ones are armed: the
 * peer rings, which counts up their @wake word and the mbox; then one line of each cold member says if it was meant.
 * Before a set sleeps its hot members are armed and looked at once more.
 *
 * Members are never unmapped, and marked unused under the set's lock; scans take no lock and check what they find.
 */
#ifndef NTBSOCK_EPOLL_H
#define NTBSOCK_EPOLL_H

#include <signal.h>
#include <sys/epoll.h>
#include <time.h>
#include "fdtab.h"
#include "sock.h"

#define NTBS_EP_HOT 64
#define NTBS_EP_PENDING 64

struct ntbs_ep;
struct ntbs_epm {
	struct ntbs_ep *_Atomic ep;	/* NULL: unused */
	struct ntbs_sock *_Atomic sk;	/* or */
	struct ntbs_ep *_Atomic inner;	/* a nested set of ours */
	_Atomic uint32_t serial;	/* of sk */
	uint32_t index;			/* in the pool: what the cookie says */
	_Atomic uint32_t gen;		/* uses of the entry, in the cookie too */
	_Atomic int fd;
	_Atomic uint32_t events;
	_Atomic uint64_t data;		/* epoll_data_t */
	_Atomic uint32_t hot;
	_Atomic uint32_t disabled;	/* ONESHOT: reported */
	_Atomic uint32_t held;		/* the kernel does not tell of room: ntbs_offer_held() */
	_Atomic uint32_t watched_live;	/* the kernel's registration is the shadow's */
	_Atomic uint32_t watched_out;	/* LIVE, our direction is back: the kernel watches for room, too */
	_Atomic uint32_t wake_seen;	/* cold: in->wake when it was armed */
	uint32_t idle_turns;		/* counted by whoever looks */
	uint64_t told;			/* look in which it was reported: once a look, hot or cold */
	_Atomic uint64_t rx_mark;	/* EPOLLET: what has been reported */
	_Atomic uint64_t tx_mark;
	_Atomic uint32_t end_mark, inner_end;	/* EPOLLRDHUP, EPOLLHUP, EPOLLERR that have been told; that an outer set has seen */
	_Atomic uint64_t inner_mark;	/* what an outer set has seen of it; UINT64_MAX: nothing */
	_Atomic uint64_t room_mark;	/* the same, of room */
	_Atomic uint32_t kernel_says;	/* a nested set: there may be something of the kernel's in it */
	struct ntbs_epm *next_of_sock;
	uint32_t pos;			/* in ep->member */
	bool quiet;			/* exec: no edge of it is untold; under the pool's lock */
};

struct ntbs_ep_kept {
	struct epoll_event ev;		/* as the program gets it */
	uint64_t cookie;		/* as it came from the kernel */
};

struct ntbs_ep {
	struct ntbs_file file;
	bool used;			/* under the pool's lock */
	bool inherited;			/* by fork: the kernel's set is one with the parent's */
	bool shared;			/* there has been a fork: it is one with another process's */
	bool bare;			/* as another image is to get it, and stays so; under the pool's lock */
	_Atomic uint32_t others;	/* it has had members that the kernel alone knows */
	_Atomic int epfd;
	struct ntbs_lock lock;
	struct ntbs_epm *_Atomic *_Atomic member;
	_Atomic uint32_t nr, size;
	_Atomic uint32_t nr_ours;	/* members ever in stage OFFER or LIVE, or nested: 0 means the kernel suffices */
	struct ntbs_epm *_Atomic hot[NTBS_EP_HOT];
	uint32_t hot_hand;		/* under @lock */
	_Atomic uint32_t rotor, hot_rotor;	/* where the next look begins, among all and in @hot */
	_Atomic uint32_t full;		/* the last wait had no room for more */
	_Atomic uint32_t mbox_in;
	_Atomic uint32_t rung;		/* the mbox was rung: look at the cold ones */
	_Atomic uint64_t asked_ns;	/* when the kernel was last asked */
	_Atomic uint32_t sleepers;	/* threads in, or about to enter, the kernel's wait */
	_Atomic uint32_t slept_on;	/* poll() or an outer set has slept on it: as if somebody always did */
	_Atomic uint64_t news;		/* edges, for an outer set */
	_Atomic uint32_t nested;	/* one asks for them */
	struct ntbs_lock asking;	/* one at a time asks the kernel for an outer set */
	struct ntbs_ep_kept pending[NTBS_EP_PENDING];	/* taken from the kernel for an outer set; under @lock */
	_Atomic uint32_t nr_pending;
};

static inline struct ntbs_ep *ntbs_epoll_of(int fd)
{
	struct ntbs_file *f = ntbs_fdtab_peek(fd);

	return f && f->kind == NTBS_FILE_EPOLL ? (struct ntbs_ep *)f : NULL;
}

static inline bool ntbs_epoll_ours(struct ntbs_ep *ep)
{
	return atomic_load(&ep->nr_ours) != 0;
}

struct ntbs_ep *ntbs_epoll_new(int epfd);
void ntbs_epoll_free(struct ntbs_ep *ep);
/* 0 or -errno, or -ENTBS_PASS */
int ntbs_epoll_ctl(struct ntbs_ep *ep, int op, int fd, struct epoll_event *ev);
/* @ts NULL: for ever.  Count, -errno or -ENTBS_PASS. */
int ntbs_epoll_wait(struct ntbs_ep *ep, struct epoll_event *ev, int max, const struct timespec *ts,
		    const sigset_t *mask);

/* Is anything of ours in it ready (@arm: after arming all)?  Does the kernel have something for the program? */
bool ntbs_epoll_any(struct ntbs_ep *ep, bool arm);
bool ntbs_epoll_kernel_any(struct ntbs_ep *ep);

/* A socket has become OFFER or LIVE; is about to lose its last descriptor in this process. */
void ntbs_epoll_sock_offer(struct ntbs_sock *sk);
void ntbs_epoll_sock_live(struct ntbs_sock *sk);
/* It is the kernel's again: would that tell of edges that have been told? */
bool ntbs_epoll_sock_repeats(struct ntbs_sock *sk);
/* It has been held back: room is told of again. */
void ntbs_epoll_sock_let_go(struct ntbs_sock *sk);
/* It has been LIVE and is the kernel's again. */
void ntbs_epoll_sock_plain(struct ntbs_sock *sk);
/* The kernel has woken whoever waits on it, whatever for: an edge. */
void ntbs_epoll_sock_woken(struct ntbs_sock *sk);
/* A set of this process keeps it when @fd, its last descriptor here, is closed, if another process holds it. */
bool ntbs_epoll_outlives(struct ntbs_sock *sk, int fd);
/* @rest: a process of ours holds it a while longer (relay.h). */
void ntbs_epoll_sock_closed(struct ntbs_sock *sk, int fd, bool others_hold_it, bool rest);

/* What a set has of a number, to be told to the kernel alone. */
struct ntbs_ep_left {
	int epfd;
	struct epoll_event ev;
};

/*
 * @fd is about to mean another socket, of which we know nothing: its registrations are taken out of its sets, @max of them at
 * most, and made anew when it does.  Not in a set that we share with our parent.  Return: how many.
 */
int ntbs_epoll_sock_leaves(struct ntbs_sock *sk, int fd, struct ntbs_ep_left *left, int max);
void ntbs_epoll_number_is_back(int fd, const struct ntbs_ep_left *left, int n);
void ntbs_epoll_init(void);
void ntbs_epoll_fork_prepare(void);
void ntbs_epoll_fork_parent(void);
void ntbs_epoll_fork_child(void);
/* Sets that a new image inherits, when the sockets that it inherits are on TCP; and if it does not start. */
void ntbs_epoll_before_exec(void);
bool ntbs_epoll_goes_along(struct ntbs_sock *sk);	/* is it in one? */
void ntbs_epoll_exec_failed(void);
/* The process has got another mbox: inherited sets that had the old one take it in. */
void ntbs_epoll_new_mbox(void);

#endif
