/* SPDX-License-Identifier: BSD-2-Clause */
/* show.h - what ntbsock-ctl asks: status, state pools, reading the configuration again, draining a connection */
#ifndef NTBSOCK_BROKER_SHOW_H
#define NTBSOCK_BROKER_SHOW_H

struct ntbs_client;

void ntbs_show_status(struct ntbs_client *c, const void *packet, int *fds);
void ntbs_show_pools(struct ntbs_client *c, const void *packet, int *fds);
void ntbs_show_reload(struct ntbs_client *c, const void *packet, int *fds);
void ntbs_show_drain(struct ntbs_client *c, const void *packet, int *fds);

/* The socket takes more: go on with the answer to POOLS, if one is under way. */
void ntbs_show_more_pools(struct ntbs_client *c);

/* Read the configuration (start, SIGHUP, RELOAD). */
void ntbs_show_load(void);

#endif
