#include "check.h"

#include <errno.h>
#include <sys/wait.h>

static fmp_arena *a;

static fmp_owner_slot *
slot_of(uint32_t id)
{
    return &fmp_owner_table_of(a)->slots[FMP_OWNER_SLOT(id)];
}

static uint32_t
state_of(uint32_t id)
{
    return fmp_owner_state_in(fmp_load(&slot_of(id)->word));
}

/* As if `who` answered for it. */
static void
put_in_state(uint32_t id, uint32_t who, uint32_t state)
{
    fmp_store(&slot_of(id)->word, fmp_owner_word(id, who, state));
}

static uint32_t
who_answers_for(uint32_t id)
{
    return fmp_owner_who_in(fmp_load(&slot_of(id)->word));
}

static uint32_t
id_in(uint32_t slot)
{
    return fmp_owner_id_in(fmp_load(&fmp_owner_table_of(a)->slots[slot].word));
}

static void
the_first_process_lives(void)
{
    a = check_arena();
    CHECK(a->self != 0 && a->self != FMP_OWNER_OUTLAW);
    CHECK_EQ(state_of(a->self), FMP_OWNER_LIVE);
    CHECK_EQ(fmp_owner_count(a), 1);
    CHECK(fmp_owner_alive(a, a->self));
    CHECK(!fmp_owner_known_dead(a, a->self));
    CHECK(fmp_owner_holds(a, FMP_OWNER_SLOT(a->self)));
}

static void
a_slot_goes_its_way(void)
{
    a = check_arena();
    uint32_t id, at = 0;
    int killed;
    CHECK_EQ(fmp_owner_reserve(a, &id), 0);
    uint32_t slot = FMP_OWNER_SLOT(id);
    CHECK_EQ(state_of(id), FMP_OWNER_RESERVED);
    CHECK_EQ(who_answers_for(id), a->self);
    CHECK(fmp_owner_holds(a, slot));
    CHECK(fmp_owner_alive(a, id));
    CHECK_EQ(fmp_owner_next_gone(a, &at, &killed), 0);

    fmp_owner_recycle(a, id); /* not dead: nothing happens */
    CHECK_EQ(state_of(id), FMP_OWNER_RESERVED);
    CHECK(fmp_owner_bury(a, id));
    CHECK(!fmp_owner_bury(a, id)); /* known */
    CHECK_EQ(state_of(id), FMP_OWNER_GONE);
    CHECK(fmp_load(&fmp_owner_table_of(a)->gone));
    CHECK(fmp_owner_holds(a, slot)); /* until it was swept */
    CHECK(!fmp_owner_alive(a, id));
    CHECK(fmp_owner_known_dead(a, id));
    CHECK_EQ(fmp_owner_adopt(a, id), FMP_NOT_OWNER); /* O3 */
    CHECK_EQ(fmp_owner_count(a), 2);

    at = 0;
    CHECK_EQ(fmp_owner_next_gone(a, &at, &killed), id);
    CHECK(killed);
    CHECK_EQ(fmp_owner_next_gone(a, &at, &killed), 0);
    fmp_owner_recycle(a, id);
    CHECK_EQ(state_of(id), FMP_OWNER_FREE);
    CHECK(!fmp_owner_holds(a, slot));
    CHECK_EQ(fmp_owner_count(a), 1);
    CHECK(fmp_owner_known_dead(a, id));
    CHECK(!fmp_owner_alive(a, id));
}

static void
who_leaves_in_peace_was_not_killed(void)
{
    a = check_arena();
    uint32_t first = a->self, at = 0;
    int killed;
    fmp_owner_leave(a, a->self, 0);
    CHECK_EQ(state_of(first), FMP_OWNER_LEFT);
    CHECK(fmp_owner_known_dead(a, first));
    CHECK_EQ(fmp_owner_next_gone(a, &at, &killed), first);
    CHECK(!killed);
    CHECK_EQ(fmp_owner_join(a), 0);
    CHECK(a->self != first);
}

static void
who_leaves_says_how_it_ends(void)
{
    a = check_arena();
    uint32_t first = a->self, id;
    CHECK_EQ(fmp_owner_exitcode(a, first), -1);
    fmp_owner_leave(a, first, 200);
    CHECK_EQ(fmp_owner_exitcode(a, first), 200);
    CHECK(!fmp_owner_bury(a, first));
    fmp_object_sweep(a);
    CHECK_EQ(fmp_owner_exitcode(a, first), 200); /* its slot is free */
    CHECK_EQ(fmp_owner_join(a), 0);
    CHECK_EQ(FMP_OWNER_SLOT(a->self), FMP_OWNER_SLOT(first));
    CHECK_EQ(fmp_owner_exitcode(a, first), -1); /* and is another's */
    CHECK_EQ(fmp_owner_reserve(a, &id), 0);
    CHECK_EQ(fmp_owner_exitcode(a, id), -1);
    fmp_owner_bury(a, id);
    CHECK_EQ(fmp_owner_exitcode(a, id), -1);
    first = a->self;
    fmp_owner_leave(a, first, FMP_OWNER_GOES_ON);
    CHECK_EQ(fmp_owner_exitcode(a, first), -1);
}

static void
no_id_is_given_twice(void)
{
    a = check_arena();
    uint32_t last = 0, id, slot = 0;
    for (int i = 0; i < 5000; i++) {
        CHECK_EQ(fmp_owner_reserve(a, &id), 0);
        CHECK(id != 0 && id != FMP_OWNER_OUTLAW && id <= INT32_MAX);
        CHECK(id > last);
        CHECK(last == 0 || FMP_OWNER_SLOT(id) == slot);
        last = id;
        slot = FMP_OWNER_SLOT(id);
        CHECK(fmp_owner_bury(a, id));
        fmp_owner_recycle(a, id);
    }
}

static void
after_the_last_generation_comes_the_first(void)
{
    a = check_arena();
    uint32_t id, slot = FMP_OWNER_SLOT(a->self) + 1, most = ((UINT32_C(1) << 21) - 1) * FMP_OWNER_SLOTS + slot;
    atomic_store(&fmp_owner_table_of(a)->slots[slot].word, fmp_owner_word(most, 0, FMP_OWNER_FREE));
    CHECK_EQ(fmp_owner_reserve(a, &id), 0);
    CHECK_EQ(id, FMP_OWNER_SLOTS + slot);
}

static void
the_table_may_be_full(void)
{
    a = check_arena();
    uint32_t id;
    for (uint32_t i = 1; i < FMP_OWNER_SLOTS - 1; i++)
        CHECK_EQ(fmp_owner_reserve(a, &id), 0);
    CHECK_EQ(fmp_owner_reserve(a, &id), -EAGAIN);
    CHECK_EQ(fmp_owner_count(a), FMP_OWNER_SLOTS - 1);
    CHECK_EQ(id_in(FMP_OWNER_SLOTS - 1), 0); /* the outlaws' own */
    id = id_in(500);
    CHECK(fmp_owner_bury(a, id));
    CHECK_EQ(fmp_owner_reserve(a, &id), -EAGAIN); /* nobody swept up (O2) */
    fmp_owner_recycle(a, id_in(500));
    CHECK_EQ(fmp_owner_reserve(a, &id), 0);
    CHECK_EQ(FMP_OWNER_SLOT(id), 500);
}

static void
outlaws_are_never_dead(void)
{
    a = check_arena();
    CHECK(fmp_owner_alive(a, FMP_OWNER_OUTLAW));
    CHECK(!fmp_owner_known_dead(a, FMP_OWNER_OUTLAW));
    CHECK(!fmp_owner_bury(a, FMP_OWNER_OUTLAW));
    CHECK(fmp_owner_alive(a, FMP_OWNER_OUTLAW));
    uint32_t self = a->self;
    fmp_owner_outlaw(a);
    CHECK_EQ(a->self, FMP_OWNER_OUTLAW);
    CHECK(!fmp_owner_spin_begin(a, 100));
    a->self = self;
}

static void
say_who_i_am(void *shared)
{
    fmp_store((_Atomic uint32_t *)shared, a->self);
    for (;;)
        pause();
}

static void
a_killed_child_is_found_dead(void)
{
    a = check_arena();
    _Atomic uint32_t *shared = check_shared(64);
    uint32_t id;
    pid_t pid = check_fork(say_who_i_am, shared, &id);
    UNTIL(fmp_load(shared) != 0);
    CHECK_EQ(fmp_load(shared), id);
    CHECK(id != a->self);
    CHECK_EQ(state_of(id), FMP_OWNER_LIVE);
    CHECK_EQ(who_answers_for(id), pid);
    CHECK(fmp_owner_alive(a, id));

    CHECK_EQ(kill(pid, SIGKILL), 0);
    siginfo_t info;
    CHECK_EQ(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0); /* now it is a zombie */
    CHECK(!fmp_owner_known_dead(a, id));
    fmp_owner_survey(a);
    CHECK(fmp_owner_known_dead(a, id));
    CHECK_EQ(state_of(id), FMP_OWNER_GONE);
    CHECK(!fmp_owner_alive(a, id));
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
    CHECK(fmp_owner_alive(a, a->self));
}

static void
a_process_with_anothers_pid_is_another(void)
{
    CHECK(fmp_process_alive(getpid(), fmp_process_stamp()));
    CHECK(!fmp_process_alive(getpid(), 1)); /* this process started later than that */
    a = check_arena();
    uint32_t id;
    CHECK_EQ(fmp_owner_reserve(a, &id), 0);
    slot_of(id)->stamp = 1;
    put_in_state(id, (uint32_t)getppid(), FMP_OWNER_LIVE);
    CHECK(!fmp_owner_alive(a, id));
    CHECK_EQ(state_of(id), FMP_OWNER_GONE);
}

static void
make_old(uint32_t id)
{
    slot_of(id)->reserved_at -= 3600 * FMP_SECOND;
}

static void
a_reservation_ends(void)
{
    a = check_arena();
    uint32_t id;
    CHECK_EQ(fmp_owner_reserve(a, &id), 0);
    make_old(id);
    fmp_owner_survey(a);
    CHECK_EQ(state_of(id), FMP_OWNER_RESERVED); /* its parent may be in the middle of its fork yet */
    fmp_owner_forked(a, id);
    fmp_owner_survey(a);
    CHECK_EQ(state_of(id), FMP_OWNER_FORKED); /* from now on */
    make_old(id);
    fmp_owner_survey(a);
    CHECK_EQ(state_of(id), FMP_OWNER_GONE);
    fmp_owner_forked(a, id); /* too late */
    CHECK_EQ(state_of(id), FMP_OWNER_GONE);
    fmp_owner_recycle(a, id);

    /* A child that comes after its slot was given to another leaves the other's alone. */
    uint32_t next;
    CHECK_EQ(fmp_owner_reserve(a, &next), 0);
    CHECK_EQ(FMP_OWNER_SLOT(next), FMP_OWNER_SLOT(id));
    uint64_t word = fmp_load(&slot_of(next)->word);
    CHECK_EQ(fmp_owner_adopt(a, id), FMP_NOT_OWNER);
    fmp_owner_forked(a, id);
    fmp_owner_promise(a, id);
    CHECK_EQ(fmp_load(&slot_of(next)->word), word);
}

/* A reservation of a parent that died ends with the time that the child has. */
static void
a_reservation_outlives_its_parent_for_a_while(void)
{
    a = check_arena();
    uint32_t id, parent;
    CHECK_EQ(fmp_owner_reserve(a, &parent), 0);
    CHECK_EQ(fmp_owner_reserve(a, &id), 0);
    put_in_state(id, parent, FMP_OWNER_RESERVED);
    CHECK(fmp_owner_bury(a, parent));
    fmp_owner_survey(a);
    CHECK_EQ(state_of(id), FMP_OWNER_RESERVED);
    make_old(id);
    fmp_owner_survey(a);
    CHECK_EQ(state_of(id), FMP_OWNER_GONE);
}

/* Until a process has written its stamp, its pid alone says that it lives. */
static void
who_has_just_come_lives(void)
{
    a = check_arena();
    uint32_t id;
    CHECK_EQ(fmp_owner_reserve(a, &id), 0);
    put_in_state(id, (uint32_t)getppid(), FMP_OWNER_LIVE);
    fmp_owner_survey(a);
    CHECK_EQ(state_of(id), FMP_OWNER_LIVE);
    CHECK(fmp_owner_bury(a, id));
    slot_of(id)->stamp = 77;
    fmp_owner_recycle(a, id);
    CHECK_EQ(slot_of(id)->stamp, 0);
}

static void
a_promise_is_kept(void)
{
    a = check_arena();
    uint32_t id, parent;
    CHECK_EQ(fmp_owner_reserve(a, &id), 0);
    fmp_owner_promise(a, id);
    fmp_owner_promise(a, id);
    CHECK_EQ(state_of(id), FMP_OWNER_PROMISED);
    CHECK(fmp_owner_holds(a, FMP_OWNER_SLOT(id)));
    CHECK(fmp_owner_alive(a, id));
    make_old(id);
    fmp_owner_survey(a);
    CHECK_EQ(state_of(id), FMP_OWNER_PROMISED); /* O3 is for reservations */

    CHECK_EQ(fmp_owner_reserve(a, &parent), 0); /* it ends with who made it */
    put_in_state(id, parent, FMP_OWNER_PROMISED);
    CHECK(fmp_owner_bury(a, parent));
    fmp_owner_survey(a);
    CHECK_EQ(state_of(id), FMP_OWNER_GONE);
    CHECK_EQ(fmp_owner_adopt(a, id), FMP_NOT_OWNER);
    fmp_owner_promise(a, id); /* too late */
    CHECK_EQ(state_of(id), FMP_OWNER_GONE);
    fmp_owner_recycle(a, id);
    fmp_owner_promise(a, id);
    CHECK_EQ(state_of(id), FMP_OWNER_FREE);
}

static void
who_was_promised_a_slot_takes_it(void)
{
    a = check_arena();
    uint32_t first = a->self, id;
    CHECK_EQ(fmp_owner_reserve(a, &id), 0);
    fmp_owner_promise(a, id);
    CHECK_EQ(fmp_owner_adopt(a, id), 0);
    CHECK_EQ(a->self, id);
    CHECK_EQ(state_of(id), FMP_OWNER_LIVE);
    CHECK_EQ(who_answers_for(id), getpid());
    CHECK_EQ(fmp_owner_adopt(a, id), FMP_NOT_OWNER); /* once */
    fmp_owner_promise(a, id);
    CHECK_EQ(state_of(id), FMP_OWNER_LIVE);
    fmp_owner_bury(a, first);
    fmp_owner_survey(a);
    CHECK_EQ(state_of(id), FMP_OWNER_LIVE);
}

struct crowd {
    _Atomic int surveying;
    _Atomic uint32_t failures;
};

static void
reserve_and_bury(void *arg)
{
    struct crowd *c = arg;
    uint32_t id;
    for (int i = 0; i < 20000; i++) {
        CHECK_EQ(fmp_owner_reserve(a, &id), 0);
        if (!fmp_owner_bury(a, id))
            atomic_fetch_add(&c->failures, 1);
        slot_of(id)->reserved_at = fmp_clock() - 3600 * FMP_SECOND;
        fmp_owner_recycle(a, id);
    }
}

static void
survey_all_the_time(void *arg)
{
    struct crowd *c = arg;
    while (fmp_load(&c->surveying))
        fmp_owner_survey(a);
}

/* Nobody takes a slot for an old reservation just because it was one before. */
static void
a_new_reservation_is_never_found_old(void)
{
    a = check_arena();
    struct crowd c = {.surveying = 1};
    pthread_t surveyor = check_thread(survey_all_the_time, &c);
    pthread_t threads[3];
    check_threads(threads, 3, reserve_and_bury, &c, 0);
    check_finish_all(threads, 3);
    fmp_store(&c.surveying, 0);
    check_finish(surveyor);
    CHECK_EQ(c.failures, 0);
    CHECK_EQ(fmp_owner_count(a), 1);
}

static void
promise_and_bury(void *unused)
{
    (void)unused;
    uint32_t id;
    for (int i = 0; i < 20000; i++) {
        CHECK_EQ(fmp_owner_reserve(a, &id), 0);
        fmp_owner_promise(a, id);
        CHECK(fmp_owner_alive(a, id));
        CHECK(fmp_owner_bury(a, id));
        fmp_owner_recycle(a, id);
    }
}

/* Who asks about a slot may read what it says of the next process. */
static void
promises_are_surveyed(void)
{
    a = check_arena();
    struct crowd c = {.surveying = 1};
    pthread_t surveyor = check_thread(survey_all_the_time, &c);
    pthread_t threads[3];
    check_threads(threads, 3, promise_and_bury, NULL, 0);
    check_finish_all(threads, 3);
    fmp_store(&c.surveying, 0);
    check_finish(surveyor);
    CHECK_EQ(fmp_owner_count(a), 1);
}

#define BIRTHS 400000

struct birth {
    _Atomic uint32_t promised; /* the slot that is there to be taken */
    _Atomic uint32_t came;     /* 1 it was taken, 2 too late; 0 not yet */
};

/* Comes to each slot, as fmp_owner_adopt does in a process of its own. */
static void
come(void *arg)
{
    struct birth *b = arg;
    for (uint32_t i = 0, id, last = 0; i < BIRTHS; i++, last = id) {
        UNTIL((id = fmp_load(&b->promised)) != last);
        fmp_owner_slot *s = slot_of(id);
        uint64_t word = fmp_load(&s->word);
        int in_time = fmp_owner_state_in(word) == FMP_OWNER_PROMISED &&
                      atomic_compare_exchange_strong(&s->word, &word, fmp_owner_word(id, (uint32_t)getpid(), FMP_OWNER_LIVE));
        fmp_store(&b->came, in_time ? 1 : 2);
    }
}

/* O6: the parent is dead, so somebody ends the promise, while the child comes. */
static void
who_comes_is_not_buried_alive(void)
{
    a = check_arena();
    struct birth b = {0};
    uint32_t parent = check_dead();
    pthread_t child = check_thread(come, &b);
    for (int i = 0; i < BIRTHS; i++) {
        uint32_t id, came;
        CHECK_EQ(fmp_owner_reserve(a, &id), 0);
        put_in_state(id, parent, FMP_OWNER_PROMISED);
        fmp_store(&b.promised, id);
        for (volatile int until_it_is_seen = i % 512; until_it_is_seen > 0; until_it_is_seen--)
            ;
        int alive = fmp_owner_alive(a, id);
        UNTIL((came = fmp_load(&b.came)) != 0);
        fmp_store(&b.came, 0);
        CHECK_EQ(alive, came == 1);
        CHECK_EQ(state_of(id), came == 1 ? FMP_OWNER_LIVE : FMP_OWNER_GONE);
        fmp_owner_bury(a, id);
        fmp_owner_recycle(a, id);
    }
    check_finish(child);
}

static void
who_is_wanted_no_more_may_have_come(void)
{
    a = check_arena();
    uint32_t first = a->self, id;
    fmp_owner_withdraw(a, 0);
    CHECK_EQ(state_of(first), FMP_OWNER_LIVE);
    CHECK_EQ(fmp_owner_reserve(a, &id), 0);
    fmp_owner_promise(a, id);
    fmp_owner_withdraw(a, id);
    CHECK_EQ(state_of(id), FMP_OWNER_GONE);
    fmp_owner_withdraw(a, id);
    fmp_owner_recycle(a, id);
    fmp_owner_withdraw(a, id);
    CHECK_EQ(state_of(id), FMP_OWNER_FREE);

    CHECK_EQ(fmp_owner_reserve(a, &id), 0);
    fmp_owner_promise(a, id);
    CHECK_EQ(fmp_owner_adopt(a, id), 0);
    fmp_owner_withdraw(a, id);
    CHECK_EQ(state_of(id), FMP_OWNER_LIVE);
    fmp_owner_bury(a, first);
}

static void
spinners_are_counted(void)
{
    a = check_arena();
    fmp_owner_table *t = fmp_owner_table_of(a);
    uint32_t slot = FMP_OWNER_SLOT(a->self), id;
    CHECK(fmp_owner_spin_begin(a, 4));
    CHECK(fmp_load(&t->spinning[slot / 64]) & UINT64_C(1) << slot % 64);
    CHECK(fmp_owner_spin_begin(a, 4));
    fmp_owner_spin_end(a);
    CHECK(fmp_load(&t->spinning[slot / 64]) & UINT64_C(1) << slot % 64); /* the other thread */
    fmp_owner_spin_end(a);
    CHECK_EQ(fmp_load(&t->spinning[slot / 64]), 0);

    CHECK_EQ(fmp_owner_reserve(a, &id), 0); /* another process, which spins when it is killed */
    atomic_fetch_or(&t->spinning[FMP_OWNER_SLOT(id) / 64], UINT64_C(1) << FMP_OWNER_SLOT(id) % 64);
    CHECK(!fmp_owner_spin_begin(a, 1));
    CHECK(fmp_owner_bury(a, id));
    CHECK(fmp_owner_spin_begin(a, 1));
    fmp_owner_spin_end(a);
}

CHECK_MAIN(TEST(the_first_process_lives), TEST(a_slot_goes_its_way), TEST(who_leaves_in_peace_was_not_killed),
           TEST(who_leaves_says_how_it_ends), TEST(no_id_is_given_twice), TEST(after_the_last_generation_comes_the_first),
           TEST(the_table_may_be_full), TEST(outlaws_are_never_dead), TEST(a_killed_child_is_found_dead),
           TEST(a_process_with_anothers_pid_is_another), TEST(a_reservation_ends),
           TEST(a_reservation_outlives_its_parent_for_a_while), TEST(who_has_just_come_lives), TEST(a_promise_is_kept), TEST(who_was_promised_a_slot_takes_it),
           TEST(a_new_reservation_is_never_found_old), TEST(promises_are_surveyed), TEST(who_comes_is_not_buried_alive),
           TEST(who_is_wanted_no_more_may_have_come), TEST(spinners_are_counted))
