"""A process is killed in front of each store that src/binding makes into the arena: python stepped.py TRACE

It runs on a core whose stores can be counted (tests/c/steps.c). A scenario is run once for each store that
its victim makes there: in run n the victim dies at the n-th. A scenario is a generator: it sets up
something shared, yields a function that lets a victim live until it dies at that store (true if it came to
its end before), and then checks what was left. After that the arena must hold what it held before. The
addresses of all stores that victims came to are written to the file TRACE.
"""

from __future__ import annotations

import array as arrays
import contextlib
import ctypes
import functools
import gc
import os
import pickle
import queue
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Generator
from typing import Any

import fastmp
from fastmp import _core
from fastmp.pool import WorkerDied

DEADLINE = 60  # seconds, for anything that should come at once
STORES_MOST = 500  # of a victim: more than any makes

steps = ctypes.PyDLL(_core.__file__)
ctx = fastmp.get_context("fork")

Play = Generator[Callable[[int], bool], None, None]
Scenario = Callable[[], Play]
SCENARIOS: list[Scenario] = []


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


def arm(at: int) -> int:
    """This process dies at its store number `at`, 0 for never: what was so before."""
    return int(steps.step_arm(at))


def figures() -> dict[str, int]:
    gc.collect()
    return _core.arena_info()


def await_figures(wanted: dict[str, int]) -> None:
    """Who was killed is found dead, and all is as it was."""
    end = time.monotonic() + DEADLINE
    while figures() != wanted:
        assert time.monotonic() < end, (figures(), wanted)
        time.sleep(0.001)


def child(act: Callable[[], object]) -> Callable[[int], bool]:
    """The victim is a child that does this."""

    def live(at: int) -> bool:
        pid = os.fork()
        if pid == 0:
            signal.alarm(DEADLINE)
            try:
                arm(at)
                act()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, -signal.SIGKILL), status
        return status == 0

    return live


def run(function: Scenario) -> int:
    """How many were killed."""
    before = figures()
    for at in range(1, STORES_MOST):
        play = function()
        finished = next(play)(at)
        assert next(play, None) is None  # it checks
        del play
        await_figures(before)
        if finished:
            return at - 1
    raise AssertionError("it never ends")


# ---- what is made: nobody else knows of it yet ---------------------------------------------------------


@scenario
def objects_are_made() -> Play:
    def act() -> None:
        ctx.Lock()
        ctx.Lock(robust=True)
        ctx.RLock()
        ctx.Condition()
        ctx.Semaphore(2)
        ctx.Barrier(2)
        ctx.Queue(5)
        ctx.Queue(zero_copy=True)
        for typecode in "bBhHiIlLqQfd":
            ctx.Value(typecode, 5)
        ctx.Array("u", "12345")
        ctx.Array("c", b"12345")

    yield child(act)


# ---- locks -----------------------------------------------------------------------------------------------


def check_lock(lock: Any) -> None:
    """Whoever died with it, this process gets it and can give it back as often as it took it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert lock.acquire(timeout=DEADLINE)
    assert lock.acquire(False)
    lock.release()
    lock.release()
    try:
        lock.release()
        raise AssertionError("nobody had it any more")
    except AssertionError as error:
        assert "attempt to release" in str(error)


@scenario
def an_rlock_is_taken_again() -> Play:
    lock = ctx.RLock()

    def act() -> None:
        with lock, lock:
            pass

    yield child(act)
    check_lock(lock)


class Struck(Exception):
    pass


@scenario
def a_condition_is_waited_for() -> Play:
    lock = ctx.RLock()
    condition = ctx.Condition(lock)

    def strike(number: int, frame: object) -> None:
        if not lock._is_mine():
            raise Struck
        signal.setitimer(signal.ITIMER_REAL, 0.001)  # the wait has not begun

    def act() -> None:
        signal.signal(signal.SIGALRM, strike)
        with condition, condition:
            condition.wait(0.001)
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            with contextlib.suppress(Struck):
                condition.wait(DEADLINE)

    yield child(act)
    check_lock(condition)
    with condition:
        condition.notify_all()
        assert not condition.wait(0)


# ---- messages ----------------------------------------------------------------------------------------------

OBJECTS = [
    0,
    -1,
    1 << 62,
    1 << 200,
    1.5,
    None,
    True,
    "text",
    "Text with \N{GREEK SMALL LETTER ALPHA}",
    "long" * 1000,
    b"bytes",
    bytes(1000),
    (1, "two", (3.0, b"4")),
    [5, "six"],
    {"seven": 8},
    {9, 10},
    pickle.PickleBuffer(bytearray(100_000)),
]


def same(one: Any, other: Any) -> bool:
    return bytes(one) == bytes(other) if isinstance(other, pickle.PickleBuffer) else bool(one == other)


def check_came(get: Callable[[], Any], none: type[Exception]) -> None:
    """What came is whole: the first of those that were sent."""
    came = []
    with contextlib.suppress(none):
        while True:
            came.append(get())
    assert len(came) <= len(OBJECTS)
    assert all(map(same, came, OBJECTS))


@scenario
def messages_are_put() -> Play:
    q = ctx.Queue()

    def act() -> None:
        for obj in OBJECTS:
            q.put(obj)

    yield child(act)
    check_came(q.get_nowait, queue.Empty)


@scenario
def many_messages_are_put() -> Play:
    q = ctx.Queue()
    yield child(lambda: q.put_many(OBJECTS))
    check_came(q.get_nowait, queue.Empty)


@scenario
def bytes_are_put() -> Play:
    q = ctx.SimpleQueue()
    yield child(lambda: q._writer.send_bytes(bytes(1000)))
    assert q.empty() or q._reader.recv_bytes() == bytes(1000)


@scenario
def messages_are_sent() -> Play:
    reader, writer = ctx.Pipe(duplex=False)

    def act() -> None:
        for obj in OBJECTS:
            writer.send(obj)

    yield child(act)
    writer.close()
    check_came(reader.recv, EOFError)
    reader.close()


@scenario
def bytes_are_sent() -> Play:
    reader, writer = ctx.Pipe(duplex=False)
    yield child(lambda: writer.send_bytes(bytes(1000)))
    writer.close()
    with contextlib.suppress(EOFError):
        assert reader.recv_bytes() == bytes(1000)
    reader.close()


# ---- values: what is in the cells is the user's, the lock before them isn't ----------------------------


@scenario
def values_are_written() -> Play:
    value, array, letters = ctx.Value("i", 1), ctx.Array("b", 4), ctx.Array("c", 4)

    def act() -> None:
        value.value = 2
        with value.get_lock():
            value.value += 1
        array[0] = 3
        array[:] = [1, 2, 3, 4]
        array[:] = array[:]
        array[:2] = arrays.array("b", [5, 6])
        array[::2] = arrays.array("b", [7, 8])
        letters.value = b"ab"
        letters[1] = b"c"
        letters[:] = b"defg"

    yield child(act)
    for each in (value, array, letters):
        check_lock(each.get_lock())


# ---- pools -------------------------------------------------------------------------------------------------

RESULTS = [0, bytes(1000), {"seven": 8}, Struck]


def square(number: int) -> int:
    return number * number


def answer(at: int, number: int) -> Any:
    """What a worker does that dies at its store number `at`, from the first answer on."""
    if number == 0:
        arm(at)
    if RESULTS[number] is Struck:
        raise Struck
    return RESULTS[number]


@scenario
def a_worker_answers() -> Play:
    """One answer is lost at the most, the next worker gives the others."""
    with ctx.Pool(1) as pool:

        def live(at: int) -> bool:
            results = [pool.apply_async(answer, (at, number)) for number in range(len(RESULTS))]
            lost = 0
            for result, right in zip(results, RESULTS, strict=True):
                try:
                    assert result.get(DEADLINE) == right
                except Struck:
                    assert right is Struck
                except WorkerDied:
                    lost += 1
            assert lost <= 1
            arms = pool.apply_async(arm, (0,)).get(DEADLINE)
            assert (lost == 0) == (arms == at)
            return lost == 0

        yield live


@scenario
def a_pool_gives_tasks() -> Play:
    reader, writer = os.pipe()

    def act() -> None:
        at = arm(0)
        with ctx.Pool(1) as pool:
            os.write(writer, str(pool._pool[0].pid).encode())
            arm(at)
            assert pool.apply(square, (3,)) == 9
            assert pool.map(square, range(3)) == [0, 1, 4]
            assert pool.apply(len, (bytes(1000),)) == 1000
            assert list(pool.imap(functools.partial(pow, 2), range(3))) == [1, 2, 4]
            arm(0)

    yield child(act)
    worker = int(os.read(reader, 20))
    os.close(reader)
    os.close(writer)
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker, signal.SIGKILL)


def main() -> None:
    assert steps.step_begin()
    for function in SCENARIOS:
        print(f"{function.__name__}: {run(function)} killed", flush=True)
    steps.step_write(sys.argv[1].encode())


if __name__ == "__main__":
    main()
