#include "binding/native.h"

#include <string.h>

#include "binding/codec.h"

#define DEPTH 2          /* tuples in tuples */
#define ITEMS_MOST 255   /* of a tuple: one byte */
#define TEXT_MOST UINT32_MAX

enum { IS_NONE = 'n', IS_TRUE = 't', IS_FALSE = 'f', IS_INT = 'i', IS_FLOAT = 'd', IS_STR = 's', IS_BYTES = 'b', IS_TUPLE = '(' };

/* ---- writing ------------------------------------------------------------------------------------ */

static Py_ssize_t
size_of_int(PyObject *obj)
{
    int overflow;
    PyLong_AsLongLongAndOverflow(obj, &overflow);
    return overflow ? -1 : 1 + (Py_ssize_t)sizeof(long long);
}

static Py_ssize_t
size_of_text(Py_ssize_t bytes)
{
    return (uint64_t)bytes > TEXT_MOST ? -1 : 1 + (Py_ssize_t)sizeof(uint32_t) + bytes;
}

static Py_ssize_t
size_of_str(PyObject *obj)
{
    Py_ssize_t bytes;
    if (PyUnicode_AsUTF8AndSize(obj, &bytes) != NULL)
        return size_of_text(bytes);
    PyErr_Clear(); /* it has surrogates; pickle knows a way */
    return -1;
}

static Py_ssize_t size_at(PyObject *obj, int depth);

static Py_ssize_t
size_of_tuple(PyObject *obj, int depth)
{
    Py_ssize_t count = PyTuple_GET_SIZE(obj), sum = 2;
    if (count > ITEMS_MOST || depth == 0)
        return -1;
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t size = size_at(PyTuple_GET_ITEM(obj, i), depth - 1);
        if (size < 0)
            return -1;
        sum += size;
    }
    return sum;
}

static Py_ssize_t
size_at(PyObject *obj, int depth)
{
    if (obj == Py_None || obj == Py_True || obj == Py_False)
        return 1;
    if (PyLong_CheckExact(obj))
        return size_of_int(obj);
    if (PyTuple_CheckExact(obj))
        return size_of_tuple(obj, depth);
    if (PyUnicode_CheckExact(obj))
        return size_of_str(obj);
    if (PyBytes_CheckExact(obj))
        return size_of_text(PyBytes_GET_SIZE(obj));
    return PyFloat_CheckExact(obj) ? 1 + (Py_ssize_t)sizeof(double) : -1;
}

Py_ssize_t
native_size(PyObject *obj)
{
    return size_at(obj, DEPTH);
}

static char *
write_letter(char letter, char *to)
{
    *to = letter;
    return to + 1;
}

static char *
write_number(char letter, const void *number, size_t bytes, char *to)
{
    to = write_letter(letter, to);
    memcpy(to, number, bytes);
    return to + bytes;
}

static char *
write_text(char letter, const char *text, Py_ssize_t bytes, char *to)
{
    uint32_t length = (uint32_t)bytes;
    to = write_number(letter, &length, sizeof(length), to);
    codec_copy(to, text, (size_t)bytes);
    return to + bytes;
}

static char *
write_tuple(PyObject *obj, char *to)
{
    unsigned char count = (unsigned char)PyTuple_GET_SIZE(obj);
    to = write_number(IS_TUPLE, &count, 1, to);
    for (Py_ssize_t i = 0; i < count; i++)
        to = native_write(PyTuple_GET_ITEM(obj, i), to);
    return to;
}

char *
native_write(PyObject *obj, char *to)
{
    if (obj == Py_None)
        return write_letter(IS_NONE, to);
    if (obj == Py_True || obj == Py_False)
        return write_letter(obj == Py_True ? IS_TRUE : IS_FALSE, to);
    if (PyTuple_CheckExact(obj))
        return write_tuple(obj, to);
    if (PyBytes_CheckExact(obj))
        return write_text(IS_BYTES, PyBytes_AS_STRING(obj), PyBytes_GET_SIZE(obj), to);
    if (PyUnicode_CheckExact(obj)) {
        Py_ssize_t bytes;
        const char *text = PyUnicode_AsUTF8AndSize(obj, &bytes);
        return write_text(IS_STR, text, bytes, to);
    }
    if (PyFloat_CheckExact(obj)) {
        double number = PyFloat_AS_DOUBLE(obj);
        return write_number(IS_FLOAT, &number, sizeof(number), to);
    }
    long long number = PyLong_AsLongLong(obj);
    return write_number(IS_INT, &number, sizeof(number), to);
}

/* ---- reading ------------------------------------------------------------------------------------- */

struct reader {
    const char *at;
    const char *end;
};

/* The next bytes, or NULL with an exception. */
static const char *
take(struct reader *r, size_t bytes)
{
    if ((size_t)(r->end - r->at) < bytes) {
        PyErr_SetString(PyExc_ValueError, "damaged message");
        return NULL;
    }
    const char *taken = r->at;
    r->at += bytes;
    return taken;
}

static PyObject *
read_bytes(const char *data, Py_ssize_t count)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, count);
    if (bytes != NULL)
        codec_copy(PyBytes_AS_STRING(bytes), data, (size_t)count);
    return bytes;
}

static PyObject *
read_text(struct reader *r, PyObject *(*make)(const char *, Py_ssize_t))
{
    uint32_t length;
    const char *taken = take(r, sizeof(length));
    if (taken == NULL)
        return NULL;
    memcpy(&length, taken, sizeof(length));
    taken = take(r, length);
    return taken == NULL ? NULL : make(taken, (Py_ssize_t)length);
}

static PyObject *
read_int(struct reader *r)
{
    long long number;
    const char *taken = take(r, sizeof(number));
    if (taken == NULL)
        return NULL;
    memcpy(&number, taken, sizeof(number));
    return PyLong_FromLongLong(number);
}

static PyObject *
read_float(struct reader *r)
{
    double number;
    const char *taken = take(r, sizeof(number));
    if (taken == NULL)
        return NULL;
    memcpy(&number, taken, sizeof(number));
    return PyFloat_FromDouble(number);
}

static PyObject *read_at(struct reader *r, int depth);

static PyObject *
read_tuple(struct reader *r, int depth)
{
    const char *taken = depth == 0 ? NULL : take(r, 1);
    Py_ssize_t count = taken == NULL ? 0 : (unsigned char)*taken;
    PyObject *tuple = taken == NULL ? NULL : PyTuple_New(count);
    for (Py_ssize_t i = 0; tuple != NULL && i < count; i++) {
        PyObject *item = read_at(r, depth - 1);
        if (item == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, i, item);
    }
    if (depth == 0)
        PyErr_SetString(PyExc_ValueError, "damaged message");
    return tuple;
}

static PyObject *
read_at(struct reader *r, int depth)
{
    const char *letter = take(r, 1);
    switch (letter == NULL ? 0 : *letter) {
    case IS_NONE:
        Py_RETURN_NONE;
    case IS_TRUE:
        Py_RETURN_TRUE;
    case IS_FALSE:
        Py_RETURN_FALSE;
    case IS_INT:
        return read_int(r);
    case IS_FLOAT:
        return read_float(r);
    case IS_STR:
        return read_text(r, PyUnicode_FromStringAndSize);
    case IS_BYTES:
        return read_text(r, read_bytes);
    case IS_TUPLE:
        return read_tuple(r, depth);
    default:
        if (letter != NULL)
            PyErr_SetString(PyExc_ValueError, "damaged message");
        return NULL;
    }
}

PyObject *
native_read(const void *data, Py_ssize_t bytes)
{
    struct reader r = {.at = data, .end = (const char *)data + bytes};
    PyObject *value = read_at(&r, DEPTH);
    if (value != NULL && r.at != r.end) {
        PyErr_SetString(PyExc_ValueError, "damaged message");
        Py_CLEAR(value);
    }
    return value;
}
