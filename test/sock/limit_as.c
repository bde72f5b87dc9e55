/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * limit_as.c - a program with a limit of its address space has all of that for its own mappings
 *
 * ring: no
 */
#include <sys/mman.h>
#include <sys/resource.h>
#include "sock.h"

#define GB (1ul << 30)

static void exchange(int sv[2], uint64_t from)
{
	for (uint64_t i = from; i < from + 300; i++) {
		t_must(s_send_stream(sv[0], 1, i * 100, 100) && s_recv_stream(sv[1], 1, i * 100, 100), "there");
		t_must(s_send_stream(sv[1], 2, i * 100, 100) && s_recv_stream(sv[0], 2, i * 100, 100), "back");
	}
}

int main(void)
{
	const struct rlimit limit = { 3 * GB, 3 * GB };
	int sv[2];
	void *mem;

	if (getenv("T_SAN"))
		t_skip("sanitizers take more addresses than that");
	t_must(!setrlimit(RLIMIT_AS, &limit), "setrlimit");
	s_pair(AF_INET, sv);
	exchange(sv, 0);
	mem = mmap(NULL, 2 * GB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	t_ok(mem != MAP_FAILED, "2 GB of 3");
	exchange(sv, 300);
	close(sv[0]);
	t_eq(s_recv_all(sv[1], (char[1]){ 0 }, 1), 0, "end");
	return t_done();
}
