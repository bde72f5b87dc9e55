/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * switch.pml - a direction moves from TCP to the ring and back without a byte lost, doubled or out of place
 *
 * A connector and an acceptor, each with a sender and a receiver, a TCP queue and a ring for each direction, and the
 * offer word with its compare-exchanges (abi_broker.h).  The connector may withdraw (fork, exec, close) at any time;
 * the acceptor may claim at once (channel attached), ask (not attached yet; the connector then claims and confirms),
 * or never come.  Each sender may move its direction once it is bound: its first slot says SWITCH with W, the bytes
 * put on TCP so far; and may hand back: it states Q, its position, before the first byte that goes over TCP again.
 *
 * The receiver that has not seen SWITCH: count what TCP holds, then look for SWITCH, then take no more than was
 * counted.  (All that was counted lies before W: a byte behind the handback is sent after SWITCH is published.)
 *
 * A TCP call is a system call that takes locks on both sides, so what a process has stored before it is visible to
 * whoever receives its bytes; memory is sequential here.
 *
 * Mistakes, each to be caught:
 *   SWITCH_BEFORE_CLAIM   the acceptor moves its direction when it has seen the offer, before its compare-exchange
 *   SWITCH_WHEN_ASKED     it moves when it has asked, before the confirmation
 *   BLIND_WITHDRAW        the connector stores WITHDRAWN without a compare-exchange
 *   BEYOND_W              the receiver that has seen SWITCH takes all that TCP holds
 *   WITHOUT_Q             the receiver goes on with TCP when the ring is empty, though Q is not stated
 *   LOOK_FIRST            the receiver that has not seen SWITCH looks for it, then takes all that TCP holds
 *   LOOK_LATE             the acceptor looks at its inbox only after its compare-exchange has bound the connector
 *   LOOK_WHEN_NOTICED     the connector looks at its inbox when it has taken note of the claim, not when it is claimed
 */
#ifndef K0
#define K0 2			/* bytes from the connector */
#endif
#ifndef K1
#define K1 2			/* bytes from the acceptor */
#endif
#define K(d) ((d) == 0 -> K0 : K1)
#define KMAX (K0 + K1)

mtype = { OFFERED, ASKED, CLAIMED, WITHDRAWN };
mtype = { SWITCH, DATA };
mtype = { ON_TCP, DRAIN, ON_RING, BACK };

mtype word = OFFERED;
bool confirm;			/* in the acceptor's inbox */
bool bound[2];			/* [side]: may move its own direction.  Side 0 connector, 1 acceptor */
bool noticed;			/* the connector has taken note of the claim */
bool prepared;			/* the acceptor looks at its inbox: before it claims or asks */
#ifdef LOOK_WHEN_NOTICED
#define looks(side) ((side) == 0 && noticed || (side) == 1 && prepared)
#else
#define looks(side) ((side) == 0 && word == CLAIMED || (side) == 1 && prepared)
#endif

chan tcp[2] = [KMAX] of { byte };		/* [d]: from side d */
chan ring[2] = [KMAX] of { mtype, byte };
byte q[2];			/* 0 not stated, else position + 1 */
byte got[2];

proctype sender(byte d)
{
	byte n;
	mtype st = ON_TCP;

	do
	:: n == K(d) -> break
	:: n < K(d) && st != ON_RING -> atomic { tcp[d]!n; n++ }
	:: st == ON_TCP && bound[d] -> atomic { ring[d]!SWITCH, n; st = ON_RING }
	:: n < K(d) && st == ON_RING -> atomic { ring[d]!DATA, n; n++ }
	:: n < K(d) && st == ON_RING -> atomic { q[d] = n + 1; st = BACK }
	od
}

inline take_tcp(d)
{
	atomic { tcp[d]?v -> assert(v == got[d]); got[d]++; v = 0 }
}

/* @d is the direction, so the receiver is of side 1 - d. */
proctype receiver(byte d)
{
	byte v, w, count;
	mtype st = ON_TCP;

	do
	:: got[d] == K(d) -> break
	:: got[d] < K(d) && st == ON_TCP ->
		(nempty(tcp[d]) || (looks(1 - d) && nempty(ring[d])));
#ifndef LOOK_FIRST
		count = len(tcp[d]);
#endif
		if
		:: atomic { looks(1 - d) && ring[d]?[SWITCH, v] -> ring[d]?SWITCH, w; st = DRAIN }
		:: else ->
#ifdef LOOK_FIRST
			count = len(tcp[d]);
#endif
			do
			:: count > 0 -> take_tcp(d); count--
			:: count == 0 -> break
			od
		fi;
		count = 0
#ifdef BEYOND_W
	:: st == DRAIN && (got[d] < w || nempty(tcp[d])) -> take_tcp(d)
	:: st == DRAIN && got[d] >= w && empty(tcp[d]) -> st = ON_RING
#else
	:: st == DRAIN && got[d] < w -> take_tcp(d)
	:: st == DRAIN && got[d] == w -> st = ON_RING
#endif
	:: st == ON_RING && nempty(ring[d]) ->
		atomic { ring[d]?DATA, v -> assert(v == got[d]); got[d]++; v = 0 }
#ifdef WITHOUT_Q
	:: st == ON_RING && empty(ring[d]) && got[d] < K(d) -> take_tcp(d)
#endif
	:: st == ON_RING && q[d] != 0 && got[d] == q[d] - 1 -> st = BACK
	:: st == BACK && got[d] < K(d) -> take_tcp(d)
	od
}

proctype acceptor()
{
	bool attached;

	if :: attached = true :: attached = false :: goto stays fi;
#ifndef LOOK_LATE
	prepared = true;
#endif
#ifdef SWITCH_BEFORE_CLAIM
	if :: word == OFFERED -> bound[1] = true :: else fi;
#endif
	if
	:: attached ->
		if
		:: atomic { word == OFFERED -> word = CLAIMED }; prepared = true; bound[1] = true
		:: else
		fi
	:: !attached ->
		if
		:: atomic { word == OFFERED -> word = ASKED };
#ifdef SWITCH_WHEN_ASKED
			bound[1] = true;
#endif
			confirm; prepared = true; bound[1] = true
		:: else
		fi
	fi;
stays:	skip
}

proctype connector()
{
	mtype w;

	do
	:: word == CLAIMED -> noticed = true; bound[0] = true; break
	:: word == ASKED ->
		/* attached meanwhile */
		if
		:: atomic { word == ASKED -> word = CLAIMED };
			confirm = true; noticed = true; bound[0] = true;
			break
		:: else
		fi
	:: atomic { word == OFFERED || word == ASKED -> w = word };
		/* fork, exec, close: withdraw */
#ifdef BLIND_WITHDRAW
		word = WITHDRAWN; break
#else
		if
		:: atomic { word == w -> word = WITHDRAWN }; break
		:: else			/* somebody was faster: look at what it is now */
		fi
#endif
	od
}

init {
	atomic {
		run sender(0); run sender(1);
		run receiver(0); run receiver(1);
		run connector(); run acceptor()
	}
}

active proctype monitor()
{
	timeout -> assert(got[0] == K0 && got[1] == K1)
}
