// SPDX-License-Identifier: BSD-2-Clause
/*
 * rig_steps.c - our drivers do to the registers what Linux' own do, access by access, but for what is listed here
 *
 * test/rig/steps has what the unmodified drivers did on the model, in a guest (test/rig/steps.py).  The same is done here
 * by the drivers of driver-glue/vfio on the same model, and the two are laid beside each other.  A difference that is
 * not in differs[], and one that is there and is none any more, fails.
 *
 * Values of reads are not compared, nor addresses that are written, which depend on where memory and BARs are.
 *
 * links: driver-glue/vfio/ntb.c driver-glue/vfio/intel.c driver-glue/vfio/amd.c driver-glue/vfio/ivshmem.c test/rig/inproc.c test/rig/pair.c test/rig/fn.c test/rig/cfg.c test/rig/ntb_intel.c test/rig/ntb_amd.c test/rig/ioat.c
 */
#include "ntb_t.h"

enum { ACCESSES = 4096, GEN3 = 1, ICX = 2, SPR = 4, AMD = 8, INTEL = GEN3 | ICX | SPR };

struct access {
	bool write;
	int space;
	uint64_t off, value;
	unsigned len;
};

struct list {
	struct access a[ACCESSES];
	size_t n;
};

/* Steps of a record that are compared together, and what we do for them. */
static void up(struct t_port *p);
static void open_window(struct t_port *p);
static void ring(struct t_port *p);
static void mask(struct t_port *p);
static void close_window(struct t_port *p);
static void leave(struct t_port *p);

static const struct part {
	const char *name, *steps[4];
	void (*ours)(struct t_port *p);
} parts[] = {
	{ "up", { "probe", "client", "link-enable" }, up },
	{ "open", { "set-window" }, open_window },
	{ "ring", { "ring" }, ring },
	{ "mask", { "mask" }, mask },
	{ "close", { "clear-window" }, close_window },
	{ "leave", { "link-disable", "remove" }, leave },
};
enum { PARTS = sizeof(parts) / sizeof(*parts) };

/* Registers from..to.  '-': Linux does it and we do not; '+': only we do. */
static const struct difference {
	unsigned families;
	char sign;
	const char *part;
	char how;		/* 'r', 'w', or 'b' for both */
	uint64_t from, to;
	const char *why;
} differs[] = {
	{ INTEL, '+', "up", 'r', 0x40, 0x40, "which bits are pending: where vectors are few, the link's carries doorbells too" },
	{ INTEL, '+', "leave", 'r', 0x40, 0x40, "the same" },
	{ ICX | SPR, '+', "leave", 'b', 0xb0d4, 0xb0d4, "training is called off as well" },
	{ INTEL, '+', "leave", 'b', 0x10, 0x2f, "windows are closed again by who leaves" },
	{ ICX, '+', "leave", 'b', 0x74, 0x77, "the same" },
	{ GEN3, '+', "leave", 'b', 0x4018, 0x4028, "the same" },
	{ GEN3, '+', "leave", 'r', 0x4518, 0x4520, "the same" },
	{ INTEL, '+', "leave", 'w', 0x48, 0x48, "doorbells are masked before all else" },
	{ INTEL, '-', "leave", 'w', 0x48, 0x48, "and not at the end" },
	{ AMD, '-', "up", 'r', 0x808, 0x808, "Linux looks for its peer once more after a second, and whenever its client asks" },
	{ AMD, '-', "open", 'r', 0x808, 0x808, "the same" },
	{ AMD, '-', "mask", 'w', 0x45c, 0x45c, "Linux takes all doorbells for unmasked that it masked in its probe" },
	{ AMD, '+', "mask", 'w', 0x45c, 0x45c, "we do not" },
	{ AMD, '+', "leave", 'b', 0x818, 0x847, "windows are closed by who leaves" },
	{ AMD, '+', "leave", 'w', 0x45c, 0x45c, "doorbells are masked before all else" },
	{ AMD, '-', "leave", 'w', 0x45c, 0x45c, "and not at the end" },
	{ AMD, '+', "leave", 'w', 0x470, 0x470, "events are masked once more, between other steps" },
	{ AMD, '-', "leave", 'w', 0x470, 0x470, "than Linux does it" },
	{ AMD, '+', "leave", 'w', 0x408, 0x408, "READY goes with the link, and again at the end" },
	{ AMD, '+', "leave", 'b', 0x200, 0x200, "and so does CNTL" },
};
static unsigned used[sizeof(differs) / sizeof(*differs)];

static enum rig_family family;
static struct inproc ip;

static unsigned bit(void)
{
	return 1u << family;
}

/* ---- ours ---- */

static void serve(struct t_port *p)
{
	int host = rig_fn_info(p->fn)->host;

	for (unsigned v = 0; v < INPROC_VECTORS; v++) {
		while (ip.irq[host][v]) {
			ip.irq[host][v]--;
			ntbs_ntb_irq(&p->ntb, v);
		}
	}
}

static void up(struct t_port *p)
{
	t_must(!ntbs_ntb_probe(&p->ntb, &p->regs), "probe: %s", p->ntb.why);
	serve(p);
	t_must(!ntbs_ntb_link_enable(&p->ntb), "link: %s", p->ntb.why);
	inproc_advance(&ip, 2 * RIG_TRAIN_NS);
	serve(p);
}

static void open_window(struct t_port *p)
{
	t_must(!ntbs_ntb_set_window(&p->ntb, 0, T_IOVA(0), family == RIG_AMD ? 65536 : T_WINDOW), "window: %s", p->ntb.why);
}

static void ring(struct t_port *p)
{
	ntbs_ntb_db_ring(&p->ntb, 4);
}

static void mask(struct t_port *p)
{
	ntbs_ntb_db_mask(&p->ntb, 4);
	ntbs_ntb_db_unmask(&p->ntb, 4);
}

static void close_window(struct t_port *p)
{
	t_must(!ntbs_ntb_clear_window(&p->ntb, 0), "window: %s", p->ntb.why);
}

static void leave(struct t_port *p)
{
	ntbs_ntb_link_disable(&p->ntb);
	serve(p);
	ntbs_ntb_shutdown(&p->ntb);
}

/* ---- records ---- */

/* Config space that drivers use beside its standard registers: link status and topology of generation 3. */
static bool counts(int space, uint64_t off)
{
	return !space || (family == RIG_INTEL_GEN3 && (off == 0x1a2 || off == 0xd4));
}

static void load(const char *path, struct list *to)
{
	struct list *now = NULL;
	char line[128], word[8], space[8];
	FILE *f = fopen(path, "r");

	t_must(f, "%s", path);
	while (fgets(line, sizeof(line), f)) {
		struct access a = { 0 };

		if (*line == '#') {
			char *name = line + 2;

			name[strcspn(name, "\n")] = 0;
			for (size_t i = 0; i < PARTS; i++) {
				for (size_t k = 0; k < 4; k++) {
					if (parts[i].steps[k] && !strcmp(parts[i].steps[k], name))
						now = &to[i];
				}
			}
			continue;
		}
		if (sscanf(line, "%7s %7s %lx %u %lx", word, space, &a.off, &a.len, &a.value) != 5)
			continue;	/* an interrupt */
		a.write = !strcmp(word, "write");
		a.space = strcmp(space, "cfg") ? 0 : RIG_CFG;
		t_must(now && now->n < ACCESSES, "room for %s", line);
		now->a[now->n++] = a;
	}
	fclose(f);
}

static void take_trace(struct list *to)
{
	for (size_t i = 0; i < ip.traced; i++) {
		const struct rig_event *ev = &ip.trace[i];

		if (ev->host || (ev->kind != RIG_EV_READ && ev->kind != RIG_EV_WRITE) || !counts(ev->space, ev->off))
			continue;
		t_must(to->n < ACCESSES, "room");
		to->a[to->n++] = (struct access){ ev->kind == RIG_EV_WRITE, ev->space, ev->off, ev->value, ev->len };
	}
	ip.traced = 0;
}

/* ---- comparison ---- */

/* Bases and limits of windows. */
static bool is_address(uint64_t off)
{
	if (family == RIG_AMD)
		return off >= 0x838 && off < 0x848;
	return (off >= 0x10 && off < 0x30) || (off >= 0x4010 && off < 0x4030);
}

static bool same(const struct access *a, const struct access *b)
{
	return a->write == b->write && a->space == b->space && a->off == b->off && a->len == b->len &&
	       (!a->write || is_address(a->off) || a->value == b->value);
}

static void difference(const char *part, char sign, const struct access *a)
{
	for (size_t i = 0; i < sizeof(differs) / sizeof(*differs); i++) {
		const struct difference *d = &differs[i];

		if (d->families & bit() && d->sign == sign && !strcmp(d->part, part) &&
		    (d->how == 'b' || (d->how == 'w') == a->write) && a->off >= d->from && a->off <= d->to) {
			used[i] |= bit();
			return;
		}
	}
	t_ok(false, "%s, %s: %c %s of %u bytes at %#lx: %#lx", ip.port[0] ? rig_fn_info(ip.port[0])->name : "", part, sign,
	     a->write ? "write" : "read", a->len, (unsigned long)a->off, (unsigned long)a->value);
}

/* Longest common subsequence; what is not in it differs. */
static void compare(const char *part, const struct list *theirs, const struct list *mine)
{
	size_t n = theirs->n, m = mine->n, i = 0, k = 0;
	uint16_t *len = calloc((n + 1) * (m + 1), sizeof(*len));

	t_must(len, "memory");
	for (size_t a = n; a-- > 0;) {
		for (size_t b = m; b-- > 0;) {
			uint16_t down = len[(a + 1) * (m + 1) + b], right = len[a * (m + 1) + b + 1];

			len[a * (m + 1) + b] = same(&theirs->a[a], &mine->a[b]) ? len[(a + 1) * (m + 1) + b + 1] + 1 :
					       down > right ? down : right;
		}
	}
	while (i < n || k < m) {
		if (i < n && k < m && same(&theirs->a[i], &mine->a[k])) {
			i++;
			k++;
		} else if (k == m || (i < n && len[(i + 1) * (m + 1) + k] >= len[i * (m + 1) + k + 1])) {
			difference(part, '-', &theirs->a[i++]);
		} else {
			difference(part, '+', &mine->a[k++]);
		}
	}
	free(len);
}

static void one(enum rig_family f, const char *name)
{
	static struct list theirs[PARTS], mine;
	struct t_port port[2] = { 0 };
	const char *src = getenv("T_SRC");
	char path[512];

	family = f;
	memset(theirs, 0, sizeof(theirs));
	snprintf(path, sizeof(path), "%s/test/rig/steps/%s.txt", src ? src : ".", name);
	load(path, theirs);
	t_pair_open(&ip, port, f);
	inproc_advance(&ip, RIG_TRAIN_NS);	/* AMD's link needs nobody */
	up(&port[1]);
	ip.keep_trace = true;
	for (size_t i = 0; i < PARTS; i++) {
		mine.n = 0;
		parts[i].ours(&port[0]);
		take_trace(&mine);
		t_ok(theirs[i].n, "%s: %s is not in the record", name, parts[i].name);
		compare(parts[i].name, &theirs[i], &mine);
	}
	t_pair_close(&ip, port);
}

int main(void)
{
	one(RIG_INTEL_GEN3, "gen3");
	one(RIG_INTEL_ICX, "icx");
	one(RIG_INTEL_SPR, "spr");
	one(RIG_AMD, "amd");
	for (size_t i = 0; i < sizeof(differs) / sizeof(*differs); i++)
		t_eq(used[i], differs[i].families, "%s, %c at %#lx: no longer so in a family", differs[i].part,
		     differs[i].sign, (unsigned long)differs[i].from);
	return t_done();
}
