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

/* Acquire: 1 done, 0 the deadline passed, -1 a signal handler raised. */
int lock_acquire_until(HandleObject *lock, fmp_time until);

/* The same as an RLock: its holder takes it once more. */
int rlock_acquire_until(HandleObject *lock, fmp_time until);

/* Give one acquisition back: 0, or the code to raise. */
int lock_give_back(HandleObject *lock);
int rlock_give_back(HandleObject *lock);

/* An RLock on the mutex that the body of another handle begins with; it holds that object. */
PyObject *rlock_over(HandleObject *owner);

/* What the lock's repr says of its holder. A new reference. */
PyObject *lock_holder_name(HandleObject *lock);

#endif
