// SPDX-License-Identifier: BSD-2-Clause
/*
 * pingpong.c - latency and throughput of stream sockets, whatever carries them
 *
 * Client and server in one program, on plain socket calls, so that it measures the transport that it is run on:
 * kernel TCP, AF_UNIX, or a library preloaded under it.  This file pins the sides to CPUs and starts the
 * role; pingpong.h says where the rest is.
 *
 * "both" forks the server before it has made any socket, and ends it by a request, not by a signal, so that
 * both processes run their exit handlers.
 */
#include "pingpong.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct ticks pp_ticks;
const char *const pp_test_name[] = { "latency", "stream", "rr", "connrate", "hold" };

void pp_error(const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fprintf(stderr, "pingpong: %s\n", line);
}

static int pin(int cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return 0;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set)) {
		pp_error("cannot pin to CPU %d: %s", cpu, strerror(errno));
		return -1;
	}
	return 0;
}

static int run_client(const struct pp_opts *o)
{
	int ret = 0;

	ticks_init(&pp_ticks);
	pp_out_begin(o);
	switch (o->test) {
	case PP_LATENCY:
		ret = pp_latency(o);
		break;
	case PP_STREAM:
		ret = pp_stream(o);
		break;
	case PP_RR:
		ret = pp_rr(o);
		break;
	case PP_CONNRATE:
		ret = pp_connrate(o);
		break;
	case PP_HOLD:
		ret = pp_hold(o);
		break;
	}
	/* no result object for a measurement that failed: nobody shall take half of it for the whole */
	return ret ? ret : pp_out_end(o);
}

static int run_server(const struct pp_opts *o)
{
	uint16_t port = o->port;
	int lfd, ret;

	if (pin(o->cpu[0]))
		return 1;
	lfd = pp_listen(o, &port);
	if (lfd < 0)
		return 1;
	if (o->path)
		printf("listening on %s\n", o->path);
	else
		printf("listening on port %u\n", port);
	fflush(stdout);
	ret = pp_serve(lfd, o);
	close(lfd);
	return ret;
}

/* In the child: listens, tells the parent its port, serves until asked to end. */
static int child_server(const struct pp_opts *o, int report_fd)
{
	uint16_t port = 0;
	int lfd, ret;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (pin(o->cpu[0]))
		return 1;
	lfd = pp_listen(o, &port);
	if (lfd < 0)
		return 1;
	if (write(report_fd, &port, sizeof(port)) != sizeof(port))
		return 1;
	close(report_fd);
	ret = pp_serve(lfd, o);
	close(lfd);
	if (o->path)
		unlink(o->path);
	return ret;
}

static int end_server(const struct pp_opts *o, pid_t pid)
{
	struct pp_req req = { .cmd = PP_CMD_QUIT, .size = 1 };
	struct pp_reply reply;
	int fd = pp_connect(o), status;

	if (fd < 0 || pp_request(fd, &req, &reply))
		kill(pid, SIGKILL);
	if (fd >= 0)
		close(fd);
	if (waitpid(pid, &status, 0) < 0 || status) {
		pp_error("the server process ended badly (wait status %#x)", (unsigned)status);
		return 1;
	}
	return 0;
}

static int run_both(struct pp_opts *o)
{
	int pipefd[2], ret;
	pid_t pid;

	if (!o->host)
		o->host = o->ipv6 ? "::1" : "127.0.0.1";
	o->may_quit = true;
	if (pipe(pipefd)) {
		pp_error("cannot make a pipe: %s", strerror(errno));
		return 1;
	}
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		pp_error("cannot fork the server: %s", strerror(errno));
		return 1;
	}
	if (!pid) {
		close(pipefd[0]);
		exit(child_server(o, pipefd[1]));
	}
	close(pipefd[1]);
	if (read(pipefd[0], &o->port, sizeof(o->port)) != sizeof(o->port)) {
		waitpid(pid, NULL, 0);
		pp_error("the server did not start; its own message says why");
		return 1;
	}
	close(pipefd[0]);
	if (o->test == PP_HOLD)
		pp_out_text(o, "server pid %d\n", (int)pid);
	ret = pin(o->cpu[1]) ? 1 : run_client(o);
	if (ret) {
		kill(pid, SIGKILL);	/* it may be in the middle of anything */
		waitpid(pid, NULL, 0);
		if (o->path)
			unlink(o->path);
		return ret;
	}
	return end_server(o, pid);
}

int main(int argc, char **argv)
{
	struct pp_opts o;

	switch (pp_parse(&o, argc, argv)) {
	case PP_SERVER:
		return run_server(&o);
	case PP_CLIENT:
		return pin(o.cpu[1]) ? 1 : run_client(&o);
	case PP_BOTH:
		return run_both(&o);
	}
	return 2;
}
