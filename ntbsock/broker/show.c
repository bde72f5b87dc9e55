// SPDX-License-Identifier: BSD-2-Clause
/* show.c - see show.h */
#include "show.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "bridge.h"
#include "broker.h"
#include "client.h"
#include "hold.h"
#include "log.h"
#include "peer.h"

void ntbs_show_load(void)
{
	ntbs_rules_load(ntbs_broker.config_dir, ntbs_broker.has_cable, &ntbs_broker.load);
}

static void show_port(struct ntbs_msg_status *msg)
{
	struct ntbs_bridge_facts facts;
	const struct ntbs_bridge_end *end = ntbs_bridge_facts(&facts);

	snprintf(msg->port, sizeof(msg->port), "%s", ntbs_bridge_name());
	memcpy(msg->port_family, facts.family, sizeof(msg->port_family));
	memcpy(msg->port_state, facts.state, sizeof(msg->port_state));
	msg->port_session = end->session;
	msg->port_sessions = facts.sessions;
	msg->port_bells = facts.bells;
	msg->port_arena_bytes = end->arena_bytes;
	msg->port_window_bytes = end->window_bytes;
}

void ntbs_show_status(struct ntbs_client *c, const void *packet, int *fds)
{
	const struct ntbs_msg_plain *m = packet;
	struct ntbs_msg_status msg = {
		.h.cookie = m->h.cookie,
		.pid = (uint32_t)getpid(),
		.uid = geteuid(),
		.node = ntbs_broker.node,
		.nr_procs = ntbs_broker.nr_procs,
		.nr_nodes = ntbs_rules.shm->nr_nodes,
		.nr_ports = ntbs_rules.shm->nr_ports,
		.private_broker = ntbs_broker.is_private,
		.cable = ntbs_peer_is_up() ? 2 : ntbs_broker.has_cable,
		.uptime_s = (ntbs_loop_now_ms() - ntbs_broker.started_ms) / 1000,
		.offers_remote = ntbs_broker.offers_remote,
		.claims = ntbs_broker.claims,
		.claims_refused = ntbs_broker.claims_refused,
		.clients_closed_for_error = ntbs_broker.clients_closed_for_error,
	};

	if (ntbs_broker.has_port)
		show_port(&msg);
	if (ntbs_broker.is_private && m->h.type == NTBS_MSG_HOLD)
		ntbs_hold_process(c->pid);
	snprintf(msg.run_dir, sizeof(msg.run_dir), "%s", ntbs_broker.run_dir);
	snprintf(msg.config_dir, sizeof(msg.config_dir), "%s", ntbs_broker.config_dir);
	ntbs_client_send(c, &msg, NTBS_MSG_STATUS_REPLY, sizeof(msg), NULL, 0);
}

void ntbs_show_reload(struct ntbs_client *c, const void *packet, int *fds)
{
	const struct ntbs_msg_plain *m = packet;
	struct ntbs_msg_reload msg = { .h.cookie = m->h.cookie };

	if (c->uid && c->uid != geteuid()) {
		msg.errors = 1;
		snprintf(msg.first_error, sizeof(msg.first_error),
			 "not permitted: root or the broker's user (uid %u) may reload, you are uid %u",
			 geteuid(), c->uid);
	} else {
		ntbs_show_load();
		msg.errors = ntbs_broker.load.errors;
		memcpy(msg.first_error, ntbs_broker.load.first_error, sizeof(msg.first_error));
	}
	msg.nr_nodes = ntbs_rules.shm->nr_nodes;
	msg.nr_ports = ntbs_rules.shm->nr_ports;
	ntbs_client_send(c, &msg, NTBS_MSG_RELOAD_REPLY, sizeof(msg), NULL, 0);
}

/* Which process holds it only the processes know; whoever does not know it does nothing. */
void ntbs_show_drain(struct ntbs_client *c, const void *packet, int *fds)
{
	const struct ntbs_msg_drain *m = packet;
	struct ntbs_msg_drain reply = { .h.cookie = m->h.cookie, .tuple = m->tuple };
	struct ntbs_client *of;

	for (uint32_t nr = 0; (of = ntbs_client_next(&nr));) {
		struct ntbs_msg_drain leave = { .tuple = m->tuple };

		if (c->uid && c->uid != of->uid)
			continue;
		ntbs_client_send(of, &leave, NTBS_MSG_LEAVE, sizeof(leave), NULL, 0);
		reply.told++;
	}
	ntbs_client_send(c, &reply, NTBS_MSG_DRAIN_REPLY, sizeof(reply), NULL, 0);
}

/*
 * There may be far more pools than a socket or a queue takes.  So the answer is made as the asker reads it, from a
 * position that stands for itself: processes that come or go meanwhile are met or not.
 */
void ntbs_show_pools(struct ntbs_client *c, const void *packet, int *fds)
{
	const struct ntbs_msg_plain *m = packet;

	if (c->listing) {
		ntbs_client_doom(c, "asks for pools again before it has read the answer");
		return;
	}
	c->listing = true;
	c->list_cookie = m->h.cookie;
	c->list_proc = c->list_pool = 0;
	ntbs_show_more_pools(c);
}

static void show_pool(struct ntbs_client *c, const struct ntbs_client *of, int pool)
{
	struct ntbs_msg_pool msg = { .h.cookie = c->list_cookie, .pid = of->pid, .uid = of->uid };
	int fd = ntbs_reopen_readonly(pool);

	if (fd < 0) { /* its owner may have changed its mode */
		ntbs_log(NTBS_LOG_INFO, "cannot show a state pool of pid %u (%s): %s", of->pid, of->program,
			 strerror(-fd));
		return;
	}
	memcpy(msg.program, of->program, sizeof(msg.program));
	ntbs_client_send(c, &msg, NTBS_MSG_POOL_REPLY, sizeof(msg), &fd, 1);
	close(fd);
}

void ntbs_show_more_pools(struct ntbs_client *c)
{
	struct ntbs_msg_pool last = { .h.cookie = c->list_cookie };

	while (c->listing && !c->doomed && ntbs_sendq_empty(&c->tx)) {
		uint32_t nr = c->list_proc;
		struct ntbs_client *of = ntbs_client_next(&nr);

		if (!of) {
			c->listing = false;
			ntbs_client_send(c, &last, NTBS_MSG_POOL_REPLY, sizeof(last), NULL, 0);
		} else if ((c->uid && c->uid != of->uid) || c->list_pool >= of->nr_pools) {
			c->list_proc = nr;
			c->list_pool = 0;
		} else {
			show_pool(c, of, of->pool[c->list_pool++]);
		}
	}
}
