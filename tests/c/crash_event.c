/* Users of an event are killed at every change that they make. */
#include "stepper.h"

#include "core/event.h"

static fmp_arena *a;
static fmp_event *e;

static void
begin(void)
{
    a = check_used_arena();
    e = check_object(FMP_PLAIN, sizeof(fmp_event));
}

static int
wait_until(fmp_time until)
{
    return WAIT(until, fmp_event_wait(a, e, &w));
}

static void
wait_for_ever(void *unused)
{
    (void)unused;
    CHECK_EQ(wait_until(FMP_FOREVER), 0);
}

/* Set and cleared, it tells everybody who waited. */
static void
go_on(void)
{
    fmp_event_clear(e);
    CHECK(!fmp_event_is_set(e));
    CHECK_EQ(wait_until(FMP_NOW), FMP_TIMEOUT);
    pid_t pid = check_fork(wait_for_ever, NULL, NULL);
    UNTIL(ASLEEP(&e->ec));
    fmp_event_set(e);
    CHECK(fmp_event_is_set(e));
    check_join(pid);
}

/* ---- alone --------------------------------------------------------------------------------------- */

static void
act_alone(void *unused)
{
    (void)unused;
    fmp_event_set(e);
    fmp_event_set(e);
    fmp_event_clear(e);
    fmp_event_set(e);
    CHECK_EQ(wait_until(FMP_FOREVER), 0);
}

static void
check_alone(int finished)
{
    CHECK(!finished || fmp_event_is_set(e));
    CHECK_EQ(wait_until(FMP_NOW), fmp_event_is_set(e) ? 0 : FMP_TIMEOUT);
    go_on();
}

/* ---- a sleeper is killed ------------------------------------------------------------------------- */

static void
set_and_clear(void)
{
    fmp_event_set(e);
    fmp_event_clear(e);
}

static void
check_sleeper(int finished)
{
    (void)finished;
    CHECK(!fmp_event_is_set(e));
    go_on();
}

/* ---- the setter is killed while others sleep --------------------------------------------------------- */

static pid_t waiter;

static void
launch_waiter(void)
{
    waiter = check_fork(wait_for_ever, NULL, NULL);
}

static void
act_set(void *unused)
{
    (void)unused;
    UNTIL(ASLEEP(&e->ec));
    fmp_event_set(e);
    fmp_event_clear(e);
}

/* The waiter came before it was set; if it never was, we do. */
static void
check_set(int finished)
{
    uint32_t state = fmp_load(&e->state);
    CHECK(!finished || (state >> 1 == 1 && !fmp_event_is_set(e)));
    if (state >> 1 == 0)
        set_and_clear();
    check_join(waiter);
    go_on();
}

STEP_MAIN({.name = "alone", .begin = begin, .act = act_alone, .check = check_alone},
          {.name = "sleep", .begin = begin, .act = wait_for_ever, .nudge = set_and_clear,
           .check = check_sleeper},
          {.name = "left_asleep", .begin = begin, .act = wait_for_ever, .check = check_sleeper},
          {.name = "set", .begin = begin, .launched = launch_waiter, .act = act_set, .check = check_set})
