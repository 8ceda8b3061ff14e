/* Messages that carry objects (Q7). */
#include "test_queue.h"

static fmp_object *
thing(void)
{
    fmp_object *o;
    CHECK_EQ(fmp_object_create(a, FMP_PLAIN, 8, &o), 0);
    return o;
}

/* A message of `bytes` that carries the objects. */
static fmp_parcel
loaded(uint64_t bytes, fmp_object **objects, uint32_t count)
{
    fmp_parcel p;
    fmp_ref cargo;
    CHECK_EQ(fmp_object_ship(a, objects, count, &cargo), 0);
    CHECK_EQ(fmp_queue_prepare(a, bytes, cargo, 0, &p), 0);
    check_fill(p.data, bytes, 77);
    return p;
}

static void
send(fmp_parcel *p)
{
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    uint64_t number;
    CHECK_EQ(fmp_queue_push(a, q, p, &w, &number), 0);
}

static void
a_message_holds_what_it_carries(void)
{
    static const uint64_t sizes[] = {0, 1, 100, FMP_MESSAGE_SHORT, FMP_MESSAGE_SHORT + 1, 10000, (uint64_t)5 << 20};
    for (size_t k = 0; k < sizeof(sizes) / sizeof(*sizes); k++) {
        begin(0, 0);
        fmp_object *things[3];
        for (int i = 0; i < 3; i++)
            things[i] = thing();
        fmp_parcel p = loaded(sizes[k], things, 3);
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(things[i]->in_flight, 1);
            fmp_object_drop(a, things[i]);
        }
        send(&p);
        CHECK_EQ(fmp_object_count(a), 4);
        fmp_message m;
        fmp_waiter w = FMP_WAITER(FMP_NOW);
        CHECK_EQ(fmp_queue_take(a, q, &w, FMP_REF_NONE, &m), 0);
        CHECK_EQ(m.bytes, sizes[k]);
        CHECK(check_filled(m.data, m.bytes, 77));
        const fmp_cargo *cargo = fmp_heap_at(a, m.cargo);
        CHECK_EQ(cargo->count, 3);
        fmp_ticket second = cargo->tickets[1];
        fmp_object *kept;
        CHECK_EQ(fmp_object_attach(a, second, &kept), 0);
        CHECK(kept == things[1]);
        fmp_message_done(a, &m);
        CHECK_EQ(fmp_object_count(a), 2); /* the queue, and what was attached to */
        fmp_object_drop(a, kept);
        CHECK_EQ(fmp_object_attach(a, second, &kept), FMP_EMPTY);
        CHECK_EQ(check_blocks(), base);
    }
}

static void
what_is_not_sent_lands(void)
{
    begin(0, 0);
    fmp_object *one = thing();
    fmp_parcel first = loaded(10, &one, 1), second = loaded(10000, &one, 1);
    CHECK_EQ(one->in_flight, 2);
    fmp_queue_discard(a, &first);
    CHECK_EQ(one->in_flight, 1);
    fmp_object_drop(a, one);
    CHECK_EQ(fmp_object_count(a), 2);
    fmp_queue_discard(a, &second);
    CHECK_EQ(fmp_object_count(a), 1);
    CHECK_EQ(check_blocks(), base);
}

/* A queue with unread messages that carry queues with unread messages: all go. */
static void
what_is_unread_lands(void)
{
    begin(0, 0);
    fmp_queue *outer = q;
    for (int depth = 0; depth < 5; depth++) {
        fmp_object *o, *one = thing();
        CHECK_EQ(fmp_object_create(a, FMP_QUEUE, sizeof(fmp_queue), &o), 0);
        fmp_parcel p = loaded(depth % 2 ? 10000 : 10, (fmp_object *[]){o, one, o}, 3);
        send(&p);
        CHECK_EQ(o->in_flight, 2);
        q = fmp_object_body(o);
        CHECK_EQ(fmp_queue_init(a, q, 0, 0), 0);
        fmp_object_drop(a, one);
        fmp_object_drop(a, o);
    }
    CHECK_EQ(fmp_object_count(a), 11);
    q = outer;
    fmp_object_drop(a, (fmp_object *)q - 1);
    CHECK_EQ(fmp_object_count(a), 0);
    CHECK_EQ(check_blocks(), 0);
}

/* Messages in the hands of a taker who is killed. */
static void
what_a_dead_taker_had_lands(void)
{
    begin(0, 0);
    fmp_object *one = thing();
    for (int i = 0; i < 3; i++) {
        fmp_parcel p = loaded(i == 1 ? 10000 : 10, &one, 1);
        send(&p);
    }
    uint32_t self = a->self, dead = check_dead();
    fmp_batch b;
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    a->self = dead;
    CHECK_EQ(fmp_queue_take_many(a, q, &w, 2, &b), 0);
    a->self = self;
    CHECK_EQ(one->in_flight, 3);
    fmp_object_sweep(a);
    CHECK_EQ(one->in_flight, 1);
    fmp_object_drop(a, one);
    fmp_object_drop(a, (fmp_object *)q - 1);
    CHECK_EQ(fmp_object_count(a), 0);
    CHECK_EQ(check_blocks(), 0);
}

CHECK_MAIN(TEST(a_message_holds_what_it_carries), TEST(what_is_not_sent_lands), TEST(what_is_unread_lands),
           TEST(what_a_dead_taker_had_lands))
