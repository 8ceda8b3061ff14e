/* value_type.c: Synchronized, what Value() makes of a simple type: one cell behind a lock. */
#include "binding/synchronized.h"

static PyObject *
value_get(SynchronizedObject *self, void *name)
{
    if (self->code == NULL)
        return synchronized_get(self, name);
    if (synchronized_enter(self) < 0)
        return NULL;
    PyObject *value = self->code->load(self->cells);
    if (synchronized_leave(self, value == NULL) < 0)
        Py_CLEAR(value);
    return value;
}

static int
value_set(SynchronizedObject *self, PyObject *value, void *name)
{
    if (self->code == NULL || value == NULL)
        return synchronized_set(self, value, name);
    if (synchronized_enter(self) < 0)
        return -1;
    int stored = self->code->store(self->cells, value);
    PyObject *obj = stored ? NULL : synchronized_obj(self);
    return synchronized_leave(self, !stored && (obj == NULL || PyObject_SetAttrString(obj, name, value) < 0));
}

static PyGetSetDef getset[] = {
    {"value", (getter)value_get, (setter)value_set, "The value, read and written under the lock.", "value"},
    {NULL, NULL, NULL, NULL, NULL},
};

PyType_Spec synchronized_spec = {
    .name = "fastmp.sharedctypes.Synchronized",
    .basicsize = sizeof(SynchronizedObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "Synchronized(obj, lock=None, ctx=None)\n--\n\n"
                        "A simple ctypes object whose value is read and written under a lock."},
            {Py_tp_dealloc, synchronized_dealloc},
            {Py_tp_traverse, synchronized_traverse},
            {Py_tp_getset, getset},
            {0, NULL},
        },
};
