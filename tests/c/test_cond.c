#include "check.h"

#include "core/cond.h"

static fmp_arena *a;
static fmp_cond *c;
static uint64_t base;

static void
begin(void)
{
    a = check_arena();
    fmp_object *o;
    CHECK_EQ(fmp_object_create(a, FMP_CONDITION, sizeof(*c), &o), 0);
    c = fmp_object_body(o);
    base = check_blocks();
}

static fmp_ref
enter(void)
{
    fmp_ref node;
    CHECK_EQ(fmp_cond_enter(a, c, &node), 0);
    return node;
}

static int
sleep_until(fmp_ref node, fmp_time until)
{
    fmp_waiter w = FMP_WAITER(until);
    int rc;
    while ((rc = fmp_cond_sleep(a, c, node, &w)) == FMP_INTR)
        ;
    return rc;
}

static fmp_cond_node *
node_at(fmp_ref ref)
{
    return fmp_heap_at(a, ref);
}

static uint32_t
notified(fmp_ref ref)
{
    return fmp_load(&node_at(ref)->notified);
}

/* C1, C2: as many on the list as are counted, all of them SHARED and none notified. */
static void
check_list(uint32_t count)
{
    uint32_t found = 0;
    for (fmp_ref ref = c->first; ref.off != 0; ref = node_at(ref)->next, found++) {
        CHECK_EQ(((fmp_block *)fmp_heap_at(a, ref) - 1)->tag, FMP_TAG_SHARED);
        CHECK(!notified(ref));
        CHECK(found < count);
    }
    CHECK_EQ(found, count);
    CHECK_EQ(c->waiters, count);
    CHECK_EQ(c->guard.owner, 0);
}

static void
first_come_first_served(void)
{
    begin();
    fmp_ref n[4] = {enter(), enter(), enter(), enter()};
    check_list(4);
    fmp_cond_notify(a, c, 0);
    check_list(4);
    fmp_cond_notify(a, c, 1);
    CHECK(notified(n[0]) && !notified(n[1]));
    check_list(3);
    fmp_cond_notify(a, c, 2);
    CHECK(notified(n[1]) && notified(n[2]) && !notified(n[3]));
    check_list(1);
    CHECK_EQ(sleep_until(n[1], FMP_FOREVER), 0);
    CHECK_EQ(sleep_until(n[0], FMP_NOW), 0);
    CHECK_EQ(sleep_until(n[2], FMP_FOREVER), 0);
    CHECK_EQ(sleep_until(n[3], FMP_NOW), FMP_TIMEOUT);
    check_list(0);
    fmp_cond_notify(a, c, 5);
    CHECK_EQ(check_blocks(), base);
}

static void
who_gives_up_leaves_the_list(void)
{
    for (int leaver = 0; leaver < 3; leaver++) {
        begin();
        fmp_ref n[3] = {enter(), enter(), enter()};
        CHECK_EQ(sleep_until(n[leaver], fmp_clock() + FMP_MILLISECOND), FMP_TIMEOUT);
        check_list(2);
        fmp_cond_notify(a, c, 2);
        check_list(0);
        for (int i = 0; i < 3; i++)
            CHECK(i == leaver || sleep_until(n[i], FMP_NOW) == 0);
        CHECK_EQ(check_blocks(), base);
    }
}

static void
an_interrupted_wait_goes_on(void)
{
    begin();
    fmp_ref n = enter();
    fmp_waiter w = FMP_WAITER(FMP_FOREVER);
    w.spun = 1;
    fake_futex.scripted = 1;
    fake_futex.outcome = FMP_INTR;
    CHECK_EQ(fmp_cond_sleep(a, c, n, &w), FMP_INTR);
    check_list(1);
    fmp_cond_notify(a, c, 1);
    CHECK_EQ(fmp_cond_sleep(a, c, n, &w), 0);
    n = enter();
    CHECK_EQ(fmp_cond_sleep(a, c, n, &w), FMP_INTR);
    CHECK_EQ(sleep_until(n, FMP_NOW), FMP_TIMEOUT); /* given up */
    check_list(0);
    CHECK_EQ(check_blocks(), base);
    memset(&fake_futex, 0, sizeof(fake_futex));
}

static void
wait_for_it(void *woken)
{
    fmp_ref n = enter();
    CHECK_EQ(sleep_until(n, FMP_FOREVER), 0);
    atomic_fetch_add((_Atomic uint32_t *)woken, 1);
}

static void
notify_wakes_exactly_so_many(void)
{
    begin();
    _Atomic uint32_t *woken = check_shared(64);
    fake_futex.unsliced = 1;
    pthread_t threads[5];
    pid_t pid = check_fork(wait_for_it, (void *)woken, NULL);
    UNTIL(fmp_load(&c->waiters) == 1);
    for (int i = 0; i < 5; i++)
        threads[i] = check_thread(wait_for_it, (void *)woken);
    UNTIL(fmp_load(&c->waiters) == 6);
    fmp_cond_notify(a, c, 2);
    CHECK_EQ(c->waiters, 4);
    UNTIL(fmp_load(woken) == 2);
    check_join(pid); /* it was the first */
    fmp_cond_notify(a, c, UINT32_MAX);
    for (int i = 0; i < 5; i++)
        check_finish(threads[i]);
    fake_futex.unsliced = 0;
    CHECK_EQ(*woken, 6);
    check_list(0);
    CHECK_EQ(check_blocks(), base);
}

#define WAITS 3000

static _Atomic uint32_t woken_waits;

static void
wait_many_times(void *unused)
{
    (void)unused;
    uint32_t random = fmp_thread_id();
    for (int i = 0; i < WAITS; i++) {
        fmp_ref n = enter();
        check_dawdle(&random, 2000);
        CHECK_EQ(sleep_until(n, FMP_FOREVER), 0);
        atomic_fetch_add(&woken_waits, 1);
    }
}

/* Each notification that found a waiter woke one, and no sleeper was forgotten. */
static void
no_notification_is_lost(void)
{
    begin();
    atomic_store(&woken_waits, 0);
    fake_futex.unsliced = 1;
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        threads[i] = check_thread(wait_many_times, NULL);
    for (int given = 0; given < 3 * WAITS; given++) {
        UNTIL(fmp_load(&c->waiters) > 0);
        fmp_cond_notify(a, c, 1);
    }
    for (int i = 0; i < 3; i++)
        check_finish(threads[i]);
    fake_futex.unsliced = 0;
    CHECK_EQ(woken_waits, 3 * WAITS);
    check_list(0);
    CHECK_EQ(check_blocks(), base);
}

static void
time_out_many_times(void *arg)
{
    _Atomic uint32_t *notifications = arg;
    uint32_t random = fmp_thread_id();
    for (int i = 0; i < WAITS; i++) {
        fmp_ref n = enter();
        if (sleep_until(n, fmp_clock() + check_random(&random) % 20000) == 0)
            atomic_fetch_add(notifications, 1);
    }
}

static void
deadlines_and_notifications_meet(void)
{
    begin();
    _Atomic uint32_t *got = check_shared(64);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        threads[i] = check_thread(time_out_many_times, (void *)got);
    for (int i = 0; i < 20000; i++)
        fmp_cond_notify(a, c, 1);
    for (int i = 0; i < 3; i++)
        check_finish(threads[i]);
    CHECK(fmp_load(got) <= 20000);
    check_list(0);
    CHECK_EQ(check_blocks(), base);
}

static void
destroyed_with_its_waiters(void)
{
    begin();
    enter();
    enter();
    fmp_object_drop(a, (fmp_object *)c - 1);
    CHECK_EQ(check_blocks(), 0);
}

/* ---- the dead ------------------------------------------------------------------------------------------- */

static void
wait_for_ever(void *woken)
{
    for (;;)
        wait_for_it(woken);
}

static void
a_killed_waiter_is_passed_over(void)
{
    begin();
    _Atomic uint32_t *woken = check_shared(64);
    uint32_t id;
    fmp_ref first = enter();
    pid_t pid = check_fork(wait_for_ever, (void *)woken, &id);
    UNTIL(fmp_load(&c->waiters) == 2);
    fmp_ref last = enter();
    check_slay(pid, id);
    fmp_object_sweep(a);
    CHECK_EQ(c->waiters, 3);
    fmp_cond_notify(a, c, 2);
    CHECK(notified(first) && notified(last));
    check_list(0);
    CHECK_EQ(sleep_until(first, FMP_NOW), 0);
    CHECK_EQ(sleep_until(last, FMP_NOW), 0);
    CHECK_EQ(check_blocks(), base);
}

static void
a_killed_waiter_that_was_notified_leaves_nothing(void)
{
    begin();
    fmp_ref n = enter();
    uint32_t id;
    CHECK_EQ(fmp_owner_reserve(a, &id), 0);
    node_at(n)->owner = id;
    fmp_cond_notify(a, c, 1);
    CHECK_EQ(((fmp_block *)fmp_heap_at(a, n) - 1)->tag, id); /* C3 */
    CHECK_EQ(check_blocks(), base + 1);
    CHECK(fmp_owner_bury(a, id));
    fmp_object_sweep(a);
    CHECK_EQ(check_blocks(), base);
}

/* C2: a waiter dies while it enters, after each step. */
static void
who_was_entering_is_forgotten(void)
{
    for (int step = 0; step < 3; step++) {
        begin();
        fmp_ref first = enter();
        uint32_t dead = check_dead();
        fmp_ref n;
        void *p;
        CHECK_EQ(fmp_heap_alloc_zeroed(a, sizeof(fmp_cond_node), &n, &p), 0);
        ((fmp_cond_node *)p)->owner = dead;
        fmp_heap_tag(a, n, dead);
        if (step >= 1)
            node_at(first)->next = n;
        if (step >= 2)
            atomic_fetch_add(&c->waiters, 1);
        atomic_store(&c->guard.owner, dead);
        fmp_object_sweep(a);
        check_list(1);
        CHECK_EQ(check_blocks(), base + 1);
        fmp_cond_notify(a, c, 1);
        CHECK_EQ(sleep_until(first, FMP_NOW), 0);
        CHECK_EQ(check_blocks(), base);
    }
}

/* C2: a waiter dies while it gives up, after each step. */
static void
who_was_giving_up_is_forgotten(void)
{
    for (int step = 0; step < 4; step++) {
        begin();
        fmp_ref n[3] = {enter(), enter(), enter()};
        uint32_t dead = check_dead();
        node_at(n[1])->owner = dead;
        if (step >= 1)
            fmp_heap_tag(a, n[1], dead);
        if (step >= 2)
            node_at(n[0])->next = n[2];
        if (step >= 3)
            atomic_fetch_sub(&c->waiters, 1);
        atomic_store(&c->guard.owner, dead);
        fmp_cond_notify(a, c, 1);
        CHECK(notified(n[0]));
        fmp_object_sweep(a);
        check_list(step == 0 ? 2 : 1);
        fmp_cond_notify(a, c, 1);
        CHECK(notified(n[2]));
        check_list(0);
        CHECK_EQ(sleep_until(n[0], FMP_NOW), 0);
        CHECK_EQ(sleep_until(n[2], FMP_NOW), 0);
        CHECK_EQ(check_blocks(), base);
    }
}

/* C2: a notifier dies, after each step: its waiter was notified, or can be still. */
static void
a_killed_notifier_strands_nobody(void)
{
    for (int step = 0; step < 5; step++) {
        begin();
        fmp_ref n[2] = {enter(), enter()};
        uint32_t dead = check_dead();
        if (step >= 1)
            fmp_store(&node_at(n[0])->notified, 1);
        if (step >= 2)
            fmp_heap_tag(a, n[0], a->self); /* who waits for it */
        if (step >= 3)
            c->first = n[1];
        if (step >= 4)
            atomic_fetch_sub(&c->waiters, 1);
        atomic_store(&c->guard.owner, dead);
        fmp_object_sweep(a);
        check_list(step == 0 ? 2 : 1);
        fmp_cond_notify(a, c, 1);
        CHECK(notified(n[0]));
        CHECK_EQ(notified(n[1]), step == 0 ? 0 : 1);
        fmp_cond_notify(a, c, 1);
        CHECK(notified(n[1]));
        CHECK_EQ(sleep_until(n[0], FMP_NOW), 0);
        CHECK_EQ(sleep_until(n[1], FMP_NOW), 0);
        CHECK_EQ(check_blocks(), base);
    }
}

static void
wait_and_give_up(void *unused)
{
    (void)unused;
    uint32_t random = (uint32_t)getpid();
    for (;;) {
        fmp_ref n = enter();
        fmp_cond_notify(a, c, check_random(&random) % 3);
        sleep_until(n, fmp_clock() + check_random(&random) % 10000);
    }
}

static void
killed_at_any_moment(void)
{
    begin();
    uint32_t random = 31;
    for (int round = 0; round < 100; round++) {
        pid_t pids[2];
        uint32_t ids[2];
        fmp_ref mine = enter();
        for (int i = 0; i < 2; i++)
            pids[i] = check_fork_doomed(wait_and_give_up, NULL, &ids[i], &random, 400000);
        for (int i = 0; i < 2; i++)
            while (!check_reaped(pids[i], ids[i]))
                fmp_cond_notify(a, c, 1);
        fmp_object_sweep(a);
        fmp_cond_notify(a, c, UINT32_MAX);
        CHECK_EQ(sleep_until(mine, FMP_NOW), 0);
        check_list(0);
        CHECK_EQ(check_blocks(), base);
    }
}

CHECK_MAIN(TEST(first_come_first_served), TEST(who_gives_up_leaves_the_list), TEST(an_interrupted_wait_goes_on),
           TEST(notify_wakes_exactly_so_many), TEST(no_notification_is_lost), TEST(deadlines_and_notifications_meet),
           TEST(destroyed_with_its_waiters), TEST(a_killed_waiter_is_passed_over),
           TEST(a_killed_waiter_that_was_notified_leaves_nothing), TEST(who_was_entering_is_forgotten),
           TEST(who_was_giving_up_is_forgotten), TEST(a_killed_notifier_strands_nobody), TEST(killed_at_any_moment))
