/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ops.h - what the files with the operations share, in a worker
 */
#ifndef NTBSOCK_TEST_DIFF_OPS_H
#define NTBSOCK_TEST_DIFF_OPS_H

#include "diff.h"

#include <sys/socket.h>
#include <sys/uio.h>

#define SEND_MAX (32u << 20)
#define RECV_MAX (1u << 20)
#define FLOOD_CHUNK 65536
#define PARTS 8

extern int fds[SLOTS];
extern int file;			/* what sendfile() reads */
extern __thread unsigned char *out, *in;

/* ops.c */
void accept_from(int fd, int flags, struct answer *a);
socklen_t listener(struct sockaddr_storage *ss, const struct order *o, int fd, uint16_t port);
socklen_t loopback(struct sockaddr_storage *ss, int family, uint16_t port);
/* What can be compared of an address goes into the answer, its port is returned. */
uint16_t tell_address(struct answer *a, const struct sockaddr_storage *ss, socklen_t len);
void tell_ports(struct answer *a, int fd);

/* ops_io.c */
int pieces(struct iovec *iov, unsigned char *buf, size_t len, int n);
/* A number of bytes moved, or not. */
void sent(struct answer *a, int64_t n);
void got(struct answer *a, int64_t n, size_t room);
void do_recvmsg(const struct order *o, struct answer *a, int fd, bool many);
void do_recvfrom(const struct order *o, struct answer *a, int fd);
void do_sendmsg(const struct order *o, struct answer *a, int fd, bool many);
void do_sendfile(const struct order *o, struct answer *a, int fd);
void do_splice(const struct order *o, struct answer *a, int fd);
void flood(const struct order *o, struct answer *a, int fd);
void drain(struct answer *a, int fd);

int64_t do_fastopen(const struct order *o, struct answer *a, int fd);
void zerocopied(const struct order *o, struct answer *a, int fd);

/* ops_fd.c */
int64_t misfit(int fd, int which);
int64_t do_give(int fd, int to);
int do_take(int proc);

/* ops_proc.c */
uint32_t slots_open(void);
/* worker.c: SIGIO and SIGURG come to this thread, or wait. */
void tell_here(bool here);
void slots_take(const char *text);
int64_t do_exec(const struct order *o);
int64_t do_spawn(const struct order *o, struct answer *a);

/* ops_wait.c */
void do_poll(const struct order *o, struct answer *a, int fd, int fd2);
void do_select(const struct order *o, struct answer *a, int fd);
void do_epoll_wait(const struct order *o, struct answer *a, int fd);

#endif
