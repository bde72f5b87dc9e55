/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hwport.h - a real bridge: a PCI function through VFIO (driver-glue/vfio/hw.h), served from the broker's loop
 *
 * The function's events are one descriptor in the loop, its heartbeats a timer; nothing here waits but opening, which for
 * ivshmem takes half a second (who else is there?).  A function that is gone, or that the kernel wants back, is closed, and
 * looked for again at growing intervals up to half a minute.
 *
 * What processes get.  The window: the file of its BAR in sysfs.  Our memory: a memfd, new with each session; over ivshmem
 * it lies in the same BAR.  The doorbell: the file of BAR 0, which has all registers of the bridge in it, so that a process
 * rings by one store; or, with bell=broker, an eventfd that the broker rings for, and no register.  Where sysfs cannot be
 * mapped (a kernel that is locked down) a window can only be had by VFIO's file, and with it all of the function; the bell
 * is the broker's then, since nothing more need be given away for it.
 *
 * The broker runs on the CPUs of the bridge's NUMA node, and our memory lies there.
 *
 * Options: arena=MIB (at most so much of our memory is open, default 64), silence=MS (without a heartbeat for so long the
 * peer is gone, default 500), bell=broker or bell=register (default, where BAR 0 can be mapped by sysfs).
 */
#ifndef NTBSOCK_BROKER_HWPORT_H
#define NTBSOCK_BROKER_HWPORT_H

#include "bridge.h"

/* ADDRESS[,option]...  0 or a negative errno, logged. */
int ntbs_hwport_open(const char *spec);
extern const struct ntbs_bridge_driver ntbs_hwport_driver;

#endif
