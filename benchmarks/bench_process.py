"""Process: started and joined, its target doing nothing."""

from typing import Any

from rows import row, seconds


def nothing() -> None:
    pass


def start_and_join(mp: Any, count: int) -> float:
    def repeat(count: int) -> None:
        for _ in range(count):
            process = mp.Process(target=nothing)
            process.start()
            process.join()

    return seconds(repeat, count)


row("Process start + join", count=100)(start_and_join)
row("Process start + join, forkserver", count=50, method="forkserver")(start_and_join)
row("Process start + join, spawn", count=10, method="spawn")(start_and_join)
