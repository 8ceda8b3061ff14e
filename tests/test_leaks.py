"""Each kind of object is made, used and dropped a thousand times: nothing is left of it.

Nothing: no reference to its type, no object that the garbage collector follows, no block of Python's memory,
no descriptor, and nothing in the arena. A first round warms what is made once and kept. What has processes
is made as often as its start method allows.
"""

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pickle import PickleBuffer

import pytest
from leftovers import arena, collect_garbage

import fastmp
from fastmp import _core
from fastmp.context import BaseContext
from fastmp.managers import SyncManager
from fastmp.shared_memory import ShareableList, SharedMemory

# pytest keeps the warnings of a test, which come at each fork since Python 3.12.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

TIMES = 1000
TIMES_OF_PROCESSES = {"fork": 50, "forkserver": 20, "spawn": 10}


def use_lock(make: Callable[[], fastmp.synchronize.Lock]) -> None:
    lock = make()
    with lock:
        assert not lock.acquire(False)


def use_rlock() -> None:
    lock = fastmp.RLock()
    with lock, lock:
        pass


def use_semaphore() -> None:
    for make in (fastmp.Semaphore, fastmp.BoundedSemaphore):
        semaphore = make(2)
        with semaphore:
            assert semaphore.get_value() == 1


def use_condition() -> None:
    condition = fastmp.Condition()
    with condition:
        assert not condition.wait(0)
        condition.notify_all()


def use_event() -> None:
    event = fastmp.Event()
    assert not event.wait(0)
    event.set()
    assert event.wait(0)


def use_barrier() -> None:
    barrier = fastmp.Barrier(1, action=list)
    assert barrier.wait() == 0
    barrier.abort()
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()


def use_queue() -> None:
    for queue in (fastmp.Queue(), fastmp.JoinableQueue(2), fastmp.SimpleQueue()):
        queue.put(["item", b"x" * 5000])
        assert queue.get()[0] == "item"
        queue.put(None)  # is dropped with the queue
        queue.close()


def use_pipe() -> None:
    for duplex in (True, False):
        reader, writer = fastmp.Pipe(duplex)
        with reader, writer:
            writer.send({"item": 1})
            assert reader.recv() == {"item": 1}
            writer.send(None)


def use_value() -> None:
    value = fastmp.Value("i", 3)
    with value.get_lock():
        value.value += 1
    array = fastmp.Array("d", [1, 2, 3])
    array[1:] = [4, 5]
    assert array[:] == [1, 4, 5]
    assert fastmp.RawValue("i").value == 0
    assert len(fastmp.RawArray("b", 10)) == 10


def use_errors() -> None:
    for wrong in (
        lambda: fastmp.Semaphore(-1),
        lambda: fastmp.Lock().release(),
        lambda: fastmp.Queue().get(False),
        lambda: fastmp.Queue().put(lambda: None),
        lambda: fastmp.Array("no such type", 3),
        lambda: fastmp.Barrier(0),
    ):
        with pytest.raises(Exception):  # noqa: B017  # of which kind each is, other tests say
            wrong()


def use_zero_copy() -> None:
    for make in (fastmp.Queue, fastmp.JoinableQueue, fastmp.SimpleQueue):
        queue = make(zero_copy=True)
        queue.put(PickleBuffer(bytes(100_000)))
        queue.put(PickleBuffer(bytes(100_000)))  # is dropped with the queue
        view = memoryview(queue.get())
        queue.close()
        assert view[1:].nbytes == 99_999


def use_shared_memory() -> None:
    memory = SharedMemory(create=True, size=5000)
    other = SharedMemory(memory.name)
    memory.buf[:3] = b"abc"
    assert bytes(other.buf[:3]) == b"abc"
    other.close()
    memory.close()
    memory.unlink()


def use_shareable_list() -> None:
    items = ShareableList([1, "two", b"three", None])
    other = ShareableList(name=items.shm.name)
    other[0] = 4
    assert list(items) == [4, "two", b"three", None]
    other.shm.close()
    items.shm.close()
    items.shm.unlink()


USES: dict[str, Callable[[], None]] = {
    "Lock": lambda: use_lock(fastmp.Lock),
    "RLock": use_rlock,
    "Semaphore": use_semaphore,
    "Condition": use_condition,
    "Event": use_event,
    "Barrier": use_barrier,
    "Queue": use_queue,
    "Pipe": use_pipe,
    "Value": use_value,
    "errors": use_errors,
    "zero_copy": use_zero_copy,
    "SharedMemory": use_shared_memory,
    "ShareableList": use_shareable_list,
}


# ---- what has processes ------------------------------------------------------------------------------


def nothing(*args: object) -> None:
    pass


def use_process(ctx: BaseContext) -> None:
    given = ctx.Lock(), ctx.Queue(), ctx.Pipe(), ctx.Value("i")
    ended = ctx.Process(target=len, args=(given,))  # no function of this module, whose import takes long
    killed = ctx.Process(target=ctx.Event().wait)
    for child in (ended, killed):
        child.start()
    killed.kill()
    for child in (ended, killed):
        child.join()
    assert (ended.exitcode, killed.exitcode) == (0, -signal.SIGKILL)
    for child in (ended, killed):
        child.close()


def use_pool(ctx: BaseContext) -> None:
    with ctx.Pool(1) as pool:
        assert pool.map(abs, [-1, -2], chunksize=1) == [1, 2]
        assert pool.apply_async(abs, (-3,), callback=nothing).get() == 3
        assert list(pool.imap(abs, iter([-4]))) == [4]
        with pytest.raises(ValueError):
            pool.apply(int, ("no number",))
    pool.join()


def use_manager(ctx: BaseContext) -> None:
    with ctx.Manager() as manager:
        use_proxies(manager)
        manager.list([1])  # goes with its manager


def use_proxies(manager: SyncManager) -> None:
    items, table = manager.list([1]), manager.dict(a=1)
    items.append(table)
    assert items[1]["a"] == 1
    with manager.Lock(), manager.RLock(), manager.Condition(), manager.Semaphore(1):
        pass
    queue, event = manager.Queue(), manager.Event()
    queue.put(event)
    assert not queue.get().is_set()
    value, names = manager.Value("i", 3), manager.Namespace(x=1)
    assert (value.value, names.x) == (3, 1)
    with pytest.raises(KeyError):
        table["b"]


def use_executor(ctx: BaseContext) -> None:
    with ProcessPoolExecutor(1, mp_context=ctx) as executor:
        assert list(executor.map(abs, [-1, -2])) == [1, 2]
        with pytest.raises(ValueError):
            executor.submit(int, "no number").result()


def use_standby(ctx: BaseContext) -> None:
    ctx.set_standby(1)
    use_process(ctx)
    ctx.set_standby(0)


USES_OF_PROCESSES: dict[str, Callable[[BaseContext], None]] = {
    "Process": use_process,
    "Pool": use_pool,
    "Manager": use_manager,
}


# ---- what is left ------------------------------------------------------------------------------------


def figures() -> dict[str, int]:
    collect_garbage()
    types = [kind for kind in vars(_core).values() if isinstance(kind, type)]
    return (
        {f"references to {kind.__name__}": sys.getrefcount(kind) for kind in types}
        | {f"{what} of the arena": many for what, many in arena().items() if what != "bytes"}
        | (
            {"references": sys.gettotalrefcount()} if hasattr(sys, "gettotalrefcount") else {}
        )  # a debug build
        | {
            "objects": len(gc.get_objects()),
            "blocks of memory": sys.getallocatedblocks(),
            "descriptors": len(os.listdir("/proc/self/fd")),
        }
    )


def check(use: Callable[[], None], times: int = TIMES) -> None:
    few = max(3, times // 10)  # what a leak is not: what other threads hold at the moment, a table that grew
    for _ in range(few):
        use()
    before = figures()
    before = figures()  # now with figures in memory, as then
    for _ in range(times):
        use()
    after = figures()
    left = {what: after[what] - before[what] for what in before if after[what] - before[what] > few}
    assert not left


@pytest.mark.parametrize("name", USES)
def test_nothing_is_left(name: str) -> None:
    check(USES[name])


@pytest.mark.parametrize("name", USES_OF_PROCESSES)
def test_nothing_is_left_of_processes(name: str, ctx: BaseContext, start_method: str) -> None:
    check(lambda: USES_OF_PROCESSES[name](ctx), TIMES_OF_PROCESSES[start_method])


def test_nothing_is_left_of_executors(ctx: BaseContext, start_method: str) -> None:
    check(lambda: use_executor(ctx), TIMES_OF_PROCESSES[start_method])


@pytest.mark.start_methods("forkserver", "spawn")
def test_nothing_is_left_of_processes_started_ahead(ctx: BaseContext, start_method: str) -> None:
    check(lambda: use_standby(ctx), TIMES_OF_PROCESSES[start_method])


def test_nothing_is_left_of_proxies(ctx: BaseContext) -> None:
    """Neither here nor in the manager."""
    with ctx.Manager() as manager:
        before = manager._number_of_objects()
        check(lambda: use_proxies(manager), TIMES // 5)
        assert manager._number_of_objects() == before


def test_a_leak_is_found() -> None:
    kept: list[object] = []
    with pytest.raises(AssertionError, match="objects of the arena"):
        check(lambda: kept.append(fastmp.Event()))
