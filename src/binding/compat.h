/* compat.h: the one place that looks at the version of Python. */
#ifndef FMP_BINDING_COMPAT_H
#define FMP_BINDING_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if PY_VERSION_HEX < 0x030C0000 /* 3.12 gave the member types names of their own */
#include <structmember.h>
#define Py_T_INT T_INT
#define Py_T_UINT T_UINT
#define Py_T_OBJECT_EX T_OBJECT_EX
#define Py_T_PYSSIZET T_PYSSIZET
#define Py_T_BOOL T_BOOL
#define Py_T_ULONGLONG T_ULONGLONG
#define Py_T_ULONG T_ULONG
#define Py_READONLY READONLY

/* 3.12 made an exception one object. */
static inline PyObject *
PyErr_GetRaisedException(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value != NULL && traceback != NULL)
        PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

static inline void
PyErr_SetRaisedException(PyObject *value)
{
    PyObject *type = value == NULL ? NULL : Py_NewRef((PyObject *)Py_TYPE(value));
    PyErr_Restore(type, value, value == NULL ? NULL : PyException_GetTraceback(value));
}
#endif

/* 3.12 began to warn of a fork in a process with more than one thread. */
#define FMP_FORK_WARNS (PY_VERSION_HEX >= 0x030C0000)

#endif
