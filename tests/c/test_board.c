#include "check.h"

#include <errno.h>

#include "core/board.h"

#define SEATS 4

static fmp_arena *a;
static fmp_board *b;
static uint64_t base;

static void
begin(void)
{
    a = check_arena();
    fmp_object *o;
    CHECK_EQ(fmp_object_create(a, FMP_BOARD, fmp_board_bytes(SEATS), &o), 0);
    b = fmp_object_body(o);
    fmp_ref self = {o->self.off + sizeof(*o)};
    CHECK(fmp_arena_at(a, self.off) == b);
    CHECK_EQ(fmp_board_init(a, b, self, SEATS), 0);
    base = check_blocks();
}

static fmp_parcel
parcel(const void *contents, uint64_t bytes)
{
    fmp_parcel p;
    CHECK_EQ(fmp_queue_prepare(a, bytes, FMP_REF_NONE, 0, &p), 0);
    memcpy(p.data, contents, bytes);
    return p;
}

/* A task is its name here, and the value is the job. */
static void
put(uint64_t value)
{
    fmp_task task = {.job = value, .key = value + 1, .place = FMP_BOARD_PLACES, .how = 3};
    fmp_parcel p = parcel(&task, sizeof(task));
    CHECK_EQ(fmp_board_put(a, b, &p), 0);
}

static int
report_answer(fmp_answer answer)
{
    fmp_parcel p = parcel(&answer, sizeof(answer));
    int ring = -1;
    CHECK_EQ(fmp_board_report(a, b, &p, &ring), 0);
    return ring;
}

/* Of no task. */
static int
report(uint64_t value)
{
    return report_answer((fmp_answer){.task.job = value});
}

/* Of the task that the seat has; value is what its job becomes. */
static int
answer(uint32_t seat, uint64_t value)
{
    fmp_answer result = fmp_board_running(b, seat);
    result.task.job = value;
    return report_answer(result);
}

static int
take_until(uint32_t seat, fmp_time until, uint64_t *value)
{
    fmp_message m;
    int rc = WAIT(until, fmp_board_take(a, b, seat, &w, &m));
    if (rc == 0) {
        fmp_answer running = fmp_board_running(b, seat);
        CHECK_EQ(running.number, m.number);
        CHECK_EQ(running.seat, seat);
        CHECK_EQ(m.bytes, sizeof(fmp_task));
        CHECK(memcmp(&running.task, m.data, sizeof(fmp_task)) == 0);
        *value = running.task.job;
        fmp_message_done(a, &m);
    }
    return rc;
}

static int
collect_until(fmp_time until, uint64_t *value)
{
    fmp_message m;
    int rc = WAIT(until, fmp_board_collect(a, b, &w, &m));
    if (rc == 0) {
        fmp_answer result;
        memcpy(&result, m.data, sizeof(result));
        *value = result.task.job;
        fmp_message_done(a, &m);
    }
    return rc;
}

static void
a_task_goes_round(void)
{
    begin();
    uint32_t seat;
    uint64_t value;
    CHECK_EQ(fmp_board_sit(b, 100, &seat), 0);
    CHECK_EQ(seat, 0);
    CHECK_EQ(take_until(seat, FMP_NOW, &value), FMP_TIMEOUT);
    put(70);
    put(71);
    CHECK_EQ(fmp_board_load(b), 2 * sizeof(fmp_task));
    CHECK_EQ(fmp_board_running(b, seat).number, 0);
    CHECK_EQ(take_until(seat, FMP_FOREVER, &value), 0);
    CHECK_EQ(value, 70);
    CHECK_EQ(fmp_board_running(b, seat).number, 1);
    CHECK_EQ(fmp_board_running(b, seat).task.key, 71);
    CHECK_EQ(fmp_board_load(b), sizeof(fmp_task));
    CHECK_EQ(collect_until(FMP_NOW, &value), FMP_TIMEOUT);
    CHECK_EQ(answer(seat, 1070), 0); /* nobody listens */
    CHECK_EQ(fmp_board_running(b, seat).number, 1);
    fmp_board_done(b, seat);
    CHECK_EQ(fmp_board_running(b, seat).number, 0);
    CHECK_EQ(collect_until(FMP_FOREVER, &value), 0);
    CHECK_EQ(value, 1070);
    CHECK_EQ(take_until(seat, FMP_NOW, &value), 0);
    CHECK_EQ(fmp_board_load(b), 0);
    CHECK_EQ(check_blocks(), base);
}

static void
seats_are_taken_and_given_back(void)
{
    begin();
    uint32_t seat;
    fmp_answer lost;
    for (uint32_t i = 0; i < SEATS; i++) {
        CHECK_EQ(fmp_board_sit(b, 100 + (int32_t)i, &seat), 0);
        CHECK_EQ(seat, i);
    }
    CHECK_EQ(fmp_board_sit(b, 200, &seat), -EAGAIN);
    CHECK_EQ(fmp_board_bury(a, b, 200, &lost), FMP_EMPTY);
    CHECK_EQ(fmp_board_bury(a, b, 102, &lost), 0);
    CHECK_EQ(lost.number, 0);
    CHECK_EQ(lost.seat, 2);
    CHECK_EQ(fmp_board_sit(b, 200, &seat), -EAGAIN); /* not before what it left is reported */
    fmp_board_vacate(b, lost.seat);
    CHECK_EQ(fmp_board_bury(a, b, 102, &lost), FMP_EMPTY);
    CHECK_EQ(fmp_board_sit(b, 200, &seat), 0);
    CHECK_EQ(seat, 2);
}

static void
who_dies_leaves_the_name_of_his_task(void)
{
    begin();
    uint32_t seat;
    uint64_t value;
    fmp_answer lost;
    put(1);
    put(2);
    CHECK_EQ(fmp_board_sit(b, 100, &seat), 0);
    CHECK_EQ(take_until(seat, FMP_NOW, &value), 0);
    CHECK_EQ(take_until(seat, FMP_NOW, &value), 0);
    CHECK_EQ(fmp_board_bury(a, b, 100, &lost), 0);
    CHECK_EQ(lost.number, 2);
    CHECK_EQ(lost.seat, seat);
    CHECK_EQ(lost.task.job, 2);
    CHECK_EQ(lost.task.key, 3);
    CHECK_EQ(lost.task.how, 3);
    fmp_board_vacate(b, lost.seat);
    CHECK_EQ(fmp_board_running(b, seat).number, 0);
}

/* B1: killed between its result and the end of `running`; the next one on the seat goes on. */
static void
a_task_gets_one_result(void)
{
    begin();
    uint32_t seat;
    uint64_t value;
    fmp_answer lost;
    put(1);
    put(2);
    CHECK_EQ(fmp_board_sit(b, 100, &seat), 0);
    CHECK_EQ(take_until(seat, FMP_NOW, &value), 0);
    answer(seat, 1001);
    CHECK_EQ(fmp_board_bury(a, b, 100, &lost), 0);
    CHECK_EQ(lost.number, 1);
    report_answer(lost);
    fmp_board_vacate(b, lost.seat);
    CHECK_EQ(fmp_board_sit(b, 101, &seat), 0);
    CHECK_EQ(seat, lost.seat);
    CHECK_EQ(take_until(seat, FMP_NOW, &value), 0);
    CHECK_EQ(fmp_board_bury(a, b, 101, &lost), 0);
    report_answer(lost);
    CHECK_EQ(collect_until(FMP_NOW, &value), 0);
    CHECK_EQ(value, 1001);
    CHECK_EQ(collect_until(FMP_NOW, &value), 0);
    CHECK_EQ(value, 2);
    CHECK_EQ(collect_until(FMP_NOW, &value), FMP_TIMEOUT);
    CHECK_EQ(check_blocks(), base);
}

static void
a_function_is_in_its_place(void)
{
    begin();
    char pickle[FMP_BOARD_FUNCTION_MOST];
    memset(pickle, 'x', sizeof(pickle));
    fmp_board_introduce(b, FMP_BOARD_PLACES - 1, 5, pickle, sizeof(pickle));
    fmp_board_place *p = &b->places[FMP_BOARD_PLACES - 1];
    CHECK_EQ(p->number, 5);
    CHECK_EQ(p->bytes, sizeof(pickle));
    CHECK(memcmp(p->pickle, pickle, sizeof(pickle)) == 0);
    CHECK_EQ(b->seats[0].pid, 0);
}

/* Q6: killed between its receipt and the taking: the task is another's. */
static void
a_task_that_was_not_taken_is_nobodys(void)
{
    begin();
    uint32_t seat, other;
    uint64_t value;
    fmp_answer lost;
    put(1);
    CHECK_EQ(fmp_board_sit(b, 100, &seat), 0);
    fmp_queue *q = &b->tasks;
    q->receipt = (fmp_ref){b->self.off + (uint64_t)((char *)&b->seats[seat].running - (char *)b)};
    q->leaving = q->head;
    fmp_store(&b->seats[seat].running.number, 1);
    atomic_store(&q->head_lock.owner, check_dead());
    CHECK_EQ(fmp_board_bury(a, b, 100, &lost), 0);
    CHECK_EQ(lost.number, 0);
    CHECK_EQ(fmp_board_sit(b, 101, &other), 0);
    CHECK_EQ(take_until(other, FMP_NOW, &value), 0);
    CHECK_EQ(value, 1);
    CHECK_EQ(fmp_board_running(b, other).number, 1);
}

static void
the_bell_is_rung_once(void)
{
    begin();
    uint64_t value;
    CHECK(fmp_board_listen(b));
    CHECK_EQ(report(1), 1);
    CHECK_EQ(report(2), 0);
    CHECK(!fmp_board_listen(b)); /* there is something already */
    CHECK_EQ(b->listening, 0);
    CHECK_EQ(collect_until(FMP_NOW, &value), 0);
    CHECK_EQ(collect_until(FMP_NOW, &value), 0);
    CHECK(fmp_board_listen(b));
    fmp_board_stop_listening(b);
    CHECK_EQ(report(3), 0);
}

static void
stages(void)
{
    begin();
    uint32_t seat;
    uint64_t value;
    CHECK_EQ(fmp_board_sit(b, 100, &seat), 0);
    put(1);
    put(2);
    fmp_board_advance(b, FMP_BOARD_CLOSED);
    fmp_board_advance(b, FMP_BOARD_OPEN); /* never back */
    CHECK_EQ(b->stage, FMP_BOARD_CLOSED);
    CHECK_EQ(take_until(seat, FMP_FOREVER, &value), 0);
    CHECK_EQ(take_until(seat, FMP_FOREVER, &value), 0);
    CHECK_EQ(take_until(seat, FMP_FOREVER, &value), FMP_EOF);
    report(3);
    CHECK_EQ(collect_until(FMP_FOREVER, &value), 0);
    CHECK_EQ(collect_until(FMP_NOW, &value), FMP_TIMEOUT);
    report(4);
    put(5);
    fmp_board_advance(b, FMP_BOARD_ENDED);
    CHECK_EQ(take_until(seat, FMP_FOREVER, &value), FMP_EOF);
    CHECK_EQ(collect_until(FMP_FOREVER, &value), 0);
    CHECK_EQ(value, 4);
    CHECK_EQ(collect_until(FMP_FOREVER, &value), FMP_EOF);
}

static void
work(void *unused)
{
    (void)unused;
    uint32_t seat;
    uint64_t value;
    int rc;
    CHECK_EQ(fmp_board_sit(b, (int32_t)fmp_thread_id(), &seat), 0);
    while ((rc = take_until(seat, FMP_FOREVER, &value)) == 0) {
        answer(seat, value + 1000000);
        fmp_board_done(b, seat);
    }
    CHECK_EQ(rc, FMP_EOF);
}

#define TASKS 4000

static void
collect_all(void)
{
    uint64_t sum = 0, value;
    for (uint64_t i = 0; i < TASKS; i++) {
        CHECK_EQ(collect_until(FMP_FOREVER, &value), 0);
        sum += value - 1000000;
    }
    CHECK_EQ(sum, (uint64_t)TASKS * (TASKS - 1) / 2);
}

static void
threads_work(void)
{
    begin();
    fake_futex.unsliced = 1;
    pthread_t threads[SEATS];
    check_threads(threads, SEATS, work, NULL, 0);
    for (uint64_t i = 0; i < TASKS; i++)
        put(i);
    collect_all();
    fmp_board_advance(b, FMP_BOARD_CLOSED);
    check_finish_all(threads, SEATS);
    fake_futex.unsliced = 0;
    CHECK_EQ(check_blocks(), base);
}

#define CROWD (SEATS + 2)

static _Atomic int left[CROWD]; /* by number of the worker: the seat that he gave back, plus 1 */

/* One task, whose function is in its place; then the seat is another's. */
static void
work_once(void *me)
{
    uint32_t seat;
    uint64_t value;
    UNTIL(fmp_board_sit(b, (int32_t)fmp_thread_id(), &seat) == 0);
    CHECK_EQ(take_until(seat, FMP_FOREVER, &value), 0);
    fmp_task task = fmp_board_running(b, seat).task;
    const fmp_board_place *p = &b->places[task.place];
    CHECK_EQ(p->number, value);
    CHECK(check_filled(p->pickle, p->bytes, (uint32_t)value));
    answer(seat, value);
    fmp_board_done(b, seat);
    fmp_store(&left[(uintptr_t)me], (int)seat + 1);
}

static void
put_with_function(uint64_t number)
{
    char pickle[FMP_BOARD_FUNCTION_MOST];
    fmp_task task = {.job = number, .key = number, .place = number % 2};
    check_fill(pickle, sizeof(pickle), (uint32_t)number);
    fmp_board_introduce(b, task.place, number, pickle, sizeof(pickle));
    for (int i = 0; i < CROWD; i++) {
        fmp_parcel p = parcel(&task, sizeof(task));
        CHECK_EQ(fmp_board_put(a, b, &p), 0);
    }
}

static int
next_left(void)
{
    int seat = 0;
    for (int i = 0; i < CROWD && seat == 0; i++)
        seat = atomic_exchange(&left[i], 0);
    return seat;
}

/* More workers than seats: who has none takes the first that is given back. */
static void
seats_and_functions_change_hands(void)
{
    begin();
    for (uint64_t round = 1; round <= 100; round++) {
        pthread_t threads[CROWD];
        uint64_t value;
        check_threads(threads, CROWD, work_once, NULL, 1);
        put_with_function(round);
        for (int i = 0, seat; i < CROWD; i++) {
            UNTIL((seat = next_left()) != 0);
            fmp_board_vacate(b, (uint64_t)seat - 1);
        }
        for (int i = 0; i < CROWD; i++)
            CHECK_EQ(collect_until(FMP_FOREVER, &value), 0);
        check_finish_all(threads, CROWD);
    }
    CHECK_EQ(check_blocks(), base);
}

static void
processes_work(void)
{
    begin();
    fake_futex.unsliced = 1;
    pid_t pids[SEATS];
    check_forks(pids, SEATS, work, NULL, 0);
    for (uint64_t i = 0; i < TASKS; i++)
        put(i);
    collect_all();
    fmp_board_advance(b, FMP_BOARD_CLOSED);
    check_join_all(pids, SEATS);
    fake_futex.unsliced = 0;
    CHECK_EQ(check_blocks(), base);
}

static void
master(void *arg)
{
    pid_t *worker = arg;
    begin();
    *worker = fork(); /* not check_fork: it outlives this process */
    CHECK(*worker >= 0);
    if (*worker != 0)
        return;
    work(NULL);
    _exit(0);
}

static void
an_orphan_stops(void)
{
    /* The worker waits for the pool's process, finds it dead, and ends: the pipe is closed then. */
    int ends[2];
    char byte;
    CHECK_EQ(pipe(ends), 0);
    pid_t *worker = check_shared(64);
    pid_t pid = check_fork(master, worker, NULL);
    close(ends[1]);
    check_join(pid);
    CHECK_EQ(read(ends[0], &byte, 1), 0);
    close(ends[0]);
}

static unsigned char answered[TASKS + 1];
static uint64_t reported;

/* Count the results that are there: each is its task's only one. */
static uint64_t
collect_results(void)
{
    uint64_t value, count = 0;
    for (; collect_until(FMP_NOW, &value) == 0; count++)
        CHECK_EQ(answered[value - 1000000]++, 0);
    return count;
}

/* Is there a result for the task, which was collected or is the last of its worker's? */
static int
is_answered(uint64_t value)
{
    reported += collect_results();
    return answered[value];
}

/* Every task gets one result: a worker's, or that it died with one. */
static void
workers_are_killed(void)
{
    begin();
    uint32_t random = 51, id;
    uint64_t killed = 0;
    reported = 0;
    memset(answered, 0, sizeof(answered));
    for (uint64_t i = 1; i <= TASKS; i++)
        put(i);
    for (int round = 0; round < 100; round++) {
        pid_t pid = check_fork_doomed(work, NULL, &id, &random, 100000);
        check_reap(pid, id);
        fmp_object_sweep(a);
        fmp_answer lost;
        int rc = fmp_board_bury(a, b, pid, &lost);
        CHECK(rc == 0 || rc == FMP_EMPTY);
        if (rc == 0 && lost.number != 0) { /* it is dropped, if there is a result */
            killed += !is_answered(lost.task.job);
            lost.task.job += 1000000;
            report_answer(lost);
        }
        if (rc == 0)
            fmp_board_vacate(b, lost.seat);
        reported += collect_results();
    }
    fmp_board_advance(b, FMP_BOARD_CLOSED);
    work(NULL); /* the rest */
    reported += collect_results();
    CHECK_EQ(reported, TASKS);
    CHECK_EQ(check_blocks(), base);
    printf("   %u tasks died with their worker\n", (unsigned)killed);
}

CHECK_MAIN(TEST(a_task_goes_round), TEST(seats_are_taken_and_given_back), TEST(who_dies_leaves_the_name_of_his_task),
           TEST(a_task_gets_one_result), TEST(a_function_is_in_its_place),
           TEST(a_task_that_was_not_taken_is_nobodys), TEST(the_bell_is_rung_once), TEST(stages), TEST(threads_work),
           TEST(seats_and_functions_change_hands), TEST(processes_work), TEST(an_orphan_stops), TEST(workers_are_killed))
