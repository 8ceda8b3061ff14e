#include "check.h"

#include "core/loan.h"
#include "core/object.h"

static fmp_arena *a;
static uint64_t base; /* blocks in use without a loan */

static const uint64_t bytes = (uint64_t)9 << 20;

static fmp_ref
get_block(void)
{
    fmp_ref ref;
    void *p;
    CHECK_EQ(fmp_heap_alloc(a, bytes, &ref, &p), 0);
    check_fill(p, bytes, 5);
    return ref;
}

static fmp_object *
create(void)
{
    fmp_object *o;
    CHECK_EQ(fmp_object_create(a, FMP_LOAN, sizeof(fmp_loan), &o), 0);
    return o;
}

static fmp_object *
lend(fmp_ref block)
{
    fmp_object *o = create();
    fmp_loan_init(a, fmp_object_body(o), block);
    return o;
}

static void
begin(void)
{
    a = check_arena();
    base = check_blocks();
}

static void
the_block_goes_with_the_last_handle(void)
{
    begin();
    fmp_ref block = get_block();
    fmp_object *o = lend(block);
    CHECK_EQ(check_blocks(), base + 2);
    fmp_object_hold(a, o);
    fmp_object_drop(a, o);
    CHECK_EQ(check_blocks(), base + 2);
    fmp_object_drop(a, o);
    CHECK_EQ(check_blocks(), base);
    fmp_object_drop(a, create()); /* one that has none yet */
    CHECK_EQ(check_blocks(), base);
}

struct shared {
    _Atomic uint32_t there, look;
    fmp_ref block;
};

static void
look_when_told(void *arg)
{
    struct shared *s = arg;
    fmp_store(&s->there, 1);
    UNTIL(fmp_load(&s->look));
    CHECK(check_filled(fmp_heap_at(a, s->block), bytes, 5));
    fmp_store(&s->there, 2);
    for (;;)
        fmp_cpu_relax();
}

static void
a_forked_child_keeps_it(void)
{
    begin();
    struct shared *s = check_shared(sizeof(*s));
    s->block = get_block();
    fmp_object *o = lend(s->block);
    uint32_t id;
    pid_t pid = check_fork(look_when_told, s, &id);
    UNTIL(fmp_load(&s->there) == 1);
    fmp_object_drop(a, o);
    CHECK_EQ(check_blocks(), base + 2);
    fmp_ref other = get_block(); /* not the same memory */
    memset(fmp_heap_at(a, other), 0, bytes);
    fmp_store(&s->look, 1);
    UNTIL(fmp_load(&s->there) == 2);
    check_slay(pid, id);
    fmp_object_sweep(a);
    fmp_heap_free(a, other);
    CHECK_EQ(check_blocks(), base);
}

#define HOLDERS 3

static struct {
    _Atomic uint32_t attached;
    fmp_ticket ticket;
} offer;

static fmp_object *
lend_short(void)
{
    fmp_ref ref;
    void *p;
    CHECK_EQ(fmp_heap_alloc(a, 5000, &ref, &p), 0);
    check_fill(p, 5000, 6);
    return lend(ref);
}

static void
look_and_drop(void *unused)
{
    (void)unused;
    fmp_arena me;
    fmp_object *o;
    check_twin(&me);
    CHECK_EQ(fmp_object_attach(&me, offer.ticket, &o), 0);
    atomic_fetch_add_explicit(&offer.attached, 1, memory_order_relaxed);
    fmp_loan *l = fmp_object_body(o);
    CHECK(check_filled(fmp_heap_at(&me, l->block), 5000, 6));
    fmp_object_drop(&me, o);
    check_twin_end(&me);
}

/* Threads that stand in for processes let go at once: who gets the block next changes it when all have looked. */
static void
holders_look_and_let_go(void)
{
    begin();
    for (int round = 0; round < 100; round++) {
        fmp_object *o = lend_short();
        pthread_t threads[HOLDERS];
        offer.ticket = fmp_object_ticket(o);
        fmp_store(&offer.attached, 0);
        check_threads(threads, HOLDERS, look_and_drop, NULL, 0);
        UNTIL(fmp_peek(&offer.attached) == HOLDERS);
        fmp_object_drop(a, o);
        UNTIL(fmp_object_count(a) == 0);
        fmp_object_drop(a, lend_short());
        check_finish_all(threads, HOLDERS);
        fmp_object_sweep(a);
        CHECK_EQ(check_blocks(), base);
    }
}

static uint32_t
bury_holder(fmp_object *o)
{
    uint32_t dead = check_dead();
    atomic_fetch_and(fmp_object_row_word(a, 0, 0), ~(UINT64_C(1) << o->index));
    a->handles[o->index] = 0;
    return dead;
}

/* L1: who makes the loan is killed after each of his steps; here his bit is gone already. */
static void
a_killed_maker_leaves_nothing(void)
{
    for (int step = 0; step < 3; step++) {
        begin();
        fmp_ref block = get_block();
        fmp_object *o = create();
        fmp_loan *l = fmp_object_body(o);
        uint32_t dead = bury_holder(o);
        fmp_heap_tag(a, block, step < 2 ? dead : FMP_TAG_SHARED);
        if (step >= 1)
            l->block = block;
        fmp_object_table *t = fmp_arena_place(a, FMP_PLACE_OBJECTS);
        atomic_store(&t->lock.owner, dead);
        fmp_object_sweep(a);
        CHECK_EQ(fmp_object_count(a), 0);
        CHECK_EQ(check_blocks(), base);
    }
}

/* L2: who brings about its end is killed after each of his steps. */
static void
an_end_may_be_done_again(void)
{
    for (int step = 0; step < 4; step++) {
        begin();
        fmp_ref block = get_block();
        fmp_object *o = lend(block);
        fmp_loan *l = fmp_object_body(o);
        uint32_t dead = bury_holder(o);
        if (step >= 1)
            fmp_heap_tag(a, block, dead);
        if (step >= 2)
            l->block = FMP_REF_NONE;
        fmp_ref other = FMP_REF_NONE;
        if (step >= 3) {
            fmp_heap_free(a, block);
            other = get_block();
            CHECK_EQ(other.off, block.off);
            fmp_heap_tag(a, other, FMP_TAG_SHARED);
        }
        fmp_object_table *t = fmp_arena_place(a, FMP_PLACE_OBJECTS);
        atomic_store(&t->lock.owner, dead);
        fmp_object_sweep(a);
        CHECK_EQ(fmp_object_count(a), 0);
        CHECK_EQ(check_blocks(), base + (step >= 3));
        if (step >= 3)
            fmp_heap_free(a, other);
    }
}

static void
lend_for_ever(void *unused)
{
    (void)unused;
    for (;;) {
        fmp_ref ref;
        void *p;
        CHECK_EQ(fmp_heap_alloc(a, 5000, &ref, &p), 0);
        fmp_object_drop(a, lend(ref));
    }
}

static void
killed_at_any_moment(void)
{
    begin();
    uint32_t random = 47;
    for (int round = 0; round < 100; round++) {
        uint32_t id;
        pid_t pid = check_fork_doomed(lend_for_ever, NULL, &id, &random, 200000);
        check_reap(pid, id);
        fmp_object_sweep(a);
        CHECK_EQ(fmp_object_count(a), 0);
        CHECK_EQ(check_blocks(), base);
    }
}

CHECK_MAIN(TEST(the_block_goes_with_the_last_handle), TEST(a_forked_child_keeps_it), TEST(holders_look_and_let_go),
           TEST(a_killed_maker_leaves_nothing), TEST(an_end_may_be_done_again), TEST(killed_at_any_moment))
