/* sem.h: a counting semaphore.
 *
 *   count  permits that may be taken now
 *   max    a post beyond it is refused, exactly: FMP_FULL
 *
 * Who took a permit is nobody's business: a killed process keeps what it took.
 * Lives in: arena. Callers: any thread. */
#ifndef FMP_SEM_H
#define FMP_SEM_H

#include "core/eventcount.h"

#define FMP_SEM_MAX ((uint32_t)INT32_MAX)

typedef struct {
    _Atomic uint32_t count;
    uint32_t max;
    fmp_eventcount ec;
} fmp_sem;

void fmp_sem_init(fmp_sem *s, uint32_t count, uint32_t max);

/* Take a permit: 0, FMP_TIMEOUT or FMP_INTR. */
int fmp_sem_wait(fmp_arena *a, fmp_sem *s, fmp_waiter *w);

/* Give one back: 0, or FMP_FULL. */
int fmp_sem_post(fmp_sem *s);

#endif
