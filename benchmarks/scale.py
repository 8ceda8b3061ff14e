"""Scale and memory, fastmp beside the standard library: many objects, long streams, many workers.

    python benchmarks/scale.py [--scale X] [--page] [STUDY...]

A study is a function `(mp, scale)` that returns its figures by name; it runs in a fresh process for each
peer. --scale shortens all of them, --page also writes docs/scale.md and its chart. Studies are chosen by a
part of their name. Bytes are those of the process and all its descendants together (memory.py); what the
kernel keeps for a pipe is not in them.
"""

import argparse
import contextlib
import functools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import memory
import numpy
from peers import PEERS
from results import machine
from studies import table

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
COMPARED = ["stdlib", "fastmp"]
DEADLINE = 1800.0  # seconds
MEBIBYTE = 1 << 20

Figures = dict[str, Any]
Study = Callable[[Any, float], Figures]
STUDIES: dict[str, Study] = {}


def study(name: str) -> Callable[[Study], Study]:
    def add(function: Study) -> Study:
        STUDIES[name] = function
        return function

    return add


def make_many(make: Callable[[Any], Any], wanted: int, mp: Any) -> tuple[list[Any], Figures]:
    """As many as wanted, or as the machine's limits allow."""
    first = make(mp)  # what only the first one costs is left out
    before, descriptors, made, ended = memory.used(), memory.descriptors(), [], ""
    start = time.perf_counter()
    try:
        for _ in range(wanted):
            made.append(make(mp))
    except OSError as error:
        ended = f"{len(made)}, then {error.strerror}"
    elapsed = time.perf_counter() - start
    figures = {"made": ended or len(made), "µs each": elapsed / len(made) * 1e6}
    if ended:
        del made[-16:]  # whoever counts needs descriptors, too
    figures["descriptors each"] = (memory.descriptors() - descriptors) / len(made)
    figures["bytes each"] = (memory.used() - before) / len(made)
    return [first, *made], figures


def objects(name: str, wanted: int, make: Callable[[Any], Any]) -> None:
    @study(f"{wanted:,} {name}")
    def make_them(mp: Any, scale: float) -> Figures:
        return make_many(make, max(1, int(wanted * scale)), mp)[1]


objects("Locks", 100_000, lambda mp: mp.Lock())
objects("Queues", 10_000, lambda mp: mp.Queue())
objects("Pipes", 1000, lambda mp: mp.Pipe())


def await_event(event: Any) -> None:
    event.wait()


@study("500 processes")
def processes(mp: Any, scale: float) -> Figures:
    """All of them wait for one event."""
    end = mp.Event()

    def start(mp: Any) -> Any:
        process = mp.Process(target=await_event, args=(end,))
        process.start()
        return process

    started, figures = make_many(start, max(1, int(500 * scale)), mp)
    begin = time.perf_counter()
    end.set()
    for process in started:
        process.join()
    figures["µs each to end"] = (time.perf_counter() - begin) / len(started) * 1e6
    return figures


class Course:
    """How much memory is used in the course of something long, looked at twenty times."""

    def __init__(self, length: int) -> None:
        self.step = max(1, length // 20)
        self.bytes: list[int] = []

    def follow(self, iterator: Iterator[Any]) -> None:
        for number, _ in enumerate(iterator, 1):
            if number % self.step == 0:
                self.bytes.append(memory.used())

    def figures(self) -> Figures:
        first, *_, last = self.bytes
        return {
            "MiB after 5 %": first / MEBIBYTE,
            "MiB at most": max(self.bytes) / MEBIBYTE,
            "MiB at the end": last / MEBIBYTE,
        }


def increment(number: int) -> int:
    return number + 1


@study("1,000,000 tasks through Pool(2).imap from a generator")
def tasks(mp: Any, scale: float) -> Figures:
    """With buffersize=64 where there is such a thing."""
    count = max(40, int(1_000_000 * scale))
    course = Course(count)
    options = {"buffersize": 64} if "fastmp" in type(mp).__module__ else {}
    with mp.Pool(2) as pool:
        start = time.perf_counter()
        course.follow(pool.imap(increment, (number for number in range(count)), **options))
        elapsed = time.perf_counter() - start
    return {"µs each": elapsed / count * 1e6, **course.figures()}


def put_arrays(queue: Any, count: int) -> None:
    array = numpy.ones(1_000_000)
    for _ in range(count):
        queue.put(array)


@study("10 GB of 8 MB arrays through Queue(4)")
def arrays(mp: Any, scale: float) -> Figures:
    count = max(40, int(1250 * scale))
    course = Course(count)
    queue = mp.Queue(4)
    producer = mp.Process(target=put_arrays, args=(queue, count))
    producer.start()
    start = time.perf_counter()
    course.follow(queue.get() for _ in range(count))
    elapsed = time.perf_counter() - start
    producer.join()
    return {"GB/s": 0.008 * count / elapsed, **course.figures()}


@study("A burst of 500 messages of 1 MiB")
def burst(mp: Any, scale: float) -> Figures:
    """Put while nobody takes them, then taken by the process that put them."""
    count = max(1, int(500 * scale))
    queue = mp.Queue()
    queue.put(bytes(MEBIBYTE))
    queue.get()
    before = memory.used()
    for number in range(count):
        queue.put(bytes([number % 256]) * MEBIBYTE)
    full = memory.used()
    for _ in range(count):
        queue.get()
    return {
        "MiB before": before / MEBIBYTE,
        "MiB full": full / MEBIBYTE,
        "MiB after": memory.used() / MEBIBYTE,
    }


@study("100 idle workers")
def idle(mp: Any, scale: float) -> Figures:
    """The CPU that a pool of 100 takes, and all its helpers, while it has nothing to do."""
    wall = 10 * scale
    with mp.Pool(100) as pool:
        pool.map(increment, range(1000), chunksize=1)
        time.sleep(min(1.0, wall))
        before = memory.cpu_seconds()
        time.sleep(wall)
        return {"% of a CPU": (memory.cpu_seconds() - before) / wall * 100}


def fastest(function: Callable[[], object], count: int) -> float:
    """Microseconds of one call in the best of three rounds."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(count):
            function()
        best = min(best, time.perf_counter() - start)
    return best / count * 1e6


@study("µs for a task, by workers")
def by_workers(mp: Any, scale: float) -> Figures:
    count = max(1, int(10_000 * scale))
    figures: Figures = {}
    for workers in 1, 2, 4, 8, 16, 32:
        with mp.Pool(workers) as pool:
            pool.map(increment, range(workers), chunksize=1)
            figures[str(workers)] = fastest(lambda: pool.map(increment, range(count), chunksize=1), 1) / count
    return figures


@study("µs for a task, by bytes")
def by_bytes(mp: Any, scale: float) -> Figures:
    figures: Figures = {}
    with mp.Pool(2) as pool:
        for size in (0, *(1 << power for power in range(8, 27, 2))):
            payload = bytes(size)
            count = max(1, int(scale * min(2000, (256 << 20) // (size + 1))))
            pool.apply(len, (payload,))
            figures[str(size)] = fastest(functools.partial(pool.apply, len, (payload,)), count)
    return figures


def run_in_fresh_process(name: str, peer: str, scale: float) -> Figures:
    command = [sys.executable, __file__, "--scale", str(scale), "--peer", peer, name]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        output, _ = run.communicate(timeout=DEADLINE)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    if run.returncode != 0:
        raise RuntimeError(f"{name}, {peer} ended with {run.returncode}")
    figures: Figures = json.loads(output)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1.0, help="factor for all counts")
    parser.add_argument("--page", action="store_true", help=f"write the page and chart in {DOCS.name}/")
    parser.add_argument("--peer", help="run the one study named, in this process, and print its figures")
    parser.add_argument("studies", nargs="*", metavar="STUDY")
    options = parser.parse_args()
    if options.peer:
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        context = PEERS[options.peer].context("fork")
        print(json.dumps(STUDIES[options.studies[0]](context, options.scale)), flush=True)
        os._exit(0)  # with a hundred thousand objects the rest would take a while
    found = {}
    for name in STUDIES:
        if not options.studies or any(part in name for part in options.studies):
            found[name] = {peer: run_in_fresh_process(name, peer, options.scale) for peer in COMPARED}
            print(table(name, found[name]), end="\n\n", flush=True)
    if options.page:
        results = {"machine": machine(), "scale": options.scale, "studies": found}
        (DOCS / "scale.json").write_text(json.dumps(results, indent=1) + "\n")
        subprocess.run([sys.executable, HERE / "scale_page.py", DOCS], check=True)


if __name__ == "__main__":
    main()
