"""What a benchmark is: a function that does one thing `count` times and returns the seconds it took.

It gets a context of the module to measure, so all peers run the same program:

    @row("Pipe round trip, int", count=5000, aim=12, limit="flag ping-pong", needs="Pipe")
    def round_trip(mp, count): ...

The name is that of the table's row, and the table shows microseconds for one of the `count` things.
Setting up and warming up are not in the time, nor, as far as possible, what disturbed it (in_parts). A file
bench_<noun>.py holds the rows of one noun; compare.py collects them from all such files.

    aim     how many times as fast as the standard library fastmp should be, at least
    limit   what bounds the row on this machine, whoever does it: a name in limits/
    needs   what a peer that is no whole multiprocessing must offer to take part (peers/);
            without it, only those that have contexts do
    method  the start method
    main    the program of the measuring process, which is the main module of the processes that it starts
"""

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Program = Callable[[Any, int], float]
Work = Callable[..., None]  # gets a count, and what it works with
PARTS = 5


@dataclass(frozen=True)
class Row:
    name: str
    count: int
    program: Program
    aim: float | None
    limit: str
    needs: str
    method: str
    main: str

    @property
    def file(self) -> str:
        """The module that the row is in; a measuring process imports no other."""
        return self.program.__module__


ROWS: dict[str, Row] = {}


def row(
    name: str,
    count: int,
    aim: float | None = None,
    limit: str = "",
    needs: str = "",
    method: str = "fork",
    main: str = "figure.py",
) -> Callable[[Program], Program]:
    def add(program: Program) -> Program:
        ROWS[name] = Row(name, count, program, aim, limit, needs, method, main)
        return program

    return add


def load_rows() -> dict[str, Row]:
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        importlib.import_module(path.stem)
    return ROWS


def in_parts(part: Callable[[int], float], count: int, parts: int = PARTS) -> float:
    """Several parts instead of one, each of which returns its time, and all count as much as the fastest.

    The others were disturbed by what else the machine does.
    """
    share = max(1, count // parts)
    return min(part(share) for _ in range(parts)) * count / share


def seconds(repeat: Callable[[int], object], count: int, parts: int = PARTS) -> float:
    """The time that `repeat(count)` takes, after a tenth of it to warm up."""

    def part(count: int) -> float:
        start = time.perf_counter()
        repeat(count)
        return time.perf_counter() - start

    repeat(max(1, count // 10))
    return in_parts(part, count, parts)


def timed(function: Callable[[], object], count: int) -> float:
    """The time of `count` calls of a function that takes so long that its call does not matter."""

    def repeat(count: int) -> None:
        for _ in range(count):
            function()

    return seconds(repeat, count)


class Crew:
    """Processes beside the measured one. All do `work(count, *args)` whenever they are told a count."""

    def __init__(self, connections: list[Any]) -> None:
        self._connections = connections

    def order(self, count: int) -> None:
        for connection in self._connections:
            connection.send(count)

    def wait(self) -> None:
        for connection in self._connections:
            connection.recv()


def obey(connection: Any, work: Work, args: tuple[Any, ...]) -> None:
    while count := connection.recv():
        work(count, *args)
        connection.send(count)


@contextmanager
def crew(mp: Any, size: int, work: Work, *args: Any) -> Iterator[Crew]:
    connections, processes = [], []
    for _ in range(size):
        here, there = mp.Pipe()
        process = mp.Process(target=obey, args=(there, work, args), daemon=True)
        process.start()
        connections.append(here)
        processes.append(process)
    members = Crew(connections)
    yield members
    members.order(0)
    for process in processes:
        process.join(30)
        if process.exitcode != 0:
            raise RuntimeError(f"{process} did not end as it should")


def alternate(mp: Any, count: int, mine: Work, theirs: Work, *args: Any) -> float:
    """The time for `mine(count, *args)` here while `theirs(count, *args)` runs in another process."""
    with crew(mp, 1, theirs, *args) as other:

        def repeat(count: int) -> None:
            other.order(count)
            mine(count, *args)
            other.wait()

        return seconds(repeat, count)
