/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * start.h - a broker for `run`: the one there is, else a private one
 *
 * Starters of one run directory take turns under a lock (start.lock there).  Whoever holds it looks once more,
 * then starts ntbsockd and waits until that says, through a pipe, that it listens; so the second of two starters
 * finds the first one's broker.  A broker that is ending, or that somebody else starts, is waited for.
 */
#ifndef NTBSOCK_CTL_START_H
#define NTBSOCK_CTL_START_H

#include "ask.h"

/**
 * ntbs_start_broker() - Find a broker, or start one
 * @ask: filled in: connection, process id, directory (absolute)
 * @dir: --broker-dir, or NULL
 * @started: true if it had to be started
 * @why: what went wrong, for people
 *
 * Return: 0 or a negative errno.
 */
int ntbs_start_broker(struct ntbs_ask *ask, const char *dir, bool *started, char *why, size_t why_bytes);

/* Directory of the running executable, without a slash at its end.  Return: 0 or a negative errno. */
int ntbs_start_exe_dir(char *dir, size_t bytes);

#endif
