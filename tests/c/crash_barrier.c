/* Parties of a barrier are killed at every change that they make. */
#include "stepper.h"

#include "core/barrier.h"

static fmp_arena *a;
static fmp_barrier *b;
static uint32_t mine; /* the generation in which the tester came */

static void
begin_with(uint32_t parties)
{
    fmp_object *o;
    a = check_used_arena();
    CHECK_EQ(fmp_object_create(a, FMP_PLAIN, sizeof(fmp_barrier), &o), 0);
    b = fmp_object_body(o);
    b->parties = parties;
}

static int
arrive(uint32_t *generation)
{
    fmp_waiter w = FMP_WAITER(FMP_FOREVER);
    uint32_t index;
    int rc;
    while ((rc = fmp_barrier_arrive(a, b, &w, &index, generation)) == FMP_INTR)
        ;
    return rc;
}

static int
wait_for(uint32_t generation, fmp_time until)
{
    fmp_waiter w = FMP_WAITER(until);
    int rc;
    while ((rc = fmp_barrier_wait(a, b, generation, &w)) == FMP_INTR)
        ;
    return rc;
}

/* Come and wait; as the last, let all go. */
static int
pass(fmp_time until)
{
    uint32_t generation;
    int rc = arrive(&generation);
    if (rc == 0)
        return wait_for(generation, until);
    if (rc == FMP_LAST) {
        fmp_barrier_release(a, b, generation);
        rc = 0;
    }
    return rc;
}

static void
pass_once(void *unused)
{
    (void)unused;
    CHECK_EQ(pass(FMP_FOREVER), 0);
}

/* After a reset all is as ever. */
static void
go_on(void)
{
    CHECK(fmp_load(&b->state) <= FMP_BARRIER_BROKEN);
    fmp_barrier_reset(a, b);
    CHECK_EQ(b->state, FMP_BARRIER_FILLING);
    CHECK_EQ(b->count, 0);
    b->parties = 2;
    for (int i = 0; i < 2; i++) {
        pid_t pid = check_fork(pass_once, NULL, NULL);
        pass_once(NULL);
        check_join(pid);
    }
}

/* ---- the first to come ------------------------------------------------------------------------------- */

static void
begin_two(void)
{
    begin_with(2);
}

static void
come_too(void)
{
    uint32_t generation;
    if (fmp_load(&b->count) == 1 && arrive(&generation) == FMP_LAST)
        fmp_barrier_release(a, b, generation);
}

/* The other party comes in the dead one's generation or another, and learns an outcome in any case. */
static void
check_first(int finished)
{
    CHECK(!finished || b->generation == 1);
    int rc = pass(fmp_time_after(FMP_MILLISECOND));
    CHECK(rc == 0 || rc == FMP_BROKEN || rc == FMP_TIMEOUT);
    if (finished)
        CHECK_EQ(rc, FMP_TIMEOUT); /* alone */
    go_on();
}

/* ---- the last to come, while others wait without a deadline ------------------------------------------ */

static pid_t waiter;
static _Atomic int *outcome;

static void
wait_for_last(void *unused)
{
    (void)unused;
    atomic_store(outcome, wait_for(mine, FMP_FOREVER));
}

static void
begin_last(void)
{
    if (outcome == NULL)
        outcome = check_shared(sizeof(*outcome));
    begin_two();
    CHECK_EQ(arrive(&mine), 0);
}

static void
launch_waiter(void)
{
    waiter = check_fork(wait_for_last, NULL, NULL);
}

static void
act_last(void *unused)
{
    uint32_t generation;
    (void)unused;
    UNTIL(ASLEEP(&b->ec));
    CHECK_EQ(arrive(&generation), FMP_LAST);
    fmp_barrier_release(a, b, generation);
}

/* Whoever came is told, as soon as the dead one had come: who died before is missed, and an abort tells. */
static void
check_last(int finished)
{
    if (b->state == FMP_BARRIER_FILLING && b->generation == mine)
        fmp_barrier_break(a, b);
    check_join(waiter);
    int released = b->generation != mine;
    CHECK_EQ(atomic_load(outcome), released ? 0 : FMP_BROKEN);
    CHECK(!finished || released);
    go_on();
}

/* The action fails. */
static void
act_fail(void *unused)
{
    uint32_t generation;
    (void)unused;
    CHECK_EQ(arrive(&generation), FMP_LAST);
    fmp_barrier_fail(a, b, generation);
}

static void
check_fail_last(int finished)
{
    if (b->state == FMP_BARRIER_FILLING)
        fmp_barrier_break(a, b);
    check_join(waiter);
    CHECK_EQ(atomic_load(outcome), FMP_BROKEN);
    CHECK(!finished || b->state == FMP_BARRIER_BROKEN);
    go_on();
}

/* Who waits until a deadline, while the action of one who was killed is under way. */
static void
check_deadline(int finished)
{
    int rc = wait_for(mine, fmp_time_after(FMP_MILLISECOND));
    CHECK(finished ? rc == 0 : rc == 0 || rc == FMP_BROKEN || rc == FMP_TIMEOUT);
    if (rc != 0)
        CHECK_EQ(b->state, FMP_BARRIER_BROKEN);
    go_on();
}

static void
act_last_alone(void *unused)
{
    uint32_t generation;
    (void)unused;
    CHECK_EQ(arrive(&generation), FMP_LAST);
    fmp_barrier_release(a, b, generation);
}

/* ---- reset, withdraw, give up ------------------------------------------------------------------------ */

static void
act_reset(void *unused)
{
    (void)unused;
    fmp_barrier_reset(a, b);
    fmp_barrier_break(a, b);
    fmp_barrier_reset(a, b);
}

static void
check_reset(int finished)
{
    (void)finished;
    if (b->generation == mine)
        fmp_barrier_break(a, b);
    check_join(waiter);
    CHECK_EQ(atomic_load(outcome), FMP_BROKEN);
    go_on();
}

static void
act_withdraw(void *unused)
{
    uint32_t generation;
    (void)unused;
    CHECK_EQ(arrive(&generation), 0);
    fmp_barrier_withdraw(a, b, generation);
}

/* He counts, or not; broken, or not: nobody is let through who is alone. */
static void
check_withdraw(int finished)
{
    CHECK(b->count <= 1);
    CHECK(!finished || b->count == 0);
    b->parties = 3;
    int rc = pass(fmp_time_after(FMP_MILLISECOND));
    CHECK(rc == FMP_TIMEOUT || rc == FMP_BROKEN);
    go_on();
}

static void
act_give_up(void *unused)
{
    (void)unused;
    CHECK_EQ(pass(fmp_time_after(FMP_MILLISECOND)), FMP_TIMEOUT);
}

static void
check_give_up(int finished)
{
    CHECK(!finished || b->state == FMP_BARRIER_BROKEN);
    int broken = b->state == FMP_BARRIER_BROKEN;
    b->parties = 3;
    int rc = pass(fmp_time_after(FMP_MILLISECOND));
    CHECK(broken ? rc == FMP_BROKEN : rc == FMP_TIMEOUT || rc == FMP_BROKEN);
    go_on();
}

/* ---- coming while others leave ----------------------------------------------------------------------- */

static void
begin_leaving(void)
{
    begin_with(1);
    CHECK_EQ(arrive(&mine), FMP_LAST);
}

static void
act_late(void *unused)
{
    (void)unused;
    uint32_t generation;
    CHECK_EQ(arrive(&generation), FMP_LAST);
    fmp_barrier_release(a, b, generation);
}

static void
let_in(void)
{
    if (b->state == FMP_BARRIER_LEAVING && b->actor == a->self)
        fmp_barrier_release(a, b, mine);
}

static void
check_late(int finished)
{
    let_in();
    CHECK(!finished || b->generation == mine + 2);
    go_on();
}

/* ---- coming after one who died in the action, while nobody waits ---------------------------------------- */

static void
come_last(void *unused)
{
    uint32_t generation;
    (void)unused;
    CHECK_EQ(arrive(&generation), FMP_LAST);
}

static void
begin_left(void)
{
    uint32_t id;
    begin_with(1);
    check_join(check_fork(come_last, NULL, &id));
    fmp_owner_bury(a, id);
}

static void
act_find_left(void *unused)
{
    uint32_t generation;
    (void)unused;
    CHECK_EQ(arrive(&generation), FMP_BROKEN);
}

static void
check_left(int finished)
{
    CHECK(!finished || b->state == FMP_BARRIER_BROKEN);
    act_find_left(NULL);
    go_on();
}

/* An heir finds the guard, or the action, of a dead one. */
static void
heir(void *unused)
{
    (void)unused;
    wait_for(mine, FMP_FOREVER);
    fmp_barrier_reset(a, b);
}

static void
check_heir(int finished)
{
    (void)finished;
    go_on();
}

static void
heir_breaks(void *unused)
{
    (void)unused;
    fmp_barrier_break(a, b);
    heir(NULL);
}

STEP_MAIN({.name = "first", .begin = begin_two, .act = pass_once, .nudge = come_too, .check = check_first},
          {.name = "last", .begin = begin_last, .launched = launch_waiter, .act = act_last,
           .check = check_last},
          {.name = "fail", .begin = begin_last, .launched = launch_waiter, .act = act_fail,
           .check = check_fail_last},
          {.name = "deadline", .begin = begin_last, .act = act_last_alone, .check = check_deadline},
          {.name = "reset", .begin = begin_last, .launched = launch_waiter, .act = act_reset,
           .check = check_reset},
          {.name = "withdraw", .begin = begin_two, .act = act_withdraw, .check = check_withdraw},
          {.name = "give_up", .begin = begin_two, .act = act_give_up, .nudge = step_patience,
           .check = check_give_up},
          {.name = "late", .begin = begin_leaving, .act = act_late, .nudge = let_in, .check = check_late},
          {.name = "left", .begin = begin_left, .act = act_find_left, .nudge = step_patience, .check = check_left},
          {.name = "heir", .begin = begin_last, .act = act_last_alone, .heir = heir_breaks,
           .check = check_heir},
          {.name = "heir_of_reset", .begin = begin_last, .act = act_reset, .heir = heir_breaks,
           .check = check_heir})
