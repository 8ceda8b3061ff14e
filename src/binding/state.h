/* state.h: what the module keeps, listed once; and the one arena of this process.
 *
 * X(name) of STATE_OBJECTS becomes a field of module_state, is visited and cleared with it. Types are
 * made by module.c from the specs declared at the end. */
#ifndef FMP_BINDING_STATE_H
#define FMP_BINDING_STATE_H

#include "binding/compat.h"

#include "core/object.h"

#define STATE_TYPES(X)                                                                                  \
    X(Lock, lock_spec)                                                                                  \
    X(RLock, rlock_spec)                                                                                \
    X(Semaphore, semaphore_spec)                                                                        \
    X(Event, event_spec)                                                                                \
    X(Condition, condition_spec)                                                                        \
    X(Barrier, barrier_spec)                                                                            \
    X(MessageQueue, queue_spec)                                                                         \
    X(Block, block_spec)                                                                                \
    X(Loan, loan_spec)                                                                                  \
    X(SynchronizedBase, synchronized_base_spec)                                                         \
    X(Board, board_spec)                                                                                \
    X(Job, job_spec)                                                                                    \
    X(Child, child_spec)                                                                                \
    X(PipeEnd, end_spec)                                                                                \
    X(Connection, connection_spec)                                                                      \
    X(SemLock, semlock_spec)

/* Types that derive from one of these or from one before them. */
#define STATE_SUBTYPES(X)                                                                               \
    X(BoundedSemaphore, bounded_semaphore_spec, Semaphore)                                              \
    X(Synchronized, synchronized_spec, SynchronizedBase)                                                \
    X(SynchronizedArray, synchronized_array_spec, SynchronizedBase)                                     \
    X(SynchronizedString, synchronized_string_spec, SynchronizedArray)                                  \
    X(AwaitedJob, awaited_job_spec, Job)                                                                \
    X(IteratingJob, iterating_job_spec, Job)

#define STATE_OBJECTS(X)                                                                                \
    X(ProcessError)                                                                                     \
    X(BufferTooShort)                                                                                   \
    X(TimeoutError)                                                                                     \
    X(AuthenticationError)                                                                              \
    X(BrokenBarrierError)                                                                               \
    X(Empty)                                                                                            \
    X(Full)                                                                                             \
    X(dumps)                                                                                            \
    X(dumps_apart)                                                                                      \
    X(loads)                                                                                            \
    X(dup_fd)                                                                                           \
    X(spawning)                                                                                         \
    X(TextIOWrapper)                                                                                    \
    X(lead)                                                                                             \
    X(flush)                                                                                            \
    X(current_process)                                                                                  \
    X(typecodes)                                                                                        \
    X(place)

typedef struct {
#define X(name, spec) PyTypeObject *name;
    STATE_TYPES(X)
#undef X
#define X(name, spec, base) PyTypeObject *name;
    STATE_SUBTYPES(X)
#undef X
#define X(name) PyObject *name;
    STATE_OBJECTS(X)
#undef X
    unsigned long long jobs; /* that were ever made here; a job's number is what it made of this */
} module_state;

extern struct PyModuleDef fmp_module;

/* The state of the module that `type`, or a base of it, belongs to. */
static inline module_state *
state_of_type(PyTypeObject *type)
{
    return PyModule_GetState(PyType_GetModuleByDef(type, &fmp_module));
}

/* The arena, made at first use: NULL with an exception if the system refuses it. */
fmp_arena *fmp_here(void);

/* For those who wait, without the GIL: the arena, if there is one, may be put in order. */
void fmp_here_idle(void);

/* Take the arena behind the descriptor for this process's: 0, or -1 with an exception. */
int fmp_here_attach(int fd, uint32_t owner);

#define X(name, spec) extern PyType_Spec spec;
STATE_TYPES(X)
#undef X
#define X(name, spec, base) extern PyType_Spec spec;
STATE_SUBTYPES(X)
#undef X

#endif
