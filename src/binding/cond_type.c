/* cond_type.c: Condition. It waits with the lock that it was given (or an RLock of its own) let go, and
 * has it again, to the same depth, when wait() returns or raises; but a signal handler that raises while it waits
 * for that, after another one has ended the wait, is obeyed at once: no lock may keep Ctrl-C out for ever. Whoever
 * waited has no lock then; what he does to give it back does nothing, lest it be another's. */
#include "binding/lock_type.h"
#include "core/cond.h"

typedef struct {
    HandleObject handle;
    HandleObject *lock; /* a Lock or RLock */
    uint32_t lost;      /* how often it was acquired by those whose wait() could not take it again */
} ConditionObject;

static fmp_cond *
cond_of(ConditionObject *self)
{
    return self->handle.body;
}

static int
check(ConditionObject *self)
{
    return handle_check(&self->handle);
}

static int
check_lock_held(ConditionObject *self, const char *message)
{
    if (check(self) < 0)
        return -1;
    if (fmp_mutex_mine(self->lock->arena, lock_mutex(self->lock)))
        return 0;
    PyErr_SetString(PyExc_AssertionError, message);
    return -1;
}

static int
check_lock(module_state *state, PyObject *lock)
{
    if (PyObject_TypeCheck(lock, state->Lock) || PyObject_TypeCheck(lock, state->RLock))
        return handle_check((HandleObject *)lock);
    PyErr_Format(PyExc_TypeError, "Condition needs a fastmp Lock or RLock, not %.200s", Py_TYPE(lock)->tp_name);
    return -1;
}

static int
condition_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"lock", "ctx", NULL};
    ConditionObject *self = (ConditionObject *)op;
    module_state *state = self->handle.state;
    PyObject *lock = Py_None, *ctx;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$O:Condition", names, &lock, &ctx))
        return -1;
    if (lock == Py_None || PyObject_Not(lock) == 1)
        lock = PyObject_CallNoArgs((PyObject *)state->RLock);
    else
        Py_INCREF(lock);
    if (lock == NULL)
        return -1;
    if (check_lock(state, lock) < 0 ||
        handle_create(&self->handle, FMP_CONDITION, sizeof(fmp_cond)) < 0) {
        Py_DECREF(lock);
        return -1;
    }
    HandleObject *old = self->lock;
    self->lock = (HandleObject *)lock;
    Py_XDECREF(old);
    return 0;
}

/* ---- waiting ------------------------------------------------------------------------------------- */

/* A wait: asleep on the node, then for the lock, without the GIL in between. */
struct sleep {
    ConditionObject *self;
    fmp_ref node;
    int awake, notified; /* the node is gone; was it notified? */
    fmp_waiter again;    /* for the lock */
};

static int
cond_blocking(void *arg, fmp_waiter *w)
{
    struct sleep *s = arg;
    if (!s->awake) {
        int rc = fmp_cond_sleep(s->self->handle.arena, cond_of(s->self), s->node, w);
        if (rc == FMP_INTR)
            return rc;
        s->awake = 1;
        s->notified = rc == 0;
    }
    return lock_blocking(s->self->lock, &s->again);
}

/* Take the lock again after a signal handler raised, whose exception stays: 0, or -1 if another one raised. */
static int
reacquire(HandleObject *lock)
{
    PyObject *exception = PyErr_GetRaisedException();
    if (lock_acquire_until(lock, FMP_FOREVER) < 0) {
        Py_XDECREF(exception);
        return -1;
    }
    PyErr_SetRaisedException(exception);
    return 0;
}

/* A signal handler raised. A notification that finds this waiter is passed on by him. */
static int
give_up(struct sleep *s, uint32_t depth)
{
    fmp_arena *a = s->self->handle.arena;
    fmp_waiter now = FMP_WAITER(FMP_NOW);
    if (!s->awake)
        s->notified = fmp_cond_sleep(a, cond_of(s->self), s->node, &now) == 0;
    if (reacquire(s->self->lock) == 0)
        lock_mutex(s->self->lock)->depth += depth;
    else
        s->self->lost += depth == 0 ? 1 : depth;
    if (s->notified)
        fmp_cond_notify(a, cond_of(s->self), 1);
    return -1;
}

/* 1 notified, 0 the deadline passed, -1 an exception. The lock is held. */
static int
wait_until(ConditionObject *self, fmp_time until)
{
    struct sleep s = {.self = self, .again = FMP_WAITER(FMP_FOREVER)};
    fmp_waiter w = FMP_WAITER(until);
    fmp_mutex *mutex = lock_mutex(self->lock);
    int rc = fmp_cond_enter(self->handle.arena, cond_of(self), &s.node);
    if (rc < 0) {
        raise_rc(self->handle.state, rc);
        return -1;
    }
    uint32_t depth = mutex->depth;
    mutex->depth = 0;
    fmp_mutex_unlock(mutex);
    if (wait_without_gil(cond_blocking, &s, &w, &rc) < 0)
        return give_up(&s, depth);
    mutex->depth += depth; /* a signal handler may have taken it, too */
    return s.notified;
}

static PyObject *
cond_wait(ConditionObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"wait", {"timeout"}, 0};
    PyObject *timeout;
    fmp_time until;
    if (check_lock_held(self, "must acquire() condition before using wait()") < 0 ||
        args_parse(&spec, args, nargs, kwnames, &timeout) < 0 || args_deadline(timeout, &until) < 0)
        return NULL;
    int outcome = wait_until(self, until);
    return outcome < 0 ? NULL : PyBool_FromLong(outcome);
}

static PyObject *
cond_wait_for(ConditionObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"wait_for", {"predicate", "timeout"}, 1};
    PyObject *given[2];
    fmp_time until;
    if (check(self) < 0 || args_parse(&spec, args, nargs, kwnames, given) < 0 ||
        args_deadline(given[1], &until) < 0)
        return NULL;
    for (;;) {
        PyObject *result = PyObject_CallNoArgs(given[0]);
        int truth = result == NULL ? -1 : PyObject_IsTrue(result);
        if (truth > 0 || (truth == 0 && until != FMP_FOREVER && fmp_clock() >= until))
            return result;
        Py_XDECREF(result);
        if (truth < 0 || check_lock_held(self, "must acquire() condition before using wait()") < 0 ||
            wait_until(self, until) < 0)
            return NULL;
    }
}

/* ---- notifying --------------------------------------------------------------------------------------- */

static PyObject *
notify(ConditionObject *self, uint32_t count)
{
    if (check_lock_held(self, "lock is not owned") < 0)
        return NULL;
    fmp_cond_notify(self->handle.arena, cond_of(self), count);
    Py_RETURN_NONE;
}

static PyObject *
cond_notify(ConditionObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"notify", {"n"}, 0};
    PyObject *given;
    if (args_parse(&spec, args, nargs, kwnames, &given) < 0)
        return NULL;
    long long n = given == NULL ? 1 : PyLong_AsLongLong(given);
    if (n == -1 && PyErr_Occurred())
        return NULL;
    return notify(self, n < 0 ? 0 : n > UINT32_MAX ? UINT32_MAX : (uint32_t)n);
}

static PyObject *
cond_notify_all(ConditionObject *self, PyObject *Py_UNUSED(ignored))
{
    return notify(self, UINT32_MAX);
}

/* ---- the lock, as the condition's own ------------------------------------------------------------------ */

static PyObject *
cond_lock_attribute(ConditionObject *self, void *name)
{
    return check(self) < 0 ? NULL : PyObject_GetAttrString((PyObject *)self->lock, name);
}

static PyObject *
cond_enter(ConditionObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check(self) < 0)
        return NULL;
    if (!lock_is_exact(self->lock))
        return PyObject_CallMethod((PyObject *)self->lock, "__enter__", NULL);
    int outcome = lock_is_recursive(self->lock) ? rlock_acquire_until(self->lock, FMP_FOREVER)
                                                : lock_acquire_until(self->lock, FMP_FOREVER);
    return outcome < 0 ? NULL : PyBool_FromLong(outcome);
}

/* Is there nothing to give back? */
static int
is_lost(ConditionObject *self)
{
    if (self->lost == 0 || fmp_mutex_mine(self->lock->arena, lock_mutex(self->lock)))
        return 0;
    self->lost--;
    return 1;
}

static PyObject *
cond_release(ConditionObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check(self) < 0)
        return NULL;
    if (is_lost(self))
        Py_RETURN_NONE;
    return PyObject_CallMethod((PyObject *)self->lock, "release", NULL);
}

static PyObject *
cond_exit(ConditionObject *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    if (check(self) < 0)
        return NULL;
    if (is_lost(self))
        Py_RETURN_NONE;
    if (!lock_is_exact(self->lock))
        return cond_release(self, NULL);
    int rc = lock_is_recursive(self->lock) ? rlock_give_back(self->lock) : lock_give_back(self->lock);
    if (rc != 0)
        return raise_rc(self->handle.state, rc);
    Py_RETURN_NONE;
}

static PyObject *
condition_repr(PyObject *op)
{
    ConditionObject *self = (ConditionObject *)op;
    PyObject *name = check(self) < 0 ? NULL : PyType_GetName(Py_TYPE(op));
    if (name == NULL)
        return NULL;
    PyObject *result = PyUnicode_FromFormat("<%U(%R, %u)>", name, self->lock,
                                            (unsigned)fmp_load(&cond_of(self)->waiters));
    Py_DECREF(name);
    return result;
}

/* ---- the type --------------------------------------------------------------------------------------------- */

static int
condition_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((ConditionObject *)op)->lock);
    return 0;
}

static int
condition_clear(PyObject *op)
{
    Py_CLEAR(((ConditionObject *)op)->lock);
    return 0;
}

static void
condition_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    condition_clear(op);
    handle_dealloc(op);
}

static PyObject *
condition_reduce(ConditionObject *self, PyObject *Py_UNUSED(ignored))
{
    return check(self) < 0 ? NULL : handle_reduce_with(&self->handle, Py_NewRef(self->lock));
}

static PyObject *
condition_attach(PyTypeObject *type, PyObject *args)
{
    PyObject *lock;
    ConditionObject *self = (ConditionObject *)handle_attach(type, args, FMP_CONDITION, sizeof(fmp_cond), &lock);
    if (self == NULL)
        return NULL;
    if (check_lock(self->handle.state, lock) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    self->lock = (HandleObject *)Py_NewRef(lock);
    return (PyObject *)self;
}

static PyMethodDef methods[] = {
    {"wait", (PyCFunction)(void (*)(void))cond_wait, METH_FASTCALL | METH_KEYWORDS,
     "wait($self, /, timeout=None)\n--\n\n"
     "Let the lock go, wait to be notified, take it again; return whether a notification came within\n"
     "`timeout` seconds."},
    {"wait_for", (PyCFunction)(void (*)(void))cond_wait_for, METH_FASTCALL | METH_KEYWORDS,
     "wait_for($self, /, predicate, timeout=None)\n--\n\n"
     "Wait until predicate() is true, or `timeout` seconds; return what it returned last."},
    {"notify", (PyCFunction)(void (*)(void))cond_notify, METH_FASTCALL | METH_KEYWORDS,
     "notify($self, /, n=1)\n--\n\nWake up to n of those who wait, first come first served."},
    {"notify_all", (PyCFunction)cond_notify_all, METH_NOARGS, "notify_all($self, /)\n--\n\nWake all who wait."},
    {"release", (PyCFunction)cond_release, METH_NOARGS, "release($self, /)\n--\n\nThe lock's release."},
    {"__enter__", (PyCFunction)cond_enter, METH_NOARGS, "__enter__($self, /)\n--\n\n"},
    {"__exit__", (PyCFunction)(void (*)(void))cond_exit, METH_FASTCALL, "__exit__($self, /, *exc_info)\n--\n\n"},
    HANDLE_TRAVEL(condition_reduce, condition_attach),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"acquire", (getter)cond_lock_attribute, NULL, "The lock's acquire.", "acquire"},
    {"locked", (getter)cond_lock_attribute, NULL, "The lock's locked.", "locked"},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {
    HANDLE_MEMBERS,
    {"_lock", Py_T_OBJECT_EX, offsetof(ConditionObject, lock), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyType_Spec condition_spec = {
    .name = "fastmp.synchronize.Condition",
    .basicsize = sizeof(ConditionObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "Condition(lock=None, *, ctx=None)\n--\n\nA condition variable over a Lock or RLock."},
            {Py_tp_new, handle_new},
            {Py_tp_init, condition_init},
            {Py_tp_dealloc, condition_dealloc},
            {Py_tp_traverse, condition_traverse},
            {Py_tp_clear, condition_clear},
            {Py_tp_repr, condition_repr},
            {Py_tp_methods, methods},
            {Py_tp_getset, getset},
            {Py_tp_members, members},
            {0, NULL},
        },
};
