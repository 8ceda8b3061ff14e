/* fake_futex.c: takes the place of linux/futex.c in the test programs. It counts calls, and can be told
 * to sleep without slices, or to answer itself instead of the system. */
#define fmp_futex_wait system_futex_wait
#define fmp_futex_wake system_futex_wake
#include "../../src/platform/linux/futex.c"
#undef fmp_futex_wait
#undef fmp_futex_wake

#include "check.h"

struct fake_futex fake_futex;

int fmp_futex_wait(_Atomic uint32_t *word, uint32_t expected, fmp_time until);
int fmp_futex_wake(_Atomic uint32_t *word, int count);

int
fmp_futex_wait(_Atomic uint32_t *word, uint32_t expected, fmp_time until)
{
    atomic_fetch_add(&fake_futex.waits, 1);
    if (fake_futex.on_wait != NULL)
        fake_futex.on_wait(word, expected, until);
    if (fake_futex.scripted)
        return fake_futex.outcome;
    return system_futex_wait(word, expected, fake_futex.unsliced ? FMP_FOREVER : until);
}

int
fmp_futex_wake(_Atomic uint32_t *word, int count)
{
    atomic_fetch_add(&fake_futex.wakes, 1);
    atomic_store(&fake_futex.last_count, (uint32_t)count);
    if (fake_futex.on_wake != NULL)
        fake_futex.on_wake(word);
    return fake_futex.scripted ? fake_futex.woken : system_futex_wake(word, count);
}
