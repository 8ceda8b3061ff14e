/* module.c: the module fastmp._core: its types, exceptions and few functions. */
#include "binding/birth.h"
#include "binding/child_type.h"
#include "binding/connection.h"
#include "binding/errors.h"
#include "binding/semlock_type.h"
#include "core/owner.h"
#include "core/sem.h"

static PyObject *
set_pickler(PyObject *module, PyObject *args)
{
    module_state *state = PyModule_GetState(module);
    PyObject *dumps, *dumps_apart, *loads, *dup_fd, *spawning;
    if (!PyArg_ParseTuple(args, "OOOOO:set_pickler", &dumps, &dumps_apart, &loads, &dup_fd, &spawning))
        return NULL;
    Py_XSETREF(state->dumps, Py_NewRef(dumps));
    Py_XSETREF(state->dumps_apart, Py_NewRef(dumps_apart));
    Py_XSETREF(state->loads, Py_NewRef(loads));
    Py_XSETREF(state->dup_fd, Py_NewRef(dup_fd));
    Py_XSETREF(state->spawning, Py_NewRef(spawning));
    Py_RETURN_NONE;
}

static PyObject *
set_current_process(PyObject *module, PyObject *current_process)
{
    module_state *state = PyModule_GetState(module);
    Py_XSETREF(state->current_process, Py_NewRef(current_process));
    Py_RETURN_NONE;
}

static PyObject *
set_typecodes(PyObject *module, PyObject *args)
{
    module_state *state = PyModule_GetState(module);
    PyObject *typecodes, *place;
    if (!PyArg_ParseTuple(args, "O!O:set_typecodes", &PyDict_Type, &typecodes, &place))
        return NULL;
    Py_XSETREF(state->typecodes, Py_NewRef(typecodes));
    Py_XSETREF(state->place, Py_NewRef(place));
    Py_RETURN_NONE;
}

static PyObject *
cpu_count(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLong(fmp_cpu_count());
}

static PyObject *
arena_info(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    fmp_arena *arena = fmp_here();
    if (arena == NULL)
        return NULL;
    uint64_t blocks, bytes;
    fmp_owner_survey(arena);
    fmp_object_sweep(arena);
    fmp_heap_usage(arena, &blocks, &bytes);
    return Py_BuildValue("{s:K,s:K,s:I,s:I}", "blocks", (unsigned long long)blocks, "bytes",
                         (unsigned long long)bytes, "objects", (unsigned)fmp_object_count(arena), "owners",
                         (unsigned)fmp_owner_count(arena));
}

static PyObject *
arena_name(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    fmp_arena *arena = fmp_here();
    return arena == NULL ? NULL : PyLong_FromUnsignedLongLong(fmp_arena_name(arena));
}

static PyObject *
arena_fd(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    fmp_arena *arena = fmp_here();
    if (arena == NULL)
        return NULL;
    int fd = fmp_memory_descriptor(&arena->memory);
    return fd < 0 ? raise_rc(PyModule_GetState(module), fd) : PyLong_FromLong(fd);
}

static PyObject *
attach(PyObject *Py_UNUSED(module), PyObject *args)
{
    int fd;
    unsigned owner;
    if (!PyArg_ParseTuple(args, "iI:attach", &fd, &owner) || fmp_here_attach(fd, owner) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
become(PyObject *module, PyObject *args)
{
    unsigned owner;
    fmp_arena *arena = fmp_here();
    if (arena == NULL || !PyArg_ParseTuple(args, "I:become", &owner))
        return NULL;
    int rc = fmp_object_move(arena, owner);
    if (rc == FMP_NOT_OWNER) {
        PyErr_SetString(PyExc_RuntimeError, "the process that started this one has ended");
        return NULL;
    }
    if (rc != 0)
        return raise_rc(PyModule_GetState(module), rc);
    Py_RETURN_NONE;
}

static PyObject *
unpickled(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    fmp_arena *arena = fmp_here();
    if (arena == NULL)
        return NULL;
    fmp_object_settle_in(arena);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"fork", child_fork, METH_VARARGS,
     "fork($module, owner=0, live=None, args=(), holder=None, /)\n--\n\n"
     "Fork as os.fork() does: a Child in the parent, None in the child, unless that is to call live(*args)\n"
     "and to end. With an owner the child takes the place that expect() of another process got for it.\n"
     "The Child becomes holder._child before anything can be raised."},
    {"is_forking", child_is_forking, METH_NOARGS,
     "is_forking($module, /)\n--\n\nIn a hook of os.register_at_fork(): is it fork() of this module that runs it?"},
    {"expect", child_expect, METH_NOARGS,
     "expect($module, /)\n--\n\nA Child that will be made otherwise. It has a place in the arena already."},
    {"arena_fd", arena_fd, METH_NOARGS,
     "arena_fd($module, /)\n--\n\nThe descriptor of the arena, for programs that are to attach to it."},
    {"attach", attach, METH_VARARGS,
     "attach($module, fd, owner, /)\n--\n\n"
     "Share the arena behind a descriptor, which is owned from now on, as the child that expect() was\n"
     "called for, or with a new place if owner is 0. RuntimeError if this process has an arena already."},
    {"become", become, METH_VARARGS,
     "become($module, owner, /)\n--\n\n"
     "In a process that was made ahead: be the child that expect() was called for."},
    {"unpickled", unpickled, METH_NOARGS,
     "unpickled($module, /)\n--\n\nIn a new child: let go of what it was given and has no handle for."},
    {"hold_interrupts", birth_hold_interrupts, METH_NOARGS,
     "hold_interrupts($module, /)\n--\n\n"
     "In a new child, where SIGINT is blocked: until let_interrupts_in() it just ends the process, unless the\n"
     "program handles it."},
    {"let_interrupts_in", birth_let_interrupts_in, METH_NOARGS,
     "let_interrupts_in($module, /)\n--\n\n"
     "In a new child that is about to run: the program handles SIGINT from now on, also one that came before."},
    {"leave", child_leave, METH_NOARGS,
     "leave($module, /)\n--\n\nGive up, in a child about to end, all that it holds in the arena."},
    {"exit", child_end, METH_O,
     "exit($module, exitcode, /)\n--\n\nleave(), and end this process as os._exit() does."},
    {"set_pickler", set_pickler, METH_VARARGS,
     "set_pickler($module, dumps, dumps_apart, loads, dup_fd, spawning, /)\n--\n\n"
     "What turns objects into messages and back, what makes a descriptor picklable, and what tells which\n"
     "launcher this thread spawns a process with."},
    {"set_current_process", set_current_process, METH_O,
     "set_current_process($module, current_process, /)\n--\n\nWhat tells this process's name to reprs."},
    {"set_typecodes", set_typecodes, METH_VARARGS,
     "set_typecodes($module, typecodes, place, /)\n--\n\n"
     "The ctypes types that are read and written in C, and what makes a ctypes object on a Block."},
    {"cpu_count", cpu_count, METH_NOARGS,
     "cpu_count($module, /)\n--\n\nProcessors this process may use, at least 1."},
    {"arena_info", arena_info, METH_NOARGS, "arena_info($module, /)\n--\n\nFigures of the arena."},
    {"arena_name", arena_name, METH_NOARGS,
     "arena_name($module, /)\n--\n\nA number that only processes of one arena have in common."},
    {"pipe", connection_pair, METH_O,
     "pipe($module, duplex, /)\n--\n\nTwo connected connections, whose messages lie in the arena."},
    {"stream_pair", connection_stream_pair, METH_O,
     "stream_pair($module, duplex, /)\n--\n\nTwo connected connections, whose messages go through sockets."},
    {"sem_unlink", semlock_unlink, METH_VARARGS,
     "sem_unlink($module, name, /)\n--\n\nTake the name of a semaphore of the system away."},
    {NULL, NULL, 0, NULL},
};

/* ---- making the module ------------------------------------------------------------------------ */

static int
add_type(PyObject *module, PyType_Spec *spec, PyObject *bases, PyTypeObject **field)
{
    *field = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, bases);
    return *field == NULL ? -1 : PyModule_AddType(module, *field);
}

static int
add_types(PyObject *module, module_state *state)
{
#define X(name, spec)                                                                                    \
    if (add_type(module, &spec, NULL, &state->name) < 0)                                                 \
        return -1;
    STATE_TYPES(X)
#undef X
#define X(name, spec, base)                                                                              \
    if (add_type(module, &spec, (PyObject *)state->base, &state->name) < 0)                              \
        return -1;
    STATE_SUBTYPES(X)
#undef X
    return 0;
}

/* An exception whose home, as users see it, is fastmp.context. */
static int
add_exception(PyObject *module, const char *name, PyObject *base, PyObject **field)
{
    char full_name[64];
    PyOS_snprintf(full_name, sizeof(full_name), "fastmp.context.%s", name);
    *field = PyErr_NewException(full_name, base, NULL);
    return *field == NULL ? -1 : PyModule_AddObjectRef(module, name, *field);
}

static int
add_exceptions(PyObject *module, module_state *state)
{
    if (add_exception(module, "ProcessError", NULL, &state->ProcessError) < 0)
        return -1;
    PyObject *base = state->ProcessError;
    if (add_exception(module, "BufferTooShort", base, &state->BufferTooShort) < 0 ||
        add_exception(module, "TimeoutError", base, &state->TimeoutError) < 0)
        return -1;
    return add_exception(module, "AuthenticationError", base, &state->AuthenticationError);
}

static int
module_exec(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    if (add_exceptions(module, state) < 0 || add_types(module, state) < 0 ||
        semlock_ready(state->SemLock) < 0)
        return -1;
    return PyModule_AddIntConstant(module, "SEM_VALUE_MAX", FMP_SEM_MAX);
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    module_state *state = PyModule_GetState(module);
#define X(name, spec) Py_VISIT(state->name);
    STATE_TYPES(X)
#undef X
#define X(name, spec, base) Py_VISIT(state->name);
    STATE_SUBTYPES(X)
#undef X
#define X(name) Py_VISIT(state->name);
    STATE_OBJECTS(X)
#undef X
    return 0;
}

static int
module_clear(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
#define X(name, spec) Py_CLEAR(state->name);
    STATE_TYPES(X)
#undef X
#define X(name, spec, base) Py_CLEAR(state->name);
    STATE_SUBTYPES(X)
#undef X
#define X(name) Py_CLEAR(state->name);
    STATE_OBJECTS(X)
#undef X
    return 0;
}

static void
module_free(void *module)
{
    module_clear(module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

struct PyModuleDef fmp_module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "fastmp._core",
    .m_doc = "The C core of fastmp.",
    .m_size = sizeof(module_state),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&fmp_module);
}
