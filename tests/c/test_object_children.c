/* Children that their parent does not fork: what they are given, and where they go. */
#include "test_object.h"

static fmp_arena other;

/* In a forked child: become the process that the slot was promised to, which looks at the arena anew. */
static void
become(uint32_t id)
{
    fmp_owner_leave(a, a->self, 0);
    CHECK_EQ(fmp_arena_attach(&other, dup(a->memory.fd)), 0);
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
    fmp_owner_leave(a, a->self, 0);
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
move_and_settle(void *arg)
{
    struct errand *e = arg;
    uint32_t old = a->self, id = fmp_load(&e->id);
    fmp_object *own = create(FMP_PLAIN, 100);
    fmp_ref kept_block;
    void *p;
    fmp_heap_keep(a, 1);
    CHECK_EQ(fmp_heap_alloc(a, 100, &kept_block, &p), 0);
    fmp_heap_free(a, kept_block);
    CHECK_EQ(((fmp_block *)p - 1)->tag, old);
    CHECK_EQ(fmp_object_move(a, id), 0);
    CHECK_EQ(a->self, id);
    CHECK_EQ(((fmp_block *)p - 1)->tag, FMP_TAG_FREE); /* it was given back first */
    fmp_heap_keep(a, 0);
    CHECK(fmp_owner_known_dead(a, old));
    CHECK(held_by(id, own));
    fmp_object *kept, *unused;
    CHECK_EQ(fmp_object_attach(a, e->kept, &kept), 0);
    fmp_object_settle_in(a);
    CHECK(held_by(id, own));
    CHECK(held_by(id, kept));
    CHECK_EQ(fmp_object_attach(a, e->unused, &unused), FMP_EMPTY);
    CHECK_EQ(fmp_object_move(a, id), FMP_NOT_OWNER); /* once only */
}

/* A process made ahead takes the place that was promised to the child it becomes. */
static void
what_is_given_waits_for_who_moves_in(void)
{
    a = check_arena();
    struct errand *e = check_shared(sizeof(*e));
    uint32_t id;
    CHECK_EQ(fmp_object_expect(a, &id), 0);
    fmp_store(&e->id, id);
    e->kept = give_away(id, FMP_PLAIN, 1000);
    e->unused = give_away(id, FMP_PLAIN, 2000);
    check_join(check_fork(move_and_settle, e, NULL));
    check_only_this_one_is_left();
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
    fmp_owner_leave(a, a->self, 0);
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
say_who_i_am(void *arg)
{
    struct errand *e = arg;
    fmp_object *o;
    CHECK_EQ(a->self, fmp_load(&e->id));
    CHECK_EQ(fmp_object_attach(a, e->kept, &o), 0);
    CHECK(check_filled(fmp_object_body(o), 100, 9));
    fmp_object_drop(a, o);
    fmp_owner_leave(a, a->self, 0);
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
    fmp_owner_leave(a, a->self, 0);
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
    fmp_ref cargo;
    CHECK_EQ(fmp_object_ship(a, &o, 1, &cargo), 0);
    fmp_object_drop(a, o);
    fmp_object_land(a, cargo);
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
        CHECK_EQ(fmp_object_count(a), 0);
        CHECK_EQ(check_blocks(), 0);
    }
}

CHECK_MAIN(TEST(what_is_given_is_the_child_s), TEST(what_is_given_waits_for_who_moves_in),
           TEST(a_child_that_never_comes), TEST(promises_die_with_who_made_them),
           TEST(who_has_come_outlives_its_parent), TEST(another_forks_the_child),
           TEST(a_place_that_was_taken_back), TEST(killed_while_they_come))
