#include "binding/codec.h"

#include <string.h>

#define COPY_WITHOUT_GIL ((size_t)1 << 16) /* bytes */

int
codec_encode(module_state *state, PyObject *obj, Py_buffer *contents)
{
    if (state->dumps == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "fastmp.reduction was not imported");
        return -1;
    }
    PyObject *pickled = PyObject_CallOneArg(state->dumps, obj);
    if (pickled == NULL)
        return -1;
    int rc = PyObject_GetBuffer(pickled, contents, PyBUF_SIMPLE);
    Py_DECREF(pickled);
    return rc;
}

void
codec_copy(void *to, const void *from, size_t bytes)
{
    if (bytes == 0)
        return; /* there may be no address then */
    if (bytes < COPY_WITHOUT_GIL) {
        memcpy(to, from, bytes);
        return;
    }
    Py_BEGIN_ALLOW_THREADS
    memcpy(to, from, bytes);
    Py_END_ALLOW_THREADS
}

PyObject *
codec_decode(module_state *state, const void *data, Py_ssize_t bytes)
{
    if (state->loads == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "fastmp.reduction was not imported");
        return NULL;
    }
    PyObject *view = PyMemoryView_FromMemory((char *)data, bytes, PyBUF_READ);
    if (view == NULL)
        return NULL;
    PyObject *obj = PyObject_CallOneArg(state->loads, view);
    Py_DECREF(view);
    return obj;
}
