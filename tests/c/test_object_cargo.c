/* Objects that travel in messages. */
#include "test_object.h"

static void
a_message_holds_what_it_carries(void)
{
    a = check_arena();
    fmp_object *o = create(FMP_PLAIN, 10), *second = create(FMP_PLAIN, 10), *received;
    fmp_ticket ticket = fmp_object_ticket(o);
    fmp_ref none = {1}, one, three;
    CHECK_EQ(fmp_object_ship(a, NULL, 0, &none), 0);
    CHECK_EQ(none.off, 0);
    CHECK_EQ(fmp_object_ship(a, &o, 1, &one), 0);
    CHECK_EQ(fmp_object_ship(a, (fmp_object *[]){o, second, o}, 3, &three), 0);
    CHECK_EQ(o->in_flight, 3);
    CHECK_EQ(second->in_flight, 1);
    fmp_object_drop(a, o);
    CHECK_EQ(fmp_object_count(a), 2);
    CHECK_EQ(fmp_object_attach(a, ticket, &received), 0);
    fmp_object_land(a, three);
    CHECK_EQ(o->in_flight, 1);
    CHECK_EQ(second->in_flight, 0);
    fmp_object_drop(a, received);
    CHECK_EQ(fmp_object_count(a), 2); /* the other message */
    fmp_object_land(a, one);
    CHECK_EQ(fmp_object_count(a), 1);
    fmp_object_drop(a, second);
    CHECK_EQ(check_blocks(), 0);
}

static void
a_stream_holds_what_is_loose(void)
{
    a = check_arena();
    fmp_object *o = create(FMP_PLAIN, 10);
    fmp_ticket ticket = fmp_object_ticket(o);
    fmp_object_ship_loose(a, o);
    fmp_object_ship_loose(a, o);
    fmp_object_drop(a, o);
    fmp_object_land_loose(a, ticket);
    CHECK_EQ(fmp_object_count(a), 1); /* the other message */
    fmp_object_land_loose(a, ticket);
    CHECK_EQ(fmp_object_count(a), 0);
    fmp_object_land_loose(a, ticket); /* nobody's any more */
    o = create(FMP_PLAIN, 10);
    fmp_ref cargo;
    CHECK_EQ(fmp_object_ship(a, &o, 1, &cargo), 0);
    fmp_object_drop(a, o);
    fmp_object_land_loose(a, ticket);
    fmp_object_land_loose(a, fmp_object_ticket(o)); /* it was in no message of a stream */
    CHECK_EQ(fmp_object_count(a), 1);
    fmp_object_land(a, cargo);
    CHECK_EQ(check_blocks(), 0);
}

static void
what_the_dead_had_in_flight_lands(void)
{
    a = check_arena();
    fmp_object *o = create(FMP_PLAIN, 10), *held = create(FMP_PLAIN, 10);
    fmp_ref cargo;
    CHECK_EQ(fmp_object_ship(a, (fmp_object *[]){o, held, o}, 3, &cargo), 0);
    fmp_object_drop(a, o);
    fmp_heap_tag(a, cargo, check_dead());
    CHECK_EQ(fmp_object_count(a), 2);
    fmp_object_sweep(a);
    CHECK_EQ(fmp_object_count(a), 1);
    CHECK_EQ(held->in_flight, 0);
    fmp_object_drop(a, held);
    CHECK_EQ(check_blocks(), 0);
}

CHECK_MAIN(TEST(a_message_holds_what_it_carries), TEST(a_stream_holds_what_is_loose),
           TEST(what_the_dead_had_in_flight_lands))
