/* errors.h: the one place where what the core returns becomes an exception. */
#ifndef FMP_BINDING_ERRORS_H
#define FMP_BINDING_ERRORS_H

#include "binding/state.h"

/* Raise for a code of the core (core/result.h) that is no outcome the caller expected. Returns NULL. */
PyObject *raise_rc(module_state *state, int rc);

#endif
