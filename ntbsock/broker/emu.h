/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * emu.h - an emulated bridge between two brokers of one machine
 *
 * For two network namespaces or containers of one host that are to be treated as two hosts, and for tests of all that is
 * above a driver.  Each side has an arena (a memfd) and a doorbell (an eventfd); both are exchanged once, over a socket at
 * a path that both are given (meet.h).  From then on nothing goes over that socket: its end is the end of the link.  The
 * peer's arena is mapped for writing alone.
 *
 * One end alone can lead back to its own host: whatever two processes there say to each other then goes through a window.
 *
 * Options, for tests: arena=MIB (size of the arena, default 4096, sparse), delay=US (a doorbell is heard so much later, and
 * all that come meanwhile are one), cut=MS (each session ends so much later, and what this side has not read by then is lost).
 */
#ifndef NTBSOCK_BROKER_EMU_H
#define NTBSOCK_BROKER_EMU_H

#include "bridge.h"

/* PATH[,option]..., or NULL and [,option]... for one that leads back.  0 or a negative errno, logged. */
int ntbs_emu_open(const char *spec, const char *loop);
extern const struct ntbs_bridge_driver ntbs_emu_driver;

#endif
