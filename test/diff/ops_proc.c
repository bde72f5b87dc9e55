// SPDX-License-Identifier: BSD-2-Clause
/*
 * ops_proc.c - the worker's program is started anew, in its process or in another one
 *
 * The new image is told on its command line which descriptors its slots have; those that were to be closed are not there.
 */
#include "ops.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SELF "/proc/self/exe"

static void slots_text(char *buf, size_t size)
{
	size_t n = 0;

	for (int i = 0; i < SLOTS; i++)
		n += snprintf(buf + n, size - n, "%d,", fds[i]);
}

void slots_take(const char *text)
{
	for (int i = 0; i < SLOTS && *text; i++, text += strcspn(text, ","), text += *text == ',') {
		fds[i] = atoi(text);
		if (fds[i] >= 0 && fcntl(fds[i], F_GETFD) < 0)
			fds[i] = -1;
	}
}

uint32_t slots_open(void)
{
	uint32_t mask = 0;

	for (int i = 0; i < SLOTS; i++)
		mask |= fds[i] >= 0 && fcntl(fds[i], F_GETFD) >= 0 ? 1u << i : 0;
	return mask;
}

int64_t do_exec(const struct order *o)
{
	char proc[12], slots[SLOTS * 6], step[12], ask[12], thr[12];
	char *argv[] = { "diff", "--worker", proc, slots, step, ask, thr, NULL }, *none[] = { NULL };

	snprintf(proc, sizeof(proc), "%d", o->op.proc);
	snprintf(step, sizeof(step), "%u", o->step);
	snprintf(ask, sizeof(ask), "%u", o->ask);
	snprintf(thr, sizeof(thr), "%d", o->op.thr);
	slots_text(slots, sizeof(slots));
	tell_here(false);
	execve(SELF, argv, o->op.b == 1 ? none : environ);
	tell_here(!o->op.thr);
	return -1;
}

int64_t do_spawn(const struct order *o, struct answer *a)
{
	char proc[12], slots[SLOTS * 6];
	char *argv[] = { "diff", "--worker", proc, slots, NULL }, *none[] = { NULL };
	pid_t pid = -1;

	snprintf(proc, sizeof(proc), "%d", o->op.a);
	slots_text(slots, sizeof(slots));
	if (o->op.b == 2) {
		pid = vfork();
		if (!pid) {
			execve(SELF, argv, environ);
			_exit(127);
		}
	} else {
		errno = posix_spawn(&pid, SELF, NULL, NULL, argv, o->op.b == 1 ? none : environ);
		if (errno)
			pid = -1;
	}
	a->pid = pid;
	return pid < 0 ? -1 : 0;
}
