/* semlock_type.c: SemLock, a semaphore of the system, as libraries know it from `_multiprocessing`. Nothing
 * in fastmp is made of it.
 *
 *   count   acquired minus released by this process. A copy made by fork begins with its parent's: who
 *           forks calls _after_fork()
 *   holder  the thread that was the last to acquire
 *
 * A RECURSIVE_MUTEX is a semaphore of value 1 that its holder passes without touching it. Whether a release
 * exceeds maxvalue is looked up before, not together with it, since the system knows no bound: a check, not a
 * guarantee. */
#include "binding/semlock_type.h"

#include "binding/args.h"
#include "binding/errors.h"
#include "binding/wait.h"
#include "core/sem.h"

enum { RECURSIVE_MUTEX, SEMAPHORE };

typedef struct {
    PyObject_HEAD
    fmp_semaphore *semaphore; /* also its handle */
    PyObject *name;           /* None if it has none (any more) */
    int kind;
    int maxvalue;
    int count;
    int borrowed; /* another object of this process opened it, and closes it */
    unsigned long holder;
} SemLockObject;

static_assert(sizeof(fmp_semaphore *) == sizeof(Py_ssize_t), "a handle is shown as a number");

static PyObject *
fail(SemLockObject *self, int rc)
{
    return raise_rc(state_of_type(Py_TYPE(self)), rc);
}

/* ---- made, rebuilt, dropped ---------------------------------------------------------------------- */

static SemLockObject *
empty(PyTypeObject *type, int kind, int maxvalue)
{
    allocfunc alloc = PyType_GetSlot(type, Py_tp_alloc);
    SemLockObject *self = (SemLockObject *)alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->kind = kind;
    self->maxvalue = maxvalue;
    self->name = Py_NewRef(Py_None);
    return self;
}

static int
set_name(SemLockObject *self, const char *name)
{
    Py_SETREF(self->name, PyUnicode_FromString(name));
    return self->name == NULL ? -1 : 0;
}

static int
create(SemLockObject *self, unsigned value, const char *name, int unlink)
{
    int rc = fmp_semaphore_create(name, value, &self->semaphore);
    if (rc == 0 && unlink)
        rc = fmp_semaphore_unlink(name);
    if (rc == 0)
        return unlink ? 0 : set_name(self, name);
    fail(self, rc);
    return -1;
}

static PyObject *
semlock_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"kind", "value", "maxvalue", "name", "unlink", NULL};
    int kind, value, maxvalue, unlink;
    const char *name;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iiisp:SemLock", names, &kind, &value, &maxvalue, &name,
                                     &unlink))
        return NULL;
    if (kind != RECURSIVE_MUTEX && kind != SEMAPHORE) {
        PyErr_SetString(PyExc_ValueError, "unrecognized kind");
        return NULL;
    }
    SemLockObject *self = empty(type, kind, maxvalue);
    if (self != NULL && create(self, (unsigned)value, name, unlink) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int
attach(SemLockObject *self, Py_ssize_t handle, const char *name)
{
    if (name == NULL) {
        self->semaphore = (fmp_semaphore *)handle;
        self->borrowed = 1;
        return 0;
    }
    int rc = fmp_semaphore_open(name, &self->semaphore);
    if (rc == 0)
        return set_name(self, name);
    fail(self, rc);
    return -1;
}

static PyObject *
semlock_rebuild(PyObject *type, PyObject *args)
{
    Py_ssize_t handle;
    int kind, maxvalue;
    const char *name;
    if (!PyArg_ParseTuple(args, "niiz:_rebuild", &handle, &kind, &maxvalue, &name))
        return NULL;
    SemLockObject *self = empty((PyTypeObject *)type, kind, maxvalue);
    if (self != NULL && attach(self, handle, name) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void
semlock_dealloc(PyObject *op)
{
    SemLockObject *self = (SemLockObject *)op;
    PyTypeObject *type = Py_TYPE(op);
    if (self->semaphore != NULL && !self->borrowed)
        fmp_semaphore_close(self->semaphore);
    Py_XDECREF(self->name);
    freefunc tp_free = PyType_GetSlot(type, Py_tp_free);
    tp_free(op);
    Py_DECREF(type);
}

/* ---- taken, given back ------------------------------------------------------------------------- */

static int
mine(SemLockObject *self)
{
    return self->count > 0 && self->holder == PyThread_get_thread_ident();
}

static int
blocking(void *arg, fmp_waiter *w)
{
    SemLockObject *self = arg;
    fmp_time end = fmp_ec_slice(w);
    int rc = fmp_semaphore_wait(self->semaphore, end);
    return rc == FMP_TIMEOUT && end < w->until ? FMP_INTR : rc;
}

static PyObject *
acquire_until(SemLockObject *self, fmp_time until)
{
    if (self->kind == RECURSIVE_MUTEX && mine(self)) {
        self->count++;
        Py_RETURN_TRUE;
    }
    int rc;
    if (try_then_wait(blocking, self, until, &rc) < 0)
        return NULL;
    if (rc == FMP_TIMEOUT)
        Py_RETURN_FALSE;
    if (rc != 0)
        return fail(self, rc);
    self->count++;
    self->holder = PyThread_get_thread_ident();
    Py_RETURN_TRUE;
}

static PyObject *
semlock_acquire(SemLockObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"acquire", {"block", "timeout"}, 0};
    PyObject *given[2];
    fmp_time until;
    if (args_parse(&spec, args, nargs, kwnames, given) < 0 || args_deadline(given[1], &until) < 0 ||
        args_block(given[0], given[1], &until) < 0)
        return NULL;
    return acquire_until(self, until);
}

static PyObject *
semlock_enter(SemLockObject *self, PyObject *Py_UNUSED(ignored))
{
    return acquire_until(self, FMP_FOREVER);
}

/* The value, or -1 with an exception. */
static int
value_of(SemLockObject *self)
{
    int value = 0, rc = fmp_semaphore_value(self->semaphore, &value);
    if (rc < 0) {
        fail(self, rc);
        return -1;
    }
    return value < 0 ? 0 : value; /* other systems count those who wait */
}

static PyObject *
semlock_release(SemLockObject *self, PyObject *Py_UNUSED(ignored))
{
    if (self->kind == RECURSIVE_MUTEX) {
        if (!mine(self))
            return fail(self, FMP_NOT_OWNER);
        if (self->count > 1) {
            self->count--;
            Py_RETURN_NONE;
        }
    } else {
        int value = value_of(self);
        if (value < 0)
            return NULL;
        if (value >= self->maxvalue)
            return fail(self, FMP_FULL);
    }
    int rc = fmp_semaphore_post(self->semaphore);
    if (rc < 0)
        return fail(self, rc);
    self->count--;
    Py_RETURN_NONE;
}

static PyObject *
semlock_exit(SemLockObject *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    return semlock_release(self, NULL);
}

/* ---- looked at ---------------------------------------------------------------------------------- */

static PyObject *
semlock_count(SemLockObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(self->count);
}

static PyObject *
semlock_is_mine(SemLockObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(mine(self));
}

static PyObject *
semlock_get_value(SemLockObject *self, PyObject *Py_UNUSED(ignored))
{
    int value = value_of(self);
    return value < 0 ? NULL : PyLong_FromLong(value);
}

static PyObject *
semlock_is_zero(SemLockObject *self, PyObject *Py_UNUSED(ignored))
{
    int value = value_of(self);
    return value < 0 ? NULL : PyBool_FromLong(value == 0);
}

static PyObject *
semlock_after_fork(SemLockObject *self, PyObject *Py_UNUSED(ignored))
{
    self->count = 0;
    Py_RETURN_NONE;
}

/* ---- the type ------------------------------------------------------------------------------------ */

static PyMethodDef methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))semlock_acquire, METH_FASTCALL | METH_KEYWORDS,
     "acquire($self, /, block=True, timeout=None)\n--\n\n"
     "Take it; return whether it was taken within `timeout` seconds."},
    {"release", (PyCFunction)semlock_release, METH_NOARGS,
     "release($self, /)\n--\n\nGive it back. ValueError beyond the bound, AssertionError if it is recursive\n"
     "and another thread's."},
    {"__enter__", (PyCFunction)semlock_enter, METH_NOARGS, "__enter__($self, /)\n--\n\n"},
    {"__exit__", (PyCFunction)(void (*)(void))semlock_exit, METH_FASTCALL,
     "__exit__($self, exc_type=None, exc_value=None, exc_tb=None, /)\n--\n\n"},
    {"_count", (PyCFunction)semlock_count, METH_NOARGS,
     "_count($self, /)\n--\n\nHow often this process acquired it, minus how often it released it."},
    {"_is_mine", (PyCFunction)semlock_is_mine, METH_NOARGS,
     "_is_mine($self, /)\n--\n\nWas this thread the last to acquire it?"},
    {"_get_value", (PyCFunction)semlock_get_value, METH_NOARGS,
     "_get_value($self, /)\n--\n\nHow often it can be acquired now."},
    {"_is_zero", (PyCFunction)semlock_is_zero, METH_NOARGS, "_is_zero($self, /)\n--\n\nCan it not be acquired?"},
    {"_after_fork", (PyCFunction)semlock_after_fork, METH_NOARGS,
     "_after_fork($self, /)\n--\n\nIn a forked child: forget what its parent acquired."},
    {"_rebuild", semlock_rebuild, METH_CLASS | METH_VARARGS,
     "_rebuild($type, handle, kind, maxvalue, name, /)\n--\n\n"
     "The semaphore of that name; without a name, that of the handle, which is this process's."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"handle", Py_T_PYSSIZET, offsetof(SemLockObject, semaphore), Py_READONLY, NULL},
    {"kind", Py_T_INT, offsetof(SemLockObject, kind), Py_READONLY, NULL},
    {"maxvalue", Py_T_INT, offsetof(SemLockObject, maxvalue), Py_READONLY, NULL},
    {"name", Py_T_OBJECT_EX, offsetof(SemLockObject, name), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyType_Spec semlock_spec = {
    .name = "fastmp._multiprocessing.SemLock",
    .basicsize = sizeof(SemLockObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "SemLock(kind, value, maxvalue, name, unlink)\n--\n\n"
                        "A semaphore of the system, made under a new name; `unlink` removes the name at once."},
            {Py_tp_new, semlock_new},
            {Py_tp_dealloc, semlock_dealloc},
            {Py_tp_methods, methods},
            {Py_tp_members, members},
            {0, NULL},
        },
};

int
semlock_ready(PyTypeObject *type)
{
    PyObject *max = PyLong_FromUnsignedLong(FMP_SEM_MAX);
    int rc = max == NULL ? -1 : PyObject_SetAttrString((PyObject *)type, "SEM_VALUE_MAX", max);
    Py_XDECREF(max);
    return rc;
}

PyObject *
semlock_unlink(PyObject *module, PyObject *args)
{
    const char *name;
    if (!PyArg_ParseTuple(args, "s:sem_unlink", &name))
        return NULL;
    int rc = fmp_semaphore_unlink(name);
    if (rc < 0)
        return raise_rc(PyModule_GetState(module), rc);
    Py_RETURN_NONE;
}
