/* errors.h: the one place where what the core returns becomes an exception. */
#ifndef FMP_BINDING_ERRORS_H
#define FMP_BINDING_ERRORS_H

#include "binding/state.h"

/* Raise for a code of the core (core/result.h) that is no outcome the caller expected. Returns NULL. */
PyObject *raise_rc(module_state *state, int rc);

/* queue.Empty and queue.Full. Return NULL. */
PyObject *raise_empty(module_state *state);
PyObject *raise_full(module_state *state);

/* queue.Full whose argument says how many were sent before. Returns NULL. */
PyObject *raise_full_after(module_state *state, uint64_t sent);

#endif
