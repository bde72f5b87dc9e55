/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * filter.h - which connections a verb is about: the options that `connections` and `drain` share
 */
#ifndef NTBSOCK_CTL_FILTER_H
#define NTBSOCK_CTL_FILTER_H

#include "pool.h"

enum { NTBS_FILTER_PORT = NTBS_OPT_OWN, NTBS_FILTER_PROGRAM, NTBS_FILTER_PEER, NTBS_FILTER_OPT_OWN };
#define NTBS_FILTER_SHORT "p:"
#define NTBS_FILTER_OPTIONS                                                                        \
	{ "pid", required_argument, NULL, 'p' },                                                   \
		{ "port", required_argument, NULL, NTBS_FILTER_PORT },                             \
		{ "program", required_argument, NULL, NTBS_FILTER_PROGRAM },                       \
		{ "peer", required_argument, NULL, NTBS_FILTER_PEER }

struct ntbs_filter {
	uint64_t pid, port;
	const char *program;
	uint8_t peer[16];	/* v4-mapped where it is IPv4 */
	unsigned peer_bits;	/* that count of @peer; 0: any */
	bool port_set;
};

/* Take an option of the filter.  Return: 1 taken, 0 not one of its options, NTBS_CTL_USAGE wrong, which has been said. */
int ntbs_filter_option(struct ntbs_filter *f, const char *verb, int c);
bool ntbs_filter_wants(const struct ntbs_filter *f, const struct ntbs_pool_conn *conn);
bool ntbs_filter_is_set(const struct ntbs_filter *f);

#endif
