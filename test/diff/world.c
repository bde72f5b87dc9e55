// SPDX-License-Identifier: BSD-2-Clause
/*
 * world.c - the processes of a world: started, given orders, watched, ended
 *
 * Whether a call blocks is no question of time: its thread is asleep, and so is every other thread of the world, looked at
 * more than once.  So a loaded machine makes a run longer and changes nothing in it.
 */
#include "diff.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define ENDS (MAIL_FD + 2 * PROCS - CHANNEL_FD)

const char *const world_name[WORLDS] = { "TCP", "ntbsock" };
const char *broker_dir;
bool reference;

static const char *self, *build;
static char dir[200];
static pid_t broker;

void world_prepare(const char *me, const char *build_dir)
{
	const char *tmp = getenv("TMPDIR");
	char path[300], run[300], conf[300], fd[20];
	int ready[2];
	char c;

	self = me;
	build = build_dir;
	snprintf(dir, sizeof(dir), "%s/ntbsock-diff.XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir) || pipe(ready))
		die("temporary directory: %s", strerror(errno));
	snprintf(path, sizeof(path), "%s/ntbsockd", build);
	snprintf(run, sizeof(run), "--run-dir=%s", dir);
	snprintf(conf, sizeof(conf), "--config-dir=%s", dir);
	snprintf(fd, sizeof(fd), "--ready-fd=%d", ready[1]);
	broker = fork();
	if (!broker) {
		execl(path, path, run, conf, fd, NULL);
		_exit(127);
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1)
		die("%s did not come up", path);
	close(ready[0]);
	setenv("NTBSOCK_RUN_DIR", dir, 1);
	setenv("NTBSOCK_CONFIG_DIR", dir, 1);
	broker_dir = dir;
}

void world_finish(void)
{
	char cmd[300];

	if (broker > 0) {
		kill(broker, SIGTERM);
		waitpid(broker, NULL, 0);
	}
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	if (dir[0] && system(cmd))
		fprintf(stderr, "%s stays behind\n", dir);
}

static void start_worker(struct world *w, int proc, const int *ends)
{
	char ctl[300], number[10];

	w->pid[proc] = fork();
	if (w->pid[proc])
		return;
	for (int i = 0; i < ENDS; i++)
		if (dup2(ends[i], CHANNEL_FD + i) < 0)
			_exit(126);
	snprintf(number, sizeof(number), "%d", proc);
	snprintf(ctl, sizeof(ctl), "%s/ntbsock-ctl", build);
	if (w->which == NTBS && !reference)
		execl(ctl, ctl, "run", "--quiet", "--", self, "--worker", number, NULL);
	else
		execl(self, self, "--worker", number, NULL);
	_exit(127);
}

static bool hello(struct world *w, int proc)
{
	for (int t = 0; t < THREADS; t++) {
		struct pollfd p = { w->chan[proc][t], POLLIN, 0 };
		struct answer a;

		if (poll(&p, 1, 10000) != 1 || !world_receive(w, proc, t, &a))
			return false;
		w->tid[proc][t] = a.tid;
		w->pid[proc] = a.pid;
		w->open[proc] = a.v[0];
	}
	w->alive[proc] = true;
	return true;
}

bool world_start(struct world *w, int which)
{
	int ends[ENDS];

	*w = (struct world){ .which = which, .up = true };
	for (int i = 0; i < PROCS * THREADS; i++) {
		int sv[2];

		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv))
			die("socketpair: %s", strerror(errno));
		w->chan[i / THREADS][i % THREADS] = sv[0];
		ends[i] = sv[1];
	}
	for (int p = 0; p < PROCS; p++)
		if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, &ends[MAIL_FD - CHANNEL_FD + 2 * p]))
			die("socketpair: %s", strerror(errno));
	for (int p = 0; p < FIRST_PROCS; p++)
		start_worker(w, p, ends);
	for (int i = 0; i < ENDS; i++)
		close(ends[i]);
	for (int p = 0; p < FIRST_PROCS; p++)
		if (!hello(w, p))
			return false;
	return true;
}

void world_stop(struct world *w)
{
	if (!w->up)
		return;
	for (int p = 0; p < PROCS; p++)
		if (w->pid[p] > 0 && (w->alive[p] || p < FIRST_PROCS))
			kill(w->pid[p], SIGKILL);
	for (int p = 0; p < FIRST_PROCS; p++)
		if (w->pid[p] > 0)
			waitpid(w->pid[p], NULL, 0);
	for (int i = 0; i < PROCS * THREADS; i++)
		close(w->chan[i / THREADS][i % THREADS]);
	w->up = false;
}

bool world_adopt(struct world *w, int proc)
{
	return hello(w, proc);
}

void world_send(struct world *w, const struct order *o)
{
	if (write(w->chan[o->op.proc][o->op.thr], o, sizeof(*o)) != sizeof(*o))
		fprintf(stderr, "%s world: process %d is gone\n", world_name[w->which], o->op.proc);
}

bool world_receive(struct world *w, int proc, int thr, struct answer *a)
{
	return recv(w->chan[proc][thr], a, sizeof(*a), MSG_DONTWAIT) == sizeof(*a);
}

/* 'S', 'R', 'Z' ...; 0: gone */
static char state_of(int pid, int tid)
{
	char path[64], text[200], *end;
	int fd;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = 0;
	end = strrchr(text, ')');
	return end && end[1] ? end[2] : 0;
}

bool world_asleep(struct world *w, int proc, int thr)
{
	return state_of(w->pid[proc], w->tid[proc][thr]) == 'S';
}

static bool all_asleep(int pid, int *nr)
{
	char path[64];
	struct dirent *e;
	bool all = true;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	*nr = 0;
	if (!d)
		return true;
	while (all && (e = readdir(d)))
		if (e->d_name[0] != '.') {
			char s = state_of(pid, atoi(e->d_name));

			(*nr)++;
			all = s == 'S' || s == 'Z' || !s;
		}
	closedir(d);
	return all;
}

bool world_quiet(struct world *w)
{
	int nr;

	for (int p = 0; p < PROCS; p++)
		if (w->alive[p] && !all_asleep(w->pid[p], &nr))
			return false;
	return true;
}

bool world_died(struct world *w, int proc)
{
	return state_of(w->pid[proc], w->pid[proc]) == 'Z' || kill(w->pid[proc], 0);
}

void world_buried(struct world *w, int proc)
{
	w->alive[proc] = false;
	if (proc < FIRST_PROCS) {
		waitpid(w->pid[proc], NULL, 0);
		w->pid[proc] = -1;
		return;
	}
	for (double end = now() + 10; now() < end; usleep(200)) {	/* a child of a worker: the last thread lets go */
		int nr;

		if (all_asleep(w->pid[proc], &nr) && nr <= 1 && state_of(w->pid[proc], w->pid[proc]) != 'S')
			return;
	}
}
