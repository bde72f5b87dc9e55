// SPDX-License-Identifier: BSD-2-Clause
/*
 * holders.c - which processes hold a socket, so that what the killed ones held is given back
 *
 * The count (@holders) decides; names (@who) only allow to subtract those who can no longer do it themselves.  A process
 * puts its name down after it has been counted and strikes it out before it counts itself out, so that a name always
 * stands for one that is counted; whoever takes the name of a dead process away, by exchange, subtracts it.  Where there
 * is no room for a name, or a process is killed in between, the count stays too high: the entry is lost and nothing else.
 * An entry that is given back has no names: nobody who looks is misled by those of its last use.
 */
#include "holders.h"

#include "runtime.h"
#include "sys.h"
#include "wait.h"

#define TAKE_BACK_NS 1000000000ull

static _Atomic uint32_t my_pid;

static uint32_t me(void)
{
	if (__builtin_expect(!my_pid, 0))
		my_pid = ntbs_sys0(SYS_getpid);
	return my_pid;
}

static void sign(struct ntbs_sock_shm *shm)
{
	for (int i = 0; i < NTBS_SK_WHO; i++) {
		uint32_t none = 0;

		if (atomic_compare_exchange_strong(&shm->who[i], &none, me()))
			return;
	}
}

static void strike(struct ntbs_sock_shm *shm)
{
	for (int i = 0; i < NTBS_SK_WHO; i++) {
		uint32_t name = me();

		if (atomic_compare_exchange_strong(&shm->who[i], &name, 0))
			return;
	}
}

void ntbs_holders_sign(struct ntbs_sock *sk)
{
	sign(sk->shm);
}

void ntbs_holders_fork_child(void)
{
	my_pid = ntbs_sys0(SYS_getpid);
}

void ntbs_holders_count_in(struct ntbs_sock *sk)
{
	ntbs_write_once(sk->shm->conn.holders, atomic_fetch_add(&sk->shm->holders, 1) + 1);
	sign(sk->shm);
}

int32_t ntbs_holders_count_out(struct ntbs_sock *sk, bool but_one)
{
	int32_t n = atomic_load(&sk->shm->holders);

	strike(sk->shm);
	do {
		if (but_one && n <= 1) {
			sign(sk->shm);
			return -1;
		}
	} while (!atomic_compare_exchange_weak(&sk->shm->holders, &n, n - 1));
	ntbs_write_once(sk->shm->conn.holders, n - 1);
	return n - 1;
}

bool ntbs_holders_alone(const struct ntbs_sock *sk)
{
	int32_t n = atomic_load(&sk->shm->holders);

	for (int i = 0; i < NTBS_SK_WHO && n > 1 && n <= NTBS_SK_WHO; i++) {
		uint32_t pid = atomic_load(&sk->shm->who[i]);

		if (pid && pid != me() && !ntbs_lock_gone(pid))
			return false;
	}
	return n <= NTBS_SK_WHO;
}

void ntbs_holders_bury(struct ntbs_sock *sk)
{
	struct ntbs_sock_shm *shm = sk->shm;

	for (int i = 0; i < NTBS_SK_WHO && atomic_load(&shm->holders) > 1; i++) {
		uint32_t pid = atomic_load(&shm->who[i]);

		if (pid && pid != me() && ntbs_lock_gone(pid) && atomic_compare_exchange_strong(&shm->who[i], &pid, 0))
			ntbs_write_once(shm->conn.holders, atomic_fetch_sub(&shm->holders, 1) - 1);
	}
}

/* Those who have been killed hold it no more; with the last of them it goes, and its bytes and its end are the kernel's to tell. */
static void take_back(struct ntbs_sock *sk)
{
	struct ntbs_sock_shm *shm = sk->shm;
	const uint32_t used = ntbs_le32_read(&shm->conn.used);

	if (!used || used == NTBS_ENTRY_GOING)
		return;
	for (int i = 0; i < NTBS_SK_WHO; i++) {
		uint32_t pid = atomic_load(&shm->who[i]);
		int32_t left;

		if (!pid || pid == me() || !ntbs_lock_gone(pid) || !atomic_compare_exchange_strong(&shm->who[i], &pid, 0))
			continue;
		left = atomic_fetch_sub(&shm->holders, 1) - 1;
		ntbs_write_once(shm->conn.holders, left);
		if (left > 0 || atomic_load(&sk->file.refs) > 0)	/* a call of ours that sleeps lets it go when it wakes */
			continue;
		if (!ntbs_sock_goes(shm, used))
			return;
		if (shm->chan)
			ntbs_chan_take_back(shm);
		ntbs_le32_write_release(&shm->conn.used, 0);
		return;
	}
}

void ntbs_holders_take_back(void)
{
	static uint64_t next_ns;
	uint64_t now = ntbs_now_ns();
	struct ntbs_sock *sk;

	if (now < next_ns)
		return;
	next_ns = now + TAKE_BACK_NS;
	for (uint32_t i = 0; (sk = ntbs_sock_by_index(i)) != NULL; i++)
		take_back(sk);
}
