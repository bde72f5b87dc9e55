// SPDX-License-Identifier: BSD-2-Clause
/*
 * pingpong_load.c - stream bandwidth, request/response rate, connection rate
 *
 * What can be verified is verified in a pass of its own before the timed one, which then only moves bytes.
 * A connection has carried some messages before it is timed, so that a transport that begins one way and goes
 * on another is measured where it stays.
 */
#include "pingpong.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define VERIFY_BYTES (4u << 20)
#define VERIFY_ROUNDS 1000u
#define RATE_SAMPLES 1000000u

static int settle(int fd)
{
	struct pp_req req = { .cmd = PP_CMD_ECHO, .mode = PP_BLOCK, .size = 1, .count = 64 };
	struct pp_conn c = { .fd = fd, .mode = PP_BLOCK };
	struct pp_reply reply;
	uint8_t byte = 0;
	int err = pp_request(fd, &req, &reply);

	for (unsigned i = 0; i < req.count && !err; i++) {
		err = pp_send_all(&c, &byte, 1);
		if (!err)
			err = pp_recv_all(&c, &byte, 1);
	}
	return err;
}

/* One connection: writes of @size until @bytes have gone or, with 0, the time is over. */
static int stream_pass(const struct pp_opts *o, size_t size, uint64_t bytes, bool verify, uint64_t *moved,
		       double *seconds)
{
	struct pp_req req = { .cmd = PP_CMD_STREAM, .mode = (uint8_t)o->mode, .size = (uint32_t)size,
			      .verify = verify };
	const uint8_t *pattern = pp_pattern(size);
	uint64_t sent = 0, t0, t1, limit = (uint64_t)(o->seconds * 1e9 * pp_ticks.per_ns);
	struct pp_reply reply;
	struct pp_conn c;
	int fd, err = 0;

	if (!pattern)
		return -ENOMEM;
	fd = pp_connect(o);
	if (fd < 0)
		return fd;
	err = settle(fd);
	if (!err)
		err = pp_request(fd, &req, &reply);
	if (!err)
		err = pp_wait_setup(&c, fd, o->mode, NULL, 0);
	if (err)
		goto out_close;
	t0 = ticks_now(&pp_ticks);
	do {
		size_t len = bytes && bytes - sent < size ? (size_t)(bytes - sent) : size;

		/* a pass that nobody checks sends the same bytes again, as programs do */
		err = pp_send_all(&c, verify ? pattern + sent % PP_PATTERN_PERIOD : pattern, len);
		sent += len;
	} while (!err && (bytes ? sent < bytes : ticks_now(&pp_ticks) - t0 < limit));
	pp_wait_end(&c);
	if (!err && shutdown(fd, SHUT_WR))
		err = -errno;
	if (!err)
		err = pp_recv_reply(fd, &reply);
	t1 = ticks_now(&pp_ticks);
	if (!err && reply.bytes != sent) {
		pp_error("sent %llu bytes, the server received %llu", (unsigned long long)sent,
			 (unsigned long long)reply.bytes);
		err = -EBADMSG;
	} else if (!err && reply.bad_at) {
		pp_error("byte %llu of the stream arrived with another value than was sent",
			 (unsigned long long)reply.bad_at - 1);
		err = -EBADMSG;
	}
	*moved = sent;
	*seconds = ticks_to_ns(&pp_ticks, t1 - t0) / 1e9;
out_close:
	close(fd);
	if (err && err != -EBADMSG)
		pp_error("stream of %zu-byte writes broke off: %s", size, strerror(-err));
	return err;
}

int pp_stream(const struct pp_opts *o)
{
	for (unsigned i = 0; i < o->nr_sizes; i++) {
		size_t size = o->sizes[i];
		uint64_t moved, check = size < 256 ? VERIFY_BYTES / 16 : VERIFY_BYTES;
		double seconds;

		if (o->verify && stream_pass(o, size, check > 4 * size ? check : 4 * size, true, &moved, &seconds))
			return 1;
		if (stream_pass(o, size, o->bytes, false, &moved, &seconds))
			return 1;
		pp_out_stream(o, size, moved, seconds);
	}
	return 0;
}

/* @count requests, o->depth of them in flight.  samples: only with one in flight; may be NULL. */
static int rr_pass(const struct pp_opts *o, int fd, uint64_t count, bool verify, uint32_t *samples)
{
	struct pp_req req = { .cmd = PP_CMD_RR, .mode = (uint8_t)o->mode, .size = (uint32_t)o->request,
			      .size2 = (uint32_t)o->response, .count = count, .verify = verify };
	const uint8_t *pattern = pp_pattern(o->request > o->response ? o->request : o->response);
	uint8_t *buf = pp_buffer(o->response);
	uint64_t sent = 0, t0, t1;
	struct pp_reply reply;
	struct pp_conn c;
	int err = pattern && buf ? pp_request(fd, &req, &reply) : -ENOMEM;

	if (!err)
		err = pp_wait_setup(&c, fd, o->mode, NULL, 0);
	if (err)
		goto out_free;
	t0 = ticks_now(&pp_ticks);
	for (uint64_t got = 0; got < count && !err; got++) {
		while (!err && sent < count && sent - got < o->depth)
			err = pp_send_all(&c, pp_slice(pattern, sent++), o->request);
		if (!err)
			err = pp_recv_all(&c, buf, o->response);
		if (samples) {
			t1 = ticks_now(&pp_ticks);
			samples[got] = t1 - t0 > UINT32_MAX ? UINT32_MAX : (uint32_t)(t1 - t0);
			t0 = t1;
		}
		if (!err && verify && memcmp(buf, pp_slice(pattern, got + 1), o->response)) {
			pp_error("response %llu arrived with wrong bytes", (unsigned long long)got);
			err = -EBADMSG;
		}
	}
	pp_wait_end(&c);
	if (err && err != -EBADMSG)
		pp_error("requests broke off: %s", err == -ENODATA ? "the server closed the connection" :
								     strerror(-err));
out_free:
	free(buf);
	return err;
}

int pp_rr(const struct pp_opts *o)
{
	uint64_t count = o->count, t0;
	uint32_t *samples = NULL;
	struct pp_summary sum;
	double seconds;
	int fd = pp_connect(o), err;

	if (fd < 0)
		return 1;
	t0 = ticks_now(&pp_ticks);
	err = rr_pass(o, fd, VERIFY_ROUNDS, o->verify, NULL);
	if (err)
		goto out_close;
	if (!count) {
		double each = ticks_to_ns(&pp_ticks, ticks_now(&pp_ticks) - t0) / VERIFY_ROUNDS;

		count = (uint64_t)(o->seconds * 1e9 / each);
		count = count > 20 * RATE_SAMPLES ? 20 * RATE_SAMPLES : count < 100 ? 100 : count;
	}
	if (o->depth == 1 && count <= RATE_SAMPLES) {
		samples = pp_buffer(count * sizeof(*samples));
		if (!samples) {
			err = -ENOMEM;
			goto out_close;
		}
	}
	t0 = ticks_now(&pp_ticks);
	err = rr_pass(o, fd, count, false, samples);
	seconds = ticks_to_ns(&pp_ticks, ticks_now(&pp_ticks) - t0) / 1e9;
	if (!err) {
		if (samples)
			pp_summarise(samples, count, &sum);
		pp_out_rate(o, "requests", count, seconds, samples ? &sum : NULL);
	}
	free(samples);
out_close:
	close(fd);
	return err ? 1 : 0;
}

/* socket, connect, a byte each way, close */
static int one_connection(const struct pp_opts *o, uint8_t byte)
{
	struct pp_conn c = { .fd = pp_connect(o), .mode = PP_BLOCK };
	uint8_t back = 0;
	int err;

	if (c.fd < 0)
		return c.fd;
	err = pp_send_all(&c, &byte, 1);
	if (!err)
		err = pp_recv_all(&c, &back, 1);
	close(c.fd);
	if (err)
		pp_error("exchange on a new connection failed: %s",
			 err == -ENODATA ? "the server closed it" : strerror(-err));
	else if (back != byte) {
		pp_error("a new connection brought back another byte than was sent");
		err = -EBADMSG;
	}
	return err;
}

int pp_connrate(const struct pp_opts *o)
{
	struct pp_req req = { .cmd = PP_CMD_CONNRATE, .mode = PP_BLOCK, .size = 1 };
	uint32_t *samples = pp_buffer(RATE_SAMPLES * sizeof(*samples));
	uint64_t n = 0, t0, begin, limit = (uint64_t)(o->seconds * 1e9 * pp_ticks.per_ns);
	uint64_t warm = 50;
	struct pp_reply reply;
	struct pp_summary sum;
	double seconds;
	int fd, err;

	if (!samples)
		return 1;
	fd = pp_connect(o);
	err = fd < 0 ? fd : pp_request(fd, &req, &reply);
	for (uint64_t i = 0; i < warm && !err; i++)
		err = one_connection(o, (uint8_t)(i % PP_LAST));
	begin = t0 = ticks_now(&pp_ticks);
	while (!err && (o->count ? n < o->count : t0 - begin < limit)) {
		uint64_t t1;

		err = one_connection(o, (uint8_t)(n % PP_LAST));
		t1 = ticks_now(&pp_ticks);
		if (n < RATE_SAMPLES)
			samples[n] = (uint32_t)(t1 - t0);
		t0 = t1;
		n++;
	}
	seconds = ticks_to_ns(&pp_ticks, t0 - begin) / 1e9;
	if (!err)
		err = one_connection(o, PP_LAST);
	if (!err) {
		pp_summarise(samples, n < RATE_SAMPLES ? n : RATE_SAMPLES, &sum);
		pp_out_rate(o, "connections", n, seconds, &sum);
	}
	if (fd >= 0)
		close(fd);
	free(samples);
	return err ? 1 : 0;
}
