// SPDX-License-Identifier: BSD-2-Clause
/*
 * ntbrig.c - a software NTB between two QEMUs
 *
 *	ntbrig [options] SOCKET0 SOCKET1 [IOAT0 IOAT1]
 *
 * One process is both ports (and, if sockets for them are named, a copy engine in each host): each is a vfio-user device,
 * to which a QEMU connects by  -device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"SOCKET0"}}'.
 * QEMU 11.1 or later; the guests' memory must be a shared memfd, or nothing can be stored into it.
 *
 * Windows are trapped by default: every access is a message, which is slow, and can be delayed, dropped and counted.  With
 * --remap each QEMU maps them, ntbwin.so in front of it points them at the other guest's memory, and the model sees no
 * access at all.
 *
 * One thread, one loop: messages, time, what follows from them.  There is one order of events for both hosts, and the
 * trace shows it.  A host is off until its QEMU connects and off again when it goes; a copy engine likewise.
 *
 * Ends by SIGTERM, by "quit" on the control socket, with --once when the last guest has gone: status 0.  A message that
 * QEMU would not send, and with --strict an access to a register that the model does not know: status 3.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "rig.h"

enum { UNKNOWN_SAID = 20, POLLS = RIG_DEVS + CONTROL_POLLS + REMAP_POLLS };

static volatile sig_atomic_t stopped;

void rig_fail(struct rig *rig, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "ntbrig: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	rig->failed = rig->quit = true;
}

struct rig_dev *rig_dev_of(struct rig *rig, const struct rig_fn *fn)
{
	for (unsigned i = 0; i < rig->devs; i++) {
		if (rig->dev[i].fn == fn)
			return &rig->dev[i];
	}
	return NULL;
}

/* ---- what the model asks ---- */

static struct vfu *vfu_of(struct rig *rig, const struct rig_fn *fn)
{
	struct rig_dev *dev = rig_dev_of(rig, fn);

	return dev ? dev->vfu : NULL;
}

static void *memory(void *arg, const struct rig_fn *fn, uint64_t addr, size_t *len, bool write)
{
	struct vfu *v = vfu_of(arg, fn);

	return v ? dmamap_memory(vfu_maps(v), addr, len, write) : NULL;
}

static int foreign(void *arg, const struct rig_fn *fn, uint64_t addr, const void *data, size_t len)
{
	struct vfu *v = vfu_of(arg, fn);

	return v ? vfu_dma_write(v, addr, data, len) : -ENXIO;
}

static bool foreign_busy(void *arg, const struct rig_fn *fn)
{
	struct vfu *v = vfu_of(arg, fn);

	return v && vfu_dma_busy(v);
}

static void interrupt(void *arg, const struct rig_fn *fn, unsigned vector)
{
	struct vfu *v = vfu_of(arg, fn);

	if (v)
		vfu_interrupt(v, vector);
}

static uint64_t now_ns(void *arg)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void event(void *arg, const struct rig_event *ev)
{
	struct rig *rig = arg;
	char line[256];

	if (rig->trace)
		trace_event(rig->trace, ev);
	if (!ev->unknown)
		return;
	trace_line(ev, line, sizeof(line));
	if (rig->strict)
		rig_fail(rig, "no such register: %s", line);
	else if (rig->unknown < UNKNOWN_SAID)
		fprintf(stderr, "ntbrig: no such register: %s\n", line);
	rig->unknown++;
}

static void window_moved(void *arg, const struct rig_fn *fn)
{
	struct rig *rig = arg;

	if (rig->remap)
		remap_moved(rig->remap, rig_fn_info(fn)->host);
}

/* ---- what a guest asks ---- */

static void dev_took(struct rig *rig, struct rig_dev *dev, int err)
{
	if (err == -EPROTO)
		rig_fail(rig, "%s", vfu_error(dev->vfu));
}

/*
 * No answer overtakes what the other host has posted (see pair.c), and what that is may still lie in its socket.  Reads
 * among that push nothing in turn: this host waits for its answer, and has sent nothing since it asked.
 */
static void push_posted(struct rig_dev *dev)
{
	struct rig *rig = dev->rig;
	int port = (int)(dev - rig->dev);

	if (port >= RIG_PORTS || rig->pushing)
		return;
	rig->pushing = true;
	dev_took(rig, &rig->dev[!port], vfu_catch_up(rig->dev[!port].vfu));
	rig->pushing = false;
}

static int dev_read(void *arg, int region, uint64_t off, void *buf, size_t len)
{
	struct rig_dev *dev = arg;

	push_posted(dev);
	return rig_read(dev->fn, region, off, buf, len);
}

static int dev_write(void *arg, int region, uint64_t off, const void *buf, size_t len)
{
	return rig_write(((struct rig_dev *)arg)->fn, region, off, buf, len);
}

static void dev_reset(void *arg)
{
	rig_fn_reset(((struct rig_dev *)arg)->fn, RIG_RESET_FLR);
}

static void dev_came(void *arg)
{
	struct rig_dev *dev = arg;

	dev->rig->seen = true;
	rig_fn_reset(dev->fn, RIG_RESET_BACK);
}

static void dev_gone(void *arg)
{
	rig_fn_reset(((struct rig_dev *)arg)->fn, RIG_RESET_GONE);
}

static void dev_mapped(void *arg, uint64_t addr, uint64_t size)
{
	struct rig_dev *dev = arg;
	int port = (int)(dev - dev->rig->dev);

	if (dev->rig->remap && port < RIG_PORTS)
		remap_mapped(dev->rig->remap, port, addr, size);
}

static void dev_before_reply(void *arg)
{
	struct rig_dev *dev = arg;

	if (dev->rig->remap)
		remap_update(dev->rig->remap);
}

static bool dev_open(struct rig *rig, struct rig_fn *fn, const char *path)
{
	struct rig_dev *dev = &rig->dev[rig->devs];
	const struct rig_fn_info *info = rig_fn_info(fn);
	struct vfu_conf conf = {
		.name = dev->name, .arg = dev, .vectors = info->vectors, .read = dev_read, .write = dev_write, .reset = dev_reset,
		.came = dev_came, .gone = dev_gone, .mapped = dev_mapped, .before_reply = dev_before_reply,
	};

	dev->rig = rig;
	dev->fn = fn;
	snprintf(dev->name, sizeof(dev->name), "%s", info->name);
	for (int i = 0; i < RIG_BARS; i++) {
		conf.region[i].size = info->bar[i].size;
		conf.region[i].step = info->bar[i].window ? 4096 : 0;
		conf.region[i].fd = rig->remap && rig->devs < RIG_PORTS ? remap_window_fd(rig->remap, info->host, i) : -1;
	}
	conf.region[VFU_CFG] = (struct vfu_region){ .size = RIG_CFG_SIZE, .step = 8, .fd = -1 };
	rig_fn_reset(fn, RIG_RESET_GONE);
	dev->vfu = vfu_open(path, &conf);
	if (!dev->vfu) {
		fprintf(stderr, "ntbrig: %s: %s\n", path, strerror(errno));
		return false;
	}
	rig->devs++;
	return true;
}

/* ---- loop ---- */

static int timeout_ms(struct rig *rig)
{
	uint64_t next = rig_pair_run(rig->pair), now = now_ns(NULL);

	if (next == UINT64_MAX)
		return -1;
	if (next <= now)
		return 0;
	return next - now > 60000000000ull ? 60000 : (int)((next - now + 999999) / 1000000);
}

static bool any_guest(const struct rig *rig)
{
	for (unsigned i = 0; i < rig->devs; i++) {
		if (vfu_connected(rig->dev[i].vfu))
			return true;
	}
	return false;
}

static void loop(struct rig *rig)
{
	while (!rig->quit && !stopped) {
		struct pollfd p[POLLS];
		unsigned n = 0, ctl, win;
		int wait = timeout_ms(rig);

		if (rig->remap)
			remap_update(rig->remap);
		for (unsigned i = 0; i < rig->devs; i++)
			p[n++] = (struct pollfd){ .fd = vfu_fd(rig->dev[i].vfu), .events = POLLIN };
		ctl = rig->control ? control_polls(rig->control, p + n) : 0;
		win = rig->remap ? remap_polls(rig->remap, p + n + ctl) : 0;
		if (poll(p, n + ctl + win, wait) < 0) {
			if (errno == EINTR)
				continue;
			rig_fail(rig, "poll: %s", strerror(errno));
			return;
		}
		/* the shim before the device: it is there when QEMU asks for the windows */
		if (win)
			remap_ready(rig->remap, p + n + ctl, win);
		for (unsigned i = 0; i < n; i++) {
			if (p[i].revents)
				dev_took(rig, &rig->dev[i], vfu_ready(rig->dev[i].vfu));
		}
		if (ctl)
			control_ready(rig->control, p + n, ctl);
		if (rig->once && rig->seen && !any_guest(rig))
			rig->quit = true;
	}
}

static void stop(int sig)
{
	stopped = 1;
}

static void usage(FILE *f)
{
	fputs("usage: ntbrig [options] SOCKET0 SOCKET1 [IOAT0 IOAT1]\n"
	      "  --family gen3|icx|spr|amd  which ports (icx)\n"
	      "  --window SIZE[,SIZE]       bytes of BAR2 and BAR4, k or m behind it (1m)\n"
	      "  --train-ms N               from \"both want the link\" to link up (100)\n"
	      "  --remap                    windows mapped by the guests, with ntbwin.so in front of each QEMU:\n"
	      "                             LD_PRELOAD=ntbwin.so NTBWIN=SOCKETn.win qemu-system-x86_64 ...\n"
	      "  --control PATH             commands for faults; \"help\" lists them\n"
	      "  --trace FILE               every access, interrupt, link change; --trace-windows: also those of windows\n"
	      "  --strict                   an access to an unknown register ends the program with status 3\n"
	      "  --once                     ends when the last guest has gone\n", f);
}

static bool parse_size(const char *text, uint64_t *size)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 0);

	if (*end == 'k' || *end == 'm') {
		n <<= *end == 'k' ? 10 : 20;
		end++;
	}
	*size = n;
	return n && !*end;
}

static bool parse_windows(char *text, uint64_t size[2])
{
	char *comma = strchr(text, ',');

	if (comma)
		*comma++ = 0;
	return parse_size(text, &size[0]) && parse_size(comma ? comma : text, &size[1]);
}

static int parse_family(const char *text)
{
	static const char *const names[] = { "gen3", "icx", "spr", "amd" };

	for (int i = 0; i < 4; i++) {
		if (!strcmp(text, names[i]))
			return i;
	}
	return -1;
}

struct options {
	struct rig_pair_conf conf;
	bool remap, trace_windows;
	const char *control, *trace;
	const char *const *sockets;
	int count;
};

static bool parse(struct rig *rig, struct options *o, int argc, char **argv)
{
	enum { FAMILY = 1, WINDOW, TRAIN, REMAP, CONTROL, TRACE, TRACE_WINDOWS, STRICT, ONCE, HELP };
	static const struct option opts[] = {
		{ "family", 1, NULL, FAMILY }, { "window", 1, NULL, WINDOW }, { "train-ms", 1, NULL, TRAIN }, { "remap", 0, NULL, REMAP },
		{ "control", 1, NULL, CONTROL }, { "trace", 1, NULL, TRACE }, { "trace-windows", 0, NULL, TRACE_WINDOWS },
		{ "strict", 0, NULL, STRICT }, { "once", 0, NULL, ONCE }, { "help", 0, NULL, HELP }, { 0 },
	};
	int c, family;
	char *end;

	while ((c = getopt_long(argc, argv, "", opts, NULL)) >= 0) {
		switch (c) {
		case FAMILY:
			family = parse_family(optarg);
			if (family < 0) {
				fprintf(stderr, "ntbrig: no family '%s'\n", optarg);
				return false;
			}
			o->conf.family = (enum rig_family)family;
			break;
		case WINDOW:
			if (!parse_windows(optarg, o->conf.window_size)) {
				fprintf(stderr, "ntbrig: '%s' is not a size\n", optarg);
				return false;
			}
			break;
		case TRAIN:
			o->conf.train_ns = strtoull(optarg, &end, 10) * 1000000;
			if (!*optarg || *end) {
				fprintf(stderr, "ntbrig: '%s' is not a number of milliseconds\n", optarg);
				return false;
			}
			break;
		case REMAP:
			o->remap = true;
			break;
		case CONTROL:
			o->control = optarg;
			break;
		case TRACE:
			o->trace = optarg;
			break;
		case TRACE_WINDOWS:
			o->trace_windows = true;
			break;
		case STRICT:
			rig->strict = true;
			break;
		case ONCE:
			rig->once = true;
			break;
		case HELP:
			usage(stdout);
			exit(0);
		default:
			return false;
		}
	}
	o->sockets = (const char *const *)argv + optind;
	o->count = argc - optind;
	return o->count == 2 || o->count == 4;
}

static bool start(struct rig *rig, const struct options *o)
{
	struct rig_env env = {
		.arg = rig, .memory = memory, .foreign = foreign, .foreign_busy = foreign_busy, .interrupt = interrupt, .now_ns = now_ns,
		.event = event, .window_moved = window_moved,
	};

	if (o->trace) {
		rig->trace = trace_open(o->trace, o->trace_windows);
		if (!rig->trace) {
			fprintf(stderr, "ntbrig: %s: %s\n", o->trace, strerror(errno));
			return false;
		}
	}
	rig->pair = rig_pair_open(&o->conf, &env);
	if (!rig->pair) {
		fprintf(stderr, "ntbrig: windows must be powers of two from 4k on\n");
		return false;
	}
	if (o->remap) {
		rig->remap = remap_open(rig, o->sockets, o->conf.window_size);
		if (!rig->remap)
			return false;
	}
	for (int i = 0; i < o->count; i++) {
		struct rig_fn *fn = i < RIG_PORTS ? rig_pair_port(rig->pair, i) : rig_ioat_open(rig->pair, i - RIG_PORTS);

		if (!fn || !dev_open(rig, fn, o->sockets[i]))
			return false;
	}
	if (o->control) {
		rig->control = control_open(rig, o->control);
		if (!rig->control) {
			fprintf(stderr, "ntbrig: %s: %s\n", o->control, strerror(errno));
			return false;
		}
	}
	return true;
}

int main(int argc, char **argv)
{
	struct rig rig = { .quit = false };
	struct options o = { .conf = { RIG_INTEL_ICX, { 1 << 20, 1 << 20 }, RIG_TRAIN_NS } };
	struct sigaction sa = { .sa_handler = stop };
	int status = 2;

	if (!parse(&rig, &o, argc, argv)) {
		usage(stderr);
		return 2;
	}
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	if (start(&rig, &o)) {
		printf("ntbrig: ready\n");
		fflush(stdout);
		loop(&rig);
		status = rig.failed ? 3 : 0;
	}
	/* the devices first: their end is an event, and closes what a guest had */
	for (unsigned i = 0; i < rig.devs; i++)
		vfu_close(rig.dev[i].vfu);
	rig.devs = 0;
	control_close(rig.control);
	remap_close(rig.remap);
	rig.remap = NULL;
	rig_pair_close(rig.pair);
	trace_close(rig.trace);
	return status;
}
