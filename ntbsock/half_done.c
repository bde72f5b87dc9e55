// SPDX-License-Identifier: BSD-2-Clause
/*
 * half_done.c - what a process was doing with a direction when it was killed, finished by the next who takes its lock
 *
 * What moves bytes stores where it stands right behind what has moved them: the tail behind a slot, a position behind both.  What
 * a dead owner of the lock has published and not counted the slots show, what it has taken from TCP or given to it the kernel has
 * counted.  Not seen is a death between two stores of counts that lie side by side.
 *
 * The lock of the direction held throughout.  A process that has not mapped the connection yet has done nothing with it, and
 * finishes nothing.
 */
#include "sock.h"

#include "fdtab.h"
#include "shadow.h"

/* A number of it, if there is one yet. */
static int number(const struct ntbs_sock *sk)
{
	int fd = sk->fd;

	return ntbs_fdtab_peek(fd) == &sk->file ? fd : ntbs_fdtab_find(&sk->file);
}

static bool here(const struct ntbs_sock *sk)
{
	return ntbs_sock_stage(sk) == NTBS_LIVE && atomic_load(&sk->attached);
}

void ntbs_half_done_tx(struct ntbs_sock *sk)
{
	struct ntbs_dir_tx_shm *tx = &sk->shm->tx;
	uint64_t sent, back;
	int fd;

	if (!here(sk))
		return;
	if (ntbs_msgq_finish(&sk->q) && tx->state == NTBS_DIR_TCP)
		ntbs_sock_set_tx_state(sk, NTBS_DIR_RING);
	if (tx->q) {
		ntbs_window_store64(sk->q.port, &sk->q.out->q, tx->q);
		ntbs_sock_set_tx_state(sk, NTBS_DIR_BACK);
	}
	back = tx->q ? tx->mq.pos - (tx->q - 1) : 0;	/* from there on it goes by TCP once more, behind what went before the switch */
	if (!back)
		ntbs_write_once(tx->replay, 0);
	else if ((fd = number(sk)) >= 0 && !ntbs_shadow_sent(fd, ntbs_sock_flags(sk) & NTBS_SK_CONNECTED, &sent))
		ntbs_write_once(tx->replay, sent - tx->w < back ? back - (sent - tx->w) : 0);
}

void ntbs_half_done_rx(struct ntbs_sock *sk)
{
	struct ntbs_dir_rx_shm *rx = &sk->shm->rx;
	uint64_t got, end = rx->w - 1;		/* of what comes by TCP before the ring, or was on the ring as well */
	bool closed;
	int fd;

	if (!here(sk) || !rx->w || (fd = number(sk)) < 0 || ntbs_shadow_read(fd, &got, &closed) || closed)
		return;
	if (rx->state == NTBS_DIR_TCP && ntbs_msgq_peek_switch(&sk->q, &(uint64_t){ 0 }) != 1)
		ntbs_sock_set_rx_state(sk, NTBS_DIR_DRAIN);
	if (rx->twice) {
		end += rx->mq.pos - (ntbs_le64_read_acquire(&sk->q.in->q) - 1);
		ntbs_write_once(rx->twice, got < end ? end - got : 0);
	} else if (rx->state == NTBS_DIR_DRAIN) {
		ntbs_write_once(rx->tcp_left, got < end ? end - got : 0);
		if (!rx->tcp_left)
			ntbs_sock_set_rx_state(sk, NTBS_DIR_RING);
	}
}
