/* channel.c: messages through the arena, for the ends of a pipe.
 *
 * A message is made where it is to lie, and read from there, so each byte is copied once in and once out. What an
 * interrupted call leaves is nothing: a message was sent, or taken, or it was not. */
#include "binding/codec.h"
#include "binding/connection.h"
#include "binding/copy.h"

/* A message on its way. */
struct passage {
    ConnectionObject *self;
    EndObject *end; /* held: the connection may be closed meanwhile */
    fmp_parcel parcel;
    fmp_message message;
};

static fmp_arena *
begin(struct passage *p, ConnectionObject *self)
{
    p->self = self;
    p->end = (EndObject *)Py_NewRef((PyObject *)self->end);
    return p->end->handle.arena;
}

static void
finish(struct passage *p)
{
    Py_DECREF((PyObject *)p->end);
}

static int
descriptor(const struct passage *p, int *fd)
{
    *fd = fmp_peek(&p->self->fd);
    return *fd < 0 ? -EBADF : 0;
}

static int
send_blocking(void *arg, fmp_waiter *w)
{
    struct passage *p = arg;
    int fd, rc = descriptor(p, &fd);
    return rc < 0 ? rc : fmp_channel_send(p->end->handle.arena, &p->end->end, fd, &p->parcel, w);
}

static int
receive_blocking(void *arg, fmp_waiter *w)
{
    struct passage *p = arg;
    int fd, rc = descriptor(p, &fd);
    return rc < 0 ? rc : fmp_channel_receive(p->end->handle.arena, &p->end->end, fd, &p->message, w);
}

static int
poll_blocking(void *arg, fmp_waiter *w)
{
    struct passage *p = arg;
    int fd, rc = descriptor(p, &fd);
    return rc < 0 ? rc : fmp_channel_poll(p->end->handle.arena, &p->end->end, fd, w);
}

/* Do something that may wait: as try_then_wait. */
static int
attend(ConnectionObject *self, blocking_fn fn, fmp_time until, int *rc)
{
    struct passage p;
    begin(&p, self);
    int raised = connection_wait(self, 1, fn, &p, until, rc);
    finish(&p);
    return raised;
}

/* ---- the descriptor ------------------------------------------------------------------------------- */

static int
watch_blocking(void *arg, fmp_waiter *w)
{
    struct passage *p = arg;
    int fd, rc = descriptor(p, &fd);
    return rc < 0 ? rc : fmp_channel_watch(p->end->handle.arena, &p->end->end, fd, w);
}

static int
listen_blocking(void *arg, fmp_waiter *w)
{
    struct passage *p = arg;
    int fd, rc = descriptor(p, &fd);
    return rc < 0 ? rc : fmp_channel_listen(p->end->handle.arena, &p->end->end, fd, w);
}

static int
interpose_blocking(void *arg, fmp_waiter *w)
{
    struct passage *p = arg;
    return fmp_channel_interpose(p->end->handle.arena, &p->end->end, w);
}

static int
uncover_blocking(void *arg, fmp_waiter *w)
{
    struct passage *p = arg;
    int fd, rc = descriptor(p, &fd);
    return rc < 0 ? rc : fmp_channel_uncover(p->end->handle.arena, &p->end->end, fd, w);
}

int
channel_watch(ConnectionObject *self)
{
    int rc;
    return attend(self, watch_blocking, FMP_NOW, &rc) < 0 ? -1 : rc == 0; /* else the poller learns what it is */
}

int
channel_listen(ConnectionObject *self)
{
    int rc;
    return attend(self, listen_blocking, FMP_FOREVER, &rc) < 0 ? -1 : rc == 0;
}

int
channel_interpose(ConnectionObject *self)
{
    int rc;
    return attend(self, interpose_blocking, FMP_FOREVER, &rc);
}

int
channel_uncover(ConnectionObject *self)
{
    int rc;
    if (attend(self, uncover_blocking, FMP_FOREVER, &rc) < 0)
        return -1;
    return rc == 0 ? 0 : connection_fail(self, rc);
}

/* ---- receiving ------------------------------------------------------------------------------------ */

/* Receive a message into the passage, to be put away: 0, or -1 with an exception. */
static int
receive(struct passage *p, ConnectionObject *self)
{
    int rc;
    begin(p, self);
    int raised = connection_wait(self, 1, receive_blocking, p, FMP_FOREVER, &rc);
    if (raised == 0 && rc == 0)
        return 0;
    if (raised == 0)
        connection_fail(self, rc);
    finish(p);
    return -1;
}

static void
put_away(struct passage *p)
{
    fmp_message_done(p->end->handle.arena, &p->message);
    finish(p);
}

PyObject *
channel_receive_object(ConnectionObject *self)
{
    struct passage p;
    if (receive(&p, self) < 0)
        return NULL;
    PyObject *obj = codec_open(self->state, &p.message);
    put_away(&p);
    return obj;
}

PyObject *
channel_receive(ConnectionObject *self, size_t most)
{
    struct passage p;
    if (receive(&p, self) < 0)
        return NULL;
    PyObject *bytes = codec_open_bytes(self->state, &p.message);
    put_away(&p);
    if (bytes != NULL && (size_t)PyBytes_Size(bytes) > most) {
        Py_CLEAR(bytes);
        connection_fail(self, FMP_TOO_LONG);
    }
    return bytes;
}

/* The bytes of the message, put into `to`, where there is that much room. */
static Py_ssize_t
give_bytes(module_state *state, PyObject *bytes, char *to, Py_ssize_t room)
{
    Py_ssize_t length = PyBytes_Size(bytes);
    if (length <= room) {
        copy_bytes(to, PyBytes_AsString(bytes), (size_t)length);
        return length;
    }
    PyErr_SetObject(state->BufferTooShort, bytes);
    return -1;
}

Py_ssize_t
channel_receive_into(ConnectionObject *self, const Py_buffer *view, Py_ssize_t offset)
{
    struct passage p;
    char *to = (char *)view->buf + offset;
    Py_ssize_t room = view->len - offset, length = -1;
    if (receive(&p, self) < 0)
        return -1;
    if (p.message.kind == MESSAGE_BYTES && p.message.bytes <= (uint64_t)room) {
        length = (Py_ssize_t)p.message.bytes;
        copy_bytes(to, p.message.data, (size_t)length);
    } else {
        PyObject *bytes = codec_open_bytes(self->state, &p.message);
        if (bytes != NULL)
            length = give_bytes(self->state, bytes, to, room);
        Py_XDECREF(bytes);
    }
    put_away(&p);
    return length;
}

int
channel_poll(ConnectionObject *self, fmp_time until, int *rc)
{
    return attend(self, poll_blocking, until, rc);
}

/* ---- sending -------------------------------------------------------------------------------------- */

/* Send the parcel: 0, or -1 with an exception, and it is gone. */
static int
dispatch(struct passage *p)
{
    int rc, raised = connection_wait(p->self, 1, send_blocking, p, FMP_FOREVER, &rc);
    if (raised == 0 && rc == 0)
        return 0;
    if (raised == 0)
        connection_fail(p->self, rc);
    fmp_queue_discard(p->end->handle.arena, &p->parcel);
    return -1;
}

int
channel_send_object(ConnectionObject *self, PyObject *obj)
{
    struct passage p;
    fmp_arena *a = begin(&p, self);
    int rc = codec_pack(self->state, a, NULL, 0, NULL, obj, MESSAGE_OBJECT, &p.parcel);
    if (rc == 0)
        rc = dispatch(&p);
    finish(&p);
    return rc;
}

int
channel_send_bytes(ConnectionObject *self, const void *data, Py_ssize_t bytes)
{
    struct passage p;
    fmp_arena *a = begin(&p, self);
    int rc = fmp_queue_prepare(a, (uint64_t)bytes, FMP_REF_NONE, MESSAGE_BYTES, &p.parcel);
    if (rc == 0) {
        copy_bytes(p.parcel.data, data, (size_t)bytes);
        rc = dispatch(&p);
    } else
        raise_rc(self->state, rc);
    finish(&p);
    return rc < 0 ? -1 : 0;
}
