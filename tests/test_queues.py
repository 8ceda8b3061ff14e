"""Queue, JoinableQueue and SimpleQueue on the message queue of the core."""

import os
import pickle
import queue
import signal
import threading
from typing import ClassVar

import pytest
from targets import Unwilling
from waiting import DEADLINE, interrupted, join

import fastmp
from fastmp import _core

BIG = 100 << 20


def test_put_then_get_at_once(q):
    for i in range(1000):
        q.put(i)
        assert (q.qsize(), q.empty(), q.full()) == (1, False, False)
        assert q.get_nowait() == i
        assert (q.qsize(), q.empty()) == (0, True)


def test_order_and_size(q):
    for i in range(100):
        q.put(i)
        assert q.qsize() == i + 1
    assert [q.get() for _ in range(100)] == list(range(100))


@pytest.mark.parametrize("size", [0, 1, 447, 448, 449, 1000, 1 << 16, (1 << 20) + 3, 5 << 20, 20 << 20])
def test_every_size(q, size):
    data = os.urandom(min(size, 1 << 20)) * max(1, size >> 20)
    q.put(data)
    assert q.get() == data


def test_put_of_something_large_does_not_block(ctx):
    q = ctx.Queue()
    q.put(bytes(BIG))
    assert q.qsize() == 1
    assert len(q.get_nowait()) == BIG


def test_a_producer_can_be_joined_before_it_is_drained(ctx, start):
    q = ctx.Queue()
    child = start(lambda: [q.put(bytes(1 << 20)) for _ in range(20)])
    join(child)
    assert q.qsize() == 20
    assert sum(len(q.get_nowait()) for _ in range(20)) == 20 << 20


def test_items_survive_a_producer_that_is_killed(ctx, start):
    q = ctx.Queue()

    def produce():
        for i in range(100):
            q.put((i, "x" * i * 20))
        os.kill(os.getpid(), signal.SIGKILL)

    join(start(produce), -signal.SIGKILL)
    assert [i for i, _ in (q.get_nowait() for _ in range(100))] == list(range(100))
    assert q.empty()


def test_many_producers_and_consumers(ctx, start):
    q, results = ctx.Queue(), ctx.Queue()

    def produce(who):
        for i in range(500):
            q.put((who, i))

    def consume():
        seen = []
        while (item := q.get()) is not None:
            seen.append(item)
        results.put(seen)

    producers = [start(produce, who) for who in range(3)]
    consumers = [start(consume) for _ in range(3)]
    for child in producers:
        join(child)
    for _ in consumers:
        q.put(None)
    lists = [results.get(timeout=DEADLINE) for _ in consumers]
    for items in lists:
        for who in range(3):
            mine = [i for w, i in items if w == who]
            assert mine == sorted(mine)  # each producer's order, as each consumer sees it
    assert sorted(item for items in lists for item in items) == [(w, i) for w in range(3) for i in range(500)]


@pytest.mark.parametrize("timeout", [0, -1, 0.01])
def test_empty(q, timeout):
    with pytest.raises(queue.Empty):
        q.get(timeout=timeout)
    with pytest.raises(queue.Empty):
        q.get(True, timeout)
    with pytest.raises(queue.Empty):
        q.get(False)
    with pytest.raises(queue.Empty):
        q.get_nowait()


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])
def test_full(ctx, kind):
    q = getattr(ctx, kind)(maxsize=2)
    q.put(1)
    assert not q.full()
    q.put(2)
    assert q.full()
    for attempt in [
        lambda: q.put(3, False),
        lambda: q.put_nowait(3),
        lambda: q.put(3, timeout=0),
        lambda: q.put(3, timeout=-2),
        lambda: q.put(3, True, 0.01),
    ]:
        with pytest.raises(queue.Full):
            attempt()
    assert [q.get(), q.get()] == [1, 2]
    assert not q.full()


@pytest.mark.parametrize("maxsize", [0, -1])
def test_no_bound(ctx, maxsize):
    q = ctx.Queue(maxsize)
    for i in range(5000):
        q.put_nowait(i)
    assert not q.full()
    assert q.qsize() == 5000


def test_a_bounded_queue_makes_its_producer_wait(ctx, start):
    q = ctx.Queue(3)
    child = start(lambda: [q.put(i) for i in range(200)])
    for i in range(200):
        assert q.get(timeout=DEADLINE) == i
        assert q.qsize() <= 3
    join(child)


def test_put_raises_what_pickling_raises(q):
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        q.put(lambda: 0)
    with pytest.raises(TypeError):
        q.put(threading.Lock())
    assert q.empty()
    q.put("still in order")
    assert q.get() == "still in order"


class Collecting(fastmp.queues.Queue):
    errors: ClassVar[list] = []

    @staticmethod
    def _on_queue_feeder_error(e, obj):
        Collecting.errors.append((type(e), obj))


def test_a_subclass_may_take_pickling_errors(ctx):
    Collecting.errors.clear()
    q = Collecting(ctx=ctx)
    bad = threading.Lock()
    q.put(bad)
    q.put("good")
    assert q.get(timeout=DEADLINE) == "good"
    assert Collecting.errors == [(TypeError, bad)]
    q.close()
    q.join_thread()


def test_get_raises_what_unpickling_raises(q):
    q.put(Unwilling())
    q.put(1)
    with pytest.raises(KeyError, match="not today"):
        q.get()
    assert q.get() == 1


def test_closed(q):
    q.put(1)
    q.close()
    q.close()
    q.join_thread()
    q.cancel_join_thread()
    for call in [lambda: q.put(1), q.get, q.get_nowait, lambda: q.put_nowait(1)]:
        with pytest.raises(ValueError, match="is closed"):
            call()
    with pytest.raises(OSError, match="handle is closed"):
        q.empty()


def test_a_queue_that_was_closed_unused_is_empty(q, ctx):
    q.close()
    q.join_thread()
    assert q.empty()
    simple = ctx.SimpleQueue()
    simple.close()
    with pytest.raises(OSError, match="handle is closed"):
        simple.empty()


def test_closing_concerns_this_process_alone(ctx, start):
    q, closed = ctx.Queue(), ctx.Event()

    def produce():
        closed.wait(DEADLINE)
        q.put("late")

    child = start(produce)
    reader = ctx.Queue()

    def consume():
        reader.put(q.get(timeout=DEADLINE))

    consumer = start(consume)
    q.close()
    closed.set()
    assert reader.get(timeout=DEADLINE) == "late"
    join(child)
    join(consumer)


def test_join_thread_wants_a_closed_queue(q):
    with pytest.raises(AssertionError):
        q.join_thread()


def test_wrong_arguments(q):
    for call in [
        lambda: q.put(),
        lambda: q.put(1, True, "soon"),
        lambda: q.put(1, patience=1),
        lambda: q.get(True, "soon"),
        lambda: q.get(1, 2, 3),
    ]:
        with pytest.raises(TypeError):
            call()
    assert q.empty()


def test_not_pickled_outside_of_spawning(q):
    with pytest.raises(RuntimeError, match="through inheritance"):
        pickle.dumps(q)


def test_generic_alias(ctx):
    assert fastmp.queues.Queue[int].__origin__ is fastmp.queues.Queue


def test_ctrl_c(ctx):
    q, full = ctx.Queue(), ctx.Queue(1)
    full.put(1)
    interrupted(q.get, lambda: q.get(timeout=DEADLINE), lambda: full.put(2))
    assert full.qsize() == 1


def test_memory_returns(ctx):
    before = _core.arena_info()
    q = ctx.Queue()
    for size in [10, 1000, 1 << 20, 20 << 20]:
        for _ in range(3):
            q.put(bytes(size))
    while not q.empty():
        q.get()
    for i in range(50):
        q.put(bytes(i * 100))
    del q  # with messages in it
    assert _core.arena_info() == before


def test_memory_returns_from_killed_children(ctx, start):
    before = _core.arena_info()
    q, started = ctx.Queue(), ctx.Semaphore(0)

    def churn():
        started.release()
        while True:
            q.put(bytes(3000))
            q.get()

    for _ in range(5):
        children = [start(churn) for _ in range(2)]
        for _ in children:
            assert started.acquire(timeout=DEADLINE)
        for child in children:
            child.kill()
            join(child, -signal.SIGKILL)
        while not q.empty():
            assert q.get(timeout=DEADLINE) == bytes(3000)
    q = started = churn = None
    assert _core.arena_info() == before


# ---- JoinableQueue -------------------------------------------------------------------------------------


def test_task_done_once_too_often(ctx):
    q = ctx.JoinableQueue()
    with pytest.raises(ValueError, match="task_done"):
        q.task_done()
    q.put(1)
    q.get()
    q.task_done()
    with pytest.raises(ValueError, match="task_done"):
        q.task_done()


def test_join_waits_until_all_is_done(ctx, start):
    q, done = ctx.JoinableQueue(), ctx.Value("i")

    def work():
        while (item := q.get()) is not None:
            with done.get_lock():
                done.value += item
            q.task_done()
        q.task_done()

    children = [start(work) for _ in range(3)]
    for _ in range(300):
        q.put(1)
    q.join()
    assert done.value == 300
    for _ in children:
        q.put(None)
    q.join()
    for child in children:
        join(child)


def test_join_of_an_idle_queue_returns(ctx):
    ctx.JoinableQueue().join()


# ---- SimpleQueue ------------------------------------------------------------------------------------------


def test_simple_queue(ctx, start):
    q = ctx.SimpleQueue()
    assert q.empty()
    child = start(lambda: [q.put(i) for i in range(100)])
    assert [q.get() for _ in range(100)] == list(range(100))
    join(child)
    q.put(bytes(50 << 20))  # one message larger than the bound may pass
    assert len(q.get()) == 50 << 20
    q.close()
    for call in [lambda: q.put(1), q.get, q.empty]:
        with pytest.raises(OSError, match="closed"):
            call()


def test_simple_queue_does_not_eat_the_memory(ctx, start):
    q = ctx.SimpleQueue()
    child = start(lambda: [q.put(bytes(100_000)) for _ in range(300)])
    assert q.get() == bytes(100_000)
    assert _core.arena_info()["bytes"] < 20 << 20
    assert all(q.get() == bytes(100_000) for _ in range(299))
    join(child)
