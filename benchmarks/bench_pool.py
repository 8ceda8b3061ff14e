"""Pool of two: every way to give it tasks, and a pool of four from its start to its end."""

from collections import deque
from typing import Any

from rows import row, seconds

WORKERS = 2
MEBIBYTE = bytes(1 << 20)


def increment(number: int) -> int:
    return number + 1


def add(left: int, right: int) -> int:
    return left + right


def make_mebibyte(number: int) -> bytes:
    return MEBIBYTE


def exhaust(iterator: Any) -> None:
    deque(iterator, maxlen=0)


@row("Pool(4) create, use, destroy", count=10, aim=2, limit="4 times fork, _exit, waitpid", needs="Pool.map")
def whole_life(mp: Any, count: int) -> float:
    def repeat(count: int) -> None:
        for _ in range(count):
            with mp.Pool(4) as pool:
                pool.map(increment, range(4), chunksize=1)

    return seconds(repeat, count)


@row("Pool.apply", count=1500, aim=40, limit="flag ping-pong", needs="Pool.apply")
def apply(mp: Any, count: int) -> float:
    with mp.Pool(WORKERS) as pool:

        def repeat(count: int) -> None:
            for number in range(count):
                pool.apply(increment, (number,))

        return seconds(repeat, count)


@row("Pool.apply_async, a burst", count=5000, aim=8, limit="pickle of a small tuple", needs="Pool.apply")
def burst(mp: Any, count: int) -> float:
    with mp.Pool(WORKERS) as pool:

        def repeat(count: int) -> None:
            for result in [pool.apply_async(increment, (number,)) for number in range(count)]:
                result.get()

        return seconds(repeat, count)


@row("Pool.map, chunksize=1", count=5000, aim=8, limit="pickle of a small tuple", needs="Pool.map")
def map_one_by_one(mp: Any, count: int) -> float:
    with mp.Pool(WORKERS) as pool:
        return seconds(lambda count: pool.map(increment, range(count), chunksize=1), count)


@row("Pool.imap", count=5000, aim=10, limit="pickle of a small tuple", needs="Pool.imap")
def imap(mp: Any, count: int) -> float:
    with mp.Pool(WORKERS) as pool:
        return seconds(lambda count: exhaust(pool.imap(increment, range(count))), count)


@row("Pool.imap_unordered", count=5000, aim=10, limit="pickle of a small tuple", needs="Pool.imap")
def imap_unordered(mp: Any, count: int) -> float:
    with mp.Pool(WORKERS) as pool:
        return seconds(lambda count: exhaust(pool.imap_unordered(increment, range(count))), count)


@row("Pool.map of trivial tasks", count=500_000, aim=1.2, limit="a call", needs="Pool.map")
def map_in_chunks(mp: Any, count: int) -> float:
    with mp.Pool(WORKERS) as pool:
        return seconds(lambda count: pool.map(increment, range(count)), count)


@row("Pool.starmap of trivial tasks", count=200_000, aim=1.2, limit="a call", needs="Pool.starmap")
def starmap(mp: Any, count: int) -> float:
    with mp.Pool(WORKERS) as pool:
        return seconds(lambda count: pool.starmap(add, zip(range(count), range(count), strict=True)), count)


@row("Pool.map with results of 1 MiB", count=100, aim=3, limit="memcpy of 1 MiB", needs="Pool.map")
def map_with_large_results(mp: Any, count: int) -> float:
    with mp.Pool(WORKERS) as pool:
        return seconds(lambda count: pool.map(make_mebibyte, range(count), chunksize=1), count)
