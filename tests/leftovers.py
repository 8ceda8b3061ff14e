"""What a test may leave behind: nothing.

A `Snapshot` is what this process had before a test: children, descriptors, names in /dev/shm,
files in the temporary folder (of which the test run has one of its own), and what the arena held:
bytes, blocks, objects (with those that are in flight), places of processes. `leftovers()` says what
is there beyond it. Children are those of the fork server as well: one that stayed would keep the
server from ending, and with it whichever test waits for that.
"""

import contextlib
import gc
import os
import re
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from guard import SLOWNESS, children

import fastmp
from fastmp import _core
from fastmp.forkserver import _forkserver, _greet

# Seconds until what is on its way out must have gone. The place of a child that somebody else forked, and
# that was killed before it came, is kept for 10 (core/owner.h, O3).
PATIENCE = 15.0 * SLOWNESS
SHARED_MEMORY = Path("/dev/shm")
REPORTS = re.search(r"log_path=([^:]+)", os.environ.get("ASAN_OPTIONS", ""))  # opened at the first warning

kept: set[int] = set()  # processes that belong to several tests


def all_children() -> set[int]:
    """The children of this process, and those that the fork server has for it."""
    server = _forkserver._forkserver_pid
    return set(children(os.getpid())) | set(children(server) if server is not None else [])


def descriptors() -> dict[int, str]:
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:  # the descriptor of this very listing
            continue
        if REPORTS is None or not target.startswith(REPORTS[1]):
            found[int(entry.name)] = target
    return found


def temporary_files() -> set[str]:
    """A folder that is kept for the life of the process may stay, what is in it may not."""
    return {str(path) for path in Path(tempfile.gettempdir()).rglob("*") if not path.is_dir()}


def shared_names() -> set[str]:
    return set(os.listdir(SHARED_MEMORY)) if SHARED_MEMORY.is_dir() else set()


def fork_server_serves() -> bool:
    """Is there a fork server? One that is just starting has no place in the arena until it answers."""
    address = _forkserver._forkserver_address
    if address is None:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        try:
            sock.connect(address)
            _greet(sock, _forkserver._forkserver_authkey)
        except (OSError, EOFError):  # it has died
            return False
    return True


def arena() -> dict[str, int]:
    """What is in the arena, but for the place of the fork server, which belongs to all tests."""
    serves = fork_server_serves()
    figures = _core.arena_info()
    return figures | {"owners": figures["owners"] - serves}


def collect_garbage() -> None:
    """And let Python forget the names that were looked up, of which it keeps up to some thousands."""
    gc.collect()
    forget = "_clear_internal_caches" if hasattr(sys, "_clear_internal_caches") else "_clear_type_cache"
    getattr(sys, forget)()


def describe(pid: int) -> str:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return f"child {pid}"
    return f"child {pid} (state {state}: {command or 'dead, not reaped'})"


@dataclass
class Snapshot:
    children: set[int] = field(default_factory=all_children)
    descriptors: dict[int, str] = field(default_factory=descriptors)
    shared_names: set[str] = field(default_factory=shared_names)
    temporary_files: set[str] = field(default_factory=temporary_files)
    arena: dict[str, int] = field(default_factory=arena)

    def new_children(self) -> set[int]:
        fastmp.active_children()  # reaps those that have ended
        return all_children() - self.children - kept - {_forkserver._forkserver_pid}

    def leftovers(self) -> list[str]:
        now = descriptors()
        now.pop(_forkserver._forkserver_alive_fd, None)  # the fork server belongs to all tests
        new = now.items() - self.descriptors.items()
        return (
            [describe(pid) for pid in sorted(self.new_children())]
            + [f"descriptor {number} -> {target}" for number, target in sorted(new)]
            + [f"/dev/shm/{name}" for name in sorted(shared_names() - self.shared_names)]
            + sorted(temporary_files() - self.temporary_files)
            + [
                f"{many - self.arena[what]} {what} of the arena"
                for what, many in arena().items()
                if many > self.arena[what]
            ]
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
