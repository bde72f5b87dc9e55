/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log.c - a line that cannot be written costs nothing: no signal, no wait, no byte where it does not belong
 *
 * links: driver-glue/log.c
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "log.h"
#include "t.h"

static char err_file[256];

static void say(const char *what)
{
	ntbs_log(NTBS_LOG_ERR, "%s", what);
}

static size_t size_of(const char *path)
{
	int fd = open(path, O_RDONLY);
	off_t n = lseek(fd, 0, SEEK_END);

	close(fd);
	return n;
}

/* Runs @fn in a child whose standard error is the file, with the guard on; it must end by itself. */
static void child(const char *name, void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		int fd = open(err_file, O_RDWR | O_CREAT | O_TRUNC, 0600);

		dup2(fd, 2);
		ntbs_log_guard();
		alarm(10);
		fn();
		_exit(0);
	}
	t_must(waitpid(pid, &status, 0) == pid, "waitpid");
	t_ok(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: wait status %#x", name, (unsigned)status);
}

static void need(int ok, int code)
{
	if (!ok)
		_exit(code);
}

static void writes(void)
{
	say("a line");
	need(size_of(err_file) > 7, 1);
}

static void no_room_for_files(void)
{
	struct rlimit none = { 0, 0 };
	sigset_t pending;

	need(!setrlimit(RLIMIT_FSIZE, &none), 1);
	say("a line");
	sigpending(&pending);
	need(!sigismember(&pending, SIGXFSZ), 2);
	need(size_of(err_file) == 0, 3);
}

/* The same file twice open is the same; a pipe that nobody reads is what it was at the start here. */
static void no_reader(void)
{
	int p[2];
	sigset_t pending;

	need(!pipe(p), 1);
	dup2(p[1], 2);
	ntbs_log_guard();
	close(p[0]);
	say("a line");
	sigpending(&pending);
	need(!sigismember(&pending, SIGPIPE), 2);
	need(raise(0) == 0, 3);
}

/* A SIGPIPE of the program's own that waits is still there afterwards. */
static void keeps_what_waits(void)
{
	int p[2];
	sigset_t set;

	need(!pipe(p), 1);
	dup2(p[1], 2);
	ntbs_log_guard();
	close(p[0]);
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	sigprocmask(SIG_BLOCK, &set, NULL);
	raise(SIGPIPE);
	say("a line");
	sigpending(&set);
	need(sigismember(&set, SIGPIPE), 2);
	sigprocmask(SIG_BLOCK, NULL, &set);
	need(sigismember(&set, SIGPIPE) && !sigismember(&set, SIGXFSZ), 3);
}

static void full(void)
{
	static const char page[4096];
	int p[2];

	need(!pipe2(p, O_NONBLOCK), 1);
	while (write(p[1], page, sizeof(page)) > 0)
		;
	fcntl(p[1], F_SETFL, 0);
	dup2(p[1], 2);
	ntbs_log_guard();
	say("a line");		/* would wait for ever; the alarm kills */
}

static void another_two(void)
{
	int sv[2];
	char c;

	need(!socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 1);
	dup2(sv[1], 2);
	say("a line");
	need(recv(sv[0], &c, 1, MSG_DONTWAIT) < 0, 2);
	close(2);
	say("a line");
	need(size_of(err_file) == 0, 3);
}

int main(void)
{
	snprintf(err_file, sizeof(err_file), "%s/unit-log.XXXXXX", getenv("T_DIR") ? getenv("T_DIR") : "/tmp");
	t_must(mkstemp(err_file) >= 0, "mkstemp %s", err_file);
	child("writes", writes);
	child("RLIMIT_FSIZE", no_room_for_files);
	child("no reader", no_reader);
	child("keeps what waits", keeps_what_waits);
	child("full pipe", full);
	child("another descriptor 2", another_two);
	unlink(err_file);
	return t_done();
}
