"""One process: its pickles, arrays, and locks between threads."""

import array
import pickle
import threading
from collections.abc import Callable
from typing import Any

from rows import seconds, timed

from limits import limit

ITEM = (42, "item")


@limit("pickle of a small tuple", count=200_000)
def pickling(count: int) -> float:
    def repeat(count: int) -> None:
        for _ in range(count):
            pickle.loads(pickle.dumps(ITEM, pickle.HIGHEST_PROTOCOL))

    return seconds(repeat, count)


def with_thread_lock(make: Callable[[], Any], count: int) -> float:
    lock = make()

    def repeat(count: int) -> None:
        for _ in range(count):
            with lock:
                pass

    return seconds(repeat, count)


limit("threading.Lock", count=500_000)(lambda count: with_thread_lock(threading.Lock, count))
limit("threading.RLock", count=500_000)(lambda count: with_thread_lock(threading.RLock, count))


def with_thread_calls(make: Callable[[], Any], count: int) -> float:
    lock = make()

    def repeat(count: int) -> None:
        acquire, release = lock.acquire, lock.release
        for _ in range(count):
            acquire()
            release()

    return seconds(repeat, count)


limit("threading.Lock acquire + release", count=500_000)(
    lambda count: with_thread_calls(threading.Lock, count)
)
limit("threading.RLock acquire + release", count=500_000)(
    lambda count: with_thread_calls(threading.RLock, count)
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
