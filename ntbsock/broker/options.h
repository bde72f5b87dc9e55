/* SPDX-License-Identifier: BSD-2-Clause */
/* options.h - the command line and the environment of ntbsockd; a mistake is named, and ends it with status 2 */
#ifndef NTBSOCK_BROKER_OPTIONS_H
#define NTBSOCK_BROKER_OPTIONS_H

#include <stdint.h>

/* What only main.c wants to know; the rest goes to ntbs_broker and the log level. */
struct ntbs_options {
	const char *cable_path;		/* NULL: no cable */
	const char *port;		/* NULL: no port */
	const char *dma;		/* NULL: no copy engine */
	int ready_fd;			/* -1: nobody waits there */
	uint64_t idle_ms;		/* a private broker ends after so long without a client */
};
extern struct ntbs_options ntbs_options;

void ntbs_options_parse(int argc, char **argv);

#endif
