// SPDX-License-Identifier: BSD-2-Clause
/*
 * preload_stdio.c - FILEs on our sockets: fdopen(), printf() on a socket that has become descriptor 1, fclose()
 *
 * glibc's stdio reads, writes and closes by calls that have no name to wrap.  But it makes them in three functions,
 * which each FILE reaches through a table of pointers that libc exports and that lies in memory made read-only after
 * relocation.  When the process has its first socket of ours, the entries for those three in the tables for bytes and
 * for wide characters become our functions.  A descriptor that is not ours goes on to libc's function.
 *
 * Nothing is assumed of the tables but that libc's three functions, by name, are in them; if they are not, or the
 * memory stays read-only, all is as it was, and a socket goes back to TCP when a FILE is made on it.
 *
 * At exit stdio writes what is in its buffers after everything else in the process has run, our end of the sockets
 * included.  So we let it write to our sockets before we state their end: ntbs_stdio_flush().
 */
#include "preload.h"

#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <link.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "handover.h"
#include "sys.h"

#define SLOTS 21			/* of struct _IO_jump_t, as it has been since glibc 2.1 */
#define DPRINTF_BY_FILE 36		/* the last glibc 2.x whose dprintf() makes a FILE; later ones write by themselves */

static struct {
	ssize_t (*read)(FILE *fp, void *buf, ssize_t len);
	ssize_t (*write)(FILE *fp, const void *buf, ssize_t len);
	int (*close)(FILE *fp);
	void **jumps, **wide_jumps;	/* NULL: not as we know them */
	bool relro;			/* they have to be made writable */
	FILE **list;
	void (*list_lock)(void), (*list_unlock)(void);
} libio;

static struct ntbs_lock hook_lock;
static _Atomic bool hooked;

static ssize_t file_read(FILE *fp, void *buf, ssize_t len)
{
	return ntbs_fdtab_sock(fp->_fileno) ? read(fp->_fileno, buf, len) : libio.read(fp, buf, len);
}

/* All of it, and how much it was; an error is for ferror(). */
static ssize_t file_write(FILE *fp, const void *buf, ssize_t len)
{
	ssize_t done = 0, n;

	if (!ntbs_fdtab_sock(fp->_fileno))
		return libio.write(fp, buf, len);
	while (done < len) {
		n = write(fp->_fileno, (const char *)buf + done, len - done);
		if (n < 0) {
			fp->_flags |= _IO_ERR_SEEN;
			break;
		}
		done += n;
	}
	return done;
}

static int file_close(FILE *fp)
{
	return ntbs_fdtab_peek(fp->_fileno) ? ntbs_fd_close_uncancelled(fp->_fileno) : libio.close(fp);
}

static bool known(void **table)
{
	int found = 0;

	for (int i = 0; table && i < SLOTS; i++)
		found += table[i] == (void *)libio.read || table[i] == (void *)libio.write ||
			 table[i] == (void *)libio.close;
	return found == 3;
}

/* Is the table part of what the dynamic linker has made read-only? */
static int find_relro(struct dl_phdr_info *info, size_t size, void *arg)
{
	ElfW(Addr) at = (ElfW(Addr))libio.jumps;

	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		ElfW(Addr) from = info->dlpi_addr + p->p_vaddr;

		if (p->p_type == PT_GNU_RELRO && at >= from && at < from + p->p_memsz)
			return 1;
	}
	return 0;
}

void ntbs_stdio_init(void)
{
	*(void **)&libio.read = dlsym(RTLD_NEXT, "_IO_file_read");
	*(void **)&libio.write = dlsym(RTLD_NEXT, "_IO_file_write");
	*(void **)&libio.close = dlsym(RTLD_NEXT, "_IO_file_close");
	*(void **)&libio.list = dlsym(RTLD_NEXT, "_IO_list_all");
	*(void **)&libio.list_lock = dlsym(RTLD_NEXT, "_IO_list_lock");
	*(void **)&libio.list_unlock = dlsym(RTLD_NEXT, "_IO_list_unlock");
	libio.jumps = dlsym(RTLD_NEXT, "_IO_file_jumps");
	libio.wide_jumps = dlsym(RTLD_NEXT, "_IO_wfile_jumps");
	if (!libio.read || !libio.write || !libio.close || !libio.list || !libio.list_lock || !libio.list_unlock ||
	    !known(libio.jumps) || !known(libio.wide_jumps))
		libio.jumps = NULL;
	else
		libio.relro = dl_iterate_phdr(find_relro, NULL);
}

static void put(void **slot, void *fn)
{
	__atomic_store_n(slot, fn, __ATOMIC_RELAXED);
}

static bool protect(void **table, int prot)
{
	uintptr_t page = sysconf(_SC_PAGESIZE), from = (uintptr_t)table & -page;

	return !libio.relro || !ntbs_sys3(SYS_mprotect, from, (uintptr_t)(table + SLOTS) - from, prot);
}

static bool patch(void **table)
{
	if (!protect(table, PROT_READ | PROT_WRITE))
		return false;
	for (int i = 0; i < SLOTS; i++) {
		if (table[i] == (void *)libio.read)
			put(&table[i], file_read);
		else if (table[i] == (void *)libio.write)
			put(&table[i], file_write);
		else if (table[i] == (void *)libio.close)
			put(&table[i], file_close);
	}
	protect(table, PROT_READ);
	return true;
}

bool ntbs_stdio_hook(void)
{
	if (atomic_load_explicit(&hooked, memory_order_acquire))
		return true;
	if (!libio.jumps)
		return false;
	ntbs_lock(&hook_lock);
	if (!hooked)
		hooked = patch(libio.jumps) && patch(libio.wide_jumps);
	ntbs_unlock(&hook_lock);
	return hooked;
}

/* Half done by a thread of our parent, it is done again. */
void ntbs_stdio_fork_child(void)
{
	ntbs_lock_reset(&hook_lock);
}

void ntbs_stdio_flush(void)
{
	if (!hooked)
		return;
	libio.list_lock();
	for (FILE *fp = *libio.list; fp; fp = fp->_chain) {
		/* a FILE that another thread is in is not waited for: exit() would not, either */
		if (!ntbs_fdtab_sock(fp->_fileno) || ftrylockfile(fp))
			continue;
		fflush_unlocked(fp);
		funlockfile(fp);
	}
	libio.list_unlock();
}

void ntbs_stdio_leave_ring(int fd)
{
	struct ntbs_sock *sk = ntbs_fdtab_foreign() ? NULL : ntbs_fdtab_sock(fd);	/* a vfork child has other numbers */
	int saved = errno;

	if (sk && ntbs_sock_stage(sk) != NTBS_PLAIN) {
		ntbs_handover_both(sk, fd, NTBS_WHY_STDIO);
		ntbs_handover_await_sent(sk, fd);
	}
	errno = saved;
}

NTBS_EXPORT FILE *fdopen(int fd, const char *mode)
{
	if (!ntbs_stdio_hook())
		ntbs_stdio_leave_ring(fd);
	return LIBC(fdopen)(fd, mode);
}

/* Closes the descriptor by a call that we do not see. */
static void before_freopen(FILE *fp)
{
	int saved = errno;

	if (fp && ntbs_fdtab_sock(fp->_fileno) && !ntbs_fdtab_foreign()) {
		fflush(fp);
		ntbs_fd_forget(fp->_fileno);
	}
	errno = saved;
}

NTBS_EXPORT FILE *freopen(const char *restrict path, const char *restrict mode, FILE *restrict fp)
{
	before_freopen(fp);
	return LIBC(freopen)(path, mode, fp);
}

NTBS_EXPORT FILE *freopen64(const char *restrict path, const char *restrict mode, FILE *restrict fp)
{
	before_freopen(fp);
	return LIBC(freopen64)(path, mode, fp);
}

/* dprintf() makes a FILE of its own, or writes by a call that we do not see. */
static void before_dprintf(int fd)
{
	const char *version = gnu_get_libc_version();

	if (ntbs_fdtab_sock(fd) && (!ntbs_stdio_hook() || atoi(version) != 2 || atoi(version + 2) > DPRINTF_BY_FILE))
		ntbs_stdio_leave_ring(fd);
}

NTBS_EXPORT int vdprintf(int fd, const char *restrict fmt, va_list ap)
{
	before_dprintf(fd);
	return LIBC(vdprintf)(fd, fmt, ap);
}

NTBS_EXPORT int dprintf(int fd, const char *restrict fmt, ...)
{
	va_list ap;
	int ret;

	va_start(ap, fmt);
	ret = vdprintf(fd, fmt, ap);
	va_end(ap);
	return ret;
}

NTBS_EXPORT int __vdprintf_chk(int fd, int flag, const char *fmt, va_list ap);
NTBS_EXPORT int __vdprintf_chk(int fd, int flag, const char *fmt, va_list ap)
{
	before_dprintf(fd);
	return LIBC(__vdprintf_chk)(fd, flag, fmt, ap);
}

NTBS_EXPORT int __dprintf_chk(int fd, int flag, const char *fmt, ...);
NTBS_EXPORT int __dprintf_chk(int fd, int flag, const char *fmt, ...)
{
	va_list ap;
	int ret;

	va_start(ap, fmt);
	ret = __vdprintf_chk(fd, flag, fmt, ap);
	va_end(ap);
	return ret;
}
