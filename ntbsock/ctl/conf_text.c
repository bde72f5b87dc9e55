// SPDX-License-Identifier: BSD-2-Clause
/* conf_text.c - see conf_text.h */
#include "conf_text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/conf_file.h"

#define CONFIG_DIR "/etc/ntbsock"

static int read_text(struct ntbs_conf_text *conf)
{
	struct stat st;
	ssize_t n;
	int err = 0, fd = open(conf->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 && errno == ENOENT)
		return (conf->text = strdup("")) ? 0 : -ENOMEM;
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st))
		err = -errno;
	else if (!S_ISREG(st.st_mode))
		err = -EINVAL;
	else if (st.st_size > NTBS_CONF_FILE_MAX)
		err = -EFBIG;
	else if (!(conf->text = malloc(st.st_size + 1)))
		err = -ENOMEM;
	while (!err && conf->len < (size_t)st.st_size) {
		n = read(fd, conf->text + conf->len, st.st_size - conf->len);
		if (n < 0 && errno != EINTR)
			err = -errno;
		else if (n == 0)
			break;
		else if (n > 0)
			conf->len += n;
	}
	if (!err)
		conf->text[conf->len] = '\0';
	close(fd);
	return err;
}

int ntbs_conf_text_open(struct ntbs_conf_text *conf, const char *dir, const char *name, bool edit)
{
	const char *env = getenv("NTBSOCK_CONFIG_DIR");
	int err = 0;

	if (!dir)
		dir = env && *env ? env : CONFIG_DIR;
	conf->text = NULL;
	conf->len = 0;
	conf->dir_fd = -1;
	snprintf(conf->dir, sizeof(conf->dir), "%s", dir);
	if ((size_t)snprintf(conf->path, sizeof(conf->path), "%s/%s", dir, name) >= sizeof(conf->path)) {
		ntbs_ctl_say("the path of the configuration directory is too long");
		return -ENAMETOOLONG;
	}
	if (edit && mkdir(dir, 0755) && errno != EEXIST) {
		err = -errno;
		ntbs_ctl_say("cannot create %s: %s", dir, strerror(errno));
		return err;
	}
	conf->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (conf->dir_fd < 0 && (edit || errno != ENOENT)) {
		err = -errno;
	} else if (edit) {
		while (flock(conf->dir_fd, LOCK_EX) && errno == EINTR)
			;
	}
	if (!err)
		err = read_text(conf);
	if (err) {
		ntbs_ctl_say("cannot read %s: %s", conf->path, strerror(-err));
		ntbs_conf_text_close(conf);
	}
	return err;
}

void ntbs_conf_text_close(struct ntbs_conf_text *conf)
{
	free(conf->text);
	conf->text = NULL;
	if (conf->dir_fd >= 0)
		close(conf->dir_fd);
	conf->dir_fd = -1;
}

/* Where line @nr begins; the end of the text if there are fewer. */
static size_t line_start(const struct ntbs_conf_text *conf, unsigned nr)
{
	size_t at = 0;

	while (nr > 1 && at < conf->len) {
		const char *nl = memchr(conf->text + at, '\n', conf->len - at);

		at = nl ? (size_t)(nl + 1 - conf->text) : conf->len;
		nr--;
	}
	return at;
}

int ntbs_conf_text_insert(struct ntbs_conf_text *conf, unsigned before, const char *line)
{
	size_t at = before ? line_start(conf, before) : conf->len, len = strlen(line);
	bool unfinished = at && conf->text[at - 1] != '\n';	/* the last line may lack its newline */
	char *grown = realloc(conf->text, conf->len + len + 3);

	if (!grown)
		return -ENOMEM;
	conf->text = grown;
	memmove(grown + at + unfinished + len + 1, grown + at, conf->len - at + 1);
	if (unfinished)
		grown[at++] = '\n';
	memcpy(grown + at, line, len);
	grown[at + len] = '\n';
	conf->len += unfinished + len + 1;
	return 0;
}

void ntbs_conf_text_remove(struct ntbs_conf_text *conf, unsigned line_nr)
{
	size_t from = line_start(conf, line_nr), to = line_start(conf, line_nr + 1);

	memmove(conf->text + from, conf->text + to, conf->len - to + 1);
	conf->len -= to - from;
}

static int write_all(int fd, const char *text, size_t len)
{
	while (len) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			text += n;
			len -= n;
		}
	}
	return fsync(fd) ? -errno : 0;
}

int ntbs_conf_text_write(struct ntbs_conf_text *conf)
{
	char temp[PATH_MAX + 16], real[PATH_MAX];
	const char *path = realpath(conf->path, real) ? real : conf->path; /* a symlink stays one */
	struct stat st;
	int fd, err;

	snprintf(temp, sizeof(temp), "%s.XXXXXX", path);
	fd = mkostemp(temp, O_CLOEXEC);
	if (fd < 0) {
		err = -errno;
		ntbs_ctl_say("cannot write beside %s: %s", path, strerror(errno));
		return err;
	}
	err = write_all(fd, conf->text, conf->len);
	if (!err && !stat(path, &st)) {
		/* owner first: chown() may clear mode bits.  Not being allowed to give it away is no failure. */
		if (fchown(fd, st.st_uid, st.st_gid) && errno != EPERM)
			err = -errno;
		if (!err && fchmod(fd, st.st_mode & 07777))
			err = -errno;
	} else if (!err && fchmod(fd, 0644)) {
		err = -errno;
	}
	if (!err && rename(temp, path))
		err = -errno;
	if (err)
		unlink(temp);
	else if (fsync(conf->dir_fd))
		err = -errno;
	close(fd);
	if (err)
		ntbs_ctl_say("cannot write %s: %s", path, strerror(-err));
	return err;
}
