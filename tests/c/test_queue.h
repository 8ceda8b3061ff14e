/* test_queue.h: what the tests of queues share: a queue, and messages that say what they are. */
#ifndef TEST_QUEUE_H
#define TEST_QUEUE_H

#include "check.h"

#include "core/queue.h"

static fmp_arena *a;
static fmp_queue *q;
static uint64_t base; /* blocks in use while the queue is empty */

static inline void
begin(uint64_t most, uint64_t most_bytes)
{
    a = check_arena();
    q = check_object(FMP_QUEUE, sizeof(fmp_queue));
    CHECK_EQ((uintptr_t)q % FMP_CACHELINE, 0);
    CHECK_EQ(fmp_queue_init(a, q, most, most_bytes), 0);
    base = check_blocks();
    CHECK_EQ(base, 2); /* the object and the dummy */
}

static inline fmp_node *
node_at(fmp_ref ref)
{
    return fmp_heap_at(a, ref);
}

/* What a message says about itself; its pattern lies behind it. */
struct label {
    uint32_t maker, number;
};

static inline uint32_t
seed_of(struct label l)
{
    return l.maker * 1000003 + l.number;
}

static inline fmp_parcel
parcel(uint64_t bytes, struct label l)
{
    fmp_parcel p;
    CHECK_EQ(fmp_queue_prepare(a, bytes, FMP_REF_NONE, l.maker, &p), 0);
    CHECK((uintptr_t)p.data % 16 == 0);
    if (bytes >= sizeof(l)) {
        memcpy(p.data, &l, sizeof(l));
        check_fill((char *)p.data + sizeof(l), bytes - sizeof(l), seed_of(l));
    }
    return p;
}

static inline int
try_push(uint64_t bytes, struct label l)
{
    fmp_parcel p = parcel(bytes, l);
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    uint64_t number;
    int rc = fmp_queue_push(a, q, &p, &w, &number);
    if (rc != 0)
        fmp_queue_discard(a, &p);
    return rc;
}

static inline void
push(uint64_t bytes, struct label l)
{
    fmp_parcel p = parcel(bytes, l);
    uint64_t number;
    CHECK_EQ(WAIT(FMP_FOREVER, fmp_queue_push(a, q, &p, &w, &number)), 0);
    CHECK(number > 0);
}

/* The label of a message, which is whole. */
static inline struct label
open_message(fmp_message *m)
{
    struct label l = {0, 0};
    if (m->bytes >= sizeof(l)) {
        memcpy(&l, m->data, sizeof(l));
        CHECK_EQ(m->kind, l.maker);
        CHECK(check_filled((const char *)m->data + sizeof(l), m->bytes - sizeof(l), seed_of(l)));
    }
    return l;
}

/* Take a message within the deadline: false if there is none. */
static inline int
take_until(fmp_time until, struct label *l, uint64_t *bytes)
{
    fmp_message m;
    int rc = WAIT(until, fmp_queue_take(a, q, &w, FMP_REF_NONE, &m));
    if (rc == FMP_TIMEOUT)
        return 0;
    CHECK_EQ(rc, 0);
    *l = open_message(&m);
    if (bytes != NULL)
        *bytes = m.bytes;
    fmp_message_done(a, &m);
    return 1;
}

static inline int
try_take(struct label *l)
{
    return take_until(FMP_NOW, l, NULL);
}

/* Messages numbered from `from` on, of the sizes that size(number) says. */
static inline fmp_convoy
convoy(uint32_t from, uint32_t count, uint64_t (*size)(uint32_t))
{
    fmp_convoy c = {0};
    for (uint32_t i = from; i < from + count; i++) {
        fmp_parcel p = parcel(size(i), (struct label){7, i});
        fmp_convoy_add(a, &c, &p);
    }
    CHECK_EQ(c.count, count);
    return c;
}

static inline int
push_now(fmp_convoy *c)
{
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    return fmp_queue_push_many(a, q, c, &w);
}

/* Take a batch within the deadline, whose messages are numbered in a row from `from` on: how many they were. */
static inline uint32_t
take_batch(fmp_time until, uint64_t most, uint32_t from)
{
    static fmp_batch b;
    int rc = WAIT(until, fmp_queue_take_many(a, q, &w, most, &b));
    if (rc == FMP_TIMEOUT)
        return 0;
    CHECK_EQ(rc, 0);
    uint32_t count = 0;
    CHECK(b.count >= 1 && b.count <= most);
    for (fmp_message *m; (m = fmp_batch_next(a, &b)) != NULL; count++)
        CHECK_EQ(open_message(m).number, from + count);
    return count;
}

static inline uint64_t
any_size(uint32_t number)
{
    return number % 4 == 3 ? 5000 + number : number % 11 == 10 ? (uint64_t)5 << 20 : 8 + number;
}

#endif
