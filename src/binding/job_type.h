/* job_type.h: Job, what a pool's results have in common: where those of its tasks arrive.
 *
 *   index          passed on to the user up to here
 *   |     *    *   values that arrived, each at its key; those of an unordered job in the order they came
 *   items ----------- room (a power of two; an item lies at its key modulo room)
 *
 * Room is made before a task is sent, so to deliver a result needs no memory. All of it is done under the GIL,
 * and without running Python code: no signal handler comes between.
 *
 * A job whose input is of unknown length is fed by a thread. That pauses when as many tasks are ahead of the results
 * passed on as there may be. It goes on when a part of them was passed on, or somebody wants a result that isn't there:
 * not for each, since two threads of one interpreter take long to take turns. */
#ifndef FMP_BINDING_JOB_TYPE_H
#define FMP_BINDING_JOB_TYPE_H

#include "binding/state.h"
#include "core/eventcount.h"

#define JOB_UNKNOWN UINT64_MAX /* a total that is not known yet */

/* Kinds of results (fastmp/_pool/tasks.py). */
enum { RESULT_UNREADABLE = -1, RESULT_VALUE = 0 };

typedef struct {
    PyObject *value; /* NULL: not there */
    int kind;
} job_item;

typedef struct {
    PyObject_HEAD
    module_state *state;
    PyObject *pool;  /* while tasks are out */
    PyObject *desk;
    PyObject *board; /* a Board, or what does its work */
    PyObject *func;  /* for messages */
    PyObject *value; /* of a job that is ready */
    PyObject *callback, *error_callback;
    PyObject *chunk; /* of an iterator: the list whose items are the next results */
    Py_ssize_t chunk_at;
    job_item *items;
    uint64_t room, index;
    uint64_t arrived;
    uint64_t total;        /* how many will arrive */
    uint64_t first_failed; /* the key of the first to arrive that is no value; JOB_UNKNOWN for none */
    unsigned long long number;
    char ready, success, calling_back;
    char ordered, iterates, in_chunks, single;
    uint64_t sent;         /* by the feeder: the key of its next task */
    uint64_t ahead;        /* how many of them may be ahead of `index`; 0 for no bound */
    char pauses;           /* the feeder does; */
    char never_pauses;     /* it doesn't any more, whatever is ahead */
    _Atomic uint32_t goes_on;
    fmp_eventcount pause;  /* waited on by the feeder until it goes on */
} JobObject;

/* Room for the items up to `key`, in whichever order they come: 0, or -1 with MemoryError. */
int job_reserve(JobObject *job, uint64_t key);

/* A result, for which there is room. Takes over the reference. */
void job_deliver(JobObject *job, uint64_t key, int kind, PyObject *value);

/* Has all arrived? */
static inline int
job_is_complete(JobObject *job)
{
    return job->arrived == job->total;
}

/* Is there what somebody may wait for? */
int job_is_satisfied(JobObject *job);

/* Are as many tasks ahead as there may be? */
static inline int
job_is_ahead(JobObject *job)
{
    return job->ahead != 0 && job->sent - job->index >= job->ahead;
}

/* In the feeder: wait until it may go on. 0; 1 if it may not, but shall wait no more; -1 with an exception. */
int job_pause_while_ahead(JobObject *job);

/* Make a complete job ready: the values, or the only one, are its value. False if there is a failure among them,
 * or a callback, or no memory, or it iterates: then it is `_arrived`, in Python, who does it. */
int job_finish(JobObject *job);

/* A new one of a subtype, which is awaiting one result: NULL with an exception. */
JobObject *job_of_one(PyTypeObject *type, module_state *state, PyObject *desk, PyObject *board, PyObject *pool,
                      PyObject *func);

#endif
