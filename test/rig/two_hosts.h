/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * two_hosts.h - for tests of ntbrig: the server as a child, and two hosts that speak to it as QEMU and Linux would
 *
 *	family = "icx";
 *	hosts_memory();			once
 *	bring_up(NULL);			a server; both hosts booted, drivers up, link up, BAR2 of each open into the other
 *	...
 *	take_down();
 *
 * Runs in T_DIR, where the sockets are made.
 */
#ifndef NTBSOCK_RIG_TWO_HOSTS_H
#define NTBSOCK_RIG_TWO_HOSTS_H

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "rig/client.h"
#include "t.h"

enum { WINDOW = 1 << 20, RAM = 4 << 20, BUFFER = 1 << 20, SPLIT = 3 << 19, CFG = 7 };

T_UNUSED static const char *const families[] = { "gen3", "icx", "spr", "amd" };
static const char *family;
static pid_t server;
static const char *server_says;	/* file for its standard error; NULL: ours */
static struct vc host[2];
static uint8_t *ram[2];
static int ram_fd[2];
/* RAM is mapped in two pieces, which meet in the middle of the buffer that the window leads to */
static const uint64_t at[2] = { 0x140000000, 0x280000000 };
static const uint64_t bars[2] = { 0xe0000000, 0xd0000000 };

T_UNUSED static void hosts_memory(void)
{
	const char *tmp = getenv("T_DIR");

	t_must(!tmp || !chdir(tmp), "chdir");
	for (int h = 0; h < 2; h++) {
		ram_fd[h] = memfd_create("ram", MFD_CLOEXEC);
		t_must(ram_fd[h] >= 0 && !ftruncate(ram_fd[h], RAM), "memory");
		ram[h] = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_SHARED, ram_fd[h], 0);
		t_must(ram[h] != MAP_FAILED, "memory");
	}
}

T_UNUSED static bool is(const char *name)
{
	return !strcmp(family, name);
}

T_UNUSED static void spawn(char *const *extra)
{
	char path[512], *argv[24] = { path, "--family", (char *)family, "--train-ms", "20", "--control", "ctl", "--strict" };
	const char *build = getenv("T_BUILD");
	int n = 8, out[2];
	char line[64];

	snprintf(path, sizeof(path), "%s/rig/ntbrig", build ? build : "build");
	while (extra && *extra && n < 18)
		argv[n++] = *extra++;
	argv[n++] = "s0";
	argv[n++] = "s1";
	argv[n++] = "e0";
	argv[n++] = "e1";
	argv[n] = NULL;
	t_must(!pipe(out), "pipe");
	server = t_fork();
	if (!server) {
		dup2(out[1], 1);
		if (server_says)
			dup2(open(server_says, O_WRONLY | O_CREAT | O_TRUNC, 0600), 2);
		close(out[0]);
		close(out[1]);
		execv(path, argv);
		perror(path);
		_exit(127);
	}
	close(out[1]);
	t_must(read(out[0], line, sizeof(line)) > 0, "ntbrig is ready");
	close(out[0]);
}

/* One command by the control socket; its answer. */
T_UNUSED static const char *control(const char *command)
{
	static char answer[4096];
	struct sockaddr_un sa = { .sun_family = AF_UNIX, .sun_path = "ctl" };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t got = 0;
	ssize_t n;

	t_must(!connect(fd, (struct sockaddr *)&sa, sizeof(sa)), "control socket");
	t_must(dprintf(fd, "%s\n", command) > 0, "command");
	while (got < sizeof(answer) - 1 && (n = read(fd, answer + got, sizeof(answer) - 1 - got)) > 0) {
		got += (size_t)n;
		if (answer[got - 1] == '\n')
			break;
	}
	answer[got] = 0;
	close(fd);
	return answer;
}

T_UNUSED static void fault(const char *command)
{
	t_ok(!strcmp(control(command), "ok\n"), "%s: %s", command, control("status"));
}

T_UNUSED static int server_ends(void)
{
	int status = -1;

	waitpid(server, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

T_UNUSED static uint64_t rd(int h, uint64_t off, uint32_t len)
{
	return vc_read(&host[h], 0, off, len);
}

T_UNUSED static void wr(int h, uint64_t off, uint64_t v, uint32_t len)
{
	vc_write(&host[h], 0, off, v, len);
}

/* A QEMU and its firmware: everything is asked, memory mapped, BARs placed. */
T_UNUSED static void boot(int h)
{
	struct vc *c = &host[h];
	uint64_t base = bars[h];

	t_must(vc_connect(c, h ? "s1" : "s0"), "connect");
	t_must(vc_hello(c), "hello");
	t_eq(c->region_size[2], WINDOW, "BAR2");
	t_eq(c->region_size[4], WINDOW, "BAR4");
	t_eq(c->region_size[7], 4096, "config space");
	t_ok(vc_map(c, 0, 0xa0000, ram_fd[h], 0), "low memory");
	t_ok(vc_map(c, 0xc0000, 0x20000, -1, 0), "memory without a file");
	t_ok(vc_unmap(c, 0, 0xa0000), "as firmware does");
	t_ok(vc_map(c, at[h], SPLIT, ram_fd[h], 0), "first piece");
	t_ok(vc_map(c, at[h] + SPLIT, RAM - SPLIT, ram_fd[h], SPLIT), "second piece");
	t_must(vc_set_irqs(c), "eventfds");
	for (unsigned i = 0; i < 6; i += 2) {
		t_ok(vc_write(c, CFG, 0x10 + 4 * i, 0xffffffff, 4), "size");
		t_eq((uint32_t)~(vc_read(c, CFG, 0x10 + 4 * i, 4) & ~0xfull) + 1, c->region_size[i], "size of BAR %u", i);
		base = (base + c->region_size[i] - 1) & ~(c->region_size[i] - 1);
		vc_write(c, CFG, 0x10 + 4 * i, base, 4);
		vc_write(c, CFG, 0x14 + 4 * i, 0, 4);
		base += c->region_size[i];
	}
	t_ok(vc_write(c, CFG, 4, 6, 2), "COMMAND");
}

T_UNUSED static uint64_t bar_base(int h, unsigned bar)
{
	return vc_read(&host[h], CFG, 0x10 + 4 * bar, 4) & ~0xfull;
}

/* Steps of Linux's drivers: probe and link_enable. */
T_UNUSED static void driver_up(int h)
{
	if (is("amd")) {
		t_eq(rd(h, 0x408, 4) & 1, h, "side");
		wr(h, 0x470, 0x7f, 4);
		wr(h, 0x45c, 0x7fff, 2);
		wr(h, 0x470, 0x1f, 4);
		wr(h, 0x408, rd(h, 0x408, 4) | 2, 4);
		wr(h, 0x200, rd(h, 0x200, 4) | 0x300000, 4);
		wr(h, 0x470, 0, 4);
		return;
	}
	for (unsigned i = 0; i < 2; i++)
		wr(h, 0x18 + 0x10 * i, 0x2000000000000000ull << i, 8);
	for (unsigned i = 0; i < 33; i++)
		wr(h, (is("gen3") ? 0xd0 : 0x50) + i, i, 1);
	if (is("gen3")) {
		wr(h, 0xf0, 31, 1);
		wr(h, 0x40, 0x180000000, 8);
		wr(h, 0x48, 1ull << 31, 8);
		wr(h, 0, (rd(h, 0, 4) & ~3ull) | 0x154, 4);
		return;
	}
	wr(h, 0xb05a, 0x100, 2);
	wr(h, 0x40, 0x100000000, 8);
	wr(h, 0x48, 0, 8);
	wr(h, 0, 0x154, 4);
	wr(h, 0xb050, rd(h, 0xb050, 2) & ~0x10ull, 2);
	wr(h, 0xb0d4, rd(h, 0xb0d4, 4) | 8, 4);
}

T_UNUSED static unsigned link_vector(void)
{
	return is("amd") ? 21 : is("gen3") ? 31 : 32;
}

T_UNUSED static bool link_is_up(int h)
{
	if (is("amd"))
		return rd(h, 0x808, 4) & 2 && strstr(control("status"), "\"link\": \"up\"");
	return (is("gen3") ? vc_read(&host[h], CFG, 0x1a2, 2) : rd(h, 0xb052, 2)) & 0x2000;
}

T_UNUSED static void link_ack(int h)
{
	if (is("amd")) {
		wr(h, 0x474, rd(h, 0x474, 4), 4);
		return;
	}
	if (!is("gen3"))
		wr(h, 0xb05a, 0x100, 2);
	wr(h, 0x40, is("gen3") ? 0x180000000 : 0x100000000, 8);
}

T_UNUSED static bool wait_link(bool up)
{
	for (int i = 0; i < 500; i++) {
		if (link_is_up(0) == up && link_is_up(1) == up)
			return true;
		usleep(10000);
	}
	return false;
}

T_UNUSED static bool set_trans(int h, unsigned i, uint64_t addr, uint64_t size)
{
	uint64_t base = bar_base(h, 2 + 2 * i);

	if (is("amd")) {
		wr(h, 0x838 + 8 * i, addr, 8);
		wr(h, 0x818 + 8 * i, size, 8);
		return rd(h, 0x838 + 8 * i, 8) == addr && rd(h, 0x818 + 8 * i, 8) == size;
	}
	wr(h, 0x10 + 0x10 * i, addr, 8);
	wr(h, 0x18 + 0x10 * i, base + size, 8);
	if (is("gen3"))
		wr(h, 0x4018 + 0x10 * i, (rd(h, 0x4518 + 8 * i, 8) & ~0xfull) + size, 8);
	if (is("icx"))
		wr(h, 0x74 + 2 * i, 63 - (unsigned)__builtin_clzll(size), 2);
	return rd(h, 0x10 + 0x10 * i, 8) == addr && rd(h, 0x18 + 0x10 * i, 8) == base + size;
}

T_UNUSED static void ring(int h, unsigned bit)
{
	if (is("amd"))
		wr(h, 0x454, 1u << bit, 2);
	else
		wr(h, 0x100 + 4 * bit, 1, 4);
}

T_UNUSED static void bell_clear(int h)
{
	wr(h, is("amd") ? 0x460 : 0x40, 0x7fff, is("amd") ? 2 : 8);
}

T_UNUSED static void bring_up(char *const *extra)
{
	spawn(extra);
	for (int h = 0; h < 2; h++) {
		memset(ram[h], 0, RAM);
		boot(h);
	}
	for (int h = 0; h < 2; h++)
		driver_up(h);
	t_must(wait_link(true), "%s: link up", family);
	for (int h = 0; h < 2; h++) {
		t_ok(vc_fired(&host[h], link_vector()), "%s: link interrupt of host %d", family, h);
		link_ack(h);
		t_ok(set_trans(h, 0, at[h] + BUFFER, WINDOW), "%s: translation of host %d", family, h);
	}
	if (is("amd")) {
		wr(0, 0x45c, 0, 2);
		wr(1, 0x45c, 0, 2);
	}
}

T_UNUSED static void take_down(void)
{
	for (int h = 0; h < 2; h++)
		vc_close(&host[h]);
	fault("quit");
	t_eq(server_ends(), 0, "%s: end of the server", family);
}

/* A register read: what was posted before has been done when it is answered. */
T_UNUSED static void settle(int h)
{
	rd(h, is("amd") ? 0x200 : 0, 4);
}

#endif
