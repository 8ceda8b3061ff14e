/* compat.h: the one place that looks at the version of Python. */
#ifndef FMP_BINDING_COMPAT_H
#define FMP_BINDING_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if PY_VERSION_HEX < 0x030C0000 /* 3.12 gave the member types names of their own */
#include <structmember.h>
#define Py_T_INT T_INT
#define Py_T_OBJECT_EX T_OBJECT_EX
#define Py_T_PYSSIZET T_PYSSIZET
#define Py_READONLY READONLY
#endif

#endif
