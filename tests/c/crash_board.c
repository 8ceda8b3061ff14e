/* A pool and its workers are killed at every change that they make to their board. */
#include "stepper.h"

#include "core/board.h"

enum { SEATS = 2, TASKS = 2 };

static fmp_arena *a;
static fmp_board *b;
static uint64_t base; /* blocks in use while the board is empty */

/* ---- everybody ------------------------------------------------------------------------------------- */

static void
put(void)
{
    fmp_parcel p;
    uint64_t key = b->tasks.pushed + 1;
    CHECK_EQ(fmp_queue_prepare(a, sizeof(fmp_task), FMP_REF_NONE, 0, &p), 0);
    *(fmp_task *)p.data = (fmp_task){.job = 1, .key = key};
    CHECK_EQ(fmp_board_put(a, b, &p), 0);
}

static void
report(fmp_answer answer)
{
    fmp_parcel p;
    int ring;
    CHECK_EQ(fmp_queue_prepare(a, sizeof(answer), FMP_REF_NONE, 0, &p), 0);
    *(fmp_answer *)p.data = answer;
    CHECK_EQ(fmp_board_report(a, b, &p, &ring), 0);
}

/* The number of a task, for the worker on that seat; 0 when there is no more. */
static uint64_t
take(uint32_t seat, fmp_time until)
{
    fmp_message m;
    int rc = WAIT(until, fmp_board_take(a, b, seat, &w, &m));
    if (rc == FMP_EOF || rc == FMP_TIMEOUT)
        return 0;
    CHECK_EQ(rc, 0);
    fmp_answer running = fmp_board_running(b, seat);
    CHECK_EQ(running.number, m.number);
    CHECK_EQ(running.task.key, m.number);
    fmp_message_done(a, &m);
    return m.number;
}

/* The worker on that seat has done what he took. */
static void
finish(uint32_t seat)
{
    report(fmp_board_running(b, seat));
    fmp_board_done(b, seat);
}

/* The number of the task of the next result, 0 if there is none. */
static uint64_t
collect(fmp_time until)
{
    fmp_message m;
    int rc = WAIT(until, fmp_board_collect(a, b, &w, &m));
    if (rc == FMP_EOF || rc == FMP_TIMEOUT)
        return 0;
    CHECK_EQ(rc, 0);
    fmp_answer answer = *(const fmp_answer *)m.data;
    fmp_message_done(a, &m);
    CHECK_EQ(answer.task.key, answer.number);
    return answer.number;
}

static void
begin_empty(void)
{
    a = check_used_arena();
    fmp_object *o;
    CHECK_EQ(fmp_object_create(a, FMP_BOARD, fmp_board_bytes(SEATS), &o), 0);
    b = fmp_object_body(o);
    CHECK_EQ(fmp_board_init(a, b, (fmp_ref){o->self.off + sizeof(fmp_object)}, SEATS), 0);
    base = check_blocks();
}

static void
begin(void)
{
    begin_empty();
    for (int i = 0; i < TASKS; i++)
        put();
}

/* ---- a worker -------------------------------------------------------------------------------------- */

enum { PID = 12345 };

static void
act_work(void *unused)
{
    uint32_t seat;
    (void)unused;
    CHECK_EQ(fmp_board_sit(b, PID, &seat), 0);
    CHECK_EQ(take(seat, FMP_NOW), 1);
    finish(seat);
}

/* What a pool does about a dead worker: his task gets an answer, and his seat is free. */
static uint64_t
bury(void)
{
    fmp_answer lost;
    int rc = fmp_board_bury(a, b, PID, &lost);
    CHECK(rc == 0 || rc == FMP_EMPTY);
    if (rc == FMP_EMPTY)
        return 0;
    if (lost.number != 0) {
        CHECK_EQ(lost.task.key, lost.number);
        report(lost);
    }
    fmp_board_vacate(b, lost.seat);
    return lost.number;
}

/* Every seat is to be had. */
static void
sit_on_all(void)
{
    uint32_t seat;
    for (int i = 0; i < SEATS; i++)
        CHECK_EQ(fmp_board_sit(b, i + 1, &seat), 0);
    CHECK(fmp_board_sit(b, SEATS + 1, &seat) < 0);
}

/* Each task has one result (B1), of those who did it or of who buried: the dead one's, or the next one's. */
static void
check_results(void)
{
    uint64_t seen[TASKS + 1] = {0}, task;
    while ((task = collect(FMP_NOW)) != 0) {
        CHECK(task <= TASKS);
        CHECK_EQ(seen[task]++, 0);
    }
    for (uint64_t i = 1; i <= TASKS; i++)
        CHECK_EQ(seen[i], 1);
    CHECK_EQ(check_blocks(), base);
    CHECK_EQ(fmp_board_load(b), 0);
}

static void
check_work(int finished)
{
    uint64_t lost = bury();
    CHECK(lost <= (finished ? 0 : 1));
    fmp_object_sweep(a); /* a result that he had begun to add arrives */
    sit_on_all();
    while (take(0, FMP_NOW) != 0)
        finish(0);
    check_results();
}

static void
heir(void *unused)
{
    fmp_board_settle(a, b);
    step_sweep(unused);
}

/* The one who buries is killed: the next one buries again. */
static void
heir_buries(void *unused)
{
    bury();
    heir(unused);
}

/* ---- the pool -------------------------------------------------------------------------------------- */

static void
become_master(void)
{
    b->master = step_victim();
}

#define HELLO ((fmp_answer){.task = {.key = 1}, .number = 1})

static void
act_pool(void *unused)
{
    uint32_t seat;
    (void)unused;
    fmp_board_introduce(b, 0, 1, "name", 4);
    put();
    put();
    CHECK_EQ(fmp_board_listen(b), 1);
    report(HELLO);
    CHECK_EQ(fmp_board_listen(b), 0);
    fmp_board_stop_listening(b);
    CHECK_EQ(collect(FMP_NOW), 1);
    CHECK_EQ(fmp_board_sit(b, 1, &seat), 0);
}

/* Workers learn that the pool is no more; whoever has its board can empty it. */
static void
check_pool(int finished)
{
    uint64_t task, last = 0;
    CHECK_EQ(take(0, FMP_FOREVER), 0);
    fmp_object_sweep(a);
    b->master = a->self;
    for (; (task = take(1, FMP_NOW)) != 0; last = task)
        CHECK_EQ(task, last + 1);
    CHECK(!finished || last == TASKS);
    while ((task = collect(FMP_NOW)) != 0)
        CHECK_EQ(task, 1);
    fmp_object_sweep(a);
    CHECK_EQ(check_blocks(), base);
    put();
    CHECK(take(0, FMP_NOW) != 0);
}

/* ---- ends ------------------------------------------------------------------------------------------ */

static pid_t waiters[2];

static void
wait_for_task(void *unused)
{
    (void)unused;
    CHECK_EQ(take(0, FMP_FOREVER), 0);
}

static void
wait_for_result(void *unused)
{
    (void)unused;
    CHECK_EQ(collect(FMP_FOREVER), 0);
}

static void
launch_waiters(void)
{
    waiters[0] = check_fork(wait_for_task, NULL, NULL);
    waiters[1] = check_fork(wait_for_result, NULL, NULL);
}

static void
act_end(void *unused)
{
    (void)unused;
    UNTIL(ASLEEP(&b->tasks.items));
    UNTIL(ASLEEP(&b->results.items));
    fmp_board_advance(b, FMP_BOARD_CLOSED);
    fmp_board_advance(b, FMP_BOARD_ENDED);
    fmp_board_advance(b, FMP_BOARD_CLOSED);
}

/* All who wait learn of the end, his or ours. */
static void
check_end(int finished)
{
    CHECK(!finished || b->stage == FMP_BOARD_ENDED);
    fmp_board_advance(b, FMP_BOARD_ENDED);
    check_join_all(waiters, 2);
    CHECK_EQ(b->stage, FMP_BOARD_ENDED);
}

/* ---- sleeping ---------------------------------------------------------------------------------------- */

static void
act_work_asleep(void *unused)
{
    uint32_t seat;
    (void)unused;
    CHECK_EQ(fmp_board_sit(b, PID, &seat), 0);
    CHECK(take(seat, FMP_FOREVER) != 0);
    finish(seat);
}

static void
put_all(void)
{
    while (b->tasks.pushed < TASKS)
        put();
}

static void
check_work_asleep(int finished)
{
    put_all();
    check_work(finished);
}

static void
act_collect_asleep(void *unused)
{
    (void)unused;
    CHECK_EQ(collect(FMP_FOREVER), 1);
}

static void
bring_result(void)
{
    if (b->results.pushed == 0)
        report(HELLO);
}

/* One result is lost with him at the most. */
static void
check_collect(int finished)
{
    bring_result();
    uint64_t got = collect(FMP_NOW);
    CHECK(finished ? got == 0 : got <= 1);
    fmp_object_sweep(a);
    CHECK_EQ(check_blocks(), base);
    report((fmp_answer){.task = {.key = 2}, .number = 2});
    CHECK_EQ(collect(FMP_FOREVER), 2);
}

STEP_MAIN({.name = "work", .begin = begin, .act = act_work, .check = check_work, .heir = heir},
          {.name = "bury", .begin = begin, .act = act_work, .check = check_work, .heir = heir_buries},
          {.name = "work_asleep", .begin = begin_empty, .act = act_work_asleep, .nudge = put_all,
           .check = check_work_asleep},
          {.name = "collect_asleep", .begin = begin_empty, .act = act_collect_asleep, .nudge = bring_result,
           .check = check_collect},
          {.name = "pool", .begin = begin_empty, .launched = become_master, .act = act_pool,
           .check = check_pool, .heir = heir},
          {.name = "end", .begin = begin_empty, .launched = launch_waiters, .act = act_end,
           .check = check_end})
