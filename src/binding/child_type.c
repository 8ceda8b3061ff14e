/* child_type.c: Child, a forked process from fork() until it is reaped.
 *
 * The sentinel is a pidfd: a number that never comes to mean another process. Where the kernel or a
 * container refuses pidfds it is a pipe whose other end only the child has. waitpid is called without
 * blocking and with the GIL held, so that of several threads that join a child one reaps it and the others
 * find the exit code stored. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "binding/child_type.h"
#include "binding/handle.h"
#include "core/owner.h"

#define LOST 255 /* exit code of a child that somebody else reaped */
#define DYING (FMP_MILLISECOND) /* between the end of the pipe and that of the process */

typedef struct {
    PyObject_HEAD
    module_state *state;
    fmp_arena *arena;
    pid_t pid;
    int sentinel;
    uint32_t owner;
    int reaped;
    int exitcode;
} ChildObject;

/* ---- forking --------------------------------------------------------------------------------- */

/* Does this system give out pidfds? Asked once. */
static int
has_pidfd(void)
{
    static int known = -1;
    if (known < 0) {
        int fd = fmp_process_open(getpid());
        if (fd == -EMFILE || fd == -ENFILE)
            return 1;
        known = fd >= 0;
        if (fd >= 0)
            fmp_fd_close(fd);
    }
    return known;
}

/* In the parent, after the fork: -errno if there can't be a sentinel, and the child is gone then. */
static int
open_sentinel(ChildObject *self, const int ends[2])
{
    if (ends[0] >= 0) {
        fmp_fd_close(ends[1]);
        self->sentinel = ends[0];
        return 0;
    }
    self->sentinel = fmp_process_open(self->pid);
    if (self->sentinel >= 0)
        return 0;
    int rc = self->sentinel;
    kill(self->pid, SIGKILL);
    while (waitpid(self->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return rc;
}

static void
close_ends(const int ends[2])
{
    if (ends[0] >= 0)
        fmp_fd_close(ends[0]);
    if (ends[1] >= 0)
        fmp_fd_close(ends[1]);
}

PyObject *
child_fork(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    module_state *state = PyModule_GetState(module);
    int ends[2] = {-1, -1};
    fmp_arena *arena = fmp_here();
    if (arena == NULL || PySys_Audit("os.fork", NULL) < 0)
        return NULL;
    if (!has_pidfd() && pipe2(ends, O_CLOEXEC) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    allocfunc alloc = PyType_GetSlot(state->Child, Py_tp_alloc);
    ChildObject *self = (ChildObject *)alloc(state->Child, 0);
    if (self == NULL) {
        close_ends(ends);
        return NULL;
    }
    self->state = state;
    self->arena = arena;
    self->sentinel = -1;

    PyOS_BeforeFork();
    self->pid = fork();
    if (self->pid == 0) {
        PyOS_AfterFork_Child();
        if (ends[0] >= 0)
            fmp_fd_close(ends[0]);
        self->reaped = 1;
        Py_DECREF(self);
        Py_RETURN_NONE;
    }
    int error = errno;
    PyOS_AfterFork_Parent();

    self->owner = fmp_object_last_child();
    int rc = self->pid < 0 ? -error : open_sentinel(self, ends);
    if (rc == 0)
        return (PyObject *)self;
    if (self->pid < 0)
        close_ends(ends);
    self->reaped = 1;
    if (self->owner != 0)
        fmp_owner_bury(arena, self->owner);
    Py_DECREF(self);
    return raise_rc(state, rc);
}

PyObject *
child_leave(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    fmp_arena *arena = fmp_here();
    if (arena == NULL)
        return NULL;
    if (fmp_process_thread_count() == 1) /* another thread may be in the middle of something */
        fmp_owner_leave(arena);
    Py_RETURN_NONE;
}

/* ---- reaping -------------------------------------------------------------------------------------- */

static void
reap(ChildObject *self)
{
    int status;
    pid_t pid = self->reaped ? 0 : waitpid(self->pid, &status, WNOHANG);
    if (pid == 0 || (pid < 0 && errno != ECHILD))
        return;
    if (pid < 0) {
        if (fmp_fd_wait_readable(self->sentinel, FMP_NOW) != 0)
            return; /* it isn't this process's child, and runs */
        self->exitcode = LOST;
    }
    else {
        self->exitcode = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
    }
    self->reaped = 1;
    if (self->owner != 0)
        fmp_owner_bury(self->arena, self->owner);
    fmp_object_sweep(self->arena);
}

static PyObject *
outcome(ChildObject *self)
{
    if (!self->reaped)
        Py_RETURN_NONE;
    return PyLong_FromLong(self->exitcode);
}

static PyObject *
child_poll(ChildObject *self, PyObject *Py_UNUSED(ignored))
{
    reap(self);
    return outcome(self);
}

static int
end_blocking(void *arg, fmp_waiter *w)
{
    return fmp_fd_wait_readable(((ChildObject *)arg)->sentinel, w->until);
}

static PyObject *
child_wait(ChildObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const args_spec spec = {"wait", {"timeout"}, 0};
    PyObject *timeout;
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    int rc = 0;
    if (args_parse(&spec, args, nargs, kwnames, &timeout) < 0 || args_deadline(timeout, &w.until) < 0)
        return NULL;
    for (reap(self); !self->reaped && rc != FMP_TIMEOUT; reap(self)) {
        if (self->sentinel < 0) {
            PyErr_SetString(PyExc_ValueError, "the child's sentinel is closed");
            return NULL;
        }
        if (wait_without_gil(end_blocking, self, &w, &rc) < 0)
            return NULL;
        if (rc < 0)
            return raise_rc(self->state, rc);
        reap(self);
        if (!self->reaped && rc == 0) { /* not a zombie yet */
            struct timespec moment = {.tv_nsec = DYING};
            Py_BEGIN_ALLOW_THREADS
            nanosleep(&moment, NULL);
            Py_END_ALLOW_THREADS
        }
    }
    return outcome(self);
}

static PyObject *
child_kill(ChildObject *self, PyObject *signal)
{
    long number = PyLong_AsLong(signal);
    if (number == -1 && PyErr_Occurred())
        return NULL;
    reap(self);
    if (!self->reaped && kill(self->pid, (int)number) < 0 && errno != ESRCH)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *
child_close(ChildObject *self, PyObject *Py_UNUSED(ignored))
{
    if (self->sentinel >= 0)
        fmp_fd_close(self->sentinel);
    self->sentinel = -1;
    Py_RETURN_NONE;
}

static void
child_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    Py_XDECREF(child_close((ChildObject *)op, NULL));
    freefunc tp_free = PyType_GetSlot(type, Py_tp_free);
    tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"poll", (PyCFunction)child_poll, METH_NOARGS,
     "poll($self, /)\n--\n\n"
     "Reap without blocking: the exit code (-N for signal N, 255 if somebody else reaped it), or None."},
    {"wait", (PyCFunction)(void (*)(void))child_wait, METH_FASTCALL | METH_KEYWORDS,
     "wait($self, /, timeout=None)\n--\n\n"
     "Wait for the end, then reap: the exit code, or None if `timeout` seconds passed first."},
    {"kill", (PyCFunction)child_kill, METH_O,
     "kill($self, signal, /)\n--\n\nSend a signal, unless the child is reaped already."},
    {"close", (PyCFunction)child_close, METH_NOARGS, "close($self, /)\n--\n\nGive the sentinel back."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"pid", Py_T_INT, offsetof(ChildObject, pid), Py_READONLY, "Process id."},
    {"sentinel", Py_T_INT, offsetof(ChildObject, sentinel), Py_READONLY,
     "A descriptor that becomes readable when the child ends; -1 once closed."},
    {NULL, 0, 0, 0, NULL},
};

PyType_Spec child_spec = {
    .name = "fastmp._core.Child",
    .basicsize = sizeof(ChildObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "A forked child, from fork() until it is reaped."},
            {Py_tp_dealloc, child_dealloc},
            {Py_tp_methods, methods},
            {Py_tp_members, members},
            {0, NULL},
        },
};
