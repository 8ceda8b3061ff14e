/* native.h: the form of small, common values in messages. It is written and read without pickle, which
 * takes ten times as long for them.
 *
 *   None, True, False    a letter
 *   int                  a letter and 8 bytes, if they are enough
 *   float                a letter and 8 bytes
 *   str, bytes           a letter, 4 bytes for the length, the UTF-8 or the bytes
 *   tuple of those       a letter, a byte for the length, the items; tuples may be in it, not deeper
 *   list of those        a letter, 4 bytes for the length, the items; no list is in anything, as it might be there twice
 *
 * A long list has this form only if there is no text in it: pickle writes what is there many times once. So all of a
 * list is written with the GIL held: nobody changes it meanwhile.
 * Of exactly these types, for which pickle asks no reducer either. Numbers are in the machine's order: both
 * sides run on one. No letter is the first byte of a pickle (0x80), so contents say what they are. */
#ifndef FMP_BINDING_NATIVE_H
#define FMP_BINDING_NATIVE_H

#include "binding/state.h"

/* How many bytes the native form takes; -1 if there is none. Sets no exception. */
Py_ssize_t native_size(PyObject *obj);

/* Write it; returns where it ends. Copies that take long are made without the GIL. */
char *native_write(PyObject *obj, char *to);

/* Do these contents have the native form? */
static inline int
native_is(const void *data, Py_ssize_t bytes)
{
    return bytes > 0 && !(*(const unsigned char *)data & 0x80);
}

/* The value; NULL with ValueError if they are damaged. */
PyObject *native_read(const void *data, Py_ssize_t bytes);

#endif
