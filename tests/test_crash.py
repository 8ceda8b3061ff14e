"""Processes killed at any instant: what is shared stays whole, and the others go on."""

import os
import queue
import random
import signal

import pytest

from fastmp import _core

DEADLINE = 20
ROUNDS = 60


def work(start, *calls):
    """A child that does these in turn for ever, from when it is told to."""
    start.acquire()
    while True:
        for call in calls:
            call()


def slay(children, rng):
    """Kill them one by one, after they ran for a moment of a random number of steps."""
    for _ in range(rng.randrange(20_000)):
        pass
    for child in children:
        child.kill()
    for child in children:
        child.join(DEADLINE)
        assert child.exitcode == -signal.SIGKILL


def drain(q, last):
    """Everything in the queue: whole, and each producer's in order."""
    while True:
        try:
            who, number, data = q.get(False)
        except queue.Empty:
            return
        assert number > last.get(who, -1)
        assert data == bytes(number * 37 % 9000)
        last[who] = number


@pytest.mark.parametrize("maxsize", [0, 3])
def test_queue_users_killed_at_random(ctx, maxsize):
    before = _core.arena_info()
    rng = random.Random(maxsize)
    q, last = ctx.Queue(maxsize), {}

    def produce():
        numbers = iter(range(1 << 30))
        me = os.getpid()

        def put():
            number = next(numbers)
            try:
                q.put((me, number, bytes(number * 37 % 9000)), timeout=0.001)
            except queue.Full:
                pass

        work(start, put)

    def consume():
        def get():
            try:
                q.get(timeout=0.001)
            except queue.Empty:
                pass

        work(start, get)

    for _ in range(ROUNDS):
        start = ctx.Semaphore(0)
        children = [ctx.Process(target=target) for target in (produce, produce, consume, consume)]
        for child in children:
            child.start()
        for _ in children:
            start.release()
        slay(children, rng)
        drain(q, last)
        assert (q.qsize(), q.empty(), q.full()) == (0, True, False)
        q.put((0, len(last) + 1000, bytes((len(last) + 1000) * 37 % 9000)))
        assert q.get(timeout=DEADLINE)[0] == 0
    del q, start, children, produce, consume, child
    assert _core.arena_info() == before


def test_rlock_and_condition_users_killed_at_random(ctx):
    rng = random.Random(7)
    lock = ctx.RLock()
    condition = ctx.Condition(lock)

    def use():
        with condition:
            condition.notify()
            condition.wait(0.0001)

    for _ in range(ROUNDS):
        start = ctx.Semaphore(0)
        children = [ctx.Process(target=work, args=(start, use)) for _ in range(3)]
        for child in children:
            child.start()
        for _ in children:
            start.release()
        slay(children, rng)
        assert lock.acquire(timeout=DEADLINE)
        assert condition.wait(0) is False
        condition.notify_all()
        lock.release()
        assert not lock.locked()


def test_semaphore_and_event_users_killed_at_random(ctx):
    rng = random.Random(11)
    for _ in range(ROUNDS):
        semaphore, event, start = ctx.Semaphore(1), ctx.Event(), ctx.Semaphore(0)

        def use(semaphore=semaphore, event=event):
            if semaphore.acquire(timeout=0.0001):
                event.set()
                event.clear()
                event.wait(0.0001)
                semaphore.release()

        children = [ctx.Process(target=work, args=(start, use)) for _ in range(3)]
        for child in children:
            child.start()
        for _ in children:
            start.release()
        slay(children, rng)
        assert semaphore.get_value() in (0, 1)
        semaphore.release()
        assert semaphore.acquire(timeout=DEADLINE)
        event.set()
        assert event.wait(DEADLINE)


def test_objects_are_made_and_dropped_by_processes_that_are_killed(ctx):
    before = _core.arena_info()
    rng = random.Random(13)

    def churn():
        things = [ctx.Queue(), ctx.Condition(), ctx.Lock()]
        things[0].put("x" * 5000)
        with things[1]:
            things[1].wait(0)

    for _ in range(ROUNDS):
        start = ctx.Semaphore(0)
        children = [ctx.Process(target=work, args=(start, churn)) for _ in range(3)]
        for child in children:
            child.start()
        for _ in children:
            start.release()
        slay(children, rng)
    del start, children, child
    assert _core.arena_info() == before
