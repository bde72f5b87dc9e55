/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rig.h - inside of ntbrig: the server process and its parts
 *
 * ntbrig.c owns the model, the sockets of the devices and the loop.  trace.c writes what happens into a file.  control.c
 * takes commands for faults.  remap.c tells the shim in each QEMU (ntbwin.c) where the windows lead.
 */
#ifndef NTBSOCK_RIG_RIG_H
#define NTBSOCK_RIG_RIG_H

#include <poll.h>
#include <stdio.h>
#include "model.h"
#include "vfu.h"

enum { RIG_DEVS = 4, RIG_PORTS = 2 };	/* ports of host 0 and 1, then their copy engines */

struct rig;
struct control;
struct remap;
struct trace;

struct rig_dev {
	struct rig *rig;
	struct rig_fn *fn;
	struct vfu *vfu;
	char name[32];
};

struct rig {
	struct rig_pair *pair;
	struct rig_dev dev[RIG_DEVS];
	unsigned devs;
	struct control *control;
	struct remap *remap;
	struct trace *trace;
	bool strict, once, quit, failed;
	bool seen;		/* a guest was there */
	bool pushing;		/* posted writes of one host, for the answer to the other */
	uint64_t unknown;	/* accesses to registers that the model does not know */
};

/* Says it, and ends the program with status 3: something is wrong that a test must not pass over. */
__attribute__((format(printf, 2, 3))) void rig_fail(struct rig *rig, const char *fmt, ...);
struct rig_dev *rig_dev_of(struct rig *rig, const struct rig_fn *fn);

/* trace.c: one line an event; windows only if @windows. */
struct trace *trace_open(const char *path, bool windows);
void trace_event(struct trace *t, const struct rig_event *ev);
void trace_flush(struct trace *t);
void trace_close(struct trace *t);
/* The line of an event, without its end; what trace_event() writes. */
void trace_line(const struct rig_event *ev, char *line, size_t room);

/* control.c: commands by a UNIX stream socket, a line each; each is answered by a line "ok ..." or "error: ...". */
struct control *control_open(struct rig *rig, const char *path);
void control_close(struct control *c);
/* At most CONTROL_POLLS entries; how many. */
enum { CONTROL_POLLS = 5 };
unsigned control_polls(const struct control *c, struct pollfd *p);
void control_ready(struct control *c, const struct pollfd *p, unsigned n);
/* One command; the answer into @out. */
void control_command(struct rig *rig, char *line, char *out, size_t room);

/* remap.c: windows as memory that the guests' QEMUs map. */
struct remap *remap_open(struct rig *rig, const char *const *paths, const uint64_t *window_size);
void remap_close(struct remap *r);
int remap_window_fd(const struct remap *r, int host, int bar);	/* what QEMU maps; -1: no window */
unsigned remap_polls(const struct remap *r, struct pollfd *p);	/* at most REMAP_POLLS */
enum { REMAP_POLLS = 2 };
void remap_ready(struct remap *r, const struct pollfd *p, unsigned n);
void remap_moved(struct remap *r, int host);		/* where this host's windows lead may have changed */
void remap_mapped(struct remap *r, int host, uint64_t addr, uint64_t size);	/* memory of this host came or went */
void remap_update(struct remap *r);			/* makes it so, and waits until it is */

#endif
