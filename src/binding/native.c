#include "binding/native.h"

#include <string.h>

#include "binding/copy.h"

#define DEPTH 2          /* tuples in tuples */
#define ITEMS_MOST 255   /* of a tuple: one byte */
#define LIST_MOST 16384  /* bytes, if there is text in it: the same text may be there many times */
#define TEXT_MOST UINT32_MAX

enum { IS_NONE = 'n', IS_TRUE = 't', IS_FALSE = 'f', IS_INT = 'i', IS_FLOAT = 'd', IS_STR = 's', IS_BYTES = 'b', IS_TUPLE = '(', IS_LIST = '[' };

/* ---- writing ------------------------------------------------------------------------------------ */

static Py_ssize_t
size_of_int(PyObject *obj)
{
    int overflow;
    PyLong_AsLongLongAndOverflow(obj, &overflow);
    return overflow ? -1 : 1 + (Py_ssize_t)sizeof(long long);
}

static Py_ssize_t
size_of_text(Py_ssize_t bytes, int *text)
{
    *text = 1;
    return (uint64_t)bytes > TEXT_MOST ? -1 : 1 + (Py_ssize_t)sizeof(uint32_t) + bytes;
}

static Py_ssize_t
size_of_str(PyObject *obj, int *text)
{
    Py_ssize_t bytes;
    if (PyUnicode_AsUTF8AndSize(obj, &bytes) != NULL)
        return size_of_text(bytes, text);
    PyErr_Clear(); /* it has surrogates; pickle knows a way */
    return -1;
}

static Py_ssize_t size_at(PyObject *obj, int depth, int *text);

static Py_ssize_t
size_of_tuple(PyObject *obj, int depth, int *text)
{
    Py_ssize_t count = PyTuple_GET_SIZE(obj), sum = 2;
    if (count > ITEMS_MOST || depth == 0)
        return -1;
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t size = size_at(PyTuple_GET_ITEM(obj, i), depth - 1, text);
        if (size < 0)
            return -1;
        sum += size;
    }
    return sum;
}

/* *text becomes true if there is text in it. */
static Py_ssize_t
size_at(PyObject *obj, int depth, int *text)
{
    if (PyLong_CheckExact(obj))
        return size_of_int(obj);
    if (obj == Py_None || obj == Py_True || obj == Py_False)
        return 1;
    if (PyTuple_CheckExact(obj))
        return size_of_tuple(obj, depth, text);
    if (PyUnicode_CheckExact(obj))
        return size_of_str(obj, text);
    if (PyBytes_CheckExact(obj))
        return size_of_text(PyBytes_GET_SIZE(obj), text);
    return PyFloat_CheckExact(obj) ? 1 + (Py_ssize_t)sizeof(double) : -1;
}

static Py_ssize_t
size_of_list(PyObject *list)
{
    Py_ssize_t count = PyList_GET_SIZE(list), sum = 1 + (Py_ssize_t)sizeof(uint32_t);
    int text = 0;
    if ((uint64_t)count > UINT32_MAX)
        return -1;
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t size = size_at(PyList_GET_ITEM(list, i), DEPTH - 1, &text);
        if (size < 0 || (text && sum + size > LIST_MOST))
            return -1;
        sum += size;
    }
    return sum;
}

Py_ssize_t
native_size(PyObject *obj)
{
    int text = 0;
    return PyList_CheckExact(obj) ? size_of_list(obj) : size_at(obj, DEPTH, &text);
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
    copy_bytes(to, text, (size_t)bytes);
    return to + bytes;
}

static char *
write_items(PyObject *obj, char *to)
{
    PyObject **items = PySequence_Fast_ITEMS(obj);
    Py_ssize_t count = PySequence_Fast_GET_SIZE(obj);
    for (Py_ssize_t i = 0; i < count; i++)
        to = native_write(items[i], to);
    return to;
}

static char *
write_tuple(PyObject *obj, char *to)
{
    unsigned char count = (unsigned char)PyTuple_GET_SIZE(obj);
    return write_items(obj, write_number(IS_TUPLE, &count, sizeof(count), to));
}

static char *
write_list(PyObject *obj, char *to)
{
    uint32_t count = (uint32_t)PyList_GET_SIZE(obj);
    return write_items(obj, write_number(IS_LIST, &count, sizeof(count), to));
}

char *
native_write(PyObject *obj, char *to)
{
    if (PyLong_CheckExact(obj)) {
        long long number = PyLong_AsLongLong(obj);
        return write_number(IS_INT, &number, sizeof(number), to);
    }
    if (obj == Py_None)
        return write_letter(IS_NONE, to);
    if (obj == Py_True || obj == Py_False)
        return write_letter(obj == Py_True ? IS_TRUE : IS_FALSE, to);
    if (PyTuple_CheckExact(obj))
        return write_tuple(obj, to);
    if (PyList_CheckExact(obj))
        return write_list(obj, to);
    if (PyBytes_CheckExact(obj))
        return write_text(IS_BYTES, PyBytes_AS_STRING(obj), PyBytes_GET_SIZE(obj), to);
    if (PyUnicode_CheckExact(obj)) {
        Py_ssize_t bytes;
        const char *text = PyUnicode_AsUTF8AndSize(obj, &bytes);
        return write_text(IS_STR, text, bytes, to);
    }
    double number = PyFloat_AS_DOUBLE(obj);
    return write_number(IS_FLOAT, &number, sizeof(number), to);
}

/* ---- reading ------------------------------------------------------------------------------------- */

struct reader {
    const char *at;
    const char *end;
};

static void *
damaged(void)
{
    PyErr_SetString(PyExc_ValueError, "damaged message");
    return NULL;
}

/* The next bytes, or NULL with an exception. */
static const char *
take(struct reader *r, size_t bytes)
{
    if ((size_t)(r->end - r->at) < bytes)
        return damaged();
    const char *taken = r->at;
    r->at += bytes;
    return taken;
}

static PyObject *
read_bytes(const char *data, Py_ssize_t count)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, count);
    if (bytes != NULL)
        copy_out(PyBytes_AS_STRING(bytes), data, (size_t)count);
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

/* Read the items of a new tuple or list, which is given up: it, or NULL with an exception. */
static PyObject *
fill(struct reader *r, int depth, PyObject *obj)
{
    if (obj == NULL)
        return NULL;
    PyObject **items = PySequence_Fast_ITEMS(obj);
    Py_ssize_t count = PySequence_Fast_GET_SIZE(obj);
    for (Py_ssize_t i = 0; i < count; i++) {
        if ((items[i] = read_at(r, depth)) == NULL) {
            Py_DECREF(obj);
            return NULL;
        }
    }
    return obj;
}

static PyObject *
read_tuple(struct reader *r, int depth)
{
    const char *taken = depth == 0 ? damaged() : take(r, 1);
    PyObject *tuple = taken == NULL ? NULL : fill(r, depth - 1, PyTuple_New((unsigned char)*taken));
    if (tuple != NULL)
        PyObject_GC_UnTrack(tuple); /* nothing in it refers to anything, as the collector would find out */
    return tuple;
}

static PyObject *
read_list(struct reader *r, int depth)
{
    uint32_t count;
    const char *taken = depth != DEPTH ? damaged() : take(r, sizeof(count));
    if (taken == NULL)
        return NULL;
    memcpy(&count, taken, sizeof(count));
    if (count > (size_t)(r->end - r->at))
        return damaged();
    return fill(r, depth - 1, PyList_New((Py_ssize_t)count));
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
    case IS_LIST:
        return read_list(r, depth);
    default:
        return letter == NULL ? NULL : damaged();
    }
}

PyObject *
native_read(const void *data, Py_ssize_t bytes)
{
    struct reader r = {.at = data, .end = (const char *)data + bytes};
    PyObject *value = read_at(&r, DEPTH);
    if (value == NULL || r.at == r.end)
        return value;
    Py_DECREF(value);
    return damaged();
}
