"""Pools: how they end."""

import gc
import signal
import threading
import time
import warnings

import pytest
from pool_targets import of_event, say_and_sleep, share, sleep_long, square
from waiting import DEADLINE, wait_until

from fastmp import pool as pool_module

parent_only = pytest.mark.start_methods("fork")


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
def test_terminate_while_the_supervisor_is_busy(ctx):
    """It finds the pool ended, and leaves it to terminate() to say what that means."""
    busy, go_on = threading.Event(), threading.Event()
    p = ctx.Pool(1)
    start_feeds = p._desk.start_feeds

    def start_feeds_slowly():
        start_feeds()
        busy.set()
        assert go_on.wait(DEADLINE)

    p._desk.start_feeds = start_feeds_slowly
    result = p.apply_async(sleep_long)
    p._board.ring()
    assert busy.wait(DEADLINE)
    p._state = pool_module.TERMINATE  # the first step of terminate()
    go_on.set()
    p._supervisor.join(DEADLINE)
    p.terminate()
    p.join()
    with pytest.raises(pool_module.PoolTerminated):
        result.get(DEADLINE)


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
