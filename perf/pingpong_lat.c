// SPDX-License-Identifier: BSD-2-Clause
/*
 * pingpong_lat.c - one-way time by size of message, idle connections beside it, and connections that only idle
 *
 * Each round trip is timed by itself and halved.  Content is compared after the second time stamp: the next
 * round begins after that, so comparing costs the transport nothing but the pause.  The first rounds of a size
 * are not counted: buffers get mapped, the transport settles.
 */
#include "pingpong.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define WARM_ROUNDS 256		/* before the number of rounds is decided */
#define SKIP_ROUNDS 32		/* of a measured batch */
#define IDLE_ROUNDS 16		/* on a connection that is then parked */
#define COUNT_MAX 2000000u
#define COUNT_MIN 20u

/*
 * One batch of @skip + @count messages on @fd; the last @count go to @samples (round trips in ticks; may be
 * NULL).  *@seq goes on from batch to batch, so that a message of an earlier one cannot pass for a later one.
 */
static int batch(const struct pp_opts *o, int fd, enum pp_cmd cmd, enum pp_mode mode, const int *idle,
		 unsigned nr_idle, size_t size, uint64_t skip, uint64_t count, uint64_t *seq,
		 uint32_t *samples)
{
	struct pp_req req = { .cmd = (uint8_t)cmd, .mode = (uint8_t)mode, .size = (uint32_t)size,
			      .count = skip + count };
	const uint8_t *pattern = pp_pattern(size);
	uint8_t *buf = pp_buffer(size);
	struct pp_reply reply;
	struct pp_conn c;
	int err = -ENOMEM;

	if (!pattern || !buf)
		goto out_free;
	err = pp_request(fd, &req, &reply);
	if (err)
		goto out_free;
	err = pp_wait_setup(&c, fd, mode, idle, nr_idle);
	if (err)
		goto out_report;
	for (uint64_t i = 0; i < skip + count; i++) {
		const uint8_t *msg = pp_slice(pattern, (*seq)++);
		uint64_t t0 = ticks_now(&pp_ticks), t1;

		err = pp_send_all(&c, msg, size);
		if (!err)
			err = pp_recv_all(&c, buf, size);
		t1 = ticks_now(&pp_ticks);
		if (err)
			break;
		if (samples && i >= skip)
			samples[i - skip] = t1 - t0 > UINT32_MAX ? UINT32_MAX : (uint32_t)(t1 - t0);
		if (o->verify && memcmp(buf, msg, size)) {
			pp_error("message %llu of %zu bytes came back with other bytes than were sent",
				 (unsigned long long)i, size);
			err = -EBADMSG;
			break;
		}
	}
	pp_wait_end(&c);
out_report:
	if (err && err != -EBADMSG)
		pp_error("exchange of %zu-byte messages broke off: %s", size,
			 err == -ENODATA ? "the server closed the connection" : strerror(-err));
out_free:
	free(buf);
	return err;
}

/* @nr connections that have carried a few messages and are parked at the server; *@fds is the caller's. */
int pp_idle_open(const struct pp_opts *o, int **fds, unsigned nr)
{
	uint64_t seq = 0;
	unsigned n;
	int err = 0;

	*fds = NULL;
	if (!nr)
		return 0;
	pp_raise_nofile(nr);
	*fds = calloc(nr, sizeof(**fds));
	if (!*fds)
		return -ENOMEM;
	for (n = 0; n < nr && !err; n++) {
		(*fds)[n] = pp_connect(o);
		if ((*fds)[n] < 0) {
			err = (*fds)[n];
			break;
		}
		err = batch(o, (*fds)[n], PP_CMD_IDLE, PP_BLOCK, NULL, 0, 1, 0, IDLE_ROUNDS, &seq, NULL);
	}
	if (!err)
		return 0;
	while (n--)
		close((*fds)[n]);
	free(*fds);
	*fds = NULL;
	return err;
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* How many rounds fill the time asked for, by the median of the warm-up. */
static uint64_t rounds(const struct pp_opts *o, uint32_t *warm, unsigned n)
{
	double ns, count;

	if (o->count)
		return o->count;
	qsort(warm, n, sizeof(*warm), compare_u32);
	ns = ticks_to_ns(&pp_ticks, warm[n / 2]);
	count = o->seconds * 1e9 / (ns > 1 ? ns : 1);
	return count > COUNT_MAX ? COUNT_MAX : count < COUNT_MIN ? COUNT_MIN : (uint64_t)count;
}

static int one_size(const struct pp_opts *o, int fd, const int *idle, size_t size, uint64_t *seq)
{
	uint32_t warm[WARM_ROUNDS], *samples;
	unsigned nr_warm = size > 65536 ? WARM_ROUNDS / 8 : WARM_ROUNDS;
	struct pp_summary sum;
	uint64_t count;
	int err;

	err = batch(o, fd, PP_CMD_ECHO, o->mode, idle, o->fds - 1, size, 0, nr_warm, seq, warm);
	if (err)
		return err;
	count = rounds(o, warm + nr_warm / 2, nr_warm / 2);
	samples = pp_buffer(count * sizeof(*samples));
	if (!samples)
		return -ENOMEM;
	err = batch(o, fd, PP_CMD_ECHO, o->mode, idle, o->fds - 1, size, SKIP_ROUNDS, count, seq, samples);
	if (!err) {
		pp_summarise(samples, count, &sum);
		pp_out_latency(o, size, &sum, samples);
	}
	free(samples);
	return err;
}

/* Return: exit status, as of the other tests. */
int pp_latency(const struct pp_opts *o)
{
	uint64_t seq = 0;
	int *idle, fd, err;

	err = pp_idle_open(o, &idle, o->fds - 1);
	if (err)
		return 1;
	fd = pp_connect(o);
	if (fd < 0)
		return 1;
	for (unsigned i = 0; i < o->nr_sizes && !err; i++)
		err = one_size(o, fd, idle, o->sizes[i], &seq);
	close(fd);
	for (unsigned i = 0; i + 1 < o->fds; i++)
		close(idle[i]);
	free(idle);
	return err ? 1 : 0;
}

/* Sleep for o->seconds in epoll_wait() over all connections; an event there is none to come is an error. */
static int idle_wait(const struct pp_opts *o, const int *idle, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };
	uint64_t end = ticks_clock_ns() + (uint64_t)(o->seconds * 1e9), now;
	int epfd = epoll_create1(EPOLL_CLOEXEC), n = epfd < 0 ? -1 : 0;

	for (unsigned i = 0; i < o->fds && !n; i++) {
		ev.data.fd = i ? idle[i - 1] : fd;
		n = epoll_ctl(epfd, EPOLL_CTL_ADD, ev.data.fd, &ev);
	}
	while (n == 0 && (now = ticks_clock_ns()) < end) {
		n = epoll_wait(epfd, &ev, 1, (int)((end - now) / 1000000) + 1);
		if (n < 0 && errno == EINTR)
			n = 0;
	}
	if (n < 0)
		pp_error("cannot wait for %u connections: %s", o->fds, strerror(errno));
	else if (n)
		pp_error("an idle connection became readable: the server has ended or sent what nobody asked for");
	if (epfd >= 0)
		close(epfd);
	return n;
}

int pp_hold(const struct pp_opts *o)
{
	uint64_t seq = 0;
	int *idle, fd, err;

	err = pp_idle_open(o, &idle, o->fds - 1);
	if (err)
		return 1;
	fd = pp_connect(o);
	if (fd < 0)
		return 1;
	err = batch(o, fd, PP_CMD_ECHO, PP_BLOCK, NULL, 0, 1, 0, IDLE_ROUNDS, &seq, NULL);
	if (!err) {
		printf("holding %u connections, idle, client pid %d\n", o->fds, (int)getpid());
		fflush(stdout);
		err = idle_wait(o, idle, fd);
	}
	close(fd);
	for (unsigned i = 0; i + 1 < o->fds; i++)
		close(idle[i]);
	free(idle);
	return err ? 1 : 0;
}
