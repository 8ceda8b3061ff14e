"""Pools: workers that die, and workers that come and go."""

import collections
import contextlib
import errno
import os
import signal
import threading
import types

import pytest
from pool_targets import (
    Custom,
    end_process,
    kill_self,
    kill_self_at_five,
    pid_of_worker,
    raise_it,
    share,
    shared,
    square,
)
from waiting import DEADLINE, wait_until

import fastmp
from fastmp import pool as pool_module

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


def test_a_worker_that_cannot_be_replaced(pool, monkeypatch):
    def refuse(mask):
        raise OSError(errno.EAGAIN, "no more processes")

    with monkeypatch.context() as patch:
        patch.setattr(pool, "_make_worker", refuse)
        with pytest.raises(pool_module.WorkerDied):
            pool.apply(end_process, (1,))
        wait_until(lambda: len(pool._pool) == 1)
        assert pool.map(square, range(10), 1) == [x * x for x in range(10)]
    with pytest.raises(pool_module.WorkerDied):
        pool.apply(end_process, (1,))
    wait_until(lambda: len(pool._pool) == 2)
    assert pool.map(square, range(10), 1) == [x * x for x in range(10)]


def test_no_worker_can_be_replaced(pool, monkeypatch):
    """As when all processes of a program are being ended, and the fork server first."""

    def refuse(mask):
        raise EOFError("the fork server ended")

    monkeypatch.setattr(pool, "_make_worker", refuse)
    for worker in list(pool._pool):
        worker.kill()
    with pytest.raises(EOFError, match="the fork server ended"):
        pool.map(square, range(1000), 1)
    with pytest.raises(EOFError, match="the fork server ended"):
        pool.apply(square, (1,))


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
            w.kill()  # it may have ended meanwhile, and been waited for
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


def test_an_initializer_that_raises_while_who_collects_is_slow(ctx):
    """The workers are seen to be dead before it is seen what they said."""

    class SlowPool(pool_module.Pool):
        def _make_desk(self):
            desk = super()._make_desk()
            desk.board.leader = types.SimpleNamespace(done=lambda: False)
            return desk

    p = SlowPool(2, raise_it, (ValueError("init"),), context=ctx)
    wait_until(lambda: p._stillborn > 2)
    p._board.leader = None
    with pytest.raises(ValueError, match="init"):
        p.apply(square, (1,))
    p.close()
    p.join()


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
