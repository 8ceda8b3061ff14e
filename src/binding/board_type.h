/* board_type.h: Board, the core of Pool. One in the pool's process, inherited by its workers.
 *
 * board_type.c is the type and what has no file of its own; board_send.c how the pool sends tasks, board_collect.c how
 * it collects results, board_seat.c a worker's side.
 *
 *   name of a task    job   the number of the Job (job_type.h) that gets the result, in `jobs` while it isn't
 *                           complete; none for what a worker reports without having a task
 *                     key   the result's place in it
 *                     place of the function, if the workers are given that by its number; else the contents are
 *                           (how, function, arguments, keywords), pickled in one
 *                     how   TASK_...
 *
 * The function of the last task that went by reference is `plain`; while it stays the same nothing else of Python is
 * run for a task than what pickling the arguments needs. Results are put into their jobs before Python code
 * sees them. So a signal handler that raises may interrupt whoever collects, and no result is lost. A
 * message whose unpickling was interrupted in that way is kept, and is the next one.
 *
 * Python code that must not be left half done by such an exception is run by guard(), which notes in
 * `broken_off` that it was, and rings. While it runs it is in `guarded`, for a handler to see what it interrupted.
 *
 * Who collects is the leader; see fastmp/_pool/desk.py, which keeps `leader` and `followers`. */
#ifndef FMP_BINDING_BOARD_TYPE_H
#define FMP_BINDING_BOARD_TYPE_H

#include "binding/codec.h"
#include "binding/handle.h"
#include "binding/job_type.h"
#include "core/board.h"

/* What a task asks for (fastmp/_pool/tasks.py). */
enum {
    TASK_CALL, /* func(*args, **kwds) */
    TASK_EACH, /* func(x) for x in args */
    TASK_STAR, /* func(*x) for x in args */
    TASK_ONE,  /* func(args) */
};

#define JOB_NONE 0           /* what a worker says without having a task */
#define JOB_NUDGE UINT64_MAX /* a message that is no result */
#define NO_SEAT UINT32_MAX

/* A function in a place: the pool's own reference, or what a worker made of its pickle. */
typedef struct {
    PyObject *func;
    uint64_t number;
    uint64_t out; /* its tasks without a result */
} known_function;

typedef struct {
    HandleObject handle;
    PyObject *jobs;       /* by number */
    PyObject *desk;
    PyObject *is_locked;  /* whether the desk's lock is this thread's */
    PyObject *result_type; /* of what submit() returns */
    PyObject *unread;     /* messages whose unpickling was interrupted: struct letter as bytes */
    PyObject *guarded;    /* the threads of guarded calls that run, by token */
    PyObject *broken_off; /* tokens of guarded calls that raised */
    PyObject *leader;     /* or None */
    PyObject *plain;      /* or None */
    uint32_t plain_place; /* FMP_BOARD_PLACES: it has none */
    unsigned long leader_thread;
    Py_ssize_t followers;
    known_function known[FMP_BOARD_PLACES];
    uint64_t functions; /* that were ever put into a place */
    int bell;
    uint32_t seat; /* this process's, if it is a worker */
    char rung;     /* by this process, which didn't silence it since */
    char closing;
    char runs; /* in a worker: a task that may be interrupted */
} BoardObject;

static inline fmp_board *
board_of(BoardObject *self)
{
    return self->handle.body;
}

static inline int
board_check(BoardObject *self)
{
    return handle_check(&self->handle);
}

/* ---- board_type.c ---- */

/* Make the bell ring: 0, or -1 with an exception. */
int board_make_ring(BoardObject *self);

/* Add a result: 0, or -1 with an exception. */
int board_add_result(BoardObject *self, const fmp_answer *answer, unsigned kind, PyObject *obj);

/* The job of that number, as a new reference; NULL if it isn't one of `jobs`, or with MemoryError. */
JobObject *board_find_job(BoardObject *self, unsigned long long number);

/* The job expects nothing more: 0, or -1 with an exception. Last of all it lets go of its pool, which may end then. */
int board_forget_job(BoardObject *self, JobObject *job);

/* ---- board_send.c ---- */

/* Whether it is of the pool's process, and open, and nothing is to be put right. */
int board_is_calm(BoardObject *self);

/* Whether tasks of that function go by reference, without asking. */
int board_is_plain(BoardObject *self, PyObject *func);

/* Send a task with these contents, pickled by `dumps` if that is not NULL: 0, or -1 with an exception. */
int board_send(BoardObject *self, const fmp_task *task, PyObject *dumps, PyObject *contents);

/* Pickling failed, or another thing did: 0 if Python code is to try the same again and say so, -1 if not. */
int board_leave_to_python(void);

PyObject *board_introduce(BoardObject *self, PyObject *func);
PyObject *board_put(BoardObject *self, PyObject *args);
PyObject *board_feed(BoardObject *self, PyObject *args);
PyObject *board_stream(BoardObject *self, PyObject *args);

/* ---- board_collect.c ---- */

/* Collect until the job, if there is one, is satisfied; or until there is nothing more for now and somebody else
 * may want to know: 1; 0 if nothing came until then or there will be nothing; -1 with an exception. */
int board_collect_until(BoardObject *self, JobObject *job, fmp_time until);

/* At the end of the Board in this process: what was kept in `unread`. */
void board_drop_unread(BoardObject *self);

PyObject *board_collect(BoardObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

/* ---- board_seat.c: a worker's ---- */

PyObject *board_sit(BoardObject *self, PyObject *ignored);
PyObject *board_serve(BoardObject *self, PyObject *const *args, Py_ssize_t nargs);
PyObject *board_fail(BoardObject *self, PyObject *args);

#endif
