/* codec.h: objects to message contents and back.
 *
 * Today that is the pickler which reduction.py set (ForkingPickler's). Whatever is added, a native form
 * for small values or buffers out of band, is added here and told apart by the message's kind. */
#ifndef FMP_BINDING_CODEC_H
#define FMP_BINDING_CODEC_H

#include "binding/handle.h"
#include "core/queue.h"

/* The first word about a message's contents. */
enum { MESSAGE_PICKLE, MESSAGE_BYTES };

/* The contents of a message for obj, as a buffer to be released: 0, or -1 with what pickling raised. Handles
 * among them become the cargo that was begun (handle.h). It is pickled by `dumps`, if that is not NULL. */
int codec_encode(module_state *state, PyObject *dumps, PyObject *obj, Py_buffer *contents);

/* A whole message for obj, which carries its handles, with `head_bytes` at *head before the contents: 0, or -1
 * with an exception. */
int codec_pack(module_state *state, fmp_arena *a, const void *head, size_t head_bytes, PyObject *dumps,
               PyObject *obj, uint32_t kind, fmp_parcel *p);

/* Copy contents to or from a message. If that takes long, others may run meanwhile. */
void codec_copy(void *to, const void *from, size_t bytes);

/* The object that a message's contents stand for; NULL with what unpickling raised. They are not looked
 * at after it returned. */
PyObject *codec_decode(module_state *state, const void *data, Py_ssize_t bytes);

#endif
