// SPDX-License-Identifier: BSD-2-Clause
/*
 * selftest.c - `selftest`: meets the selftest of the other host, lets each lead once, takes the link down, reports
 *
 * The report is what somebody with hardware sends back, so it says what was measured on what, in plain numbers, and
 * --json has all of it.
 */
#include "selftest.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "ctl.h"
#include "vfio/ioat_dma.h"
#include "vfio/pci.h"

enum { OPT_WAIT = NTBS_OPT_OWN, OPT_WINDOW, OPT_NO_PULL, OPT_DMA };

struct self {
	struct ntbs_ctl_opts opts;
	struct ntbs_st st;
	uint64_t wait_s, window_bytes;
	bool pull;
	bool came_up;
	char address[16], engine[16];	/* "": none */
};

/* A number of bytes with K or M behind.  Return: 0 or -EINVAL. */
static int size_of(const char *text, uint64_t *bytes)
{
	char number[24];
	size_t len = strlen(text);
	unsigned shift = 0;

	if (!len || len >= sizeof(number))
		return -EINVAL;
	strcpy(number, text);
	if (number[len - 1] == 'K' || number[len - 1] == 'M') {
		shift = number[len - 1] == 'K' ? 10 : 20;
		number[len - 1] = '\0';
	}
	if (ntbs_ctl_number(number, 1ull << 40 >> shift, bytes))
		return -EINVAL;
	*bytes <<= shift;
	return 0;
}

/* Until the link is up.  Return: 0, -ETIMEDOUT, -ENODEV. */
static int wait_up(struct ntbs_st *st, uint64_t seconds)
{
	uint64_t end = ntbs_hw_now() + seconds * 1000000000ull;
	unsigned news;

	while (st->hw.link.state != NTBS_LINK_UP) {
		if (ntbs_hw_now() > end) {
			snprintf(st->why, sizeof(st->why), "no link with the other side's selftest after %llu s: %.120s",
				 (unsigned long long)seconds, st->hw.why[0] ? st->hw.why : ntbs_link_say(&st->hw.link));
			return -ETIMEDOUT;
		}
		news = ntbs_hw_serve(&st->hw, 50000000);
		if (news & NTBS_LINK_WENT_DOWN)
			ntbs_hw_resume(&st->hw);
		if (news & NTBS_HW_GONE) {
			snprintf(st->why, sizeof(st->why), "%.190s", st->hw.why);
			return -ENODEV;
		}
	}
	return 0;
}

/* -------------------------------------------------------------------- pull the link */

/* Until the link is down, at most five seconds; milliseconds, or -1. */
static double wait_down(struct ntbs_st *st)
{
	uint64_t start = ntbs_hw_now();

	while (st->hw.link.state == NTBS_LINK_UP) {
		if (ntbs_hw_now() - start > 5000000000ull)
			return -1;
		if (ntbs_hw_serve(&st->hw, 10000000) & NTBS_HW_GONE)
			return -1;
	}
	return (ntbs_hw_now() - start) / 1e6;
}

static int pull(struct ntbs_st *st, bool ours)
{
	uint64_t session = ntbs_link_session(&st->hw.link), start;
	struct ntbs_ntb_link wires;
	double ms;
	int ret;

	if (ours) {
		ret = ntbs_ntb_link_disable(&st->hw.ntb);
		if (ret) {
			snprintf(st->why, sizeof(st->why), "link down: %.150s", st->hw.ntb.why);
			return ret;
		}
		/* Some hardware tells only the other side. */
		if (!ntbs_ntb_link_state(&st->hw.ntb, &wires))
			ntbs_link_wires(&st->hw.link, ntbs_hw_now(), wires.up);
	}
	ms = wait_down(st);
	if (ms < 0) {
		snprintf(st->why, sizeof(st->why), "the link was taken down, and it was not seen for five seconds");
		return -ETIMEDOUT;
	}
	st->pull_down_ms = ms;
	ntbs_hw_resume(&st->hw);
	start = ntbs_hw_now();
	if (ours) {
		while (ntbs_hw_now() - start < 300000000ull)
			ntbs_hw_serve(&st->hw, 10000000);
		start = ntbs_hw_now();
		ret = ntbs_ntb_link_enable(&st->hw.ntb);
		if (!ret && !ntbs_ntb_link_state(&st->hw.ntb, &wires))
			ntbs_link_wires(&st->hw.link, ntbs_hw_now(), wires.up);
		if (ret) {
			snprintf(st->why, sizeof(st->why), "link up: %.150s", st->hw.ntb.why);
			return ret;
		}
	}
	ret = wait_up(st, 20);
	if (ret)
		return ret;
	st->pull_up_ms = (ntbs_hw_now() - start) / 1e6;
	st->pull_new_session = ntbs_link_session(&st->hw.link) != session;
	return 0;
}

/* ----------------------------------------------------------------------------- run */

static int broke(struct ntbs_st *st, int ret)
{
	if (!st->why[0])
		snprintf(st->why, sizeof(st->why), "%.190s", ntbs_st_why(st, ret));
	return ret;
}

/* Side A leads, then B, then A says whether the link is pulled. */
static int measure(struct self *s)
{
	struct ntbs_st *st = &s->st;
	bool a = st->hw.ntb.side == NTBS_NTB_SIDE_A, pulls = s->pull;
	uint64_t session = ntbs_link_session(&st->hw.link);
	/* Orders of an earlier selftest still lie there: numbers begin where this session says. */
	uint32_t base = session ^ session >> 32;
	int ret;

	st->leads = a;
	st->seq = base;
	for (unsigned turn = 0; turn < 2; turn++) {
		if (st->leads) {
			ret = ntbs_st_lead(st);
			if (!ret)
				ret = ntbs_st_order(st, NTBS_ST_SWAP, 0, NULL);
		} else {
			ret = ntbs_st_follow(st);
			ret = ret < 0 ? ret : 0;
		}
		if (ret)
			return broke(st, ret);
		st->leads = !st->leads;
		st->seq = base + 0x1000 * (turn + 1);
	}
	if (a) {
		ret = ntbs_st_order(st, pulls ? NTBS_ST_DONE : NTBS_ST_SWAP, 0, NULL);
	} else {
		ret = ntbs_st_follow(st);
		pulls = ret == NTBS_ST_DONE;
		ret = ret < 0 ? ret : 0;
	}
	if (ret)
		return broke(st, ret);
	return pulls ? pull(st, a) : 0;
}

/* Both have what they need: whoever is first stays a moment, so that the other is not left in the middle. */
static void linger(struct ntbs_st *st)
{
	uint64_t end = ntbs_hw_now() + 500000000ull;

	while (ntbs_hw_now() < end && st->hw.link.state == NTBS_LINK_UP)
		ntbs_hw_serve(&st->hw, 20000000);
}

static int run(struct self *s)
{
	struct ntbs_st *st = &s->st;
	struct ntbs_hw_conf conf = { .window_bytes = s->window_bytes, .dead_beats = 500 };
	uint64_t start = ntbs_hw_now();
	int ret;

	if (s->engine[0]) {
		ret = ntbs_ioat_dma_open(&st->dma, s->engine, NULL, st->why, sizeof(st->why));
		if (ret)
			return ret;
	}
	ret = ntbs_hw_open(&st->hw, s->address, &conf);
	if (ret) {
		snprintf(st->why, sizeof(st->why), "%.190s", st->hw.why);
		return ret;
	}
	st->open_ms = (ntbs_hw_now() - start) / 1e6;
	start = ntbs_hw_now();
	ret = ntbs_hw_start(&st->hw);
	if (ret) {
		snprintf(st->why, sizeof(st->why), "%.190s", st->hw.why);
		return ret;
	}
	ret = wait_up(st, s->wait_s);
	if (ret)
		return ret;
	st->up_ms = (ntbs_hw_now() - start) / 1e6;
	s->came_up = true;
	if (st->hw.link.window_bytes < NTBS_ST_DATA + 65536) {
		snprintf(st->why, sizeof(st->why), "the window is too small to measure: %llu bytes",
			 (unsigned long long)st->hw.link.window_bytes);
		return -ENOSPC;
	}
	ret = measure(s);
	if (!ret)
		linger(st);
	return ret;
}

static bool good(const struct self *s, int ret)
{
	const struct ntbs_st *st = &s->st;

	return !ret && !st->wrong_bytes && !st->bells_bad && (!s->pull || st->pull_up_ms < 0 || st->pull_new_session);
}

/* -------------------------------------------------------------------------- report */

static const char *const line_store_name[] = {
	[NTBS_LINE_PLAIN] = "plain", [NTBS_LINE_NT16] = "4 x 16 bytes", [NTBS_LINE_NT64] = "64 bytes (AVX-512)",
	[NTBS_LINE_MOVDIR64B] = "MOVDIR64B",
};

static void print_text(const struct self *s, bool ok)
{
	const struct ntbs_st *st = &s->st;
	const struct ntbs_hw *hw = &st->hw;
	struct utsname uts = { 0 };

	uname(&uts);
	if (hw->ntb.family) {
		printf("bridge      %s, %04x:%04x rev %02x, %s\n", hw->ntb.family, hw->v.regs.vendor, hw->v.regs.device,
		       hw->v.regs.revision, hw->ntb.topology ? hw->ntb.topology : "?");
		printf("kernel      %s, VFIO by %s\n", uts.release, hw->v.by_cdev ? "iommufd" : "group");
	}
	if (hw->out_map) {
		printf("window      %zu KiB of %llu, BAR%u: %s\n", hw->out_bytes >> 10,
		       (unsigned long long)hw->ntb.window[hw->window].bytes >> 10, hw->ntb.window[hw->window].bar,
		       hw->out_map->said);
		printf("lines       stored as %s\n", line_store_name[hw->port.line_store]);
		printf("interrupts  %u vectors, %d doorbells\n", hw->ntb.nr_vectors, __builtin_popcountll(hw->ntb.bells));
	}
	if (s->came_up)
		printf("link        opened in %.0f ms, up after %.0f ms, %llu KiB agreed on\n", st->open_ms, st->up_ms,
		       (unsigned long long)hw->link.window_bytes >> 10);
	if (st->rounds) {
		printf("costs       register read %.0f ns, window read %.0f ns, 8-byte store %.0f ns, line %.0f ns, fence %.0f ns\n",
		       st->reg_read_ns, st->window_read_ns, st->store8_ns, st->line_ns, st->fence_ns);
		printf("latency     a line one way %.0f ns (half of the median round)\n", st->one_way_ns);
		printf("bandwidth   %.1f MB/s, contents %s\n", st->stream_mb_s, st->wrong_bytes ? "WRONG" : "right");
	}
	if (st->bells_ok | st->bells_bad) {
		printf("doorbells   %d right, %d wrong (mask %#llx); answered after %.1f us, at most %.1f\n",
		       __builtin_popcountll(st->bells_ok), __builtin_popcountll(st->bells_bad),
		       (unsigned long long)st->bells_bad, st->bell_ns / 1e3, st->bell_max_ns / 1e3);
		printf("order       %u of %u bells came before data that was stored before them\n", st->order_late,
		       st->order_rounds);
	}
	for (unsigned i = 0; i < st->nr_dma; i++)
		printf("%s %7u bytes: CPU %8.1f us %7.1f MB/s, engine %8.1f us %7.1f MB/s\n", i ? "           " : "copy engine",
		       st->dma_of[i].bytes, st->dma_of[i].cpu_ns / 1e3, st->dma_of[i].bytes / st->dma_of[i].cpu_ns * 1e3,
		       st->dma_of[i].dma_ns / 1e3, st->dma_of[i].bytes / st->dma_of[i].dma_ns * 1e3);
	if (st->nr_dma && ntbs_st_crossing(st))
		printf("            the engine is not slower from %u bytes on: ntbsockd --dma %s,min=%u\n", ntbs_st_crossing(st), s->engine,
		       ntbs_st_crossing(st));
	else if (st->nr_dma)
		printf("            the engine is slower at every size\n");
	if (st->pull_up_ms >= 0)
		printf("link pull   seen down after %.0f ms, up again after %.0f ms, %s\n", st->pull_down_ms, st->pull_up_ms,
		       st->pull_new_session ? "with a new session" : "with the OLD session");
	if (st->why[0])
		printf("FAILED      %s\n", st->why);
	printf("%s\n", ok ? "passed" : "failed");
	printf("\nSend this back, from both hosts, with `ntbsock-ctl selftest --json`, `lspci -vvv -s %s`,\n"
	       "the machines' types and the firmware's NTB settings.\n", s->address);
}

static int print_json(const struct self *s, bool ok)
{
	const struct ntbs_st *st = &s->st;
	const struct ntbs_hw *hw = &st->hw;
	json_t *o = json_object();
	struct utsname uts = { 0 };

	uname(&uts);
	json_object_set_new(o, "passed", json_boolean(ok));
	json_object_set_new(o, "why", st->why[0] ? json_string(st->why) : json_null());
	json_object_set_new(o, "address", json_string(s->address));
	json_object_set_new(o, "kernel", json_string(uts.release));
	json_object_set_new(o, "vfio", json_string(hw->v.by_cdev ? "iommufd" : "group"));
	json_object_set_new(o, "vendor", json_integer(hw->v.regs.vendor));
	json_object_set_new(o, "device", json_integer(hw->v.regs.device));
	json_object_set_new(o, "revision", json_integer(hw->v.regs.revision));
	json_object_set_new(o, "numa_node", json_integer(hw->v.numa_node));
	json_object_set_new(o, "family", hw->ntb.family ? json_string(hw->ntb.family) : json_null());
	json_object_set_new(o, "topology", hw->ntb.topology ? json_string(hw->ntb.topology) : json_null());
	json_object_set_new(o, "vectors", json_integer(hw->ntb.nr_vectors));
	json_object_set_new(o, "doorbells", json_integer(__builtin_popcountll(hw->ntb.bells)));
	json_object_set_new(o, "scratchpads", json_integer(hw->ntb.nr_spads));
	json_object_set_new(o, "window_bytes", json_integer(hw->out_bytes));
	json_object_set_new(o, "memory", hw->out_map ? json_string(hw->out_map->said) : json_null());
	json_object_set_new(o, "memory_verified", json_boolean(hw->out_map && hw->out_map->verified));
	json_object_set_new(o, "line_store", json_string(line_store_name[hw->port.line_store]));
	json_object_set_new(o, "open_ms", json_real(st->open_ms));
	json_object_set_new(o, "up_ms", json_real(st->up_ms));
	json_object_set_new(o, "register_read_ns", json_real(st->reg_read_ns));
	json_object_set_new(o, "window_read_ns", json_real(st->window_read_ns));
	json_object_set_new(o, "store8_ns", json_real(st->store8_ns));
	json_object_set_new(o, "line_ns", json_real(st->line_ns));
	json_object_set_new(o, "fence_ns", json_real(st->fence_ns));
	json_object_set_new(o, "one_way_ns", json_real(st->one_way_ns));
	json_object_set_new(o, "rounds", json_integer(st->rounds));
	json_object_set_new(o, "stream_mb_s", json_real(st->stream_mb_s));
	json_object_set_new(o, "wrong_bytes", json_integer(st->wrong_bytes));
	json_object_set_new(o, "bells_right", json_integer(st->bells_ok));
	json_object_set_new(o, "bells_wrong", json_integer(st->bells_bad));
	json_object_set_new(o, "bell_ns", json_real(st->bell_ns));
	json_object_set_new(o, "bell_max_ns", json_real(st->bell_max_ns));
	json_object_set_new(o, "bells_before_data", json_integer(st->order_late));
	json_object_set_new(o, "order_rounds", json_integer(st->order_rounds));
	if (st->nr_dma) {
		json_t *sizes = json_array();

		for (unsigned i = 0; i < st->nr_dma; i++)
			json_array_append_new(sizes, json_pack("{s:I,s:f,s:f}", "bytes", (json_int_t)st->dma_of[i].bytes, "cpu_ns",
							       st->dma_of[i].cpu_ns, "engine_ns", st->dma_of[i].dma_ns));
		json_object_set_new(o, "copies", sizes);
		json_object_set_new(o, "engine_from_bytes", json_integer(ntbs_st_crossing(st)));
	}
	json_object_set_new(o, "pull_down_ms", json_real(st->pull_down_ms));
	json_object_set_new(o, "pull_up_ms", json_real(st->pull_up_ms));
	json_object_set_new(o, "pull_new_session", json_boolean(st->pull_new_session));
	return ntbs_ctl_print_json(o, ok ? NTBS_CTL_OK : NTBS_CTL_FAILED);
}

int ntbs_selftest_verb(int argc, char **argv)
{
	static const struct option options[] = {
		NTBS_CTL_OWN_OPTIONS,
		{ "wait", required_argument, NULL, OPT_WAIT },
		{ "window", required_argument, NULL, OPT_WINDOW },
		{ "dma", required_argument, NULL, OPT_DMA },
		{ "no-link-pull", no_argument, NULL, OPT_NO_PULL },
		{ 0 },
	};
	static struct self s;	/* big, and there is one */
	bool ok;
	int c;

	s = (struct self){ .opts.verb = "selftest", .wait_s = 60, .pull = true,
			   .st.pull_down_ms = -1, .st.pull_up_ms = -1 };
	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (c == OPT_WAIT) {
			if (ntbs_ctl_number(optarg, 86400, &s.wait_s))
				return ntbs_ctl_usage("selftest", "--wait takes seconds, not '%s'", optarg);
		} else if (c == OPT_WINDOW) {
			if (size_of(optarg, &s.window_bytes) || s.window_bytes < 65536)
				return ntbs_ctl_usage("selftest", "--window takes bytes, 64K or more, not '%s'", optarg);
		} else if (c == OPT_DMA) {
			if (ntbs_pci_address(optarg, s.engine))
				return ntbs_ctl_usage("selftest", "--dma takes the address of a copy engine, not '%s'", optarg);
		} else if (c == OPT_NO_PULL) {
			s.pull = false;
		} else if (ntbs_ctl_option(&s.opts, c, argv)) {
			return NTBS_CTL_USAGE;
		}
	}
	if (s.opts.help)
		return ntbs_ctl_help("selftest");
	if (optind + 1 != argc)
		return ntbs_ctl_usage("selftest", "which function?  One address, as `ntbsock-ctl ports` shows it");
	if (ntbs_pci_address(argv[optind], s.address))
		return ntbs_ctl_usage("selftest", "'%s' is no address of a PCI function (0000:17:00.0, or 17:00.0)", argv[optind]);
	ok = good(&s, run(&s));
	if (!s.st.open_ms && !s.opts.json) {	/* nothing was measured: that is no report */
		ntbs_ctl_say("%s", s.st.why);
		return NTBS_CTL_FAILED;
	}
	c = s.opts.json ? print_json(&s, ok) : (print_text(&s, ok), ok ? NTBS_CTL_OK : NTBS_CTL_FAILED);
	if (s.st.dma)
		ntbs_dma_close(s.st.dma);
	ntbs_hw_close(&s.st.hw);
	return c;
}
