// SPDX-License-Identifier: BSD-2-Clause
/*
 * pci_sysfs.c - small reads and writes in sysfs, and who has a device file open
 */
#include "pci.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const struct ntbs_pci_where ntbs_pci_system = {
	.sysfs = "/sys", .dev = "/dev", .proc = "/proc", .state = "/run/ntbsock-bind",
};

int ntbs_pci_address(const char *text, char address[16])
{
	unsigned domain = 0, bus, slot, fn;
	int n = 0;

	if (sscanf(text, "%4x:%2x:%2x.%1x%n", &domain, &bus, &slot, &fn, &n) != 4 || text[n]) {
		domain = 0;
		n = 0;
		if (sscanf(text, "%2x:%2x.%1x%n", &bus, &slot, &fn, &n) != 3 || text[n])
			return -EINVAL;
	}
	for (const char *c = text; *c; c++) {
		if (!isxdigit((unsigned char)*c) && *c != ':' && *c != '.')
			return -EINVAL;
	}
	if (domain > 0xffff || bus > 0xff || slot > 0x1f || fn > 7)
		return -EINVAL;
	snprintf(address, 16, "%04x:%02x:%02x.%x", domain & 0xffff, bus & 0xff, slot & 0x1f, fn & 7);
	return 0;
}

int ntbs_pci_path(const struct ntbs_pci_where *w, const char *address, const char *name, char *path, size_t path_bytes)
{
	int n = snprintf(path, path_bytes, "%s/bus/pci/devices/%s%s%s", w->sysfs, address, name ? "/" : "", name ? name : "");

	return n < 0 || (size_t)n >= path_bytes ? -ENAMETOOLONG : 0;
}

int ntbs_pci_link(const char *path, char *name, size_t name_bytes)
{
	char target[512];
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	const char *last;

	if (n < 0)
		return -errno;
	target[n] = '\0';
	last = strrchr(target, '/');
	last = last ? last + 1 : target;
	if (strlen(last) >= name_bytes)
		return -ENAMETOOLONG;
	strcpy(name, last);
	return 0;
}

int ntbs_pci_get(const char *path, char *text, size_t text_bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, text, text_bytes - 1);
	if (n < 0) {
		n = -errno;
		close(fd);
		return n;
	}
	close(fd);
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return 0;
}

int ntbs_pci_put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	if (close(fd) && !err)
		err = -errno;
	return err;
}

void ntbs_pci_vfio_path(const struct ntbs_pci_where *w, const char *address, int iommu_group, char *path,
			size_t path_bytes)
{
	char dir[256], iommu[128];
	struct dirent *e;
	DIR *d;

	path[0] = '\0';
	snprintf(iommu, sizeof(iommu), "%.100s/iommu", w->dev);
	if (!access(iommu, F_OK) && !ntbs_pci_path(w, address, "vfio-dev", dir, sizeof(dir)) && (d = opendir(dir))) {
		while ((e = readdir(d))) {
			if (!strncmp(e->d_name, "vfio", 4) && strlen(e->d_name) < 16)
				snprintf(path, path_bytes, "%s/vfio/devices/%.15s", w->dev, e->d_name);
		}
		closedir(d);
		if (path[0] && !access(path, F_OK))
			return;
		path[0] = '\0';
	}
	if (iommu_group >= 0)
		snprintf(path, path_bytes, "%s/vfio/%d", w->dev, iommu_group);
	if (path[0] && access(path, F_OK))
		path[0] = '\0';
}

static bool has_open(const char *proc, const char *pid, const struct stat *want)
{
	char dir[128], path[400];
	struct dirent *e;
	bool found = false;
	struct stat st;
	DIR *d;

	snprintf(dir, sizeof(dir), "%.60s/%.20s/fd", proc, pid);
	d = opendir(dir);
	if (!d)
		return false;
	while (!found && (e = readdir(d))) {
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		found = e->d_name[0] != '.' && !stat(path, &st) && st.st_dev == want->st_dev && st.st_ino == want->st_ino;
	}
	closedir(d);
	return found;
}

int ntbs_pci_user_of(const struct ntbs_pci_where *w, const char *path, char *name, size_t name_bytes)
{
	char comm[128];
	struct stat want;
	struct dirent *e;
	int pid = 0;
	DIR *d;

	name[0] = '\0';
	if (stat(path, &want))
		return 0;
	d = opendir(w->proc);
	if (!d)
		return 0;
	while (!pid && (e = readdir(d))) {
		if (!isdigit((unsigned char)e->d_name[0]) || !has_open(w->proc, e->d_name, &want))
			continue;
		pid = atoi(e->d_name);
		snprintf(comm, sizeof(comm), "%.60s/%d/comm", w->proc, pid);
		if (ntbs_pci_get(comm, name, name_bytes))
			name[0] = '\0';
	}
	closedir(d);
	return pid;
}

int ntbs_pci_vfio_user(const struct ntbs_pci_where *w, const char *address, int iommu_group, char *name,
		       size_t name_bytes)
{
	char path[300];
	int pid = 0;

	name[0] = '\0';
	ntbs_pci_vfio_path(w, address, iommu_group, path, sizeof(path));
	if (path[0])
		pid = ntbs_pci_user_of(w, path, name, name_bytes);
	if (pid || iommu_group < 0)
		return pid;
	snprintf(path, sizeof(path), "%.100s/vfio/%d", w->dev, iommu_group);
	return ntbs_pci_user_of(w, path, name, name_bytes);
}
