/* Queues that somebody left in the middle of a step. */
#include "test_queue.h"

static uint32_t
tag_of(fmp_ref ref)
{
    return fmp_load(&((fmp_block *)((char *)fmp_heap_at(a, ref) - sizeof(fmp_block)))->tag);
}

static void
die_with(fmp_mutex *lock, uint32_t dead)
{
    atomic_store(&lock->owner, dead);
}

/* Q2: a pusher of a long message is killed after each of its steps. From `adding` on, it arrives. */
static void
a_message_that_was_being_added_arrives(void)
{
    for (int step = 0; step < 8; step++) {
        begin(0, 0);
        push(10, (struct label){1, 0});
        uint32_t dead = check_dead();
        fmp_parcel p = parcel(10000, (struct label){1, 1});
        fmp_node *node = node_at(p.node), *tail = node_at(q->tail);
        fmp_heap_tag(a, p.node, dead);
        fmp_heap_tag(a, p.block, dead);
        if (step >= 1)
            q->adding = q->adding_last = p.node;
        if (step >= 2) {
            node->number = 2;
            node->bytes_until = 10010;
        }
        if (step >= 3) {
            fmp_heap_tag(a, p.block, FMP_TAG_SHARED);
            fmp_heap_tag(a, p.node, FMP_TAG_SHARED);
        }
        if (step >= 4)
            tail->next = p.node;
        if (step >= 5)
            q->tail = p.node;
        if (step >= 6)
            fmp_store(&q->pushed_bytes, node->bytes_until);
        if (step >= 7)
            fmp_store(&q->pushed, 2);
        die_with(&q->tail_lock, dead);
        fmp_object_sweep(a); /* settles, then sweeps */
        CHECK_EQ(q->tail_lock.owner, 0);
        CHECK_EQ(q->adding.off, 0);
        CHECK_EQ(fmp_queue_size(q), step == 0 ? 1 : 2);
        push(10, (struct label){1, 2});
        struct label l;
        CHECK(try_take(&l) && l.number == 0);
        CHECK(step == 0 || (try_take(&l) && l.number == 1));
        CHECK(try_take(&l) && l.number == 2);
        CHECK(!try_take(&l));
        CHECK_EQ(q->pushed_bytes, q->taken_bytes);
        CHECK_EQ(check_blocks(), base);
    }
}

/* It was seen and taken, and its block serves somebody else, when the pusher, or who repairs, goes on. */
static void
what_was_taken_is_left_alone(void)
{
    begin(0, 0);
    uint32_t dead = check_dead();
    push(10000, (struct label){1, 0});
    q->adding = q->adding_last = q->tail; /* killed before it forgot it */
    die_with(&q->tail_lock, dead);
    struct label l;
    CHECK(try_take(&l));
    fmp_ref other;
    void *p;
    CHECK_EQ(fmp_heap_alloc(a, 10000, &other, &p), 0);
    CHECK_EQ(other.off, node_at(q->head)->block.off);
    fmp_object_sweep(a);
    CHECK_EQ(q->tail_lock.owner, 0);
    CHECK_EQ(tag_of(other), a->self);
    fmp_heap_free(a, other);
    CHECK_EQ(check_blocks(), base);
}

/* Q3, Q6: a taker of a long message is killed after each of its steps. Once head moved, it is lost. */
static void
a_message_that_was_being_taken_is_taken_or_not(void)
{
    for (int step = 0; step < 9; step++) {
        begin(0, 0);
        fmp_ref receipt;
        void *word;
        CHECK_EQ(fmp_heap_alloc_zeroed(a, sizeof(fmp_receipt), &receipt, &word), 0);
        for (uint32_t i = 0; i < 3; i++)
            push(10000, (struct label){1, i});
        uint32_t dead = check_dead();
        fmp_ref old = q->head;
        fmp_node *dummy = node_at(old), *node = node_at(dummy->next);
        if (step >= 1)
            q->receipt = receipt;
        q->taker = dead;
        if (step >= 2)
            q->leaving = old;
        if (step >= 3)
            fmp_store((_Atomic uint64_t *)word, node->number);
        if (step >= 4)
            q->head = dummy->next;
        if (step >= 5)
            fmp_store(&q->taken_bytes, node->bytes_until);
        if (step >= 6)
            fmp_store(&q->taken, node->number);
        if (step >= 7) {
            fmp_heap_tag(a, node->block, dead);
            fmp_heap_tag(a, old, dead);
        }
        if (step >= 8)
            q->leaving = FMP_REF_NONE;
        die_with(&q->head_lock, dead);
        fmp_object_sweep(a);
        int lost = step >= 4;
        CHECK_EQ(q->head_lock.owner, 0);
        CHECK_EQ(q->leaving.off, 0);
        CHECK_EQ(fmp_queue_size(q), lost ? 2 : 3);
        CHECK_EQ(*(uint64_t *)word, lost ? 1 : 0);
        struct label l;
        for (uint32_t i = (uint32_t)lost; i < 3; i++)
            CHECK(try_take(&l) && l.number == i);
        CHECK(!try_take(&l));
        CHECK_EQ(q->pushed_bytes, q->taken_bytes);
        CHECK_EQ(check_blocks(), base + 1);
    }
}

/* Q2: a pusher of three messages is killed after each of its steps. From `adding` on, all of them arrive. */
static void
a_convoy_that_was_being_added_arrives(void)
{
    for (int step = 0; step < 8; step++) {
        begin(0, 0);
        push(10, (struct label){7, 0});
        uint32_t dead = check_dead();
        fmp_convoy c = convoy(1, 3, any_size); /* the last has a block */
        fmp_ref refs[3] = {c.first, node_at(c.first)->next, c.last};
        fmp_node *tail = node_at(q->tail), *last = node_at(c.last);
        for (int i = 0; i < 3; i++)
            fmp_heap_tag(a, refs[i], dead);
        fmp_heap_tag(a, last->block, dead);
        if (step >= 1)
            q->adding_last = c.last;
        if (step >= 2)
            q->adding = c.first;
        for (int i = 0; i < step - 2 && i < 3; i++) {
            node_at(refs[i])->number = 2 + (uint64_t)i;
            fmp_heap_tag(a, refs[i], FMP_TAG_SHARED);
        }
        if (step >= 6)
            tail->next = c.first;
        if (step >= 7)
            q->tail = c.last; /* what is numbered wrongly isn't seen before it was done again */
        if (step >= 7) {
            uint64_t until = tail->bytes_until;
            for (int i = 0; i < 3; i++)
                node_at(refs[i])->bytes_until = until += node_at(refs[i])->bytes;
            fmp_heap_tag(a, last->block, FMP_TAG_SHARED);
        }
        die_with(&q->tail_lock, dead);
        fmp_object_sweep(a);
        CHECK_EQ(q->adding.off, 0);
        CHECK_EQ(fmp_queue_size(q), step < 2 ? 1 : 4);
        CHECK_EQ(take_batch(FMP_NOW, 9, 0), step < 2 ? 1 : 4);
        CHECK_EQ(q->pushed_bytes, q->taken_bytes);
        CHECK_EQ(check_blocks(), base);
    }
}

/* Q3: a taker of three messages is killed after each of its steps. Once head moved, they are lost. */
static void
a_batch_that_was_being_taken_is_taken_or_not(void)
{
    for (int step = 0; step < 8; step++) {
        begin(0, 0);
        fmp_convoy c = convoy(0, 5, any_size); /* number 3 has a block */
        CHECK_EQ(push_now(&c), 0);
        struct label l;
        CHECK(try_take(&l));
        uint32_t dead = check_dead();
        fmp_ref refs[4] = {q->head};
        for (int i = 1; i < 4; i++)
            refs[i] = node_at(refs[i - 1])->next;
        fmp_node *last = node_at(refs[3]);
        CHECK(last->block.off != 0);
        q->taker = dead;
        if (step >= 1)
            q->leaving = refs[0];
        if (step >= 2)
            q->head = refs[3];
        if (step >= 3) {
            fmp_store(&q->taken_bytes, last->bytes_until);
            fmp_store(&q->taken, last->number);
        }
        if (step >= 4)
            fmp_heap_tag(a, refs[0], dead);
        if (step >= 5)
            fmp_heap_tag(a, refs[1], dead);
        if (step >= 6) {
            fmp_heap_tag(a, refs[2], dead);
            fmp_heap_tag(a, last->block, dead);
        }
        if (step >= 7)
            q->leaving = FMP_REF_NONE;
        die_with(&q->head_lock, dead);
        fmp_object_sweep(a);
        CHECK_EQ(q->leaving.off, 0);
        uint32_t first = step >= 2 ? 4 : 1;
        CHECK_EQ(take_batch(FMP_NOW, 9, first), 5 - first);
        CHECK_EQ(q->pushed_bytes, q->taken_bytes);
        CHECK_EQ(check_blocks(), base);
    }
}

/* A batch in the hands of its taker goes with him. */
static void
take_a_batch_and_wait(void *arg)
{
    static fmp_batch b;
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    CHECK_EQ(fmp_queue_take_many(a, q, &w, 9, &b), 0);
    fmp_batch_next(a, &b);
    fmp_batch_next(a, &b);
    fmp_store((_Atomic uint32_t *)arg, 1);
    for (;;)
        pause();
}

static void
a_batch_goes_with_its_taker(void)
{
    begin(0, 0);
    fmp_convoy c = convoy(0, 12, any_size);
    CHECK_EQ(push_now(&c), 0);
    _Atomic uint32_t *there = check_shared(sizeof(*there));
    uint32_t id;
    pid_t pid = check_fork(take_a_batch_and_wait, (void *)there, &id);
    UNTIL(fmp_load(there) == 1);
    check_slay(pid, id);
    fmp_object_sweep(a);
    CHECK_EQ(take_batch(FMP_NOW, 9, 9), 3);
    CHECK_EQ(check_blocks(), base);
}

/* Who repairs is killed too, when it had begun to free what left: the next one doesn't free it again. */
static void
a_repair_may_be_done_again(void)
{
    begin(0, 0);
    for (uint32_t i = 0; i < 2; i++)
        push(10000, (struct label){1, i});
    uint32_t dead = check_dead(), second = check_dead();
    fmp_ref old = q->head;
    fmp_node *node = node_at(node_at(old)->next);
    q->head = node_at(old)->next;
    fmp_store(&q->taken_bytes, node->bytes_until);
    fmp_store(&q->taken, node->number);
    fmp_heap_tag(a, node->block, second);
    fmp_heap_tag(a, old, second);
    q->leaving = old; /* the last moment at which it is named */
    die_with(&q->head_lock, second);
    CHECK(dead != second);
    fmp_object_sweep(a);
    struct label l;
    CHECK(try_take(&l) && l.number == 1);
    CHECK_EQ(check_blocks(), base);
}

/* The destruction of a queue is begun again from where its destroyer was killed. */
static void
a_destruction_may_be_done_again(void)
{
    for (int step = 0; step < 3; step++) {
        begin(0, 0);
        for (uint32_t i = 0; i < 3; i++)
            push(10000, (struct label){1, i});
        struct label l;
        CHECK(try_take(&l)); /* the dummy names a block that is another's by now */
        uint32_t dead = check_dead();
        fmp_ref dummy = q->head, first = node_at(dummy)->next, block = node_at(first)->block;
        fmp_heap_tag(a, dummy, dead);
        if (step >= 1) {
            q->head = first;
            fmp_heap_tag(a, block, dead);
            fmp_heap_tag(a, first, dead);
        }
        if (step >= 2) {
            q->head = node_at(first)->next;
            fmp_heap_free(a, block);
        }
        fmp_object_table *t = fmp_arena_place(a, FMP_PLACE_OBJECTS);
        atomic_fetch_and(fmp_object_row_word(a, 0, 0), ~UINT64_C(1));
        a->handles[0] = 0;
        atomic_store(&t->lock.owner, dead);
        fmp_object_sweep(a);
        CHECK_EQ(fmp_object_count(a), 0);
        CHECK_EQ(check_blocks(), 0);
    }
}

CHECK_MAIN(TEST(a_message_that_was_being_added_arrives), TEST(what_was_taken_is_left_alone),
           TEST(a_message_that_was_being_taken_is_taken_or_not), TEST(a_convoy_that_was_being_added_arrives),
           TEST(a_batch_that_was_being_taken_is_taken_or_not), TEST(a_batch_goes_with_its_taker),
           TEST(a_repair_may_be_done_again), TEST(a_destruction_may_be_done_again))
