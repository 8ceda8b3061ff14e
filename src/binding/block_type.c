/* block_type.c: Block, zeroed shared memory with the buffer protocol. ctypes objects and memoryviews sit
 * on it and keep it alive. A block is the whole of an arena object, or its end from some place on. */
#include "binding/block_type.h"

#include "binding/child_type.h"

static int
block_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"size", NULL};
    Py_ssize_t size;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n:Block", names, &size))
        return -1;
    if (size < 0) {
        PyErr_SetString(PyExc_ValueError, "size must not be negative");
        return -1;
    }
    if (((HandleObject *)self)->object != NULL) { /* its memory may be in use */
        PyErr_SetString(PyExc_RuntimeError, "Block.__init__() was called already");
        return -1;
    }
    return handle_create((HandleObject *)self, FMP_PLAIN, (size_t)size);
}

PyObject *
block_over(HandleObject *owner, void *from)
{
    HandleObject *block = (HandleObject *)handle_new(owner->state->Block, NULL, NULL);
    if (block == NULL)
        return NULL;
    handle_share(block, owner);
    block->body = from;
    return (PyObject *)block;
}

static uint64_t
offset_of(HandleObject *self)
{
    return (uint64_t)((char *)self->body - (char *)fmp_object_body(self->object));
}

static uint64_t
size_of(HandleObject *self)
{
    return self->object->bytes - offset_of(self);
}

static PyObject *
block_size(HandleObject *self, void *Py_UNUSED(closure))
{
    return handle_check(self) < 0 ? NULL : PyLong_FromUnsignedLongLong(size_of(self));
}

static int
block_get_buffer(PyObject *op, Py_buffer *view, int flags)
{
    HandleObject *self = (HandleObject *)op;
    if (handle_check(self) < 0)
        return -1;
    return PyBuffer_FillInfo(view, op, self->body, (Py_ssize_t)size_of(self), 0, flags);
}

static PyObject *
block_reduce(HandleObject *self, PyObject *Py_UNUSED(ignored))
{
    if (handle_check(self) < 0)
        return NULL;
    return handle_reduce_with(self, PyLong_FromUnsignedLongLong(offset_of(self)));
}

static PyObject *
block_attach(PyTypeObject *type, PyObject *args)
{
    PyObject *extra;
    HandleObject *self = handle_attach(type, args, FMP_PLAIN, 0, &extra);
    if (self == NULL)
        return NULL;
    unsigned long long offset = PyLong_AsUnsignedLongLong(extra);
    if (!PyErr_Occurred() && offset > self->object->bytes)
        PyErr_SetString(PyExc_ValueError, "the offset lies behind the block");
    if (PyErr_Occurred()) {
        Py_DECREF(self);
        return NULL;
    }
    self->body = (char *)self->body + offset;
    return (PyObject *)self;
}

static PyObject *
block_give(HandleObject *self, PyObject *child)
{
    uint32_t owner;
    return child_owner(self->state, child, &owner) < 0 ? NULL : handle_give(self, owner);
}

static PyObject *
block_attach_given(PyTypeObject *type, PyObject *ticket)
{
    PyObject *args = Py_BuildValue("(Oi)", ticket, 0);
    PyObject *self = args == NULL ? NULL : block_attach(type, args);
    Py_XDECREF(args);
    return self;
}

static PyMethodDef methods[] = {
    {"give", (PyCFunction)block_give, METH_O,
     "give($self, child, /)\n--\n\n"
     "Hold the block for a child made by expect(); returns the ticket that Block.attach() takes there."},
    {"attach", (PyCFunction)block_attach_given, METH_CLASS | METH_O,
     "attach($type, ticket, /)\n--\n\nThe block that was given to this process."},
    HANDLE_TRAVEL(block_reduce, block_attach),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"size", (getter)block_size, NULL, "Bytes.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {HANDLE_MEMBERS, {NULL, 0, 0, 0, NULL}};

PyType_Spec block_spec = {
    .name = "fastmp._core.Block",
    .basicsize = sizeof(HandleObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "Block(size)\n--\n\nZeroed shared memory of `size` bytes."},
            {Py_tp_new, handle_new},
            {Py_tp_init, block_init},
            {Py_tp_dealloc, handle_dealloc},
            {Py_tp_methods, methods},
            {Py_tp_getset, getset},
            {Py_tp_members, members},
            {Py_bf_getbuffer, block_get_buffer},
            {0, NULL},
        },
};
