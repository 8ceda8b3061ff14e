"""Process: started and joined."""

import time
from typing import Any

from rows import Program, in_parts, row, seconds

nothing = int  # to import a function that does nothing would take longer than some starts


def repeat(mp: Any, count: int) -> None:
    for _ in range(count):
        process = mp.Process(target=nothing)
        process.start()
        process.join()


def start_and_join(mp: Any, count: int) -> float:
    return seconds(lambda count: repeat(mp, count), count)


def start_ahead_and_join(mp: Any, count: int) -> float:
    """The same with processes that were started ahead, where the module has them."""
    set_standby = getattr(mp, "set_standby", lambda n, wait: None)

    def part(count: int) -> float:
        set_standby(2 * count + 2, wait=True)  # more than twice as many: they are not replaced meanwhile
        start = time.perf_counter()
        repeat(mp, count)
        return time.perf_counter() - start

    part(1)
    took = in_parts(part, count)
    set_standby(0, wait=True)
    return took


def add(name: str, program: Program, count: int, limit: str, **options: Any) -> None:
    row(f"Process start + join, {name}", count=count, limit=limit, **options)(program)


FORK, BEGIN = "fork, _exit, waitpid", "python -c pass"
add("fork", start_and_join, 100, FORK, method="fork", aim=2)
add("forkserver", start_and_join, 50, FORK, method="forkserver", aim=4)
add("spawn", start_and_join, 10, BEGIN, method="spawn", aim=1.2)
add("forkserver, standby", start_ahead_and_join, 50, FORK, method="forkserver", aim=10)
add("spawn, standby", start_ahead_and_join, 20, BEGIN, method="spawn", aim=10)
# The same with a main module that imports something, as most do. Nobody has set an aim for that.
IMPORTS = "figure_with_imports.py"
add("fork, imports", start_and_join, 100, FORK, method="fork", main=IMPORTS)
add("forkserver, imports", start_and_join, 50, FORK, method="forkserver", main=IMPORTS)
add("spawn, imports", start_and_join, 10, BEGIN, method="spawn", main=IMPORTS)
