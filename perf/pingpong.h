/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pingpong.h - what the parts of pingpong share
 *
 *   pingpong.c        roles, pinning
 *   pingpong_opts.c   the command line
 *   pingpong_net.c    addresses, connections, whole messages under each way of waiting, requests on the wire
 *   pingpong_server.c the answering side
 *   pingpong_lat.c    the asking side: latency by size, idle connections, hold
 *   pingpong_load.c   the asking side: stream, request/response, connection rate
 *   pingpong_out.c    percentiles, histogram, text and JSON
 */
#ifndef NTBSOCK_PERF_PINGPONG_H
#define NTBSOCK_PERF_PINGPONG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "ticks.h"

enum pp_mode { PP_BLOCK, PP_SPIN, PP_EPOLL, PP_POLL, PP_MODES };
extern const char *const pp_mode_name[PP_MODES];

enum pp_test { PP_LATENCY, PP_STREAM, PP_RR, PP_CONNRATE, PP_HOLD };
extern const char *const pp_test_name[];

#define PP_SIZES_MAX 64
#define PP_SIZE_MAX (64u << 20)	/* of one message */
#define PP_FDS_MAX 100000u

struct pp_opts {
	const char *host;	/* NULL: any (server), loopback (both) */
	const char *path;	/* AF_UNIX instead of TCP */
	uint16_t port;
	bool ipv6;
	enum pp_test test;
	enum pp_mode mode;
	size_t sizes[PP_SIZES_MAX];
	unsigned nr_sizes;
	size_t request, response;	/* --rr */
	unsigned depth;			/* --rr: requests in flight */
	uint64_t count;			/* messages a size, 0: by time */
	uint64_t bytes;			/* --stream, 0: by time */
	double seconds;			/* of measuring, a size */
	unsigned fds;			/* connections, one of them active */
	bool verify, histogram, json, one_core;
	int cpu[2];			/* server, client; -1: not pinned */
	bool may_quit;			/* server of "both": ends when the client asks */
};

extern struct ticks pp_ticks;

/* ---- pingpong_opts.c */
enum pp_role { PP_SERVER, PP_CLIENT, PP_BOTH };
enum pp_role pp_parse(struct pp_opts *o, int argc, char **argv);

/* ---- pingpong_net.c */

/*
 * A request opens a connection or a batch on it; the server answers each with a reply before the batch begins
 * (STREAM: after it ends).  Fixed size, little-endian.
 */
enum pp_cmd {
	PP_CMD_ECHO = 1,	/* @count messages of @size come and are sent back */
	PP_CMD_IDLE,		/* the same, then the connection is parked until the active one ends */
	PP_CMD_STREAM,		/* bytes until EOF */
	PP_CMD_RR,		/* @count requests of @size, each answered with @size2 */
	PP_CMD_CONNRATE,	/* accept, a byte each way, close; until the byte is PP_LAST */
	PP_CMD_QUIT,		/* server of "both" ends */
};
#define PP_LAST 0xff

struct pp_req {
	uint32_t magic;
	uint16_t version;
	uint8_t cmd, mode;
	uint32_t size, size2;
	uint64_t count;
	uint32_t verify;
	uint32_t depth;
};
struct pp_reply {
	uint32_t magic, error;	/* errno of the server, 0 */
	uint64_t bytes;		/* STREAM: received */
	uint64_t bad_at;	/* STREAM: first wrong byte + 1, 0: all as sent */
};

struct pp_conn {
	int fd;
	enum pp_mode mode;
	int epfd;			/* PP_EPOLL: active and idle connections */
	struct pollfd *pfds;		/* PP_POLL: the same; [0] is the active one */
	unsigned nr_pfds;
};

int pp_listen(const struct pp_opts *o, uint16_t *port);
int pp_connect(const struct pp_opts *o);
void pp_nodelay(int fd);
void pp_raise_nofile(unsigned nr);
int pp_request(int fd, const struct pp_req *req, struct pp_reply *reply);
int pp_send_req(int fd, const struct pp_req *req);
int pp_recv_req(int fd, struct pp_req *req);
int pp_send_reply(int fd, const struct pp_reply *reply);
int pp_recv_reply(int fd, struct pp_reply *reply);

/* From here to pp_unwait() the connection waits as @mode says, with @idle in its set. */
int pp_wait_setup(struct pp_conn *c, int fd, enum pp_mode mode, const int *idle, unsigned nr_idle);
void pp_wait_end(struct pp_conn *c);
ssize_t pp_recv_some(struct pp_conn *c, void *buf, size_t len);
int pp_recv_all(struct pp_conn *c, void *buf, size_t len);
int pp_send_all(struct pp_conn *c, const void *buf, size_t len);

/*
 * The content of messages: slices of one buffer of random bytes that both sides can make.  Message @seq
 * begins @seq lines into it (modulo PP_PATTERN_LINES), so that nothing has to be filled in before a send.
 * A stream repeats its first PP_PATTERN_LINES lines.
 */
#define PP_PATTERN_LINES 1021u
#define PP_PATTERN_PERIOD (PP_PATTERN_LINES * 64u)
const uint8_t *pp_pattern(size_t longest);	/* NULL: no memory */
static inline const uint8_t *pp_slice(const uint8_t *pattern, uint64_t seq)
{
	return pattern + seq % PP_PATTERN_LINES * 64;
}
void *pp_buffer(size_t len);

/* ---- roles */
int pp_serve(int lfd, const struct pp_opts *o);
int pp_latency(const struct pp_opts *o);
int pp_hold(const struct pp_opts *o);
int pp_stream(const struct pp_opts *o);
int pp_rr(const struct pp_opts *o);
int pp_connrate(const struct pp_opts *o);
int pp_idle_open(const struct pp_opts *o, int **fds, unsigned nr);

/* ---- pingpong_out.c */
struct pp_summary {
	uint64_t count;
	double min, median, p90, p99, max, mean;	/* ns, one way */
};
void pp_summarise(uint32_t *samples, uint64_t n, struct pp_summary *s); /* sorts; samples: round trips in ticks */
void pp_out_begin(const struct pp_opts *o);
void pp_out_latency(const struct pp_opts *o, size_t size, const struct pp_summary *s,
		    const uint32_t *samples);
void pp_out_stream(const struct pp_opts *o, size_t size, uint64_t bytes, double seconds);
void pp_out_rate(const struct pp_opts *o, const char *what, uint64_t n, double seconds,
		 const struct pp_summary *s);
void pp_out_text(const struct pp_opts *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int pp_out_end(const struct pp_opts *o);
void pp_size_text(size_t size, char *text, size_t len);

/* One line on standard error: what happened, why, what to do. */
void pp_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
