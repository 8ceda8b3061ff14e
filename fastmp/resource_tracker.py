"""A process that removes named resources after the program has ended, however it ended.

fastmp needs none for its own objects: they live in memory without a name. But libraries register named
shared memory or semaphores, and expect a tracker whose descriptor they can hand to processes of their
own, which may run the standard library. So the protocol is that of the standard library's tracker.

Each process of a program holds the writing end of one pipe; the tracker reads the other end, a line at a
time, and ends when all of them are gone. A line is shorter than what a pipe takes at once, so that
writers do not interrupt each other:

    COMMAND:name:type                                         the name has no line break
    {"cmd": COMMAND, "rtype": type, "base64_name": name}      any name

COMMAND is REGISTER, UNREGISTER or PROBE (does nothing, tells whether the tracker lives). What is still
registered at the end was leaked: the tracker says so and removes it.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import warnings
from _posixshmem import shm_unlink  # type: ignore[import-not-found]
from collections import deque
from collections.abc import Callable
from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]
from typing import Any

from . import reduction, spawn, util

__all__ = ["ensure_running", "getfd", "register", "unregister"]

_LINE_BYTES = 512  # the least that POSIX lets a pipe take at once
_NAME_BYTES = 255  # of a name of shared memory or a semaphore; keeps the longest line below _LINE_BYTES
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # where this package was found


class ReentrantCallError(RuntimeError):
    """The tracker was asked for something while it was busy in the same thread."""


class ResourceTracker:
    """This process's access to the tracker, which the first use starts unless a parent did."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._busy = False
        self._waiting: deque[bytes] = deque()  # written by a finalizer while the lock's owner was busy
        self._fd: int | None = None
        self._pid: int | None = None  # None in processes that did not start it
        self._exitcode: int | None = None

    def getfd(self) -> int:
        """The writing end of the pipe to the tracker, which is started if need be."""
        self.ensure_running()
        assert self._fd is not None
        return self._fd

    def ensure_running(self) -> None:
        """Start the tracker, or a new one if it has died."""
        self._write(_encode("PROBE", "0", "noop"))

    def register(self, name: str, rtype: str) -> None:
        """Have the resource removed at the end of the program."""
        self._write(_encode("REGISTER", name, rtype))

    def unregister(self, name: str, rtype: str) -> None:
        """The resource has been removed, or is to stay. Where no tracker runs, nobody needs to know."""
        if self._fd is not None:
            self._write(_encode("UNREGISTER", name, rtype))

    def _write(self, line: bytes) -> None:
        with self._lock:
            self._waiting.append(line)
            if self._busy:
                return  # a finalizer interrupted the loop below, which will write the line
            self._busy = True
            try:
                while self._waiting:
                    self._write_line(self._waiting.popleft())
            finally:
                self._busy = False

    def _write_line(self, line: bytes) -> None:
        if self._fd is not None and not self._sent(line):
            self._forget_dead()
        if self._fd is None:
            self._launch()
            self._sent(line)

    def _sent(self, line: bytes) -> bool:
        assert self._fd is not None
        try:
            os.write(self._fd, line)
        except OSError:
            return False
        return True

    def _check_alive(self) -> bool:
        return self._fd is not None and self._sent(_encode("PROBE", "0", "noop"))

    def _forget_dead(self) -> None:
        assert self._fd is not None
        os.close(self._fd)
        if self._pid is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
        self._fd = self._pid = self._exitcode = None
        warnings.warn(
            "resource_tracker: process died unexpectedly, relaunching.  Some resources might leak.",
            stacklevel=5,
        )

    def _launch(self) -> None:
        reader, writer = os.pipe()
        inherited = [reader]
        with contextlib.suppress(AttributeError, OSError, ValueError):
            inherited.append(sys.stderr.fileno())
        executable = spawn.get_executable() or sys.executable
        command = f"import sys; sys.path.append({_FOLDER!r}); from {__name__} import main; main({reader})"
        # Blocked until the tracker ignores them: a Ctrl-C in between would kill it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._pid = util.spawnv_passfds(
                executable, [executable, *_args_from_interpreter_flags(), "-c", command], inherited
            )
        except BaseException:
            os.close(writer)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(reader)
        self._fd = writer

    def _stop(self) -> None:
        """Let go of the tracker and wait for its end, which comes when all others have let go, too."""
        with self._lock:
            if self._busy:
                raise ReentrantCallError("Reentrant call into the multiprocessing resource tracker")
            if self._fd is None:
                return
            os.close(self._fd)
            self._fd = None
            if self._pid is None:
                return
            try:
                self._exitcode = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            except ChildProcessError:
                self._exitcode = None  # somebody else has reaped it
            self._pid = None

    def _after_fork_in_child(self) -> None:
        # The tracker is the parent's child, but it serves this process as well: the descriptor stays.
        self._lock = threading.RLock()
        self._busy = False
        self._waiting.clear()
        self._pid = self._exitcode = None


def get_state() -> Any:
    """What a child that is being spawned needs to share this process's tracker."""
    fd = _resource_tracker._fd
    return None if fd is None else reduction.DupFd(fd)


def set_state(state: Any) -> None:
    """In the child: what its parent's get_state() gave."""
    if state is not None:
        _resource_tracker._fd = state.detach()


def launched_here() -> bool:
    """Whether the tracker ends with this process, and not with one that it descends from."""
    return _resource_tracker._pid is not None


def _encode(command: str, name: str, rtype: str) -> bytes:
    if "\n" not in name and name.isascii():
        line = f"{command}:{name}:{rtype}\n".encode("ascii")
        if len(line) > _LINE_BYTES:
            raise ValueError("msg too long")
        return line
    raw = os.fsencode(name)
    if len(raw) > _NAME_BYTES:
        raise ValueError(f"resource name too long (max {_NAME_BYTES} bytes)")
    message = {"cmd": command, "rtype": rtype, "base64_name": base64.urlsafe_b64encode(raw).decode("ascii")}
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def _decode(line: bytes) -> tuple[str, str, str]:
    if line.startswith(b"{"):
        message = json.loads(line)
        name = os.fsdecode(base64.urlsafe_b64decode(message.get("base64_name", "")))
        return message["cmd"], name, message["rtype"]
    command, rest = line.strip().decode("ascii").split(":", 1)
    name, rtype = rest.rsplit(":", 1)
    return command, name, rtype


# ---- the tracker's process --------------------------------------------------------------------------


def _unlink_semaphore(name: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.sem_unlink(os.fsencode(name)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), name)


def _unlink_nothing(name: str) -> None:
    pass


_CLEANUP_FUNCS: dict[str, Callable[[str], object]] = {
    "dummy": _unlink_nothing,  # for tests
    "semaphore": _unlink_semaphore,
    "shared_memory": shm_unlink,
}


def main(fd: int) -> None:
    """Serve until no process holds the other end of the pipe, then remove what was left."""
    for sig in _SIGNALS:
        signal.signal(sig, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    for stream in (sys.stdin, sys.stdout):
        with contextlib.suppress(Exception):
            stream.close()
    registered: dict[str, set[str]] = {rtype: set() for rtype in _CLEANUP_FUNCS}
    failed = False
    with open(fd, "rb") as lines:
        for line in lines:
            try:
                _serve(registered, *_decode(line))
            except Exception:
                failed = True
                sys.excepthook(*sys.exc_info())
    for rtype, names in registered.items():
        if names:
            _remove_leaked(rtype, names)
    sys.exit(3 if failed else 1 if any(registered.values()) else 0)


def _serve(registered: dict[str, set[str]], command: str, name: str, rtype: str) -> None:
    if command == "PROBE":
        return
    if rtype not in registered:
        raise ValueError(
            f"Cannot register {name} for automatic cleanup: unknown resource type {rtype}. "
            f"Resource type should be one of the following: {list(registered)}"
        )
    if command == "REGISTER":
        registered[rtype].add(name)
    elif command == "UNREGISTER":
        registered[rtype].discard(name)  # it may have been registered with another program's tracker
    else:
        raise RuntimeError(f"unrecognized command {command!r}")


def _remove_leaked(rtype: str, names: set[str]) -> None:
    if rtype != "dummy":
        warnings.warn(
            f"resource_tracker: There appear to be {len(names)} leaked {rtype} objects "
            f"to clean up at shutdown: {names}",
            stacklevel=1,
        )
    for name in names:
        try:
            _CLEANUP_FUNCS[rtype](name)
        except Exception as e:
            warnings.warn(f"resource_tracker: {name!r}: {e}", stacklevel=1)


_resource_tracker = ResourceTracker()
ensure_running = _resource_tracker.ensure_running
register = _resource_tracker.register
unregister = _resource_tracker.unregister
getfd = _resource_tracker.getfd

os.register_at_fork(after_in_child=_resource_tracker._after_fork_in_child)
