#include "check.h"

#include <errno.h>

#include "core/cond.h"

static fmp_arena *a;
static fmp_cond *c;
static uint64_t base;

static void
begin(void)
{
    a = check_arena();
    c = check_object(FMP_CONDITION, sizeof(*c));
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
    return WAIT(until, fmp_cond_sleep(a, c, node, &w));
}

static fmp_cond_node *
node_at(fmp_ref ref)
{
    return fmp_heap_at(a, ref);
}

static uint32_t
notified(fmp_ref ref)
{
    return fmp_load(&node_at(ref)->notified) != FMP_COND_WAITING;
}

/* C1, C2: as many on the list as are counted, all of them SHARED and none notified. */
static void
check_list(uint32_t count)
{
    uint32_t found = 0;
    for (fmp_ref ref = c->first; ref.off != 0; ref = node_at(ref)->next, found++) {
        CHECK_EQ(node_at(ref)->tag, FMP_TAG_SHARED);
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
    check_threads(threads, 5, wait_for_it, (void *)woken, 0);
    UNTIL(fmp_load(&c->waiters) == 6);
    fmp_cond_notify(a, c, 2);
    CHECK_EQ(c->waiters, 4);
    UNTIL(fmp_load(woken) == 2);
    check_join(pid); /* it was the first */
    fmp_cond_notify(a, c, UINT32_MAX);
    check_finish_all(threads, 5);
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
        atomic_fetch_add_explicit(&woken_waits, 1, memory_order_relaxed);
    }
}

#define CROWD (FMP_COND_OWN + 2) /* the nodes of some are blocks */

/* Blocks that were nodes, too. */
static void
use_blocks(void *unused)
{
    (void)unused;
    while (fmp_peek(&woken_waits) < CROWD * WAITS) {
        fmp_ref ref;
        void *p;
        CHECK_EQ(fmp_heap_alloc(a, sizeof(fmp_cond_node), &ref, &p), 0);
        check_fill(p, sizeof(fmp_cond_node), 7);
        fmp_heap_free(a, ref);
        sched_yield();
    }
}

/* Each notification that found a waiter woke one, and no sleeper was forgotten. */
static void
no_notification_is_lost(void)
{
    begin();
    atomic_store(&woken_waits, 0);
    fake_futex.unsliced = 1;
    pthread_t threads[CROWD], user = check_thread(use_blocks, NULL);
    check_threads(threads, CROWD, wait_many_times, NULL, 0);
    for (int given = 0; given < CROWD * WAITS; given++) {
        UNTIL(fmp_load(&c->waiters) > 0);
        fmp_cond_notify(a, c, 1);
    }
    check_finish_all(threads, CROWD);
    check_finish(user);
    fake_futex.unsliced = 0;
    CHECK_EQ(woken_waits, CROWD * WAITS);
    check_list(0);
    CHECK_EQ(check_blocks(), base);
}

static uint32_t letter; /* not atomic: it is the waiter's once he is notified */

static void
read_letters(void *unused)
{
    (void)unused;
    for (uint32_t i = 1; i <= WAITS; i++) {
        fmp_ref n = enter();
        CHECK_EQ(sleep_until(n, FMP_FOREVER), 0);
        CHECK_EQ(letter, i);
    }
}

static void
who_is_notified_sees_what_was_before(void)
{
    begin();
    fake_futex.unsliced = 1;
    pthread_t thread = check_thread(read_letters, NULL);
    for (uint32_t i = 1; i <= WAITS; i++) {
        UNTIL(fmp_load(&c->waiters) > 0);
        letter = i;
        fmp_cond_notify(a, c, 1);
    }
    check_finish(thread);
    fake_futex.unsliced = 0;
}

/* Turns of who sleeps and who notifies. They order nothing. */
static _Atomic uint32_t asleep, told;

static void
sleep_until_told(_Atomic uint32_t *word, uint32_t expected, fmp_time until)
{
    (void)word, (void)expected, (void)until;
    uint32_t turn = fmp_peek(&asleep) + 1;
    atomic_store_explicit(&asleep, turn, memory_order_relaxed);
    UNTIL(fmp_peek(&told) == turn);
}

/* Each waits on a block, which serves for something else at once. */
static void
use_released_nodes(void *rounds)
{
    for (uint32_t i = 0; i < (uintptr_t)rounds; i++) {
        fmp_ref n = enter(), block;
        void *p;
        CHECK_EQ(sleep_until(n, FMP_FOREVER), 0);
        CHECK_EQ(fmp_heap_alloc(a, sizeof(fmp_cond_node), &block, &p), 0);
        CHECK_EQ(block.off, n.off);
        check_fill(p, sizeof(fmp_cond_node), i); /* the notifier has read `next` before: C3 */
        fmp_heap_free(a, block);
    }
}

/* The sleep fails, and who slept looks whether the node is released: R1 and A1 alone order what he does with it. */
static void
who_notifies_is_done_with_a_released_node(void)
{
    enum { ROUNDS = 20 };
    begin();
    fmp_ref own[FMP_COND_OWN];
    for (int i = 0; i < FMP_COND_OWN; i++)
        own[i] = enter();
    fmp_cond_notify(a, c, FMP_COND_OWN); /* off the list, and not yet free */
    fake_futex.scripted = fake_futex.woken = 1;
    fake_futex.outcome = -EINVAL;
    fake_futex.on_wait = sleep_until_told;
    pthread_t thread = check_thread(use_released_nodes, (void *)ROUNDS);
    for (uint32_t turn = 1; turn <= ROUNDS; turn++) {
        UNTIL(fmp_peek(&asleep) == turn);
        fmp_cond_notify(a, c, 1);
        atomic_store_explicit(&told, turn, memory_order_relaxed);
    }
    check_finish(thread);
    memset(&fake_futex, 0, sizeof(fake_futex));
    for (int i = 0; i < FMP_COND_OWN; i++)
        CHECK_EQ(sleep_until(own[i], FMP_NOW), 0);
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
    check_threads(threads, 3, time_out_many_times, (void *)got, 0);
    for (int i = 0; i < 20000; i++)
        fmp_cond_notify(a, c, 1);
    check_finish_all(threads, 3);
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

/* More than the condition has nodes for: the others' are blocks. */
static void
a_crowd_waits(void)
{
    enum { N = FMP_COND_OWN + 3 };
    begin();
    for (int round = 0; round < 2; round++) {
        fmp_ref n[N];
        for (int i = 0; i < N; i++)
            n[i] = enter();
        CHECK_EQ(check_blocks(), base + 3);
        check_list(N);
        fmp_cond_notify(a, c, 2);
        CHECK_EQ(sleep_until(n[N - 1], FMP_NOW), FMP_TIMEOUT);
        check_list(N - 3);
        fmp_cond_notify(a, c, UINT32_MAX);
        for (int i = 0; i < N - 1; i++)
            CHECK_EQ(sleep_until(n[i], FMP_NOW), 0);
        CHECK_EQ(check_blocks(), base);
    }
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
    CHECK_EQ(node_at(n)->tag, id); /* C3 */
    fmp_ref other = enter();
    CHECK(other.off != n.off);
    CHECK(fmp_owner_bury(a, id));
    fmp_object_sweep(a);
    CHECK_EQ(check_blocks(), base);
    fmp_ref again[2] = {enter(), enter()}; /* one of them has it */
    CHECK(again[0].off == n.off || again[1].off == n.off || enter().off == n.off);
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
        *(fmp_cond_node *)p = (fmp_cond_node){.owner = dead, .tag = dead};
        fmp_heap_tag(a, n, dead);
        if (step >= 1)
            node_at(first)->next = n;
        if (step >= 2)
            atomic_fetch_add(&c->waiters, 1);
        atomic_store(&c->guard.owner, dead);
        fmp_object_sweep(a);
        check_list(1);
        CHECK_EQ(check_blocks(), base);
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
            node_at(n[1])->tag = dead;
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
            node_at(n[0])->tag = a->self; /* who waits for it */
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
           TEST(notify_wakes_exactly_so_many), TEST(no_notification_is_lost), TEST(who_is_notified_sees_what_was_before),
           TEST(who_notifies_is_done_with_a_released_node), TEST(deadlines_and_notifications_meet),
           TEST(destroyed_with_its_waiters), TEST(a_killed_waiter_is_passed_over),
           TEST(a_crowd_waits), TEST(a_killed_waiter_that_was_notified_leaves_nothing), TEST(who_was_entering_is_forgotten),
           TEST(who_was_giving_up_is_forgotten), TEST(a_killed_notifier_strands_nobody), TEST(killed_at_any_moment))
