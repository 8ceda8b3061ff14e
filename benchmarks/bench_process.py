"""Process: started and joined, its target doing nothing."""

from typing import Any

from rows import row, seconds


def nothing() -> None:
    pass


@row("Process start + join", count=100)
def start_and_join(mp: Any, count: int) -> float:
    def repeat(count: int) -> None:
        for _ in range(count):
            process = mp.Process(target=nothing)
            process.start()
            process.join()

    return seconds(repeat, count)
