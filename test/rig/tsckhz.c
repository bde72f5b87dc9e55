// SPDX-License-Identifier: BSD-2-Clause
/*
 * tsckhz.c - prints the frequency of this machine's time stamp counter in kHz
 *
 * An emulated guest reads the host's counter.  Told its frequency, its kernel need not measure it, which goes wrong on
 * a busy host: guests were seen whose clock ran seventeen times too fast (README.md, "Settings").
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

/* Both clocks at one moment: of some tries the one in which the two calls lay closest together. */
static void both(int64_t *ns, uint64_t *tsc)
{
	int64_t best = INT64_MAX;

	for (int i = 0; i < 50; i++) {
		int64_t before = now_ns();
		uint64_t t = __rdtsc();
		int64_t after = now_ns();

		if (after - before < best) {
			best = after - before;
			*ns = before + (after - before) / 2;
			*tsc = t;
		}
	}
}

int main(void)
{
	struct timespec pause = { .tv_nsec = 150000000 };
	int64_t ns[2] = { 0, 0 };
	uint64_t tsc[2] = { 0, 0 };

	both(&ns[0], &tsc[0]);
	nanosleep(&pause, NULL);
	both(&ns[1], &tsc[1]);
	printf("%.0f\n", (double)(tsc[1] - tsc[0]) * 1e6 / (double)(ns[1] - ns[0]));
	return 0;
}
