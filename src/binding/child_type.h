/* child_type.h: the module functions that belong to Child. */
#ifndef FMP_BINDING_CHILD_TYPE_H
#define FMP_BINDING_CHILD_TYPE_H

#include "binding/state.h"

PyObject *child_fork(PyObject *module, PyObject *ignored);
PyObject *child_leave(PyObject *module, PyObject *ignored);

#endif
