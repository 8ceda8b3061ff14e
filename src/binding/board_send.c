/* board_send.c: how the pool sends tasks through a Board: one by one, those of a map, and what an iterator gives. */
#include "binding/board_type.h"

#define CHECK_SIGNALS 256 /* tasks sent in one call after which handlers may run, and other threads */

/* ---- functions (B2) -------------------------------------------------------------------------------- */

/* Where the function is, or can be put; FMP_BOARD_PLACES if all are in use. */
static uint32_t
place_for(BoardObject *self, PyObject *func)
{
    uint32_t found = FMP_BOARD_PLACES;
    for (uint32_t i = 0; i < FMP_BOARD_PLACES; i++) {
        if (self->known[i].func == func)
            return i;
        if (self->known[i].out == 0 && (found == FMP_BOARD_PLACES || self->known[i].func == NULL))
            found = i;
    }
    return found;
}

/* Give the workers its pickle, if it is short and there is a place. */
static void
put_in_place(BoardObject *self, PyObject *func, PyObject *pickle)
{
    known_function *known;
    uint32_t place = place_for(self, func);
    if (place == FMP_BOARD_PLACES || PyBytes_GET_SIZE(pickle) > (Py_ssize_t)FMP_BOARD_FUNCTION_MOST)
        return;
    known = &self->known[place];
    if (known->func != func) {
        self->functions++;
        fmp_board_introduce(board_of(self), place, self->functions, PyBytes_AS_STRING(pickle),
                            (uint32_t)PyBytes_GET_SIZE(pickle));
        Py_XSETREF(known->func, Py_NewRef(func));
        known->number = self->functions;
    }
    self->plain_place = place;
}

/* From now on tasks of this function go by reference, and without asking again; None: those of no one. */
PyObject *
board_introduce(BoardObject *self, PyObject *func)
{
    if (board_check(self) < 0)
        return NULL;
    self->plain_place = FMP_BOARD_PLACES;
    Py_SETREF(self->plain, Py_NewRef(func));
    if (func == Py_None)
        Py_RETURN_NONE;
    PyObject *pickle = PyObject_CallOneArg(self->handle.state->dumps, func);
    if (pickle != NULL && PyBytes_Check(pickle) && self->plain == func)
        put_in_place(self, func, pickle);
    if (pickle == NULL && !PyErr_ExceptionMatches(PyExc_Exception))
        return NULL;
    PyErr_Clear(); /* its tasks can't be pickled either, and will say so */
    Py_XDECREF(pickle);
    Py_RETURN_NONE;
}

/* ---- sending one --------------------------------------------------------------------------------------- */

int
board_is_calm(BoardObject *self)
{
    fmp_board *b = board_of(self);
    return b->master == self->handle.arena->self && fmp_load(&b->stage) == FMP_BOARD_OPEN &&
           PyList_GET_SIZE(self->broken_off) == 0;
}

int
board_is_plain(BoardObject *self, PyObject *func)
{
    return func == self->plain && self->plain_place < FMP_BOARD_PLACES;
}

int
board_send(BoardObject *self, const fmp_task *task, PyObject *dumps, PyObject *contents)
{
    fmp_parcel parcel;
    int counts = task->place < FMP_BOARD_PLACES, rc;
    if (counts)
        self->known[task->place].out++; /* pickling runs anything, which may look for a place */
    rc = codec_pack(self->handle.state, self->handle.arena, task, sizeof(*task), dumps, contents, 0, &parcel);
    if (rc == 0 && (rc = fmp_board_put(self->handle.arena, board_of(self), &parcel)) != 0) {
        fmp_queue_discard(self->handle.arena, &parcel);
        raise_rc(self->handle.state, rc);
    }
    if (rc != 0 && counts)
        self->known[task->place].out--;
    return rc == 0 ? 0 : -1;
}

int
board_leave_to_python(void)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    PyErr_Clear();
    return 0;
}

/* put()'s task in one piece. */
static int
send_whole(BoardObject *self, fmp_task *task, PyObject *dumps, PyObject *func, PyObject *args, PyObject *kwds)
{
    task->place = FMP_BOARD_PLACES;
    PyObject *whole = Py_BuildValue("(IOOO)", task->how, func, args, kwds);
    int rc = whole == NULL ? -1 : board_send(self, task, dumps == Py_None ? NULL : dumps, whole);
    Py_XDECREF(whole);
    return rc;
}

/* May the function be left out? */
static int
is_short(BoardObject *self, const fmp_task *task, PyObject *dumps, PyObject *func, PyObject *args, PyObject *kwds)
{
    if (dumps != Py_None || !board_is_plain(self, func))
        return 0;
    return task->how != TASK_CALL || (PyTuple_CheckExact(args) && PyDict_CheckExact(kwds) && PyDict_GET_SIZE(kwds) == 0);
}

PyObject *
board_put(BoardObject *self, PyObject *args)
{
    JobObject *job;
    unsigned long long key;
    fmp_task task = {0};
    PyObject *func, *arguments, *kwds, *dumps;
    if (board_check(self) < 0 ||
        !PyArg_ParseTuple(args, "O!KIOOOO:put", self->handle.state->Job, &job, &key, &task.how, &func, &arguments, &kwds,
                          &dumps) ||
        job_reserve(job, key) < 0)
        return NULL;
    task.job = job->number;
    task.key = key;
    task.place = self->plain_place;
    int rc = is_short(self, &task, dumps, func, arguments, kwds)
                 ? board_send(self, &task, NULL, arguments)
                 : send_whole(self, &task, dumps, func, arguments, kwds);
    return rc < 0 ? NULL : PyLong_FromUnsignedLongLong(fmp_board_load(board_of(self)));
}

/* ---- sending the tasks of a map ---- */

/* What is to be sent. */
struct input {
    PyObject *items; /* a list, a tuple or a range */
    Py_ssize_t size; /* items of a chunk, or 0: they are sent one by one */
};

/* The contents of the task at `key`: a new reference, or NULL with an exception. */
static PyObject *
piece(const struct input *in, Py_ssize_t key)
{
    if (in->size == 0)
        return PySequence_GetItem(in->items, key);
    return PySequence_GetSlice(in->items, key * in->size, (key + 1) * in->size);
}

static int
send_piece(BoardObject *self, JobObject *job, uint32_t how, const struct input *in, uint64_t key)
{
    fmp_task task = {.job = job->number, .key = key, .place = self->plain_place, .how = how};
    PyObject *contents = job_reserve(job, key) < 0 ? NULL : piece(in, (Py_ssize_t)key);
    int rc = contents == NULL ? -1 : board_send(self, &task, NULL, contents);
    Py_XDECREF(contents);
    return rc;
}

/* Let handlers and other threads run: 0, or -1 with an exception. */
static int
breathe(void)
{
    Py_BEGIN_ALLOW_THREADS
    Py_END_ALLOW_THREADS
    return PyErr_CheckSignals();
}

PyObject *
board_feed(BoardObject *self, PyObject *args)
{
    JobObject *job;
    struct input in;
    PyObject *func;
    unsigned how;
    unsigned long long key, end, most;
    int rc = 0;
    if (board_check(self) < 0 || !PyArg_ParseTuple(args, "O!IOOnKKK:feed", self->handle.state->Job, &job, &how, &func,
                                             &in.items, &in.size, &key, &end, &most))
        return NULL;
    while (key < end && board_is_plain(self, func) && board_is_calm(self) && fmp_board_load(board_of(self)) <= most) {
        if (send_piece(self, job, how, &in, key) < 0) {
            rc = board_leave_to_python();
            break;
        }
        key++;
        if (key % CHECK_SIGNALS == 0 && (rc = breathe()) < 0)
            break;
    }
    return rc < 0 ? NULL : PyLong_FromUnsignedLongLong(key);
}

/* ---- sending what an iterator gives ---- */

/* 0 when all is sent; 1 if more is to be done: with what was taken in *contents, if it isn't sent yet, else because it
 * shall not go on; -1 with an exception. */
static int
stream(BoardObject *self, JobObject *job, fmp_task *task, PyObject *func, PyObject *iterator, uint64_t most,
       PyObject **contents)
{
    for (;;) {
        int ahead = job_pause_while_ahead(job);
        if (ahead != 0)
            return ahead;
        if (job->ready || fmp_board_load(board_of(self)) > most)
            return 1;
        if ((*contents = PyIter_Next(iterator)) == NULL)
            return PyErr_Occurred() ? -1 : 0;
        task->key = job->sent;
        task->place = self->plain_place;
        if (!board_is_plain(self, func) || !board_is_calm(self))
            return 1;
        if (job_reserve(job, task->key) < 0 || board_send(self, task, NULL, *contents) < 0)
            return board_leave_to_python() < 0 ? -1 : 1;
        Py_CLEAR(*contents);
        if (++job->sent % CHECK_SIGNALS == 0 && breathe() < 0)
            return -1;
    }
}

PyObject *
board_stream(BoardObject *self, PyObject *args)
{
    JobObject *job;
    fmp_task task = {0};
    PyObject *func, *iterator, *contents = NULL;
    unsigned long long most;
    if (board_check(self) < 0 || !PyArg_ParseTuple(args, "O!IOOK:stream", self->handle.state->Job, &job, &task.how, &func,
                                             &iterator, &most))
        return NULL;
    if (!PyIter_Check(iterator)) {
        PyErr_SetString(PyExc_TypeError, "not an iterator");
        return NULL;
    }
    task.job = job->number;
    int rc = stream(self, job, &task, func, iterator, most, &contents);
    PyObject *rest = rc < 0 ? NULL : rc == 0 ? Py_NewRef(Py_None) : contents == NULL ? PyTuple_New(0) : PyTuple_Pack(1, contents);
    Py_XDECREF(contents);
    return rest;
}
