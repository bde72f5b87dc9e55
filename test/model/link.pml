/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * link.pml - two ends of a bridge find each other (driver-glue/vfio/link.c), and restart whenever they like
 *
 * Each end draws an epoch, says through the peer's scratchpads {mine, yours that I have read}, then stores {mine, yours} to
 * the peer's memory as "hello" and, once it has found the peer's, as "seen".  It is up when it has found both.  What it
 * sends is posted: it lands later, in order, also after its sender has died; registers keep what landed last.  Any write
 * may be lost.  A set of scratchpads is one message here: one that is half written does not pass its check word.
 *
 * What must hold, when an end comes up with {mine, yours}:
 *  - yours was not gone already when mine was drawn: no epoch from before is accepted;
 *  - who has yours had read mine, was setting up this very session, and has found my hello in its memory: both mean the
 *    same one, and the window has carried it both ways;
 *  - this end has not been up with {mine, yours} before.
 *
 *	LIVES=n		epochs that each end may draw (2)
 *
 * Mistakes that it must find, one at a time:
 *	SAME_EPOCH	a restarted end keeps its epoch
 *	HALF_WORD	a word of memory counts if it carries the peer's epoch, whatever it says of ours
 *	ANY_WORD	a word of memory counts if it is not 0
 *	NO_SEEN_YET	"seen" is not waited for: the peer's hello is enough
 */
#ifndef LIVES
#define LIVES 2
#endif
#define NR_EPOCHS (2 * LIVES + 1)	/* 0: none; end i draws i*LIVES+1 ... */

#define HELLO 0
#define MEMORY 1
#define UP 2

#define PADS 0
#define WORD_HELLO 1
#define WORD_SEEN 2

chan towards[2] = [2] of { byte, byte, byte };	/* kind; the writer's epoch; its peer's */

byte pad_epoch[2], pad_seen[2];			/* what has landed at end i */
byte hello_his[2], hello_mine[2], seen_his[2], seen_mine[2];
byte epoch[2], peer[2], state[2], lives[2];
bool said[2];					/* hello found, seen stored */
byte gone;					/* bit e: epoch e is over */
byte gone_then[2];				/* when the epoch was drawn */
byte with[NR_EPOCHS];				/* bit e: was in MEMORY with e */
byte found[NR_EPOCHS];				/* bit e: has found a hello that e has sent */
byte was_up[NR_EPOCHS];				/* bit e: was up with e */

#define bit(e) (1 << ((e) - 1))

/* Posted, or lost. */
inline post(me, kind)
{
	if
	:: nfull(towards[1 - me]) -> towards[1 - me]!kind, epoch[me], peer[me]
	:: true
	fi
}

inline draw(me)
{
	d_step {
		if
		:: epoch[me] -> gone = gone | bit(epoch[me])
		:: else
		fi;
#ifdef SAME_EPOCH
		if
		:: epoch[me] -> gone = gone & ~bit(epoch[me])
		:: else -> epoch[me] = me * LIVES + 1
		fi;
#else
		epoch[me] = me * LIVES + 1 + lives[me];
#endif
		lives[me]++;
		gone_then[me] = gone;
		peer[me] = 0;
		state[me] = HELLO;
		said[me] = false;
		hello_his[me] = 0; hello_mine[me] = 0;
		seen_his[me] = 0; seen_mine[me] = 0;
	}
}

#if defined(ANY_WORD)
#define counts(me, his, mine) (his != 0)
#elif defined(HALF_WORD)
#define counts(me, his, mine) (his == peer[me])
#else
#define counts(me, his, mine) (his == peer[me] && mine == epoch[me])
#endif
#define hello_found(me) counts(me, hello_his[me], hello_mine[me])
#ifdef NO_SEEN_YET
#define seen_found(me) true
#else
#define seen_found(me) counts(me, seen_his[me], seen_mine[me])
#endif

proctype end(byte me)
{
	draw(me);
	do
	/* say it, and say it again */
	:: atomic { state[me] != UP -> post(me, PADS) }
	:: atomic { state[me] == MEMORY -> post(me, WORD_HELLO) }
	:: atomic { state[me] == MEMORY && said[me] -> post(me, WORD_SEEN) }
	/* look at the scratchpads */
	:: atomic { state[me] != UP && pad_epoch[me] && pad_epoch[me] != peer[me] ->
		peer[me] = pad_epoch[me]; state[me] = HELLO; said[me] = false }
	:: atomic { state[me] == HELLO && peer[me] && pad_epoch[me] == peer[me] && pad_seen[me] == epoch[me] ->
		state[me] = MEMORY; with[epoch[me]] = with[epoch[me]] | bit(peer[me]) }
	/* look at memory */
	:: atomic { state[me] == MEMORY && !said[me] && hello_found(me) -> said[me] = true;
		found[epoch[me]] = found[epoch[me]] | bit(hello_his[me]) }
	:: atomic { state[me] == MEMORY && said[me] && seen_found(me) ->
		assert(!(gone_then[me] & bit(peer[me])));
		assert(with[peer[me]] & bit(epoch[me]));
		assert(found[peer[me]] & bit(epoch[me]));
		assert(!(was_up[epoch[me]] & bit(peer[me])));
		was_up[epoch[me]] = was_up[epoch[me]] | bit(peer[me]);
		state[me] = UP }
	/* killed and started again, or up and given up: what it has sent is on its way */
	:: atomic { lives[me] < LIVES -> draw(me) }
	/* up, and the other is another one */
	:: atomic { state[me] == UP && pad_epoch[me] != peer[me] && lives[me] < LIVES -> draw(me) }
	od
}

proctype lands(byte at)
{
	byte kind, his, mine;

	do
	:: atomic { towards[at]?kind, his, mine;
		if
		:: kind == PADS -> pad_epoch[at] = his; pad_seen[at] = mine
		:: kind == WORD_HELLO -> hello_his[at] = his; hello_mine[at] = mine
		:: kind == WORD_SEEN -> seen_his[at] = his; seen_mine[at] = mine
		fi;
		kind = 0; his = 0; mine = 0 }
	od
}

init
{
	atomic {
		run end(0);
		run end(1);
		run lands(0);
		run lands(1)
	}
}
