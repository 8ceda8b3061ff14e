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

/* ---- travelling ---------------------------------------------------------------------------------
 *
 * Pickled, a handle is (type._attach, (ticket, extra), state): the ticket names the arena and the object,
 * `extra` is what the type has beside it, the state is a subclass's. That is allowed while this thread
 * spawns a process: the object is held for it. And while this thread encodes a message: the object is
 * held, until it is shipped (object.h). The messages of a stream are nobody's once they are sent, so their
 * tickets are loose: who attaches lands the object himself. */

typedef struct handle_cargo {
    struct handle_cargo *outer; /* of the message in the middle of whose encoding this one is encoded */
    int loose;
    uint32_t count, room;
    fmp_object **objects;
} handle_cargo;

/* Between the two, what this thread pickles is a message that carries its handles as `cargo`. */
void handle_cargo_begin(handle_cargo *cargo, int loose);
void handle_cargo_end(handle_cargo *cargo);

/* Afterwards: let go of it. Before that it may be shipped (object.h); or loose, and landed again if the message isn't
 * sent. */
void handle_cargo_unload(handle_cargo *cargo);
static inline void
handle_cargo_drop(handle_cargo *cargo)
{
    if (cargo->count != 0)
        handle_cargo_unload(cargo);
}

void handle_cargo_ship_loose(const handle_cargo *cargo);
void handle_cargo_land_loose(const handle_cargo *cargo);

/* For those that travel in other ways: 0, or -1 with RuntimeError where handles can't be pickled. */
int handle_may_travel(HandleObject *self);

/* For a type's __reduce__. Takes over the reference to `extra`; NULL is an exception. RuntimeError where
 * handles can't be pickled. */
PyObject *handle_reduce_with(HandleObject *self, PyObject *extra);

/* Hold the object that a ticket of this arena names: 0; FMP_EMPTY if it is gone; -1 with an exception, RuntimeError if it
 * is of another kind, or has fewer bytes. */
int handle_find(HandleObject *self, fmp_ticket ticket, fmp_kind kind, size_t bytes);

/* For a type's _attach(ticket, extra, /), a class method: a handle, and `extra` as a borrowed reference.
 * RuntimeError if the object is of another kind, or has fewer bytes. */
HandleObject *handle_attach(PyTypeObject *type, PyObject *args, fmp_kind kind, size_t bytes, PyObject **extra);

/* A descriptor among the extras: something picklable for it, and the descriptor that it gives at the other
 * end, -1 with an exception. */
PyObject *handle_send_fd(HandleObject *self, int fd);
int handle_receive_fd(PyObject *sent);

/* Hold the object for a child made by expect(): the ticket to attach with. */
PyObject *handle_give(HandleObject *self, uint32_t child);

/* Those of a type without extras. */
PyObject *handle_reduce(PyObject *self, PyObject *ignored);
#define HANDLE_ATTACH_PLAIN(name, kind, bytes)                                                           \
    static PyObject *name(PyObject *type, PyObject *args)                                                \
    {                                                                                                    \
        PyObject *extra;                                                                                 \
        return (PyObject *)handle_attach((PyTypeObject *)type, args, kind, bytes, &extra);               \
    }

#define HANDLE_TRAVEL(reduce, attach)                                                                    \
    {"__reduce__", (PyCFunction)(reduce), METH_NOARGS, NULL},                                            \
    {"_attach", (PyCFunction)(attach), METH_VARARGS | METH_CLASS,                                        \
     "_attach($type, ticket, extra, /)\n--\n\nThe handle that a ticket stands for."}

#endif
