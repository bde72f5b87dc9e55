/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sleepwake.pml - nobody sleeps while something is published for him
 *
 * Several waiters (processes that hold the receiving end) and several senders (processes that hold the sending end)
 * share one direction.
 *
 *   waiter:  look; nothing there: arm (mask |= own mbox, count + 1, under a lock); fence; look again; sleep
 *   sender:  publish (under a lock); fence; read armed; if it differs from rung: ring, and only then rung = armed
 *
 * Nobody disarms.  A sender may be killed between any two steps after publishing (KILL); what it has published is
 * then owed until the next sender publishes.
 *
 * Mistakes, each to be caught:
 *   NO_LOOK           the waiter does not look again after arming
 *   NO_FENCE_WAITER   its second look may be done before its armed word is visible
 *   NO_FENCE_SENDER   the sender's look at the armed word may be done before its message is visible
 *   DISARM            the sender clears the armed word after ringing: erases an arming that came in between
 *   NOTE_FIRST        (with KILL) rung is noted before ringing
 * Variant ONE_MBOX: both waiters share an mbox, as after fork.
 */
#ifndef MSGS
#define MSGS 1			/* of the first sender; a second sends one */
#endif
#ifndef SENDERS
#define SENDERS 2		/* 1 or 2 */
#endif
#ifndef WAITERS
#define WAITERS 2		/* 1 or 2 */
#endif
#define NPROC (SENDERS + WAITERS)
#define SB 2

#define PUB 0			/* messages published */
#define ARMED 1			/* bits 0-1 mask of mboxes, above it the count */
#define RUNG 2
#define NWORDS 3
#include "tso.pml"

#ifdef ONE_MBOX
#define MBOX(w) 0
#else
#define MBOX(w) (w)
#endif
#define COUNT_ONE 4

byte consumed;
bool bell[2];		/* one edge each: an eventfd that nobody reads, watched edge-triggered */
bool owed;			/* a killed sender has not rung for what it published, and nobody has published since */
byte living = SENDERS;

/* Killed here?  Only while somebody is left who sends. */
#ifdef KILL
#define kill_point() if :: atomic { living > 1 -> living--; owed = true }; goto dead :: true fi
#else
#define kill_point() skip
#endif

inline ring(word)
{
	atomic {
		if :: (word) & (1 << MBOX(0)) -> bell[0] = true :: else fi;
		if :: (word) & (1 << MBOX(1)) -> bell[1] = true :: else fi
	}
}

proctype sender(byte me; byte msgs)
{
	byte n, armed, rung;

	do
	:: n == msgs -> break
	:: n < msgs ->
		atomic { store_locked(me, PUB, mem[PUB] + 1); owed = false };
		kill_point();
#ifndef NO_FENCE_SENDER
		fence(me);
#endif
		load(me, ARMED, armed);
#ifdef DISARM
		if
		:: armed != 0 ->
			ring(armed);
			store(me, ARMED, 0)
		:: else
		fi;
#else
		load(me, RUNG, rung);
		if
		:: armed != rung ->
#ifdef NOTE_FIRST
			store(me, RUNG, armed);
			kill_point();
			ring(armed)
#else
			kill_point();
			ring(armed);
			kill_point();
			store(me, RUNG, armed)
#endif
		:: else
		fi;
#endif
		n++; armed = 0; rung = 0
	od;
dead:	skip
}

proctype waiter(byte me; byte w)
{
	do
	:: atomic { fence(me) && mem[PUB] != consumed -> consumed++ }	/* under the lock of the receiving side */
	:: mem[PUB] == consumed ->
		store_locked(me, ARMED, (mem[ARMED] | (1 << MBOX(w))) + COUNT_ONE);
#ifndef NO_FENCE_WAITER
		fence(me);
#endif
		if
#ifndef NO_LOOK
		:: mem[PUB] != consumed
		:: else ->
#else
		::
#endif
			atomic { bell[w] -> bell[w] = false }
		fi
	od
}

init {
	atomic {
		run sender(0, MSGS);
#if SENDERS > 1
		run sender(1, 1);
#endif
		run waiter(SENDERS, 0);
#if WAITERS > 1
		run waiter(SENDERS + 1, 1)
#endif
	}
}

/* Nothing moves any more: whoever is left sleeps, and then there must be nothing to take. */
active proctype monitor()
{
	timeout -> assert(mem[PUB] == consumed || owed)
}
