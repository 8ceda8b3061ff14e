/* memory.c: the arena's file is a memfd: never in /dev/shm, gone with its last user. */
#include "platform/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define HUGE_PAGE ((uintptr_t)2 << 20) /* of most machines; with others, less of it is aligned */

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
fmp_memory_open(fmp_memory *m, int fd, uint64_t *bytes)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    *m = (fmp_memory){.fd = fd, .device = st.st_dev, .inode = st.st_ino};
    *bytes = (uint64_t)st.st_size;
    return 0;
}

int
fmp_memory_create(fmp_memory *m, uint64_t *bytes, uint64_t grain)
{
    *bytes = within_limit(*bytes, grain);
    if (*bytes == 0)
        return -EFBIG;
    int fd = memfd_create("fastmp", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (fchmod(fd, S_IRUSR | S_IWUSR) < 0 || ftruncate(fd, (off_t)*bytes) < 0 || /* it came as open to all */
        fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fmp_memory_open(m, fd, bytes);
}

int
fmp_memory_descriptor(const fmp_memory *m)
{
    struct stat st;
    if (m->fd < 0 || fstat(m->fd, &st) < 0 || st.st_dev != m->device || st.st_ino != m->inode)
        return -EBADF;
    return m->fd;
}

void
fmp_memory_close(fmp_memory *m)
{
    int fd = fmp_memory_descriptor(m);
    if (fd >= 0)
        close(fd);
    m->fd = -1;
}

/* Without a descriptor: a copy of the mapping of the file's first page may be of any length. Of it only the
 * range is kept. */
static void *
map_by_anchor(const fmp_memory *m, uint64_t offset, size_t bytes)
{
    char *copy = mremap(m->anchor, 0, offset + bytes, MREMAP_MAYMOVE);
    if (copy != MAP_FAILED && offset != 0)
        munmap(copy, offset);
    return copy == MAP_FAILED ? MAP_FAILED : copy + offset;
}

int
fmp_memory_map(fmp_memory *m, uint64_t offset, size_t bytes, void **address)
{
    int fd = fmp_memory_descriptor(m);
    void *p = fd < 0 ? map_by_anchor(m, offset, bytes)
                     : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, (off_t)offset);
    if (p == MAP_FAILED)
        return -errno;
    madvise(p, bytes, MADV_DONTDUMP);
    if (offset == 0)
        m->anchor = p;
    *address = p;
    return 0;
}

void
fmp_memory_unmap(void *address, size_t bytes)
{
    munmap(address, bytes);
}

/* Call use() on the pages of the range, mapped for that time. */
static int
by_anchor(const fmp_memory *m, uint64_t offset, size_t bytes, int (*use)(void *pages, size_t bytes))
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint64_t start = offset / page * page, end = (offset + bytes + page - 1) / page * page;
    void *pages = map_by_anchor(m, start, end - start);
    if (pages == MAP_FAILED)
        return -ENOMEM;
    int rc = use(pages, end - start);
    munmap(pages, end - start);
    return rc;
}

/* A page that is read exists from then on. */
static int
touch(void *pages, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (madvise(pages, bytes, MADV_POPULATE_WRITE) == 0)
        return 0;
    if (errno != EINVAL)
        return -ENOMEM;
    for (size_t at = 0; at < bytes; at += page)
        (void)*((volatile char *)pages + at);
    return 0;
}

static int
discard(void *pages, size_t bytes)
{
    return madvise(pages, bytes, MADV_REMOVE) < 0 ? -errno : 0;
}

int
fmp_memory_read(const fmp_memory *m, uint64_t offset, void *to, size_t bytes)
{
    int fd = fmp_memory_descriptor(m);
    if (fd >= 0) {
        ssize_t n = pread(fd, to, bytes, (off_t)offset);
        return n < 0 ? -errno : (size_t)n < bytes ? -EIO : 0;
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE), skip = offset % page;
    char *pages = map_by_anchor(m, offset - skip, skip + bytes);
    if (pages == MAP_FAILED)
        return -ENOMEM;
    memcpy(to, pages + skip, bytes);
    munmap(pages, skip + bytes);
    return 0;
}

int
fmp_memory_commit(const fmp_memory *m, uint64_t offset, size_t bytes)
{
    int fd = fmp_memory_descriptor(m);
    if (fd < 0)
        return by_anchor(m, offset, bytes, touch);
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

/* The last whole page of a range tells: what was used before lies at its beginning, if it is mixed. */
static int
is_fresh(uintptr_t start, uintptr_t end, size_t page)
{
    unsigned char there;
    return end > start && mincore((void *)(end - page), page, &there) == 0 && !(there & 1);
}

void
fmp_memory_expect(void *address, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = (uintptr_t)address, to = from + bytes;
    uintptr_t start = (from + page - 1) / page * page, end = to / page * page;
    if (!is_fresh(start, end, page))
        return;
    uintptr_t huge_start = (from + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE, huge_end = to / HUGE_PAGE * HUGE_PAGE;
    if (huge_end > huge_start)
        madvise((void *)huge_start, huge_end - huge_start, MADV_HUGEPAGE);
    madvise((void *)start, end - start, MADV_POPULATE_WRITE);
}

int
fmp_memory_release(const fmp_memory *m, uint64_t offset, size_t bytes)
{
    int fd = fmp_memory_descriptor(m);
    if (fd < 0)
        return by_anchor(m, offset, bytes, discard);
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes) < 0)
        return -errno;
    return 0;
}
