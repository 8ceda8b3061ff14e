#include "binding/job_type.h"

#include "binding/args.h"
#include "binding/wait.h"

#define ROOM_LEAST 1
#define PARTS_AHEAD 4 /* when the first of them was passed on, the feeder goes on */

static job_item *
item_at(JobObject *job, uint64_t key)
{
    return &job->items[key & (job->room - 1)];
}

static int
has_next(JobObject *job)
{
    return job->room != 0 && item_at(job, job->index)->value != NULL;
}

/* ---- results arrive --------------------------------------------------------------------------------- */

int
job_reserve(JobObject *job, uint64_t key)
{
    uint64_t needed = key - job->index + 1, room = job->room == 0 ? ROOM_LEAST : job->room;
    if (key < job->index || needed <= job->room)
        return 0;
    while (room < needed)
        room *= 2;
    job_item *items = room > PY_SSIZE_T_MAX / sizeof(*items) ? NULL : PyMem_Calloc((size_t)room, sizeof(*items));
    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (uint64_t i = job->index; i < job->index + job->room; i++)
        items[i & (room - 1)] = *item_at(job, i);
    PyMem_Free(job->items);
    job->items = items;
    job->room = room;
    return 0;
}

void
job_deliver(JobObject *job, uint64_t key, int kind, PyObject *value)
{
    if (!job->ordered)
        key = job->arrived;
    if (key < job->index || key - job->index >= job->room || item_at(job, key)->value != NULL) {
        Py_DECREF(value); /* of a job that was given up and has lost count */
        return;
    }
    *item_at(job, key) = (job_item){.value = value, .kind = kind};
    job->arrived++;
    if (kind != RESULT_VALUE && job->first_failed == JOB_UNKNOWN)
        job->first_failed = key;
}

int
job_is_satisfied(JobObject *job)
{
    return job->iterates ? has_next(job) || job_is_complete(job) || job->ready : job->ready;
}

static void
clear_items(JobObject *job)
{
    job_item *items = job->items;
    uint64_t room = job->room;
    job->items = NULL;
    job->room = 0;
    for (uint64_t i = 0; i < room; i++)
        Py_XDECREF(items[i].value);
    PyMem_Free(items);
}

/* The values of a complete job: a list; those of chunks are put together. */
static PyObject *
values_of(JobObject *job)
{
    PyObject *values = PyList_New(job->in_chunks ? 0 : (Py_ssize_t)job->total);
    for (uint64_t key = 0; values != NULL && key < job->total; key++) {
        PyObject *value = item_at(job, key)->value, *longer = values;
        if (!job->in_chunks)
            PyList_SET_ITEM(values, (Py_ssize_t)key, Py_NewRef(value));
        else if ((longer = PySequence_InPlaceConcat(values, value)) == NULL)
            Py_CLEAR(values);
        else
            Py_DECREF(longer);
    }
    return values;
}

int
job_finish(JobObject *job)
{
    if (job->iterates || job->ready || job->callback != Py_None || job->error_callback != Py_None ||
        job->first_failed != JOB_UNKNOWN)
        return 0;
    PyObject *value = job->single ? Py_NewRef(item_at(job, 0)->value) : values_of(job);
    if (value == NULL) {
        PyErr_Clear();
        return 0;
    }
    Py_XSETREF(job->value, value);
    job->success = job->ready = 1;
    clear_items(job);
    return 1;
}

static PyObject *
job_put_in(JobObject *job, PyObject *args)
{
    unsigned long long key;
    int kind;
    PyObject *value;
    if (!PyArg_ParseTuple(args, "KiO:_put_in", &key, &kind, &value) || job_reserve(job, key) < 0)
        return NULL;
    job_deliver(job, key, kind, Py_NewRef(value));
    Py_RETURN_NONE;
}

/* ---- the feeder's pause ------------------------------------------------------------------------------- */

static int
goes_on(void *arg)
{
    return (int)atomic_load(&((JobObject *)arg)->goes_on);
}

static int
pause_blocking(void *arg, fmp_waiter *w)
{
    JobObject *job = arg;
    int rc = 0;
    while (rc == 0 && !goes_on(job))
        rc = fmp_ec_wait(NULL, &job->pause, goes_on, job, w); /* no arena: it doesn't spin */
    return rc;
}

static int
pause_once(JobObject *job)
{
    fmp_waiter w = FMP_WAITER(FMP_FOREVER);
    int rc;
    w.spun = 1; /* the processors are for the workers */
    atomic_store(&job->goes_on, 0);
    job->pauses = 1;
    return wait_without_gil(pause_blocking, job, &w, &rc);
}

int
job_pause_while_ahead(JobObject *job)
{
    while (job_is_ahead(job) && !job->never_pauses) {
        if (pause_once(job) < 0)
            return -1;
    }
    return job_is_ahead(job);
}

static void
end_pause(JobObject *job)
{
    if (!job->pauses)
        return;
    job->pauses = 0;
    atomic_store(&job->goes_on, 1);
    fmp_ec_signal(&job->pause, 1);
}

static PyObject *
job_pause(JobObject *job, PyObject *Py_UNUSED(ignored))
{
    int rc = job_pause_while_ahead(job);
    return rc < 0 ? NULL : PyBool_FromLong(rc);
}

static PyObject *
job_end_pause(JobObject *job, PyObject *Py_UNUSED(ignored))
{
    if (!job_is_ahead(job))
        end_pause(job);
    Py_RETURN_NONE;
}

static PyObject *
job_end_pauses(JobObject *job, PyObject *Py_UNUSED(ignored))
{
    job->never_pauses = 1;
    end_pause(job);
    Py_RETURN_NONE;
}

/* ---- results are passed on --------------------------------------------------------------------------- */

/* The next item's value, as a new reference, and its kind; NULL, without an exception, if it isn't there. */
static PyObject *
pop(JobObject *job, int *kind)
{
    if (!has_next(job))
        return NULL;
    job_item *item = item_at(job, job->index++);
    PyObject *value = item->value;
    *kind = item->kind;
    item->value = NULL;
    if (job->pauses && job->ahead - (job->sent - job->index) >= (job->ahead + PARTS_AHEAD - 1) / PARTS_AHEAD)
        end_pause(job);
    return value;
}

static PyObject *
job_pop(JobObject *job, PyObject *Py_UNUSED(ignored))
{
    uint64_t key = job->index;
    int kind;
    PyObject *value = pop(job, &kind);
    if (value == NULL)
        Py_RETURN_NONE;
    return Py_BuildValue("(KiN)", (unsigned long long)key, kind, value);
}

static PyObject *
next_of_chunk(JobObject *job)
{
    if (job->chunk == NULL)
        return NULL;
    if (job->chunk_at < PyList_GET_SIZE(job->chunk))
        return Py_NewRef(PyList_GET_ITEM(job->chunk, job->chunk_at++));
    Py_CLEAR(job->chunk);
    return NULL;
}

/* What is there and can be passed on as it is: NULL, without an exception, if more is to be done. */
static PyObject *
next_quickly(JobObject *job)
{
    PyObject *value;
    int kind;
    while ((value = next_of_chunk(job)) == NULL) {
        if (!has_next(job) || item_at(job, job->index)->kind != RESULT_VALUE)
            return NULL;
        value = pop(job, &kind);
        if (!job->in_chunks)
            return value;
        job->chunk = value;
        job->chunk_at = 0;
    }
    return value;
}

/* Let results come, if that is all there is to do: 0, or -1 with an exception. */
static int
lead(JobObject *job)
{
    module_state *state = job->state;
    if (!job_is_ahead(job))
        end_pause(job);
    if (state->lead == NULL && (state->lead = PyUnicode_InternFromString("lead")) == NULL)
        return -1;
    PyObject *led = PyObject_CallMethodOneArg(job->board, state->lead, (PyObject *)job);
    Py_XDECREF(led);
    return led == NULL ? -1 : 0;
}

static PyObject *
job_next(PyObject *op)
{
    JobObject *job = (JobObject *)op;
    PyObject *value = next_quickly(job);
    if (value == NULL && !job_is_satisfied(job)) {
        if (lead(job) < 0)
            return NULL;
        value = next_quickly(job);
    }
    return value != NULL ? value : PyObject_CallMethod(op, "next", NULL);
}

static PyObject *
job_next_quickly(JobObject *job, PyObject *Py_UNUSED(ignored))
{
    PyObject *value = next_quickly(job);
    return value == NULL ? Py_NewRef(Py_None) : Py_BuildValue("(N)", value);
}

static PyObject *
job_begin_chunk(JobObject *job, PyObject *chunk)
{
    if (!PyList_Check(chunk)) {
        PyErr_SetString(PyExc_TypeError, "a chunk is a list");
        return NULL;
    }
    Py_XSETREF(job->chunk, Py_NewRef(chunk));
    job->chunk_at = 0;
    Py_RETURN_NONE;
}

/* ---- what is done in Python needs to know -------------------------------------------------------------- */

static PyObject *
job_complete(JobObject *job, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(job_is_complete(job));
}

static PyObject *
job_satisfied(JobObject *job, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(job_is_satisfied(job));
}

/* Until it is ready these may be asked for again and again: a signal handler may raise in between. */
static PyObject *
job_values(JobObject *job, PyObject *Py_UNUSED(ignored))
{
    if (job_is_complete(job) && (job->total == 0 || job->room != 0))
        return values_of(job);
    PyErr_SetString(PyExc_RuntimeError, "not all have arrived");
    return NULL;
}

static PyObject *
job_failed(JobObject *job, PyObject *Py_UNUSED(ignored))
{
    if (job->first_failed == JOB_UNKNOWN || job->room == 0)
        Py_RETURN_NONE;
    job_item *item = item_at(job, job->first_failed);
    if (item->value == NULL)
        Py_RETURN_NONE;
    return Py_BuildValue("(KiO)", (unsigned long long)job->first_failed, item->kind, item->value);
}

static PyObject *
job_clear_items(JobObject *job, PyObject *Py_UNUSED(ignored))
{
    clear_items(job);
    Py_RETURN_NONE;
}

/* The result, if it is there or comes while nothing else is to be done. */
static PyObject *
job_get(JobObject *job, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"get", {"timeout"}, 0};
    PyObject *timeout;
    if (args_parse(&spec, args, nargs, kwnames, &timeout) < 0)
        return NULL;
    if (!job->ready && (timeout == NULL || timeout == Py_None) && lead(job) < 0)
        return NULL;
    if (job->ready && job->success)
        return Py_NewRef(job->value);
    return PyObject_CallMethod((PyObject *)job, "_get", "O", timeout == NULL ? Py_None : timeout);
}

static PyObject *
job_get_total(JobObject *job, void *Py_UNUSED(closure))
{
    return job->total == JOB_UNKNOWN ? Py_NewRef(Py_None) : PyLong_FromUnsignedLongLong(job->total);
}

static int
job_set_total(JobObject *job, PyObject *total, void *Py_UNUSED(closure))
{
    if (total == NULL) {
        PyErr_SetString(PyExc_TypeError, "a job has a total");
        return -1;
    }
    if (total == Py_None) {
        job->total = JOB_UNKNOWN;
        return 0;
    }
    unsigned long long number = PyLong_AsUnsignedLongLong(total);
    if (number == (unsigned long long)-1 && PyErr_Occurred())
        return -1;
    job->total = number;
    return 0;
}

/* ---- the type ------------------------------------------------------------------------------------------- */

#define OBJECTS(X) X(pool) X(desk) X(board) X(func) X(value) X(callback) X(error_callback)

static void
fill_in(JobObject *job, module_state *state, PyObject *desk, PyObject *board, PyObject *pool)
{
#define X(name) Py_XSETREF(job->name, Py_NewRef(Py_None));
    OBJECTS(X)
#undef X
    job->state = state;
    Py_XSETREF(job->desk, Py_NewRef(desk));
    Py_XSETREF(job->board, Py_NewRef(board));
    Py_XSETREF(job->pool, Py_NewRef(pool));
    job->first_failed = JOB_UNKNOWN;
    job->ordered = 1;
    job->number = ++state->jobs;
}

JobObject *
job_of_one(PyTypeObject *type, module_state *state, PyObject *desk, PyObject *board, PyObject *pool, PyObject *func)
{
    JobObject *job = (JobObject *)type->tp_alloc(type, 0);
    if (job == NULL)
        return NULL;
    fill_in(job, state, desk, board, pool);
    Py_SETREF(job->func, Py_NewRef(func));
    job->total = job->single = 1;
    if (job_reserve(job, 0) == 0)
        return job;
    Py_DECREF(job);
    return NULL;
}

static int
job_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"desk", "board", "pool", "func", "total", "ordered", "iterates", "in_chunks", "single", NULL};
    JobObject *job = (JobObject *)op;
    PyObject *desk, *board, *pool, *func, *total;
    int ordered, iterates, in_chunks, single;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOpppp:Job", names, &desk, &board, &pool, &func, &total, &ordered,
                                     &iterates, &in_chunks, &single))
        return -1;
    fill_in(job, state_of_type(Py_TYPE(op)), desk, board, pool);
    Py_XSETREF(job->func, Py_NewRef(func));
    job->ordered = (char)ordered;
    job->iterates = (char)iterates;
    job->in_chunks = (char)in_chunks;
    job->single = (char)single;
    if (job_set_total(job, total, NULL) < 0)
        return -1;
    return job->total == JOB_UNKNOWN || job->total == 0 || iterates ? 0 : job_reserve(job, job->total - 1);
}

static int
job_traverse(PyObject *op, visitproc visit, void *arg)
{
    JobObject *job = (JobObject *)op;
    Py_VISIT(Py_TYPE(op));
#define X(name) Py_VISIT(job->name);
    OBJECTS(X)
#undef X
    Py_VISIT(job->chunk);
    for (uint64_t i = 0; i < job->room; i++)
        Py_VISIT(job->items[i].value);
    return 0;
}

static int
job_clear(PyObject *op)
{
    JobObject *job = (JobObject *)op;
#define X(name) Py_CLEAR(job->name);
    OBJECTS(X)
#undef X
    Py_CLEAR(job->chunk);
    clear_items(job);
    return 0;
}

static void
job_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    job_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"_put_in", (PyCFunction)job_put_in, METH_VARARGS,
     "_put_in($self, key, kind, value, /)\n--\n\nA result has arrived."},
    {"_pop", (PyCFunction)job_pop, METH_NOARGS,
     "_pop($self, /)\n--\n\nThe next result as (key, kind, value), which is passed on then; None if it isn't there."},
    {"_next_quickly", (PyCFunction)job_next_quickly, METH_NOARGS,
     "_next_quickly($self, /)\n--\n\n(value,), the next; None if it isn't there or more than that is to be done."},
    {"_begin_chunk", (PyCFunction)job_begin_chunk, METH_O,
     "_begin_chunk($self, chunk, /)\n--\n\nThe next results are the items of this list."},
    {"_pause", (PyCFunction)job_pause, METH_NOARGS,
     "_pause($self, /)\n--\n\n"
     "In the thread that feeds: wait while as many tasks are ahead as there may be. True if it shall wait no more."},
    {"_end_pause", (PyCFunction)job_end_pause, METH_NOARGS,
     "_end_pause($self, /)\n--\n\nLet that thread go on, if not as many are ahead."},
    {"_end_pauses", (PyCFunction)job_end_pauses, METH_NOARGS,
     "_end_pauses($self, /)\n--\n\nThat thread shall wait no more."},
    {"_complete", (PyCFunction)job_complete, METH_NOARGS, "_complete($self, /)\n--\n\nHave all results arrived?"},
    {"_satisfied", (PyCFunction)job_satisfied, METH_NOARGS,
     "_satisfied($self, /)\n--\n\nIs there what somebody may wait for?"},
    {"_values", (PyCFunction)job_values, METH_NOARGS, "_values($self, /)\n--\n\nThe values that arrived, all of them."},
    {"_failed", (PyCFunction)job_failed, METH_NOARGS,
     "_failed($self, /)\n--\n\nThe first to arrive that is no value, as (key, kind, value); or None."},
    {"_clear_items", (PyCFunction)job_clear_items, METH_NOARGS,
     "_clear_items($self, /)\n--\n\nForget all that arrived."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"_total", (getter)job_get_total, (setter)job_set_total, "How many results will arrive; None: unknown.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define FIELD(name, type, flags) {"_" #name, type, offsetof(JobObject, name), flags, NULL}

static PyMemberDef members[] = {
    FIELD(pool, Py_T_OBJECT_EX, 0),
    FIELD(desk, Py_T_OBJECT_EX, Py_READONLY),
    FIELD(func, Py_T_OBJECT_EX, 0),
    FIELD(value, Py_T_OBJECT_EX, 0),
    FIELD(callback, Py_T_OBJECT_EX, 0),
    FIELD(error_callback, Py_T_OBJECT_EX, 0),
    FIELD(ready, Py_T_BOOL, 0),
    FIELD(success, Py_T_BOOL, 0),
    FIELD(calling_back, Py_T_BOOL, 0),
    FIELD(index, Py_T_ULONGLONG, Py_READONLY),
    FIELD(sent, Py_T_ULONGLONG, 0),
    FIELD(ahead, Py_T_ULONGLONG, 0),
    {"_job", Py_T_ULONGLONG, offsetof(JobObject, number), Py_READONLY, "Its number."},
    {NULL, 0, 0, 0, NULL},
};

PyType_Spec job_spec = {
    .name = "fastmp._core.Job",
    .basicsize = sizeof(JobObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "Job(desk, board, pool, func, total, ordered, iterates, in_chunks, single)\n--\n\n"
                        "Where the results of tasks arrive."},
            {Py_tp_init, job_init},
            {Py_tp_dealloc, job_dealloc},
            {Py_tp_traverse, job_traverse},
            {Py_tp_clear, job_clear},
            {Py_tp_methods, methods},
            {Py_tp_getset, getset},
            {Py_tp_members, members},
            {0, NULL},
        },
};

static PyMethodDef awaited_methods[] = {
    {"get", (PyCFunction)(void (*)(void))job_get, METH_FASTCALL | METH_KEYWORDS,
     "get($self, /, timeout=None)\n--\n\n"
     "Wait for the result and return it, or raise what the task raised. TimeoutError if it does not\n"
     "come within `timeout` seconds."},
    {NULL, NULL, 0, NULL},
};

PyType_Spec awaited_job_spec = {
    .name = "fastmp._core.AwaitedJob",
    .basicsize = sizeof(JobObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "A job that is ready when all results are there."},
            {Py_tp_methods, awaited_methods},
            {0, NULL},
        },
};

PyType_Spec iterating_job_spec = {
    .name = "fastmp._core.IteratingJob",
    .basicsize = sizeof(JobObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "A job whose results are passed on as they come."},
            {Py_tp_iter, PyObject_SelfIter},
            {Py_tp_iternext, job_next},
            {0, NULL},
        },
};
