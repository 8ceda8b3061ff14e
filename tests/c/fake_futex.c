/* fake_futex.c: takes the place of linux/futex.c in the test programs. It counts calls, and can be told
 * to sleep without slices, or to answer itself instead of the system. It orders nothing: the thread sanitizer
 * shall see what the core orders. */
#define fmp_futex_wait system_futex_wait
#define fmp_futex_wake system_futex_wake
#include "../../src/platform/linux/futex.c"
#undef fmp_futex_wait
#undef fmp_futex_wake

#include "check.h"

#define HASTE (100 * FMP_MICROSECOND)

struct fake_futex fake_futex;

int fmp_futex_wait(_Atomic uint32_t *word, uint32_t expected, fmp_time until);
int fmp_futex_wake(_Atomic uint32_t *word, int count);

static void
count_up(_Atomic uint32_t *calls)
{
    atomic_fetch_add_explicit(calls, 1, memory_order_relaxed);
}

int
fmp_futex_wait(_Atomic uint32_t *word, uint32_t expected, fmp_time until)
{
    count_up(&fake_futex.waits);
    if (fake_futex.on_wait != NULL)
        fake_futex.on_wait(word, expected, until);
    if (fake_futex.scripted)
        return fake_futex.outcome;
    if (fake_futex.hasty && until > fmp_time_after(HASTE))
        until = fmp_time_after(HASTE);
    return system_futex_wait(word, expected, fmp_peek(&fake_futex.unsliced) ? FMP_FOREVER : until);
}

int
fmp_futex_wake(_Atomic uint32_t *word, int count)
{
    count_up(&fake_futex.wakes);
    atomic_store_explicit(&fake_futex.last_count, (uint32_t)count, memory_order_relaxed);
    if (fake_futex.on_wake != NULL)
        fake_futex.on_wake(word);
    return fake_futex.scripted ? fake_futex.woken : system_futex_wake(word, count);
}
