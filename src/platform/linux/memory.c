/* memory.c: the arena's file is a memfd: never in /dev/shm, gone with its last user. */
#include "platform/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE /* Linux 5.14; older kernels answer EINVAL, and it is only a hint */
#define MADV_POPULATE_WRITE 23
#endif

/* RLIMIT_FSIZE holds for a memfd too. Going over it would raise SIGXFSZ, so ask first. */
static uint64_t
within_limit(uint64_t bytes, uint64_t grain)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= bytes)
        return bytes;
    return limit.rlim_cur / grain * grain;
}

int
fmp_memory_create(uint64_t *bytes, uint64_t grain)
{
    *bytes = within_limit(*bytes, grain);
    if (*bytes == 0)
        return -EFBIG;
    int fd = memfd_create("fastmp", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)*bytes) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int
fmp_memory_size(int fd, uint64_t *bytes)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    *bytes = (uint64_t)st.st_size;
    return 0;
}

int
fmp_memory_read(int fd, uint64_t offset, void *to, size_t bytes)
{
    ssize_t n = pread(fd, to, bytes, (off_t)offset);
    return n < 0 ? -errno : (size_t)n < bytes ? -EIO : 0;
}

int
fmp_memory_map(int fd, uint64_t offset, size_t bytes, void **address)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, (off_t)offset);
    if (p == MAP_FAILED)
        return -errno;
    madvise(p, bytes, MADV_DONTDUMP);
    *address = p;
    return 0;
}

void
fmp_memory_unmap(void *address, size_t bytes)
{
    munmap(address, bytes);
}

int
fmp_memory_commit(int fd, uint64_t offset, size_t bytes)
{
    while (fallocate(fd, 0, (off_t)offset, (off_t)bytes) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

void
fmp_memory_populate(void *address, size_t bytes)
{
    madvise(address, bytes, MADV_POPULATE_WRITE);
}

int
fmp_memory_release(int fd, uint64_t offset, size_t bytes)
{
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes) < 0)
        return -errno;
    return 0;
}
