"""Pools: what becomes of those who wait when a thread of the pool itself meets an error."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pool_targets import kill_self, raise_it, sleep_long, square
from test_pool_kinds import ClassicPool
from waiting import DEADLINE, wait_until

from fastmp import _threads
from fastmp._pool import desk, worker
from fastmp.pool import Pool, PoolTerminated, ThreadPool, WorkerDied

parent_only = pytest.mark.start_methods("fork")  # what is tested happens in the pool's process
STEPS = [
    *("_attend", "_bury", "_get_sentinels", "_get_worker_sentinels", "_join_exited_workers", "_maintain_pool")
]
OF_DESK = ["collect", "start_feeds"]


@pytest.fixture
def failing(monkeypatch):
    """A step of the supervisor that raises, so often."""

    def patch(step, error, times):
        of = desk._Desk if step in OF_DESK else Pool
        real, left = getattr(of, step), [error] * times

        def fail(*args):
            if left and threading.current_thread().name == "PoolSupervisor":
                raise left.pop()
            return real(*args)

        monkeypatch.setattr(_threads, "RETRY_SECONDS", 0.001)
        monkeypatch.setattr(of, step, staticmethod(fail) if step == "_get_worker_sentinels" else fail)

    return patch


# ---- the supervisor ------------------------------------------------------------------------------------


@parent_only
@pytest.mark.parametrize("step", [*STEPS, *OF_DESK])
@pytest.mark.parametrize("error", [MemoryError, OSError])
def test_the_supervisor_goes_on_after_what_may_pass(pool, failing, step, error):
    failing(step, error("for a moment"), 3)
    with pytest.raises(WorkerDied):
        pool.apply(kill_self)
    assert pool.map(square, range(10), 1) == [x * x for x in range(10)]
    wait_until(lambda: len(pool._pool) == 2 and all(w.is_alive() for w in pool._pool))


@parent_only
@pytest.mark.parametrize("step", [*STEPS, *OF_DESK])
@pytest.mark.parametrize("error", [MemoryError, KeyError])
def test_all_who_wait_hear_that_the_supervisor_cannot_go_on(ctx, failing, step, error):
    with ctx.Pool(1) as p:
        p.apply(square, (1,))  # behind this it sleeps
        failing(step, error("for ever"), 1000)
        caught = []

        def wait(call):
            with pytest.raises((PoolTerminated, WorkerDied)) as e:
                call()
            caught.append(e.value)

        waiting = [
            *(p.apply_async(kill_self).get, p.map_async(sleep_long, range(3)).get),
            *(p.imap(sleep_long, [1]).next, p.imap(sleep_long, iter([1])).next),
        ]
        threads = [threading.Thread(target=wait, args=(call,)) for call in waiting]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
        with pytest.raises(
            PoolTerminated, match=rf"supervisor failed: {error.__name__}\('for ever'\)"
        ) as later:
            p.apply(square, (1,))
        assert isinstance(later.value.__cause__, error)
        assert len(caught) == len(waiting)
    p.join()


@parent_only
@pytest.mark.parametrize(
    "stride", [3, pytest.param(1, marks=[pytest.mark.stress, pytest.mark.deadline(300)])]
)
def test_no_memory_at_any_step_of_a_burial(stride):
    pytest.importorskip("_testcapi")
    program = Path(__file__).with_name("no_memory.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, program, str(stride)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@parent_only
def test_a_callback_that_raises_and_so_does_the_hook(pool, monkeypatch):
    def hook(args):
        raise args.exc_type("again")

    monkeypatch.setattr(threading, "excepthook", hook)
    monkeypatch.setattr(sys, "excepthook", hook)
    assert pool.apply_async(square, (3,), callback=raise_it).get(DEADLINE) == 9
    assert pool.apply_async(square, (4,), callback=raise_it).get(DEADLINE) == 16


# ---- feeders -------------------------------------------------------------------------------------------


def feeds():
    return threading.current_thread().name == "PoolFeeder"


@parent_only
@pytest.mark.parametrize("call", [Pool.map_async, Pool.imap])
def test_a_feeder_that_fails(pool, monkeypatch, call):
    real = desk._Desk.feed

    def fail(self, *args):
        if feeds():
            raise KeyError("no more")
        return real(self, *args)

    monkeypatch.setattr(desk._Desk, "feed", fail)
    result = call(pool, square, range(5000), 1)
    with pytest.raises(KeyError, match="no more"):
        result.get() if call is Pool.map_async else list(result)
    monkeypatch.undo()
    assert pool.map(square, range(10), 1) == [x * x for x in range(10)]


@parent_only
@pytest.mark.parametrize("call", [Pool.map_async, Pool.imap])
def test_a_feeder_that_cannot_be_started(pool, monkeypatch, call):
    class Refused(threading.Thread):
        def start(self):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading, "Thread", Refused)
    result = call(pool, square, range(5000), 1)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        result.get() if call is Pool.map_async else list(result)
    monkeypatch.undo()
    assert list(pool.imap(square, iter(range(10)))) == [x * x for x in range(10)]
    pool.close()
    pool.join()


# ---- receivers and workers that are threads ----------------------------------------------------------------


def refuse():
    raise ValueError("not here")


class Unreadable:
    def __reduce__(self):
        return refuse, ()


def make_unreadable(_):
    return Unreadable()


@parent_only
def test_a_result_that_a_classic_pool_cannot_read(ctx):
    with ClassicPool(2, context=ctx) as p:
        with pytest.raises(ValueError, match="not here"):
            p.apply(make_unreadable, (1,))
        with pytest.raises(ValueError, match="not here"):
            p.map(square, range(3))
    p.join()


def test_a_worker_thread_that_cannot_report(monkeypatch):
    """As when another thread has an exception raised in it at the wrong moment."""
    with ThreadPool(2) as p:
        with monkeypatch.context() as patch:
            patch.setattr(worker, "_flush", lambda stream: refuse())
            patch.setattr(sys, "stdout", sys.__stdout__)
            with pytest.raises(ValueError, match="not here"):
                p.apply(square, (3,))
        assert p.map(square, range(10), 1) == [x * x for x in range(10)]
    p.join()
