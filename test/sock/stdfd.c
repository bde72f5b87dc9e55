/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stdfd.c - a connection on descriptor 0, as inetd gives it, and daemon(), login_tty(), forkpty(), which take it away
 *
 * ring: yes
 */
#include <pty.h>
#include <sys/ioctl.h>
#include <utmp.h>
#include "sock.h"

/* The only holder becomes a daemon: what it keeps goes on, what daemon() closes has ended. */
static void daemons(struct peer *p, int fd)
{
	for (int noclose = 1; noclose >= 0; noclose--) {
		pid_t pid = t_fork();

		if (!pid) {
			close(p->pid ? p->ctl : p->fd);
			t_must(dup2(fd, 0) == 0, "dup2");
			close(fd);
			t_must(!daemon(1, noclose), "daemon");
			if (noclose) {
				s_recv_stream(0, 2, 0, 5000);
				s_send_stream(0, 1, 0, 5000);
			}
			/* its status is nobody's: what fails here is missed by the peer */
			_exit(0);
		}
		t_reap(pid);
		if (noclose) {
			p_send(p, 2, 0, 5000);
			t_eq(p_recv(p, 1, 0, 5000), 5000, "%s: from the daemon", s_case);
		}
	}
	close(fd);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s: EOF", s_case);
}

static void daemon_closes(struct peer *p, int fd)
{
	pid_t pid;

	s_warm(p, fd);
	pid = t_fork();
	if (!pid) {
		close(p->pid ? p->ctl : p->fd);
		s_send_stream(fd, 1, 0, 100);
		t_must(dup2(fd, 0) == 0, "dup2");
		close(fd);
		t_must(!daemon(1, 0), "daemon");
		pause();
	}
	close(fd);
	t_eq(p_recv(p, 1, 0, 200), 100, "%s: EOF, though the daemon lives", s_case);
	t_reap(pid);
}

static void terminals(struct peer *p, int fd)
{
	int saved = dup(0), pty, tty;
	char buf[64] = "";
	pid_t pid;

	t_must(saved >= 0 && dup2(fd, 0) == 0, "dup");
	close(fd);
	s_warm(p, 0);
	fflush(NULL);
	pid = forkpty(&pty, NULL, NULL, NULL);
	t_must(pid >= 0, "forkpty");
	if (!pid) {
		close(p->pid ? p->ctl : p->fd);
		dprintf(0, isatty(0) && isatty(1) && isatty(2) ? "ttys\n" : "none\n");
		_exit(0);
	}
	for (size_t n = 0; n < 4;) {
		ssize_t k = read(pty, buf + n, sizeof(buf) - 1 - n);

		t_must(k > 0, "%s: the terminal", s_case);
		n += k;
	}
	t_ok(!strncmp(buf, "ttys", 4), "%s: the child says %s", s_case, buf);
	t_reap(pid);
	close(pty);
	p_send(p, 2, 0, 3000);
	t_must(s_recv_stream(0, 2, 0, 3000) && s_send_stream(0, 1, 0, 3000), "%s: parent", s_case);
	t_eq(p_recv(p, 1, 0, 3000), 3000, "%s: parent", s_case);

	t_must(!openpty(&pty, &tty, NULL, NULL, NULL), "openpty");
	pid = t_fork();
	if (!pid) {
		close(p->pid ? p->ctl : p->fd);
		t_ok(!login_tty(tty) && isatty(0), "login_tty");
		t_ok(write(0, "hello\n", 6) == 6, "terminal");
		_exit(t_done());
	}
	close(tty);
	t_must(read(pty, buf, 5) == 5 && !memcmp(buf, "hello", 5), "%s: login_tty", s_case);
	t_reap(pid);
	close(pty);
	t_must(s_send_stream(0, 1, 3000, 100), "after");
	t_eq(p_recv(p, 1, 3000, 100), 100, "%s: after", s_case);
	t_must(dup2(saved, 0) == 0, "dup2");
	close(saved);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s: EOF", s_case);
}

int main(void)
{
	s_each(daemons);
	s_each(daemon_closes);
	s_each(terminals);
	return t_done();
}
