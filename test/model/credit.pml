/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * credit.pml - a slot is written again only when it has been read, and a sender without credit is woken
 *
 * One sender, one receiver, a ring of N slots, stamps and acknowledgements that wrap at 2N.  The receiver reads a
 * slot in two steps (stamp, then data), counts it as consumed, and states the count once half a ring has been
 * consumed since it last did.  Whoever has to wait (sender: no credit; receiver: no message) arms, fences, looks
 * again and sleeps; whoever makes that possible fences, reads the armed word and rings.
 *
 * Mistakes, each to be caught:
 *   ACK_EARLY      acknowledged before the data have been read: a slot is overwritten under the reader
 *   ACK_TOO_LATE   acknowledged once more than a ring has been consumed: the sender never gets there
 *   NO_POKE        credit is returned, but the sender that waits for it is not rung for
 *   NO_LOOK        the sender does not look for credit again after arming
 *   NO_FENCE_ACK   the armed word may be read before the credit is visible
 *   STALE_STAMP    the ring starts with the stamps that its slots see first
 */
#define N 4
#define WRAP (2 * N)
#ifndef MSGS
#define MSGS 11
#endif
#define NPROC 2
#define SB 3

#define STAMP(i) (i)		/* N words */
#define DATA(i) (N + (i))	/* N words */
#define HEAD (2 * N)		/* written by the receiver */
#define RX_ARMED (2 * N + 1)	/* written by the receiver, read by the sender */
#define TX_ARMED (2 * N + 2)	/* and the other way round */
#define NWORDS (2 * N + 3)
#include "tso.pml"

#define TX 0
#define RX 1
#define credit(head) ((n + WRAP - (head)) % WRAP < N)

#ifdef ACK_TOO_LATE
#define ACK_AT (N + 1)
#else
#define ACK_AT (N / 2)
#endif

bool bell[2];
byte taken;

inline poke(me, word, peer)
{
	load(me, word, armed);
	if
	:: armed != rung -> bell[peer] = true; rung = armed
	:: else
	fi;
	armed = 0
}

proctype sender()
{
	byte n, arms, armed, rung;

	do
	:: n == MSGS -> break
	:: n < MSGS ->
		do
		:: credit(mem[HEAD]) -> break
		:: else ->
			arms++;
			store(TX, TX_ARMED, arms);
			fence(TX);
			if
#ifndef NO_LOOK
			:: credit(mem[HEAD])
			:: else ->
#else
			::
#endif
				atomic { bell[TX] -> bell[TX] = false }
			fi
		od;
		store(TX, DATA(n % N), n);
		store(TX, STAMP(n % N), n % WRAP);
		fence(TX);
		poke(TX, RX_ARMED, RX);
		n++
	od
}

inline acknowledge(count)
{
	if
	:: count - acked >= ACK_AT ->
		acked = count;
		store(RX, HEAD, acked % WRAP);
#ifndef NO_FENCE_ACK
		fence(RX);
#endif
#ifndef NO_POKE
		poke(RX, TX_ARMED, TX)
#endif
	:: else
	fi
}

proctype receiver()
{
	byte acked, arms, armed, rung;

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
#ifdef ACK_EARLY
		acknowledge(taken + 1);
#endif
		assert(mem[DATA(taken % N)] == taken);
		taken++;
#ifndef ACK_EARLY
		acknowledge(taken)
#endif
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
		run sender();
		run receiver()
	}
}

active proctype monitor()
{
	timeout -> assert(taken == MSGS)
}
