/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * relay.c - bytes that their sender cannot bring back, since it has shut down or gone, reach the image that gets the socket;
 * and what that image sends comes behind bytes that TCP has had no room for yet; a helper that only happens to inherit the
 * socket takes nothing from the program that has started it
 *
 * ring: yes
 */
#include "sock.h"
#include "hand_on.h"

#include <spawn.h>
#include <sys/mman.h>

#define BYTES 300000

enum way { FORK, VFORK, SPAWN, PASS, NR_WAYS };

static char *const cat[] = { "cat", NULL };

static void become_cat(int in, int out)
{
	dup2(in, 0);
	dup2(out, 1);
	execve("/bin/cat", cat, s_foreign_env());
	_exit(126);
}

/* The receiver of a descriptor, forked before there is a connection; @out < 0: it answers on the socket. */
static pid_t receiver(int un[2], int out)
{
	pid_t pid;

	t_must(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, un), "socketpair");
	pid = t_fork();
	if (!pid) {
		int fd;

		close(un[0]);
		fd = s_take(un[1]);
		become_cat(fd, out < 0 ? fd : out);
	}
	close(un[1]);
	return pid;
}

static pid_t start(enum way way, int fd, int out)
{
	posix_spawn_file_actions_t actions;
	pid_t pid = -1;

	switch (way) {
	case FORK:
		pid = t_fork();
		if (!pid)
			become_cat(fd, out);
		break;
	case VFORK:
		pid = vfork();
		if (!pid) {
			dup2(fd, 0);
			dup2(out, 1);
			execve("/bin/cat", cat, s_foreign_env());
			_exit(126);
		}
		break;
	default:
		posix_spawn_file_actions_init(&actions);
		posix_spawn_file_actions_adddup2(&actions, fd, 0);
		posix_spawn_file_actions_adddup2(&actions, out, 1);
		t_ok(!posix_spawn(&pid, "/bin/cat", &actions, NULL, cat, s_foreign_env()), "spawn");
		posix_spawn_file_actions_destroy(&actions);
	}
	return pid;
}

/*
 * The peer has shut down, or has closed, before anybody has read what it sent.  cat gets all of that and the end; where
 * somebody is there to read it, its output comes back by the same socket.
 */
static void ended(int family, bool we_connect, enum way way, bool closed)
{
	int fd, un[2] = { -1, -1 }, file = closed ? memfd_create("out", 0) : -1;
	pid_t pid = way == PASS ? receiver(un, file) : -1;
	struct peer p;

	snprintf(s_case, sizeof(s_case), "IPv%d, we_connect %d, way %d, closed %d", family == AF_INET ? 4 : 6, we_connect, way,
		 closed);
	fd = s_peer(&p, family, true, we_connect);
	s_warm(&p, fd);
	p_send(&p, 2, 0, 1000);
	t_must(s_recv_stream(fd, 2, 0, 1000), "before");
	t_must(s_send_stream(fd, 1, 0, 1000), "before");
	t_eq(p_recv(&p, 1, 0, 1000), 1000, "%s: before", s_case);
	p_send(&p, 3, 0, BYTES);
	if (closed)
		p_close(&p);
	else
		p_shutdown(&p, SHUT_WR);
	if (way == PASS)
		s_pass(un[0], fd);
	else
		pid = start(way, fd, closed ? file : fd);
	close(fd);
	if (!closed) {
		t_eq(p_recv(&p, 3, 0, BYTES), BYTES, "%s: what the new image has read", s_case);
		t_eq(p_recv(&p, 3, 0, 1), 0, "%s: EOF", s_case);
	}
	t_reap(pid);
	if (closed) {
		char *bytes = malloc(BYTES + 1);

		t_eq(pread(file, bytes, BYTES + 1, 0), BYTES, "%s: as many as were sent", s_case);
		t_eq(t_wrong(bytes, BYTES, 3, 0), -1, "%s: wrong byte", s_case);
		free(bytes);
		close(file);
	}
	if (un[0] >= 0)
		close(un[0]);
	p_end(&p);
}

static uint64_t flood(int fd)
{
	char buf[65536];
	uint64_t pos = 0;
	ssize_t n;

	s_nonblock(fd, true);
	for (;;) {
		t_fill(buf, sizeof(buf), 4, pos);
		n = send(fd, buf, sizeof(buf), MSG_NOSIGNAL);
		if (n < 0)
			break;
		pos += n;
	}
	t_eq(errno, EAGAIN, "%s: full", s_case);
	s_nonblock(fd, false);
	return pos;
}

/*
 * The peer reads nothing and wants TCP, which has no room for all that lies in the ring.  Then the socket goes to cat, which
 * sends a file.
 */
static void unsent(int family, bool we_connect, enum way way)
{
	int fd, un[2] = { -1, -1 }, file = memfd_create("in", 0);
	uint64_t pos = 0;
	char bytes[1000];
	struct peer p;
	pid_t pid;

	snprintf(s_case, sizeof(s_case), "unsent: IPv%d, we_connect %d, way %d", family == AF_INET ? 4 : 6, we_connect, way);
	t_fill(bytes, sizeof(bytes), 5, 0);
	t_must(write(file, bytes, sizeof(bytes)) == sizeof(bytes) && !lseek(file, 0, SEEK_SET), "a file");
	if (way == PASS) {
		t_must(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, un), "socketpair");
		pid = t_fork();
		if (!pid) {
			close(un[0]);
			become_cat(file, s_take(un[1]));
		}
		close(un[1]);
	}
	fd = s_peer(&p, family, true, we_connect);
	s_warm(&p, fd);
	p_send(&p, 2, 0, 1000);
	t_must(s_recv_stream(fd, 2, 0, 1000), "before");
	pos = flood(fd);
	p_zerocopy(&p);
	if (way == PASS)
		s_pass(un[0], fd);
	else
		pid = start(way, file, fd);
	close(fd);
	t_eq(p_recv(&p, 4, 0, pos), pos, "%s: what was sent before", s_case);
	t_eq(p_recv(&p, 5, 0, sizeof(bytes)), sizeof(bytes), "%s: what the new image has sent", s_case);
	t_eq(p_recv(&p, 5, 0, 1), 0, "%s: EOF", s_case);
	t_reap(pid);
	if (un[0] >= 0)
		close(un[0]);
	close(file);
	p_end(&p);
}

enum helper { BY_FORK, BY_VFORK, BY_SPAWN, BY_SYSTEM, BY_POPEN, NR_HELPERS };

static void help(enum helper how)
{
	static char *const helper[] = { "true", NULL };
	pid_t pid = -1;
	FILE *f;

	switch (how) {
	case BY_FORK:
		pid = t_fork();
		if (!pid) {
			execve("/bin/true", helper, s_foreign_env());
			_exit(126);
		}
		break;
	case BY_VFORK:
		pid = vfork();
		if (!pid) {
			execve("/bin/true", helper, s_foreign_env());
			_exit(126);
		}
		break;
	case BY_SPAWN: t_ok(!posix_spawn(&pid, "/bin/true", NULL, NULL, helper, s_foreign_env()), "%s: spawn", s_case); break;
	case BY_SYSTEM: t_eq(system("true"), 0, "%s: system()", s_case); break;
	default:
		f = popen("true", "r");
		t_ok(f && !pclose(f), "%s: popen()", s_case);
	}
	if (pid > 0)
		t_reap(pid);
}

/* The peer has ended, and nobody has read yet what it sent: who starts a program then reads it, with the same names. */
static void helped(int family, bool we_connect, enum helper how, bool closed)
{
	struct sockaddr_storage before = { 0 }, after = { 0 };
	socklen_t len = sizeof(before);
	struct peer p;
	char c;
	int fd;

	snprintf(s_case, sizeof(s_case), "helped: IPv%d, we_connect %d, by %d, closed %d", family == AF_INET ? 4 : 6, we_connect, how,
		 closed);
	fd = s_peer(&p, family, true, we_connect);
	t_must(!fcntl(fd, F_SETFD, 0), "F_SETFD");
	s_warm(&p, fd);
	p_send(&p, 3, 0, BYTES);
	if (closed)
		p_close(&p);
	else
		p_shutdown(&p, SHUT_WR);
	t_must(!getpeername(fd, (void *)&before, &len), "getpeername");
	help(how);
	len = sizeof(after);
	t_ok(!getpeername(fd, (void *)&after, &len) && !memcmp(&before, &after, sizeof(before)), "%s: the same peer", s_case);
	t_ok(s_recv_stream(fd, 3, 0, BYTES), "%s: what was sent before", s_case);
	t_eq(recv(fd, &c, 1, 0), 0, "%s: EOF", s_case);
	close(fd);
	p_end(&p);
}

int main(void)
{
	for (int i = 0; i < NR_HELPERS * 2; i++)
		helped(i & 2 ? AF_INET6 : AF_INET, i & 4, i / 2, i & 1);
	for (int i = 0; i < 3; i++)
		unsent(i & 1 ? AF_INET6 : AF_INET, i & 1, i == 0 ? FORK : i == 1 ? PASS : SPAWN);
	for (int i = 0; i < NR_WAYS * 4; i++)
		ended(i & 1 ? AF_INET6 : AF_INET, i & 2, i / 4, i & 1);
	for (int i = 0; i < NR_WAYS; i++)
		ended(AF_INET, i & 1, i, true);
	return t_done();
}
