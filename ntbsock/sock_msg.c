// SPDX-License-Identifier: BSD-2-Clause
/*
 * sock_msg.c - struct msghdr: what comes with bytes beside them is the kernel's
 */
#include "sock.h"

#include <errno.h>
#include <asm/socket.h>
#include <limits.h>
#include <linux/net_tstamp.h>
#include <string.h>
#include <time.h>

#include "fdtab.h"
#include "handover.h"
#include "sig.h"
#include "sys.h"

/* What we do not take the kernel refuses. */
static bool msg_ok(const struct msghdr *msg)
{
	return ntbs_user_readable(msg, sizeof(*msg)) && msg->msg_iovlen <= IOV_MAX &&
	       ntbs_user_readable(msg->msg_iov, msg->msg_iovlen * sizeof(*msg->msg_iov));
}

/* The peer has sent all that it will, and nothing of it by the ring. */
static bool ended_on_tcp(struct ntbs_sock *sk)
{
	return ntbs_sock_stage(sk) == NTBS_LIVE && !ntbs_sock_far(sk) && ntbs_sock_rx_state(sk) == NTBS_DIR_TCP && ntbs_sock_attach(sk) &&
	       ntbs_le64_read_acquire(&sk->q.in->final) == NTBS_POS_ON_TCP && !ntbs_msgq_readable(&sk->q);
}

/* NO_SWITCH: it will not come back to the ring either, whatever the peer does (again.c). */
bool ntbs_sock_kernel_alone(struct ntbs_sock *sk)
{
	if (atomic_load(&sk->shm->owed) || (ntbs_sock_flags(sk) & NTBS_SK_RESET))
		return false;
	if (ntbs_sock_stage(sk) == NTBS_PLAIN)
		return true;
	if ((ntbs_sock_rx_state(sk) != NTBS_DIR_BACK && !ended_on_tcp(sk)) || ntbs_read_once(sk->shm->rx.twice))
		return false;
	ntbs_handover_settle(sk);
	return ntbs_sock_stage(sk) == NTBS_PLAIN ||
	       (ntbs_sock_tx_state(sk) != NTBS_DIR_RING && (ntbs_sock_flags(sk) & NTBS_SK_NO_SWITCH));
}

/* As put_cmsg() of net/core/scm.c; @msg->msg_control moves on. */
static int put_control(struct msghdr *msg, int type, const void *data, size_t len)
{
	struct cmsghdr head = { .cmsg_len = CMSG_LEN(len), .cmsg_level = SOL_SOCKET, .cmsg_type = type };
	size_t space;

	if (!msg->msg_control || msg->msg_controllen < sizeof(head)) {
		msg->msg_flags |= MSG_CTRUNC;
		return 0;
	}
	if (msg->msg_controllen < head.cmsg_len) {
		msg->msg_flags |= MSG_CTRUNC;
		head.cmsg_len = msg->msg_controllen;
	}
	if (ntbs_user_copy(msg->msg_control, &head, sizeof(head)) ||
	    ntbs_user_copy(CMSG_DATA((struct cmsghdr *)msg->msg_control), data, head.cmsg_len - sizeof(head)))
		return -EFAULT;
	space = CMSG_SPACE(len) < msg->msg_controllen ? CMSG_SPACE(len) : msg->msg_controllen;
	msg->msg_control = (char *)msg->msg_control + space;
	msg->msg_controllen -= space;
	return 0;
}

static int option(int fd, int name)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return ntbs_sys5(SYS_getsockopt, fd, SOL_SOCKET, name, &value, &len) ? 0 : value;
}

/*
 * Bytes that nobody could bring back to TCP when stamps were asked for have none of the kernel: they are stamped when they are
 * read.  As tcp_recv_timestamp(), which takes the last of the options that were set.
 */
static int put_stamp(int fd, struct msghdr *msg)
{
	struct timespec stamps[3] = { 0 }, *now = &stamps[0];
	struct timeval tv;
	int ret = 0;

	clock_gettime(CLOCK_REALTIME, now);
	tv = (struct timeval){ now->tv_sec, now->tv_nsec / 1000 };
	if (option(fd, SO_TIMESTAMP_OLD))
		ret = put_control(msg, SO_TIMESTAMP_OLD, &tv, sizeof(tv));
	else if (option(fd, SO_TIMESTAMP_NEW))
		ret = put_control(msg, SO_TIMESTAMP_NEW, &tv, sizeof(tv));
	else if (option(fd, SO_TIMESTAMPNS_OLD))
		ret = put_control(msg, SO_TIMESTAMPNS_OLD, now, sizeof(*now));
	else if (option(fd, SO_TIMESTAMPNS_NEW))
		ret = put_control(msg, SO_TIMESTAMPNS_NEW, now, sizeof(*now));
	if (!ret && (option(fd, SO_TIMESTAMPING_OLD) & SOF_TIMESTAMPING_SOFTWARE))
		ret = put_control(msg, SO_TIMESTAMPING_OLD, stamps, sizeof(stamps));
	return ret;
}

/* __copy_msghdr(): 0 or the error of a name that the kernel does not take. */
static int name_error(const struct msghdr *msg)
{
	return msg->msg_name && (int)msg->msg_namelen < 0 ? -EINVAL : 0;
}

/* There was no place for a byte of the ring: the kernel says of it when it came, all the same (tcp_recvmsg_locked()). */
static bool only_looked(struct ntbs_sock *sk, const struct msghdr *msg)
{
	bool some;

	for (size_t i = 0; i < msg->msg_iovlen; i++)
		if (msg->msg_iov[i].iov_len)
			return false;
	if (ntbs_sock_stage(sk) != NTBS_LIVE || !ntbs_sock_attach(sk))
		return false;
	ntbs_sock_lock_rx(sk);
	some = ntbs_sock_rx_state(sk) == NTBS_DIR_RING && ntbs_msgq_avail(&sk->q) > 0;
	ntbs_unlock(&sk->shm->rx.lock);
	return some;
}

ssize_t ntbs_sock_recvmsg(struct ntbs_sock *sk, int fd, struct msghdr *msg, int flags)
{
	struct msghdr with = { 0 };
	ssize_t n;

	if (!msg_ok(msg))
		return -ENTBS_PASS;
	if (name_error(msg))
		return name_error(msg);
	if (msg->msg_control && ntbs_sock_kernel_alone(sk))	/* it may have more to say than bytes: time stamps */
		n = -ENTBS_PASS;
	else
		n = ntbs_sock_recv(sk, fd, msg->msg_iov, msg->msg_iovlen, flags);
	if (n == -ENTBS_PASS)
		return flags & NTBS_MSG_LATER ? ntbs_sock_later_by_kernel(sk, fd, msg, flags) : n;
	if (n >= 0 && (!ntbs_user_writable(&msg->msg_namelen, sizeof(msg->msg_namelen)) ||
		       !ntbs_user_writable(&msg->msg_flags, sizeof(msg->msg_flags))))
		return -EFAULT;
	if (__builtin_expect(ntbs_sock_flags(sk) & NTBS_SK_STAMPS, 0) && (n > 0 || (!n && only_looked(sk, msg)))) {
		with.msg_control = msg->msg_control;
		with.msg_controllen = msg->msg_controllen;
		if (put_stamp(fd, &with))
			return -EFAULT;
	}
	if (n >= 0) {
		if (msg->msg_name)	/* who has not asked for it is told nothing */
			msg->msg_namelen = 0;
		msg->msg_controllen = with.msg_control ? (char *)with.msg_control - (char *)msg->msg_control : 0;
		msg->msg_flags = with.msg_flags;
	}
	return n;
}

ssize_t ntbs_sock_sendmsg(struct ntbs_sock *sk, int fd, const struct msghdr *msg, int flags)
{
	socklen_t name_len;
	ssize_t n;

	if (!msg_ok(msg))
		return -ENTBS_PASS;
	if (name_error(msg))
		return name_error(msg);
	name_len = msg->msg_namelen < sizeof(struct sockaddr_storage) ? msg->msg_namelen : sizeof(struct sockaddr_storage);
	if (msg->msg_name && !ntbs_user_readable(msg->msg_name, name_len))
		return -EFAULT;
	if (msg->msg_controllen) {	/* time stamps and the like: TCP's */
		if (msg->msg_controllen <= INT_MAX && !ntbs_user_readable(msg->msg_control, msg->msg_controllen))
			return -EFAULT;
		n = ntbs_sock_to_kernel(sk, fd, flags);
		return n ? n : -ENTBS_PASS;
	}
	return ntbs_sock_send(sk, fd, msg->msg_iov, msg->msg_iovlen, flags);
}

void ntbs_sock_pass_in(const struct msghdr *msg)
{
	struct msghdr m;
	struct cmsghdr *c;

	if (!ntbs_sig_catches())	/* there has been no socket of ours yet */
		return;
	if (ntbs_user_copy_small(&m, msg, sizeof(m)) || m.msg_controllen > INT_MAX ||
	    !ntbs_user_readable(m.msg_control, m.msg_controllen))
		return;		/* the kernel refuses it, too */
	for (c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		size_t n;

		if (c->cmsg_len > (size_t)((char *)m.msg_control + m.msg_controllen - (char *)c))
			return;
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len < CMSG_LEN(0))
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			struct ntbs_sock *sk;
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			sk = ntbs_fdtab_sock(fd);
			if (sk)
				ntbs_handover_pass(sk, fd, NTBS_WHY_PASSED);
		}
	}
}
