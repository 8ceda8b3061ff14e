"""What a benchmark is: a function that does one thing `count` times and returns the seconds it took.

It gets a context of the module to measure, so all peers run the same program:

    @row("Pipe round trip", count=4000)
    def round_trip(mp, count): ...

The name is that of the table's row, and the table shows microseconds for one of the `count` things.
Setting up and warming up are not in the time. The start method is fork if the row does not name another. A file bench_<noun>.py holds the rows of one noun;
compare.py collects them from all such files.
"""

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Program = Callable[[Any, int], float]


@dataclass(frozen=True)
class Row:
    name: str
    count: int
    program: Program
    method: str


ROWS: dict[str, Row] = {}


def row(name: str, count: int, method: str = "fork") -> Callable[[Program], Program]:
    def add(program: Program) -> Program:
        ROWS[name] = Row(name, count, program, method)
        return program

    return add


def load_rows() -> dict[str, Row]:
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        importlib.import_module(path.stem)
    return ROWS


def seconds(repeat: Callable[[int], None], count: int) -> float:
    """The time that `repeat(count)` takes, after a tenth of it to warm up."""
    repeat(max(1, count // 10))
    start = time.perf_counter()
    repeat(count)
    return time.perf_counter() - start


@contextmanager
def child(mp: Any, target: Callable[..., None], *args: Any) -> Iterator[None]:
    """A process beside the measured one, which has to end by itself soon after the block."""
    process = mp.Process(target=target, args=args, daemon=True)
    process.start()
    yield
    process.join(30)
    if process.exitcode != 0:
        raise RuntimeError(f"{process} did not end as it should")
