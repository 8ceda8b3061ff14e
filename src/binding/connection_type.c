/* connection_type.c: Connection, one end of a stream of messages over a descriptor.
 *
 * Ctrl-C, or any signal handler that raises, may end a call in the middle of a message. The connection
 * keeps what is left: the next receive goes on with the half-read message, the next send first sends the
 * rest of the half-sent one, so the stream stays whole. A send that raised before its first byte left has
 * sent nothing.
 *
 * Each call works on a frame of its own (struct receipt, struct dispatch), so threads that use one connection
 * at once may get their messages mixed up, as the standard library's do, and nothing worse.
 *
 * Small messages on a socket are tried with the GIL held, since giving it up may cost a turn of every other
 * thread. What moves bytes is the part "the stream" alone: four functions, which another transport has
 * in its own form. */
#include "binding/codec.h"
#include "binding/handle.h"
#include "core/frame.h"

typedef struct {
    PyObject_HEAD
    module_state *state;
    fmp_arena *arena;
    _Atomic int fd; /* -1 once closed, perhaps while another thread waits */
    char is_socket;
    char readable;
    char writable;
    fmp_frame_in in; /* what an interrupted receive has got, */
    PyObject *body;  /* ... and the bytes of its body, or NULL */
    fmp_frame_out out; /* what an interrupted send has left, if there is */
    PyObject *rest;    /* ... a body of it */
    PyObject *weakrefs;
} ConnectionObject;

#define QUICK ((size_t)1 << 14) /* bytes that a call may copy with the GIL held: some microseconds */

static void
set_fd(ConnectionObject *self, int fd)
{
    fmp_store(&self->fd, fd);
    self->is_socket = fd >= 0 && fmp_fd_is_socket(fd);
}

static void
forget(ConnectionObject *self)
{
    self->in = (fmp_frame_in){0};
    Py_CLEAR(self->body);
    Py_CLEAR(self->rest);
}

static void
shut(ConnectionObject *self)
{
    int fd = fmp_peek(&self->fd);
    fmp_store(&self->fd, -1);
    forget(self);
    if (fd >= 0)
        fmp_fd_close(fd);
}

static PyObject *
connection_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    allocfunc alloc = PyType_GetSlot(type, Py_tp_alloc);
    ConnectionObject *self = (ConnectionObject *)alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->state = state_of_type(type);
    fmp_store(&self->fd, -1);
    self->arena = fmp_here();
    if (self->arena == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int
connection_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"handle", "readable", "writable", NULL};
    ConnectionObject *self = (ConnectionObject *)op;
    int fd, readable = 1, writable = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|pp", names, &fd, &readable, &writable))
        return -1;
    if (fd < 0) {
        PyErr_SetString(PyExc_ValueError, "invalid handle");
        return -1;
    }
    if (!readable && !writable) {
        PyErr_SetString(PyExc_ValueError, "at least one of `readable` and `writable` must be True");
        return -1;
    }
    forget(self);
    set_fd(self, fd);
    self->readable = (char)readable;
    self->writable = (char)writable;
    return 0;
}

static void
connection_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    ConnectionObject *self = (ConnectionObject *)op;
    if (self->weakrefs != NULL)
        PyObject_ClearWeakRefs(op);
    shut(self);
    freefunc tp_free = PyType_GetSlot(type, Py_tp_free);
    tp_free(op);
    Py_DECREF(type);
}

/* ---- checks --------------------------------------------------------------------------------------- */

static int
check(int good, const char *complaint)
{
    if (good)
        return 0;
    PyErr_SetString(PyExc_OSError, complaint);
    return -1;
}

static int
check_closed(ConnectionObject *self)
{
    return check(fmp_peek(&self->fd) >= 0, "handle is closed");
}

static int
check_readable(ConnectionObject *self)
{
    return check(self->readable, "connection is write-only");
}

static int
check_writable(ConnectionObject *self)
{
    return check(self->writable, "connection is read-only");
}

static int
may_receive(ConnectionObject *self)
{
    return check_closed(self) < 0 || check_readable(self) < 0 ? -1 : 0;
}

static int
may_send(ConnectionObject *self)
{
    return check_closed(self) < 0 || check_writable(self) < 0 ? -1 : 0;
}

/* A message longer than was allowed is still in the stream, so nothing more can be received. */
static void
refuse(ConnectionObject *self)
{
    if (self->writable)
        self->readable = 0;
    else
        shut(self);
    PyErr_SetString(PyExc_OSError, "bad message length");
}

/* Raise for what became of a message, of which nothing is kept. Returns -1. */
static int
fail(ConnectionObject *self, int rc)
{
    if (rc == FMP_TOO_LONG)
        refuse(self);
    else if (check_closed(self) == 0) /* else another thread closed it meanwhile */
        raise_rc(self->state, rc);
    return -1;
}

/* ---- the stream ----------------------------------------------------------------------------------- */

/* A message being received. */
struct receipt {
    ConnectionObject *self;
    fmp_frame_in in;
    PyObject *body; /* bytes, or NULL if it goes into the caller's memory */
    char *to;
    size_t most;
};

/* A message being sent. */
struct dispatch {
    ConnectionObject *self;
    fmp_frame_out out;
};

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
    if (self->is_socket && bytes <= QUICK)
        return try_then_wait(fn, arg, FMP_FOREVER, rc);
    fmp_waiter w = FMP_WAITER(FMP_FOREVER);
    return wait_without_gil(fn, arg, &w, rc);
}

/* ---- receiving ------------------------------------------------------------------------------------ */

/* After an interruption: keep what there is of the message. */
static void
keep(struct receipt *r)
{
    ConnectionObject *self = r->self;
    if (r->body == NULL && r->in.body_got > 0) {
        r->body = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)r->in.body_bytes);
        if (r->body == NULL) { /* the stream has lost its place */
            shut(self);
            return;
        }
        memcpy(PyBytes_AsString(r->body), r->to, r->in.body_got);
    }
    self->in = r->in;
    Py_XSETREF(self->body, r->body);
}

static int
receive_part(struct receipt *r, blocking_fn fn, size_t bytes)
{
    int rc;
    if (move(r->self, fn, r, bytes, &rc) < 0) {
        keep(r);
        return -1;
    }
    if (rc == 0)
        return 0;
    Py_CLEAR(r->body);
    return fail(r->self, rc);
}

/* Begin a message, or go on with an interrupted one: its length is known then. */
static int
receive_header(ConnectionObject *self, struct receipt *r, size_t most)
{
    *r = (struct receipt){.self = self, .in = self->in, .body = self->body, .most = most};
    self->in = (fmp_frame_in){0};
    self->body = NULL;
    return receive_part(r, header_blocking, 0);
}

static int
receive_body_into(struct receipt *r, char *to)
{
    r->to = to;
    return receive_part(r, body_blocking, r->in.body_bytes);
}

/* The body as bytes. */
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

static PyObject *
receive_message(ConnectionObject *self, size_t most)
{
    struct receipt r;
    return receive_header(self, &r, most) < 0 ? NULL : receive_body(&r);
}

static PyObject *
connection_recv(ConnectionObject *self, PyObject *Py_UNUSED(ignored))
{
    if (may_receive(self) < 0)
        return NULL;
    PyObject *message = receive_message(self, PY_SSIZE_T_MAX);
    if (message == NULL)
        return NULL;
    PyObject *obj = codec_unpickle(self->state, PyBytes_AsString(message), PyBytes_Size(message));
    Py_DECREF(message);
    return obj;
}

/* An argument that may not be negative; `fallback` if it isn't given or None. -1 with an exception. */
static Py_ssize_t
get_count(PyObject *given, Py_ssize_t fallback, const char *complaint)
{
    if (given == NULL || given == Py_None)
        return fallback;
    Py_ssize_t n = PyNumber_AsSsize_t(given, NULL); /* what is too large is clipped, and refused later */
    if (n == -1 && PyErr_Occurred())
        return -1;
    if (n >= 0)
        return n;
    PyErr_SetString(PyExc_ValueError, complaint);
    return -1;
}

/* The standard library's TypeError for memory that can't be used. */
static int
get_buffer(PyObject *obj, int flags, Py_buffer *view)
{
    if (PyObject_GetBuffer(obj, view, flags) == 0)
        return 0;
    if (PyErr_ExceptionMatches(PyExc_BufferError))
        PyErr_Format(PyExc_TypeError, "a contiguous%s bytes-like object is required, not '%.100s'",
                     flags & PyBUF_WRITABLE ? " read-write" : "", Py_TYPE(obj)->tp_name);
    return -1;
}

static PyObject *
connection_recv_bytes(ConnectionObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"recv_bytes", {"maxlength"}, 0};
    PyObject *given;
    Py_ssize_t most;
    if (may_receive(self) < 0 || args_parse(&spec, args, nargs, kwnames, &given) < 0 ||
        (most = get_count(given, PY_SSIZE_T_MAX, "negative maxlength")) < 0)
        return NULL;
    return receive_message(self, (size_t)most);
}

/* Receive into the buffer from `offset` on: the length, or -1. */
static Py_ssize_t
receive_into(ConnectionObject *self, const Py_buffer *view, Py_ssize_t offset)
{
    struct receipt r;
    char *to = (char *)view->buf + offset;
    if (receive_header(self, &r, PY_SSIZE_T_MAX) < 0)
        return -1;
    Py_ssize_t bytes = (Py_ssize_t)r.in.body_bytes;
    int fits = bytes <= view->len - offset;
    if (fits && r.body == NULL)
        return receive_body_into(&r, to) < 0 ? -1 : bytes;
    PyObject *message = receive_body(&r);
    if (message == NULL)
        return -1;
    if (fits)
        codec_copy(to, PyBytes_AsString(message), (size_t)bytes);
    else
        PyErr_SetObject(self->state->BufferTooShort, message);
    Py_DECREF(message);
    return fits ? bytes : -1;
}

static PyObject *
connection_recv_bytes_into(ConnectionObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"recv_bytes_into", {"buf", "offset"}, 1};
    PyObject *given[2];
    Py_ssize_t offset, bytes = -1;
    Py_buffer view;
    if (may_receive(self) < 0 || args_parse(&spec, args, nargs, kwnames, given) < 0 ||
        get_buffer(given[0], PyBUF_WRITABLE, &view) < 0)
        return NULL;
    offset = get_count(given[1], 0, "negative offset");
    if (offset > view.len)
        PyErr_SetString(PyExc_ValueError, "offset too large");
    else if (offset >= 0)
        bytes = receive_into(self, &view, offset);
    PyBuffer_Release(&view);
    return bytes < 0 ? NULL : PyLong_FromSsize_t(bytes);
}

static PyObject *
connection_poll(ConnectionObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"poll", {"timeout"}, 0};
    PyObject *timeout;
    fmp_time until = FMP_NOW;
    int rc;
    if (may_receive(self) < 0 || args_parse(&spec, args, nargs, kwnames, &timeout) < 0 ||
        (timeout != NULL && args_deadline(timeout, &until) < 0) ||
        try_then_wait(poll_blocking, self, until, &rc) < 0)
        return NULL;
    if (rc != 0 && rc != FMP_TIMEOUT) {
        fail(self, rc);
        return NULL;
    }
    return PyBool_FromLong(rc == 0);
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
    self->rest = PyBytes_FromStringAndSize(d->out.body, (Py_ssize_t)d->out.body_bytes);
    if (self->rest == NULL) { /* the stream has lost its place */
        shut(self);
        return;
    }
    self->out = d->out;
    self->out.body = PyBytes_AsString(self->rest);
}

static int
send_frame(struct dispatch *d)
{
    int rc;
    if (move(d->self, write_blocking, d, d->out.body_bytes, &rc) < 0) {
        keep_rest(d);
        return -1;
    }
    return rc == 0 ? 0 : fail(d->self, rc);
}

static int
send_rest(ConnectionObject *self)
{
    struct dispatch d = {.self = self, .out = self->out};
    PyObject *rest = self->rest;
    self->rest = NULL;
    int rc = send_frame(&d);
    Py_DECREF(rest);
    return rc;
}

static PyObject *
send_message(ConnectionObject *self, const void *data, Py_ssize_t bytes)
{
    struct dispatch d = {.self = self};
    if (self->rest != NULL && send_rest(self) < 0)
        return NULL;
    fmp_frame_out_init(&d.out, data, (size_t)bytes);
    if (send_frame(&d) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
connection_send(ConnectionObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"send", {"obj"}, 1};
    PyObject *obj;
    Py_buffer contents;
    handle_cargo cargo;
    if (may_send(self) < 0 || args_parse(&spec, args, nargs, kwnames, &obj) < 0)
        return NULL;
    handle_cargo_begin(&cargo, 1);
    int rc = codec_encode(self->state, obj, &contents);
    handle_cargo_end(&cargo);
    PyObject *sent = rc < 0 ? NULL : send_message(self, contents.buf, contents.len);
    (sent == NULL ? handle_cargo_drop : handle_cargo_sent)(&cargo);
    if (rc == 0)
        PyBuffer_Release(&contents);
    return sent;
}

static PyObject *
send_range(ConnectionObject *self, const Py_buffer *view, PyObject *from, PyObject *count)
{
    Py_ssize_t offset = get_count(from, 0, "offset is negative");
    if (offset < 0)
        return NULL;
    if (offset > view->len) {
        PyErr_SetString(PyExc_ValueError, "buffer length < offset");
        return NULL;
    }
    Py_ssize_t size = get_count(count, view->len - offset, "size is negative");
    if (size < 0)
        return NULL;
    if (size > view->len - offset) {
        PyErr_SetString(PyExc_ValueError, "buffer length < offset + size");
        return NULL;
    }
    return send_message(self, (char *)view->buf + offset, size);
}

static PyObject *
connection_send_bytes(ConnectionObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"send_bytes", {"buf", "offset", "size"}, 1};
    PyObject *given[3];
    Py_buffer view;
    if (may_send(self) < 0 || args_parse(&spec, args, nargs, kwnames, given) < 0 ||
        get_buffer(given[0], PyBUF_SIMPLE, &view) < 0)
        return NULL;
    PyObject *sent = send_range(self, &view, given[1], given[2]);
    PyBuffer_Release(&view);
    return sent;
}

/* ---- the descriptor ------------------------------------------------------------------------------- */

static PyObject *
connection_fileno(ConnectionObject *self, PyObject *Py_UNUSED(ignored))
{
    return check_closed(self) < 0 ? NULL : PyLong_FromLong(fmp_peek(&self->fd));
}

static PyObject *
connection_close(ConnectionObject *self, PyObject *Py_UNUSED(ignored))
{
    shut(self);
    Py_RETURN_NONE;
}

static PyObject *
connection_enter(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(op);
}

static PyObject *
connection_exit(PyObject *op, PyObject *Py_UNUSED(args))
{
    return PyObject_CallMethod(op, "close", NULL); /* a subclass may have its own */
}

static PyObject *
get_handle(ConnectionObject *self, void *Py_UNUSED(closure))
{
    int fd = fmp_peek(&self->fd);
    if (fd < 0)
        Py_RETURN_NONE;
    return PyLong_FromLong(fd);
}

static int
set_handle(ConnectionObject *self, PyObject *handle, void *Py_UNUSED(closure))
{
    long fd = -1;
    if (handle == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_handle can't be deleted");
        return -1;
    }
    if (handle != Py_None) {
        fd = PyLong_AsLong(handle);
        if (fd == -1 && PyErr_Occurred())
            return -1;
        if (fd < 0 || fd > INT_MAX) {
            PyErr_SetString(PyExc_ValueError, "invalid handle");
            return -1;
        }
    }
    forget(self);
    set_fd(self, (int)fd);
    return 0;
}

static PyObject *
get_closed(ConnectionObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(fmp_peek(&self->fd) < 0);
}

static PyObject *
get_readable(ConnectionObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->readable);
}

static PyObject *
get_writable(ConnectionObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->writable);
}

static PyObject *
none_or_error(int rc)
{
    if (rc < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
connection_check_closed(ConnectionObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_or_error(check_closed(self));
}

static PyObject *
connection_check_readable(ConnectionObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_or_error(check_readable(self));
}

static PyObject *
connection_check_writable(ConnectionObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_or_error(check_writable(self));
}

static PyMethodDef methods[] = {
    {"send", (PyCFunction)(void (*)(void))connection_send, METH_FASTCALL | METH_KEYWORDS,
     "send($self, /, obj)\n--\n\nSend an object: all of it is pickled before the first byte leaves."},
    {"recv", (PyCFunction)connection_recv, METH_NOARGS,
     "recv($self, /)\n--\n\n"
     "Receive an object. Raises EOFError if the other side is gone and nothing is left."},
    {"send_bytes", (PyCFunction)(void (*)(void))connection_send_bytes, METH_FASTCALL | METH_KEYWORDS,
     "send_bytes($self, /, buf, offset=0, size=None)\n--\n\n"
     "Send the bytes of a buffer, or `size` of them from `offset` on, as one message."},
    {"recv_bytes", (PyCFunction)(void (*)(void))connection_recv_bytes, METH_FASTCALL | METH_KEYWORDS,
     "recv_bytes($self, /, maxlength=None)\n--\n\n"
     "Receive a message as bytes. If it has more than `maxlength` this raises OSError, and nothing can be\n"
     "received any more."},
    {"recv_bytes_into", (PyCFunction)(void (*)(void))connection_recv_bytes_into,
     METH_FASTCALL | METH_KEYWORDS,
     "recv_bytes_into($self, /, buf, offset=0)\n--\n\n"
     "Receive a message into a buffer; return its length. Raises BufferTooShort(message) if it doesn't fit."},
    {"poll", (PyCFunction)(void (*)(void))connection_poll, METH_FASTCALL | METH_KEYWORDS,
     "poll($self, /, timeout=0.0)\n--\n\n"
     "Is there something to receive, or the end, within `timeout` seconds? None waits for ever."},
    {"fileno", (PyCFunction)connection_fileno, METH_NOARGS,
     "fileno($self, /)\n--\n\nThe descriptor, readable while there is something to receive."},
    {"close", (PyCFunction)connection_close, METH_NOARGS,
     "close($self, /)\n--\n\nClose the descriptor. May be called again."},
    {"__enter__", connection_enter, METH_NOARGS, NULL},
    {"__exit__", connection_exit, METH_VARARGS, NULL},
    {"_check_closed", (PyCFunction)connection_check_closed, METH_NOARGS, NULL},
    {"_check_readable", (PyCFunction)connection_check_readable, METH_NOARGS, NULL},
    {"_check_writable", (PyCFunction)connection_check_writable, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"_handle", (getter)get_handle, (setter)set_handle, "The descriptor, or None.", NULL},
    {"closed", (getter)get_closed, NULL, "Is it closed?", NULL},
    {"readable", (getter)get_readable, NULL, "Can it receive?", NULL},
    {"writable", (getter)get_writable, NULL, "Can it send?", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(ConnectionObject, weakrefs), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyType_Spec connection_spec = {
    .name = "fastmp.connection.Connection",
    .basicsize = sizeof(ConnectionObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "Connection(handle, readable=True, writable=True)\n--\n\n"
                        "One end of a stream of messages over a descriptor, which it owns."},
            {Py_tp_new, connection_new},
            {Py_tp_init, connection_init},
            {Py_tp_dealloc, connection_dealloc},
            {Py_tp_methods, methods},
            {Py_tp_getset, getset},
            {Py_tp_members, members},
            {0, NULL},
        },
};
