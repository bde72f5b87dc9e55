// SPDX-License-Identifier: BSD-2-Clause
/*
 * compare.c - two answers to one step: the same, or not
 *
 * Everything is compared: return value, errno, bytes (their hash), revents and events, the values that a call fills in,
 * signals.  What differs between two runs of kernel TCP itself may differ here, and nothing else: the table below.  Each use of
 * a line of it is counted and shown at the end; `diff --reference`, where both worlds are kernel TCP, shows that it is the
 * kernel's.
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

const char *const rule_text[RULES] = {
	/* How much has come when a read looks: the read that got less is topped up, then the bytes of the stream so far are
	 * compared (streams.c). */
	[R_SPLIT] = "split of a stream",
	/* Sizes of buffers decide.  Of sends beyond BIG both take some; the direction is "uneven" until all has been read, and
	 * then each world's bytes are compared with what was sent there. */
	[R_TAKEN] = "bytes taken before EAGAIN",
	/* The same: POLLOUT is left out while a stream is uneven, or holds the rest of a flood.  Right after one both are full; but
	 * TCP may have room anew, its buffer grows with each acknowledgement (tcp_new_space(), tcp_sndbuf_expand()), also of a
	 * window probe: in our world, too, where the flood went over TCP. */
	[R_ROOM] = "room in an uneven stream",
	/* The same, and of a full one how much of it has arrived: something there or nothing there, as the bytes of the world say. */
	[R_AMOUNT] = "FIONREAD of an uneven or full stream",
	/* Momentary: result and errno are compared. */
	[R_OUTQ] = "SIOCOUTQ",
	/* Measured.  Compared are state, options, window scales, backlog of a listener: info_same(). */
	[R_INFO] = "TCP_INFO",
	/* Measured as well, and none is set by a sequence; compared is that both can be: in_range().  The buffer and the clamp
	 * follow the pace of the reader (tcp_rcv_space_adjust()), quick acknowledgements the order in which both sides send, and
	 * the last packet came on some CPU: `diff --reference` sees all four differ.  TCP_MAXSEG is tcpi_snd_mss of TCP_INFO, half
	 * of the largest window that the peer has offered: on the ring it offers none. */
	[R_RCVBUF] = "SO_RCVBUF",
	[R_CLAMP] = "TCP_WINDOW_CLAMP",
	[R_MAXSEG] = "TCP_MAXSEG",
	[R_QUICKACK] = "TCP_QUICKACK",
	[R_CPU] = "SO_INCOMING_CPU",
	/* Measured once the stream has been full: it grows with each acknowledgement (tcp_sndbuf_expand()), whatever that is of.
	 * Compared exactly before. */
	[R_SNDBUF] = "SO_SNDBUF of a full stream",
	/* The library has some of its own, and for an instant a low one: both succeed; dup2() and dup3() give what was asked for. */
	[R_NUMBER] = "number of a descriptor",
	/* MSG_MORE and TCP_CORK hold a segment back for 200 ms at most: questions that change nothing are asked again, for a second
	 * at most.  It is waited for before a close or exit, whose reset would take it along.  So with edges: what two members have
	 * to tell one epoll_wait() may tell, or two of them. */
	[R_LATER] = "what comes a moment later",
	/* epoll_wait() with room for some of the ready members: epoll(7) promises no order, and the kernel's is that in which they
	 * have become ready.  Asked until each world has told of the same members, with the same events. */
	[R_ORDER] = "which members of a set come first",
	/* A race of the kernel's own: run against itself (--reference), TCP gives the very same two answers to the shortest sequence.
	 * Asked when a difference has been found; the sequence is shown. */
	[R_BOTH] = "kernel TCP gives both answers",
};
unsigned long accepted[RULES];

bool accept_as(enum rule rule)
{
	accepted[rule]++;
	return true;
}

static const char *error_name(int err)
{
	const char *name = strerrorname_np(err);

	static char number[16];

	snprintf(number, sizeof(number), "errno %d", err);
	return name ? name : number;
}

void answer_text(const struct op *op, const struct answer *a, char *buf, size_t size)
{
	size_t n = snprintf(buf, size, "%lld", (long long)a->ret);

#define MORE(...) (n < size ? n += snprintf(buf + n, size - n, __VA_ARGS__) : 0)
	if (a->ret < 0)
		MORE(" %s", error_name(a->err));
	if (a->bytes)
		MORE(" bytes %llu hash %08x", (unsigned long long)a->bytes, (uint32_t)(a->hash >> 32 ^ a->hash));
	for (int i = 0; i < a->nr; i++)
		MORE("%s%#llx", i ? ", " : " values ", (unsigned long long)a->v[i]);
	if (a->sigs)
		MORE(" SIGPIPE%s", a->sigs & 2 ? " to another thread" : "");
#undef MORE
}

static bool rest_same(const struct answer *a, const struct answer *b, int from)
{
	return !memcmp(&a->v[from], &b->v[from], (a->nr - from) * sizeof(a->v[0]));
}

/* What a program may rely on in TCP_INFO. */
static bool info_same(const struct answer *a, const struct answer *b)
{
	struct tcp_info x = { 0 }, y = { 0 };

	memcpy(&x, &a->v[1], (VALUES - 1) * 8);
	memcpy(&y, &b->v[1], (VALUES - 1) * 8);
	return a->v[0] == b->v[0] && x.tcpi_state == y.tcpi_state && x.tcpi_options == y.tcpi_options &&
	       x.tcpi_snd_wscale == y.tcpi_snd_wscale && x.tcpi_rcv_wscale == y.tcpi_rcv_wscale &&
	       (x.tcpi_state != 10 || x.tcpi_unacked == y.tcpi_unacked);
}

/* What the kernel can answer on loopback. */
static bool in_range(int how, const struct answer *a)
{
	static const struct {
		int64_t least, most;
	} range[RULES] = { [R_RCVBUF] = { 2304, 1 << 30 }, [R_SNDBUF] = { 4608, 1 << 30 }, [R_CLAMP] = { 0, 1 << 30 }, [R_MAXSEG] = { 88, 65483 }, [R_QUICKACK] = { 0, 1 },
			   [R_CPU] = { -1, CPU_SETSIZE } };
	int32_t v = (int32_t)a->v[1];

	return a->ret < 0 || (a->v[0] == sizeof(v) && v >= range[how].least && v <= range[how].most);
}

static bool values_same(const struct op *op, const struct answer *a, const struct answer *b, int64_t mask)
{
	int how = op->call == C_getopt ? options[op->a].how : SAME;

	if (a->nr != b->nr)
		return false;
	if (a->nr && how != SAME && how != R_SNDBUF) {
		if (how == R_INFO ? !info_same(a, b) : !in_range(how, a) || !in_range(how, b))
			return false;
		return rest_same(a, b, 1) || accept_as(how);
	}
	for (int i = 0; i < a->nr; i++)
		if ((a->v[i] & mask) != (b->v[i] & mask))
			return false;
	return true;
}

/* FIONREAD where different amounts are under way: each world's own bytes are the measure. */
static bool amount_right(const struct answer *a, const struct desc *d, const struct desc *peer, int w)
{
	uint64_t unread = peer->w[w].tx - d->w[w].rx;

	if (peer->oob)		/* up to the mark, wherever it lies */
		return a->ret == 0 && a->v[0] >= 0;
	if (d->coming)
		return a->ret == 0 && a->v[0] > 0;
	return a->ret == 0 && a->v[0] >= 0 && (uint64_t)a->v[0] <= unread && (a->v[0] > 0 || !unread);
}

/* Is that all that differs? */
static bool only_tcp_has_room(const struct answer *x, const struct answer *y, int64_t room, const struct desc *d)
{
	bool ring_has_room = false;

	if (x->nr != y->nr)
		return false;
	for (int i = 0; i < x->nr; i++) {
		if ((x->v[i] & ~room) != (y->v[i] & ~room))
			return false;
		ring_has_room |= y->v[i] & ~x->v[i];
	}
	return !ring_has_room || !ring_sends(d->w[NTBS].lport, d->w[NTBS].rport);
}

/* Nothing but room is told of the member; a set does not say of what it tells. */
static bool tells_room(const struct op *op, int64_t v, int64_t room)
{
	int slot = v >> 32;

	return !(v & 0xffffffff & ~room) || (slot >= 0 && slot < SLOTS && !desc_of(op->proc, slot));
}

/* Of epoll_wait(): such members are as if they were not there. */
static bool members_same(const struct op *op, const struct answer *a, const struct answer *b, int64_t room)
{
	int i = 0, k = 0;

	for (;;) {
		while (i < a->nr && tells_room(op, a->v[i], room))
			i++;
		while (k < b->nr && tells_room(op, b->v[k], room))
			k++;
		if (i == a->nr || k == b->nr)
			return i == a->nr && k == b->nr;
		if ((a->v[i++] & ~room) != (b->v[k++] & ~room))
			return false;
	}
}

/* Of epoll_wait(): the ring tells of none that it has. */
static bool only_tcp_tells_room(const struct answer *y, int64_t room, const struct desc *d)
{
	bool ring_has_room = false;

	for (int i = 0; i < y->nr; i++)
		ring_has_room |= y->v[i] & room;
	return d && (!ring_has_room || !ring_sends(d->w[NTBS].lport, d->w[NTBS].rport));
}

/* Does how much of a send is taken depend on sizes of buffers alone? */
static bool room_counts(const struct desc *d, const struct desc *peer)
{
	return peer ? peer->uneven || peer->backlog : d && d->crammed;
}

bool room_unknown(const struct desc *d)
{
	return d && (d->uneven || d->backlog) && !d->full;
}

static enum verdict recv_uneven(const struct op *op, struct answer a[WORLDS], const struct desc *d, const struct desc *peer, char *why, size_t size)
{
	if (peer && peer->oob && a[TCP].ret <= 0 && a[TCP].ret == a[NTBS].ret && a[TCP].err == a[NTBS].err)
		return V_SAME;		/* an urgent byte is next, or counts for nothing */
	if (a[TCP].ret < 0 && a[NTBS].ret < 0 && a[TCP].err == a[NTBS].err && a[TCP].err != EAGAIN)
		return V_SAME;		/* recvmmsg() shows it before the bytes that came before it; and who has ended the connection gets none */
	if (!a[TCP].ret && !a[NTBS].ret && peer && peer->w[TCP].tx != d->w[TCP].rx)
		return V_SAME;		/* a reset, told before, has thrown the rest away */
	for (int w = 0; w < WORLDS; w++) {
		bool dry = peer && peer->w[w].tx == d->w[w].rx;	/* a's own bytes are in rx already */

		if ((a[w].ret < 0 || (!a[w].ret && op->b)) && !dry) {
			snprintf(why, size, "%s has bytes to deliver and does not", world_name[w]);
			return V_DIFFERENT;
		}
	}
	return V_SAME;
}

static enum verdict differ(const struct op *op, struct answer a[WORLDS], char *why, size_t size)
{
	char x[180], y[180];

	answer_text(op, &a[TCP], x, sizeof(x));
	answer_text(op, &a[NTBS], y, sizeof(y));
	snprintf(why, size, "TCP %s; ntbsock %s", x, y);
	return V_DIFFERENT;
}

static bool makes_descriptor(const struct op *op)
{
	return op->call == C_socket || op->call == C_take || op->call == C_accept_any || op->call == C_accept || op->call == C_dup || op->call == C_dupfd || op->call == C_epoll_create;
}

/* A read that changes nothing. */
static bool peeks(const struct op *op)
{
	if (calls[op->call].class != RECV || op->call < C_recv || op->call > C_recvmmsg)
		return false;
	return (op->a & MSG_PEEK) || (!op->b && op->call != C_recvmmsg && !(op->a & (MSG_OOB | MSG_ERRQUEUE)));
}

enum verdict compare(const struct op *op, struct answer a[WORLDS], struct desc *d, struct desc *peer, char *why, size_t size)
{
	const struct answer *x = &a[TCP], *y = &a[NTBS];
	enum class class = calls[op->call].class;
	bool plain = x->ret == y->ret && x->err == y->err && x->sigs == y->sigs && x->bytes == y->bytes;

	switch (class) {
	case EXACT:
	case DRIVER:
		if (plain && values_same(op, x, y, -1))
			return V_SAME;
		if (makes_descriptor(op) && x->ret >= 0 && y->ret >= 0 && values_same(op, x, y, -1) && accept_as(R_NUMBER))
			return V_SAME;
		break;
	case OUTQ:
		if (x->ret == y->ret && x->err == y->err && (rest_same(x, y, 0) || accept_as(R_OUTQ)))
			return V_SAME;
		break;
	case SEND:
		if (plain && x->hash == y->hash && values_same(op, x, y, -1))
			return V_SAME;
		if (peer && peer->uneven && (x->ret < 0) == (y->ret < 0) && x->err == y->err && x->sigs == y->sigs && accept_as(R_TAKEN))
			return V_SAME;
		if (room_counts(d, peer) && (x->ret > 0 || x->err == EAGAIN) && (y->ret > 0 || y->err == EAGAIN) && accept_as(R_TAKEN)) {
			if (peer)
				peer->uneven |= x->bytes != y->bytes;
			return V_SAME;
		}
		if (op->b > BIG && x->ret > 0 && y->ret > 0 && x->sigs == y->sigs) {
			if (peer && x->bytes != y->bytes)
				peer->uneven = accept_as(R_TAKEN);
			return V_SAME;
		}
		break;
	case RECV:
		if (d && d->uneven && !(op->call >= C_recv && op->call <= C_recvmmsg && op->a & (MSG_OOB | MSG_ERRQUEUE)))
			return recv_uneven(op, a, d, peer, why, size);
		if (plain && x->hash == y->hash && values_same(op, x, y, -1))
			return V_SAME;
		if (peeks(op)) {
			differ(op, a, why, size);
			return V_AGAIN;
		}
		break;
	case DRAIN:
		if (x->ret == y->ret && x->err == y->err) {
			if (x->ret || !peer || peer->oob || d->coming || peer->w[TCP].tx != d->w[TCP].rx || peer->w[NTBS].tx <= d->w[NTBS].rx)
				return V_SAME;
			snprintf(why, size, "ntbsock ends before bytes that were sent");
			return V_DIFFERENT;
		}
		differ(op, a, why, size);
		return V_AGAIN;
	case QUERY:
	case EPOLL:
		if (op->call == C_fionread && d && (d->uneven || d->full || d->backlog) && peer) {
			if (plain && x->v[0] == y->v[0])
				return V_SAME;
			if (amount_right(x, d, peer, TCP) && amount_right(y, d, peer, NTBS) && accept_as(R_AMOUNT))
				return V_SAME;
			differ(op, a, why, size);
			return V_AGAIN;
		}
		if (plain && values_same(op, x, y, -1))
			return V_SAME;
		if (op->call == C_getopt && options[op->a].how == R_SNDBUF && peer && (peer->uneven || peer->grown) && plain &&
		    in_range(R_SNDBUF, x) && in_range(R_SNDBUF, y) && accept_as(R_SNDBUF))
			return V_SAME;
		if (room_counts(d, peer) && x->ret >= 0 && y->ret >= 0) {
			const int64_t room = op->call == C_select || op->call == C_pselect ? 2 : EPOLLOUT | EPOLLWRNORM;
			const int64_t in = op->call == C_select || op->call == C_pselect ? 1 : EPOLLIN | EPOLLRDNORM;

			if (op->call == C_epoll_wait && room_unknown(peer) && members_same(op, x, y, room) && accept_as(R_ROOM))
				return V_SAME;
			if (!d && op->call != C_epoll_wait && values_same(op, x, y, ~in) && accept_as(R_ROOM))
				return V_SAME;		/* a set is readable: of what is not said */
			if (op->call == C_epoll_wait && peer && members_same(op, x, y, room) && only_tcp_tells_room(y, room, d) && accept_as(R_ROOM))
				return V_SAME;
			if ((!peer || room_unknown(peer) ? values_same(op, x, y, ~room) : only_tcp_has_room(x, y, room, d)) && accept_as(R_ROOM))
				return V_SAME;
		}
		differ(op, a, why, size);
		return V_AGAIN;
	}
	return differ(op, a, why, size);
}
