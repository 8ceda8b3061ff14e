/* connection.h: what Connection and its transports have in common: the stream, over any descriptor (frame.h), and the
 * channel, which Pipe() makes (channel.h).
 *
 * Connection knows the arguments and the rules of the standard library; a transport moves messages. Where
 * a transport's function fails it has raised, by connection_fail if that is due to what became of a message. */
#ifndef FMP_BINDING_CONNECTION_H
#define FMP_BINDING_CONNECTION_H

#include "binding/end_type.h"
#include "binding/wait.h"

typedef struct {
    PyObject_HEAD
    module_state *state;
    fmp_arena *arena;
    _Atomic int fd; /* -1 once closed, perhaps while another thread waits */
    int waiting;    /* calls that may be about to use it; a forked child's copy counts those of its parent's threads */
    int vacated;    /* the number of one that was closed meanwhile, and nobody else's before they end; or -1 */
    EndObject *end; /* NULL: the transport is the stream */
    char is_socket;
    char readable;
    char writable;
    struct stream_left *left; /* what interrupted calls of a stream left, or NULL */
    PyObject *weakrefs;
} ConnectionObject;

/* pipe(duplex) of the module: two ends of a new channel. */
PyObject *connection_pair(PyObject *module, PyObject *duplex);

/* stream_pair(duplex) of the module: connections over two sockets. */
PyObject *connection_stream_pair(PyObject *module, PyObject *duplex);

/* Close the descriptor. */
void connection_shut(ConnectionObject *self);

/* As wait_without_gil (hasty: as try_then_wait), with the descriptor. */
int connection_wait(ConnectionObject *self, int hasty, blocking_fn fn, void *arg, fmp_time until, int *rc);

/* Raise for what became of a message, of which nothing is kept. Returns -1. */
int connection_fail(ConnectionObject *self, int rc);

/* The next message: as an object; as bytes, of which there may be `most`; its length, when it was put into the
 * buffer from `offset` on (BufferTooShort if it doesn't fit), -1 if not. Wait for something to receive: returns
 * as wait_without_gil does. Send: 0 or -1. */
#define TRANSPORT(name)                                                                                    \
    PyObject *name##_receive_object(ConnectionObject *self);                                               \
    PyObject *name##_receive(ConnectionObject *self, size_t most);                                         \
    Py_ssize_t name##_receive_into(ConnectionObject *self, const Py_buffer *view, Py_ssize_t offset);      \
    int name##_poll(ConnectionObject *self, fmp_time until, int *rc);                                      \
    int name##_send_object(ConnectionObject *self, PyObject *obj);                                         \
    int name##_send_bytes(ConnectionObject *self, const void *data, Py_ssize_t bytes)

TRANSPORT(stream);
TRANSPORT(channel);

/* The descriptor of a channel's end (core/channel.h), for pollers: true if there is a message already; for what else is
 * sent through it. -1 with an exception. */
int channel_watch(ConnectionObject *self);
int channel_listen(ConnectionObject *self);
int channel_interpose(ConnectionObject *self);
int channel_uncover(ConnectionObject *self);

/* Drop what interrupted calls left of a stream. */
void stream_forget(ConnectionObject *self);

#endif
