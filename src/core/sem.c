#include "core/sem.h"

void
fmp_sem_init(fmp_sem *s, uint32_t count, uint32_t max)
{
    atomic_store(&s->count, count);
    s->max = max;
}

static int
has_permit(void *arg)
{
    return atomic_load(&((fmp_sem *)arg)->count) != 0;
}

static int
take(fmp_sem *s)
{
    uint32_t count = fmp_peek(&s->count);
    while (count != 0) {
        if (atomic_compare_exchange_weak(&s->count, &count, count - 1))
            return 1;
    }
    return 0;
}

int
fmp_sem_wait(fmp_arena *a, fmp_sem *s, fmp_waiter *w)
{
    int rc = 0;
    while (!take(s)) {
        if (rc != 0)
            return rc;
        rc = fmp_ec_wait(a, &s->ec, has_permit, s, w);
    }
    return 0;
}

int
fmp_sem_post(fmp_sem *s)
{
    uint32_t count = fmp_peek(&s->count);
    do {
        if (count >= s->max)
            return FMP_FULL;
    } while (!atomic_compare_exchange_weak(&s->count, &count, count + 1));
    fmp_ec_signal(&s->ec, 1);
    return 0;
}
