// SPDX-License-Identifier: BSD-2-Clause
/*
 * ivshmem.c - QEMU's shared memory between guests of one host, used as if it were a bridge
 *
 * The device has memory and doorbells and nothing else: no translation, no scratchpads, no link, and it never says
 * who is there.  All that is made in the first page of its memory (ivshmem_regs.h).
 *
 * Sides.  Numbers at the server grow with every guest that is started, so they say nothing about who is A and who is
 * B.  A guest claims the first side whose claim does not move: it watches both for as long as a live one would need to
 * move, writes its own number, beats for a while, and has the side if its number still stands (of several writers the
 * last one wins, and the others see that).  Whoever finds another's number in its own side later on was taken for dead,
 * and is: its link is down for good; ntbs_ntb_probe() anew finds a side.
 *
 * Link up: both sides claimed, both want it, both beating.  An owner beats in poll(), every IVSHMEM_POLL_MS; so long it
 * also takes to see a peer die.
 *
 * Doorbells are the vectors.  The device keeps no pending bits: a bell that nobody listens for is lost, masked ones are
 * lost as well.  So there is nothing that db_read() could find.
 */
#include "ntb.h"

#include <errno.h>
#include <stddef.h>
#include "ivshmem_regs.h"

static bool match(const struct ntbs_regs *regs)
{
	return regs->vendor == IVSHMEM_VENDOR && regs->device == IVSHMEM_DEVICE;
}

static uint32_t mem_read(struct ntbs_ntb *ntb, size_t at)
{
	return ntb->regs->ops->bar_read(ntb->regs, IVSHMEM_MEMORY_BAR, at, 4);
}

static void mem_write(struct ntbs_ntb *ntb, size_t at, uint32_t value)
{
	ntb->regs->ops->bar_write(ntb->regs, IVSHMEM_MEMORY_BAR, at, 4, value);
}

#define AT(s, member) \
	(offsetof(struct ntbs_ivshmem_shm, side) + (s) * sizeof(struct ntbs_ivshmem_side) + \
	 offsetof(struct ntbs_ivshmem_side, member))
#define SPAD_AT(s, i) (AT(s, spad) + 4 * (i))

static unsigned own(const struct ntbs_ntb *ntb)
{
	return ntb->side == NTBS_NTB_SIDE_B;
}

static unsigned other(const struct ntbs_ntb *ntb)
{
	return !own(ntb);
}

/* --------------------------------------------------------------------------- probe */

/* Which sides nobody beats for. */
static void watch(struct ntbs_ntb *ntb, uint32_t owner[2], bool alive[2])
{
	uint32_t beat[2];

	for (unsigned s = 0; s < 2; s++) {
		owner[s] = mem_read(ntb, AT(s, owner));
		beat[s] = mem_read(ntb, AT(s, beat));
		alive[s] = false;
	}
	for (unsigned t = 0; t < IVSHMEM_DEAD_POLLS && !(alive[0] && alive[1]); t++) {
		ntb->regs->ops->pause_ms(ntb->regs, IVSHMEM_POLL_MS);
		for (unsigned s = 0; s < 2; s++) {
			if (mem_read(ntb, AT(s, owner)) != owner[s] || mem_read(ntb, AT(s, beat)) != beat[s])
				alive[s] = true;
		}
		/* A side that nobody ever had needs no watching, nor does a dead one when the other lives. */
		if (!owner[0] || (!owner[1] && alive[0]))
			break;
	}
}

static int claim(struct ntbs_ntb *ntb)
{
	uint32_t owner[2];
	bool alive[2];

	/* Every round that ends without a side has seen somebody else get one. */
	for (unsigned round = 0; round < 4; round++) {
		unsigned s;

		watch(ntb, owner, alive);
		if (alive[0] && alive[1])
			break;
		s = alive[0];
		mem_write(ntb, AT(s, link), 0);
		mem_write(ntb, AT(s, owner), ntb->ivshmem.id + 1);
		/* Others who saw it free at the same time have written by the end of this, and have seen us beat. */
		for (unsigned t = 0; t < IVSHMEM_DEAD_POLLS / 4; t++) {
			mem_write(ntb, AT(s, beat), mem_read(ntb, AT(s, beat)) + 1);
			ntb->regs->ops->pause_ms(ntb->regs, IVSHMEM_POLL_MS);
		}
		if (mem_read(ntb, AT(s, owner)) != ntb->ivshmem.id + 1)
			continue;
		ntb->side = s ? NTBS_NTB_SIDE_B : NTBS_NTB_SIDE_A;
		ntb->topology = s ? "side 1" : "side 0";
		ntb->ivshmem.beat = mem_read(ntb, AT(s, beat));
		return 0;
	}
	return ntbs_ntb_fail(ntb, EBUSY, "both sides of this shared memory are in use, by peers %u and %u",
			     mem_read(ntb, AT(0, owner)) - 1, mem_read(ntb, AT(1, owner)) - 1);
}

static int probe(struct ntbs_ntb *ntb)
{
	struct ntbs_regs *regs = ntb->regs;
	uint64_t bytes = regs->bar[IVSHMEM_MEMORY_BAR].bytes;
	uint32_t magic;
	int ret;

	ntb->family = "ivshmem";
	if (regs->bar[0].bytes < IVSHMEM_BAR0_MIN)
		return ntbs_ntb_fail(ntb, ENOTSUP, "BAR0 has no room for the registers");
	if (bytes < IVSHMEM_MEMORY_MIN)
		return ntbs_ntb_fail(ntb, ENOTSUP, "the shared memory (BAR2) has %#llx bytes; %#x at least",
				     (unsigned long long)bytes, IVSHMEM_MEMORY_MIN);
	ntb->ivshmem.id = ntbs_read32(regs, IVSHMEM_IVPOSITION);
	if (ntb->ivshmem.id == UINT32_MAX)
		return ntbs_ntb_fail(ntb, ENODEV, "no number from the ivshmem server: is it running?");
	if (ntb->ivshmem.id > IVSHMEM_ID_MAX)
		return ntbs_ntb_fail(ntb, ENOTSUP, "number %u at the ivshmem server: doorbells reach up to %u",
				     ntb->ivshmem.id, IVSHMEM_ID_MAX);
	magic = mem_read(ntb, offsetof(struct ntbs_ivshmem_shm, magic));
	if (!magic) {
		mem_write(ntb, offsetof(struct ntbs_ivshmem_shm, version), IVSHMEM_VERSION);
		mem_write(ntb, offsetof(struct ntbs_ivshmem_shm, magic), IVSHMEM_MAGIC);
		magic = mem_read(ntb, offsetof(struct ntbs_ivshmem_shm, magic));
	}
	if (magic != IVSHMEM_MAGIC || mem_read(ntb, offsetof(struct ntbs_ivshmem_shm, version)) != IVSHMEM_VERSION)
		return ntbs_ntb_fail(ntb, ENOTSUP,
				     "the shared memory is in use by something else or another version (first word %#x)",
				     magic);
	ntb->nr_vectors = regs->nr_vectors < 32 ? regs->nr_vectors : 32;
	ntb->bells = ntb->masked = (1ull << ntb->nr_vectors) - 1;
	ntb->nr_spads = IVSHMEM_NR_SPADS;
	ntb->poll_ms = IVSHMEM_POLL_MS;
	ret = claim(ntb);
	if (ret)
		return ret;
	/* What the peer stores into is our half; what we store into is the peer's. */
	ntb->nr_windows = 1;
	ntb->window[0] = (struct ntbs_ntb_window){
		.bar = IVSHMEM_MEMORY_BAR, .bytes = bytes / 2 - IVSHMEM_PAGE, .addr_align = 1, .size_align = 1,
		.offset = other(ntb) * (bytes / 2) + IVSHMEM_PAGE,
		.in_bar = true, .in_offset = own(ntb) * (bytes / 2) + IVSHMEM_PAGE,
	};
	return 0;
}

/* ---------------------------------------------------------------------------- link */

/* Is our claim still ours?  Once lost it stays lost. */
static bool have_side(struct ntbs_ntb *ntb)
{
	if (!ntb->ivshmem.lost_side && mem_read(ntb, AT(own(ntb), owner)) != ntb->ivshmem.id + 1)
		ntb->ivshmem.lost_side = true;
	return !ntb->ivshmem.lost_side;
}

static int set_link(struct ntbs_ntb *ntb, bool on)
{
	if (!have_side(ntb))
		return ntbs_ntb_fail(ntb, ENODEV, "another guest has claimed this side, having seen no sign of life from us");
	ntb->ivshmem.enabled = on;
	mem_write(ntb, AT(own(ntb), link), on);
	return 0;
}

static int link_enable(struct ntbs_ntb *ntb)
{
	return set_link(ntb, true);
}

static int link_disable(struct ntbs_ntb *ntb)
{
	return set_link(ntb, false);
}

/* The peer's number, or -1. */
static int peer_id(struct ntbs_ntb *ntb)
{
	uint32_t owner = mem_read(ntb, AT(other(ntb), owner));

	return owner && owner - 1 <= IVSHMEM_ID_MAX && owner != ntb->ivshmem.id + 1 ? (int)(owner - 1) : -1;
}

static bool is_up(struct ntbs_ntb *ntb)
{
	return ntb->ivshmem.enabled && have_side(ntb) && ntb->ivshmem.peer_alive && peer_id(ntb) >= 0 &&
	       mem_read(ntb, AT(other(ntb), link)) == 1;
}

static int link_state(struct ntbs_ntb *ntb, struct ntbs_ntb_link *link)
{
	if (!have_side(ntb))
		return ntbs_ntb_fail(ntb, ENODEV, "another guest has claimed this side, having seen no sign of life from us");
	link->up = is_up(ntb);
	return 0;
}

static uint64_t poll_all(struct ntbs_ntb *ntb)
{
	uint32_t beat;
	bool up;

	if (!have_side(ntb))
		return NTBS_NTB_EVENT_LINK;
	mem_write(ntb, AT(own(ntb), beat), ++ntb->ivshmem.beat);
	beat = mem_read(ntb, AT(other(ntb), beat));
	if (beat != ntb->ivshmem.peer_beat) {
		ntb->ivshmem.peer_alive = ntb->ivshmem.peer_beat || ntb->ivshmem.quiet;	/* not at the first look */
		ntb->ivshmem.quiet = 0;
	} else if (++ntb->ivshmem.quiet >= (ntb->dead_ms ? ntb->dead_ms / IVSHMEM_POLL_MS : IVSHMEM_DEAD_POLLS)) {
		ntb->ivshmem.peer_alive = false;
	}
	ntb->ivshmem.peer_beat = beat;
	up = is_up(ntb);
	if (up == ntb->ivshmem.told_up)
		return 0;
	ntb->ivshmem.told_up = up;
	return NTBS_NTB_EVENT_LINK;
}

/* ----------------------------------------------------------------------- doorbells */

static uint64_t irq(struct ntbs_ntb *ntb, unsigned vector)
{
	return 1ull << vector & ~ntb->masked;
}

static uint64_t vector_bells(struct ntbs_ntb *ntb, unsigned vector)
{
	return 1ull << vector;
}

static uint64_t db_read(struct ntbs_ntb *ntb)
{
	return 0;
}

static void db_nothing(struct ntbs_ntb *ntb, uint64_t bits)
{
}

static void db_ring(struct ntbs_ntb *ntb, uint64_t bits)
{
	int id = peer_id(ntb);

	for (; id >= 0 && bits; bits &= bits - 1)
		ntbs_write32(ntb->regs, IVSHMEM_DOORBELL, (uint32_t)id << 16 | __builtin_ctzll(bits));
}

static int db_register(struct ntbs_ntb *ntb, uint64_t bit, struct ntbs_ntb_bell *bell)
{
	int id = peer_id(ntb);

	if (id < 0)
		return ntbs_ntb_fail(ntb, ENOTCONN, "nobody is at the other side");
	*bell = (struct ntbs_ntb_bell){ .offset = IVSHMEM_DOORBELL, .bytes = 4,
					.value = (uint32_t)id << 16 | __builtin_ctzll(bit) };
	return 0;
}

/* --------------------------------------------------------------------- scratchpads */

static uint32_t spad_read(struct ntbs_ntb *ntb, unsigned i)
{
	return mem_read(ntb, SPAD_AT(own(ntb), i));
}

static void spad_write(struct ntbs_ntb *ntb, unsigned i, uint32_t value)
{
	mem_write(ntb, SPAD_AT(own(ntb), i), value);
}

static uint32_t peer_spad_read(struct ntbs_ntb *ntb, unsigned i)
{
	return mem_read(ntb, SPAD_AT(other(ntb), i));
}

static void peer_spad_write(struct ntbs_ntb *ntb, unsigned i, uint32_t value)
{
	mem_write(ntb, SPAD_AT(other(ntb), i), value);
}

/* The claim stays, and stands still: the next guest takes it. */
static void shutdown_port(struct ntbs_ntb *ntb)
{
	link_disable(ntb);
}

const struct ntbs_ntb_ops ntbs_ivshmem_ops = {
	.name = "ivshmem", .match = match, .probe = probe,
	.link_enable = link_enable, .link_disable = link_disable, .link_state = link_state,
	.irq = irq, .poll = poll_all,
	.db_read = db_read, .db_ack = db_nothing, .db_mask = db_nothing, .db_ring = db_ring,
	.db_register = db_register, .vector_bells = vector_bells,
	.spad_read = spad_read, .spad_write = spad_write,
	.peer_spad_read = peer_spad_read, .peer_spad_write = peer_spad_write,
	.shutdown = shutdown_port,
};
