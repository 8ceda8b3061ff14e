/* wait.h: the one place where the GIL is released to block, and where signals are handled.
 *
 * The core returns FMP_INTR on a signal, and now and then without one; the handlers run here, and the
 * wait goes on with the same waiter unless one of them raised. Who waits so long has time for fmp_here_idle. */
#ifndef FMP_BINDING_WAIT_H
#define FMP_BINDING_WAIT_H

#include "binding/state.h"
#include "core/eventcount.h"

typedef int (*blocking_fn)(void *arg, fmp_waiter *w);

/* 0: *rc is the outcome, never FMP_INTR.   -1: a signal handler raised. */
static inline int
wait_without_gil(blocking_fn fn, void *arg, fmp_waiter *w, int *rc)
{
    do {
        Py_BEGIN_ALLOW_THREADS
        *rc = fn(arg, w);
        if (*rc == FMP_INTR)
            fmp_here_idle();
        Py_END_ALLOW_THREADS
        if (*rc == FMP_INTR && PyErr_CheckSignals() < 0)
            return -1;
    } while (*rc == FMP_INTR);
    return 0;
}

/* Try with the GIL held, which is quick; then wait without it, at least for those who are at it. Returns as
 * wait_without_gil does. */
static inline int
try_then_wait(blocking_fn fn, void *arg, fmp_time until, int *rc)
{
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    w.hasty = 1;
    *rc = fn(arg, &w);
    if (*rc != FMP_BUSY && (*rc != FMP_TIMEOUT || until == FMP_NOW))
        return 0;
    w = FMP_WAITER(until);
    return wait_without_gil(fn, arg, &w, rc);
}

#endif
