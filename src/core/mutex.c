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

/* Step into a dead holder's place. Whoever only tries doesn't ask the system whether he is dead. */
static int
inherit(fmp_arena *a, fmp_mutex *m, const fmp_waiter *w)
{
    uint32_t owner = fmp_load(&m->owner);
    if (owner == 0 || (m->flags & FMP_MUTEX_PLAIN))
        return 0;
    int dead = w->until == FMP_NOW ? fmp_owner_known_dead(a, owner) : !fmp_owner_alive(a, owner);
    if (!dead || !take(a, m, owner))
        return 0;
    m->depth = 0;
    return 1;
}

int
fmp_mutex_lock(fmp_arena *a, fmp_mutex *m, fmp_waiter *w)
{
    for (;;) {
        if (take(a, m, 0))
            return 0;
        int rc = fmp_ec_wait(a, &m->ec, may_be_free, m, w);
        if (rc == 0)
            continue;
        return inherit(a, m, w) ? FMP_OWNER_DEAD : rc;
    }
}

int
fmp_mutex_enter(fmp_arena *a, fmp_mutex *m)
{
    fmp_waiter w = FMP_WAITER(FMP_FOREVER);
    int rc;
    while ((rc = fmp_mutex_lock(a, m, &w)) != 0 && rc != FMP_OWNER_DEAD)
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
