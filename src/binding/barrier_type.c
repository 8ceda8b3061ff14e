/* barrier_type.c: Barrier. The party that comes last runs the action, with the others still waiting. */
#include "binding/handle.h"
#include "core/barrier.h"

typedef struct {
    HandleObject handle;
    PyObject *action; /* a callable, or None */
    PyObject *timeout; /* of wait() when it is given none */
} BarrierObject;

static fmp_barrier *
barrier_of(BarrierObject *self)
{
    return self->handle.body;
}

static int
check(BarrierObject *self)
{
    return handle_check(&self->handle);
}

static int
barrier_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"parties", "action", "timeout", "ctx", NULL};
    BarrierObject *self = (BarrierObject *)op;
    PyObject *action = Py_None, *timeout = Py_None, *ctx;
    Py_ssize_t parties;
    fmp_time until;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n|OO$O:Barrier", names, &parties, &action, &timeout, &ctx) ||
        args_deadline(timeout, &until) < 0)
        return -1;
    if (parties < 1 || parties > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "parties must be >= 1");
        return -1;
    }
    if (handle_create(&self->handle, FMP_PLAIN, sizeof(fmp_barrier)) < 0)
        return -1;
    barrier_of(self)->parties = (uint32_t)parties;
    Py_XSETREF(self->action, Py_NewRef(action));
    Py_XSETREF(self->timeout, Py_NewRef(timeout));
    return 0;
}

struct visit {
    BarrierObject *self;
    uint32_t index;
    uint32_t generation;
};

static int
arrive_blocking(void *arg, fmp_waiter *w)
{
    struct visit *v = arg;
    return fmp_barrier_arrive(v->self->handle.arena, barrier_of(v->self), w, &v->index, &v->generation);
}

static int
wait_blocking(void *arg, fmp_waiter *w)
{
    struct visit *v = arg;
    return fmp_barrier_wait(v->self->handle.arena, barrier_of(v->self), v->generation, w);
}

static int
release(BarrierObject *self, uint32_t generation)
{
    PyObject *result = self->action == Py_None ? Py_NewRef(Py_None) : PyObject_CallNoArgs(self->action);
    if (result == NULL) {
        fmp_barrier_fail(self->handle.arena, barrier_of(self), generation);
        return -1;
    }
    Py_DECREF(result);
    fmp_barrier_release(self->handle.arena, barrier_of(self), generation);
    return 0;
}

static PyObject *
barrier_wait(BarrierObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"wait", {"timeout"}, 0};
    struct visit v = {.self = self};
    PyObject *timeout;
    fmp_time until;
    int rc;
    if (check(self) < 0 || args_parse(&spec, args, nargs, kwnames, &timeout) < 0)
        return NULL;
    if (timeout == NULL || timeout == Py_None)
        timeout = self->timeout;
    if (args_deadline(timeout, &until) < 0)
        return NULL;
    fmp_waiter w = FMP_WAITER(until);
    if (wait_without_gil(arrive_blocking, &v, &w, &rc) < 0)
        return NULL;
    if (rc == FMP_LAST)
        return release(self, v.generation) < 0 ? NULL : PyLong_FromUnsignedLong(v.index);
    if (rc == 0 && wait_without_gil(wait_blocking, &v, &w, &rc) < 0) {
        fmp_barrier_withdraw(self->handle.arena, barrier_of(self), v.generation);
        return NULL;
    }
    if (rc == 0)
        return PyLong_FromUnsignedLong(v.index);
    return raise_rc(self->handle.state, rc == FMP_TIMEOUT ? FMP_BROKEN : rc);
}

static PyObject *
barrier_reset(BarrierObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check(self) < 0)
        return NULL;
    fmp_barrier_reset(self->handle.arena, barrier_of(self));
    Py_RETURN_NONE;
}

static PyObject *
barrier_abort(BarrierObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check(self) < 0)
        return NULL;
    fmp_barrier_break(self->handle.arena, barrier_of(self));
    Py_RETURN_NONE;
}

static PyObject *
barrier_parties(BarrierObject *self, void *Py_UNUSED(closure))
{
    return check(self) < 0 ? NULL : PyLong_FromUnsignedLong(barrier_of(self)->parties);
}

static unsigned
waiting(BarrierObject *self)
{
    fmp_barrier *b = barrier_of(self);
    return fmp_load(&b->state) == FMP_BARRIER_FILLING ? fmp_load(&b->count) : 0;
}

static PyObject *
barrier_n_waiting(BarrierObject *self, void *Py_UNUSED(closure))
{
    return check(self) < 0 ? NULL : PyLong_FromUnsignedLong(waiting(self));
}

static int
is_broken(BarrierObject *self)
{
    return fmp_load(&barrier_of(self)->state) == FMP_BARRIER_BROKEN;
}

static PyObject *
barrier_broken(BarrierObject *self, void *Py_UNUSED(closure))
{
    return check(self) < 0 ? NULL : PyBool_FromLong(is_broken(self));
}

static PyObject *
barrier_repr(PyObject *op)
{
    BarrierObject *self = (BarrierObject *)op;
    PyObject *name = check(self) < 0 ? NULL : PyType_GetQualName(Py_TYPE(op));
    PyObject *module = name == NULL ? NULL : PyObject_GetAttrString((PyObject *)Py_TYPE(op), "__module__");
    PyObject *result = NULL;
    if (module != NULL && is_broken(self))
        result = PyUnicode_FromFormat("<%S.%U at %p: broken>", module, name, op);
    else if (module != NULL)
        result = PyUnicode_FromFormat("<%S.%U at %p: waiters=%u/%u>", module, name, op, waiting(self),
                                      barrier_of(self)->parties);
    Py_XDECREF(name);
    Py_XDECREF(module);
    return result;
}

static int
barrier_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((BarrierObject *)op)->action);
    Py_VISIT(((BarrierObject *)op)->timeout);
    return 0;
}

static int
barrier_clear(PyObject *op)
{
    Py_CLEAR(((BarrierObject *)op)->action);
    Py_CLEAR(((BarrierObject *)op)->timeout);
    return 0;
}

static void
barrier_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    barrier_clear(op);
    handle_dealloc(op);
}

static PyObject *
barrier_reduce(BarrierObject *self, PyObject *Py_UNUSED(ignored))
{
    return check(self) < 0 ? NULL : handle_reduce_with(&self->handle, PyTuple_Pack(2, self->action, self->timeout));
}

static PyObject *
barrier_attach(PyTypeObject *type, PyObject *args)
{
    PyObject *ticket, *extra;
    BarrierObject *self = (BarrierObject *)handle_attach(type, args, FMP_PLAIN, sizeof(fmp_barrier), &extra);
    if (self == NULL)
        return NULL;
    if (!PyArg_ParseTuple(args, "O(OO):_attach", &ticket, &self->action, &self->timeout)) {
        self->action = self->timeout = NULL;
        Py_DECREF(self);
        return NULL;
    }
    Py_INCREF(self->action);
    Py_INCREF(self->timeout);
    return (PyObject *)self;
}

static PyMethodDef methods[] = {
    {"wait", (PyCFunction)(void (*)(void))barrier_wait, METH_FASTCALL | METH_KEYWORDS,
     "wait($self, /, timeout=None)\n--\n\n"
     "Wait for all parties; return how many came before this one. BrokenBarrierError if the barrier is\n"
     "broken, or not complete within `timeout` seconds: then it is broken for all."},
    {"reset", (PyCFunction)barrier_reset, METH_NOARGS,
     "reset($self, /)\n--\n\nMake it empty and whole; those who wait get BrokenBarrierError."},
    {"abort", (PyCFunction)barrier_abort, METH_NOARGS, "abort($self, /)\n--\n\nBreak it."},
    HANDLE_TRAVEL(barrier_reduce, barrier_attach),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"parties", (getter)barrier_parties, NULL, "How many must come.", NULL},
    {"n_waiting", (getter)barrier_n_waiting, NULL, "How many wait now.", NULL},
    {"broken", (getter)barrier_broken, NULL, "Is it broken?", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {HANDLE_MEMBERS, {NULL, 0, 0, 0, NULL}};

PyType_Spec barrier_spec = {
    .name = "fastmp.synchronize.Barrier",
    .basicsize = sizeof(BarrierObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "Barrier(parties, action=None, timeout=None, *, ctx=None)\n--\n\n"
                        "Where `parties` processes wait for each other."},
            {Py_tp_new, handle_new},
            {Py_tp_init, barrier_init},
            {Py_tp_dealloc, barrier_dealloc},
            {Py_tp_traverse, barrier_traverse},
            {Py_tp_clear, barrier_clear},
            {Py_tp_repr, barrier_repr},
            {Py_tp_methods, methods},
            {Py_tp_getset, getset},
            {Py_tp_members, members},
            {0, NULL},
        },
};
