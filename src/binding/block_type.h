/* block_type.h: what the shared values need of Block. */
#ifndef FMP_BINDING_BLOCK_TYPE_H
#define FMP_BINDING_BLOCK_TYPE_H

#include "binding/handle.h"

/* The memory of another handle's object, from `from` to its end, as a Block. It holds that object. */
PyObject *block_over(HandleObject *owner, void *from);

#endif
