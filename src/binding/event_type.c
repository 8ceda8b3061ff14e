/* event_type.c: Event. is_set() is one load. */
#include "binding/handle.h"
#include "core/event.h"

static fmp_event *
event_of(HandleObject *self)
{
    return self->body;
}

static int
event_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"ctx", NULL};
    PyObject *ctx;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$O:Event", names, &ctx))
        return -1;
    return handle_create((HandleObject *)self, FMP_PLAIN, sizeof(fmp_event));
}

static PyObject *
event_is_set(HandleObject *self, PyObject *Py_UNUSED(ignored))
{
    return handle_check(self) < 0 ? NULL : PyBool_FromLong(fmp_event_is_set(event_of(self)));
}

static PyObject *
event_set(HandleObject *self, PyObject *Py_UNUSED(ignored))
{
    if (handle_check(self) < 0)
        return NULL;
    fmp_event_set(event_of(self));
    Py_RETURN_NONE;
}

static PyObject *
event_clear(HandleObject *self, PyObject *Py_UNUSED(ignored))
{
    if (handle_check(self) < 0)
        return NULL;
    fmp_event_clear(event_of(self));
    Py_RETURN_NONE;
}

static int
event_blocking(void *arg, fmp_waiter *w)
{
    HandleObject *self = arg;
    return fmp_event_wait(self->arena, event_of(self), w);
}

static PyObject *
event_wait(HandleObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"wait", {"timeout"}, 0};
    PyObject *timeout;
    fmp_time until;
    if (handle_check(self) < 0 || args_parse(&spec, args, nargs, kwnames, &timeout) < 0 ||
        args_deadline(timeout, &until) < 0)
        return NULL;
    int rc = fmp_event_is_set(event_of(self)) ? 0 : FMP_TIMEOUT;
    fmp_waiter w = FMP_WAITER(until);
    if (rc != 0 && until != FMP_NOW && wait_without_gil(event_blocking, self, &w, &rc) < 0)
        return NULL;
    return PyBool_FromLong(rc == 0);
}

static PyObject *
event_repr(PyObject *op)
{
    HandleObject *self = (HandleObject *)op;
    PyObject *name = handle_check(self) < 0 ? NULL : PyType_GetQualName(Py_TYPE(op));
    if (name == NULL)
        return NULL;
    PyObject *result = PyUnicode_FromFormat("<%U at %p %s>", name, op,
                                            fmp_event_is_set(event_of(self)) ? "set" : "unset");
    Py_DECREF(name);
    return result;
}

HANDLE_ATTACH_PLAIN(event_attach, FMP_PLAIN, sizeof(fmp_event))

static PyMethodDef methods[] = {
    {"is_set", (PyCFunction)event_is_set, METH_NOARGS, "is_set($self, /)\n--\n\nIs the flag set?"},
    {"set", (PyCFunction)event_set, METH_NOARGS, "set($self, /)\n--\n\nSet the flag; wake all who wait."},
    {"clear", (PyCFunction)event_clear, METH_NOARGS, "clear($self, /)\n--\n\nTake the flag back."},
    {"wait", (PyCFunction)(void (*)(void))event_wait, METH_FASTCALL | METH_KEYWORDS,
     "wait($self, /, timeout=None)\n--\n\n"
     "Wait until the flag is set; return whether it was within `timeout` seconds."},
    HANDLE_TRAVEL(handle_reduce, event_attach),
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {HANDLE_MEMBERS, {NULL, 0, 0, 0, NULL}};

PyType_Spec event_spec = {
    .name = "fastmp.synchronize.Event",
    .basicsize = sizeof(HandleObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "Event(*, ctx=None)\n--\n\nA flag that processes wait for."},
            {Py_tp_new, handle_new},
            {Py_tp_init, event_init},
            {Py_tp_dealloc, handle_dealloc},
            {Py_tp_repr, event_repr},
            {Py_tp_methods, methods},
            {Py_tp_members, members},
            {0, NULL},
        },
};
