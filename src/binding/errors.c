#include "binding/errors.h"

#include <errno.h>

/* An exception of the standard library whose module is imported only when it is raised first: NULL with another
 * exception if that fails. */
static PyObject *
borrow(PyObject **exception, const char *module_name, const char *name)
{
    if (*exception == NULL) {
        PyObject *module = PyImport_ImportModule(module_name);
        if (module == NULL)
            return NULL;
        PyObject *found = PyObject_GetAttrString(module, name);
        Py_DECREF(module);
        if (found == NULL)
            return NULL;
        Py_XSETREF(*exception, found); /* another thread may have been quicker */
    }
    return *exception;
}

static PyObject *
raise_borrowed(PyObject *exception)
{
    if (exception != NULL)
        PyErr_SetNone(exception);
    return NULL;
}

static PyObject *
full(module_state *state)
{
    return borrow(&state->Full, "queue", "Full");
}

PyObject *
raise_empty(module_state *state)
{
    return raise_borrowed(borrow(&state->Empty, "queue", "Empty"));
}

PyObject *
raise_full(module_state *state)
{
    return raise_borrowed(full(state));
}

PyObject *
raise_full_after(module_state *state, uint64_t sent)
{
    PyObject *count = full(state) == NULL ? NULL : PyLong_FromUnsignedLongLong(sent);
    if (count != NULL)
        PyErr_SetObject(state->Full, count);
    Py_XDECREF(count);
    return NULL;
}

PyObject *
raise_rc(module_state *state, int rc)
{
    switch (rc) {
    case -ENOMEM:
        return PyErr_NoMemory();
    case FMP_FULL:
        PyErr_SetString(PyExc_ValueError, "semaphore or lock released too many times");
        return NULL;
    case FMP_NOT_OWNER:
        PyErr_SetString(PyExc_AssertionError, "attempt to release recursive lock not owned by thread");
        return NULL;
    case FMP_BROKEN:
        return raise_borrowed(borrow(&state->BrokenBarrierError, "threading", "BrokenBarrierError"));
    case FMP_EOF:
        PyErr_SetNone(PyExc_EOFError);
        return NULL;
    case FMP_CUT:
        PyErr_SetString(PyExc_OSError, "got end of file during message");
        return NULL;
    default:
        break;
    }
    if (rc < 0) {
        errno = -rc;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyErr_Format(PyExc_SystemError, "fastmp: unexpected outcome %d", rc);
}
