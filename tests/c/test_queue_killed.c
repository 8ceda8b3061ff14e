/* Users of a queue who are killed at any moment. */
#include "test_queue.h"

struct progress {
    _Atomic uint32_t done; /* messages that were sent, or taken */
};

static uint64_t
killed_size(uint32_t number)
{
    return 8 + (number % 5 == 0 ? 20000 + number % 9000 : number % 900);
}

static void
push_for_ever(void *arg)
{
    struct progress *s = arg;
    for (uint32_t i = 0;; i++) {
        push(killed_size(i), (struct label){7, i});
        fmp_store(&s->done, i + 1);
    }
}

/* Take everything up to a message of maker 8, sent here: these are maker 7's, numbered in a row. Returns the
 * number of the first and the one behind the last. The repair is the sweep's, or the next comer's. */
static uint32_t
drain_to_mark(uint32_t id, int sweep, uint32_t *first)
{
    struct label l;
    uint32_t next = *first;
    if (sweep)
        fmp_object_sweep(a);
    push(8, (struct label){8, 0});
    for (int i = 0; take_until(FMP_FOREVER, &l, NULL) && l.maker == 7; i++) {
        if (i == 0)
            next = *first = l.number;
        CHECK_EQ(l.number, next);
        next++;
    }
    CHECK_EQ(l.maker, 8);
    fmp_object_sweep(a);
    CHECK(fmp_owner_known_dead(a, id));
    CHECK_EQ(fmp_queue_size(q), 0);
    CHECK_EQ(q->pushed_bytes, q->taken_bytes);
    CHECK_EQ(check_blocks(), base);
    return next;
}

/* Each pushes convoys of that many messages until it is killed: they arrive, but for the last one perhaps. */
static void
kill_pushers(void (*push_on)(void *), uint32_t convoy, uint32_t random, int rounds)
{
    begin(0, 0);
    struct progress *s = check_shared(sizeof(*s));
    for (int round = 0; round < rounds; round++) {
        fmp_store(&s->done, 0);
        uint32_t id, first = 0;
        pid_t pid = check_fork_doomed(push_on, s, &id, &random, 300000);
        check_reap(pid, id);
        uint32_t sent = fmp_load(&s->done), got = drain_to_mark(id, round % 2, &first);
        CHECK_EQ(first, 0);
        CHECK(got == sent || got == sent + convoy);
    }
}

static void
pushers_are_killed(void)
{
    kill_pushers(push_for_ever, 1, 17, 120);
}

static void
take_for_ever(void *arg)
{
    struct progress *s = arg;
    uint32_t next = 0;
    struct label l;
    while (take_until(FMP_FOREVER, &l, NULL)) {
        CHECK_EQ(l.number, next);
        next++;
        fmp_store(&s->done, next);
    }
}

static void
takers_are_killed(void)
{
    begin(0, 0);
    struct progress *s = check_shared(sizeof(*s));
    uint32_t random = 23, lost = 0;
    for (int round = 0; round < 120; round++) {
        enum { N = 80 };
        for (uint32_t i = 0; i < N; i++)
            push(killed_size(i), (struct label){7, i});
        fmp_store(&s->done, 0);
        uint32_t id;
        pid_t pid = check_fork_doomed(take_for_ever, s, &id, &random, 200000);
        check_reap(pid, id);
        uint32_t taken = fmp_load(&s->done), first = taken, end = drain_to_mark(id, round % 2, &first);
        CHECK(first == taken || first == taken + 1); /* one at most was lost with its taker */
        CHECK(end == N || (end == taken && taken == N - 1));
        lost += first > taken;
    }
    printf("   %u messages lost with 120 takers\n", (unsigned)lost);
}

enum { CONVOY = 7 };

static void
push_convoys_for_ever(void *arg)
{
    struct progress *s = arg;
    for (uint32_t i = 0;; i += CONVOY) {
        fmp_convoy c = convoy(i, CONVOY, killed_size);
        CHECK_EQ(WAIT(FMP_FOREVER, fmp_queue_push_many(a, q, &c, &w)), 0);
        fmp_store(&s->done, i + CONVOY);
    }
}

static void
pushers_of_convoys_are_killed(void)
{
    kill_pushers(push_convoys_for_ever, CONVOY, 41, 60);
}

static void
take_batches_for_ever(void *arg)
{
    struct progress *s = arg;
    for (uint32_t next = 0;; fmp_store(&s->done, next))
        next += take_batch(FMP_FOREVER, CONVOY, next);
}

static void
takers_of_batches_are_killed(void)
{
    begin(0, 0);
    struct progress *s = check_shared(sizeof(*s));
    uint32_t random = 43;
    for (int round = 0; round < 60; round++) {
        enum { N = 80 };
        fmp_convoy c = convoy(0, N, killed_size);
        CHECK_EQ(push_now(&c), 0);
        fmp_store(&s->done, 0);
        uint32_t id;
        pid_t pid = check_fork_doomed(take_batches_for_ever, s, &id, &random, 100000);
        check_reap(pid, id);
        uint32_t taken = fmp_load(&s->done), first = taken, end = drain_to_mark(id, round % 2, &first);
        CHECK(first >= taken && first <= taken + CONVOY); /* one batch at most was lost with its taker */
        CHECK(end == N || (end == first && taken + CONVOY >= N));
    }
}

#define CROWD 5

/* Several push into a queue with a bound while one takes, until all of them are killed. */
static void
a_crowd_is_decimated(void)
{
    begin(8, 0);
    pid_t pids[CROWD];
    uint32_t ids[CROWD], random = 29;
    uint64_t taken = 0, sent = 0, kills = 0;
    struct progress *progress[CROWD];
    struct label l;
    for (int i = 0; i < CROWD; i++)
        progress[i] = check_shared(sizeof(struct progress));
    for (; kills < 40 * CROWD; kills += CROWD) {
        for (uint32_t i = 0; i < CROWD; i++) {
            fmp_store(&progress[i]->done, 0);
            pids[i] = check_fork_doomed(push_for_ever, progress[i], &ids[i], &random, 2000000);
        }
        for (uint32_t i = 0; i < CROWD; i++) {
            while (!check_reaped(pids[i], ids[i]))
                taken += (uint64_t)try_take(&l);
            sent += fmp_load(&progress[i]->done);
        }
        fmp_object_sweep(a);
        while (try_take(&l))
            taken++;
        CHECK_EQ(check_blocks(), base);
    }
    CHECK(taken >= sent && taken <= sent + kills);
}

CHECK_MAIN(TEST(pushers_are_killed), TEST(takers_are_killed), TEST(pushers_of_convoys_are_killed),
           TEST(takers_of_batches_are_killed), TEST(a_crowd_is_decimated))
