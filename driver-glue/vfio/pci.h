/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pci.h - which NTB functions this host has, what each lacks to be used, and giving one to VFIO and back
 *
 * Listing reads only; it uses libpci (GPL), so this is for programs that may: never for the preloaded library.
 * Everything is found below struct ntbs_pci_where; the tools pass NULL, which is the running system.  Tests pass trees
 * of their own: there is no option or variable for it.
 */
#ifndef NTBSOCK_VFIO_PCI_H
#define NTBSOCK_VFIO_PCI_H

#include <stdbool.h>
#include <stddef.h>
#include "regs.h"

struct ntbs_pci_where {
	const char *sysfs;	/* "/sys" */
	const char *dev;	/* "/dev" */
	const char *proc;	/* "/proc" */
	const char *state;	/* where former drivers are noted: a directory of root's */
	int (*put)(const char *path, const char *text);	/* write to sysfs; NULL: ntbs_pci_put() */
};

enum { NTBS_PCI_MISSING = 8, NTBS_PCI_TEXT = 200 };

/* Windows smaller than this hold no useful number of rings. */
#define NTBS_PCI_WINDOW_MIN (1u << 20)

struct ntbs_pci_fn {
	char address[16];		/* "0000:17:00.0" */
	struct ntbs_regs ids;		/* vendor, device, revision, BARs, vectors (0: none, or not readable); no ops */
	unsigned class;			/* 24 bits */
	const char *family;		/* name of the driver here; NULL: there is none, @missing says so */
	char driver[32];		/* that it is bound to in the kernel, or "" */
	int iommu_group, numa_node;	/* -1: none */
	char vfio[256];			/* what would be opened: "/dev/vfio/12" or "/dev/vfio/devices/vfio0", or "" */
	bool usable;			/* nothing is missing */
	unsigned nr_missing;
	char missing[NTBS_PCI_MISSING][NTBS_PCI_TEXT];	/* each one sentence: what, and what to do */
};

struct ntbs_pci_list {
	struct ntbs_pci_fn *fn;
	size_t nr;
	char why[NTBS_PCI_TEXT];	/* of a failure */
};

/**
 * ntbs_pci_list() - The NTB functions of this host, in order of address
 * @where: NULL: the running system
 *
 * Return: 0, also with none; -ENOENT no PCI bus; -EIO libpci's words are in @why; -ENOMEM.
 */
int ntbs_pci_list(const struct ntbs_pci_where *where, struct ntbs_pci_list *list);
void ntbs_pci_free(struct ntbs_pci_list *list);

/* Full address of "17:00.0" or "0000:17:00.0" as the kernel writes it.  Return: 0, -EINVAL. */
int ntbs_pci_address(const char *text, char address[16]);

/**
 * ntbs_pci_bind() - Take a function from its driver and give it to vfio-pci
 * @address: as ntbs_pci_address() makes it
 * @force: also what is no NTB function; also one that is in use
 * @why: what was done, or the sentence of a failure: what, why, what to do
 *
 * The former driver is noted below @where->state.  When a step fails the function gets its former driver back.
 * Return: 0 (also if it was bound already); -ENOENT no such function; -EPERM not root; -ENOTSUP no NTB function;
 * -ENODEV no vfio-pci, or no IOMMU group; -EIO a step failed.
 */
int ntbs_pci_bind(const struct ntbs_pci_where *where, const char *address, bool force, char why[NTBS_PCI_TEXT]);

/**
 * ntbs_pci_unbind() - Undo ntbs_pci_bind(): the function gets the driver back that it had
 * @force: also one that ntbs_pci_bind() has not bound, or that is in use (the kernel then waits for whoever uses it)
 *
 * Return: 0; -EBUSY a process has it open; -ENOENT, -EPERM, -EIO as above; -EINVAL it is not bound to vfio-pci.
 */
int ntbs_pci_unbind(const struct ntbs_pci_where *where, const char *address, bool force, char why[NTBS_PCI_TEXT]);

/* ---- for the files of this part: pci_sysfs.c ---- */

extern const struct ntbs_pci_where ntbs_pci_system;

/* "<sysfs>/bus/pci/devices/<address>/<name>", or without @name the directory.  Return: 0, -ENAMETOOLONG. */
int ntbs_pci_path(const struct ntbs_pci_where *w, const char *address, const char *name, char *path, size_t path_bytes);

/* Last component of what a link points to.  Return: 0; -ENOENT no such link. */
int ntbs_pci_link(const char *path, char *name, size_t name_bytes);

/* First line of a file without its newline.  Return: 0, -errno. */
int ntbs_pci_get(const char *path, char *text, size_t text_bytes);

/* Write @text by one write().  Return: 0, -errno. */
int ntbs_pci_put(const char *path, const char *text);

/* What VFIO offers of it: "/dev/vfio/devices/vfioN", where /dev/iommu is too, or "/dev/vfio/GROUP", or "". */
void ntbs_pci_vfio_path(const struct ntbs_pci_where *w, const char *address, int iommu_group, char *path,
			size_t path_bytes);

/* A process that has that file open, and its name.  Return: process id; 0: none that we may look at. */
int ntbs_pci_user_of(const struct ntbs_pci_where *w, const char *path, char *name, size_t name_bytes);

/* The same of the function: by the file that VFIO offers, or by its group's, which others may take where both are. */
int ntbs_pci_vfio_user(const struct ntbs_pci_where *w, const char *address, int iommu_group, char *name,
		       size_t name_bytes);

#endif
