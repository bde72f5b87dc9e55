/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mlockall.c - a program that locks whatever it maps from now on does not lock what is shared with its peers, most of which is
 * never touched
 *
 * ring: yes
 */
#include <sys/mman.h>
#include "sock.h"

/* kB, of /proc/self/status */
static long status(const char *name)
{
	FILE *f = fopen("/proc/self/status", "re");
	long kb = -1;
	char line[200];

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, name, strlen(name)))
			kb = atol(line + strlen(name));
	t_must(f && kb >= 0, "%s", name);
	fclose(f);
	return kb;
}

int main(void)
{
	int sv[2];

	if (getenv("T_SAN"))
		t_skip("sanitizers do not let anything be locked");
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		t_skip("nothing may be locked");
	s_pair(AF_INET, sv);
	for (uint64_t i = 0; i < 3000; i++) {
		t_must(s_send_stream(sv[0], 1, i * 100, 100) && s_recv_stream(sv[1], 1, i * 100, 100), "there");
		t_must(s_send_stream(sv[1], 2, i * 100, 100) && s_recv_stream(sv[0], 2, i * 100, 100), "back");
	}
	t_ok(status("VmLck:") < 500000, "%ld kB are locked", status("VmLck:"));
	t_ok(status("RssShmem:") < 200000, "%ld kB are there", status("RssShmem:"));
	close(sv[0]);
	t_eq(s_recv_all(sv[1], (char[1]){ 0 }, 1), 0, "end");
	return t_done();
}
