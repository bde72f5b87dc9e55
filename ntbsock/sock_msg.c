// SPDX-License-Identifier: BSD-2-Clause
/*
 * sock_msg.c - struct msghdr: what comes with bytes beside them is the kernel's
 */
#include "sock.h"

#include <errno.h>
#include <limits.h>

#include "handover.h"

/* What we do not take the kernel refuses. */
static bool msg_ok(const struct msghdr *msg)
{
	return ntbs_user_readable(msg, sizeof(*msg)) && msg->msg_iovlen <= IOV_MAX &&
	       ntbs_user_readable(msg->msg_iov, msg->msg_iovlen * sizeof(*msg->msg_iov));
}

/* NO_SWITCH: it will not come back to the ring either, whatever the peer does (again.c). */
bool ntbs_sock_kernel_alone(struct ntbs_sock *sk)
{
	if (ntbs_sock_rx_state(sk) != NTBS_DIR_BACK || ntbs_read_once(sk->shm->rx.twice) || atomic_load(&sk->shm->owed) ||
	    (ntbs_sock_flags(sk) & NTBS_SK_RESET))
		return false;
	ntbs_handover_settle(sk);
	return ntbs_sock_stage(sk) == NTBS_PLAIN ||
	       (ntbs_sock_tx_state(sk) != NTBS_DIR_RING && (ntbs_sock_flags(sk) & NTBS_SK_NO_SWITCH));
}

ssize_t ntbs_sock_recvmsg(struct ntbs_sock *sk, int fd, struct msghdr *msg, int flags)
{
	ssize_t n;

	if (!msg_ok(msg))
		return -ENTBS_PASS;
	if (msg->msg_control && ntbs_sock_kernel_alone(sk))	/* it may have more to say than bytes: time stamps */
		return -ENTBS_PASS;
	n = ntbs_sock_recv(sk, fd, msg->msg_iov, msg->msg_iovlen, flags);
	if (n >= 0 && (!ntbs_user_writable(&msg->msg_namelen, sizeof(msg->msg_namelen)) ||
		       !ntbs_user_writable(&msg->msg_flags, sizeof(msg->msg_flags))))
		return -EFAULT;
	if (n >= 0) {
		msg->msg_namelen = 0;
		msg->msg_controllen = 0;
		msg->msg_flags = 0;
	}
	return n;
}

ssize_t ntbs_sock_sendmsg(struct ntbs_sock *sk, int fd, const struct msghdr *msg, int flags)
{
	if (!msg_ok(msg))
		return -ENTBS_PASS;
	if (msg->msg_control && msg->msg_controllen) {	/* time stamps and the like: TCP's */
		ntbs_handover_tx(sk, fd, NTBS_WHY_OPTION);
		return -ENTBS_PASS;
	}
	return ntbs_sock_send(sk, fd, msg->msg_iov, msg->msg_iovlen, flags);
}
