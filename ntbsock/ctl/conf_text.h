/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conf_text.h - change a configuration file without losing a comment or half of it
 *
 * A file is read whole, changed in memory and written to a temporary file beside it that then takes its name, so
 * that a reader sees the old or the new one.  Editors take turns under a lock on the directory, held from open to
 * close.
 */
#ifndef NTBSOCK_CTL_CONF_TEXT_H
#define NTBSOCK_CTL_CONF_TEXT_H

#include <limits.h>
#include "ctl.h"

struct ntbs_conf_text {
	char path[PATH_MAX];	/* for messages, too */
	char dir[PATH_MAX];
	char *text;		/* whole file; "" if there is none */
	size_t len;
	int dir_fd;		/* locked if @edit, -1 if there is no directory */
};

/**
 * ntbs_conf_text_open() - Read a file
 * @dir: --config-dir, or NULL: NTBSOCK_CONFIG_DIR, else /etc/ntbsock
 * @name: of the file
 * @edit: it will be changed: create the directory if need be, take the lock
 *
 * Return: 0 or a negative errno, which has been said.
 */
int ntbs_conf_text_open(struct ntbs_conf_text *conf, const char *dir, const char *name, bool edit);
void ntbs_conf_text_close(struct ntbs_conf_text *conf);

/* Insert a line before line @before (from 1), or at the end if 0.  Return: 0 or -ENOMEM. */
int ntbs_conf_text_insert(struct ntbs_conf_text *conf, unsigned before, const char *line);
void ntbs_conf_text_remove(struct ntbs_conf_text *conf, unsigned line_nr);

/* Put the text in place of the file.  Return: 0 or a negative errno, which has been said. */
int ntbs_conf_text_write(struct ntbs_conf_text *conf);

#endif
