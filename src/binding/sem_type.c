/* sem_type.c: Semaphore and BoundedSemaphore, which differ in what a release may raise the value to. */
#include "binding/handle.h"
#include "core/sem.h"

#include <errno.h>

static fmp_sem *
sem_of(HandleObject *self)
{
    return self->body;
}

static int
init(HandleObject *self, PyObject *args, PyObject *kwargs, int bounded)
{
    static char *names[] = {"value", "ctx", NULL};
    long long value = 1;
    PyObject *ctx;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|L$O", names, &value, &ctx))
        return -1;
    if (value < 0) {
        errno = EINVAL; /* what sem_open says to it */
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    if (value > FMP_SEM_MAX) {
        PyErr_SetString(PyExc_OverflowError, "semaphore initial value must be from 0 to SEM_VALUE_MAX");
        return -1;
    }
    if (handle_create(self, FMP_PLAIN, sizeof(fmp_sem)) < 0)
        return -1;
    fmp_sem_init(sem_of(self), (uint32_t)value, bounded ? (uint32_t)value : FMP_SEM_MAX);
    return 0;
}

static int
semaphore_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return init((HandleObject *)self, args, kwargs, 0);
}

static int
bounded_semaphore_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return init((HandleObject *)self, args, kwargs, 1);
}

static int
sem_blocking(void *arg, fmp_waiter *w)
{
    HandleObject *self = arg;
    return fmp_sem_wait(self->arena, sem_of(self), w);
}

static PyObject *
acquire_until(HandleObject *self, fmp_time until)
{
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    int rc = fmp_sem_wait(self->arena, sem_of(self), &w);
    if (rc == FMP_TIMEOUT && until != FMP_NOW) {
        w = FMP_WAITER(until);
        if (wait_without_gil(sem_blocking, self, &w, &rc) < 0)
            return NULL;
    }
    return PyBool_FromLong(rc == 0);
}

static PyObject *
sem_acquire(HandleObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"acquire", {"block", "timeout"}, 0};
    PyObject *given[2];
    fmp_time until;
    if (handle_check(self) < 0 || args_parse(&spec, args, nargs, kwnames, given) < 0 ||
        args_block(given[0], given[1], &until) < 0)
        return NULL;
    return acquire_until(self, until);
}

static PyObject *
sem_enter(HandleObject *self, PyObject *Py_UNUSED(ignored))
{
    return handle_check(self) < 0 ? NULL : acquire_until(self, FMP_FOREVER);
}

static PyObject *
sem_release(HandleObject *self, PyObject *Py_UNUSED(ignored))
{
    if (handle_check(self) < 0)
        return NULL;
    int rc = fmp_sem_post(sem_of(self));
    if (rc != 0)
        return raise_rc(self->state, rc);
    Py_RETURN_NONE;
}

static PyObject *
sem_exit(HandleObject *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    return sem_release(self, NULL);
}

static PyObject *
sem_get_value(HandleObject *self, PyObject *Py_UNUSED(ignored))
{
    return handle_check(self) < 0 ? NULL : PyLong_FromUnsignedLong(fmp_load(&sem_of(self)->count));
}

static PyObject *
sem_locked(HandleObject *self, PyObject *Py_UNUSED(ignored))
{
    return handle_check(self) < 0 ? NULL : PyBool_FromLong(fmp_load(&sem_of(self)->count) == 0);
}

static PyObject *
sem_maxvalue(HandleObject *self, PyObject *Py_UNUSED(ignored))
{
    return handle_check(self) < 0 ? NULL : PyLong_FromUnsignedLong(sem_of(self)->max);
}

static PyObject *
semaphore_repr(PyObject *op)
{
    HandleObject *self = (HandleObject *)op;
    PyObject *name = handle_check(self) < 0 ? NULL : PyType_GetName(Py_TYPE(self));
    if (name == NULL)
        return NULL;
    unsigned value = fmp_load(&sem_of(self)->count), max = sem_of(self)->max;
    PyObject *result = PyObject_TypeCheck(op, self->state->BoundedSemaphore)
                           ? PyUnicode_FromFormat("<%U(value=%u, maxvalue=%u)>", name, value, max)
                           : PyUnicode_FromFormat("<%U(value=%u)>", name, value);
    Py_DECREF(name);
    return result;
}

HANDLE_ATTACH_PLAIN(sem_attach, FMP_PLAIN, sizeof(fmp_sem))

static PyMethodDef methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))sem_acquire, METH_FASTCALL | METH_KEYWORDS,
     "acquire($self, /, block=True, timeout=None)\n--\n\n"
     "Take a permit; return whether one was taken within `timeout` seconds."},
    {"release", (PyCFunction)sem_release, METH_NOARGS,
     "release($self, /)\n--\n\nGive a permit back. ValueError beyond the bound."},
    {"get_value", (PyCFunction)sem_get_value, METH_NOARGS, "get_value($self, /)\n--\n\nPermits to be had now."},
    {"locked", (PyCFunction)sem_locked, METH_NOARGS, "locked($self, /)\n--\n\nIs there no permit to be had?"},
    {"_maxvalue", (PyCFunction)sem_maxvalue, METH_NOARGS, "_maxvalue($self, /)\n--\n\nThe bound of its value."},
    {"__enter__", (PyCFunction)sem_enter, METH_NOARGS, "__enter__($self, /)\n--\n\n"},
    {"__exit__", (PyCFunction)(void (*)(void))sem_exit, METH_FASTCALL, "__exit__($self, /, *exc_info)\n--\n\n"},
    HANDLE_TRAVEL(handle_reduce, sem_attach),
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {HANDLE_MEMBERS, {NULL, 0, 0, 0, NULL}};

PyType_Spec semaphore_spec = {
    .name = "fastmp.synchronize.Semaphore",
    .basicsize = sizeof(HandleObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "Semaphore(value=1, *, ctx=None)\n--\n\nA number of permits that processes share."},
            {Py_tp_new, handle_new},
            {Py_tp_init, semaphore_init},
            {Py_tp_dealloc, handle_dealloc},
            {Py_tp_repr, semaphore_repr},
            {Py_tp_methods, methods},
            {Py_tp_members, members},
            {0, NULL},
        },
};

PyType_Spec bounded_semaphore_spec = {
    .name = "fastmp.synchronize.BoundedSemaphore",
    .basicsize = sizeof(HandleObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "BoundedSemaphore(value=1, *, ctx=None)\n--\n\n"
                        "A semaphore whose value never goes beyond the first one."},
            {Py_tp_init, bounded_semaphore_init},
            {0, NULL},
        },
};
