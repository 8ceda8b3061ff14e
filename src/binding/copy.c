#include "binding/copy.h"

#include "binding/state.h"

#define FRESH ((size_t)1 << 17) /* from so many bytes on, the C library may well have mapped them just now */

void
copy_without_gil(void *to, const void *from, size_t bytes)
{
    Py_BEGIN_ALLOW_THREADS
    memcpy(to, from, bytes);
    Py_END_ALLOW_THREADS
}

void
copy_out(void *to, const void *from, size_t bytes)
{
    if (bytes < FRESH) {
        copy_bytes(to, from, bytes);
        return;
    }
    Py_BEGIN_ALLOW_THREADS
    fmp_memory_expect(to, bytes);
    memcpy(to, from, bytes);
    Py_END_ALLOW_THREADS
}
