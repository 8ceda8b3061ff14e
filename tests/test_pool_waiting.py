"""Pools: who waits for results, in which thread, and callbacks."""

import threading

import pytest
from pool_targets import (
    LOCK,
    UNPICKLABLE,
    add,
    end_process,
    fail_at_three,
    of_event,
    raise_it,
    share,
    square,
)
from waiting import DEADLINE, wait_until

import fastmp
from fastmp import pool as pool_module

# What the parent does with calls and results is the same, whichever way the workers came to life.
parent_only = pytest.mark.start_methods("fork")


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
