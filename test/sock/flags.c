/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * flags.c - MSG_PEEK, DONTWAIT, WAITALL, TRUNC, MORE, NOSIGNAL
 *
 * ring: yes
 */
#include "sock.h"

static void flags(struct peer *p, int fd)
{
	char buf[70000];
	uint64_t in = 0;

	t_ok(recv(fd, buf, 10, MSG_DONTWAIT) == -1 && errno == EAGAIN, "%s: DONTWAIT on nothing", s_case);
	t_ok(recv(fd, buf, 10, MSG_DONTWAIT | MSG_PEEK) == -1 && errno == EAGAIN, "%s: PEEK on nothing", s_case);

	/* peek, twice, then take */
	p_send(p, 1, in, 100);
	for (int i = 0; i < 2; i++) {
		t_eq(recv(fd, buf, 100, MSG_PEEK | MSG_WAITALL), 100, "%s: peek", s_case);
		t_eq(t_wrong(buf, 100, 1, in), -1, "%s: peeked", s_case);
	}
	t_eq(recv(fd, buf, 30, MSG_PEEK), 30, "%s: short peek", s_case);
	t_eq(recv(fd, buf, 60, 0), 60, "%s: take", s_case);
	t_eq(t_wrong(buf, 60, 1, in), -1, "%s: taken", s_case);
	t_eq(recv(fd, buf, sizeof(buf), MSG_PEEK), 40, "%s: peek at the rest", s_case);
	t_eq(t_wrong(buf, 40, 1, in + 60), -1, "%s: the rest", s_case);
	in += 60;

	/* WAITALL across many messages, the last ones of which come while we wait */
	for (int i = 0; i < 50; i++)
		p_send(p, 1, in + 40 + (uint64_t)i * 13, 13);
	p_later(p, S_SEND_LATER, 30, 1, in + 40 + 650, 1000);
	t_eq(recv(fd, buf, 1690, MSG_WAITALL), 1690, "%s: WAITALL", s_case);
	t_eq(t_wrong(buf, 1690, 1, in), -1, "%s: WAITALL bytes", s_case);
	in += 1690;

	/* peek over many messages that are there */
	for (int i = 0; i < 20; i++)
		p_send(p, 1, in + (uint64_t)i * 100, 100);
	t_eq(recv(fd, buf, 2000, MSG_PEEK | MSG_WAITALL), 2000, "%s: peek over messages", s_case);
	t_eq(t_wrong(buf, 2000, 1, in), -1, "%s: peeked over messages", s_case);
	t_eq(recv(fd, buf, 2000, MSG_WAITALL), 2000, "%s: take them", s_case);
	t_eq(t_wrong(buf, 2000, 1, in), -1, "%s: taken", s_case);
	in += 2000;

	/* WAITALL with DONTWAIT takes what is there */
	p_send(p, 1, in, 10);
	t_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 5000), 1, "%s: readable", s_case);
	t_eq(recv(fd, buf, 100, MSG_WAITALL | MSG_DONTWAIT), 10, "%s: WAITALL with DONTWAIT", s_case);
	in += 10;

	/* TRUNC on a stream discards; the buffer stays as it was */
	p_send(p, 1, in, 500);
	memset(buf, 0x5a, 500);
	t_eq(recv(fd, buf, 200, MSG_TRUNC | MSG_WAITALL), 200, "%s: TRUNC", s_case);
	t_eq(buf[0], 0x5a, "%s: TRUNC leaves the buffer", s_case);
	t_eq(recv(fd, NULL, 100, MSG_TRUNC | MSG_WAITALL), 100, "%s: TRUNC without a buffer", s_case);
	in += 300;
	t_must(s_recv_stream(fd, 1, in, 200), "after TRUNC");
	in += 200;

	/* MORE delays, and loses nothing */
	t_fill(buf, 300, 2, 0);
	t_eq(send(fd, buf, 100, MSG_MORE), 100, "%s: MORE", s_case);
	t_eq(send(fd, buf + 100, 100, MSG_MORE), 100, "%s: MORE", s_case);
	t_eq(send(fd, buf + 200, 100, 0), 100, "%s: no more", s_case);
	t_eq(p_recv(p, 2, 0, 300), 300, "%s: all of it", s_case);

	/* WAITALL that ends at EOF */
	p_send(p, 1, in, 40);
	p_shutdown(p, SHUT_WR);
	t_eq(recv(fd, buf, 100, MSG_WAITALL), 40, "%s: WAITALL to EOF", s_case);
	t_eq(t_wrong(buf, 40, 1, in), -1, "%s: WAITALL to EOF", s_case);
	t_eq(recv(fd, buf, 100, MSG_PEEK), 0, "%s: peek at EOF", s_case);
	t_eq(recv(fd, buf, 100, 0), 0, "%s: EOF", s_case);
	t_eq(recv(fd, buf, 100, MSG_DONTWAIT), 0, "%s: EOF again", s_case);
	close(fd);
}

int main(void)
{
	s_each(flags);
	return t_done();
}
