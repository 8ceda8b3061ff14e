/* semaphore.c: the C library's own semaphores. Its timed wait knows the wall clock alone where
 * sem_clockwait is missing (before glibc 2.30), so the deadline is translated for each call: callers
 * sleep in slices, and a clock that is set meanwhile costs them one slice. */
#include "platform/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>

#include "core/result.h"

static sem_t *
system_s(fmp_semaphore *s)
{
    return (sem_t *)s;
}

static int
opened(sem_t *sem, fmp_semaphore **s)
{
    if (sem == SEM_FAILED)
        return -errno;
    *s = (fmp_semaphore *)sem;
    return 0;
}

int
fmp_semaphore_create(const char *name, unsigned value, fmp_semaphore **s)
{
    return opened(sem_open(name, O_CREAT | O_EXCL, 0600, value), s);
}

int
fmp_semaphore_open(const char *name, fmp_semaphore **s)
{
    return opened(sem_open(name, 0), s);
}

void
fmp_semaphore_close(fmp_semaphore *s)
{
    sem_close(system_s(s));
}

int
fmp_semaphore_unlink(const char *name)
{
    return sem_unlink(name) < 0 ? -errno : 0;
}

static struct timespec
wall_clock(fmp_time until)
{
    fmp_time left = until - fmp_clock();
    if (left < 0)
        left = 0;
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    left += ts.tv_nsec;
    return (struct timespec){.tv_sec = ts.tv_sec + left / FMP_SECOND, .tv_nsec = left % FMP_SECOND};
}

static int
take(sem_t *sem, fmp_time until)
{
    if (until == FMP_NOW)
        return sem_trywait(sem);
    if (until == FMP_FOREVER)
        return sem_wait(sem);
    struct timespec end = wall_clock(until);
    return sem_timedwait(sem, &end);
}

int
fmp_semaphore_wait(fmp_semaphore *s, fmp_time until)
{
    if (take(system_s(s), until) == 0)
        return 0;
    if (errno == EAGAIN || errno == ETIMEDOUT)
        return FMP_TIMEOUT;
    return errno == EINTR ? FMP_INTR : -errno;
}

int
fmp_semaphore_post(fmp_semaphore *s)
{
    return sem_post(system_s(s)) < 0 ? -errno : 0;
}

int
fmp_semaphore_value(fmp_semaphore *s, int *value)
{
    return sem_getvalue(system_s(s), value) < 0 ? -errno : 0;
}
