/* futex.c: the shared form of the futex only: a private one never wakes another process. */
#include "platform/platform.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/result.h"

int
fmp_futex_wait(_Atomic uint32_t *word, uint32_t expected, fmp_time until)
{
    struct timespec ts = {.tv_sec = until / FMP_SECOND, .tv_nsec = until % FMP_SECOND};
    long rc = syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected, until == FMP_FOREVER ? NULL : &ts, NULL,
                      FUTEX_BITSET_MATCH_ANY);
    if (rc == 0 || errno == EAGAIN)
        return 0;
    if (errno == ETIMEDOUT)
        return FMP_TIMEOUT;
    if (errno == EINTR)
        return FMP_INTR;
    return -errno;
}

int
fmp_futex_wake(_Atomic uint32_t *word, int count)
{
    long woken = syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
    return woken > 0 ? (int)woken : 0;
}
