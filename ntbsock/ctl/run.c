// SPDX-License-Identifier: BSD-2-Clause
/*
 * run.c - `ntbsock-ctl run -- CMD`: a broker, the preload, exec
 *
 * CMD replaces this process, so process id, parent, signals, descriptors and exit status are as without us; what
 * differs is two variables of its environment.  Whatever is missing (broker, library) is named, and CMD runs on
 * plain TCP.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ask.h"
#include "start.h"

#define BROKERS_GONE 3 /* so many in a row is no accident */

static bool readable_file(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, R_OK);
}

/* Beside us in a build directory; else where `make install` puts it, seen from PREFIX/bin. */
static int find_library(char real[PATH_MAX], char *why, size_t why_bytes)
{
	static const char *const places[] = { "libntbsock.so", "../lib/ntbsock/libntbsock.so" };
	const char *named = getenv("NTBSOCK_LIB");
	char dir[PATH_MAX], path[PATH_MAX + 64];
	size_t i, nr = sizeof(places) / sizeof(places[0]);

	if (named && *named) {
		if (!readable_file(named) || !realpath(named, real)) {
			snprintf(why, why_bytes, "NTBSOCK_LIB names %s: %s", named,
				 errno ? strerror(errno) : "not a file");
			return -ENOENT;
		}
		return 0;
	}
	if (ntbs_start_exe_dir(dir, sizeof(dir))) {
		snprintf(why, why_bytes, "/proc is not mounted, so libntbsock.so is not found; set NTBSOCK_LIB");
		return -ENOENT;
	}
	for (i = 0; i < nr; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, places[i]);
		if (readable_file(path) && realpath(path, real))
			return 0;
	}
	snprintf(why, why_bytes, "libntbsock.so is neither in %s nor in ../lib/ntbsock from there; set NTBSOCK_LIB", dir);
	return -ENOENT;
}

/* The preload list is split at spaces and colons, and there is no way to quote. */
static int preload(const char *lib, char *why, size_t why_bytes)
{
	const char *old = getenv("LD_PRELOAD");
	char *list;
	int err = 0;

	if (strpbrk(lib, " :")) {
		snprintf(why, why_bytes, "%s cannot be preloaded: there is a space or colon in its path", lib);
		return -EINVAL;
	}
	if (!old || !*old)
		return setenv("LD_PRELOAD", lib, 1) ? -errno : 0;
	if (!strncmp(old, lib, strlen(lib)) && strchr(" :", old[strlen(lib)]))
		return 0; /* run within run: it is first already (strchr also finds the terminating NUL) */
	if (asprintf(&list, "%s:%s", lib, old) < 0)
		return -ENOMEM;
	if (setenv("LD_PRELOAD", list, 1))
		err = -errno;
	free(list);
	return err;
}

/* Does the file that execvp() will find need no dynamic linker?  Only if that is certain. */
static bool is_static(const char *cmd)
{
	char path[PATH_MAX];
	const char *dirs = getenv("PATH");
	bool interp = false, found = strchr(cmd, '/') != NULL;
	Elf64_Phdr ph;
	Elf64_Ehdr eh;
	int fd;

	if (found)
		snprintf(path, sizeof(path), "%s", cmd);
	while (!found && dirs && *dirs) {
		size_t len = strcspn(dirs, ":");

		snprintf(path, sizeof(path), "%.*s/%s", (int)len, len ? dirs : ".", cmd);
		found = !access(path, X_OK);
		dirs += len + (dirs[len] == ':');
	}
	fd = found ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
	if (fd < 0)
		return false;
	if (pread(fd, &eh, sizeof(eh), 0) != sizeof(eh) || memcmp(eh.e_ident, ELFMAG, SELFMAG) ||
	    eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_phentsize != sizeof(ph)) {
		close(fd);
		return false;
	}
	for (unsigned i = 0; i < eh.e_phnum && !interp; i++) {
		if (pread(fd, &ph, sizeof(ph), (off_t)(eh.e_phoff + i * sizeof(ph))) != sizeof(ph))
			interp = true; /* damaged: exec will say */
		else
			interp = ph.p_type == PT_INTERP;
	}
	close(fd);
	return !interp;
}

static void say_broker(const struct ntbs_ask *ask, const struct ntbs_msg_status *st, bool started)
{
	const char *whose = "shared by all users";
	char own[48];

	if (st->uid) {
		if (st->private_broker && st->uid == geteuid())
			snprintf(own, sizeof(own), "private");
		else
			snprintf(own, sizeof(own), "of user %u", st->uid);
		whose = own;
	}
	fprintf(stderr, "ntbsock: broker %s (pid %d, %s%s)\n", ask->dir, (int)ask->pid, whose,
		started ? ", just started" : "");
}

/*
 * A broker and NTBSOCK_RUN_DIR, or a line that says why not.  A private broker may end, being idle, between connect()
 * and our question; then there is none, and one is looked for again.
 */
static void prepare_broker(const char *dir, bool quiet)
{
	struct ntbs_ask ask = { .fd = -1 };
	struct ntbs_msg_status status;
	bool started;
	char why[1024];
	int err;

	for (int tries = 0;; tries++) {
		if (ntbs_start_broker(&ask, dir, &started, why, sizeof(why))) {
			fprintf(stderr, "ntbsock: no broker, so connections stay on TCP: %s\n", why);
			return;
		}
		ask.quiet = true; /* said below */
		err = ntbs_ask_hold(&ask, &status);
		if ((err != -ECONNRESET && err != -EPIPE) || tries == BROKERS_GONE)
			break;
		ntbs_ask_close(&ask);
	}
	if (err)
		fprintf(stderr, "ntbsock: the broker in %s does not answer (%s): connections will probably stay on TCP\n",
			ask.dir, strerror(-err));
	else if (!quiet)
		say_broker(&ask, &status, started);
	if (setenv("NTBSOCK_RUN_DIR", ask.dir, 1))
		fprintf(stderr, "ntbsock: no memory for NTBSOCK_RUN_DIR\n");
	ntbs_ask_close(&ask);
}

int ntbs_run_verb(int argc, char **argv)
{
	static const struct option options[] = {
		{ "broker-dir", required_argument, NULL, NTBS_OPT_BROKER_DIR },
		{ "quiet", no_argument, NULL, 'q' },
		{ "help", no_argument, NULL, NTBS_OPT_HELP },
		{ 0 },
	};
	struct ntbs_ctl_opts opts = { .verb = "run" };
	const char *disable = getenv("NTBSOCK_DISABLE");
	char lib[PATH_MAX], why[PATH_MAX + 256];
	bool quiet = false;
	int c;

	/* "+": options of CMD are not ours */
	while ((c = getopt_long(argc, argv, "+:q", options, NULL)) != -1) {
		if (c == 'q')
			quiet = true;
		else if (ntbs_ctl_option(&opts, c, argv))
			return NTBS_CTL_RUN_FAILED;
	}
	if (opts.help)
		return ntbs_ctl_help("run");
	argv += optind;
	if (!argv[0]) {
		ntbs_ctl_usage("run", "no program is named: ntbsock-ctl run -- CMD [ARG...]");
		return NTBS_CTL_RUN_FAILED;
	}

	errno = 0;
	if (disable && *disable && strcmp(disable, "0") && strcmp(disable, "no")) { /* as the library reads it */
		if (!quiet)
			fprintf(stderr, "ntbsock: NTBSOCK_DISABLE is set: connections stay on TCP\n");
	} else if (find_library(lib, why, sizeof(why)) || preload(lib, why, sizeof(why))) {
		fprintf(stderr, "ntbsock: no library, so connections stay on TCP: %s\n", why);
	} else {
		if (is_static(argv[0]))
			fprintf(stderr, "ntbsock: %s is linked statically and cannot be preloaded: its own connections stay on TCP\n",
				argv[0]);
		prepare_broker(opts.broker_dir, quiet);
	}

	fflush(NULL);
	execvp(argv[0], argv);
	c = errno;
	ntbs_ctl_say("cannot run %s: %s", argv[0], strerror(c));
	return c == ENOENT ? NTBS_CTL_NOT_FOUND : NTBS_CTL_NOT_EXECUTABLE;
}
