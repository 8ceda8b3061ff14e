#include "check.h"

#include "core/barrier.h"

static fmp_arena *a;
static fmp_barrier *b;

static void
begin(uint32_t parties)
{
    a = check_arena();
    fmp_ref ref;
    void *p;
    CHECK_EQ(fmp_heap_alloc_zeroed(a, sizeof(*b), &ref, &p), 0);
    b = p;
    b->parties = parties;
}

struct visit {
    uint32_t index, generation;
};

static int
arrive(struct visit *v)
{
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    return fmp_barrier_arrive(a, b, &w, &v->index, &v->generation);
}

static int
wait_until(const struct visit *v, fmp_time until)
{
    fmp_waiter w = FMP_WAITER(until);
    int rc;
    while ((rc = fmp_barrier_wait(a, b, v->generation, &w)) == FMP_INTR)
        ;
    return rc;
}

static void
check_state(uint32_t state, uint32_t count, uint32_t generation)
{
    CHECK_EQ(b->state, state);
    CHECK_EQ(b->count, count);
    CHECK_EQ(b->generation, generation);
    CHECK_EQ(b->guard.owner, 0);
}

static void
the_last_lets_all_go(void)
{
    begin(3);
    for (uint32_t g = 0; g < 40; g++) { /* more than broken_bits remembers */
        struct visit v[3];
        check_state(FMP_BARRIER_FILLING, 0, g);
        CHECK_EQ(arrive(&v[0]), 0);
        CHECK_EQ(arrive(&v[1]), 0);
        check_state(FMP_BARRIER_FILLING, 2, g);
        CHECK_EQ(arrive(&v[2]), FMP_LAST);
        for (uint32_t i = 0; i < 3; i++) {
            CHECK_EQ(v[i].index, i);
            CHECK_EQ(v[i].generation, g);
        }
        check_state(FMP_BARRIER_LEAVING, 3, g); /* the action runs */
        struct visit early;
        CHECK_EQ(arrive(&early), FMP_TIMEOUT);
        fmp_barrier_release(a, b, g);
        CHECK_EQ(wait_until(&v[1], FMP_NOW), 0);
        CHECK_EQ(wait_until(&v[0], FMP_FOREVER), 0);
    }
    CHECK_EQ(b->broken_bits, 0);
}

static void
one_party_is_the_last(void)
{
    begin(1);
    struct visit v;
    CHECK_EQ(arrive(&v), FMP_LAST);
    fmp_barrier_release(a, b, v.generation);
    check_state(FMP_BARRIER_FILLING, 0, 1);
}

static void
who_is_late_breaks_it(void)
{
    begin(3);
    struct visit v[3];
    CHECK_EQ(arrive(&v[0]), 0);
    CHECK_EQ(arrive(&v[1]), 0);
    CHECK_EQ(wait_until(&v[0], fmp_clock() + FMP_MILLISECOND), FMP_TIMEOUT);
    CHECK_EQ(b->state, FMP_BARRIER_BROKEN);
    CHECK_EQ(wait_until(&v[1], FMP_FOREVER), FMP_BROKEN);
    CHECK_EQ(arrive(&v[2]), FMP_BROKEN);
    fmp_barrier_reset(a, b);
    check_state(FMP_BARRIER_FILLING, 0, 1);
    CHECK_EQ(wait_until(&v[1], FMP_FOREVER), FMP_BROKEN); /* however late he looks */
    CHECK_EQ(arrive(&v[2]), 0);
    CHECK_EQ(v[2].generation, 1);
}

static void
an_abort_breaks_it(void)
{
    begin(2);
    struct visit v[2];
    CHECK_EQ(arrive(&v[0]), 0);
    fmp_barrier_break(a, b);
    fmp_barrier_break(a, b);
    CHECK_EQ(wait_until(&v[0], FMP_FOREVER), FMP_BROKEN);
    fmp_barrier_reset(a, b);
    CHECK_EQ(arrive(&v[0]), 0);
    CHECK_EQ(arrive(&v[1]), FMP_LAST);
    fmp_barrier_fail(a, b, v[1].generation);
    CHECK_EQ(wait_until(&v[0], FMP_FOREVER), FMP_BROKEN);
    fmp_barrier_release(a, b, v[1].generation); /* too late */
    CHECK_EQ(b->state, FMP_BARRIER_BROKEN);
}

static void
a_reset_breaks_it_for_who_waits(void)
{
    begin(2);
    struct visit v[2];
    fmp_barrier_reset(a, b);
    check_state(FMP_BARRIER_FILLING, 0, 0); /* nobody waited */
    CHECK_EQ(arrive(&v[0]), 0);
    fmp_barrier_reset(a, b);
    check_state(FMP_BARRIER_FILLING, 0, 1);
    CHECK_EQ(arrive(&v[1]), 0);
    CHECK_EQ(wait_until(&v[0], FMP_FOREVER), FMP_BROKEN);
    CHECK_EQ(arrive(&v[0]), FMP_LAST);
    fmp_barrier_release(a, b, v[0].generation);
    CHECK_EQ(wait_until(&v[1], FMP_FOREVER), 0);
}

/* It may run on while the others meet anew. */
static void
an_action_that_a_reset_overtook_ends_nothing(void)
{
    begin(1);
    struct visit v[2];
    CHECK_EQ(arrive(&v[0]), FMP_LAST);
    fmp_barrier_reset(a, b);
    CHECK_EQ(arrive(&v[1]), FMP_LAST);
    fmp_barrier_release(a, b, v[0].generation);
    fmp_barrier_fail(a, b, v[0].generation);
    check_state(FMP_BARRIER_LEAVING, 1, 1);
    fmp_barrier_release(a, b, v[1].generation);
    check_state(FMP_BARRIER_FILLING, 0, 2);
}

static void
who_withdraws_does_not_count(void)
{
    begin(2);
    struct visit v[3];
    CHECK_EQ(arrive(&v[0]), 0);
    fmp_barrier_withdraw(a, b, v[0].generation);
    check_state(FMP_BARRIER_FILLING, 0, 0);
    CHECK_EQ(arrive(&v[1]), 0);
    CHECK_EQ(arrive(&v[2]), FMP_LAST);
    fmp_barrier_withdraw(a, b, v[1].generation); /* all came: too late */
    check_state(FMP_BARRIER_LEAVING, 2, 0);
    fmp_barrier_release(a, b, v[2].generation);
    fmp_barrier_withdraw(a, b, v[1].generation);
    check_state(FMP_BARRIER_FILLING, 0, 1);
}

static void
an_interrupted_wait_goes_on(void)
{
    begin(2);
    struct visit v[2];
    CHECK_EQ(arrive(&v[0]), 0);
    fake_futex.scripted = 1;
    fake_futex.outcome = FMP_INTR;
    fmp_waiter w = FMP_WAITER(FMP_FOREVER);
    w.spun = 1;
    CHECK_EQ(fmp_barrier_wait(a, b, v[0].generation, &w), FMP_INTR);
    check_state(FMP_BARRIER_FILLING, 1, 0);
    CHECK_EQ(arrive(&v[1]), FMP_LAST);
    fmp_barrier_release(a, b, v[1].generation);
    CHECK_EQ(fmp_barrier_wait(a, b, v[0].generation, &w), 0);
    memset(&fake_futex, 0, sizeof(fake_futex));
}

/* Killed while it held the guard: it was one of the parties. */
static void
a_killed_party_leaves_it_broken(void)
{
    begin(2);
    struct visit v[2];
    CHECK_EQ(arrive(&v[0]), 0);
    atomic_store(&b->guard.owner, check_dead());
    atomic_store(&b->count, 2);
    CHECK_EQ(arrive(&v[1]), FMP_BROKEN);
    CHECK_EQ(wait_until(&v[0], FMP_FOREVER), FMP_BROKEN);
    fmp_barrier_reset(a, b);
    check_state(FMP_BARRIER_FILLING, 0, 1);
}

static struct visit other;
static int other_came; /* what became of him */

static void
the_last_comes_now(_Atomic uint32_t *word)
{
    if (word != &b->guard.ec.word)
        return;
    fake_futex.on_wake = NULL;
    other_came = arrive(&other);
    if (other_came == FMP_LAST)
        fmp_barrier_release(a, b, other.generation);
}

/* A deadline passes, and the last party comes as soon as the guard is free: both are told the same. */
static void
a_deadline_and_the_last_party_meet(void)
{
    begin(2);
    struct visit v;
    CHECK_EQ(arrive(&v), 0);
    fake_futex.scripted = 1;
    fake_futex.outcome = FMP_TIMEOUT;
    fake_futex.on_wake = the_last_comes_now;
    atomic_store(&b->guard.ec.word, FMP_EC_ASLEEP); /* so that its unlock wakes */
    CHECK_EQ(wait_until(&v, fmp_clock() + FMP_MILLISECOND), FMP_TIMEOUT);
    CHECK_EQ(other_came, FMP_BROKEN);
    check_state(FMP_BARRIER_BROKEN, 1, 0);
    memset(&fake_futex, 0, sizeof(fake_futex));
}

/* ---- many at once ---------------------------------------------------------------------------------------- */

#define PARTIES 4
#define ROUNDS 1500

static struct {
    uint32_t came[2][PARTIES]; /* of every other round; not atomic: the barrier is between who writes and who reads */
    _Atomic uint32_t lasts[ROUNDS], indices[ROUNDS];
} *book;

static void
meet(void *party)
{
    for (uint32_t r = 0; r < ROUNDS; r++) {
        struct visit v;
        fmp_waiter w = FMP_WAITER(FMP_FOREVER);
        int rc;
        book->came[r % 2][(uintptr_t)party] = r + 1;
        while ((rc = fmp_barrier_arrive(a, b, &w, &v.index, &v.generation)) == FMP_INTR)
            ;
        CHECK_EQ(v.generation, r);
        atomic_fetch_or_explicit(&book->indices[r], 1u << v.index, memory_order_relaxed);
        if (rc == FMP_LAST) {
            CHECK_EQ(atomic_fetch_add_explicit(&book->lasts[r], 1, memory_order_relaxed), 0);
            fmp_barrier_release(a, b, v.generation);
        }
        else {
            CHECK_EQ(rc, 0);
            CHECK_EQ(wait_until(&v, FMP_FOREVER), 0);
        }
        CHECK_EQ(fmp_peek(&book->lasts[r]), 1);
        for (int i = 0; i < PARTIES; i++)
            CHECK_EQ(book->came[r % 2][i], r + 1); /* nobody goes on before all came */
    }
}

static void
check_book(void)
{
    for (uint32_t r = 0; r < ROUNDS; r++)
        CHECK_EQ(book->indices[r], (1u << PARTIES) - 1);
    check_state(FMP_BARRIER_FILLING, 0, ROUNDS);
}

static void
threads_meet(void)
{
    begin(PARTIES);
    book = check_shared(sizeof(*book));
    fake_futex.unsliced = 1;
    pthread_t threads[PARTIES];
    check_threads(threads, PARTIES, meet, NULL, 1);
    check_finish_all(threads, PARTIES);
    fake_futex.unsliced = 0;
    check_book();
}

static void
processes_meet(void)
{
    begin(PARTIES);
    book = check_shared(sizeof(*book));
    fake_futex.unsliced = 1;
    pid_t pids[PARTIES];
    check_forks(pids, PARTIES, meet, NULL, 1);
    check_join_all(pids, PARTIES);
    fake_futex.unsliced = 0;
    check_book();
}

static struct {
    _Atomic uint32_t passed, late, broken;
} *outcomes;

static void
meet_in_haste(void *unused)
{
    (void)unused;
    uint32_t random = fmp_thread_id();
    for (int i = 0; i < 3000; i++) {
        struct visit v;
        fmp_waiter w = FMP_WAITER(fmp_clock() + 1000 + check_random(&random) % 30000);
        int rc;
        while ((rc = fmp_barrier_arrive(a, b, &w, &v.index, &v.generation)) == FMP_INTR)
            ;
        if (rc == FMP_LAST) {
            fmp_barrier_release(a, b, v.generation);
            atomic_fetch_add(&outcomes->passed, 1);
        }
        else if (rc == 0) {
            while ((rc = fmp_barrier_wait(a, b, v.generation, &w)) == FMP_INTR)
                ;
            atomic_fetch_add(rc == 0 ? &outcomes->passed : rc == FMP_TIMEOUT ? &outcomes->late : &outcomes->broken, 1);
        }
        if (rc == FMP_BROKEN || rc == FMP_TIMEOUT)
            fmp_barrier_reset(a, b);
    }
}

/* Deadlines pass at the moment at which the last party comes. Whoever looks, all agree on what became of it. */
static void
deadlines_and_parties_meet(void)
{
    begin(2);
    outcomes = check_shared(sizeof(*outcomes));
    pthread_t threads[2];
    check_threads(threads, 2, meet_in_haste, NULL, 0);
    check_finish_all(threads, 2);
    fmp_barrier_reset(a, b);
    CHECK_EQ(b->state, FMP_BARRIER_FILLING);
    CHECK_EQ(b->count, 0);
    printf("   %u passed, %u late, %u broken\n", (unsigned)outcomes->passed, (unsigned)outcomes->late,
           (unsigned)outcomes->broken);
}

CHECK_MAIN(TEST(the_last_lets_all_go), TEST(one_party_is_the_last), TEST(who_is_late_breaks_it),
           TEST(an_abort_breaks_it), TEST(a_reset_breaks_it_for_who_waits),
           TEST(an_action_that_a_reset_overtook_ends_nothing), TEST(who_withdraws_does_not_count),
           TEST(an_interrupted_wait_goes_on), TEST(a_killed_party_leaves_it_broken), TEST(a_deadline_and_the_last_party_meet), TEST(threads_meet),
           TEST(processes_meet), TEST(deadlines_and_parties_meet))
