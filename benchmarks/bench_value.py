"""Value: read and written by one process."""

from typing import Any

from rows import row, seconds


@row("Value get + set", count=200_000)
def get_and_set(mp: Any, count: int) -> float:
    value = mp.Value("i", 0)

    def repeat(count: int) -> None:
        for _ in range(count):
            value.value = value.value

    return seconds(repeat, count)
