/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * self.c - a socket connected to itself, two ends in one process, v4-mapped addresses, the address family AF_UNSPEC
 *
 * ring: any
 */
#include "sock.h"

/* bind() and connect() to the same port: TCP's simultaneous open with itself. */
static void to_itself(void)
{
	struct s_addr a = s_loopback(AF_INET);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	strcpy(s_case, "to itself");
	t_must(!bind(fd, (struct sockaddr *)&a.ss, a.len) && !getsockname(fd, (struct sockaddr *)&a.ss, &a.len), "bind");
	t_must(!connect(fd, (struct sockaddr *)&a.ss, a.len), "connect to itself");
	for (unsigned int i = 0; i < 100; i++) {
		t_must(s_send_stream(fd, 1, i * 700, 700), "send");
		t_must(s_recv_stream(fd, 1, i * 700, 700), "receive");
	}
	close(fd);
}

/* An IPv6 listener and an IPv4 client. */
static void mapped(void)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_addr = in6addr_any };
	struct s_addr a = s_loopback(AF_INET);
	socklen_t len = sizeof(any);
	int lfd = socket(AF_INET6, SOCK_STREAM, 0), zero = 0, c, s;

	strcpy(s_case, "v4-mapped");
	t_must(!setsockopt(lfd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero)), "V6ONLY");
	t_must(!bind(lfd, (struct sockaddr *)&any, sizeof(any)) && !listen(lfd, 5), "listen");
	t_must(!getsockname(lfd, (struct sockaddr *)&any, &len), "name");
	((struct sockaddr_in *)&a.ss)->sin_port = any.sin6_port;
	c = s_connect(&a);
	s = s_accept(lfd);
	t_must(!getpeername(s, (struct sockaddr *)&any, &len) && IN6_IS_ADDR_V4MAPPED(&any.sin6_addr), "peer is mapped");
	for (unsigned int i = 0; i < 100; i++) {
		t_must(s_send_stream(c, 1, i * 700, 700) && s_recv_stream(s, 1, i * 700, 700), "there");
		t_must(s_send_stream(s, 2, i * 700, 700) && s_recv_stream(c, 2, i * 700, 700), "back");
	}
	close(c);
	close(s);
	close(lfd);
}

int main(void)
{
	int fd, sv[2];
	char c;

	to_itself();
	mapped();
	/* dissolved by AF_UNSPEC: the peer sees a reset, the socket can connect again */
	s_pair(AF_INET, sv);
	for (unsigned int i = 0; i < 50; i++)
		t_must(s_send_stream(sv[0], 1, i, 1) && s_recv_stream(sv[1], 1, i, 1), "exchange");
	t_ok(!connect(sv[0], &(struct sockaddr){ .sa_family = AF_UNSPEC }, sizeof(struct sockaddr)), "AF_UNSPEC");
	t_ok(recv(sv[1], &c, 1, 0) == -1 && errno == ECONNRESET, "the peer sees a reset");
	struct s_addr a;
	int lfd = s_listen(AF_INET, &a);
	t_ok(!connect(sv[0], (struct sockaddr *)&a.ss, a.len), "connects again");
	fd = s_accept(lfd);
	for (unsigned int i = 0; i < 50; i++)
		t_must(s_send_stream(sv[0], 2, i * 999, 999) && s_recv_stream(fd, 2, i * 999, 999), "again");
	close(fd);
	close(lfd);
	close(sv[0]);
	close(sv[1]);
	return t_done();
}
