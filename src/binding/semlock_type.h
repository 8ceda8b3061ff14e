/* semlock_type.h: what module.c needs of SemLock. */
#ifndef FMP_BINDING_SEMLOCK_TYPE_H
#define FMP_BINDING_SEMLOCK_TYPE_H

#include "binding/state.h"

/* The attributes of the class: 0, or -1 with an exception. */
int semlock_ready(PyTypeObject *type);

/* The module's function sem_unlink(name). */
PyObject *semlock_unlink(PyObject *module, PyObject *args);

#endif
