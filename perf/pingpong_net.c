// SPDX-License-Identifier: BSD-2-Clause
/*
 * pingpong_net.c - connections, whole messages, requests
 *
 * Plain socket calls only: whatever carries them is what gets measured.  The ways of waiting are those that
 * programs use: a blocking call; a non-blocking one repeated; poll() or epoll_wait() before each read, as an
 * event loop does it, level-triggered.
 */
#include "pingpong.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

const char *const pp_mode_name[PP_MODES] = { "block", "spin", "epoll", "poll" };

#define PP_MAGIC 0x676e6970u	/* "ping" */
#define PP_VERSION 1

void pp_nodelay(int fd)
{
	int one = 1;

	/* fails on AF_UNIX, which has nothing of the kind */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static int unix_address(const char *path, struct sockaddr_un *sun)
{
	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(sun->sun_path)) {
		pp_error("-u %s: longer than the %zu bytes that a UNIX socket path may have", path,
			 sizeof(sun->sun_path) - 1);
		return -ENAMETOOLONG;
	}
	strcpy(sun->sun_path, path);
	return 0;
}

/* The address to listen on or connect to; 0 or a negative errno, which has been reported. */
static int tcp_address(const struct pp_opts *o, bool passive, struct sockaddr_storage *ss, socklen_t *len)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *ai;
	const char *host = o->host;
	char port[8];
	int err;

	hints.ai_family = o->ipv6 ? AF_INET6 : host ? AF_UNSPEC : AF_INET;
	hints.ai_flags = passive ? AI_PASSIVE : 0;
	snprintf(port, sizeof(port), "%u", o->port);
	err = getaddrinfo(host, port, &hints, &ai);
	if (err) {
		pp_error("%s: %s", host ? host : "local address", gai_strerror(err));
		return -EADDRNOTAVAIL;
	}
	memcpy(ss, ai->ai_addr, ai->ai_addrlen);
	*len = ai->ai_addrlen;
	freeaddrinfo(ai);
	return 0;
}

static int address(const struct pp_opts *o, bool passive, struct sockaddr_storage *ss, socklen_t *len)
{
	if (!o->path)
		return tcp_address(o, passive, ss, len);
	*len = sizeof(struct sockaddr_un);
	return unix_address(o->path, (struct sockaddr_un *)ss);
}

static const char *where(const struct pp_opts *o, char *text, size_t len)
{
	if (o->path)
		snprintf(text, len, "%s", o->path);
	else
		snprintf(text, len, "%s port %u", o->host ? o->host : "any address", o->port);
	return text;
}

/* A listening socket; *@port is the TCP port that it got. */
int pp_listen(const struct pp_opts *o, uint16_t *port)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len;
	char text[160];
	int one = 1, fd, err;

	err = address(o, true, &ss, &len);
	if (err)
		return err;
	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		goto err_report;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&ss, len) || listen(fd, 4096))
		goto err_report;
	len = sizeof(ss);
	if (getsockname(fd, (struct sockaddr *)&ss, &len))
		goto err_report;
	*port = ss.ss_family == AF_INET	 ? ntohs(((struct sockaddr_in *)&ss)->sin_port) :
		ss.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&ss)->sin6_port) :
					   0;
	return fd;

err_report:
	err = -errno;
	pp_error("cannot listen on %s: %s%s", where(o, text, sizeof(text)), strerror(-err),
		 err == -EADDRINUSE ? (o->path ? "; remove the file if no server uses it" :
						 "; choose another one with -p") :
				      "");
	if (fd >= 0)
		close(fd);
	return err;
}

int pp_connect(const struct pp_opts *o)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len;
	char text[160];
	int fd, err;

	err = address(o, false, &ss, &len);
	if (err)
		return err;
	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&ss, len)) {
		err = -errno;
		pp_error("cannot connect to %s: %s%s", where(o, text, sizeof(text)), strerror(-err),
			 err == -ECONNREFUSED || err == -ENOENT ? "; is \"pingpong server\" running there?" :
			 err == -EMFILE ? "; raise the limit with ulimit -n" :
					  "");
		if (fd >= 0)
			close(fd);
		return err;
	}
	pp_nodelay(fd);
	return fd;
}

/* Room for @nr more descriptors, as far as the hard limit allows. */
void pp_raise_nofile(unsigned nr)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) || rl.rlim_cur >= (rlim_t)nr + 64)
		return;
	rl.rlim_cur = rl.rlim_max < (rlim_t)nr + 64 ? rl.rlim_max : (rlim_t)nr + 64;
	setrlimit(RLIMIT_NOFILE, &rl);	/* if that is not enough, socket() says so */
}

/* ------------------------------------------------------------------ waiting */

static int set_nonblock(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	return fcntl(fd, F_SETFL, flags) ? -errno : 0;
}

static int epoll_add(int epfd, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };

	return epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

int pp_wait_setup(struct pp_conn *c, int fd, enum pp_mode mode, const int *idle, unsigned nr_idle)
{
	int err = 0;

	*c = (struct pp_conn){ .fd = fd, .mode = mode, .epfd = -1 };
	if (mode == PP_EPOLL) {
		c->epfd = epoll_create1(EPOLL_CLOEXEC);
		if (c->epfd < 0)
			return -errno;
		err = epoll_add(c->epfd, fd);
		for (unsigned i = 0; i < nr_idle && !err; i++)
			err = epoll_add(c->epfd, idle[i]);
	} else if (mode == PP_POLL) {
		c->nr_pfds = nr_idle + 1;
		c->pfds = calloc(c->nr_pfds, sizeof(*c->pfds));
		if (!c->pfds)
			return -ENOMEM;
		c->pfds[0] = (struct pollfd){ .fd = fd, .events = POLLIN };
		for (unsigned i = 0; i < nr_idle; i++)
			c->pfds[i + 1] = (struct pollfd){ .fd = idle[i], .events = POLLIN };
	}
	if (!err && mode != PP_BLOCK)
		err = set_nonblock(fd, true);
	if (err)
		pp_wait_end(c);
	return err;
}

void pp_wait_end(struct pp_conn *c)
{
	if (c->epfd >= 0)
		close(c->epfd);
	free(c->pfds);
	c->epfd = -1;
	c->pfds = NULL;
	if (c->mode != PP_BLOCK)
		set_nonblock(c->fd, false);
}

/* Until the active connection can be read. */
static int wait_readable(struct pp_conn *c)
{
	struct epoll_event ev[16];
	int n;

	if (c->mode == PP_EPOLL) {
		for (;;) {
			n = epoll_wait(c->epfd, ev, 16, -1);
			if (n < 0 && errno != EINTR)
				return -errno;
			for (int i = 0; i < n; i++) {
				if (ev[i].data.fd == c->fd)
					return 0;
				/* an idle connection has ended: its owner closes it */
				if (epoll_ctl(c->epfd, EPOLL_CTL_DEL, ev[i].data.fd, NULL))
					return -errno;
			}
		}
	}
	for (;;) {
		n = poll(c->pfds, c->nr_pfds, -1);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && c->pfds[0].revents)
			return 0;
		for (unsigned i = 1; n > 0 && i < c->nr_pfds; i++)
			if (c->pfds[i].revents)
				c->pfds[i].fd = -1;
	}
}

/* Return: bytes (> 0), 0 at EOF, or a negative errno. */
ssize_t pp_recv_some(struct pp_conn *c, void *buf, size_t len)
{
	for (;;) {
		ssize_t n;

		if (c->mode == PP_EPOLL || c->mode == PP_POLL) {
			int err = wait_readable(c);

			if (err)
				return err;
		}
		n = recv(c->fd, buf, len, 0);
		if (n >= 0)
			return n;
		if (errno != EINTR && errno != EAGAIN)
			return -errno;
	}
}

/* Return: 0, -ENODATA at EOF before the first byte, -ECONNRESET at EOF within, else a negative errno. */
int pp_recv_all(struct pp_conn *c, void *buf, size_t len)
{
	uint8_t *p = buf;
	size_t got = 0;

	while (got < len) {
		ssize_t n = pp_recv_some(c, p + got, len - got);

		if (n < 0)
			return (int)n;
		if (n == 0)
			return got ? -ECONNRESET : -ENODATA;
		got += (size_t)n;
	}
	return 0;
}

int pp_send_all(struct pp_conn *c, const void *buf, size_t len)
{
	const uint8_t *p = buf;
	size_t sent = 0;

	while (sent < len) {
		ssize_t n = send(c->fd, p + sent, len - sent, MSG_NOSIGNAL);

		if (n >= 0) {
			sent += (size_t)n;
		} else if (errno == EAGAIN && c->mode != PP_SPIN) {
			struct pollfd pfd = { .fd = c->fd, .events = POLLOUT };

			if (poll(&pfd, 1, -1) < 0 && errno != EINTR)
				return -errno;
		} else if (errno != EINTR && errno != EAGAIN) {
			return -errno;
		}
	}
	return 0;
}

/* ----------------------------------------------------------------- requests */

int pp_send_req(int fd, const struct pp_req *req)
{
	struct pp_conn c = { .fd = fd, .mode = PP_BLOCK };
	struct pp_req w = {
		.magic = htole32(PP_MAGIC),	.version = htole16(PP_VERSION),
		.cmd = req->cmd,		.mode = req->mode,
		.size = htole32(req->size),	.size2 = htole32(req->size2),
		.count = htole64(req->count),	.verify = htole32(req->verify),
		.depth = htole32(req->depth),
	};

	return pp_send_all(&c, &w, sizeof(w));
}

/* Return: 0, -ENODATA when the client is done, -EPROTO for what is no request, else a negative errno. */
int pp_recv_req(int fd, struct pp_req *req)
{
	struct pp_conn c = { .fd = fd, .mode = PP_BLOCK };
	struct pp_req w;
	int err = pp_recv_all(&c, &w, sizeof(w));

	if (err)
		return err;
	*req = (struct pp_req){
		.magic = le32toh(w.magic),   .version = le16toh(w.version), .cmd = w.cmd,
		.mode = w.mode,		     .size = le32toh(w.size),	    .size2 = le32toh(w.size2),
		.count = le64toh(w.count),   .verify = le32toh(w.verify),   .depth = le32toh(w.depth),
	};
	if (req->magic != PP_MAGIC || req->version != PP_VERSION || req->mode >= PP_MODES ||
	    req->size > PP_SIZE_MAX || req->size2 > PP_SIZE_MAX || !req->size)
		return -EPROTO;
	return 0;
}

int pp_send_reply(int fd, const struct pp_reply *reply)
{
	struct pp_conn c = { .fd = fd, .mode = PP_BLOCK };
	struct pp_reply w = {
		.magic = htole32(PP_MAGIC),
		.error = htole32(reply->error),
		.bytes = htole64(reply->bytes),
		.bad_at = htole64(reply->bad_at),
	};

	return pp_send_all(&c, &w, sizeof(w));
}

int pp_recv_reply(int fd, struct pp_reply *reply)
{
	struct pp_conn c = { .fd = fd, .mode = PP_BLOCK };
	struct pp_reply w;
	int err = pp_recv_all(&c, &w, sizeof(w));

	if (!err && le32toh(w.magic) != PP_MAGIC)
		err = -EPROTO;
	if (err) {
		pp_error("no answer from the server: %s",
			 err == -ENODATA ? "it closed the connection; its own message says why" :
			 err == -EPROTO	 ? "what answers there is no pingpong server of this version" :
					   strerror(-err));
		return err;
	}
	*reply = (struct pp_reply){
		.error = le32toh(w.error), .bytes = le64toh(w.bytes), .bad_at = le64toh(w.bad_at),
	};
	if (reply->error) {
		pp_error("the server refused: %s", strerror((int)reply->error));
		return -EPROTO;
	}
	return 0;
}

int pp_request(int fd, const struct pp_req *req, struct pp_reply *reply)
{
	int err = pp_send_req(fd, req);

	if (err) {
		pp_error("cannot send to the server: %s", strerror(-err));
		return err;
	}
	return pp_recv_reply(fd, reply);
}

/* ------------------------------------------------------------------ content */

void *pp_buffer(size_t len)
{
	void *p;

	if (posix_memalign(&p, 4096, (len + 4095) & ~(size_t)4095)) {
		pp_error("no memory for %zu bytes", len);
		return NULL;
	}
	memset(p, 0, len);
	return p;
}

/* Made once for the longest message so far; callers keep the pointer only while they ask for nothing longer. */
const uint8_t *pp_pattern(size_t longest)
{
	static uint8_t *pattern;
	static size_t have;
	size_t len = PP_PATTERN_PERIOD + longest;
	uint64_t x = 0x9e3779b97f4a7c15ull;

	if (len <= have)
		return pattern;
	free(pattern);
	have = 0;
	pattern = pp_buffer(len + 8);
	if (!pattern)
		return NULL;
	for (size_t i = 0; i < PP_PATTERN_PERIOD; i += 8) {	/* xorshift64* */
		uint64_t v;

		x ^= x >> 12;
		x ^= x << 25;
		x ^= x >> 27;
		v = x * 0x2545f4914f6cdd1dull;
		memcpy(pattern + i, &v, 8);
	}
	for (size_t i = PP_PATTERN_PERIOD; i < len; i++)
		pattern[i] = pattern[i - PP_PATTERN_PERIOD];
	have = len;
	return pattern;
}
