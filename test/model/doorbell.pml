/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * doorbell.pml - nobody sleeps while something for him has arrived over a bridge
 *
 * As sleepwake.pml, between two hosts that share no memory: each store to the other host is a posted write that lands
 * later.  Each waiter of host A has a connection of its own, with a sender of host B; all senders ring one doorbell.
 *
 *   waiter:  look; nothing there: store armed (+ 1) to B; read it back across the link; look again; sleep
 *   sender:  store the message to A; flush and fence; read armed; if it differs from rung: store 1 to the waiter's
 *            pending byte, flush, ring the doorbell; rung = armed
 *   broker:  (of A, interrupted) clear the doorbell's bit; for each pending byte that is set: clear it, then signal
 *
 * The link: posted writes of one direction land in the order in which they left the processor; the answer to a read
 * pushes those before it.  A doorbell whose bit is set already interrupts nobody.
 *
 * Mistakes, each to be caught:
 *   NO_LOOK           the waiter does not look again
 *   NO_READBACK       it looks again while its armed word is under way: a fence does not help, which orders the
 *                     processor's stores and not their arrival
 *   ANSWER_PASSES     the answer to that read passes posted writes (relaxed ordering)
 *   NO_FENCE_SENDER   the sender reads armed while the message is still in its processor
 *   CLEAR_LATE        the broker clears the doorbell's bit after its scan
 *   SIGNAL_FIRST      it signals, and then clears the pending byte
 *   BELL_PASSES       the doorbell comes before the pending byte that was stored before it
 *   BELL_LOST         the doorbell does not come
 * With BEAT the broker scans now and then without having been interrupted, which makes good the last two.
 */
#ifndef MSGS
#define MSGS 1			/* of each sender */
#endif
#ifndef PAIRS
#define PAIRS 2			/* 1 or 2 */
#endif

mtype = { MESSAGE, PENDING, BELL, ARMED, READ, ANSWER };

chan to_a = [8] of { mtype, byte };	/* posted writes, and answers to reads; which waiter */
chan to_b = [4] of { mtype, byte };

/* memory and registers of A */
byte landed[PAIRS], consumed[PAIRS];
bool pending[PAIRS], status, irq;
bool answer[PAIRS];
bool bell[PAIRS];			/* eventfds, watched edge-triggered */

/* memory of B */
byte armed[PAIRS];

proctype sender(byte i)
{
	byte n, seen, rung;
	bool in_cpu;

	do
	:: n == MSGS && !in_cpu -> break
	:: n < MSGS && !in_cpu ->
		in_cpu = true;
#ifdef NO_FENCE_SENDER
		if
		:: in_cpu = false; to_a!MESSAGE(i)
		:: skip
		fi;
#else
		atomic { to_a!MESSAGE(i); in_cpu = false }
#endif
		seen = armed[i];
		if
		:: seen != rung ->
			atomic { to_a!PENDING(i); to_a!BELL(0); rung = seen }
		:: else
		fi;
		if
		:: in_cpu -> to_a!MESSAGE(i); in_cpu = false
		:: else
		fi;
		atomic { n++; seen = 0 }
	od
}

proctype waiter(byte i)
{
	do
	:: atomic { landed[i] != consumed[i] -> consumed[i]++ }
	:: landed[i] == consumed[i] ->
#ifdef NO_READBACK
		to_b!ARMED(i);
#else
		atomic { to_b!ARMED(i); to_b!READ(i) }
		atomic { answer[i] -> answer[i] = false }
#endif
		if
#ifndef NO_LOOK
		:: landed[i] != consumed[i]
		:: else ->
#else
		::
#endif
			atomic { bell[i] -> bell[i] = false }
		fi
	od
}

inline scan()
{
	do
	:: atomic { k == PAIRS -> k = 0; break }
	:: atomic { k < PAIRS && !pending[k] -> k++ }
	:: atomic { k < PAIRS && pending[k] ->
#ifdef SIGNAL_FIRST
			bell[k] = true }
		atomic { pending[k] = false; k++ }
#else
			pending[k] = false }
		atomic { bell[k] = true; k++ }
#endif
	od
}

proctype broker()
{
	byte k;

	do
	:: atomic { irq -> irq = false }
#ifndef CLEAR_LATE
		status = false;
#endif
		scan();
#ifdef CLEAR_LATE
		status = false
#endif
#ifdef BEAT
	:: pending[0] || pending[PAIRS - 1] -> scan()
#endif
	od
}

inline land(what, i)
{
	if
	:: what == MESSAGE -> landed[i]++
	:: what == PENDING -> pending[i] = true
	:: what == ANSWER -> answer[i] = true
	:: what == BELL ->
#ifdef BELL_LOST
		if
		:: skip
		:: if :: !status -> status = true; irq = true :: else fi
		fi
#else
		if :: !status -> status = true; irq = true :: else fi
#endif
	fi
}

proctype link_to_a()
{
	mtype what;
	byte i;

	do
	:: atomic { to_a?what(i) -> land(what, i) }
#ifdef ANSWER_PASSES
	:: atomic { to_a??ANSWER(i) -> answer[i] = true }
#endif
#ifdef BELL_PASSES
	:: atomic { to_a??BELL(i) -> land(BELL, i) }
#endif
	od
}

proctype link_to_b()
{
	byte i;

	do
	:: atomic { to_b?ARMED(i) -> armed[i]++ }
	:: atomic { to_b?READ(i) -> to_a!ANSWER(i) }
	od
}

init {
	atomic {
		run sender(0);
		run waiter(0);
#if PAIRS > 1
		run sender(1);
		run waiter(1);
#endif
		run broker();
		run link_to_a();
		run link_to_b()
	}
}

/* Nothing moves any more: whoever is left sleeps, and then there must be nothing to take. */
active proctype monitor()
{
	timeout -> assert(consumed[0] == MSGS && consumed[PAIRS - 1] == MSGS)
}
