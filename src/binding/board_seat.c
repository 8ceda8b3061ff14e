/* board_seat.c: a worker's side of the Board. The life of a worker is a loop in C: what is Python in it is the
 * task, and what `worker.py` does about errors. */
#include <errno.h>
#include <unistd.h>

#include "binding/board_type.h"

#define BREATHER 64 /* tasks after which other threads may run: those of C functions never let them */

/* What the loop is given by worker.py. */
struct service {
    BoardObject *self;
    PyObject *run;     /* (how, func, args, kwds) -> value */
    PyObject *failed;  /* (exception) -> (kind, value): what to report when a task raised */
    PyObject *refused; /* (exception, value) -> (kind, value): when its value can't be pickled */
    fmp_message message;
};

/* ---- its seat ----------------------------------------------------------------------------------------- */

/* What flush_what_was_printed needs: 0, or -1 with an exception. */
static int
know_streams(module_state *state)
{
    if (state->flush == NULL)
        state->flush = PyUnicode_InternFromString("flush");
    if (state->TextIOWrapper != NULL || state->flush == NULL)
        return state->flush == NULL ? -1 : 0;
    PyObject *io = PyImport_ImportModule("io");
    state->TextIOWrapper = io == NULL ? NULL : PyObject_GetAttrString(io, "TextIOWrapper");
    Py_XDECREF(io);
    return state->TextIOWrapper == NULL ? -1 : 0;
}

PyObject *
board_sit(BoardObject *self, PyObject *Py_UNUSED(ignored))
{
    if (board_check(self) < 0 || know_streams(self->handle.state) < 0)
        return NULL;
    int rc = fmp_board_sit(board_of(self), getpid(), &self->seat);
    for (int i = 0; i < FMP_BOARD_PLACES; i++) { /* the pool's own */
        self->known[i].number = 0;
        Py_CLEAR(self->known[i].func);
    }
    if (rc < 0) {
        self->seat = NO_SEAT;
        return raise_rc(self->handle.state, rc);
    }
    Py_RETURN_NONE;
}

/* What is reported without having a task. */
PyObject *
board_fail(BoardObject *self, PyObject *args)
{
    unsigned kind;
    PyObject *obj;
    fmp_answer answer = {.task = {.job = JOB_NONE, .place = FMP_BOARD_PLACES}, .seat = NO_SEAT};
    if (board_check(self) < 0 || !PyArg_ParseTuple(args, "IO:fail", &kind, &obj) ||
        board_add_result(self, &answer, kind, obj) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- one task ------------------------------------------------------------------------------------------ */

/* The function in a place: a borrowed reference, or NULL with an exception. */
static PyObject *
function_in(BoardObject *self, uint32_t place)
{
    fmp_board_place *p = &board_of(self)->places[place];
    known_function *known = &self->known[place];
    if (known->number == p->number)
        return known->func;
    PyObject *func = codec_unpickle(self->handle.state, p->pickle, (Py_ssize_t)p->bytes);
    if (func == NULL)
        return NULL;
    Py_XSETREF(known->func, func);
    known->number = p->number;
    return func;
}

static PyObject *
run_in_python(struct service *s, const fmp_task *task, PyObject *func, PyObject *args)
{
    if (func == NULL)
        return PyObject_Call(s->run, args, NULL); /* all four of them */
    PyObject *how = PyLong_FromUnsignedLong(task->how);
    PyObject *value = how == NULL ? NULL : PyObject_CallFunctionObjArgs(s->run, how, func, args, Py_None, NULL);
    Py_XDECREF(how);
    return value;
}

static PyObject *
run(struct service *s, const fmp_task *task, PyObject *func, PyObject *args)
{
    PyObject *value;
    if (PyErr_CheckSignals() < 0) /* those that came before are not for the task */
        return NULL;
    s->self->runs = 1;
    if (func != NULL && task->how == TASK_ONE)
        value = PyObject_CallOneArg(func, args);
    else if (func != NULL && task->how == TASK_CALL && PyTuple_Check(args))
        value = PyObject_Call(func, args, NULL);
    else
        value = run_in_python(s, task, func, args);
    if (value != NULL && PyErr_CheckSignals() < 0)
        Py_CLEAR(value);
    s->self->runs = 0;
    return value;
}

/* Take the message apart and run what it asks for: the value, or NULL with an exception. */
static PyObject *
perform(struct service *s)
{
    BoardObject *self = s->self;
    fmp_message *m = &s->message;
    fmp_task task;
    memcpy(&task, m->data, sizeof(task));
    PyObject *args = codec_decode(self->handle.state, (const char *)m->data + sizeof(task),
                                  (Py_ssize_t)(m->bytes - sizeof(task)));
    fmp_message_done(self->handle.arena, m);
    PyObject *value = NULL, *func = NULL;
    if (args != NULL && (task.place >= FMP_BOARD_PLACES || (func = function_in(self, task.place)) != NULL))
        value = run(s, &task, func, args);
    Py_XDECREF(args);
    return value;
}

/* A pool is mostly terminated, so what a task printed is shown with its result, or never. */
static void
flush_what_was_printed(module_state *state)
{
    PyObject *out = PySys_GetObject("stdout");
    if (out == NULL || !Py_IS_TYPE(out, (PyTypeObject *)state->TextIOWrapper))
        return;
    Py_INCREF(out);
    PyObject *done = PyObject_CallMethodNoArgs(out, state->flush);
    if (done == NULL) /* it is closed, or its other end is */
        PyErr_Clear();
    Py_XDECREF(done);
    Py_DECREF(out);
}

/* Report the pair (kind, value), which is given up. */
static int
report_pair(BoardObject *self, const fmp_answer *answer, PyObject *pair)
{
    unsigned kind;
    PyObject *value;
    int rc = pair == NULL || !PyArg_ParseTuple(pair, "IO:report", &kind, &value)
                 ? -1
                 : board_add_result(self, answer, kind, value);
    Py_XDECREF(pair);
    return rc;
}

/* What is to be reported instead of a value: as `failed` and `refused` say. */
static PyObject *
describe(struct service *s, PyObject *raised, PyObject *value)
{
    if (value == NULL)
        return PyObject_CallOneArg(s->failed, raised);
    return PyObject_CallFunctionObjArgs(s->refused, raised, value, NULL);
}

/* Report the value, or the exception that is set if there is none: 0, or -1 with an exception. */
static int
report(struct service *s, const fmp_answer *answer, PyObject *value)
{
    PyObject *raised = value == NULL ? PyErr_GetRaisedException() : NULL;
    PyObject *pair = raised == NULL ? NULL : describe(s, raised, NULL);
    Py_XDECREF(raised);
    if (value == NULL && pair == NULL)
        return -1;
    flush_what_was_printed(s->self->handle.state);
    if (pair != NULL)
        return report_pair(s->self, answer, pair);
    if (board_add_result(s->self, answer, RESULT_VALUE, value) == 0)
        return 0;
    raised = PyErr_GetRaisedException();
    pair = describe(s, raised, value);
    Py_DECREF(raised);
    return report_pair(s->self, answer, pair);
}

/* ---- all of them ---------------------------------------------------------------------------------------- */

static int
take_blocking(void *arg, fmp_waiter *w)
{
    struct service *s = arg;
    return fmp_board_take(s->self->handle.arena, board_of(s->self), s->self->seat, w, &s->message);
}

/* One task: 1, or 0 if there will be none, or -1 with an exception. */
static int
serve_one(struct service *s)
{
    BoardObject *self = s->self;
    int rc;
    if (try_then_wait(take_blocking, s, FMP_FOREVER, &rc) < 0)
        return -1;
    if (rc == FMP_EOF)
        return 0;
    if (rc != 0)
        return raise_rc(self->handle.state, rc), -1;
    fmp_answer answer = fmp_board_running(board_of(self), self->seat);
    PyObject *value = perform(s);
    rc = report(s, &answer, value);
    Py_XDECREF(value);
    if (rc < 0)
        return -1;
    fmp_board_done(board_of(self), self->seat);
    return 1;
}

PyObject *
board_serve(BoardObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    struct service s = {.self = self};
    if (nargs != 4) {
        PyErr_SetString(PyExc_TypeError, "serve() takes 4 arguments");
        return NULL;
    }
    Py_ssize_t most = args[3] == Py_None ? PY_SSIZE_T_MAX : PyLong_AsSsize_t(args[3]);
    if (board_check(self) < 0 || (most == -1 && PyErr_Occurred()))
        return NULL;
    if (self->seat == NO_SEAT) {
        PyErr_SetString(PyExc_RuntimeError, "only a worker with a seat can do that");
        return NULL;
    }
    s.run = args[0];
    s.failed = args[1];
    s.refused = args[2];
    for (Py_ssize_t i = 0; i < most; i++) {
        int rc = serve_one(&s);
        if (rc <= 0)
            return rc < 0 ? NULL : Py_NewRef(Py_False);
        if (i % BREATHER == BREATHER - 1) {
            Py_BEGIN_ALLOW_THREADS
            Py_END_ALLOW_THREADS
        }
    }
    return Py_NewRef(Py_True);
}
