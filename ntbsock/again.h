/* SPDX-License-Identifier: BSD-2-Clause */
/* again.h - a connection that went to TCP because the other side's program exec'd is offered once more */
#ifndef NTBSOCK_AGAIN_H
#define NTBSOCK_AGAIN_H

#include "sock.h"

/*
 * Both directions of @sk are on TCP, at the other side's wish: if that comes back as another image, the connection goes on
 * in another object, offered.  True: it does, here or by another thread, and @sk is no descriptor's any more.  No lock held.
 */
bool ntbs_again(struct ntbs_sock *sk);

#endif
