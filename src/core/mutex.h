/* mutex.h: a lock that knows its holder.
 *
 *   owner  0   free
 *          id  held by the process of that owner id; `thread` says by which of its threads
 *
 * A waiter whose slice is over asks whether the holder lives. If not he takes the lock in the dead
 * one's place and is told FMP_OWNER_DEAD: what the lock protects may be half changed, so he repairs it
 * first. FMP_MUTEX_PLAIN locks (the user's Lock) stay with their dead holder, as the standard
 * library's do; anybody may release them. FMP_MUTEX_ROBUST ones (his Lock(robust=True)) remember that they were
 * taken over, in FMP_MUTEX_RECOVERED, until their holder releases them; nobody else may.
 *
 * Invariants
 *   M1  owner changes 0 -> id and dead id -> id by compare-and-swap only, id -> 0 by its holder (a
 *       plain one: by anybody).
 *   M2  thread and depth are written by the holder only (a plain one's: by whoever releases it), and mean
 *       something only while owner is his. thread is cleared before owner is, so that a thread doesn't
 *       find its own id in it while another one of its process is about to write there.
 * Lives in: arena, zero-filled = free. Callers: any thread. After fork the child holds nothing: its
 * owner id is another one. Not reentrant; depth is for the callers who want that (RLock). */
#ifndef FMP_MUTEX_H
#define FMP_MUTEX_H

#include "core/eventcount.h"

#define FMP_MUTEX_PLAIN 1u
#define FMP_MUTEX_ROBUST 2u
#define FMP_MUTEX_RECOVERED 4u /* set by who took the dead one's place, cleared by who releases it */

typedef struct {
    _Atomic uint32_t owner;
    fmp_eventcount ec;
    _Atomic uint32_t thread;
    uint32_t depth;
    _Atomic uint32_t flags; /* written when it is made, and by the holder */
} fmp_mutex;

/* Swap the owner from `from` to this process: true if it was `from`. */
static inline int
fmp_mutex_take(fmp_arena *a, fmp_mutex *m, uint32_t from)
{
    if (!atomic_compare_exchange_strong_explicit(&m->owner, &from, a->self, memory_order_acquire,
                                                 memory_order_relaxed)) /* A1 pairs R1 */
        return 0;
    atomic_store_explicit(&m->thread, fmp_thread_id(), memory_order_relaxed);
    return 1;
}

/* Take it if it is free: true if it was. */
static inline int
fmp_mutex_trylock(fmp_arena *a, fmp_mutex *m)
{
    return fmp_mutex_take(a, m, 0);
}

/* 0, FMP_OWNER_DEAD (held, repair), FMP_TIMEOUT or FMP_INTR. */
int fmp_mutex_lock(fmp_arena *a, fmp_mutex *m, fmp_waiter *w);

/* The same for the short critical sections inside the core: no deadline, signals wait. 0 or
 * FMP_OWNER_DEAD. */
int fmp_mutex_enter(fmp_arena *a, fmp_mutex *m);

/* The same within an operation that has a deadline. Since those sections are short it waits for a moment even if
 * that has passed: FMP_TIMEOUT says that their holder was stopped in the middle. FMP_INTR; FMP_BUSY. */
int fmp_mutex_enter_slowly(fmp_arena *a, fmp_mutex *m, const fmp_waiter *w);

static inline int
fmp_mutex_enter_until(fmp_arena *a, fmp_mutex *m, const fmp_waiter *w)
{
    return fmp_mutex_trylock(a, m) ? 0 : fmp_mutex_enter_slowly(a, m, w);
}

/* Give it back: 0, or FMP_FULL if nobody held it. */
static inline int
fmp_mutex_unlock(fmp_mutex *m)
{
    atomic_store_explicit(&m->thread, 0, memory_order_relaxed); /* M2 */
    if (atomic_exchange(&m->owner, 0) == 0) /* R1, and E2 of eventcount.h */
        return FMP_FULL;
    fmp_ec_signal(&m->ec, 1);
    return 0;
}

/* The same for a robust one: FMP_NOT_OWNER if another process or thread holds it. */
int fmp_mutex_unlock_robust(fmp_arena *a, fmp_mutex *m);

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
