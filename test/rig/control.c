// SPDX-License-Identifier: BSD-2-Clause
/* control.c - commands for faults and counters by a UNIX stream socket; see help[] */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "rig.h"

enum { CLIENTS = CONTROL_POLLS - 1, LINE = 256, ANSWER = 4096 };

static const char help[] = "ok link down|up; HOST (0 or 1) does: flap HOST N (at its N-th window write from now, 0 is the next); "
			   "drop HOST N (window writes); delay HOST MICROSECONDS; bell-drop HOST N; bell-dup HOST N; bell-early HOST N; "
			   "reset HOST; cut HOST BAR; mend HOST BAR; engine-eager HOST 0|1; engine-halt HOST N (in its copy N); counters; status; flush (the trace); quit";

struct control {
	struct rig *rig;
	int listen_fd, fd[CLIENTS];
	char line[CLIENTS][LINE];
	size_t have[CLIENTS];
	char path[108];
};

static void counters(struct rig *rig, char *out, size_t room)
{
	size_t n = (size_t)snprintf(out, room, "ok [");

	for (int h = 0; h < 2 && n < room; h++) {
		const struct rig_count *c = rig_pair_count(rig->pair, h);

		n += (size_t)snprintf(out + n, room - n,
			"%s{\"writes\": {\"1\": %" PRIu64 ", \"2\": %" PRIu64 ", \"4\": %" PRIu64 ", \"8\": %" PRIu64 ", \"16\": %" PRIu64
			", \"32\": %" PRIu64 ", \"64\": %" PRIu64 ", \"other\": %" PRIu64 "}, \"write_bytes\": %" PRIu64
			", \"reads\": %" PRIu64 ", \"read_bytes\": %" PRIu64 ", \"lost\": %" PRIu64 ", \"peer_register_writes\": %" PRIu64
			", \"peer_register_reads\": %" PRIu64 ", \"doorbells\": %" PRIu64 ", \"interrupts\": %" PRIu64
			", \"register_reads\": %" PRIu64 ", \"register_writes\": %" PRIu64 ", \"copies\": %" PRIu64 ", \"copy_bytes\": %" PRIu64 "}",
			h ? ", " : "", c->write[0], c->write[1], c->write[2], c->write[3], c->write[4], c->write[5], c->write[6], c->write[7],
			c->write_bytes, c->read, c->read_bytes, c->lost, c->peer_reg_write, c->peer_reg_read, c->bell, c->interrupt,
			c->reg_read, c->reg_write, c->copy, c->copy_bytes);
	}
	if (n < room)
		snprintf(out + n, room - n, "]");
}

static void status(struct rig *rig, char *out, size_t room)
{
	size_t n = (size_t)snprintf(out, room, "ok {\"link\": \"%s\", \"windows\": \"%s\", \"unknown\": %" PRIu64 ", \"devices\": [",
				    rig_pair_link_is_up(rig->pair) ? "up" : "down", rig->remap ? "mapped" : "trapped", rig->unknown);

	for (unsigned i = 0; i < rig->devs && n < room; i++) {
		const struct rig_dev *d = &rig->dev[i];
		const struct vfu_stats *s = vfu_stats(d->vfu);

		n += (size_t)snprintf(out + n, room - n,
			"%s{\"name\": \"%s\", \"connected\": %s, \"messages\": %" PRIu64 ", \"posted\": %" PRIu64 ", \"gathered\": %" PRIu64
			", \"dma_writes\": %" PRIu64 ", \"dma_errors\": %" PRIu64 "}",
			i ? ", " : "", d->name, vfu_connected(d->vfu) ? "true" : "false", s->messages, s->posted, s->gathered, s->dma_writes,
			s->dma_errors);
	}
	if (n < room)
		snprintf(out + n, room - n, "]}");
}

/* Faults that take a host and a number: how many numbers, and by what to multiply them. */
static const struct {
	const char *name;
	enum rig_fault fault;
	bool number;
	uint64_t unit;
} faults[] = {
	{ "flap", RIG_FAULT_FLAP_AT, true, 1 }, { "drop", RIG_FAULT_DROP_WRITES, true, 1 }, { "delay", RIG_FAULT_DELAY_WRITES, true, 1000 },
	{ "bell-drop", RIG_FAULT_BELL_DROP, true, 1 }, { "bell-dup", RIG_FAULT_BELL_DUP, true, 1 },
	{ "bell-early", RIG_FAULT_BELL_EARLY, true, 1 }, { "reset", RIG_FAULT_PEER_RESET, false, 1 },
	{ "cut", RIG_FAULT_CUT_WINDOW, true, 1 }, { "mend", RIG_FAULT_MEND_WINDOW, true, 1 },
	{ "engine-eager", RIG_FAULT_ENGINE_EAGER, true, 1 }, { "engine-halt", RIG_FAULT_ENGINE_HALT, true, 1 },
};

/* What acts on single window accesses has nothing to act on when the guests map the windows. */
static bool needs_trap(enum rig_fault f)
{
	return f == RIG_FAULT_FLAP_AT || f == RIG_FAULT_DROP_WRITES || f == RIG_FAULT_DELAY_WRITES || f == RIG_FAULT_BELL_EARLY;
}

static bool number(const char *text, uint64_t *n)
{
	char *end;

	if (!text || *text < '0' || *text > '9')
		return false;
	*n = strtoull(text, &end, 0);
	return !*end;
}

void control_command(struct rig *rig, char *line, char *out, size_t room)
{
	char *save, *word[4] = { NULL };
	uint64_t host, n = 0;
	int words = 0;

	for (char *w = strtok_r(line, " \t\r", &save); w && words < 4; w = strtok_r(NULL, " \t\r", &save))
		word[words++] = w;
	snprintf(out, room, "ok");
	if (!words) {
		snprintf(out, room, "error: no command; try help");
	} else if (!strcmp(word[0], "help")) {
		snprintf(out, room, "%s", help);
	} else if (!strcmp(word[0], "counters") && words == 1) {
		counters(rig, out, room);
	} else if (!strcmp(word[0], "status") && words == 1) {
		status(rig, out, room);
	} else if (!strcmp(word[0], "quit") && words == 1) {
		rig->quit = true;
	} else if (!strcmp(word[0], "flush") && words == 1) {
		if (rig->trace)
			trace_flush(rig->trace);
		else
			snprintf(out, room, "error: there is no trace");
	} else if (!strcmp(word[0], "link") && words == 2 && (!strcmp(word[1], "up") || !strcmp(word[1], "down"))) {
		rig_fault(rig->pair, word[1][0] == 'u' ? RIG_FAULT_LINK_UP : RIG_FAULT_LINK_DOWN, 0, 0);
	} else {
		for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
			if (strcmp(word[0], faults[i].name))
				continue;
			if (words != 2 + faults[i].number || !number(word[1], &host) || host > 1 || (faults[i].number && !number(word[2], &n)))
				snprintf(out, room, "error: %s wants a host, 0 or 1%s", word[0], faults[i].number ? ", and a number" : "");
			else if (rig->remap && needs_trap(faults[i].fault))
				snprintf(out, room, "error: %s needs trapped windows, and these are mapped", word[0]);
			else if (rig_fault(rig->pair, faults[i].fault, (int)host, n * faults[i].unit))
				snprintf(out, room, "error: %s: there is no such window", word[0]);
			return;
		}
		snprintf(out, room, "error: '%s' is no command; try help", word[0]);
	}
}

struct control *control_open(struct rig *rig, const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct control *c = calloc(1, sizeof(*c));
	int err;

	if (!c)
		return NULL;
	c->rig = rig;
	for (int i = 0; i < CLIENTS; i++)
		c->fd[i] = -1;
	if (strlen(path) >= sizeof(sa.sun_path)) {
		free(c);
		errno = ENAMETOOLONG;
		return NULL;
	}
	strcpy(sa.sun_path, path);
	unlink(path);
	c->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->listen_fd < 0 || bind(c->listen_fd, (struct sockaddr *)&sa, sizeof(sa)) || listen(c->listen_fd, CLIENTS)) {
		err = errno;
		control_close(c);
		errno = err;
		return NULL;
	}
	strcpy(c->path, path);
	return c;
}

void control_close(struct control *c)
{
	if (!c)
		return;
	for (int i = 0; i < CLIENTS; i++) {
		if (c->fd[i] >= 0)
			close(c->fd[i]);
	}
	if (c->listen_fd >= 0)
		close(c->listen_fd);
	if (*c->path)
		unlink(c->path);
	free(c);
}

unsigned control_polls(const struct control *c, struct pollfd *p)
{
	unsigned n = 0;
	bool room = false;

	for (int i = 0; i < CLIENTS; i++) {
		if (c->fd[i] >= 0)
			p[n++] = (struct pollfd){ .fd = c->fd[i], .events = POLLIN };
		else
			room = true;
	}
	if (room)
		p[n++] = (struct pollfd){ .fd = c->listen_fd, .events = POLLIN };
	return n;
}

static void client_ready(struct control *c, int i)
{
	ssize_t n = recv(c->fd[i], c->line[i] + c->have[i], LINE - 1 - c->have[i], MSG_DONTWAIT);
	char *end;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		goto drop;
	c->have[i] += (size_t)n;
	c->line[i][c->have[i]] = 0;
	while ((end = memchr(c->line[i], '\n', c->have[i]))) {
		char out[ANSWER];
		size_t used = (size_t)(end + 1 - c->line[i]), len;

		*end = 0;
		control_command(c->rig, c->line[i], out, sizeof(out) - 1);
		len = strlen(out);
		out[len++] = '\n';
		if (send(c->fd[i], out, len, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)len)
			goto drop;
		c->have[i] -= used;
		memmove(c->line[i], end + 1, c->have[i]);
	}
	if (c->have[i] < LINE - 1)
		return;
drop:
	close(c->fd[i]);
	c->fd[i] = -1;
	c->have[i] = 0;
}

void control_ready(struct control *c, const struct pollfd *p, unsigned n)
{
	for (unsigned k = 0; k < n; k++) {
		if (!p[k].revents)
			continue;
		for (int i = 0; i < CLIENTS; i++) {
			if (c->fd[i] == p[k].fd) {
				client_ready(c, i);
				break;
			}
			if (c->fd[i] < 0 && p[k].fd == c->listen_fd) {
				c->fd[i] = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC);
				break;
			}
		}
	}
}
