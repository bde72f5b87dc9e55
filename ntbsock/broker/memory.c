// SPDX-License-Identifier: BSD-2-Clause
/* memory.c - see memory.h */
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static struct ntbs_board boards[NTBS_BOARDS_MAX];
static unsigned nr_boards;

struct ntbs_rules ntbs_rules = { .ro_fd = -1 };

int ntbs_reopen_readonly(int fd)
{
	char path[32];
	int ro_fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro_fd = open(path, O_RDONLY | O_CLOEXEC);
	return ro_fd < 0 ? -errno : ro_fd;
}

/* Return: the mapping, or NULL with errno set. */
static void *make_sealed(const char *name, size_t bytes, int *rw_fd, int *ro_fd)
{
	void *mem;

	*ro_fd = -1;
	*rw_fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (*rw_fd < 0)
		return NULL;
	if (ftruncate(*rw_fd, (off_t)bytes) || fchmod(*rw_fd, 0400) ||
	    fcntl(*rw_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		goto err_close;
	*ro_fd = ntbs_reopen_readonly(*rw_fd);
	if (*ro_fd < 0) {
		errno = -*ro_fd;
		goto err_close;
	}
	mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *rw_fd, 0);
	if (mem != MAP_FAILED)
		return mem;
	close(*ro_fd);
err_close:
	close(*rw_fd);
	return NULL;
}

struct ntbs_board *ntbs_board_find(uint32_t uid)
{
	for (unsigned i = 0; i < nr_boards; i++) {
		if (boards[i].uid == uid)
			return &boards[i];
	}
	return NULL;
}

struct ntbs_board *ntbs_board_nth(unsigned i)
{
	return i < nr_boards ? &boards[i] : NULL;
}

struct ntbs_board *ntbs_board_get(uint32_t uid)
{
	struct ntbs_board *board = ntbs_board_find(uid);

	if (board)
		return board;
	if (nr_boards == NTBS_BOARDS_MAX) {
		errno = EUSERS;
		return NULL;
	}
	board = &boards[nr_boards];
	board->uid = uid;
	board->shm = make_sealed("ntbsock-board", sizeof(*board->shm), &board->rw_fd, &board->ro_fd);
	if (!board->shm)
		return NULL;
	ntbs_le32_write(&board->shm->abi, NTBS_BROKER_ABI);
	ntbs_le32_write(&board->shm->uid, uid);
	ntbs_le32_write_release(&board->shm->magic, NTBS_BOARD_MAGIC);
	nr_boards++;
	return board;
}

/*
 * An entry in WRITING is left alone: until its writer has stored @proc, that still names the previous user of the
 * entry, so it may be the process that ended or a live one.  What is lost is one of 4096 entries, when a process is
 * killed within the few instructions of WRITING.
 */
void ntbs_board_free_proc(struct ntbs_board *board, uint32_t proc)
{
	for (unsigned i = 0; i < NTBS_BOARD_OFFERS; i++) {
		struct ntbs_offer_shm *offer = &board->shm->offer[i];

		/* An acceptor may move it under us, but an offer has only so many states: this ends. */
		for (unsigned tries = 0; tries < 8; tries++) {
			uint64_t word = ntbs_le64_read_acquire(&offer->word);
			unsigned state = NTBS_OFFER_STATE(word);

			if (state == NTBS_OFFER_FREE || state == NTBS_OFFER_WRITING ||
			    __atomic_load_n(&offer->proc, __ATOMIC_RELAXED) != proc)
				break;
			if (ntbs_offer_move(offer, word,
					    ntbs_offer_word(NTBS_OFFER_FREE, NTBS_OFFER_TAG(word), 0, 0)))
				break;
		}
	}
}

int ntbs_rules_open(void)
{
	int rw_fd;

	ntbs_rules.shm = make_sealed("ntbsock-rules", sizeof(*ntbs_rules.shm), &rw_fd, &ntbs_rules.ro_fd);
	if (!ntbs_rules.shm)
		return -errno;
	close(rw_fd); /* the mapping stays; nobody gets it for writing */
	ntbs_le32_write(&ntbs_rules.shm->abi, NTBS_BROKER_ABI);
	ntbs_le32_write_release(&ntbs_rules.shm->magic, NTBS_RULES_MAGIC);
	return 0;
}

void ntbs_rules_publish(const struct ntbs_rules_shm *fresh)
{
	struct ntbs_rules_shm *shm = ntbs_rules.shm;
	uint32_t version = ntbs_le32_read(&shm->version);

	ntbs_le32_write(&shm->version, version + 1);
	__atomic_thread_fence(
		__ATOMIC_RELEASE); /* odd before the first change; pairs with the reader's last look */
	shm->nr_nodes = fresh->nr_nodes;
	shm->nr_ports = fresh->nr_ports;
	shm->local_only_same_netns = fresh->local_only_same_netns;
	memcpy(shm->node, fresh->node, sizeof(shm->node));
	memcpy(shm->port, fresh->port, sizeof(shm->port));
	ntbs_le32_write_release(&shm->version, version + 2); /* pairs with the reader's first look */
}

void ntbs_memory_close(void)
{
	while (nr_boards) {
		struct ntbs_board *board = &boards[--nr_boards];

		munmap(board->shm, sizeof(*board->shm));
		close(board->rw_fd);
		close(board->ro_fd);
	}
	if (ntbs_rules.shm) {
		munmap(ntbs_rules.shm, sizeof(*ntbs_rules.shm));
		close(ntbs_rules.ro_fd);
	}
	ntbs_rules.shm = NULL;
	ntbs_rules.ro_fd = -1;
}
