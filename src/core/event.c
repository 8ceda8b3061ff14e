#include "core/event.h"

#include <limits.h>

struct look {
    fmp_event *event;
    uint32_t state; /* when the waiter came */
};

static int
was_set(void *arg)
{
    struct look *l = arg;
    uint32_t state = atomic_load(&l->event->state);
    return (state & 1) || state >> 1 != l->state >> 1;
}

void
fmp_event_set(fmp_event *e)
{
    uint32_t state = fmp_peek(&e->state);
    do {
        if (state & 1)
            return;
    } while (!atomic_compare_exchange_weak(&e->state, &state, (state + 2) | 1));
    fmp_ec_signal(&e->ec, INT_MAX);
}

void
fmp_event_clear(fmp_event *e)
{
    atomic_fetch_and(&e->state, ~UINT32_C(1));
}

int
fmp_event_wait(fmp_arena *a, fmp_event *e, fmp_waiter *w)
{
    if (w->since == 0)
        w->since = (uint64_t)fmp_load(&e->state) + 1;
    struct look l = {e, (uint32_t)(w->since - 1)};
    int rc = 0;
    while (rc == 0 && !was_set(&l))
        rc = fmp_ec_wait(a, &e->ec, was_set, &l, w);
    return was_set(&l) ? 0 : rc;
}
