"""Pool of two: one call at a time, and a map whose tasks are sent one by one."""

from typing import Any

from rows import row, seconds

WORKERS = 2


def increment(number: int) -> int:
    return number + 1


@row("Pool.apply", count=1500)
def apply(mp: Any, count: int) -> float:
    with mp.Pool(WORKERS) as pool:

        def repeat(count: int) -> None:
            for number in range(count):
                pool.apply(increment, (number,))

        return seconds(repeat, count)


@row("Pool.map, chunksize=1, a task", count=5000)
def map_one_by_one(mp: Any, count: int) -> float:
    with mp.Pool(WORKERS) as pool:

        def repeat(count: int) -> None:
            pool.map(increment, range(count), chunksize=1)

        return seconds(repeat, count)
