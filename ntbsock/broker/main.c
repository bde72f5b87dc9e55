// SPDX-License-Identifier: BSD-2-Clause
/*
 * main.c - options, run directory, start and end of ntbsockd
 *
 * Order of the start: options -> run directory, checked -> lock -> configuration -> socket -> cable -> "ready".  The
 * lock is a file that is never removed; who holds it may replace a socket that a dead broker has left.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
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
#include "broker.h"
#include "client.h"
#include "log.h"
#include "loop.h"
#include "memory.h"
#include "peer.h"
#include "remote.h"
#include "show.h"

#define IDLE_SECONDS 3
#define ACCEPTS_A_TURN 16

struct ntbs_broker ntbs_broker;

static const char *cable_path;
static int ready_fd = -1;
static uint64_t idle_limit_ms = IDLE_SECONDS * 1000;
static uint64_t idle_since_ms;
static struct sockaddr_un address = { .sun_family = AF_UNIX };
static struct ntbs_watch listener = { .fd = -1 }, signals = { .fd = -1 };
static int lock_fd = -1;
static int spare_fd = -1;	/* given up for a moment to refuse a client when we are out of descriptors */

static const char usage[] =
	"Usage: ntbsockd [OPTION]...\n"
	"Broker of ntbsock: introduces the processes of this host, or of two, to each other.\n"
	"\n"
	"  --run-dir DIR       where broker.sock is (default: $NTBSOCK_RUN_DIR, else /run/ntbsock for root,\n"
	"                      else $XDG_RUNTIME_DIR/ntbsock, else /tmp/ntbsock-UID)\n"
	"  --config-dir DIR    where nodes.conf and ports.conf are (default: $NTBSOCK_CONFIG_DIR, else /etc/ntbsock)\n"
	"  --node ID           node id of this host, 1 to 255\n"
	"  --cable SOCKET      joined to the broker of another, emulated, host there; needs --node\n"
	"  --private           end by itself when idle; not an error if a broker runs already\n"
	"  --idle-seconds N    with --private: idle for so long (default 3)\n"
	"  --ready-fd N        write a newline to this descriptor, and close it, once clients can connect\n"
	"  --log-level LEVEL   error, warning (default), info or debug\n"
	"  --version           print the version and exit\n"
	"  --help              print this and exit\n";

/* A mistake of the caller: said whole, then exit 2, as getopt's own. */
static void __attribute__((format(printf, 1, 2), noreturn)) bad_usage(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "ntbsockd: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nTry 'ntbsockd --help'.\n");
	exit(2);
}

static unsigned long number(const char *option, const char *text, unsigned long from, unsigned long to)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || v < from || v > to)
		bad_usage("%s \"%s\" is not a number from %lu to %lu", option, text, from, to);
	return v;
}

static int log_level(const char *text)
{
	static const struct {
		const char *name;
		int level;
	} names[] = {
		{ "error", NTBS_LOG_ERR }, { "warning", NTBS_LOG_WARN }, { "info", NTBS_LOG_INFO }, { "debug", NTBS_LOG_DEBUG },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(text, names[i].name))
			return names[i].level;
	}
	if (text[0] >= '0' && text[0] <= '7' && !text[1])
		return text[0] - '0';
	bad_usage("--log-level \"%s\" is none of error, warning, info, debug", text);
}

static const char *not_empty(const char *env)
{
	const char *value = getenv(env);

	return value && *value ? value : NULL;
}

static const char *default_run_dir(void)
{
	static char path[256];
	const char *runtime = not_empty("XDG_RUNTIME_DIR");

	if (not_empty("NTBSOCK_RUN_DIR"))
		return getenv("NTBSOCK_RUN_DIR");
	if (!geteuid())
		return "/run/ntbsock";
	if (runtime)
		snprintf(path, sizeof(path), "%s/ntbsock", runtime);
	else
		snprintf(path, sizeof(path), "/tmp/ntbsock-%u", geteuid());
	return path;
}

static void parse(int argc, char **argv)
{
	enum { RUN_DIR = 1, CONFIG_DIR, NODE, CABLE, PRIVATE, IDLE, READY_FD, LEVEL, VERSION, HELP };
	static const struct option options[] = {
		{ "run-dir", required_argument, NULL, RUN_DIR },
		{ "config-dir", required_argument, NULL, CONFIG_DIR },
		{ "node", required_argument, NULL, NODE },
		{ "cable", required_argument, NULL, CABLE },
		{ "private", no_argument, NULL, PRIVATE },
		{ "idle-seconds", required_argument, NULL, IDLE },
		{ "ready-fd", required_argument, NULL, READY_FD },
		{ "log-level", required_argument, NULL, LEVEL },
		{ "version", no_argument, NULL, VERSION },
		{ "help", no_argument, NULL, HELP },
		{ 0 },
	};
	int option;

	ntbs_broker.run_dir = default_run_dir();
	ntbs_broker.config_dir = not_empty("NTBSOCK_CONFIG_DIR");
	if (!ntbs_broker.config_dir)
		ntbs_broker.config_dir = "/etc/ntbsock";
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case RUN_DIR:
			ntbs_broker.run_dir = optarg;
			break;
		case CONFIG_DIR:
			ntbs_broker.config_dir = optarg;
			break;
		case NODE:
			ntbs_broker.node = (uint32_t)number("--node", optarg, 1, 255);
			break;
		case CABLE:
			cable_path = optarg;
			break;
		case PRIVATE:
			ntbs_broker.is_private = true;
			break;
		case IDLE:
			idle_limit_ms = number("--idle-seconds", optarg, 1, 1000000) * 1000;
			break;
		case READY_FD:
			ready_fd = (int)number("--ready-fd", optarg, 0, 1000000);
			break;
		case LEVEL:
			ntbs_log_level = log_level(optarg);
			break;
		case VERSION:
			puts("ntbsockd " NTBS_VERSION);
			exit(0);
		case HELP:
			fputs(usage, stdout);
			exit(0);
		default:	/* getopt has named it */
			fprintf(stderr, "Try 'ntbsockd --help'.\n");
			exit(2);
		}
	}
	if (optind < argc)
		bad_usage("unexpected argument \"%s\"", argv[optind]);
	if (cable_path && !ntbs_broker.node)
		bad_usage("--cable needs --node, with another id on each of the two hosts");
	ntbs_broker.has_cable = cable_path;
}

/* Somebody else's directory, or one where others may replace our socket, would let them be the broker. */
static int check_run_dir(const char *dir)
{
	struct stat st;

	if (!mkdir(dir, 0700)) {
		if (!geteuid() && chmod(dir, 0755))	/* all users come to root's broker, whatever the umask says */
			ntbs_log(NTBS_LOG_WARN, "run directory %s: cannot open it to all users: %s", dir, strerror(errno));
	} else if (errno != EEXIST) {
		ntbs_log(NTBS_LOG_ERR, "cannot make the run directory %s: %s; make its parent, or choose another with --run-dir",
			 dir, strerror(errno));
		return -1;
	}
	if (lstat(dir, &st)) {
		ntbs_log(NTBS_LOG_ERR, "run directory %s: %s", dir, strerror(errno));
		return -1;
	}
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022)) {
		ntbs_log(NTBS_LOG_ERR, "run directory %s is %s; remove it, or choose another with --run-dir", dir,
			 !S_ISDIR(st.st_mode)	 ? "not a directory"
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

	if (n >= (int)sizeof(path) ||
	    snprintf(address.sun_path, sizeof(address.sun_path), "%s/" NTBS_BROKER_SOCK, dir) >= (int)sizeof(address.sun_path)) {
		ntbs_log(NTBS_LOG_ERR, "run directory %s: the name is too long for a socket (%zu bytes); choose a shorter one", dir,
			 sizeof(address.sun_path) - 1);
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

	ntbs_log(NTBS_LOG_ERR, "a client was refused: %s; raise the limit of open files (%u clients)", strerror(err),
		 ntbs_broker.nr_clients);
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
	mask = umask(geteuid() ? 0177 : 0111);	/* all users share root's broker */
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
	sigprocmask(SIG_SETMASK, &set, NULL);	/* also unblocks SIGALRM, see check.c */
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
		     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

/* To whoever started us and waits. */
static void say_ready(void)
{
	const char *to = not_empty("NOTIFY_SOCKET");
	int ret;

	if (ready_fd >= 0 && write(ready_fd, "\n", 1) != 1)
		ntbs_log(NTBS_LOG_WARN, "--ready-fd %d: %s", ready_fd, strerror(errno));
	ntbs_close_fds(&ready_fd, 1);
	ret = to ? notify(to) : 0;
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

	if (cable_path) {
		ntbs_peer_tick();
		ntbs_remote_tick();
	}
	if (!ntbs_broker.is_private)
		return;
	if (ntbs_broker.nr_clients)
		idle_since_ms = now;
	/* Somebody in the backlog has found us: stay. */
	if (now - idle_since_ms >= idle_limit_ms && !accept_clients()) {
		ntbs_log(NTBS_LOG_INFO, "ends: no client for %llu s", (unsigned long long)(idle_limit_ms / 1000));
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
	if (cable_path && ntbs_peer_open(cable_path))
		return 1;
	ret = open_socket();
	if (ret) {
		ntbs_log(NTBS_LOG_ERR, "cannot listen on %s: %s", address.sun_path, strerror(-ret));
		return 1;
	}
	ntbs_log(NTBS_LOG_INFO, "listens on %s", address.sun_path);
	say_ready();
	idle_since_ms = ntbs_loop_now_ms();
	ret = ntbs_loop_run(after_batch, cable_path || ntbs_broker.is_private ? tick : NULL);
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
	parse(argc, argv);
	ntbs_broker.started_ms = ntbs_loop_now_ms();
	if (check_run_dir(ntbs_broker.run_dir))
		return 1;
	ret = take_lock(ntbs_broker.run_dir);
	if (ret == -EWOULDBLOCK && ntbs_broker.is_private) {
		ntbs_log(NTBS_LOG_INFO, "a broker runs in %s already; it will do", ntbs_broker.run_dir);
		return 0;
	}
	if (ret == -EWOULDBLOCK)
		ntbs_log(NTBS_LOG_ERR, "another broker runs in %s; end it, or choose another directory with --run-dir",
			 ntbs_broker.run_dir);
	if (ret)
		return 1;
	raise_limits();
	spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ret = serve();
	ntbs_clients_close();
	ntbs_peer_close();
	ntbs_loop_remove(&listener);
	ntbs_loop_remove(&signals);
	ntbs_memory_close();
	ntbs_loop_close();
	ntbs_close_fds(&spare_fd, 1);
	ntbs_close_fds(&lock_fd, 1);
	return ret;
}
