#include "binding/handle.h"

#include "binding/child_type.h"

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

/* ---- cargo ---------------------------------------------------------------------------------- */

static _Thread_local handle_cargo *loading;

void
handle_cargo_begin(handle_cargo *cargo, int loose)
{
    *cargo = (handle_cargo){.outer = loading, .loose = loose};
    loading = cargo;
}

void
handle_cargo_end(handle_cargo *cargo)
{
    loading = cargo->outer;
}

void
handle_cargo_unload(handle_cargo *cargo)
{
    for (uint32_t i = 0; i < cargo->count; i++)
        fmp_object_drop(fmp_here(), cargo->objects[i]);
    PyMem_Free(cargo->objects);
}

void
handle_cargo_ship_loose(const handle_cargo *cargo)
{
    for (uint32_t i = 0; i < cargo->count; i++)
        fmp_object_ship_loose(fmp_here(), cargo->objects[i]);
}

void
handle_cargo_land_loose(const handle_cargo *cargo)
{
    for (uint32_t i = 0; i < cargo->count; i++)
        fmp_object_land_loose(fmp_here(), fmp_object_ticket(cargo->objects[i]));
}

static int
load(handle_cargo *cargo, fmp_object *object)
{
    if (cargo->count == cargo->room) {
        uint32_t room = cargo->room == 0 ? 8 : cargo->room * 2;
        fmp_object **objects = PyMem_Realloc(cargo->objects, room * sizeof(*objects));
        if (objects == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        cargo->objects = objects;
        cargo->room = room;
    }
    fmp_object_hold(fmp_here(), object);
    cargo->objects[cargo->count++] = object;
    return 0;
}

/* ---- leaving ---------------------------------------------------------------------------------- */

static PyObject *
ticket(HandleObject *self, int loose)
{
    fmp_ticket t = fmp_object_ticket(self->object);
    return Py_BuildValue("(KIKi)", (unsigned long long)fmp_arena_name(self->arena), t.index,
                         (unsigned long long)t.serial, loose);
}

PyObject *
handle_give(HandleObject *self, uint32_t child)
{
    if (handle_check(self) < 0)
        return NULL;
    int rc = fmp_object_give(self->arena, child, self->object);
    return rc < 0 ? raise_rc(self->state, rc) : ticket(self, 0);
}

static void
refuse(HandleObject *self)
{
    PyObject *name = PyType_GetName(Py_TYPE(self));
    if (name != NULL)
        PyErr_Format(PyExc_RuntimeError,
                     "%U objects should only be shared between processes through inheritance, as arguments of "
                     "a new process, or in messages of fastmp's own queues and connections",
                     name);
    Py_XDECREF(name);
}

/* The child that this thread is spawning, or that it can't be told, or none: 1, -1, 0. */
static int
spawned_child(HandleObject *self, uint32_t *child)
{
    module_state *state = self->state;
    PyObject *popen = state->spawning == NULL ? Py_NewRef(Py_None) : PyObject_CallNoArgs(state->spawning);
    if (popen == NULL || popen == Py_None) {
        Py_XDECREF(popen);
        return popen == NULL ? -1 : 0;
    }
    PyObject *expected = PyObject_GetAttrString(popen, "_child");
    Py_DECREF(popen);
    int known = expected != NULL && child_owner(state, expected, child) == 0;
    Py_XDECREF(expected);
    if (!known) {
        PyErr_Clear();
        PyErr_SetString(PyExc_RuntimeError, "only processes that fastmp starts can be given its objects");
    }
    return known ? 1 : -1;
}

int
handle_may_travel(HandleObject *self)
{
    uint32_t child;
    int spawning = loading != NULL ? 1 : spawned_child(self, &child);
    if (spawning == 0)
        refuse(self);
    return spawning > 0 ? 0 : -1;
}

static PyObject *
leave(HandleObject *self)
{
    uint32_t child;
    if (loading != NULL)
        return load(loading, self->object) < 0 ? NULL : ticket(self, loading->loose);
    int spawning = spawned_child(self, &child);
    if (spawning > 0)
        return handle_give(self, child);
    if (spawning == 0)
        refuse(self);
    return NULL;
}

PyObject *
handle_reduce_with(HandleObject *self, PyObject *extra)
{
    PyObject *pass = extra == NULL || handle_check(self) < 0 ? NULL : leave(self);
    PyObject *attach = pass == NULL ? NULL : PyObject_GetAttrString((PyObject *)Py_TYPE(self), "_attach");
    PyObject *state = attach == NULL ? NULL : PyObject_CallMethod((PyObject *)self, "__getstate__", NULL);
    PyObject *result = NULL;
    if (state != NULL)
        result = Py_BuildValue("(O(OO)O)", attach, pass, extra, state);
    Py_XDECREF(extra);
    Py_XDECREF(pass);
    Py_XDECREF(attach);
    Py_XDECREF(state);
    return result;
}

PyObject *
handle_send_fd(HandleObject *self, int fd)
{
    if (self->state->dup_fd != NULL)
        return PyObject_CallFunction(self->state->dup_fd, "i", fd);
    PyErr_SetString(PyExc_RuntimeError, "fastmp.reduction was not imported");
    return NULL;
}

int
handle_receive_fd(PyObject *sent)
{
    PyObject *number = PyObject_CallMethod(sent, "detach", NULL);
    int fd = number == NULL ? -1 : PyObject_AsFileDescriptor(number);
    Py_XDECREF(number);
    return fd;
}

PyObject *
handle_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return handle_reduce_with((HandleObject *)self, Py_NewRef(Py_None));
}

/* ---- arriving ----------------------------------------------------------------------------------- */

/* For PyArg_Parse: a number that isn't too large. */
static int
to_number(PyObject *obj, void *number)
{
    *(unsigned long long *)number = PyLong_AsUnsignedLongLong(obj);
    return !PyErr_Occurred();
}

/* A ticket is for one object, but whoever writes one by himself may name any. */
static int
check_kind(HandleObject *self, const fmp_object *object, fmp_kind kind, size_t bytes)
{
    if (object->kind == kind && object->bytes >= bytes)
        return 0;
    PyErr_Format(PyExc_RuntimeError, "the ticket of a %s is for an object of another kind", Py_TYPE(self)->tp_name);
    return -1;
}

int
handle_find(HandleObject *self, fmp_ticket ticket, fmp_kind kind, size_t bytes)
{
    fmp_object *object;
    int rc = fmp_object_attach(self->arena, ticket, &object);
    if (rc < 0)
        raise_rc(self->state, rc);
    if (rc != 0)
        return rc < 0 ? -1 : rc;
    self->object = object;
    self->body = fmp_object_body(object);
    return check_kind(self, object, kind, bytes);
}

static int
arrive(HandleObject *self, unsigned long long name, fmp_ticket t, int loose, fmp_kind kind, size_t bytes)
{
    if (name != fmp_arena_name(self->arena)) {
        PyErr_SetString(PyExc_RuntimeError, "this object is shared by the processes of another program: "
                                            "who receives it must descend from who made it");
        return -1;
    }
    int rc = handle_find(self, t, kind, bytes);
    if (rc == FMP_EMPTY)
        PyErr_SetString(PyExc_RuntimeError, "this object is gone: no process had it any more");
    if (rc != 0)
        return -1;
    if (loose)
        fmp_object_land_loose(self->arena, t);
    return 0;
}

HandleObject *
handle_attach(PyTypeObject *type, PyObject *args, fmp_kind kind, size_t bytes, PyObject **extra)
{
    unsigned long long name, index, serial;
    int loose;
    if (!PyArg_ParseTuple(args, "(O&O&O&i)O:_attach", to_number, &name, to_number, &index, to_number, &serial, &loose,
                          extra))
        return NULL;
    fmp_ticket t = {.serial = serial, .index = index > UINT32_MAX ? UINT32_MAX : (uint32_t)index};
    HandleObject *self = (HandleObject *)handle_new(type, NULL, NULL);
    if (self != NULL && arrive(self, name, t, loose, kind, bytes) < 0)
        Py_CLEAR(self);
    return self;
}
