// SPDX-License-Identifier: BSD-2-Clause
/*
 * pci_bind.c - a function goes from its driver to vfio-pci, and back
 *
 * The kernel gives a function to the driver that its driver_override names, at the next probe.  So: note what it had,
 * name vfio-pci, take it from its driver, probe.  If it does not end up there, everything goes back.
 *
 * The note is a file of two lines, "driver NAME" and "override NAME", in a directory that only root can write to.  It
 * lasts as long as the binding would: /run is empty after a reboot, when the kernel binds anew.
 */
#include "pci.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ioat.h"
#include "ntb.h"

#define VFIO "vfio-pci"

struct move {
	const struct ntbs_pci_where *w;
	const char *address;
	char *why;
	char driver[32];	/* now, or "" */
	char override[32];	/* or "" */
};

__attribute__((format(printf, 3, 4))) static int say(struct move *m, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(m->why, NTBS_PCI_TEXT, fmt, ap);
	va_end(ap);
	return -err;
}

static int put_path(struct move *m, const char *path, const char *text)
{
	return m->w->put ? m->w->put(path, text) : ntbs_pci_put(path, text);
}

static int put(struct move *m, const char *name, const char *text)
{
	char path[300];
	int err = ntbs_pci_path(m->w, m->address, name, path, sizeof(path));

	return err ? err : put_path(m, path, text);
}

static int put_driver(struct move *m, const char *driver, const char *name)
{
	char path[300];

	snprintf(path, sizeof(path), "%.150s/bus/pci/drivers/%.31s/%s", m->w->sysfs, driver, name);
	return put_path(m, path, m->address);
}

static void look(struct move *m)
{
	char path[300];

	m->driver[0] = '\0';
	if (!ntbs_pci_path(m->w, m->address, "driver", path, sizeof(path)) &&
	    ntbs_pci_link(path, m->driver, sizeof(m->driver)))
		m->driver[0] = '\0';
	m->override[0] = '\0';
	if (!ntbs_pci_path(m->w, m->address, "driver_override", path, sizeof(path)) &&
	    (ntbs_pci_get(path, m->override, sizeof(m->override)) || !strcmp(m->override, "(null)")))
		m->override[0] = '\0';
}

static int begin(struct move *m)
{
	char path[300];

	if (ntbs_pci_path(m->w, m->address, NULL, path, sizeof(path)) || access(path, F_OK))
		return say(m, ENOENT, "%s: there is no such PCI function; `ntbsock-ctl ports` lists the NTB functions", m->address);
	look(m);
	if (!ntbs_pci_path(m->w, m->address, "driver_override", path, sizeof(path)) && access(path, W_OK))
		return say(m, EPERM, "%s: %s: only root may move a function to another driver", m->address, strerror(errno));
	return 0;
}

/* A bridge, or an engine that copies for one. */
static bool is_ours(struct move *m)
{
	struct ntbs_regs ids = { 0 };
	char path[300], text[32];
	unsigned value[2] = { 0 };

	for (int i = 0; i < 2; i++) {
		if (ntbs_pci_path(m->w, m->address, i ? "device" : "vendor", path, sizeof(path)) ||
		    ntbs_pci_get(path, text, sizeof(text)) || sscanf(text, "%x", &value[i]) != 1)
			return false;
	}
	ids.vendor = value[0];
	ids.device = value[1];
	return ntbs_ntb_family(&ids) || ntbs_ioat_is(ids.vendor, ids.device);
}

/* ----------------------------------------------------------------------- the note */

static int note_path(struct move *m, char *path, size_t path_bytes)
{
	int n = snprintf(path, path_bytes, "%s/%s", m->w->state, m->address);

	return n < 0 || (size_t)n >= path_bytes ? -ENAMETOOLONG : 0;
}

static int write_note(struct move *m)
{
	char path[300], text[128];
	struct stat st;
	int fd, n, err = 0;

	if (mkdir(m->w->state, 0755) && errno != EEXIST)
		return -errno;
	if (lstat(m->w->state, &st))
		return -errno;
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || st.st_mode & (S_IWGRP | S_IWOTH))
		return -EPERM;	/* what unbind would believe must not be anybody else's to write */
	if (note_path(m, path, sizeof(path)))
		return -ENAMETOOLONG;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	n = snprintf(text, sizeof(text), "driver %s\noverride %s\n", m->driver, m->override);
	if (write(fd, text, n) != n)
		err = errno ? -errno : -EIO;
	if (close(fd) && !err)
		err = -errno;
	return err;
}

/* The rest of the line that begins with @key; false: no such line, or nothing that could be a driver's name. */
static bool note_line(const char *text, const char *key, char value[32])
{
	const char *at = strstr(text, key);
	size_t len;

	if (!at)
		return false;
	at += strlen(key);
	len = strcspn(at, "\n");
	if (len > 31 || memchr(at, '/', len))
		return false;
	memcpy(value, at, len);
	value[len] = '\0';
	return true;
}

/* False: there is none, or none that bind would have written. */
static bool read_note(struct move *m, char driver[32], char override[32])
{
	char path[300], text[128];
	struct stat st;
	ssize_t n;
	int fd;

	driver[0] = override[0] = '\0';
	if (note_path(m, path, sizeof(path)))
		return false;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ? -1 : read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n < 0)
		return false;
	text[n] = '\0';
	return note_line(text, "driver ", driver) && note_line(text, "override ", override);
}

static void drop_note(struct move *m)
{
	char path[300];

	if (!note_path(m, path, sizeof(path)))
		unlink(path);
}

/* ------------------------------------------------------------------- there and back */

static int probe(struct move *m)
{
	char path[300];

	snprintf(path, sizeof(path), "%.200s/bus/pci/drivers_probe", m->w->sysfs);
	return put_path(m, path, m->address);
}

/* To @driver, or "" for none; the override becomes @override. */
static int move_to(struct move *m, const char *driver, const char *override)
{
	int err = put(m, "driver_override", override[0] ? override : "\n");

	look(m);
	if (!err && m->driver[0] && strcmp(m->driver, driver))
		err = put_driver(m, m->driver, "unbind");
	if (err)
		return err;
	look(m);
	if (driver[0] && strcmp(m->driver, driver)) {
		/* By name if the kernel knows that driver for it; a probe does it for the one that the override names. */
		err = strcmp(driver, override) ? put_driver(m, driver, "bind") : probe(m);
		look(m);
		if (!strcmp(m->driver, driver))
			err = 0;
		else if (!err)
			err = -ENODEV;
	}
	return err;
}

int ntbs_pci_bind(const struct ntbs_pci_where *where, const char *address, bool force, char why[NTBS_PCI_TEXT])
{
	struct move m = { .w = where ? where : &ntbs_pci_system, .address = address, .why = why }, back;
	char path[300];
	int err = begin(&m);

	if (err)
		return err;
	if (!is_ours(&m) && !force)
		return say(&m, ENOTSUP, "%s is no NTB function or copy engine that ntbsock drives: left alone (--force takes it nevertheless)",
			   address);
	if (!strcmp(m.driver, VFIO)) {
		say(&m, 0, "%s is bound to %s already", address, VFIO);
		return 0;
	}
	snprintf(path, sizeof(path), "%.200s/bus/pci/drivers/%s", m.w->sysfs, VFIO);
	if (access(path, F_OK))
		return say(&m, ENODEV, "the kernel has no %s driver loaded: modprobe %s, then again", VFIO, VFIO);
	if (!ntbs_pci_path(m.w, address, "iommu_group", path, sizeof(path)) && access(path, F_OK) && !force)
		return say(&m, ENODEV, "%s has no IOMMU group, without which VFIO does not take it; `ntbsock-ctl ports` says more",
			   address);
	err = write_note(&m);
	if (err)
		return say(&m, EIO, "cannot note the former driver in %s: %s; nothing was changed", m.w->state, strerror(-err));
	back = m;
	err = move_to(&m, VFIO, VFIO);
	if (!err) {
		if (back.driver[0])
			say(&m, 0, "%s: from %s to %s", address, back.driver, VFIO);
		else
			say(&m, 0, "%s: bound to %s", address, VFIO);
		return 0;
	}
	if (move_to(&m, back.driver, back.override))
		return say(&m, EIO, "%s did not go to %s (%s), nor back to %s: it has no driver now", address, VFIO, strerror(-err),
			   back.driver[0] ? back.driver : "none");
	drop_note(&m);
	return say(&m, EIO, "%s did not go to %s: %s; it is back at %s (the kernel's log may say more)", address, VFIO,
		   strerror(-err), back.driver[0] ? back.driver : "no driver");
}

int ntbs_pci_unbind(const struct ntbs_pci_where *where, const char *address, bool force, char why[NTBS_PCI_TEXT])
{
	struct move m = { .w = where ? where : &ntbs_pci_system, .address = address, .why = why };
	char path[300], name[32], driver[32], override[32];
	int err = begin(&m), group = -1, pid;
	bool noted;

	if (err)
		return err;
	noted = read_note(&m, driver, override);
	if (strcmp(m.driver, VFIO))
		return say(&m, EINVAL, "%s is not bound to %s but to %s: nothing to undo", address, VFIO,
			   m.driver[0] ? m.driver : "no driver");
	if (!noted && !force)
		return say(&m, EINVAL, "%s was not bound by ntbsock-ctl: left alone (--force lets the kernel choose its driver)",
			   address);
	if (!ntbs_pci_path(m.w, address, "iommu_group", path, sizeof(path)) && !ntbs_pci_link(path, name, sizeof(name)))
		sscanf(name, "%d", &group);
	pid = force ? 0 : ntbs_pci_vfio_user(m.w, address, group, name, sizeof(name));
	if (pid)
		return say(&m, EBUSY, "%s is in use by process %d (%s): end that first (--force waits for it in the kernel)", address,
			   pid, name);
	err = move_to(&m, driver, override);
	if (!err && !noted)
		err = probe(&m);
	look(&m);
	if (err)
		return say(&m, EIO, "%s did not go back to %s: %s; it is bound to %s now", address, driver[0] ? driver : "no driver",
			   strerror(-err), m.driver[0] ? m.driver : "no driver");
	drop_note(&m);
	say(&m, 0, "%s: from %s back to %s", address, VFIO, m.driver[0] ? m.driver : "no driver");
	return 0;
}
