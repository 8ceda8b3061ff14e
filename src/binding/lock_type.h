/* lock_type.h: what Condition needs of Lock and RLock. */
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

/* What the lock's repr says of its holder. A new reference. */
PyObject *lock_holder_name(HandleObject *lock);

#endif
