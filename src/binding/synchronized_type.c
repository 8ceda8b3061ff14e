#include "binding/block_type.h"
#include "binding/synchronized.h"

#include <string.h>

#define CELLS_AT 32 /* behind the mutex, on the same cache line if they are few */

_Static_assert(sizeof(fmp_mutex) <= CELLS_AT, "the cells begin behind the mutex");

static int
check(SynchronizedObject *self)
{
    if (self->ctype != NULL)
        return 0;
    PyErr_Format(PyExc_RuntimeError, "%s.__init__() was not called", Py_TYPE(self)->tp_name);
    return -1;
}

/* ---- the lock ------------------------------------------------------------------------------- */

static int
call_lock(SynchronizedObject *self, const char *method)
{
    PyObject *result = check(self) < 0 ? NULL : PyObject_CallMethod(self->lock, method, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
synchronized_enter_other(SynchronizedObject *self)
{
    if (self->guard == NULL)
        return call_lock(self, "acquire");
    return lock_acquire_until(self->guard, FMP_FOREVER) < 0 ? -1 : 0;
}

static int
let_go(SynchronizedObject *self)
{
    if (self->guard == NULL)
        return call_lock(self, "release");
    int rc = self->reentrant ? rlock_give_back(self->guard) : lock_give_back(self->guard);
    if (rc == 0)
        return 0;
    raise_rc(self->handle.state, rc);
    return -1;
}

int
synchronized_leave_other(SynchronizedObject *self, int failed)
{
    if (!failed)
        return let_go(self);
    PyObject *exception = PyErr_GetRaisedException();
    if (let_go(self) == 0)
        PyErr_SetRaisedException(exception);
    else
        Py_XDECREF(exception);
    return -1;
}

/* The lock as an object. A borrowed reference. */
static PyObject *
lock_object(SynchronizedObject *self)
{
    if (self->lock == NULL && check(self) == 0)
        self->lock = rlock_over(&self->handle);
    return self->lock;
}

/* Use this lock from now on. */
static int
adopt_lock(SynchronizedObject *self, PyObject *lock)
{
    module_state *state = self->handle.state;
    int reentrant = Py_IS_TYPE(lock, state->RLock);
    int ours = reentrant || Py_IS_TYPE(lock, state->Lock);
    if (ours && handle_check((HandleObject *)lock) < 0)
        return -1;
    self->lock = Py_NewRef(lock);
    self->guard = ours ? (HandleObject *)lock : NULL;
    self->reentrant = reentrant;
    return 0;
}

static PyObject *
get_lock(SynchronizedObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_XNewRef(lock_object(self));
}

static PyObject *
lock_attribute(SynchronizedObject *self, void *name)
{
    PyObject *lock = lock_object(self);
    return lock == NULL ? NULL : PyObject_GetAttrString(lock, name);
}

static PyObject *
enter(SynchronizedObject *self, PyObject *Py_UNUSED(ignored))
{
    if (synchronized_enter(self) < 0)
        return NULL;
    Py_RETURN_TRUE;
}

static PyObject *
leave(SynchronizedObject *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    if (synchronized_leave(self, 0) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- the ctypes object ---------------------------------------------------------------------- */

PyObject *
synchronized_obj(SynchronizedObject *self)
{
    if (self->obj != NULL || check(self) < 0)
        return self->obj;
    PyObject *block = block_over(&self->handle, self->cells);
    if (block == NULL)
        return NULL;
    PyObject *obj = PyObject_CallFunctionObjArgs(self->handle.state->place, self->ctype, block, NULL);
    Py_DECREF(block);
    if (self->obj == NULL)
        self->obj = obj;
    else
        Py_XDECREF(obj); /* another thread came first */
    return self->obj;
}

static PyObject *
get_obj(SynchronizedObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_XNewRef(synchronized_obj(self));
}

PyObject *
synchronized_get(SynchronizedObject *self, void *name)
{
    if (synchronized_enter(self) < 0)
        return NULL;
    PyObject *obj = synchronized_obj(self);
    PyObject *value = obj == NULL ? NULL : PyObject_GetAttrString(obj, name);
    if (synchronized_leave(self, value == NULL) < 0)
        Py_CLEAR(value);
    return value;
}

int
synchronized_set(SynchronizedObject *self, PyObject *value, void *name)
{
    if (value == NULL) {
        PyErr_Format(PyExc_AttributeError, "cannot delete attribute '%s'", (const char *)name);
        return -1;
    }
    if (synchronized_enter(self) < 0)
        return -1;
    PyObject *obj = synchronized_obj(self);
    return synchronized_leave(self, obj == NULL || PyObject_SetAttrString(obj, name, value) < 0);
}

static PyObject *
repr(PyObject *self)
{
    PyObject *name = PyType_GetName(Py_TYPE(self));
    PyObject *obj = synchronized_obj((SynchronizedObject *)self);
    PyObject *result = NULL;
    if (name != NULL && obj != NULL)
        result = PyUnicode_FromFormat("<%U wrapper for %S>", name, obj);
    Py_XDECREF(name);
    return result;
}

/* The cells as they are; whoever uses them so takes the lock himself. */
static int
get_buffer(PyObject *op, Py_buffer *view, int flags)
{
    SynchronizedObject *self = (SynchronizedObject *)op;
    if (check(self) < 0)
        return -1;
    if (self->code == NULL) {
        PyObject *obj = synchronized_obj(self);
        return obj == NULL ? -1 : PyObject_GetBuffer(obj, view, flags);
    }
    int array = PyObject_TypeCheck(op, self->handle.state->SynchronizedArray);
    if (!array && flags == PyBUF_SIMPLE) { /* int(value) would take the memory for digits */
        PyErr_Format(PyExc_TypeError, "'%.200s' is no bytes-like object, memoryview() of it is", Py_TYPE(op)->tp_name);
        return -1;
    }
    if (PyBuffer_FillInfo(view, op, self->cells, self->count * self->code->bytes, 0, flags) < 0)
        return -1;
    view->itemsize = self->code->bytes;
    view->ndim = array;
    view->shape = array && view->shape != NULL ? &self->count : NULL;
    view->strides = array && view->strides != NULL ? &view->itemsize : NULL;
    if (flags & PyBUF_FORMAT)
        view->format = (char *)self->code->format;
    return 0;
}

/* ---- making --------------------------------------------------------------------------------- */

/* The typecode of a ctypes type, if it has one: 0, or -1 with an exception. */
static int
look_up(module_state *state, PyObject *ctype, const typecode **code)
{
    PyObject *found = state->typecodes == NULL ? NULL : PyDict_GetItemWithError(state->typecodes, ctype);
    if (found == NULL)
        return PyErr_Occurred() ? -1 : 0;
    *code = typecode_find(PyUnicode_Check(found) ? PyUnicode_ReadChar(found, 0) : 0);
    return 0;
}

/* An array's. A subclass of the type `item * length` may have changed what items are: ctypes then. */
static int
look_up_array(module_state *state, PyObject *ctype, const typecode **code, Py_ssize_t *count)
{
    PyObject *item = PyObject_GetAttrString(ctype, "_type_"), *plain = NULL;
    PyObject *length = item == NULL ? NULL : PyObject_GetAttrString(ctype, "_length_");
    int rc = -1;
    if (length == NULL || (*count = PyLong_AsSsize_t(length)) < 0)
        goto done;
    if ((rc = look_up(state, item, code)) < 0 || *code == NULL)
        goto done;
    plain = PySequence_Repeat(item, *count);
    rc = plain == NULL ? -1 : 0;
    if (plain != ctype)
        *code = NULL;
done:
    Py_XDECREF(item);
    Py_XDECREF(length);
    Py_XDECREF(plain);
    return rc;
}

/* Which code, how many: 0, or -1 with an exception. */
static int
describe(SynchronizedObject *self, PyObject *ctype)
{
    module_state *state = self->handle.state;
    self->count = 1;
    if (PyObject_TypeCheck(self, state->SynchronizedArray))
        return look_up_array(state, ctype, &self->code, &self->count);
    if (PyObject_TypeCheck(self, state->Synchronized))
        return look_up(state, ctype, &self->code);
    return 0;
}

/* What the cells hold at first. Nobody else knows of them yet, so the lock is not taken: its giver may have
 * it. */
static int
fill(SynchronizedObject *self, PyObject *initial)
{
    PyObject *items = PySequence_Fast(initial, "the initial values must be iterable");
    if (items == NULL)
        return -1;
    Py_ssize_t given = PySequence_Fast_GET_SIZE(items), done = 0;
    Py_ssize_t bytes = self->code->bytes;
    while (done < given && done < self->count &&
           self->code->store(self->cells + done * bytes, PySequence_Fast_GET_ITEM(items, done)))
        done++;
    int rc = 0;
    if (done < given) { /* ctypes knows what to do with these, or what is wrong */
        PyObject *obj = synchronized_obj(self);
        PyObject *init = obj == NULL ? NULL : PyObject_GetAttrString(obj, "__init__");
        PyObject *arguments = init == NULL ? NULL : PySequence_Tuple(items);
        PyObject *result = arguments == NULL ? NULL : PyObject_CallObject(init, arguments);
        rc = result == NULL ? -1 : 0;
        Py_XDECREF(init);
        Py_XDECREF(arguments);
        Py_XDECREF(result);
    }
    Py_DECREF(items);
    return rc;
}

static int
describe_cells(SynchronizedObject *self, PyObject *ctype)
{
    if (describe(self, ctype) < 0)
        return -1;
    if (self->code != NULL)
        return 0;
    PyErr_Format(PyExc_TypeError, "%R has no typecode", ctype);
    return -1;
}

/* The object of the handle is the value's memory, with the lock in it unless one is given. */
static int
furnish(SynchronizedObject *self, PyObject *ctype, PyObject *lock)
{
    self->cells = (char *)self->handle.body + CELLS_AT;
    self->guard = &self->handle;
    self->reentrant = 1;
    self->ctype = Py_NewRef(ctype);
    return lock == Py_None ? 0 : adopt_lock(self, lock);
}

static int
build(SynchronizedObject *self, PyObject *ctype, PyObject *lock, PyObject *initial)
{
    if (describe_cells(self, ctype) < 0)
        return -1;
    size_t bytes = (size_t)self->count * (size_t)self->code->bytes;
    if (handle_create(&self->handle, FMP_PLAIN, CELLS_AT + bytes) < 0 || furnish(self, ctype, lock) < 0)
        return -1;
    return fill(self, initial);
}

static PyObject *
allocate(PyObject *type, PyObject *args)
{
    PyObject *ctype, *lock, *initial;
    if (!PyArg_ParseTuple(args, "OOO:_allocate", &ctype, &lock, &initial))
        return NULL;
    PyObject *self = handle_new((PyTypeObject *)type, NULL, NULL);
    if (self != NULL && build((SynchronizedObject *)self, ctype, lock, initial) < 0)
        Py_CLEAR(self);
    return self;
}

/* Find the cells of a ctypes object: 0, or -1 with an exception. Memory that ctypes allocated may move
 * (ctypes.resize), so nothing is remembered of that. */
static int
find_cells(SynchronizedObject *self, PyObject *obj)
{
    PyObject *moves = PyObject_GetAttrString(obj, "_b_needsfree_");
    int truth = moves == NULL ? -1 : PyObject_IsTrue(moves);
    Py_XDECREF(moves);
    if (truth > 0)
        self->code = NULL;
    if (truth != 0)
        return truth < 0 ? -1 : 0;
    Py_buffer view;
    if (PyObject_GetBuffer(obj, &view, PyBUF_SIMPLE) < 0)
        return -1;
    self->cells = view.buf;
    PyBuffer_Release(&view);
    return 0;
}

static int
init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"obj", "lock", "ctx", NULL};
    SynchronizedObject *self = (SynchronizedObject *)op;
    PyObject *obj, *lock = Py_None, *ctx;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO:SynchronizedBase", names, &obj, &lock, &ctx))
        return -1;
    if (self->ctype != NULL) {
        PyErr_Format(PyExc_RuntimeError, "%s.__init__() was called already", Py_TYPE(op)->tp_name);
        return -1;
    }
    PyObject *type = (PyObject *)Py_TYPE(obj);
    if (describe(self, type) < 0 || (self->code != NULL && find_cells(self, obj) < 0))
        return -1;
    lock = lock == Py_None ? PyObject_CallNoArgs((PyObject *)self->handle.state->RLock) : Py_NewRef(lock);
    PyObject *acquire = lock == NULL ? NULL : PyObject_GetAttrString(lock, "acquire");
    int rc = acquire == NULL ? -1 : adopt_lock(self, lock);
    Py_XDECREF(acquire);
    Py_XDECREF(lock);
    if (rc < 0)
        return -1;
    self->obj = Py_NewRef(obj);
    self->ctype = Py_NewRef(type);
    return 0;
}

/* ---- travelling ------------------------------------------------------------------------------ */

/* Array types have no name to be pickled by: the type of the items and their number stand for one. */
static PyObject *
ctype_in_parts(SynchronizedObject *self)
{
    if (!PyObject_TypeCheck(self, self->handle.state->SynchronizedArray))
        return PyTuple_Pack(2, self->ctype, Py_None);
    PyObject *item = PyObject_GetAttrString(self->ctype, "_type_");
    PyObject *parts = item == NULL ? NULL : Py_BuildValue("(On)", item, self->count);
    Py_XDECREF(item);
    return parts;
}

static PyObject *
reduce(SynchronizedObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check(self) < 0)
        return NULL;
    if (self->handle.object == NULL && handle_may_travel(&self->handle) < 0)
        return NULL;
    if (self->handle.object == NULL) /* on a ctypes object's memory */
        return Py_BuildValue("(O(OO))", Py_TYPE(self), self->obj, self->lock);
    PyObject *parts = ctype_in_parts(self), *extra = NULL;
    if (parts != NULL)
        extra = PyTuple_Pack(2, parts, self->guard == &self->handle ? Py_None : self->lock);
    Py_XDECREF(parts);
    return handle_reduce_with(&self->handle, extra);
}

/* Does the object have all the cells that the ctype tells of? */
static int
check_room(SynchronizedObject *self)
{
    if ((uint64_t)self->count <= (self->handle.object->bytes - CELLS_AT) / (size_t)self->code->bytes)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "the object is smaller than its type");
    return -1;
}

static int
arrange(SynchronizedObject *self, PyObject *args)
{
    PyObject *ticket, *item, *length, *lock;
    if (!PyArg_ParseTuple(args, "O((OO)O):_attach", &ticket, &item, &length, &lock))
        return -1;
    PyObject *ctype = length == Py_None ? Py_NewRef(item) : PyNumber_Multiply(item, length);
    int rc = ctype == NULL || describe_cells(self, ctype) < 0 || check_room(self) < 0 ? -1 : furnish(self, ctype, lock);
    Py_XDECREF(ctype);
    return rc;
}

static PyObject *
attach(PyTypeObject *type, PyObject *args)
{
    PyObject *extra;
    SynchronizedObject *self = (SynchronizedObject *)handle_attach(type, args, FMP_PLAIN, CELLS_AT, &extra);
    if (self != NULL && arrange(self, args) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

/* ---- the type ------------------------------------------------------------------------------- */

int
synchronized_traverse(PyObject *op, visitproc visit, void *arg)
{
    SynchronizedObject *self = (SynchronizedObject *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->ctype);
    Py_VISIT(self->obj);
    Py_VISIT(self->lock);
    return 0;
}

static int
clear(PyObject *op)
{
    SynchronizedObject *self = (SynchronizedObject *)op;
    self->guard = NULL;
    self->reentrant = 0;
    self->code = NULL;
    Py_CLEAR(self->ctype);
    Py_CLEAR(self->obj);
    Py_CLEAR(self->lock);
    return 0;
}

void
synchronized_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    clear(op);
    handle_dealloc(op);
}

static PyMethodDef methods[] = {
    {"get_obj", (PyCFunction)get_obj, METH_NOARGS,
     "get_obj($self, /)\n--\n\nThe ctypes object on the same memory."},
    {"get_lock", (PyCFunction)get_lock, METH_NOARGS,
     "get_lock($self, /)\n--\n\nThe lock that every access takes."},
    {"__enter__", (PyCFunction)enter, METH_NOARGS, "__enter__($self, /)\n--\n\n"},
    {"__exit__", (PyCFunction)(void (*)(void))leave, METH_FASTCALL, "__exit__($self, /, *exc_info)\n--\n\n"},
    HANDLE_TRAVEL(reduce, attach),
    {"_allocate", allocate, METH_VARARGS | METH_CLASS,
     "_allocate($type, ctype, lock, initial, /)\n--\n\n"
     "On memory of its own. `ctype` has a typecode, or its items do; without a lock (None) the memory\n"
     "has one. `initial` are the arguments that `ctype` would be called with."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"acquire", (getter)lock_attribute, NULL, "The lock's acquire.", "acquire"},
    {"release", (getter)lock_attribute, NULL, "The lock's release.", "release"},
    {"_obj", (getter)(void (*)(void))get_obj, NULL, "As get_obj() gives it.", NULL},
    {"_lock", (getter)(void (*)(void))get_lock, NULL, "As get_lock() gives it.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {HANDLE_MEMBERS, {NULL, 0, 0, 0, NULL}};

PyType_Spec synchronized_base_spec = {
    .name = "fastmp.sharedctypes.SynchronizedBase",
    .basicsize = sizeof(SynchronizedObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "SynchronizedBase(obj, lock=None, ctx=None)\n--\n\n"
                        "A ctypes object and the lock to use it under."},
            {Py_tp_new, handle_new},
            {Py_tp_init, init},
            {Py_tp_dealloc, synchronized_dealloc},
            {Py_tp_traverse, synchronized_traverse},
            {Py_tp_clear, clear},
            {Py_tp_repr, repr},
            {Py_tp_methods, methods},
            {Py_tp_getset, getset},
            {Py_tp_members, members},
            {Py_bf_getbuffer, get_buffer},
            {0, NULL},
        },
};
