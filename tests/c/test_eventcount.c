#include "check.h"

#include <limits.h>

#include "core/eventcount.h"

static fmp_arena *a;
static fmp_eventcount *ec;
static _Atomic uint32_t state;
static uint32_t looks, ready_after; /* ready() says yes from that look on */
static uint32_t slept_on;           /* the word as the sleeper saw it */
static fmp_time slept_until;

static int
is_set(void *arg)
{
    return fmp_load((_Atomic uint32_t *)arg) != 0;
}

static int
after_some_looks(void *arg)
{
    (void)arg;
    return ++looks > ready_after;
}

static void
remember(_Atomic uint32_t *word, uint32_t expected, fmp_time until)
{
    slept_on = expected;
    slept_until = until;
    CHECK_EQ(fmp_load(word), expected);
}

static void
begin(void)
{
    a = check_arena();
    ec = fmp_arena_at(a, FMP_PLACE_FREE);
    atomic_store(&ec->word, 0);
    atomic_store(&state, 0);
    looks = 0;
    ready_after = UINT32_MAX;
    memset(&fake_futex, 0, sizeof(fake_futex));
    fake_futex.scripted = 1;
    fake_futex.on_wait = remember;
}

static void
end(void)
{
    memset(&fake_futex, 0, sizeof(fake_futex));
}

static fmp_waiter
waiter(fmp_time until)
{
    fmp_waiter w = FMP_WAITER(until);
    w.spun = 1; /* looks are counted below */
    return w;
}

static void
nobody_sleeps_who_needs_not(void)
{
    begin();
    fmp_waiter w = waiter(FMP_FOREVER);
    atomic_store(&state, 1);
    CHECK_EQ(fmp_ec_wait(a, ec, is_set, &state, &w), 0);
    w = waiter(FMP_NOW);
    CHECK_EQ(fmp_ec_wait(a, ec, is_set, &state, &w), 0);
    atomic_store(&state, 0);
    CHECK_EQ(fmp_ec_wait(a, ec, is_set, &state, &w), FMP_TIMEOUT);
    CHECK_EQ(fake_futex.waits, 0);
    end();
}

static void
a_sleeper_is_announced(void)
{
    begin();
    atomic_store(&ec->word, 6);
    fmp_waiter w = waiter(FMP_FOREVER);
    CHECK_EQ(fmp_ec_wait(a, ec, is_set, &state, &w), 0); /* woken, or for no reason: look again */
    CHECK_EQ(fake_futex.waits, 1);
    CHECK_EQ(slept_on, 6 | FMP_EC_ASLEEP); /* E1 */
    CHECK_EQ(ec->word, 6 | FMP_EC_ASLEEP);

    looks = 0;
    ready_after = 0; /* it changed after the announcement: E2 */
    CHECK_EQ(fmp_ec_wait(a, ec, after_some_looks, NULL, &w), 0);
    CHECK_EQ(fake_futex.waits, 1);
    end();
}

static void
sleeps_are_sliced(void)
{
    begin();
    fake_futex.outcome = FMP_TIMEOUT;
    fmp_waiter w = waiter(FMP_FOREVER);
    fmp_time slice = 50 * FMP_MILLISECOND;
    for (int i = 0; i < 8; i++) { /* E4 */
        CHECK_EQ(w.slice, slice);
        fmp_time before = fmp_clock();
        CHECK_EQ(fmp_ec_wait(a, ec, is_set, &state, &w), FMP_INTR);
        CHECK(slept_until >= before + slice && slept_until <= fmp_clock() + slice);
        slice = slice * 2 > FMP_SECOND ? FMP_SECOND : slice * 2;
    }
    end();
}

static void
a_deadline_ends_a_wait(void)
{
    begin();
    fake_futex.outcome = FMP_TIMEOUT;
    fmp_time soon = fmp_clock() + FMP_MILLISECOND;
    fmp_waiter w = waiter(soon);
    CHECK_EQ(fmp_ec_wait(a, ec, is_set, &state, &w), FMP_TIMEOUT);
    CHECK_EQ(slept_until, soon);
    ready_after = 1; /* not before the sleep, but at its end */
    w = waiter(soon);
    CHECK_EQ(fmp_ec_wait(a, ec, after_some_looks, NULL, &w), 0);
    CHECK_EQ(looks, 2);
    looks = 0;
    w = waiter(FMP_FOREVER);
    CHECK_EQ(fmp_ec_wait(a, ec, after_some_looks, NULL, &w), 0);
    w = waiter(1); /* long over, but not FMP_NOW */
    w.spun = 0;
    CHECK_EQ(fmp_ec_wait(a, ec, is_set, &state, &w), FMP_TIMEOUT);
    end();
}

static void
signals_and_errors_are_told(void)
{
    begin();
    fmp_waiter w = waiter(FMP_FOREVER);
    fake_futex.outcome = FMP_INTR;
    CHECK_EQ(fmp_ec_wait(a, ec, is_set, &state, &w), FMP_INTR);
    fake_futex.outcome = -22;
    CHECK_EQ(fmp_ec_wait(a, ec, is_set, &state, &w), -22);
    end();
}

static void
who_spins_needs_no_sleep(void)
{
    begin();
    ready_after = 3;
    fmp_waiter w = FMP_WAITER(FMP_FOREVER);
    int rc = fmp_ec_wait(a, ec, after_some_looks, NULL, &w);
    CHECK_EQ(rc, 0);
    CHECK_EQ(w.spun, 1);
    CHECK(fake_futex.waits == 0 || fmp_cpu_count() == 1);
    end();
}

static void
a_signal_to_nobody_is_a_load(void)
{
    begin();
    atomic_store(&ec->word, 8);
    fmp_ec_signal(ec, 1);
    CHECK_EQ(fake_futex.wakes, 0);
    CHECK_EQ(ec->word, 8);
    end();
}

static void
a_signal_to_sleepers_moves_the_count(void)
{
    begin();
    atomic_store(&ec->word, 8 | FMP_EC_ASLEEP);
    fake_futex.woken = 1;
    fmp_ec_signal(ec, 3);
    CHECK_EQ(fake_futex.wakes, 1);
    CHECK_EQ(fake_futex.last_count, 3);
    CHECK_EQ(ec->word, 10 | FMP_EC_ASLEEP); /* E3: more may sleep */
    end();
}

static void
who_wakes_nobody_clears_the_flag(void)
{
    begin();
    atomic_store(&ec->word, 8 | FMP_EC_ASLEEP);
    fmp_ec_signal(ec, 1);
    CHECK_EQ(fake_futex.wakes, 2); /* E3: then all, for who slipped in between */
    CHECK_EQ(fake_futex.last_count, INT_MAX);
    CHECK_EQ(ec->word, 12);
    end();
}

static void
signal_once_more(_Atomic uint32_t *word)
{
    if (fake_futex.wakes == 1)
        atomic_fetch_add(word, 2);
}

static void
a_flag_that_others_use_stays(void)
{
    begin();
    atomic_store(&ec->word, 8 | FMP_EC_ASLEEP);
    fake_futex.on_wake = signal_once_more; /* another signaller, in between */
    fmp_ec_signal(ec, 1);
    CHECK_EQ(fake_futex.wakes, 1);
    CHECK_EQ(ec->word, 12 | FMP_EC_ASLEEP);
    end();
}

/* ---- with the real futex ---------------------------------------------------------------------- */

#define TOKENS 30000

static struct {
    fmp_eventcount ec;
    _Atomic uint32_t count, taken;
} *pot;

static int
has_token(void *arg)
{
    (void)arg;
    return fmp_load(&pot->count) != 0;
}

static int
take_token(void)
{
    uint32_t count = fmp_load(&pot->count);
    while (count != 0) {
        if (atomic_compare_exchange_weak(&pot->count, &count, count - 1))
            return 1;
    }
    return 0;
}

static void
eat(void *share)
{
    for (uint32_t i = 0; i < *(uint32_t *)share; i++) {
        fmp_waiter w = FMP_WAITER(FMP_FOREVER);
        w.spun = i % 4 != 0;
        while (!take_token())
            fmp_ec_wait(a, &pot->ec, has_token, NULL, &w);
        atomic_fetch_add(&pot->taken, 1);
    }
}

static void
feed(void *share)
{
    uint32_t random = 7;
    for (uint32_t i = 0; i < *(uint32_t *)share; i++) {
        atomic_fetch_add(&pot->count, 1);
        fmp_ec_signal(&pot->ec, 1);
        if (i % 8 == 0)
            check_dawdle(&random, 3000);
    }
}

/* Sleeps have no end but a wake-up here: one that is lost is a hang. */
static void
no_wake_up_is_lost_between_threads(void)
{
    a = check_arena();
    pot = check_shared(sizeof(*pot));
    fake_futex.unsliced = 1;
    uint32_t share = TOKENS / 6, feeds = TOKENS / 3;
    pthread_t eaters[6], feeders[3];
    check_threads(eaters, 6, eat, &share, 0);
    check_threads(feeders, 3, feed, &feeds, 0);
    check_finish_all(feeders, 3);
    check_finish_all(eaters, 6);
    CHECK_EQ(pot->count, 0);
    CHECK_EQ(pot->taken, TOKENS);
    fake_futex.unsliced = 0;
}

static void
no_wake_up_is_lost_between_processes(void)
{
    a = check_arena();
    pot = check_shared(sizeof(*pot));
    fake_futex.unsliced = 1;
    uint32_t share = TOKENS / 3;
    pid_t pids[3];
    check_forks(pids, 3, eat, &share, 0);
    for (int i = 0; i < 3; i++)
        feed(&share);
    check_join_all(pids, 3);
    CHECK_EQ(pot->count, 0);
    CHECK_EQ(pot->taken, TOKENS);
    fake_futex.unsliced = 0;
}

static void
wait_for_state(void *arg)
{
    fmp_waiter w = FMP_WAITER(FMP_FOREVER);
    while (!is_set(arg))
        fmp_ec_wait(a, ec, is_set, arg, &w);
}

/* The signaller dies between its change and its signal: the slice ends (E4). */
static void
a_signal_that_never_comes_strands_nobody(void)
{
    a = check_arena();
    ec = fmp_arena_at(a, FMP_PLACE_FREE);
    atomic_store(&ec->word, 0);
    atomic_store(&state, 0);
    pthread_t thread = check_thread(wait_for_state, &state);
    UNTIL(ASLEEP(ec));
    atomic_store(&state, 1);
    check_finish(thread);
}

static void
on_usr1(int number)
{
    (void)number;
}

static _Atomic int outcome;

static void
wait_once(void *arg)
{
    fmp_waiter w = FMP_WAITER(FMP_FOREVER);
    int rc = 0;
    while (rc == 0 && !is_set(arg))
        rc = fmp_ec_wait(a, ec, is_set, arg, &w);
    fmp_store(&outcome, rc);
}

static void
a_signal_interrupts(void)
{
    a = check_arena();
    ec = fmp_arena_at(a, FMP_PLACE_FREE);
    atomic_store(&ec->word, 0);
    atomic_store(&state, 0);
    atomic_store(&outcome, -1);
    struct sigaction action = {.sa_handler = on_usr1, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    pthread_t thread = check_thread(wait_once, &state);
    UNTIL(ASLEEP(ec));
    while (fmp_load(&outcome) == -1) {
        pthread_kill(thread, SIGUSR1);
        sched_yield();
    }
    check_finish(thread);
    CHECK_EQ(outcome, FMP_INTR);
}

CHECK_MAIN(TEST(nobody_sleeps_who_needs_not), TEST(a_sleeper_is_announced), TEST(sleeps_are_sliced),
           TEST(a_deadline_ends_a_wait), TEST(signals_and_errors_are_told), TEST(who_spins_needs_no_sleep),
           TEST(a_signal_to_nobody_is_a_load), TEST(a_signal_to_sleepers_moves_the_count),
           TEST(who_wakes_nobody_clears_the_flag), TEST(a_flag_that_others_use_stays),
           TEST(no_wake_up_is_lost_between_threads), TEST(no_wake_up_is_lost_between_processes),
           TEST(a_signal_that_never_comes_strands_nobody), TEST(a_signal_interrupts))
