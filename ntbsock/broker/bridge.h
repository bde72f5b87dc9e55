/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bridge.h - what the broker does with a port: a bridge to another host with which no memory is shared
 *
 * A port's driver (emu.c, hwport.c) brings the link up and then supplies a struct ntbs_bridge_end;
 * here its arena is laid out (abi_port.h), the control ring becomes the wire of peer.c, regions are leased (region.c),
 * clients get the arena and the window (NTBS_MSG_PORT), and a doorbell becomes eventfds (irq.c).
 *
 * A *session* lasts from up to down.  Its end is told to every process that has it mapped, in its arena; arena, regions and control
 * ring end with it.  The next one begins with new ones.
 */
#ifndef NTBSOCK_BROKER_BRIDGE_H
#define NTBSOCK_BROKER_BRIDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "window.h"

struct ntbs_client;
struct ntbs_region;

struct ntbs_bridge_end {
	uint32_t session;		/* the same on both hosts, not 0, not soon again */
	int arena_fd;
	uint64_t arena_offset;		/* in @arena_fd */
	void *arena;			/* read and written */
	uint64_t arena_bytes;
	enum ntbs_mem arena_mem;	/* CACHED: @arena_fd is a sealed memfd; else it lies in a device */
	bool sparse;			/* no device knows its pages: unused ones are given back to the kernel */
	int window_fd;
	uint64_t window_offset;		/* in @window_fd */
	void *window;			/* written alone */
	uint64_t window_bytes;
	enum ntbs_mem mem;
	enum ntbs_bell_kind bell;
	int bell_fd;
	uint64_t bell_offset;		/* REGISTER, REGISTER16: in @bell_fd */
	uint32_t bell_value;
	volatile void *bell_reg;
};

/* For people. */
struct ntbs_bridge_facts {
	char family[40];
	char state[104];
	uint64_t sessions, bells;
};

/* What a driver does for bridge.c. */
struct ntbs_bridge_driver {
	void (*close)(void);
	void (*tick)(void);		/* about once a second */
	void (*unplug)(void);		/* this session is over: nothing of it is in use here any more */
	void (*again)(void);		/* call ntbs_bridge_bell() once more, soon */
	const char *(*name)(void);	/* as it was given to --port, less its options */
	void (*describe)(struct ntbs_bridge_facts *facts);
};

/*
 * "emu:PATH[,option]..." or "loop[,option]..." (emu.h), or the address of a PCI function (hwport.h).  0 or a negative
 * errno, logged.
 */
int ntbs_bridge_open(const char *spec);
void ntbs_bridge_close(void);
void ntbs_bridge_tick(void);		/* about once a second */
const char *ntbs_bridge_name(void);
const struct ntbs_bridge_end *ntbs_bridge_facts(struct ntbs_bridge_facts *facts);	/* session 0: it is down */
bool ntbs_bridge_is_loop(void);		/* it leads back to this host: no other broker, both regions are ours */

/* From the driver.  What @end holds stays the driver's, and there until ntbs_bridge_lost() has called its unplug. */
void ntbs_bridge_up(const struct ntbs_bridge_end *end);
void ntbs_bridge_down(const char *why);
void ntbs_bridge_bell(void);		/* the peer has rung, or may have: a bell too many does no harm */

/* For peer.c. */
int ntbs_bridge_send(const void *msg, size_t len_bytes);
void ntbs_bridge_lost(void);

/* The client gets arena and window, if it has not; false: there is no session. */
bool ntbs_bridge_tell(struct ntbs_client *c);
uint32_t ntbs_bridge_session(void);	/* 0: none */

/* Of @wanted bytes of a bulk ring, so many that the smaller arena has room for some hundred of them. */
uint32_t ntbs_bridge_bulk(uint32_t wanted);

/* Is [offset, offset + bytes) a region in the window? */
bool ntbs_bridge_in_window(uint64_t offset, uint64_t bytes);

/* What lease @lease of @r's process had taken, into the peer's inbox, and that nothing more comes; rings @peer_proc. */
void ntbs_bridge_state_end(const struct ntbs_region *r, uint32_t lease, uint32_t generation, uint32_t peer_proc);

#endif
