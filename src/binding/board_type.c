#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "binding/board_type.h"

#define SEATS_MOST 32768  /* more processes than the arena has room for; the board is no extent yet */

static PyObject *
board_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    BoardObject *self = (BoardObject *)handle_new(type, args, kwargs);
    if (self != NULL)
        self->bell = -1;
    return (PyObject *)self;
}

static void
close_bell(BoardObject *self)
{
    if (self->bell >= 0)
        close(self->bell);
    self->bell = -1;
}

#define OBJECTS(X) X(jobs) X(desk) X(is_locked) X(result_type) X(unread) X(guarded) X(broken_off) X(leader) X(plain)

/* What this process writes down about it. */
static int
make_books(BoardObject *self)
{
    self->seat = NO_SEAT;
    self->plain_place = FMP_BOARD_PLACES;
    Py_XSETREF(self->jobs, PyDict_New());
    Py_XSETREF(self->unread, PyList_New(0));
    Py_XSETREF(self->guarded, PyDict_New());
    Py_XSETREF(self->broken_off, PyList_New(0));
    Py_XSETREF(self->leader, Py_NewRef(Py_None));
    Py_XSETREF(self->plain, Py_NewRef(Py_None));
    Py_XSETREF(self->desk, Py_NewRef(Py_None));
    Py_XSETREF(self->is_locked, Py_NewRef(Py_None));
    Py_XSETREF(self->result_type, Py_NewRef(Py_None));
    return self->jobs == NULL || self->unread == NULL || self->guarded == NULL || self->broken_off == NULL ? -1 : 0;
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

/* ---- messages ----------------------------------------------------------------------------------- */

int
board_make_ring(BoardObject *self)
{
    uint64_t one = 1;
    if (self->rung)
        return 0;
    if (write(self->bell, &one, sizeof(one)) != sizeof(one) && errno != EAGAIN) { /* EAGAIN: it rings already */
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    self->rung = 1;
    return 0;
}

int
board_add_result(BoardObject *self, const fmp_answer *answer, unsigned kind, PyObject *obj)
{
    fmp_parcel parcel;
    int loud = 0;
    if (codec_pack(self->handle.state, self->handle.arena, answer, sizeof(*answer), NULL, obj, kind, &parcel) < 0)
        return -1;
    int rc = fmp_board_report(self->handle.arena, board_of(self), &parcel, &loud);
    if (rc != 0) {
        fmp_queue_discard(self->handle.arena, &parcel);
        return raise_rc(self->handle.state, rc), -1;
    }
    if (!loud)
        return 0;
    self->rung = 0; /* it was said by the pool that it doesn't ring */
    return board_make_ring(self);
}

/* A message that is no result, for whoever collects. */
static PyObject *
board_nudge(BoardObject *self, PyObject *Py_UNUSED(ignored))
{
    fmp_answer nobodys = {.task = {.job = JOB_NUDGE, .place = FMP_BOARD_PLACES}, .seat = NO_SEAT};
    if (board_check(self) < 0 || board_add_result(self, &nobodys, RESULT_VALUE, Py_None) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
board_watch(BoardObject *self, PyObject *args)
{
    PyObject *desk, *is_locked, *result_type;
    module_state *state = self->handle.state;
    if (board_check(self) < 0 || !PyArg_ParseTuple(args, "OOO!:watch", &desk, &is_locked, &PyType_Type, &result_type))
        return NULL;
    if (!PyType_IsSubtype((PyTypeObject *)result_type, state->AwaitedJob)) {
        PyErr_SetString(PyExc_TypeError, "results are jobs");
        return NULL;
    }
    Py_SETREF(self->desk, Py_NewRef(desk));
    Py_SETREF(self->is_locked, Py_NewRef(is_locked));
    Py_SETREF(self->result_type, Py_NewRef(result_type));
    Py_RETURN_NONE;
}

/* ---- the pool's side: its jobs --------------------------------------------------------------------- */

static int
enter(BoardObject *self, JobObject *job)
{
    PyObject *number = PyLong_FromUnsignedLongLong(job->number);
    int rc = number == NULL ? -1 : PyDict_SetItem(self->jobs, number, (PyObject *)job);
    Py_XDECREF(number);
    return rc;
}

JobObject *
board_find_job(BoardObject *self, unsigned long long number)
{
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    PyObject *job = key == NULL ? NULL : PyDict_GetItemWithError(self->jobs, key);
    Py_XINCREF(job);
    Py_XDECREF(key);
    return (JobObject *)job;
}

int
board_forget_job(BoardObject *self, JobObject *job)
{
    PyObject *key = PyLong_FromUnsignedLongLong(job->number);
    if (key == NULL)
        return -1;
    if (PyDict_DelItem(self->jobs, key) < 0)
        PyErr_Clear(); /* it was forgotten already */
    Py_DECREF(key);
    int rc = self->closing && PyDict_GET_SIZE(self->jobs) == 0 ? board_make_ring(self) : 0; /* the supervisor waits */
    Py_SETREF(job->pool, Py_NewRef(Py_None));
    return rc;
}

static PyObject *
board_forget(BoardObject *self, PyObject *job)
{
    if (board_check(self) < 0)
        return NULL;
    if (!PyObject_TypeCheck(job, self->handle.state->Job)) {
        PyErr_SetString(PyExc_TypeError, "not a job");
        return NULL;
    }
    if (board_forget_job(self, (JobObject *)job) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- the pool's side: calls that need nothing else ------------------------------------------------------ */

/* Nobody may be waiting for what is on its way: let the supervisor look after it. */
static int
attend(BoardObject *self)
{
    if (self->leader != Py_None || fmp_load(&board_of(self)->listening))
        return 0;
    return PyList_GET_SIZE(self->unread) == 0 && fmp_board_listen(board_of(self)) ? 0 : board_make_ring(self);
}

/* An exception is set: somebody must look whether all is right. */
static void
break_off(BoardObject *self, PyObject *token)
{
    PyObject *raised = PyErr_GetRaisedException();
    int noted = PyList_Append(self->broken_off, token);
    if (noted < 0 && self->leader == token) /* at least it is in nobody's way */
        Py_SETREF(self->leader, Py_NewRef(Py_None));
    if (board_make_ring(self) < 0 || noted < 0)
        PyErr_Clear(); /* what was raised is what counts */
    PyErr_SetRaisedException(raised);
}

/* Stop leading; somebody else goes on. */
static int
step_down(BoardObject *self)
{
    Py_SETREF(self->leader, Py_NewRef(Py_None));
    if (self->followers == 0)
        return PyDict_GET_SIZE(self->jobs) == 0 ? 0 : attend(self);
    PyObject *done = PyObject_CallMethod(self->desk, "_stepped_down", NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Does this thread have the desk's lock? Then this is a signal handler that interrupted it. 0, 1, or -1 with an
 * exception. */
static int
is_locked_here(BoardObject *self)
{
    PyObject *answer = PyObject_CallNoArgs(self->is_locked);
    int locked = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return locked;
}

static PyObject *
board_lead(BoardObject *self, PyObject *job)
{
    if (board_check(self) < 0)
        return NULL;
    if (!PyObject_TypeCheck(job, self->handle.state->Job) || self->leader != Py_None || !board_is_calm(self) ||
        ((JobObject *)job)->callback != Py_None || ((JobObject *)job)->error_callback != Py_None)
        Py_RETURN_NONE; /* there is more to it */
    int locked = is_locked_here(self);
    if (locked != 0)
        return locked < 0 ? NULL : Py_NewRef(Py_None);
    Py_SETREF(self->leader, Py_NewRef(job));
    self->leader_thread = PyThread_get_thread_ident();
    fmp_board_stop_listening(board_of(self));
    int rc = board_collect_until(self, (JobObject *)job, FMP_FOREVER);
    if (rc < 0)
        break_off(self, Py_None);
    PyObject *raised = rc < 0 ? PyErr_GetRaisedException() : NULL;
    if (self->leader == job && step_down(self) < 0 && raised == NULL)
        return break_off(self, Py_None), NULL;
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
        return NULL;
    }
    Py_RETURN_NONE;
}

static int
submit(BoardObject *self, JobObject *job, PyObject *arguments)
{
    fmp_task task = {.job = job->number, .place = self->plain_place, .how = TASK_CALL};
    if (enter(self, job) < 0)
        return -1;
    if (board_send(self, &task, NULL, arguments) == 0)
        return 0;
    PyObject *raised = PyErr_GetRaisedException();
    if (board_forget_job(self, job) < 0)
        PyErr_Clear();
    PyErr_SetRaisedException(raised);
    return -1;
}

static PyObject *
board_submit(BoardObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (board_check(self) < 0)
        return NULL;
    if (nargs != 7) {
        PyErr_SetString(PyExc_TypeError, "submit() takes 7 arguments");
        return NULL;
    }
    PyObject *pool = args[0], *func = args[1], *arguments = args[2], *kwds = args[3];
    if (!board_is_plain(self, func) || !board_is_calm(self) || !PyTuple_CheckExact(arguments) || !PyDict_CheckExact(kwds) ||
        PyDict_GET_SIZE(kwds) != 0)
        Py_RETURN_NONE;
    JobObject *job = job_of_one((PyTypeObject *)self->result_type, self->handle.state, self->desk, (PyObject *)self, pool, func);
    if (job == NULL)
        return NULL;
    Py_SETREF(job->callback, Py_NewRef(args[4]));
    Py_SETREF(job->error_callback, Py_NewRef(args[5]));
    int rc = submit(self, job, arguments);
    if (rc == 0 && (args[6] != Py_True || attend(self) == 0))
        return (PyObject *)job;
    Py_DECREF(job);
    if (rc < 0 && board_leave_to_python() == 0)
        Py_RETURN_NONE;
    return NULL;
}

/* ---- the pool's side: what must not be left half done -------------------------------------------------- */

static int
begin_guarded(BoardObject *self, PyObject *token)
{
    PyObject *thread = PyLong_FromUnsignedLong(PyThread_get_thread_ident());
    int rc = thread == NULL ? -1 : PyDict_SetItem(self->guarded, token, thread);
    Py_XDECREF(thread);
    return rc;
}

static PyObject *
end_guarded(BoardObject *self, PyObject *token, PyObject *result)
{
    PyObject *raised = PyErr_GetRaisedException();
    if (PyDict_DelItem(self->guarded, token) < 0)
        PyErr_Clear(); /* what was raised is what counts */
    PyErr_SetRaisedException(raised);
    if (result == NULL)
        break_off(self, token);
    return result;
}

static PyObject *
board_guard(BoardObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (board_check(self) < 0)
        return NULL;
    if (nargs < 2) {
        PyErr_SetString(PyExc_TypeError, "guard() takes a function and a token at least");
        return NULL;
    }
    if (begin_guarded(self, args[1]) < 0)
        return NULL;
    return end_guarded(self, args[1], PyObject_Vectorcall(args[0], args + 1, (size_t)(nargs - 1), NULL));
}

/* ---- the pool's side: the dead --------------------------------------------------------------------- */

static PyObject *
board_bury(BoardObject *self, PyObject *args)
{
    int pid;
    unsigned kind;
    PyObject *obj;
    fmp_answer lost;
    if (board_check(self) < 0 || !PyArg_ParseTuple(args, "iIO:bury", &pid, &kind, &obj))
        return NULL;
    if (fmp_board_bury(self->handle.arena, board_of(self), pid, &lost) != 0)
        Py_RETURN_FALSE;
    if (lost.number != 0 && board_add_result(self, &lost, kind, obj) < 0)
        return NULL;
    fmp_board_vacate(board_of(self), lost.seat);
    Py_RETURN_TRUE;
}

/* ---- the pool's side: its sleep and its end ------------------------------------------------------------ */

static PyObject *
board_listen(BoardObject *self, PyObject *Py_UNUSED(ignored))
{
    if (board_check(self) < 0)
        return NULL;
    return PyBool_FromLong(PyList_GET_SIZE(self->unread) == 0 && fmp_board_listen(board_of(self)));
}

static PyObject *
board_stop_listening(BoardObject *self, PyObject *Py_UNUSED(ignored))
{
    if (board_check(self) < 0)
        return NULL;
    fmp_board_stop_listening(board_of(self));
    Py_RETURN_NONE;
}

static PyObject *
board_ring(BoardObject *self, PyObject *Py_UNUSED(ignored))
{
    if (board_check(self) < 0 || board_make_ring(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
board_silence(BoardObject *self, PyObject *Py_UNUSED(ignored))
{
    uint64_t count;
    if (board_check(self) < 0)
        return NULL;
    self->rung = 0;
    if (read(self->bell, &count, sizeof(count)) < 0 && errno != EAGAIN)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *
board_fileno(BoardObject *self, PyObject *Py_UNUSED(ignored))
{
    return board_check(self) < 0 ? NULL : PyLong_FromLong(self->bell);
}

static PyObject *
board_load(BoardObject *self, void *Py_UNUSED(closure))
{
    return board_check(self) < 0 ? NULL : PyLong_FromUnsignedLongLong(fmp_board_load(board_of(self)));
}

static PyObject *
advance(BoardObject *self, uint32_t stage)
{
    if (board_check(self) < 0)
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
    return advance(self, FMP_BOARD_ENDED);
}

/* ---- the type ------------------------------------------------------------------------------------------ */

static int
board_traverse(PyObject *op, visitproc visit, void *arg)
{
    BoardObject *self = (BoardObject *)op;
    Py_VISIT(Py_TYPE(op));
#define X(name) Py_VISIT(self->name);
    OBJECTS(X)
#undef X
    for (int i = 0; i < FMP_BOARD_PLACES; i++)
        Py_VISIT(self->known[i].func);
    return 0;
}

static void
forget_functions(BoardObject *self)
{
    for (int i = 0; i < FMP_BOARD_PLACES; i++)
        Py_CLEAR(self->known[i].func);
}

/* Methods count on what it refers to, so it keeps what is none of the user's. */
static int
board_clear(PyObject *op)
{
    BoardObject *self = (BoardObject *)op;
    if (self->handle.object == NULL || self->jobs == NULL)
        return 0;
    PyDict_Clear(self->jobs);
    Py_SETREF(self->desk, Py_NewRef(Py_None));
    Py_SETREF(self->leader, Py_NewRef(Py_None));
    Py_SETREF(self->plain, Py_NewRef(Py_None));
    return 0;
}

static void
board_dealloc(PyObject *op)
{
    BoardObject *self = (BoardObject *)op;
    PyObject_GC_UnTrack(op);
    close_bell(self);
    board_drop_unread(self);
    forget_functions(self);
#define X(name) Py_CLEAR(self->name);
    OBJECTS(X)
#undef X
    handle_dealloc(op);
}

static PyObject *
board_reduce(BoardObject *self, PyObject *Py_UNUSED(ignored))
{
    return board_check(self) < 0 ? NULL : handle_reduce_with(&self->handle, handle_send_fd(&self->handle, self->bell));
}

static PyObject *
board_attach(PyTypeObject *type, PyObject *args)
{
    PyObject *extra;
    BoardObject *self = (BoardObject *)handle_attach(type, args, FMP_BOARD, fmp_board_bytes(1), &extra);
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
    {"watch", (PyCFunction)board_watch, METH_VARARGS,
     "watch($self, desk, is_locked, result_type, /)\n--\n\n"
     "Who is told what a worker reports without having a task; whether its lock is this thread's; and of which type\n"
     "the results of submit() are."},
    {"introduce", (PyCFunction)board_introduce, METH_O,
     "introduce($self, func, /)\n--\n\n"
     "From now on tasks of this function go by reference without more ado; None: those of no one."},
    {"put", (PyCFunction)board_put, METH_VARARGS,
     "put($self, job, key, how, func, args, kwds, dumps, /)\n--\n\n"
     "Send a task, pickled by `dumps` unless that is None; its result goes to the job. Returns the load."},
    {"feed", (PyCFunction)board_feed, METH_VARARGS,
     "feed($self, job, how, func, items, size, key, end, most, /)\n--\n\n"
     "Send the tasks from key to end, one for each item (size 0) or slice of `size` items, as long as that goes\n"
     "without more ado and the load is no more than `most`. Returns the key of the next."},
    {"stream", (PyCFunction)board_stream, METH_VARARGS,
     "stream($self, job, how, func, iterator, most, /)\n--\n\n"
     "Send what the iterator gives as the job's next tasks, as long as that goes without more ado and the load is\n"
     "no more than `most`. None at the end; else what was taken but not sent, a tuple of one, or ()."},
    {"submit", (PyCFunction)(void (*)(void))board_submit, METH_FASTCALL,
     "submit($self, pool, func, args, kwds, callback, error_callback, attend, /)\n--\n\n"
     "Send a task and return its result, to be; None if that needs more ado."},
    {"forget", (PyCFunction)board_forget, METH_O, "forget($self, job, /)\n--\n\nThe job expects nothing more."},
    {"collect", (PyCFunction)(void (*)(void))board_collect, METH_FASTCALL | METH_KEYWORDS,
     "collect($self, /, timeout=None, job=None)\n--\n\n"
     "Wait for results and put them into their jobs: until that one is satisfied, or others may be interested.\n"
     "False if `timeout` seconds pass first, and at the end."},
    {"lead", (PyCFunction)board_lead, METH_O,
     "lead($self, job, /)\n--\n\nCollect until the job is satisfied, if nobody else does."},
    {"nudge", (PyCFunction)board_nudge, METH_NOARGS,
     "nudge($self, /)\n--\n\nMake whoever collects look whether he goes on."},
    {"guard", (PyCFunction)(void (*)(void))board_guard, METH_FASTCALL,
     "guard($self, function, token, /, *args)\n--\n\n"
     "Return function(token, *args). If that raises, append the token to `broken_off` and ring."},
    {"bury", (PyCFunction)board_bury, METH_VARARGS,
     "bury($self, pid, kind, obj, /)\n--\n\n"
     "Free the seat of a dead worker; this is the result of the task that it had, if any. False if it had no seat."},
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
    {"serve", (PyCFunction)(void (*)(void))board_serve, METH_FASTCALL,
     "serve($self, run, failed, refused, most, /)\n--\n\n"
     "Be a worker: run tasks until there will be none, and return False; or `most` of them, unless that is None.\n"
     "run(how, func, args, kwds) is for those that are more than one call; failed(exception) and\n"
     "refused(exception, value) return what to report: (kind, value)."},
    {"fail", (PyCFunction)board_fail, METH_VARARGS,
     "fail($self, kind, obj, /)\n--\n\nReport something without having a task."},
    HANDLE_TRAVEL(board_reduce, board_attach),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"load", (getter)board_load, NULL, "Bytes of the tasks that no worker has taken.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define FIELD(name, type, flags, doc) {#name, type, offsetof(BoardObject, name), flags, doc}

static PyMemberDef members[] = {
    HANDLE_MEMBERS,
    FIELD(jobs, Py_T_OBJECT_EX, Py_READONLY, "Those that expect results, by number."),
    FIELD(guarded, Py_T_OBJECT_EX, Py_READONLY, "The threads of the guarded calls that run, by token."),
    FIELD(broken_off, Py_T_OBJECT_EX, Py_READONLY, "Tokens of the guarded calls that raised."),
    FIELD(plain, Py_T_OBJECT_EX, Py_READONLY, "The function that was introduced last, or None."),
    FIELD(leader, Py_T_OBJECT_EX, 0, "Who collects, or None."),
    FIELD(leader_thread, Py_T_ULONG, 0, "In which thread."),
    FIELD(followers, Py_T_PYSSIZET, 0, "How many wait for somebody else to collect."),
    FIELD(closing, Py_T_BOOL, 0, "Ring when the last job is complete."),
    FIELD(runs, Py_T_BOOL, 0, "In a worker: a task is running that may be interrupted."),
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
