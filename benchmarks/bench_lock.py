"""Lock: taken and released while nobody else wants it."""

from typing import Any

from rows import row, seconds


@row("with Lock()", count=300_000)
def with_lock(mp: Any, count: int) -> float:
    lock = mp.Lock()

    def repeat(count: int) -> None:
        for _ in range(count):
            with lock:
                pass

    return seconds(repeat, count)
