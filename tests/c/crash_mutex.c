/* Users of a mutex are killed at every change that they make. */
#include "stepper.h"

#include "core/mutex.h"

static fmp_arena *a;
static fmp_mutex *m;

static void
begin(void)
{
    a = check_used_arena();
    m = check_object(FMP_PLAIN, sizeof(fmp_mutex));
}

static int
lock(fmp_time until)
{
    return WAIT(until, fmp_mutex_lock(a, m, &w));
}

/* Whoever comes next gets it, and is told if the dead one had it. */
static void
go_on(void)
{
    int was_his = fmp_load(&m->owner) == step_victim();
    CHECK_EQ(lock(FMP_FOREVER), was_his ? FMP_OWNER_DEAD : 0);
    CHECK(fmp_mutex_mine(a, m));
    CHECK_EQ(m->depth, 0);
    CHECK_EQ(lock(FMP_NOW), FMP_TIMEOUT);
    CHECK_EQ(fmp_mutex_unlock(m), 0);
    CHECK_EQ(fmp_mutex_unlock(m), FMP_FULL);
    CHECK_EQ(lock(FMP_NOW), 0);
    CHECK_EQ(fmp_mutex_unlock(m), 0);
}

/* ---- alone --------------------------------------------------------------------------------------- */

static void
act_alone(void *unused)
{
    (void)unused;
    CHECK_EQ(lock(FMP_FOREVER), 0);
    m->depth = 2;
    fmp_step();
    m->depth = 0;
    fmp_mutex_unlock(m);
    CHECK_EQ(fmp_mutex_enter(a, m), 0);
    CHECK(fmp_mutex_mine(a, m));
    fmp_mutex_unlock(m);
}

static void
check(int finished)
{
    CHECK(!finished || !fmp_mutex_held(m));
    go_on();
}

/* An heir is a second victim of the same lock. */
static void
act_heir(void *unused)
{
    (void)unused;
    lock(FMP_FOREVER);
    fmp_mutex_unlock(m);
}

static void
check_after_heir(int finished)
{
    (void)finished;
    int rc = lock(FMP_FOREVER); /* after either of them */
    CHECK(rc == 0 || rc == FMP_OWNER_DEAD);
    fmp_mutex_unlock(m);
    go_on();
}

/* ---- after a dead one ---------------------------------------------------------------------------- */

static void
begin_inherited(void)
{
    begin();
    atomic_store(&m->owner, check_dead());
    atomic_store(&m->thread, 1);
    m->depth = 3;
}

static void
act_inherit(void *unused)
{
    (void)unused;
    CHECK_EQ(lock(FMP_FOREVER), FMP_OWNER_DEAD);
    CHECK_EQ(m->depth, 0);
    fmp_mutex_unlock(m);
}

static void
check_inherited(int finished)
{
    CHECK(!finished || !fmp_mutex_held(m));
    int held = fmp_mutex_held(m);
    CHECK_EQ(lock(FMP_NOW), held ? FMP_OWNER_DEAD : 0); /* known to be dead: nobody need wait */
    CHECK_EQ(m->depth, 0);
    fmp_mutex_unlock(m);
    go_on();
}

/* ---- a sleeper is killed ------------------------------------------------------------------------- */

static void
begin_held(void)
{
    begin();
    CHECK_EQ(lock(FMP_NOW), 0);
}

static void
act_wait(void *unused)
{
    fmp_waiter hasty = FMP_WAITER(FMP_NOW);
    hasty.hasty = 1;
    (void)unused;
    CHECK_EQ(fmp_mutex_enter_until(a, m, &hasty), FMP_BUSY);
    CHECK_EQ(lock(FMP_FOREVER), 0);
    fmp_mutex_unlock(m);
}

static void
let_go(void)
{
    if (fmp_mutex_mine(a, m))
        fmp_mutex_unlock(m);
}

static void
check_wait(int finished)
{
    let_go();
    check(finished);
}

/* ---- the holder is killed while another sleeps ----------------------------------------------------- */

static pid_t waiter;

static void
wait_for_it(void *unused)
{
    (void)unused;
    UNTIL(fmp_load(&m->owner) == step_victim() || fmp_owner_known_dead(a, step_victim()));
    int rc = lock(FMP_FOREVER);
    CHECK(rc == 0 || rc == FMP_OWNER_DEAD);
    fmp_mutex_unlock(m);
}

static void
launch_waiter(void)
{
    waiter = check_fork(wait_for_it, NULL, NULL);
}

static void
act_hand_over(void *unused)
{
    (void)unused;
    CHECK_EQ(lock(FMP_FOREVER), 0);
    UNTIL(ASLEEP(&m->ec));
    fmp_mutex_unlock(m);
}

static void
check_hand_over(int finished)
{
    (void)finished;
    check_join(waiter);
    go_on();
}

/* ---- a user's Lock stays taken ----------------------------------------------------------------------- */

static void
begin_plain(void)
{
    begin();
    m->flags = FMP_MUTEX_PLAIN;
}

static void
check_plain(int finished)
{
    int was_his = fmp_load(&m->owner) == step_victim();
    CHECK(!finished || !was_his);
    CHECK_EQ(lock(FMP_NOW), was_his ? FMP_TIMEOUT : 0);
    CHECK_EQ(fmp_mutex_unlock(m), 0);
    m->depth = 0;
    go_on();
}

/* A robust one, taken over from a dead holder: recovered, as long as its heir has it and if he dies, too. */
static void
begin_robust(void)
{
    begin();
    m->flags = FMP_MUTEX_ROBUST;
    m->owner = check_dead();
}

static void
act_robust(void *unused)
{
    (void)unused;
    CHECK_EQ(lock(FMP_FOREVER), FMP_OWNER_DEAD);
    fmp_mutex_unlock_robust(a, m);
}

static void
check_robust(int finished)
{
    CHECK(!finished || m->flags == FMP_MUTEX_ROBUST);
    int was_dead = fmp_mutex_held(m);
    CHECK_EQ(lock(FMP_FOREVER), was_dead ? FMP_OWNER_DEAD : 0);
    CHECK_EQ((m->flags & FMP_MUTEX_RECOVERED) != 0, was_dead);
    CHECK_EQ(fmp_mutex_unlock_robust(a, m), 0);
    CHECK_EQ(m->flags, FMP_MUTEX_ROBUST);
    go_on();
}

STEP_MAIN({.name = "alone", .begin = begin, .act = act_alone, .check = check},
          {.name = "both", .begin = begin, .act = act_alone, .heir = act_heir, .check = check_after_heir},
          {.name = "inherit", .begin = begin_inherited, .act = act_inherit, .nudge = step_patience,
           .check = check_inherited},
          {.name = "sleep", .begin = begin_held, .act = act_wait, .nudge = let_go, .check = check_wait},
          {.name = "hand_over", .begin = begin, .launched = launch_waiter, .act = act_hand_over,
           .check = check_hand_over},
          {.name = "plain", .begin = begin_plain, .act = act_alone, .check = check_plain},
          {.name = "robust", .begin = begin_robust, .act = act_robust, .nudge = step_patience,
           .check = check_robust})
