"""Ends a test run that hangs: a process of its own, so that no stuck lock or GIL can stop it.

conftest.py starts it and writes a line to its standard input whenever a test starts
("SECONDS NAME") or ends ("0"). If a test is not over in time, SIGABRT makes faulthandler
dump the stacks of the test run and of all its children, the children first, and what
SIGABRT did not end is killed.
"""

import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path

SLOWNESS = float(os.environ.get("FASTMP_TEST_SLOWNESS", "1"))  # how many times longer than usual all may take
GRACE = 3.0 * SLOWNESS  # seconds that a process gets to write its stacks


def children(pid: int) -> list[int]:
    """The children of a process that still run, and the dead ones that nobody has reaped."""
    pids: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            pids += map(int, path.read_text().split())
        except OSError:  # the thread has just ended
            continue
    return sorted(pids)


def descendants(pid: int) -> list[int]:
    """All processes below this one, the youngest generation first."""
    found = children(pid)
    return [deeper for child in found for deeper in descendants(child)] + found


def signal_process(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def end(run: int, name: str, seconds: str) -> None:
    """Stop the test run and everything below it."""
    late = float(seconds) * SLOWNESS
    sys.stderr.write(f"\n\n{name} is not over after {late:g} s; the stacks, and the end of this run:\n")
    sys.stderr.flush()
    signal_process(run, signal.SIGSTOP)  # else the test would go on when the child that it waits for is gone
    victims = [pid for pid in descendants(run) if pid != os.getpid()] + [run]
    for pid in victims:
        signal_process(pid, signal.SIGABRT)
        signal_process(pid, signal.SIGCONT)
        time.sleep(GRACE / (2 * len(victims)))  # one dump after the other, so that they can be read
    time.sleep(GRACE / 2)
    for pid in victims:
        signal_process(pid, signal.SIGKILL)


def main() -> None:
    run = os.getppid()
    alive = os.pidfd_open(run)
    seconds, name = "0", ""
    while True:
        until = float(seconds) * SLOWNESS or None
        ready, _, _ = select.select([sys.stdin.fileno(), alive], [], [], until)
        if not ready:
            return end(run, name, seconds)
        if alive in ready:
            return
        message = os.read(sys.stdin.fileno(), 65536).decode()
        if not message:
            return
        seconds, _, name = message.splitlines()[-1].partition(" ")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the test run
    main()
