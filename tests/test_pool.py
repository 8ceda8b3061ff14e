"""Pools: calls, results, errors, workers that die, and the end of a pool."""

import collections
import contextlib
import functools
import gc
import os
import pickle
import re
import select
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest

import fastmp
from fastmp import _core
from fastmp import pool as pool_module
from fastmp._pool import desk

DEADLINE = 30  # seconds in which anything here must have happened

# What the parent does with calls and results is the same, whichever way the workers came to life.
parent_only = pytest.mark.start_methods("fork")
LOCK = threading.Lock()  # which nothing can pickle
UNPICKLABLE = (pickle.PicklingError, AttributeError, TypeError)


@pytest.fixture(autouse=True)
def no_object_left(request):
    before = _core.arena_info()["objects"]
    yield
    request.node.funcargs.clear()
    shared.clear()
    until = time.monotonic() + 5
    while _core.arena_info()["objects"] > before and time.monotonic() < until:
        gc.collect()
        time.sleep(0.001)
    assert _core.arena_info()["objects"] <= before


@pytest.fixture
def pool(ctx):
    with ctx.Pool(2) as p:
        yield p
    p.join()


def run_python(code, *, check=True, **options):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=2 * DEADLINE, **options
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def wait_until(condition):
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


# ---- what workers run ------------------------------------------------------------------------------


def square(x):
    return x * x


def add(x, y=0):
    return x + y


def pid_of_worker(_=None):
    return os.getpid()


def name_of_worker():
    process = fastmp.current_process()
    return process.name, process.daemon


def fail_at_three(x):
    if x == 3:
        raise ValueError("three")
    return x


def raise_it(e):
    raise e


def end_process(code):
    os._exit(code)


def kill_self(sig=signal.SIGKILL):
    os.kill(os.getpid(), sig)
    time.sleep(10 * DEADLINE)


def kill_self_at_five(x):
    if x == 5:
        kill_self()
    return x


def sleep_long(_=None):
    time.sleep(10 * DEADLINE)


def say_and_sleep(pids):
    pids.put(os.getpid())
    sleep_long()


def wait_for(event, value=None):
    assert event.wait(DEADLINE)
    return value


def of_event(x):
    return wait_for(shared["event"], x)


shared = {}


def share(name, value):
    """What an initializer may do: tasks of the worker find the value in `shared`."""
    shared[name] = value


def lambda_result(_=None):
    return lambda: 0


class Unlucky:
    """Pickles, but does not unpickle."""

    def __reduce__(self):
        return _no_unpickling, ("result",)


def _no_unpickling(what):
    raise RuntimeError(f"no unpickling of this {what}")


def unlucky(_=None):
    return Unlucky()


class NeedsTwo(Exception):
    """The classic: an exception whose arguments are not those of its class."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


def raise_needs_two():
    raise NeedsTwo(1, 2)


class NoRepr:
    def __repr__(self):
        raise RuntimeError("no repr")

    def __reduce__(self):
        raise RuntimeError("no pickle")


def no_repr():
    return NoRepr()


class ExitsInReduce:
    def __reduce__(self):
        sys.exit(5)


def exits_in_reduce():
    return ExitsInReduce()


class Custom(BaseException):
    pass


# ---- calls -----------------------------------------------------------------------------------------


def test_apply(pool):
    assert pool.apply(square, (5,)) == 25
    assert pool.apply(add, (5,), {"y": 2}) == 7
    assert pool.apply(pid_of_worker) in {w.pid for w in pool._pool}


def test_apply_async(pool):
    result = pool.apply_async(square, (7,))
    assert result.get() == 49
    assert result.get(timeout=0) == 49
    assert result.ready()
    assert result.successful()
    result.wait()
    assert isinstance(result, pool_module.AsyncResult)


@parent_only
def test_many_results_at_once(pool):
    results = [pool.apply_async(square, (x,)) for x in range(2000)]
    assert [r.get(DEADLINE) for r in reversed(results)] == [x * x for x in reversed(range(2000))]


@pytest.mark.parametrize("chunksize", [None, 1, 2, 7, 1000])
def test_map(pool, chunksize):
    assert pool.map(square, range(100), chunksize) == [x * x for x in range(100)]
    assert pool.map(square, list(range(10)), chunksize) == [x * x for x in range(10)]
    assert pool.map(square, (x for x in range(10)), chunksize) == [x * x for x in range(10)]
    assert pool.map(square, {3}, chunksize) == [9]
    assert pool.map(square, [], chunksize) == []
    assert pool.map_async(square, range(100), chunksize).get() == [x * x for x in range(100)]


@parent_only
def test_map_of_thousands(pool):
    assert pool.map(square, range(20000), chunksize=1) == [x * x for x in range(20000)]
    assert pool.map_async(square, range(20000), chunksize=1).get() == [x * x for x in range(20000)]


def test_starmap(pool):
    pairs = list(zip(range(100), range(100, 200), strict=True))
    expected = [x + y for x, y in pairs]
    assert pool.starmap(add, pairs) == expected
    assert pool.starmap(add, iter(pairs), 3) == expected
    assert pool.starmap_async(add, pairs).get() == expected
    with pytest.raises(TypeError):
        pool.starmap(add, [5])


@parent_only
@pytest.mark.parametrize("chunksize", [1, 3, 1000])
@pytest.mark.parametrize("buffersize", [None, 1, 4])
@pytest.mark.parametrize("as_input", [list, iter])
def test_imap(pool, chunksize, buffersize, as_input):
    numbers = list(range(50))
    assert list(pool.imap(square, as_input(numbers), chunksize, buffersize)) == [x * x for x in numbers]
    it = pool.imap_unordered(square, as_input(numbers), chunksize, buffersize=buffersize)
    assert sorted(it) == [x * x for x in numbers]
    assert list(pool.imap(square, [], chunksize, buffersize)) == []


@parent_only
def test_imap_of_thousands(pool):
    assert list(pool.imap(square, range(5000))) == [x * x for x in range(5000)]
    assert list(pool.imap(square, iter(range(5000)))) == [x * x for x in range(5000)]
    assert sorted(pool.imap_unordered(square, range(5000), 10)) == [x * x for x in range(5000)]


@parent_only
def test_imap_next(pool):
    it = pool.imap(square, range(2))
    assert iter(it) is it
    assert it.next() == 0
    assert it.next(timeout=DEADLINE) == 1
    for _ in range(2):
        with pytest.raises(StopIteration):
            it.next()
    it = pool.imap(square, range(4), chunksize=2)
    assert [it.next(DEADLINE) for _ in range(4)] == [0, 1, 4, 9]


@parent_only
def test_imap_yields_before_its_input_ends(pool):
    go_on = threading.Event()

    def numbers():
        yield 1
        assert go_on.wait(DEADLINE)
        yield 2

    it = pool.imap(square, numbers())
    assert next(it) == 1
    assert pool.apply(square, (3,)) == 9  # others are not held up
    with pytest.raises(fastmp.TimeoutError):
        it.next(0.01)
    go_on.set()
    assert next(it) == 4


@parent_only
def test_imap_input_is_taken_in_a_thread(pool):
    threads = []

    def numbers():
        threads.append(threading.current_thread())
        yield 1

    assert list(pool.imap(square, numbers())) == [1]
    assert threads != [threading.current_thread()]


@parent_only
@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 2])
def test_imap_of_input_that_raises(pool, method, chunksize):
    def numbers():
        yield 1
        yield 2
        raise KeyError("input")

    it = getattr(pool, method)(square, numbers(), chunksize)
    results, errors = [], []
    for _ in range(3):
        try:
            results.append(it.next(DEADLINE))
        except KeyError as e:
            errors.append(e)
    assert sorted(results) == [1, 4]
    assert len(errors) == 1
    with pytest.raises(StopIteration):
        next(it)


@parent_only
@pytest.mark.parametrize("raised", [SystemExit, GeneratorExit, KeyboardInterrupt])
def test_imap_of_input_that_raises_anything(pool, raised):
    def numbers():
        yield 1
        raise raised

    it = pool.imap(square, numbers())
    assert next(it) == 1
    with pytest.raises(raised):
        next(it)


@parent_only
def test_imap_of_what_is_no_input(pool):
    with pytest.raises(TypeError):
        next(pool.imap(square, 5))


@parent_only
def test_imap_goes_on_after_an_error(pool):
    it = pool.imap(fail_at_three, range(5))
    seen = []
    for _ in range(5):
        try:
            seen.append(next(it))
        except ValueError as e:
            seen.append(str(e))
    assert seen == [0, 1, 2, "three", 4]


@parent_only
def test_buffersize_bounds_what_is_out(pool):
    taken = []

    def numbers():
        for x in range(30):
            taken.append(x)
            yield x

    it = pool.imap(square, numbers(), buffersize=4)
    for i, _ in enumerate(it):
        assert len(taken) <= i + 1 + 4
    assert len(taken) == 30


@parent_only
def test_buffersize_of_endless_input(pool):
    def numbers():
        x = 0
        while True:
            yield x
            x += 1

    it = pool.imap(square, numbers(), buffersize=3)
    assert [next(it) for _ in range(5)] == [0, 1, 4, 9, 16]


@parent_only
def test_buffersize_and_join_after_some_results(ctx):
    p = ctx.Pool(2)
    it = p.imap(square, iter(range(1000)), buffersize=2)
    assert next(it) == 0
    p.close()
    p.join()
    seen = []
    with pytest.raises(ValueError, match="Pool not running"):
        seen.extend(it)
    wait_until(lambda: not p._cache)


@parent_only
def test_buffersize_and_close_loses_nothing(ctx):
    p = ctx.Pool(2)
    it = p.imap(square, iter(range(100)), buffersize=2)
    p.close()
    assert list(it) == [x * x for x in range(100)]
    p.join()


@parent_only
def test_more_tasks_than_may_be_in_memory(pool, monkeypatch):
    monkeypatch.setattr(desk, "_LOAD_MOST", 1000)
    assert pool.map(square, range(500), 1) == [x * x for x in range(500)]
    assert pool.map_async(square, range(500), 1).get(DEADLINE) == [x * x for x in range(500)]
    assert list(pool.imap(square, range(500))) == [x * x for x in range(500)]
    assert list(pool.imap(square, iter(range(500)))) == [x * x for x in range(500)]


def test_large_values(pool):
    data = os.urandom(5_000_000)
    assert pool.apply(bytes, (data,)) == data
    assert pool.map(len, [data] * 10, 1) == [len(data)] * 10


# ---- arguments -------------------------------------------------------------------------------------


def test_arguments_of_the_pool(ctx):
    for processes in (0, -1):
        with pytest.raises(ValueError, match="Number of processes must be at least 1"):
            ctx.Pool(processes)
    with pytest.raises(TypeError):
        ctx.Pool(2.5)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        ctx.Pool(1, initializer=5)
    for most in (0, -1, 2.0, "x"):
        with pytest.raises(ValueError, match="maxtasksperchild must be a positive int or None"):
            ctx.Pool(1, maxtasksperchild=most)


def test_default_number_of_processes(ctx):
    with ctx.Pool() as p:
        assert len(p._pool) == p._processes == fastmp.cpu_count()


@parent_only
def test_arguments_of_calls(pool):
    for method in (pool.imap, pool.imap_unordered):
        for size in (0, -1):
            with pytest.raises(ValueError, match="Chunksize must be 1\\+"):
                method(square, [1], size)
        with pytest.raises(TypeError, match="buffersize must be an integer or None"):
            method(square, [1], buffersize=1.5)
        with pytest.raises(ValueError, match="buffersize must be None or > 0"):
            method(square, [1], buffersize=0)
    with pytest.raises(ValueError, match="Chunksize must be 1\\+"):
        pool.map(square, [1], 0)
    with pytest.raises(TypeError):
        pool.map(square, 5)
    for args, kwds in [(5, {}), ((), 5), ((), {"z": 1})]:
        with pytest.raises(TypeError):
            pool.apply(square, args, kwds)
    with pytest.raises(TypeError):
        pool.apply(5)
    with pytest.raises(TypeError):
        pool.map(5, [1])


def test_use_after_close_and_terminate(ctx):
    for end in ("close", "terminate"):
        p = ctx.Pool(1)
        getattr(p, end)()
        for call in [
            lambda: p.apply(square, (1,)),  # noqa: B023
            lambda: p.apply_async(square, (1,)),  # noqa: B023
            lambda: p.map(square, [1]),  # noqa: B023
            lambda: p.imap(square, [1]),  # noqa: B023
            lambda: p.imap_unordered(square, [1]),  # noqa: B023
            lambda: p.__enter__(),  # noqa: B023
        ]:
            with pytest.raises(ValueError, match="Pool not running"):
                call()
        p.join()
        p.terminate()
        p.close()
        p.join()


def test_join_of_a_running_pool(pool):
    with pytest.raises(ValueError, match="Pool is still running"):
        pool.join()


def test_repr(ctx):
    with ctx.Pool(2) as p:
        assert repr(p) == "<fastmp.pool.Pool state=RUN pool_size=2>"
        p.close()
        assert repr(p) == "<fastmp.pool.Pool state=CLOSE pool_size=2>"
    assert "state=TERMINATE" in repr(p)


def test_a_pool_is_not_pickled(pool):
    with pytest.raises(
        NotImplementedError, match="pool objects cannot be passed between processes or pickled"
    ):
        pickle.dumps(pool)
    with pytest.raises(NotImplementedError):
        pool.apply(square, (pool,))


def test_workers(pool, ctx):
    names = {w.name for w in pool._pool}
    assert all(re.fullmatch(rf"{ctx.Process.__name__[:-7]}PoolWorker-\d+", name) for name in names)
    name, daemon = pool.apply(name_of_worker)
    assert name in names
    assert daemon


@pytest.mark.start_methods("fork")  # others can't have a copy of it
def test_a_pool_belongs_to_its_process(pool, ctx):
    def use(writer):
        try:
            pool.apply(square, (1,))
        except ValueError as e:
            writer.send(str(e))
        pool.terminate()  # does nothing

    reader, writer = ctx.Pipe(False)
    child = ctx.Process(target=use, args=(writer,))
    child.start()
    child.join(DEADLINE)
    assert child.exitcode == 0
    assert "not running in this process" in reader.recv()
    assert pool.apply(square, (2,)) == 4
    reader.close()
    writer.close()


# ---- waiting ---------------------------------------------------------------------------------------


def test_timeouts(ctx):
    event = ctx.Event()
    with ctx.Pool(1, share, ("event", event)) as p:
        result = p.apply_async(of_event, (3,))
        for timeout in (0, 0.01, -1):
            with pytest.raises(fastmp.TimeoutError):
                result.get(timeout)
        result.wait(0.01)
        assert not result.ready()
        with pytest.raises(ValueError, match="not ready"):
            result.successful()
        it = p.imap(of_event, [4])
        with pytest.raises(fastmp.TimeoutError):
            it.next(0)
        with pytest.raises(fastmp.TimeoutError):
            it.next(timeout=0.01)
        with pytest.raises(fastmp.TimeoutError):
            p.map_async(of_event, [4, 5]).get(0.01)
        event.set()
        assert result.get() == 3
        assert it.next() == 4


@parent_only
def test_results_come_with_nobody_waiting(pool):
    result = pool.apply_async(square, (3,))
    wait_until(result.ready)
    wait_until(lambda: not pool._cache)
    assert result.get(0) == 9
    for _ in range(50):
        result = pool.map_async(square, range(3), 1)
        wait_until(result.ready)


@parent_only
def test_results_of_others_come_while_one_waits(ctx):
    event = ctx.Event()
    with ctx.Pool(2, share, ("event", event)) as p:
        slow = p.apply_async(of_event, (1,))
        waiting = threading.Thread(target=slow.get)
        waiting.start()
        for x in range(20):
            assert p.apply(square, (x,)) == x * x
            result = p.apply_async(square, (x,))
            wait_until(result.ready)
        event.set()
        waiting.join(DEADLINE)
        assert not waiting.is_alive()


@parent_only
def test_threads_share_a_pool(pool):
    errors = []

    def use(number):
        try:
            for i in range(40):
                assert pool.apply(add, (number, i)) == number + i
                assert pool.map(square, range(number, number + 5), 1) == [
                    x * x for x in range(number, number + 5)
                ]
                assert list(pool.imap(square, iter(range(3)))) == [0, 1, 4]
                got = []
                pool.apply_async(add, (number, i), callback=got.append).wait(DEADLINE)
                assert got == [number + i]
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=use, args=(1000 * n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(2 * DEADLINE)
    assert not errors
    assert not any(t.is_alive() for t in threads)
    assert not pool._cache


@parent_only
def test_threads_share_an_iterator(pool):
    it = pool.imap_unordered(square, range(300))
    seen = []

    def take():
        for x in it:
            seen.append(x)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(DEADLINE)
    assert sorted(seen) == [x * x for x in range(300)]


@parent_only
def test_many_threads_wait_for_one_result(ctx):
    event = ctx.Event()
    with ctx.Pool(1, share, ("event", event)) as p:
        result = p.apply_async(of_event, (7,))
        got = []
        threads = [threading.Thread(target=lambda: got.append(result.get(DEADLINE))) for _ in range(8)]
        for t in threads:
            t.start()
        event.set()
        for t in threads:
            t.join(DEADLINE)
        assert got == [7] * 8


# ---- callbacks -------------------------------------------------------------------------------------


@parent_only
def test_callbacks(pool):
    got, failed, threads = [], [], set()

    def keep(value):
        threads.add(threading.current_thread())
        got.append(value)

    result = pool.apply_async(square, (3,), callback=keep, error_callback=failed.append)
    assert result.get(DEADLINE) == 9
    assert got == [9]  # it was called before the result was ready
    pool.map_async(square, range(3), callback=keep).wait(DEADLINE)
    assert got == [9, [0, 1, 4]]
    pool.starmap_async(add, [(1, 2)], callback=keep).wait(DEADLINE)
    assert got[2:] == [[3]]
    assert not failed
    assert threads.isdisjoint({threading.current_thread()})
    assert len(threads) == 1


def test_error_callbacks(pool):
    got, failed = [], []
    result = pool.apply_async(fail_at_three, (3,), callback=got.append, error_callback=failed.append)
    result.wait(DEADLINE)
    assert not result.successful()
    pool.map_async(fail_at_three, range(5), callback=got.append, error_callback=failed.append).wait(DEADLINE)
    pool.apply_async(lambda lock=LOCK: 0, error_callback=failed.append).wait(DEADLINE)
    pool.apply_async(end_process, (1,), error_callback=failed.append).wait(DEADLINE)
    assert not got
    assert [type(e) for e in failed[:2]] == [ValueError, ValueError]
    assert isinstance(failed[2], UNPICKLABLE)
    assert isinstance(failed[3], pool_module.WorkerDied)


@parent_only
@pytest.mark.parametrize("raised", [ValueError, SystemExit])
def test_callbacks_that_raise(pool, monkeypatch, raised):
    hook = []
    monkeypatch.setattr(threading, "excepthook", lambda args: hook.append(args.exc_type))
    assert pool.apply_async(square, (3,), callback=lambda _: raise_it(raised)).get(DEADLINE) == 9
    assert hook == [raised]
    with pytest.raises(ValueError, match="three"):
        pool.apply_async(fail_at_three, (3,), error_callback=lambda _: raise_it(raised)).get(DEADLINE)
    assert hook == [raised, raised]
    assert pool.apply(square, (4,)) == 16


@parent_only
def test_callbacks_that_use_the_pool(pool):
    results = []
    done = threading.Event()

    def more(value):
        results.append(value)
        if value < 100:
            pool.apply_async(add, (value, 10), callback=more)
        else:
            results.append(pool.apply(square, (2,)))
            done.set()

    pool.apply_async(add, (0, 10), callback=more)
    assert done.wait(DEADLINE)
    assert results == [*range(10, 101, 10), 4]


def test_callbacks_have_run_when_join_returns(ctx):
    p = ctx.Pool(2)
    got = []
    for x in range(50):
        p.apply_async(square, (x,), callback=got.append)
    p.close()
    p.join()
    assert sorted(got) == [x * x for x in range(50)]


def test_terminate_in_a_callback(ctx):
    p = ctx.Pool(2)
    p.apply_async(square, (1,), callback=lambda _: p.terminate())
    wait_until(lambda: p._state == pool_module.TERMINATE)
    p.join()


# ---- errors of tasks -------------------------------------------------------------------------------


def test_exceptions_have_the_remote_traceback_as_cause(pool):
    with pytest.raises(ValueError, match="three") as caught:
        pool.apply(fail_at_three, (3,))
    cause = caught.value.__cause__
    assert isinstance(cause, pool_module.RemoteTraceback)
    assert "in fail_at_three" in str(cause)
    assert 'raise ValueError("three")' in str(cause)
    assert "fastmp/pool.py" not in str(cause)
    with pytest.raises(ValueError, match="three") as caught:
        pool.map(fail_at_three, range(10))
    assert "in fail_at_three" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    "e",
    [SystemExit(4), KeyboardInterrupt(), GeneratorExit(), Custom("x"), StopIteration(5), OSError(2, "no")],
)
def test_anything_can_be_raised(pool, e):
    pids = {w.pid for w in pool._pool}
    with pytest.raises(type(e)) as caught:
        pool.apply(raise_it, (e,))
    assert caught.value.args == e.args
    result = pool.map_async(raise_it, [e, e], 1)
    result.wait(DEADLINE)
    assert not result.successful()
    assert {pool.apply(pid_of_worker) for _ in range(10)} <= pids


def test_a_task_that_cannot_be_pickled(pool):
    result = pool.apply_async(lambda lock=LOCK: 0)
    with pytest.raises(UNPICKLABLE):
        result.get(DEADLINE)
    with pytest.raises(UNPICKLABLE):
        pool.map(lambda x, lock=LOCK: x, range(10))
    with pytest.raises(UNPICKLABLE):
        next(pool.imap(lambda x, lock=LOCK: x, range(10)))
    with pytest.raises(UNPICKLABLE):
        next(pool.imap(lambda x, lock=LOCK: x, iter(range(10))))
    it = pool.imap(type, [1, LOCK, 2])
    assert next(it) is int
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock' object"):
        next(it)
    assert next(it) is int
    wait_until(lambda: not pool._cache)


def test_a_task_that_cannot_be_unpickled(pool):
    pids = {w.pid for w in pool._pool}
    with pytest.raises(RuntimeError, match="no unpickling of this result") as caught:
        pool.apply(type, (Unlucky(),))
    assert "_no_unpickling" in str(caught.value.__cause__)
    it = pool.imap(type, [1, Unlucky(), 2])
    assert next(it) is int
    with pytest.raises(RuntimeError):
        next(it)
    assert next(it) is int
    assert {w.pid for w in pool._pool} == pids


@pytest.mark.parametrize("function", [lambda_result, no_repr, exits_in_reduce])
def test_a_result_that_cannot_be_pickled(pool, function):
    with pytest.raises(pool_module.MaybeEncodingError, match="Error sending result") as caught:
        pool.apply(function)
    assert caught.value.exc
    assert caught.value.value
    assert repr(caught.value).startswith("<MaybeEncodingError: ")
    assert pool.apply(square, (2,)) == 4


def test_an_exception_that_cannot_be_pickled(ctx):
    class Local(Exception):
        pass

    with (
        ctx.Pool(1, share, ("local", Local)) as p,
        pytest.raises(pool_module.MaybeEncodingError, match="Local") as caught,
    ):
        p.apply(raise_local)
    assert "raise_local" in str(caught.value.__cause__)


def raise_local():
    raise shared["local"]("local")


def test_a_result_that_cannot_be_unpickled(pool):
    with pytest.raises(pool_module.MaybeDecodingError, match="unlucky") as caught:
        pool.apply(unlucky)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert "no unpickling" in str(caught.value.__cause__)
    it = pool.imap(unlucky, [1, 2])
    for _ in range(2):
        with pytest.raises(pool_module.MaybeDecodingError):
            next(it)
    with pytest.raises(pool_module.MaybeDecodingError):
        pool.map(unlucky, range(5))
    assert pool.apply(square, (2,)) == 4


def test_an_exception_that_cannot_be_unpickled(pool):
    with pytest.raises(pool_module.MaybeDecodingError) as caught:
        pool.apply(raise_needs_two)
    reason = caught.value.__cause__
    assert isinstance(reason, TypeError)
    assert "raise_needs_two" in str(reason.__cause__)  # where the task raised is not lost
    assert "1 and 2" in str(reason.__cause__)


def test_errors_can_be_pickled():
    for e in [
        pool_module.WorkerDied(1, -9, "f"),
        pool_module.MaybeEncodingError(ValueError(1), "x"),
        pool_module.MaybeDecodingError(ValueError(1), "x"),
        pool_module.RemoteTraceback("text"),
    ]:
        copy = pickle.loads(pickle.dumps(e))
        assert type(copy) is type(e)
        assert str(copy) == str(e)
        assert copy.__dict__ == e.__dict__


def test_exception_with_traceback():
    try:
        raise_it(ValueError(5))
    except ValueError as e:
        wrapped = pool_module.ExceptionWithTraceback(e, e.__traceback__)
    copy = pickle.loads(pickle.dumps(wrapped))
    assert isinstance(copy, ValueError)
    assert copy.args == (5,)
    assert "in raise_it" in str(copy.__cause__)


@parent_only
def test_map_says_which_chunk_failed_first(pool):
    result = pool.map_async(fail_at_three, [3] * 10, 1)
    with pytest.raises(ValueError, match="three"):
        result.get(DEADLINE)
    assert not result.successful()


# ---- workers that die ------------------------------------------------------------------------------


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGUSR1, signal.SIGTERM])
def test_a_task_that_is_killed(pool, sig):
    with pytest.raises(
        pool_module.WorkerDied, match=f"was killed by {sig.name} while it ran kill_self"
    ) as caught:
        pool.apply(kill_self, (sig,))
    assert caught.value.exitcode == -sig
    assert str(caught.value.pid) in str(caught.value)
    assert isinstance(caught.value, fastmp.ProcessError)
    assert isinstance(caught.value, RuntimeError)
    assert pool.map(square, range(10), 1) == [x * x for x in range(10)]
    wait_until(lambda: len(pool._pool) == 2 and all(w.is_alive() for w in pool._pool))


def test_a_task_that_ends_its_process(pool):
    for code in (0, 3):
        with pytest.raises(
            pool_module.WorkerDied, match=f"ended with exit code {code} while it ran end_process"
        ):
            pool.apply(end_process, (code,))


def test_only_the_task_of_the_dead_worker_fails(pool):
    it = pool.imap(kill_self_at_five, range(20))
    seen = []
    for _ in range(20):
        try:
            seen.append(next(it))
        except pool_module.WorkerDied as e:
            assert "task 5 of the imap of kill_self_at_five" in str(e)
            seen.append(None)
    assert seen == [None if x == 5 else x for x in range(20)]
    with pytest.raises(pool_module.WorkerDied, match="chunk 1 of the map of kill_self_at_five"):
        pool.map(kill_self_at_five, range(20), 4)


def test_idle_workers_that_are_killed(pool):
    pool.apply(square, (1,))
    for _ in range(5):
        for w in list(pool._pool):
            os.kill(w.pid, signal.SIGKILL)
        assert pool.map(square, range(10), 1) == [x * x for x in range(10)]


def test_killed_workers_are_replaced_with_nobody_waiting(pool):
    pool.apply(square, (1,))
    old = {w.pid for w in pool._pool}
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len({w.pid for w in pool._pool} - old) == 2)


def test_workers_killed_before_the_first_call(ctx):
    with ctx.Pool(2) as p:
        for w in p._pool:
            os.kill(w.pid, signal.SIGKILL)
        assert p.map(square, range(10)) == [x * x for x in range(10)]


@pytest.mark.start_methods("fork")  # others come to life too slowly: a pool gives up where none does
def test_workers_are_killed_at_random(pool):
    stop = threading.Event()

    def kill():
        while not stop.wait(0.005):
            for w in list(pool._pool)[:1]:
                if w.exitcode is None:
                    w.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        for _ in range(10):
            results = [pool.apply_async(square, (x,)) for x in range(200)]
            for x, result in enumerate(results):
                with contextlib.suppress(pool_module.WorkerDied):
                    assert result.get(DEADLINE) == x * x
    finally:
        stop.set()
        killer.join()
    assert pool.map(square, range(10), 1) == [x * x for x in range(10)]


def test_a_function_that_kills_fails_all_its_tasks(pool):
    results = [pool.apply_async(kill_self) for _ in range(6)]
    for result in results:
        with pytest.raises(pool_module.WorkerDied):
            result.get(DEADLINE)
    assert pool.apply(square, (2,)) == 4


def test_the_parent_is_killed(program):
    code = (
        program
        + """
p = ctx.Pool(3)
p.map(abs, range(10))
print(*(w.pid for w in p._pool), flush=True)
os.kill(os.getpid(), 9)
"""
    )
    done = run_python(code, check=False)
    poll = select.poll()
    for pid in map(int, done.stdout.split()):
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        poll.register(fd, select.POLLIN)
        assert poll.poll(DEADLINE * 1000), "an orphan"
        poll.unregister(fd)
        os.close(fd)


# ---- workers that come and go ----------------------------------------------------------------------


def remembered(_=None):
    return shared["value"]


def test_initializer(ctx):
    with ctx.Pool(2, share, ("value", lambda: 5)) as p:
        assert p.apply(call_remembered) == 5
        for w in list(p._pool):
            w.kill()
        assert p.apply(call_remembered) == 5


def call_remembered():
    return shared["value"]()


@pytest.mark.parametrize("e", [ValueError("init"), SystemExit(3), KeyboardInterrupt(), Custom("x")])
def test_an_initializer_that_raises(e, ctx, child_output):
    p = ctx.Pool(2, raise_it, (e,))
    for call in [
        lambda: p.apply(square, (1,)),
        lambda: p.map(square, [1]),
        lambda: next(p.imap(square, [1])),
        lambda: next(p.imap(square, iter([1]))),
        lambda: p.apply_async(square, (1,)).get(DEADLINE),
    ]:
        with pytest.raises(type(e)) as caught:
            call()
        assert "raise_it" in str(caught.value.__cause__)
    failed = []
    p.apply_async(square, (1,), error_callback=failed.append).wait(DEADLINE)
    p.close()
    p.join()
    assert child_output.readouterr().err == ""


def test_an_initializer_that_ends_its_process(ctx):
    with ctx.Pool(2, end_process, (7,)) as p:
        with pytest.raises(
            pool_module.WorkerDied, match="ended with exit code 7 while it ran its initializer"
        ):
            p.apply(square, (1,))
        with pytest.raises(pool_module.WorkerDied):
            p.apply(square, (1,))


@pytest.mark.parametrize("most", [1, 3])
def test_maxtasksperchild(most, ctx):
    with ctx.Pool(2, maxtasksperchild=most) as p:
        counts = collections.Counter(p.map(pid_of_worker, range(6), chunksize=1))
        assert len(counts) >= 6 // most
        assert max(counts.values()) <= most
        assert p.apply(square, (3,)) == 9
        assert list(p.imap(square, range(4))) == [0, 1, 4, 9]


def test_maxtasksperchild_with_nobody_waiting(ctx):
    p = ctx.Pool(1, maxtasksperchild=1)
    results = [p.apply_async(pid_of_worker) for _ in range(5)]
    wait_until(lambda: all(r.ready() for r in results))
    assert len({r.get() for r in results}) == 5
    for _ in range(4):
        p.apply_async(pid_of_worker)
    p.close()
    p.join()
    assert not p._cache


def test_hooks_can_be_overridden(ctx):
    made = []

    class Mine(pool_module.Pool):
        @staticmethod
        def Process(ctx, *args, **kwds):
            made.append(kwds)
            return ctx.Process(*args, **kwds)

        def _get_sentinels(self):
            made.append("sentinels")
            return super()._get_sentinels()

        def _repopulate_pool(self):
            made.append("repopulate")
            super()._repopulate_pool()

    with Mine(2, context=ctx) as p:
        assert p.apply(square, (2,)) == 4
        p._pool[0].kill()
        wait_until(lambda: made.count("repopulate") == 2)
        assert p.map(square, range(10), 1) == [x * x for x in range(10)]
    assert "sentinels" in made


def test_a_subclass_may_start_the_workers_itself(ctx):
    class Mine(pool_module.Pool):
        def _repopulate_pool(self):
            for _ in range(self._processes - len(self._pool)):
                args = (self._inqueue, self._outqueue, self._initializer, self._initargs)
                w = self.Process(
                    self._ctx,
                    target=pool_module.worker,
                    args=(*args, self._maxtasksperchild, self._wrap_exception),
                )
                w.daemon = True
                w.start()
                self._pool.append(w)

    with Mine(2, context=ctx, maxtasksperchild=2) as p:
        assert p.map(square, range(10), 1) == [x * x for x in range(10)]


def test_a_pool_may_grow(pool):
    pool._processes += 2
    pool._repopulate_pool()
    assert len(pool._pool) == 4
    shared_pids = {pool.apply(pid_of_worker) for _ in range(100)}
    assert shared_pids <= {w.pid for w in pool._pool}


def sum_in_a_pool(ctx, n):
    with ctx.Pool(2) as p:
        return sum(p.map(square, range(n)))


def test_pools_in_workers(ctx):
    class NonDaemonic(ctx.Process):
        @property
        def daemon(self):
            return False

        @daemon.setter
        def daemon(self, value):
            pass

    class NonDaemonicPool(pool_module.Pool):
        @staticmethod
        def Process(ctx, *args, **kwds):
            return NonDaemonic(*args, **kwds)

    with NonDaemonicPool(2, context=ctx) as p:
        assert p.starmap(sum_in_a_pool, [(ctx, 3), (ctx, 4), (ctx, 5)]) == [5, 14, 30]
        p.close()
        p.join()


def test_daemonic_workers_may_not_have_children(pool, ctx):
    with pytest.raises(AssertionError, match="daemonic processes are not allowed to have children"):
        pool.apply(sum_in_a_pool, (ctx, 3))


# ---- the end of a pool -----------------------------------------------------------------------------


def test_close_and_join_finish_all_work(ctx):
    p = ctx.Pool(2)
    result = p.map_async(square, range(1000), 1)
    it = p.imap(square, iter(range(1000)))
    late = [p.apply_async(time.sleep, (0.01,)) for _ in range(10)]
    p.close()
    p.join()
    assert all(r.ready() for r in late)
    assert result.get(0) == [x * x for x in range(1000)]
    assert list(it) == [x * x for x in range(1000)]
    assert [w.exitcode for w in p._pool] == [0, 0]


def test_close_and_join_of_a_pool_without_work(ctx):
    p = ctx.Pool(2)
    p.close()
    p.join()
    assert [w.exitcode for w in p._pool] == [0, 0]


def test_terminate_while_tasks_run(ctx):
    p = ctx.Pool(2)
    results = [p.apply_async(sleep_long) for _ in range(5)]
    it = p.imap(sleep_long, range(3))
    running = p.map_async(sleep_long, range(5), 1)
    p.terminate()
    p.join()
    for result in [*results, running]:
        with pytest.raises(pool_module.PoolTerminated):
            result.get(DEADLINE)
    with pytest.raises(pool_module.PoolTerminated):
        next(it)


def test_terminate_wakes_those_who_wait(ctx):
    p = ctx.Pool(2)
    errors = []

    def wait():
        try:
            p.apply(sleep_long)
        except pool_module.PoolTerminated as e:
            errors.append(e)

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for t in threads:
        t.start()
    wait_until(lambda: len(p._cache) == 4)
    p.terminate()
    for t in threads:
        t.join(DEADLINE)
    assert len(errors) == 4
    p.join()


def test_terminate_while_much_is_under_way(ctx, start_method):
    for _ in range(10 if start_method == "fork" else 2):
        p = ctx.Pool(2)
        p.map_async(square, range(5000), 1)
        it = p.imap(square, iter(range(100000)))
        next(it)
        p.terminate()
        p.join()


def test_terminate_ends_workers_that_ignore_sigterm(ctx):
    pids = ctx.SimpleQueue()
    p = ctx.Pool(1, signal.signal, (signal.SIGTERM, signal.SIG_IGN))
    p.apply_async(say_and_sleep, (pids,))
    pids.get()
    p.terminate()
    p.join()
    assert p._pool[0].exitcode == -signal.SIGKILL


@parent_only
def test_terminate_while_the_input_blocks(ctx):
    go_on = threading.Event()

    def numbers():
        yield 1
        assert go_on.wait(DEADLINE)

    p = ctx.Pool(1)
    it = p.imap(square, numbers())
    assert next(it) == 1
    p.terminate()
    p.join()
    with pytest.raises(pool_module.PoolTerminated):
        next(it)
    go_on.set()


@parent_only
def test_an_exception_in_the_block(ctx):
    with pytest.raises(KeyError), ctx.Pool(2) as p:
        p.apply_async(sleep_long)
        raise KeyError
    p.join()
    assert not any(w.is_alive() for w in p._pool)


def test_a_pool_that_is_dropped(ctx):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        p = ctx.Pool(2)
        p.map(square, range(10))
        workers = list(p._pool)
        del p
        gc.collect()
    assert [w for w in caught if w.category is ResourceWarning and "unclosed running" in str(w.message)]
    caught.clear()  # a warning knows its pool
    for w in workers:
        w.join(DEADLINE)
        assert not w.is_alive()


def test_a_dropped_pool_finishes_what_is_out(ctx):
    event = ctx.Event()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        p = ctx.Pool(1, share, ("event", event))
        result = p.apply_async(of_event, (5,))
        worker = p._pool[0]
        del p
        gc.collect()
        assert worker.is_alive()
        event.set()
        assert result.get(DEADLINE) == 5
        del result
        gc.collect()
        worker.join(DEADLINE)
        assert not worker.is_alive()


def test_an_iterator_keeps_its_pool(ctx):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        it = ctx.Pool(2).imap(square, range(100))
        gc.collect()
        assert list(it) == [x * x for x in range(100)]
        del it
        gc.collect()


@parent_only
def test_closed_pools_do_not_warn(ctx):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        p = ctx.Pool(1)
        p.close()
        p.join()
        del p
        gc.collect()


def test_many_pools(ctx, start_method):
    for _ in range(20 if start_method == "fork" else 3):
        with ctx.Pool(3) as p:
            assert p.map(square, range(5)) == [0, 1, 4, 9, 16]


def test_an_idle_pool_costs_no_time(ctx):
    with ctx.Pool(2) as p:
        p.apply_async(square, (1,)).wait()
        result = p.apply_async(time.sleep, (0.5,))
        before = time.process_time()
        while not result.ready():
            time.sleep(0.1)
        assert time.process_time() - before < 0.2


PROGRAM = """
import os, signal, sys, time, threading
import fastmp
from fastmp.pool import *
ctx = fastmp.get_context({method!r})

def square(x):
    return x * x
"""


@pytest.fixture
def program(start_method):
    return PROGRAM.format(method=start_method)


@pytest.mark.parametrize(
    "rest",
    [
        "p = ctx.Pool(2)",
        "p = ctx.Pool(2); print(p.map(square, range(3)))",
        "p = ctx.Pool(2); p.apply_async(time.sleep, (1000,))",
        "p = ctx.Pool(2); p.apply_async(time.sleep, (1000,), callback=print); p.close()",
        "p = ctx.Pool(2); it = p.imap(square, iter(range(10**9))); next(it)",
        "p = ctx.Pool(2); it = p.imap(square, iter(range(10**9)), buffersize=3); next(it); sys.exit(0)",
        "ctx.Pool(2).apply_async(square, (2,))",
        "p = ctx.Pool(2); p.cycle = p",
    ],
)
def test_the_interpreter_ends_with_a_live_pool(rest, program):
    done = run_python(program + rest)
    assert done.stderr == ""


def test_what_tasks_print_is_not_lost(program):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = run_python(program + "with ctx.Pool(2) as p: p.map(print, range(20), 1)", env=environment)
    assert sorted(map(int, done.stdout.split())) == list(range(20))


# ---- interrupts ------------------------------------------------------------------------------------


def is_group(pid):
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


def group_run(code, interrupt_after):
    """Run a program in a session of its own; interrupt the whole group when it has printed a line."""
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for _ in range(interrupt_after):
        assert child.stdout.readline()
        os.killpg(child.pid, signal.SIGINT)
    out, err = child.communicate(timeout=2 * DEADLINE)
    wait_until(lambda: not is_group(child.pid))  # a fork server ends after the program
    return child.returncode, out, err


@pytest.mark.parametrize(
    "wait",
    [
        "p.map(task, range(4), 1)",
        "p.apply(task, (1,))",
        "p.map_async(task, range(4), 1).get()",
        "list(p.imap(task, iter(range(4))))",
        "p.close(); p.apply_async; p.join()",
        "p.apply_async(task, (1,), callback=print).get()",
    ],
)
@pytest.mark.parametrize("form", ["with", "plain"])
@parent_only
def test_ctrl_c_ends_a_program_quietly(wait, form, program):
    interrupt(program, wait, form)


@pytest.mark.start_methods("spawn", "forkserver")
def test_ctrl_c_ends_a_program_with_other_workers_quietly(program):
    interrupt(program, "p.map(task, range(4), 1)", "with")


def interrupt(program, wait, form):
    code = program + "def task(x):\n    os.write(1, b'running\\n'); time.sleep(1000)\n"
    if form == "with":
        code += f"with ctx.Pool(2) as p:\n    p.apply_async(task, (0,)); {wait}\n"
    else:
        code += f"p = ctx.Pool(2)\np.apply_async(task, (0,)); {wait}\n"
    returncode, _, err = group_run(code, 1)
    assert returncode == -signal.SIGINT
    assert err.count("Traceback") == 1
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert "PoolWorker" not in err


def test_a_pool_goes_on_after_an_interrupt(program):
    code = (
        program
        + """
def task(x):
    os.write(1, b"running\\n")
    time.sleep(1000)

p = ctx.Pool(2)
pids = {w.pid for w in p._pool}
for call in [lambda: p.map(task, range(2), 1), lambda: p.apply(task, (1,)), lambda: list(p.imap(task, [1]))]:
    try:
        call()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    assert p.map(square, range(10), 1) == [x * x for x in range(10)]
assert {w.pid for w in p._pool} == pids
p.close()
p.join()
print("end")
"""
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for running in (2, 1, 1):
        for _ in range(running):
            assert child.stdout.readline() == "running\n"
        os.killpg(child.pid, signal.SIGINT)
        assert child.stdout.readline() == "interrupted\n"
    out, err = child.communicate(timeout=DEADLINE)
    assert err == ""
    assert out == "end\n"


def test_idle_workers_do_not_mind_an_interrupt(pool):
    pids = {w.pid for w in pool._pool}
    pool.map(square, range(10), 1)
    for pid in pids:
        os.kill(pid, signal.SIGINT)
    assert pool.map(square, range(10), 1) == [x * x for x in range(10)]
    assert {w.pid for w in pool._pool} == pids


def test_a_task_can_be_interrupted(ctx):
    pids = ctx.SimpleQueue()
    with ctx.Pool(2) as p:
        result = p.apply_async(say_and_sleep, (pids,))
        pid = pids.get()
        os.kill(pid, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            result.get(DEADLINE)
        assert pid in {w.pid for w in p._pool}


class Alarm(Exception):
    pass


def ring_bell(*args):
    raise Alarm


@pytest.fixture
def alarms():
    """Signals that raise in the main thread, often and anywhere."""
    old = signal.signal(signal.SIGALRM, ring_bell)

    def start(seconds):
        signal.setitimer(signal.ITIMER_REAL, seconds)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


CALLS = [
    lambda p: p.apply(square, (3,)),
    lambda p: p.map(square, range(30), 1),
    lambda p: p.map_async(square, range(30), 1).get(),
    lambda p: list(p.imap(square, range(30))),
    lambda p: list(p.imap_unordered(square, iter(range(30)), buffersize=3)),
    lambda p: [r.get() for r in [p.apply_async(square, (x,)) for x in range(20)]],
    lambda p: p.apply_async(square, (3,), callback=str).get(),
]


@parent_only
def test_signal_handlers_that_raise_break_nothing(pool, alarms):
    kept = []
    for i in range(700):
        kept.append((i, pool.apply_async(square, (i,))))
        try:
            alarms(0.00001 + 0.000003 * (i % 400))
            CALLS[i % len(CALLS)](pool)
            alarms(0)
        except Alarm:
            pass
    alarms(0)
    for i, result in kept:
        assert result.get(DEADLINE) == i * i
    assert pool.map(square, range(100), 1) == [x * x for x in range(100)]
    pool.close()
    pool.join()
    assert not pool._cache


@parent_only
def test_calls_in_a_signal_handler(pool):
    got = []

    def handle(*args):
        got.append(pool.apply(square, (5,)))
        got.append(pool.apply_async(square, (6,), callback=got.append).get(DEADLINE))

    old = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        pool.apply(time.sleep, (0.3,))
    finally:
        signal.signal(signal.SIGALRM, old)
    assert sorted(got) == [25, 36, 36]


@parent_only
def test_terminate_in_a_signal_handler(ctx):
    p = ctx.Pool(2)
    old = signal.signal(signal.SIGALRM, lambda *_: p.terminate())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(pool_module.PoolTerminated):
            p.map(sleep_long, range(3), 1)
    finally:
        signal.signal(signal.SIGALRM, old)
    p.join()


# ---- beside the standard library -------------------------------------------------------------------


def outcome(mp, method, call):
    """What a call gives, in words that do not depend on the package."""
    with mp.get_context(method).Pool(2) as p:
        try:
            return "returned", call(p)
        except Exception as e:
            return "raised", type(e).__name__, str(e), type(e.__cause__).__name__


@parent_only
@pytest.mark.imports_multiprocessing
@pytest.mark.parametrize(
    "call",
    [
        lambda p: p.apply(square, (3,)),
        lambda p: p.apply(square, 3),
        lambda p: p.apply(5),
        lambda p: p.apply(add, (1,), {"y": 5}),
        lambda p: p.map(square, range(10)),
        lambda p: p.map(square, []),
        lambda p: p.map(square, 5),
        lambda p: p.map(fail_at_three, range(10)),
        lambda p: p.starmap(add, [(1, 2), (3, 4)]),
        lambda p: list(p.imap(square, range(10), 3)),
        lambda p: list(p.imap(fail_at_three, range(10))),
        lambda p: p.imap(square, [1], 0),
        lambda p: p.map_async(functools.partial(add, 3), range(3)).get(DEADLINE),
        lambda p: p.apply_async(time.sleep, (0.5,)).get(0.01),
        lambda p: p.apply(raise_it, (OSError(2, "no"),)),
        lambda p: p.join(),
        lambda p: pickle.dumps(p),
    ],
)
def test_as_the_standard_library_s(call, start_method):
    import multiprocessing

    expected = outcome(multiprocessing, "fork", call)
    assert outcome(fastmp, start_method, call) == expected
