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


row("Process start + join, fork", count=100, aim=2, limit="fork, _exit, waitpid")(start_and_join)
row("Process start + join, forkserver", count=50, aim=4, limit="fork, _exit, waitpid", method="forkserver")(
    start_and_join
)
row("Process start + join, spawn", count=10, aim=1.2, limit="python -c pass", method="spawn")(start_and_join)
