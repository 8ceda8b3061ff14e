"""Processes killed at any instant: what is shared stays whole, and the others go on."""

import contextlib
import functools
import os
import queue
import random
import signal

import pytest

from fastmp import _core

DEADLINE = 20
ROUNDS = {"fork": 60, "spawn": 3, "forkserver": 5}  # children that cost more are killed less often


@pytest.fixture(autouse=True)
def warm_server(ctx):
    """The fork server, where there is one, is a process of the arena as well, and slow to come."""
    child = ctx.Process()
    child.start()
    child.join(DEADLINE)


@pytest.fixture
def rounds(start_method):
    return range(ROUNDS[start_method])


def work(ready, go, call):
    ready.release()
    go.acquire()
    while True:
        call()


@pytest.fixture
def slay(ctx):
    """A function that lets children do these calls in turn, one child for each, and kills them all after
    they ran for a moment of a random number of steps."""
    rng = random.Random(7)

    def run(*calls):
        ready, go = ctx.Semaphore(0), ctx.Semaphore(0)
        children = [ctx.Process(target=work, args=(ready, go, call)) for call in calls]
        for child in children:
            child.start()
        for _ in children:
            assert ready.acquire(timeout=DEADLINE)
        for _ in children:
            go.release()
        for _ in range(rng.randrange(20_000)):
            pass
        for child in children:
            child.kill()
        for child in children:
            child.join(DEADLINE)
            assert child.exitcode == -signal.SIGKILL

    return run


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
def test_queue_users_killed_at_random(ctx, slay, rounds, maxsize):
    before = _core.arena_info()
    q, last = ctx.Queue(maxsize), {}
    numbers = iter(range(1 << 30))  # each child goes on from its own copy

    def put():
        number = next(numbers)
        with contextlib.suppress(queue.Full):
            q.put((os.getpid(), number, bytes(number * 37 % 9000)), timeout=0.001)

    def get():
        with contextlib.suppress(queue.Empty):
            q.get(timeout=0.001)

    for _ in rounds:
        slay(put, put, get, get)
        drain(q, last)
        assert (q.qsize(), q.empty(), q.full()) == (0, True, False)
        q.put("still in use")
        assert q.get(timeout=DEADLINE) == "still in use"
    q = put = get = None
    assert _core.arena_info() == before


def test_rlock_and_condition_users_killed_at_random(ctx, slay, rounds):
    lock = ctx.RLock()
    condition = ctx.Condition(lock)

    def use():
        with condition:
            condition.notify()
            condition.wait(0.0001)

    for _ in rounds:
        slay(use, use, use)
        assert lock.acquire(timeout=DEADLINE)
        assert condition.wait(0) is False
        condition.notify_all()
        lock.release()
        assert not lock.locked()


def test_semaphore_and_event_users_killed_at_random(ctx, slay, rounds):
    for _ in rounds:
        semaphore, event = ctx.Semaphore(1), ctx.Event()

        def use(semaphore=semaphore, event=event):
            if semaphore.acquire(timeout=0.0001):
                event.set()
                event.clear()
                event.wait(0.0001)
                semaphore.release()

        slay(use, use, use)
        assert semaphore.get_value() in (0, 1)  # a permit that a dead process held is gone
        semaphore.release()
        assert semaphore.acquire(timeout=DEADLINE)
        event.set()
        assert event.wait(DEADLINE)


def test_objects_are_made_and_dropped_by_processes_that_are_killed(ctx, slay, rounds):
    before = _core.arena_info()

    def churn():
        things = [ctx.Queue(), ctx.Condition(), ctx.Lock()]
        things[0].put("x" * 5000)
        with things[1]:
            things[1].wait(0)

    for _ in rounds:
        slay(churn, churn, churn)
    assert _core.arena_info() == before


def die(*ignored):
    os.kill(os.getpid(), signal.SIGKILL)


class DeadlyToRead:
    def __reduce__(self):
        return die, ()


class DeadlyToWrite:
    __reduce__ = die


def carriers(ctx):
    q, simple = ctx.Queue(), ctx.SimpleQueue()
    reader, writer = ctx.Pipe(False)
    return {
        "queue": (q.put, q.get),
        "put_many": (lambda message: q.put_many([message]), q.get),
        "get_many": (q.put, functools.partial(q.get_many, 10)),
        "simple": (simple.put, simple.get),
        "pipe": (writer.send, reader.recv),
    }


@pytest.mark.parametrize("name", ["queue", "put_many", "get_many", "simple", "pipe"])
@pytest.mark.parametrize("deadly", [DeadlyToRead, DeadlyToWrite])
@pytest.mark.start_methods("fork", reason="what the message is made of is made in the victim")
def test_what_a_message_carries_goes_with_who_is_killed_over_it(ctx, name, deadly):
    before = _core.arena_info()
    kept = ctx.Lock()
    put, get = carriers(ctx)[name]

    def send_and_receive():
        put((kept, ctx.Lock(), ctx.Queue(), ctx.Lock()))
        put((kept, ctx.Queue(), deadly()))
        get()
        get()

    child = ctx.Process(target=send_and_receive)
    child.start()
    child.join(DEADLINE)
    assert child.exitcode == -signal.SIGKILL
    put("still in use")
    while "still in use" not in get():  # what was sent before
        pass
    put = get = send_and_receive = kept = child = None
    assert _core.arena_info() == before


def take(things, conn):
    conn.send("taken")
    conn.recv()


@pytest.mark.start_methods("spawn", "forkserver")
def test_children_killed_while_they_come_to_life(ctx, start_method):
    """What waits for a child, its arguments and its place, is given back whenever it is killed."""
    rng, before = random.Random(7), _core.arena_info()
    longest = {"spawn": 0.12, "forkserver": 0.01}[start_method]  # seconds, some more than a start takes
    for _ in range(20):
        ours, theirs = ctx.Pipe()
        things = [ctx.Queue(), ctx.Condition(), ctx.Value("i"), ctx.Array("b", 100_000)]
        things[0].put("x" * 5000)
        child = ctx.Process(target=take, args=(things, theirs))
        child.start()
        ours.poll(rng.uniform(0, longest))
        child.kill()
        child.join(DEADLINE)
        assert child.exitcode == -signal.SIGKILL
        assert things[0].get(timeout=DEADLINE) == "x" * 5000
        ours.close()
        theirs.close()
        del things, child
        assert _core.arena_info() == before
