// SPDX-License-Identifier: BSD-2-Clause
/* meet.c - see meet.h */
#include "meet.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "log.h"
#include "loop.h"
#include "packet.h"

static struct ntbs_watch listener = { .fd = -1 };
static struct sockaddr_un address;
static int lock_fd = -1;
static const char *what;
static void (*met)(int fd);
static bool (*busy)(void);

static void listener_ready(struct ntbs_watch *w, uint32_t events)
{
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) || (cred.uid && cred.uid != geteuid())) {
		ntbs_log(NTBS_LOG_WARN, "%s %s: refused a process of another user", what, address.sun_path);
		close(fd);
	} else if (busy()) {
		ntbs_log(NTBS_LOG_WARN, "%s %s: refused pid %d: it is connected to another broker already; a %s has two ends",
			 what, address.sun_path, cred.pid, what);
		close(fd);
	} else {
		met(fd);
	}
}

static bool connect_other(void)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return false;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		return false;
	}
	met(fd);
	return true;
}

/* Whoever gets the lock removes what a dead broker left, and listens for as long as he lives. */
static int listen_here(void)
{
	mode_t mask;
	int fd, ret;

	if (flock(lock_fd, LOCK_EX | LOCK_NB))
		return -errno;
	if (unlink(address.sun_path) && errno != ENOENT)
		return -errno;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	mask = umask(0177);
	ret = bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 1) ? -errno : 0;
	umask(mask);
	listener = (struct ntbs_watch){ .fd = fd, .ready = listener_ready };
	if (!ret)
		ret = ntbs_loop_add(&listener, EPOLLIN);
	if (ret) {
		close(fd);
		listener.fd = -1;
	}
	return ret;
}

void ntbs_meet_tick(void)
{
	int ret;

	if (lock_fd < 0 || busy() || listener.fd >= 0 || connect_other())
		return;
	ret = listen_here();
	if (ret && ret != -EWOULDBLOCK)
		ntbs_log(NTBS_LOG_ERR, "%s %s: cannot listen: %s; will try again", what, address.sun_path, strerror(-ret));
}

int ntbs_meet_open(const char *name, const char *path, void (*on_met)(int fd), bool (*is_busy)(void))
{
	char lock_path[sizeof(address.sun_path) + 8];
	int ret;

	what = name;
	met = on_met;
	busy = is_busy;
	address.sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(address.sun_path)) {
		ntbs_log(NTBS_LOG_ERR, "%s %s: the path is longer than %zu bytes; choose a shorter one", what, path,
			 sizeof(address.sun_path) - 1);
		return -ENAMETOOLONG;
	}
	strcpy(address.sun_path, path);
	snprintf(lock_path, sizeof(lock_path), "%s.lock", path);
	lock_fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (lock_fd < 0) {
		ret = -errno;
		ntbs_log(NTBS_LOG_ERR, "%s: cannot open %s: %s; its directory must exist and be writable", what, lock_path,
			 strerror(-ret));
		return ret;
	}
	return 0;
}

const char *ntbs_meet_path(void)
{
	return address.sun_path;
}

void ntbs_meet_close(void)
{
	if (listener.fd >= 0) {
		unlink(address.sun_path);
		ntbs_loop_remove(&listener);
	}
	ntbs_close_fds(&lock_fd, 1); /* the file stays: removing it would let two brokers hold two locks */
}
