#include "binding/handle.h"

PyObject *
handle_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    allocfunc alloc = PyType_GetSlot(type, Py_tp_alloc);
    HandleObject *self = (HandleObject *)alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->state = state_of_type(type);
    self->arena = fmp_here();
    if (self->arena == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void
drop_object(HandleObject *self)
{
    if (self->object != NULL)
        fmp_object_drop(self->arena, self->object);
    self->object = NULL;
    self->body = NULL;
}

int
handle_create(HandleObject *self, fmp_kind kind, size_t bytes)
{
    fmp_object *object;
    int rc = fmp_object_create(self->arena, kind, bytes, &object);
    if (rc < 0) {
        raise_rc(self->state, rc);
        return -1;
    }
    drop_object(self);
    self->object = object;
    self->body = fmp_object_body(object);
    return 0;
}

void
handle_share(HandleObject *self, HandleObject *other)
{
    fmp_object_hold(other->arena, other->object);
    drop_object(self);
    self->object = other->object;
    self->body = other->body;
}

void
handle_release(HandleObject *self)
{
    if (self->weakrefs != NULL)
        PyObject_ClearWeakRefs((PyObject *)self);
    drop_object(self);
}

void
handle_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    handle_release((HandleObject *)self);
    freefunc tp_free = PyType_GetSlot(type, Py_tp_free);
    tp_free(self);
    Py_DECREF(type);
}

PyObject *
handle_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyErr_Format(PyExc_RuntimeError,
                        "%.200s objects should only be shared between processes through inheritance",
                        Py_TYPE(self)->tp_name);
}
