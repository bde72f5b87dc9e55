// SPDX-License-Identifier: BSD-2-Clause
/*
 * preload_hidden.c - what the C library does with a descriptor by calls that have no name to wrap: messages of its own, aio
 *
 * The connection goes to TCP first, for good: those calls see the kernel's socket alone, and aio comes back to it in a thread.
 * psignal() is not among them: it prints on stderr (preload_stdio.c), while perror() takes a duplicate.
 */
#include "preload.h"

#include <aio.h>
#include <execinfo.h>
#include <unistd.h>

NTBS_EXPORT void perror(const char *s)
{
	if (stderr)
		ntbs_stdio_leave_ring(stderr->_fileno);
	LIBC(perror)(s);
}

NTBS_EXPORT void psiginfo(const siginfo_t *info, const char *s)
{
	ntbs_stdio_leave_ring(STDERR_FILENO);
	LIBC(psiginfo)(info, s);
}

NTBS_EXPORT void backtrace_symbols_fd(void *const *buffer, int size, int fd)
{
	ntbs_stdio_leave_ring(fd);
	LIBC(backtrace_symbols_fd)(buffer, size, fd);
}

NTBS_EXPORT int aio_read(struct aiocb *cb)
{
	ntbs_stdio_leave_ring(cb->aio_fildes);
	return LIBC(aio_read)(cb);
}

NTBS_EXPORT int aio_read64(struct aiocb64 *cb)
{
	ntbs_stdio_leave_ring(cb->aio_fildes);
	return LIBC(aio_read64)(cb);
}

NTBS_EXPORT int aio_write(struct aiocb *cb)
{
	ntbs_stdio_leave_ring(cb->aio_fildes);
	return LIBC(aio_write)(cb);
}

NTBS_EXPORT int aio_write64(struct aiocb64 *cb)
{
	ntbs_stdio_leave_ring(cb->aio_fildes);
	return LIBC(aio_write64)(cb);
}

#define LEAVE_ALL(list, n)                                                               \
	do {                                                                             \
		for (int i_ = 0; i_ < (n); i_++)                                         \
			if ((list)[i_] && (list)[i_]->aio_lio_opcode != LIO_NOP)         \
				ntbs_stdio_leave_ring((list)[i_]->aio_fildes);           \
	} while (0)

NTBS_EXPORT int lio_listio(int mode, struct aiocb *const list[restrict], int n, struct sigevent *restrict sig)
{
	LEAVE_ALL(list, n);
	return LIBC(lio_listio)(mode, list, n, sig);
}

NTBS_EXPORT int lio_listio64(int mode, struct aiocb64 *const list[restrict], int n, struct sigevent *restrict sig)
{
	LEAVE_ALL(list, n);
	return LIBC(lio_listio64)(mode, list, n, sig);
}
