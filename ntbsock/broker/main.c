// SPDX-License-Identifier: BSD-2-Clause
/*
 * main.c - run directory, start and end of ntbsockd
 *
 * Order of the start: options -> run directory, checked -> lock -> configuration -> socket -> cable -> "ready".  The
 * lock is a file that is never removed; who holds it may replace a socket that a dead broker has left.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "bridge.h"
#include "broker.h"
#include "client.h"
#include "copier.h"
#include "hold.h"
#include "irq.h"
#include "log.h"
#include "loop.h"
#include "memory.h"
#include "options.h"
#include "peer.h"
#include "remote.h"
#include "show.h"

#define ACCEPTS_A_TURN 16

struct ntbs_broker ntbs_broker;

static uint64_t idle_since_ms;
static struct sockaddr_un address = { .sun_family = AF_UNIX };
static struct ntbs_watch listener = { .fd = -1 }, signals = { .fd = -1 };
static int lock_fd = -1;
static int spare_fd = -1; /* given up for a moment to refuse a client when we are out of descriptors */

/* Somebody else's directory, or one where others may replace our socket, would let them be the broker. */
static int check_run_dir(const char *dir)
{
	struct stat st;

	if (!mkdir(dir, 0700)) {
		if (!geteuid() &&
		    chmod(dir, 0755)) /* all users come to root's broker, whatever the umask says */
			ntbs_log(NTBS_LOG_WARN, "run directory %s: cannot open it to all users: %s", dir,
				 strerror(errno));
	} else if (errno != EEXIST) {
		ntbs_log(NTBS_LOG_ERR,
			 "cannot make the run directory %s: %s; make its parent, or choose another with "
			 "--run-dir",
			 dir, strerror(errno));
		return -1;
	}
	if (lstat(dir, &st)) {
		ntbs_log(NTBS_LOG_ERR, "run directory %s: %s", dir, strerror(errno));
		return -1;
	}
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022)) {
		ntbs_log(NTBS_LOG_ERR, "run directory %s is %s; remove it, or choose another with --run-dir",
			 dir,
			 !S_ISDIR(st.st_mode)	  ? "not a directory"
			 : st.st_uid != geteuid() ? "owned by another user"
						  : "writable by other users");
		return -1;
	}
	return 0;
}

/* Return: 0, -EWOULDBLOCK another broker has it, or -1 (logged). */
static int take_lock(const char *dir)
{
	char path[sizeof(address.sun_path) + 16];
	int n = snprintf(path, sizeof(path), "%s/broker.lock", dir);

	if (n >= (int)sizeof(path) || snprintf(address.sun_path, sizeof(address.sun_path),
					       "%s/" NTBS_BROKER_SOCK, dir) >= (int)sizeof(address.sun_path)) {
		ntbs_log(
			NTBS_LOG_ERR,
			"run directory %s: the name is too long for a socket (%zu bytes); choose a shorter one",
			dir, sizeof(address.sun_path) - 1);
		return -1;
	}
	lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (lock_fd < 0) {
		ntbs_log(NTBS_LOG_ERR, "cannot open %s: %s", path, strerror(errno));
		return -1;
	}
	if (!flock(lock_fd, LOCK_EX | LOCK_NB))
		return 0;
	if (errno == EWOULDBLOCK)
		return -EWOULDBLOCK;
	ntbs_log(NTBS_LOG_ERR, "cannot lock %s: %s", path, strerror(errno));
	return -1;
}

/* Out of descriptors: the one in the backlog would wake us for ever, so it is refused. */
static void refuse_one(int err)
{
	int fd;

	ntbs_log(NTBS_LOG_ERR, "a client was refused: %s; raise the limit of open files (%u clients)",
		 strerror(err), ntbs_broker.nr_clients);
	close(spare_fd);
	fd = accept4(listener.fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static unsigned accept_clients(void)
{
	unsigned nr = 0;

	while (nr < ACCEPTS_A_TURN) {
		int fd = accept4(listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE)
				refuse_one(errno);
			else if (errno == EINTR || errno == ECONNABORTED)
				continue;
			break;
		}
		ntbs_client_add(fd);
		nr++;
	}
	if (nr)
		idle_since_ms = ntbs_loop_now_ms();
	return nr;
}

static void listener_ready(struct ntbs_watch *w, uint32_t events)
{
	accept_clients();
}

static int open_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), ret;
	mode_t mask;

	if (fd < 0)
		return -errno;
	if (unlink(address.sun_path) && errno != ENOENT) {
		ret = -errno;
		close(fd);
		return ret;
	}
	mask = umask(geteuid() ? 0177 : 0111); /* all users share root's broker */
	ret = bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 128) ? -errno : 0;
	umask(mask);
	listener = (struct ntbs_watch){ .fd = fd, .ready = listener_ready };
	return ret ? ret : ntbs_loop_add(&listener, EPOLLIN);
}

static void signals_ready(struct ntbs_watch *w, uint32_t events)
{
	struct signalfd_siginfo info;

	while (read(w->fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGHUP) {
			ntbs_show_load();
		} else {
			ntbs_log(NTBS_LOG_INFO, "ends by signal %u", info.ssi_signo);
			ntbs_loop_stop();
		}
	}
}

static int open_signals(void)
{
	sigset_t set;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_SETMASK, &set, NULL); /* also unblocks SIGALRM, see check.c */
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	signals = (struct ntbs_watch){ .fd = fd, .ready = signals_ready };
	return ntbs_loop_add(&signals, EPOLLIN);
}

/* systemd's Type=notify: one datagram, see sd_notify(3). */
static int notify(const char *to)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	size_t len = strlen(to);
	int fd, ret;

	if (len >= sizeof(un.sun_path))
		return -ENAMETOOLONG;
	memcpy(un.sun_path, to, len);
	if (un.sun_path[0] == '@')
		un.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	ret = sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (struct sockaddr *)&un,
		     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0
		      ? -errno
		      : 0;
	close(fd);
	return ret;
}

/* To whoever started us and waits. */
static void say_ready(void)
{
	const char *to = getenv("NOTIFY_SOCKET");
	int ret;

	if (ntbs_options.ready_fd >= 0 && write(ntbs_options.ready_fd, "\n", 1) != 1)
		ntbs_log(NTBS_LOG_WARN, "--ready-fd %d: %s", ntbs_options.ready_fd, strerror(errno));
	ntbs_close_fds(&ntbs_options.ready_fd, 1);
	ret = to && *to ? notify(to) : 0;
	if (ret)
		ntbs_log(NTBS_LOG_WARN, "NOTIFY_SOCKET %s: %s", to, strerror(-ret));
}

static void raise_limits(void)
{
	struct rlimit rl;

	if (!getrlimit(RLIMIT_NOFILE, &rl)) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
	if (ntbs_options.port && !getrlimit(RLIMIT_MEMLOCK, &rl)) {	/* what a bridge stores to is pinned */
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_MEMLOCK, &rl);
	}
}

static void after_batch(void)
{
	/* Each may make work for the other; nothing is left half told before we sleep. */
	ntbs_clients_reap();
	ntbs_peer_reap();
	ntbs_clients_reap();
}

static void tick(void)
{
	uint64_t now = ntbs_loop_now_ms();

	if (ntbs_options.cable_path)
		ntbs_peer_tick();
	if (ntbs_options.port)
		ntbs_bridge_tick();
	if (ntbs_broker.has_cable)
		ntbs_remote_tick();
	if (!ntbs_broker.is_private)
		return;
	if (ntbs_broker.nr_clients || ntbs_hold_nr())
		idle_since_ms = now;
	/* Somebody in the backlog has found us: stay. */
	if (now - idle_since_ms >= ntbs_options.idle_ms && !accept_clients()) {
		ntbs_log(NTBS_LOG_INFO, "ends: no client for %llu s",
			 (unsigned long long)(ntbs_options.idle_ms / 1000));
		ntbs_loop_stop();
	}
}

static int serve(void)
{
	int ret;

	ret = ntbs_loop_open();
	if (ret)
		goto err;
	ret = open_signals();
	if (ret)
		goto err;
	ret = ntbs_rules_open();
	if (ret)
		goto err;
	ntbs_show_load();
	if (ntbs_broker.has_cable && ntbs_peer_open(ntbs_options.cable_path))
		return 1;
	if (ntbs_options.dma && ntbs_copier_open(ntbs_options.dma))	/* the port's session may begin at once */
		return 1;
	if (ntbs_options.port && ntbs_bridge_open(ntbs_options.port))
		return 1;
	ret = open_socket();
	if (ret) {
		ntbs_log(NTBS_LOG_ERR, "cannot listen on %s: %s", address.sun_path, strerror(-ret));
		return 1;
	}
	ntbs_log(NTBS_LOG_INFO, "listens on %s", address.sun_path);
	say_ready();
	idle_since_ms = ntbs_loop_now_ms();
	ret = ntbs_loop_run(after_batch, ntbs_broker.has_cable || ntbs_options.port || ntbs_broker.is_private ? tick : NULL);
	unlink(address.sun_path);
	if (!ret)
		return 0;
err:
	ntbs_log(NTBS_LOG_ERR, "cannot go on: %s", strerror(-ret));
	return 1;
}

int main(int argc, char **argv)
{
	int ret;

	ntbs_log_name = "ntbsockd";
	ntbs_log_most = 100;		/* its start alone has a dozen to say */
	ntbs_options_parse(argc, argv);
	ntbs_broker.started_ms = ntbs_loop_now_ms();
	if (check_run_dir(ntbs_broker.run_dir))
		return 1;
	ret = take_lock(ntbs_broker.run_dir);
	if (ret == -EWOULDBLOCK && ntbs_broker.is_private) {
		ntbs_log(NTBS_LOG_INFO, "a broker runs in %s already; it will do", ntbs_broker.run_dir);
		return 0;
	}
	if (ret == -EWOULDBLOCK)
		ntbs_log(NTBS_LOG_ERR,
			 "another broker runs in %s; end it, or choose another directory with --run-dir",
			 ntbs_broker.run_dir);
	if (ret)
		return 1;
	raise_limits();
	spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ret = serve();
	ntbs_clients_close();
	ntbs_hold_close();
	ntbs_peer_close();
	ntbs_copier_close();	/* before the memory that it knows */
	if (ntbs_options.port)
		ntbs_bridge_close();
	ntbs_irq_close();
	ntbs_loop_remove(&listener);
	ntbs_loop_remove(&signals);
	ntbs_memory_close();
	ntbs_loop_close();
	ntbs_close_fds(&spare_fd, 1);
	ntbs_close_fds(&lock_fd, 1);
	return ret;
}
