"""Pools and signals: those of workers, and handlers in the parent that raise or use the pool."""

import os
import signal
import threading
import time

import pytest
from pool_targets import say_and_sleep, sleep_long, square, wait_for
from targets import DEADLINE
from waiting import wait_until

from fastmp import pool as pool_module

parent_only = pytest.mark.start_methods("fork")


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
def test_a_handler_that_waits_while_its_thread_waits_is_handed_the_lead(ctx, in_thread):
    """Both wait for another thread's call to collect results, which ends before theirs."""
    events = [ctx.Event() for _ in range(3)]
    with ctx.Pool(3) as p:
        first, second, third = (p.apply_async(wait_for, (event, i)) for i, event in enumerate(events))
        leader = in_thread(first.get, DEADLINE)
        wait_until(lambda: p._board.leader is not None)
        got = []

        def with_followers(count, *steps):
            wait_until(lambda: len(p._desk._followers) == count)
            for step in steps:
                step()

        def handle(*args):
            helper = in_thread(with_followers, 2, events[0].set, leader, events[1].set)
            got.append(second.get(DEADLINE))
            helper()
            events[2].set()

        old = signal.signal(signal.SIGALRM, handle)
        try:
            main = threading.get_ident()
            in_thread(with_followers, 1, lambda: signal.pthread_kill(main, signal.SIGALRM))
            got.append(third.get(DEADLINE))
        finally:
            signal.signal(signal.SIGALRM, old)
    assert got == [1, 2]


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
