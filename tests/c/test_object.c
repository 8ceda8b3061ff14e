/* Objects are made, held, and let go. */
#include "test_object.h"

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
thousands_come_and_go(void)
{
    a = check_arena();
    pthread_t threads[3];
    pid_t pids[2];
    check_forks(pids, 2, come_and_go, NULL, 0);
    check_threads(threads, 3, come_and_go, NULL, 0);
    check_finish_all(threads, 3);
    check_join_all(pids, 2);
    CHECK_EQ(fmp_object_count(a), 0);
    CHECK_EQ(check_blocks(), 0);
    CHECK(table()->top <= 5 * 8);
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

CHECK_MAIN(TEST(an_object_lives_while_it_is_held), TEST(objects_of_all_sizes), TEST(a_thousand_objects),
           TEST(thousands_come_and_go), TEST(a_ticket_names_one_object_for_ever))
