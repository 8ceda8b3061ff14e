/* loan_type.h: what the codec needs of Loan. */
#ifndef FMP_BINDING_LOAN_TYPE_H
#define FMP_BINDING_LOAN_TYPE_H

#include "binding/handle.h"

/* A Loan of the block, which is this process's, over `bytes` at `data` in it: a new reference, and the block is the
 * loan's; or NULL with an exception, and it is not. */
PyObject *loan_new(module_state *state, fmp_ref block, const void *data, size_t bytes, int writable);

#endif
