#include "binding/errors.h"

#include <errno.h>

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
        PyErr_SetNone(state->BrokenBarrierError);
        return NULL;
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
