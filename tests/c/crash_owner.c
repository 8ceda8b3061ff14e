/* Processes are killed at every change that they make to the table of owners. */
#include "stepper.h"

#include <sys/wait.h>

static fmp_arena *a;
static uint32_t promised;

static fmp_owner_table *
table(void)
{
    return fmp_owner_table_of(a);
}

static void
begin(void)
{
    a = check_arena();
}

/* Reservations whose child never comes end by themselves, after a while: now. */
static void
let_reservations_end(void)
{
    for (uint32_t i = 0; i < FMP_OWNER_SLOTS; i++)
        table()->slots[i].reserved_at -= 60 * FMP_SECOND;
}

static void
nothing(void *unused)
{
    (void)unused;
}

/* Nothing is left of the dead, nobody else was touched, and slots are to be had, and found dead, as ever. */
static void
go_on(void)
{
    uint32_t id, self = a->self;
    CHECK(fmp_owner_alive(a, self));
    CHECK(!fmp_owner_alive(a, step_victim()));
    CHECK_EQ(fmp_owner_reserve(a, &id), 0);
    CHECK(fmp_owner_alive(a, id));
    fmp_owner_forked(a, id);
    let_reservations_end();
    fmp_owner_survey(a);
    fmp_object_sweep(a);
    CHECK_EQ(fmp_owner_count(a), 1);
    CHECK(fmp_owner_alive(a, self));
    CHECK(fmp_owner_known_dead(a, step_victim()));
    CHECK_EQ(check_blocks(), 0);
    for (uint32_t i = 0; i < FMP_OWNER_SLOTS / 64; i++)
        CHECK_EQ(table()->spinning[i], 0);
    check_join(check_fork(nothing, NULL, &id));
    CHECK(id != 0);
    fmp_owner_survey(a);
    fmp_object_sweep(a);
    CHECK_EQ(fmp_owner_count(a), 1);
}

static void
check(int finished)
{
    (void)finished;
    go_on();
}

/* ---- slots for children -------------------------------------------------------------------------- */

static void
act_reserve(void *unused)
{
    uint32_t one, two, three, at = 0, id;
    int killed;
    (void)unused;
    CHECK_EQ(fmp_owner_reserve(a, &one), 0);
    fmp_owner_promise(a, one);
    CHECK_EQ(fmp_owner_reserve(a, &two), 0);
    CHECK(fmp_owner_bury(a, two));
    while ((id = fmp_owner_next_gone(a, &at, &killed)) != two)
        CHECK(id != 0);
    fmp_owner_recycle(a, two);
    CHECK_EQ(fmp_owner_reserve(a, &two), 0); /* the same slot again */
    fmp_owner_forked(a, two);
    CHECK_EQ(fmp_owner_reserve(a, &three), 0);
    fmp_owner_promise(a, three);
    fmp_owner_withdraw(a, three);
}

/* ---- being born ---------------------------------------------------------------------------------- */

static void
check_birth(int finished)
{
    (void)finished;
    CHECK(fmp_owner_known_dead(a, step_victim()));
    go_on();
}

static void
begin_promised(void)
{
    begin();
    CHECK_EQ(fmp_object_expect(a, &promised), 0);
    fmp_object_next_child(promised);
}

static void
check_promised(int finished)
{
    (void)finished;
    CHECK_EQ(step_victim(), promised);
    go_on();
}

/* A program that was started anew takes a slot by itself. */
static void
act_join(void *unused)
{
    (void)unused;
    fmp_owner_outlaw(a);
    CHECK_EQ(fmp_owner_join(a), 0);
}

/* ---- ending -------------------------------------------------------------------------------------- */

#define LAST_WORD 7

static void
act_leave(void *unused)
{
    (void)unused;
    fmp_owner_leave(a, a->self, LAST_WORD);
}

/* Who reaps him has to do no more than that. */
static void
check_leave(int finished)
{
    int exitcode = fmp_owner_exitcode(a, step_victim());
    CHECK(exitcode == LAST_WORD || (exitcode == -1 && !finished));
    fmp_object_sweep(a);
    CHECK_EQ(fmp_owner_count(a), 1);
    check(finished);
}

/* ---- finding the dead ---------------------------------------------------------------------------- */

static pid_t dead;

/* One who was killed, spinning, with a promise, and one whose parent never made it; nobody knows. */
static void
launch_unburied(void)
{
    uint32_t id, its;
    siginfo_t info;
    dead = check_fork(nothing, NULL, &id);
    atomic_fetch_or(&table()->spinning[0], UINT64_C(1) << FMP_OWNER_SLOT(id));
    CHECK_EQ(fmp_owner_reserve(a, &its), 0);
    fmp_store(&table()->slots[FMP_OWNER_SLOT(its)].word, fmp_owner_word(its, id, FMP_OWNER_PROMISED));
    CHECK_EQ(fmp_owner_reserve(a, &id), 0);
    fmp_owner_forked(a, id);
    table()->slots[FMP_OWNER_SLOT(id)].reserved_at -= 60 * FMP_SECOND;
    CHECK_EQ(waitid(P_PID, (id_t)dead, &info, WEXITED | WNOWAIT), 0);
}

static void
act_survey(void *unused)
{
    (void)unused;
    fmp_owner_survey(a);
}

static void
check_survey(int finished)
{
    check_join(dead);
    check(finished);
}

/* ---- spinning ------------------------------------------------------------------------------------- */

static void
act_spin(void *unused)
{
    (void)unused;
    for (int i = 0; i < 2; i++) {
        CHECK(fmp_owner_spin_begin(a, 2));
        fmp_owner_spin_end(a);
    }
}

static void
check_spin(int finished)
{
    (void)finished;
    CHECK_EQ(table()->spinning[0], 0);
    CHECK(fmp_owner_spin_begin(a, 1));
    fmp_owner_spin_end(a);
    go_on();
}

STEP_MAIN({.name = "reserve", .begin = begin, .act = act_reserve, .check = check},
          {.name = "reserve_heir", .begin = begin, .act = act_reserve, .heir = step_sweep, .check = check},
          {.name = "birth", .begin = begin, .newborn = 1, .act = nothing, .check = check_birth},
          {.name = "promised", .begin = begin_promised, .newborn = 1, .act = nothing,
           .check = check_promised},
          {.name = "join", .begin = begin, .act = act_join, .check = check},
          {.name = "leave", .begin = begin, .act = act_leave, .check = check_leave},
          {.name = "leave_heir", .begin = begin, .act = act_leave, .heir = step_sweep, .check = check},
          {.name = "survey", .begin = begin, .launched = launch_unburied, .act = act_survey,
           .check = check_survey},
          {.name = "survey_heir", .begin = begin, .launched = launch_unburied, .act = act_survey,
           .heir = act_survey,
           .check = check_survey},
          {.name = "spin", .begin = begin, .act = act_spin, .check = check_spin})
