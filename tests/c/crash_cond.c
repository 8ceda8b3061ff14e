/* Those who wait on a condition, and those who notify, are killed at every change that they make. */
#include "stepper.h"

#include <limits.h>

#include "core/cond.h"

static fmp_arena *a;
static fmp_cond *c;
static uint64_t base; /* blocks in use while nobody waits */
static pid_t waiters[2];

static void
begin(void)
{
    a = check_used_arena();
    c = check_object(FMP_CONDITION, sizeof(fmp_cond));
    base = check_blocks();
}

/* None of the condition's own nodes is left for them: they get blocks. */
static void
begin_with_blocks(void)
{
    begin();
    for (int i = 0; i < FMP_COND_OWN; i++)
        c->own[i].node.tag = a->self;
}

static int
sleep_until(fmp_ref node, fmp_time until)
{
    return WAIT(until, fmp_cond_sleep(a, c, node, &w));
}

static void
wait_for_it(void *unused)
{
    fmp_ref node;
    (void)unused;
    CHECK_EQ(fmp_cond_enter(a, c, &node), 0);
    CHECK_EQ(sleep_until(node, FMP_FOREVER), 0);
}

/* A waiter comes; when this returns it is on the list, and has nothing locked. */
static pid_t
launch(uint32_t *id)
{
    uint32_t before = fmp_load(&c->waiters);
    pid_t pid = check_fork(wait_for_it, NULL, id);
    UNTIL(fmp_load(&c->waiters) > before && !fmp_mutex_held(&c->guard));
    return pid;
}

/* Notifications reach the living, one each, the first first; nothing is left of the dead. */
static void
go_on(void)
{
    fmp_cond_settle(a, c);
    for (int i = 0; i < 2; i++)
        waiters[i] = launch(NULL);
    fmp_cond_notify(a, c, 1);
    check_join(waiters[0]);
    CHECK_EQ(c->waiters, 1);
    fmp_cond_notify(a, c, 1);
    check_join(waiters[1]);
    CHECK_EQ(c->waiters, 0);
    CHECK_EQ(c->first.off, 0);
    for (int i = 0; i < FMP_COND_OWN; i++) {
        uint32_t tag = c->own[i].node.tag;
        CHECK(tag == FMP_TAG_FREE || tag == a->self || fmp_owner_known_dead(a, tag));
    }
    fmp_object_sweep(a);
    CHECK_EQ(check_blocks(), base);
}

static void
check(int finished)
{
    (void)finished;
    go_on();
}

/* ---- waiting --------------------------------------------------------------------------------------- */

static void
notify_all(void)
{
    fmp_cond_notify(a, c, INT_MAX);
}

static void
act_give_up(void *unused)
{
    fmp_ref node;
    (void)unused;
    CHECK_EQ(fmp_cond_enter(a, c, &node), 0);
    CHECK_EQ(sleep_until(node, FMP_NOW), FMP_TIMEOUT);
}

/* Others wait, before him and behind him. */
static void
launch_before(void)
{
    waiters[0] = launch(NULL);
}

static void
act_wait_behind(void *unused)
{
    fmp_ref node;
    (void)unused;
    CHECK_EQ(fmp_cond_enter(a, c, &node), 0);
    CHECK_EQ(sleep_until(node, fmp_time_after(FMP_MILLISECOND)), FMP_TIMEOUT);
}

static void
check_behind(int finished)
{
    (void)finished;
    fmp_cond_notify(a, c, 1); /* reaches the first, however the other died */
    check_join(waiters[0]);
    go_on();
}

/* ---- notifying ------------------------------------------------------------------------------------- */

static void
launch_two(void)
{
    for (int i = 0; i < 2; i++)
        waiters[i] = launch(NULL);
}

static void
act_notify_one(void *unused)
{
    (void)unused;
    fmp_cond_notify(a, c, 1);
}

/* Who was taken off the list was notified, and is the first; the other one waits. */
static void
check_notify_one(int finished)
{
    fmp_cond_settle(a, c);
    uint32_t left = c->waiters;
    CHECK(left == 1 || left == 2);
    CHECK(!finished || left == 1);
    if (left == 2)
        fmp_cond_notify(a, c, 1);
    check_join(waiters[0]);
    CHECK_EQ(c->waiters, 1);
    fmp_cond_notify(a, c, 1);
    check_join(waiters[1]);
    go_on();
}

static void
act_notify_all(void *unused)
{
    (void)unused;
    notify_all();
}

static void
check_notify_all(int finished)
{
    fmp_cond_settle(a, c);
    CHECK(c->waiters <= 2);
    CHECK(!finished || c->waiters == 0);
    notify_all();
    check_join_all(waiters, 2);
    go_on();
}

/* One who waits first is dead, which is known. */
static void
launch_behind_the_dead(void)
{
    uint32_t id;
    pid_t pid = launch(&id);
    waiters[0] = launch(NULL);
    check_slay(pid, id);
}

static void
check_behind_the_dead(int finished)
{
    fmp_cond_settle(a, c);
    CHECK(!finished || c->waiters == 0);
    if (c->waiters > 0)
        fmp_cond_notify(a, c, 1);
    check_join(waiters[0]);
    go_on();
}

/* ---- heirs ------------------------------------------------------------------------------------------- */

static void
heir(void *unused)
{
    fmp_cond_settle(a, c);
    step_sweep(unused);
}

/* Each with nodes of the condition's own, and with blocks. */
#define SCENARIO(what, ...)                                    \
    {.name = what, .begin = begin, .heir = heir, __VA_ARGS__}, \
        {.name = what "_block", .begin = begin_with_blocks, .heir = heir, __VA_ARGS__}

STEP_MAIN(SCENARIO("wait", .act = wait_for_it, .nudge = notify_all, .check = check),
          SCENARIO("left_asleep", .act = wait_for_it, .check = check),
          SCENARIO("give_up", .act = act_give_up, .check = check),
          SCENARIO("behind", .launched = launch_before, .act = act_wait_behind, .nudge = step_patience,
                   .check = check_behind),
          SCENARIO("notify_one", .launched = launch_two, .act = act_notify_one, .check = check_notify_one),
          SCENARIO("notify_all", .launched = launch_two, .act = act_notify_all, .check = check_notify_all),
          SCENARIO("pass_over", .launched = launch_behind_the_dead, .act = act_notify_one,
                   .check = check_behind_the_dead))
