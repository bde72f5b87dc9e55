// SPDX-License-Identifier: BSD-2-Clause
/* ask.c - see ask.h */
#include "ask.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_S 5

static uint32_t last_cookie;

int ntbs_ask_open(struct ntbs_ask *ask, const char *dir)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = ANSWER_S };
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int n, err;

	n = snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/%s", dir, NTBS_BROKER_SOCK);
	if (n < 0 || (size_t)n >= sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	ask->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (ask->fd < 0)
		return -errno;
	/* the send limit bounds connect(), too: a broker that does not accept is as good as none */
	if (setsockopt(ask->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) ||
	    setsockopt(ask->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) ||
	    connect(ask->fd, (struct sockaddr *)&sun, sizeof(sun)) ||
	    getsockopt(ask->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len)) {
		err = errno == EAGAIN ? ETIMEDOUT : errno;
		close(ask->fd);
		ask->fd = -1;
		return -err;
	}
	ask->quiet = false;
	ask->pid = cred.pid;
	ask->uid = cred.uid;
	snprintf(ask->dir, sizeof(ask->dir), "%s", dir);
	return 0;
}

void ntbs_ask_close(struct ntbs_ask *ask)
{
	if (ask->fd >= 0)
		close(ask->fd);
	ask->fd = -1;
}

void ntbs_ask_user_dir(char dir[NTBS_DIR_MAX])
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	int n = -1;

	if (xdg && xdg[0] == '/')
		n = snprintf(dir, NTBS_DIR_MAX, "%s/ntbsock", xdg);
	if (n < 0 || n >= NTBS_DIR_MAX)
		snprintf(dir, NTBS_DIR_MAX, "/tmp/ntbsock-%u", (unsigned)geteuid());
}

int ntbs_ask_find(struct ntbs_ask *ask, const char *dir, bool complain)
{
	const char *env = getenv("NTBSOCK_RUN_DIR");
	char own[NTBS_DIR_MAX];
	int err, err_own;

	if (!dir && env && *env)
		dir = env;
	if (dir) {
		err = ntbs_ask_open(ask, dir);
		if (err && complain)
			ntbs_ctl_say("no broker answers in %s: %s; start one with `ntbsock-ctl run` or ntbsockd(8)",
				     dir, strerror(-err));
		return err;
	}
	err = ntbs_ask_open(ask, NTBS_SHARED_RUN_DIR);
	if (!err)
		return 0;
	ntbs_ask_user_dir(own);
	err_own = ntbs_ask_open(ask, own);
	if (!err_own && ask->uid && ask->uid != geteuid()) {
		ntbs_ask_close(ask);
		err_own = -EPERM;
	}
	if (err_own && complain)
		ntbs_ctl_say("no broker answers, neither in %s (%s) nor in %s (%s); start one with `ntbsock-ctl run` "
			     "or ntbsockd(8), or name its directory with --broker-dir",
			     NTBS_SHARED_RUN_DIR, strerror(-err), own, strerror(-err_own));
	return err_own;
}

static int send_packet(struct ntbs_ask *ask, struct ntbs_msg *msg, uint16_t type, size_t bytes)
{
	ssize_t n;

	*msg = (struct ntbs_msg){ .type = type, .bytes = bytes, .cookie = ++last_cookie };
	n = send(ask->fd, msg, bytes, MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	return n == (ssize_t)bytes ? 0 : -EMSGSIZE;
}

static int ask_send(struct ntbs_ask *ask, uint16_t type)
{
	struct ntbs_msg_plain msg;

	return send_packet(ask, &msg.h, type, sizeof(msg));
}

/* Descriptors of one packet, closed but for the first, which goes to *@fd.  Return: how many there were. */
static int take_fds(struct msghdr *mh, int *fd)
{
	struct cmsghdr *c;
	int nr = 0;

	for (c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int got;

			memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(got));
			if (nr++)
				close(got);
			else
				*fd = got;
		}
	}
	return nr;
}

/* One answer of exactly @bytes; a descriptor that rode along is stored in *@fd, else -1. */
static int ask_recv(struct ntbs_ask *ask, uint16_t type, void *reply, size_t bytes, int *fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(NTBS_MSG_FDS * sizeof(int))];
	} control;
	char packet[NTBS_MSG_MAX];
	struct iovec iov = { .iov_base = packet, .iov_len = sizeof(packet) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1,
			     .msg_control = &control, .msg_controllen = sizeof(control) };
	struct ntbs_msg h;
	ssize_t n;
	int nr;

	*fd = -1;
	do {
		n = recvmsg(ask->fd, &mh, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	nr = take_fds(&mh, fd);
	if (n == 0)
		return -ECONNRESET; /* the broker has closed us */
	if ((size_t)n < sizeof(h) || nr > 1 || (mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		goto err_protocol;
	memcpy(&h, packet, sizeof(h));
	if (h.type != type || h.bytes != n || (size_t)n != bytes || h.cookie != last_cookie)
		goto err_protocol;
	memcpy(reply, packet, bytes);
	return 0;

err_protocol:
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	return -EPROTO;
}

/* Question and answer without descriptors. */
static int ask_plain(struct ntbs_ask *ask, uint16_t type, uint16_t reply_type, void *reply, size_t bytes)
{
	int fd, err = ask_send(ask, type);

	if (!err)
		err = ask_recv(ask, reply_type, reply, bytes, &fd);
	if (!err && fd >= 0) {
		close(fd);
		err = -EPROTO;
	}
	if (err && !ask->quiet)
		ntbs_ctl_say("the broker in %s (pid %d) gives no answer to use: %s%s", ask->dir, (int)ask->pid,
			     strerror(-err), err == -EPROTO ? "; is it of another version?" : "");
	return err;
}

static int ask_status(struct ntbs_ask *ask, struct ntbs_msg_status *status, uint16_t type)
{
	int err = ask_plain(ask, type, NTBS_MSG_STATUS_REPLY, status, sizeof(*status));

	if (err)
		return err;
	status->run_dir[sizeof(status->run_dir) - 1] = '\0';
	status->config_dir[sizeof(status->config_dir) - 1] = '\0';
	return 0;
}

int ntbs_ask_status(struct ntbs_ask *ask, struct ntbs_msg_status *status)
{
	return ask_status(ask, status, NTBS_MSG_STATUS);
}

int ntbs_ask_hold(struct ntbs_ask *ask, struct ntbs_msg_status *status)
{
	return ask_status(ask, status, NTBS_MSG_HOLD);
}

int ntbs_ask_reload(struct ntbs_ask *ask, struct ntbs_msg_reload *reply)
{
	int err = ask_plain(ask, NTBS_MSG_RELOAD, NTBS_MSG_RELOAD_REPLY, reply, sizeof(*reply));

	if (!err)
		reply->first_error[sizeof(reply->first_error) - 1] = '\0';
	return err;
}

int ntbs_ask_drain(struct ntbs_ask *ask, const struct ntbs_tuple *tuple, unsigned *told)
{
	struct ntbs_msg_drain msg = { .tuple = *tuple }, reply;
	int fd, err = send_packet(ask, &msg.h, NTBS_MSG_DRAIN, sizeof(msg));

	if (!err)
		err = ask_recv(ask, NTBS_MSG_DRAIN_REPLY, &reply, sizeof(reply), &fd);
	if (!err && fd >= 0) {
		close(fd);
		err = -EPROTO;
	}
	*told = err ? 0 : reply.told;
	return err;
}

int ntbs_ask_pools(struct ntbs_ask *ask,
		   int (*each)(const struct ntbs_msg_pool *pool, int fd, void *arg), void *arg)
{
	struct ntbs_msg_pool pool;
	int fd, err = ask_send(ask, NTBS_MSG_POOLS);

	while (!err) {
		err = ask_recv(ask, NTBS_MSG_POOL_REPLY, &pool, sizeof(pool), &fd);
		if (err)
			break;
		if (!pool.pid && fd < 0)
			return 0;
		if (fd < 0) {
			err = -EPROTO;
			break;
		}
		err = each(&pool, fd, arg);
		close(fd);
	}
	ntbs_ctl_say("the broker in %s (pid %d) did not hand over all counters: %s", ask->dir, (int)ask->pid,
		     strerror(-err));
	return err;
}
