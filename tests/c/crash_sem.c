/* Users of a semaphore are killed at every change that they make. */
#include "stepper.h"

#include "core/sem.h"

enum { MAX = 3 };

static fmp_arena *a;
static fmp_sem *s;

static void
begin_with(uint32_t count)
{
    a = check_used_arena();
    s = check_object(FMP_PLAIN, sizeof(fmp_sem));
    fmp_sem_init(s, count, MAX);
}

static int
wait_until(fmp_time until)
{
    return WAIT(until, fmp_sem_wait(a, s, &w));
}

/* There are so many permits, exactly. */
static void
expect(uint32_t permits)
{
    for (uint32_t i = 0; i < permits; i++)
        CHECK_EQ(wait_until(FMP_FOREVER), 0);
    CHECK_EQ(wait_until(FMP_NOW), FMP_TIMEOUT);
    for (uint32_t i = 0; i < MAX; i++)
        CHECK_EQ(fmp_sem_post(s), 0);
    CHECK_EQ(fmp_sem_post(s), FMP_FULL);
    CHECK_EQ(wait_until(FMP_NOW), 0);
}

/* ---- alone --------------------------------------------------------------------------------------- */

static void
begin_alone(void)
{
    begin_with(2);
}

/* Takes one, gives two back: the last is one too many or not. */
static void
act_alone(void *unused)
{
    (void)unused;
    CHECK_EQ(wait_until(FMP_FOREVER), 0);
    CHECK_EQ(fmp_sem_post(s), 0);
    CHECK_EQ(fmp_sem_post(s), 0);
    CHECK_EQ(fmp_sem_post(s), FMP_FULL);
}

static void
check_alone(int finished)
{
    uint32_t permits = fmp_load(&s->count);
    CHECK(permits >= 1 && permits <= MAX);
    CHECK(!finished || permits == MAX);
    expect(permits);
}

/* ---- a sleeper is killed ------------------------------------------------------------------------- */

static uint32_t posted;

static void
begin_empty(void)
{
    begin_with(0);
    posted = 0;
}

static void
act_wait(void *unused)
{
    (void)unused;
    CHECK_EQ(wait_until(FMP_FOREVER), 0);
}

static void
post_one(void)
{
    if (posted == 0)
        posted += fmp_sem_post(s) == 0;
}

/* What he didn't take is there for others. */
static void
check_wait(int finished)
{
    uint32_t permits = fmp_load(&s->count);
    CHECK(permits <= posted);
    CHECK(!finished || permits == 0);
    expect(permits);
}

/* He never got one. */
static void
check_left(int finished)
{
    (void)finished;
    expect(0);
}

/* ---- the giver is killed while others sleep -------------------------------------------------------- */

static pid_t waiters[2];

static void
wait_for_one(void *unused)
{
    (void)unused;
    CHECK_EQ(wait_until(FMP_FOREVER), 0);
}

static void
launch_waiters(void)
{
    check_forks(waiters, 2, wait_for_one, NULL, 0);
}

static void
act_post(void *unused)
{
    (void)unused;
    UNTIL(ASLEEP(&s->ec));
    CHECK_EQ(fmp_sem_post(s), 0);
}

/* The waiters get his, and what they get of ours; the rest is left. */
static void
check_post(int finished)
{
    for (int i = 0; i < 2; i++)
        CHECK_EQ(fmp_sem_post(s), 0);
    check_join_all(waiters, 2);
    uint32_t permits = fmp_load(&s->count);
    CHECK(permits <= 1);
    CHECK(!finished || permits == 1);
    expect(permits);
}

STEP_MAIN({.name = "alone", .begin = begin_alone, .act = act_alone, .check = check_alone},
          {.name = "sleep", .begin = begin_empty, .act = act_wait, .nudge = post_one, .check = check_wait},
          {.name = "left_asleep", .begin = begin_empty, .act = act_wait, .check = check_left},
          {.name = "post", .begin = begin_empty, .launched = launch_waiters, .act = act_post,
           .check = check_post})
