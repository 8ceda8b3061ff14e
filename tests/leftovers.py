"""What a test may leave behind: nothing.

A `Snapshot` is what this process had before a test: children, descriptors, names in /dev/shm,
files in the temporary folder (of which the test run has one of its own). `leftovers()` says
what is there beyond it.
"""

import contextlib
import gc
import os
import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from guard import children

import fastmp
from fastmp.forkserver import _forkserver

PATIENCE = 5.0  # seconds until what is on its way out must have gone
SHARED_MEMORY = Path("/dev/shm")


def descriptors() -> dict[int, str]:
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[int(entry.name)] = os.readlink(entry)
        except OSError:  # the descriptor of this very listing
            continue
    return found


def temporary_files() -> set[str]:
    """A folder that is kept for the life of the process may stay, what is in it may not."""
    return {str(path) for path in Path(tempfile.gettempdir()).rglob("*") if not path.is_dir()}


def shared_names() -> set[str]:
    return set(os.listdir(SHARED_MEMORY)) if SHARED_MEMORY.is_dir() else set()


def describe(pid: int) -> str:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return f"child {pid}"
    return f"child {pid} (state {state}: {command or 'dead, not reaped'})"


@dataclass
class Snapshot:
    children: set[int] = field(default_factory=lambda: set(children(os.getpid())))
    descriptors: dict[int, str] = field(default_factory=descriptors)
    shared_names: set[str] = field(default_factory=shared_names)
    temporary_files: set[str] = field(default_factory=temporary_files)

    def new_children(self) -> set[int]:
        fastmp.active_children()  # reaps those that have ended
        return set(children(os.getpid())) - self.children - {_forkserver._forkserver_pid}

    def leftovers(self) -> list[str]:
        now = descriptors()
        now.pop(_forkserver._forkserver_alive_fd, None)  # the fork server belongs to all tests
        new = now.items() - self.descriptors.items()
        return (
            [describe(pid) for pid in sorted(self.new_children())]
            + [f"descriptor {number} -> {target}" for number, target in sorted(new)]
            + [f"/dev/shm/{name}" for name in sorted(shared_names() - self.shared_names)]
            + sorted(temporary_files() - self.temporary_files)
        )

    def leftovers_in_the_end(self) -> list[str]:
        """What is still there once garbage is collected and everything had time to go away."""
        deadline = time.monotonic() + PATIENCE
        pause = 0.001
        while left := self.leftovers():
            gc.collect()
            if time.monotonic() > deadline:
                break
            time.sleep(pause)
            pause = min(2 * pause, 0.1)
        return left

    def kill_new_children(self) -> None:
        for pid in self.new_children():
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
