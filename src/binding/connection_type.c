/* connection_type.c: Connection, one end of a stream of messages: the arguments, checks and errors of the
 * standard library's. What moves the messages is its transport (connection.h). */
#include "binding/connection.h"

/* Take a descriptor, which may be an end of a pipe: 0, or -1 with an exception. */
static int
set_fd(ConnectionObject *self, int fd)
{
    EndObject *end = NULL, *old = self->end;
    if (fd >= 0 && end_of_descriptor(self->state, fd, &end) < 0)
        return -1;
    stream_forget(self);
    self->end = end;
    self->is_socket = fd >= 0 && fmp_fd_is_socket(fd);
    fmp_store(&self->fd, fd);
    Py_XDECREF((PyObject *)old);
    return 0;
}

/* Close the descriptor; while another call has it in hands, its number is kept from whatever is opened next. */
static void
let_go(ConnectionObject *self, int fd)
{
    if (self->waiting > 0 && self->vacated < 0 && fmp_fd_vacate(fd) == 0)
        self->vacated = fd;
    else
        fmp_fd_close(fd);
}

int
connection_wait(ConnectionObject *self, int hasty, blocking_fn fn, void *arg, fmp_time until, int *rc)
{
    fmp_waiter w = FMP_WAITER(until);
    self->waiting++;
    int raised = hasty ? try_then_wait(fn, arg, until, rc) : wait_without_gil(fn, arg, &w, rc);
    if (--self->waiting == 0 && self->vacated >= 0) {
        fmp_fd_close(self->vacated);
        self->vacated = -1;
    }
    return raised;
}

void
connection_shut(ConnectionObject *self)
{
    int fd = fmp_peek(&self->fd);
    EndObject *end = self->end;
    fmp_store(&self->fd, -1);
    self->end = NULL;
    stream_forget(self);
    if (fd >= 0)
        let_go(self, fd);
    if (fd >= 0 && end != NULL)
        fmp_channel_left(&end->end);
    Py_XDECREF((PyObject *)end);
}

static PyObject *
connection_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    allocfunc alloc = PyType_GetSlot(type, Py_tp_alloc);
    ConnectionObject *self = (ConnectionObject *)alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->state = state_of_type(type);
    self->vacated = -1;
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
    if (set_fd(self, fd) < 0)
        return -1;
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
    connection_shut(self);
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

static PyObject *
none_or_error(int rc)
{
    if (rc < 0)
        return NULL;
    Py_RETURN_NONE;
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
        connection_shut(self);
    PyErr_SetString(PyExc_OSError, "bad message length");
}

/* Raise for what became of a message, of which nothing is kept. Returns -1. */
int
connection_fail(ConnectionObject *self, int rc)
{
    if (rc == FMP_TOO_LONG)
        refuse(self);
    else if (check_closed(self) == 0) /* else another thread closed it meanwhile */
        raise_rc(self->state, rc);
    return -1;
}

/* ---- receiving ------------------------------------------------------------------------------------ */

static PyObject *
connection_recv(ConnectionObject *self, PyObject *Py_UNUSED(ignored))
{
    if (may_receive(self) < 0)
        return NULL;
    return (self->end != NULL ? channel_receive_object : stream_receive_object)(self);
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
    return (self->end != NULL ? channel_receive : stream_receive)(self, (size_t)most);
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
        bytes = (self->end != NULL ? channel_receive_into : stream_receive_into)(self, &view, offset);
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
        (self->end != NULL ? channel_poll : stream_poll)(self, until, &rc) < 0)
        return NULL;
    if (rc == FMP_TIMEOUT)
        Py_RETURN_FALSE;
    if (rc != 0 || check_closed(self) < 0) { /* what was closed meanwhile may look readable */
        connection_fail(self, rc);
        return NULL;
    }
    Py_RETURN_TRUE;
}

/* ---- sending -------------------------------------------------------------------------------------- */

static PyObject *
connection_send(ConnectionObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"send", {"obj"}, 1};
    PyObject *obj;
    if (may_send(self) < 0 || args_parse(&spec, args, nargs, kwnames, &obj) < 0 || (self->end != NULL ? channel_send_object : stream_send_object)(self, obj) < 0)
        return NULL;
    Py_RETURN_NONE;
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
    return none_or_error((self->end != NULL ? channel_send_bytes : stream_send_bytes)(self, (char *)view->buf + offset, size));
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

/* The descriptor, for who may poll it at any time, or pass it on; None if there is none. */
static PyObject *
get_handle(ConnectionObject *self, void *Py_UNUSED(closure))
{
    int fd = fmp_peek(&self->fd);
    EndObject *end = self->end;
    if (fd < 0)
        Py_RETURN_NONE;
    if (end != NULL && end_label(end, fd) < 0)
        return NULL;
    if (end != NULL && channel_listen(self) < 0)
        return NULL;
    return PyLong_FromLong(fd);
}

static PyObject *
connection_fileno(ConnectionObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check_closed(self) < 0)
        return NULL;
    return get_handle(self, NULL);
}

/* For who passes the descriptor on: it says what it is, but nobody polls it. */
static PyObject *
connection_descriptor(ConnectionObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check_closed(self) < 0 || (self->end != NULL && end_label(self->end, fmp_peek(&self->fd)) < 0))
        return NULL;
    return PyLong_FromLong(fmp_peek(&self->fd));
}

/* For who polls the descriptor once, beginning now. */
static PyObject *
connection_watch(ConnectionObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check_closed(self) < 0)
        return NULL;
    int ready = self->end == NULL ? 0 : channel_watch(self);
    return ready < 0 ? NULL : Py_BuildValue("(iN)", fmp_peek(&self->fd), PyBool_FromLong(ready));
}

/* What keeps the pipe for whoever gets the descriptor, if this thread pickles for such. */
static PyObject *
connection_passenger(ConnectionObject *self, PyObject *Py_UNUSED(ignored))
{
    if (self->end != NULL && handle_may_travel(&self->end->handle) == 0)
        return Py_NewRef((PyObject *)self->end);
    PyErr_Clear();
    Py_RETURN_NONE;
}

static PyObject *
connection_interpose(ConnectionObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check_closed(self) < 0 || (self->end != NULL && channel_interpose(self) < 0))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
connection_uncover(ConnectionObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check_closed(self) < 0 || (self->end != NULL && channel_uncover(self) < 0))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
connection_close(ConnectionObject *self, PyObject *Py_UNUSED(ignored))
{
    connection_shut(self);
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
    return set_fd(self, (int)fd);
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

/* ---- pipes ---------------------------------------------------------------------------------------- */

static PyObject *
make(module_state *state, int fd, EndObject *end, int readable, int writable)
{
    ConnectionObject *self = (ConnectionObject *)connection_new(state->Connection, NULL, NULL);
    if (self == NULL)
        return NULL;
    self->end = (EndObject *)Py_XNewRef((PyObject *)end);
    self->is_socket = 1;
    self->readable = (char)readable;
    self->writable = (char)writable;
    fmp_store(&self->fd, fd);
    return (PyObject *)self;
}

/* Both connections of the sockets, which are theirs from now on. */
static PyObject *
make_pair(module_state *state, const int sockets[2], EndObject *const ends[2], int two_way)
{
    PyObject *made[2];
    for (int i = 0; i < 2; i++) {
        made[i] = make(state, sockets[i], ends[i], two_way || i == 0, two_way || i == 1);
        if (made[i] == NULL)
            fmp_fd_close(sockets[i]);
    }
    if (made[0] != NULL && made[1] != NULL)
        return Py_BuildValue("(NN)", made[0], made[1]);
    Py_XDECREF(made[0]);
    Py_XDECREF(made[1]);
    return NULL;
}

PyObject *
connection_pair(PyObject *module, PyObject *duplex)
{
    module_state *state = PyModule_GetState(module);
    EndObject *ends[2];
    int sockets[2], two_way = PyObject_IsTrue(duplex);
    if (two_way < 0 || end_pair(state, two_way, sockets, ends) < 0)
        return NULL;
    PyObject *pair = make_pair(state, sockets, ends, two_way);
    Py_DECREF((PyObject *)ends[0]);
    Py_DECREF((PyObject *)ends[1]);
    return pair;
}

PyObject *
connection_stream_pair(PyObject *module, PyObject *duplex)
{
    static EndObject *const none[2];
    module_state *state = PyModule_GetState(module);
    int sockets[2], two_way = PyObject_IsTrue(duplex);
    if (two_way < 0)
        return NULL;
    int rc = fmp_fd_pair(sockets, two_way);
    return rc < 0 ? raise_rc(state, rc) : make_pair(state, sockets, none, two_way);
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
    {"_descriptor", (PyCFunction)connection_descriptor, METH_NOARGS,
     "_descriptor($self, /)\n--\n\nThe descriptor, to be passed on."},
    {"_watch", (PyCFunction)connection_watch, METH_NOARGS,
     "_watch($self, /)\n--\n\nThe descriptor, to be polled once, and whether there is something to receive already."},
    {"_passenger", (PyCFunction)connection_passenger, METH_NOARGS,
     "_passenger($self, /)\n--\n\nWhat is to be pickled beside the descriptor, or None."},
    {"_interpose", (PyCFunction)connection_interpose, METH_NOARGS,
     "_interpose($self, /)\n--\n\nSomething that is no message was sent through the socket."},
    {"_uncover", (PyCFunction)connection_uncover, METH_NOARGS,
     "_uncover($self, /)\n--\n\nSomething that is no message is to be received from the socket."},
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
