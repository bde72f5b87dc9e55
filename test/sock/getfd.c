/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * getfd.c - a connection that another process takes by pidfd_getfd() goes on there, and here as long as it is kept
 *
 * The process that has it makes no call meanwhile, and bytes lie unread in it.
 *
 * ring: yes
 */
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "sock.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#define SYS_pidfd_getfd 438
#endif

/* In the taker: the descriptor of its parent whose number comes by @ctl. */
static int take(int ctl)
{
	int fd, pidfd = (int)syscall(SYS_pidfd_open, getppid(), 0);

	t_must(pidfd >= 0, "pidfd_open");
	t_must(read(ctl, &fd, sizeof(fd)) == sizeof(fd), "number");
	fd = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	t_must(fd >= 0, "pidfd_getfd");
	close(pidfd);
	return fd;
}

static void done(int ctl)
{
	t_must(write(ctl, "d", 1) == 1, "done");
}

static void await_done(int ctl)
{
	char c;

	t_must(read(ctl, &c, 1) == 1, "%s: the taker has ended early", s_case);
}

static void taken(int family, bool forked, bool keep, bool we_connect)
{
	struct peer p;
	int ctl[2], fd;
	pid_t pid;

	snprintf(s_case, sizeof(s_case), "family %d, peer %s, keep %d, we_connect %d", family, forked ? "forked" : "in-process", keep,
		 we_connect);
	t_must(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ctl), "socketpair");
	/* forked before there is a connection */
	pid = t_fork();
	if (!pid) {
		close(ctl[0]);
		fd = take(ctl[1]);
		done(ctl[1]);
		s_recv_stream(fd, 2, 1000, 50000);
		s_send_stream(fd, 1, 2000, 50000);
		done(ctl[1]);
		t_child_exit();
	}
	close(ctl[1]);
	fd = s_peer(&p, family, forked, we_connect);
	s_warm(&p, fd);
	p_send(&p, 2, 0, 1000);
	t_must(s_recv_stream(fd, 2, 0, 1000), "before");
	t_must(s_send_stream(fd, 1, 0, 1000), "before");
	t_eq(p_recv(&p, 1, 0, 1000), 1000, "%s: before", s_case);
	p_send(&p, 2, 1000, 20000);				/* unread when it is taken, */
	t_must(s_send_stream(fd, 1, 1000, 1000), "before");	/* and so are these */
	t_must(write(ctl[0], &fd, sizeof(fd)) == sizeof(fd), "number");
	await_done(ctl[0]);
	if (!keep)
		close(fd);
	p_send(&p, 2, 21000, 30000);
	t_eq(p_recv(&p, 1, 1000, 51000), 51000, "%s: from us, and from the taker", s_case);
	await_done(ctl[0]);
	t_reap(pid);
	if (keep) {
		t_must(s_send_stream(fd, 1, 52000, 1000), "after");
		t_eq(p_recv(&p, 1, 52000, 1000), 1000, "%s: from here again", s_case);
		p_send(&p, 2, 51000, 1000);
		t_must(s_recv_stream(fd, 2, 51000, 1000), "after");
		close(fd);
	}
	t_eq(p_recv(&p, 1, 0, 1), 0, "%s: EOF", s_case);
	close(ctl[0]);
	p_end(&p);
}

static void *reader(void *arg)
{
	s_recv_stream(*(int *)arg, 2, 0, 1000);
	return NULL;
}

/* A thread of ours is asleep in recv() on it, and gets what comes then. */
static void taken_from_reader(struct peer *p, int fd)
{
	int ctl[2];
	pthread_t t;
	pid_t pid;

	t_must(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ctl), "socketpair");
	t_must(!pthread_create(&t, NULL, reader, &fd), "thread");
	pid = t_fork();
	if (!pid) {
		close(fd);
		if (p->fd >= 0)
			close(p->fd);
		close(ctl[0]);
		fd = take(ctl[1]);
		s_send_stream(fd, 1, 0, 1000);
		done(ctl[1]);
		t_child_exit();
	}
	close(ctl[1]);
	t_must(write(ctl[0], &fd, sizeof(fd)) == sizeof(fd), "number");
	await_done(ctl[0]);
	t_reap(pid);
	t_eq(p_recv(p, 1, 0, 1000), 1000, "%s: from the taker", s_case);
	p_send(p, 2, 0, 1000);
	pthread_join(t, NULL);
	close(ctl[0]);
	close(fd);
}

int main(void)
{
	int self = (int)syscall(SYS_pidfd_open, getpid(), 0), fd;

	if (self < 0 || (fd = (int)syscall(SYS_pidfd_getfd, self, 0, 0)) < 0)
		t_skip("no pidfd_getfd() here: %s", strerror(errno));
	close(self);
	close(fd);
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);	/* where a child may not look into its parent otherwise (Yama) */
	for (int i = 0; i < 16; i++)
		taken(i & 1 ? AF_INET6 : AF_INET, i & 8, i & 2, i & 4);
	s_each(taken_from_reader);
	return t_done();
}
