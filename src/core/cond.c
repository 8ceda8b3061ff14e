#include "core/cond.h"

#include <errno.h>

#include "core/owner.h"

#define RELEASE_LOOKS 64

static fmp_cond_node *
node_at(fmp_arena *a, fmp_ref ref)
{
    return ref.off == 0 ? NULL : fmp_heap_at(a, ref);
}

/* ---- nodes ---------------------------------------------------------------------------------------- */

/* Where the condition's own node i is: it lies in an object. */
static fmp_ref
own_ref(const fmp_cond *c, uint32_t i)
{
    const fmp_object *o = (const fmp_object *)c - 1;
    return (fmp_ref){o->self.off + sizeof(*o) + offsetof(fmp_cond, own) + i * sizeof(c->own[0])};
}

static int
is_own(const fmp_cond *c, fmp_ref ref)
{
    return ref.off >= own_ref(c, 0).off && ref.off < own_ref(c, FMP_COND_OWN).off;
}

/* A block that is called SHARED is safe from the sweep: so it has its heap tag before, and keeps it until after. */
static void
tag_node(fmp_arena *a, const fmp_cond *c, fmp_ref ref, fmp_cond_node *node, uint32_t tag)
{
    int block = !is_own(c, ref);
    if (block && tag == FMP_TAG_SHARED)
        fmp_heap_tag(a, ref, tag);
    fmp_step();
    fmp_store(&node->tag, tag);
    fmp_step();
    if (block && tag != FMP_TAG_SHARED)
        fmp_heap_tag(a, ref, tag);
}

/* One of the condition's own that nobody uses, this process's now; NULL if there is none. The caller holds the
 * guard. */
static fmp_cond_node *
take_own(fmp_arena *a, fmp_cond *c, fmp_ref *ref)
{
    for (uint32_t k = 0; k < FMP_COND_OWN; k++) {
        uint32_t i = (FMP_OWNER_SLOT(a->self) + k) % FMP_COND_OWN;
        fmp_cond_node *node = &c->own[i].node;
        uint32_t tag = fmp_load(&node->tag);
        if (tag != FMP_TAG_FREE && (tag == FMP_TAG_SHARED || !fmp_owner_known_dead(a, tag)))
            continue;
        fmp_store(&node->tag, a->self);
        *ref = own_ref(c, i);
        return node;
    }
    return NULL;
}

/* A node for this process. */
static fmp_cond_node *
take_node(fmp_arena *a, fmp_cond *c, fmp_ref *ref)
{
    fmp_cond_node *node = take_own(a, c, ref);
    void *p = node;
    if (node == NULL && fmp_heap_alloc(a, sizeof(*node), ref, &p) < 0)
        return NULL;
    node = p;
    node->next = FMP_REF_NONE;
    node->owner = a->self;
    fmp_store(&node->notified, FMP_COND_WAITING);
    fmp_store(&node->tag, a->self);
    fmp_store(&node->ec.word, 0);
    return node;
}

static void
free_node(fmp_arena *a, const fmp_cond *c, fmp_ref ref, fmp_cond_node *node)
{
    if (is_own(c, ref))
        fmp_store(&node->tag, FMP_TAG_FREE);
    else
        fmp_heap_free(a, ref);
}

/* ---- the list --------------------------------------------------------------------------------------- */

/* The ref on the list that names `node`, or for no node the one at the list's end; NULL if there is none. */
static fmp_ref *
link_to(fmp_arena *a, fmp_cond *c, fmp_ref node)
{
    fmp_ref *link = &c->first;
    while (link->off != node.off) {
        fmp_cond_node *n = node_at(a, *link);
        if (n == NULL)
            return NULL;
        link = &n->next;
    }
    return link;
}

/* Take the node off the list; `tag` says who has it then. */
static void
unlink_node(fmp_arena *a, fmp_cond *c, fmp_ref *link, fmp_cond_node *node, uint32_t tag)
{
    tag_node(a, c, *link, node, tag);
    fmp_step();
    *link = node->next;
    fmp_store(&c->waiters, fmp_peek(&c->waiters) - 1);
}

static int
was_notified(void *arg)
{
    return atomic_load(&((fmp_cond_node *)arg)->notified) != FMP_COND_WAITING;
}

/* Give the node its notification, which is what counts, and take it off the list: false if its waiter is
 * known to be dead: then nobody has it. */
static int
deliver(fmp_arena *a, fmp_cond *c, fmp_ref *link, fmp_cond_node *node)
{
    fmp_ref ref = *link;
    if (fmp_owner_known_dead(a, node->owner)) {
        unlink_node(a, c, link, node, a->self);
        free_node(a, c, ref, node);
        return 0;
    }
    atomic_store(&node->notified, FMP_COND_NOTIFIED); /* seq_cst: E2 of eventcount.h */
    unlink_node(a, c, link, node, node->owner);
    fmp_ec_signal(&node->ec, 1);
    fmp_store(&node->notified, FMP_COND_RELEASED); /* R1, pairs A1: the last that is done with the node */
    return 1;
}

/* C2: after the guard's holder died. */
static void
repair(fmp_arena *a, fmp_cond *c)
{
    uint32_t count = 0;
    fmp_ref *link = &c->first;
    for (fmp_cond_node *node; (node = node_at(a, *link)) != NULL;) {
        if (was_notified(node)) {
            deliver(a, c, link, node);
        }
        else if (fmp_load(&node->tag) == FMP_TAG_SHARED) {
            link = &node->next;
            count++;
        }
        else {
            fmp_ref ref = *link;
            tag_node(a, c, ref, node, a->self);
            fmp_step();
            *link = node->next; /* it may not have been counted: too low a count would keep notifiers out */
            free_node(a, c, ref, node);
        }
    }
    fmp_store(&c->waiters, count);
}

static void
enter(fmp_arena *a, fmp_cond *c)
{
    if (fmp_mutex_enter(a, &c->guard) == FMP_OWNER_DEAD)
        repair(a, c);
}

int
fmp_cond_enter(fmp_arena *a, fmp_cond *c, fmp_ref *ref)
{
    enter(a, c);
    fmp_ref *end = link_to(a, c, FMP_REF_NONE);
    fmp_cond_node *node = end == NULL ? NULL : take_node(a, c, ref);
    if (node != NULL) {
        fmp_step();
        *end = *ref;
        fmp_step();
        fmp_store(&c->waiters, fmp_peek(&c->waiters) + 1);
        tag_node(a, c, *ref, node, FMP_TAG_SHARED);
    }
    fmp_mutex_unlock(&c->guard);
    return node == NULL ? -ENOMEM : 0;
}

/* C3: true if the notifier is done with the node, for which he needs no more than the looks of 1 us unless he
 * is stopped in the middle. */
static int
is_released(fmp_cond_node *node)
{
    for (int looks = 0; looks < RELEASE_LOOKS && fmp_peek(&node->notified) == FMP_COND_NOTIFIED; looks++)
        fmp_cpu_relax();
    return fmp_load(&node->notified) == FMP_COND_RELEASED; /* A1 */
}

/* The node's last use: was it notified? */
static int
depart(fmp_arena *a, fmp_cond *c, fmp_ref ref, fmp_cond_node *node)
{
    if (is_released(node)) {
        free_node(a, c, ref, node);
        return 1;
    }
    enter(a, c);
    int notified = was_notified(node);
    fmp_ref *link = notified ? NULL : link_to(a, c, ref);
    if (link != NULL)
        unlink_node(a, c, link, node, a->self);
    free_node(a, c, ref, node);
    fmp_mutex_unlock(&c->guard);
    return notified;
}

int
fmp_cond_sleep(fmp_arena *a, fmp_cond *c, fmp_ref ref, fmp_waiter *w)
{
    fmp_cond_node *node = node_at(a, ref);
    int rc = 0;
    while (rc == 0 && !was_notified(node))
        rc = fmp_ec_wait(a, &node->ec, was_notified, node, w);
    if (rc == FMP_INTR)
        return rc;
    return depart(a, c, ref, node) ? 0 : rc;
}

void
fmp_cond_notify(fmp_arena *a, fmp_cond *c, uint32_t count)
{
    if (fmp_load(&c->waiters) == 0) /* exact: the caller's lock keeps others from entering */
        return;
    enter(a, c);
    fmp_cond_node *node;
    while (count > 0 && (node = node_at(a, c->first)) != NULL)
        count -= (uint32_t)deliver(a, c, &c->first, node);
    fmp_mutex_unlock(&c->guard);
}

void
fmp_cond_settle(fmp_arena *a, void *body)
{
    fmp_cond *c = body;
    enter(a, c); /* a free guard, too: who takes it next then knows who is dead, and gives him no node after the sweep */
    fmp_mutex_unlock(&c->guard);
}

void
fmp_cond_destroy(fmp_arena *a, void *body)
{
    fmp_cond *c = body;
    fmp_cond_node *node;
    while ((node = node_at(a, c->first)) != NULL) {
        fmp_ref ref = c->first;
        unlink_node(a, c, &c->first, node, a->self);
        free_node(a, c, ref, node);
    }
}
