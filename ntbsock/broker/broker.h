/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * broker.h - what there is once in a broker
 *
 * Files, from the outside in: main.c, options.c start; loop.c epoll; client.c one application; show.c what
 * ntbsock-ctl asks; chan.c channels between two processes; match.c offers and claims; peer.c what the other broker says;
 * meet.c how two of one machine meet; bridge.c a port, with ctlring.c its messages, region.c its memory, irq.c its bells,
 * emu.c an emulated one, copier.c a copy engine for it; remote.c offers of the other host's processes; check.c what clients hand over; memory.c boards and rules;
 * rules.c, conf_file.c configuration.
 *
 * Theory of operation.  The broker introduces processes to each other and then is in nobody's way: it holds
 * nothing that an established connection needs.  Everything arrives as a packet of a client (or of the cable) and
 * is done before the next is looked at.  A client that breaks the contract, or does not read what it is sent, is
 * *doomed*: marked, and taken down after the batch of events, so that no function finds its client gone under its
 * feet.  The same holds for the cable.
 */
#ifndef NTBSOCK_BROKER_BROKER_H
#define NTBSOCK_BROKER_BROKER_H

#include <stdbool.h>
#include <stdint.h>
#include "rules.h"

struct ntbs_broker {
	uint32_t node;			/* id of this host, 0: none */
	bool has_cable;			/* or a port: there may be another host */
	bool has_port;
	bool is_private;
	const char *run_dir, *config_dir;
	uint64_t started_ms;
	struct ntbs_load load;		/* of the last reading of the configuration */

	uint32_t nr_procs;		/* clients after HELLO */
	uint32_t nr_clients;		/* and all connections */
	uint64_t offers_remote, claims, claims_refused, clients_closed_for_error;
};
extern struct ntbs_broker ntbs_broker;

#endif
