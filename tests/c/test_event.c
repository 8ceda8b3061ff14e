#include "check.h"

#include "core/event.h"

static fmp_arena *a;
static fmp_event *e;

static void
begin(void)
{
    a = check_arena();
    e = check_object(FMP_PLAIN, sizeof(*e));
}

static int
wait_until(fmp_time until)
{
    return WAIT(until, fmp_event_wait(a, e, &w));
}

static void
a_flag_goes_up_and_down(void)
{
    begin();
    CHECK(!fmp_event_is_set(e));
    CHECK_EQ(wait_until(FMP_NOW), FMP_TIMEOUT);
    CHECK_EQ(wait_until(fmp_clock() + FMP_MILLISECOND), FMP_TIMEOUT);
    fmp_event_set(e);
    CHECK(fmp_event_is_set(e));
    CHECK_EQ(e->state, 3); /* once */
    fmp_event_set(e);
    CHECK_EQ(e->state, 3); /* it was already */
    CHECK_EQ(wait_until(FMP_NOW), 0);
    CHECK_EQ(wait_until(FMP_FOREVER), 0);
    fmp_event_clear(e);
    fmp_event_clear(e);
    CHECK_EQ(e->state, 2);
    CHECK_EQ(wait_until(FMP_NOW), FMP_TIMEOUT); /* what was before is of no concern */
    fmp_event_set(e);
    CHECK_EQ(e->state, 5);
}

static void
the_count_may_wrap(void)
{
    begin();
    atomic_store(&e->state, UINT32_MAX - 1);
    fmp_event_set(e);
    CHECK_EQ(e->state, 1);
    CHECK(fmp_event_is_set(e));
}

static void
wait_for_it(void *woken)
{
    CHECK_EQ(wait_until(FMP_FOREVER), 0);
    atomic_fetch_add((_Atomic int *)woken, 1);
}

static void
all_who_wait_are_woken(void)
{
    begin();
    _Atomic int *woken = check_shared(64);
    fake_futex.unsliced = 1;
    uint32_t waits = fake_futex.waits;
    pthread_t threads[5];
    check_threads(threads, 5, wait_for_it, (void *)woken, 0);
    UNTIL(fmp_load(&fake_futex.waits) >= waits + 5);
    fmp_event_set(e);
    fmp_event_clear(e); /* at once: they had come before */
    check_finish_all(threads, 5);
    fake_futex.unsliced = 0;
    CHECK_EQ(*woken, 5);
    CHECK(!fmp_event_is_set(e));
}

static void
a_child_is_woken(void)
{
    begin();
    _Atomic int *woken = check_shared(64);
    fake_futex.unsliced = 1;
    pid_t pid = check_fork(wait_for_it, (void *)woken, NULL);
    UNTIL(ASLEEP(&e->ec));
    fmp_event_set(e);
    check_join(pid);
    fake_futex.unsliced = 0;
    CHECK_EQ(*woken, 1);
}

/* Set and cleared while the waiter ran signal handlers: it had come before. */
static void
an_interrupted_wait_misses_nothing(void)
{
    begin();
    fmp_waiter w = FMP_WAITER(FMP_FOREVER);
    w.spun = 1;
    fake_futex.scripted = 1;
    fake_futex.outcome = FMP_INTR;
    CHECK_EQ(fmp_event_wait(a, e, &w), FMP_INTR);
    fmp_event_set(e);
    fmp_event_clear(e);
    CHECK_EQ(fmp_event_wait(a, e, &w), 0);
    fmp_waiter later = FMP_WAITER(FMP_FOREVER);
    later.spun = 1;
    CHECK_EQ(fmp_event_wait(a, e, &later), FMP_INTR);
    memset(&fake_futex, 0, sizeof(fake_futex));
}

#define ROUNDS 5000

static struct table {
    fmp_event ping, pong;
    uint64_t ball; /* not atomic: it is whose flag went up */
} *table;

static void
receive(fmp_event *flag, int waiting)
{
    fmp_waiter w = FMP_WAITER(FMP_FOREVER);
    UNTIL(waiting ? fmp_event_wait(a, flag, &w) == 0 : fmp_event_is_set(flag));
    table->ball++;
    fmp_event_clear(flag);
}

/* Every other ball is looked for, not waited for. */
static void
answer(void *unused)
{
    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        receive(&table->ping, i % 2);
        fmp_event_set(&table->pong);
    }
}

static void
serve(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        fmp_event_set(&table->ping);
        receive(&table->pong, i % 4 < 2);
    }
    CHECK_EQ(table->ball, 2 * ROUNDS);
    fake_futex.unsliced = 0;
}

static void
set_up(void)
{
    begin();
    table = check_shared(sizeof(*table));
    fake_futex.unsliced = 1;
}

static void
processes_play(void)
{
    set_up();
    pid_t pid = check_fork(answer, NULL, NULL);
    serve();
    check_join(pid);
}

static void
threads_play(void)
{
    set_up();
    pthread_t thread = check_thread(answer, NULL);
    serve();
    check_finish(thread);
}

CHECK_MAIN(TEST(a_flag_goes_up_and_down), TEST(the_count_may_wrap), TEST(all_who_wait_are_woken),
           TEST(a_child_is_woken), TEST(an_interrupted_wait_misses_nothing),
           TEST(processes_play), TEST(threads_play))
