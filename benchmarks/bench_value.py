"""Value and Array: read and written by one process."""

from typing import Any

from rows import row, seconds

ITEMS = 1000


@row("Value get + set", count=200_000, aim=3, limit="array.array get + set")
def get_and_set(mp: Any, count: int) -> float:
    value = mp.Value("i", 0)

    def repeat(count: int) -> None:
        for _ in range(count):
            value.value = value.value

    return seconds(repeat, count)


@row("Value += 1 under get_lock()", count=100_000, aim=3, limit="array.array += 1, threading.Lock")
def increment(mp: Any, count: int) -> float:
    value = mp.Value("i", 0)

    def repeat(count: int) -> None:
        for _ in range(count):
            with value.get_lock():
                value.value += 1

    return seconds(repeat, count)


@row("Array item get + set", count=100_000, aim=8, limit="array.array get + set")
def item(mp: Any, count: int) -> float:
    numbers = mp.Array("i", ITEMS)

    def repeat(count: int) -> None:
        for _ in range(count):
            numbers[7] = numbers[7]

    return seconds(repeat, count)


@row("Array slice of 1000", count=20_000, aim=1.2, limit="array.array slice of 1000")
def slice_of_1000(mp: Any, count: int) -> float:
    numbers = mp.Array("d", ITEMS)

    def repeat(count: int) -> None:
        for _ in range(count):
            numbers[:]

    return seconds(repeat, count)


@row("Array, negate 1000 items", count=100, aim=8, limit="array.array, negate 1000 items")
def negate(mp: Any, count: int) -> float:
    numbers = mp.Array("i", ITEMS)

    def repeat(count: int) -> None:
        for _ in range(count):
            for index in range(len(numbers)):
                numbers[index] = -numbers[index]

    return seconds(repeat, count)
