"""Pools: calls and their arguments, beside the standard library's."""

import functools
import os
import pickle
import re
import time

import pytest
from pool_targets import add, fail_at_three, name_of_worker, pid_of_worker, raise_it, square
from targets import DEADLINE

import fastmp
from fastmp import pool as pool_module

# What the parent does with calls and results is the same, whichever way the workers came to life.
parent_only = pytest.mark.start_methods("fork")


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
