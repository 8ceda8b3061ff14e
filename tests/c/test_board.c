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
parcel(uint64_t value)
{
    fmp_parcel p;
    CHECK_EQ(fmp_queue_prepare(a, sizeof(value), 0, 0, &p), 0);
    memcpy(p.data, &value, sizeof(value));
    return p;
}

static uint64_t
put(uint64_t value)
{
    fmp_parcel p = parcel(value);
    uint64_t number;
    CHECK_EQ(fmp_board_put(a, b, &p, &number), 0);
    return number;
}

static int
report(uint64_t value)
{
    fmp_parcel p = parcel(value);
    int ring = -1;
    CHECK_EQ(fmp_board_report(a, b, &p, &ring), 0);
    return ring;
}

static int
take_until(uint32_t seat, fmp_time until, uint64_t *value)
{
    fmp_message m;
    fmp_waiter w = FMP_WAITER(until);
    int rc;
    while ((rc = fmp_board_take(a, b, seat, &w, &m)) == FMP_INTR)
        ;
    if (rc == 0) {
        CHECK_EQ(fmp_board_running(b, seat), m.number);
        memcpy(value, m.data, sizeof(*value));
        fmp_message_done(a, &m);
    }
    return rc;
}

static int
collect_until(fmp_time until, uint64_t *value)
{
    fmp_message m;
    fmp_waiter w = FMP_WAITER(until);
    int rc;
    while ((rc = fmp_board_collect(a, b, &w, &m)) == FMP_INTR)
        ;
    if (rc == 0) {
        memcpy(value, m.data, sizeof(*value));
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
    CHECK_EQ(put(70), 1);
    CHECK_EQ(put(71), 2);
    CHECK_EQ(fmp_board_load(b), 16);
    CHECK_EQ(fmp_board_running(b, seat), 0);
    CHECK_EQ(take_until(seat, FMP_FOREVER, &value), 0);
    CHECK_EQ(value, 70);
    CHECK_EQ(fmp_board_running(b, seat), 1);
    CHECK_EQ(fmp_board_load(b), 8);
    CHECK_EQ(collect_until(FMP_NOW, &value), FMP_TIMEOUT);
    CHECK_EQ(report(1070), 0); /* nobody listens */
    CHECK_EQ(fmp_board_running(b, seat), 1);
    fmp_board_done(b, seat);
    CHECK_EQ(fmp_board_running(b, seat), 0);
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
    uint64_t number;
    for (uint32_t i = 0; i < SEATS; i++) {
        CHECK_EQ(fmp_board_sit(b, 100 + (int32_t)i, &seat), 0);
        CHECK_EQ(seat, i);
    }
    CHECK_EQ(fmp_board_sit(b, 200, &seat), -EAGAIN);
    CHECK_EQ(fmp_board_bury(a, b, 200, &number), FMP_EMPTY);
    CHECK_EQ(fmp_board_bury(a, b, 102, &number), 0);
    CHECK_EQ(number, 0);
    CHECK_EQ(fmp_board_bury(a, b, 102, &number), FMP_EMPTY);
    CHECK_EQ(fmp_board_sit(b, 200, &seat), 0);
    CHECK_EQ(seat, 2);
}

static void
who_dies_leaves_the_number_of_his_task(void)
{
    begin();
    uint32_t seat;
    uint64_t value, number;
    put(1);
    put(2);
    CHECK_EQ(fmp_board_sit(b, 100, &seat), 0);
    CHECK_EQ(take_until(seat, FMP_NOW, &value), 0);
    CHECK_EQ(take_until(seat, FMP_NOW, &value), 0);
    CHECK_EQ(fmp_board_bury(a, b, 100, &number), 0);
    CHECK_EQ(number, 2);
    CHECK_EQ(fmp_board_running(b, seat), 0);
}

/* Q6: killed between its receipt and the taking: the task is another's. */
static void
a_task_that_was_not_taken_is_nobodys(void)
{
    begin();
    uint32_t seat, other;
    uint64_t value, number;
    put(1);
    CHECK_EQ(fmp_board_sit(b, 100, &seat), 0);
    fmp_queue *q = &b->tasks;
    q->receipt = (fmp_ref){b->self.off + (uint64_t)((char *)&b->seats[seat].running - (char *)b)};
    q->leaving = q->head;
    fmp_store(&b->seats[seat].running, 1);
    atomic_store(&q->head_lock.owner, check_dead());
    CHECK_EQ(fmp_board_bury(a, b, 100, &number), 0);
    CHECK_EQ(number, 0);
    CHECK_EQ(fmp_board_sit(b, 101, &other), 0);
    CHECK_EQ(take_until(other, FMP_NOW, &value), 0);
    CHECK_EQ(value, 1);
    CHECK_EQ(fmp_board_running(b, other), 1);
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
        report(value + 1000000);
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
    for (int i = 0; i < SEATS; i++)
        threads[i] = check_thread(work, NULL);
    for (uint64_t i = 0; i < TASKS; i++)
        put(i);
    collect_all();
    fmp_board_advance(b, FMP_BOARD_CLOSED);
    for (int i = 0; i < SEATS; i++)
        check_finish(threads[i]);
    fake_futex.unsliced = 0;
    CHECK_EQ(check_blocks(), base);
}

static void
processes_work(void)
{
    begin();
    fake_futex.unsliced = 1;
    pid_t pids[SEATS];
    for (int i = 0; i < SEATS; i++)
        pids[i] = check_fork(work, NULL, NULL);
    for (uint64_t i = 0; i < TASKS; i++)
        put(i);
    collect_all();
    fmp_board_advance(b, FMP_BOARD_CLOSED);
    for (int i = 0; i < SEATS; i++)
        check_join(pids[i]);
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

/* Count the results that are there: each is its task's only one. */
static uint64_t
collect_results(void)
{
    uint64_t value, count = 0;
    for (; collect_until(FMP_NOW, &value) == 0; count++)
        CHECK_EQ(answered[value - 1000000]++, 0);
    return count;
}

/* Every task gets a result, or died with a worker that says so. */
static void
workers_are_killed(void)
{
    begin();
    uint32_t random = 51, id;
    uint64_t reported = 0, lost = 0, number;
    memset(answered, 0, sizeof(answered));
    for (uint64_t i = 1; i <= TASKS; i++)
        CHECK_EQ(put(i), i);
    for (int round = 0; round < 100; round++) {
        pid_t pid = check_fork_doomed(work, NULL, &id, &random, 100000);
        check_reap(pid, id);
        fmp_object_sweep(a);
        int rc = fmp_board_bury(a, b, pid, &number);
        CHECK(rc == 0 || rc == FMP_EMPTY);
        reported += collect_results();
        if (rc == 0 && number != 0 && !answered[number]) { /* behind the results, it is certain */
            answered[number]++;
            lost++;
        }
    }
    fmp_board_advance(b, FMP_BOARD_CLOSED);
    work(NULL); /* the rest */
    reported += collect_results();
    CHECK_EQ(reported + lost, TASKS);
    CHECK_EQ(check_blocks(), base);
    printf("   %u tasks died with their worker\n", (unsigned)lost);
}

CHECK_MAIN(TEST(a_task_goes_round), TEST(seats_are_taken_and_given_back), TEST(who_dies_leaves_the_number_of_his_task),
           TEST(a_task_that_was_not_taken_is_nobodys), TEST(the_bell_is_rung_once), TEST(stages), TEST(threads_work),
           TEST(processes_work), TEST(an_orphan_stops), TEST(workers_are_killed))
