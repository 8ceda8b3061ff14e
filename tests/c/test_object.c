#include "check.h"

#include <sys/wait.h>

#include "core/queue.h"

static fmp_arena *a;

static fmp_object *
create(fmp_kind kind, uint64_t bytes)
{
    fmp_object *o;
    CHECK_EQ(fmp_object_create(a, kind, bytes, &o), 0);
    CHECK_EQ((uintptr_t)fmp_object_body(o) % FMP_CACHELINE, 0);
    CHECK_EQ(o->bytes, bytes);
    CHECK_EQ(o->kind, kind);
    return o;
}

static fmp_object_table *
table(void)
{
    return fmp_arena_place(a, FMP_PLACE_OBJECTS);
}

static uint32_t
held_by(uint32_t id, const fmp_object *o)
{
    _Atomic uint64_t *row = fmp_arena_at(a, FMP_PLACE_ROWS + FMP_OWNER_SLOT(id) * FMP_ROW_BYTES);
    return fmp_load(&row[o->index / 64]) >> o->index % 64 & 1;
}

static void
an_object_lives_while_it_is_held(void)
{
    a = check_arena();
    fmp_object *o = create(FMP_PLAIN, 1000);
    for (int i = 0; i < 1000; i++)
        CHECK(((char *)fmp_object_body(o))[i] == 0);
    CHECK_EQ(fmp_object_count(a), 1);
    CHECK(held_by(a->self, o));
    CHECK_EQ(a->handles[o->index], 1);
    CHECK_EQ(((fmp_block *)o - 1)->tag, FMP_TAG_SHARED);
    fmp_object_hold(a, o);
    fmp_object_hold(a, o);
    fmp_object_drop(a, o);
    fmp_object_drop(a, o);
    CHECK_EQ(fmp_object_count(a), 1);
    CHECK(held_by(a->self, o));
    fmp_object_drop(a, o);
    CHECK_EQ(fmp_object_count(a), 0);
    CHECK_EQ(check_blocks(), 0);
}

static void
objects_of_all_sizes(void)
{
    a = check_arena();
    static const uint64_t sizes[] = {0, 1, 5000, (uint64_t)5 << 20, (uint64_t)40 << 20};
    fmp_object *o[5];
    for (int i = 0; i < 5; i++) {
        o[i] = create(FMP_PLAIN, sizes[i]);
        CHECK_EQ(fmp_heap_at(a, o[i]->self) == (void *)o[i], 1);
        check_fill(fmp_object_body(o[i]), sizes[i], (uint32_t)i);
    }
    for (int i = 0; i < 5; i++)
        CHECK(check_filled(fmp_object_body(o[i]), sizes[i], (uint32_t)i));
    for (int i = 0; i < 5; i++)
        fmp_object_drop(a, o[i]);
    CHECK_EQ(check_blocks(), 0);
    fmp_object *none;
    CHECK(fmp_object_create(a, FMP_PLAIN, UINT64_MAX - 10, &none) < 0);
    CHECK(fmp_object_create(a, FMP_PLAIN, UINT64_MAX / 2 - 10, &none) < 0);
    CHECK_EQ(fmp_object_count(a), 0);
}

static void
a_thousand_objects(void)
{
    a = check_arena();
    enum { N = 1500 };
    static fmp_object *o[N];
    for (uint32_t i = 0; i < N; i++) {
        o[i] = create(FMP_PLAIN, 64);
        *(uint32_t *)fmp_object_body(o[i]) = i;
    }
    CHECK_EQ(fmp_object_count(a), N);
    for (uint32_t i = 0; i < N; i++) {
        CHECK_EQ(o[i]->index, i);
        CHECK_EQ(*(uint32_t *)fmp_object_body(o[i]), i);
    }
    for (uint32_t i = 0; i < N; i += 2)
        fmp_object_drop(a, o[i]);
    CHECK_EQ(fmp_object_count(a), N / 2);
    for (uint32_t i = 0; i < N; i += 2) {
        o[i] = create(FMP_PLAIN, 64);
        CHECK(o[i]->index < N); /* indices are used again */
        CHECK_EQ(o[i]->index % 2, 0);
    }
    for (uint32_t i = 0; i < N; i++)
        fmp_object_drop(a, o[i]);
    CHECK_EQ(fmp_object_count(a), 0);
    CHECK_EQ(check_blocks(), 0);
    CHECK_EQ(table()->top, N);
}

static void
come_and_go(void *unused)
{
    (void)unused;
    fmp_object *mine[8] = {NULL};
    uint32_t random = fmp_thread_id();
    for (int i = 0; i < 8000; i++) {
        uint32_t k = check_random(&random) % 8;
        if (mine[k] == NULL) {
            mine[k] = create(FMP_PLAIN, check_random(&random) % 500);
        }
        else {
            fmp_object_drop(a, mine[k]);
            mine[k] = NULL;
        }
    }
    for (int k = 0; k < 8; k++)
        if (mine[k] != NULL)
            fmp_object_drop(a, mine[k]);
}

static void
thousands_come_and_go(void)
{
    a = check_arena();
    pthread_t threads[3];
    pid_t pids[2];
    for (int i = 0; i < 2; i++)
        pids[i] = check_fork(come_and_go, NULL, NULL);
    for (int i = 0; i < 3; i++)
        threads[i] = check_thread(come_and_go, NULL);
    for (int i = 0; i < 3; i++)
        check_finish(threads[i]);
    for (int i = 0; i < 2; i++)
        check_join(pids[i]);
    CHECK_EQ(fmp_object_count(a), 0);
    CHECK_EQ(check_blocks(), 0);
    CHECK(table()->top <= 5 * 8);
}

/* ---- forks ------------------------------------------------------------------------------------------------ */

struct stage {
    _Atomic int now;
    fmp_object *object;
};

static void
reach(struct stage *s, int now)
{
    fmp_store(&s->now, now);
}

static void
drop_when_told(void *arg)
{
    struct stage *s = arg;
    CHECK_EQ(a->handles[s->object->index], 1);
    CHECK(held_by(a->self, s->object));
    reach(s, 1);
    UNTIL(fmp_load(&s->now) == 2);
    CHECK(check_filled(fmp_object_body(s->object), 100, 4));
    fmp_object_drop(a, s->object);
    reach(s, 3);
    UNTIL(fmp_load(&s->now) == 4);
}

static void
a_child_holds_what_its_parent_held(void)
{
    a = check_arena();
    struct stage *s = check_shared(sizeof(*s));
    s->object = create(FMP_PLAIN, 100);
    check_fill(fmp_object_body(s->object), 100, 4);
    uint32_t id;
    pid_t pid = check_fork(drop_when_told, s, &id);
    CHECK(id != 0);
    CHECK(held_by(id, s->object)); /* even before it ran */
    UNTIL(fmp_load(&s->now) == 1);
    fmp_object *object = s->object;
    fmp_object_drop(a, object);
    CHECK_EQ(fmp_object_count(a), 1);
    CHECK(!held_by(a->self, object));
    reach(s, 2);
    UNTIL(fmp_load(&s->now) == 3);
    CHECK_EQ(fmp_object_count(a), 0); /* the last holder's drop */
    CHECK_EQ(check_blocks(), 0);
    reach(s, 4);
    check_join(pid);
}

static void
make_some_and_wait(void *arg)
{
    struct stage *s = arg;
    for (int i = 0; i < 10; i++)
        create(FMP_PLAIN, 50);
    fmp_object *queue = create(FMP_QUEUE, sizeof(fmp_queue));
    CHECK_EQ(fmp_queue_init(a, fmp_object_body(queue), 0, 0), 0);
    fmp_ref ref;
    void *p;
    CHECK_EQ(fmp_heap_alloc(a, 10000, &ref, &p), 0);
    reach(s, 1);
    for (;;)
        pause();
}

static void
what_a_killed_child_held_is_destroyed(void)
{
    a = check_arena();
    struct stage *s = check_shared(sizeof(*s));
    fmp_object *mine = create(FMP_PLAIN, 100);
    uint32_t id;
    pid_t pid = check_fork(make_some_and_wait, s, &id);
    UNTIL(fmp_load(&s->now) == 1);
    CHECK_EQ(fmp_object_count(a), 12);
    check_slay(pid, id);
    CHECK(held_by(id, mine));
    fmp_object_sweep(a);
    CHECK(!held_by(id, mine));
    CHECK(held_by(a->self, mine));
    CHECK_EQ(fmp_object_count(a), 1);
    CHECK_EQ(check_blocks(), 1);
    CHECK_EQ(fmp_owner_count(a), 1); /* O2: only now its slot is free */
    fmp_object_drop(a, mine);
    CHECK_EQ(check_blocks(), 0);
}

static void
die_at_once(void *unused)
{
    (void)unused;
}

static void
the_last_holder_may_be_dead(void)
{
    a = check_arena();
    fmp_object *o = create(FMP_PLAIN, 100);
    uint32_t id;
    check_join(check_fork(die_at_once, NULL, &id));
    fmp_object_drop(a, o); /* nobody knows that the child is dead */
    CHECK_EQ(fmp_object_count(a), 1);
    fmp_owner_survey(a);
    fmp_object_sweep(a);
    CHECK_EQ(fmp_object_count(a), 0);
    CHECK_EQ(check_blocks(), 0);
}

static void
fork_a_child(void *arg)
{
    struct stage *s = arg;
    uint32_t id;
    pid_t pid = check_fork(die_at_once, NULL, &id);
    CHECK(id != 0 && id != a->self);
    check_join(pid);
    CHECK(fmp_owner_bury(a, id));
    CHECK(held_by(a->self, s->object));
    fmp_object_drop(a, s->object);
    fmp_object_sweep(a);
}

static void
grandchildren_hold_as_well(void)
{
    a = check_arena();
    struct stage *s = check_shared(sizeof(*s));
    s->object = create(FMP_PLAIN, 100);
    uint32_t id;
    check_join(check_fork(fork_a_child, s, &id));
    CHECK(fmp_owner_bury(a, id));
    fmp_object_sweep(a);
    CHECK_EQ(fmp_object_count(a), 1);
    fmp_object_drop(a, s->object);
    CHECK_EQ(check_blocks(), 0);
    CHECK_EQ(fmp_owner_count(a), 1);
}

static void
fork_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < 15; i++) {
        uint32_t id;
        pid_t pid = check_fork(die_at_once, NULL, &id);
        CHECK(id != 0);
        check_join(pid);
        fmp_owner_bury(a, id);
    }
}

static void
threads_fork_while_objects_come_and_go(void)
{
    a = check_arena();
    pthread_t one = check_thread(come_and_go, NULL), two = check_thread(fork_many, NULL);
    fork_many(NULL);
    check_finish(one);
    check_finish(two);
    fmp_object_sweep(a);
    CHECK_EQ(fmp_object_count(a), 0);
    CHECK_EQ(check_blocks(), 0);
    CHECK_EQ(fmp_owner_count(a), 1);
}

static void
be_an_outlaw(void *arg)
{
    struct stage *s = arg;
    CHECK_EQ(a->self, FMP_OWNER_OUTLAW);
    fmp_object *none;
    CHECK(fmp_object_create(a, FMP_PLAIN, 10, &none) < 0);
    CHECK(check_filled(fmp_object_body(s->object), 100, 6));
    reach(s, 1);
    UNTIL(fmp_load(&s->now) == 2);
    fmp_object_drop(a, s->object); /* it is gone: its parent let go */
    check_join(check_fork(die_at_once, NULL, NULL));
}

/* A child for which there was no slot uses what others hold, and leaves no trace. */
static void
a_child_without_a_slot(void)
{
    a = check_arena();
    struct stage *s = check_shared(sizeof(*s));
    s->object = create(FMP_PLAIN, 100);
    check_fill(fmp_object_body(s->object), 100, 6);
    uint32_t ids[FMP_OWNER_SLOTS], count = 0, id;
    while (fmp_owner_reserve(a, &ids[count]) == 0)
        count++;
    pid_t pid = check_fork(be_an_outlaw, s, &id);
    CHECK_EQ(id, 0);
    UNTIL(fmp_load(&s->now) == 1);
    fmp_object *object = s->object;
    uint32_t index = object->index;
    fmp_object_drop(a, object);
    CHECK_EQ(fmp_object_count(a), 0);
    uint64_t entry = fmp_load(&table()->entries[index]);
    reach(s, 2);
    check_join(pid);
    CHECK_EQ(fmp_object_count(a), 0);
    CHECK_EQ(fmp_load(&table()->entries[index]), entry);
    while (count > 0)
        fmp_owner_bury(a, ids[--count]);
    fmp_object_sweep(a);
    CHECK_EQ(fmp_owner_count(a), 1);
    CHECK_EQ(check_blocks(), 0);
}

static void
a_full_table_is_surveyed(void)
{
    a = check_arena();
    uint32_t id;
    while (fmp_owner_reserve(a, &id) == 0)
        fmp_owner_table_of(a)->slots[FMP_OWNER_SLOT(id)].reserved_at -= 60 * FMP_SECOND; /* none ever came */
    check_join(check_fork(die_at_once, NULL, &id));
    CHECK(id != 0);
    CHECK_EQ(fmp_owner_count(a), 2);
}

/* ---- half-done states ------------------------------------------------------------------------------------------ */

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
        _Atomic uint64_t *row = fmp_arena_at(a, FMP_PLACE_ROWS + FMP_OWNER_SLOT(id) * FMP_ROW_BYTES);
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
        _Atomic uint64_t *row = fmp_arena_at(a, FMP_PLACE_ROWS + FMP_OWNER_SLOT(a->self) * FMP_ROW_BYTES);
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

static void
churn(void *unused)
{
    (void)unused;
    fmp_object *o = NULL;
    for (uint32_t i = 0;; i++) {
        fmp_object *next = create(i % 3 == 0 ? FMP_QUEUE : FMP_PLAIN, sizeof(fmp_queue));
        if (i % 3 == 0)
            CHECK_EQ(fmp_queue_init(a, fmp_object_body(next), 0, 0), 0);
        if (o != NULL)
            fmp_object_drop(a, o);
        o = next;
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

/* ---- children that are not forked, and messages --------------------------------------------------------------- */

static fmp_arena other;

/* In a forked child: become the process that the slot was promised to, which looks at the arena anew. */
static void
become(uint32_t id)
{
    fmp_owner_leave(a);
    CHECK_EQ(fmp_arena_attach(&other, dup(a->fd)), 0);
    CHECK_EQ(fmp_owner_adopt(&other, id), 0);
    CHECK_EQ(fmp_object_join(&other), 0);
    a = &other;
}

struct errand {
    _Atomic uint32_t id; /* of the child */
    _Atomic int now;
    fmp_ticket kept, unused;
};

static fmp_ticket
give_away(uint32_t child, fmp_kind kind, uint64_t bytes)
{
    fmp_object *o = create(kind, bytes);
    if (kind == FMP_QUEUE)
        CHECK_EQ(fmp_queue_init(a, fmp_object_body(o), 0, 0), 0);
    else
        check_fill(fmp_object_body(o), bytes, 9);
    CHECK_EQ(fmp_object_give(a, child, o), 0);
    CHECK(held_by(child, o));
    fmp_ticket ticket = fmp_object_ticket(o);
    fmp_object_drop(a, o);
    return ticket;
}

static void
attach_and_settle(void *arg)
{
    struct errand *e = arg;
    become(fmp_load(&e->id));
    fmp_object *o, *again;
    CHECK_EQ(fmp_object_attach(a, e->kept, &o), 0);
    CHECK_EQ(fmp_object_attach(a, e->kept, &again), 0);
    CHECK(o == again);
    CHECK_EQ(a->handles[o->index], 2);
    CHECK(check_filled(fmp_object_body(o), 1000, 9));
    CHECK_EQ(fmp_object_count(a), 3);
    fmp_object_settle_in(a);
    CHECK_EQ(fmp_object_count(a), 2);
    CHECK_EQ(fmp_object_attach(a, e->unused, &again), FMP_EMPTY);
    fmp_object_drop(a, o);
    CHECK_EQ(fmp_object_count(a), 2);
    fmp_object_drop(a, o);
    CHECK_EQ(fmp_object_count(a), 1);
    fmp_owner_leave(a);
}

static void
what_is_given_is_the_child_s(void)
{
    a = check_arena();
    struct errand *e = check_shared(sizeof(*e));
    fmp_object *mine = create(FMP_PLAIN, 10);
    uint32_t id;
    CHECK_EQ(fmp_object_expect(a, &id), 0);
    fmp_store(&e->id, id);
    e->kept = give_away(id, FMP_PLAIN, 1000);
    e->unused = give_away(id, FMP_PLAIN, 2000);
    CHECK_EQ(fmp_object_count(a), 3); /* nobody else holds the two */
    CHECK(!held_by(id, mine));
    check_join(check_fork(attach_and_settle, e, NULL));
    fmp_object_sweep(a);
    CHECK_EQ(fmp_object_count(a), 1);
    CHECK_EQ(fmp_owner_count(a), 1);
    fmp_object_drop(a, mine);
    CHECK_EQ(check_blocks(), 0);
}

static void
a_ticket_names_one_object_for_ever(void)
{
    a = check_arena();
    fmp_object *first = create(FMP_PLAIN, 10), *found;
    fmp_ticket ticket = fmp_object_ticket(first);
    fmp_object_drop(a, first);
    CHECK_EQ(fmp_object_attach(a, ticket, &found), FMP_EMPTY);
    fmp_object *second = create(FMP_PLAIN, 10);
    CHECK_EQ(second->index, ticket.index);
    CHECK_EQ(fmp_object_attach(a, ticket, &found), FMP_EMPTY);
    ticket = (fmp_ticket){.serial = second->serial, .index = FMP_OBJECT_MOST + 5};
    CHECK_EQ(fmp_object_attach(a, ticket, &found), FMP_EMPTY);
    CHECK_EQ(a->handles[second->index], 1);
    fmp_object_drop(a, second);
    CHECK_EQ(check_blocks(), 0);
}

static void
a_child_that_never_comes(void)
{
    a = check_arena();
    for (int round = 0; round < 2000; round++) { /* there are places for half as many */
        uint32_t id;
        CHECK_EQ(fmp_object_expect(a, &id), 0);
        give_away(id, round % 2 ? FMP_PLAIN : FMP_QUEUE, sizeof(fmp_queue));
        CHECK_EQ(fmp_object_count(a), 1);
        CHECK(fmp_owner_bury(a, id));
        fmp_object_sweep(a);
        CHECK_EQ(fmp_object_count(a), 0);
        CHECK_EQ(fmp_owner_adopt(a, id), FMP_NOT_OWNER);
    }
    CHECK_EQ(check_blocks(), 0);
    CHECK_EQ(fmp_owner_count(a), 1);
}

static void
expect_and_wait(void *arg)
{
    struct errand *e = arg;
    uint32_t id;
    CHECK_EQ(fmp_object_expect(a, &id), 0);
    e->kept = give_away(id, FMP_QUEUE, sizeof(fmp_queue));
    fmp_store(&e->id, id);
    for (;;)
        pause();
}

static void
promises_die_with_who_made_them(void)
{
    a = check_arena();
    struct errand *e = check_shared(sizeof(*e));
    uint32_t parent;
    pid_t pid = check_fork(expect_and_wait, e, &parent);
    UNTIL(fmp_load(&e->id) != 0);
    CHECK_EQ(fmp_object_count(a), 1);
    check_slay(pid, parent);
    fmp_owner_survey(a);
    fmp_object_sweep(a);
    CHECK_EQ(fmp_object_count(a), 0);
    CHECK_EQ(check_blocks(), 0);
    CHECK_EQ(fmp_owner_count(a), 1);
    CHECK_EQ(fmp_owner_adopt(a, fmp_load(&e->id)), FMP_NOT_OWNER);
}

static void
come_and_wait(void *arg)
{
    struct errand *e = arg;
    become(fmp_load(&e->id));
    fmp_object *o;
    CHECK_EQ(fmp_object_attach(a, e->kept, &o), 0);
    fmp_object_settle_in(a);
    fmp_store(&e->now, 1);
    UNTIL(fmp_load(&e->now) == 2);
    fmp_object_drop(a, o);
    CHECK_EQ(fmp_object_count(a), 0);
    fmp_owner_leave(a);
}

static void
who_has_come_outlives_its_parent(void)
{
    a = check_arena();
    struct errand *e = check_shared(sizeof(*e));
    uint32_t parent;
    pid_t pid = check_fork(expect_and_wait, e, &parent);
    UNTIL(fmp_load(&e->id) != 0);
    pid_t child = check_fork(come_and_wait, e, NULL);
    UNTIL(fmp_load(&e->now) == 1);
    check_slay(pid, parent);
    fmp_owner_survey(a);
    fmp_object_sweep(a);
    CHECK_EQ(fmp_object_count(a), 1);
    fmp_store(&e->now, 2);
    check_join(child);
    fmp_object_sweep(a);
    CHECK_EQ(check_blocks(), 0);
    CHECK_EQ(fmp_owner_count(a), 1);
}

static void
a_message_holds_what_it_carries(void)
{
    a = check_arena();
    fmp_object *o = create(FMP_PLAIN, 10), *received;
    fmp_ticket ticket = fmp_object_ticket(o);
    fmp_object_ship(o);
    fmp_object_ship(o);
    fmp_object_drop(a, o);
    CHECK_EQ(fmp_object_count(a), 1);
    CHECK_EQ(fmp_object_attach(a, ticket, &received), 0);
    fmp_object_land(a, ticket);
    fmp_object_drop(a, received);
    CHECK_EQ(fmp_object_count(a), 1); /* the other message */
    fmp_object_land(a, ticket);
    CHECK_EQ(fmp_object_count(a), 0);
    fmp_object_land(a, ticket); /* nobody's any more */
    o = create(FMP_PLAIN, 10);
    fmp_object_land(a, ticket);
    fmp_object_land(a, fmp_object_ticket(o)); /* it was in no message */
    CHECK_EQ(fmp_object_count(a), 1);
    fmp_object_drop(a, o);
    CHECK_EQ(check_blocks(), 0);
}

static void
say_who_i_am(void *arg)
{
    struct errand *e = arg;
    fmp_object *o;
    CHECK_EQ(a->self, fmp_load(&e->id));
    CHECK_EQ(fmp_object_attach(a, e->kept, &o), 0);
    CHECK(check_filled(fmp_object_body(o), 100, 9));
    fmp_object_drop(a, o);
    fmp_owner_leave(a);
}

static void
do_nothing(void *unused)
{
    (void)unused;
}

static void
fork_into_the_promised_place(void *arg)
{
    struct errand *e = arg;
    fmp_object *own = create(FMP_PLAIN, 10);
    uint32_t id;
    fmp_object_next_child(fmp_load(&e->id));
    pid_t pid = check_fork(say_who_i_am, e, &id);
    CHECK_EQ(id, fmp_load(&e->id));
    check_join(pid);
    uint32_t next;
    check_join(check_fork(do_nothing, NULL, &next)); /* once is for one fork */
    CHECK(next != id);
    fmp_owner_bury(a, next);
    fmp_object_drop(a, own);
    fmp_owner_leave(a);
}

static void
another_forks_the_child(void)
{
    a = check_arena();
    struct errand *e = check_shared(sizeof(*e));
    uint32_t id;
    CHECK_EQ(fmp_object_expect(a, &id), 0);
    fmp_store(&e->id, id);
    e->kept = give_away(id, FMP_PLAIN, 100);
    check_join(check_fork(fork_into_the_promised_place, e, NULL));
    fmp_object_sweep(a);
    CHECK_EQ(check_blocks(), 0);
    CHECK_EQ(fmp_owner_count(a), 1);
}

static void
find_no_place(void *unused)
{
    (void)unused;
    CHECK_EQ(a->self, FMP_OWNER_OUTLAW);
}

static void
a_place_that_was_taken_back(void)
{
    a = check_arena();
    uint32_t id;
    CHECK_EQ(fmp_object_expect(a, &id), 0);
    CHECK(fmp_owner_bury(a, id));
    fmp_object_next_child(id);
    check_join(check_fork(find_no_place, NULL, NULL));
    fmp_object_sweep(a);
    CHECK_EQ(fmp_owner_count(a), 1);
}

static void
come_and_churn(void *arg)
{
    struct errand *e = arg;
    fmp_object *o;
    become(fmp_load(&e->id));
    CHECK_EQ(fmp_object_attach(a, e->kept, &o), 0);
    fmp_object_settle_in(a);
    fmp_object_ship(o);
    fmp_object_land(a, e->kept);
    fmp_object_drop(a, o);
    churn(NULL);
}

static void
killed_while_they_come(void)
{
    a = check_arena();
    uint32_t random = 43;
    struct errand *e = check_shared(sizeof(*e));
    for (int round = 0; round < 100; round++) {
        uint32_t id, forked;
        CHECK_EQ(fmp_object_expect(a, &id), 0);
        fmp_store(&e->id, id);
        e->kept = give_away(id, FMP_QUEUE, sizeof(fmp_queue));
        e->unused = give_away(id, FMP_PLAIN, 300);
        pid_t pid = check_fork_doomed(come_and_churn, e, &forked, &random, 400000);
        check_reap(pid, forked);
        fmp_owner_bury(a, id);
        fmp_object_sweep(a);
        CHECK_EQ(fmp_owner_count(a), 1);
        if (fmp_object_count(a) != 0) { /* it was killed with a message in its hands (object.h) */
            CHECK_EQ(fmp_object_count(a), 1);
            fmp_object_land(a, e->kept);
        }
        CHECK_EQ(fmp_object_count(a), 0);
        CHECK_EQ(check_blocks(), 0);
    }
}

CHECK_MAIN(TEST(an_object_lives_while_it_is_held), TEST(objects_of_all_sizes), TEST(a_thousand_objects),
           TEST(thousands_come_and_go), TEST(a_child_holds_what_its_parent_held),
           TEST(what_a_killed_child_held_is_destroyed), TEST(the_last_holder_may_be_dead),
           TEST(grandchildren_hold_as_well), TEST(threads_fork_while_objects_come_and_go),
           TEST(a_child_without_a_slot), TEST(a_full_table_is_surveyed), TEST(what_was_being_made_is_gone),
           TEST(what_was_being_destroyed_is_gone), TEST(a_sweep_that_was_cut_short_is_finished),
           TEST(killed_at_any_moment), TEST(what_is_given_is_the_child_s), TEST(a_ticket_names_one_object_for_ever),
           TEST(a_child_that_never_comes), TEST(promises_die_with_who_made_them),
           TEST(who_has_come_outlives_its_parent), TEST(a_message_holds_what_it_carries),
           TEST(another_forks_the_child), TEST(a_place_that_was_taken_back), TEST(killed_while_they_come))
