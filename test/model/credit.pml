/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * credit.pml - a slot is written again only when it has been read, and a sender without credit is woken
 *
 * One sender, one receiver, a ring of N slots, stamps and a head word that wrap at 2N.  The receiver reads a
 * slot in two steps (stamp, then data), counts it as consumed, and states the count in the head word once half a ring
 * has been consumed since it last did.  A second thread of the receiver's side answers: it takes the count, and stores it
 * on a slot of the other direction at any later time, where it stays, and which the sender may look at at any time.
 * That count does not wrap.  Whoever has to wait (sender: no credit; receiver: no message) arms, fences, looks
 * again and sleeps; whoever makes that possible fences, reads the armed word and rings.
 *
 * Mistakes, each to be caught:
 *   ACK_EARLY      acknowledged before the data have been read: a slot is overwritten under the reader
 *   ACK_TOO_LATE   acknowledged once more than a ring has been consumed: the sender never gets there
 *   NO_POKE        credit is returned, but the sender that waits for it is not rung for
 *   NO_LOOK        the sender does not look for credit again after arming
 *   NO_FENCE_ACK   the armed word may be read before the credit is visible
 *   SHORT_ACK      the count on an answer wraps like the head word: an old one is taken for a new one
 *   STALE_STAMP    the ring starts with the stamps that its slots see first
 *
 * SHRINK: at any time another thread of the receiver's side says that less is to lie unread from now on (SO_RCVBUF).  It
 * says so under the lock under which messages are taken, acknowledges what has been consumed, and from then on that is done
 * after as little as that allows.  The slots stand for bytes of the bulk ring here.
 *   STATE_ONLY     it does not acknowledge: what has been consumed may be all that the sender may have unread
 *   ACK_AS_BEFORE  the receiver goes on acknowledging after half a ring
 */
#ifndef N
#define N 4
#endif
#define WRAP (2 * N)
#ifndef MSGS
#define MSGS 11
#endif
#ifndef ANSWERS
#define ANSWERS 0
#endif
#define NPROC 2
#define SB 3

#define STAMP(i) (i)		/* N words */
#define DATA(i) (N + (i))	/* N words */
#define HEAD (2 * N)		/* written by the receiver */
#define RX_ARMED (2 * N + 1)	/* written by the receiver, read by the sender */
#define TX_ARMED (2 * N + 2)	/* and the other way round */
#define ANSWER_ACK (2 * N + 3)	/* written by the receiver's other thread, read by the sender */
#define BOUND (2 * N + 4)	/* most that may lie unread: written by the receiver's other thread, read by the sender */
#define NWORDS (2 * N + 5)
#include "tso.pml"

#define TX 0
#define RX 1
#define LESS 1

#ifdef SHRINK
#define credit() (n - head < mem[BOUND])
#else
#define credit() (n - head < N)
#endif

#ifdef SHORT_ACK
#define ACK_WRAP WRAP
#else
#define ACK_WRAP 256
#endif

#ifdef ACK_TOO_LATE
#define ACK_AT (N + 1)
#else
#define ACK_AT (N / 2)
#endif

bool bell[2];
byte taken;
bool rx_lock;
byte acked, rx_rung, ack_at = ACK_AT;

inline poke(me, word, peer, rung)
{
	load(me, word, armed);
	if
	:: armed != rung -> bell[peer] = true; rung = armed
	:: else
	fi;
	armed = 0
}

/* What the sender knows to be consumed moves forward only, and never beyond what it has sent. */
inline merge(count, wrap)
{
	step = (count + wrap - head % wrap) % wrap;
	if
	:: step <= n - head -> head = head + step
	:: else
	fi;
	step = 0
}

inline refresh()
{
	load(TX, HEAD, word);
	d_step {
		merge(mem[ANSWER_ACK], ACK_WRAP);
		merge(word, WRAP);
		word = 0
	}
}

proctype sender()
{
	byte n, head, word, arms, armed, rung;
	short step;

	do
	:: n == MSGS -> break
	:: n < MSGS ->
		do
		:: credit() -> break
		:: else ->
			refresh();
			if
			:: credit() -> break
			:: else
			fi;
			arms++;
			store(TX, TX_ARMED, arms);
			fence(TX);
#ifndef NO_LOOK
			refresh();
#endif
			if
#ifndef NO_LOOK
			:: credit()
			:: else ->
#else
			::
#endif
				atomic { bell[TX] -> bell[TX] = false }
			fi
		od;
		assert(n < taken + N);	/* nothing unread is overwritten */
		store(TX, DATA(n % N), n);
		store(TX, STAMP(n % N), n % WRAP);
		fence(TX);
		poke(TX, RX_ARMED, RX, rung);
		n++
	od
}

inline acknowledge(count)
{
	if
	:: count - acked >= ack_at ->
		acked = count;
		store(RX, HEAD, acked % WRAP);
#ifndef NO_FENCE_ACK
		fence(RX);
#endif
#ifndef NO_POKE
		poke(RX, TX_ARMED, TX, rx_rung)
#endif
	:: else
	fi
}

proctype receiver()
{
	byte arms, armed;

	do
	:: taken == MSGS -> break
	:: taken < MSGS ->
		do
		:: mem[STAMP(taken % N)] == taken % WRAP -> break
		:: else ->
			arms++;
			store(RX, RX_ARMED, arms);
			fence(RX);
			if
			:: mem[STAMP(taken % N)] == taken % WRAP
			:: else -> atomic { bell[RX] -> bell[RX] = false }
			fi
		od;
#ifdef SHRINK
		atomic { !rx_lock -> rx_lock = true }
#endif
#ifdef ACK_EARLY
		acknowledge(taken + 1);
#endif
		assert(mem[DATA(taken % N)] == taken);
		taken++;
#ifndef ACK_EARLY
		acknowledge(taken);
#endif
#ifdef SHRINK
		rx_lock = false		/* behind a fence, if something was stored */
#endif
	od
}

/* Its own stores take effect in their order; that any time may pass before one does is any time that it takes over it. */
proctype shrinker()
{
	byte armed;

	atomic { !rx_lock -> rx_lock = true }
#ifndef ACK_AS_BEFORE
	ack_at = LESS;
#endif
	mem[BOUND] = LESS;
#ifndef STATE_ONLY
	acked = taken;
	mem[HEAD] = acked % WRAP;
#endif
	rx_lock = false;
	armed = mem[TX_ARMED];
	if
	:: armed != rx_rung -> bell[TX] = true; rx_rung = armed
	:: else
	fi
}

proctype answerer()
{
	byte answers, count;

	do
	:: answers == ANSWERS -> break
	:: answers < ANSWERS ->
		count = taken;
		/* any time may pass here; nothing that matters happens in a store buffer that does not here */
		atomic { mem[ANSWER_ACK] = count; count = 0; answers++ }
	od
}

init {
	byte i;

	atomic {
		do
		:: i < N ->
#ifdef STALE_STAMP
			mem[STAMP(i)] = i;
#else
			mem[STAMP(i)] = i + N;	/* the lap before the first */
#endif
			mem[DATA(i)] = 255;
			i++
		:: else -> break
		od;
		mem[BOUND] = N;
		run sender();
		run receiver();
#ifdef SHRINK
		run shrinker();
#endif
		run answerer()
	}
}

active proctype monitor()
{
	timeout -> assert(taken == MSGS)
}
