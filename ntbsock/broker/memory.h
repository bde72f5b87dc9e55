/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memory.h - the memory that the broker makes for its clients: boards and rules
 *
 * Each is a memfd sealed against every change of size, in mode 0400 and owned by the broker, so that who was given
 * a read-only descriptor cannot open it again for writing through /proc.  A board lives as long as the broker:
 * clients have it mapped by its uid.
 *
 * A user's board is written by its processes, at any time, with anything.  The broker reads each field once and
 * changes only @word, by compare-exchange.
 */
#ifndef NTBSOCK_BROKER_MEMORY_H
#define NTBSOCK_BROKER_MEMORY_H

#include <sys/types.h>
#include <ntbsock/abi_broker.h>

#define NTBS_BOARDS_MAX 256u

struct ntbs_board {
	uint32_t uid;
	struct ntbs_board_shm *shm;
	int rw_fd, ro_fd;
};

/* NULL: there is none. */
struct ntbs_board *ntbs_board_find(uint32_t uid);

/* Find or make it.  NULL with errno set. */
struct ntbs_board *ntbs_board_get(uint32_t uid);

/* The @i-th board, NULL behind the last. */
struct ntbs_board *ntbs_board_nth(unsigned i);

/* A process has ended: nobody will take its offers back but we. */
void ntbs_board_free_proc(struct ntbs_board *board, uint32_t proc);

/* Compare-exchange on the word of an offer.  Return: it was @from, and is @to now. */
static inline int ntbs_offer_move(struct ntbs_offer_shm *offer, uint64_t from, uint64_t to)
{
	return __atomic_compare_exchange_n(&offer->word.v, &from, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

/* The rules; @shm is NULL before ntbs_rules_open(). */
struct ntbs_rules {
	struct ntbs_rules_shm *shm;
	int ro_fd;
};
extern struct ntbs_rules ntbs_rules;

int ntbs_rules_open(void);

/* Replace all rules at once; readers see the old ones or the new ones (seqlock). */
void ntbs_rules_publish(const struct ntbs_rules_shm *fresh);

/* Unmap and close boards and rules. */
void ntbs_memory_close(void);

/* Open a memfd again for reading alone.  Return: descriptor or a negative errno. */
int ntbs_reopen_readonly(int fd);

#endif
