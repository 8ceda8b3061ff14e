/* copy.h: bytes to or from what is shared. If it takes long, others may run meanwhile. */
#ifndef FMP_BINDING_COPY_H
#define FMP_BINDING_COPY_H

#include <stddef.h>
#include <string.h>

#define COPY_WITHOUT_GIL ((size_t)1 << 16) /* bytes */

void copy_without_gil(void *to, const void *from, size_t bytes);

static inline void
copy_bytes(void *to, const void *from, size_t bytes)
{
    if (bytes >= COPY_WITHOUT_GIL)
        copy_without_gil(to, from, bytes);
    else if (bytes > 0) /* else there may be no address */
        memcpy(to, from, bytes);
}

/* The same into the memory of a new object. */
void copy_out(void *to, const void *from, size_t bytes);

#endif
