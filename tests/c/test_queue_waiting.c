/* Who waits for messages otherwise than to take one: with a descriptor, or in a poll. */
#include "test_queue.h"

static int
readable(const fmp_ear *ear)
{
    return fmp_fd_wait_readable(ear->fd, FMP_NOW) == 0;
}

static void
an_ear_hears_messages(void)
{
    begin(0, 0);
    struct label l;
    fmp_ear ear = {0};
    fmp_queue_calm(a, q, &ear); /* of no ear */
    push(10, (struct label){1, 0});
    CHECK_EQ(fmp_queue_listen(a, q, &ear), 0);
    CHECK(readable(&ear));
    push(10, (struct label){1, 1});
    for (int i = 0; i < 2; i++) {
        CHECK(readable(&ear));
        CHECK(try_take(&l));
        fmp_queue_calm(a, q, &ear);
    }
    CHECK(!readable(&ear));
    push(10, (struct label){1, 2});
    CHECK(readable(&ear));
    fmp_bell_leave(a, &q->bell, &ear);
    fmp_object_drop(a, (fmp_object *)q - 1);
    CHECK_EQ(check_blocks(), 0);
}

/* Q2: the one that arrives when its killed pusher's lock is taken is heard. */
static void
an_ear_hears_what_a_repair_brings(void)
{
    begin(0, 0);
    fmp_ear ear = {0};
    CHECK_EQ(fmp_queue_listen(a, q, &ear), 0);
    fmp_parcel p = parcel(10, (struct label){1, 1});
    q->adding = q->adding_last = p.node;
    atomic_store(&q->tail_lock.owner, check_dead());
    fmp_object_sweep(a);
    CHECK_EQ(fmp_queue_size(q), 1);
    CHECK(readable(&ear));
    fmp_bell_leave(a, &q->bell, &ear);
}

static void
a_poll_takes_nothing(void)
{
    begin(0, 0);
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    CHECK_EQ(fmp_queue_poll(a, q, &w), FMP_TIMEOUT);
    push(10, (struct label){1, 1});
    for (int i = 0; i < 3; i++)
        CHECK_EQ(fmp_queue_poll(a, q, &w), 0);
    CHECK_EQ(fmp_queue_size(q), 1);
}

static void
poll_for_ever(void *arg)
{
    (void)arg;
    CHECK_EQ(WAIT(FMP_FOREVER, fmp_queue_poll(a, q, &w)), 0);
}

static void
take_one(void *arg)
{
    struct label l;
    CHECK(take_until(FMP_FOREVER, &l, NULL));
    fmp_store((_Atomic int *)arg, 1);
}

/* One wake-up for each message: who polls passes it on to who takes. */
static void
who_polls_keeps_no_taker_asleep(void)
{
    for (int round = 0; round < 50; round++) {
        begin(0, 0);
        fake_futex.unsliced = 1;
        _Atomic int taken = 0;
        pthread_t pollers[2];
        check_threads(pollers, 2, poll_for_ever, NULL, 0);
        UNTIL(ASLEEP(&q->items));
        pthread_t taker = check_thread(take_one, (void *)&taken);
        while (!fmp_load(&taken)) {
            if (fmp_queue_size(q) == 0)
                push(10, (struct label){1, 1});
            sched_yield();
        }
        check_finish(taker);
        push(10, (struct label){1, 2});
        check_finish_all(pollers, 2);
        fake_futex.unsliced = 0;
    }
}

CHECK_MAIN(TEST(an_ear_hears_messages), TEST(an_ear_hears_what_a_repair_brings), TEST(a_poll_takes_nothing),
           TEST(who_polls_keeps_no_taker_asleep))
