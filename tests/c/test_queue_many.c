/* Many processes, or threads, push and take at once. */
#include "test_queue.h"

#define MAKERS 3
#define TAKERS 3
#define EACH 4000

static struct {
    _Atomic uint32_t ready;
    _Atomic uint64_t sum, taken;
} *tally;

static uint64_t
some_size(uint32_t *random)
{
    uint32_t kind = check_random(random) % 100;
    return 8 + check_random(random) % (kind == 0 ? 100000 : kind < 20 ? 3000 : 200);
}

static void
make(void *arg)
{
    uint32_t maker = (uint32_t)(uintptr_t)arg, random = maker + 5;
    for (uint32_t i = 0; i < EACH; i++)
        push(some_size(&random), (struct label){maker, i});
}

/* Sleeps on a descriptor alone, without a deadline; never wakes in vain. */
static void
hear_and_take(void *arg)
{
    (void)arg;
    fmp_ear ear = {0};
    CHECK_EQ(fmp_queue_listen(a, q, &ear), 0);
    struct label l = {0, 0};
    while (l.maker != 99) {
        CHECK_EQ(fmp_fd_wait_readable(ear.fd, FMP_FOREVER), 0);
        CHECK(try_take(&l));
        fmp_queue_calm(a, q, &ear);
        atomic_fetch_add(&tally->sum, l.maker == 99 ? 0 : l.number);
        atomic_fetch_add(&tally->taken, l.maker != 99);
    }
    fmp_bell_leave(a, &q->bell, &ear);
}

/* Until a message of maker 99 comes, which is put back for the others. */
static void
take(void *arg)
{
    (void)arg;
    int64_t last[MAKERS] = {-1, -1, -1};
    struct label l;
    while (take_until(FMP_FOREVER, &l, NULL)) {
        if (l.maker == 99)
            break;
        CHECK(l.maker < MAKERS);
        CHECK(l.number > last[l.maker]); /* each producer's messages come in order */
        last[l.maker] = l.number;
        atomic_fetch_add(&tally->sum, l.number);
        atomic_fetch_add(&tally->taken, 1);
    }
}

static void
finish_takers(void)
{
    for (uint32_t i = 0; i < TAKERS; i++)
        push(8, (struct label){99, i});
}

static void
check_tally(void)
{
    CHECK_EQ(tally->taken, MAKERS * EACH);
    CHECK_EQ(tally->sum, (uint64_t)MAKERS * EACH * (EACH - 1) / 2);
    CHECK_EQ(fmp_queue_size(q), 0);
    CHECK_EQ(check_blocks(), base);
}

static void
processes_are_heard(void)
{
    begin(0, 0);
    tally = check_shared(sizeof(*tally));
    pid_t makers[MAKERS], taker = check_fork(hear_and_take, NULL, NULL);
    check_forks(makers, MAKERS, make, NULL, 1);
    check_join_all(makers, MAKERS);
    push(8, (struct label){99, 0});
    check_join(taker);
    base += q->bell.places.off != 0;
    check_tally();
}

enum kind { THREADS, PROCESSES };

#define MOST (MAKERS > TAKERS ? MAKERS : TAKERS)

struct crowd {
    enum kind kind;
    int count;
    pthread_t threads[MOST];
    pid_t processes[MOST];
};

static struct crowd
gather(enum kind kind, int count, void (*body)(void *), size_t step)
{
    struct crowd c = {.kind = kind, .count = count};
    if (kind == THREADS)
        check_threads(c.threads, count, body, NULL, step);
    else
        check_forks(c.processes, count, body, NULL, step);
    return c;
}

static void
await(const struct crowd *c)
{
    if (c->kind == THREADS)
        check_finish_all(c->threads, c->count);
    else
        check_join_all(c->processes, c->count);
}

static void
push_and_take(enum kind kind, uint64_t most, uint64_t most_bytes)
{
    begin(most, most_bytes);
    tally = check_shared(sizeof(*tally));
    fake_futex.unsliced = 1;
    struct crowd takers = gather(kind, TAKERS, take, 0), makers = gather(kind, MAKERS, make, 1);
    await(&makers);
    finish_takers();
    await(&takers);
    fake_futex.unsliced = 0;
    check_tally();
}

static void
threads_unbounded(void)
{
    push_and_take(THREADS, 0, 0);
}

static void
threads_bounded_by_count(void)
{
    push_and_take(THREADS, 2, 0);
}

static void
threads_bounded_by_bytes(void)
{
    push_and_take(THREADS, 0, 4096);
}

static void
threads_bounded_by_both(void)
{
    push_and_take(THREADS, 50, 4096);
}

static void
processes_unbounded(void)
{
    push_and_take(PROCESSES, 0, 0);
}

static void
processes_bounded_by_count(void)
{
    push_and_take(PROCESSES, 2, 0);
}

static void
processes_bounded_by_bytes(void)
{
    push_and_take(PROCESSES, 0, 4096);
}

CHECK_MAIN(TEST(processes_are_heard), TEST(threads_unbounded), TEST(threads_bounded_by_count),
           TEST(threads_bounded_by_bytes), TEST(threads_bounded_by_both), TEST(processes_unbounded),
           TEST(processes_bounded_by_count), TEST(processes_bounded_by_bytes))
