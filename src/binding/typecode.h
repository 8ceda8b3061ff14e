/* typecode.h: how one cell of shared memory is read and written, for each simple type of ctypes that has a
 * code of one character.
 *
 * What ctypes would do with a plain value of the right type is done here. Anything else (an object with
 * __index__ or __float__, a value that is refused) is left to ctypes, so that it decides what is right and
 * what the exception says. */
#ifndef FMP_BINDING_TYPECODE_H
#define FMP_BINDING_TYPECODE_H

#include "binding/compat.h"

typedef struct {
    char format[2]; /* the code, also that of struct and memoryview */
    Py_ssize_t bytes;
    PyObject *(*load)(const void *cell);
    int (*store)(void *cell, PyObject *value); /* false, without an exception: let ctypes do it */
} typecode;

/* Are a buffer's items, of that format and size, cells of this type? Whole numbers have several letters. */
int typecode_matches(const typecode *code, const char *format, Py_ssize_t bytes);

/* NULL if there is no such code. */
const typecode *typecode_find(Py_UCS4 code);

#endif
