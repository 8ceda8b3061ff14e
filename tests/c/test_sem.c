#include "check.h"

#include "core/sem.h"

static fmp_arena *a;
static fmp_sem *s;

static void
begin(uint32_t count, uint32_t max)
{
    a = check_arena();
    s = check_object(FMP_PLAIN, sizeof(*s));
    fmp_sem_init(s, count, max);
}

static int
wait_until(fmp_time until)
{
    return WAIT(until, fmp_sem_wait(a, s, &w));
}

static void
as_often_as_there_are_permits(void)
{
    begin(2, FMP_SEM_MAX);
    CHECK_EQ(wait_until(FMP_NOW), 0);
    CHECK_EQ(wait_until(FMP_FOREVER), 0);
    CHECK_EQ(wait_until(FMP_NOW), FMP_TIMEOUT);
    CHECK_EQ(wait_until(fmp_clock() + FMP_MILLISECOND), FMP_TIMEOUT);
    CHECK_EQ(s->count, 0);
    CHECK_EQ(fmp_sem_post(s), 0);
    CHECK_EQ(s->count, 1);
    CHECK_EQ(wait_until(FMP_NOW), 0);
}

static void
no_post_beyond_the_bound(void)
{
    begin(1, 2);
    CHECK_EQ(fmp_sem_post(s), 0);
    CHECK_EQ(fmp_sem_post(s), FMP_FULL);
    CHECK_EQ(s->count, 2);
    begin(FMP_SEM_MAX - 1, FMP_SEM_MAX);
    CHECK_EQ(fmp_sem_post(s), 0);
    CHECK_EQ(fmp_sem_post(s), FMP_FULL);
    CHECK_EQ(s->count, FMP_SEM_MAX);
    begin(0, 0);
    CHECK_EQ(fmp_sem_post(s), FMP_FULL);
}

static void
an_interrupted_wait_takes_what_is_there(void)
{
    begin(0, 5);
    fmp_waiter w = FMP_WAITER(FMP_FOREVER);
    w.spun = 1;
    fake_futex.scripted = 1;
    fake_futex.outcome = FMP_INTR;
    CHECK_EQ(fmp_sem_wait(a, s, &w), FMP_INTR);
    CHECK_EQ(s->count, 0);
    CHECK_EQ(fmp_sem_post(s), 0);
    CHECK_EQ(fmp_sem_wait(a, s, &w), 0);
    CHECK_EQ(s->count, 0);
    memset(&fake_futex, 0, sizeof(fake_futex));
}

static _Atomic int *inside;

static void
go_in_and_out(void *arg)
{
    (void)arg;
    for (int i = 0; i < 5000; i++) {
        CHECK_EQ(wait_until(FMP_FOREVER), 0);
        int now = atomic_fetch_add_explicit(inside, 1, memory_order_relaxed) + 1;
        CHECK(now <= 3);
        atomic_fetch_sub_explicit(inside, 1, memory_order_relaxed);
        CHECK_EQ(fmp_sem_post(s), 0); /* never refused: each gives back what it took */
    }
}

static void
never_more_than_permits(void)
{
    begin(3, 3);
    inside = check_shared(64);
    fake_futex.unsliced = 1;
    pthread_t threads[4];
    pid_t pid = check_fork(go_in_and_out, NULL, NULL);
    check_threads(threads, 4, go_in_and_out, NULL, 0);
    check_finish_all(threads, 4);
    check_join(pid);
    fake_futex.unsliced = 0;
    CHECK_EQ(s->count, 3);
}

static uint64_t counter; /* not atomic: it is whose the permit is */

static void
count_up(void *unused)
{
    (void)unused;
    for (int i = 0; i < 5000; i++) {
        CHECK_EQ(wait_until(FMP_FOREVER), 0);
        counter++;
        CHECK_EQ(fmp_sem_post(s), 0);
    }
}

static void
one_permit_is_a_lock(void)
{
    begin(1, 1);
    counter = 0;
    fake_futex.unsliced = 1;
    pthread_t threads[4];
    check_threads(threads, 4, count_up, NULL, 0);
    check_finish_all(threads, 4);
    fake_futex.unsliced = 0;
    CHECK_EQ(counter, 4 * 5000);
}

static void
take_one(void *taken)
{
    CHECK_EQ(wait_until(FMP_FOREVER), 0);
    atomic_fetch_add((_Atomic int *)taken, 1);
}

/* As many posts as sleepers, and each sleeper gets one. */
static void
each_post_reaches_a_sleeper(void)
{
    begin(0, 100);
    _Atomic int taken = 0;
    fake_futex.unsliced = 1;
    uint32_t waits = fake_futex.waits;
    pthread_t threads[6];
    check_threads(threads, 6, take_one, (void *)&taken, 0);
    UNTIL(fmp_load(&fake_futex.waits) >= waits + 6);
    for (int i = 0; i < 6; i++) {
        CHECK_EQ(fmp_sem_post(s), 0);
        UNTIL(fmp_load(&taken) == i + 1);
    }
    check_finish_all(threads, 6);
    fake_futex.unsliced = 0;
    CHECK_EQ(s->count, 0);
}

static void
wait_for_ever(void *flag)
{
    fmp_store((_Atomic int *)flag, 1);
    wait_until(FMP_FOREVER);
    for (;;)
        pause();
}

/* A killed process keeps its permit, and one that was asleep takes none. */
static void
the_dead_keep_what_they_took(void)
{
    begin(1, 5);
    _Atomic int *flag = check_shared(64);
    uint32_t ids[2];
    pid_t one = check_fork(wait_for_ever, (void *)flag, &ids[0]);
    UNTIL(fmp_load(&s->count) == 0);
    fmp_store(flag, 0);
    pid_t two = check_fork(wait_for_ever, (void *)flag, &ids[1]);
    UNTIL(fmp_load(flag) && ASLEEP(&s->ec));
    check_slay(one, ids[0]);
    check_slay(two, ids[1]);
    fmp_object_sweep(a);
    CHECK_EQ(s->count, 0);
    CHECK_EQ(fmp_sem_post(s), 0);
    CHECK_EQ(wait_until(FMP_NOW), 0);
}

CHECK_MAIN(TEST(as_often_as_there_are_permits), TEST(no_post_beyond_the_bound),
           TEST(an_interrupted_wait_takes_what_is_there), TEST(never_more_than_permits), TEST(one_permit_is_a_lock),
           TEST(each_post_reaches_a_sleeper), TEST(the_dead_keep_what_they_took))
