/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * again.pml - a connection on the ring goes to TCP for an exec, and to another ring with the next image
 *
 * What switch.pml leaves out: the second move.  Side 0 has connected and stays; side 1 has accepted, execs at any moment,
 * and claims again as the next image.  Direction d comes from side d; generation g is the ring: 0 of the old image, 1 of the
 * next.  It begins where both sides are bound to generation 0.
 *
 * Side 1 states Q of its direction and asks for the other one, at what it has taken.  Side 0 answers with Q and sends again by
 * TCP what lies behind (its program or its service thread: here its sender).  Then the image goes, and the next one has
 * nothing but the socket.  Side 0 offers when its replay is through and its reader has come to Q, in one step for both of its
 * directions (all locks), and the next image claims.  W is the kernel's count: bytes of the direction that went by TCP.
 *
 * Mistakes, each to be caught:
 *   OFFER_UNREAD   side 0 offers while its reader has not come to Q
 *   OFFER_REPLAY   side 0 offers while it has bytes to send again
 *   W_OF_STREAM    W of the second move counts what went over the first ring, too
 *   SAME_RING      the second move uses the lease of the first, where Q stands and slots lie
 *   PLAIN_SLEEP    a reader of side 0 sleeps in the kernel on TCP alone, as it may when the connection is TCP's for good
 */
#ifndef K0
#define K0 3			/* bytes from side 0 */
#endif
#ifndef K1
#define K1 3
#endif
#define K(d) ((d) == 0 -> K0 : K1)
#define KMAX (K0 + K1)

mtype = { SWITCH, DATA };
mtype = { ON_TCP, DRAIN, ON_RING, BACK };

chan tcp[2] = [KMAX] of { byte };	/* [d] */
chan ring[4] = [KMAX] of { mtype, byte };	/* [d + 2 * lease] */
byte q[4];			/* in the inbox of the lease: 0 not stated, else position + 1 */
byte asked;			/* the same, by side 1 for direction 0 */
bool leaves, gone, offered, claimed;	/* side 1 has begun to leave; the next image runs; ... */

mtype tx[2] = ON_TCP, rx[2] = ON_TCP;	/* [d]: of the sender, of the receiver */
byte gen[2];			/* [side] */
byte n[2], again[2];		/* [d] next byte that the program sends; next one to be sent once more */
byte w[2];			/* [d] of the sender's switch */
byte sent[2], came[2];		/* [d] on TCP, as the kernel counts them */
byte got[2];			/* [d] what the program has been given */

#ifdef SAME_RING
#define lease(side) 0
#else
#define lease(side) gen[side]
#endif
#define box(d, side) ((d) + 2 * lease(side))
#define bound(side) (gen[side] == 0 || claimed)

#ifdef OFFER_REPLAY
#define replayed true
#else
#define replayed (again[0] == 0)
#endif
#ifdef OFFER_UNREAD
#define has_read true
#else
#define has_read (rx[1] == BACK)
#endif

inline send_tcp(d, v)
{
	tcp[d]!v; sent[d]++
}

proctype sender(byte d)
{
	do
	:: atomic { tx[d] == ON_TCP && bound(d) && !(d == 1 && leaves && !gone) ->
#ifdef W_OF_STREAM
		w[d] = n[d];
#else
		w[d] = sent[d];
#endif
		ring[box(d, d)]!SWITCH, w[d]; tx[d] = ON_RING }
	:: atomic { tx[d] == ON_RING && n[d] < K(d) -> ring[box(d, d)]!DATA, n[d]; n[d]++ }
	:: atomic { (tx[d] == ON_TCP || tx[d] == BACK) && again[d] == 0 && n[d] < K(d) -> send_tcp(d, n[d]); n[d]++ }
	:: atomic { again[d] != 0 -> send_tcp(d, again[d] - 1);
		again[d] = (again[d] == n[d] -> 0 : again[d] + 1) }
	/* side 0 answers */
	:: atomic { d == 0 && asked != 0 && gen[0] == 0 && tx[0] != BACK ->
		if
		:: tx[0] == ON_TCP -> q[box(0, 0)] = 1
		:: tx[0] == ON_RING && asked - 1 < w[0] -> q[box(0, 0)] = w[0] + 1; again[0] = (w[0] < n[0] -> w[0] + 1 : 0)
		:: else -> q[box(0, 0)] = asked; again[0] = (asked - 1 < n[0] -> asked : 0)
		fi;
		tx[0] = BACK }
	od
}

/* @d is the direction; calls are those of one image after the other. */
proctype receiver(byte d)
{
	byte v, bytes, count;

	do
	:: !(d == 0 && asked != 0 && !gone) && rx[d] == ON_TCP ->
		/* under the lock of the direction, which who leaves and who offers takes, too */
		atomic {
			if
			:: !(d == 0 && asked != 0 && !gone) && rx[d] == ON_TCP ->
				count = len(tcp[d]);
				if
				:: bound(1 - d) && ring[box(d, 1 - d)]?[SWITCH, bytes] ->
					ring[box(d, 1 - d)]?SWITCH, bytes;
					assert(came[d] <= bytes);
					rx[d] = DRAIN
				:: else ->
					if
					:: q[box(d, 1 - d)] != 0 && bound(1 - d) -> rx[d] = BACK
					:: else
					fi;
					do
					:: count > 0 -> tcp[d]?v; assert(v == got[d]); got[d]++; came[d]++; count--; v = 0
					:: count == 0 -> break
					od
				fi
			:: else
			fi;
			count = 0
		};
		(nempty(tcp[d]) || nempty(ring[box(d, 1 - d)]) || rx[d] != ON_TCP || q[box(d, 1 - d)] != 0)
	:: atomic { rx[d] == DRAIN && came[d] < bytes && !(d == 0 && asked != 0 && !gone) && nempty(tcp[d]) ->
		tcp[d]?v; assert(v == got[d]); got[d]++; came[d]++; v = 0 }
	:: atomic { rx[d] == DRAIN && came[d] == bytes -> rx[d] = ON_RING }
	:: atomic { rx[d] == ON_RING && !(d == 0 && asked != 0 && !gone) &&
		    (q[box(d, 1 - d)] == 0 || got[d] < q[box(d, 1 - d)] - 1) && ring[box(d, 1 - d)]?[DATA, v] ->
		ring[box(d, 1 - d)]?DATA, v; assert(v == got[d]); got[d]++; v = 0 }
	:: atomic { rx[d] == ON_RING && q[box(d, 1 - d)] != 0 && got[d] == q[box(d, 1 - d)] - 1 -> rx[d] = BACK }
	:: atomic { rx[d] == BACK && nempty(tcp[d]) -> tcp[d]?v; assert(v == got[d]); got[d]++; came[d]++; v = 0 }
#ifdef PLAIN_SLEEP
	:: d == 1 && rx[d] == BACK && empty(tcp[d]) -> nempty(tcp[d])
#endif
	od
}

/* exec: at any moment, once. */
proctype image()
{
	atomic {
		leaves = true;
		q[box(1, 1)] = (tx[1] == ON_RING -> n[1] + 1 : 1);
		tx[1] = BACK
	};
	atomic { asked = got[0] + 1 };
	/* Q is known: all that the next image has to read is on TCP */
	atomic { q[box(0, 1)] != 0 ->
		gone = true;
		gen[1] = 1;
		tx[1] = ON_TCP; rx[0] = ON_TCP
	};
	atomic { offered -> claimed = true }
}

proctype offerer()
{
	atomic {
		asked != 0 && tx[0] == BACK && replayed && has_read ->
		gen[0] = 1;
		tx[0] = ON_TCP; rx[1] = ON_TCP;
		offered = true
	}
}

init {
	atomic {
		run sender(0); run sender(1);
		run receiver(0); run receiver(1);
		run image(); run offerer()
	}
}

active proctype monitor()
{
	timeout -> assert(got[0] == K0 && got[1] == K1)
}
