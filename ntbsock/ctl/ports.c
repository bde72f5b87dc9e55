// SPDX-License-Identifier: BSD-2-Clause
/*
 * ports.c - `ports`, `bind`, `unbind`: which bridges this host has, what each lacks, and moving one to VFIO and back
 *
 * Works without a broker: this is what comes before one can use a bridge.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"
#include "vfio/pci.h"

enum { OPT_FORCE = NTBS_OPT_OWN };

static const struct option options[] = {
	NTBS_CTL_OWN_OPTIONS,
	{ "force", no_argument, NULL, OPT_FORCE },
	{ 0 },
};

static json_t *fn_json(const struct ntbs_pci_fn *fn)
{
	json_t *o = json_object(), *bars = json_array(), *missing = json_array();

	json_object_set_new(o, "address", json_string(fn->address));
	json_object_set_new(o, "vendor", json_integer(fn->ids.vendor));
	json_object_set_new(o, "device", json_integer(fn->ids.device));
	json_object_set_new(o, "revision", json_integer(fn->ids.revision));
	json_object_set_new(o, "class", json_integer(fn->class));
	json_object_set_new(o, "family", fn->family ? json_string(fn->family) : json_null());
	json_object_set_new(o, "driver", fn->driver[0] ? json_string(fn->driver) : json_null());
	json_object_set_new(o, "iommu_group", fn->iommu_group >= 0 ? json_integer(fn->iommu_group) : json_null());
	json_object_set_new(o, "numa_node", fn->numa_node >= 0 ? json_integer(fn->numa_node) : json_null());
	json_object_set_new(o, "vectors", json_integer(fn->ids.nr_vectors));
	for (unsigned i = 0; i < NTBS_PCI_BARS; i++)
		json_array_append_new(bars, json_integer(fn->ids.bar[i].bytes));
	json_object_set_new(o, "bar_bytes", bars);
	json_object_set_new(o, "vfio", fn->vfio[0] ? json_string(fn->vfio) : json_null());
	json_object_set_new(o, "usable", json_boolean(fn->usable));
	for (unsigned i = 0; i < fn->nr_missing; i++)
		json_array_append_new(missing, json_string(fn->missing[i]));
	json_object_set_new(o, "missing", missing);
	return o;
}

static void print_fn(const struct ntbs_pci_fn *fn)
{
	printf("%s %04x:%04x rev %02x  %s, driver %s", fn->address, fn->ids.vendor, fn->ids.device, fn->ids.revision,
	       fn->family ? fn->family : "no driver of ntbsock", fn->driver[0] ? fn->driver : "none");
	if (fn->iommu_group >= 0)
		printf(", IOMMU group %d", fn->iommu_group);
	if (fn->numa_node >= 0)
		printf(", node %d", fn->numa_node);
	printf("\n   ");
	for (unsigned i = 0; i < NTBS_PCI_BARS; i++) {
		if (fn->ids.bar[i].bytes)
			printf(" BAR%u %llu KiB%s", i, (unsigned long long)(fn->ids.bar[i].bytes + 1023) >> 10,
			       fn->ids.bar[i].prefetchable ? " prefetchable" : "");
	}
	if (fn->ids.nr_vectors)
		printf(" %u interrupts", fn->ids.nr_vectors);
	putchar('\n');
	for (unsigned i = 0; i < fn->nr_missing; i++)
		printf("    missing: %s\n", fn->missing[i]);
	if (fn->usable)
		printf("    usable: %s\n", fn->vfio);
}

int ntbs_ports_verb(int argc, char **argv)
{
	struct ntbs_ctl_opts opts = { .verb = "ports" };
	struct ntbs_pci_list list;
	json_t *root, *ports;
	int c;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (c == OPT_FORCE)
			return ntbs_ctl_usage("ports", "--force goes with bind and unbind");
		if (ntbs_ctl_option(&opts, c, argv))
			return NTBS_CTL_USAGE;
	}
	if (opts.help)
		return ntbs_ctl_help("ports");
	if (optind < argc)
		return ntbs_ctl_usage("ports", "takes no arguments");
	if (ntbs_pci_list(NULL, &list)) {
		ntbs_ctl_say("%s", list.why);
		return NTBS_CTL_FAILED;
	}
	if (opts.json) {
		root = json_object();
		ports = json_array();
		for (size_t i = 0; i < list.nr; i++)
			json_array_append_new(ports, fn_json(&list.fn[i]));
		json_object_set_new(root, "ports", ports);
		ntbs_pci_free(&list);
		return ntbs_ctl_print_json(root, NTBS_CTL_OK);
	}
	if (!list.nr)
		printf("no NTB functions on this host's PCI bus\n");
	for (size_t i = 0; i < list.nr; i++)
		print_fn(&list.fn[i]);
	ntbs_pci_free(&list);
	return NTBS_CTL_OK;
}

static int move_verb(const char *verb, int argc, char **argv,
		     int (*fn)(const struct ntbs_pci_where *, const char *, bool, char *))
{
	struct ntbs_ctl_opts opts = { .verb = verb };
	char address[16], why[NTBS_PCI_TEXT] = "";
	bool force = false;
	json_t *root;
	int c, err;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (c == OPT_FORCE)
			force = true;
		else if (ntbs_ctl_option(&opts, c, argv))
			return NTBS_CTL_USAGE;
	}
	if (opts.help)
		return ntbs_ctl_help(verb);
	if (optind + 1 != argc)
		return ntbs_ctl_usage(verb, "which function?  One address, as `ntbsock-ctl ports` shows it");
	if (ntbs_pci_address(argv[optind], address))
		return ntbs_ctl_usage(verb, "'%s' is no address of a PCI function (0000:17:00.0, or 17:00.0)", argv[optind]);
	err = fn(NULL, address, force, why);
	if (err) {
		ntbs_ctl_say("%s", why);
		return NTBS_CTL_FAILED;
	}
	if (opts.json) {
		root = json_object();
		json_object_set_new(root, "address", json_string(address));
		json_object_set_new(root, "done", json_string(why));
		return ntbs_ctl_print_json(root, NTBS_CTL_OK);
	}
	printf("%s\n", why);
	return NTBS_CTL_OK;
}

int ntbs_bind_verb(int argc, char **argv)
{
	return move_verb("bind", argc, argv, ntbs_pci_bind);
}

int ntbs_unbind_verb(int argc, char **argv)
{
	return move_verb("unbind", argc, argv, ntbs_pci_unbind);
}
