// SPDX-License-Identifier: BSD-2-Clause
/*
 * pingpong_server.c - the side that answers
 *
 * One client after the other: a client has the server to itself from the first request on its active connection
 * to the end of that connection, so that nothing disturbs what is measured.  Connections that a client has
 * parked (PP_CMD_IDLE) stay in the server's poll set until then.
 *
 * What a client sends is checked before it is used; a client that sends nonsense is named and dropped, and the
 * server goes on.
 */
#include "pingpong.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct server {
	int lfd;
	const struct pp_opts *opts;
	int *parked;
	unsigned nr_parked, max_parked;
	bool quit;
};

static int echo(struct server *s, int fd, const struct pp_req *req)
{
	bool idle = req->cmd == PP_CMD_IDLE;
	uint8_t *buf = pp_buffer(req->size);
	struct pp_reply reply = { .error = buf ? 0 : ENOMEM };
	struct pp_conn c;
	int err;

	err = pp_send_reply(fd, &reply);
	if (err || reply.error)
		goto out_free;
	err = pp_wait_setup(&c, fd, req->mode, idle ? NULL : s->parked, idle ? 0 : s->nr_parked);
	if (err)
		goto out_free;
	for (uint64_t i = 0; i < req->count && !err; i++) {
		err = pp_recv_all(&c, buf, req->size);
		if (!err)
			err = pp_send_all(&c, buf, req->size);
	}
	pp_wait_end(&c);
out_free:
	free(buf);
	return err;
}

static int request_response(struct server *s, int fd, const struct pp_req *req)
{
	uint8_t *buf = pp_buffer(req->size);
	const uint8_t *pattern = pp_pattern(req->size > req->size2 ? req->size : req->size2);
	struct pp_reply reply = { .error = buf && pattern ? 0 : ENOMEM };
	struct pp_conn c;
	int err = pp_send_reply(fd, &reply);

	if (err || reply.error)
		goto out_free;
	err = pp_wait_setup(&c, fd, req->mode, s->parked, s->nr_parked);
	if (err)
		goto out_free;
	for (uint64_t i = 0; i < req->count && !err; i++) {
		err = pp_recv_all(&c, buf, req->size);
		if (err)
			break;
		if (req->verify && memcmp(buf, pp_slice(pattern, i), req->size)) {
			pp_error("request %llu arrived with wrong bytes", (unsigned long long)i);
			err = -EBADMSG;
			break;
		}
		err = pp_send_all(&c, pp_slice(pattern, i + 1), req->size2);
	}
	pp_wait_end(&c);
out_free:
	free(buf);
	return err;
}

/* Position of the first wrong byte + 1, 0 if there is none. */
static uint64_t check_stream(const uint8_t *pattern, uint64_t at, const uint8_t *buf, size_t len)
{
	const uint8_t *want = pattern + at % PP_PATTERN_PERIOD;

	if (!memcmp(buf, want, len))
		return 0;
	for (size_t i = 0; i < len; i++)
		if (buf[i] != want[i])
			return at + i + 1;
	return 0;
}

static int stream(struct server *s, int fd, const struct pp_req *req)
{
	size_t len = req->size < 65536 ? 65536 : req->size < (1u << 20) ? req->size : 1u << 20;
	uint8_t *buf = pp_buffer(len);
	const uint8_t *pattern = req->verify ? pp_pattern(len) : NULL;
	struct pp_reply reply = { .error = buf && (pattern || !req->verify) ? 0 : ENOMEM };
	struct pp_conn c;
	ssize_t n = 0;
	int err = pp_send_reply(fd, &reply);

	if (err || reply.error)
		goto out_free;
	err = pp_wait_setup(&c, fd, req->mode, s->parked, s->nr_parked);
	if (err)
		goto out_free;
	for (;;) {
		n = pp_recv_some(&c, buf, len);
		if (n <= 0)
			break;
		if (pattern && !reply.bad_at)
			reply.bad_at = check_stream(pattern, reply.bytes, buf, (size_t)n);
		reply.bytes += (uint64_t)n;
	}
	pp_wait_end(&c);
	err = n < 0 ? (int)n : pp_send_reply(fd, &reply);
out_free:
	free(buf);
	return err;
}

static int accept_one(int lfd)
{
	for (;;) {
		int fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0) {
			pp_nodelay(fd);
			return fd;
		}
		/* the connection's own troubles, not the listener's: accept(2) */
		if (errno != EINTR && errno != ECONNABORTED && errno != EPROTO)
			return -errno;
	}
}

/* One byte each way on a new connection, until the client says that this is the last. */
static int connrate(struct server *s, int fd)
{
	struct pp_reply reply = { 0 };
	uint8_t byte = 0;
	int err = pp_send_reply(fd, &reply);

	while (!err && byte != PP_LAST) {
		struct pp_conn c = { .mode = PP_BLOCK };

		c.fd = accept_one(s->lfd);
		if (c.fd < 0)
			return c.fd;
		err = pp_recv_all(&c, &byte, 1);
		if (!err)
			err = pp_send_all(&c, &byte, 1);
		close(c.fd);
	}
	return err;
}

static int park(struct server *s, int fd)
{
	if (s->nr_parked == s->max_parked) {
		unsigned max = s->max_parked ? 2 * s->max_parked : 64;
		int *p = max <= 2 * PP_FDS_MAX ? realloc(s->parked, max * sizeof(*p)) : NULL;

		if (!p)
			return -ENOMEM;
		s->parked = p;
		s->max_parked = max;
	}
	s->parked[s->nr_parked++] = fd;
	return 0;
}

/* Serves one connection.  Return: 1 if it is parked and stays open, 0 at its end, or a negative errno. */
static int serve_conn(struct server *s, int fd)
{
	struct pp_reply quit = { 0 };
	struct pp_req req;
	int err;

	for (;;) {
		err = pp_recv_req(fd, &req);
		if (err)
			return err == -ENODATA ? 0 : err;
		switch (req.cmd) {
		case PP_CMD_ECHO:
			err = echo(s, fd, &req);
			break;
		case PP_CMD_IDLE:
			err = echo(s, fd, &req);
			if (!err)
				err = park(s, fd);
			return err ? err : 1;
		case PP_CMD_STREAM:
			return stream(s, fd, &req);
		case PP_CMD_RR:
			err = request_response(s, fd, &req);
			break;
		case PP_CMD_CONNRATE:
			err = connrate(s, fd);
			break;
		case PP_CMD_QUIT:
			if (!s->opts->may_quit)
				return -EPERM;
			s->quit = true;
			return pp_send_reply(fd, &quit);
		default:
			return -EPROTO;
		}
		if (err)
			return err;
	}
}

/* Until the client of "both" says so, or for ever.  Return: exit status. */
int pp_serve(int lfd, const struct pp_opts *o)
{
	struct server s = { .lfd = lfd, .opts = o };

	pp_raise_nofile(PP_FDS_MAX);	/* a client may park as many */
	while (!s.quit) {
		int fd = accept_one(lfd), ret;

		if (fd < 0) {
			pp_error("cannot accept: %s%s", strerror(-fd),
				 fd == -EMFILE ? "; raise the limit with ulimit -n" : "");
			return 1;
		}
		ret = serve_conn(&s, fd);
		if (ret == 1)
			continue;
		if (ret < 0)
			pp_error("dropped a client: %s",
				 ret == -EPROTO ? "it sent what is no request of this version" :
				 ret == -EPERM	? "only the client of \"pingpong both\" may end its server" :
				 ret == -EMFILE ? "too many open files; raise the limit with ulimit -n" :
				 ret == -ENODATA ? "it closed the connection in the middle of a test" :
						  strerror(-ret));
		close(fd);
		while (s.nr_parked)
			close(s.parked[--s.nr_parked]);
	}
	free(s.parked);
	return 0;
}
