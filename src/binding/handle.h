/* handle.h: the base of every Python type that stands for an object in the arena.
 *
 * A handle holds its object from tp_new to its deallocation. Types put their own fields behind it; a
 * method reaches the shared struct as self->handle.body. A forked child's copies hold it too (object.h). */
#ifndef FMP_BINDING_HANDLE_H
#define FMP_BINDING_HANDLE_H

#include "binding/args.h"
#include "binding/errors.h"
#include "binding/state.h"
#include "binding/wait.h"

typedef struct {
    PyObject_HEAD
    module_state *state;
    fmp_arena *arena;
    fmp_object *object; /* NULL until __init__ */
    void *body;
    PyObject *weakrefs;
} HandleObject;

#define HANDLE_MEMBERS {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(HandleObject, weakrefs), Py_READONLY, NULL}

/* tp_new: allocates the Python object alone. */
PyObject *handle_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);

/* Make the arena object, zeroed; in tp_init, which may be called again and makes a new one then.
 * 0, or -1 with an exception. */
int handle_create(HandleObject *self, fmp_kind kind, size_t bytes);

/* Hold the same object as `other` does. */
void handle_share(HandleObject *self, HandleObject *other);

/* tp_dealloc of a type that holds no Python objects; others call handle_release in theirs. */
void handle_dealloc(PyObject *self);
void handle_release(HandleObject *self);

/* 0 if __init__ was called, else -1 with RuntimeError. */
static inline int
handle_check(HandleObject *self)
{
    if (self->object != NULL)
        return 0;
    PyErr_Format(PyExc_RuntimeError, "%s.__init__() was not called", Py_TYPE(self)->tp_name);
    return -1;
}

/* __reduce__ of types that may only be inherited: raises RuntimeError outside of spawning. */
PyObject *handle_reduce(PyObject *self, PyObject *ignored);

#endif
