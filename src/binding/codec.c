#include "binding/codec.h"
#include "binding/copy.h"
#include "binding/loan_type.h"
#include "binding/native.h"

#include <string.h>

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

/* ---- into a message ------------------------------------------------------------------------------ */

#define APART ((unsigned char)0x81)

struct apart {
    unsigned char letter;
    unsigned char unused[3];
    uint32_t count; /* of buffers; their lengths, 8 bytes each, follow */
    uint64_t pickle_bytes;
};

/* What is to become the contents: the value itself, in its native form, or what pickling made of it. */
struct load {
    PyObject *value;    /* borrowed, or NULL */
    PyObject *pickled;  /* bytes, or a tuple of two lists: pieces and buffers */
    Py_ssize_t bytes;   /* of the value */
    uint32_t count;     /* of `views` */
    uint32_t pieces;    /* the first of them; the others are buffers beside the pickle */
    Py_buffer *views;
};

static void
load_release(struct load *l)
{
    for (uint32_t i = 0; i < l->count; i++)
        PyBuffer_Release(&l->views[i]);
    PyMem_Free(l->views);
    Py_XDECREF(l->pickled);
}

static int
add_views(struct load *l, PyObject *list)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        if (PyObject_GetBuffer(PyList_GET_ITEM(list, i), &l->views[l->count], PyBUF_ANY_CONTIGUOUS) < 0)
            return -1;
        l->count++;
    }
    return 0;
}

/* Look at what pickling made: 0, or -1 with an exception. */
static int
open_views(struct load *l)
{
    PyObject *pieces = l->pickled, *buffers = NULL;
    if (PyTuple_Check(l->pickled) && !PyArg_ParseTuple(l->pickled, "O!O!", &PyList_Type, &pieces, &PyList_Type, &buffers))
        return -1;
    Py_ssize_t most = buffers == NULL ? 1 : PyList_GET_SIZE(pieces) + PyList_GET_SIZE(buffers);
    l->views = PyMem_Calloc((size_t)most, sizeof(*l->views));
    if (l->views == NULL || most > INT32_MAX) {
        PyErr_NoMemory();
        return -1;
    }
    if (buffers == NULL) {
        l->pieces = 1;
        l->count = PyObject_GetBuffer(pieces, &l->views[0], PyBUF_SIMPLE) == 0;
        return l->count == 1 ? 0 : -1;
    }
    if (add_views(l, pieces) < 0)
        return -1;
    l->pieces = l->count;
    return add_views(l, buffers);
}

static int
load_object(struct load *l, module_state *state, PyObject *dumps, PyObject *obj)
{
    *l = (struct load){.bytes = dumps == NULL ? native_size(obj) : -1};
    if (l->bytes >= 0) {
        l->value = obj;
        return 0;
    }
    if (state->dumps_apart == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "fastmp.reduction was not imported");
        return -1;
    }
    l->pickled = PyObject_CallOneArg(dumps == NULL ? state->dumps_apart : dumps, obj);
    if (l->pickled != NULL && open_views(l) == 0)
        return 0;
    load_release(l);
    return -1;
}

static uint64_t
sum_of(const struct load *l, uint32_t from, uint32_t to)
{
    uint64_t sum = 0;
    for (uint32_t i = from; i < to; i++)
        sum += (uint64_t)l->views[i].len;
    return sum;
}

/* Where the next buffer begins, behind so many bytes of contents: on a cache line, if the contents are the first in
 * a block of the heap. */
static uint64_t
buffer_at(uint64_t bytes)
{
    return (bytes + sizeof(fmp_block) + FMP_CACHELINE - 1) / FMP_CACHELINE * FMP_CACHELINE - sizeof(fmp_block);
}

static uint64_t
load_size(const struct load *l)
{
    uint64_t buffers = l->count - l->pieces, bytes = sum_of(l, 0, l->pieces);
    if (l->value != NULL)
        return (uint64_t)l->bytes;
    if (buffers != 0)
        bytes += sizeof(struct apart) + buffers * sizeof(uint64_t);
    for (uint32_t i = l->pieces; i < l->count; i++)
        bytes = buffer_at(bytes) + (uint64_t)l->views[i].len;
    return bytes;
}

static char *
write_lengths(const struct load *l, char *to)
{
    struct apart head = {.letter = APART, .count = l->count - l->pieces, .pickle_bytes = sum_of(l, 0, l->pieces)};
    if (head.count == 0)
        return to;
    memcpy(to, &head, sizeof(head));
    to += sizeof(head);
    for (uint32_t i = l->pieces; i < l->count; i++) {
        uint64_t length = (uint64_t)l->views[i].len;
        memcpy(to, &length, sizeof(length));
        to += sizeof(length);
    }
    return to;
}

static void
load_write(const struct load *l, char *to)
{
    if (l->value != NULL) {
        native_write(l->value, to);
        return;
    }
    const char *start = to;
    to = write_lengths(l, to);
    for (uint32_t i = 0; i < l->count; i++) {
        if (i >= l->pieces)
            to = (char *)start + buffer_at((uint64_t)(to - start));
        copy_bytes(to, l->views[i].buf, (size_t)l->views[i].len);
        to += l->views[i].len;
    }
}

/* Fill a parcel with the contents and the cargo, which is the parcel's then. */
static int
fill(fmp_arena *a, const void *head, size_t head_bytes, const struct load *l, const handle_cargo *cargo, uint32_t kind,
     fmp_parcel *p)
{
    fmp_ref shipped = FMP_REF_NONE;
    int rc = cargo->count == 0 ? 0 : fmp_object_ship(a, cargo->objects, cargo->count, &shipped);
    if (rc < 0)
        return rc;
    rc = fmp_queue_prepare(a, head_bytes + load_size(l), shipped, kind, p);
    if (rc < 0) {
        if (shipped.off != 0)
            fmp_object_land(a, shipped);
        return rc;
    }
    copy_bytes(p->data, head, head_bytes);
    load_write(l, (char *)p->data + head_bytes);
    return 0;
}

int
codec_pack(module_state *state, fmp_arena *a, const void *head, size_t head_bytes, PyObject *dumps, PyObject *obj,
           uint32_t kind, fmp_parcel *p)
{
    handle_cargo cargo;
    struct load l;
    handle_cargo_begin(&cargo, 0);
    int rc = load_object(&l, state, dumps, obj);
    handle_cargo_end(&cargo);
    if (rc == 0) {
        rc = fill(a, head, head_bytes, &l, &cargo, kind, p);
        load_release(&l);
        if (rc < 0)
            raise_rc(state, rc);
    }
    handle_cargo_drop(&cargo);
    return rc == 0 ? 0 : -1;
}

/* ---- out of a message ------------------------------------------------------------------------------ */

static PyObject *
damaged(void)
{
    PyErr_SetString(PyExc_ValueError, "damaged message");
    return NULL;
}

/* How buffers are to be had: where they lie in `loan`, or copied to memory that is read-only, or not. */
struct manner {
    PyObject *loan; /* a memoryview of all contents */
    int readonly;
};

static PyObject *
copy_of(const char *data, uint64_t bytes, int readonly)
{
    PyObject *copy = readonly ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)bytes)
                              : PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)bytes);
    if (copy != NULL)
        copy_out(readonly ? PyBytes_AS_STRING(copy) : PyByteArray_AS_STRING(copy), data, (size_t)bytes);
    return copy;
}

static PyObject *
read_buffer(const struct manner *how, const char *data, uint64_t at, uint64_t bytes)
{
    if (how->loan == NULL)
        return copy_of(data + at, bytes, how->readonly);
    return PySequence_GetSlice(how->loan, (Py_ssize_t)at, (Py_ssize_t)(at + bytes));
}

/* The buffers, of which `lengths` tells, behind the first `at` bytes of `data`: a list. */
static PyObject *
read_buffers(const struct manner *how, const char *lengths, uint32_t count, const char *data, uint64_t at, uint64_t end)
{
    PyObject *buffers = PyList_New(count);
    for (uint32_t i = 0; buffers != NULL && i < count; i++) {
        uint64_t length;
        memcpy(&length, lengths + i * sizeof(length), sizeof(length));
        at = buffer_at(at);
        PyObject *buffer = at > end || length > end - at ? damaged() : read_buffer(how, data, at, length);
        if (buffer == NULL) {
            Py_CLEAR(buffers);
            break;
        }
        PyList_SET_ITEM(buffers, i, buffer);
        at += length;
    }
    return buffers;
}

static PyObject *
unpickle(module_state *state, const void *data, Py_ssize_t bytes, PyObject *buffers)
{
    PyObject *view = PyMemoryView_FromMemory((char *)data, bytes, PyBUF_READ);
    PyObject *args = view == NULL ? NULL : PyTuple_Pack(1, view);
    PyObject *kwargs = args == NULL ? NULL : Py_BuildValue("{sO}", "buffers", buffers);
    PyObject *obj = kwargs == NULL ? NULL : PyObject_Call(state->loads, args, kwargs);
    Py_XDECREF(kwargs);
    Py_XDECREF(args);
    Py_XDECREF(view);
    return obj;
}

static PyObject *
decode_apart(module_state *state, const char *data, Py_ssize_t bytes, const struct manner *how)
{
    struct apart head;
    const char *end = data + bytes, *lengths = data + sizeof(head);
    if ((size_t)bytes < sizeof(head))
        return damaged();
    memcpy(&head, data, sizeof(head));
    if (head.count > (size_t)(end - lengths) / sizeof(uint64_t))
        return damaged();
    const char *pickle = lengths + head.count * sizeof(uint64_t);
    if (head.pickle_bytes > (uint64_t)(end - pickle))
        return damaged();
    uint64_t at = (uint64_t)(pickle - data) + head.pickle_bytes;
    PyObject *buffers = read_buffers(how, lengths, head.count, data, at, (uint64_t)bytes);
    if (buffers == NULL)
        return NULL;
    PyObject *obj = unpickle(state, pickle, (Py_ssize_t)head.pickle_bytes, buffers);
    Py_DECREF(buffers);
    return obj;
}

PyObject *
codec_unpickle(module_state *state, const void *data, Py_ssize_t bytes)
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

static int
is_apart(const void *data, Py_ssize_t bytes)
{
    return bytes > 0 && *(const unsigned char *)data == APART;
}

PyObject *
codec_decode(module_state *state, const void *data, Py_ssize_t bytes)
{
    static const struct manner copied = {NULL, 0};
    if (native_is(data, bytes))
        return native_read(data, bytes);
    if (is_apart(data, bytes))
        return decode_apart(state, data, bytes, &copied);
    return codec_unpickle(state, data, bytes);
}

/* Decode the message where it lies, in a block which is lent to what it is decoded to. Without a place for the
 * loan, as in a process that may make no objects, it is copied. */
static PyObject *
decode_lent(module_state *state, fmp_arena *a, fmp_message *m, int writable)
{
    PyObject *loan = loan_new(state, m->block, m->data, (size_t)m->bytes, writable);
    if (loan == NULL) {
        struct manner copied = {NULL, !writable};
        PyErr_Clear();
        return decode_apart(state, m->data, (Py_ssize_t)m->bytes, &copied);
    }
    m->block = FMP_REF_NONE;
    struct manner how = {PyMemoryView_FromObject(loan), !writable};
    PyObject *obj = how.loan == NULL ? NULL : decode_apart(state, m->data, (Py_ssize_t)m->bytes, &how);
    Py_XDECREF(how.loan);
    fmp_message_done(a, m); /* while what it carries is still there to be read */
    Py_DECREF(loan);
    return obj;
}

PyObject *
codec_decode_message(module_state *state, fmp_arena *a, fmp_message *m, int how)
{
    struct manner copied = {NULL, how == CODEC_READ};
    if (how == CODEC_COPY || !is_apart(m->data, (Py_ssize_t)m->bytes))
        return codec_decode(state, m->data, (Py_ssize_t)m->bytes);
    if (m->block.off == 0)
        return decode_apart(state, m->data, (Py_ssize_t)m->bytes, &copied);
    return decode_lent(state, a, m, how == CODEC_WRITE);
}

PyObject *
codec_as_pickle(module_state *state, const void *data, Py_ssize_t bytes)
{
    if (!native_is(data, bytes) && !is_apart(data, bytes))
        return PyBytes_FromStringAndSize(data, bytes);
    PyObject *obj = codec_decode(state, data, bytes);
    PyObject *pickled = obj == NULL ? NULL : PyObject_CallOneArg(state->dumps, obj);
    Py_XDECREF(obj);
    return pickled;
}

PyObject *
codec_open(module_state *state, const fmp_message *m)
{
    return (m->kind == MESSAGE_OBJECT ? codec_decode : codec_unpickle)(state, m->data, (Py_ssize_t)m->bytes);
}

PyObject *
codec_open_bytes(module_state *state, const fmp_message *m)
{
    if (m->kind == MESSAGE_OBJECT)
        return codec_as_pickle(state, m->data, (Py_ssize_t)m->bytes);
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)m->bytes);
    if (bytes != NULL)
        copy_out(PyBytes_AS_STRING(bytes), m->data, (size_t)m->bytes);
    return bytes;
}
