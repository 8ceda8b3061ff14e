#include "core/mutex.h"

#include "core/owner.h"

static int
may_be_free(void *arg)
{
    return fmp_peek(&((fmp_mutex *)arg)->owner) == 0;
}

/* Swap the owner from `from` to this process. */
static int
take(fmp_arena *a, fmp_mutex *m, uint32_t from)
{
    if (!atomic_compare_exchange_strong_explicit(&m->owner, &from, a->self, memory_order_acquire,
                                                 memory_order_relaxed)) /* A1 pairs R1 */
        return 0;
    atomic_store_explicit(&m->thread, fmp_thread_id(), memory_order_relaxed);
    return 1;
}

/* Step into a dead holder's place. */
static int
inherit(fmp_arena *a, fmp_mutex *m)
{
    uint32_t owner = fmp_load(&m->owner);
    if (owner == 0 || (m->flags & FMP_MUTEX_PLAIN) || fmp_owner_alive(a, owner) || !take(a, m, owner))
        return 0;
    m->depth = 0;
    return 1;
}

int
fmp_mutex_lock(fmp_arena *a, fmp_mutex *m, fmp_time until)
{
    if (take(a, m, 0))
        return 0;
    fmp_waiter w = FMP_WAITER(until);
    for (;;) {
        int asked = w.slices;
        int rc = fmp_ec_wait(a, &m->ec, may_be_free, m, &w);
        if (take(a, m, 0))
            return 0;
        if ((rc == FMP_TIMEOUT || w.slices != asked) && inherit(a, m))
            return FMP_OWNER_DEAD;
        if (rc != 0)
            return rc;
    }
}

int
fmp_mutex_enter(fmp_arena *a, fmp_mutex *m)
{
    int rc;
    while ((rc = fmp_mutex_lock(a, m, FMP_FOREVER)) != 0 && rc != FMP_OWNER_DEAD)
        ;
    return rc;
}

int
fmp_mutex_unlock(fmp_mutex *m)
{
    if (atomic_exchange(&m->owner, 0) == 0) /* R1, and E2 of eventcount.h */
        return FMP_FULL;
    fmp_ec_signal(&m->ec, 1);
    return 0;
}
