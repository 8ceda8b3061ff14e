/* lock_type.c: Lock and RLock. Both are a core mutex; Lock is a plain one (anybody may release it) unless it is
 * asked to be robust, RLock counts its holder's acquisitions in `depth`. */
#include "binding/lock_type.h"

int
lock_blocking(void *lock, fmp_waiter *w)
{
    HandleObject *self = lock;
    fmp_mutex *mutex = lock_mutex(self);
    if (lock_is_recursive(self) && fmp_mutex_mine(self->arena, mutex))
        return 0;
    return fmp_mutex_lock(self->arena, mutex, w);
}

/* The process that held the lock was killed, and this one has it now: say so, if the lock is one that does. If that
 * raises it is let go, and whoever gets it next still sees that it was recovered. */
static int
taken_over(HandleObject *self)
{
    fmp_mutex *mutex = lock_mutex(self);
    if (!(fmp_peek(&mutex->flags) & FMP_MUTEX_RECOVERED))
        return 1;
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                         "a process was killed that held %R: what it protects may be half changed", self) == 0)
        return 1;
    fmp_mutex_unlock(mutex);
    return -1;
}

int
lock_acquire_slowly(HandleObject *self, fmp_time until)
{
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    int rc = fmp_mutex_lock(self->arena, lock_mutex(self), &w);
    if (rc == FMP_TIMEOUT && until != FMP_NOW) {
        w = FMP_WAITER(until);
        if (wait_without_gil(lock_blocking, self, &w, &rc) < 0)
            return -1;
    }
    return rc == FMP_OWNER_DEAD ? taken_over(self) : rc == 0;
}

static const args_spec acquire_spec = {"acquire", {"block", "timeout"}, 0};

static int
acquire_deadline(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, fmp_time *until)
{
    PyObject *given[2];
    *until = FMP_FOREVER;
    if (nargs == 0 && kwnames == NULL)
        return 0;
    if (args_parse(&acquire_spec, args, nargs, kwnames, given) < 0)
        return -1;
    return args_block(given[0], given[1], until);
}

static PyObject *
bool_or_null(int outcome)
{
    return outcome < 0 ? NULL : PyBool_FromLong(outcome);
}

/* ---- Lock ------------------------------------------------------------------------------------- */

static int
make(HandleObject *self, uint32_t flags)
{
    if (handle_create(self, FMP_PLAIN, sizeof(fmp_mutex)) < 0)
        return -1;
    fmp_store(&lock_mutex(self)->flags, flags);
    return 0;
}

static int
lock_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"robust", "ctx", NULL};
    int robust = 0;
    PyObject *ctx;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$pO:Lock", names, &robust, &ctx))
        return -1;
    return make((HandleObject *)self, robust ? FMP_MUTEX_ROBUST : FMP_MUTEX_PLAIN);
}

static PyObject *
lock_acquire(HandleObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    fmp_time until;
    if (handle_check(self) < 0 || acquire_deadline(args, nargs, kwnames, &until) < 0)
        return NULL;
    return bool_or_null(lock_acquire_until(self, until));
}

static PyObject *
lock_enter(HandleObject *self, PyObject *Py_UNUSED(ignored))
{
    if (handle_check(self) < 0)
        return NULL;
    return bool_or_null(lock_acquire_until(self, FMP_FOREVER));
}

static PyObject *
lock_release(HandleObject *self, PyObject *Py_UNUSED(ignored))
{
    if (handle_check(self) < 0)
        return NULL;
    int rc = lock_give_back(self);
    if (rc == FMP_NOT_OWNER) {
        PyErr_SetString(PyExc_AssertionError, "attempt to release robust lock not owned by thread");
        return NULL;
    }
    if (rc != 0)
        return raise_rc(self->state, rc);
    Py_RETURN_NONE;
}

static PyObject *
lock_exit(HandleObject *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    return lock_release(self, NULL);
}

static PyObject *
lock_locked(HandleObject *self, PyObject *Py_UNUSED(ignored))
{
    if (handle_check(self) < 0)
        return NULL;
    return PyBool_FromLong(fmp_mutex_held(lock_mutex(self)));
}

static PyObject *
lock_recovered(HandleObject *self, void *Py_UNUSED(closure))
{
    if (handle_check(self) < 0)
        return NULL;
    return PyBool_FromLong((fmp_peek(&lock_mutex(self)->flags) & FMP_MUTEX_RECOVERED) != 0);
}

static PyObject *
lock_is_mine(HandleObject *self, PyObject *Py_UNUSED(ignored))
{
    if (handle_check(self) < 0)
        return NULL;
    return PyBool_FromLong(fmp_mutex_mine(self->arena, lock_mutex(self)));
}

/* What is named is released; NULL, with an exception, has no name. */
static PyObject *
name_of(PyObject *named)
{
    PyObject *name = named == NULL ? NULL : PyObject_GetAttrString(named, "name");
    Py_XDECREF(named);
    return name;
}

/* "MainProcess", with "|" and the thread's name behind it if that isn't the main one's. */
static PyObject *
own_name(module_state *state)
{
    if (state->current_process == NULL)
        return PyUnicode_FromString("MainProcess");
    PyObject *name = name_of(PyObject_CallNoArgs(state->current_process));
    PyObject *threading = name == NULL ? NULL : PyImport_ImportModule("threading");
    PyObject *thread_name =
        threading == NULL ? NULL : name_of(PyObject_CallMethod(threading, "current_thread", NULL));
    PyObject *result = NULL;
    if (thread_name != NULL) {
        if (PyUnicode_Check(thread_name) && PyUnicode_CompareWithASCIIString(thread_name, "MainThread") == 0)
            result = Py_NewRef(name);
        else
            result = PyUnicode_FromFormat("%S|%S", name, thread_name);
    }
    Py_XDECREF(name);
    Py_XDECREF(threading);
    Py_XDECREF(thread_name);
    return result;
}

PyObject *
lock_holder_name(HandleObject *self)
{
    uint32_t owner = fmp_load(&lock_mutex(self)->owner);
    if (owner == 0)
        return PyUnicode_FromString("None");
    if (fmp_mutex_mine(self->arena, lock_mutex(self)))
        return own_name(self->state);
    return PyUnicode_FromString(owner == self->arena->self ? "SomeOtherThread" : "SomeOtherProcess");
}

static PyObject *
lock_repr(PyObject *self)
{
    PyObject *holder = handle_check((HandleObject *)self) < 0 ? NULL : lock_holder_name((HandleObject *)self);
    PyObject *type_name = holder == NULL ? NULL : PyType_GetName(Py_TYPE(self));
    PyObject *result = NULL;
    if (type_name != NULL)
        result = PyUnicode_FromFormat("<%U(owner=%U)>", type_name, holder);
    Py_XDECREF(holder);
    Py_XDECREF(type_name);
    return result;
}

static PyObject *
lock_count(HandleObject *self, PyObject *Py_UNUSED(ignored))
{
    if (handle_check(self) < 0)
        return NULL;
    return PyLong_FromLong(fmp_peek(&lock_mutex(self)->owner) == self->arena->self);
}

#define ACQUIRE_DOC                                                                                      \
    "acquire($self, /, block=True, timeout=None)\n--\n\n"                                                \
    "Take the lock; return whether it was taken within `timeout` seconds."

HANDLE_ATTACH_PLAIN(lock_attach, FMP_PLAIN, sizeof(fmp_mutex))

static PyMethodDef lock_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))lock_acquire, METH_FASTCALL | METH_KEYWORDS, ACQUIRE_DOC},
    {"release", (PyCFunction)lock_release, METH_NOARGS,
     "release($self, /)\n--\n\n"
     "Let the lock go, whoever took it. ValueError if nobody did; AssertionError if it is a robust lock that\n"
     "another process or thread took."},
    {"locked", (PyCFunction)lock_locked, METH_NOARGS, "locked($self, /)\n--\n\nIs it taken, by anybody?"},
    {"_is_mine", (PyCFunction)lock_is_mine, METH_NOARGS, "_is_mine($self, /)\n--\n\nDid this thread take it?"},
    {"_count", (PyCFunction)lock_count, METH_NOARGS,
     "_count($self, /)\n--\n\nHow often this process has acquired it."},
    {"__enter__", (PyCFunction)lock_enter, METH_NOARGS, "__enter__($self, /)\n--\n\n"},
    {"__exit__", (PyCFunction)(void (*)(void))lock_exit, METH_FASTCALL, "__exit__($self, /, *exc_info)\n--\n\n"},
    HANDLE_TRAVEL(handle_reduce, lock_attach),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef lock_getset[] = {
    {"recovered", (getter)lock_recovered, NULL,
     "Was this robust lock taken over from a process that was killed? Until it is released.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {HANDLE_MEMBERS, {NULL, 0, 0, 0, NULL}};

PyType_Spec lock_spec = {
    .name = "fastmp.synchronize.Lock",
    .basicsize = sizeof(HandleObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "Lock(*, robust=False, ctx=None)\n--\n\n"
                        "A lock that processes share. Anybody may release it. A robust one is released by its holder\n"
                        "only; if that is killed the next who wants it gets it, with a RuntimeWarning."},
            {Py_tp_new, handle_new},
            {Py_tp_init, lock_init},
            {Py_tp_dealloc, handle_dealloc},
            {Py_tp_repr, lock_repr},
            {Py_tp_methods, lock_methods},
            {Py_tp_getset, lock_getset},
            {Py_tp_members, members},
            {0, NULL},
        },
};

/* ---- RLock --------------------------------------------------------------------------------------- */

static int
rlock_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"ctx", NULL};
    PyObject *ctx;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$O:RLock", names, &ctx))
        return -1;
    return make((HandleObject *)self, 0);
}

PyObject *
rlock_over(HandleObject *owner)
{
    HandleObject *lock = (HandleObject *)handle_new(owner->state->RLock, NULL, NULL);
    if (lock != NULL)
        handle_share(lock, owner);
    return (PyObject *)lock;
}

static PyObject *
rlock_acquire(HandleObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    fmp_time until;
    if (handle_check(self) < 0 || acquire_deadline(args, nargs, kwnames, &until) < 0)
        return NULL;
    return bool_or_null(rlock_acquire_until(self, until));
}

static PyObject *
rlock_enter(HandleObject *self, PyObject *Py_UNUSED(ignored))
{
    if (handle_check(self) < 0)
        return NULL;
    return bool_or_null(rlock_acquire_until(self, FMP_FOREVER));
}

static PyObject *
rlock_release(HandleObject *self, PyObject *Py_UNUSED(ignored))
{
    if (handle_check(self) < 0)
        return NULL;
    int rc = rlock_give_back(self);
    if (rc != 0)
        return raise_rc(self->state, rc);
    Py_RETURN_NONE;
}

static PyObject *
rlock_exit(HandleObject *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    return rlock_release(self, NULL);
}

/* How often the holder acquired it, where the standard library's repr tells: else "nonzero". */
static PyObject *
rlock_repr(PyObject *op)
{
    HandleObject *self = (HandleObject *)op;
    PyObject *holder = handle_check(self) < 0 ? NULL : lock_holder_name(self);
    PyObject *type_name = holder == NULL ? NULL : PyType_GetName(Py_TYPE(self));
    PyObject *result = NULL;
    if (type_name != NULL) {
        if (!fmp_mutex_held(lock_mutex(self)))
            result = PyUnicode_FromFormat("<%U(%U, 0)>", type_name, holder);
        else if (fmp_mutex_mine(self->arena, lock_mutex(self)))
            result = PyUnicode_FromFormat("<%U(%U, %u)>", type_name, holder, lock_mutex(self)->depth);
        else
            result = PyUnicode_FromFormat("<%U(%U, nonzero)>", type_name, holder);
    }
    Py_XDECREF(holder);
    Py_XDECREF(type_name);
    return result;
}

static PyObject *
rlock_count(HandleObject *self, PyObject *Py_UNUSED(ignored))
{
    if (handle_check(self) < 0)
        return NULL;
    fmp_mutex *mutex = lock_mutex(self);
    return PyLong_FromUnsignedLong(fmp_peek(&mutex->owner) == self->arena->self ? mutex->depth : 0);
}

static PyMethodDef rlock_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))rlock_acquire, METH_FASTCALL | METH_KEYWORDS, ACQUIRE_DOC},
    {"release", (PyCFunction)rlock_release, METH_NOARGS,
     "release($self, /)\n--\n\nUndo one acquire. AssertionError unless this thread holds the lock."},
    {"locked", (PyCFunction)lock_locked, METH_NOARGS, "locked($self, /)\n--\n\nIs it taken, by anybody?"},
    {"_is_mine", (PyCFunction)lock_is_mine, METH_NOARGS, "_is_mine($self, /)\n--\n\nDid this thread take it?"},
    {"_count", (PyCFunction)rlock_count, METH_NOARGS,
     "_count($self, /)\n--\n\nHow often this process has acquired it."},
    {"__enter__", (PyCFunction)rlock_enter, METH_NOARGS, "__enter__($self, /)\n--\n\n"},
    {"__exit__", (PyCFunction)(void (*)(void))rlock_exit, METH_FASTCALL, "__exit__($self, /, *exc_info)\n--\n\n"},
    HANDLE_TRAVEL(handle_reduce, lock_attach),
    {NULL, NULL, 0, NULL},
};

PyType_Spec rlock_spec = {
    .name = "fastmp.synchronize.RLock",
    .basicsize = sizeof(HandleObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "RLock(*, ctx=None)\n--\n\nA lock that its holder may take again. If its holder is killed\n"
                        "the next who wants it gets it."},
            {Py_tp_new, handle_new},
            {Py_tp_init, rlock_init},
            {Py_tp_dealloc, handle_dealloc},
            {Py_tp_repr, rlock_repr},
            {Py_tp_methods, rlock_methods},
            {Py_tp_members, members},
            {0, NULL},
        },
};
