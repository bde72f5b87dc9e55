// SPDX-License-Identifier: BSD-2-Clause
/* pool.c - see pool.h */
#include "pool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ask.h"

#define ENTRIES_MAX 65536u	/* of one pool; a process has no more connections than descriptors */
#define COPY_TRIES 4
#define STAGE_NEW 3u		/* a socket that is not connected (sock.h) */

static_assert(sizeof(struct ntbs_conn_shm) % 8 == 0, "copied in words of 8 bytes");
static_assert(offsetof(struct ntbs_conn_shm, used) == 0, "read alone below");

const char *ntbs_pool_reason(uint32_t reason)
{
	static const char *const names[] = {
#define NAME(c, json, text) json,
		NTBS_REASONS(NAME)
#undef NAME
	};

	return reason < NTBS_WHY_MAX ? names[reason] : "?";
}

const char *ntbs_pool_reason_text(uint32_t reason)
{
	static const char *const texts[] = {
#define TEXT(c, json, text) text,
		NTBS_REASONS(TEXT)
#undef TEXT
	};

	return reason < NTBS_WHY_MAX ? texts[reason] : "a reason that this version does not know";
}

const char *ntbs_pool_dir(uint32_t state)
{
	static const char *const names[] = { "tcp", "drain", "ring", "back" };

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}

const char *ntbs_pool_address(char text[INET6_ADDRSTRLEN], const uint8_t addr[16])
{
	static const uint8_t v4[12] = { [10] = 0xff, [11] = 0xff };

	if (!memcmp(addr, v4, sizeof(v4)))
		return inet_ntop(AF_INET, addr + 12, text, INET6_ADDRSTRLEN);
	return inet_ntop(AF_INET6, addr, text, INET6_ADDRSTRLEN);
}

const char *ntbs_pool_end(char text[NTBS_POOL_END], const uint8_t addr[16], uint16_t port)
{
	char a[INET6_ADDRSTRLEN];

	ntbs_pool_address(a, addr);
	snprintf(text, NTBS_POOL_END, strchr(a, ':') ? "[%s]:%u" : "%s:%u", a, port);
	return text;
}

/* The entry as it was at one moment as far as its use goes.  Return: 1 copied, 0 free, -EAGAIN it keeps changing. */
static int copy_entry(struct ntbs_conn_shm *copy, const char *entry)
{
	const struct ntbs_conn_shm *shm = (const struct ntbs_conn_shm *)entry;
	const uint64_t *from = (const uint64_t *)entry;
	uint64_t *to = (uint64_t *)copy;

	for (int i = 0; i < COPY_TRIES; i++) {
		uint32_t used = ntbs_le32_read_acquire(&shm->used);

		if (!used || used == NTBS_ENTRY_GOING)
			return 0;
		for (size_t w = 0; w < sizeof(*copy) / 8; w++)
			to[w] = __atomic_load_n(&from[w], __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_ACQUIRE); /* the copy before the second look at @used */
		if (ntbs_le32_read(&shm->used) == used && copy->used.v == used)
			return 1;
	}
	return -EAGAIN;
}

static int add(struct ntbs_pool_list *list, const struct ntbs_msg_pool *pool, const struct ntbs_conn_shm *c)
{
	struct ntbs_pool_conn *conn;

	if (list->nr == list->room) {
		size_t room = list->room ? 2 * list->room : 64;

		conn = realloc(list->conn, room * sizeof(*conn));
		if (!conn)
			return -ENOMEM;
		list->conn = conn;
		list->room = room;
	}
	conn = &list->conn[list->nr++];
	conn->pid = pool->pid;
	ntbs_ctl_printable(conn->program, sizeof(conn->program), pool->program, sizeof(pool->program));
	conn->c = *c;
	return 0;
}

/* Return: 1 new, 0 it has been read, -ENOMEM. */
static int first_sight(struct ntbs_pool_list *list, const struct stat *st)
{
	void *grown;

	for (unsigned i = 0; i < list->pools; i++) {
		if (list->seen[i].dev == st->st_dev && list->seen[i].ino == st->st_ino)
			return 0;
	}
	grown = realloc(list->seen, (list->pools + 1) * sizeof(*list->seen));
	if (!grown)
		return -ENOMEM;
	list->seen = grown;
	list->seen[list->pools].dev = st->st_dev;
	list->seen[list->pools++].ino = st->st_ino;
	return 1;
}

static int read_pool(const struct ntbs_msg_pool *pool, int fd, void *arg)
{
	struct ntbs_pool_list *list = arg;
	struct ntbs_pool_shm hdr;
	struct ntbs_conn_shm copy;
	uint64_t first, distance, nr;
	struct stat st;
	const char *map;
	int seals = fcntl(fd, F_GET_SEALS), err;

	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) || pread(fd, &hdr, sizeof(hdr), 0) != sizeof(hdr))
		goto bad;
	first = hdr.first_offset.v;
	distance = hdr.entry_bytes.v;
	nr = hdr.nr_entries.v;
	if (hdr.magic.v != NTBS_POOL_MAGIC || hdr.abi.v != NTBS_STATE_ABI || first < sizeof(hdr) || first % 8 ||
	    distance < sizeof(copy) || distance % 8 || nr > ENTRIES_MAX ||
	    first + nr * distance > (uint64_t)st.st_size)
		goto bad;
	err = first_sight(list, &st);
	if (err <= 0)
		return err;
	map = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	err = 0;
	for (uint64_t i = 0; i < nr && !err; i++) {
		ntbs_le32 used;

		/* a hole that is looked at through a mapping would be given a page; a read gives it none */
		if (pread(fd, &used, sizeof(used), first + i * distance) != sizeof(used) || !used.v)
			continue;
		err = copy_entry(&copy, map + first + i * distance);
		if (err == -EAGAIN) {
			list->torn++;
			err = 0;
		} else if (err > 0 && (copy.stage == STAGE_NEW || !copy.holders)) {	/* or left for another entry (again.c) */
			err = 0;
		} else if (err > 0) {
			err = add(list, pool, &copy);
		}
	}
	munmap((void *)map, st.st_size);
	return err;

bad:
	list->pools_bad++;
	ntbs_ctl_say("process %u shows no counters that can be read (another version of the library?); left out",
		     pool->pid);
	return 0;
}

static int by_process_then_age(const void *va, const void *vb)
{
	const struct ntbs_pool_conn *a = va, *b = vb;

	if (a->pid != b->pid)
		return a->pid < b->pid ? -1 : 1;
	if (a->c.since_s != b->c.since_s)
		return a->c.since_s < b->c.since_s ? -1 : 1;
	return a->c.used.v < b->c.used.v ? -1 : a->c.used.v > b->c.used.v;
}

int ntbs_pool_read_all(const char *broker_dir, struct ntbs_pool_list *list)
{
	struct ntbs_ask ask;
	int err;

	memset(list, 0, sizeof(*list));
	if (ntbs_ask_find(&ask, broker_dir, true))
		return NTBS_CTL_NO_BROKER;
	err = ntbs_ask_pools(&ask, read_pool, list);
	ntbs_ask_close(&ask);
	if (err) {
		ntbs_pool_free(list);
		return NTBS_CTL_FAILED;
	}
	if (list->nr)
		qsort(list->conn, list->nr, sizeof(*list->conn), by_process_then_age);
	return 0;
}

void ntbs_pool_free(struct ntbs_pool_list *list)
{
	free(list->conn);
	free(list->seen);
	memset(list, 0, sizeof(*list));
}
