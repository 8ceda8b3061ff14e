#include "check.h"

#include "core/mutex.h"

static fmp_arena *a;
static fmp_mutex *m;

static void
begin(uint32_t flags)
{
    a = check_arena();
    m = check_object(FMP_PLAIN, sizeof(*m));
    m->flags = flags;
}

static int
lock_until(fmp_time until)
{
    return WAIT(until, fmp_mutex_lock(a, m, &w));
}

static void
zero_is_free(void)
{
    begin(0);
    CHECK(!fmp_mutex_held(m));
    CHECK(!fmp_mutex_mine(a, m));
    CHECK_EQ(fmp_mutex_unlock(m), FMP_FULL);
    CHECK_EQ(lock_until(FMP_NOW), 0);
    CHECK_EQ(m->owner, a->self);
    CHECK_EQ(m->thread, fmp_thread_id());
    CHECK(fmp_mutex_held(m));
    CHECK(fmp_mutex_mine(a, m));
    CHECK_EQ(lock_until(FMP_NOW), FMP_TIMEOUT); /* not reentrant */
    CHECK_EQ(fmp_mutex_unlock(m), 0);
    CHECK_EQ(m->owner, 0);
    CHECK_EQ(m->thread, 0); /* M2 */
    CHECK_EQ(fmp_mutex_unlock(m), FMP_FULL);
    CHECK_EQ(m->ec.word, 0);
}

static void
a_deadline_ends_a_wait(void)
{
    begin(0);
    CHECK_EQ(lock_until(FMP_FOREVER), 0);
    CHECK_EQ(lock_until(fmp_clock() + 2 * FMP_MILLISECOND), FMP_TIMEOUT);
    CHECK_EQ(lock_until(1), FMP_TIMEOUT);
    CHECK_EQ(m->owner, a->self);
    CHECK_EQ(fmp_mutex_unlock(m), 0);
}

static void
is_it_mine(void *result)
{
    *(int *)result = fmp_mutex_mine(a, m) + 1;
}

static void
a_mutex_belongs_to_a_thread(void)
{
    begin(0);
    int result = 0;
    CHECK_EQ(lock_until(FMP_NOW), 0);
    check_finish(check_thread(is_it_mine, &result));
    CHECK_EQ(result, 1);
    CHECK(fmp_mutex_mine(a, m));
}

static void
fail_if_mine(void *unused)
{
    (void)unused;
    CHECK(!fmp_mutex_mine(a, m));
    CHECK_EQ(lock_until(FMP_NOW), FMP_TIMEOUT);
}

static void
a_child_holds_nothing(void)
{
    begin(0);
    CHECK_EQ(lock_until(FMP_NOW), 0);
    check_join(check_fork(fail_if_mine, NULL, NULL));
    CHECK(fmp_mutex_mine(a, m));
}

static void
lock_and_tell(void *arg)
{
    CHECK_EQ(lock_until(FMP_FOREVER), 0);
    fmp_store((_Atomic int *)arg, 1);
    CHECK_EQ(fmp_mutex_unlock(m), 0);
}

static void
an_unlock_wakes_one(void)
{
    begin(0);
    _Atomic int told[2] = {0, 0};
    CHECK_EQ(lock_until(FMP_NOW), 0);
    fake_futex.unsliced = 1;
    uint32_t waits = fake_futex.waits;
    pthread_t one = check_thread(lock_and_tell, (void *)&told[0]), two = check_thread(lock_and_tell, (void *)&told[1]);
    UNTIL(ASLEEP(&m->ec) && fmp_load(&fake_futex.waits) >= waits + 2);
    CHECK(!told[0] && !told[1]);
    CHECK_EQ(fmp_mutex_unlock(m), 0);
    check_finish(one);
    check_finish(two);
    fake_futex.unsliced = 0;
    CHECK_EQ(m->owner, 0);
}

/* ---- many at once ------------------------------------------------------------------------------------ */

#define ROUNDS 20000

static struct {
    uint64_t counter; /* not atomic: the lock protects it */
    _Atomic int inside;
} *shared;

static void
count_up(void *unused)
{
    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        CHECK_EQ(lock_until(FMP_FOREVER), 0);
        CHECK_EQ(atomic_fetch_add_explicit(&shared->inside, 1, memory_order_relaxed), 0);
        shared->counter++;
        atomic_fetch_sub_explicit(&shared->inside, 1, memory_order_relaxed);
        CHECK_EQ(fmp_mutex_unlock(m), 0);
    }
}

static void
one_thread_at_a_time(void)
{
    begin(0);
    shared = check_shared(sizeof(*shared));
    fake_futex.unsliced = 1;
    pthread_t threads[4];
    check_threads(threads, 4, count_up, NULL, 0);
    check_finish_all(threads, 4);
    fake_futex.unsliced = 0;
    CHECK_EQ(shared->counter, 4 * ROUNDS);
    CHECK_EQ(m->owner, 0);
}

static void
one_process_at_a_time(void)
{
    begin(0);
    shared = check_shared(sizeof(*shared));
    fake_futex.unsliced = 1;
    pid_t pids[3];
    check_forks(pids, 3, count_up, NULL, 0);
    count_up(NULL);
    check_join_all(pids, 3);
    fake_futex.unsliced = 0;
    CHECK_EQ(shared->counter, 4 * ROUNDS);
}

/* ---- dead holders ---------------------------------------------------------------------------------------- */

static void
hold_for_ever(void *flag)
{
    CHECK_EQ(lock_until(FMP_FOREVER), 0);
    m->depth = 3;
    fmp_store((_Atomic int *)flag, 1);
    for (;;)
        pause();
}

static void
the_dead_are_succeeded(void)
{
    begin(0);
    _Atomic int *flag = check_shared(64);
    uint32_t id;
    pid_t pid = check_fork(hold_for_ever, (void *)flag, &id);
    UNTIL(fmp_load(flag));
    CHECK_EQ(m->owner, id);
    CHECK_EQ(lock_until(FMP_NOW), FMP_TIMEOUT);
    CHECK_EQ(lock_until(fmp_clock() + FMP_MILLISECOND), FMP_TIMEOUT);
    check_kill(pid); /* nobody was told */
    CHECK_EQ(lock_until(FMP_NOW), FMP_TIMEOUT);
    CHECK_EQ(lock_until(FMP_FOREVER), FMP_OWNER_DEAD);
    CHECK_EQ(m->owner, a->self);
    CHECK_EQ(m->depth, 0);
    CHECK(fmp_mutex_mine(a, m));
    CHECK(fmp_owner_known_dead(a, id));
    CHECK_EQ(fmp_mutex_unlock(m), 0);
    CHECK_EQ(lock_until(FMP_NOW), 0); /* once repaired it is a lock like any other */
}

static void
a_death_that_is_known_needs_no_wait(void)
{
    begin(0);
    atomic_store(&m->owner, check_dead());
    CHECK_EQ(lock_until(FMP_NOW), FMP_OWNER_DEAD);
    CHECK_EQ(fmp_mutex_unlock(m), 0);
    uint32_t dead = check_dead();
    fmp_owner_recycle(a, dead); /* its slot serves another by now */
    atomic_store(&m->owner, dead);
    CHECK_EQ(fmp_mutex_enter(a, m), FMP_OWNER_DEAD);
    CHECK_EQ(fmp_mutex_unlock(m), 0);
    CHECK_EQ(fmp_mutex_enter(a, m), 0);
}

static int
enter_until(fmp_time until, int hasty)
{
    fmp_waiter w = FMP_WAITER(until);
    w.hasty = hasty;
    return fmp_mutex_enter_until(a, m, &w);
}

/* Those of operations with a deadline, whose holder was stopped. */
static void
a_section_is_waited_for_until_a_deadline(void)
{
    begin(0);
    CHECK_EQ(enter_until(FMP_NOW, 1), 0);
    CHECK_EQ(enter_until(FMP_NOW, 1), FMP_BUSY);
    CHECK_EQ(enter_until(FMP_NOW, 0), FMP_TIMEOUT);
    CHECK_EQ(enter_until(fmp_time_after(FMP_MICROSECOND), 0), FMP_TIMEOUT);
    CHECK_EQ(enter_until(fmp_time_after(FMP_SECOND), 0), FMP_INTR);
    CHECK_EQ(enter_until(FMP_FOREVER, 0), FMP_INTR); /* at the end of a slice */
    CHECK_EQ(fmp_mutex_unlock(m), 0);
    CHECK_EQ(enter_until(FMP_NOW, 0), 0);
    atomic_store(&m->owner, check_dead());
    CHECK_EQ(enter_until(FMP_NOW, 1), FMP_BUSY);
    CHECK_EQ(enter_until(FMP_NOW, 0), FMP_OWNER_DEAD);
}

static void
succeed(void *heirs)
{
    int rc = lock_until(FMP_FOREVER);
    CHECK(rc == 0 || rc == FMP_OWNER_DEAD);
    if (rc == FMP_OWNER_DEAD)
        atomic_fetch_add((_Atomic int *)heirs, 1);
    CHECK_EQ(fmp_mutex_unlock(m), 0);
}

static void
there_is_one_heir(void)
{
    begin(0);
    _Atomic int heirs = 0;
    atomic_store(&m->owner, check_dead());
    pthread_t threads[4];
    check_threads(threads, 4, succeed, (void *)&heirs, 0);
    check_finish_all(threads, 4);
    CHECK_EQ(heirs, 1);
    CHECK_EQ(m->owner, 0);
}

static void
a_plain_one_stays_locked(void)
{
    begin(FMP_MUTEX_PLAIN);
    uint32_t dead = check_dead();
    atomic_store(&m->owner, dead);
    CHECK_EQ(lock_until(FMP_NOW), FMP_TIMEOUT);
    CHECK_EQ(lock_until(fmp_clock() + 60 * FMP_MILLISECOND), FMP_TIMEOUT); /* longer than a slice */
    CHECK_EQ(m->owner, dead);
    CHECK_EQ(fmp_mutex_unlock(m), 0); /* by anybody */
    CHECK_EQ(lock_until(FMP_NOW), 0);
}

static void
release_from_elsewhere(void *unused)
{
    (void)unused;
    CHECK_EQ(fmp_mutex_unlock_robust(a, m), FMP_NOT_OWNER);
}

static void
a_robust_one_remembers_a_death(void)
{
    begin(FMP_MUTEX_ROBUST);
    CHECK_EQ(fmp_mutex_unlock_robust(a, m), FMP_FULL);
    CHECK_EQ(lock_until(FMP_NOW), 0);
    CHECK_EQ(m->flags, FMP_MUTEX_ROBUST);
    check_finish(check_thread(release_from_elsewhere, NULL));
    check_join(check_fork(release_from_elsewhere, NULL, NULL));
    CHECK_EQ(fmp_mutex_unlock_robust(a, m), 0);
    atomic_store(&m->owner, check_dead());
    CHECK_EQ(lock_until(FMP_NOW), FMP_OWNER_DEAD);
    CHECK_EQ(m->flags, FMP_MUTEX_ROBUST | FMP_MUTEX_RECOVERED);
    CHECK_EQ(fmp_mutex_unlock_robust(a, m), 0);
    CHECK_EQ(m->flags, FMP_MUTEX_ROBUST);
    CHECK_EQ(lock_until(FMP_NOW), 0);
}

static void
lock_and_unlock_for_ever(void *steps)
{
    for (;;) {
        int rc = lock_until(FMP_FOREVER);
        CHECK(rc == 0 || rc == FMP_OWNER_DEAD);
        shared->counter++;
        atomic_fetch_add((_Atomic uint32_t *)steps, 1);
        CHECK_EQ(fmp_mutex_unlock(m), 0);
    }
}

static void
killed_at_any_moment(void)
{
    begin(0);
    shared = check_shared(sizeof(*shared));
    _Atomic uint32_t *steps = check_shared(64);
    uint32_t random = 13;
    for (int i = 0; i < 60; i++) {
        pid_t pids[2];
        uint32_t ids[2], before = fmp_load(steps);
        for (int k = 0; k < 2; k++)
            pids[k] = check_fork(lock_and_unlock_for_ever, (void *)steps, &ids[k]);
        UNTIL(fmp_load(steps) - before > 10);
        check_dawdle(&random, 3000);
        check_kill(pids[0]); /* the other, or this process, finds out */
        before = fmp_load(steps);
        UNTIL(fmp_load(steps) - before > 10);
        check_kill(pids[1]);
        int rc = lock_until(FMP_FOREVER);
        CHECK(rc == 0 || rc == FMP_OWNER_DEAD);
        CHECK(shared->counter - fmp_load(steps) <= 120); /* as often as one died in between */
        CHECK_EQ(fmp_mutex_unlock(m), 0);
        for (int k = 0; k < 2; k++)
            fmp_owner_bury(a, ids[k]);
        fmp_object_sweep(a);
    }
}

CHECK_MAIN(TEST(zero_is_free), TEST(a_deadline_ends_a_wait), TEST(a_mutex_belongs_to_a_thread),
           TEST(a_child_holds_nothing), TEST(an_unlock_wakes_one), TEST(one_thread_at_a_time),
           TEST(one_process_at_a_time), TEST(the_dead_are_succeeded), TEST(a_death_that_is_known_needs_no_wait),
           TEST(a_section_is_waited_for_until_a_deadline),
           TEST(there_is_one_heir), TEST(a_plain_one_stays_locked),
           TEST(a_robust_one_remembers_a_death), TEST(killed_at_any_moment))
