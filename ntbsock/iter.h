/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * iter.h - a position in the caller's buffers
 *
 * Invariant: @left is the number of bytes from the position to the end of the pieces, so that a caller with one
 * piece (nearly all) never looks at the array again.
 */
#ifndef NTBSOCK_ITER_H
#define NTBSOCK_ITER_H

#include <stddef.h>
#include <string.h>
#include <sys/uio.h>
#include "user.h"

struct ntbs_iter {
	const struct iovec *iov;	/* current piece */
	size_t off;			/* within it */
	size_t left;			/* in all pieces */
};

static inline void ntbs_iter_init(struct ntbs_iter *it, const struct iovec *iov, size_t len)
{
	it->iov = iov;
	it->off = 0;
	it->left = len;
}

/* Next run of contiguous bytes, at most @max; there is one: the caller has seen @left > 0. */
static inline char *ntbs_iter_run(struct ntbs_iter *it, size_t max, size_t *run)
{
	while (it->off == it->iov->iov_len) {
		it->iov++;
		it->off = 0;
	}
	*run = it->iov->iov_len - it->off;
	if (*run > max)
		*run = max;
	return (char *)it->iov->iov_base + it->off;
}

static inline void ntbs_iter_advance(struct ntbs_iter *it, size_t run)
{
	it->off += run;
	it->left -= run;
}

/* Back by @len bytes: to where a message began that could not be copied. */
static inline void ntbs_iter_rewind(struct ntbs_iter *it, size_t len)
{
	it->left += len;
	while (len > it->off) {
		len -= it->off;
		it->iov--;
		it->off = it->iov->iov_len;
	}
	it->off -= len;
}

/* @len <= @left bytes out of the caller's buffers.  0, or -EFAULT and the position is where the memory ends. */
static inline int ntbs_iter_get(struct ntbs_iter *it, void *dst, size_t len)
{
	while (len) {
		size_t run;
		char *p = ntbs_iter_run(it, len, &run);

		if (__builtin_expect(ntbs_user_copy(dst, p, run), 0))
			return -EFAULT;
		ntbs_iter_advance(it, run);
		dst = (char *)dst + run;
		len -= run;
	}
	return 0;
}

/*
 * @len <= @left bytes into the caller's buffers.  Return: those that found no memory, 0.  @small: at most NTBS_USER_SMALL,
 * which the compiler knows then.
 */
static inline __attribute__((always_inline)) size_t ntbs_iter_put(struct ntbs_iter *it, const void *src, size_t len,
								  bool small)
{
	while (len) {
		size_t run;
		char *p = ntbs_iter_run(it, len, &run);

		if (__builtin_expect(small ? ntbs_user_copy_small(p, src, run) : ntbs_user_copy(p, src, run), 0))
			return len;
		ntbs_iter_advance(it, run);
		src = (const char *)src + run;
		len -= run;
	}
	return 0;
}

#endif
