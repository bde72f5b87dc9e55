// SPDX-License-Identifier: BSD-2-Clause
/*
 * sock_splice.c - splice() from a connection into a pipe
 *
 * What the pipe has taken is consumed, no more, and no other reader sees it in between: both are done under the lock of the
 * direction, so the pipe may not make us wait.  It is given pages that are nobody else's, which it takes as far as it has room
 * for them, whatever its own mode; for more room is waited without the lock.
 */
#include "sock_call.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>

#include "handover.h"
#include "mbox.h"
#include "offer.h"
#include "sys.h"

#define CHUNK 32768

/* The first byte, waited for if there is none; -ENTBS_PASS: it comes from the kernel alone. */
static ssize_t look_first(int fd)
{
	struct ntbs_sock *sk;
	ssize_t n = -ENTBS_STALE;
	char c;
	const struct iovec iov = { &c, 1 };

	while (n == -ENTBS_STALE && (sk = ntbs_fdtab_sock(fd)) != NULL)	/* of one byte: SO_RCVLOWAT is not heeded either */
		n = ntbs_sock_recv(sk, fd, &iov, 1, MSG_PEEK | NTBS_MSG_SPLICE);
	return n == -ENTBS_STALE ? -ENTBS_PASS : n;
}

/* A read may end where a stretch of TCP or of the ring does, though the look has gone on. */
static void drop(struct ntbs_sock *sk, int fd, ssize_t len, bool *acked)
{
	while (len > 0) {
		const struct iovec iov = { NULL, len };
		struct ntbs_iter it;
		ssize_t n;

		ntbs_iter_init(&it, &iov, len);
		n = ntbs_stream_recv(sk, fd, &it, MSG_TRUNC, INT_MAX, acked);
		if (n <= 0)
			return;
		len -= n;
	}
}

/* 0: another reader was quicker; -EAGAIN: the pipe is full. */
static ssize_t move(struct ntbs_sock *sk, int fd, int out, struct iovec iov)
{
	ssize_t n = -ENTBS_STALE, put = 0;
	int on_tcp = INT_MAX;
	struct ntbs_iter it;
	bool acked = false;

	ntbs_iter_init(&it, &iov, iov.iov_len);
	if (ntbs_sock_rx_state(sk) == NTBS_DIR_TCP)
		on_tcp = ntbs_shadow_arrived(fd);
	if (ntbs_sock_stage(sk) == NTBS_OFFER)
		ntbs_offer_step(sk, fd);
	ntbs_sock_lock_rx(sk);
	if (ntbs_call_current(sk, fd))
		n = ntbs_stream_recv(sk, fd, &it, MSG_PEEK, on_tcp, &acked);
	if (n > 0) {
		iov.iov_len = n;
		put = ntbs_sys4(SYS_vmsplice, out, &iov, 1, SPLICE_F_NONBLOCK);
		drop(sk, fd, put, &acked);
	}
	ntbs_unlock(&sk->shm->rx.lock);
	if (ntbs_sock_rx_state(sk) == NTBS_DIR_BACK && ntbs_sock_tx_state(sk) == NTBS_DIR_BACK)
		ntbs_handover_settle(sk);
	if (acked)
		ntbs_mbox_poke(sk);
	if (put > 0 && ntbs_sock_stage(sk) == NTBS_OFFER)
		ntbs_offer_bytes_came(sk, fd);
	return n > 0 ? put : n == -EAGAIN || n == -ENTBS_STALE ? 0 : n;
}

static ssize_t move_pages(int fd, int out, size_t len)
{
	struct ntbs_sock *sk = ntbs_fdtab_sock(fd);
	long mem;
	ssize_t n;

	if (!sk)
		return 0;
	mem = ntbs_sys6(SYS_mmap, 0, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem < 0 && mem > -4096)
		return -ENOMEM;		/* also EAGAIN, of RLIMIT_MEMLOCK, which is not the pipe's */
	n = move(sk, fd, out, (struct iovec){ (void *)mem, len < CHUNK ? len : CHUNK });
	ntbs_sys2(SYS_munmap, mem, CHUNK);	/* the pipe has its own hold on them */
	return n;
}

/* One that can be written. */
static bool is_pipe(int fd)
{
	return ntbs_sys2(SYS_fcntl, fd, F_GETPIPE_SZ) > 0 && (ntbs_sys2(SYS_fcntl, fd, F_GETFL) & O_ACCMODE) != O_RDONLY;
}

/* 0 or -EINTR; a handler with SA_RESTART does not end it. */
static int wait_for_room(int out, struct ntbs_wait *w)
{
	const struct ntbs_sig_mark before = w->mark;

	if (ntbs_wait_shadow(out, POLLOUT, w))
		return -EINTR;
	w->mark = ntbs_sig_mark();
	return w->mark.hard == before.hard ? 0 : -EINTR;
}

ssize_t ntbs_sock_splice(int fd, int out, size_t len, bool nonblock)
{
	struct ntbs_wait w = { .mark = ntbs_sig_mark(), .restarts = true };
	ssize_t n;

	if (!is_pipe(out))
		return -ENTBS_PASS;
	for (;;) {
		n = look_first(fd);
		if (n <= 0)
			return n;
		n = move_pages(fd, out, len);
		if (n && n != -EAGAIN)
			return n;
		if (!n)
			continue;
		if (nonblock || (ntbs_sys2(SYS_fcntl, out, F_GETFL) & O_NONBLOCK))
			return -EAGAIN;
		if (wait_for_room(out, &w))
			return -EINTR;
	}
}
