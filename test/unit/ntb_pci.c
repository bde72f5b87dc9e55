/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ntb_pci.c - NTB functions are found in trees of sysfs, with what each lacks; bind and unbind move them and put them
 * back, whichever step fails
 *
 * links: driver-glue/vfio/pci.c driver-glue/vfio/pci_sysfs.c driver-glue/vfio/pci_bind.c driver-glue/vfio/ntb.c driver-glue/vfio/intel.c driver-glue/vfio/amd.c driver-glue/vfio/ivshmem.c
 *
 * The tree is files and links below TMPDIR.  Where the kernel would act on a write, fake_put() does.
 */
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include "vfio/pci.h"
#include "t.h"

static char root[200];
static struct ntbs_pci_where where;
static char sysfs[220], dev[220], state[220], proc[220];

__attribute__((format(printf, 1, 2))) static const char *path(const char *fmt, ...)
{
	static char buf[4][512];
	static unsigned turn;
	char *p = buf[turn++ % 4];
	va_list ap;
	int n = snprintf(p, 512, "%s/", root);

	va_start(ap, fmt);
	vsnprintf(p + n, 512 - n, fmt, ap);
	va_end(ap);
	return p;
}

static void dir(const char *p)
{
	char buf[512];

	snprintf(buf, sizeof(buf), "%s", p);
	for (char *c = buf + strlen(root) + 1; *c; c++) {
		if (*c == '/') {
			*c = '\0';
			mkdir(buf, 0755);
			*c = '/';
		}
	}
	mkdir(buf, 0755);
}

static void file(const char *p, const void *text, size_t len)
{
	int fd = open(p, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	t_must(fd >= 0 && write(fd, text, len) == (ssize_t)len, "%s", p);
	close(fd);
}

static void text_file(const char *p, const char *text)
{
	file(p, text, strlen(text));
}

static void put_link(const char *target, const char *p)
{
	unlink(p);
	t_must(!symlink(target, p), "%s", p);
}

#define DEV "sys/bus/pci/devices/"

static void driver(const char *name)
{
	dir(path("sys/bus/pci/drivers/%s", name));
}

static void set_driver(const char *address, const char *name)
{
	unlink(path(DEV "%s/driver", address));
	if (name)
		put_link(path("sys/bus/pci/drivers/%s", name), path(DEV "%s/driver", address));
}

struct fn {
	const char *address;
	unsigned vendor, device, class, vectors;
	unsigned long long bar2, bar4;
	int group;
	const char *driver;
};

static void add(const struct fn *f)
{
	unsigned char cfg[256] = { 0 };
	char text[600];
	int n;

	dir(path(DEV "%s", f->address));
	for (unsigned i = 0; i < 2; i++) {
		cfg[i] = f->vendor >> 8 * i;
		cfg[2 + i] = f->device >> 8 * i;
	}
	cfg[6] = 0x10;
	cfg[8] = 4;
	for (unsigned i = 0; i < 3; i++)
		cfg[9 + i] = f->class >> 8 * i;
	cfg[0x10] = cfg[0x18] = cfg[0x20] = 0x0c;	/* 64 bits, prefetchable */
	cfg[0x34] = 0x40;
	cfg[0x40] = 0x10;				/* PCI Express */
	if (f->vectors) {
		cfg[0x41] = 0x80;
		cfg[0x80] = 0x11;
		cfg[0x82] = f->vectors - 1;
	}
	file(path(DEV "%s/config", f->address), cfg, sizeof(cfg));
	snprintf(text, sizeof(text), "0x%04x\n", f->vendor);
	text_file(path(DEV "%s/vendor", f->address), text);
	snprintf(text, sizeof(text), "0x%04x\n", f->device);
	text_file(path(DEV "%s/device", f->address), text);
	snprintf(text, sizeof(text), "0x%06x\n", f->class);
	text_file(path(DEV "%s/class", f->address), text);
	text_file(path(DEV "%s/revision", f->address), "0x04\n");
	text_file(path(DEV "%s/irq", f->address), "0\n");
	text_file(path(DEV "%s/numa_node", f->address), "1\n");
	text_file(path(DEV "%s/driver_override", f->address), "(null)\n");
	n = snprintf(text, sizeof(text), "0x%016llx 0x%016llx 0x000000000014220c\n0x0 0x0 0x0\n", 0x380000000000ull,
		     0x38000000ffffull);
	n += snprintf(text + n, sizeof(text) - n, "0x%016llx 0x%016llx 0x%016llx\n0x0 0x0 0x0\n",
		      f->bar2 ? 0x390000000000ull : 0, f->bar2 ? 0x390000000000ull + f->bar2 - 1 : 0, f->bar2 ? 0x14220cull : 0);
	n += snprintf(text + n, sizeof(text) - n, "0x%016llx 0x%016llx 0x%016llx\n0x0 0x0 0x0\n0x0 0x0 0x0\n",
		      f->bar4 ? 0x3a0000000000ull : 0, f->bar4 ? 0x3a0000000000ull + f->bar4 - 1 : 0, f->bar4 ? 0x14220cull : 0);
	text_file(path(DEV "%s/resource", f->address), text);
	if (f->group >= 0) {
		dir(path("sys/kernel/iommu_groups/%d/devices", f->group));
		put_link(path("sys/kernel/iommu_groups/%d", f->group), path(DEV "%s/iommu_group", f->address));
		put_link(path(DEV "%s", f->address), path("sys/kernel/iommu_groups/%d/devices/%s", f->group, f->address));
	}
	if (f->driver) {
		driver(f->driver);
		set_driver(f->address, f->driver);
	}
}

/* --------------------------------------------------- what the kernel does with a write */

static const char *fail_at;	/* a write to a path that ends so fails */
static const char *no_match;	/* this driver takes nothing */
static unsigned writes;

static bool ends(const char *s, const char *tail)
{
	return strlen(s) >= strlen(tail) && !strcmp(s + strlen(s) - strlen(tail), tail);
}

static int fake_put(const char *p, const char *text)
{
	char override[64] = "", name[64], drv[300];

	writes++;
	if (fail_at && ends(p, fail_at))
		return -EINVAL;
	if (ends(p, "/driver_override")) {
		text_file(p, *text == '\n' ? "(null)\n" : text);
		return 0;
	}
	if (ends(p, "/unbind")) {
		set_driver(text, NULL);
		return 0;
	}
	if (ends(p, "/bind")) {
		snprintf(drv, sizeof(drv), "%.*s", (int)(strlen(p) - 5), p);
		snprintf(name, sizeof(name), "%s", strrchr(drv, '/') + 1);
	} else {
		t_must(ends(p, "/drivers_probe"), "a write to %s", p);
		ntbs_pci_get(path(DEV "%s/driver_override", text), override, sizeof(override));
		snprintf(name, sizeof(name), "%s", strcmp(override, "(null)") ? override : "ntb_hw_intel");
	}
	if (no_match && !strcmp(name, no_match))
		return -ENODEV;
	if (!access(path("sys/bus/pci/drivers/%s", name), F_OK))
		set_driver(text, name);
	return 0;
}

/* ------------------------------------------------------------------------ listing */

static struct ntbs_pci_list list;

static const struct ntbs_pci_fn *find(const char *address)
{
	for (size_t i = 0; i < list.nr; i++) {
		if (!strcmp(list.fn[i].address, address))
			return &list.fn[i];
	}
	return NULL;
}

static bool says(const struct ntbs_pci_fn *fn, const char *text)
{
	for (unsigned i = 0; fn && i < fn->nr_missing; i++) {
		if (strstr(fn->missing[i], text))
			return true;
	}
	for (unsigned i = 0; fn && i < fn->nr_missing; i++)
		fprintf(stderr, "%s: %s\n", fn->address, fn->missing[i]);
	return false;
}

static void listing(void)
{
	static const struct fn fns[] = {
		{ "0000:17:00.0", 0x8086, 0x347e, 0x068000, 33, 4 << 20, 4 << 20, 12, "ntb_hw_intel" },
		{ "0000:18:00.0", 0x8086, 0x201c, 0x068000, 33, 64 << 10, 4 << 20, 13, NULL },
		{ "0000:19:00.0", 0x1022, 0x148b, 0x068000, 24, 1 << 20, 0, -1, "vfio-pci" },
		{ "0000:1a:00.0", 0x1022, 0x14c0, 0x068000, 24, 1 << 20, 1 << 20, 14, "vfio-pci" },
		{ "0000:1a:00.1", 0x1022, 0x1498, 0x108000, 4, 1 << 20, 0, 14, "ccp" },
		{ "0000:1a:00.2", 0x8086, 0x1234, 0x060400, 1, 0, 0, 14, "pcieport" },
		{ "0000:1b:00.0", 0x1af4, 0x1110, 0x050000, 4, 4 << 20, 0, 15, "vfio-pci" },
		{ "0000:1c:00.0", 0x11f8, 0x8543, 0x068000, 4, 1 << 20, 0, 16, NULL },
		{ "0000:1d:00.0", 0x8086, 0x1533, 0x020000, 5, 1 << 20, 0, 17, "igb" },
		{ "0001:1e:1f.7", 0x8086, 0x347e, 0x068000, 0, 1 << 20, 1 << 20, 18, "vfio-pci" },
	};
	const struct ntbs_pci_fn *fn;

	dir(path("sys/bus/pci/devices"));
	dir(path("sys/bus/pci/drivers"));
	t_eq(ntbs_pci_list(&where, &list), 0, "an empty bus: %s", list.why);
	t_eq(list.nr, 0, "nothing on it");
	driver("vfio-pci");
	for (unsigned i = 0; i < sizeof(fns) / sizeof(fns[0]); i++)
		add(&fns[i]);
	dir(path("dev/vfio"));
	text_file(path("dev/vfio/15"), "");
	text_file(path("dev/vfio/18"), "");
	text_file(path("dev/vfio/14"), "");
	t_must(!ntbs_pci_list(&where, &list), "list: %s", list.why);
	t_eq(list.nr, 7, "functions");
	t_ok(!find("0000:1d:00.0") && !find("0000:1a:00.1") && !find("0000:1a:00.2"), "and no others");

	fn = find("0000:17:00.0");
	t_must(fn, "Ice Lake");
	t_ok(!strcmp(fn->family, "intel") && !strcmp(fn->driver, "ntb_hw_intel"), "family %s, driver %s", fn->family,
	     fn->driver);
	t_eq(fn->ids.nr_vectors, 33, "vectors");
	t_eq(fn->ids.bar[2].bytes, 4 << 20, "BAR2");
	t_ok(fn->ids.bar[2].addr == 0x390000000000 && fn->ids.bar[2].is_64bit && fn->ids.bar[2].prefetchable, "BAR2's kind");
	t_eq(fn->ids.revision, 4, "revision");
	t_eq(fn->iommu_group, 12, "group");
	t_eq(fn->numa_node, 1, "node");
	t_ok(!fn->usable && fn->nr_missing == 1 && says(fn, "bound to ntb_hw_intel: run ntbsock-ctl bind 0000:17:00.0"),
	     "bound");
	fn = find("0000:18:00.0");
	t_ok(says(fn, "BAR2 is 64 KiB") && says(fn, "no driver: run ntbsock-ctl bind") && fn->nr_missing == 2, "a small BAR");
	fn = find("0000:19:00.0");
	t_ok(says(fn, "BAR4 is not there") && says(fn, "no IOMMU group"), "no group");
	fn = find("0000:1a:00.0");
	t_ok(says(fn, "holds 0000:1a:00.1 too, which ccp drives") && fn->nr_missing == 1,
	     "a shared group; bridges do not count");
	fn = find("0000:1b:00.0");
	t_ok(fn && fn->usable && !fn->nr_missing, "usable");
	t_ok(fn && ends(fn->vfio, "/dev/vfio/15"), "by %s", fn ? fn->vfio : "");
	fn = find("0000:1c:00.0");
	t_ok(fn && !fn->family && says(fn, "Switchtec"), "Switchtec");
	fn = find("0001:1e:1f.7");
	t_ok(fn && says(fn, "no MSI-X") && !fn->usable, "no interrupts");
	ntbs_pci_free(&list);

	/* The newer way to the same device. */
	dir(path(DEV "0000:1b:00.0/vfio-dev/vfio3"));
	dir(path("dev/vfio/devices"));
	text_file(path("dev/vfio/devices/vfio3"), "");
	t_must(!ntbs_pci_list(&where, &list), "list");
	fn = find("0000:1b:00.0");
	t_ok(fn && fn->usable && ends(fn->vfio, "/dev/vfio/15"), "without iommufd by %s", fn ? fn->vfio : "");
	ntbs_pci_free(&list);
	text_file(path("dev/iommu"), "");
	t_must(!ntbs_pci_list(&where, &list), "list");
	fn = find("0000:1b:00.0");
	t_ok(fn && fn->usable && ends(fn->vfio, "/dev/vfio/devices/vfio3"), "by %s", fn ? fn->vfio : "");
	ntbs_pci_free(&list);
}

/* ---------------------------------------------------------------------- there and back */

static bool driven_by(const char *address, const char *name)
{
	char now[64] = "";

	ntbs_pci_link(path(DEV "%s/driver", address), now, sizeof(now));
	if (!strcmp(now, name))
		return true;
	fprintf(stderr, "%s is bound to '%s'\n", address, now);
	return false;
}

static bool overridden_by(const char *address, const char *name)
{
	char now[64] = "";

	ntbs_pci_get(path(DEV "%s/driver_override", address), now, sizeof(now));
	return !strcmp(now, name);
}

static void moving(void)
{
	static const char *const steps[] = { "/ntb_hw_intel/unbind", "/drivers_probe", "17:00.0/driver_override" };
	const char *a = "0000:17:00.0";
	char why[NTBS_PCI_TEXT];
	pid_t pid;
	int fd;

	t_eq(ntbs_pci_unbind(&where, a, false, why), -EINVAL, "not bound yet");
	t_eq(ntbs_pci_bind(&where, a, false, why), 0, "bind: %s", why);
	t_ok(driven_by(a, "vfio-pci") && overridden_by(a, "vfio-pci"), "bound");
	t_ok(strstr(why, "from ntb_hw_intel"), "says: %s", why);
	writes = 0;
	t_eq(ntbs_pci_bind(&where, a, false, why), 0, "again: %s", why);
	t_eq(writes, 0, "touches nothing");
	t_eq(ntbs_pci_unbind(&where, a, false, why), 0, "unbind: %s", why);
	t_ok(driven_by(a, "ntb_hw_intel") && overridden_by(a, "(null)"), "as before");
	t_eq(ntbs_pci_unbind(&where, a, false, why), -EINVAL, "once");

	/* Whatever fails, it has its driver back and no note is left. */
	for (unsigned i = 0; i < 3; i++) {
		fail_at = steps[i];
		t_eq(ntbs_pci_bind(&where, a, false, why), -EIO, "%s fails: %s", steps[i], why);
		fail_at = NULL;
		t_ok(driven_by(a, "ntb_hw_intel"), "and it is back");
		if (i < 2)
			t_ok(overridden_by(a, "(null)"), "with nothing in its way");
	}
	no_match = "vfio-pci";
	t_eq(ntbs_pci_bind(&where, a, false, why), -EIO, "vfio-pci does not take it");
	t_ok(strstr(why, "back at ntb_hw_intel"), "says: %s", why);
	no_match = NULL;
	t_ok(driven_by(a, "ntb_hw_intel"), "back");
	t_ok(access(path("state/%s", a), F_OK), "no note");

	/* A function without a driver goes back to none; one with an override keeps that. */
	t_eq(ntbs_pci_bind(&where, "0000:18:00.0", false, why), 0, "bind: %s", why);
	t_ok(driven_by("0000:18:00.0", "vfio-pci"), "bound");
	t_eq(ntbs_pci_unbind(&where, "0000:18:00.0", false, why), 0, "unbind: %s", why);
	t_ok(driven_by("0000:18:00.0", ""), "to none");
	text_file(path(DEV "%s/driver_override", a), "ntb_hw_intel");
	t_eq(ntbs_pci_bind(&where, a, false, why), 0, "bind: %s", why);
	t_eq(ntbs_pci_unbind(&where, a, false, why), 0, "unbind: %s", why);
	t_ok(driven_by(a, "ntb_hw_intel") && overridden_by(a, "ntb_hw_intel"), "override kept");

	/* What is not ours, or not there. */
	writes = 0;
	t_eq(ntbs_pci_bind(&where, "0000:1d:00.0", false, why), -ENOTSUP, "a network card");
	t_eq(ntbs_pci_bind(&where, "0000:1c:00.0", false, why), -ENOTSUP, "what ntbsock does not drive");
	t_eq(ntbs_pci_bind(&where, "0000:ff:00.0", false, why), -ENOENT, "nothing");
	t_eq(ntbs_pci_unbind(&where, "0000:1b:00.0", false, why), -EINVAL, "not by us");
	t_ok(strstr(why, "not bound by ntbsock-ctl"), "says: %s", why);
	t_eq(writes, 0, "and nothing was touched");
	t_eq(ntbs_pci_bind(&where, "0000:1d:00.0", true, why), 0, "by force: %s", why);
	t_eq(ntbs_pci_unbind(&where, "0000:1d:00.0", false, why), 0, "and back: %s", why);
	t_ok(driven_by("0000:1d:00.0", "igb"), "igb");
	t_eq(ntbs_pci_bind(&where, "0000:19:00.0", false, why), 0, "bound already: %s", why);
	set_driver("0000:19:00.0", NULL);
	t_eq(ntbs_pci_bind(&where, "0000:19:00.0", false, why), -ENODEV, "no IOMMU group: %s", why);

	/* In use: by us. */
	t_eq(ntbs_pci_bind(&where, a, false, why), 0, "bind: %s", why);
	text_file(path("dev/vfio/12"), "");
	fd = open(path("dev/vfio/12"), O_RDWR);
	pid = getpid();
	t_eq(ntbs_pci_unbind(&where, a, false, why), -EBUSY, "in use");
	t_ok(strstr(why, "process") && atoi(strstr(why, "process") + 8) == pid, "says by whom: %s", why);
	t_ok(driven_by(a, "vfio-pci"), "left alone");
	close(fd);
	dir(path(DEV "%s/vfio-dev/vfio5", a));
	text_file(path("dev/vfio/devices/vfio5"), "");
	for (int i = 0; i < 2; i++) {	/* by a file of its own; by its group's where there are both */
		fd = open(path(i ? "dev/vfio/12" : "dev/vfio/devices/vfio5"), O_RDWR);
		t_eq(ntbs_pci_unbind(&where, a, false, why), -EBUSY, "in use, %d", i);
		t_ok(strstr(why, "process") && atoi(strstr(why, "process") + 8) == pid, "says by whom: %s", why);
		close(fd);
	}
	t_eq(ntbs_pci_unbind(&where, a, false, why), 0, "free: %s", why);

	/* Notes are believed only from a directory that nobody else can write to. */
	t_must(!chmod(state, 0777), "chmod");
	t_eq(ntbs_pci_bind(&where, a, false, why), -EIO, "anybody's notes: %s", why);
	t_ok(driven_by(a, "ntb_hw_intel"), "nothing was changed");
	t_must(!chmod(state, 0755), "chmod");
	t_eq(ntbs_pci_bind(&where, a, false, why), 0, "bind: %s", why);
	unlink(path("state/%s", a));
	put_link("/etc/passwd", path("state/%s", a));
	t_eq(ntbs_pci_unbind(&where, a, false, why), -EINVAL, "a link is no note");
	t_eq(ntbs_pci_unbind(&where, a, true, why), 0, "by force: %s", why);

	rename(path("sys/bus/pci/drivers/vfio-pci"), path("sys/bus/pci/drivers/gone"));
	t_eq(ntbs_pci_bind(&where, "0000:18:00.0", false, why), -ENODEV, "no vfio-pci");
	t_ok(strstr(why, "modprobe"), "says: %s", why);
}

static void addresses(void)
{
	static const char *const bad[] = { "", "17", "17:00", "17:00.8", "17:20.0", "0000:17:00.0x", "x:17:00.0", "17:00.0/..",
					   "../17:00.0", "00000:17:00.0", "-1:00.0", " 17:00.0" };
	char a[16];

	t_ok(!ntbs_pci_address("17:00.0", a) && !strcmp(a, "0000:17:00.0"), "short: %s", a);
	t_ok(!ntbs_pci_address("0001:aF:1f.7", a) && !strcmp(a, "0001:af:1f.7"), "full: %s", a);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		t_eq(ntbs_pci_address(bad[i], a), -EINVAL, "'%s'", bad[i]);
}

int main(void)
{
	const char *tmp = getenv("TMPDIR");
	char cmd[300];

	snprintf(root, sizeof(root), "%.150s/ntb_pci.XXXXXX", tmp && *tmp ? tmp : "/tmp");
	t_must(mkdtemp(root), "a directory");
	snprintf(sysfs, sizeof(sysfs), "%s/sys", root);
	snprintf(dev, sizeof(dev), "%s/dev", root);
	snprintf(state, sizeof(state), "%s/state", root);
	snprintf(proc, sizeof(proc), "/proc");
	where = (struct ntbs_pci_where){ .sysfs = sysfs, .dev = dev, .proc = proc, .state = state, .put = fake_put };
	t_eq(ntbs_pci_list(&where, &list), -ENOENT, "no sysfs");
	listing();
	moving();
	addresses();
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", root);
	t_ok(!system(cmd), "%s", cmd);
	return t_done();
}
