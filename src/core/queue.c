#include "core/queue.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

static fmp_node *
node_at(fmp_arena *a, fmp_ref ref)
{
    return ref.off == 0 ? NULL : fmp_heap_at(a, ref);
}

/* The message of the node becomes that process's, or the queue's. */
static void
hand_over(fmp_arena *a, const fmp_node *node, uint32_t tag)
{
    if (node->block.off != 0)
        fmp_heap_tag(a, node->block, tag);
    if (node->cargo != 0)
        fmp_heap_tag(a, fmp_heap_lengthen(node->cargo), tag);
}

/* The end of a message that is this process's. */
static void
dispose(fmp_arena *a, fmp_ref block, fmp_ref cargo)
{
    if (cargo.off != 0)
        fmp_object_land(a, cargo);
    if (block.off != 0)
        fmp_heap_free(a, block);
}

/* ---- making and destroying ------------------------------------------------------------------- */

int
fmp_queue_init(fmp_arena *a, fmp_queue *q, uint64_t most, uint64_t most_bytes)
{
    fmp_ref ref;
    void *dummy;
    int rc = fmp_heap_alloc_zeroed(a, sizeof(fmp_node), &ref, &dummy);
    if (rc < 0)
        return rc;
    q->most = most;
    q->most_bytes = most_bytes;
    q->tail = ref;
    fmp_step(); /* Q9 */
    q->head = ref;
    fmp_step();
    fmp_heap_tag(a, ref, FMP_TAG_SHARED);
    return 0;
}

void
fmp_queue_destroy(fmp_arena *a, void *body)
{
    fmp_queue *q = body;
    fmp_node *node;
    while ((node = node_at(a, q->head)) != NULL) {
        fmp_ref ref = q->head, block = node->block, cargo = fmp_heap_lengthen(node->cargo);
        int waits = node->number > fmp_load(&q->taken);
        if (waits)
            hand_over(a, node, a->self); /* swept, if this process dies before the end */
        fmp_heap_tag(a, ref, a->self);
        fmp_step();
        q->head = node->next; /* from here on it isn't met again */
        fmp_step();
        if (waits)
            dispose(a, block, cargo);
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
signal_items(fmp_arena *a, fmp_queue *q, int count)
{
    fmp_ec_signal(&q->items, count);
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
fmp_queue_prepare(fmp_arena *a, uint64_t bytes, fmp_ref cargo, uint32_t kind, fmp_parcel *p)
{
    int is_short = bytes <= FMP_MESSAGE_SHORT;
    void *payload;
    int rc = fmp_heap_alloc(a, sizeof(fmp_node) + (is_short ? bytes : 0), &p->node, &payload);
    if (rc < 0)
        return rc;
    fmp_node *node = payload;
    p->data = node + 1;
    p->block = FMP_REF_NONE;
    if (!is_short && (rc = fmp_heap_alloc(a, bytes, &p->block, &p->data)) < 0) {
        fmp_heap_free(a, p->node);
        return rc;
    }
    *node = (fmp_node){.bytes = bytes, .block = p->block, .kind = kind, .cargo = fmp_heap_shorten(cargo)};
    return 0;
}

/* The end of a node that was not sent: the next one. */
static fmp_ref
discard(fmp_arena *a, fmp_ref ref)
{
    const fmp_node *node = node_at(a, ref);
    fmp_ref next = node->next;
    dispose(a, node->block, fmp_heap_lengthen(node->cargo));
    fmp_heap_free(a, ref);
    return next;
}

void
fmp_queue_discard(fmp_arena *a, fmp_parcel *p)
{
    discard(a, p->node);
}

void
fmp_convoy_add(fmp_arena *a, fmp_convoy *c, const fmp_parcel *p)
{
    if (c->count++ == 0)
        c->first = p->node;
    else
        node_at(a, c->last)->next = p->node;
    c->last = p->node;
}

void
fmp_convoy_discard(fmp_arena *a, fmp_convoy *c)
{
    for (; c->count != 0; c->count--)
        c->first = discard(a, c->first);
}

/* ---- the tail -------------------------------------------------------------------------------------- */

/* For bytes beside those that are in flight, when so much was taken; the first message always fits. */
static int
fits(fmp_queue *q, uint64_t taken, uint64_t taken_bytes, uint64_t count, uint64_t bytes)
{
    uint64_t size = atomic_load(&q->pushed) - taken + count;
    if (q->most != 0 && size >= q->most)
        return 0;
    return q->most_bytes == 0 || size == 0 || atomic_load(&q->pushed_bytes) - taken_bytes + bytes < q->most_bytes;
}

static int
has_room_behind(fmp_queue *q, uint64_t count, uint64_t bytes)
{
    if (q->most == 0 && q->most_bytes == 0)
        return 1;
    if (fits(q, fmp_peek(&q->seen_taken), fmp_peek(&q->seen_taken_bytes), count, bytes))
        return 1; /* without a look at what the takers write */
    uint64_t taken = atomic_load(&q->taken), taken_bytes = atomic_load(&q->taken_bytes);
    atomic_store_explicit(&q->seen_taken, taken, memory_order_relaxed);
    atomic_store_explicit(&q->seen_taken_bytes, taken_bytes, memory_order_relaxed);
    return fits(q, taken, taken_bytes, count, bytes);
}

int
fmp_queue_has_room(void *arg)
{
    return has_room_behind(arg, 0, 0);
}

/* The node behind this one becomes the next in number. False if it can't be mapped. */
static int
number_node(fmp_arena *a, fmp_ref ref, const fmp_node **before)
{
    fmp_node *node = node_at(a, ref);
    if (node == NULL)
        return 0;
    node->number = (*before)->number + 1;
    node->bytes_until = (*before)->bytes_until + node->bytes;
    hand_over(a, node, FMP_TAG_SHARED);
    fmp_heap_tag(a, ref, FMP_TAG_SHARED);
    *before = node;
    return 1;
}

/* Link the nodes that `adding` names, and count them (Q1): from then on takers may have them. Done again from
 * the start after a crash; false, and nothing is lost, if that can't be, where they can't be mapped. */
static int
append(fmp_arena *a, fmp_queue *q)
{
    fmp_node *tail = node_at(a, q->tail);
    const fmp_node *last = tail;
    if (tail == NULL)
        return 0;
    if (q->tail.off != q->adding_last.off) {
        for (fmp_ref ref = q->adding; ref.off != 0; ref = last->next) {
            if (!number_node(a, ref, &last))
                return 0;
        }
        tail->next = q->adding;
        fmp_step();
        q->tail = q->adding_last;
    }
    atomic_store_explicit(&q->newest, q->tail.off, memory_order_relaxed);
    fmp_store(&q->pushed_bytes, last->bytes_until);
    atomic_store(&q->pushed, last->number); /* seq_cst: E2 of eventcount.h */
    fmp_step();
    q->adding = FMP_REF_NONE;
    return 1;
}

/* Q2: after the lock's holder died. */
static void
repair_tail(fmp_arena *a, fmp_queue *q)
{
    if (q->adding.off != 0 && append(a, q))
        signal_items(a, q, INT_MAX);
}

int
fmp_queue_enter_tail(fmp_arena *a, fmp_queue *q, const fmp_waiter *w)
{
    int rc = fmp_mutex_enter_until(a, &q->tail_lock, w);
    if (rc != FMP_OWNER_DEAD)
        return rc;
    repair_tail(a, q);
    return 0;
}

void
fmp_queue_leave_tail(fmp_queue *q)
{
    fmp_mutex_unlock(&q->tail_lock);
}

/* Wait for room; the caller holds the tail lock then. */
static int
enter_room(fmp_arena *a, fmp_queue *q, fmp_waiter *w)
{
    for (;;) {
        int rc = fmp_queue_enter_tail(a, q, w);
        if (rc != 0 || fmp_queue_has_room(q))
            return rc;
        fmp_queue_leave_tail(q);
        rc = fmp_ec_wait(a, &q->space, fmp_queue_has_room, q, w);
        if (rc != 0)
            return rc;
    }
}

/* Under the tail lock: link these nodes. False if the tail can't be mapped. */
static int
link_nodes(fmp_arena *a, fmp_queue *q, fmp_ref first, fmp_ref last)
{
    q->adding_last = last;
    fmp_step();
    q->adding = first;
    fmp_step();
    if (append(a, q))
        return 1;
    q->adding = FMP_REF_NONE;
    return 0;
}

int
fmp_queue_add(fmp_arena *a, fmp_queue *q, const fmp_parcel *p)
{
    return link_nodes(a, q, p->node, p->node) ? 0 : -ENOMEM;
}

int
fmp_queue_push(fmp_arena *a, fmp_queue *q, fmp_parcel *p, fmp_waiter *w, uint64_t *number)
{
    int rc = enter_room(a, q, w);
    if (rc != 0)
        return rc;
    rc = fmp_queue_add(a, q, p);
    if (rc == 0)
        *number = node_at(a, p->node)->number; /* it is the tail as long as the lock is held */
    fmp_queue_leave_tail(q);
    signal_items(a, q, 1);
    return rc;
}

/* The last node of those that there is room for, and how many they are: at least one. */
static fmp_ref
last_with_room(fmp_arena *a, fmp_queue *q, const fmp_convoy *c, uint64_t *count)
{
    fmp_ref last = c->first;
    uint64_t most = c->count < FMP_QUEUE_AT_ONCE ? c->count : FMP_QUEUE_AT_ONCE, bytes = 0;
    for (*count = 1; *count < most; ++*count) {
        const fmp_node *node = node_at(a, last);
        bytes += node->bytes;
        if (!has_room_behind(q, *count, bytes))
            break;
        last = node->next;
    }
    return last;
}

/* Under the tail lock, and there is room: what was sent of the convoy, 0 if the tail can't be mapped. */
static uint64_t
push_some(fmp_arena *a, fmp_queue *q, fmp_convoy *c)
{
    uint64_t count;
    fmp_ref last = last_with_room(a, q, c, &count);
    fmp_node *node = node_at(a, last);
    fmp_ref rest = node->next;
    node->next = FMP_REF_NONE;
    if (!link_nodes(a, q, c->first, last)) {
        node->next = rest;
        return 0;
    }
    c->first = rest;
    c->count -= count;
    return count;
}

int
fmp_queue_push_many(fmp_arena *a, fmp_queue *q, fmp_convoy *c, fmp_waiter *w)
{
    while (c->count != 0) {
        int rc = enter_room(a, q, w);
        if (rc != 0)
            return rc;
        uint64_t sent = push_some(a, q, c);
        fmp_queue_leave_tail(q);
        if (sent == 0)
            return -ENOMEM;
        signal_items(a, q, (int)sent);
    }
    return 0;
}

/* ---- the head ------------------------------------------------------------------------------------------ */

static void
count_taken(fmp_queue *q, const fmp_node *node)
{
    fmp_store(&q->taken_bytes, node->bytes_until);
    atomic_store(&q->taken, node->number); /* seq_cst: E2 of eventcount.h */
}

static void
signal_space(fmp_queue *q, int count)
{
    if (q->most_bytes != 0)
        fmp_ec_signal(&q->space, INT_MAX); /* one large message may make room for several */
    else if (q->most != 0)
        fmp_ec_signal(&q->space, count);
}

/* Q6: the message that the receipt speaks of wasn't taken after all. */
static void
take_back_receipt(fmp_arena *a, fmp_queue *q)
{
    fmp_receipt *receipt = q->receipt.off == 0 ? NULL : fmp_arena_at(a, q->receipt.off);
    if (receipt != NULL && fmp_load(&receipt->number) > fmp_load(&q->taken))
        fmp_store(&receipt->number, 0);
}

static void
write_receipt(fmp_receipt *receipt, const fmp_message *m)
{
    if (m->bytes >= sizeof(receipt->words))
        memcpy(receipt->words, m->data, sizeof(receipt->words));
    fmp_step();
    fmp_store(&receipt->number, m->number);
}

/* All that is left to do once `head` moved on to the node `last`: count what was taken, and make it and the nodes
 * that left the taker's. False, and it may be done again, if they can't be mapped. */
static int
finish(fmp_arena *a, fmp_queue *q, const fmp_node *last)
{
    count_taken(q, last);
    for (fmp_ref ref = q->leaving; ref.off != q->head.off;) {
        const fmp_node *node = node_at(a, ref), *next = node == NULL ? NULL : node_at(a, node->next);
        if (next == NULL)
            return 0;
        hand_over(a, next, q->taker);
        fmp_heap_tag(a, ref, q->taker);
        ref = node->next;
    }
    fmp_step();
    q->leaving = FMP_REF_NONE;
    return 1;
}

/* Q3: after the lock's holder died. */
static void
repair_head(fmp_arena *a, fmp_queue *q)
{
    if (q->leaving.off == 0)
        return;
    if (q->leaving.off == q->head.off) {
        take_back_receipt(a, q);
        fmp_step();
        q->leaving = FMP_REF_NONE;
        return;
    }
    const fmp_node *last = node_at(a, q->head);
    if (last != NULL && finish(a, q, last))
        signal_space(q, INT_MAX);
}

static int
enter_head(fmp_arena *a, fmp_queue *q, const fmp_waiter *w)
{
    int rc = fmp_mutex_enter_until(a, &q->head_lock, w);
    if (rc != FMP_OWNER_DEAD)
        return rc;
    repair_head(a, q);
    return 0;
}

/* Find the message of a node. False if it can't be mapped. */
static int
read_node(fmp_arena *a, fmp_node *node, fmp_message *m)
{
    m->bytes = node->bytes;
    m->number = node->number;
    m->kind = node->kind;
    m->cargo = fmp_heap_lengthen(node->cargo);
    m->block = node->block;
    m->data = node->block.off == 0 ? node + 1 : fmp_heap_at(a, node->block);
    return m->data != NULL;
}

/* The same for the node that stays behind as the dummy: a short message is copied. */
static int
read_last(fmp_arena *a, fmp_node *node, fmp_message *m)
{
    if (!read_node(a, node, m))
        return 0;
    if (node->block.off == 0)
        m->data = memcpy(m->inside, node + 1, node->bytes);
    return 1;
}

/* If there are messages the caller holds the head lock then; else FMP_EMPTY. */
static int
enter_filled(fmp_arena *a, fmp_queue *q, const fmp_waiter *w)
{
    if (!has_items(q))
        return FMP_EMPTY;
    int rc = enter_head(a, q, w);
    if (rc != 0 || has_items(q))
        return rc;
    fmp_mutex_unlock(&q->head_lock);
    return FMP_EMPTY;
}

/* Wait for messages; the caller holds the head lock then. */
static int
enter_items(fmp_arena *a, fmp_queue *q, fmp_waiter *w)
{
    for (;;) {
        int rc = enter_filled(a, q, w);
        if (rc != FMP_EMPTY)
            return rc;
        rc = fmp_ec_wait(a, &q->items, has_items, q, w);
        if (rc != 0)
            return rc;
    }
}

/* Under the head lock: move on to the node `ref`, the last of those that are taken, with this message. */
static int
advance(fmp_arena *a, fmp_queue *q, fmp_ref receipt, fmp_ref ref, const fmp_node *node, const fmp_message *m)
{
    q->receipt = receipt;
    q->taker = a->self;
    fmp_step();
    q->leaving = q->head;
    fmp_step();
    if (receipt.off != 0)
        write_receipt(fmp_arena_at(a, receipt.off), m);
    fmp_step();
    q->head = ref;
    fmp_step();
    return finish(a, q, node) ? 0 : -ENOMEM; /* all of them were mapped before */
}

/* Let the lines come that taking the next message is about: all at once, where one tells of the next. */
static void
anticipate(fmp_arena *a, fmp_queue *q)
{
    const char *dummy = fmp_arena_at(a, q->head.off);
    if (dummy != NULL)
        fmp_expect_write(dummy - sizeof(fmp_block));
    if (fmp_peek(&q->pushed) != fmp_peek(&q->taken) + 1)
        return;
    const char *node = fmp_arena_at(a, fmp_peek(&q->newest));
    if (node != NULL) {
        fmp_expect_write(node);
        fmp_expect_write(node + sizeof(fmp_node));
    }
}

/* The caller holds the head lock, and there is a message. */
static int
take_one(fmp_arena *a, fmp_queue *q, fmp_ref receipt, fmp_message *m)
{
    anticipate(a, q);
    fmp_node *dummy = node_at(a, q->head), *node = dummy == NULL ? NULL : node_at(a, dummy->next);
    if (node == NULL || !read_last(a, node, m))
        return -ENOMEM;
    return advance(a, q, receipt, dummy->next, node, m);
}

/* The same, and gives it back. */
static int
take_and_leave(fmp_arena *a, fmp_queue *q, fmp_ref receipt, fmp_message *m)
{
    fmp_ref old = q->head;
    int rc = take_one(a, q, receipt, m);
    fmp_mutex_unlock(&q->head_lock);
    if (rc < 0)
        return rc;
    signal_space(q, 1);
    fmp_heap_free(a, old);
    return 0;
}

int
fmp_queue_take(fmp_arena *a, fmp_queue *q, fmp_waiter *w, fmp_ref receipt, fmp_message *m)
{
    int rc = enter_items(a, q, w);
    return rc != 0 ? rc : take_and_leave(a, q, receipt, m);
}

int
fmp_queue_take_now(fmp_arena *a, fmp_queue *q, const fmp_waiter *w, fmp_ref receipt, fmp_message *m)
{
    int rc = enter_filled(a, q, w);
    return rc != 0 ? rc : take_and_leave(a, q, receipt, m);
}

void
fmp_message_done(fmp_arena *a, fmp_message *m)
{
    dispose(a, m->block, m->cargo);
    m->cargo = FMP_REF_NONE;
}

/* ---- several at once ------------------------------------------------------------------------------------ */

/* The caller holds the head lock, and there are messages. */
static int
take_some(fmp_arena *a, fmp_queue *q, uint64_t most, fmp_batch *b)
{
    uint64_t size = fmp_queue_size(q);
    if (most > size)
        most = size;
    if (most > FMP_QUEUE_AT_ONCE)
        most = FMP_QUEUE_AT_ONCE;
    b->at = q->head;
    b->now = NULL;
    fmp_ref ref = q->head;
    fmp_node *node = node_at(a, ref), *last = NULL;
    for (b->count = 0; node != NULL && b->count < most; b->count++) {
        fmp_ref next = node->next;
        if ((node = node_at(a, next)) == NULL || !read_node(a, node, &b->inner))
            break; /* it can't be mapped here, so it stays */
        ref = next;
        last = node;
    }
    if (last == NULL || !read_last(a, last, &b->last))
        return -ENOMEM;
    return advance(a, q, FMP_REF_NONE, ref, last, &b->last);
}

int
fmp_queue_take_many(fmp_arena *a, fmp_queue *q, fmp_waiter *w, uint64_t most, fmp_batch *b)
{
    int rc = enter_items(a, q, w);
    if (rc != 0)
        return rc;
    rc = take_some(a, q, most, b);
    fmp_mutex_unlock(&q->head_lock);
    if (rc == 0)
        signal_space(q, (int)b->count);
    return rc;
}

fmp_message *
fmp_batch_next(fmp_arena *a, fmp_batch *b)
{
    if (b->now != NULL)
        fmp_message_done(a, b->now);
    b->now = NULL;
    if (b->count == 0)
        return NULL;
    fmp_ref ref = b->at;
    if (--b->count == 0) {
        b->now = &b->last;
    }
    else {
        b->at = node_at(a, ref)->next;
        b->now = &b->inner;
        read_node(a, node_at(a, b->at), b->now);
    }
    fmp_heap_free(a, ref);
    return b->now;
}

/* ---- the whole ---------------------------------------------------------------------------------------------- */

static void
settle_end(fmp_arena *a, fmp_queue *q, fmp_mutex *lock, void (*repair)(fmp_arena *a, fmp_queue *q))
{
    if (!fmp_mutex_held(lock))
        return;
    if (fmp_mutex_enter(a, lock) == FMP_OWNER_DEAD)
        repair(a, q);
    fmp_mutex_unlock(lock);
}

void
fmp_queue_settle(fmp_arena *a, void *body)
{
    fmp_queue *q = body;
    settle_end(a, q, &q->tail_lock, repair_tail);
    settle_end(a, q, &q->head_lock, repair_head);
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
