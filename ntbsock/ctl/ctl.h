/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ctl.h - what the verbs of ntbsock-ctl share: exit codes, options that all of them take, output
 *
 * A verb is a function that gets its own argv (argv[0] is the verb's name) and returns an exit code.  Results go
 * to standard output, everything else to standard error; a result that could not be written is a failure.
 */
#ifndef NTBSOCK_CTL_H
#define NTBSOCK_CTL_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <jansson.h>

/* `run` itself ends like env(1): 125 it failed, 126 CMD cannot be executed, 127 CMD not found, else CMD's own. */
enum ntbs_ctl_exit {
	NTBS_CTL_OK = 0,
	NTBS_CTL_FAILED = 1,	/* the request was understood and failed; or `check` found mistakes */
	NTBS_CTL_USAGE = 2,	/* unknown verb, option or argument */
	NTBS_CTL_NO_BROKER = 3, /* no broker answers */
	NTBS_CTL_RUN_FAILED = 125,
	NTBS_CTL_NOT_EXECUTABLE = 126,
	NTBS_CTL_NOT_FOUND = 127,
};

/* Options of every verb; values from 256 on, so that a verb's own short options never collide. */
enum {
	NTBS_OPT_BROKER_DIR = 256,
	NTBS_OPT_JSON,
	NTBS_OPT_HELP,
	NTBS_OPT_OWN, /* a verb's own long options count from here */
};
#define NTBS_CTL_OPTIONS                                                                           \
	{ "broker-dir", required_argument, NULL, NTBS_OPT_BROKER_DIR }, NTBS_CTL_OWN_OPTIONS
/* Of a verb that asks no broker. */
#define NTBS_CTL_OWN_OPTIONS                                                                       \
	{ "json", no_argument, NULL, NTBS_OPT_JSON },                                              \
		{ "help", no_argument, NULL, NTBS_OPT_HELP }

struct ntbs_ctl_opts {
	const char *verb;	/* for messages */
	const char *broker_dir; /* NULL: look in the usual places */
	bool json, help;
};

/**
 * ntbs_ctl_option() - Take an option that every verb has, or complain
 * @opts: to fill in
 * @c: what getopt_long() has returned
 * @argv: of the verb, for the message
 *
 * Return: 0 taken; NTBS_CTL_USAGE after an option that nobody knows, named on standard error.
 */
int ntbs_ctl_option(struct ntbs_ctl_opts *opts, int c, char **argv);

/* Print the help of a verb.  Return: exit code. */
int ntbs_ctl_help(const char *verb);

/* One line on standard error, "ntbsock-ctl: " in front. */
void ntbs_ctl_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Wrong usage: the line, then where help is.  Return: NTBS_CTL_USAGE. */
int ntbs_ctl_usage(const char *verb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Print @root (its reference is taken) and close standard output.  Return: @code, or FAILED if that failed. */
int ntbs_ctl_print_json(json_t *root, int code);

/* Copy at most @len bytes of a foreign string (perhaps not terminated), control and non-ASCII characters made '?'. */
const char *ntbs_ctl_printable(char *dst, size_t dst_bytes, const char *src, size_t len);

/* A decimal number up to @max, all of @s.  Return: 0 or -EINVAL. */
int ntbs_ctl_number(const char *s, uint64_t max, uint64_t *value);

/* The verbs. */
int ntbs_run_verb(int argc, char **argv);
int ntbs_edit_node(int argc, char **argv);
int ntbs_edit_port(int argc, char **argv);
int ntbs_show_status(int argc, char **argv);
int ntbs_show_stats(int argc, char **argv);
int ntbs_show_reload(int argc, char **argv);
int ntbs_conns_verb(int argc, char **argv);
int ntbs_drain_verb(int argc, char **argv);
int ntbs_ports_verb(int argc, char **argv);
int ntbs_bind_verb(int argc, char **argv);
int ntbs_unbind_verb(int argc, char **argv);
int ntbs_selftest_verb(int argc, char **argv);

#endif
