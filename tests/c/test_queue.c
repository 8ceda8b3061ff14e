/* Messages go in order, as many as there is room for. */
#include "test_queue.h"

static void
in_order_whatever_the_size(void)
{
    begin(0, 0);
    static const uint64_t sizes[] = {0, 1, 8, 100, FMP_MESSAGE_SHORT - 1, FMP_MESSAGE_SHORT, FMP_MESSAGE_SHORT + 1,
                                     5000, 100000, (uint64_t)5 << 20, (uint64_t)40 << 20};
    enum { N = sizeof(sizes) / sizeof(*sizes) };
    for (uint32_t i = 0; i < N; i++) {
        push(sizes[i], (struct label){1, i});
        CHECK_EQ(fmp_queue_size(q), i + 1);
    }
    for (uint32_t i = 0; i < N; i++) {
        struct label l;
        uint64_t bytes;
        CHECK(take_until(FMP_NOW, &l, &bytes));
        CHECK_EQ(bytes, sizes[i]);
        CHECK(bytes < sizeof(l) || l.number == i);
        CHECK_EQ(fmp_queue_size(q), N - 1 - i);
    }
    struct label l;
    CHECK(!try_take(&l));
    CHECK_EQ(check_blocks(), base);
    CHECK_EQ(q->pushed_bytes, q->taken_bytes);
}

static void
messages_are_numbered(void)
{
    begin(0, 0);
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    for (uint64_t i = 1; i < 5; i++) {
        fmp_parcel p = parcel(1000 * i, (struct label){1, 1});
        uint64_t number;
        CHECK_EQ(fmp_queue_push(a, q, &p, &w, &number), 0);
        CHECK_EQ(number, i);
    }
    for (uint64_t i = 1; i < 5; i++) {
        fmp_message m;
        CHECK_EQ(fmp_queue_take(a, q, &w, FMP_REF_NONE, &m), 0);
        CHECK_EQ(m.number, i);
        fmp_message_done(a, &m);
    }
}

static void
what_is_not_sent_is_freed(void)
{
    begin(0, 0);
    fmp_parcel one = parcel(10, (struct label){1, 1}), two = parcel(10000, (struct label){1, 2});
    CHECK_EQ(check_blocks(), base + 3);
    fmp_queue_discard(a, &one);
    fmp_queue_discard(a, &two);
    CHECK_EQ(check_blocks(), base);
}

static void
bounded_by_count(void)
{
    begin(3, 0);
    struct label l = {1, 0};
    for (; l.number < 3; l.number++) {
        CHECK(!fmp_queue_full(q));
        CHECK_EQ(try_push(20, l), 0);
    }
    CHECK(fmp_queue_full(q));
    CHECK_EQ(try_push(20, l), FMP_TIMEOUT);
    struct label got;
    CHECK(try_take(&got));
    CHECK_EQ(got.number, 0);
    CHECK(!fmp_queue_full(q));
    CHECK_EQ(try_push(20, l), 0);
    CHECK_EQ(try_push(20, l), FMP_TIMEOUT);
    while (try_take(&got))
        ;
    CHECK_EQ(got.number, 3);
    CHECK_EQ(check_blocks(), base);
}

static void
bounded_by_bytes(void)
{
    begin(0, 10000);
    struct label l = {1, 0};
    CHECK_EQ(try_push(50000, l), 0); /* one may be too large */
    CHECK_EQ(try_push(1, l), FMP_TIMEOUT);
    CHECK(!fmp_queue_full(q));
    struct label got;
    CHECK(try_take(&got));
    for (int i = 0; i < 10; i++)
        CHECK_EQ(try_push(1000, l), 0);
    CHECK_EQ(try_push(1, l), FMP_TIMEOUT);
    while (try_take(&got))
        ;
    CHECK_EQ(check_blocks(), base);
}

static void
destroyed_with_what_is_in_it(void)
{
    begin(0, 0);
    struct label got;
    for (uint32_t i = 0; i < 20; i++)
        push(i % 3 == 0 ? 10000 : 10, (struct label){1, i});
    push((uint64_t)6 << 20, (struct label){1, 20});
    for (int i = 0; i < 7; i++)
        CHECK(try_take(&got)); /* the last of them is the dummy, and its block is gone */
    fmp_object_drop(a, (fmp_object *)q - 1);
    CHECK_EQ(check_blocks(), 0);
    CHECK_EQ(fmp_object_count(a), 0);
}

static void
two_views_share_the_queue(void)
{
    static fmp_arena view;
    begin(0, 0);
    CHECK_EQ(fmp_arena_attach(&view, dup(a->memory.fd)), 0);
    view.self = a->self;
    fmp_ref ref = ((fmp_object *)q - 1)->self;
    fmp_arena *sender = a, *receiver = &view;
    fmp_queue *theirs = fmp_object_body(fmp_heap_at(&view, ref)), *ours = q;
    CHECK(theirs != ours);
    static const uint64_t sizes[] = {10, 10000, (uint64_t)5 << 20, (uint64_t)20 << 20};
    for (uint32_t i = 0; i < 40; i++) {
        a = sender;
        q = ours;
        push(sizes[i % 4], (struct label){1, i});
        a = receiver;
        q = theirs;
        struct label l;
        CHECK(try_take(&l));
        CHECK_EQ(l.number, i);
    }
    fmp_arena_detach(&view);
    a = sender;
    q = ours;
    CHECK_EQ(check_blocks(), base);
}

/* ---- several at once ---------------------------------------------------------------------------------- */

static uint64_t
ten(uint32_t number)
{
    (void)number;
    return 10;
}

static void
batches_keep_the_order(void)
{
    begin(0, 0);
    fmp_convoy c = convoy(0, 30, any_size), none = {0};
    CHECK_EQ(push_now(&none), 0);
    CHECK_EQ(take_batch(FMP_NOW, 5, 0), 0);
    CHECK_EQ(push_now(&c), 0);
    CHECK_EQ(c.count, 0);
    CHECK_EQ(fmp_queue_size(q), 30);
    CHECK_EQ(take_batch(FMP_NOW, 1, 0), 1);
    CHECK_EQ(take_batch(FMP_NOW, 12, 1), 12);
    struct label l;
    CHECK(try_take(&l) && l.number == 13);
    push(10, (struct label){7, 30});
    CHECK_EQ(take_batch(FMP_NOW, 100, 14), 17);
    CHECK_EQ(fmp_queue_size(q), 0);
    CHECK_EQ(q->pushed_bytes, q->taken_bytes);
    CHECK_EQ(check_blocks(), base);
}

static void
long_convoys_go_in_parts(void)
{
    begin(0, 0);
    fmp_convoy c = convoy(0, 2 * FMP_QUEUE_AT_ONCE + 5, ten);
    CHECK_EQ(push_now(&c), 0);
    CHECK_EQ(take_batch(FMP_NOW, UINT64_MAX, 0), FMP_QUEUE_AT_ONCE);
    CHECK_EQ(take_batch(FMP_NOW, UINT64_MAX, FMP_QUEUE_AT_ONCE), FMP_QUEUE_AT_ONCE);
    CHECK_EQ(take_batch(FMP_NOW, UINT64_MAX, 2 * FMP_QUEUE_AT_ONCE), 5);
    CHECK_EQ(check_blocks(), base);
}

static void
as_many_go_as_there_is_room_for(void)
{
    begin(3, 0);
    fmp_convoy c = convoy(0, 9, any_size);
    CHECK_EQ(push_now(&c), FMP_TIMEOUT);
    CHECK_EQ(c.count, 6);
    CHECK_EQ(push_now(&c), FMP_TIMEOUT);
    CHECK_EQ(take_batch(FMP_NOW, 2, 0), 2);
    CHECK_EQ(push_now(&c), FMP_TIMEOUT);
    CHECK_EQ(c.count, 4);
    CHECK(fmp_queue_full(q));
    fmp_convoy_discard(a, &c);
    CHECK_EQ(c.count, 0);
    CHECK_EQ(take_batch(FMP_NOW, 9, 2), 3);
    CHECK_EQ(check_blocks(), base);

    begin(0, 35); /* bytes, and the last may go over */
    c = convoy(0, 9, ten);
    CHECK_EQ(push_now(&c), FMP_TIMEOUT);
    CHECK_EQ(c.count, 5);
    CHECK_EQ(take_batch(FMP_NOW, 9, 0), 4);
    CHECK_EQ(push_now(&c), FMP_TIMEOUT);
    CHECK_EQ(c.count, 1);
    fmp_convoy_discard(a, &c);
    CHECK_EQ(take_batch(FMP_NOW, 9, 4), 4);
    CHECK_EQ(check_blocks(), base);
}

CHECK_MAIN(TEST(in_order_whatever_the_size), TEST(messages_are_numbered), TEST(what_is_not_sent_is_freed),
           TEST(bounded_by_count), TEST(bounded_by_bytes), TEST(destroyed_with_what_is_in_it),
           TEST(two_views_share_the_queue), TEST(batches_keep_the_order), TEST(long_convoys_go_in_parts),
           TEST(as_many_go_as_there_is_room_for))
