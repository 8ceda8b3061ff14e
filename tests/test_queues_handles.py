"""Queues: messages that carry locks, queues and other handles."""

import gc
import os
import queue
import signal

import pytest
from waiting import DEADLINE, join

import fastmp
from fastmp import _core, resource_sharer


def objects():
    gc.collect()
    return _core.arena_info()["objects"]


HANDLES = {
    "Lock": lambda ctx: ctx.Lock(),
    "RLock": lambda ctx: ctx.RLock(),
    "Semaphore": lambda ctx: ctx.Semaphore(3),
    "BoundedSemaphore": lambda ctx: ctx.BoundedSemaphore(3),
    "Condition": lambda ctx: ctx.Condition(),
    "Event": lambda ctx: ctx.Event(),
    "Barrier": lambda ctx: ctx.Barrier(2),
    "Value": lambda ctx: ctx.Value("i", 5),
    "Array": lambda ctx: ctx.Array("d", [1.0, 2.0]),
    "RawArray": lambda ctx: ctx.RawArray("d", [1.0, 2.0]),
    "Queue": lambda ctx: ctx.Queue(3),
    "JoinableQueue": lambda ctx: ctx.JoinableQueue(),
    "SimpleQueue": lambda ctx: ctx.SimpleQueue(),
}


@pytest.mark.parametrize("name", HANDLES)
def test_handles_travel(any_q, ctx, name):
    before = objects()
    thing = HANDLES[name](ctx)
    kind, count = type(thing), objects()
    assert count > before
    any_q.put([thing, thing])
    del thing
    assert objects() == count  # held by the message
    first, second = any_q.get()
    assert type(first) is kind
    assert first is second
    assert objects() == count  # held by those who received it
    del first, second
    assert objects() == before


@pytest.mark.parametrize("name", HANDLES)
def test_a_queue_that_is_dropped_unread_drops_what_it_carries(ctx, name):
    before = objects()
    q = ctx.Queue()
    q.put((HANDLES[name](ctx), bytes(10)))
    q.put((bytes(1000), HANDLES[name](ctx)))
    assert objects() > before + 2
    del q
    assert objects() == before


def test_the_same_lock_at_the_other_end(any_q, ctx):
    lock = ctx.Lock()
    any_q.put(lock)
    copy = any_q.get()
    assert lock.acquire()
    assert not copy.acquire(timeout=0)
    copy.release()
    assert lock.acquire(timeout=0)


def test_the_same_values_at_the_other_end(any_q, ctx):
    number, numbers = ctx.Value("i", 5), ctx.Array("d", 3)
    any_q.put((number, numbers))
    same_number, same_numbers = any_q.get()
    same_number.value += 1
    same_numbers[:] = [1, 2, 3]
    assert number.value == 6
    assert numbers[:] == [1, 2, 3]


def test_queues_in_queues_in_queues(ctx):
    before = objects()
    outer, item = ctx.Queue(), "core"
    for _ in range(5):
        inner = ctx.Queue()
        inner.put(item)
        item = inner
    outer.put(item)
    del inner, item
    received = outer.get()
    for _ in range(5):
        received = received.get()
    assert received == "core"
    del outer
    assert objects() == before


def test_what_cannot_be_sent_drops_what_it_would_carry(ctx):
    before = objects()
    q, bounded = ctx.Queue(), ctx.Queue(1)
    with pytest.raises(Exception, match=r"pickle|local"):
        q.put((ctx.Lock(), lambda: None))
    bounded.put(0)
    with pytest.raises(queue.Full):
        bounded.put(ctx.Lock(), timeout=0)
    del q, bounded
    assert objects() == before


def refuse_to_unpickle(*_):
    raise ArithmeticError


class Unreadable:
    def __init__(self, thing):
        self.thing = thing

    def __reduce__(self):
        return refuse_to_unpickle, (self.thing,)


def test_what_cannot_be_read_is_dropped(ctx):
    before = objects()
    q = ctx.Queue()
    q.put(Unreadable(ctx.Lock()))
    with pytest.raises(ArithmeticError):
        q.get()
    del q
    assert objects() == before


class PutsWhenPickled:
    def __init__(self, q, item):
        self.q, self.item = q, item

    def __reduce__(self):
        self.q.put(self.item)
        return type(self), (self.q, None)


def test_a_put_while_another_message_is_pickled(ctx):
    before = objects()
    q, inner, lock, event = ctx.Queue(), ctx.Queue(), ctx.Lock(), ctx.Event()
    q.put((lock, PutsWhenPickled(inner, event), lock))
    assert objects() == before + 4
    got = q.get()
    assert got[0] is got[2]
    assert isinstance(inner.get(), type(event))
    del q, inner, lock, event, got
    assert objects() == before


def answer(requests):
    for answers in iter(requests.get, None):
        answers.put((os.getpid(), answers))


def test_answers_through_a_queue_that_was_sent(ctx, start):
    before = objects()
    requests = ctx.Queue()
    child = start(answer, requests)
    for _ in range(3):
        answers = ctx.SimpleQueue()
        requests.put(answers)
        pid, same = answers.get()
        assert pid == child.pid
        same.put("again")
        assert answers.get() == "again"
    requests.put(None)
    join(child)
    del requests, answers, same, child
    assert objects() <= before + 1  # the test's fixtures keep the last child


def send_and_die(q, kind):
    made = fastmp.Queue()
    made.put("from the dead")
    made.put(fastmp.Lock())
    q.put(made)
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("kind", ["ended", "killed"])
def test_what_was_sent_outlives_its_sender(ctx, start, kind):
    before = objects()
    q = ctx.Queue()
    join(start(send_and_die, q, kind), -signal.SIGKILL if kind == "killed" else 0)
    received = q.get()
    assert received.get() == "from the dead"
    assert received.get().acquire()
    del q, received
    assert objects() <= before + 1


def receive_and_die(q, ready):
    received = q.get()
    ready.set()
    received.get()


def test_a_receiver_that_is_killed_lets_go(ctx, start):
    q, ready = ctx.Queue(), ctx.Event()
    before = objects()
    child = start(receive_and_die, q, ready)
    q.put(ctx.Queue())
    assert ready.wait(DEADLINE)
    child.kill()
    child.join(DEADLINE)
    assert objects() <= before


def acquire_of(lock, block):
    return lock.acquire(block), lock


def test_tasks_and_results_of_a_pool_carry_handles(ctx, finish):
    before = objects()
    with ctx.Pool(2) as pool:
        lock = ctx.Lock()
        taken, same = pool.apply(acquire_of, (lock, True))
        assert taken
        assert not lock.acquire(timeout=0)
        same.release()
        assert pool.map(type, [lock, ctx.Queue(), same]) == [type(lock), type(ctx.Queue()), type(lock)]
        q = pool.apply(fastmp.Queue)
        q.put(1)
        assert q.get() == 1
        pool.close()
        pool.join()
    del pool, lock, same, q
    assert objects() <= before


def test_pipe_ends_travel(any_q, ctx):
    here, there = ctx.Pipe()
    try:
        any_q.put(there)
        there.close()
        with any_q.get() as there:
            here.send("hello")
            assert there.recv() == "hello"
    finally:
        here.close()
        resource_sharer.stop(timeout=DEADLINE)
