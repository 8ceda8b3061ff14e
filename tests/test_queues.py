"""Queue, JoinableQueue and SimpleQueue on the message queue of the core."""

import asyncio
import contextlib
import gc
import os
import pickle
import queue
import select
import signal
import threading
from typing import ClassVar

import pytest

import fastmp
from fastmp import _core, resource_sharer
from fastmp.connection import wait

DEADLINE = 20
BIG = 100 << 20


def join(child, exitcode=0):
    child.join(DEADLINE)
    assert child.exitcode == exitcode


@pytest.fixture(params=["Queue", "JoinableQueue"])
def q(ctx, request):
    return getattr(ctx, request.param)()


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


class Unwilling:
    def __reduce__(self):
        return fail, ()


def fail():
    raise KeyError("not today")


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

    def handle(signum, frame):
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, handle)
    try:
        for call in [q.get, lambda: q.get(timeout=DEADLINE), lambda: full.put(2)]:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(KeyboardInterrupt):
                call()
    finally:
        signal.signal(signal.SIGALRM, old)
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


# ---- a queue among other things that are waited for -------------------------------------------------------


@pytest.fixture(params=["Queue", "JoinableQueue", "SimpleQueue"])
def any_q(ctx, request):
    return getattr(ctx, request.param)()


def is_readable(reader):
    return bool(select.select([reader], [], [], 0)[0])


def test_the_reader_is_readable_while_something_is_in_the_queue(any_q):
    reader = any_q._reader
    assert not is_readable(reader)
    any_q.put(1)
    any_q.put(2)
    for expected in (1, 2):
        assert is_readable(reader)
        assert reader.poll()
        assert reader.recv() == expected
    assert not is_readable(reader)
    assert not reader.poll(0.01)


def test_what_was_there_before_makes_it_readable(any_q):
    any_q.put(1)
    assert is_readable(any_q._reader)
    assert any_q.get() == 1
    assert not is_readable(any_q._reader)


def test_no_descriptor_until_it_is_asked_for(any_q):
    before = os.listdir("/proc/self/fd")
    any_q.put(1)
    assert any_q._reader.poll()
    any_q.get()
    assert os.listdir("/proc/self/fd") == before


def test_ends(any_q):
    assert any_q._reader == any_q._reader
    assert any_q._reader != any_q._writer
    assert len({any_q._reader, any_q._reader, any_q._writer}) == 2
    assert any_q._reader.fileno() == any_q._reader.fileno()
    any_q._writer.send((1, 2))
    any_q._writer.send_bytes(pickle.dumps("raw"))
    assert pickle.loads(any_q._reader.recv_bytes()) == (1, 2)
    assert any_q.get() == "raw"


def test_an_end_may_be_closed(any_q):
    any_q.put(1)
    reader = any_q._reader
    reader.fileno()
    reader.close()
    assert (any_q._reader.closed, any_q._writer.closed) == (True, False)
    for refused in (any_q.get, any_q.empty, reader.fileno, reader.poll, reader.recv):
        with pytest.raises(OSError, match="handle is closed"):
            refused()
    any_q.put(2)
    any_q._writer.close()
    assert any_q._writer.closed
    with pytest.raises(OSError, match="handle is closed"):
        any_q.put(3)


def test_closing_the_queue_closes_both_ends(any_q):
    any_q._reader.fileno()
    any_q.close()
    assert any_q._reader.closed
    assert any_q._writer.closed


def put_at(go, q, item):
    go.wait(DEADLINE)
    q.put(item)


def test_wait_wakes_for_children_that_started_before(ctx, any_q, start):
    go = ctx.Event()
    children = [start(put_at, go, any_q, i) for i in range(2)]
    reader = any_q._reader
    assert wait([reader], 0) == []
    go.set()
    seen = []
    for _ in children:
        assert wait([reader], DEADLINE) == [reader]
        seen.append(reader.recv())
    assert sorted(seen) == [0, 1]
    assert wait([reader], 0) == []


def test_wait_for_a_queue_and_a_sentinel(ctx, start):
    go, q = ctx.Event(), ctx.SimpleQueue()
    child = start(put_at, go, q, "last words")
    reader = q._reader
    assert wait([reader, child.sentinel], 0.01) == []
    go.set()
    seen = []
    while child.sentinel not in seen:
        ready = wait([reader, child.sentinel], DEADLINE)
        assert ready
        seen += [reader.recv() if obj is reader else obj for obj in ready]
    assert "last words" in seen


def test_epoll_stays_ready(any_q):
    with select.epoll() as poll:
        poll.register(any_q._reader, select.EPOLLIN)
        any_q.put(1)
        any_q.put(2)
        for _ in range(3):
            assert poll.poll(0) == [(any_q._reader.fileno(), select.EPOLLIN)]
        any_q.get()
        assert poll.poll(0)
        any_q.get()
        assert poll.poll(0) == []


def put_many(q, who, count):
    for i in range(count):
        q.put((who, i))


def get_with_loop(q, count):
    async def receive():
        loop, done, seen = asyncio.get_running_loop(), asyncio.Event(), []

        def on_readable():
            with contextlib.suppress(queue.Empty):
                seen.append(q.get_nowait())
            if len(seen) == count:
                done.set()

        loop.add_reader(q._reader, on_readable)
        async with asyncio.timeout(DEADLINE):
            await done.wait()
        loop.remove_reader(q._reader)
        return seen

    return asyncio.run(receive())


def test_an_event_loop_loses_nothing(ctx, start):
    q = ctx.Queue()
    for who in range(2):
        start(put_many, q, who, 1000)
    assert sorted(get_with_loop(q, 2000)) == [(who, i) for who in range(2) for i in range(1000)]


def test_another_process_may_be_quicker(ctx, start, finish):
    q = ctx.Queue()
    assert not is_readable(q._reader)
    q.put(1)
    finish(start(q.get))
    assert is_readable(q._reader)  # in vain
    with pytest.raises(queue.Empty):
        q.get_nowait()
    assert not is_readable(q._reader)
    q.put(2)
    assert is_readable(q._reader)


def listen_too(q, ready, go):
    reader = q._reader
    assert wait([reader], 0) == []
    ready.set()
    assert wait([reader], DEADLINE) == [reader]
    assert reader.recv() == "mine"
    go.set()


def test_every_process_has_a_descriptor_of_its_own(ctx, start):
    q, ready, go = ctx.SimpleQueue(), ctx.Event(), ctx.Event()
    reader = q._reader
    reader.fileno()
    start(listen_too, q, ready, go)
    assert ready.wait(DEADLINE)
    q.put("mine")
    assert go.wait(DEADLINE)
    assert not reader.poll()
    q.put("ours")
    assert wait([reader], DEADLINE) == [reader]
    assert q.get() == "ours"


def listen_and_die(q, ready):
    q._reader.fileno()
    ready.release()
    signal.pause()


def test_killed_listeners_are_forgotten():
    ctx = fastmp.get_context("fork")
    q, ready = ctx.Queue(), ctx.Semaphore(0)
    for _ in range(3):  # more than there are places
        children = [ctx.Process(target=listen_and_die, args=(q, ready)) for _ in range(12)]
        for child in children:
            child.start()
        for _ in children:
            assert ready.acquire(timeout=DEADLINE)
        q.put(1)
        for child in children:
            child.kill()
        for child in children:
            join(child, -signal.SIGKILL)
        q.put(2)
        assert (q.get(), q.get()) == (1, 2)


# ---- messages that carry handles ---------------------------------------------------------------------------


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
