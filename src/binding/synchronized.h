/* synchronized.h: what Value's and Array's types are made of: cells, a lock, and a ctypes object on the
 * cells for those who ask for one.
 *
 *   made by                memory                                  lock
 *   _allocate(.., None)    one arena object: {mutex, cells}        that mutex; an RLock stands on it when
 *                                                                  somebody asks
 *   _allocate(.., lock)    the same                                the given one
 *   __init__(obj, lock)    the ctypes object's                     the given one, or a new RLock
 *
 * Cells of a type with a typecode are read and written here, all others by way of the ctypes object. A
 * plain fastmp Lock or RLock is taken by its mutex; of anything else acquire() and release() are called.
 * What holds the memory (the RLock, the ctypes object's Block) does not refer to the value: no cycle. */
#ifndef FMP_BINDING_SYNCHRONIZED_H
#define FMP_BINDING_SYNCHRONIZED_H

#include "binding/lock_type.h"
#include "binding/typecode.h"

typedef struct {
    HandleObject handle; /* the arena object, its mutex first; none on a ctypes object's memory */
    PyObject *ctype;     /* the type of obj; NULL until made */
    PyObject *obj;       /* NULL until somebody asks */
    PyObject *lock;      /* the same, if it is the memory's own */
    HandleObject *guard; /* whose mutex the lock is: this handle or `lock`; NULL: call its methods */
    int reentrant;       /* there is a mutex, and it is an RLock's */
    const typecode *code; /* NULL: ctypes reads and writes */
    char *cells;
    Py_ssize_t count; /* of cells */
} SynchronizedObject;

/* Locks that are no RLock of ours. */
int synchronized_enter_other(SynchronizedObject *self);
int synchronized_leave_other(SynchronizedObject *self, int failed);

/* Take the lock: 0, or -1 with an exception. */
static inline int
synchronized_enter(SynchronizedObject *self)
{
    if (self->reentrant)
        return rlock_acquire_until(self->guard, FMP_FOREVER) < 0 ? -1 : 0;
    return synchronized_enter_other(self);
}

/* Let it go, keeping an exception that is set if `failed`: -1 if one is set then, else 0. */
static inline int
synchronized_leave(SynchronizedObject *self, int failed)
{
    if (self->reentrant && rlock_give_back(self->guard) == 0)
        return failed ? -1 : 0;
    return synchronized_leave_other(self, failed);
}

/* The ctypes object. A borrowed reference. */
PyObject *synchronized_obj(SynchronizedObject *self);

/* A getter and a setter under the lock, for the ctypes object's attribute of that name. */
PyObject *synchronized_get(SynchronizedObject *self, void *name);
int synchronized_set(SynchronizedObject *self, PyObject *value, void *name);

/* tp_traverse and tp_dealloc of the types that derive from SynchronizedBase. */
int synchronized_traverse(PyObject *op, visitproc visit, void *arg);
void synchronized_dealloc(PyObject *op);

#endif
