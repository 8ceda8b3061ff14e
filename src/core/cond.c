#include "core/cond.h"

#include <errno.h>

#include "core/owner.h"

static fmp_cond_node *
node_at(fmp_arena *a, fmp_ref ref)
{
    return ref.off == 0 ? NULL : fmp_heap_at(a, ref);
}

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
unlink_node(fmp_arena *a, fmp_cond *c, fmp_ref *link, const fmp_cond_node *node, uint32_t tag)
{
    fmp_heap_tag(a, *link, tag);
    fmp_step();
    *link = node->next;
    atomic_fetch_sub(&c->waiters, 1);
}

static int
was_notified(void *arg)
{
    return (int)atomic_load(&((fmp_cond_node *)arg)->notified);
}

/* Give the node its notification, which is what counts, and take it off the list: false if its waiter is
 * known to be dead: then nobody has it. */
static int
deliver(fmp_arena *a, fmp_cond *c, fmp_ref *link, fmp_cond_node *node)
{
    fmp_ref ref = *link;
    if (fmp_owner_known_dead(a, node->owner)) {
        unlink_node(a, c, link, node, a->self);
        fmp_heap_free(a, ref);
        return 0;
    }
    atomic_store(&node->notified, 1); /* seq_cst: E2 of eventcount.h */
    unlink_node(a, c, link, node, node->owner);
    fmp_ec_signal(&node->ec, 1);
    return 1;
}

/* C2: after the guard's holder died. What is taken off has the dead one's tag, and is swept. */
static void
repair(fmp_arena *a, fmp_cond *c)
{
    uint32_t count = 0;
    fmp_ref *link = &c->first;
    for (fmp_cond_node *node; (node = node_at(a, *link)) != NULL;) {
        if (was_notified(node)) {
            deliver(a, c, link, node);
        }
        else if (fmp_heap_retag(a, *link, FMP_TAG_SHARED, FMP_TAG_SHARED)) {
            link = &node->next;
            count++;
        }
        else {
            *link = node->next;
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
    void *p;
    int rc = fmp_heap_alloc_zeroed(a, sizeof(fmp_cond_node), ref, &p);
    if (rc < 0)
        return rc;
    ((fmp_cond_node *)p)->owner = a->self;
    enter(a, c);
    fmp_ref *end = link_to(a, c, FMP_REF_NONE);
    if (end != NULL) {
        *end = *ref;
        fmp_step();
        atomic_fetch_add(&c->waiters, 1);
        fmp_heap_tag(a, *ref, FMP_TAG_SHARED);
    }
    fmp_mutex_unlock(&c->guard);
    if (end != NULL)
        return 0;
    fmp_heap_free(a, *ref);
    return -ENOMEM;
}

/* The node's last use: under the guard, since a notifier may be at it still (C3). */
static int
depart(fmp_arena *a, fmp_cond *c, fmp_ref ref, fmp_cond_node *node)
{
    enter(a, c);
    int notified = was_notified(node);
    fmp_ref *link = notified ? NULL : link_to(a, c, ref);
    if (link != NULL)
        unlink_node(a, c, link, node, a->self);
    fmp_heap_free(a, ref);
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
    if (!fmp_mutex_held(&c->guard))
        return;
    enter(a, c);
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
        fmp_heap_free(a, ref);
    }
}
