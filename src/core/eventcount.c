#include "core/eventcount.h"

#include <limits.h>

#include "core/owner.h"

#define SLICE_MOST FMP_SECOND
#define SPIN_MOST (50 * FMP_MICROSECOND) /* what a sleep and a wake-up cost on an idle machine */
#define SPIN_LEAST (3 * FMP_MICROSECOND) /* enough to see a peer answer at once and recover */
#define HOPEFUL 16                       /* one in so many fruitless waits tries for the whole time */
#define MEMORY_LOOKS 64                  /* at a word of memory, that take about 1 us */
#define CPUS_STALE 4096                  /* waits after which the processors are counted again */

/* How spinning went in this process. Races between its threads only blur a guess. */
static struct {
    _Atomic uint32_t cpus;
    _Atomic uint32_t waits;
    _Atomic uint32_t failures;
    _Atomic fmp_time budget;
} mood = {.budget = SPIN_MOST};

static uint32_t
cpus(void)
{
    if (atomic_fetch_add_explicit(&mood.waits, 1, memory_order_relaxed) % CPUS_STALE == 0)
        fmp_store(&mood.cpus, fmp_cpu_count());
    return fmp_peek(&mood.cpus);
}

static fmp_time
budget(void)
{
    return fmp_peek(&mood.failures) % HOPEFUL == 0 ? SPIN_MOST : fmp_peek(&mood.budget);
}

static void
learn(int paid)
{
    fmp_time b = SPIN_MOST;
    if (!paid) {
        atomic_fetch_add_explicit(&mood.failures, 1, memory_order_relaxed);
        b = fmp_peek(&mood.budget) / 2;
        if (b < SPIN_LEAST)
            b = SPIN_LEAST;
    }
    atomic_store_explicit(&mood.budget, b, memory_order_relaxed);
}

static int
look(fmp_ready_fn ready, void *arg, int times)
{
    for (int i = 0; i < times; i++) {
        if (ready(arg))
            return 1;
        fmp_cpu_relax();
    }
    return 0;
}

int
fmp_ec_spin(fmp_arena *a, fmp_ready_fn ready, void *arg, int looks, fmp_time until)
{
    if (ready(arg))
        return 1;
    uint32_t n = cpus();
    if (n < 2)
        return 0;
    if (look(ready, arg, looks))
        return 1;
    if (!fmp_owner_spin_begin(a, n))
        return 0;
    fmp_time end = fmp_time_after(budget());
    if (end > until)
        end = until;
    int done;
    do
        done = look(ready, arg, (looks + 3) / 4);
    while (!done && fmp_clock() < end);
    fmp_owner_spin_end(a);
    learn(done);
    return done;
}

fmp_time
fmp_ec_slice(fmp_waiter *w)
{
    fmp_time end = fmp_time_after(w->slice);
    w->slice = w->slice < SLICE_MOST / 2 ? w->slice * 2 : SLICE_MOST;
    return end < w->until ? end : w->until;
}

int
fmp_ec_wait(fmp_arena *a, fmp_eventcount *ec, fmp_ready_fn ready, void *arg, fmp_waiter *w)
{
    if (w->until == FMP_NOW)
        return ready(arg) ? 0 : FMP_TIMEOUT;
    if (!w->spun) {
        w->spun = 1;
        if (fmp_ec_spin(a, ready, arg, MEMORY_LOOKS, w->until))
            return 0;
    }
    uint32_t word = atomic_fetch_or(&ec->word, FMP_EC_ASLEEP) | FMP_EC_ASLEEP; /* E2 */
    if (ready(arg))
        return 0;
    fmp_time end = fmp_ec_slice(w);
    int rc = fmp_futex_wait(&ec->word, word, end);
    if (rc != FMP_TIMEOUT)
        return rc;
    if (ready(arg))
        return 0;
    return end < w->until ? FMP_INTR : FMP_TIMEOUT;
}

void
fmp_ec_wake(fmp_eventcount *ec, int count)
{
    uint32_t word = atomic_fetch_add(&ec->word, 2) + 2;
    if (fmp_futex_wake(&ec->word, count) > 0)
        return;
    if (atomic_compare_exchange_strong(&ec->word, &word, (word + 2) & ~FMP_EC_ASLEEP)) /* E3 */
        fmp_futex_wake(&ec->word, INT_MAX);
}
