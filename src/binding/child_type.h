/* child_type.h: the module functions that belong to Child. */
#ifndef FMP_BINDING_CHILD_TYPE_H
#define FMP_BINDING_CHILD_TYPE_H

#include "binding/state.h"

PyObject *child_fork(PyObject *module, PyObject *args);
PyObject *child_is_forking(PyObject *module, PyObject *ignored);
PyObject *child_expect(PyObject *module, PyObject *ignored);
PyObject *child_leave(PyObject *module, PyObject *ignored);
PyObject *child_end(PyObject *module, PyObject *exitcode);

/* The owner id of a Child: 0, or -1 with TypeError if it isn't one. */
int child_owner(module_state *state, PyObject *child, uint32_t *owner);

#endif
