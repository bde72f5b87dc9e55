/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * getfd.h - a socket that another process takes by pidfd_getfd()
 *
 * The process that has it makes no call: it is told, by way of the broker, and the taker's call returns when the connection
 * is on TCP.  The taker sends the broker the pidfd, the socket's cookie and the writing end of a pipe, which the process gets
 * and closes when it is through, or ends; so the taker waits for the end of the pipe.
 */
#ifndef NTBSOCK_GETFD_H
#define NTBSOCK_GETFD_H

#include <stdint.h>

/* The taker: @fd has come by @pidfd. */
void ntbs_getfd_took(int pidfd, int fd);
/* The other process; @done becomes ours.  The runtime's lock is held. */
void ntbs_getfd_taken(uint64_t cookie, int done);
void ntbs_getfd_fork_child(void);
/* Nobody hands over any more. */
void ntbs_getfd_wait(void);

#endif
