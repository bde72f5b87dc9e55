/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sock_poll.h - readiness of our descriptors and the kernel's in one wait
 *
 * poll(), ppoll(), select() and pselect(): say what is ready; poll a while; arm every member; look once more; sleep in the
 * kernel's own call, to which the shadows of our members and the mbox are added.
 */
#ifndef NTBSOCK_SOCK_POLL_H
#define NTBSOCK_SOCK_POLL_H

#include <poll.h>
#include <signal.h>
#include <time.h>
#include "sock.h"

struct ntbs_sig_mark;

/* -ENTBS_PASS: no member is ours.  @ts: what is left of the time, NULL for ever.  @mark: a handler that runs after it ends this. */
int ntbs_poll(struct pollfd *fds, nfds_t nfds, const struct timespec *ts, const sigset_t *mask, const struct ntbs_sig_mark *mark);

#endif
