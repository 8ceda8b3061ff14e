/* Unfinished tasks (Q5). */
#include "test_queue.h"

static void
tasks_are_finished(void)
{
    begin(0, 0);
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    CHECK_EQ(fmp_queue_join(a, q, &w), 0);
    CHECK_EQ(fmp_queue_task_done(q), FMP_FULL);
    push(10, (struct label){1, 1});
    push(10, (struct label){1, 2});
    CHECK_EQ(fmp_queue_join(a, q, &w), FMP_TIMEOUT);
    CHECK_EQ(fmp_queue_task_done(q), 0); /* before it is taken: as in the standard library */
    CHECK_EQ(fmp_queue_join(a, q, &w), FMP_TIMEOUT);
    CHECK_EQ(fmp_queue_task_done(q), 0);
    CHECK_EQ(fmp_queue_join(a, q, &w), 0);
    CHECK_EQ(fmp_queue_task_done(q), FMP_FULL);
}

static int outcomes[100]; /* of tasks; not atomic: who joins reads them */

static void
join_tasks(void *arg)
{
    CHECK_EQ(WAIT(FMP_FOREVER, fmp_queue_join(a, q, &w)), 0);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(outcomes[i], i);
    CHECK_EQ(q->done, 100);
    fmp_store((_Atomic int *)arg, 1);
}

static void
a_join_ends_with_the_last_task(void)
{
    begin(0, 0);
    for (uint32_t i = 0; i < 100; i++)
        push(10, (struct label){1, i});
    fake_futex.unsliced = 1;
    _Atomic int joined = 0;
    pthread_t thread = check_thread(join_tasks, (void *)&joined);
    UNTIL(ASLEEP(&q->idle));
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(fmp_load(&joined), 0);
        outcomes[i] = i;
        CHECK_EQ(fmp_queue_task_done(q), 0);
    }
    check_finish(thread);
    fake_futex.unsliced = 0;
}

static void
do_every_fourth(void *arg)
{
    for (uintptr_t i = (uintptr_t)arg; i < 100; i += 4) {
        outcomes[i] = (int)i;
        CHECK_EQ(fmp_queue_task_done(q), 0);
    }
}

static void
threads_do_tasks(void)
{
    for (int round = 0; round < 30; round++) {
        begin(0, 0);
        memset(outcomes, 0, sizeof(outcomes));
        for (uint32_t i = 0; i < 100; i++)
            push(10, (struct label){1, i});
        fake_futex.unsliced = 1;
        _Atomic int joined = 0;
        pthread_t workers[4], thread = check_thread(join_tasks, (void *)&joined);
        check_threads(workers, 4, do_every_fourth, NULL, 1);
        check_finish(thread);
        check_finish_all(workers, 4);
        fake_futex.unsliced = 0;
    }
}

CHECK_MAIN(TEST(tasks_are_finished), TEST(a_join_ends_with_the_last_task), TEST(threads_do_tasks))
