/* lock_type.h: what Condition and the shared values need of Lock and RLock. */
#ifndef FMP_BINDING_LOCK_TYPE_H
#define FMP_BINDING_LOCK_TYPE_H

#include "binding/handle.h"
#include "core/mutex.h"

static inline fmp_mutex *
lock_mutex(HandleObject *lock)
{
    return lock->body;
}

/* An RLock: its holder may take it again. */
static inline int
lock_is_recursive(HandleObject *lock)
{
    return (fmp_peek(&lock_mutex(lock)->flags) & (FMP_MUTEX_PLAIN | FMP_MUTEX_ROBUST)) == 0;
}

/* Not of a subclass, which may have methods of its own. */
static inline int
lock_is_exact(HandleObject *lock)
{
    return Py_IS_TYPE((PyObject *)lock, lock->state->Lock) || Py_IS_TYPE((PyObject *)lock, lock->state->RLock);
}

/* Wait for the lock (wait.h). An RLock may be in the hands of this thread already: a signal handler took it
 * meanwhile, and keeps it. */
int lock_blocking(void *lock, fmp_waiter *w);

/* Acquire: 1 done, 0 the deadline passed, -1 a signal handler raised. */
int lock_acquire_slowly(HandleObject *lock, fmp_time until);

static inline int
lock_acquire_until(HandleObject *lock, fmp_time until)
{
    return fmp_mutex_trylock(lock->arena, lock_mutex(lock)) ? 1 : lock_acquire_slowly(lock, until);
}

/* The same as an RLock: its holder takes it once more. */
static inline int
rlock_acquire_until(HandleObject *lock, fmp_time until)
{
    fmp_mutex *mutex = lock_mutex(lock);
    if (fmp_mutex_mine(lock->arena, mutex)) {
        mutex->depth++;
        return 1;
    }
    int outcome = lock_acquire_until(lock, until);
    if (outcome > 0)
        mutex->depth++; /* from 0, if no signal handler has taken it */
    return outcome;
}

/* Give one acquisition back: 0, or the code to raise. */
static inline int
lock_give_back(HandleObject *lock)
{
    fmp_mutex *mutex = lock_mutex(lock);
    if (fmp_peek(&mutex->flags) & FMP_MUTEX_ROBUST)
        return fmp_mutex_unlock_robust(lock->arena, mutex);
    return fmp_mutex_unlock(mutex);
}

static inline int
rlock_give_back(HandleObject *lock)
{
    fmp_mutex *mutex = lock_mutex(lock);
    if (!fmp_mutex_mine(lock->arena, mutex))
        return FMP_NOT_OWNER;
    return --mutex->depth == 0 ? fmp_mutex_unlock(mutex) : 0;
}

/* An RLock on the mutex that the body of another handle begins with; it holds that object. */
PyObject *rlock_over(HandleObject *owner);

/* What the lock's repr says of its holder. A new reference. */
PyObject *lock_holder_name(HandleObject *lock);

#endif
