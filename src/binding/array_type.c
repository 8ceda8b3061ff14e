/* array_type.c: SynchronizedArray and SynchronizedString, what Array() makes: items behind a lock. A slice
 * is read or written in one go. */
#include "binding/synchronized.h"

#include <string.h>

typedef struct {
    Py_ssize_t start, step, count;
} range;

/* The functions with "load" and "store" in their names are called under the lock. Those that store return 1,
 * or 0 if ctypes has to do it (what was stored already doesn't matter then), or -1 with an exception. */

static char *
cell(SynchronizedObject *self, Py_ssize_t i)
{
    return self->cells + i * self->code->bytes;
}

/* Which cell an index means: -1 with an exception if none. */
static Py_ssize_t
find(SynchronizedObject *self, PyObject *key)
{
    Py_ssize_t i = PyNumber_AsSsize_t(key, PyExc_IndexError);
    if (i == -1 && PyErr_Occurred())
        return -1;
    if (i < 0)
        i += self->count;
    if (i >= 0 && i < self->count)
        return i;
    PyErr_SetString(PyExc_IndexError, "invalid index");
    return -1;
}

static int
find_range(SynchronizedObject *self, PyObject *slice, range *r)
{
    Py_ssize_t stop;
    if (PySlice_Unpack(slice, &r->start, &stop, &r->step) < 0)
        return -1;
    r->count = PySlice_AdjustIndices(self->count, &r->start, &stop, r->step);
    return 0;
}

static Py_ssize_t
array_length(SynchronizedObject *self)
{
    if (self->code != NULL)
        return self->count;
    PyObject *obj = synchronized_obj(self);
    return obj == NULL ? -1 : PyObject_Size(obj);
}

/* ---- reading ------------------------------------------------------------------------------------ */

static PyObject *
load_through_ctypes(SynchronizedObject *self, PyObject *key)
{
    PyObject *obj = synchronized_obj(self);
    return obj == NULL ? NULL : PyObject_GetItem(obj, key);
}

static PyObject *
load_item(SynchronizedObject *self, PyObject *key)
{
    Py_ssize_t i = find(self, key);
    return i < 0 ? NULL : self->code->load(cell(self, i));
}

static PyObject *
load_list(SynchronizedObject *self, const range *r)
{
    PyObject *list = PyList_New(r->count);
    for (Py_ssize_t k = 0; list != NULL && k < r->count; k++) {
        PyObject *item = self->code->load(cell(self, r->start + k * r->step));
        PyList_SET_ITEM(list, k, item);
        if (item == NULL)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *
load_bytes(SynchronizedObject *self, const range *r)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, r->count);
    char *to = bytes == NULL ? NULL : PyBytes_AS_STRING(bytes);
    for (Py_ssize_t k = 0; to != NULL && k < r->count; k++)
        to[k] = self->cells[r->start + k * r->step];
    return bytes;
}

static PyObject *
load_slice(SynchronizedObject *self, PyObject *slice)
{
    range r;
    if (self->code->format[0] == 'u') /* a str */
        return load_through_ctypes(self, slice);
    if (find_range(self, slice, &r) < 0)
        return NULL;
    return self->code->format[0] == 'c' ? load_bytes(self, &r) : load_list(self, &r);
}

static PyObject *
load(SynchronizedObject *self, PyObject *key)
{
    if (self->code != NULL && PyIndex_Check(key))
        return load_item(self, key);
    if (self->code != NULL && PySlice_Check(key))
        return load_slice(self, key);
    return load_through_ctypes(self, key);
}

static PyObject *
array_subscript(SynchronizedObject *self, PyObject *key)
{
    if (synchronized_enter(self) < 0)
        return NULL;
    PyObject *result = load(self, key);
    if (synchronized_leave(self, result == NULL) < 0)
        Py_CLEAR(result);
    return result;
}

/* What iterators call. */
static PyObject *
array_item(SynchronizedObject *self, Py_ssize_t i)
{
    PyObject *key = PyLong_FromSsize_t(i);
    PyObject *item = key == NULL ? NULL : array_subscript(self, key);
    Py_XDECREF(key);
    return item;
}

/* ---- writing ------------------------------------------------------------------------------------ */

static int
store_through_ctypes(SynchronizedObject *self, PyObject *key, PyObject *value)
{
    PyObject *obj = synchronized_obj(self);
    return obj == NULL || PyObject_SetItem(obj, key, value) < 0 ? -1 : 1;
}

static int
store_item(SynchronizedObject *self, PyObject *key, PyObject *value)
{
    Py_ssize_t i = find(self, key);
    return i < 0 ? -1 : self->code->store(cell(self, i), value);
}

/* Copy the cells of a buffer of the same type to the range: they may be the array's own. */
static void
copy_cells(SynchronizedObject *self, const range *r, const Py_buffer *view)
{
    Py_ssize_t bytes = self->code->bytes, stride = view->strides == NULL ? bytes : view->strides[0];
    if (r->step == 1 && stride == bytes) {
        Py_BEGIN_ALLOW_THREADS
        memmove(cell(self, r->start), view->buf, (size_t)(r->count * bytes));
        Py_END_ALLOW_THREADS
        return;
    }
    for (Py_ssize_t k = 0; k < r->count; k++)
        memcpy(cell(self, r->start + k * r->step), (const char *)view->buf + k * stride, (size_t)bytes);
}

/* Is the range of this array within the memory that the buffer lies in? */
static int
overlaps(SynchronizedObject *self, const Py_buffer *view)
{
    const char *end = self->cells + self->count * self->code->bytes;
    Py_ssize_t reach = view->shape == NULL || view->strides == NULL ? 0 : (view->shape[0] - 1) * view->strides[0];
    const char *low = (const char *)view->buf + (reach < 0 ? reach : 0), *high = (const char *)view->buf + view->len;
    return low < end && high + (reach > 0 ? reach : 0) > self->cells;
}

/* The values of a buffer: 1 stored, 0 let ctypes do it, -1 an exception. */
static int
store_buffer(SynchronizedObject *self, const range *r, PyObject *values)
{
    Py_buffer view;
    if (!PyObject_CheckBuffer(values))
        return 0;
    if (PyObject_GetBuffer(values, &view, PyBUF_RECORDS_RO) < 0) {
        PyErr_Clear();
        return 0;
    }
    int plain = r->step == 1 && PyBuffer_IsContiguous(&view, 'C');
    int fits = view.ndim == 1 && view.shape[0] == r->count && typecode_matches(self->code, view.format, view.itemsize) &&
               (plain || !overlaps(self, &view));
    if (fits)
        copy_cells(self, r, &view);
    PyBuffer_Release(&view);
    return fits;
}

static int
store_slice(SynchronizedObject *self, PyObject *slice, PyObject *values)
{
    range r;
    if (find_range(self, slice, &r) < 0)
        return -1;
    if (!PyList_Check(values) && !PyTuple_Check(values))
        return store_buffer(self, &r, values);
    if (PySequence_Fast_GET_SIZE(values) != r.count)
        return 0;
    PyObject **items = PySequence_Fast_ITEMS(values); /* no Python code runs that could change the list */
    Py_ssize_t k = 0;
    while (k < r.count && self->code->store(cell(self, r.start + k * r.step), items[k]))
        k++;
    return k == r.count;
}

static int
store(SynchronizedObject *self, PyObject *key, PyObject *value)
{
    int stored = 0;
    if (self->code != NULL && PyIndex_Check(key))
        stored = store_item(self, key, value);
    else if (self->code != NULL && PySlice_Check(key))
        stored = store_slice(self, key, value);
    return stored != 0 ? stored : store_through_ctypes(self, key, value);
}

static int
array_assign(SynchronizedObject *self, PyObject *key, PyObject *value)
{
    if (value == NULL) {
        PyErr_Format(PyExc_TypeError, "'%s' object doesn't support item deletion", Py_TYPE(self)->tp_name);
        return -1;
    }
    if (synchronized_enter(self) < 0)
        return -1;
    return synchronized_leave(self, store(self, key, value) < 0);
}

/* ---- the types ---------------------------------------------------------------------------------- */

PyType_Spec synchronized_array_spec = {
    .name = "fastmp.sharedctypes.SynchronizedArray",
    .basicsize = sizeof(SynchronizedObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "SynchronizedArray(obj, lock=None, ctx=None)\n--\n\n"
                        "A ctypes array whose items are read and written under a lock."},
            {Py_tp_dealloc, synchronized_dealloc},
            {Py_tp_traverse, synchronized_traverse},
            {Py_sq_length, array_length},
            {Py_sq_item, array_item},
            {Py_mp_length, array_length},
            {Py_mp_subscript, array_subscript},
            {Py_mp_ass_subscript, array_assign},
            {0, NULL},
        },
};

static PyGetSetDef string_getset[] = {
    {"value", (getter)synchronized_get, (setter)synchronized_set, "The bytes before the first zero.", "value"},
    {"raw", (getter)synchronized_get, (setter)synchronized_set, "All bytes.", "raw"},
    {NULL, NULL, NULL, NULL, NULL},
};

PyType_Spec synchronized_string_spec = {
    .name = "fastmp.sharedctypes.SynchronizedString",
    .basicsize = sizeof(SynchronizedObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "SynchronizedString(obj, lock=None, ctx=None)\n--\n\nA SynchronizedArray of bytes."},
            {Py_tp_dealloc, synchronized_dealloc},
            {Py_tp_traverse, synchronized_traverse},
            {Py_tp_getset, string_getset},
            {0, NULL},
        },
};
