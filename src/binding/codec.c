#include "binding/codec.h"

#include <string.h>

#define COPY_WITHOUT_GIL ((size_t)1 << 16) /* bytes */

int
codec_encode(module_state *state, PyObject *dumps, PyObject *obj, Py_buffer *contents)
{
    if (state->dumps == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "fastmp.reduction was not imported");
        return -1;
    }
    PyObject *pickled = PyObject_CallOneArg(dumps == NULL ? state->dumps : dumps, obj);
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

/* Fill a parcel with the contents and the cargo, which is the parcel's then. */
static int
fill(fmp_arena *a, const void *head, size_t head_bytes, const Py_buffer *contents, const handle_cargo *cargo,
     uint32_t kind, fmp_parcel *p)
{
    int rc = fmp_queue_prepare(a, head_bytes + (uint64_t)contents->len, cargo->count, kind, p);
    if (rc < 0)
        return rc;
    codec_copy(p->data, head, head_bytes);
    codec_copy((char *)p->data + head_bytes, contents->buf, (size_t)contents->len);
    codec_copy(p->tickets, cargo->tickets, cargo->count * sizeof(*cargo->tickets));
    return 0;
}

int
codec_pack(module_state *state, fmp_arena *a, const void *head, size_t head_bytes, PyObject *dumps, PyObject *obj,
           uint32_t kind, fmp_parcel *p)
{
    handle_cargo cargo;
    Py_buffer contents;
    handle_cargo_begin(&cargo, 0);
    int rc = codec_encode(state, dumps, obj, &contents);
    handle_cargo_end(&cargo);
    if (rc == 0) {
        rc = fill(a, head, head_bytes, &contents, &cargo, kind, p);
        PyBuffer_Release(&contents);
        if (rc < 0)
            raise_rc(state, rc);
    }
    (rc == 0 ? handle_cargo_sent : handle_cargo_drop)(&cargo);
    return rc == 0 ? 0 : -1;
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
