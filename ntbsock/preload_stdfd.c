// SPDX-License-Identifier: BSD-2-Clause
/*
 * preload_stdfd.c - daemon(), login_tty(), forkpty(): they put something else on descriptors 0 to 2
 *
 * In libc they do so by calls that have no name to wrap, and daemon() ends the parent by one.  A server that inetd has
 * started has its connection there.  So they are done here, as libc does them, by calls that we see.
 */
#include "preload.h"

#include <fcntl.h>
#include <paths.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <utmp.h>

#pragma weak openpty		/* in libc since glibc 2.34 */

NTBS_EXPORT int daemon(int nochdir, int noclose)
{
	struct stat st;
	int fd;

	if (!ntbs_on)
		return LIBC(daemon)(nochdir, noclose);
	switch (fork()) {
	case -1:
		return -1;
	case 0:
		break;
	default:
		_exit(0);
	}
	if (setsid() == -1)
		return -1;
	if (!nochdir && chdir("/")) {
		/* libc does not look, either */
	}
	if (noclose)
		return 0;
	fd = open(_PATH_DEVNULL, O_RDWR);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st)) {
		close(fd);
		return -1;
	}
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3)) {	/* Documentation/admin-guide/devices.txt */
		close(fd);
		errno = ENODEV;
		return -1;
	}
	for (int i = 0; i < 3; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
	return 0;
}

NTBS_EXPORT int login_tty(int fd)
{
	if (!ntbs_on)
		return LIBC(login_tty)(fd);
	setsid();
	if (ioctl(fd, TIOCSCTTY, NULL) == -1)
		return -1;
	for (int i = 0; i < 3; i++)
		while (dup2(fd, i) == -1 && errno == EBUSY)
			;
	if (fd > 2)
		close(fd);
	return 0;
}

NTBS_EXPORT int forkpty(int *pty, char *name, const struct termios *term, const struct winsize *size)
{
	int tty;
	pid_t pid;

	if (!ntbs_on || !openpty)
		return LIBC(forkpty)(pty, name, term, size);
	if (openpty(pty, &tty, name, term, size) == -1)
		return -1;
	pid = fork();
	if (pid == -1) {
		close(*pty);
		close(tty);
	} else if (pid) {
		close(tty);
	} else {
		close(*pty);
		if (login_tty(tty))
			_exit(1);
	}
	return pid;
}
