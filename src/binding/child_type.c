/* child_type.c: Child, a process from fork() or expect() until it is reaped.
 *
 *   made by     its place in the arena          it runs      reaped by
 *   fork()      reserved around the fork        from fork()  this process
 *   expect()    promised at once: it can be     from born()  this process; or another, then ended() is told, unless
 *               given objects before it is born              the child has left word in the arena (owner.h)
 *
 * The sentinel is a pidfd: a number that never comes to mean another process. Where the kernel or a
 * container refuses pidfds it is a pipe whose other end only the child has. waitpid is called without
 * blocking and with the GIL held, so that of several threads that join a child one reaps it and the others
 * find the exit code stored. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "binding/birth.h"
#include "binding/child_type.h"
#include "binding/handle.h"
#include "core/owner.h"

#define LOST 255 /* exit code of a child that somebody else reaped */
#define DYING (FMP_MILLISECOND) /* between the end of the pipe and that of the process */

typedef struct {
    PyObject_HEAD
    module_state *state;
    fmp_arena *arena;
    pid_t maker; /* the process that made this object; forks of it have a copy */
    pid_t pid;
    int sentinel;
    int passed; /* a descriptor that the new program inherits, where there are no pidfds */
    uint32_t owner;
    int elsewhere; /* another process reaps it */
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

/* Where there are no pidfds: `sentinel` is readable once all copies of `passed` are closed. 0, or -1 with
 * an exception. */
static int
open_pipe(ChildObject *self)
{
    int ends[2];
    if (has_pidfd())
        return 0;
    if (pipe2(ends, O_CLOEXEC) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    self->sentinel = ends[0];
    self->passed = ends[1];
    return 0;
}

static void
close_fd(int *fd)
{
    if (*fd >= 0)
        fmp_fd_close(*fd);
    *fd = -1;
}

static void
kill_at_once(ChildObject *self)
{
    kill(self->pid, SIGKILL);
    while (waitpid(self->pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* Once it runs: -errno if there can't be a sentinel, and the child is gone then. */
static int
open_sentinel(ChildObject *self)
{
    close_fd(&self->passed);
    if (self->sentinel >= 0)
        return 0;
    self->sentinel = fmp_process_open(self->pid);
    if (self->sentinel >= 0)
        return 0;
    int rc = self->sentinel;
    kill_at_once(self);
    return rc;
}

/* Processes that outlived their Child, as when a signal handler raised before that had a name. Whoever makes the next
 * one reaps those that have ended. */
static struct {
    pid_t maker; /* whose children they are; a fork of it has a copy */
    size_t count, room;
    struct {
        pid_t pid;
        uint32_t owner;
    } *of;
} unwatched;

static void
reap_unwatched(fmp_arena *arena)
{
    if (unwatched.maker != getpid()) {
        unwatched.maker = getpid();
        unwatched.count = 0;
    }
    for (size_t i = unwatched.count; i-- > 0;) {
        if (waitpid(unwatched.of[i].pid, NULL, WNOHANG) == 0)
            continue;
        if (unwatched.of[i].owner != 0)
            fmp_owner_bury(arena, unwatched.of[i].owner);
        fmp_object_sweep(arena);
        unwatched.of[i] = unwatched.of[--unwatched.count];
    }
}

static void
leave_unwatched(ChildObject *self)
{
    reap_unwatched(self->arena);
    if (unwatched.count == unwatched.room) {
        size_t room = 2 * unwatched.room + 8;
        void *of = realloc(unwatched.of, room * sizeof(*unwatched.of));
        if (of == NULL)
            return;
        unwatched.of = of;
        unwatched.room = room;
    }
    unwatched.of[unwatched.count].pid = self->pid;
    unwatched.of[unwatched.count++].owner = self->owner;
}

static ChildObject *
new_child(module_state *state)
{
    fmp_arena *arena = fmp_here();
    allocfunc alloc = PyType_GetSlot(state->Child, Py_tp_alloc);
    ChildObject *self = arena == NULL ? NULL : (ChildObject *)alloc(state->Child, 0);
    if (self == NULL)
        return NULL;
    reap_unwatched(arena);
    self->state = state;
    self->arena = arena;
    self->maker = getpid();
    self->sentinel = self->passed = -1;
    if (open_pipe(self) < 0)
        Py_CLEAR(self);
    return self;
}

/* It will never run. */
static void
give_up(ChildObject *self)
{
    self->reaped = 1;
    if (self->owner != 0)
        fmp_owner_bury(self->arena, self->owner);
}

/* What PyOS_AfterFork_Child() calls is looked up by the dynamic linker at the first call. Have that done here
 * once, or each child does it again, and touches a dozen pages for it. */
static void
link_ahead(void)
{
    static int done;
    Py_tss_t key = Py_tss_NEEDS_INIT;
    if (done || PyThread_tss_create(&key) != 0)
        return;
    PyThread_tss_delete(&key);
    done = 1;
}

/* What this process keeps for itself is of no use to it any more; its other threads, if any, may go on. 0, or -1 with an
 * exception. */
static int
leave(int exitcode)
{
    fmp_arena *arena = fmp_here();
    if (arena == NULL)
        return -1;
    fmp_heap_keep(arena, 0);
    if (fmp_process_thread_count() == 1) /* another thread may be in the middle of something */
        fmp_owner_leave(arena, arena->self, exitcode);
    return 0;
}

PyObject *
child_leave(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    if (leave(FMP_OWNER_GOES_ON) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *
child_end(PyObject *Py_UNUSED(module), PyObject *exitcode)
{
    int code = (int)(PyLong_AsUnsignedLongMask(exitcode) & 0xFF);
    if (PyErr_Occurred() || leave(code) < 0)
        return NULL;
    _exit(code);
}

/* The life of a child, which ends the process. If it raises instead, as a signal handler may do at once, the child
 * must not go on with its parent's program. */
static _Noreturn void
begin_life(PyObject *live, PyObject *args)
{
    Py_XDECREF(PyObject_CallObject(live, args));
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_SystemExit)) /* to print that would end the interpreter */
        PyErr_Print();
    Py_XDECREF(child_leave(NULL, NULL));
    _exit(1);
}

/* The words are those of os.fork(), since programs filter by them; but it forks first. 0, or -1 where warnings are
 * errors. */
static int
warn_of_threads(void)
{
    if (!FMP_FORK_WARNS || fmp_process_thread_count() <= 1)
        return 0;
    return PyErr_WarnFormat(
        PyExc_DeprecationWarning, 1,
        "This process (pid=%d) is multi-threaded, use of fork() may lead to deadlocks in the child.", (int)getpid());
}

static _Thread_local int forking; /* this thread runs the hooks around fork() */

PyObject *
child_is_forking(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(forking);
}

/* The signals that wait until a fork is over. What a handler raises in a hook of the fork would be lost, and the
 * interpreter of the child forgets what came before it was told of the fork. Who wants to end a process whose hooks
 * hang still can, unless it handles that itself. */
static void
keep_signals_off(sigset_t *set)
{
    static const int ends[] = {SIGHUP, SIGQUIT, SIGTERM};
    sigfillset(set);
    for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
        struct sigaction now;
        if (sigaction(ends[i], NULL, &now) == 0 && now.sa_handler == SIG_DFL)
            sigdelset(set, ends[i]);
    }
}

PyObject *
child_fork(PyObject *module, PyObject *args)
{
    module_state *state = PyModule_GetState(module);
    unsigned owner = 0;
    PyObject *live = NULL, *live_args = NULL, *holder = Py_None;
    if (!PyArg_ParseTuple(args, "|IOO!O:fork", &owner, &live, &PyTuple_Type, &live_args, &holder) ||
        PySys_Audit("os.fork", NULL) < 0)
        return NULL;
    if (live != NULL && warn_of_threads() < 0) /* a server does not: nobody would know what to do about it */
        return NULL;
    if (PyErr_CheckSignals() < 0) /* while that is possible: see keep_signals_off */
        return NULL;
    ChildObject *self = new_child(state);
    if (self == NULL)
        return NULL;

    link_ahead();
    fmp_object_next_child(owner);
    sigset_t kept_off, before;
    forking = 1;
    keep_signals_off(&kept_off);
    pthread_sigmask(SIG_SETMASK, &kept_off, &before);
    PyOS_BeforeFork();
    self->pid = fork();
    if (self->pid == 0) {
        PyOS_AfterFork_Child();
        forking = 0;
        if (live != NULL && !sigismember(&before, SIGINT)) {
            sigaddset(&before, SIGINT);
            birth_block_interrupts();
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        close_fd(&self->sentinel);
        self->passed = -1; /* stays open until this process ends */
        self->reaped = 1;
        if (live != NULL)
            begin_life(live, live_args); /* and nothing is freed that goes with the process */
        Py_DECREF(self);
        Py_RETURN_NONE;
    }
    int error = errno;
    PyOS_AfterFork_Parent();
    forking = 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);

    self->owner = fmp_object_last_child();
    int rc = self->pid < 0 ? -error : open_sentinel(self);
    if (rc == 0 && (holder == Py_None || PyObject_SetAttrString(holder, "_child", (PyObject *)self) == 0))
        return (PyObject *)self;
    if (rc == 0)
        kill_at_once(self);
    give_up(self);
    Py_DECREF(self);
    return rc == 0 ? NULL : raise_rc(state, rc);
}

PyObject *
child_expect(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    module_state *state = PyModule_GetState(module);
    ChildObject *self = new_child(state);
    if (self == NULL)
        return NULL;
    int rc = fmp_object_expect(self->arena, &self->owner);
    if (rc == 0)
        return (PyObject *)self;
    Py_DECREF(self);
    return raise_rc(state, rc);
}

int
child_owner(module_state *state, PyObject *child, uint32_t *owner)
{
    if (!Py_IS_TYPE(child, state->Child)) {
        PyErr_Format(PyExc_TypeError, "a Child was expected, not %.200s", Py_TYPE(child)->tp_name);
        return -1;
    }
    *owner = ((ChildObject *)child)->owner;
    return 0;
}

static PyObject *
child_born(ChildObject *self, PyObject *args)
{
    int pid, sentinel = -1;
    if (!PyArg_ParseTuple(args, "i|i:born", &pid, &sentinel))
        return NULL;
    if (self->pid != 0) {
        PyErr_SetString(PyExc_RuntimeError, "this child is born already");
        return NULL;
    }
    self->pid = pid;
    if (sentinel >= 0) {
        self->elsewhere = 1;
        close_fd(&self->sentinel);
        self->sentinel = sentinel;
    }
    int rc = open_sentinel(self);
    if (rc == 0)
        Py_RETURN_NONE;
    give_up(self);
    return raise_rc(self->state, rc);
}

/* ---- reaping -------------------------------------------------------------------------------------- */

static void
set_exitcode(ChildObject *self, int exitcode)
{
    self->exitcode = exitcode;
    self->reaped = 1;
    if (self->owner != 0)
        fmp_owner_bury(self->arena, self->owner);
    fmp_object_sweep(self->arena);
}

/* Another process reaps it, but it may have said how it ends, and has ended. */
static void
take_its_word(ChildObject *self)
{
    int exitcode = fmp_owner_exitcode(self->arena, self->owner);
    if (exitcode >= 0 && fmp_fd_wait_readable(self->sentinel, FMP_NOW) == 0)
        set_exitcode(self, exitcode);
}

static void
reap(ChildObject *self)
{
    int status;
    if (self->elsewhere && !self->reaped)
        take_its_word(self);
    pid_t pid = self->reaped || self->elsewhere || self->pid == 0 ? 0 : waitpid(self->pid, &status, WNOHANG);
    if (pid == 0 || (pid < 0 && errno != ECHILD))
        return;
    if (pid < 0) {
        if (fmp_fd_wait_readable(self->sentinel, FMP_NOW) != 0)
            return; /* it isn't this process's child, and runs */
        set_exitcode(self, LOST);
        return;
    }
    set_exitcode(self, WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status));
}

static PyObject *
child_ended(ChildObject *self, PyObject *exitcode)
{
    int code = (int)PyLong_AsLong(exitcode);
    if (code == -1 && PyErr_Occurred())
        return NULL;
    if (!self->reaped)
        set_exitcode(self, code);
    Py_RETURN_NONE;
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
        if (self->elsewhere && rc == 0)
            break;
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
    int rc = self->reaped || self->pid == 0 ? 0 : fmp_process_signal(self->pid, self->sentinel, (int)number);
    if (rc < 0 && rc != -ESRCH)
        return raise_rc(self->state, rc);
    Py_RETURN_NONE;
}

static PyObject *
child_close(ChildObject *self, PyObject *Py_UNUSED(ignored))
{
    close_fd(&self->sentinel);
    close_fd(&self->passed);
    Py_RETURN_NONE;
}

static void
child_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    ChildObject *self = (ChildObject *)op;
    if (!self->reaped && !self->elsewhere && self->maker == getpid()) {
        if (self->pid == 0)
            fmp_owner_withdraw(self->arena, self->owner);
        else
            leave_unwatched(self);
    }
    Py_XDECREF(child_close(self, NULL));
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
    {"born", (PyCFunction)child_born, METH_VARARGS,
     "born($self, pid, sentinel=-1, /)\n--\n\n"
     "The process that expect() was called for runs. With a sentinel, a descriptor to be owned, another\n"
     "process reaps it."},
    {"ended", (PyCFunction)child_ended, METH_O,
     "ended($self, exitcode, /)\n--\n\nThe process that another one reaps has ended so."},
    {"kill", (PyCFunction)child_kill, METH_O,
     "kill($self, signal, /)\n--\n\nSend a signal, unless the child is reaped already."},
    {"close", (PyCFunction)child_close, METH_NOARGS, "close($self, /)\n--\n\nGive the sentinel back."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"pid", Py_T_INT, offsetof(ChildObject, pid), Py_READONLY, "Process id."},
    {"sentinel", Py_T_INT, offsetof(ChildObject, sentinel), Py_READONLY,
     "A descriptor that becomes readable when the child ends; -1 once closed."},
    {"passed", Py_T_INT, offsetof(ChildObject, passed), Py_READONLY,
     "A descriptor that the new program has to inherit; -1 for none, and once it is born."},
    {"owner", Py_T_UINT, offsetof(ChildObject, owner), Py_READONLY, "What names it in the arena."},
    {NULL, 0, 0, 0, NULL},
};

PyType_Spec child_spec = {
    .name = "fastmp._core.Child",
    .basicsize = sizeof(ChildObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "A child process, from fork() or expect() until it is reaped."},
            {Py_tp_dealloc, child_dealloc},
            {Py_tp_methods, methods},
            {Py_tp_members, members},
            {0, NULL},
        },
};
