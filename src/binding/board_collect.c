/* board_collect.c: how the pool collects results from a Board and puts them into their jobs. */
#include <string.h>

#include "binding/args.h"
#include "binding/board_type.h"

static PyObject *
value_of(BoardObject *self, const fmp_message *m)
{
    return codec_decode(self->handle.state, (const char *)m->data + sizeof(fmp_answer),
                        (Py_ssize_t)(m->bytes - sizeof(fmp_answer)));
}

/* What stands for a value that cannot be unpickled: the exception set, as an object. If it may be a signal
 * handler's, unpickling is tried again: NULL, with the exception, if that works. */
static PyObject *
unreadable(BoardObject *self, const fmp_message *m)
{
    PyObject *raised = PyErr_GetRaisedException();
    if (PyErr_GivenExceptionMatches(raised, PyExc_Exception))
        return raised;
    PyObject *value = value_of(self, m);
    if (value == NULL) {
        PyErr_Clear();
        return raised;
    }
    Py_DECREF(value);
    PyErr_SetRaisedException(raised);
    return NULL;
}

/* A message whose unpickling was interrupted, as it is kept in `unread`: a bytes object of this. */
struct letter {
    fmp_message message;
    uint32_t owner; /* the process that took it: its forked children have no part in it */
};

/* Keep a message for the next time, and the exception set: 0, or -1 if there is no memory for it. */
static int
keep(BoardObject *self, const fmp_message *m)
{
    PyObject *raised = PyErr_GetRaisedException();
    struct letter letter = {.message = *m, .owner = self->handle.arena->self};
    PyObject *kept = PyBytes_FromStringAndSize((const char *)&letter, sizeof(letter));
    int rc = kept == NULL ? -1 : PyList_Append(self->unread, kept);
    Py_XDECREF(kept);
    PyErr_SetRaisedException(raised); /* in place of a MemoryError: it is what counts */
    return rc;
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

void
board_drop_unread(BoardObject *self)
{
    fmp_message m;
    while (self->unread != NULL && PyList_GET_SIZE(self->unread) != 0) {
        if (take_unread(self, &m))
            fmp_message_done(self->handle.arena, &m);
    }
    Py_CLEAR(self->unread);
}

/* All that the job waits for is there. */
static int
conclude(BoardObject *self, JobObject *job)
{
    if (job_finish(job))
        return board_forget_job(self, job);
    PyObject *done = PyObject_CallMethod((PyObject *)job, "_arrived", NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* A result whose job is known: put it there. The value is taken over. */
static int
deliver(BoardObject *self, JobObject *job, const fmp_answer *answer, int kind, PyObject *value)
{
    job_deliver(job, answer->task.key, kind, value);
    return job_is_complete(job) ? conclude(self, job) : 0;
}

static int
tell_desk(BoardObject *self, int kind, PyObject *value)
{
    PyObject *done = PyObject_CallMethod(self->desk, "_initializer_raised", "iN", kind, value);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* An exception is set that has nothing to do with the message. */
static void
put_off(BoardObject *self, fmp_message *m)
{
    if (keep(self, m) < 0)
        fmp_message_done(self->handle.arena, m);
}

/* Deal with a message: 0, or -1 with an exception. */
static int
receive(BoardObject *self, fmp_message *m)
{
    fmp_answer answer;
    memcpy(&answer, m->data, sizeof(answer));
    int kind = (int)m->kind, rc = 0;
    JobObject *job = answer.task.job == JOB_NONE ? NULL : board_find_job(self, answer.task.job);
    PyObject *value = NULL;
    if (job == NULL && PyErr_Occurred())
        return put_off(self, m), -1;
    if (job != NULL || answer.task.job == JOB_NONE) {
        value = value_of(self, m);
        if (value == NULL) {
            kind = RESULT_UNREADABLE;
            value = unreadable(self, m);
        }
        if (value == NULL) {
            Py_XDECREF(job);
            return put_off(self, m), -1;
        }
    }
    if (job == NULL && value != NULL && tell_desk(self, kind, value) < 0)
        return put_off(self, m), -1;
    fmp_message_done(self->handle.arena, m);
    if (answer.task.place < FMP_BOARD_PLACES)
        self->known[answer.task.place].out--;
    if (job != NULL)
        rc = deliver(self, job, &answer, kind, value);
    Py_XDECREF(job);
    return rc;
}

struct transfer {
    BoardObject *self;
    fmp_message message;
};

static int
collect_blocking(void *arg, fmp_waiter *w)
{
    struct transfer *t = arg;
    return fmp_board_collect(t->self->handle.arena, board_of(t->self), w, &t->message);
}

/* The next message, dealt with: 1, 0 if none came until then or there will be none, or -1 with an exception. */
static int
collect_one(BoardObject *self, fmp_time until)
{
    struct transfer t = {.self = self};
    int rc;
    if (PyList_GET_SIZE(self->unread) != 0)
        return take_unread(self, &t.message) && receive(self, &t.message) < 0 ? -1 : 1;
    if (try_then_wait(collect_blocking, &t, until, &rc) < 0)
        return -1;
    if (rc == FMP_TIMEOUT || rc == FMP_EOF)
        return 0;
    if (rc != 0)
        return raise_rc(self->handle.state, rc), -1;
    return receive(self, &t.message) < 0 ? -1 : 1;
}

int
board_collect_until(BoardObject *self, JobObject *job, fmp_time until)
{
    int rc = 1;
    while (rc > 0 && !(job != NULL && job_is_satisfied(job))) {
        rc = collect_one(self, until);
        while (rc > 0 && fmp_queue_size(&board_of(self)->results) != 0 && !(job != NULL && job_is_satisfied(job)))
            rc = collect_one(self, FMP_NOW);
        if (job == NULL || self->followers != 0)
            break;
    }
    return rc;
}

PyObject *
board_collect(BoardObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"collect", {"timeout", "job"}, 0};
    PyObject *given[2];
    fmp_time until;
    if (board_check(self) < 0 || args_parse(&spec, args, nargs, kwnames, given) < 0 || args_deadline(given[0], &until) < 0)
        return NULL;
    JobObject *job = given[1] == NULL || given[1] == Py_None ? NULL : (JobObject *)given[1];
    if (job != NULL && !PyObject_TypeCheck(job, self->handle.state->Job)) {
        PyErr_SetString(PyExc_TypeError, "not a job");
        return NULL;
    }
    int rc = board_collect_until(self, job, until);
    return rc < 0 ? NULL : PyBool_FromLong(rc);
}
