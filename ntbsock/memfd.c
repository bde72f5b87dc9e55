// SPDX-License-Identifier: BSD-2-Clause
/* memfd.c - see memfd.h */
#include "memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "sys.h"

int ntbs_memfd(const char *name, size_t len)
{
	struct rlimit lim;
	long fd, ret;

	/* ftruncate() past RLIMIT_FSIZE would send SIGXFSZ */
	if (ntbs_sys4(SYS_prlimit64, 0, RLIMIT_FSIZE, NULL, &lim) == 0 && lim.rlim_cur < len)
		return -EFBIG;
	fd = ntbs_sys2(SYS_memfd_create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return fd;
	ret = ntbs_sys2(SYS_ftruncate, fd, len);
	if (!ret)
		ret = ntbs_sys3(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	if (ret < 0) {
		ntbs_sys1(SYS_close, fd);
		return ret;
	}
	return fd;
}

int64_t ntbs_memfd_bytes(int fd)
{
	long seals = ntbs_sys2(SYS_fcntl, fd, F_GET_SEALS);
	struct statfs fs;
	struct stat st;

	if (seals < 0 || !(seals & F_SEAL_SHRINK) || ntbs_sys2(SYS_fstatfs, fd, &fs) < 0 || fs.f_type == HUGETLBFS_MAGIC ||
	    ntbs_sys2(SYS_fstat, fd, &st) < 0)
		return -EINVAL;
	return st.st_size;
}

void *ntbs_map_sparse(int fd, uint64_t offset, size_t len, int prot)
{
	long mem = ntbs_sys6(SYS_mmap, 0, len, PROT_NONE, MAP_SHARED | MAP_NORESERVE, fd, offset);

	if (mem < 0 && mem > -4096)
		return NULL;
	ntbs_sys2(SYS_munlock, mem, len);
	if (ntbs_sys3(SYS_mprotect, mem, len, prot) < 0) {
		ntbs_sys2(SYS_munmap, mem, len);
		return NULL;
	}
	ntbs_sys3(SYS_madvise, mem, len, MADV_DONTDUMP);
	return (void *)mem;
}
