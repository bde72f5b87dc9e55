/* SPDX-License-Identifier: BSD-2-Clause */
/* bclient.h - one connection to the broker: requests, descriptors, what it sends us */
#ifndef NTBSOCK_BCLIENT_H
#define NTBSOCK_BCLIENT_H

#include <stdbool.h>
#include <stddef.h>

/* HELLO and WELCOME; fills in ntbs_rt.{broker,proc,node,uid,rules,board}. */
bool ntbs_bclient_connect(void);
/* As ntbs_broker_send(), with the runtime's lock held. */
bool ntbs_bclient_send(const void *msg, size_t len, const int *fds, int nr_fds);

#endif
