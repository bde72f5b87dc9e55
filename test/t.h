/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * t.h - harness of one test program
 *
 *	int main(void)
 *	{
 *		t_ok(1 + 1 == 2, "arithmetic");
 *		return t_done();
 *	}
 *
 * Exit status: 0 passed, 1 failed, 77 skipped.  A failed t_ok() is counted and the test goes on; t_must() ends it
 * at once.  Whatever is random comes from t_rand(), seeded by T_SEED or by the clock; t_done() prints the seed of a
 * failure.  A child that a test makes with t_fork() ends itself with t_child_exit(), and the parent takes its status with t_reap().
 * Safe for threads.
 */
#ifndef NTBSOCK_TEST_T_H
#define NTBSOCK_TEST_T_H

#include <errno.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define T_UNUSED __attribute__((unused))

static int t_failures_;
static uint64_t t_seed_value_, t_rand_state_;
static bool t_seeded_;

T_UNUSED __attribute__((format(printf, 4, 5)))
static bool t_check_(bool ok, const char *file_line, const char *cond, const char *fmt, ...)
{
	char text[600];
	va_list ap;
	int err = errno;

	if (ok)
		return true;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "%s: [%d] failed: %s: %s (errno %d: %s)\n", file_line, (int)getpid(), cond, text, err, strerror(err));
	__atomic_add_fetch(&t_failures_, 1, __ATOMIC_RELAXED);
	return false;
}

#define T_STR2_(x) #x
#define T_STR_(x) T_STR2_(x)
#define T_HERE_ __FILE__ ":" T_STR_(__LINE__)

/* Count a failure unless @cond holds; true if it does. */
#define t_ok(cond, ...) t_check_(!!(cond), T_HERE_, #cond, __VA_ARGS__)

/* The same, and nothing after it makes sense without it. */
#define t_must(cond, ...)                                                                           \
	do {                                                                                        \
		if (!t_ok(cond, __VA_ARGS__))                                                       \
			t_fatal_();                                                                 \
	} while (0)

/* Compare numbers and show both. */
#define t_eq(got, want, ...)                                                                        \
	({                                                                                          \
		long long got_ = (long long)(got), want_ = (long long)(want);                       \
		char text_[400];                                                                    \
		snprintf(text_, sizeof(text_), __VA_ARGS__);                                        \
		t_check_(got_ == want_, T_HERE_, #got " == " #want, "%s: got %lld, want %lld", text_, got_, want_); \
	})

/* The seed of this run. */
T_UNUSED static uint64_t t_seed(void)
{
	if (!t_seeded_) {
		const char *env = getenv("T_SEED");
		struct timespec ts;

		clock_gettime(CLOCK_REALTIME, &ts);
		t_seed_value_ = env && *env ? strtoull(env, NULL, 0) : ((uint64_t)ts.tv_nsec << 20 ^ (uint64_t)ts.tv_sec) % 1000000007;
		t_rand_state_ = t_seed_value_;
		t_seeded_ = true;
	}
	return t_seed_value_;
}

/* A generator of one's own, for threads: splitmix64. */
T_UNUSED static uint64_t t_rand_r(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

T_UNUSED static uint64_t t_rand(void)
{
	t_seed();
	return t_rand_r(&t_rand_state_);
}

/* Byte @pos of the test stream number @stream: any two places look different, and any place can be checked alone. */
T_UNUSED static uint8_t t_byte(uint64_t stream, uint64_t pos)
{
	uint64_t x = (pos >> 3) * 0x9e3779b97f4a7c15ull + stream * 0xc2b2ae3d27d4eb4full;

	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 32;
	return (uint8_t)(x >> 8 * (pos & 7));
}

T_UNUSED static void t_fill(void *buf, size_t len, uint64_t stream, uint64_t pos)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = t_byte(stream, pos + i);
}

/* Position of the first wrong byte of @buf, or -1. */
T_UNUSED static ssize_t t_wrong(const void *buf, size_t len, uint64_t stream, uint64_t pos)
{
	for (size_t i = 0; i < len; i++) {
		if (((const uint8_t *)buf)[i] != t_byte(stream, pos + i))
			return (ssize_t)i;
	}
	return -1;
}

#define t_same_bytes(got, got_len, want, want_len)                                                  \
	({                                                                                          \
		const uint8_t *g_ = (const void *)(got), *w_ = (const void *)(want);                \
		size_t gl_ = (got_len), wl_ = (want_len), at_ = 0;                                  \
		while (at_ < gl_ && at_ < wl_ && g_[at_] == w_[at_])                                \
			at_++;                                                                      \
		t_check_(gl_ == wl_ && at_ == gl_, T_HERE_, #got " same bytes as " #want,           \
			 "%zu and %zu bytes, first difference at %zu", gl_, wl_, at_);              \
	})

T_UNUSED static void t_print_seed_(void)
{
	if (t_seeded_)
		fprintf(stderr, "to repeat: T_SEED=%llu\n", (unsigned long long)t_seed_value_);
}

T_UNUSED static int t_done(void)
{
	int n = __atomic_load_n(&t_failures_, __ATOMIC_RELAXED);

	if (!n)
		return 0;
	fprintf(stderr, "%d check(s) failed\n", n);
	t_print_seed_();
	return 1;
}

T_UNUSED static void t_fatal_(void)
{
	t_print_seed_();
	exit(1);
}

/* What this test needs is not here: says so and ends it. */
T_UNUSED __attribute__((format(printf, 1, 2), noreturn)) static void t_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("SKIP ");
	vprintf(fmt, ap);
	printf("\n");
	va_end(ap);
	exit(77);
}

/* fork(), with a child that counts its own failures. */
T_UNUSED static pid_t t_fork(void)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(1);
	}
	if (!pid)
		t_failures_ = 0;
	return pid;
}

T_UNUSED __attribute__((noreturn)) static void t_child_exit(void)
{
	exit(t_done());
}

/* Take a child's end; it must have ended with status 0. */
T_UNUSED static void t_reap(pid_t pid)
{
	int status = -1;
	pid_t got;

	do
		got = waitpid(pid, &status, 0);
	while (got < 0 && errno == EINTR);
	t_ok(got == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0, "child %d ended with wait status 0x%x", (int)pid, status);
}

T_UNUSED static double t_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

#endif
