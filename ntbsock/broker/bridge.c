// SPDX-License-Identifier: BSD-2-Clause
/* bridge.c - see bridge.h */
#include "bridge.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <ntbsock/abi_inbox.h>
#include "client.h"
#include "copier.h"
#include "ctlring.h"
#include "emu.h"
#include "hwport.h"
#include "irq.h"
#include "log.h"
#include "loop.h"
#include "peer.h"
#include "region.h"

#define WAITING_MAX 512u	/* messages for a ring that is full */
#define MESSAGES_A_TURN 256
#define BULKS 512u		/* bulk rings in an arena, and copies of them */
#define BULK_LEAST (64u << 10)
#define QUIET_MS 2500		/* after a session in the same memory: until then its processes may store there (far.h) */

struct waiting {
	STAILQ_ENTRY(waiting) link;
	size_t len_bytes;
	char bytes[NTBS_CTL_BYTES];
};
static STAILQ_HEAD(, waiting) queue = STAILQ_HEAD_INITIALIZER(queue);
static unsigned nr_waiting;

static const struct ntbs_bridge_driver *driver;
static struct ntbs_bridge_end end;	/* session 0: the link is down */
static struct ntbs_window window;
static struct ntbs_ctl ctl;
static uint64_t quiet_until_ms;
static bool pumping, is_loop;
static uint64_t bells;			/* heard */

bool ntbs_bridge_is_loop(void)
{
	return is_loop;
}

uint32_t ntbs_bridge_session(void)
{
	return end.session;
}

const char *ntbs_bridge_name(void)
{
	return driver->name();
}

int ntbs_bridge_open(const char *spec)
{
	is_loop = !strncmp(spec, "loop", 4) && (!spec[4] || spec[4] == ',');
	if (is_loop || !strncmp(spec, "emu:", 4)) {
		driver = &ntbs_emu_driver;
		return ntbs_emu_open(is_loop ? NULL : spec + 4, is_loop ? spec + 4 : NULL);
	}
	driver = &ntbs_hwport_driver;
	return ntbs_hwport_open(spec);
}

void ntbs_bridge_close(void)
{
	if (driver)
		driver->close();
}

const struct ntbs_bridge_end *ntbs_bridge_facts(struct ntbs_bridge_facts *facts)
{
	memset(facts, 0, sizeof(*facts));
	driver->describe(facts);
	facts->bells = bells;
	return &end;
}

/* ------------------------------------------------------------- messages */

static void flush_queue(void)
{
	struct waiting *w;
	bool sent = false;

	while ((w = STAILQ_FIRST(&queue)) && !ntbs_ctl_send(&ctl, w->bytes, w->len_bytes)) {
		STAILQ_REMOVE_HEAD(&queue, link);
		nr_waiting--;
		free(w);
		sent = true;
	}
	if (sent)
		ntbs_window_bell(&window);
}

int ntbs_bridge_send(const void *msg, size_t len_bytes)
{
	struct waiting *w;
	int ret = nr_waiting ? -EAGAIN : ntbs_ctl_send(&ctl, msg, len_bytes);

	if (!ret)
		ntbs_window_bell(&window);
	if (ret != -EAGAIN)
		return ret;
	if (nr_waiting == WAITING_MAX)
		return -ENOBUFS;
	w = malloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->len_bytes = len_bytes;
	memcpy(w->bytes, msg, len_bytes);
	STAILQ_INSERT_TAIL(&queue, w, link);
	nr_waiting++;
	return 0;
}

/* A message may end the session under our hands. */
static void take_messages(void)
{
	alignas(8) char msg[NTBS_CTL_BYTES];
	uint32_t session = end.session;
	int len, nr = 0;

	if (pumping)
		return;
	pumping = true;
	while (end.session == session && nr++ < MESSAGES_A_TURN && (len = ntbs_ctl_recv(&ctl, msg)) > 0) {
		if (ntbs_ctl_tell(&ctl))
			ntbs_window_bell(&window);
		ntbs_peer_packet(msg, (size_t)len);
	}
	pumping = false;
	if (nr > MESSAGES_A_TURN)
		driver->again();
}

void ntbs_bridge_bell(void)
{
	if (!end.session)
		return;
	bells++;
	ntbs_irq_scan((uint8_t *)end.arena + NTBS_ARENA_PENDING);
	if (!is_loop)
		take_messages();
	if (end.session && nr_waiting)
		flush_queue();
}

/* Is a message not whole at two looks in a row, a second apart?  Then it will not be. */
static void look_for_loss(void)
{
	static uint32_t session, taken;

	if (!end.session || is_loop || !ntbs_ctl_torn(&ctl)) {
		session = 0;
	} else if (session == end.session && taken == ctl.taken) {
		ntbs_bridge_down("a message of the other broker has not come whole");
	} else {
		session = end.session;
		taken = ctl.taken;
	}
}

/* A bell that was lost costs a second, not the connection. */
void ntbs_bridge_tick(void)
{
	driver->tick();
	ntbs_copier_tick();
	ntbs_bridge_bell();
	look_for_loss();
}

/* ------------------------------------------------------------- sessions */

void ntbs_bridge_up(const struct ntbs_bridge_end *e)
{
	end = *e;
	ntbs_window_open(&window, end.window, end.window_bytes, NTBS_ARENA_PENDING, end.mem);
	window.bell = end.bell;
	window.bell_fd = end.bell_fd;
	window.bell_reg = end.bell_reg;
	window.bell_value = end.bell_value;
	ntbs_ctl_open(&ctl, &window.port, (struct ntbs_ctl_shm *)((char *)end.arena + NTBS_ARENA_CTL),
		      (struct ntbs_ctl_shm *)((char *)end.window + NTBS_ARENA_CTL), end.session);
	ntbs_regions_open(end.sparse && !ntbs_copier_pins() ? end.arena_fd : -1, end.arena, end.arena_bytes);
	ntbs_copier_up(&end, &window);
	if (!is_loop)
		ntbs_peer_port_up();
	ntbs_bridge_bell();
}

void ntbs_bridge_down(const char *why)
{
	if (end.session)
		ntbs_peer_port_down(why);
	else
		driver->unplug();
}

void ntbs_bridge_lost(void)
{
	struct ntbs_ctl_shm *shm = end.session ? (struct ntbs_ctl_shm *)((char *)end.arena + NTBS_ARENA_CTL) : NULL;

	if (end.session && !end.sparse)
		quiet_until_ms = ntbs_loop_now_ms() + QUIET_MS;
	if (shm) {
		ntbs_le32_write_release(&shm->down, end.session);
		ntbs_irq_all();
	}
	while (!STAILQ_EMPTY(&queue)) {
		struct waiting *w = STAILQ_FIRST(&queue);

		STAILQ_REMOVE_HEAD(&queue, link);
		free(w);
	}
	nr_waiting = 0;
	ntbs_copier_down();
	ntbs_regions_close();
	memset(&end, 0, sizeof(end));
	driver->unplug();
}

bool ntbs_bridge_tell(struct ntbs_client *c)
{
	struct ntbs_msg_port msg = {
		.session = end.session,
		.mem = end.mem,
		.arena_mem = end.arena_mem,
		.arena_offset = end.arena_offset,
		.arena_bytes = end.arena_bytes,
		.window_offset = end.window_offset,
		.window_bytes = end.window_bytes,
		.bell = end.bell,
		.bell_value = end.bell_value,
		.bell_offset = end.bell_offset,
	};
	int life;

	if (!end.session || (quiet_until_ms && ntbs_loop_now_ms() < quiet_until_ms))
		return false;
	if (c->port_session == end.session)
		return true;
	life = ntbs_irq_add(c);
	if (life < 0) {
		ntbs_log(NTBS_LOG_ERR, "pid %u cannot use the port: %s", c->pid, strerror(-life));
		return false;
	}
	ntbs_client_send(c, &msg, NTBS_MSG_PORT, sizeof(msg), (int[]){ end.arena_fd, end.window_fd, end.bell_fd, life }, 4);
	ntbs_close_fds(&life, 1);
	c->port_session = end.session;
	return true;
}

uint32_t ntbs_bridge_bulk(uint32_t wanted)
{
	uint64_t most = (end.arena_bytes < end.window_bytes ? end.arena_bytes : end.window_bytes) / BULKS;

	while (wanted > most && wanted > BULK_LEAST)
		wanted /= 2;
	return wanted;
}

bool ntbs_bridge_in_window(uint64_t offset, uint64_t bytes)
{
	return !(offset % 4096) && offset >= NTBS_ARENA_REGIONS && offset <= end.window_bytes &&
	       bytes <= end.window_bytes - offset;
}

void ntbs_bridge_state_end(const struct ntbs_region *r, uint32_t lease, uint32_t generation, uint32_t peer_proc)
{
	uint64_t at = ntbs_region_inbox(r, lease), word;
	const struct ntbs_inbox_shm *in = (const struct ntbs_inbox_shm *)((char *)end.arena + r->offset + at);
	struct ntbs_inbox_shm *out = (struct ntbs_inbox_shm *)((char *)end.window + r->peer_offset + at);

	word = ntbs_le64_read_acquire(&in->consumed);
	if (ntbs_le32_read(&in->generation) != generation)
		return;
	if ((word >> 16 & 0xffff) == (generation & 0xffff))	/* else nobody has read anything, as the first head word says */
		ntbs_window_store64(&window.port, &out->head, word);
	ntbs_window_store32(&window.port, &out->ended, generation);
	window.port.ops->ring(&window.port, NTBS_PENDING_MBOX(peer_proc));
}
