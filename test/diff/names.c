// SPDX-License-Identifier: BSD-2-Clause
/*
 * names.c - who names what: slots of processes, the open file descriptions behind them, and which of these are connected
 *
 * The driver's own picture, the same for both worlds as long as they answer the same.
 */
#include "run.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

struct world world[WORLDS];
struct pending pending[PROCS][THREADS];
struct desc desc[DESCS];
int nr_desc, slot_desc[PROCS][SLOTS];
static struct letter {
	int desc, slot;
} mail[PROCS][SLOTS];
static int nr_mail[PROCS];

struct desc *desc_of(int proc, int slot)
{
	int i = slot >= 0 && slot < SLOTS ? slot_desc[proc][slot] : -1;

	return i < 0 ? NULL : &desc[i];
}

struct desc *peer_of(const struct desc *d)
{
	return d && d->peer >= 0 ? &desc[d->peer] : NULL;
}

static void set_slot(int proc, int slot, int to)
{
	int was;

	if (slot < 0 || slot >= SLOTS)
		return;
	was = slot_desc[proc][slot];
	if (to >= 0)
		desc[to].refs++;
	slot_desc[proc][slot] = to;
	if (was < 0)
		return;
	desc[was].refs--;
	for (int s = 0; s < SLOTS; s++)
		if (slot_desc[proc][s] == was)
			return;
	desc[was].told_no_more |= desc[was].told_in >> proc & 1;
}

static int new_desc(void)
{
	if (nr_desc == DESCS)
		return -1;
	desc[nr_desc] = (struct desc){ .used = true, .peer = -1 };
	return nr_desc++;
}

static void learn_ports(struct desc *d, const struct answer a[WORLDS])
{
	for (int w = 0; w < WORLDS; w++) {
		if (a[w].lport)
			d->w[w].lport = a[w].lport;
		if (a[w].rport)
			d->w[w].rport = a[w].rport;
	}
}

static void find_peer(int me)
{
	for (int i = 0; i < nr_desc; i++) {
		bool both = i != me || desc[i].connected;

		for (int w = 0; w < WORLDS; w++)
			both = both && desc[i].w[w].rport && desc[i].w[w].rport == desc[me].w[w].lport && desc[i].w[w].lport == desc[me].w[w].rport;
		if (both) {
			desc[i].peer = me;
			desc[me].peer = i;
			desc[i].connected = desc[me].connected = true;
		}
	}
}

/* What has been sent to @d before it was accepted. */
static void take_over_crammed(struct desc *d)
{
	struct desc *p = peer_of(d);

	if (!p || !p->crammed)
		return;
	p->crammed = false;
	d->full = d->backlog = d->grown = true;
	d->uneven = p->w[TCP].tx != p->w[NTBS].tx;
}

/* On its way: the descriptor is held, whoever closes his. */
static void mail_put(int to, int proc, int slot)
{
	if (nr_mail[to] == SLOTS)
		return;
	mail[to][nr_mail[to]++] = (struct letter){ slot_desc[proc][slot], slot };
	if (slot_desc[proc][slot] >= 0)
		desc[slot_desc[proc][slot]].refs++;
}

static void mail_take(int proc, int slot)
{
	struct letter l = mail[proc][0];

	if (!nr_mail[proc])
		return;
	memmove(mail[proc], mail[proc] + 1, --nr_mail[proc] * sizeof(l));
	set_slot(proc, slot, l.desc);
	if (l.desc >= 0)
		desc[l.desc].refs--;
	for (int w = 0; w < WORLDS; w++) {
		world[w].port[slot] = world[w].port[l.slot];
		world[w].family[slot] = world[w].family[l.slot];
	}
}

/*
 * LIMITATIONS: an epoll set that an image inherits while another process goes on with it shows the library's marks there.  Slots
 * that may hold sets, since before a fork; those of them that an exec has come behind.
 */
static uint32_t shared_sets[PROCS], marked_sets[PROCS];

/* Nothing is known yet. */
void forget_names(void)
{
	memset(pending, 0, sizeof(pending));
	memset(slot_desc, 0xff, sizeof(slot_desc));
	memset(nr_mail, 0, sizeof(nr_mail));
	memset(shared_sets, 0, sizeof(shared_sets));
	memset(marked_sets, 0, sizeof(marked_sets));
	nr_desc = 0;
}

/* A new image has what its process had, but for what was to be closed. */
void only_open(int proc, uint32_t mask)
{
	for (int s = 0; s < SLOTS; s++)
		if (!(mask & 1u << s))
			set_slot(proc, s, -1);
}

/* A step after which a sender may have left the ring, with bytes of its behind it. */
static bool leaves(const struct op *op)
{
	enum call c = op->call;

	if (c >= C_send && c <= C_sendmmsg)
		return op->a & (MSG_OOB | MSG_ZEROCOPY);
	return c == C_splice_to || c == C_misfit || c == C_setopt || c == C_pwritev2 || c == C_preadv2 || c == C_give ||
	       (c == C_async && op->a);
}

/* Where both directions may have moved there is room for more. */
static void more_room(struct desc *d)
{
	struct desc *ends[] = { d, peer_of(d) };

	for (int i = 0; i < 2; i++)
		if (ends[i] && ends[i]->full)
			ends[i]->uneven = true, ends[i]->full = false;
}

static void leave(struct desc *d)
{
	d->left = true;
	more_room(d);
}

/* It blocks.  A read of no bytes that has to wait waits in the kernel. */
void learn_blocked(const struct op *op)
{
	struct desc *d = desc_of(op->proc, op->s);

	if (d && calls[op->call].class == SEND && peer_of(d))
		peer_of(d)->grown = true;	/* it is full */
	if (d && (leaves(op) || (calls[op->call].class == RECV && !op->b)))
		leave(d);
}

static bool holds(int proc, const struct desc *d)
{
	for (int s = 0; s < SLOTS; s++)
		if (desc_of(proc, s) == d)
			return true;
	return false;
}

/*
 * Would a new image, or another process, get a connection on which bytes are under way that their sender cannot bring back to TCP?
 * It has ended, or left the ring before.  A relay brings them then, on a socket of other names, or they stay with who has started the
 * image (ntbsock(7), LIMITATIONS): not drawn.
 */
bool loses_bytes(const struct op *op)
{
	for (int s = 0; s < SLOTS; s++) {
		const struct desc *d = desc_of(op->proc, s), *p = peer_of(d);

		if (!d || (op->call == C_give && s != op->s))
			continue;
		if ((op->call != C_exec || op->b == 1) && d->word)
			return true;
		if (!p)
			continue;
		/* nor a reset of a peer that was killed, to an image without the library (ntbsock(7), LIMITATIONS) */
		if (op->call != C_give && op->b == 1 && !p->refs && (unread(p, TCP) || unread(p, NTBS)))
			return true;
		/* nor where the other side has left the ring, and there is more in it than TCP has room for */
		if (p->left && undecided(p))
			return true;
		/* nor, yet, between two ends of the process that execs: the one leaves before the other has asked */
		if (op->call == C_exec && holds(op->proc, p) && (unread(d, TCP) || unread(d, NTBS)))
			return true;
		/* its sender has found no room, and a FIN of ours: it leaves the ring then (ntbs_stream_send()) */
		if (d->shut_wr && (d->uneven || d->backlog) && (unread(d, TCP) || unread(d, NTBS)))
			return true;
		/* nor to a socket whose kernel answers all that comes with a reset */
		if (d->shut_rd && d->shut_wr && (unread(d, TCP) || unread(d, NTBS)))
			return true;
		if (p->oob || ((p->left || p->shut_wr || p->shut_rd || !p->refs || !p->connected) && (unread(d, TCP) || unread(d, NTBS))))
			return true;
	}
	return false;
}

bool user_timeout(const struct op *op)
{
	return op->call == C_setopt && !strcmp(options[op->a].name, "TCP_USER_TIMEOUT");
}

static void learn_sets(const struct op *op)
{
	uint32_t *shared = &shared_sets[op->proc], *marked = &marked_sets[op->proc];

	switch (op->call) {
	case C_epoll_create:
		*shared &= ~(1u << op->s);
		*marked &= ~(1u << op->s);
		break;
	case C_dup:
	case C_dup2:
	case C_dup3:
	case C_dupfd:
		if (op->s < 0 || op->t < 0)
			break;
		*shared = (*shared & ~(1u << op->t)) | (*shared >> op->s & 1) << op->t;
		*marked = (*marked & ~(1u << op->t)) | (*marked >> op->s & 1) << op->t;
		break;
	case C_fork:
		*shared = shared_sets[op->a] = ~0u;
		marked_sets[op->a] = *marked;
		break;
	case C_exec: *marked |= *shared; break;
	case C_spawn: shared_sets[op->a] = marked_sets[op->a] = ~0u; break;
	}
}

static bool marked_set(int proc, int slot)
{
	return slot >= 0 && slot_desc[proc][slot] < 0 && (marked_sets[proc] >> slot & 1);
}

bool looks_at_marks(const struct op *op)
{
	return (waits_for_events(op) && (marked_set(op->proc, op->s) || marked_set(op->proc, op->t))) ||
	       (op->call == C_epoll_add && marked_set(op->proc, op->t));
}

/* An edge of it may have been told: of an input that is not there yet it has not. */
static bool holds_back_told(const struct op *op)
{
	const struct desc *d = desc_of(op->proc, op->t);

	return (op->call == C_epoll_add || op->call == C_epoll_mod) && d &&
	       ((op->a & EPOLLONESHOT) || ((op->a & EPOLLET) && ((op->a & (EPOLLOUT | EPOLLWRNORM)) || unread(d, TCP) || unread(d, NTBS))));
}

bool low_mark(const struct op *op)
{
	return op->call == C_setopt && options[op->a].level == SOL_SOCKET && options[op->a].opt == SO_RCVLOWAT;
}

/* A step has returned the same in both worlds: what the driver knows of descriptors follows. */
void learn(const struct op *op, struct answer a[WORLDS])
{
	struct desc *d = desc_of(op->proc, op->s);
	bool ok = a[TCP].ret >= 0;
	int i;

	if (ok)
		learn_sets(op);
	if (d && leaves(op))
		leave(d);
	if (ok && holds_back_told(op))
		desc_of(op->proc, op->t)->told_in |= 1u << op->proc;
	for (int s = 0; s < SLOTS && ok && (op->call == C_exec || op->call == C_spawn); s++)
		if (desc_of(op->proc, s))
			leave(desc_of(op->proc, s));

	switch (op->call) {
	case C_socket:
		i = ok ? new_desc() : -1;
		set_slot(op->proc, op->s, i);
		for (int w = 0; w < WORLDS; w++)
			world[w].family[op->s] = op->a;
		break;
	case C_epoll_create: set_slot(op->proc, op->s, -1); break;
	case C_bind:
		if (ok && d) {
			for (int w = 0; w < WORLDS; w++) {
				world[w].port[op->s] = a[w].lport;
				world[w].family[op->s] = a[w].family;
			}
		}
		break;
	case C_listen:
		if (ok && d)
			d->listening = true;
		break;
	case C_connect:
		if (d && op->a == 0 && (ok || a[TCP].err == EINPROGRESS)) {
			learn_ports(d, a);
			for (int w = 0; w < WORLDS; w++)
				if (!d->w[w].rport && op->t >= 0)
					d->w[w].rport = world[w].port[op->t];
			d->connected = ok;
			find_peer(slot_desc[op->proc][op->s]);
		} else if (d && op->a == 1 && ok) {	/* what was on its way is gone */
			d->uneven = d->full = d->backlog = d->grown = d->coming = d->crammed = d->connected = false;
			d->peer = -1;
		}
		break;
	case C_fastopen:
		if (d && (ok || a[TCP].err == EINPROGRESS)) {
			learn_ports(d, a);
			d->connected = ok;
			find_peer(slot_desc[op->proc][op->s]);
		}
		break;
	case C_accept_any:
	case C_accept:
		i = ok ? new_desc() : -1;
		if (i >= 0) {
			learn_ports(&desc[i], a);
			desc[i].connected = true;
			if (d)
				desc[i].rcvtimeo = d->rcvtimeo, desc[i].sndtimeo = d->sndtimeo, desc[i].user_timeout = d->user_timeout,
				desc[i].low_mark = d->low_mark;
			find_peer(i);
			take_over_crammed(&desc[i]);
		}
		set_slot(op->proc, op->call == C_accept ? op->t : op->b, i);
		break;
	case C_close_range:
		for (int s = 0; s < SLOTS && ok && !op->a; s++)
			if (op->b || s == op->s)
				set_slot(op->proc, s, -1);
		break;
	case C_give:
		if (ok)
			mail_put(op->a, op->proc, op->s);
		break;
	case C_take:
		if (ok)
			mail_take(op->proc, op->t);
		break;
	case C_close: set_slot(op->proc, op->s, -1); break;
	case C_dup:
	case C_dupfd: set_slot(op->proc, op->t, ok ? slot_desc[op->proc][op->s] : -1); break;
	case C_dup2:
	case C_dup3:
		if (ok)
			set_slot(op->proc, op->t, op->s >= 0 ? slot_desc[op->proc][op->s] : -1);
		break;
	case C_async:
		if (ok && d)
			d->async = op->a;
		break;
	case C_setopt:
		if (ok && d && options[op->a].shape == TIMEVAL)
			*(options[op->a].opt == SO_SNDTIMEO ? &d->sndtimeo : &d->rcvtimeo) = op->b > 0;
		if (ok && d && user_timeout(op))
			d->user_timeout = op->b > 0;
		if (ok && d && low_mark(op))
			d->low_mark = op->b > 1;
		if (ok && d && options[op->a].shape == LINGER)
			d->linger0 = op->b == 0;
		break;
	case C_shutdown:
		if (ok && d) {
			d->shut_wr |= op->a != SHUT_RD;
			d->shut_rd |= op->a != SHUT_WR;
			more_room(d);
		}
		break;
	case C_spawn:
	case C_fork:
		for (int s = 0; s < SLOTS && ok; s++)
			set_slot(op->a, s, slot_desc[op->proc][s]);
		break;
	}
}

void bury(int proc)
{
	for (int s = 0; s < SLOTS; s++)
		set_slot(proc, s, -1);
	memset(pending[proc], 0, sizeof(pending[proc]));
	for (int w = 0; w < WORLDS; w++)
		world_buried(&world[w], proc);
}

enum life life_of(const struct desc *d)
{
	const struct desc *p = peer_of(d);

	if (!d)
		return L_NONE;
	if (!d->connected)
		return L_FRESH;
	if (p && !p->refs)
		return L_GONE;
	if (d->shut_wr && p && p->shut_wr)
		return L_BOTH_SHUT;
	return d->shut_wr ? L_SHUT_WR : p && p->shut_wr ? L_PEER_SHUT : d->shut_rd ? L_SHUT_RD : L_OPEN;
}
