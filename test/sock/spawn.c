/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * spawn.c - posix_spawn, vfork, system() and popen() beside open connections: a child's closes are its own
 *
 * ring: yes
 */
#include <spawn.h>
#include <sys/syscall.h>
#include "sock.h"

extern char **environ;

static uint64_t pos;

static void works(struct peer *p, int fd, const char *what)
{
	t_must(s_send_stream(fd, 1, pos, 300), "%s", what);
	t_eq(p_recv(p, 1, pos, 300), 300, "%s: %s", s_case, what);
	p_send(p, 2, pos, 300);
	t_must(s_recv_stream(fd, 2, pos, 300), "%s", what);
	pos += 300;
}

static void children(struct peer *p, int fd)
{
	char *argv[] = { "true", NULL };
	posix_spawn_file_actions_t fa;
	char text[20] = "";
	pid_t pid;
	FILE *f;

	pos = 0;
	works(p, fd, "before");
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addclose(&fa, fd);
	posix_spawn_file_actions_adddup2(&fa, 2, fd);
	t_eq(posix_spawn(&pid, "/bin/true", &fa, NULL, argv, environ), 0, "posix_spawn");
	t_reap(pid);
	posix_spawn_file_actions_destroy(&fa);
	works(p, fd, "after posix_spawn");

	pid = vfork();
	if (!pid) {
		close(fd);
		execv("/bin/true", argv);
		_exit(126);
	}
	t_reap(pid);
	works(p, fd, "after vfork");

	t_eq(system("exit 3") >> 8, 3, "system");
	works(p, fd, "after system");
	f = popen("echo hello", "r");
	t_ok(f && fgets(text, sizeof(text), f) && !strcmp(text, "hello\n"), "popen");
	t_ok(f && !pclose(f), "pclose");
	works(p, fd, "after popen");

	/* a plain fork child that closes everything and leaves */
	pid = t_fork();
	if (!pid) {
		closefrom(3);
		_exit(0);
	}
	t_reap(pid);
	works(p, fd, "after a child has closed everything");
	close(fd);
	t_eq(p_recv(p, 1, 0, 1), 0, "%s: EOF: no child holds it", s_case);
}

/* Peers that are stopped cannot let go of the ring: they are waited for together, and one that is awake not less than before. */
static void stopped(void)
{
	enum { N = 8 };
	struct peer p[N];
	char *argv[] = { "true", NULL };
	double begin;
	pid_t pid;
	int fd[N];

	for (int i = 0; i < N; i++) {
		snprintf(s_case, sizeof(s_case), "peer %d of some that are stopped", i);
		fd[i] = s_peer(&p[i], AF_INET, true, i & 1);
		t_must(!fcntl(fd[i], F_SETFD, 0), "the image gets it");
		s_warm(&p[i], fd[i]);
	}
	for (int i = 0; i < N - 1; i++)
		t_must(!kill(p[i].pid, SIGSTOP), "stop");
	begin = t_now();
	t_eq(posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ), 0, "posix_spawn");
	t_ok(t_now() - begin < 8, "%s: %.1f s", s_case, t_now() - begin);
	t_reap(pid);
	for (int i = N - 1; i >= 0; i--) {	/* each has the sockets that were there before it */
		snprintf(s_case, sizeof(s_case), "peer %d of some that were stopped", i);
		kill(p[i].pid, SIGCONT);
		pos = 0;
		works(&p[i], fd[i], "after it");
		close(fd[i]);
		t_eq(p_recv(&p[i], 1, 0, 1), 0, "%s: EOF", s_case);
		p_end(&p[i]);
	}
}

int main(void)
{
	s_each(children);
	stopped();
	return t_done();
}
