/* stream.c: messages through a descriptor, in frames.
 *
 * Ctrl-C, or any signal handler that raises, may end a call in the middle of a message. The connection
 * keeps what is left: the next receive goes on with the half-read message, the next send first sends the
 * rest of the half-sent one, so the stream stays whole. A send that raised before its first byte left has
 * sent nothing.
 *
 * A handler may also use the connection while the call that it interrupts is in the middle of a message. What
 * is half sent is then sent to its end first, of what is half received the handler gets the whole.
 *
 * Each call works on a frame of its own (struct receipt, struct dispatch), so threads that use one connection
 * at once may get their messages mixed up, as the standard library's do, and nothing worse.
 *
 * Small messages on a socket are tried with the GIL held, since giving it up may cost a turn of every other
 * thread. */
#include "binding/codec.h"
#include "binding/connection.h"
#include "binding/copy.h"
#include "core/frame.h"

#define QUICK ((size_t)1 << 14) /* bytes that a call may copy with the GIL held: some microseconds */

struct stream_left {
    fmp_frame_in in;   /* what a receive has got, */
    PyObject *body;    /* ... and the bytes of its body, or NULL */
    fmp_frame_out out; /* what a send has left, if there is */
    PyObject *rest;    /* ... a body of it */
};

/* A message being received. */
struct receipt {
    ConnectionObject *self;
    fmp_frame_in in;
    PyObject *body; /* bytes, or NULL if it goes into the caller's memory */
    char *to;
    size_t most;
    struct receipt *outer;
};

/* A message being sent. */
struct dispatch {
    ConnectionObject *self;
    fmp_frame_out out;
    struct dispatch *outer;
};

/* What this thread has under way: all but the first wait for a signal handler, which did the next, to return. */
static _Thread_local struct receipt *receiving;
static _Thread_local struct dispatch *sending;

static int
header_blocking(void *arg, fmp_waiter *w)
{
    struct receipt *r = arg;
    return fmp_frame_read_header(r->self->arena, fmp_peek(&r->self->fd), &r->in, r->most, w);
}

static int
body_blocking(void *arg, fmp_waiter *w)
{
    struct receipt *r = arg;
    return fmp_frame_read_body(r->self->arena, fmp_peek(&r->self->fd), &r->in, r->to, w);
}

static int
write_blocking(void *arg, fmp_waiter *w)
{
    struct dispatch *d = arg;
    return fmp_frame_write(fmp_peek(&d->self->fd), &d->out, w);
}

static int
poll_blocking(void *arg, fmp_waiter *w)
{
    ConnectionObject *self = arg;
    return fmp_frame_poll(self->arena, fmp_peek(&self->fd), w);
}

/* Move a message of so many bytes on until it is done. Returns as wait_without_gil does. */
static int
move(ConnectionObject *self, blocking_fn fn, void *arg, size_t bytes, int *rc)
{
    return connection_wait(self, self->is_socket && bytes <= QUICK, fn, arg, FMP_FOREVER, rc);
}

void
stream_forget(ConnectionObject *self)
{
    struct stream_left *left = self->left;
    if (left == NULL)
        return;
    self->left = NULL;
    Py_XDECREF(left->body);
    Py_XDECREF(left->rest);
    PyMem_Free(left);
}

/* Where to keep something, or NULL, and the stream has lost its place. */
static struct stream_left *
left_of(ConnectionObject *self)
{
    if (self->left == NULL)
        self->left = PyMem_Calloc(1, sizeof(*self->left));
    if (self->left == NULL)
        connection_shut(self);
    return self->left;
}

/* ---- receiving ------------------------------------------------------------------------------------ */

/* After an interruption: keep what there is of the message. */
static void
keep(struct receipt *r)
{
    ConnectionObject *self = r->self;
    if (r->in.header_got == 0)
        return;
    if (r->body == NULL && r->in.body_got > 0) {
        r->body = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)r->in.body_bytes);
        if (r->body == NULL) { /* the stream has lost its place */
            connection_shut(self);
            return;
        }
        memcpy(PyBytes_AsString(r->body), r->to, r->in.body_got);
    }
    struct stream_left *left = left_of(self);
    if (left == NULL) {
        Py_CLEAR(r->body);
        return;
    }
    left->in = r->in;
    Py_XSETREF(left->body, r->body);
}

/* Keep what a call that this one comes in the midst of has got: it begins anew when it goes on. 0, or -1 with an
 * exception. */
static int
take_over(ConnectionObject *self)
{
    for (struct receipt *r = receiving; r != NULL; r = r->outer)
        if (r->self == self) {
            keep(r);
            r->in = (fmp_frame_in){0};
            r->body = NULL;
        }
    return PyErr_Occurred() ? -1 : 0;
}

static int
was_taken_over(const struct receipt *r)
{
    return r->in.header_got == 0;
}

static int
receive_part(struct receipt *r, blocking_fn fn, size_t bytes)
{
    int rc;
    r->outer = receiving;
    receiving = r;
    int raised = move(r->self, fn, r, bytes, &rc);
    receiving = r->outer;
    if (raised < 0) {
        keep(r);
        return -1;
    }
    if (rc == 0)
        return 0;
    Py_CLEAR(r->body);
    return connection_fail(r->self, rc);
}

/* Begin a message, or go on with an interrupted one: its length is known then. */
static int
receive_header(ConnectionObject *self, struct receipt *r, size_t most)
{
    *r = (struct receipt){.self = self, .most = most};
    if (take_over(self) < 0)
        return -1;
    struct stream_left *left = self->left;
    if (left != NULL) {
        r->in = left->in;
        r->body = left->body;
        left->in = (fmp_frame_in){0};
        left->body = NULL;
    }
    return receive_part(r, header_blocking, 0);
}

static int
receive_body_into(struct receipt *r, char *to)
{
    r->to = to;
    return receive_part(r, body_blocking, r->in.body_bytes);
}

/* The body as bytes, unless it was taken over. */
static PyObject *
receive_body(struct receipt *r)
{
    if (r->body == NULL)
        r->body = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)r->in.body_bytes);
    if (r->body == NULL) {
        keep(r);
        return NULL;
    }
    return receive_body_into(r, PyBytes_AsString(r->body)) < 0 ? NULL : r->body;
}

PyObject *
stream_receive(ConnectionObject *self, size_t most)
{
    struct receipt r;
    PyObject *body;
    do {
        if (receive_header(self, &r, most) < 0)
            return NULL;
        body = receive_body(&r);
        if (body == NULL && PyErr_Occurred())
            return NULL;
    } while (was_taken_over(&r));
    return body;
}

/* Receive into the buffer from `offset` on: the length, or -1. */
Py_ssize_t
stream_receive_into(ConnectionObject *self, const Py_buffer *view, Py_ssize_t offset)
{
    struct receipt r;
    char *to = (char *)view->buf + offset;
    Py_ssize_t bytes;
    PyObject *message = NULL;
    int fits;
    do {
        if (receive_header(self, &r, PY_SSIZE_T_MAX) < 0)
            return -1;
        bytes = (Py_ssize_t)r.in.body_bytes;
        fits = bytes <= view->len - offset;
        if (fits && r.body == NULL) {
            if (receive_body_into(&r, to) < 0)
                return -1;
        } else if ((message = receive_body(&r)) == NULL && PyErr_Occurred())
            return -1;
    } while (was_taken_over(&r));
    if (message == NULL)
        return bytes;
    if (fits)
        copy_bytes(to, PyBytes_AsString(message), (size_t)bytes);
    else
        PyErr_SetObject(self->state->BufferTooShort, message);
    Py_DECREF(message);
    return fits ? bytes : -1;
}

PyObject *
stream_receive_object(ConnectionObject *self)
{
    PyObject *message = stream_receive(self, PY_SSIZE_T_MAX);
    if (message == NULL)
        return NULL;
    PyObject *obj = codec_unpickle(self->state, PyBytes_AsString(message), PyBytes_Size(message));
    Py_DECREF(message);
    return obj;
}

int
stream_poll(ConnectionObject *self, fmp_time until, int *rc)
{
    return connection_wait(self, 1, poll_blocking, self, until, rc);
}

/* ---- sending -------------------------------------------------------------------------------------- */

/* After an interruption: keep what is left of the message, if part of it has gone. A copy, since the
 * caller may do as he likes with his own once he has got the exception. */
static void
keep_rest(struct dispatch *d)
{
    ConnectionObject *self = d->self;
    if (d->out.done == 0)
        return;
    PyObject *rest = PyBytes_FromStringAndSize(d->out.body, (Py_ssize_t)d->out.body_bytes);
    struct stream_left *left = rest == NULL ? NULL : left_of(self);
    if (left == NULL) { /* the stream has lost its place */
        connection_shut(self);
        Py_XDECREF(rest);
        return;
    }
    left->out = d->out;
    left->out.body = PyBytes_AsString(rest);
    Py_XSETREF(left->rest, rest);
}

static int
send_frame(struct dispatch *d)
{
    int rc;
    d->outer = sending;
    sending = d;
    int raised = move(d->self, write_blocking, d, d->out.body_bytes, &rc);
    sending = d->outer;
    if (raised < 0) {
        keep_rest(d);
        return -1;
    }
    return rc == 0 ? 0 : connection_fail(d->self, rc);
}

/* Send to its end what a call that this one comes in the midst of has begun. */
static int
send_begun(ConnectionObject *self)
{
    for (struct dispatch *d = sending; d != NULL; d = d->outer) {
        int rc = 0;
        if (d->self != self || d->out.done == 0)
            continue;
        if (move(self, write_blocking, d, d->out.body_bytes, &rc) < 0)
            return -1;
        if (rc != 0)
            return connection_fail(self, rc);
    }
    return 0;
}

static int
send_rest(ConnectionObject *self)
{
    struct dispatch d = {.self = self, .out = self->left->out};
    PyObject *rest = self->left->rest;
    self->left->rest = NULL;
    int rc = send_frame(&d);
    Py_DECREF(rest);
    return rc;
}

static int
has_rest(const ConnectionObject *self)
{
    return self->left != NULL && self->left->rest != NULL;
}

static int
send_message(ConnectionObject *self, struct dispatch *d, const void *data, Py_ssize_t bytes)
{
    *d = (struct dispatch){.self = self};
    if (send_begun(self) < 0 || (has_rest(self) && send_rest(self) < 0))
        return -1;
    fmp_frame_out_init(&d->out, data, (size_t)bytes);
    return send_frame(d);
}

int
stream_send_bytes(ConnectionObject *self, const void *data, Py_ssize_t bytes)
{
    struct dispatch d;
    return send_message(self, &d, data, bytes);
}

/* The same for an object's, which carries a cargo. If the rest of it goes later, the cargo does. */
static int
send_loaded(ConnectionObject *self, const Py_buffer *contents, const handle_cargo *cargo)
{
    struct dispatch d;
    handle_cargo_ship_loose(cargo);
    int rc = send_message(self, &d, contents->buf, contents->len);
    if (rc < 0 && !(d.out.done != 0 && has_rest(self)))
        handle_cargo_land_loose(cargo);
    return rc;
}

int
stream_send_object(ConnectionObject *self, PyObject *obj)
{
    Py_buffer contents;
    handle_cargo cargo;
    handle_cargo_begin(&cargo, 1);
    int rc = codec_encode(self->state, obj, &contents);
    handle_cargo_end(&cargo);
    if (rc == 0) {
        rc = send_loaded(self, &contents, &cargo);
        PyBuffer_Release(&contents);
    }
    handle_cargo_drop(&cargo);
    return rc;
}
