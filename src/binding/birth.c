#include <signal.h>

#include "binding/birth.h"

static enum { LET_IN, BLOCKED, DEADLY } interrupts;
static struct sigaction python_action; /* of SIGINT while it is deadly */

static void
mask_interrupts(int how)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    pthread_sigmask(how, &set, NULL);
}

/* Would Python raise KeyboardInterrupt? -1 with an exception. */
static int
python_raises(void)
{
    PyObject *signals = PyImport_ImportModule("_signal");
    PyObject *ours = signals == NULL ? NULL : PyObject_GetAttrString(signals, "default_int_handler");
    PyObject *now = ours == NULL ? NULL : PyObject_CallMethod(signals, "getsignal", "i", SIGINT);
    int raises = now == NULL ? -1 : now == ours;
    Py_XDECREF(now);
    Py_XDECREF(ours);
    Py_XDECREF(signals);
    return raises;
}

void
birth_block_interrupts(void)
{
    interrupts = BLOCKED;
}

PyObject *
birth_hold_interrupts(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    int raises = python_raises();
    if (raises < 0)
        return NULL;
    interrupts = BLOCKED;
    if (raises) {
        struct sigaction deadly = {.sa_handler = SIG_DFL};
        sigaction(SIGINT, &deadly, &python_action);
        interrupts = DEADLY;
        mask_interrupts(SIG_UNBLOCK);
    }
    Py_RETURN_NONE;
}

PyObject *
birth_let_interrupts_in(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    if (interrupts == DEADLY) {
        struct sigaction now;
        int raises = python_raises();
        if (raises < 0)
            return NULL;
        if (raises && sigaction(SIGINT, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
            sigaction(SIGINT, &python_action, NULL);
    }
    else if (interrupts == BLOCKED)
        mask_interrupts(SIG_UNBLOCK);
    interrupts = LET_IN;
    if (PyErr_CheckSignals() < 0)
        return NULL;
    Py_RETURN_NONE;
}
