/* cond.h: a condition variable: wait to be notified, first come first served.
 *
 * Each waiter hangs a node of its own on the condition's list and sleeps on that node; notify takes
 * nodes off the front. So a notification reaches exactly who waited when it was given, nobody is woken
 * for nothing, and a waiter that was killed is passed over.
 *
 * The caller holds his lock when he enters (fmp_cond_enter) and notifies, lets it go while he sleeps
 * (fmp_cond_sleep), and takes it again: the core knows nothing of that lock.
 *
 * The first nodes are the condition's own, each on a cache line that its waiter finds where he left it; when they
 * are all in use, a waiter's is a block of the heap.
 *
 *   tag of a node   meaning
 *   FREE            one of the condition's own that is not in use
 *   SHARED          on the list
 *   id              that process enters it or has taken it off; one of a dead process, which is on no list after
 *                   the guard's repair, is as good as free. (A block has it as its heap tag, too, and is swept.)
 *
 * Invariants
 *   C1  Under `guard`, the list from `first` is whole at every instant: each change is one store.
 *   C2  A node on the list is SHARED and not notified. One that isn't SHARED was being entered or taken off
 *       by a process that died: the next holder of the guard takes it off. One that is notified was being
 *       taken off by a notifier that died: the next holder of the guard goes on with it.
 *   C3  A node that was notified and taken off is its waiter's alone once it is released, or under the guard,
 *       and freed by him; by the sweep, if he is dead.
 * Lives in: arena, an object of kind FMP_CONDITION. */
#ifndef FMP_COND_H
#define FMP_COND_H

#include "core/object.h"

#define FMP_COND_OWN 4

/* RELEASED: the notifier doesn't look at the node any more. */
enum { FMP_COND_WAITING, FMP_COND_NOTIFIED, FMP_COND_RELEASED };

typedef struct {
    fmp_ref next;
    uint32_t owner;
    _Atomic uint32_t notified;
    _Atomic uint32_t tag;
    fmp_eventcount ec;
} fmp_cond_node;

typedef struct {
    fmp_mutex guard;
    _Atomic uint32_t waiters; /* on the list */
    fmp_ref first;
    struct {
        _Alignas(FMP_CACHELINE) fmp_cond_node node;
    } own[FMP_COND_OWN];
} fmp_cond;

/* Hang a node on the list: its ref, for fmp_cond_sleep. -ENOMEM. */
int fmp_cond_enter(fmp_arena *a, fmp_cond *c, fmp_ref *node);

/* Sleep until notified: 0, FMP_TIMEOUT or FMP_INTR. After FMP_INTR call it again with the same node;
 * after anything else the node is gone. To give a wait up, call it with a waiter until FMP_NOW. */
int fmp_cond_sleep(fmp_arena *a, fmp_cond *c, fmp_ref node, fmp_waiter *w);

/* Wake up to `count` waiters. */
void fmp_cond_notify(fmp_arena *a, fmp_cond *c, uint32_t count);

/* See fmp_kind_ops in object.h. */
void fmp_cond_settle(fmp_arena *a, void *body);
void fmp_cond_destroy(fmp_arena *a, void *body);

#endif
