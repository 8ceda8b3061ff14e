"""Contexts and the top-level names: the same interface as the standard library's."""

import inspect
import json
import sys

import pytest
from programs import run_python

import fastmp
from fastmp import context

NAMES = {
    *("Process", "active_children", "current_process", "parent_process"),
    *("Pipe", "Queue", "JoinableQueue", "SimpleQueue"),
    *("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier"),
    *("Value", "Array", "RawValue", "RawArray", "Manager", "Pool"),
    *("cpu_count", "freeze_support", "get_logger", "log_to_stderr", "allow_connection_pickling"),
    *("set_executable", "set_forkserver_preload", "get_context", "get_start_method", "set_start_method"),
    *("get_all_start_methods", "reducer"),
    *("ProcessError", "BufferTooShort", "TimeoutError", "AuthenticationError"),
}


def parameters(function):
    """Names, kinds and which have a default; the defaults themselves if they are simple."""
    simple = (int, bool, tuple)
    return [
        [p.name, int(p.kind), p.default is not p.empty, p.default if type(p.default) in simple else None]
        for p in inspect.signature(function).parameters.values()
    ]


def test_top_level_names():
    assert len(NAMES) == 37
    assert set(fastmp.__all__) == NAMES
    assert set(dir(fastmp)) >= NAMES
    for name in NAMES:
        assert getattr(fastmp, name) is not None
    assert (fastmp.SUBDEBUG, fastmp.SUBWARNING) == (5, 25)


def test_star_import():
    names = json.loads(run_python("from fastmp import *; import json; print(json.dumps(dir()))").stdout)
    assert set(names) >= NAMES


def test_signatures_are_those_of_the_standard_library():
    script = (
        "import inspect, json, multiprocessing as m\n"
        f"{inspect.getsource(parameters)}\n"
        "functions = {n: f for n in m.__all__ if inspect.isroutine(f := getattr(m, n))}\n"
        "print(json.dumps({n: parameters(f) for n, f in functions.items()}))\n"
    )
    theirs = json.loads(run_python(script).stdout)
    ours = json.loads(json.dumps({name: parameters(getattr(fastmp, name)) for name in theirs}))
    assert len(theirs) > 25
    theirs["Lock"].append(["robust", 3, True, False])
    for name in "Queue", "JoinableQueue", "SimpleQueue":
        theirs[name].append(["zero_copy", 3, True, False])
    if sys.version_info < (3, 15):
        theirs["set_forkserver_preload"].append(["on_error", 3, True, None])
    assert ours == theirs


def test_import_is_lazy():
    script = "import sys; before = set(sys.modules); import fastmp; print(*sorted(set(sys.modules) - before))"
    loaded = run_python(script).stdout.split()
    late = ("queues", "connection", "reduction", "pool", "managers", "sharedctypes", "synchronize", "util")
    assert not {f"fastmp.{name}" for name in late} & set(loaded)
    assert not {"logging", "socket", "pickle", "ctypes", "tempfile", "subprocess", "typing"} & set(loaded)


@pytest.mark.parametrize(
    "name", ["context", "process", "reduction", "queues", "connection", "util", "synchronize"]
)
def test_submodules_are_attributes(name):
    assert run_python(f"import fastmp; print(fastmp.{name}.__name__)").stdout == f"fastmp.{name}\n"


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="module 'fastmp' has no attribute 'nothing'"):
        fastmp.nothing  # noqa: B018


DEFAULT = "fork" if sys.version_info < (3, 14) else "forkserver"  # as the standard library's


def test_start_method():
    script = (
        "import fastmp\n"
        "assert fastmp.get_start_method(allow_none=True) is None\n"
        f"assert fastmp.get_start_method() == {DEFAULT!r} == fastmp.get_start_method(True)\n"
        f"assert fastmp.get_all_start_methods()[0] == {DEFAULT!r}\n"
        "assert sorted(fastmp.get_all_start_methods()) == ['fork', 'forkserver', 'spawn']\n"
        "try: fastmp.set_start_method('fork')\n"
        "except RuntimeError as e: assert str(e) == 'context has already been set'\n"
        "else: assert False\n"
        "fastmp.set_start_method('fork', force=True)\n"
        "fastmp.set_start_method(None, force=True)\n"
        "assert fastmp.get_start_method(allow_none=True) is None\n"
        "fastmp.set_start_method('fork')\n"
        "try: fastmp.set_start_method('knife', force=True)\n"
        "except ValueError as e: pass\n"
        "else: assert False\n"
        "assert fastmp.get_start_method(allow_none=True) == 'fork'\n"
        "fastmp.set_start_method('spawn', force=True)\n"
        "assert fastmp.get_start_method() == 'spawn'\n"
    )
    run_python(script)


def test_the_start_method_of_a_child_is_its_own(start_method):
    script = (
        "import fastmp\n"
        "def child(): print(fastmp.get_start_method(allow_none=True))\n"
        f"p = fastmp.get_context({start_method!r}).Process(target=child); p.start(); p.join()\n"
        "print(fastmp.get_start_method(allow_none=True))\n"
    )
    assert run_python(script).stdout.splitlines()[0] == start_method


def test_concrete_contexts(start_method):
    ctx = fastmp.get_context(start_method)
    assert type(ctx) in (context.ForkContext, context.SpawnContext, context.ForkServerContext)
    assert ctx.Process in (context.ForkProcess, context.SpawnProcess, context.ForkServerProcess)
    assert ctx.Process._start_method == ctx.get_start_method() == start_method


@pytest.mark.start_methods("spawn")
def test_a_context_may_be_an_argument(ctx, finish):
    """Whichever it is, whichever way the child is started."""
    for method in ("fork", "spawn", "forkserver"):
        child = ctx.Process(target=start_in, args=(fastmp.get_context(method), method))
        child.start()
        finish(child)
        assert child.exitcode == 0


def start_in(ctx, method):
    assert ctx.get_start_method() == method
    child = ctx.Process(target=int)
    child.start()
    child.join()
    assert child.exitcode == 0


def test_unknown_start_method():
    with pytest.raises(ValueError, match="cannot find context for 'knife'"):
        fastmp.get_context("knife")


def test_concrete_context():
    ctx = fastmp.get_context("fork")
    assert isinstance(ctx, context.ForkContext)
    assert ctx.get_context() is ctx
    assert ctx.get_context("fork") is ctx
    assert ctx.get_start_method() == ctx.get_start_method(allow_none=True) == "fork"
    assert ctx.Process is context.ForkProcess
    with pytest.raises(ValueError, match="cannot set start method of concrete context"):
        ctx.set_start_method("fork")


def test_default_context():
    assert fastmp.get_context() is fastmp.get_context(DEFAULT)
    assert fastmp.Process is context.Process
    assert fastmp.Process._start_method is None
    assert context._concrete_contexts.keys() >= {"fork", "spawn", "forkserver"}
    assert context._default_context.get_context() is fastmp.get_context(DEFAULT)


def test_exceptions():
    assert issubclass(fastmp.ProcessError, Exception)
    for error in (fastmp.BufferTooShort, fastmp.TimeoutError, fastmp.AuthenticationError):
        assert issubclass(error, fastmp.ProcessError)
        assert error.__module__ == "fastmp.context"
        assert getattr(context, error.__name__) is error


def test_reducer():
    ctx = fastmp.get_context("fork")
    assert ctx.reducer is fastmp.reducer is fastmp.reduction
    try:
        ctx.reducer = sys
        assert fastmp.reducer is sys
    finally:
        ctx.reducer = fastmp.reduction


def test_spawning_popen():
    obj = object()
    assert context.get_spawning_popen() is None
    with pytest.raises(RuntimeError, match="object objects should only be shared between processes through"):
        context.assert_spawning(obj)
    context.set_spawning_popen(obj)
    try:
        assert context.get_spawning_popen() is obj
        context.assert_spawning(obj)
    finally:
        context.set_spawning_popen(None)


def test_cpu_count_respects_the_affinity_of_the_process():
    script = "import fastmp, os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    assert run_python(script + "; print(fastmp.cpu_count())").stdout == "1\n"
    assert fastmp.cpu_count() >= 1


def test_settings_for_other_start_methods():
    script = (
        "import fastmp, sys\n"
        "from fastmp import spawn\n"
        "assert spawn.get_executable() == sys.executable\n"
        "fastmp.set_executable('/a/python'); assert spawn.get_executable() == b'/a/python'\n"
        "assert fastmp.set_forkserver_preload(['os']) is None\n"
        "assert fastmp.freeze_support() is None\n"
        "assert fastmp.allow_connection_pickling() is None\n"
    )
    run_python(script)
    with pytest.raises(TypeError, match="module_names must be a list of strings"):
        fastmp.set_forkserver_preload([1])


def test_factories_make_the_types_users_import():
    from fastmp import queues, synchronize

    ctx = fastmp.get_context("fork")
    assert isinstance(ctx.Lock(), synchronize.Lock)
    assert isinstance(ctx.RLock(), synchronize.RLock)
    assert isinstance(ctx.Semaphore(2), synchronize.Semaphore)
    assert isinstance(ctx.BoundedSemaphore(2), synchronize.BoundedSemaphore)
    assert isinstance(ctx.Condition(), synchronize.Condition)
    assert isinstance(ctx.Event(), synchronize.Event)
    assert isinstance(ctx.Barrier(2), synchronize.Barrier)
    assert isinstance(ctx.Queue(2), queues.Queue)
    assert isinstance(ctx.JoinableQueue(), queues.JoinableQueue)
    assert isinstance(ctx.SimpleQueue(), queues.SimpleQueue)
    for lock in (ctx.Lock(), ctx.RLock(), ctx.Semaphore(), ctx.BoundedSemaphore()):
        assert isinstance(lock, synchronize.SemLock)
    assert not isinstance(ctx.Event(), synchronize.SemLock)
