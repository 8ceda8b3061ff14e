"""Everything at once, and processes killed at random instants: python soak.py SECONDS [SEED]

A play is a function that sets up something shared, lets processes use it, kills some of them, and checks what
the survivors find. Actors, processes of one family, give play after play until the time is over; the stage,
their parent, watches what the family uses. At the end nothing may be left: no process, no descriptor, no
block of the arena. Prints the figures.
"""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import random
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastmp
from fastmp import _core
from fastmp.pool import WorkerDied

DEADLINE = 60.0  # seconds for anything that should come at once
ACTORS = 3
METHODS = ["fork"] * 8 + ["forkserver"] * 2 + ["spawn"]

Play = Callable[[Any, random.Random], int]  # how many it killed
PLAYS: list[Play] = []


def play(function: Play) -> Play:
    PLAYS.append(function)
    return function


@contextlib.contextmanager
def troupe(ctx: Any) -> Iterator[Callable[..., Any]]:
    """A function that starts a child. All that are left at the end are killed."""
    children = []

    def start(target: Callable[..., object], *args: Any) -> Any:
        child = ctx.Process(target=target, args=args)
        child.start()
        children.append(child)
        return child

    try:
        yield start
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.join(DEADLINE)
            assert child.exitcode is not None
            child.close()


def pause(rng: random.Random, most: float = 0.01) -> None:
    time.sleep(rng.random() * most)


def slay(child: Any) -> None:
    child.kill()
    child.join(DEADLINE)
    assert child.exitcode is not None


def stop_for_a_moment(rng: random.Random, child: Any) -> None:
    """What it takes part in goes on afterwards."""
    os.kill(child.pid, signal.SIGSTOP)
    pause(rng)
    os.kill(child.pid, signal.SIGCONT)


def contents(who: int, number: int) -> bytes:
    return bytes([who + 1]) * (number * 37 % 9000)


# ---- queues and pipes --------------------------------------------------------------------------------


def produce(put: Callable[[Any], None], who: int, sent: Any) -> None:
    number = 0
    while True:
        put((who, number, contents(who, number)))
        number += 1
        sent[who] = number


def consume(channel: Any, taken: Any) -> None:
    while True:
        channel.get()
        with taken.get_lock():
            taken.value += 1


def check_item(item: Any, last: dict[int, int]) -> None:
    """The item is whole, and behind the last one of its producer."""
    who, number, data = item
    assert data == contents(who, number)
    assert number > last.get(who, -1), (who, number, last)
    last[who] = number


@play
def queue_users_are_killed(ctx: Any, rng: random.Random) -> int:
    """Every item is there once, in the order of its producer, but for what killed consumers had in hand."""
    q = ctx.Queue(rng.choice([0, 1, 20]))
    taken, sent, last = ctx.Value("Q", 0), ctx.RawArray("Q", 3), {}
    consumers, mine = rng.randrange(3), 0
    with troupe(ctx) as start:
        makers = [start(produce, q.put, who, sent) for who in range(3)]
        takers = [start(consume, q, taken) for _ in range(consumers)]
        for _ in range(rng.randrange(300)):
            check_item(q.get(timeout=DEADLINE), last)
            mine += 1
        stop_for_a_moment(rng, rng.choice(makers + takers))
        for child in rng.sample(makers + takers, 3 + consumers):
            slay(child)
    with contextlib.suppress(queue.Empty):
        while True:
            check_item(q.get_nowait(), last)
            mine += 1
    gone = sum(sent) - mine - taken.value  # a producer may have been killed before it had counted
    assert -3 <= gone <= consumers, (list(sent), mine, taken.value)
    q.put("still good")
    assert q.get(timeout=DEADLINE) == "still good"
    return 3 + consumers


@play
def a_sender_is_killed(ctx: Any, rng: random.Random) -> int:
    """What it sent comes whole and in order, then the end."""
    reader, writer = ctx.Pipe(duplex=rng.random() < 0.5)
    sent, last, count = ctx.RawArray("Q", 1), {}, rng.randrange(100)
    with troupe(ctx) as start:
        sender = start(produce, writer.send, 0, sent)
        writer.close()
        for _ in range(count):
            check_item(reader.recv(), last)
        stop_for_a_moment(rng, sender)
        slay(sender)
        with contextlib.suppress(EOFError, OSError):
            while True:
                check_item(reader.recv(), last)
                count += 1
    assert count - 1 <= sent[0] <= count, (sent[0], count)
    assert last.get(0, -1) == count - 1
    reader.close()
    return 1


def receive(connection: Any) -> None:
    while True:
        connection.recv()


@play
def a_receiver_is_killed(ctx: Any, rng: random.Random) -> int:
    reader, writer = ctx.Pipe(duplex=False)
    with troupe(ctx) as start:
        receiver = start(receive, reader)
        reader.close()
        for number in range(rng.randrange(1, 100)):
            writer.send(contents(0, number))
        receiver.kill()
        try:
            for _ in range(100_000):
                writer.send(bytes(1000))
            raise AssertionError("nobody receives it")
        except BrokenPipeError:
            pass
    writer.close()
    return 1


# ---- locks and what they protect ------------------------------------------------------------------------


def add(lock: Any, total: Any) -> None:
    warnings.simplefilter("ignore", RuntimeWarning)  # whoever comes first after a victim has it
    while True:
        with lock:
            total[0] += 1
            total[1] += 1


@play
def holders_are_killed(ctx: Any, rng: random.Random) -> int:
    """The lock goes to the next; what a victim had half done is one step."""
    lock = rng.choice([ctx.RLock(), ctx.Lock(robust=True), ctx.Array("Q", 1).get_lock()])
    total, killed = ctx.RawArray("Q", 2), 0
    with troupe(ctx) as start, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        adders = [start(add, lock, total) for _ in range(3)]
        while adders:
            pause(rng)
            stop_for_a_moment(rng, rng.choice(adders))
            slay(adders.pop(rng.randrange(len(adders))))
            killed += 1
            assert lock.acquire(timeout=DEADLINE)
            assert 0 <= total[0] - total[1] <= killed
            lock.release()
    return killed


def await_each(condition: Any, semaphore: Any, event: Any, count: Any) -> None:
    while True:
        with condition:
            condition.wait()
            count.value += 1
        semaphore.acquire()
        semaphore.release()
        event.wait()


@play
def waiters_are_killed(ctx: Any, rng: random.Random) -> int:
    """Those who are left are woken."""
    condition, semaphore, event = ctx.Condition(), ctx.Semaphore(5), ctx.Event()
    count = ctx.Value("Q", 0)
    event.set()
    with troupe(ctx) as start:
        waiters = [start(await_each, condition, semaphore, event, count) for _ in range(4)]
        for waiter in waiters[:2]:
            pause(rng)
            with condition:
                condition.notify(rng.randrange(1, 5))
            slay(waiter)
        before, end = count.value, time.monotonic() + DEADLINE
        while count.value < before + 4:
            assert time.monotonic() < end
            assert condition.acquire(timeout=DEADLINE)
            condition.notify_all()
            condition.release()
    return 2


# ---- pools and managers ---------------------------------------------------------------------------------


def square(number: int) -> int:
    return number * number


def square_slowly(number: int) -> int:
    time.sleep(0.0005)
    return number * number


@play
def workers_are_killed(ctx: Any, rng: random.Random) -> int:
    """Each death fails one task at most; all others are done, once; the pool goes on."""
    killed = 0
    with ctx.Pool(3) as pool:
        results = [pool.apply_async(rng.choice([square, square_slowly]), (n,)) for n in range(200)]
        for _ in range(3):
            pause(rng)
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(rng.choice(list(pool._pool)).pid, signal.SIGKILL)
                killed += 1
        lost = 0
        for n, result in enumerate(results):
            try:
                assert result.get(DEADLINE) == n * n
            except WorkerDied:
                lost += 1
        assert lost <= killed, (lost, killed)
        assert pool.map(square, range(100)) == [n * n for n in range(100)]
        assert list(pool.imap(square, range(50))) == [n * n for n in range(50)]
    return killed


def use(items: Any) -> None:
    while True:
        items.append(1)
        items[0]
        items.pop()


@play
def clients_of_a_manager_are_killed(ctx: Any, rng: random.Random) -> int:
    with ctx.Manager() as manager:
        items = manager.list([0])
        with troupe(ctx) as start:
            clients = [start(use, items) for _ in range(2)]
            for client in clients:
                pause(rng)
                slay(client)
            assert items[0] in (0, 1)
        items[:] = ["mine"]
        assert list(items) == ["mine"]
    return 2


@play
def a_manager_is_killed(ctx: Any, rng: random.Random) -> int:
    """Its clients get an error at once."""
    manager = ctx.Manager()
    items = manager.list([0])
    pause(rng)
    manager._process.kill()
    manager._process.join(DEADLINE)
    try:
        items.append(1)
        raise AssertionError("by whom?")
    except (EOFError, OSError):
        pass
    manager.shutdown()
    return 1


@play
def the_fork_server_is_killed(ctx: Any, rng: random.Random) -> int:
    """The next child gets another one."""
    server = fastmp.get_context("forkserver")
    with troupe(server) as start:
        start(square, 2).join(DEADLINE)
        pid = fastmp.forkserver._forkserver._forkserver_pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        child = start(square, 3)
        child.join(DEADLINE)
        assert child.exitcode == 0, child.exitcode
    return 1


# ---- the stage -------------------------------------------------------------------------------------------


def act(seed: int, until: float, report: Any) -> None:
    """Play until the time is over; report how many were killed in each play, or what went wrong."""
    rng = random.Random(seed)
    plays: Counter[str] = Counter()
    kills: Counter[str] = Counter()
    try:
        while time.monotonic() < until:
            chosen = rng.choice(PLAYS)
            kills[chosen.__name__] += chosen(fastmp.get_context(rng.choice(METHODS)), rng)
            plays[chosen.__name__] += 1
    except Exception:
        report.put((chosen.__name__, traceback.format_exc()))
        sys.exit(1)
    fastmp.forkserver._forkserver._stop()
    report.put((plays, kills))


def descendants(pid: int) -> list[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found, new = [], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return found


def memory_of(pid: int, what: str) -> int:
    """KiB; 0 if it has ended, or the system doesn't tell."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/smaps_rollup").read_text().split(f"\n{what}:")[1].split()[0])
    return 0


def arena_pages() -> int:
    """KiB of the arena that have pages: what is in use, and what is kept free, small blocks as many as there
    ever were at once."""
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:fastmp"):
                return os.stat(f"/proc/self/fd/{fd}").st_blocks // 2
    return 0


def sample(actors: list[int]) -> dict[str, int]:
    """KiB at this moment. A leak shows in what lives as long as the family: stage, actors, and arena. The
    others are who plays just now."""
    others = set(descendants(os.getpid())) - {*actors}
    return {
        "stage": memory_of(os.getpid(), "Anonymous"),
        "actors": sum(memory_of(pid, "Anonymous") for pid in actors),
        "arena": arena_pages(),
        "others": sum(memory_of(pid, "Pss_Anon") for pid in others),
        "processes": 1 + len(actors) + len(others),
    }


def print_memory(samples: list[dict[str, int]]) -> None:
    print(f"{'mean of each quarter':>24}{'most':>24}")
    for name in samples[0]:
        values = [each[name] / (1 if name == "processes" else 1024) for each in samples]
        parts = [values[len(values) * n // 4 : len(values) * (n + 1) // 4] for n in range(4)]
        means = "".join(f"{sum(part) / len(part):8.1f}" for part in parts if part)
        print(f"    {name:10}{means}{max(values):8.1f}{'' if name == 'processes' else ' MiB'}")


def holdings() -> tuple[int, int]:
    """Descriptors of this process, and blocks of the arena."""
    gc.collect()
    blocks = _core.arena_info()["blocks"]
    return len(os.listdir("/proc/self/fd")), blocks


def main() -> None:
    seconds, seed = float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
    print(f"seed {seed}", flush=True)
    ctx = fastmp.get_context("fork")
    before = holdings()
    report = ctx.SimpleQueue()
    until = time.monotonic() + seconds
    actors = [ctx.Process(target=act, args=(seed + n, until, report)) for n in range(ACTORS)]
    for actor in actors:
        actor.start()
    pids = [actor.pid for actor in actors]
    samples = [sample(pids)]
    while alive := sum(actor.is_alive() for actor in actors):
        if alive == ACTORS:
            samples.append(sample(pids))
        actors[0].join(min(1.0, seconds / 20))
        assert time.monotonic() < until + 3 * DEADLINE, "they do not end"
    outcomes = [report.get() for _ in actors]
    for actor in actors:
        actor.join()
    failures = [outcome for outcome in outcomes if isinstance(outcome[0], str)]
    for name, trace in failures:
        print(f"failed: {name}\n{trace}")
    exitcodes = [actor.exitcode for actor in actors]
    for actor in actors:
        actor.close()
    report.close()
    del report, actors, actor
    end = time.monotonic() + DEADLINE
    while left := descendants(os.getpid()):
        assert time.monotonic() < end, left
        time.sleep(0.01)
    after = holdings()
    plays, kills = (
        sum((outcome[i] for outcome in outcomes if outcome not in failures), Counter()) for i in (0, 1)
    )
    print(f"{plays.total()} plays, {kills.total()} killed")
    for name, count in kills.most_common():
        print(f"    {count} in {plays[name]} of {name}")
    print(f"descriptors {before[0]} -> {after[0]}, blocks {before[1]} -> {after[1]}, exit codes {exitcodes}")
    print_memory(samples)
    sys.exit(bool(failures) or before != after or any(exitcodes))


if __name__ == "__main__":
    main()
