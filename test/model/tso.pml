/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tso.pml - memory as x86 has it (x86-TSO; Intel SDM volume 3A, section 8.2.2)
 *
 * Each process has a store buffer, first in, first out; the memory process lets stores out of it whenever it likes,
 * so a store may take effect behind loads that follow it in the program.  A fence, and anything with a lock prefix,
 * waits until the own buffer is empty.
 *
 * A load does not look into the own buffer: no process of these models loads a word that it has a store under way to
 * (each takes a lock, which empties the buffer, before it loads a word that it writes).  That is asserted.
 *
 * The model that includes this file defines NPROC, SB (length of a buffer) and NWORDS first.
 */
byte mem[NWORDS];
bool locked[NWORDS];
chan sb[NPROC] = [SB] of { byte, byte };

#define store(me, word, value)	sb[me]!word, value
#define fence(me)		empty(sb[me])
#define load(me, word, var)	atomic { assert(!(sb[me]??[eval(word), _])); var = mem[word] }

/*
 * A word written under a lock: a locked instruction takes the lock (so the own buffer is empty), the word may be
 * loaded, then it is stored, and a plain store leaves the lock, which takes effect when the word has.
 */
#define store_locked(me, word, value) \
	atomic { empty(sb[me]) && !locked[word] -> locked[word] = true; sb[me]!word, value }

#define land(p)			d_step { sb[p]?a, v -> mem[a] = v; locked[a] = false; a = 0; v = 0 }

active proctype memory()
{
	byte a, v;

	do
	:: land(0)
	:: land(1)
#if NPROC > 2
	:: land(2)
#endif
#if NPROC > 3
	:: land(3)
#endif
	od
}
