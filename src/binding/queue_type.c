/* queue_type.c: MessageQueue, the core of Queue, JoinableQueue and SimpleQueue.
 *
 * Most queues need no descriptor. One that is to be waited for together with others gets an ear (bell.h) in
 * the process that asks; it is silenced here, when a get or a look leaves the queue empty.
 *
 * put pickles in the caller's thread, straight before the message is sent, so errors are raised where
 * they happen; there is no feeder thread, and what was put stays in the arena whatever becomes of the
 * process that put it. */
#include "binding/codec.h"
#include "binding/copy.h"
#include "binding/handle.h"
#include "core/queue.h"

/* What this process has closed of a queue: one of its ends, or the queue, and then both ends. */
enum { READER = 1, WRITER = 2, QUEUE = 4 };

typedef struct {
    HandleObject handle;
    unsigned closed;
    fmp_ear ear; /* once somebody asked for the descriptor */
} QueueObject;

static fmp_queue *
queue_of(QueueObject *self)
{
    return self->handle.body;
}

/* Give up the ear, or a parent's. */
static void
stop_listening(QueueObject *self)
{
    if (self->ear.name != 0)
        fmp_bell_leave(self->handle.arena, &queue_of(self)->bell, &self->ear);
}

static int
queue_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"maxsize", "maxbytes", "buffers", NULL};
    QueueObject *self = (QueueObject *)op;
    Py_ssize_t maxsize = 0, maxbytes = 0;
    int buffers = CODEC_COPY;
    stop_listening(self);
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|nni", names, &maxsize, &maxbytes, &buffers) ||
        handle_create(&self->handle, FMP_QUEUE, sizeof(fmp_queue)) < 0)
        return -1;
    int rc = fmp_queue_init(self->handle.arena, queue_of(self), maxsize > 0 ? (uint64_t)maxsize : 0,
                            maxbytes > 0 ? (uint64_t)maxbytes : 0);
    queue_of(self)->manner = (uint32_t)buffers;
    self->closed = 0;
    if (rc == 0)
        return 0;
    raise_rc(self->handle.state, rc);
    return -1;
}

static int
check_open(QueueObject *self, unsigned end)
{
    if (handle_check(&self->handle) < 0)
        return -1;
    if (!(self->closed & (end | QUEUE)))
        return 0;
    if (self->closed & QUEUE)
        PyErr_Format(PyExc_ValueError, "Queue %R is closed", self);
    else
        PyErr_SetString(PyExc_OSError, "handle is closed");
    return -1;
}

/* ---- sending ----------------------------------------------------------------------------------- */

struct transfer {
    QueueObject *self;
    fmp_parcel parcel;
    uint64_t number;
    fmp_message message;
};

static int
push_blocking(void *arg, fmp_waiter *w)
{
    struct transfer *t = arg;
    return fmp_queue_push(t->self->handle.arena, queue_of(t->self), &t->parcel, w, &t->number);
}

/* Send the parcel: its number, or 0 with an exception, and it is gone. */
static uint64_t
send(QueueObject *self, struct transfer *t, fmp_time until)
{
    module_state *state = self->handle.state;
    int rc;
    t->self = self;
    if (try_then_wait(push_blocking, t, until, &rc) == 0) {
        if (rc == 0)
            return t->number;
        if (rc == FMP_TIMEOUT)
            raise_full(state);
        else
            raise_rc(state, rc);
    }
    fmp_queue_discard(self->handle.arena, &t->parcel);
    return 0;
}

static PyObject *
queue_put(QueueObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"put", {"obj", "block", "timeout"}, 1};
    struct transfer t;
    PyObject *given[3];
    fmp_time until;
    if (check_open(self, WRITER) < 0 || args_parse(&spec, args, nargs, kwnames, given) < 0 ||
        args_block(given[1], given[2], &until) < 0 ||
        codec_pack(self->handle.state, self->handle.arena, NULL, 0, NULL, given[0], MESSAGE_OBJECT, &t.parcel) < 0 ||
        send(self, &t, until) == 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- sending several at once ------------------------------------------------------------------- */

#define PICKLED_AHEAD 256 /* objects that are pickled before the first of them is sent */

struct convoy_transfer {
    QueueObject *self;
    fmp_convoy convoy;
};

static int
push_many_blocking(void *arg, fmp_waiter *w)
{
    struct convoy_transfer *t = arg;
    return fmp_queue_push_many(t->self->handle.arena, queue_of(t->self), &t->convoy, w);
}

/* Pickle the next objects: 1 there may be more, 0 these were the last, -1 with an exception. */
static int
load_convoy(QueueObject *self, PyObject *iterator, fmp_convoy *c)
{
    while (c->count < PICKLED_AHEAD) {
        fmp_parcel p;
        PyObject *obj = PyIter_Next(iterator);
        if (obj == NULL)
            return PyErr_Occurred() ? -1 : 0;
        int rc = codec_pack(self->handle.state, self->handle.arena, NULL, 0, NULL, obj, MESSAGE_OBJECT, &p);
        Py_DECREF(obj);
        if (rc < 0)
            return -1;
        fmp_convoy_add(self->handle.arena, c, &p);
    }
    return 1;
}

/* Send the convoy; what remains of it is discarded. Adds to *sent what was sent. 0, or -1 with an exception. */
static int
send_convoy(struct convoy_transfer *t, fmp_time until, uint64_t *sent)
{
    module_state *state = t->self->handle.state;
    uint64_t count = t->convoy.count;
    int rc, raised = try_then_wait(push_many_blocking, t, until, &rc);
    *sent += count - t->convoy.count;
    fmp_convoy_discard(t->self->handle.arena, &t->convoy);
    if (raised == 0 && rc == 0)
        return 0;
    if (raised == 0 && rc == FMP_TIMEOUT)
        raise_full_after(state, *sent);
    else if (raised == 0)
        raise_rc(state, rc);
    return -1;
}

/* The same while an exception is set, which stays, or becomes the context of the one that sending raised. What is no
 * Exception, KeyboardInterrupt for one, waits for no room, and stays. */
static void
send_before_raising(struct convoy_transfer *t, fmp_time until, uint64_t *sent)
{
    int urgent = !PyErr_ExceptionMatches(PyExc_Exception);
    PyObject *error = PyErr_GetRaisedException();
    if (send_convoy(t, urgent ? FMP_NOW : until, sent) == 0 || urgent) {
        PyErr_SetRaisedException(error);
        return;
    }
    PyObject *later = PyErr_GetRaisedException();
    PyException_SetContext(later, error); /* takes the reference over */
    PyErr_SetRaisedException(later);
}

static PyObject *
put_all(QueueObject *self, PyObject *iterator, fmp_time until)
{
    struct convoy_transfer t = {.self = self};
    uint64_t sent = 0;
    int more;
    do {
        more = load_convoy(self, iterator, &t.convoy);
        if (more < 0)
            send_before_raising(&t, until, &sent);
        if (more < 0 || send_convoy(&t, until, &sent) < 0)
            return NULL;
    } while (more);
    return PyLong_FromUnsignedLongLong(sent);
}

static PyObject *
queue_put_many(QueueObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"put_many", {"iterable", "block", "timeout"}, 1};
    PyObject *given[3];
    fmp_time until;
    if (check_open(self, WRITER) < 0 || args_parse(&spec, args, nargs, kwnames, given) < 0 ||
        args_block(given[1], given[2], &until) < 0)
        return NULL;
    PyObject *iterator = PyObject_GetIter(given[0]);
    PyObject *result = iterator == NULL ? NULL : put_all(self, iterator, until);
    Py_XDECREF(iterator);
    return result;
}

static PyObject *
queue_put_bytes(QueueObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"put_bytes", {"buf", "block", "timeout"}, 1};
    struct transfer t;
    PyObject *given[3];
    fmp_time until;
    Py_buffer contents;
    if (check_open(self, WRITER) < 0 || args_parse(&spec, args, nargs, kwnames, given) < 0 ||
        args_block(given[1], given[2], &until) < 0 || PyObject_GetBuffer(given[0], &contents, PyBUF_SIMPLE) < 0)
        return NULL;
    int rc = fmp_queue_prepare(self->handle.arena, (uint64_t)contents.len, FMP_REF_NONE, MESSAGE_BYTES, &t.parcel);
    if (rc == 0)
        copy_bytes(t.parcel.data, contents.buf, (size_t)contents.len);
    PyBuffer_Release(&contents);
    if (rc < 0)
        return raise_rc(self->handle.state, rc);
    uint64_t number = send(self, &t, until);
    return number == 0 ? NULL : PyLong_FromUnsignedLongLong(number);
}

/* ---- receiving ------------------------------------------------------------------------------------ */

static int
take_blocking(void *arg, fmp_waiter *w)
{
    struct transfer *t = arg;
    return fmp_queue_take(t->self->handle.arena, queue_of(t->self), w, FMP_REF_NONE, &t->message);
}

/* The ear of this process is told that a message was taken, or that there is none. */
static void
calm(QueueObject *self)
{
    if (self->ear.name != 0)
        fmp_queue_calm(self->handle.arena, queue_of(self), &self->ear);
}

static PyObject *
decode_pickle(QueueObject *self, fmp_message *m)
{
    module_state *state = self->handle.state;
    if (m->kind == MESSAGE_OBJECT)
        return codec_decode_message(state, self->handle.arena, m, (int)queue_of(self)->manner);
    return codec_unpickle(state, m->data, (Py_ssize_t)m->bytes);
}

static PyObject *
decode_bytes(QueueObject *self, fmp_message *m)
{
    return codec_open_bytes(self->handle.state, m);
}

static PyObject *
receive(QueueObject *self, const args_spec *spec, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
        PyObject *(*decode)(QueueObject *, fmp_message *))
{
    PyObject *given[2];
    fmp_time until;
    struct transfer t;
    int rc;
    if (check_open(self, READER) < 0 || args_parse(spec, args, nargs, kwnames, given) < 0 ||
        args_block(given[0], given[1], &until) < 0)
        return NULL;
    t.self = self;
    if (try_then_wait(take_blocking, &t, until, &rc) < 0)
        return NULL;
    calm(self);
    if (rc == FMP_TIMEOUT)
        return raise_empty(self->handle.state);
    if (rc != 0)
        return raise_rc(self->handle.state, rc);
    PyObject *result = decode(self, &t.message);
    fmp_message_done(self->handle.arena, &t.message);
    return result;
}

static PyObject *
queue_get(QueueObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"get", {"block", "timeout"}, 0};
    return receive(self, &spec, args, nargs, kwnames, decode_pickle);
}

static PyObject *
queue_get_bytes(QueueObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"get_bytes", {"block", "timeout"}, 0};
    return receive(self, &spec, args, nargs, kwnames, decode_bytes);
}

/* ---- receiving several at once ------------------------------------------------------------------------- */

struct batch_transfer {
    QueueObject *self;
    uint64_t most;
    fmp_batch batch;
};

static int
take_many_blocking(void *arg, fmp_waiter *w)
{
    struct batch_transfer *t = arg;
    return fmp_queue_take_many(t->self->handle.arena, queue_of(t->self), w, t->most, &t->batch);
}

/* Keep the exception that is set in *error, if it is the first. */
static void
keep_first(PyObject **error)
{
    PyObject *raised = PyErr_GetRaisedException();
    if (*error == NULL)
        *error = raised;
    else
        Py_DECREF(raised);
}

/* Add the objects of the batch to the list. The first exception of one that can't be unpickled is *error, later
 * ones stand in the object's place. */
static void
unload_batch(struct batch_transfer *t, PyObject *list, PyObject **error)
{
    fmp_arena *a = t->self->handle.arena;
    for (fmp_message *m; (m = fmp_batch_next(a, &t->batch)) != NULL;) {
        PyObject *obj = decode_pickle(t->self, m);
        if (obj == NULL && *error != NULL)
            obj = PyErr_GetRaisedException();
        if (obj == NULL || PyList_Append(list, obj) < 0)
            keep_first(error);
        Py_XDECREF(obj);
    }
}

/* The exception, on which the objects are found. */
static void
raise_beside(PyObject *error, PyObject *list)
{
    if (PyObject_SetAttrString(error, "got", list) < 0)
        PyErr_Clear(); /* it has no room for them */
    PyErr_SetRaisedException(error);
}

/* Take what is there, up to `most`; wait for the first. A new list, or NULL with an exception. */
static PyObject *
take_all(QueueObject *self, uint64_t most, fmp_time until)
{
    struct batch_transfer t = {.self = self, .most = most};
    PyObject *list = PyList_New(0), *error = NULL;
    int rc = 0, raised = 0;
    while (list != NULL && rc == 0 && t.most > 0) {
        raised = try_then_wait(take_many_blocking, &t, until, &rc);
        if (raised < 0 || rc != 0)
            break;
        t.most -= t.batch.count;
        until = FMP_NOW;
        unload_batch(&t, list, &error);
    }
    if (t.most == most && raised == 0 && list != NULL) {
        if (rc == FMP_TIMEOUT)
            raise_empty(self->handle.state);
        else
            raise_rc(self->handle.state, rc);
    }
    if (error != NULL)
        raise_beside(error, list);
    if (PyErr_Occurred())
        Py_CLEAR(list);
    return list;
}

static PyObject *
queue_get_many(QueueObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"get_many", {"max_items", "block", "timeout"}, 1};
    PyObject *given[3];
    fmp_time until;
    if (check_open(self, READER) < 0 || args_parse(&spec, args, nargs, kwnames, given) < 0 ||
        args_block(given[1], given[2], &until) < 0)
        return NULL;
    Py_ssize_t most = PyNumber_AsSsize_t(given[0], NULL);
    if (most < 1) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "max_items must be at least 1");
        return NULL;
    }
    PyObject *list = take_all(self, (uint64_t)most, until);
    calm(self);
    return list;
}

/* ---- waiting for something to receive ------------------------------------------------------------------ */

static int
poll_blocking(void *arg, fmp_waiter *w)
{
    QueueObject *self = arg;
    return fmp_queue_poll(self->handle.arena, queue_of(self), w);
}

static PyObject *
queue_ready(QueueObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"poll", {"timeout"}, 0};
    PyObject *timeout;
    fmp_time until = FMP_NOW;
    int rc;
    if (check_open(self, READER) < 0 || args_parse(&spec, args, nargs, kwnames, &timeout) < 0 ||
        (timeout != NULL && args_deadline(timeout, &until) < 0) ||
        try_then_wait(poll_blocking, self, until, &rc) < 0)
        return NULL;
    calm(self);
    return PyBool_FromLong(rc == 0);
}

static PyObject *
queue_fileno(QueueObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check_open(self, READER) < 0)
        return NULL;
    if (!fmp_ear_valid(self->handle.arena, &self->ear)) {
        int rc = fmp_queue_listen(self->handle.arena, queue_of(self), &self->ear);
        if (rc < 0)
            return raise_rc(self->handle.state, rc);
    }
    return PyLong_FromLong(self->ear.fd);
}

/* ---- looking ----------------------------------------------------------------------------------------- */

static PyObject *
queue_qsize(QueueObject *self, PyObject *Py_UNUSED(ignored))
{
    if (handle_check(&self->handle) < 0)
        return NULL;
    return PyLong_FromUnsignedLongLong(fmp_queue_size(queue_of(self)));
}

static PyObject *
queue_empty(QueueObject *self, PyObject *Py_UNUSED(ignored))
{
    if (handle_check(&self->handle) < 0)
        return NULL;
    int never_used = fmp_load(&queue_of(self)->pushed) == 0; /* then closing the queue closed nothing */
    if (self->closed & QUEUE ? !never_used : self->closed & READER) {
        PyErr_SetString(PyExc_OSError, "handle is closed");
        return NULL;
    }
    calm(self);
    return PyBool_FromLong(fmp_queue_size(queue_of(self)) == 0);
}

static PyObject *
queue_full(QueueObject *self, PyObject *Py_UNUSED(ignored))
{
    if (handle_check(&self->handle) < 0)
        return NULL;
    return PyBool_FromLong(fmp_queue_full(queue_of(self)));
}

static PyObject *
queue_maxsize(QueueObject *self, void *Py_UNUSED(closure))
{
    if (handle_check(&self->handle) < 0)
        return NULL;
    return PyLong_FromUnsignedLongLong(queue_of(self)->most);
}

/* ---- tasks --------------------------------------------------------------------------------------------- */

static PyObject *
queue_task_done(QueueObject *self, PyObject *Py_UNUSED(ignored))
{
    if (handle_check(&self->handle) < 0)
        return NULL;
    if (fmp_queue_task_done(queue_of(self)) != 0) {
        PyErr_SetString(PyExc_ValueError, "task_done() called too many times");
        return NULL;
    }
    Py_RETURN_NONE;
}

static int
join_blocking(void *arg, fmp_waiter *w)
{
    QueueObject *self = arg;
    return fmp_queue_join(self->handle.arena, queue_of(self), w);
}

static PyObject *
queue_join(QueueObject *self, PyObject *Py_UNUSED(ignored))
{
    fmp_waiter w = FMP_WAITER(FMP_FOREVER);
    int rc;
    if (handle_check(&self->handle) < 0 || wait_without_gil(join_blocking, self, &w, &rc) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- closing --------------------------------------------------------------------------------------------- */

static PyObject *
queue_close(QueueObject *self, PyObject *Py_UNUSED(ignored))
{
    stop_listening(self);
    self->closed = QUEUE | READER | WRITER;
    Py_RETURN_NONE;
}

static PyObject *
queue_shut(QueueObject *self, PyObject *args)
{
    int reader, writer;
    if (!PyArg_ParseTuple(args, "pp:_shut", &reader, &writer))
        return NULL;
    if (reader)
        stop_listening(self);
    self->closed |= (reader ? READER : 0) | (writer ? WRITER : 0);
    Py_RETURN_NONE;
}

static PyObject *
queue_is_closed(QueueObject *self, void *what)
{
    return PyBool_FromLong((self->closed & (unsigned)(uintptr_t)what) != 0);
}

static void
queue_dealloc(PyObject *op)
{
    stop_listening((QueueObject *)op);
    handle_dealloc(op);
}

HANDLE_ATTACH_PLAIN(queue_attach, FMP_QUEUE, sizeof(fmp_queue))

static PyMethodDef methods[] = {
    {"put", (PyCFunction)(void (*)(void))queue_put, METH_FASTCALL | METH_KEYWORDS,
     "put($self, /, obj, block=True, timeout=None)\n--\n\n"
     "Pickle obj and send it. Raises queue.Full if there is no room within `timeout` seconds, and whatever\n"
     "pickling raises."},
    {"get", (PyCFunction)(void (*)(void))queue_get, METH_FASTCALL | METH_KEYWORDS,
     "get($self, /, block=True, timeout=None)\n--\n\n"
     "Take the next object. Raises queue.Empty if there is none within `timeout` seconds."},
    {"put_many", (PyCFunction)(void (*)(void))queue_put_many, METH_FASTCALL | METH_KEYWORDS,
     "put_many($self, /, iterable, block=True, timeout=None)\n--\n\n"
     "Put the objects in order, many at a time; return how many they were. If there is not room for all\n"
     "within `timeout` seconds, those that fit are put, and queue.Full is raised with their number as its\n"
     "argument. Whatever iterating or pickling raises comes after the objects before it were put; but what\n"
     "is no Exception, KeyboardInterrupt for one, doesn't wait for room."},
    {"get_many", (PyCFunction)(void (*)(void))queue_get_many, METH_FASTCALL | METH_KEYWORDS,
     "get_many($self, /, max_items, block=True, timeout=None)\n--\n\n"
     "Take what is there, up to `max_items` objects, as a list; wait for the first as get() does,\n"
     "but return an empty list where that raises Empty. An exception of unpickling one has the others in\n"
     "its attribute `got`."},
    {"put_bytes", (PyCFunction)(void (*)(void))queue_put_bytes, METH_FASTCALL | METH_KEYWORDS,
     "put_bytes($self, /, buf, block=True, timeout=None)\n--\n\n"
     "Send bytes as they are; return the message's number, counted from 1."},
    {"get_bytes", (PyCFunction)(void (*)(void))queue_get_bytes, METH_FASTCALL | METH_KEYWORDS,
     "get_bytes($self, /, block=True, timeout=None)\n--\n\nTake the next message as bytes."},
    {"qsize", (PyCFunction)queue_qsize, METH_NOARGS, "qsize($self, /)\n--\n\nMessages in it now, exactly."},
    {"empty", (PyCFunction)queue_empty, METH_NOARGS, "empty($self, /)\n--\n\nIs nothing in it now?"},
    {"full", (PyCFunction)queue_full, METH_NOARGS, "full($self, /)\n--\n\nIs it at its bound now?"},
    {"task_done", (PyCFunction)queue_task_done, METH_NOARGS,
     "task_done($self, /)\n--\n\nOne object taken is dealt with. ValueError if none is outstanding."},
    {"join", (PyCFunction)queue_join, METH_NOARGS,
     "join($self, /)\n--\n\nWait until every object that was put is dealt with."},
    {"close", (PyCFunction)queue_close, METH_NOARGS, "close($self, /)\n--\n\nThis process uses it no more."},
    {"_ready", (PyCFunction)(void (*)(void))queue_ready, METH_FASTCALL | METH_KEYWORDS,
     "_ready($self, /, timeout=0.0)\n--\n\n"
     "Is there something in it within `timeout` seconds? None waits for ever."},
    {"_fileno", (PyCFunction)queue_fileno, METH_NOARGS,
     "_fileno($self, /)\n--\n\nA descriptor of this process, readable while something is in it."},
    {"_shut", (PyCFunction)queue_shut, METH_VARARGS,
     "_shut($self, reader, writer, /)\n--\n\nThis process gets, or puts, no more."},
    HANDLE_TRAVEL(handle_reduce, queue_attach),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"maxsize", (getter)queue_maxsize, NULL, "Most messages in it; 0 for no bound.", NULL},
    {"closed", (getter)queue_is_closed, NULL, "Did this process close it?", (void *)QUEUE},
    {"_reader_closed", (getter)queue_is_closed, NULL, "Did this process close it for getting?", (void *)READER},
    {"_writer_closed", (getter)queue_is_closed, NULL, "Did this process close it for putting?", (void *)WRITER},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {HANDLE_MEMBERS, {NULL, 0, 0, 0, NULL}};

PyType_Spec queue_spec = {
    .name = "fastmp._core.MessageQueue",
    .basicsize = sizeof(QueueObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "MessageQueue(maxsize=0, maxbytes=0, buffers=0)\n--\n\n"
                        "Messages between processes, first in first out for each producer."},
            {Py_tp_new, handle_new},
            {Py_tp_init, queue_init},
            {Py_tp_dealloc, queue_dealloc},
            {Py_tp_methods, methods},
            {Py_tp_getset, getset},
            {Py_tp_members, members},
            {0, NULL},
        },
};
