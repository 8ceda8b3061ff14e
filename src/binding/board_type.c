/* board_type.c: Board, the core of Pool. One in the pool's process, inherited by its workers.
 *
 * For each task that is out, `entries` keeps what becomes of its result, by the task's number: a tuple of
 * a mapping, a key in it and an owner. A result is put into the mapping before Python code sees it. So
 * a signal handler that raises may interrupt whoever collects, and no result is lost: the owner finds it
 * in the mapping whenever it looks. A message whose unpickling was interrupted in that way is kept, and
 * is the next one.
 *
 * Python code that must not be left half done by such an exception is run by guard(), which notes in
 * `broken_off` that it was, and rings.
 *
 * Tasks are sent, and entered, without letting the GIL go in between: a result finds its entry. */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "binding/codec.h"
#include "binding/handle.h"
#include "core/board.h"

#define UNREADABLE (-1) /* the kind of a result that cannot be unpickled here */
#define NO_SEAT UINT32_MAX
#define SEATS_MOST 32768 /* more processes than the arena has room for; the board is no extent yet */
#define NOT_A_TASK UINT64_MAX

typedef struct {
    HandleObject handle;
    PyObject *entries;
    PyObject *unread;     /* messages whose unpickling was interrupted: struct letter as bytes */
    PyObject *broken_off; /* tokens of guarded calls that raised */
    int bell;
    uint32_t seat; /* this process's, if it is a worker */
} BoardObject;

static fmp_board *
board_of(BoardObject *self)
{
    return self->handle.body;
}

static void
close_bell(BoardObject *self)
{
    if (self->bell >= 0)
        close(self->bell);
    self->bell = -1;
}

static PyObject *
board_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    BoardObject *self = (BoardObject *)handle_new(type, args, kwargs);
    if (self != NULL)
        self->bell = -1;
    return (PyObject *)self;
}

/* What this process writes down about it. */
static int
make_books(BoardObject *self)
{
    self->seat = NO_SEAT;
    Py_XSETREF(self->entries, PyDict_New());
    Py_XSETREF(self->unread, PyList_New(0));
    Py_XSETREF(self->broken_off, PyList_New(0));
    return self->entries == NULL || self->unread == NULL || self->broken_off == NULL ? -1 : 0;
}

static int
board_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"seats", NULL};
    BoardObject *self = (BoardObject *)op;
    Py_ssize_t seats;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n:Board", names, &seats))
        return -1;
    if (seats < 1 || seats > SEATS_MOST) {
        PyErr_SetString(PyExc_ValueError, "too few or too many seats");
        return -1;
    }
    uint32_t count = (uint32_t)seats;
    if (handle_create(&self->handle, FMP_BOARD, fmp_board_bytes(count)) < 0)
        return -1;
    fmp_ref body = {self->handle.object->self.off + sizeof(fmp_object)};
    int rc = fmp_board_init(self->handle.arena, board_of(self), body, count);
    if (rc < 0) {
        raise_rc(self->handle.state, rc);
        return -1;
    }
    close_bell(self);
    self->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->bell < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return make_books(self);
}

static int
check(BoardObject *self)
{
    return handle_check(&self->handle);
}

/* ---- messages ----------------------------------------------------------------------------------- */

static int
ring(BoardObject *self)
{
    uint64_t one = 1;
    if (write(self->bell, &one, sizeof(one)) == sizeof(one) || errno == EAGAIN) /* EAGAIN: it rings already */
        return 0;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/* Add a result for task `number`: 0, or -1 with an exception. */
static int
report(BoardObject *self, uint64_t number, unsigned kind, PyObject *obj)
{
    fmp_parcel parcel;
    int loud = 0;
    if (codec_pack(self->handle.state, self->handle.arena, &number, sizeof(number), NULL, obj, kind, &parcel) < 0)
        return -1;
    int rc = fmp_board_report(self->handle.arena, board_of(self), &parcel, &loud);
    if (rc == 0)
        return loud ? ring(self) : 0;
    fmp_queue_discard(self->handle.arena, &parcel);
    raise_rc(self->handle.state, rc);
    return -1;
}

struct transfer {
    BoardObject *self;
    fmp_message message;
};

/* ---- the pool's side: sending -------------------------------------------------------------------- */

static int
check_entry(PyObject *entry)
{
    if (PyTuple_Check(entry) && PyTuple_GET_SIZE(entry) == 3)
        return 0;
    PyErr_SetString(PyExc_TypeError, "an entry is a tuple of a mapping, a key and an owner");
    return -1;
}

static int
enter(BoardObject *self, uint64_t number, PyObject *entry)
{
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    if (key == NULL)
        return -1;
    int rc = PyDict_SetItem(self->entries, key, entry);
    Py_DECREF(key);
    return rc;
}

static PyObject *
board_put(BoardObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"put", {"task", "entry", "dumps"}, 2};
    PyObject *given[3];
    fmp_parcel parcel;
    uint64_t number;
    if (check(self) < 0 || args_parse(&spec, args, nargs, kwnames, given) < 0 || check_entry(given[1]) < 0 ||
        codec_pack(self->handle.state, self->handle.arena, NULL, 0, given[2] == Py_None ? NULL : given[2], given[0], 0,
                   &parcel) < 0)
        return NULL;
    int rc = fmp_board_put(self->handle.arena, board_of(self), &parcel, &number);
    if (rc != 0) {
        fmp_queue_discard(self->handle.arena, &parcel);
        return raise_rc(self->handle.state, rc);
    }
    if (enter(self, number, given[1]) < 0)
        return NULL;
    return PyLong_FromUnsignedLongLong(fmp_board_load(board_of(self)));
}

static PyObject *
board_watch(BoardObject *self, PyObject *entry)
{
    if (check(self) < 0 || check_entry(entry) < 0 || enter(self, 0, entry) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- the pool's side: collecting -------------------------------------------------------------------- */

/* The entry of task `number`, which is no longer out; NULL, without an exception, if it wasn't. */
static PyObject *
leave(BoardObject *self, uint64_t number)
{
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    if (key == NULL)
        return NULL;
    PyObject *entry = PyDict_GetItemWithError(self->entries, key);
    if (entry != NULL) {
        Py_INCREF(entry);
        if (PyDict_DelItem(self->entries, key) < 0)
            Py_CLEAR(entry);
    }
    Py_DECREF(key);
    return entry;
}

/* What stands for a value that cannot be unpickled: the exception set, as an object. NULL if it is none
 * of unpickling, but of a signal handler. */
static PyObject *
unreadable(void)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return NULL;
    return PyErr_GetRaisedException();
}

/* Put a result where its entry says: a new reference to the owner, or NULL with an exception. */
static PyObject *
deliver(BoardObject *self, PyObject *entry, const fmp_message *m)
{
    int kind = (int)m->kind;
    PyObject *value = codec_decode(self->handle.state, (const char *)m->data + sizeof(uint64_t),
                                   (Py_ssize_t)(m->bytes - sizeof(uint64_t)));
    if (value == NULL) {
        value = unreadable();
        kind = UNREADABLE;
    }
    if (value == NULL)
        return NULL;
    PyObject *item = Py_BuildValue("(iN)", kind, value);
    if (item == NULL)
        return NULL;
    int rc = PyObject_SetItem(PyTuple_GET_ITEM(entry, 0), PyTuple_GET_ITEM(entry, 1), item);
    Py_DECREF(item);
    return rc < 0 ? NULL : Py_NewRef(PyTuple_GET_ITEM(entry, 2));
}

/* A message whose unpickling was interrupted, as it is kept in `unread`: a bytes object of this. */
struct letter {
    fmp_message message;
    uint32_t owner; /* the process that took it: its forked children have no part in it */
};

/* Keep a message for the next time, and the exception set: 0, or -1 if there is no memory for it. */
static int
keep(BoardObject *self, PyObject *entry, uint64_t number, const fmp_message *m)
{
    PyObject *raised = PyErr_GetRaisedException();
    struct letter letter = {.message = *m, .owner = self->handle.arena->self};
    PyObject *kept = PyBytes_FromStringAndSize((const char *)&letter, sizeof(letter));
    int rc = kept == NULL ? -1 : enter(self, number, entry);
    if (rc == 0)
        rc = PyList_Append(self->unread, kept);
    Py_XDECREF(kept);
    PyErr_SetRaisedException(raised); /* in place of a MemoryError: it is what counts */
    return rc;
}

/* Deliver a result. The owner; NULL with an exception, or without one if its task is not out. */
static PyObject *
receive(BoardObject *self, fmp_message *m)
{
    uint64_t number;
    memcpy(&number, m->data, sizeof(number));
    PyObject *entry = leave(self, number);
    PyObject *owner = entry == NULL ? NULL : deliver(self, entry, m);
    if (entry == NULL || owner != NULL || keep(self, entry, number, m) < 0)
        fmp_message_done(self->handle.arena, m);
    Py_XDECREF(entry);
    return owner;
}

/* Take the first message out of `unread`: false, without an exception, if it isn't this process's. */
static int
take_unread(BoardObject *self, fmp_message *m)
{
    struct letter letter;
    memcpy(&letter, PyBytes_AsString(PyList_GET_ITEM(self->unread, 0)), sizeof(letter));
    *m = letter.message;
    m->data = m->block.off == 0 ? m->inside : fmp_heap_at(self->handle.arena, m->block);
    if (PyList_SetSlice(self->unread, 0, 1, NULL) < 0)
        PyErr_Clear();
    return letter.owner == self->handle.arena->self && m->data != NULL;
}

static void
drop_unread(BoardObject *self)
{
    fmp_message m;
    while (self->unread != NULL && PyList_GET_SIZE(self->unread) != 0) {
        if (take_unread(self, &m))
            fmp_message_done(self->handle.arena, &m);
    }
    Py_CLEAR(self->unread);
}

static int
collect_blocking(void *arg, fmp_waiter *w)
{
    struct transfer *t = arg;
    return fmp_board_collect(t->self->handle.arena, board_of(t->self), w, &t->message);
}

static PyObject *
board_collect(BoardObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"collect", {"timeout"}, 0};
    PyObject *timeout, *owner = NULL;
    struct transfer t;
    fmp_time until;
    int rc;
    if (check(self) < 0 || args_parse(&spec, args, nargs, kwnames, &timeout) < 0 ||
        args_deadline(timeout, &until) < 0)
        return NULL;
    if (PyList_GET_SIZE(self->unread) != 0) {
        if (take_unread(self, &t.message))
            owner = receive(self, &t.message);
    }
    else {
        t.self = self;
        if (try_then_wait(collect_blocking, &t, until, &rc) < 0)
            return NULL;
        if (rc == FMP_TIMEOUT || rc == FMP_EOF)
            Py_RETURN_NONE;
        if (rc != 0)
            return raise_rc(self->handle.state, rc);
        owner = receive(self, &t.message);
    }
    if (owner == NULL && !PyErr_Occurred())
        Py_RETURN_NONE;
    return owner;
}

/* A message that is no result, for whoever collects. */
static PyObject *
board_nudge(BoardObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check(self) < 0 || report(self, NOT_A_TASK, 0, Py_None) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- the pool's side: what must not be left half done -------------------------------------------------- */

static PyObject *
board_guard(BoardObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (check(self) < 0)
        return NULL;
    if (nargs < 2) {
        PyErr_SetString(PyExc_TypeError, "guard() takes a function and a token at least");
        return NULL;
    }
    PyObject *result = PyObject_Vectorcall(args[0], args + 1, (size_t)(nargs - 1), NULL);
    if (result != NULL)
        return result;
    PyObject *raised = PyErr_GetRaisedException();
    if (PyList_Append(self->broken_off, args[1]) < 0 || ring(self) < 0)
        PyErr_Clear(); /* what was raised is what counts */
    PyErr_SetRaisedException(raised);
    return NULL;
}

/* ---- the pool's side: the dead --------------------------------------------------------------------- */

static PyObject *
board_bury(BoardObject *self, PyObject *pid)
{
    uint64_t number;
    long id = PyLong_AsLong(pid);
    if (check(self) < 0 || (id == -1 && PyErr_Occurred()))
        return NULL;
    if (fmp_board_bury(self->handle.arena, board_of(self), (int32_t)id, &number) != 0)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(number);
}

static PyObject *
board_fail(BoardObject *self, PyObject *args)
{
    unsigned long long number;
    unsigned kind;
    PyObject *obj;
    if (check(self) < 0 || !PyArg_ParseTuple(args, "KIO:fail", &number, &kind, &obj) ||
        report(self, number, kind, obj) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- the pool's side: its sleep and its end ------------------------------------------------------------ */

static PyObject *
board_listen(BoardObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check(self) < 0)
        return NULL;
    return PyBool_FromLong(PyList_GET_SIZE(self->unread) == 0 && fmp_board_listen(board_of(self)));
}

static PyObject *
board_stop_listening(BoardObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check(self) < 0)
        return NULL;
    fmp_board_stop_listening(board_of(self));
    Py_RETURN_NONE;
}

static PyObject *
board_ring(BoardObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check(self) < 0 || ring(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
board_silence(BoardObject *self, PyObject *Py_UNUSED(ignored))
{
    uint64_t count;
    if (check(self) < 0)
        return NULL;
    if (read(self->bell, &count, sizeof(count)) < 0 && errno != EAGAIN)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *
board_fileno(BoardObject *self, PyObject *Py_UNUSED(ignored))
{
    return check(self) < 0 ? NULL : PyLong_FromLong(self->bell);
}

static PyObject *
board_load(BoardObject *self, void *Py_UNUSED(closure))
{
    return check(self) < 0 ? NULL : PyLong_FromUnsignedLongLong(fmp_board_load(board_of(self)));
}

static PyObject *
advance(BoardObject *self, uint32_t stage)
{
    if (check(self) < 0)
        return NULL;
    fmp_board_advance(board_of(self), stage);
    Py_RETURN_NONE;
}

static PyObject *
board_close(BoardObject *self, PyObject *Py_UNUSED(ignored))
{
    return advance(self, FMP_BOARD_CLOSED);
}

static PyObject *
board_end(BoardObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check(self) == 0)
        PyDict_Clear(self->entries);
    return advance(self, FMP_BOARD_ENDED);
}

/* ---- a worker's side -------------------------------------------------------------------------------- */

static PyObject *
board_sit(BoardObject *self, PyObject *Py_UNUSED(ignored))
{
    if (check(self) < 0)
        return NULL;
    int rc = fmp_board_sit(board_of(self), getpid(), &self->seat);
    if (rc < 0) {
        self->seat = NO_SEAT;
        return raise_rc(self->handle.state, rc);
    }
    Py_RETURN_NONE;
}

static int
check_seat(BoardObject *self)
{
    if (check(self) < 0)
        return -1;
    if (self->seat != NO_SEAT)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "only a worker with a seat can do that");
    return -1;
}

static int
take_blocking(void *arg, fmp_waiter *w)
{
    struct transfer *t = arg;
    BoardObject *self = t->self;
    return fmp_board_take(self->handle.arena, board_of(self), self->seat, w, &t->message);
}

static PyObject *
board_take(BoardObject *self, PyObject *Py_UNUSED(ignored))
{
    struct transfer t = {.self = self};
    int rc;
    if (check_seat(self) < 0 || try_then_wait(take_blocking, &t, FMP_FOREVER, &rc) < 0)
        return NULL;
    if (rc == FMP_EOF)
        Py_RETURN_NONE;
    if (rc != 0)
        return raise_rc(self->handle.state, rc);
    PyObject *task = codec_decode(self->handle.state, t.message.data, (Py_ssize_t)t.message.bytes);
    fmp_message_done(self->handle.arena, &t.message);
    return task;
}

static PyObject *
board_report(BoardObject *self, PyObject *args)
{
    unsigned kind;
    PyObject *obj;
    if (!PyArg_ParseTuple(args, "IO:report", &kind, &obj) || check_seat(self) < 0 ||
        report(self, fmp_board_running(board_of(self), self->seat), kind, obj) < 0)
        return NULL;
    fmp_board_done(board_of(self), self->seat);
    Py_RETURN_NONE;
}

/* ---- the type ------------------------------------------------------------------------------------------ */

static int
board_traverse(PyObject *op, visitproc visit, void *arg)
{
    BoardObject *self = (BoardObject *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->entries);
    Py_VISIT(self->unread);
    Py_VISIT(self->broken_off);
    return 0;
}

static int
board_clear(PyObject *op)
{
    BoardObject *self = (BoardObject *)op;
    if (self->entries != NULL) /* kept: methods count on it */
        PyDict_Clear(self->entries);
    Py_CLEAR(self->broken_off);
    return 0;
}

static void
board_dealloc(PyObject *op)
{
    BoardObject *self = (BoardObject *)op;
    PyObject_GC_UnTrack(op);
    close_bell(self);
    Py_CLEAR(self->entries);
    drop_unread(self);
    Py_CLEAR(self->broken_off);
    handle_dealloc(op);
}

static PyObject *
board_reduce(BoardObject *self, PyObject *Py_UNUSED(ignored))
{
    return check(self) < 0 ? NULL : handle_reduce_with(&self->handle, handle_send_fd(&self->handle, self->bell));
}

static PyObject *
board_attach(PyTypeObject *type, PyObject *args)
{
    PyObject *extra;
    BoardObject *self = (BoardObject *)handle_attach(type, args, &extra);
    if (self == NULL)
        return NULL;
    self->bell = handle_receive_fd(extra);
    if (self->bell < 0 || make_books(self) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyMethodDef methods[] = {
    {"put", (PyCFunction)(void (*)(void))board_put, METH_FASTCALL | METH_KEYWORDS,
     "put($self, /, task, entry, dumps=None)\n--\n\n"
     "Send a task, pickled by `dumps` if given; when its result comes, entry = (mapping, key, owner) says where\n"
     "to. Returns the load."},
    {"watch", (PyCFunction)board_watch, METH_O,
     "watch($self, entry, /)\n--\n\nWhere to put what a worker reports without having a task."},
    {"collect", (PyCFunction)(void (*)(void))board_collect, METH_FASTCALL | METH_KEYWORDS,
     "collect($self, /, timeout=None)\n--\n\n"
     "Wait for a result, set mapping[key] = (kind, value), return owner. None if `timeout` seconds pass\n"
     "first, at the end, and after a nudge. A value that cannot be unpickled is the exception, its kind -1."},
    {"nudge", (PyCFunction)board_nudge, METH_NOARGS,
     "nudge($self, /)\n--\n\nMake one call of collect() return."},
    {"guard", (PyCFunction)(void (*)(void))board_guard, METH_FASTCALL,
     "guard($self, function, token, /, *args)\n--\n\n"
     "Return function(token, *args). If that raises, append the token to `broken_off` and ring."},
    {"bury", (PyCFunction)board_bury, METH_O,
     "bury($self, pid, /)\n--\n\n"
     "Free the seat of a dead worker. Returns the number of the task it had, or 0; None if it had no seat."},
    {"fail", (PyCFunction)board_fail, METH_VARARGS,
     "fail($self, number, kind, obj, /)\n--\n\nAdd a result in the name of a worker who can't any more."},
    {"listen", (PyCFunction)board_listen, METH_NOARGS,
     "listen($self, /)\n--\n\nLet the next result ring the bell. False if there is one already."},
    {"stop_listening", (PyCFunction)board_stop_listening, METH_NOARGS,
     "stop_listening($self, /)\n--\n\nLet results come silently."},
    {"ring", (PyCFunction)board_ring, METH_NOARGS, "ring($self, /)\n--\n\nRing the bell."},
    {"silence", (PyCFunction)board_silence, METH_NOARGS, "silence($self, /)\n--\n\nStop it."},
    {"fileno", (PyCFunction)board_fileno, METH_NOARGS,
     "fileno($self, /)\n--\n\nThe bell: a descriptor that is readable while it rings."},
    {"close", (PyCFunction)board_close, METH_NOARGS,
     "close($self, /)\n--\n\nNo more tasks come: workers leave when none is left."},
    {"end", (PyCFunction)board_end, METH_NOARGS,
     "end($self, /)\n--\n\nWorkers leave, results count no more, and nobody waits for them."},
    {"sit", (PyCFunction)board_sit, METH_NOARGS, "sit($self, /)\n--\n\nBecome one of the workers."},
    {"take", (PyCFunction)board_take, METH_NOARGS,
     "take($self, /)\n--\n\nWait for the next task. None if there will be none. Raises what unpickling raises."},
    {"report", (PyCFunction)board_report, METH_VARARGS,
     "report($self, kind, obj, /)\n--\n\nSend the result of the task that was taken last."},
    HANDLE_TRAVEL(board_reduce, board_attach),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"load", (getter)board_load, NULL, "Bytes of the tasks that no worker has taken.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {
    HANDLE_MEMBERS,
    {"broken_off", Py_T_OBJECT_EX, offsetof(BoardObject, broken_off), Py_READONLY,
     "Tokens of the guarded calls that raised."},
    {NULL, 0, 0, 0, NULL},
};

PyType_Spec board_spec = {
    .name = "fastmp._core.Board",
    .basicsize = sizeof(BoardObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "Board(seats)\n--\n\nTasks of a pool for up to `seats` workers, and their results."},
            {Py_tp_new, board_new},
            {Py_tp_init, board_init},
            {Py_tp_dealloc, board_dealloc},
            {Py_tp_traverse, board_traverse},
            {Py_tp_clear, board_clear},
            {Py_tp_methods, methods},
            {Py_tp_getset, getset},
            {Py_tp_members, members},
            {0, NULL},
        },
};
