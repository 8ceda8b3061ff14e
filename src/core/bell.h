/* bell.h: lets processes wait for some shared state with a descriptor, in select, poll or an event loop.
 *
 * Each listener has an ear: a descriptor (a doorbell) in his process, and a place in the bell's table, which
 * names it. Whoever changes the state rings the ears that are armed. That reaches processes that were
 * forked before somebody began to listen, and costs one load while nobody does.
 *
 *   an ear is   its descriptor is   next
 *   armed       unreadable          rung by whoever makes the state ready
 *   rung        readable            armed by its listener, who found the state not ready
 *
 *   listener, under the lock               ringer
 *   1 silence the descriptor, arm the ear  1 make the state ready
 *   2 if ready(): ring                     2 if any ear is armed: take the lock, and if ready(): ring
 *
 * Invariants
 *   L1  Bit i of `armed` is set exactly while the ear in place i is armed. It changes, and descriptors are
 *       rung and silenced, under `lock`, and rung only while the state is ready. So no ring is on its way
 *       when a listener, who has made the state unready, has had the lock: the descriptor of a sole listener
 *       is not readable in vain.
 *   L2  "Arm, then look" and "change, then look at `armed`" are sequentially consistent (E2 of eventcount.h).
 *   L3  An ear is rung before its bit goes, so a ringer who was killed with the lock rang it or left it armed.
 *       Who takes the lock from him rings all that are armed, though it may be in vain. One who was killed
 *       before he took the lock is made up for by the next ringer, or by fmp_bell_settle.
 *   L4  A bit stays set if ringing failed for a living listener (no descriptor left for it, another network
 *       namespace): the next ringer tries again.
 * Where another process may make the state unready, an ear may stay rung until its listener looks: he is told
 * too often, never too seldom.
 *
 * ready() is as in eventcount.h, and takes no locks.
 * Lives in: fmp_bell in the arena, zero-filled, inside an object; fmp_ear, zero-filled for none,
 * in the process that listens, not in its forked children. Callers: any thread, for an ear one at a time. */
#ifndef FMP_BELL_H
#define FMP_BELL_H

#include "core/heap.h"

#define FMP_BELL_PLACES 32 /* a bit of `armed` for each */

typedef struct {
    _Atomic uint64_t name; /* of the doorbell; 0: the place is free. Written after owner */
    uint32_t owner;        /* whose it is: a dead one's place is free, too */
    uint32_t unused;
} fmp_bell_place;

typedef struct {
    _Atomic uint32_t armed;
    fmp_mutex lock;
    fmp_ref places; /* a block of FMP_BELL_PLACES, from the first listener on */
} fmp_bell;

typedef struct {
    uint64_t name; /* of its doorbell; 0 for no ear */
    uint32_t owner; /* the process that made it */
    uint32_t place;
    int fd;
} fmp_ear;

/* Does this process listen with it? */
static inline int
fmp_ear_valid(const fmp_arena *a, const fmp_ear *ear)
{
    return ear->name != 0 && ear->owner == a->self;
}

/* Make an ear. -EAGAIN if all places are taken, -ENOMEM, or what the system says. */
int fmp_bell_listen(fmp_arena *a, fmp_bell *b, fmp_ear *ear, fmp_ready_fn ready, void *arg);

/* Give the ear up, if it is one, or a child its copy: it is none then. */
void fmp_bell_leave(fmp_arena *a, fmp_bell *b, fmp_ear *ear);

/* The listener made the state unready, or found it so: silence the ear if it was rung. */
void fmp_bell_calm(fmp_arena *a, fmp_bell *b, const fmp_ear *ear, fmp_ready_fn ready, void *arg);

/* Ring all ears that are armed, if the state is ready. */
void fmp_bell_ring(fmp_arena *a, fmp_bell *b, fmp_ready_fn ready, void *arg);

/* The same, after the state became ready. */
static inline void
fmp_bell_signal(fmp_arena *a, fmp_bell *b, fmp_ready_fn ready, void *arg)
{
    if (atomic_load(&b->armed) != 0) /* L2 */
        fmp_bell_ring(a, b, ready, arg);
}

/* See fmp_kind_ops in object.h. */
void fmp_bell_settle(fmp_arena *a, fmp_bell *b, fmp_ready_fn ready, void *arg);
void fmp_bell_destroy(fmp_arena *a, fmp_bell *b);

#endif
