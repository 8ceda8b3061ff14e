"""The limits that rows are compared with: what the machine allows, whoever does it.

A limit is a function like a row's, without a context. It is measured in the same run as the rows that
name it, in a fresh process, in turns with the peers. What Python itself cannot do fast enough is in
limits.c, compiled with `cc` when it is needed; a limit that cannot be measured is left out.
"""

import array
import ctypes
import functools
import itertools
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rows import in_parts, seconds

SOURCE = Path(__file__).with_name("limits.c")
ITEM = (42, "item")


class Limit:
    def __init__(self, program: Callable[[int], float], count: int) -> None:
        self.program = program
        self.count = count


LIMITS: dict[str, Limit] = {}


def limit(name: str, count: int) -> Callable[[Callable[[int], float]], Callable[[int], float]]:
    def add(program: Callable[[int], float]) -> Callable[[int], float]:
        LIMITS[name] = Limit(program, count)
        return program

    return add


@functools.cache
def compiled() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "limits.so"
        subprocess.run(["cc", "-std=gnu11", "-O2", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
        loaded = ctypes.CDLL(str(library))
    loaded.flag_ping_pong.restype = loaded.copy.restype = ctypes.c_double
    return loaded


def ping_pong(times: int, count: int) -> float:
    return in_parts(lambda count: float(compiled().flag_ping_pong(ctypes.c_long(times * count))), count)


def copy(size: int, count: int) -> float:
    return in_parts(lambda count: float(compiled().copy(ctypes.c_long(size), ctypes.c_long(count))), count)


limit("flag ping-pong", count=100_000)(functools.partial(ping_pong, 1))
limit("2 flag ping-pongs", count=50_000)(functools.partial(ping_pong, 2))
limit("100 flag ping-pongs", count=1000)(functools.partial(ping_pong, 100))
limit("memcpy of 1 MiB", count=500)(functools.partial(copy, 1 << 20))
limit("memcpy of 2 MiB", count=250)(functools.partial(copy, 2 << 20))
limit("memcpy of 8 MB", count=60)(functools.partial(copy, 8_000_000))


def timed(function: Callable[[], object], count: int) -> float:
    """The time of `count` calls of a function that takes so long that its call does not matter."""

    def repeat(count: int) -> None:
        for _ in itertools.repeat(None, count):
            function()

    return seconds(repeat, count)


@limit("pickle of a small tuple", count=200_000)
def pickling(count: int) -> float:
    def repeat(count: int) -> None:
        for _ in range(count):
            pickle.loads(pickle.dumps(ITEM, pickle.HIGHEST_PROTOCOL))

    return seconds(repeat, count)


def fork_and_wait() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def fork_four() -> None:
    for _ in range(4):
        fork_and_wait()


def run_python() -> None:
    os.waitpid(os.posix_spawn(sys.executable, [sys.executable, "-c", "pass"], os.environ), 0)


limit("fork, _exit, waitpid", count=100)(functools.partial(timed, fork_and_wait))
limit("4 times fork, _exit, waitpid", count=25)(functools.partial(timed, fork_four))
limit("python -c pass", count=10)(functools.partial(timed, run_python))


def with_thread_lock(make: Callable[[], Any], count: int) -> float:
    lock = make()

    def repeat(count: int) -> None:
        for _ in range(count):
            with lock:
                pass

    return seconds(repeat, count)


limit("threading.Lock", count=500_000)(functools.partial(with_thread_lock, threading.Lock))
limit("threading.RLock", count=500_000)(functools.partial(with_thread_lock, threading.RLock))


def with_thread_calls(make: Callable[[], Any], count: int) -> float:
    lock = make()

    def repeat(count: int) -> None:
        acquire, release = lock.acquire, lock.release
        for _ in range(count):
            acquire()
            release()

    return seconds(repeat, count)


limit("threading.Lock acquire + release", count=500_000)(functools.partial(with_thread_calls, threading.Lock))
limit("threading.RLock acquire + release", count=500_000)(
    functools.partial(with_thread_calls, threading.RLock)
)


@limit("threading.Event.is_set", count=500_000)
def is_set(count: int) -> float:
    event = threading.Event()

    def repeat(count: int) -> None:
        for _ in range(count):
            event.is_set()

    return seconds(repeat, count)


@limit("a call", count=1_000_000)
def call(count: int) -> float:
    def increment(number: int) -> int:
        return number + 1

    return seconds(lambda count: list(map(increment, range(count))), count)


@limit("array.array get + set", count=300_000)
def item(count: int) -> float:
    numbers = array.array("i", [0])

    def repeat(count: int) -> None:
        for _ in range(count):
            numbers[0] = numbers[0]

    return seconds(repeat, count)


@limit("array.array += 1, threading.Lock", count=300_000)
def increment(count: int) -> float:
    numbers, lock = array.array("q", [0]), threading.Lock()

    def repeat(count: int) -> None:
        for _ in range(count):
            with lock:
                numbers[0] += 1

    return seconds(repeat, count)


@limit("array.array slice of 1000", count=50_000)
def slice_of_1000(count: int) -> float:
    numbers = array.array("d", bytes(8000))
    return timed(numbers.tolist, count)


@limit("array.array, negate 1000 items", count=300)
def negate(count: int) -> float:
    numbers = array.array("i", bytes(4000))

    def repeat(count: int) -> None:
        for _ in range(count):
            for index in range(len(numbers)):
                numbers[index] = -numbers[index]

    return seconds(repeat, count)
