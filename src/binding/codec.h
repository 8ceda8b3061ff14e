/* codec.h: objects to message contents and back.
 *
 *   first byte   contents
 *   below 0x80   a small value in its native form (native.h)
 *   0x80         a pickle, by the pickler that reduction.py set
 *   0x81         a pickle and large buffers beside it (PEP 574): struct apart, the lengths of the buffers,
 *                the pickle, the buffers. They are copied once into the message and once out of it, into
 *                memory of the receiver's own; or not copied out, if he wants to have them where they lie, so each
 *                begins on a cache line (in a block; contents that stand at the beginning of a message).
 *
 * A stream carries pickles only, as the standard library's does. */
#ifndef FMP_BINDING_CODEC_H
#define FMP_BINDING_CODEC_H

#include "binding/handle.h"
#include "core/queue.h"

/* The first word about a message's contents. */
enum { MESSAGE_OBJECT, MESSAGE_BYTES };

/* The pickle of obj, as a buffer to be released: 0, or -1 with what pickling raised. Handles
 * among them become the cargo that was begun (handle.h). */
int codec_encode(module_state *state, PyObject *obj, Py_buffer *contents);

/* A whole message for obj, which carries its handles, with `head_bytes` at *head before the contents: 0, or -1
 * with an exception. It is pickled by `dumps`, if that is not NULL. */
int codec_pack(module_state *state, fmp_arena *a, const void *head, size_t head_bytes, PyObject *dumps,
               PyObject *obj, uint32_t kind, fmp_parcel *p);

/* The object that a message's contents, or a pickle, stand for; NULL with what unpickling raised. They are
 * not looked at after it returned. */
PyObject *codec_decode(module_state *state, const void *data, Py_ssize_t bytes);
PyObject *codec_unpickle(module_state *state, const void *data, Py_ssize_t bytes);

/* The same for a message whose buffers needn't be copied out: CODEC_COPY does so nevertheless; CODEC_READ gives
 * read-only and CODEC_WRITE writable ones, where they lie if the message has a block, which it hasn't any more then. */
enum { CODEC_COPY, CODEC_READ, CODEC_WRITE };
PyObject *codec_decode_message(module_state *state, fmp_arena *a, fmp_message *m, int how);

/* Contents as a pickle, whatever form they have. */
PyObject *codec_as_pickle(module_state *state, const void *data, Py_ssize_t bytes);

/* What is in a message that a queue gave: the object, whether it was sent or its pickle was; the bytes, or the pickle of
 * the object that was sent. */
PyObject *codec_open(module_state *state, const fmp_message *m);
PyObject *codec_open_bytes(module_state *state, const fmp_message *m);

#endif
