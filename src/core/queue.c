#include "core/queue.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

static fmp_node *
node_at(fmp_arena *a, fmp_ref ref)
{
    return ref.off == 0 ? NULL : fmp_heap_at(a, ref);
}

/* ---- cargo (Q7) ------------------------------------------------------------------------------- */

static uint64_t
bytes_with_cargo(uint64_t bytes, uint32_t cargo)
{
    return cargo == 0 ? bytes : (bytes + 7) / 8 * 8 + cargo * sizeof(fmp_ticket);
}

static void
land(fmp_arena *a, const fmp_ticket *tickets, uint32_t *cargo)
{
    while (*cargo != 0) {
        --*cargo;
        fmp_step();
        fmp_object_land(a, tickets[*cargo]);
    }
}

static void
land_node(fmp_arena *a, fmp_node *node)
{
    void *data = node->block.off == 0 ? node + 1 : fmp_heap_at(a, node->block);
    if (data != NULL)
        land(a, fmp_message_tickets(data, node->bytes), &node->cargo);
}

/* ---- making and destroying ------------------------------------------------------------------- */

int
fmp_queue_init(fmp_arena *a, fmp_queue *q, uint64_t most, uint64_t most_bytes)
{
    void *dummy;
    int rc = fmp_heap_alloc_zeroed(a, sizeof(fmp_node), &q->head, &dummy);
    if (rc < 0)
        return rc;
    q->tail = q->head;
    q->most = most;
    q->most_bytes = most_bytes;
    fmp_heap_tag(a, q->head, FMP_TAG_SHARED);
    return 0;
}

void
fmp_queue_destroy(fmp_arena *a, void *body)
{
    fmp_queue *q = body;
    fmp_node *node;
    while ((node = node_at(a, q->head)) != NULL) {
        fmp_ref ref = q->head, block = node->block;
        int waits = node->number > fmp_load(&q->taken);
        if (waits)
            land_node(a, node);
        waits &= block.off != 0;
        if (waits)
            fmp_heap_tag(a, block, a->self); /* swept, if this process dies before the end */
        fmp_heap_tag(a, ref, a->self);
        fmp_step();
        q->head = node->next; /* from here on it isn't met again */
        fmp_step();
        if (waits)
            fmp_heap_free(a, block);
        fmp_heap_free(a, ref);
    }
    fmp_bell_destroy(a, &q->bell);
}

/* ---- what takers wait for -------------------------------------------------------------------- */

static int
has_items(void *arg)
{
    return fmp_queue_size(arg) != 0;
}

static void
signal_items(fmp_arena *a, fmp_queue *q)
{
    fmp_ec_signal(&q->items, 1);
    fmp_bell_signal(a, &q->bell, has_items, q);
}

int
fmp_queue_poll(fmp_arena *a, fmp_queue *q, fmp_waiter *w)
{
    int rc = 0, waited = 0;
    for (; rc == 0 && !has_items(q); waited = 1)
        rc = fmp_ec_wait(a, &q->items, has_items, q, w);
    if (waited && has_items(q))
        fmp_ec_signal(&q->items, 1); /* it may have been a taker's wake-up */
    return rc;
}

int
fmp_queue_listen(fmp_arena *a, fmp_queue *q, fmp_ear *ear)
{
    return fmp_bell_listen(a, &q->bell, ear, has_items, q);
}

void
fmp_queue_calm(fmp_arena *a, fmp_queue *q, const fmp_ear *ear)
{
    if (fmp_ear_valid(a, ear) && !has_items(q))
        fmp_bell_calm(a, &q->bell, ear, has_items, q);
}

/* ---- parcels ------------------------------------------------------------------------------------- */

int
fmp_queue_prepare(fmp_arena *a, uint64_t bytes, uint32_t cargo, uint32_t kind, fmp_parcel *p)
{
    uint64_t all = bytes_with_cargo(bytes, cargo);
    int is_short = all <= FMP_MESSAGE_SHORT;
    void *payload;
    int rc = fmp_heap_alloc(a, sizeof(fmp_node) + (is_short ? all : 0), &p->node, &payload);
    if (rc < 0)
        return rc;
    fmp_node *node = payload;
    p->data = node + 1;
    p->block = FMP_REF_NONE;
    if (!is_short && (rc = fmp_heap_alloc(a, all, &p->block, &p->data)) < 0) {
        fmp_heap_free(a, p->node);
        return rc;
    }
    p->tickets = fmp_message_tickets(p->data, bytes);
    *node = (fmp_node){.bytes = bytes, .block = p->block, .kind = kind, .cargo = cargo};
    return 0;
}

void
fmp_queue_discard(fmp_arena *a, fmp_parcel *p)
{
    fmp_node *node = node_at(a, p->node);
    if (node != NULL)
        land(a, p->tickets, &node->cargo);
    if (p->block.off != 0)
        fmp_heap_free(a, p->block);
    fmp_heap_free(a, p->node);
}

/* ---- the tail -------------------------------------------------------------------------------------- */

static int
has_room(void *arg)
{
    fmp_queue *q = arg;
    if (fmp_queue_full(q))
        return 0;
    if (q->most_bytes == 0 || fmp_queue_size(q) == 0)
        return 1;
    uint64_t taken = atomic_load(&q->taken_bytes);
    return atomic_load(&q->pushed_bytes) - taken < q->most_bytes;
}

/* Link the node that `adding` names, and count it (Q1): from then on a taker may have it. Done again from
 * the start after a crash. */
static void
append(fmp_arena *a, fmp_queue *q, fmp_node *tail, fmp_node *node)
{
    if (tail != node) {
        node->number = tail->number + 1;
        node->bytes_until = tail->bytes_until + node->bytes;
        if (node->block.off != 0)
            fmp_heap_tag(a, node->block, FMP_TAG_SHARED);
        fmp_heap_tag(a, q->adding, FMP_TAG_SHARED);
        tail->next = q->adding;
        fmp_step();
        q->tail = q->adding;
    }
    fmp_store(&q->pushed_bytes, node->bytes_until);
    atomic_store(&q->pushed, node->number); /* seq_cst: E2 of eventcount.h */
    fmp_step();
    q->adding = FMP_REF_NONE;
}

/* Q2: after the lock's holder died. */
static void
repair_tail(fmp_arena *a, fmp_queue *q)
{
    fmp_node *tail = node_at(a, q->tail), *node = node_at(a, q->adding);
    if (tail == NULL || node == NULL)
        return;
    append(a, q, tail, node);
    signal_items(a, q);
}

static void
enter_tail(fmp_arena *a, fmp_queue *q)
{
    if (fmp_mutex_enter(a, &q->tail_lock) == FMP_OWNER_DEAD)
        repair_tail(a, q);
}

int
fmp_queue_push(fmp_arena *a, fmp_queue *q, fmp_parcel *p, fmp_waiter *w, uint64_t *number)
{
    for (;;) {
        enter_tail(a, q);
        if (has_room(q))
            break;
        fmp_mutex_unlock(&q->tail_lock);
        int rc = fmp_ec_wait(a, &q->space, has_room, q, w);
        if (rc != 0)
            return rc;
    }
    fmp_node *tail = node_at(a, q->tail), *node = node_at(a, p->node);
    if (tail != NULL) {
        q->adding = p->node;
        fmp_step();
        append(a, q, tail, node);
        *number = node->number; /* it is the tail as long as the lock is held */
    }
    fmp_mutex_unlock(&q->tail_lock);
    signal_items(a, q);
    return tail == NULL ? -ENOMEM : 0;
}

/* ---- the head ------------------------------------------------------------------------------------------ */

static void
count_taken(fmp_queue *q, const fmp_node *node)
{
    fmp_store(&q->taken_bytes, node->bytes_until);
    atomic_store(&q->taken, node->number); /* seq_cst: E2 of eventcount.h */
}

static void
signal_space(fmp_queue *q)
{
    if (q->most_bytes != 0)
        fmp_ec_signal(&q->space, INT_MAX); /* one large message may make room for several */
    else if (q->most != 0)
        fmp_ec_signal(&q->space, 1);
}

/* Q6: the message that the receipt speaks of wasn't taken after all. */
static void
take_back_receipt(fmp_arena *a, fmp_queue *q)
{
    _Atomic uint64_t *receipt = q->receipt.off == 0 ? NULL : fmp_arena_at(a, q->receipt.off);
    if (receipt != NULL && fmp_load(receipt) > fmp_load(&q->taken))
        fmp_store(receipt, 0);
}

/* All that is left to do once `head` moved on to the node: count it, and make what left the caller's. */
static void
finish(fmp_arena *a, fmp_queue *q, const fmp_node *node)
{
    count_taken(q, node);
    if (node->block.off != 0)
        fmp_heap_tag(a, node->block, a->self);
    fmp_heap_tag(a, q->leaving, a->self);
    fmp_step();
    q->leaving = FMP_REF_NONE;
}

/* Q3: after the lock's holder died. */
static void
repair_head(fmp_arena *a, fmp_queue *q)
{
    fmp_ref old = q->leaving;
    if (old.off == 0)
        return;
    if (old.off == q->head.off) {
        take_back_receipt(a, q);
        fmp_step();
        q->leaving = FMP_REF_NONE;
        return;
    }
    fmp_node *node = node_at(a, q->head);
    if (node == NULL)
        return;
    finish(a, q, node);
    if (node->block.off != 0)
        fmp_heap_free(a, node->block);
    fmp_heap_free(a, old);
    signal_space(q);
}

static void
enter_head(fmp_arena *a, fmp_queue *q)
{
    if (fmp_mutex_enter(a, &q->head_lock) == FMP_OWNER_DEAD)
        repair_head(a, q);
}

/* Copy a short message, find a long one. False if it can't be mapped. */
static int
read_node(fmp_arena *a, const fmp_node *node, fmp_message *m)
{
    m->bytes = node->bytes;
    m->number = node->number;
    m->kind = node->kind;
    m->cargo = node->cargo;
    m->block = node->block;
    m->data = m->inside;
    if (node->block.off == 0)
        memcpy(m->inside, node + 1, bytes_with_cargo(node->bytes, node->cargo));
    else
        m->data = fmp_heap_at(a, node->block);
    return m->data != NULL;
}

/* The caller holds the head lock, and there is a message. *old is the node to be freed. */
static int
advance(fmp_arena *a, fmp_queue *q, fmp_ref receipt, fmp_message *m, fmp_ref *old)
{
    fmp_node *dummy = node_at(a, q->head), *node = dummy == NULL ? NULL : node_at(a, dummy->next);
    if (node == NULL || !read_node(a, node, m))
        return -ENOMEM;
    *old = q->head;
    q->receipt = receipt;
    fmp_step();
    q->leaving = *old;
    fmp_step();
    if (receipt.off != 0)
        fmp_store((_Atomic uint64_t *)fmp_arena_at(a, receipt.off), node->number);
    fmp_step();
    q->head = dummy->next;
    fmp_step();
    finish(a, q, node);
    return 0;
}

int
fmp_queue_take(fmp_arena *a, fmp_queue *q, fmp_waiter *w, fmp_ref receipt, fmp_message *m)
{
    for (;;) {
        if (has_items(q)) {
            enter_head(a, q);
            if (has_items(q))
                break;
            fmp_mutex_unlock(&q->head_lock);
        }
        int rc = fmp_ec_wait(a, &q->items, has_items, q, w);
        if (rc != 0)
            return rc;
    }
    fmp_ref old;
    int rc = advance(a, q, receipt, m, &old);
    fmp_mutex_unlock(&q->head_lock);
    if (rc < 0)
        return rc;
    signal_space(q);
    fmp_heap_free(a, old);
    return 0;
}

void
fmp_message_done(fmp_arena *a, fmp_message *m)
{
    land(a, fmp_message_tickets(m->data, m->bytes), &m->cargo);
    if (m->block.off != 0)
        fmp_heap_free(a, m->block);
}

/* ---- the whole ---------------------------------------------------------------------------------------------- */

void
fmp_queue_settle(fmp_arena *a, void *body)
{
    fmp_queue *q = body;
    if (fmp_mutex_held(&q->tail_lock)) {
        enter_tail(a, q);
        fmp_mutex_unlock(&q->tail_lock);
    }
    if (fmp_mutex_held(&q->head_lock)) {
        enter_head(a, q);
        fmp_mutex_unlock(&q->head_lock);
    }
    fmp_bell_settle(a, &q->bell, has_items, q);
}

static int
all_done(void *arg)
{
    fmp_queue *q = arg;
    uint64_t done = atomic_load(&q->done);
    return done >= atomic_load(&q->pushed);
}

int
fmp_queue_task_done(fmp_queue *q)
{
    uint64_t done = fmp_load(&q->done);
    do {
        if (done >= fmp_load(&q->pushed)) /* Q5 */
            return FMP_FULL;
    } while (!atomic_compare_exchange_weak(&q->done, &done, done + 1));
    if (all_done(q))
        fmp_ec_signal(&q->idle, INT_MAX);
    return 0;
}

int
fmp_queue_join(fmp_arena *a, fmp_queue *q, fmp_waiter *w)
{
    int rc = 0;
    while (rc == 0 && !all_done(q))
        rc = fmp_ec_wait(a, &q->idle, all_done, q, w);
    return all_done(q) ? 0 : rc;
}
