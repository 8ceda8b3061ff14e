#include "core/mutex.h"

#include "core/owner.h"

#define MOMENT (200 * FMP_MILLISECOND) /* above what a holder waits for a processor, on most days */
#define LOOKS 64                       /* that take about 1 us, as those sections do */

static int
may_be_free(void *arg)
{
    return atomic_load(&((fmp_mutex *)arg)->owner) == 0;
}

/* Step into a dead holder's place. Whoever only tries doesn't ask the system whether he is dead. */
static int
inherit(fmp_arena *a, fmp_mutex *m, const fmp_waiter *w)
{
    uint32_t owner = fmp_load(&m->owner), flags = fmp_peek(&m->flags);
    if (owner == 0 || (flags & FMP_MUTEX_PLAIN))
        return 0;
    int dead = w->until == FMP_NOW ? fmp_owner_known_dead(a, owner) : !fmp_owner_alive(a, owner);
    if (!dead || !fmp_mutex_take(a, m, owner))
        return 0;
    m->depth = 0;
    if (flags & FMP_MUTEX_ROBUST)
        fmp_store(&m->flags, flags | FMP_MUTEX_RECOVERED);
    return 1;
}

int
fmp_mutex_lock(fmp_arena *a, fmp_mutex *m, fmp_waiter *w)
{
    for (;;) {
        if (fmp_mutex_trylock(a, m))
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

static int
try_for_a_moment(fmp_arena *a, fmp_mutex *m)
{
    for (int i = 0; i < LOOKS; i++) {
        fmp_cpu_relax();
        if (may_be_free(m) && fmp_mutex_trylock(a, m))
            return 0;
    }
    return FMP_BUSY;
}

int
fmp_mutex_enter_slowly(fmp_arena *a, fmp_mutex *m, const fmp_waiter *w)
{
    if (w->hasty)
        return try_for_a_moment(a, m);
    fmp_time least = fmp_time_after(MOMENT);
    fmp_waiter own = FMP_WAITER(w->until > least ? w->until : least);
    int rc;
    do
        rc = fmp_mutex_lock(a, m, &own);
    while (rc == FMP_INTR && w->until <= least); /* signals can wait for a moment, too */
    return rc;
}

int
fmp_mutex_unlock_robust(fmp_arena *a, fmp_mutex *m)
{
    if (!fmp_mutex_held(m))
        return FMP_FULL;
    if (!fmp_mutex_mine(a, m))
        return FMP_NOT_OWNER;
    fmp_store(&m->flags, FMP_MUTEX_ROBUST);
    return fmp_mutex_unlock(m);
}
