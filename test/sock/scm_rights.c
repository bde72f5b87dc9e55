/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scm_rights.c - a connection passed to another process goes on there, and here as long as it is kept
 *
 * ring: yes
 */
#include "sock.h"
#include "hand_on.h"

static void passed(int family, bool keep, bool we_connect)
{
	struct peer p;
	int un[2], fd;
	pid_t pid;

	snprintf(s_case, sizeof(s_case), "family %d, keep %d, we_connect %d", family, keep, we_connect);
	t_must(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, un), "socketpair");
	/* forked before there is a connection */
	pid = t_fork();
	if (!pid) {
		close(un[0]);
		fd = s_take(un[1]);
		s_recv_stream(fd, 2, 1000, 50000);
		s_send_stream(fd, 1, 1000, 50000);
		char c = 'd';
		t_must(write(un[1], &c, 1) == 1, "done");
		t_child_exit();
	}
	close(un[1]);
	fd = s_peer(&p, family, true, we_connect);
	s_warm(&p, fd);
	p_send(&p, 2, 0, 1000);
	t_must(s_recv_stream(fd, 2, 0, 1000), "before");
	t_must(s_send_stream(fd, 1, 0, 1000), "before");
	t_eq(p_recv(&p, 1, 0, 1000), 1000, "%s: before", s_case);
	p_send(&p, 2, 1000, 20000);	/* unread when it is passed */
	s_pass(un[0], fd);
	if (!keep)
		close(fd);
	p_send(&p, 2, 21000, 30000);
	t_eq(p_recv(&p, 1, 1000, 50000), 50000, "%s: from the receiver of the descriptor", s_case);
	char c;
	t_must(read(un[0], &c, 1) == 1, "%s: receiver ended early", s_case);
	t_reap(pid);
	if (keep) {
		t_must(s_send_stream(fd, 1, 51000, 1000), "after");
		t_eq(p_recv(&p, 1, 51000, 1000), 1000, "%s: from here again", s_case);
		p_send(&p, 2, 51000, 1000);
		t_must(s_recv_stream(fd, 2, 51000, 1000), "after");
		close(fd);
	}
	t_eq(p_recv(&p, 1, 0, 1), 0, "%s: EOF", s_case);
	close(un[0]);
	p_end(&p);
}

int main(void)
{
	for (int i = 0; i < 8; i++)
		passed(i & 1 ? AF_INET6 : AF_INET, i & 2, i & 4);
	return t_done();
}
