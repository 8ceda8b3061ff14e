/* Objects, and processes, that somebody left in the middle of a step. */
#include "test_object.h"

/* B3: a maker dies after each step. */
static void
what_was_being_made_is_gone(void)
{
    for (int step = 0; step < 5; step++) {
        a = check_arena();
        fmp_object *first = create(FMP_PLAIN, 10);
        fmp_object_table *t = table();
        uint32_t id;
        fmp_ref ref;
        void *p;
        CHECK_EQ(fmp_owner_reserve(a, &id), 0);
        _Atomic uint64_t *row = fmp_object_row_word(a, FMP_OWNER_SLOT(id), 0);
        CHECK_EQ(fmp_heap_alloc_zeroed(a, sizeof(fmp_object) + 100, &ref, &p), 0);
        fmp_object *o = p;
        *o = (fmp_object){.kind = FMP_PLAIN, .self = ref, .bytes = 100, .index = 1};
        fmp_heap_tag(a, ref, id);
        if (step >= 1)
            t->top = 2;
        if (step >= 2)
            atomic_fetch_or(&row[0], 2);
        if (step >= 3)
            fmp_store(&t->entries[1], ref.off);
        if (step >= 4)
            fmp_heap_tag(a, ref, FMP_TAG_SHARED);
        atomic_store(&t->lock.owner, id);
        CHECK(fmp_owner_bury(a, id));
        fmp_object_sweep(a);
        CHECK_EQ(fmp_object_count(a), 1);
        CHECK_EQ(check_blocks(), 1);
        CHECK_EQ(t->lock.owner, 0);
        CHECK_EQ(fmp_load(&row[0]), 0);
        CHECK_EQ(create(FMP_PLAIN, 10)->index, 1);
        fmp_object_drop(a, first);
        CHECK_EQ(fmp_object_count(a), 1);
    }
}

/* B3: who destroys dies after each step. */
static void
what_was_being_destroyed_is_gone(void)
{
    for (int step = 0; step < 5; step++) {
        a = check_arena();
        create(FMP_PLAIN, 10);
        fmp_object *o = create(FMP_PLAIN, 100);
        fmp_object_table *t = table();
        _Atomic uint64_t *row = fmp_object_row_word(a, FMP_OWNER_SLOT(a->self), 0);
        uint32_t dead = check_dead();
        fmp_ref self = o->self;
        atomic_fetch_and(&row[0], ~UINT64_C(2));
        a->handles[1] = 0;
        if (step >= 1)
            fmp_heap_tag(a, self, dead);
        if (step >= 2)
            fmp_store(&t->entries[1], (uint64_t)t->free << 4 | 2);
        if (step >= 3)
            t->free = 2;
        if (step >= 4)
            atomic_fetch_sub(&t->count, 1);
        atomic_store(&t->lock.owner, dead);
        fmp_object_sweep(a);
        CHECK_EQ(fmp_object_count(a), 1);
        CHECK_EQ(check_blocks(), 1);
        CHECK_EQ(create(FMP_PLAIN, 10)->index, 1);
        CHECK_EQ(create(FMP_PLAIN, 10)->index, 2);
    }
}

/* A sweeper dies after it looked for the dead: the next death shows it all again. */
static void
a_sweep_that_was_cut_short_is_finished(void)
{
    a = check_arena();
    uint32_t first = check_dead(), sweeper;
    fmp_ref ref;
    void *p;
    CHECK_EQ(fmp_heap_alloc(a, 100, &ref, &p), 0);
    fmp_heap_tag(a, ref, first);
    CHECK_EQ(fmp_owner_reserve(a, &sweeper), 0);
    atomic_store(&fmp_owner_table_of(a)->gone, 0);
    atomic_store(&table()->lock.owner, sweeper);
    CHECK(fmp_owner_bury(a, sweeper));
    fmp_object_sweep(a);
    CHECK_EQ(check_blocks(), 0);
    CHECK_EQ(fmp_owner_count(a), 1);
}

/* B5: whoever ships or lands is killed when he has booked it, and has done some of it, or all, or none. */
static void
what_is_booked_is_done_once(void)
{
    for (int step = 0; step < 6; step++) {
        int done = step / 2;
        a = check_arena();
        fmp_object *o = create(FMP_PLAIN, 10);
        fmp_ref cargo;
        CHECK_EQ(fmp_object_ship(a, (fmp_object *[]){o, o}, 2, &cargo), 0);
        fmp_cargo *c = fmp_heap_at(a, cargo);
        fmp_object_table *t = fmp_arena_place(a, FMP_PLACE_OBJECTS);
        t->booking = (fmp_booking){.cargo = cargo, .count = 1, .index = o->index, .in_flight = 1};
        if (done >= 1)
            o->in_flight = 1;
        if (done >= 2)
            c->count = 1;
        uint32_t dead = check_dead();
        if (step % 2) /* it was his, else it is a message's */
            fmp_heap_tag(a, cargo, dead);
        atomic_store(&t->lock.owner, dead);
        fmp_object_sweep(a);
        CHECK_EQ(o->in_flight, step % 2 ? 0 : 1);
        if (step % 2 == 0)
            fmp_object_land(a, cargo);
        CHECK_EQ(o->in_flight, 0);
        fmp_object_drop(a, o);
        CHECK_EQ(check_blocks(), 0);
    }
}

static void
killed_at_any_moment(void)
{
    a = check_arena();
    uint32_t random = 41;
    fmp_object *mine = create(FMP_PLAIN, 10);
    for (int round = 0; round < 100; round++) {
        pid_t pids[2];
        uint32_t ids[2];
        for (int i = 0; i < 2; i++)
            pids[i] = check_fork_doomed(churn, NULL, &ids[i], &random, 400000);
        for (int i = 0; i < 2; i++)
            check_reap(pids[i], ids[i]);
        fmp_object_sweep(a);
        CHECK_EQ(fmp_object_count(a), 1);
        CHECK_EQ(check_blocks(), 1);
        CHECK_EQ(fmp_owner_count(a), 1);
    }
    fmp_object_drop(a, mine);
    CHECK_EQ(check_blocks(), 0);
}

CHECK_MAIN(TEST(what_was_being_made_is_gone), TEST(what_was_being_destroyed_is_gone),
           TEST(a_sweep_that_was_cut_short_is_finished), TEST(what_is_booked_is_done_once),
           TEST(killed_at_any_moment))
