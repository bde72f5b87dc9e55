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

int main(void)
{
	s_each(children);
	return t_done();
}
