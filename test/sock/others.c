/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * others.c - what is none of our business stays as it was: UDP, UNIX sockets, pipes, files, eventfds, bad descriptors
 *
 * ring: no
 */
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/un.h>
#include "sock.h"

int main(void)
{
	struct s_addr a = s_loopback(AF_INET);
	int u, v, sv[2], ep, ev, bad[] = { -1, 999, 1 << 30 };
	char buf[100];
	uint64_t one = 1;

	u = socket(AF_INET, SOCK_DGRAM, 0);
	v = socket(AF_INET, SOCK_DGRAM, 0);
	t_must(!bind(u, (struct sockaddr *)&a.ss, a.len) && !getsockname(u, (struct sockaddr *)&a.ss, &a.len), "UDP");
	t_eq(sendto(v, "hello", 5, 0, (struct sockaddr *)&a.ss, a.len), 5, "UDP sendto");
	t_eq(recv(u, buf, 3, MSG_TRUNC), 5, "UDP TRUNC gives the whole length");
	t_must(!connect(v, (struct sockaddr *)&a.ss, a.len), "UDP connect");
	t_eq(send(v, "", 0, 0), 0, "empty datagram");
	t_eq(poll(&(struct pollfd){ .fd = u, .events = POLLIN }, 1, 1000), 1, "empty datagram");
	t_eq(recv(u, buf, 10, 0), 0, "empty datagram");
	close(u);
	close(v);

	t_must(!socketpair(AF_UNIX, SOCK_STREAM, 0, sv), "UNIX");
	t_ok(s_send_stream(sv[0], 1, 0, 20000) && s_recv_stream(sv[1], 1, 0, 20000), "UNIX stream");
	close(sv[0]);
	t_eq(recv(sv[1], buf, 1, 0), 0, "UNIX EOF");
	close(sv[1]);

	ep = epoll_create1(0);
	ev = eventfd(0, EFD_NONBLOCK);
	t_must(!epoll_ctl(ep, EPOLL_CTL_ADD, ev, &(struct epoll_event){ .events = EPOLLIN, .data.u32 = 5 }), "ctl");
	struct epoll_event got;
	t_eq(epoll_wait(ep, &got, 1, 5), 0, "eventfd");
	t_eq(write(ev, &one, 8), 8, "eventfd");
	t_eq(epoll_wait(ep, &got, 1, 1000), 1, "eventfd");
	t_eq(got.data.u32, 5, "eventfd");
	t_ok(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &got) == -1 && errno == EINVAL, "set in itself");
	close(ev);
	close(ep);

	for (unsigned int i = 0; i < 3; i++) {
		int b = bad[i];

		t_ok(read(b, buf, 1) == -1 && errno == EBADF, "read %d", b);
		t_ok(send(b, buf, 1, 0) == -1 && errno == EBADF, "send %d", b);
		t_ok(recvmsg(b, &(struct msghdr){ .msg_iov = NULL }, 0) == -1 && errno == EBADF, "recvmsg %d", b);
		t_ok(close(b) == -1 && errno == EBADF, "close %d", b);
		t_ok(dup(b) == -1 && errno == EBADF, "dup %d", b);
		t_ok(shutdown(b, 2) == -1 && errno == EBADF, "shutdown %d", b);
		t_ok(fcntl(b, F_GETFL) == -1 && errno == EBADF, "fcntl %d", b);
		t_ok(accept(b, NULL, NULL) == -1 && errno == EBADF, "accept %d", b);
	}
	int f = open("/dev/null", O_RDWR);
	t_ok(send(f, buf, 1, 0) == -1 && errno == ENOTSOCK, "send to a file");
	t_ok(epoll_wait(f, &got, 1, 0) == -1 && errno == EINVAL, "epoll_wait on a file");
	close(f);
	return t_done();
}
