/* mutex.h: a lock that knows its holder.
 *
 *   owner  0   free
 *          id  held by the process of that owner id; `thread` says by which of its threads
 *
 * A waiter whose slice is over asks whether the holder lives. If not he takes the lock in the dead
 * one's place and is told FMP_OWNER_DEAD: what the lock protects may be half changed, so he repairs it
 * first. FMP_MUTEX_PLAIN locks (the user's Lock) stay with their dead holder, as the standard
 * library's do; anybody may release them.
 *
 * Invariants
 *   M1  owner changes 0 -> id and dead id -> id by compare-and-swap only, id -> 0 by its holder (a
 *       plain one: by anybody).
 *   M2  thread and depth are written by the holder only, and mean something only while owner is his.
 * Lives in: arena, zero-filled = free. Callers: any thread. After fork the child holds nothing: its
 * owner id is another one. Not reentrant; depth is for the callers who want that (RLock). */
#ifndef FMP_MUTEX_H
#define FMP_MUTEX_H

#include "core/eventcount.h"

#define FMP_MUTEX_PLAIN 1u

typedef struct {
    _Atomic uint32_t owner;
    fmp_eventcount ec;
    _Atomic uint32_t thread;
    uint32_t depth;
    uint32_t flags;
} fmp_mutex;

/* 0, FMP_OWNER_DEAD (held, repair), FMP_TIMEOUT or FMP_INTR. */
int fmp_mutex_lock(fmp_arena *a, fmp_mutex *m, fmp_waiter *w);

/* The same for the short critical sections inside the core: no deadline, signals wait. 0 or
 * FMP_OWNER_DEAD. */
int fmp_mutex_enter(fmp_arena *a, fmp_mutex *m);

/* Give it back: 0, or FMP_FULL if nobody held it. */
int fmp_mutex_unlock(fmp_mutex *m);

/* Does the calling thread hold it? */
static inline int
fmp_mutex_mine(fmp_arena *a, fmp_mutex *m)
{
    return fmp_peek(&m->owner) == a->self && fmp_peek(&m->thread) == fmp_thread_id();
}

static inline int
fmp_mutex_held(fmp_mutex *m)
{
    return fmp_load(&m->owner) != 0;
}

#endif
