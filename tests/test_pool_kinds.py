"""Pools of other kinds: of threads, and over queues that a subclass brings."""

import operator
import os
import signal
import threading

import pytest
from waiting import DEADLINE, wait_until

from fastmp.pool import Pool, ThreadPool, WorkerDied


def square(x):
    return x * x


# ---- threads -------------------------------------------------------------------------------------------


@pytest.fixture
def threads():
    before = set(threading.enumerate())
    pool = ThreadPool(3)
    yield pool
    pool.terminate()
    wait_until(lambda: not set(threading.enumerate()) - before)


def test_calls_of_a_thread_pool(threads):
    assert threads.apply(square, (3,)) == 9
    assert threads.map(square, range(100)) == [x * x for x in range(100)]
    assert threads.starmap(operator.add, [(1, 2), (3, 4)]) == [3, 7]
    assert list(threads.imap(square, iter(range(50)))) == [x * x for x in range(50)]
    assert sorted(threads.imap_unordered(square, range(50), 7)) == [x * x for x in range(50)]
    assert threads.apply_async(square, (4,)).get(DEADLINE) == 16
    assert repr(threads) == "<fastmp.pool.ThreadPool state=RUN pool_size=3>"


def test_threads_are_of_this_process_and_pickle_nothing(threads):
    thing = threading.Lock()
    assert threads.apply(lambda x: (os.getpid(), x), (thing,)) == (os.getpid(), thing)
    names = set(threads.map(lambda _: threading.current_thread().name, range(50), 1))
    assert threading.current_thread().name not in names


def test_an_exception_of_a_thread_is_the_very_object(threads):
    error = KeyError("this one")

    def fail():
        raise error

    with pytest.raises(KeyError) as caught:
        threads.apply(fail)
    assert caught.value is error
    assert threads.apply(square, (2,)) == 4


def test_threads_work_at_the_same_time(threads):
    barrier = threading.Barrier(3)
    assert sorted(threads.map(lambda _: barrier.wait(DEADLINE), range(3), 1)) == [0, 1, 2]


def test_callbacks(threads):
    seen, done = [], threading.Event()
    threads.apply_async(square, (5,), callback=lambda x: (seen.append(x), done.set()))
    assert done.wait(DEADLINE)
    done.clear()
    threads.apply_async(square, ("a",), error_callback=lambda e: (seen.append(type(e)), done.set()))
    assert done.wait(DEADLINE)
    assert seen == [25, TypeError]


def test_close_finishes_the_work(threads):
    results = [threads.apply_async(square, (i,)) for i in range(200)]
    threads.close()
    threads.join()
    assert [r.get(0) for r in results] == [i * i for i in range(200)]
    with pytest.raises(ValueError, match="Pool not running"):
        threads.apply(square, (1,))


def test_terminate_does_not_wait_for_a_task(threads):
    held = threading.Event()
    result = threads.apply_async(held.wait, (DEADLINE,))
    threads.terminate()
    threads.join()
    held.set()
    with pytest.raises(Exception, match="terminated"):
        result.get(DEADLINE)


def test_initializer_of_a_thread_pool():
    local = threading.local()
    with ThreadPool(2, lambda x: setattr(local, "x", x), (7,)) as pool:
        assert pool.map(lambda _: local.x, range(4)) == [7] * 4
    with ThreadPool(2, square, ("no",)) as pool, pytest.raises(TypeError):
        pool.apply(square, (1,))


# ---- queues of a subclass --------------------------------------------------------------------------------


class LockedPipe:
    """A queue like those that libraries give to their pools."""

    def __init__(self, ctx):
        self._reader, self._writer = ctx.Pipe(duplex=False)
        self._rlock, self._wlock = ctx.Lock(), ctx.Lock()

    def get(self):
        with self._rlock:
            return self._reader.recv()

    def put(self, obj):
        with self._wlock:
            self._writer.send(obj)


class ClassicPool(Pool):
    def _setup_queues(self):
        self._inqueue, self._outqueue = LockedPipe(self._ctx), LockedPipe(self._ctx)
        self._quick_put = self._inqueue._writer.send
        self._quick_get = self._outqueue._reader.recv


@pytest.fixture
def classic(ctx):
    pool = ClassicPool(2, context=ctx)
    yield pool
    pool.terminate()
    pool.join()


def test_calls_of_a_classic_pool(classic):
    assert classic.apply(square, (3,)) == 9
    assert classic.map(square, range(300), 1) == [x * x for x in range(300)]
    assert list(classic.imap(square, iter(range(50)))) == [x * x for x in range(50)]
    with pytest.raises(TypeError) as caught:
        classic.apply(square, ("a",))
    assert "square" in str(caught.value.__cause__)


def test_close_of_a_classic_pool(classic):
    results = [classic.apply_async(square, (i,)) for i in range(50)]
    classic.close()
    classic.join()
    assert [r.get(0) for r in results] == [i * i for i in range(50)]


def kill_self(x):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_dead_worker_of_a_classic_pool_fails_its_task_alone(classic):
    before = {w.pid for w in classic._pool}
    with pytest.raises(WorkerDied, match="SIGKILL"):
        classic.apply(kill_self, (1,))
    assert classic.map(square, range(20), 1) == [x * x for x in range(20)]
    assert len({w.pid for w in classic._pool} & before) == 1


def test_large_tasks_and_results_of_a_classic_pool(classic):
    data = bytes(1 << 20)
    assert classic.map(len, [data] * 8, 1) == [1 << 20] * 8
    assert [len(x) for x in classic.map(bytes, [1 << 20] * 8, 1)] == [1 << 20] * 8


# ---- the pools' own threads --------------------------------------------------------------------------------


@pytest.fixture
def own():
    """Threads that the test's pools have started and that live."""
    before = set(threading.enumerate())
    return lambda: [thread for thread in threading.enumerate() if thread not in before]


@pytest.mark.parametrize("verb", ["close", "terminate"])
def test_no_thread_outlives_join(own, verb):
    for _ in range(20):
        pool = ThreadPool(3)
        pool.map(square, range(10), 1)
        list(pool.imap(square, iter(range(10))))
        getattr(pool, verb)()
        pool.join()
        assert not own()


def test_workers_that_are_done_soon_are_joined(own):
    gate = threading.Event()
    begun = threading.Barrier(4)

    def work(_):
        begun.wait(DEADLINE)
        gate.wait(DEADLINE)

    pool = ThreadPool(3)
    result = pool.map_async(work, range(100), 1)
    begun.wait(DEADLINE)
    pool.terminate()
    gate.set()
    pool.join()
    wait_until(lambda: not own())
    assert result.ready()


def test_tasks_and_initializers_keep_join_waiting_only_for_a_moment(own):
    gate = threading.Event()
    begun = threading.Barrier(2)

    def wait():
        begun.wait(DEADLINE)
        gate.wait()

    for initializer in (wait, None):
        pool = ThreadPool(1, initializer)
        pool.apply_async(wait)
        begun.wait(DEADLINE)
        pool.terminate()
        pool.join()
        assert len(own()) == 1
        gate.set()
        wait_until(lambda: not own())
        gate.clear()


@pytest.mark.parametrize("verb", ["close", "terminate"])
@pytest.mark.start_methods("fork")
def test_the_receiver_of_a_classic_pool_ends_with_it(own, ctx, verb):
    pool = ClassicPool(2, context=ctx)
    assert pool.map(square, range(10), 1) == [x * x for x in range(10)]
    getattr(pool, verb)()
    pool.join()
    assert not own()
