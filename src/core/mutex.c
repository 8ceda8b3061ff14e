#include "core/mutex.h"

#include "core/owner.h"

static int
may_be_free(void *arg)
{
    return atomic_load(&((fmp_mutex *)arg)->owner) == 0;
}

/* Step into a dead holder's place. Whoever only tries doesn't ask the system whether he is dead. */
static int
inherit(fmp_arena *a, fmp_mutex *m, const fmp_waiter *w)
{
    uint32_t owner = fmp_load(&m->owner);
    if (owner == 0 || (m->flags & FMP_MUTEX_PLAIN))
        return 0;
    int dead = w->until == FMP_NOW ? fmp_owner_known_dead(a, owner) : !fmp_owner_alive(a, owner);
    if (!dead || !fmp_mutex_take(a, m, owner))
        return 0;
    m->depth = 0;
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
