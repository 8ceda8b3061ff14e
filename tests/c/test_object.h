/* test_object.h: what the tests of objects share. */
#ifndef TEST_OBJECT_H
#define TEST_OBJECT_H

#include "check.h"

#include "core/queue.h"

static fmp_arena *a;

static inline fmp_object *
create(fmp_kind kind, uint64_t bytes)
{
    fmp_object *o;
    CHECK_EQ(fmp_object_create(a, kind, bytes, &o), 0);
    CHECK_EQ((uintptr_t)fmp_object_body(o) % FMP_CACHELINE, 0);
    CHECK_EQ(o->bytes, bytes);
    CHECK_EQ(o->kind, kind);
    return o;
}

static inline fmp_object_table *
table(void)
{
    return fmp_arena_place(a, FMP_PLACE_OBJECTS);
}

static inline uint32_t
held_by(uint32_t id, const fmp_object *o)
{
    return fmp_load(fmp_object_row_word(a, FMP_OWNER_SLOT(id), o->index)) >> o->index % 64 & 1;
}

static inline void
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

static inline void
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

/* Nobody but this process, and nothing of the dead. */
static inline void
check_only_this_one_is_left(void)
{
    fmp_owner_survey(a);
    fmp_object_sweep(a);
    CHECK_EQ(fmp_object_count(a), 0);
    CHECK_EQ(fmp_owner_count(a), 1);
    CHECK_EQ(check_blocks(), 0);
}

#endif
